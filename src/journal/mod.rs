//! The controller's own record of runs: JSON lines, one event a line, appended under the state
//! directory. Secrets are masked before events come here.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::clock;
use crate::event::{Event, Kind, Sink};
use crate::model::Value;

/// Above this size the journal is moved aside (`.1`) when a run starts; one old one is kept.
const ROTATE_BYTES: u64 = 16 * 1024 * 1024;

/// Appends events to `<state>/<cluster>/journal.jsonl`.
pub struct Journal {
    file: Mutex<File>,
    run: String,
    render: fn(&Event, &str, &str) -> Value,
}

impl Journal {
    /// Opens the journal of a cluster (directory mode 0700, file mode 0600).
    ///
    /// # Errors
    /// The state directory cannot be made or written.
    pub fn open(
        state: &Path,
        cluster: &str,
        run: &str,
        render: fn(&Event, &str, &str) -> Value,
    ) -> io::Result<Self> {
        let path = path(state, cluster);
        if let Some(dir) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        if std::fs::metadata(&path).is_ok_and(|m| m.len() > ROTATE_BYTES) {
            std::fs::rename(&path, path.with_extension("jsonl.1"))?;
        }
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        Ok(Journal { file: Mutex::new(file), run: run.to_owned(), render })
    }
}

/// Where a cluster's journal is.
#[must_use]
pub fn path(state: &Path, cluster: &str) -> PathBuf {
    state.join(cluster).join("journal.jsonl")
}

/// All event lines of a cluster, oldest first, those of the old journal included; a torn last line
/// is left out.
///
/// # Errors
/// A file is there but cannot be read.
pub fn read(state: &Path, cluster: &str) -> io::Result<Vec<Value>> {
    let path = path(state, cluster);
    let mut events = Vec::new();
    for path in [path.with_extension("jsonl.1"), path] {
        match std::fs::read(&path) {
            // A line that was cut in the middle of a character is no reason to show nothing.
            Ok(bytes) => {
                let lines = bytes.split(|b| *b == b'\n');
                events.extend(lines.filter_map(|l| serde_json::from_slice::<Value>(l).ok()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(events)
}

impl Sink for Journal {
    fn emit(&self, event: &Event) {
        // Progress is for watching, not for history.
        if matches!(event.kind, Kind::Progress { .. } | Kind::Connecting | Kind::TaskStarted) {
            return;
        }
        let line = (self.render)(event, &clock::wall().to_string(), &self.run);
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // One write call a line, so that two runs do not mix theirs. A full disk here must not
        // stop a run half way: the hosts are what counts.
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}

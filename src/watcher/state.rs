//! What a watch keeps on its own machine: its name, its budget, and the lock that makes it the only
//! one here.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::watch::{Budget, Kept};

/// `<state>/<cluster>/watch.json`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct State {
    /// Tells this watch from every other; made once.
    pub id: String,
    #[serde(default)]
    pub budget: Budget,
    /// Whom it watched last.
    #[serde(default)]
    pub kept: Option<Kept>,
}

fn path(dir: &Path, cluster: &str) -> PathBuf {
    dir.join(cluster).join("watch.json")
}

impl State {
    /// What is kept, or a new one.
    ///
    /// # Errors
    /// The file is there and cannot be read or understood: without the budget in it the watch might
    /// act too often.
    pub fn read(dir: &Path, cluster: &str) -> io::Result<State> {
        let path = path(dir, cluster);
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let state = State { id: clock::random_id(), ..State::default() };
                state.write(dir, cluster)?;
                Ok(state)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes the place of the old file as a whole.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn write(&self, dir: &Path, cluster: &str) -> io::Result<()> {
        let path = path(dir, cluster);
        if let Some(dir) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let new = path.with_extension("json.new");
        std::fs::write(&new, serde_json::to_string(self).map_err(io::Error::other)?)?;
        std::fs::rename(new, path)
    }
}

/// Makes this process the only watch of the cluster on this machine, until the file is dropped; none
/// if another is.
///
/// # Errors
/// The lock's file cannot be made.
pub fn lock_cluster(dir: &Path, cluster: &str) -> io::Result<Option<File>> {
    let dir = dir.join(cluster);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(dir.join("watch.lock"))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

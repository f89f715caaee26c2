//! Writing to a known_hosts file: `pgorch trust` and `--accept-new`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::FlockOperation;

/// Adds `line` (see [`super::known_hosts::key_line`]) to `file` unless it is there already; says
/// whether it was added.
///
/// The file is locked while it is read and written, and the line goes out in one write at the end
/// of the file, so that two runs, or a run and an `ssh`, do not mix their lines; a symbolic link
/// stays one. A new file has mode 0600, a new directory 0700.
///
/// # Errors
/// Any failure of the file system. Waits for another holder of the lock without a deadline of its
/// own: call it off the async threads.
pub fn append(file: &Path, line: &str) -> io::Result<bool> {
    if let Some(dir) = file.parent().filter(|d| !d.as_os_str().is_empty()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    let mut options = OpenOptions::new();
    let mut handle: File = options.read(true).append(true).create(true).mode(0o600).open(file)?;
    rustix::fs::flock(&handle, FlockOperation::LockExclusive)?;
    let mut text = Vec::new();
    handle.read_to_end(&mut text)?;
    if text.split(|b| *b == b'\n').any(|l| l == line.as_bytes()) {
        return Ok(false);
    }
    let start = if text.is_empty() || text.ends_with(b"\n") { "" } else { "\n" };
    handle.write_all(format!("{start}{line}\n").as_bytes())?;
    handle.sync_all()?;
    Ok(true)
}

//! What a host's disks are: an overlay on the image, and a small file system for its data.
//!
//! The data disk is a sparse ext4 file of [`DATA_BYTES`], loop-mounted and bound to [`DATA_MOUNT`]
//! in the host. So a full disk costs nothing here and harms nobody else, hits PostgreSQL's default
//! data directory, and stays full over a power-off. fsync reaches this machine's disk.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, OFlags};

use super::LabError;
use super::command::{run, succeeds};
use super::store;

/// The mount point inside the host.
pub const DATA_MOUNT: &str = "/var/lib/pgorch";
/// Size of the data disk; it takes what is written to it.
pub const DATA_BYTES: u64 = 4 << 30;
const BALLAST: &str = ".pgorch-lab-ballast";

/// The directory of one host and what is in it.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    pub(super) dir: PathBuf,
}

impl Disk {
    /// The host's root directory, as its own processes see it, while mounted.
    pub(super) fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// [`DATA_MOUNT`] as seen from this machine.
    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Makes what lacks and mounts it. Also right after a reboot of this machine.
    pub(super) fn mount(&self, image: &Path) -> Result<(), LabError> {
        for name in ["upper", "work", "root", "data"] {
            let dir = self.dir.join(name);
            fs::create_dir_all(&dir).map_err(LabError::io("make", &dir))?;
        }
        let mounted = mounts_under(&self.dir)?;
        if !mounted.contains(&self.root()) {
            let options = format!(
                "lowerdir={},upperdir={},workdir={}",
                image.display(),
                self.dir.join("upper").display(),
                self.dir.join("work").display()
            );
            let doing = "mounting the host's overlay (its directory cannot be an overlay itself)";
            let mut argv = ["mount", "-t", "overlay", "overlay", "-o"].map(PathBuf::from).to_vec();
            argv.extend([PathBuf::from(options), self.root()]);
            run(doing, &argv)?;
        }
        if !mounted.contains(&self.data()) {
            self.format()?;
            let mut argv = ["mount", "-o", "loop,discard,noatime"].map(PathBuf::from).to_vec();
            argv.extend([self.dir.join("data.ext4"), self.data()]);
            run("mounting the host's data disk (needs a loop device)", &argv)?;
            // Not there on the disk of a real host's directory either.
            let _ = fs::remove_dir(self.data().join("lost+found"));
        }
        Ok(())
    }

    fn format(&self) -> Result<(), LabError> {
        let file = self.dir.join("data.ext4");
        if file.exists() {
            return Ok(());
        }
        // Under another name until it is whole.
        let new = self.dir.join("data.ext4.new");
        let _ = fs::remove_file(&new);
        let created = fs::File::create(&new).and_then(|new| new.set_len(DATA_BYTES));
        created.map_err(LabError::io("make", &new))?;
        // No blocks kept for root: the server's user and root see the same end of the disk.
        let extended = "lazy_itable_init=1,lazy_journal_init=1,nodiscard";
        let words = ["mkfs.ext4", "-q", "-F", "-m", "0", "-i", "65536", "-E", extended];
        let mut argv = words.map(PathBuf::from).to_vec();
        argv.push(new.clone());
        run("making the host's data disk", &argv)?;
        fs::rename(&new, &file).map_err(LabError::io("rename", &new))
    }

    /// Unmounts what the host had; nothing may run in it.
    pub(super) fn unmount(&self) -> Result<(), LabError> {
        unmount_under(&self.dir)
    }

    /// Back to the image: overlay and data disk emptied. Must be unmounted.
    pub(super) fn wipe(&self) -> Result<(), LabError> {
        for name in ["upper", "work"] {
            store::remove_tree(&self.dir.join(name))?;
        }
        match fs::remove_file(self.dir.join("data.ext4")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(LabError::io("remove", self.dir.join("data.ext4"))(error))
            }
            _ => Ok(()),
        }
    }

    /// Fills the data disk to the last block; takes milliseconds, because blocks are only reserved.
    pub(super) fn fill(&self) -> Result<(), LabError> {
        let path = self.data().join(BALLAST);
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        let fail = |error: rustix::io::Errno| LabError::io("fill", &path)(error.into());
        let file = rustix::fs::open(&path, flags, 0o600.into()).map_err(fail)?;
        let mut end = rustix::fs::fstat(&file).map_err(fail)?.st_size.unsigned_abs();
        let mut step = DATA_BYTES;
        while step >= 4096 {
            match rustix::fs::fallocate(&file, FallocateFlags::empty(), end, step) {
                Ok(()) => end += step,
                // A failed attempt may keep a part of what it got; the file's length does not count it.
                Err(rustix::io::Errno::NOSPC) => step /= 2,
                Err(error) => return Err(fail(error)),
            }
        }
        Ok(())
    }

    /// Removes what [`Disk::fill`] made.
    pub(super) fn free(&self) -> Result<(), LabError> {
        let path = self.data().join(BALLAST);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(LabError::io("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// Unmounts everything at or below a directory, the last mounted first.
pub(super) fn unmount_under(dir: &Path) -> Result<(), LabError> {
    for point in mounts_under(dir)?.iter().rev() {
        let plain = [Path::new("umount"), point];
        let freed = super::cgroup::wait_for(std::time::Duration::from_secs(2), || succeeds(&plain));
        if !freed {
            // Somebody on this machine still looks at it; it goes when they do.
            let lazy = [Path::new("umount"), Path::new("--lazy"), point];
            run("unmounting a lab host's disk", &lazy)?;
        }
    }
    Ok(())
}

fn mounts_under(dir: &Path) -> Result<Vec<PathBuf>, LabError> {
    let path = "/proc/self/mountinfo";
    let text = fs::read_to_string(path).map_err(LabError::io("read", path))?;
    let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    Ok(points.filter(|point| point.starts_with(dir)).collect())
}

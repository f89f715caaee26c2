//! A control group per host, in every hierarchy of this machine.
//!
//! With the v1 hierarchies that some machines still have, all hosts would share this process's
//! groups and their systemds one tree. The one that does the work here is v2: it says whether a
//! host runs, freezes it, and kills it as a whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::LabError;

/// The groups of one host.
#[derive(Debug, Clone)]
pub(super) struct Cgroup {
    v2: PathBuf,
    v1: Vec<PathBuf>,
}

const PREFIX: &str = "pgorch-lab-";

impl Cgroup {
    /// The groups named after a machine, which need not exist.
    pub(super) fn of(machine: &str) -> Result<Self, LabError> {
        let name = format!("{PREFIX}{machine}");
        let (v2, v1) = hierarchies()?;
        Ok(Cgroup { v2: v2.join(&name), v1: v1.iter().map(|root| root.join(&name)).collect() })
    }

    /// The machine names, beginning with `prefix`, that have groups.
    pub(super) fn machines(prefix: &str) -> Result<Vec<String>, LabError> {
        let (v2, v1) = hierarchies()?;
        let mut names = Vec::new();
        for root in v1.iter().chain([&v2]) {
            for dir in super::store::entries(root)? {
                let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if let Some(machine) = name.strip_prefix(PREFIX)
                    && machine.starts_with(prefix)
                    && !names.iter().any(|known| known == machine)
                {
                    names.push(machine.to_owned());
                }
            }
        }
        Ok(names)
    }

    /// Makes the groups; returns the first arguments of the launcher.
    pub(super) fn make(&self) -> Result<Vec<PathBuf>, LabError> {
        let launcher = self.v2.join("launcher");
        fs::create_dir_all(&launcher).map_err(LabError::io("make the control group", &launcher))?;
        // Handed down as far as this machine allows; a hybrid one has them in version 1.
        let controllers =
            fs::read_to_string(self.v2.join("cgroup.controllers")).unwrap_or_default();
        for name in controllers.split_whitespace() {
            let _ = fs::write(self.v2.join("cgroup.subtree_control"), format!("+{name}"));
        }
        let mut arguments = vec![self.v2.clone()];
        for dir in &self.v1 {
            fs::create_dir_all(dir).map_err(LabError::io("make the control group", dir))?;
            // A cpuset accepts nobody until it is told which CPUs and memory it has.
            for name in ["cpuset.cpus", "cpuset.mems"] {
                let (own, parent) = (dir.join(name), dir.with_file_name(name));
                if own.exists() {
                    let value = fs::read(&parent).map_err(LabError::io("read", &parent))?;
                    fs::write(&own, value).map_err(LabError::io("write", &own))?;
                }
            }
            arguments.push(dir.join("cgroup.procs"));
        }
        Ok(arguments)
    }

    /// Makes the version 2 group alone; returns the file that a process enters it through.
    pub(super) fn make_simple(&self) -> Result<PathBuf, LabError> {
        fs::create_dir_all(&self.v2).map_err(LabError::io("make the control group", &self.v2))?;
        Ok(self.v2.join("cgroup.procs"))
    }

    /// What the host runs; nspawn makes this group, and `supervisor` beside it for itself.
    fn payload(&self) -> PathBuf {
        self.v2.join("host").join("payload")
    }

    /// Whether any process lives in it (a zombie does not count).
    pub(super) fn is_populated(&self) -> bool {
        self.event("populated")
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.event("frozen")
    }

    fn event(&self, name: &str) -> bool {
        let text = fs::read_to_string(self.v2.join("cgroup.events")).unwrap_or_default();
        text.lines().any(|line| line.split_once(' ') == Some((name, "1")))
    }

    /// Stops every process of the host where it stands, or lets all go on; waits until it is so.
    pub(super) fn freeze(&self, freeze: bool) -> Result<(), LabError> {
        let path = self.v2.join("cgroup.freeze");
        fs::write(&path, if freeze { "1" } else { "0" }).map_err(LabError::io("write", &path))?;
        wait_for(Duration::from_secs(10), || self.is_frozen() == freeze);
        Ok(())
    }

    /// Kills what the host runs, at once, frozen or not; systemd-nspawn outside it then tidies up
    /// after itself. What is still there after 3 s is killed too, nspawn included.
    pub(super) fn kill(&self) -> Result<(), LabError> {
        if !self.is_populated() {
            return Ok(());
        }
        // Before nspawn has made that group there is only the whole to kill.
        let payload = self.payload().join("cgroup.kill");
        let first = if payload.exists() { payload } else { self.v2.join("cgroup.kill") };
        let _ = fs::write(&first, "1");
        let _ = fs::write(self.v2.join("cgroup.freeze"), "0");
        if wait_for(Duration::from_secs(3), || !self.is_populated()) {
            return Ok(());
        }
        let all = self.v2.join("cgroup.kill");
        fs::write(&all, "1").map_err(LabError::io("write", &all))?;
        wait_for(Duration::from_secs(10), || !self.is_populated());
        Ok(())
    }

    /// Removes the groups; nothing may run in them.
    pub(super) fn remove(&self) -> Result<(), LabError> {
        for dir in self.v1.iter().chain([&self.v2]) {
            let mut error = None;
            // A process that was just killed can still be on its way out of a v1 group.
            wait_for(Duration::from_secs(30), || {
                error = remove_groups(dir).err();
                error.is_none()
            });
            if let Some(error) = error {
                return Err(LabError::io("remove the control group", dir)(error));
            }
        }
        Ok(())
    }

    /// systemd-nspawn, outside the host.
    pub(super) fn supervisor(&self) -> Option<i32> {
        processes(&self.v2.join("host").join("supervisor")).first().copied()
    }

    /// PID 1 of the host, as this machine numbers it.
    pub(super) fn leader(&self) -> Option<i32> {
        let supervisor = self.supervisor()?;
        self.inside().into_iter().find(|pid| parent(*pid) == Some(supervisor))
    }

    /// Everything that runs in the host.
    pub(super) fn inside(&self) -> Vec<i32> {
        tree(&self.payload())
    }

    /// What runs in one of the host's units, by the unit's full name.
    pub(super) fn in_unit(&self, unit: &str) -> Vec<i32> {
        let mut dirs = vec![self.payload()];
        while let Some(dir) = dirs.pop() {
            if dir.file_name().is_some_and(|name| name == unit) {
                return tree(&dir);
            }
            dirs.extend(children(&dir));
        }
        Vec::new()
    }
}

/// Polls every 20 ms; returns whether the condition came true within the time.
pub(super) fn wait_for(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The parent of a process, from /proc.
pub(super) fn parent(pid: i32) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; state and parent follow its last one.
    text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn processes(dir: &Path) -> Vec<i32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn tree(dir: &Path) -> Vec<i32> {
    let mut found = processes(dir);
    for child in children(dir) {
        found.extend(tree(&child));
    }
    found
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

fn remove_groups(dir: &Path) -> std::io::Result<()> {
    for child in children(dir) {
        remove_groups(&child)?;
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Mount points of the v2 hierarchy and of all v1 ones.
fn hierarchies() -> Result<(PathBuf, Vec<PathBuf>), LabError> {
    let path = "/proc/self/mountinfo";
    let text = fs::read_to_string(path).map_err(LabError::io("read", path))?;
    parse_hierarchies(&text).ok_or_else(|| LabError::Unsupported {
        reason: "no version 2 control group hierarchy is mounted".to_owned(),
    })
}

fn parse_hierarchies(mountinfo: &str) -> Option<(PathBuf, Vec<PathBuf>)> {
    let (mut v2, mut v1) = (None, Vec::new());
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(point) = left.split(' ').nth(4).map(PathBuf::from) else { continue };
        match right.split(' ').next() {
            Some("cgroup2") if v2.is_none() => v2 = Some(point),
            Some("cgroup") => v1.push(point),
            _ => {}
        }
    }
    Some((v2?, v1))
}

#[cfg(test)]
mod tests {
    use super::parse_hierarchies;

    #[test]
    fn hybrid_and_unified_machines_are_understood() {
        let hybrid = "\
30 29 0:26 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer
31 29 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
32 29 0:28 / / rw - ext4 /dev/vda rw
";
        let (v2, v1) = parse_hierarchies(hybrid).expect("has v2");
        assert_eq!(v2.to_string_lossy(), "/sys/fs/cgroup/unified");
        assert_eq!(v1.len(), 1);
        assert!(parse_hierarchies("32 29 0:28 / / rw - ext4 /dev/vda rw\n").is_none());
    }
}

//! Disposable real hosts on this machine, for the newcomer's first minute and the tests.
//!
//! A *lab* belongs to an inventory file (by its canonical path) and is a few *hosts* on a bridge of
//! their own: systemd as PID 1, sshd, a package manager that works, an address in 198.18.0.0/15. The
//! backend is systemd-nspawn, on Linux as root; what it needs is installed on a Debian machine.
//!
//! * A host's root is an overlay on an immutable [image](purge_images) that is built once from this
//!   machine's package sources. [`DATA_MOUNT`] is a disk of its own of [`DATA_BYTES`] at most.
//! * Accounts: `root` and `admin` (sudo without password), `operator` (sudo with the password
//!   `operator-password`); all three accept the lab's key. Host keys are in the lab's `known_hosts` and
//!   stay the same until [`down`].
//! * Hosts run in a session and in control groups of their own and outlive the program that made them,
//!   but not a reboot of this machine; [`up`] then starts them again with their disks as they were.
//! * Everything in the kernel carries the lab's eight-character id, so [`down`] finds it without
//!   any state: also after a crash in the middle of [`up`].
//!
//! Limits: kernel settings outside `net.*` are this machine's and read-only in a host; a power-off
//! does not lose what was written and not synced; all hosts of a lab share one /24.
//!
//! All calls block; a lab is locked while something changes it.

mod address;
mod cgroup;
mod command;
mod disk;
mod error;
mod fault;
mod host;
mod image;
mod network;
mod preflight;
mod sources;
mod spec;
mod store;

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use serde::Serialize;

pub use disk::{DATA_BYTES, DATA_MOUNT};
pub use error::LabError;
pub use fault::{Applied, FAULT_USAGE, Fault, Party, fault, parse_fault};
pub use image::purge_images;
pub use spec::{HostSpec, LabKey, Spec};

use host::{Change, Host};
use store::{Lock, State};

/// How a host is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    Running,
    /// Switched off, by a fault or from inside; its disks are kept.
    Stopped,
    Frozen,
    /// Not made, or not to its end: [`up`] makes it.
    Absent,
}

impl fmt::Display for HostState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            HostState::Running => "running",
            HostState::Stopped => "stopped",
            HostState::Frozen => "frozen",
            HostState::Absent => "absent",
        })
    }
}

/// A lab as it is.
#[derive(Debug, Clone, Serialize)]
pub struct Lab {
    pub key: LabKey,
    pub image: String,
    /// Holds its keys, state and disks.
    pub dir: PathBuf,
    /// `198.19.0.0/24`.
    pub subnet: String,
    /// This machine's address in it.
    pub gateway: Ipv4Addr,
    pub identity_file: PathBuf,
    pub known_hosts: PathBuf,
    pub hosts: Vec<LabHost>,
    /// The directions in which packets are dropped, as (from, to).
    pub cuts: Vec<(String, String)>,
}

/// A host of a [`Lab`].
#[derive(Debug, Clone, Serialize)]
pub struct LabHost {
    pub name: String,
    pub address: Ipv4Addr,
    pub state: HostState,
}

impl Lab {
    fn of(state: &State) -> Result<Self, LabError> {
        let host = |stored: &store::StoredHost| {
            let state = Host::of(state, stored)?.state();
            Ok(LabHost { name: stored.name.clone(), address: stored.address, state })
        };
        let party =
            |name: &String| if name.is_empty() { "controller".into() } else { name.clone() };
        Ok(Lab {
            key: state.key.clone(),
            image: state.image.clone(),
            dir: state.dir(),
            subnet: format!("{}/24", state.network()),
            gateway: state.gateway,
            identity_file: state.dir().join("id_ed25519"),
            known_hosts: state.dir().join("known_hosts"),
            hosts: state.hosts.iter().map(host).collect::<Result<_, LabError>>()?,
            cuts: state.cuts.iter().map(|cut| (party(&cut.from), party(&cut.to))).collect(),
        })
    }
}

/// A step that may take a while, as it begins or ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// `None` where it is about the lab or this machine.
    pub host: Option<String>,
    pub message: String,
}

impl Progress {
    fn lab(message: String) -> Self {
        Progress { host: None, message }
    }

    fn host(name: &str, message: &str) -> Self {
        Progress { host: Some(name.to_owned()), message: message.to_owned() }
    }
}

/// What [`up`] did.
#[derive(Debug, Clone, Serialize)]
pub struct Up {
    pub lab: Lab,
    /// Hosts that did not exist.
    pub made: Vec<String>,
    /// Hosts that existed and were stopped or frozen.
    pub started: Vec<String>,
    /// False when everything already was as asked.
    pub changed: bool,
}

/// What [`down`] did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Down {
    pub key: Option<LabKey>,
    /// False when there was nothing of this lab.
    pub existed: bool,
}

/// Makes the lab, or what lacks of it, and returns when every host is ready. Hosts that run are
/// left alone, and so are hosts of the lab that `spec` does not name.
///
/// # Errors
/// When `spec` cannot be met or the machine refuses; repeating it goes on where it stopped.
pub fn up(spec: &Spec, progress: &mut dyn FnMut(Progress)) -> Result<Up, LabError> {
    spec.check()?;
    preflight::require_root("making a lab")?;
    preflight::ensure_programs(progress)?;
    let _lock = Lock::of_lab(&spec.key)?;
    let mut lab = State::allocate(spec)?;
    ensure_image(spec, &mut lab, progress)?;
    let mut changed = network::ensure(&lab)?;
    host::make_key(&lab.dir().join("id_ed25519"), "pgorch-lab")?;
    let wanted: Vec<&store::StoredHost> =
        lab.hosts.iter().filter(|h| spec.hosts.iter().any(|s| s.name == h.name)).collect();
    let changes = in_parallel("making the lab", &wanted, progress, |stored, say| {
        let host = Host::of(&lab, stored)?;
        let change = host.ensure()?;
        if change == Change::None {
            host.write_hosts()?;
            return Ok(change);
        }
        say(Progress::host(&stored.name, "starting"));
        host.wait_ready()?;
        say(Progress::host(&stored.name, "ready"));
        Ok(change)
    });
    // Also for those that came up when others did not.
    write_access(&lab)?;
    let changes = changes?;
    let names = |kind: Change| -> Vec<String> {
        let pairs = wanted.iter().zip(&changes).filter(|(_, change)| **change == kind);
        pairs.map(|(stored, _)| stored.name.clone()).collect()
    };
    let (made, started) = (names(Change::Made), names(Change::Started));
    changed |= !made.is_empty() || !started.is_empty();
    Ok(Up { lab: Lab::of(&lab)?, made, started, changed })
}

/// Gives every host that is not made yet the image of `spec`, which exists afterwards.
fn ensure_image(
    spec: &Spec,
    lab: &mut State,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), LabError> {
    let snapshot = lab.clone();
    let mut needed = false;
    for (stored, host) in lab.hosts.iter_mut().zip(&snapshot.hosts) {
        if Host::of(&snapshot, host)?.is_made() {
            if !image::is_complete(&stored.image) {
                let message =
                    format!("{}: its image is gone\n`pgorch lab down`, then up", host.name);
                return Err(LabError::BadSpec { message });
            }
        } else {
            stored.image = PathBuf::new();
            needed = true;
        }
    }
    if !needed {
        return Ok(());
    }
    let image = image::Image::of(spec)?;
    for stored in lab.hosts.iter_mut().filter(|host| host.image.as_os_str().is_empty()) {
        stored.image = image.root();
    }
    lab.save()?;
    image.ensure(progress)
}

/// The known_hosts file, and the right to use both for the user behind sudo.
fn write_access(lab: &State) -> Result<(), LabError> {
    let mut text = String::new();
    for host in &lab.hosts {
        let path = host::host_dir(lab, host).join("ssh_host_ed25519_key.pub");
        let Ok(key) = fs::read_to_string(&path) else { continue };
        let mut words = key.split_whitespace();
        if let (Some(kind), Some(key)) = (words.next(), words.next()) {
            text += &format!("{},{} {kind} {key}\n", host.address, host.name);
        }
    }
    let known_hosts = lab.dir().join("known_hosts");
    store::write_with_mode(&known_hosts, text.as_bytes(), 0o644)?;
    let id = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    if let (Some(user), Some(group)) = (id("SUDO_UID"), id("SUDO_GID")) {
        let identity = lab.dir().join("id_ed25519");
        std::os::unix::fs::chown(&identity, Some(user), Some(group))
            .map_err(LabError::io("give to the user behind sudo", &identity))?;
    }
    Ok(())
}

/// Does `work` for all items at once; reports from all of them arrive in the caller's thread.
fn in_parallel<T: Sync, R: Send>(
    doing: &'static str,
    items: &[T],
    progress: &mut dyn FnMut(Progress),
    work: impl Fn(&T, &dyn Fn(Progress)) -> Result<R, LabError> + Sync,
) -> Result<Vec<R>, LabError> {
    let (sender, receiver) = mpsc::channel();
    let results: Vec<Result<R, LabError>> = std::thread::scope(|scope| {
        let spawn = |item| {
            let (sender, work) = (sender.clone(), &work);
            scope.spawn(move || work(item, &|event| drop(sender.send(event))))
        };
        let handles: Vec<_> = items.iter().map(spawn).collect();
        drop(sender);
        receiver.iter().for_each(&mut *progress);
        let panicked = || LabError::Several { doing, failures: "a worker ended early".to_owned() };
        handles.into_iter().map(|h| h.join().unwrap_or_else(|_| Err(panicked()))).collect()
    });
    let (mut done, mut failures) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => done.push(value),
            Err(error) => failures.push(error),
        }
    }
    match failures.len() {
        0 => Ok(done),
        1 => Err(failures.remove(0)),
        _ => {
            let texts: Vec<String> = failures.iter().map(LabError::to_string).collect();
            Err(LabError::Several { doing, failures: texts.join("\n") })
        }
    }
}

/// Removes a lab without a trace, in whatever condition it is; the images stay.
///
/// # Errors
/// When something resists; repeating it goes on where it stopped.
pub fn down(key: &LabKey) -> Result<Down, LabError> {
    preflight::require_root("removing a lab")?;
    let _lock = Lock::of_lab(key)?;
    let id = store::id_of(key);
    // Refuses a lab that only has the same short name.
    let known = match State::load(key) {
        Err(error @ LabError::SameShortName { .. }) => return Err(error),
        known => known.ok().flatten(),
    };
    let existed = known.is_some() || store::labs_dir().join(&id).exists();
    remove(&id)?;
    Ok(Down { key: Some(key.clone()), existed })
}

/// [`down`] for every lab of this machine, half-made ones included.
///
/// # Errors
/// As [`down`].
pub fn down_all() -> Result<Vec<Down>, LabError> {
    preflight::require_root("removing labs")?;
    let mut done = Vec::new();
    for dir in store::entries(&store::labs_dir())? {
        let id = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let _lock = Lock::take(&format!("lab-{id}"))?;
        let key = store::all().ok().and_then(|labs| labs.into_iter().find(|lab| lab.id() == id));
        remove(&id)?;
        done.push(Down { key: key.map(|lab| lab.key), existed: true });
    }
    Ok(done)
}

fn remove(id: &str) -> Result<(), LabError> {
    let dir = store::labs_dir().join(id);
    let machines = cgroup::Cgroup::machines(&host::machine_prefix(id))?;
    for machine in &machines {
        let cgroup = cgroup::Cgroup::of(machine)?;
        cgroup.kill()?;
        cgroup.remove()?;
        // nspawn's own, left when it could not tidy up itself.
        let _ = fs::remove_dir(Path::new("/run/systemd/nspawn/propagate").join(machine));
    }
    network::remove(id)?;
    disk::unmount_under(&dir)?;
    store::remove_tree(&dir)?;
    network::unforward()
}

/// A lab as it is now.
///
/// # Errors
/// When there is none of this key.
pub fn status(key: &LabKey) -> Result<Lab, LabError> {
    Lab::of(&State::load_existing(key)?)
}

/// All labs of this machine. Needs no root.
///
/// # Errors
/// When a state file cannot be read.
pub fn list() -> Result<Vec<Lab>, LabError> {
    store::all()?.iter().map(Lab::of).collect()
}

/// Puts hosts (all, if none are named) back to the state right after [`up`]: disks, processes, no cuts
/// from or to them. Keys and addresses stay. Returns when they are ready, in a few seconds.
///
/// # Errors
/// When there is no such lab or host, or one does not come up.
pub fn reset(
    key: &LabKey,
    hosts: &[String],
    progress: &mut dyn FnMut(Progress),
) -> Result<Lab, LabError> {
    preflight::require_root("resetting lab hosts")?;
    let _lock = Lock::of_lab(key)?;
    let mut lab = State::load_existing(key)?;
    for name in hosts {
        lab.host(name)?;
    }
    let named = |name: &str| hosts.is_empty() || hosts.iter().any(|host| host == name);
    lab.cuts.retain(|cut| !named(&cut.from) && !named(&cut.to));
    lab.hosts.iter_mut().filter(|host| named(&host.name)).for_each(|host| host.slow = None);
    network::ensure(&lab)?;
    network::render_cuts(&lab)?;
    lab.save()?;
    let wanted: Vec<&store::StoredHost> = lab.hosts.iter().filter(|h| named(&h.name)).collect();
    in_parallel("resetting the lab", &wanted, progress, |stored, say| {
        say(Progress::host(&stored.name, "back to the image"));
        Host::of(&lab, stored)?.reset()?;
        say(Progress::host(&stored.name, "ready"));
        Ok(())
    })?;
    Lab::of(&lab)
}

/// The ssh command for a host (`node1`, or `admin@node1`; else root). Without `command` it is a
/// login; one word is a line for the host's shell, several are an argument vector.
///
/// # Errors
/// When there is no such lab or host.
pub fn ssh_argv(key: &LabKey, host: &str, command: &[String]) -> Result<Vec<OsString>, LabError> {
    let lab = State::load_existing(key)?;
    let (user, name) = host.split_once('@').unwrap_or(("root", host));
    let stored = lab.host(name)?;
    let option = |option: &str, path: &Path| {
        let mut text = OsString::from(option);
        text.push(path);
        text
    };
    let mut argv: Vec<OsString> = ["ssh", "-F", "/dev/null", "-i"].map(OsString::from).to_vec();
    argv.push(lab.dir().join("id_ed25519").into());
    for text in
        ["IdentitiesOnly=yes", "StrictHostKeyChecking=yes", "GlobalKnownHostsFile=/dev/null"]
    {
        argv.extend(["-o".into(), text.into()]);
    }
    argv.extend(["-o".into(), option("UserKnownHostsFile=", &lab.dir().join("known_hosts"))]);
    argv.push(format!("{user}@{}", stored.address).into());
    match command {
        [] => {}
        [line] => argv.extend(["--".into(), line.into()]),
        words => {
            argv.push("--".into());
            argv.extend(words.iter().map(|word| crate::model::quote(word).into()));
        }
    }
    Ok(argv)
}

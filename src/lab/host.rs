//! One host: made, started, stopped, made afresh.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::cgroup::{Cgroup, wait_for};
use super::command::{PATH, run};
use super::disk::{DATA_MOUNT, Disk};
use super::store::{self, State, StoredHost, write_with_mode};
use super::{HostState, LabError, network};

const LAUNCH: &str = include_str!("launch.sh");
/// Five seconds are usual; a machine with more to do than it can takes its time.
const READY_LIMIT: Duration = Duration::from_secs(180);

/// Every machine name of a lab begins so.
pub(super) fn machine_prefix(id: &str) -> String {
    format!("p{id}-")
}

pub(super) fn machine_name(id: &str, index: u8) -> String {
    format!("{}{index}", machine_prefix(id))
}

/// What [`Host::ensure`] had to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    None,
    Started,
    Made,
}

/// A host of a lab, with all that is needed to act on it.
pub(super) struct Host<'a> {
    lab: &'a State,
    stored: &'a StoredHost,
    pub(super) disk: Disk,
    pub(super) cgroup: Cgroup,
}

impl<'a> Host<'a> {
    pub(super) fn of(lab: &'a State, stored: &'a StoredHost) -> Result<Self, LabError> {
        let disk = Disk { dir: host_dir(lab, stored) };
        let cgroup = Cgroup::of(&machine_name(&lab.id(), stored.index))?;
        Ok(Host { lab, stored, disk, cgroup })
    }

    pub(super) fn state(&self) -> HostState {
        if self.cgroup.is_populated() {
            if self.cgroup.is_frozen() { HostState::Frozen } else { HostState::Running }
        } else if self.is_made() {
            HostState::Stopped
        } else {
            HostState::Absent
        }
    }

    pub(super) fn is_made(&self) -> bool {
        self.disk.dir.join("made").exists()
    }

    /// Makes and starts it where needed. It is not ready yet when this returns.
    pub(super) fn ensure(&self) -> Result<Change, LabError> {
        match self.state() {
            HostState::Running => Ok(Change::None),
            HostState::Frozen => self.cgroup.freeze(false).map(|()| Change::Started),
            HostState::Stopped => self.start().map(|()| Change::Started),
            HostState::Absent => {
                self.make()?;
                self.start().map(|()| Change::Made)
            }
        }
        .map_err(|error| error.on_host(&self.stored.name))
    }

    /// Its disks with everything that makes it this host; also after an attempt that was cut short.
    fn make(&self) -> Result<(), LabError> {
        self.disk.unmount()?;
        self.disk.wipe()?;
        self.disk.mount(&self.stored.image)?;
        let key = self.host_key()?;
        let root = self.disk.root();
        let public = fs::read(key.with_extension("pub"));
        let public = public.map_err(LabError::io("read", key.with_extension("pub")))?;
        let secret = fs::read(&key).map_err(LabError::io("read", &key))?;
        let login = self.lab.dir().join("id_ed25519.pub");
        let login = fs::read(&login).map_err(LabError::io("read", &login))?;
        let (address, gateway) = (self.stored.address, self.lab.gateway);
        let addresses = format!("ADDRESS={address}/24\nGATEWAY={gateway}\n");
        let hostname = format!("{}\n", self.stored.name);
        let machine_id = format!("{}\n", store::hex(&rand::random::<[u8; 16]>(), 32));
        let files: [(&str, &[u8], u32); 7] = [
            ("etc/hostname", hostname.as_bytes(), 0o644),
            ("etc/machine-id", machine_id.as_bytes(), 0o444),
            ("etc/default/pgorch-lab", addresses.as_bytes(), 0o644),
            ("etc/resolv.conf", &resolv_conf(), 0o644),
            ("etc/ssh/ssh_host_ed25519_key", &secret, 0o600),
            ("etc/ssh/ssh_host_ed25519_key.pub", &public, 0o644),
            ("etc/ssh/pgorch_lab_authorized_keys", &login, 0o644),
        ];
        for (path, bytes, mode) in files {
            write_with_mode(&root.join(path), bytes, mode)?;
        }
        self.write_hosts()?;
        write_with_mode(&self.disk.dir.join("made"), b"", 0o644)
    }

    /// The host's sshd key; kept over a reset, so that its known_hosts entry stays true.
    fn host_key(&self) -> Result<PathBuf, LabError> {
        let key = self.disk.dir.join("ssh_host_ed25519_key");
        make_key(&key, &format!("root@{}", self.stored.name))?;
        Ok(key)
    }

    /// Mounts its disks where they are not.
    pub(super) fn mount(&self) -> Result<(), LabError> {
        self.disk.mount(&self.stored.image).map_err(|error| error.on_host(&self.stored.name))
    }

    /// Names and addresses of the whole lab in /etc/hosts, where they are not there yet.
    pub(super) fn write_hosts(&self) -> Result<(), LabError> {
        let path = self.disk.root().join("etc/hosts");
        let mut text =
            format!("127.0.0.1 localhost\n::1 localhost\n{} controller\n", self.lab.gateway);
        for host in &self.lab.hosts {
            text += &format!("{} {}\n", host.address, host.name);
        }
        let now = fs::read_to_string(&path).unwrap_or_default();
        if text.lines().all(|line| now.lines().any(|known| known == line)) {
            return Ok(());
        }
        write_with_mode(&path, text.as_bytes(), 0o644)
    }

    /// Boots it in a session and in control groups of its own, so that it outlives this process.
    pub(super) fn start(&self) -> Result<(), LabError> {
        self.disk.mount(&self.stored.image)?;
        self.write_hosts()?;
        network::forget_link(&self.lab.id(), self.stored);
        let log = self.disk.dir.join("console.log");
        let console = File::create(&log).map_err(LabError::io("write", &log))?;
        let errors = console.try_clone().map_err(LabError::io("write", &log))?;
        let mut command = Command::new("setsid");
        command.args(["--fork", "bash", "-c", LAUNCH, "pgorch-lab"]);
        command.args(self.cgroup.make()?).arg("--").args(self.nspawn());
        command.env_clear().env("PATH", PATH);
        // Lets the host have version 2 control groups where this machine still shows it version 1,
        // which systemd from 256 on refuses to boot with.
        command.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
        command.current_dir("/").stdin(Stdio::null()).stdout(console).stderr(errors);
        command.status().map_err(LabError::io("run setsid for", &log))?;
        if !wait_for(Duration::from_secs(5), || self.cgroup.is_populated()) {
            return Err(self.not_ready(Duration::from_secs(5), "systemd-nspawn did not start"));
        }
        Ok(())
    }

    fn nspawn(&self) -> Vec<OsString> {
        let id = self.lab.id();
        let mut bind = OsString::from("--bind=");
        bind.push(self.disk.data());
        bind.push(format!(":{DATA_MOUNT}"));
        vec![
            "systemd-nspawn".into(),
            "--quiet".into(),
            "--settings=no".into(),
            "--register=no".into(),
            "--keep-unit".into(),
            "--boot".into(),
            "--console=read-only".into(),
            "--directory".into(),
            self.disk.root().into(),
            format!("--machine={}", machine_name(&id, self.stored.index)).into(),
            format!("--hostname={}", self.stored.name).into(),
            format!("--network-bridge={}", network::bridge(&id)).into(),
            bind,
            "--resolv-conf=off".into(),
            "--timezone=off".into(),
            "--link-journal=no".into(),
        ]
    }

    /// Returns when it has booted and its sshd answers this machine.
    pub(super) fn wait_ready(&self) -> Result<(), LabError> {
        let start = Instant::now();
        let left = || READY_LIMIT.saturating_sub(start.elapsed());
        // nspawn renames and plugs the link before it starts the host's PID 1.
        if !wait_for(left(), || self.cgroup.leader().is_some() || !self.cgroup.is_populated()) {
            return Err(self.not_ready(start.elapsed(), "its PID 1 did not start"));
        }
        if self.stored.slow.is_some() {
            network::slow(&self.lab.id(), self.stored)?;
        }
        let address = SocketAddr::from((self.stored.address, 22));
        if !self.is_cut_off() && !wait_for(left(), || !self.is_alive() || banner(address)) {
            return Err(self.not_ready(start.elapsed(), "its sshd does not answer"));
        }
        if !wait_for(left(), || !self.is_alive() || self.has_booted()) {
            return Err(self.not_ready(start.elapsed(), "its systemd does not come to an end"));
        }
        if !self.is_alive() {
            return Err(self.not_ready(start.elapsed(), "it stopped again"));
        }
        Ok(())
    }

    fn is_alive(&self) -> bool {
        self.cgroup.is_populated()
    }

    /// Whether a cut keeps this machine from asking its sshd.
    fn is_cut_off(&self) -> bool {
        let name = &self.stored.name;
        self.lab.cuts.iter().any(|cut| {
            (cut.from.is_empty() && cut.to == *name) || (cut.to.is_empty() && cut.from == *name)
        })
    }

    fn has_booted(&self) -> bool {
        let Some(leader) = self.cgroup.leader() else { return false };
        let leader = leader.to_string();
        let argv = ["nsenter", "--target", &leader, "--all", "systemctl", "is-system-running"];
        // `degraded` ends with 1 and is up all the same, as on a real host.
        let state = match run("", &argv) {
            Ok(text) => text,
            Err(LabError::Command { output, .. }) => output,
            Err(_) => return false,
        };
        matches!(state.split_whitespace().next(), Some("running" | "degraded"))
    }

    fn not_ready(&self, after: Duration, waiting_for: &'static str) -> LabError {
        let console = fs::read(self.disk.dir.join("console.log")).unwrap_or_default();
        LabError::NotReady {
            host: self.stored.name.clone(),
            seconds: after.as_secs(),
            waiting_for,
            console: String::from_utf8_lossy(&console).replace('\r', ""),
        }
    }

    /// A clean shutdown, as `poweroff` on the host.
    pub(super) fn stop(&self) -> Result<(), LabError> {
        // To nspawn this means: shut the host down in order.
        if let Some(pid) = self.cgroup.supervisor().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        if wait_for(Duration::from_secs(100), || !self.is_alive()) {
            return Ok(());
        }
        Err(LabError::WrongState {
            host: self.stored.name.clone(),
            state: HostState::Running,
            advice: "it did not shut down in 100 s; `pgorch lab fault power-off` does not ask",
        })
    }

    /// A power loss: the cable first, so that no dying socket says goodbye, then every process.
    pub(super) fn power_off(&self) -> Result<(), LabError> {
        network::unplug(&self.lab.id(), self.stored);
        self.cgroup.kill().map_err(|error| error.on_host(&self.stored.name))
    }

    /// Ends it in any state and makes it afresh from the image.
    pub(super) fn reset(&self) -> Result<(), LabError> {
        self.power_off()?;
        let mark = self.disk.dir.join("made");
        if mark.exists() {
            fs::remove_file(&mark).map_err(LabError::io("remove", &mark))?;
        }
        self.make()
            .and_then(|()| self.start())
            .and_then(|()| self.wait_ready())
            .map_err(|error| error.on_host(&self.stored.name))
    }
}

pub(super) fn host_dir(lab: &State, host: &StoredHost) -> PathBuf {
    lab.dir().join("hosts").join(&host.name)
}

/// Makes an ed25519 key pair where there is none.
pub(super) fn make_key(path: &Path, comment: &str) -> Result<(), LabError> {
    if path.with_extension("pub").exists() {
        return Ok(());
    }
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(LabError::io("make", dir))?;
    }
    // Half a pair, which ssh-keygen would ask about.
    let _ = fs::remove_file(path);
    let words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"];
    let mut argv: Vec<OsString> = words.map(OsString::from).to_vec();
    argv.push(path.into());
    run("making an SSH key", &argv)?;
    Ok(())
}

/// This machine's resolver, as far as a host can reach it.
fn resolv_conf() -> Vec<u8> {
    let read = |path: &str| fs::read_to_string(path).ok();
    let useful = |text: &String| {
        text.lines().any(|line| line.starts_with("nameserver ") && !line.contains(" 127."))
    };
    // With systemd-resolved the first names a stub on loopback, and the second the real ones.
    let paths = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
    paths.into_iter().filter_map(read).find(useful).unwrap_or_default().into_bytes()
}

fn banner(address: SocketAddr) -> bool {
    let mut start = [0u8; 4];
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) else {
        return false;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    stream.read_exact(&mut start).is_ok() && &start == b"SSH-"
}

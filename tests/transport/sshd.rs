//! A real sshd under a temporary directory, and what tests around it need.

use std::fmt::Write as _;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgorch::clock::Clock;
use pgorch::transport::{
    Connection, HostKeys, Identity, NoPrompts, Output, Request, Rights, Shell, Target, Transport,
};

/// Runs a test on a runtime of its own, with an upper limit on everything.
pub(super) fn run<T>(test: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(50), test).await.expect("the test hung")
    })
}

/// Whether a test that needs `what` can run here. Loud if not; a failure if the lab is required.
pub(super) fn can(what: &str, present: bool) -> bool {
    if !present {
        assert!(
            std::env::var("PGORCH_LAB").as_deref() != Ok("required"),
            "PGORCH_LAB=required, but this test needs {what}"
        );
        eprintln!("SKIPPED (needs {what})");
    }
    present
}

/// As [`can`] for what Debian 12 does not have: its absence is said, never a failure.
pub(super) fn can_optional(what: &str, present: bool) -> bool {
    if !present {
        eprintln!("SKIPPED (needs {what})");
    }
    present
}

pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub(super) fn transport() -> Transport {
    Transport::new(Clock::default(), Arc::new(NoPrompts))
}

/// Runs a program to its end.
pub(super) fn command(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(super) fn keygen(file: &Path, kind: &str, passphrase: &str) -> String {
    let file = file.to_str().expect("UTF-8");
    command("ssh-keygen", &["-q", "-t", kind, "-N", passphrase, "-C", "test", "-f", file]);
    fs::read_to_string(format!("{file}.pub")).expect("public key").trim().to_owned()
}

/// A running sshd; dropped, it is killed with all its sessions.
pub(super) struct Sshd {
    pub(super) dir: tempfile::TempDir,
    pub(super) port: u16,
    pub(super) user: String,
    child: Child,
}

impl Sshd {
    pub(super) fn start() -> Sshd {
        Sshd::with("")
    }

    /// With the users' own profiles. Else bash passes .bashrc over: root's may do anything, and a
    /// test that kills it half-way may leave a lock of pyenv behind, which stops all later logins.
    pub(super) fn with_profiles() -> Sshd {
        Sshd::with("SetEnv PGORCH_TEST=profiles")
    }

    /// With more lines of sshd_config, which win over the defaults here.
    pub(super) fn with(config: &str) -> Sshd {
        Sshd::build(config, &["ed25519"])
    }

    /// With host keys of these types.
    pub(super) fn build(config: &str, kinds: &[&str]) -> Sshd {
        let dir = tempfile::Builder::new().prefix("pgorch-sshd-").tempdir().expect("a directory");
        // Another user's sshd session must reach its authorized_keys.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("mode");
        let at = |name: &str| dir.path().join(name);
        let _ = fs::create_dir_all("/run/sshd");
        let mut text = format!("{config}\n");
        for kind in kinds {
            let key = at(&format!("host_{kind}"));
            keygen(&key, kind, "");
            let _ = writeln!(text, "HostKey {}", key.display());
        }
        let public = keygen(&at("id"), "ed25519", "");
        fs::write(at("authorized_keys"), format!("{public}\n")).expect("authorized_keys");
        let port = free_port();
        // bash reads .bashrc under sshd only where SHLVL was below 2; the first SetEnv counts.
        let _ = write!(
            text,
            "SetEnv SHLVL=5\nPort {port}\nListenAddress 127.0.0.1\nPidFile none\nUsePAM no\nStrictModes no\n\
             PermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             AuthorizedKeysFile {}\nMaxStartups 100\nLogLevel VERBOSE\n",
            at("authorized_keys").display()
        );
        fs::write(at("sshd_config"), text).expect("sshd_config");
        let log = fs::File::create(at("log")).expect("log");
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(at("sshd_config"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("sshd");
        let user = command("id", &["-un"]).trim().to_owned();
        let sshd = Sshd { dir, port, user, child };
        sshd.wait_up();
        sshd.write_known_hosts(kinds);
        sshd
    }

    fn wait_up(&self) {
        let end = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < end, "sshd does not come up: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(super) fn write_known_hosts(&self, kinds: &[&str]) {
        let lines: Vec<String> = kinds.iter().map(|k| self.known_line(k)).collect();
        fs::write(self.at("known_hosts"), lines.join("\n") + "\n").expect("known_hosts");
    }

    pub(super) fn host_key(&self, kind: &str) -> String {
        let text = fs::read_to_string(self.at(&format!("host_{kind}.pub"))).expect("host key");
        text.split(' ').take(2).collect::<Vec<_>>().join(" ")
    }

    pub(super) fn known_line(&self, kind: &str) -> String {
        format!("[127.0.0.1]:{} {}", self.port, self.host_key(kind))
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.at("log")).unwrap_or_default()
    }

    pub(super) fn target(&self) -> Target {
        let mut target = Target::new("n1", "127.0.0.1", &self.user);
        target.port = self.port;
        target.identities = vec![Identity::explicit(self.at("id"))];
        target.known_hosts = vec![self.at("known_hosts")];
        target.host_keys = HostKeys::Strict;
        target.timeouts.grace = Duration::from_millis(500);
        target
    }

    pub(super) async fn connect(&self) -> Connection {
        let connected = transport().connect(&self.target()).await;
        connected.unwrap_or_else(|e| panic!("{e}\n{}", self.log()))
    }

    /// The sshd processes of the sessions (not the listener), all descendants included.
    pub(super) fn session_pids(&self) -> Vec<i32> {
        descendants(i32::try_from(self.child.id()).expect("a pid"))
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let sessions = self.session_pids();
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in sessions {
            signal(pid, rustix::process::Signal::KILL);
        }
    }
}

pub(super) fn signal(pid: i32, signal: rustix::process::Signal) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// All processes below `root`, from /proc.
pub(super) fn descendants(root: i32) -> Vec<i32> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        if let Some(parent) = rest.split(' ').nth(1).and_then(|p| p.parse::<i32>().ok()) {
            parents.push((pid, parent));
        }
    }
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found.split_off(1)
}

/// Processes whose command line contains `needle`.
pub(super) fn running(needle: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(needle) && pid != i32::try_from(std::process::id()).expect("a pid") {
            found.push(pid);
        }
    }
    found
}

pub(super) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Runs a script and expects it to have a result.
pub(super) async fn sh(shell: &mut Shell, script: &str) -> Output {
    let script = pgorch::model::Script::raw(script);
    let outcome = shell.run(Request::new(&script, Duration::from_secs(20))).await;
    outcome.unwrap_or_else(|e| panic!("{e}"))
}

pub(super) async fn login_shell(sshd: &Sshd) -> (Connection, Shell) {
    let connection = sshd.connect().await;
    let shell = connection.shell(Rights::Login).await.expect("a shell");
    (connection, shell)
}

/// Waits up to 10 s for something to become true.
pub(super) async fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within 10 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

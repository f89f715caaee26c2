//! One sshd on 127.0.0.1 to 127.0.0.3, an inventory of it, and the program run on that.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(super) const HOSTS: [&str; 3] = ["a", "b", "c"];

/// The hosts; dropped, the sshd ends.
pub(super) struct Hosts {
    dir: tempfile::TempDir,
    sshd: Child,
}

impl Drop for Hosts {
    fn drop(&mut self) {
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
    }
}

/// What a run of the program left.
pub(super) struct Ran {
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}

impl Ran {
    #[track_caller]
    pub(super) fn exits(self, code: i32) -> Self {
        let (out, err) = (&self.stdout, &self.stderr);
        assert_eq!(self.code, code, "\n--- stdout\n{out}\n--- stderr\n{err}");
        self
    }

    #[track_caller]
    pub(super) fn events(&self) -> Vec<Value> {
        let line = |l: &str| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"));
        self.stdout.lines().map(line).collect()
    }

    #[track_caller]
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("{e}:\n{}\n{}", self.stdout, self.stderr))
    }

    /// `status task: message` of each task that ended on a host, in order.
    pub(super) fn tasks(&self, host: &str) -> Vec<String> {
        let events = self.events();
        let done = events.iter().filter(|e| e["event"] == "task_done" && e["host"] == host);
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        done.map(|e| {
            let line = [text(&e["status"]), text(&e["task"]), text(&e["message"])];
            format!("{} {}: {}", line[0], line[1], line[2])
        })
        .collect()
    }
}

/// The hosts, or `None` (said loudly) where sshd is missing or this is not root.
pub(super) fn start() -> Option<Hosts> {
    let can = rustix::process::geteuid().is_root() && Path::new("/usr/sbin/sshd").exists();
    if !can {
        let wanted = std::env::var("PGORCH_LAB").unwrap_or_default();
        assert!(wanted != "required" && wanted != "full", "this test needs root and sshd");
        eprintln!("SKIPPED (needs root and sshd)");
        return None;
    }
    let dir = tempfile::Builder::new().prefix("pgorch-engine-").tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name).display().to_string();
    for key in ["host_key", "id"] {
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f", &at(key)])
            .status();
        assert!(made.expect("ssh-keygen").success());
    }
    let _ = std::fs::create_dir_all("/run/sshd");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let config = format!(
        "HostKey {}\nPort {port}\nListenAddress 127.0.0.1\nListenAddress 127.0.0.2\n\
         ListenAddress 127.0.0.3\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nAuthorizedKeysFile {}\n\
         MaxStartups 100\n",
        at("host_key"),
        at("id.pub")
    );
    std::fs::write(at("sshd_config"), config).expect("written");
    let mut sshd = Command::new("/usr/sbin/sshd");
    sshd.args(["-D", "-e", "-f", &at("sshd_config")]).stdin(Stdio::null()).stderr(Stdio::null());
    let hosts = Hosts { sshd: sshd.spawn().expect("sshd"), dir };
    let end = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(("127.0.0.3", port)).is_err() {
        assert!(Instant::now() < end, "sshd does not come up");
        std::thread::sleep(Duration::from_millis(10));
    }
    hosts.describe(port);
    Some(hosts)
}

impl Hosts {
    fn describe(&self, port: u16) {
        let key = std::fs::read_to_string(self.at("host_key.pub")).expect("host key");
        let key = key.split(' ').take(2).collect::<Vec<_>>().join(" ");
        let (mut known, mut nodes) = (String::new(), String::new());
        for (number, name) in HOSTS.iter().enumerate() {
            let address = format!("127.0.0.{}", number + 1);
            known.push_str(&format!("[{address}]:{port} {key}\n"));
            nodes.push_str(&format!("  {name}: {{ host: {address}, groups: [web] }}\n"));
        }
        self.write("known_hosts", &known);
        let (id, known) = (self.at("id"), self.at("known_hosts"));
        let text = format!(
            "cluster: engine\nssh: {{ user: root, port: {port}, identity_file: {}, \
             known_hosts: {} }}\nvars: {{ base: /inventory }}\nhosts:\n{nodes}",
            id.display(),
            known.display()
        );
        self.write("inventory.yml", &text);
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.at(name), text).expect("written");
        self.at(name)
    }

    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgorch"));
        command
            .args(args)
            .env("PGORCH_INVENTORY", self.at("inventory.yml"))
            .env("XDG_STATE_HOME", self.at("state"))
            .env_remove("NO_COLOR")
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(super) fn run(&self, args: &[&str]) -> Ran {
        self.command(args).output().expect("the program runs").into()
    }

    /// `pgorch run` of a playbook of these plays, as events.
    pub(super) fn play(&self, plays: &str, more: &[&str]) -> Ran {
        self.write("play.yml", plays);
        self.run(&[&["run", "play.yml", "-o", "json"], more].concat())
    }
}

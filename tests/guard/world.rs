//! A node's guard in a directory.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use pgorch::inventory::{NodeSettings, parse};
use pgorch::model::Value;
use pgorch::playbook::shipped;
use pgorch::syntax::Source;
use pgorch::template::Templates;

pub(crate) const SYSTEM: &str = "7000000000000000001";

/// A guard whose host is a directory: what systemctl, psql and pg_controldata say are files in it.
pub(crate) struct World {
    dir: tempfile::TempDir,
    pub(crate) node: NodeSettings,
    server: Option<Child>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.end_server();
    }
}

impl World {
    /// A primary of three nodes that runs and has two standbys.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("pgorch-guard").tempdir().expect("a directory");
        let text = "cluster: accounts\nfailover: {mode: automatic}\nnodes:\n  \
            node1: {host: h1, primary: true}\n  node2: {host: h2}\n  node3: {host: h3}\n";
        let inventory = parse(&Source::new("i", text.to_owned())).expect("an inventory").0;
        let mut node = inventory.postgres_of(&"node1".into()).expect("a node");
        let at = |name: &str| dir.path().join(name).display().to_string();
        (node.home, node.data_dir, node.bin_dir) = (at("home"), at("data"), at("bin"));
        let guard = node.guard.as_mut().expect("automatic");
        (guard.run, guard.enabled, guard.script) = (at("run"), at("enabled"), at("guard"));
        let mut world = World { dir, node, server: None };
        world.make();
        world.start_server();
        world
    }

    fn make(&self) {
        for name in ["home", "data", "bin", "run"] {
            std::fs::create_dir_all(self.path(name)).expect("made");
        }
        self.write("enabled", "");
        self.write("data/PG_VERSION", "15\n");
        self.write("have", "2\n");
        self.control("in production");
        self.program("systemctl", "cat \"$W/unit\"");
        self.program("systemd-notify", "echo \"$@\" >>\"$W/notified\"");
        self.program("setpriv", "cat >/dev/null; sleep \"$(cat \"$W/slow\")\"; cat \"$W/have\"");
        self.program("pg_controldata", "cat \"$W/control\"");
        self.write("slow", "0\n");
        let fake = self.path("bin").display().to_string();
        let vars = serde_json::json!({ "cluster": "accounts", "node": self.node });
        let Value::Object(vars) = vars else { panic!("a map") };
        let text = shipped("guard.sh.j2").expect("shipped");
        let script = Templates::new().render("guard.sh.j2", text, &vars).expect("it renders");
        let path = "PATH=/usr/sbin";
        assert!(script.contains(path));
        self.write("guard", &script.replace(path, &format!("PATH={fake}:/usr/sbin")));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("written");
    }

    pub(crate) fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn program(&self, name: &str, body: &str) {
        let dir = self.dir.path().display();
        self.write(&format!("bin/{name}"), &format!("#!/bin/sh\nW={dir}\n{body}\n"));
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.path(&format!("bin/{name}")), mode).expect("mode");
    }

    pub(crate) fn control(&self, state: &str) {
        let text = format!(
            "Database system identifier:           {SYSTEM}\n\
             Database cluster state:               {state}\n"
        );
        self.write("control", &text);
    }

    /// A process that has the server's name and stands in its data directory.
    fn start_server(&mut self) {
        std::os::unix::fs::symlink("/bin/sleep", self.path("postgres")).expect("linked");
        let child = Command::new(self.path("postgres"))
            .arg("1000")
            .current_dir(self.path("data"))
            .process_group(0)
            .spawn()
            .expect("it starts");
        self.unit("active", child.id());
        self.server = Some(child);
    }

    pub(crate) fn unit(&self, state: &str, main: u32) {
        self.write("unit", &format!("MainPID={main}\nActiveState={state}\nControlGroup=\n"));
    }

    pub(crate) fn pid(&self) -> u32 {
        self.server.as_ref().expect("a server").id()
    }

    /// Whether the server has not been killed.
    pub(crate) fn runs(&mut self) -> bool {
        std::thread::sleep(Duration::from_millis(20));
        self.server.as_mut().expect("a server").try_wait().expect("ours").is_none()
    }

    pub(crate) fn end_server(&mut self) {
        if let Some(mut child) = self.server.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(crate) fn run(&self, words: &[&str]) -> Output {
        Command::new("/bin/sh")
            .arg(self.path("guard"))
            .args(words)
            .stdin(Stdio::null())
            .output()
            .expect("sh runs")
    }

    /// Runs it and gives what it printed; it must succeed.
    #[track_caller]
    pub(crate) fn says(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let text = |b: &[u8]| String::from_utf8_lossy(b).trim().to_owned();
        assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
        assert_eq!(text(&output.stderr), "", "{words:?}");
        text(&output.stdout)
    }

    /// Milliseconds of /proc/uptime.
    pub(crate) fn now() -> u64 {
        let text = std::fs::read_to_string("/proc/uptime").expect("Linux");
        let seconds: f64 = text.split(' ').next().and_then(|t| t.parse().ok()).expect("a number");
        (seconds * 1000.0).round() as u64
    }

    pub(crate) fn boot() -> String {
        let path = Path::new("/proc/sys/kernel/random/boot_id");
        std::fs::read_to_string(path).expect("Linux").trim().to_owned()
    }

    /// Gives a lease from now on.
    pub(crate) fn lease(&self, epoch: u64, ms: i64) -> String {
        self.give("lease", epoch, ms, &[])
    }

    pub(crate) fn give(&self, what: &str, epoch: u64, ms: i64, more: &[&str]) -> String {
        let end = Self::now().saturating_add_signed(ms).to_string();
        let said = self.says(&[&[what, &epoch.to_string(), &Self::boot(), &end], more].concat());
        if said.starts_with("uptime=") { String::new() } else { said }
    }

    /// A lease that ended a second ago, past what the guard takes.
    pub(crate) fn ended_lease(&self) {
        let end = Self::now().saturating_sub(1000);
        let wall = "99999999999";
        let line = format!("accounts {SYSTEM} node1 1 {} {end} {wall} -\n", Self::boot());
        self.write("run/lease", &line);
    }

    /// What PID 1 was told last: microseconds.
    pub(crate) fn fed(&self) -> Option<u64> {
        let text = self.text("notified");
        let line = text.lines().last()?;
        line.split("WATCHDOG_USEC=").nth(1)?.trim().parse().ok()
    }

    pub(crate) fn state(&self) -> String {
        self.text("run/state").trim().to_owned()
    }
}

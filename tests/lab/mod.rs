//! What the lab tests share: a lab that goes away however the test ends, and the program run on it.
//!
//! `PGORCH_LAB=required` makes a missing lab a failure, `PGORCH_LAB=full` runs the whole matrix;
//! without either the fast tests run where they can and say loudly where they cannot.

mod live;
pub(crate) mod writer;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use pgorch::lab::{self, LabKey};
use serde_json::Value;

pub(crate) use live::Live;

/// Whether lab tests can run here; where they must and cannot, the test fails.
pub(crate) fn available() -> bool {
    let wanted = std::env::var("PGORCH_LAB").unwrap_or_default();
    let root = rustix::process::geteuid().is_root() && cfg!(target_os = "linux");
    if root {
        return true;
    }
    assert!(
        wanted != "required" && wanted != "full",
        "PGORCH_LAB={wanted}, but the lab needs Linux and root"
    );
    eprintln!("SKIPPED, NOT TESTED: the lab needs Linux and root");
    false
}

/// A directory with an inventory, its lab, and a state directory of its own. `PGORCH_LAB_KEEP=1` leaves
/// it there and tells where; `PGORCH_LAB_AGAIN=DIRECTORY` uses one that was left.
pub(crate) struct Cluster {
    dir: PathBuf,
    /// Removes it at the end.
    own: Option<tempfile::TempDir>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.own.is_none() || std::env::var_os("PGORCH_LAB_KEEP").is_some() {
            eprintln!("kept: {}", self.dir.display());
            self.own.as_mut().into_iter().for_each(|own| own.disable_cleanup(true));
            return;
        }
        if let Ok(key) = LabKey::of_inventory(&self.inventory()) {
            let _ = lab::down(&key);
        }
    }
}

/// What a run of the program left.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// The run ended with this exit code; else everything it said is shown.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        let (out, err) = (&self.stdout, &self.stderr);
        assert_eq!(self.code, code, "\n--- stdout\n{out}\n--- stderr\n{err}");
        self
    }

    /// Standard output as one JSON document.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("{e}:\n{}\n{}", self.stdout, self.stderr))
    }

    /// Standard output as JSON lines.
    #[track_caller]
    pub(crate) fn events(&self) -> Vec<Value> {
        let line = |l: &str| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"));
        self.stdout.lines().map(line).collect()
    }

    /// The `(host, task)` of each finished task with this status, of `-o json`.
    pub(crate) fn tasks(&self, status: &str) -> Vec<(String, String)> {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        self.events()
            .iter()
            .filter(|e| e["event"] == "task_done" && e["status"] == status)
            .map(|e| (text(&e["host"]), text(&e["task"])))
            .collect()
    }
}

impl Cluster {
    /// A cluster whose inventory is this text; nothing is made yet.
    pub(crate) fn new(inventory: &str) -> Self {
        let (dir, own) = match std::env::var_os("PGORCH_LAB_AGAIN") {
            Some(left) => (PathBuf::from(left), None),
            None => {
                let new = tempfile::Builder::new().prefix("pgorch-test-").tempdir();
                let new = new.expect("a directory");
                (new.path().to_owned(), Some(new))
            }
        };
        let cluster = Cluster { dir, own };
        cluster.write_inventory(inventory);
        cluster
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn inventory(&self) -> PathBuf {
        self.dir().join("inventory.yml")
    }

    pub(crate) fn write_inventory(&self, text: &str) {
        self.write("inventory.yml", text);
    }

    /// Writes a file beside the inventory.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir().join(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    /// The program with these arguments, on this inventory, with a state directory of its own.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgorch"));
        command
            .args(args)
            .env("PGORCH_INVENTORY", self.inventory())
            .env("XDG_STATE_HOME", self.dir().join("state"))
            .current_dir(self.dir())
            .stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::of(&self.command(args).output().expect("the program runs"))
    }

    /// Runs the program to its end with these environment variables.
    pub(crate) fn run_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Ran {
        let mut command = self.command(args);
        Ran::of(&command.envs(variables.iter().copied()).output().expect("the program runs"))
    }

    /// `apply -y -o json`.
    pub(crate) fn apply(&self, more: &[&str]) -> Ran {
        self.run(&[&["apply", "-y", "-o", "json"], more].concat())
    }

    pub(crate) fn key(&self) -> LabKey {
        LabKey::of_inventory(&self.inventory()).expect("an inventory")
    }

    /// A shell line on a host as root, past pgorch; standard output.
    #[track_caller]
    pub(crate) fn sh(&self, host: &str, line: &str) -> String {
        let argv = lab::ssh_argv(&self.key(), host, &[line.to_owned()]).expect("a host");
        let output = Command::new(&argv[0]).args(&argv[1..]).stdin(Stdio::null()).output();
        let output = output.expect("ssh runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{host}: {line}: {error}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// A query on a node as postgres.
    #[track_caller]
    pub(crate) fn sql(&self, host: &str, query: &str) -> String {
        self.sh(
            host,
            &format!("cd / && runuser -u postgres -- psql -XAtc {}", pgorch::model::quote(query)),
        )
    }

    /// `pgorch lab fault` words.
    #[track_caller]
    pub(crate) fn fault(&self, words: &str) {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let fault = lab::parse_fault(&words).expect("a fault");
        lab::fault(&self.key(), &fault).unwrap_or_else(|e| panic!("{words:?}: {e}"));
    }
}

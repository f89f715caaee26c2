//! Two servers of this machine.
//!
//! Needs root, PostgreSQL 15 in Debian's place and /run/postgresql; says so and passes where they
//! are missing. systemd is left out: the test starts the servers itself.

use std::path::{Path, PathBuf};

use pgorch::model::{HostName, Script, quote};
use pgorch::step::Verdict;
use serde_json::{Value, json};

use super::harness::{World, query, run, satisfied, sh};

pub(crate) const BIN: &str = "/usr/lib/postgresql/15/bin";

pub(crate) struct Servers {
    pub(crate) world: World,
    dir: PathBuf,
}

impl Drop for Servers {
    fn drop(&mut self) {
        for name in ["node1", "node2"] {
            self.pg_ctl(name, "stop -m immediate");
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Servers {
    pub(crate) fn new(ports: [u16; 2]) -> Option<Self> {
        let root = rustix::process::geteuid().is_root();
        if !(root && Path::new(BIN).exists() && Path::new("/run/postgresql").exists()) {
            eprintln!(
                "SKIPPED: the PostgreSQL steps for real need root and PostgreSQL 15 (Debian)"
            );
            return None;
        }
        let dir =
            tempfile::Builder::new().prefix("pgorch-pg").tempdir().expect("a directory").keep();
        std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("mode");
        let data = dir.join("DATA/data");
        let text = format!(
            "cluster: realtest\n\
             postgres:\n  version: 15\n  parameters: {{ shared_buffers: 16MB, fsync: \"off\", log_statement: all, log_min_duration_statement: 0 }}\n  \
             roles:\n    - {{ name: app, password: '{ROLE_PASSWORD}' }}\n  \
             databases:\n    - {{ name: \"we=ird\", owner: app }}\n  \
             extensions:\n    - {{ name: pg_trgm, database: \"we=ird\" }}\n\
             nodes:\n  node1: {{ host: 127.0.0.1, primary: true, postgres: {{ port: {}, data_dir: {} }} }}\n  \
             node2: {{ host: 127.0.0.2, postgres: {{ port: {}, data_dir: {} }} }}\n",
            ports[0],
            data.display().to_string().replace("DATA", "one"),
            ports[1],
            data.display().to_string().replace("DATA", "two"),
        );
        let mut world = World::new(&text);
        for (name, node) in &mut world.nodes {
            node.home = dir.join("home").join(&name.0).display().to_string();
        }
        world.roles.insert("app".into(), pgorch::model::Secret::new(ROLE_PASSWORD));
        Some(Servers { world, dir })
    }

    pub(crate) fn node(&self, name: &str) -> pgorch::inventory::NodeSettings {
        self.world.nodes[&HostName::from(name)].clone()
    }

    pub(crate) fn pg_ctl(&self, name: &str, verb: &str) -> i32 {
        let data = self.node(name).data_dir;
        let log = self.log_path(name);
        let script = format!(
            "cd / && {BIN}/pg_ctl -s -w -t 60 -D {} -l {} {verb} </dev/null",
            quote(&data),
            quote(&log)
        );
        sh(&Script::raw(script), Some("postgres")).rc
    }

    /// Beside the data directory: its parent belongs to the server's user.
    pub(crate) fn log_path(&self, name: &str) -> String {
        self.node(name).data_dir.replace("/data", "/log")
    }

    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.log_path(name)).expect("a log")
    }

    pub(crate) fn sql(&self, name: &str, sql: &str) -> String {
        let answer = query(self.node(name).port, "postgres", sql);
        assert_eq!(answer.rc, 0, "{}", answer.stderr);
        answer.stdout.trim().to_owned()
    }

    pub(crate) fn converge(&mut self, host: &str, kind: &str) -> pgorch::step::Change {
        self.world.converge(host, kind, Value::Null)
    }

    pub(crate) fn primary(&mut self) {
        for kind in ["initdb", "passfile", "parameters", "hba", "ident"] {
            self.converge("node1", kind);
        }
        satisfied(self.world.look("node1", "follow", Value::Null));
        assert_eq!(self.pg_ctl("node1", "start"), 0, "{}", self.log("node1"));
        for kind in ["role", "database", "extension"] {
            self.converge("node1", kind);
        }
    }

    pub(crate) fn standby(&mut self) {
        self.converge("node2", "passfile");
        self.world.converge("node1", "slot", json!({ "name": "node2" }));
        self.converge("node2", "basebackup");
        self.standby_with_data();
    }

    /// From a copied data directory to a streaming standby.
    pub(crate) fn standby_with_data(&mut self) {
        // The files came with the copy, and are right for this node too; the port is its own.
        self.converge("node2", "parameters");
        for kind in ["hba", "ident"] {
            satisfied(self.world.look("node2", kind, Value::Null));
        }
        self.converge("node2", "follow");
        assert_eq!(self.pg_ctl("node2", "start"), 0, "{}", self.log("node2"));
        if let Ok(Verdict::Wait(wait)) = self.world.look("node2", "wait_streaming", Value::Null) {
            run(&wait).expect("streams");
        }
        satisfied(self.world.look("node2", "wait_streaming", Value::Null));
    }
}

pub(crate) const ROLE_PASSWORD: &str = "s3cret-of-app";

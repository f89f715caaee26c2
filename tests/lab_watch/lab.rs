//! A cluster under watch, and what is asked of it.

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde_json::Value;

use crate::lab::writer::{FOR_WRITER, Ledger, Writer};
use crate::lab::{Cluster, Live};

pub(super) const NODES: [&str; 3] = ["node1", "node2", "node3"];

pub(super) type Part = fn(&Lab);

pub(super) fn inventory(more: &str, nodes: &str) -> String {
    format!(
        "cluster: wa\npostgres:\n  version: 15\n{}{more}lab: {{ image: bookworm }}\n\
         nodes: {{ {nodes} }}\n",
        FOR_WRITER.trim_start_matches('\n')
    )
}

pub(super) struct Lab {
    pub(super) cluster: Cluster,
    /// Standbys that stream when all is well.
    standbys: usize,
    /// Numbers of rows are used once, also in a lab that is used again.
    next: AtomicI64,
}

impl Lab {
    pub(super) fn new(more: &str) -> Self {
        Lab::of(&inventory(more, "node1: { primary: true }, node2: {}, node3: {}"), 2)
    }

    pub(super) fn of(inventory: &str, standbys: usize) -> Self {
        let cluster = Cluster::new(inventory);
        cluster.apply(&[]).exits(0);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
        let next = AtomicI64::new(i64::try_from(since.as_secs()).expect("small") * 1_000_000);
        let lab = Lab { cluster, standbys, next };
        lab.home();
        lab
    }

    /// All parts, or the one that PGORCH_PART names.
    pub(super) fn parts(&self, parts: &[(&str, Part)]) {
        let only = std::env::var("PGORCH_PART").ok();
        for (name, part) in parts {
            if only.as_ref().is_some_and(|only| only != name) {
                continue;
            }
            let start = Instant::now();
            part(self);
            let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
            let load = load.split(' ').next().unwrap_or_default().to_owned();
            eprintln!("{name}: {:.1} s, load {load}", start.elapsed().as_secs_f64());
        }
    }

    /// A client that writes to whichever of these nodes takes writes.
    pub(super) fn writer(&self, nodes: &[&str]) -> Writer {
        Writer::start(&self.cluster, nodes, self.next.fetch_add(1_000_000, Ordering::Relaxed))
    }

    /// A watch that has seen that all is well.
    #[track_caller]
    pub(super) fn watch(&self, more: &[&str]) -> Watching {
        let mut watching = self.watch_anything(more);
        watching.healthy();
        watching
    }

    pub(super) fn watch_anything(&self, more: &[&str]) -> Watching {
        let command = self.cluster.command(&[&["watch", "-o", "json"], more].concat());
        Watching { live: Live::start(command) }
    }

    /// A watch from another machine, as far as its state says.
    pub(super) fn watch_from_elsewhere(&self, more: &[&str]) -> Watching {
        let mut command = self.cluster.command(&[&["watch", "-o", "json"], more].concat());
        command.env("XDG_STATE_HOME", self.cluster.dir().join("elsewhere"));
        Watching { live: Live::start(command) }
    }

    pub(super) fn status(&self) -> Value {
        self.cluster.run(&["status", "-o", "json"]).json()
    }

    /// Empty where there is none.
    pub(super) fn primary(&self) -> String {
        self.status()["primary"].as_str().unwrap_or_default().to_owned()
    }

    /// One primary, and everybody else streams from it, within so many seconds.
    #[track_caller]
    pub(super) fn whole_within(&self, seconds: u64) -> String {
        let end = Instant::now() + Duration::from_secs(seconds);
        loop {
            let status = self.status();
            let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
            let streaming = nodes.iter().filter(|n| n["state"] == "streaming").count();
            if let (Some(primary), true) = (status["primary"].as_str(), streaming == self.standbys)
            {
                return primary.to_owned();
            }
            if Instant::now() >= end {
                let journal = self.cluster.dir().join("state/pgorch/wa/journal.jsonl");
                let text = std::fs::read_to_string(journal).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let last = lines[lines.len().saturating_sub(150)..].join("\n");
                panic!("{last}\n{status:#}");
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// Waits until so many standbys stream from this primary, and says how long that took.
    #[track_caller]
    pub(super) fn until_streaming(&self, primary: &str, count: usize) -> Duration {
        let query = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
        let start = Instant::now();
        while self.cluster.sql(primary, query) != count.to_string() {
            assert!(start.elapsed() < Duration::from_secs(120), "{}", self.status());
            std::thread::sleep(Duration::from_millis(50));
        }
        start.elapsed()
    }

    /// Waits until sshd of a host answers.
    #[track_caller]
    pub(super) fn until_ssh(&self, host: &str) {
        let lab = pgorch::lab::status(&self.cluster.key()).expect("a lab");
        let address = lab.hosts.iter().find(|h| h.name == host).expect("a host").address;
        let end = Instant::now() + Duration::from_secs(60);
        let answers = || {
            let address = SocketAddr::from((address, 22));
            let limit = Duration::from_millis(300);
            let Ok(mut stream) = TcpStream::connect_timeout(&address, limit) else { return false };
            let mut banner = [0; 4];
            stream.set_read_timeout(Some(limit)).is_ok()
                && stream.read_exact(&mut banner).is_ok()
                && banner == *b"SSH-"
        };
        while !answers() {
            assert!(Instant::now() < end, "{host} does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Switches a host on, and says how long after the first word of its sshd it streams from `primary`
    /// as one of `count`.
    #[track_caller]
    pub(super) fn comes_back(&self, host: &str, primary: &str, count: usize) -> Duration {
        let fault = format!("start {host}");
        std::thread::scope(|scope| {
            scope.spawn(|| self.cluster.fault(&fault));
            self.until_ssh(host);
            self.until_streaming(primary, count)
        })
    }

    /// Tells what a ledger says: asynchronous replication may lose the very last rows.
    #[track_caller]
    pub(super) fn told(&self, name: &str, ledger: &Ledger) {
        assert!(self.lost(name, ledger) <= 3, "{name}");
    }

    /// How many rows that were acknowledged are not on the primary.
    #[track_caller]
    pub(super) fn lost(&self, name: &str, ledger: &Ledger) -> usize {
        let primary = self.primary();
        let lost = ledger.lost_on(&self.cluster, &primary);
        eprintln!(
            "  {name}: {} rows, {} lost, longest wait {:.2} s",
            ledger.len(),
            lost.len(),
            ledger.outage().as_secs_f64()
        );
        assert!(ledger.len() > 100, "{}", ledger.len());
        lost.len()
    }

    /// Back to node1 for the next part.
    #[track_caller]
    pub(super) fn home(&self) {
        if self.whole_within(300) != "node1" {
            self.cluster.run(&["switchover", "--to", "node1", "-y"]).exits(0);
            self.whole_within(300);
        }
        self.cluster.run(&["ack"]).exits(0);
        // What the last operation gave it is over soon, so that the next part waits for the watch's own.
        let shorten = "[ ! -e G ] || /bin/sh G shorten 4 || :";
        let guard = "/usr/local/lib/pgorch/pgorch-wa.guard";
        self.cluster.sh("node1", &shorten.replace('G', guard));
    }
}

/// A watch under way.
pub(super) struct Watching {
    pub(super) live: Live,
}

impl Watching {
    #[track_caller]
    pub(super) fn found(&mut self, finding: &str) {
        self.live.until(|e| e["event"] == "decided" && e["data"]["finding"] == finding);
    }

    #[track_caller]
    pub(super) fn healthy(&mut self) {
        self.found("primary_healthy");
    }

    #[track_caller]
    pub(super) fn decided(&mut self, decision: &str) {
        self.live.until(|e| {
            let said = e["data"]["decision"].as_str().unwrap_or_default();
            e["event"] == "decided" && said.starts_with(decision)
        });
    }

    /// Waits until a step of an operation is sent.
    #[track_caller]
    pub(super) fn at(&mut self, task: &str) {
        self.live.until(|e| e["event"] == "task_started" && e["task"] == task);
    }

    #[track_caller]
    pub(super) fn done(&mut self) {
        self.live.until(|e| e["event"] == "operation" && e["data"]["end"] == "done");
    }

    pub(super) fn operations(&mut self) -> usize {
        self.live.said().iter().filter(|e| e["event"] == "operation").count()
    }

    #[track_caller]
    pub(super) fn end(self) -> Vec<Value> {
        self.live.signal(Signal::INT);
        self.live.end().exits(0).events()
    }

    /// It ends, and has changed no roles.
    #[track_caller]
    pub(super) fn ends_idle(self) {
        let events = self.end();
        assert!(!events.iter().any(|e| e["event"] == "operation"), "{events:#?}");
    }
}

pub(super) fn seconds(count: u64) {
    std::thread::sleep(Duration::from_secs(count));
}

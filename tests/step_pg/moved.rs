//! What apply meets after a failover or a crash: the observed topology wins, nothing half-made stays.

use std::path::Path;
use std::time::{Duration, Instant};

use pgorch::model::{HostName, Script};
use pgorch::step::Verdict;
use serde_json::{Value, json};

use super::harness::{PASSWORD, change, refused, run, satisfied, sh};
use super::servers::{ROLE_PASSWORD, Servers};

#[test]
fn after_a_failover_the_observed_primary_stays() {
    let Some(mut servers) = Servers::new([56435, 56436]) else { return };
    let watch = Watch::start();
    servers.primary();
    a_killed_copy_leaves_nothing_in_the_way(&mut servers);
    servers.standby_with_data();
    // A clean switchover by hand: node1 stops, all its WAL is on node2, node2 is promoted.
    servers.pg_ctl("node1", "stop -m fast");
    assert_eq!(servers.pg_ctl("node2", "promote"), 0);
    servers.sql("node2", "CHECKPOINT");
    servers.world.primary = Some(HostName::from("node2"));
    a_former_primary_follows_where_its_history_is_an_ancestor(&mut servers);
    a_former_primary_with_writes_of_its_own_is_refused(&mut servers);
    assert_eq!(watch.seen(), Vec::<String>::new(), "a secret in a command line");
}

fn a_killed_copy_leaves_nothing_in_the_way(servers: &mut Servers) {
    servers.converge("node2", "passfile");
    servers.world.converge("node1", "slot", json!("node2"));
    let data = servers.node("node2").data_dir;
    // Slow enough to be killed half way, as when a host goes down.
    let slow = change(servers.world.look("node2", "basebackup", json!({ "max_rate": "1M" })));
    let script = slow.commands[0].script.clone();
    let runner = std::thread::spawn(move || sh(&script, None));
    wait_for(|| Path::new(&format!("{data}.pgorch-new/base")).exists());
    // While it runs a second one waits, and does the work when the first is dead.
    let again = change(servers.world.look("node2", "basebackup", Value::Null));
    let second = std::thread::spawn(move || run(&again));
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(!second.is_finished(), "it waits for the first");
    let kill =
        format!("for p in $(pgrep -f '[p]g_basebackup.*{data}.pgorch-new'); do kill -9 $p; done");
    sh(&Script::raw(kill), None);
    assert_ne!(runner.join().expect("ended").rc, 0);
    let said = second.join().expect("ended").expect("copied");
    assert!(said.contains("is at work on"), "{said}");
    let progress: Vec<&str> = said.lines().filter(|l| l.starts_with("pgorch-progress ")).collect();
    let last: Vec<u64> = progress
        .last()
        .expect("progress")
        .split(' ')
        .skip(1)
        .map(|n| n.parse().expect("bytes"))
        .collect();
    assert!(last[0] > 10_000_000 && last[0] == last[1], "{progress:?}");
    assert!(!Path::new(&format!("{data}.pgorch-new")).exists());
    satisfied(servers.world.look("node2", "basebackup", Value::Null));
}

fn a_former_primary_follows_where_its_history_is_an_ancestor(servers: &mut Servers) {
    satisfied(servers.world.look("node1", "initdb", Value::Null));
    servers.world.converge("node2", "slot", json!("node1"));
    servers.converge("node2", "follow");
    let change = servers.converge("node1", "follow");
    assert_eq!(change.impact.role_change.as_deref(), Some("node1 becomes a standby"));
    assert!(Path::new(&format!("{}/standby.signal", servers.node("node1").data_dir)).exists());
    assert_eq!(servers.pg_ctl("node1", "start"), 0, "{}", servers.log("node1"));
    if let Ok(Verdict::Wait(wait)) = servers.world.look("node1", "wait_streaming", Value::Null) {
        run(&wait).expect("streams");
    }
    satisfied(servers.world.look("node1", "wait_streaming", Value::Null));
    for kind in ["parameters", "hba", "ident", "follow", "basebackup", "passfile", "restart"] {
        satisfied(servers.world.look("node1", kind, Value::Null));
        if kind != "basebackup" {
            satisfied(servers.world.look("node2", kind, Value::Null));
        }
    }
    satisfied(servers.world.look("node2", "role", Value::Null));
}

fn a_former_primary_with_writes_of_its_own_is_refused(servers: &mut Servers) {
    // node1 is promoted behind everybody's back and writes.
    assert_eq!(servers.pg_ctl("node1", "promote"), 0);
    assert!(
        refused(servers.world.look("node1", "follow", Value::Null)).contains("and so is node2")
    );
    servers.sql("node1", "CREATE TABLE lost()");
    servers.pg_ctl("node1", "stop -m fast");
    let message = refused(servers.world.look("node1", "follow", Value::Null));
    assert!(message.contains("was a primary when it stopped"), "{message}");
}

fn wait_for(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Reads all command lines of this machine, again and again, for the passwords.
struct Watch {
    stop: std::sync::mpsc::Sender<()>,
    thread: std::thread::JoinHandle<Vec<String>>,
}

impl Watch {
    fn start() -> Self {
        let (stop, stopped) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut seen = Vec::new();
            while stopped.try_recv().is_err() {
                for entry in std::fs::read_dir("/proc").expect("proc").flatten() {
                    let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                    let line = String::from_utf8_lossy(&line).replace('\0', " ");
                    if line.contains(PASSWORD)
                        || line.contains(ROLE_PASSWORD)
                        || line.contains("SCRAM-SHA-256$")
                    {
                        seen.push(line);
                    }
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            seen
        });
        Watch { stop, thread }
    }

    fn seen(self) -> Vec<String> {
        let _ = self.stop.send(());
        self.thread.join().expect("watched")
    }
}

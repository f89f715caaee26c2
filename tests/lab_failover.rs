//! Failover by hand on real hosts, under a writer with a ledger.

use std::time::Duration;

use crate::lab::writer::{FOR_WRITER, Writer};
use crate::lab::{Cluster, Live, Ran, available};

fn inventory(version: u32) -> String {
    let image = if version == 15 { "bookworm" } else { "trixie" };
    format!(
        "cluster: fo\npostgres:\n  version: {version}\n{}lab: {{ image: {image} }}\n\
         nodes: {{ node1: {{ primary: true }}, node2: {{}}, node3: {{}} }}\n",
        FOR_WRITER.trim_start_matches('\n')
    )
}

struct Lab {
    cluster: Cluster,
    version: u32,
}

impl Lab {
    fn new(version: u32) -> Self {
        let cluster = Cluster::new(&inventory(version));
        cluster.apply(&[]).exits(0);
        Lab { cluster, version }
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.cluster.run(args)
    }

    fn status(&self) -> serde_json::Value {
        self.run(&["status", "-o", "json"]).exits(0).json()
    }

    /// Who is the primary, and the states of all in their order.
    fn shape(&self) -> (String, Vec<String>) {
        let status = self.status();
        let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_owned();
        let states = status["nodes"].as_array().expect("nodes").iter();
        (text(&status["primary"]), states.map(|n| text(&n["state"])).collect())
    }

    fn wait_for(&self, wanted: (&str, [&str; 3])) {
        let mut seen = self.shape();
        for _ in 0..60 {
            if seen.0 == wanted.0 && seen.1 == wanted.1 {
                return;
            }
            std::thread::sleep(Duration::from_millis(500));
            seen = self.shape();
        }
        panic!("{seen:?}, not {wanted:?}");
    }

    /// The old primary comes back as a standby.
    fn rejoin(&self, node: &str) {
        self.run(&["rejoin", node, "-y"]).exits(0);
        let (_, states) = self.shape();
        assert_eq!(states.iter().filter(|s| *s == "streaming").count(), 2, "{states:?}");
    }
}

#[test]
fn a_primary_that_is_gone_is_replaced() {
    if available() {
        story(15);
    }
}

#[test]
fn one_of_the_newest_debian_is_replaced_too() {
    if std::env::var("PGORCH_LAB").is_ok_and(|v| v == "full") && available() {
        story(17);
    }
}

fn story(version: u32) {
    let lab = Lab::new(version);
    type Part = fn(&Lab);
    let parts: [(&str, Part); 7] = [
        ("healthy", a_healthy_primary_is_left_alone),
        ("killed", killed),
        ("frozen", frozen),
        ("powered off", powered_off),
        ("switched off", switched_off),
        ("candidate lost", a_candidate_that_is_lost_for_good),
        ("refused", apply_and_an_open_operation),
    ];
    for (name, part) in parts {
        let start = std::time::Instant::now();
        part(&lab);
        eprintln!("{name}: {:.1} s", start.elapsed().as_secs_f64());
    }
}

fn a_healthy_primary_is_left_alone(lab: &Lab) {
    let ran = lab.run(&["failover", "-y"]).exits(5);
    assert!(ran.stderr.contains("failover_primary_healthy"), "{}", ran.stderr);
    assert_eq!(lab.shape().0, "node1");
    lab.run(&["promote", "nobody", "-y"]).exits(2);
}

/// kill -9 of the whole server; the plan is shown first and changes nothing.
fn killed(lab: &Lab) {
    let writer = Writer::start(&lab.cluster, &["node1", "node2", "node3"], 0);
    std::thread::sleep(Duration::from_secs(1));
    lab.cluster.sh("node1", "systemctl kill -s KILL --kill-who=all pgorch-fo");
    let planned = lab.run(&["failover", "--dry-run"]).exits(0);
    assert!(planned.stdout.contains("Fence the old primary"), "{}", planned.stdout);
    assert_eq!(lab.shape().0, "");
    // Nobody says yes.
    lab.run(&["failover"]).exits(5);
    let ran = lab.run(&["failover", "-y", "-o", "json"]).exits(0);
    let end = ran.events().into_iter().find(|e| e["event"] == "operation").expect("an end");
    assert_eq!(end["data"]["end"], "done");
    std::thread::sleep(Duration::from_secs(1));
    let ledger = writer.end();
    let (primary, states) = lab.shape();
    assert_eq!(states.iter().filter(|s| *s == "fenced").count(), 1, "{states:?}");
    // Everything that was sent is there: the candidate had the most WAL. What was acknowledged in the
    // very last moment may be lost in async mode; its count is what the plan said.
    let lost = ledger.lost_on(&lab.cluster, &primary);
    eprintln!(
        "killed: {} rows, {} lost, longest wait {:.2} s",
        ledger.len(),
        lost.len(),
        ledger.outage().as_secs_f64()
    );
    assert!(lost.len() <= 3, "{lost:?}");
    assert!(ledger.len() > 100, "{}", ledger.len());
    // A reboot, a start by hand: the marker keeps it down.
    let start = lab.cluster.sh("node1", "systemctl start pgorch-fo 2>&1 || echo refused");
    assert!(start.contains("refused"), "{start}");
    lab.rejoin("node1");
    lab.run(&["switchover", "--to", "node1", "-y"]).exits(0);
    lab.wait_for(("node1", ["running", "streaming", "streaming"]));
}

/// All processes stand still: they are killed without being asked, and confirm nothing on the way.
fn frozen(lab: &Lab) {
    let writer = Writer::start(&lab.cluster, &["node1", "node2", "node3"], 1_000_000);
    std::thread::sleep(Duration::from_secs(1));
    lab.cluster.sh("node1", "systemctl kill -s STOP --kill-who=all pgorch-fo");
    let pinned = Writer::start(&lab.cluster, &["node1"], 2_000_000);
    lab.run(&["failover", "-y", "--to", "node3"]).exits(0);
    assert_eq!(lab.shape().0, "node3");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(pinned.end().len(), 0, "the old primary confirmed a write after its freeze");
    let ledger = writer.end();
    let lost = ledger.lost_on(&lab.cluster, "node3");
    eprintln!("frozen: {} rows, {} lost", ledger.len(), lost.len());
    assert!(lost.len() <= 3, "{lost:?}");
    lab.rejoin("node1");
    lab.run(&["switchover", "--to", "node1", "-y"]).exits(0);
    lab.wait_for(("node1", ["running", "streaming", "streaming"]));
}

/// A host without power cannot be fenced: only with the risk accepted, and when it comes back it does
/// not come up writable.
fn powered_off(lab: &Lab) {
    lab.cluster.fault("power-off node1");
    std::thread::sleep(Duration::from_secs(6));
    let ran = lab.run(&["failover", "-y", "--timeout", "3"]).exits(4);
    assert!(ran.stderr.contains("failover_unproved"), "{}", ran.stderr);
    assert!(ran.stderr.contains("--accept-split-brain-risk"), "{}", ran.stderr);
    let ran = lab.run(&["failover", "-y", "--timeout", "3", "--accept-split-brain-risk"]).exits(0);
    assert!(ran.stderr.contains("receives nothing any more"), "{}", ran.stderr);
    let status = lab.status();
    let primary = status["primary"].as_str().expect("a primary").to_owned();
    assert_ne!(primary, "node1");
    lab.cluster.fault("start node1");
    std::thread::sleep(Duration::from_secs(5));
    let status = lab.status();
    assert_eq!(status["primary"], primary.as_str(), "{status}");
    assert_ne!(status["health"], "split", "{status}");
    lab.rejoin("node1");
    lab.run(&["switchover", "--to", "node1", "-y"]).exits(0);
    lab.wait_for(("node1", ["running", "streaming", "streaming"]));
}

/// A host that this machine is cut off from is switched off by the inventory's command, and only if
/// that says so by its exit status.
fn switched_off(lab: &Lab) {
    let with = |command: &str| {
        let stonith = format!("failover: {{ stonith: {{ command: {command} }} }}\nlab: ");
        lab.cluster.write_inventory(&inventory(lab.version).replace("lab: ", &stonith));
    };
    lab.cluster.fault("cut controller node1");
    lab.cluster.fault("cut node1 node2");
    lab.cluster.fault("cut node1 node3");
    std::thread::sleep(Duration::from_secs(6));
    with("'false'");
    let ran = lab.run(&["failover", "-y", "--timeout", "3"]).exits(1);
    assert!(ran.stderr.contains("undone"), "{}", ran.stderr);
    assert_eq!(lab.cluster.sql("node2", "SELECT pg_is_in_recovery()"), "t");
    let exe = env!("CARGO_BIN_EXE_pgorch");
    with(&format!("'{exe} lab fault power-off node1'"));
    lab.run(&["failover", "-y", "--timeout", "3"]).exits(0);
    let status = lab.status();
    assert_ne!(status["primary"], "node1", "{status}");
    lab.cluster.fault("heal controller node1");
    lab.cluster.fault("heal node1 node2");
    lab.cluster.fault("heal node1 node3");
    lab.cluster.fault("start node1");
    std::thread::sleep(Duration::from_secs(5));
    assert_ne!(lab.status()["health"], "split");
    lab.rejoin("node1");
    lab.run(&["switchover", "--to", "node1", "-y"]).exits(0);
    lab.wait_for(("node1", ["running", "streaming", "streaming"]));
    lab.cluster.write_inventory(&inventory(lab.version));
}

/// A switchover is killed when its old primary is down, and its candidate never comes back: whether that was
/// promoted nobody can say. What everybody refuses until then a failover does with the risk accepted.
fn a_candidate_that_is_lost_for_good(lab: &Lab) {
    let shipped = pgorch::playbook::shipped("playbooks/switchover.yml").expect("shipped");
    let wait = "- name: Here it ends\n  hosts: candidate\n  tasks:\n    - name: Wait\n      \
                command: sleep 60\n\n- name: Everything has arrived";
    let own = shipped.replace("- name: Everything has arrived", wait);
    assert_ne!(own, shipped);
    let own = lab.cluster.write("own.yml", &own).display().to_string();
    let args = ["switchover", "--to", "node2", "--playbook", &own, "-y", "-o", "json"];
    let mut run = Live::start(lab.cluster.command(&args));
    run.until(|e| e["event"] == "task_started" && e["task"] == "Wait");
    run.kill();
    lab.cluster.fault("power-off node2");
    std::thread::sleep(Duration::from_secs(6));
    const WAY_OUT: &str = "failover --accept-split-brain-risk";
    for (args, code) in [
        (["resume", "--timeout", "3"].as_slice(), None),
        (&["start", "node1", "-y", "--timeout", "3"], Some(5)),
        (&["failover", "-y", "--timeout", "3"], Some(5)),
    ] {
        let ran = lab.run(args);
        assert!(ran.code != 0 && code.is_none_or(|c| c == ran.code), "{args:?}: {}", ran.code);
        assert!(ran.stderr.contains(WAY_OUT), "{args:?}: {}", ran.stderr);
        assert_eq!(lab.cluster.sql("node3", "SELECT pg_is_in_recovery()"), "t");
    }
    let ran = lab.run(&["failover", "-y", "--timeout", "3", "--accept-split-brain-risk"]).exits(0);
    assert!(ran.stderr.contains("nobody can say whether node2 was promoted"), "{}", ran.stderr);
    assert!(ran.stderr.contains("node2 cannot be fenced"), "{}", ran.stderr);
    assert_eq!(lab.shape().0, "node3");
    let start = lab.cluster.sh("node1", "systemctl start pgorch-fo 2>&1 || echo refused");
    assert!(start.contains("refused"), "{start}");
    // It is back after all, and its own record of the operation is closed by a resumption.
    lab.cluster.fault("start node2");
    std::thread::sleep(Duration::from_secs(5));
    assert_ne!(lab.status()["health"], "split");
    lab.run(&["resume"]);
    for node in ["node1", "node2"] {
        lab.run(&["rejoin", node, "-y"]).exits(0);
    }
    lab.run(&["switchover", "--to", "node1", "-y"]).exits(0);
    lab.wait_for(("node1", ["running", "streaming", "streaming"]));
}

/// While an operation is open nothing else changes; one that begins meanwhile stops a run.
fn apply_and_an_open_operation(lab: &Lab) {
    let epoch = "/var/lib/pgorch/fo/epoch";
    let kept = lab.cluster.sh("node2", &format!("cat {epoch}"));
    let open = kept.replace("\"done\"", "\"open\"");
    assert_ne!(kept, open, "{kept}");
    lab.cluster.sh("node2", &format!("cat >{epoch} <<'END'\n{open}\nEND"));
    let ran = lab.run(&["apply", "-y"]).exits(5);
    assert!(ran.stderr.contains("operation_open"), "{}", ran.stderr);
    let ran = lab.run(&["switchover", "--to", "node2", "-y"]).exits(5);
    assert!(ran.stderr.contains("switchover_operation_open"), "{}", ran.stderr);
    lab.run(&["resume"]).exits(0);
    lab.run(&["apply", "-y"]).exits(0);
    // A higher epoch appears between the look and the change.
    let play = "- hosts: node2\n  tasks:\n    - { name: wait, command: sleep 3 }\n    \
                - { name: late, command: touch /root/late }\n";
    let play = lab.cluster.write("late.yml", play);
    let mut child = lab
        .cluster
        .command(&["run", &play.to_string_lossy(), "-y"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it runs");
    std::thread::sleep(Duration::from_millis(1_500));
    lab.cluster.sh("node2", &format!("sed -i '1s/.*/999/' {epoch}"));
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(5));
    assert_eq!(lab.cluster.sh("node2", "ls /root/late 2>/dev/null || :"), "");
}

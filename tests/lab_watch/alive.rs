//! The primary's host answers.

use super::lab::{Lab, NODES, seconds};

const FREEZE: &str = "systemctl kill -s STOP --kill-who=all pgorch-wa";

/// It says what it would do, and does nothing.
pub(super) fn dry_run(lab: &Lab) {
    let mut watching = lab.watch(&["--dry-run"]);
    lab.cluster.sh("node1", "systemctl kill -s KILL --kill-who=all pgorch-wa");
    watching.decided("replace node1");
    watching.live.until(|e| {
        e["event"] == "notice" && e["message"].as_str().is_some_and(|m| m.contains("promote"))
    });
    seconds(2);
    assert_eq!(lab.primary(), "");
    lab.cluster.sh("node1", "systemctl start pgorch-wa");
    watching.healthy();
    watching.ends_idle();
    lab.home();
}

/// kill -9 of the postmaster: fenced over SSH, replaced, and brought back.
pub(super) fn killed(lab: &Lab) {
    let writer = lab.writer(&NODES);
    let mut watching = lab.watch(&[]);
    seconds(2);
    lab.cluster.sh("node1", "kill -9 $(head -n 1 /var/lib/pgorch/wa/15/data/postmaster.pid)");
    watching.done();
    let primary = lab.whole_within(300);
    assert_ne!(primary, "node1");
    seconds(1);
    lab.told("killed", &writer.end());
    let events = watching.end();
    let rules: Vec<&str> = events.iter().filter_map(|e| e["data"]["rule"].as_str()).collect();
    assert!(rules.contains(&"replace-a-lost-primary"), "{rules:?}");
    assert!(rules.contains(&"bring-members-back"), "{rules:?}");
    lab.home();
}

/// systemctl stop by hand: the clean stop is let finish, then somebody else takes over.
pub(super) fn stopped(lab: &Lab) {
    let writer = lab.writer(&NODES);
    let mut watching = lab.watch(&[]);
    seconds(2);
    lab.cluster.sh("node1", "systemctl stop pgorch-wa");
    watching.done();
    assert_ne!(lab.whole_within(300), "node1");
    seconds(1);
    assert_eq!(lab.lost("stopped by hand", &writer.end()), 0);
    watching.end();
    lab.home();
}

/// All processes stand still: killed without being asked, and nothing is confirmed on the way.
pub(super) fn frozen(lab: &Lab) {
    let writer = lab.writer(&NODES);
    let mut watching = lab.watch(&[]);
    seconds(2);
    lab.cluster.sh("node1", FREEZE);
    let pinned = lab.writer(&["node1"]);
    watching.done();
    assert_eq!(pinned.end().len(), 0, "the old primary confirmed a write after its freeze");
    assert_ne!(lab.whole_within(300), "node1");
    lab.told("frozen", &writer.end());
    watching.end();
    lab.home();
}

/// While it is told to stand by it does nothing, and goes on afterwards.
pub(super) fn paused(lab: &Lab) {
    let mut watching = lab.watch(&[]);
    let ran = lab.cluster.run(&["pause", "--for", "10m"]).exits(0);
    assert!(ran.stdout.contains("3 of 3"), "{}", ran.stdout);
    watching.live.until(|e| e["data"]["phase"] == "paused");
    lab.cluster.sh("node1", "systemctl stop pgorch-wa");
    seconds(4);
    assert_eq!(lab.primary(), "");
    assert_eq!(watching.operations(), 0);
    lab.cluster.run(&["unpause"]).exits(0);
    watching.done();
    assert_ne!(lab.whole_within(300), "node1");
    watching.end();
    lab.home();
}

/// Nothing proves that a host without power is down: the watch says so and does nothing.
pub(super) fn unreachable(lab: &Lab) {
    let mut watching = lab.watch(&[]);
    lab.cluster.fault("power-off node1");
    watching.decided("alarm: failover_unproved");
    assert_eq!(lab.cluster.sql("node2", "SELECT pg_is_in_recovery()"), "t");
    lab.cluster.fault("start node1");
    watching.healthy();
    watching.ends_idle();
    lab.home();
}

pub(super) fn two_watches(lab: &Lab) {
    let watching = lab.watch(&[]);
    let ran = lab.cluster.run(&["watch"]).exits(5);
    assert!(ran.stderr.contains("watch_already_running"), "{}", ran.stderr);
    // Nor one from elsewhere, unless it is told that this one is gone.
    let ran = lab.watch_from_elsewhere(&[]).live.end().exits(5);
    assert!(ran.stderr.contains("owns this cluster"), "{}", ran.stderr);
    watching.end();
}

//! Hosts without power, without space, and hosts that stand still.

use super::lab::{Lab, NODES, seconds};

/// Renewed round by round; without the watch the standbys' acknowledgements keep it up.
pub(super) fn no_need(lab: &Lab) {
    let watching = lab.watch(&[]);
    seconds(15);
    let read = lab.cluster.sh("node1", "/bin/sh /usr/local/lib/pgorch/pgorch-wa.guard read");
    let lease = read.split("lease=").nth(1).and_then(|r| r.split(' ').next()).expect("a lease");
    assert!(lease.parse::<i64>().expect("a number") > 1_000, "{read}");
    watching.ends_idle();
    seconds(10);
    assert_eq!(lab.primary(), "node1");
}

/// Power off. It comes back not as a primary, and becomes a standby by itself.
pub(super) fn host_lost(lab: &Lab) {
    let writer = lab.writer(&NODES);
    let mut watching = lab.watch(&[]);
    seconds(3);
    lab.cluster.fault("power-off node1");
    watching.done();
    seconds(2);
    let primary = lab.primary();
    assert!(!["", "node1"].contains(&primary.as_str()), "{primary}");
    let back = lab.comes_back("node1", &primary, 2);
    eprintln!("  streams {:.2} s after its SSH answered", back.as_secs_f64());
    lab.told("host lost", &writer.end());
    assert_eq!(lab.whole_within(60), primary);
    watching.end();
    lab.home();
}

/// The watch alone keeps the primary up, and it writes on.
pub(super) fn standbys_gone(lab: &Lab) {
    let writer = lab.writer(&NODES);
    let mut watching = lab.watch(&[]);
    seconds(2);
    lab.cluster.fault("power-off node2");
    lab.cluster.fault("power-off node3");
    seconds(20);
    assert_eq!(watching.operations(), 0);
    lab.cluster.fault("start node2");
    lab.cluster.fault("start node3");
    assert_eq!(lab.whole_within(120), "node1");
    let ledger = writer.end();
    assert_eq!(lab.lost("standbys gone", &ledger), 0);
    assert!(ledger.outage().as_secs_f64() < 1.5, "{:?}", ledger.outage());
    watching.ends_idle();
    lab.home();
}

/// No space for WAL: the server goes down by itself, and cannot even take a fence marker.
pub(super) fn disk_full(lab: &Lab) {
    let writer = lab.writer(&NODES);
    let mut watching = lab.watch(&[]);
    seconds(2);
    lab.cluster.fault("fill-disk node1");
    // WAL that was made beforehand is used up.
    let line = "cd /; for i in 1 2 3 4 5 6 7 8 9 10 11 12; do runuser -u postgres -- psql -XAtqc \
                'SELECT pg_logical_emit_message(false, $$x$$, $$x$$); SELECT pg_switch_wal()' || exit 0; done";
    lab.cluster.sh("node1", line);
    watching.done();
    let primary = lab.primary();
    assert!(!["", "node1"].contains(&primary.as_str()), "{primary}");
    seconds(2);
    lab.cluster.fault("free-disk node1");
    assert_eq!(lab.whole_within(120), primary);
    lab.told("disk full", &writer.end());
    watching.end();
    lab.home();
}

/// Everything was down and nobody watches: nothing comes up writable before somebody says so.
pub(super) fn cold_start(lab: &Lab) {
    let writer = lab.writer(&NODES);
    seconds(2);
    let ledger = writer.end();
    for node in NODES {
        lab.cluster.fault(&format!("power-off {node}"));
    }
    for node in NODES {
        lab.cluster.fault(&format!("start {node}"));
    }
    seconds(3);
    assert_eq!(lab.primary(), "");
    lab.cluster.run(&["start", "--all", "-y"]).exits(0);
    assert_eq!(lab.whole_within(60), "node1");
    assert_eq!(lab.lost("cold start", &ledger), 0);
    lab.watch(&[]).ends_idle();
}

/// The whole host stands still, guard and all, and goes on after the failover with replies of the standbys
/// in its buffers. Asynchronous replication without STONITH: what it may still confirm is measured.
pub(super) fn thawed(lab: &Lab) {
    let writer = lab.writer(&NODES);
    let pinned = lab.writer(&["node1"]);
    let mut watching = lab.watch(&[]);
    seconds(3);
    lab.cluster.fault("freeze node1");
    watching.done();
    seconds(2);
    let thaw = std::time::Instant::now();
    lab.cluster.fault("thaw node1");
    let primary = lab.whole_within(120);
    assert_ne!(primary, "node1");
    lab.told("thawed", &writer.end());
    let pinned = pinned.end();
    let late = pinned.since(thaw);
    eprintln!("  thawed: the old primary confirmed {late} rows after its thaw");
    // What is left of its lease, and a pass of its guard.
    assert!(late < 400, "{late}");
    watching.end();
    lab.home();
}

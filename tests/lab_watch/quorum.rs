//! Quorum replication: no row that was acknowledged is lost, and no lease is waited out.

use super::lab::{Lab, NODES, seconds};

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
    assert_eq!(lab.lost("host lost, quorum", &writer.end()), 0);
    watching.end();
    lab.home();
}

pub(super) fn killed(lab: &Lab) {
    let writer = lab.writer(&NODES);
    let mut watching = lab.watch(&[]);
    seconds(3);
    lab.cluster.sh("node1", "kill -9 $(head -n 1 /var/lib/pgorch/wa/15/data/postmaster.pid)");
    watching.done();
    assert_ne!(lab.whole_within(120), "node1");
    assert_eq!(lab.lost("killed, quorum", &writer.end()), 0);
    watching.end();
    lab.home();
}

/// The whole host stands still with commits under way, and its kernel takes the standbys' replies: what it
/// confirms when it goes on is on the new primary.
pub(super) fn thawed(lab: &Lab) {
    let writer = lab.writer(&NODES);
    let pinned: Vec<_> = (0..4).map(|_| lab.writer(&["node1"])).collect();
    let mut watching = lab.watch(&[]);
    seconds(3);
    lab.cluster.fault("freeze node1");
    watching.done();
    seconds(2);
    let thaw = std::time::Instant::now();
    lab.cluster.fault("thaw node1");
    assert_ne!(lab.whole_within(120), "node1");
    let primary = lab.primary();
    let mut late = 0;
    for pinned in pinned {
        let ledger = pinned.end();
        late += ledger.since(thaw);
        assert_eq!(ledger.lost_on(&lab.cluster, &primary), [] as [i64; 0]);
    }
    eprintln!("  the old primary confirmed {late} rows after its thaw, all of which are kept");
    assert_eq!(lab.lost("thawed, quorum", &writer.end()), 0);
    watching.end();
    lab.home();
}

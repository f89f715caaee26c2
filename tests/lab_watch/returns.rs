//! Hosts that come back in the middle of a failover.

use super::lab::{Lab, NODES, seconds};

/// The old primary is back before the watch has decided, or just as it does.
pub(super) fn early(lab: &Lab) {
    let writer = lab.writer(&NODES);
    let mut watching = lab.watch(&[]);
    seconds(2);
    lab.cluster.fault("power-off node1");
    lab.cluster.fault("start node1");
    watching.done();
    let primary = lab.whole_within(120);
    seconds(1);
    lab.told("comes back early", &writer.end());
    assert_eq!(lab.whole_within(60), primary);
    watching.end();
    lab.home();
}

/// It is back while its lease is waited out: what is begun is finished, and it stays down.
pub(super) fn in_the_wait(lab: &Lab) {
    let writer = lab.writer(&NODES);
    let mut watching = lab.watch(&[]);
    seconds(2);
    lab.cluster.fault("power-off node1");
    watching.at("Receive nothing any more");
    lab.cluster.fault("start node1");
    watching.done();
    let primary = lab.whole_within(120);
    assert_ne!(primary, "node1");
    lab.told("comes back in the wait", &writer.end());
    watching.end();
    lab.home();
}

/// A standby loses its power after it was told to receive nothing; when it is back the old primary reaches
/// it, and it receives nothing all the same.
pub(super) fn standby_rebooted(lab: &Lab) {
    let cuts = ["controller node1", "node1 node2", "node1 node3"];
    let writer = lab.writer(&["node2", "node3"]);
    let mut watching = lab.watch(&[]);
    seconds(2);
    cuts.iter().for_each(|pair| lab.cluster.fault(&format!("cut {pair}")));
    watching.at("Wait out its lease");
    lab.cluster.fault("power-off node3");
    lab.cluster.fault("heal node1 node3");
    lab.cluster.fault("start node3");
    // The other one takes over, or the attempt is undone and made anew: nobody received meanwhile.
    watching.done();
    let primary = lab.primary();
    assert!(["node2", "node3"].contains(&primary.as_str()), "{primary}");
    cuts.iter().for_each(|pair| lab.cluster.fault(&format!("heal {pair}")));
    assert_eq!(lab.whole_within(180), primary);
    let ledger = writer.end();
    assert_eq!(ledger.lost_on(&lab.cluster, &primary), [] as [i64; 0]);
    watching.end();
    lab.home();
}

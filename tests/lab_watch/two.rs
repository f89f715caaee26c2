//! Two nodes and a witness.

use super::lab::{Lab, inventory, seconds};

pub(super) fn story() {
    let more = "failover: { mode: automatic }\nwitnesses: { w: {} }\n";
    let lab = Lab::of(&inventory(more, "node1: { primary: true }, node2: {}"), 1);
    host_lost(&lab);
    standby_restarted(&lab);
}

fn host_lost(lab: &Lab) {
    let writer = lab.writer(&["node1", "node2"]);
    let mut watching = lab.watch(&[]);
    seconds(3);
    lab.cluster.fault("power-off node1");
    watching.done();
    seconds(2);
    assert_eq!(lab.primary(), "node2");
    let back = lab.comes_back("node1", "node2", 1);
    eprintln!("  streams {:.2} s after its SSH answered", back.as_secs_f64());
    lab.told("one of two", &writer.end());
    watching.end();
    lab.home();
}

/// The only standby is away for longer than an acknowledgement lasts: the watch keeps the primary up.
fn standby_restarted(lab: &Lab) {
    let writer = lab.writer(&["node1", "node2"]);
    let watching = lab.watch(&[]);
    seconds(1);
    lab.cluster.fault("power-off node2");
    seconds(5);
    lab.cluster.fault("start node2");
    assert_eq!(lab.whole_within(60), "node1");
    let ledger = writer.end();
    assert_eq!(lab.lost("the other of two", &ledger), 0);
    assert!(ledger.outage().as_secs_f64() < 1.5, "{:?}", ledger.outage());
    watching.ends_idle();
}

//! What becomes of a failover when its watch does not see it through.

use rustix::process::Signal;

use super::lab::{Lab, NODES, seconds};

/// `kill -9` at several steps; the next watch of this machine finishes or undoes what it finds, and goes on.
pub(super) fn killed(lab: &Lab) {
    for step in
        ["Receive nothing any more", "Wait out its lease", "Promote", "Follow the new primary"]
    {
        let writer = lab.writer(&NODES);
        let mut first = lab.watch(&[]);
        seconds(2);
        lab.cluster.fault("power-off node1");
        first.at(step);
        first.live.kill();
        let mut second = lab.watch_anything(&[]);
        second.healthy();
        let primary = lab.primary();
        assert!(!["", "node1"].contains(&primary.as_str()), "{step}: {primary}");
        seconds(2);
        lab.told(&format!("killed at \"{step}\""), &writer.end());
        let back = lab.comes_back("node1", &primary, 2);
        eprintln!("  streams {:.2} s after its SSH answered", back.as_secs_f64());
        assert_eq!(lab.whole_within(60), primary);
        second.end();
        lab.home();
    }
}

/// It stands still for a minute between two steps, and then goes on.
pub(super) fn asleep(lab: &Lab) {
    let writer = lab.writer(&NODES);
    let mut watching = lab.watch(&[]);
    seconds(2);
    lab.cluster.fault("power-off node1");
    watching.at("Promote");
    watching.live.signal(Signal::STOP);
    seconds(60);
    watching.live.signal(Signal::CONT);
    watching.healthy();
    let primary = lab.primary();
    assert!(!["", "node1"].contains(&primary.as_str()), "{primary}");
    lab.comes_back("node1", &primary, 2);
    lab.told("asleep", &writer.end());
    watching.end();
    lab.home();
}

/// The same, and somebody else finishes meanwhile: when it wakes up it may do nothing any more.
pub(super) fn overtaken(lab: &Lab) {
    let writer = lab.writer(&NODES);
    let mut first = lab.watch(&[]);
    seconds(2);
    lab.cluster.fault("power-off node1");
    first.at("Wait out its lease");
    first.live.signal(Signal::STOP);
    lab.cluster.run(&["resume"]).exits(0);
    let mut second = lab.watch_from_elsewhere(&["--take-over"]);
    // It has not seen who the primary was, and replaces nobody whom it has not seen.
    second.found("no_primary_seen");
    lab.cluster.run(&["failover", "-y", "--accept-split-brain-risk"]).exits(0);
    second.healthy();
    let primary = lab.primary();
    seconds(50);
    first.live.signal(Signal::CONT);
    first.found("not_owner");
    seconds(5);
    assert_eq!(lab.primary(), primary);
    lab.comes_back("node1", &primary, 2);
    assert_eq!(lab.whole_within(60), primary);
    lab.told("overtaken", &writer.end());
    first.end();
    second.end();
    // Who watches this cluster from now on is this machine's watch again.
    lab.watch(&["--take-over"]).end();
    lab.home();
}

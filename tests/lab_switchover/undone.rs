//! What goes wrong before the promotion, and is taken back.

use rustix::process::Signal;

use super::{Story, end};

pub(super) fn a_hook_that_fails(story: &Story) {
    let playbook = story.hooked("Take over", "candidate", "\"sh -c 'echo not today >&2; false'\"");
    let ran = story.over(&["--to", "node2", "--playbook", &playbook]).exits(1);
    assert_eq!(end(&ran).0, "undone");
    assert!(ran.stdout.contains("not today"), "{}", ran.stdout);
    undone(story);
}

/// Ctrl-C while the primary is down.
pub(super) fn interrupted_after_the_stop(story: &Story) {
    let playbook = story.hooked("Everything has arrived", "primary", "sleep 2");
    let mut run = story.overing(&["--to", "node2", "--playbook", &playbook]);
    run.until_task("node1", "Hook");
    run.signal(Signal::INT);
    let ran = run.end().exits(130);
    assert_eq!(end(&ran).0, "undone");
    undone(story);
}

/// A power loss of the candidate while the primary is down.
pub(super) fn the_candidate_goes_dark(story: &Story) {
    let playbook = story.hooked("Everything has arrived", "primary", "sleep 2");
    let mut run = story.overing(&["--to", "node2", "--playbook", &playbook]);
    run.until_task("node1", "Hook");
    story.cluster.fault("power-off node2");
    let ran = run.end().exits(1);
    // The old primary is back; what was made on the candidate could not be taken back yet.
    assert_eq!(end(&ran).0, "broken", "{}", ran.stdout);
    story.writer.goes_on();
    story.cluster.fault("start node2");
    // What could not be taken back on the candidate is done now.
    story.cluster.run(&["resume", "-o", "json"]).exits(0);
    undone(story);
}

#[track_caller]
fn undone(story: &Story) {
    assert_eq!(story.whole(), "node1");
    story.nothing_lost("node1");
    assert_eq!(story.cluster.apply(&[]).exits(0).tasks("changed"), []);
}

//! The primary changes, and the controller survives it or not.

use super::{ALL, HOME, Story, end};

pub(super) fn there_and_back(story: &Story) {
    let passfiles =
        || ALL.map(|node| story.cluster.sh(node, &format!("md5sum <{HOME}/passfile"))).join("\n");
    let passwords = passfiles();
    for (to, timeline) in [("node2", "00000002"), ("node1", "00000003")] {
        let before = story.writer.confirmed();
        let ran = story.over(&["--to", to]).exits(0);
        let (word, outage) = end(&ran);
        assert_eq!(word, "done");
        assert_eq!(story.whole(), to);
        assert_eq!(story.timeline(to), timeline);
        story.nothing_lost(to);
        let pause = story.writer.longest_pause(before).as_secs_f64();
        let outage = outage.expect("it was measured");
        eprintln!("  to {to}: {outage:.2} s measured, {pause:.2} s without a confirmed row");
        assert!(pause < 10.0, "{pause} s");

        let untouched = story.untouched();
        let again = story.over(&["--to", to]).exits(0);
        assert!(again.stdout.contains("is the primary already"), "{}", again.stdout);
        assert_eq!(story.untouched(), untouched);
        assert_eq!(story.cluster.apply(&[]).exits(0).tasks("changed"), []);
    }
    assert_eq!(passfiles(), passwords);
}

/// Nothing was promoted: the old primary comes back.
pub(super) fn killed_after_the_stop(story: &Story) {
    let mut run = story.overing(&["--to", "node2"]);
    run.until(|e| e["event"] == "task_done" && e["task"] == "Stop the primary");
    run.kill();
    let fenced = story.cluster.sh("node1", &format!("cat {HOME}/node1.fenced"));
    assert!(fenced.contains("pgorch resume"), "{fenced}");
    // Nobody begins something else meanwhile.
    let refused = story.over(&["--to", "node3"]).exits(5);
    assert!(refused.stdout.contains("switchover_operation_open"), "{}", refused.stdout);
    let ran = story.cluster.run(&["resume", "-o", "json"]).exits(0);
    let (word, _) = end(&ran);
    let primary = story.whole();
    // It may have come further than we saw.
    assert!(word == "undone" && primary == "node1" || primary == "node2", "{word} {primary}");
    story.nothing_lost(&primary);
    back_to_node1(story);
}

/// The promotion was sent, and it takes place or it does not; resume finds out.
pub(super) fn killed_after_the_promotion(story: &Story) {
    let mut run = story.overing(&["--to", "node2"]);
    run.until(|e| e["event"] == "task_started" && e["task"] == "Promote");
    std::thread::sleep(std::time::Duration::from_millis(100));
    run.kill();
    let ran = story.cluster.run(&["resume", "-o", "json"]).exits(0);
    let (word, _) = end(&ran);
    let primary = story.whole();
    let expected = if word == "done" { "node2" } else { "node1" };
    assert_eq!(primary, expected, "{word}");
    eprintln!("  resume says: {word}");
    story.nothing_lost(&primary);
    let nothing = story.cluster.run(&["resume", "-o", "json"]).exits(0);
    assert!(nothing.stdout.contains("nothing to do"), "{}", nothing.stdout);
    back_to_node1(story);
}

fn back_to_node1(story: &Story) {
    story.over(&["--to", "node1"]).exits(0);
    assert_eq!(story.whole(), "node1");
}

//! What is not begun.

use std::collections::BTreeSet;

use super::Story;

pub(super) fn a_dry_run_changes_nothing(story: &Story) {
    let before = story.untouched();
    let ran = story.cluster.run(&["switchover", "--to", "node2", "--dry-run"]).exits(0);
    for stage in ["Stop the primary", "Promote", "Follow the new primary", "impact:"] {
        assert!(ran.stdout.contains(stage), "{}", ran.stdout);
    }
    let ran =
        story.cluster.run(&["switchover", "--to", "node2", "--dry-run", "-o", "json"]).exits(0);
    assert!(ran.stdout.contains("\"stages\""), "{}", ran.stdout);
    // Roles change, and nobody can be asked.
    story.cluster.run(&["switchover", "--to", "node2"]).exits(5);
    story.cluster.run(&["switchover", "--to", "node9"]).exits(2);
    assert_eq!(story.untouched(), before);
    assert_eq!(story.whole(), "node1");
}

/// Replay is paused on the candidate, and a sibling does not get through to it: both are told at once.
pub(super) fn all_refusals_together(story: &Story) {
    story.cluster.sql("node2", "SELECT pg_wal_replay_pause()");
    story.cluster.fault("cut node3 node2");
    let before = story.untouched();
    let ran = story.over(&["--to", "node2"]).exits(5);
    let all = ran.events();
    let refused = all.iter().filter(|e| e["event"] == "refused");
    let codes: BTreeSet<&str> = refused.filter_map(|e| e["data"]["code"].as_str()).collect();
    let expected = ["switchover_replay_paused", "switchover_replication_refused"];
    assert_eq!(codes, BTreeSet::from(expected), "{}", ran.stdout);
    assert_eq!(story.untouched(), before);
    story.cluster.fault("heal node3 node2");
    story.cluster.sql("node2", "SELECT pg_wal_replay_resume()");
    assert_eq!(story.whole(), "node1");
}

//! Nodes with a guard: when it is enabled, and who gets grants.

use pgorch::facts::{InstanceFacts, Pause, Sender};
use pgorch::model::HostName;
use pgorch::step::{InPlace, Verdict};
use serde_json::{Value, json};

use super::cluster::{answer, directory, of, put, server, stopped};
use super::harness::{World, change, satisfied};

fn guarded() -> World {
    let mut world = World::new(
        "cluster: c\nfailover: { mode: automatic }\nnodes:\n  node1: { host: h1, primary: true }\n  \
         node2: { host: h2 }\n  node3: { host: h3 }\n",
    );
    put(&mut world, "node1", with_guard(server(false)));
    put(&mut world, "node2", with_guard(server(true)));
    put(&mut world, "node3", with_guard(server(true)));
    world
}

fn with_guard(instance: InstanceFacts) -> InstanceFacts {
    InstanceFacts { guarded: true, ..instance }
}

/// A watch has made itself the owner, as node3 knows.
fn watched(world: &mut World) {
    let owner = Some("watch 1 of a@b".to_owned());
    put(world, "node3", InstanceFacts { owner, ..with_guard(server(true)) });
}

const ENABLED: &str = "enabled\nthere\nactive\nat_boot\nno\nno\n";

#[test]
fn a_guard_is_enabled_once() {
    let world = guarded();
    for node in ["node1", "node2"] {
        satisfied(world.judge(node, "guard", Value::Null, &[answer(0, ENABLED)]));
    }
    let stale = change(world.judge(
        "node2",
        "guard",
        Value::Null,
        &[answer(0, &ENABLED.replacen("no", "yes", 1))],
    ));
    let script = stale.commands[0].script.as_str();
    assert!(script.contains("daemon-reload") && !script.contains("allow lease"), "{script}");
    // The primary has a lease already, and a watch may count on knowing it.
    let stale = answer(0, &ENABLED.replacen("active\n", "", 1));
    let again = change(world.judge("node1", "guard", Value::Null, &[stale]));
    assert!(!again.commands[0].script.as_str().contains("allow"), "{again:?}");
    let none = world.judge("node2", "guard", Value::Null, &[answer(0, "no\nno\n")]);
    assert!(matches!(none, Ok(Verdict::NotYet(_))), "{none:?}");
}

#[test]
fn the_primarys_guard_waits_for_standbys_and_gives_a_first_lease() {
    let mut world = guarded();
    let there = [answer(0, "there\nno\nno\n")];
    let refused = world.judge("node1", "guard", Value::Null, &there).expect_err("no standby");
    assert!(refused.refused && refused.message.contains("0 standbys stream"), "{refused}");
    // Somebody who streams without a member's slot is nobody.
    let mut primary = server(false);
    let sender = |slot: Option<&str>| Sender {
        application_name: "node2".into(),
        state: "streaming".into(),
        slot: slot.map(str::to_owned),
        ..Sender::default()
    };
    let mut senders = |world: &mut World, list: Vec<Sender>| {
        primary.server.as_mut().expect("a server").senders = list;
        put(world, "node1", primary.clone());
    };
    senders(&mut world, vec![sender(None), sender(Some("backup"))]);
    assert!(world.judge("node1", "guard", Value::Null, &there).is_err());
    senders(&mut world, vec![sender(Some("node2"))]);
    let enabled = change(world.judge("node1", "guard", Value::Null, &there));
    let script = enabled.commands[0].script.as_str();
    let at = |word: &str| script.find(word).unwrap_or_else(|| panic!("{word}: {script}"));
    assert!(
        at(">\"$enabled\"") < at("allow lease 13") && at("allow lease 13") < at("systemctl start")
    );
}

#[test]
fn with_mode_manual_it_is_taken_away() {
    let mut world = guarded();
    for node in world.nodes.values_mut() {
        node.guard = None;
    }
    satisfied(world.judge("node1", "guard", Value::Null, &[answer(0, "no\nno\n")]));
    let gone = change(world.judge("node1", "guard", Value::Null, &[answer(0, ENABLED)]));
    let script = gone.commands[0].script.as_str();
    let at = |word: &str| script.find(word).unwrap_or_else(|| panic!("{word}: {script}"));
    // What does nothing first, then its timer, then the watchdog, then its files.
    assert!(at("rm -f \"$enabled\"") < at("--now") && at("--now") < at("disarm"));
    assert!(at("disarm") < at("rm -f \"$script\""), "{script}");
}

#[test]
fn only_what_comes_up_writable_gets_a_grant_and_it_is_claimed() {
    let mut world = guarded();
    put(&mut world, "node1", with_guard(stopped(directory(77))));
    let start = change(of(&world, "node1", "start"));
    assert_eq!(start.in_place, Some(InPlace { kind: "start", seconds: 600, guarded: true }));
    let script = start.commands.last().expect("one").script.as_str();
    let at = |text: &str, word: &str| text.find(word).unwrap_or_else(|| panic!("{word}: {text}"));
    assert!(at(script, "pgorch_grant") < at(script, "systemctl start"));
    assert!(at(script, "systemctl start") < at(script, "shorten 13"));
    assert!(!script.contains("allow"), "nobody grants anything that was not claimed: {script}");
    let mut standby = server(true);
    standby.server = None;
    standby.postmaster_pid = None;
    standby.unit.active_state = "inactive".into();
    put(&mut world, "node2", with_guard(standby));
    let start = change(of(&world, "node2", "start"));
    assert_eq!(start.in_place, None);
    assert!(!start.commands.last().expect("one").script.as_str().contains("grant"));

    let mut world = guarded();
    world.options.restart = true;
    let force = json!({ "force": true });
    let restart = change(world.judge("node1", "restart", force.clone(), &[]));
    assert_eq!(restart.in_place, Some(InPlace { kind: "restart", seconds: 120, guarded: true }));
    let script = restart.commands[0].script.as_str();
    // One start uses it up.
    assert!(at(script, "systemctl stop") < at(script, "pgorch_grant"), "{script}");
    assert!(at(script, "pgorch_grant") < at(script, "systemctl start"), "{script}");
    let restart = change(world.judge("node2", "restart", force.clone(), &[]));
    assert_eq!(restart.in_place, None);
    assert!(!restart.commands[0].script.as_str().contains("grant"));
    // Its guard is not on, as in a first apply.
    put(&mut world, "node1", server(false));
    let restart = change(world.judge("node1", "restart", force.clone(), &[]));
    assert_eq!(restart.in_place, None);
    // No guard, but a watch that would take it for a failure.
    watched(&mut world);
    let restart = change(world.judge("node1", "restart", force, &[]));
    assert_eq!(restart.in_place, Some(InPlace { kind: "restart", seconds: 600, guarded: false }));
    assert!(!restart.commands[0].script.as_str().contains("grant"));
}

#[test]
fn a_watched_primary_is_stopped_during_a_pause_only() {
    let mut world = guarded();
    let stop = |world: &World| world.judge("node1", "stop", json!({ "primary": true }), &[]);
    change(stop(&world));
    watched(&mut world);
    let refused = stop(&world).expect_err("a watch looks on");
    assert!(refused.refused && refused.message.contains("watch 1 of a@b"), "{refused}");
    assert!(refused.hint.as_deref().is_some_and(|h| h.contains("pgorch pause")), "{refused:?}");
    let mut paused = |said, paused, until| {
        let by = "op@c".to_owned();
        let pause = Some(Pause { said, paused, until, by, reason: None });
        put(&mut world, "node2", InstanceFacts { pause, ..with_guard(server(true)) });
        stop(&world)
    };
    change(paused(1, true, None));
    assert!(paused(2, false, None).is_err(), "it was ended");
    assert!(paused(3, true, Some(-1)).is_err(), "its time is over");
    // A standby is another matter.
    change(world.judge("node3", "stop", Value::Null, &[]));
}

#[test]
fn what_a_watch_counts_on_does_not_change_under_it() {
    let mut world = guarded();
    watched(&mut world);
    let values =
        world.nodes[&HostName::from("node1")].guard.as_ref().expect("a guard").values.clone();
    let look = |world: &World, votes: &str, values: &str| {
        let text = format!("{votes}\nvalues '{values}' hold=watchdog\n");
        world.judge("node1", "guard_members", Value::Null, &[answer(0, &text)])
    };
    let votes = "3 majority=2 slots='node2 node3'";
    satisfied(look(&world, votes, &values));
    for (votes, values) in
        [(votes, "watchdog:9:9:9:9:9"), ("3 majority=2 slots=node2", values.as_str())]
    {
        let refused = look(&world, votes, values).expect_err("a watch counts on it");
        assert!(refused.refused && refused.hint.is_some(), "{refused}");
    }
    satisfied(look(&guarded(), votes, "watchdog:9:9:9:9:9"));
    for node in world.nodes.values_mut() {
        node.guard = None;
    }
    let refused = world.judge("node1", "guard", Value::Null, &[answer(0, ENABLED)]);
    assert!(refused.expect_err("nor is it taken away").refused);
}

#[test]
fn votes_change_one_at_a_time_and_in_sight_of_the_primary() {
    let votes = |line: &str| [answer(0, line)];
    let world = guarded();
    let look = |world: &World, line: &str| {
        world.judge("node2", "guard_members", Value::Null, &votes(line))
    };
    // None yet, and the same.
    satisfied(look(&world, ""));
    satisfied(look(&world, "3 majority=2 slots='node1 node3'\n"));
    // node3 is new, and with it a witness has gone.
    satisfied(look(&world, "3 majority=2 slots=node1\n"));
    for line in ["1 majority=1 slots=''\n", "5 majority=3 slots='a b c d'\n"] {
        let refused = look(&world, line).expect_err("two at once");
        assert!(refused.refused && refused.message.contains("at once"), "{refused}");
    }
    let mut blind = guarded();
    put(&mut blind, "node1", stopped(directory(77)));
    satisfied(look(&blind, "3 majority=2 slots='node1 node3'\n"));
    let refused = look(&blind, "3 majority=2 slots=node1\n").expect_err("out of sight");
    assert!(refused.message.contains("cannot be seen"), "{refused}");
}

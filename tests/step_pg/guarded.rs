//! Nodes with a guard: when it is enabled, and who gets grants.

use pgorch::facts::Sender;
use pgorch::step::Verdict;
use serde_json::{Value, json};

use super::cluster::{answer, directory, of, put, server, stopped};
use super::harness::{World, change, satisfied};

fn guarded() -> World {
    let mut world = World::new(
        "cluster: c\nfailover: { mode: automatic }\nnodes:\n  node1: { host: h1, primary: true }\n  \
         node2: { host: h2 }\n  node3: { host: h3 }\n",
    );
    put(&mut world, "node1", server(false));
    put(&mut world, "node2", server(true));
    put(&mut world, "node3", server(true));
    world
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
        at(">\"$enabled\"") < at("allow lease 30") && at("allow lease 30") < at("systemctl start")
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
fn only_what_comes_up_writable_gets_a_grant() {
    let mut world = guarded();
    put(&mut world, "node1", stopped(directory(77)));
    let start = change(of(&world, "node1", "start"));
    let script = start.commands.last().expect("one").script.as_str();
    let at = |text: &str, word: &str| text.find(word).unwrap_or_else(|| panic!("{word}: {text}"));
    assert!(at(script, "allow grant 600") < at(script, "systemctl start"));
    assert!(at(script, "systemctl start") < at(script, "shorten 30"));
    let mut standby = server(true);
    standby.server = None;
    standby.postmaster_pid = None;
    standby.unit.active_state = "inactive".into();
    put(&mut world, "node2", standby);
    let start = change(of(&world, "node2", "start"));
    assert!(!start.commands.last().expect("one").script.as_str().contains("allow"));

    let mut world = guarded();
    world.options.restart = true;
    let force = json!({ "force": true });
    let restart = change(world.judge("node1", "restart", force.clone(), &[]));
    let script = restart.commands[0].script.as_str();
    // The grant counts from after the stop.
    assert!(at(script, "systemctl stop") < at(script, "allow grant"), "{script}");
    assert!(at(script, "allow grant") < at(script, "systemctl start"), "{script}");
    let restart = change(world.judge("node2", "restart", force, &[]));
    assert!(!restart.commands[0].script.as_str().contains("allow"));
    let mut manual = guarded();
    for node in manual.nodes.values_mut() {
        node.guard = None;
    }
    put(&mut manual, "node1", stopped(directory(77)));
    let start = change(of(&manual, "node1", "start"));
    assert!(!start.commands.last().expect("one").script.as_str().contains("guard"));
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

//! Minor upgrades: what is due, what is done, and when a standby may be taken down for it.

use pgorch::facts::{Observation, Receiver};
use pgorch::model::Answer;
use pgorch::step::Verdict;
use serde_json::json;

use super::cluster::{put, running, server};
use super::harness::{World, change, refused, satisfied};

fn packages(text: &str) -> Vec<Answer> {
    vec![Answer { stdout: text.to_owned(), ..Answer::default() }]
}

const OLD: &str = "pkg=postgresql-15 installed 15.18-0+deb12u1\npkg=libpq5 installed 15.18-0+deb12u1\n\
                   candidate=postgresql-15 15.19-0+deb12u1\ncandidate=libpq5 15.18-0+deb12u1\n";

#[test]
fn only_what_apt_has_newer_is_upgraded() {
    let world = running();
    let due = satisfied(world.judge("node2", "upgrade_due", json!({}), &packages(OLD)));
    assert_eq!(due.data["needed"], json!(true));
    assert_eq!(due.data["why"], "postgresql-15 15.18-0+deb12u1 -> 15.19-0+deb12u1");
    let made = change(world.judge("node2", "minor_upgrade", json!({}), &packages(OLD)));
    assert_eq!(made.summary, "upgrade postgresql-15");
    let script = made.commands[0].script.as_str();
    assert!(script.contains("SYSTEMD_OFFLINE=1") && script.contains("--only-upgrade"), "{script}");
    assert!(!made.impact.restart, "the packages restart nothing");

    let new = OLD.replace("installed 15.18-0+deb12u1\npkg", "installed 15.19-0+deb12u1\npkg");
    let due = satisfied(world.judge("node2", "upgrade_due", json!({}), &packages(&new)));
    assert_eq!(due.data["needed"], json!(false));
    satisfied(world.judge("node2", "minor_upgrade", json!({}), &packages(&new)));
    // dpkg was interrupted: its status is not "installed", whatever the version.
    let half = new.replace("postgresql-15 installed", "postgresql-15 half-configured");
    change(world.judge("node2", "minor_upgrade", json!({}), &packages(&half)));
}

#[test]
fn binaries_that_were_replaced_are_a_debt() {
    let mut world = running();
    let mut instance = server(true);
    instance.binary_replaced = true;
    put(&mut world, "node2", instance);
    let due = satisfied(world.judge("node2", "upgrade_due", json!({}), &packages("")));
    let why = "the binaries of 15.18 were replaced since the server started";
    assert_eq!((&due.data["needed"], &due.data["why"]), (&json!(true), &json!(why)));
    let owed = satisfied(world.judge("node2", "restart_due", json!({}), &[]));
    assert_eq!(owed.data["needed"], json!(true));
    // Without --restart only where the task itself says that it may.
    satisfied(world.judge("node2", "restart", json!({}), &[]));
    assert!(
        change(world.judge("node2", "restart", json!({ "allowed": true }), &[])).impact.restart
    );
    let forced = satisfied(world.judge("node1", "restart_due", json!({ "force": true }), &[]));
    assert_eq!(forced.data["needed"], json!(true));
}

fn streaming(world: &mut World, name: &str) {
    let mut instance = server(true);
    let receiver = Receiver { status: "streaming".into(), ..Receiver::default() };
    instance.server.as_mut().expect("a server").receiver = Some(receiver);
    put(world, name, instance);
}

#[test]
fn a_standby_is_not_taken_down_while_another_is() {
    let judge = |world: &World| world.judge("node2", "others_streaming", json!({}), &[]);
    let mut world = running();
    // It runs, and may stream in a moment: asked on its own host.
    let Ok(Verdict::Wait(wait)) = judge(&world) else { panic!("no wait") };
    assert_eq!(wait.commands[0].on, Some("node3".into()));
    world.options.check = true;
    assert!(refused(judge(&world)).contains("node3 does not stream: while node2 is down"));
    streaming(&mut world, "node3");
    assert_eq!(satisfied(judge(&world)).notices, Vec::<String>::new());
    world.options.check = false;
    satisfied(judge(&world));

    let lost = Observation::Unknown { cause: "timed out".to_owned() };
    world.snapshot.nodes.insert("node3".into(), lost);
    assert!(refused(judge(&world)).contains("node3 cannot be reached"));
    world.options.left_out = vec!["node3".into()];
    let told = satisfied(judge(&world)).notices;
    assert!(told[0].contains("--limit says that this is meant"), "{told:?}");
}

//! Who may be started as the primary where none runs, and who is the primary for a rejoin.

use super::super::{Bootstrap, cold_start, explain, running_primary};
use super::{Spoil, Spoilt as _, World};
use crate::model::{HostName, Lsn, Timeline};

fn told(bootstrap: Option<Bootstrap>) -> String {
    match bootstrap {
        None => "nothing to decide".to_owned(),
        Some(Bootstrap::Existing { primary }) => format!("runs: {primary}"),
        Some(Bootstrap::Start { primary }) => format!("start {primary}"),
        Some(Bootstrap::Refuse { code, reason, .. }) => {
            assert!(explain(code).is_some(), "{code}");
            format!("{code}: {reason}")
        }
        Some(other) => panic!("{other:?}"),
    }
}

fn names(list: &[&str]) -> Vec<HostName> {
    list.iter().map(|n| HostName::from(*n)).collect()
}

/// All nodes stopped, the primary last; each standby has the end of its last record.
fn cold(world: &mut World) {
    for name in ["node1", "node2", "node3"] {
        world.stop(name);
        let standby = name != "node1";
        let control = world.dir(name).control.as_mut().expect("a control file");
        control.state = if standby { "shut down in recovery" } else { "shut down" }.to_owned();
        let end = Lsn(control.checkpoint_lsn.0 + 120);
        control.min_recovery_end = standby.then_some((Timeline(1), end));
    }
}

fn control<'w>(world: &'w mut World, name: &str) -> &'w mut crate::facts::ControlData {
    world.dir(name).control.as_mut().expect("a control file")
}

#[track_caller]
fn all(spoil: Spoil, expected: &str) {
    let mut world = World::new();
    cold(&mut world);
    spoil(&mut world);
    let told = told(cold_start(&world.inventory, &world.snapshot, None));
    assert!(told.starts_with(expected), "{told}, not {expected}");
}

#[test]
fn after_a_cold_start_the_old_primary_comes_up_and_nobody_else() {
    all(|_| {}, "start node1");
    all(|w| control(w, "node1").state = "in production".to_owned(), "start node1");
    all(|w| *w = World::new(), "runs: node1");
    all(|w| w.unreachable("node3"), "node_unreachable: node3 could not be looked at");
    all(|w| w.dir("node1").made_by_pgorch = false, "not_made_by_pgorch");
    all(|w| w.dir("node1").standby_signal = true, "no_primary: node1, node2, node3 are standbys");
    all(
        |w| w.instance("node1").fenced = Some("fenced by the switchover to node2".to_owned()),
        "node_fenced: node1 was a primary and is fenced: fenced by the switchover",
    );
    all(
        |w| w.instance("node1").postmaster_pid = Some(7),
        "no_primary: the server on node1 runs and does not answer",
    );
    // Its signal was removed by hand.
    all(
        |w| {
            w.dir("node1").standby_signal = true;
            w.dir("node2").standby_signal = false;
        },
        "start_ambiguous: node2 was a standby when it stopped",
    );
}

#[test]
fn nobody_may_have_more_than_who_is_started() {
    all(
        |w| control(w, "node2").min_recovery_end = Some((Timeline(2), Lsn(1))),
        "start_not_newest: node2 is on a newer timeline",
    );
    // A record more than the shutdown checkpoint: the old primary's disk is not what it was.
    all(
        |w| {
            let end = Lsn(control(w, "node1").checkpoint_lsn.0 + 400);
            control(w, "node2").min_recovery_end = Some((Timeline(1), end));
        },
        "start_not_newest: node2 has more WAL than node1",
    );
    // Failed over, then everything went down: the old primary was never rejoined.
    let failed_over: Spoil = |w| {
        w.dir("node2").standby_signal = false;
        let new = control(w, "node2");
        (new.state, new.timeline) = ("shut down".to_owned(), Timeline(2));
        new.min_recovery_end = None;
    };
    all(failed_over, "start_ambiguous: node1 (timeline 1");
    let mut world = World::new();
    cold(&mut world);
    failed_over(&mut world);
    let named =
        |list: &[&str]| told(cold_start(&world.inventory, &world.snapshot, Some(&names(list))));
    assert_eq!(named(&["node2"]), "start node2");
    assert!(named(&["node1"]).starts_with("start_not_newest: node2 is on a newer timeline"));
    assert!(named(&["node1", "node2"]).starts_with("start_ambiguous"));
    assert_eq!(named(&["node3"]), "nothing to decide");
}

#[test]
fn a_standby_is_started_whoever_cannot_be_seen() {
    let mut world = World::new();
    cold(&mut world);
    world.unreachable("node1");
    let named = Some(names(&["node2"]));
    let told = told(cold_start(&world.inventory, &world.snapshot, named.as_deref()));
    assert_eq!(told, "nothing to decide");
}

#[test]
fn a_stale_node_on_a_newer_timeline_gives_way_only_if_it_is_named() {
    let mut world = World::new();
    world.stop("node2");
    control(&mut world, "node2").timeline = Timeline(2);
    let primary = |stale: &[&str]| {
        told(Some(running_primary(&world.inventory, &world.snapshot, &names(stale))))
    };
    assert!(primary(&[]).starts_with("timeline_fork: node1 runs as primary, but node2"));
    assert!(primary(&["node3"]).starts_with("timeline_fork"));
    assert_eq!(primary(&["node2"]), "runs: node1");
    // Before there is a cluster there is nothing to come back to.
    let mut world = World::new();
    for name in ["node1", "node2", "node3"] {
        world.remove_data(name);
    }
    let none = told(Some(running_primary(&world.inventory, &world.snapshot, &[])));
    assert_eq!(none, "no_primary: there is no cluster yet");
}

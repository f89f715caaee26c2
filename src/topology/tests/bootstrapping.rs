//! What a first apply may do, and a later one.

use std::collections::BTreeSet;

use super::super::{Bootstrap, bootstrap, explain};
use super::{Spoil, Spoilt as _, World};
use crate::facts::DataDir;
use crate::model::{HostName, Lsn, SystemIdentifier, Timeline};

/// A name, what happens to a cluster that is well, and the limit of the run.
type Case = (&'static str, Spoil, &'static [&'static str]);

fn decide(world: &World, limit: &[&str]) -> String {
    let limit: BTreeSet<HostName> = limit.iter().map(|n| HostName::from(*n)).collect();
    let limit = (!limit.is_empty()).then_some(&limit);
    match bootstrap(&world.inventory, &world.snapshot, limit) {
        Bootstrap::Existing { primary } => format!("existing {primary}"),
        Bootstrap::Fresh { primary } => format!("fresh {primary}"),
        Bootstrap::Resume { primary } => format!("resume {primary}"),
        Bootstrap::Start { primary } => panic!("apply starts no {primary}"),
        Bootstrap::Refuse { code, reason, hint } => {
            assert!(explain(code).is_some(), "{code}");
            format!("refuse {code}: {reason} -> {hint}")
        }
    }
}

fn world(spoil: fn(&mut World)) -> World {
    let mut world = World::new();
    spoil(&mut world);
    world
}

/// All hosts there, no data anywhere.
fn empty(world: &mut World) {
    for name in ["node1", "node2", "node3"] {
        world.remove_data(name);
    }
}

/// initdb ran on node1, then everything stopped.
fn begun(world: &mut World) {
    for name in ["node2", "node3"] {
        world.remove_data(name);
    }
    world.stop("node1");
}

#[test]
fn the_table() {
    let cases: &[Case] = &[
        ("all is well", |_| {}, &[]),
        (
            "failed over",
            |w| {
                w.stop("node1");
                w.server("node2").in_recovery = false;
                w.server("node2").timeline = Some(Timeline(2));
            },
            &[],
        ),
        ("a standby is unreachable", |w| w.unreachable("node3"), &[]),
        (
            "another cluster's server beside the primary",
            |w| {
                w.server("node3").in_recovery = false;
                w.server("node3").system_identifier = Some(SystemIdentifier(1));
                w.dir("node3").made_by_pgorch = false;
            },
            &[],
        ),
        ("nothing there yet", empty, &[]),
        (
            "nothing there, one unreachable",
            |w| {
                empty(w);
                w.unreachable("node3")
            },
            &[],
        ),
        (
            "nothing there, the unreachable left out",
            |w| {
                empty(w);
                w.unreachable("node3")
            },
            &["node1", "node2"],
        ),
        ("nothing there, declared primary left out", empty, &["node2", "node3"]),
        (
            "something else is there",
            |w| {
                empty(w);
                w.instance("node2").data_dir = DataDir::Foreign
            },
            &[],
        ),
        ("a first apply stopped", begun, &[]),
        (
            "a first apply stopped, one unreachable",
            |w| {
                begun(w);
                w.unreachable("node3")
            },
            &[],
        ),
        (
            "a first apply stopped, the unreachable left out",
            |w| {
                begun(w);
                w.unreachable("node3")
            },
            &["node1", "node2"],
        ),
        (
            "a first apply stopped, initdb unfinished",
            |w| {
                begun(w);
                w.dir("node1").made_by_pgorch = false
            },
            &[],
        ),
        (
            "data only where it is not declared",
            |w| {
                empty(w);
                *w.instance("node2") = World::new().instance("node2").clone();
                w.stop("node2");
            },
            &[],
        ),
        (
            "all stopped cleanly",
            |w| {
                for name in ["node1", "node2", "node3"] {
                    w.stop(name);
                }
            },
            &[],
        ),
        (
            "all stopped, node3 promoted once",
            |w| {
                for name in ["node1", "node2", "node3"] {
                    w.stop(name);
                }
                if let Some(control) = &mut w.dir("node3").control {
                    (control.timeline, control.checkpoint_lsn) = (Timeline(2), Lsn(1));
                }
            },
            &[],
        ),
        ("the primary is stopped", |w| w.stop("node1"), &[]),
        (
            "all stopped, the standby knows the end of the last checkpoint",
            |w| {
                for name in ["node1", "node2"] {
                    w.stop(name);
                }
                w.remove_data("node3");
                if let Some(control) = &mut w.dir("node1").control {
                    control.state = "shut down".to_owned();
                }
                if let Some(control) = &mut w.dir("node2").control {
                    let end = Lsn(control.checkpoint_lsn.0 + 120);
                    control.min_recovery_end = Some((Timeline(1), end));
                }
            },
            &[],
        ),
        (
            "the primary is starting",
            |w| {
                w.stop("node1");
                w.instance("node1").postmaster_pid = Some(1);
                w.instance("node1").server_error =
                    Some("the database system is starting up".into());
            },
            &[],
        ),
        ("the primary is unreachable", |w| w.unreachable("node1"), &[]),
        ("two primaries", |w| w.server("node3").in_recovery = false, &[]),
        (
            "another's server",
            |w| {
                empty(w);
                *w = World::new();
                w.dir("node1").made_by_pgorch = false
            },
            &[],
        ),
        (
            "the old primary came back alone",
            |w| {
                w.stop("node2");
                if let Some(control) = &mut w.dir("node2").control {
                    control.timeline = Timeline(2);
                }
            },
            &[],
        ),
    ];
    let lines: Vec<String> = cases
        .iter()
        .map(|(name, spoil, limit)| format!("{name}\n    {}", decide(&world(*spoil), limit)))
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    all is well
        existing node1
    failed over
        existing node2
    a standby is unreachable
        existing node1
    another cluster's server beside the primary
        refuse not_made_by_pgorch: a server that pgorch did not make runs on node3 -> use another port and data_dir there, or stop and move that server away
    nothing there yet
        fresh node1
    nothing there, one unreachable
        refuse node_unreachable: no primary is seen, and node3 could not be looked at -> the primary may be there: make every node reachable, or leave it out of the inventory
    nothing there, the unreachable left out
        fresh node1
    nothing there, declared primary left out
        refuse declared_primary_outside_limit: the cluster does not exist yet and its first primary node1 is left out -> run without --limit, or with node1 in it
    something else is there
        refuse data_dir_foreign: data_dir on node2 holds something that is no database -> choose an empty directory below the mount point, or move its contents away
    a first apply stopped
        resume node1
    a first apply stopped, one unreachable
        refuse node_unreachable: no primary is seen, and node3 could not be looked at -> the primary may be there: make every node reachable, or leave it out of the inventory
    a first apply stopped, the unreachable left out
        refuse no_primary: there is data on node1, but no primary runs -> node1 looks newest (timeline 1, 1/3048E28): pgorch start --all, or pgorch start node1
    a first apply stopped, initdb unfinished
        refuse no_primary: there is data on node1, but no primary runs -> node1 looks newest (timeline 1, 1/3048E28): pgorch start --all, or pgorch start node1
    data only where it is not declared
        refuse no_primary: there is data on node2, but no primary runs -> node2 looks newest (timeline 1, 1/3048E28): pgorch start --all, or pgorch start node2
    all stopped cleanly
        refuse no_primary: there is data on node1, node2, node3, but no primary runs -> node1 looks newest (timeline 1, 1/3048E28): pgorch start --all, or pgorch start node1
    all stopped, node3 promoted once
        refuse no_primary: there is data on node1, node2, node3, but no primary runs -> node3 looks newest (timeline 2, 0/1): pgorch start --all, or pgorch start node3
    the primary is stopped
        refuse no_primary: there is data on node1, node2, node3, but no primary runs -> pgorch start node1, which was the primary; or pgorch failover
    all stopped, the standby knows the end of the last checkpoint
        refuse no_primary: there is data on node1, node2, but no primary runs -> node1 looks newest (timeline 1, 1/3048E28): pgorch start --all, or pgorch start node1
    the primary is starting
        refuse no_primary: no primary answers; the server on node1 runs and does not answer: the database system is starting up -> try again when it has started
    the primary is unreachable
        refuse node_unreachable: no primary is seen, and node1 could not be looked at -> the primary may be there: make every node reachable, or leave it out of the inventory
    two primaries
        refuse split_brain: node1, node3 are all out of recovery -> pgorch explain split_brain; stop the stale one, then rejoin it
    another's server
        refuse not_made_by_pgorch: a server that pgorch did not make runs on node1 -> use another port and data_dir there, or stop and move that server away
    the old primary came back alone
        refuse timeline_fork: node1 runs as primary, but node2 is on a newer timeline -> if node2 is right, stop node1 and promote node2, else pgorch rejoin node2
    ");
}

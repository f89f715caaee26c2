//! An operation whose candidate is lost for good: what `resume` can still tell, and a failover that takes the
//! operation's place, with the old primary and the lost candidate both taken for possible primaries.

use pgorch::facts::{OperationState, Proof};
use pgorch::operation::{Accepted, Action, End, assess};
use pgorch::topology::analyse;

use super::cases::{FATES, end, started, to_the_end, unit, units};
use super::failover::{NONE, RISK, killed, node};
use super::world::Server;
use super::{
    ASYNC, CASCADE, Controller, Ended, POOLED, QUORUM, STONITH, World, healed_and_rejoined, picked,
};

const BOTH: Accepted = Accepted { data_loss: true, ..RISK };

/// How the candidate is lost: with its host, or its server alone.
type Lose = fn(&mut World);

const LOST: [(&str, Lose); 2] =
    [("dark", |w| w.power_off(&node("node2"))), ("dead", |w| w.kill_server(&node("node2")))];

const TEXTS: [&str; 5] = [ASYNC, QUORUM, CASCADE, POOLED, STONITH];

/// The operation that comes to nothing: a switchover, or the failover of a primary that has crashed.
fn begun(text: &str, failover: bool, title: String) -> (World, Controller) {
    let mut world = started(text, title);
    if failover {
        killed(&mut world);
        return (world, Controller::failover("c0", "node2", BOTH));
    }
    (world, Controller::switchover("c0", "node2"))
}

fn length(text: &str, failover: bool) -> usize {
    let (mut world, mut controller) = begun(text, failover, String::new());
    to_the_end(&mut world, &mut controller);
    controller.sent.len() + 1
}

fn is_open(world: &World) -> bool {
    let mut hosts = world.hosts.iter().filter(|(n, _)| n.as_str() != "node2");
    hosts.any(|(_, h)| h.epoch.open().is_some())
}

/// All that may be done while the candidate does not come back: whether a failover was needed.
#[track_caller]
fn goes_on_without(world: &mut World) -> bool {
    let mut resume = Controller::resume("c1");
    to_the_end(world, &mut resume);
    if !is_open(world) || world.primaries().count() > 0 {
        return false;
    }
    // Without the word of an operator nothing happens, and it says which word.
    let before = world.shape();
    let mut failover = Controller::failover("c1", "", NONE);
    failover.run(world);
    // Where it is proved that it was promoted, and its host answers, it is replaced like any primary.
    if let Some(Ended::Refused(why)) = &failover.ended {
        assert!(why.iter().any(|w| w.contains("--accept-split-brain-risk")), "{why:?}");
        assert_eq!(world.shape(), before, "{}", world.story());
        failover = Controller::failover("c1", "", BOTH);
        to_the_end(world, &mut failover);
    }
    let end = end(&failover);
    assert!(matches!(end, Some(End::Done | End::Incomplete)), "{end:?}\n{}", world.story());
    let primary = world.primaries().find(|n| !world.risked.contains(*n)).expect("a primary");
    assert_ne!(primary.as_str(), "node2", "{}", world.story());
    true
}

#[test]
fn a_failover_takes_the_place_of_what_cannot_be_settled() {
    for text in TEXTS {
        for (how, lose) in LOST {
            for failover in [false, true] {
                let mut needed = 0;
                for count in 1..=length(text, failover) {
                    let title = format!("{how} after {count} units, failover {failover}");
                    let (mut world, mut controller) = begun(text, failover, title);
                    units(&mut world, &mut controller, count);
                    lose(&mut world);
                    needed += u32::from(goes_on_without(&mut world));
                    world.commit();
                    world.flow();
                    world.check();
                    // Who slept all the while has nothing to say any more.
                    to_the_end(&mut world, &mut controller);
                    healed_and_rejoined(&mut world);
                }
                assert!(needed > 0, "{text} {how} {failover}");
            }
        }
    }
}

/// Where the old primary goes on all the while nobody has to take anybody's place: the operation is taken
/// back without its candidate.
#[test]
fn a_switchover_that_has_not_stopped_its_primary_is_taken_back() {
    for text in TEXTS {
        let mut taken_back = 0;
        for count in 1..=length(text, false) {
            let (mut world, mut controller) = begun(text, false, format!("dark after {count}"));
            units(&mut world, &mut controller, count);
            world.power_off(&node("node2"));
            let old = &world.nodes[&node("node1")];
            if old.fence || old.server != Server::Primary || !is_open(&world) {
                continue;
            }
            let mut resume = Controller::resume("c1");
            to_the_end(&mut world, &mut resume);
            assert!(!is_open(&world), "{}", world.story());
            assert_eq!(world.nodes[&node("node1")].server, Server::Primary, "{}", world.story());
            taken_back += 1;
            // It finds its epoch gone, at the old primary first of all.
            to_the_end(&mut world, &mut controller);
            assert_eq!(world.nodes[&node("node1")].server, Server::Primary, "{}", world.story());
            healed_and_rejoined(&mut world);
        }
        assert!(taken_back > 1, "{text}");
    }
}

/// The switchover was stopped by this many units, its candidate is lost, and a failover begins.
fn replacing(text: &str, title: &str, count: usize) -> (World, Controller, Controller) {
    let (mut world, mut sleeper) = begun(text, false, title.to_owned());
    units(&mut world, &mut sleeper, count);
    world.power_off(&node("node2"));
    (world, sleeper, Controller::failover("c1", "", BOTH))
}

/// Units after which the old primary is down: what is promoted then, if anything, is the candidate.
fn downs(text: &str) -> Vec<usize> {
    let of = |count: &usize| {
        let (mut world, mut controller) = begun(text, false, String::new());
        units(&mut world, &mut controller, *count);
        world.power_off(&node("node2"));
        world.nodes[&node("node1")].server == Server::Down && is_open(&world)
    };
    (1..=length(text, false)).filter(of).collect()
}

/// Those of them after which nobody can say whether the candidate was promoted.
fn doubtful(text: &str) -> Vec<usize> {
    let of = |count: &usize| {
        let (world, _, _) = replacing(text, "", *count);
        let snapshot = world.snapshot("c1");
        let topology = analyse(world.inventory, &snapshot);
        let found = assess(world.inventory, &snapshot, &topology, None, BOTH);
        found.is_ok_and(|(found, _)| !found.possible.is_empty())
    };
    let found: Vec<usize> = downs(text).into_iter().filter(of).collect();
    assert!(found.len() > 2, "{text}: {found:?}");
    found
}

/// What takes its place is killed anywhere, and resumed; meanwhile the lost candidate may come back.
#[test]
fn it_is_killed_anywhere_and_resumed() {
    for text in [ASYNC, QUORUM, POOLED] {
        for count in downs(text) {
            for at in 1..24 {
                for back in [false, true] {
                    let title = format!("replaced after {count}, killed after {at}, back {back}");
                    if !picked(3, &(title.clone() + text)) {
                        continue;
                    }
                    let (mut world, mut sleeper, mut failover) = replacing(text, &title, count);
                    units(&mut world, &mut failover, at);
                    if back {
                        world.power_on(&node("node2"));
                        world.check();
                    }
                    to_the_end(&mut world, &mut Controller::resume("c2"));
                    to_the_end(&mut world, &mut sleeper);
                    healed_and_rejoined(&mut world);
                }
            }
        }
    }
}

#[test]
fn its_steps_go_wrong_in_every_way() {
    for text in [ASYNC, QUORUM] {
        for count in downs(text) {
            for at in 1..20 {
                for fate in FATES {
                    let title = format!("replaced after {count}, step {at} {fate:?}");
                    if !picked(9, &(title.clone() + text)) {
                        continue;
                    }
                    let (mut world, _, mut failover) = replacing(text, &title, count);
                    units(&mut world, &mut failover, at);
                    unit(&mut world, &mut failover, fate);
                    to_the_end(&mut world, &mut failover);
                    healed_and_rejoined(&mut world);
                }
            }
        }
    }
}

/// Undone, it leaves those who may be primaries fenced, and the next one still knows of them.
#[test]
fn what_is_undone_forgets_nobody() {
    for text in [ASYNC, QUORUM, POOLED] {
        for count in doubtful(text) {
            for at in 1..14 {
                let title = format!("replaced after {count}, interrupted after {at}");
                let (mut world, _, mut failover) = replacing(text, &title, count);
                units(&mut world, &mut failover, at);
                failover.interrupt();
                to_the_end(&mut world, &mut failover);
                if failover.sent.iter().any(|s| matches!(s.action, Action::Promote { .. })) {
                    break;
                }
                assert!(world.nodes[&node("node1")].fence, "{}", world.story());
                if is_open(&world) {
                    // Nothing but its epoch was stored: the switchover is open still.
                    assert!(end(&failover) != Some(End::Done), "{}", world.story());
                }
                let snapshot = world.snapshot("c1");
                let topology = analyse(world.inventory, &snapshot);
                let refused = assess(world.inventory, &snapshot, &topology, None, NONE);
                assert!(refused.is_err(), "{}", world.story());
                let found = assess(world.inventory, &snapshot, &topology, None, BOTH);
                let (found, _) = found.unwrap_or_else(|e| panic!("{e:?}\n{}", world.story()));
                let possible: Vec<&str> = found.possible.iter().map(|p| p.name.as_str()).collect();
                assert_eq!(possible, ["node2"], "{}", world.story());
                to_the_end(&mut world, &mut Controller::failover("c2", "", BOTH));
                healed_and_rejoined(&mut world);
            }
        }
    }
}

/// What is told before anybody is asked: each who may be a primary, with what makes it harmless.
#[test]
fn both_are_named_and_each_is_made_harmless() {
    let found = |text: &str, lose: Lose| {
        let (mut world, mut controller) = begun(text, false, "named".to_owned());
        units(&mut world, &mut controller, doubtful(text)[0]);
        lose(&mut world);
        let snapshot = world.snapshot("c1");
        let topology = analyse(world.inventory, &snapshot);
        let found = assess(world.inventory, &snapshot, &topology, None, BOTH);
        found.unwrap_or_else(|e| panic!("{e:?}\n{}", world.story()))
    };
    let table: [(&str, Lose, Proof); 4] = [
        (ASYNC, LOST[0].1, Proof::RiskAccepted),
        (ASYNC, LOST[1].1, Proof::Fenced),
        (STONITH, LOST[0].1, Proof::Stonith),
        (STONITH, LOST[1].1, Proof::Fenced),
    ];
    for (text, lose, proof) in table {
        let (found, checks) = found(text, lose);
        assert_eq!((found.primary.as_str(), found.proof), ("node1", Proof::Fenced));
        assert_eq!(found.possible[0].name.as_str(), "node2");
        assert_eq!(found.possible[0].proof, proof);
        let said = found.evidence.join("\n");
        assert!(said.contains("nobody can say whether node2 was promoted"), "{said}");
        assert!(said.contains("node2") && said.contains("it may be a primary too"), "{said}");
        let warned = |code: &str| checks.iter().any(|c| c.code == code);
        assert!(warned("failover_operation_open"), "{checks:?}");
        assert_eq!(warned("failover_unproved"), proof == Proof::RiskAccepted, "{checks:?}");
        assert_eq!(found.candidates[0].name().as_str(), "node3");
        assert_eq!(found.superseded.earlier, [node("node2")]);
    }
}

/// A record of a resumption, too, says who may be a primary.
#[test]
fn a_resumption_knows_them_too() {
    let (mut world, _, mut failover) = replacing(ASYNC, "resumed", doubtful(ASYNC)[0]);
    units(&mut world, &mut failover, 5);
    let mut resume = Controller::resume("c2");
    units(&mut world, &mut resume, 3);
    let stored = world.hosts[&node("node3")].epoch.clone();
    let record = stored.operation.expect("a record");
    assert_eq!(record.state, OperationState::Open);
    let possible: Vec<&str> = record.possible.iter().map(|p| p.name.as_str()).collect();
    assert_eq!((record.controller.as_str(), possible), ("c2", vec!["node2"]));
    assert_eq!(record.earlier, [node("node2")]);
    to_the_end(&mut world, &mut resume);
    healed_and_rejoined(&mut world);
}

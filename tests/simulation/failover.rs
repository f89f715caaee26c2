//! A failover by hand, of every primary that is lost in some way, disturbed at every step in every way.

use pgorch::model::HostName;
use pgorch::operation::{Accepted, Action, End};

use super::cases::{FATES, MOST, end, started, to_the_end, unit, units};
use super::world::Server;
use super::{
    ASYNC, CASCADE, Controller, Ended, QUORUM, STONITH, WITNESS, World, healed_and_rejoined, picked,
};

pub(super) const RISK: Accepted = accepted(true, false);
pub(super) const LOSS: Accepted = accepted(false, true);
const BOTH: Accepted = accepted(true, true);
pub(super) const NONE: Accepted = accepted(false, false);

const fn accepted(split_brain_risk: bool, data_loss: bool) -> Accepted {
    Accepted { split_brain_risk, data_loss, lease: false, silent: None, near_only: false }
}

pub(super) fn node(name: &str) -> HostName {
    HostName::from(name)
}

/// What happens to the primary, and what its operator has to accept so that it is replaced.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
    pub(super) lose: fn(&mut World),
    pub(super) accepted: Accepted,
}

pub(super) fn killed(world: &mut World) {
    world.kill_server(&node("node1"));
}

fn frozen(world: &mut World) {
    world.freeze(&node("node1"), true);
}

pub(super) fn dark(world: &mut World) {
    world.power_off(&node("node1"));
}

fn still(world: &mut World) {
    world.pause(&node("node1"), true);
}

/// Everybody but a standby is cut off from it.
fn alone_with_a_standby(world: &mut World) {
    world.cut(&["node1"], &["c0", "c1", "node2"]);
}

pub(super) fn alone(world: &mut World) {
    world.cut(&["node1"], &["c0", "c1", "node2", "node3", "node4", "w1"]);
}

/// It hears us, and its answers are dropped; with the standbys it is the other way round.
fn one_way(world: &mut World) {
    for (from, to) in [("node1", "c0"), ("node1", "c1"), ("node2", "node1"), ("node3", "node1")] {
        world.cuts.insert((from.to_owned(), to.to_owned()));
    }
}

pub(super) const CASES: &[Case] = &[
    Case { name: "killed", text: ASYNC, lose: killed, accepted: NONE },
    Case { name: "frozen", text: ASYNC, lose: frozen, accepted: NONE },
    Case { name: "killed", text: QUORUM, lose: killed, accepted: NONE },
    Case { name: "frozen", text: CASCADE, lose: frozen, accepted: NONE },
    Case { name: "killed", text: WITNESS, lose: killed, accepted: NONE },
    Case { name: "dark", text: ASYNC, lose: dark, accepted: RISK },
    Case { name: "dark", text: WITNESS, lose: dark, accepted: RISK },
    Case { name: "still", text: QUORUM, lose: still, accepted: RISK },
    Case { name: "alone", text: CASCADE, lose: alone, accepted: RISK },
    Case { name: "alone with a standby", text: ASYNC, lose: alone_with_a_standby, accepted: RISK },
    Case { name: "one way", text: QUORUM, lose: one_way, accepted: RISK },
    Case { name: "dark", text: STONITH, lose: dark, accepted: NONE },
    Case { name: "alone", text: STONITH, lose: alone, accepted: NONE },
    Case { name: "killed", text: STONITH, lose: killed, accepted: LOSS },
];

impl Case {
    /// The primary is lost with rows that one standby has, and none has.
    pub(super) fn begin(&self, title: &str) -> World {
        let mut world =
            started(self.text, format!("{} of {}: {title}", self.name, self.text.len()));
        for most in [1, 0] {
            world.commit();
            world.receive(&node("node2"), 1);
            if world.nodes.len() > 2 {
                world.receive(&node("node3"), most);
            }
        }
        world.commit();
        (self.lose)(&mut world);
        world.check();
        world
    }

    fn picked(&self, of: u64, title: &str) -> bool {
        picked(of, &format!("{}{}{title}", self.name, self.text))
    }

    pub(super) fn controller(&self, name: &str, to: &str) -> Controller {
        Controller::failover(name, to, self.accepted)
    }

    /// Looks and steps of an undisturbed failover.
    pub(super) fn length(&self) -> usize {
        let mut world = self.begin("length");
        let mut controller = self.controller("c0", "");
        to_the_end(&mut world, &mut controller);
        assert_eq!(end(&controller), Some(End::Done), "{}", world.story());
        controller.sent.len() + 1
    }
}

/// Whether the promotion was sent.
pub(super) fn promoted(controller: &Controller) -> bool {
    controller.sent.iter().any(|s| matches!(s.action, Action::Promote { .. }))
}

#[test]
fn a_lost_primary_is_replaced() {
    for case in CASES {
        for to in ["", "node2"] {
            let mut world = case.begin(&format!("to {to:?}"));
            let mut controller = case.controller("c0", to);
            to_the_end(&mut world, &mut controller);
            let behind = case.name == "alone with a standby";
            if behind && to == "node2" {
                // The other one goes on receiving until it is revoked.
                assert_eq!(end(&controller), Some(End::Undone), "{}", world.story());
                healed_and_rejoined(&mut world);
                continue;
            }
            assert_eq!(end(&controller), Some(End::Done), "{}", world.story());
            let best = node(if behind { "node3" } else { "node2" });
            assert_eq!(world.nodes[&best].server, Server::Primary, "{}", world.story());
            // A second time the primary is there.
            let mut again = case.controller("c0", to);
            again.run(&mut world);
            let Some(Ended::Refused(why)) = &again.ended else { panic!("{}", world.story()) };
            let healthy = why[0].contains("failover_primary_healthy");
            assert!(healthy || why[0].contains("failover_split"), "{why:?}");
            healed_and_rejoined(&mut world);
            assert_eq!(world.nodes[&best].server, Server::Primary, "{}", world.story());
        }
    }
}

/// What is refused, and with which word; nothing is touched.
#[test]
fn what_cannot_be_proved_is_refused() {
    type Spoil = fn(&mut World);
    let table: &[(&str, Spoil, &str, Accepted, &str)] = &[
        (ASYNC, |_| {}, "", BOTH, "failover_primary_healthy"),
        (ASYNC, dark, "", NONE, "failover_unproved"),
        (ASYNC, still, "", LOSS, "failover_unproved"),
        (ASYNC, alone, "", NONE, "failover_unproved"),
        (ASYNC, one_way, "", NONE, "failover_unproved"),
        (ASYNC, |w| w.cut(&["node1"], &["c0"]), "", NONE, "failover_primary_alive"),
        (STONITH, |w| w.cut(&["node1"], &["c0"]), "", NONE, "failover_primary_alive"),
        (ASYNC, |w| w.cut(&["node1"], &["node2", "node3"]), "", RISK, "failover_primary_healthy"),
        (ASYNC, |w| w.cut(&["c0"], &["node1", "node2"]), "", RISK, "failover_voters"),
        (WITNESS, |w| w.cut(&["c0"], &["node1", "w1"]), "", RISK, "failover_voters"),
        (ASYNC, killed, "node1", BOTH, "failover_no_candidate"),
        (
            ASYNC,
            |w| {
                killed(w);
                w.kill_server(&node("node2"));
            },
            "node2",
            BOTH,
            "failover_no_candidate",
        ),
    ];
    for (text, spoil, to, accepted, word) in table {
        let mut world = started(text, format!("{word} {to:?}"));
        spoil(&mut world);
        let before = world.shape();
        let mut controller = Controller::failover("c0", to, *accepted);
        controller.run(&mut world);
        let Some(Ended::Refused(why)) = &controller.ended else { panic!("{}", world.story()) };
        assert!(why.iter().any(|w| w.starts_with(word)), "{why:?}, not {word}");
        assert_eq!(world.shape(), before);
    }
}

/// The standby that is named lacks what another one has, or the old primary has more than may be lost: all
/// is taken back, unless the loss is accepted.
#[test]
fn what_would_be_lost_is_asked_for() {
    for (text, to) in [(ASYNC, "node3"), (STONITH, "")] {
        for accepted in [NONE, LOSS] {
            let case = Case { name: "killed", text, lose: killed, accepted };
            let mut world = case.begin(&format!("to {to:?}"));
            world.nodes[&node("node3")].slots.clear();
            let before = world.shape();
            let mut controller = case.controller("c0", to);
            to_the_end(&mut world, &mut controller);
            if accepted == LOSS {
                assert!(promoted(&controller), "{}", world.story());
                // Who has more cannot follow, which is told; nothing is left to resume.
                let done = if to == "node3" { End::Incomplete } else { End::Done };
                assert_eq!(end(&controller), Some(done), "{}", world.story());
                let mut resume = Controller::resume("c0");
                resume.run(&mut world);
                assert_eq!(resume.ended, Some(Ended::Nothing), "{}", world.story());
            } else {
                assert_eq!(end(&controller), Some(End::Undone), "{}", world.story());
                assert!(!promoted(&controller));
                // It was down when it was fenced, so it is left down.
                assert_eq!(world.shape(), before, "{}", world.story());
                assert!(!world.nodes[&node("node1")].fence);
            }
            healed_and_rejoined(&mut world);
        }
    }
}

#[test]
fn killed_anywhere_and_resumed() {
    for case in CASES {
        for count in 0..=case.length() {
            for to in ["", "node2"] {
                let mut world = case.begin(&format!("killed after {count}, to {to:?}"));
                units(&mut world, &mut case.controller("c0", to), count);
                healed_and_rejoined(&mut world);
            }
        }
    }
}

/// Resumed while the old primary is still lost; then all is mended.
#[test]
fn resumed_before_it_is_mended() {
    for case in CASES {
        for count in 0..=case.length() {
            for more in [1, 3, 5, 7, MOST] {
                let title = format!("killed after {count}, resume after {more}");
                if !case.picked(9, &title) {
                    continue;
                }
                let mut world = case.begin(&title);
                units(&mut world, &mut case.controller("c0", ""), count);
                units(&mut world, &mut Controller::resume("c1"), more);
                healed_and_rejoined(&mut world);
            }
        }
    }
}

#[test]
fn every_step_goes_wrong_in_every_way() {
    for case in CASES {
        for at in 1..=case.length() {
            for fate in FATES {
                let title = format!("step {at} {fate:?}");
                if !case.picked(9, &title) {
                    continue;
                }
                let mut world = case.begin(&title);
                let mut controller = case.controller("c0", "");
                units(&mut world, &mut controller, at);
                unit(&mut world, &mut controller, fate);
                to_the_end(&mut world, &mut controller);
                healed_and_rejoined(&mut world);
            }
        }
    }
}

/// Every other host goes dark before any step, and comes back before any later one, or afterwards.
#[test]
fn every_host_dies_at_every_step() {
    for case in CASES {
        let length = case.length();
        for host in World::new(case.text, "").machines() {
            for at in 0..=length {
                for back in [1, 2, 4, MOST] {
                    let title = format!("{host} dies at {at} for {back}");
                    if !case.picked(17, &title) {
                        continue;
                    }
                    let mut world = case.begin(&title);
                    let mut controller = case.controller("c0", "");
                    units(&mut world, &mut controller, at);
                    world.power_off(&host);
                    units(&mut world, &mut controller, back);
                    world.power_on(&host);
                    to_the_end(&mut world, &mut controller);
                    healed_and_rejoined(&mut world);
                }
            }
        }
    }
}

/// The old primary is back at any point: its machine, its links, its processes.
#[test]
fn the_old_primary_comes_back_at_every_step() {
    for case in CASES {
        for at in 0..=case.length() {
            let mut world = case.begin(&format!("back at {at}"));
            let mut controller = case.controller("c0", "");
            units(&mut world, &mut controller, at);
            let old = node("node1");
            world.cuts.clear();
            world.pause(&old, false);
            world.power_on(&old);
            world.freeze(&old, false);
            world.start_server(&old);
            world.check();
            to_the_end(&mut world, &mut controller);
            to_the_end(&mut world, &mut Controller::resume("c1"));
            healed_and_rejoined(&mut world);
        }
    }
}

#[test]
fn links_are_cut_at_every_step() {
    for case in CASES {
        let parties = ["c0", "node1", "node2", "node3"];
        for at in 0..=case.length() {
            for from in parties {
                for to in parties.into_iter().filter(|p| *p != from) {
                    let title = format!("{from} to {to} cut at {at}");
                    if !case.picked(17, &title) {
                        continue;
                    }
                    let mut world = case.begin(&title);
                    let mut controller = case.controller("c0", "");
                    units(&mut world, &mut controller, at);
                    world.cuts.insert((from.to_owned(), to.to_owned()));
                    to_the_end(&mut world, &mut controller);
                    to_the_end(&mut world, &mut Controller::resume("c1"));
                    healed_and_rejoined(&mut world);
                }
            }
        }
    }
}

/// A second controller does any part of another failover, a resumption, or, once the primary is back, a
/// switchover, while the first one sleeps.
#[test]
fn two_controllers_never_interleave() {
    for case in CASES {
        let length = case.length();
        for first in 1..=length {
            for second in (1..=length).step_by(3).chain([MOST]) {
                for what in ["", "node2", "node3", "resume", "switchover"] {
                    if what == "node3" && case.text == WITNESS {
                        continue;
                    }
                    let title = format!("{first} units, {second} of {what:?}");
                    if !case.picked(41, &title) {
                        continue;
                    }
                    let mut world = case.begin(&title);
                    let mut one = case.controller("c0", "");
                    let mut two = match what {
                        "resume" => Controller::resume("c1"),
                        "switchover" => Controller::switchover("c1", "node2"),
                        to => case.controller("c1", to),
                    };
                    units(&mut world, &mut one, first);
                    units(&mut world, &mut two, second);
                    to_the_end(&mut world, &mut one);
                    to_the_end(&mut world, &mut two);
                    healed_and_rejoined(&mut world);
                }
            }
        }
    }
}

/// A failover begins while a switchover has come to any point, and its primary is lost there.
#[test]
fn the_primary_is_lost_in_a_switchover() {
    for case in CASES {
        for at in 1..24 {
            for to in ["", "node2"] {
                let title = format!("{} in a switchover at {at} {to}", case.name);
                if !case.picked(5, &title) {
                    continue;
                }
                let mut world = started(case.text, title);
                let mut switchover = Controller::switchover("c0", "node2");
                units(&mut world, &mut switchover, at);
                (case.lose)(&mut world);
                world.check();
                let mut failover = case.controller("c1", to);
                to_the_end(&mut world, &mut failover);
                to_the_end(&mut world, &mut switchover);
                healed_and_rejoined(&mut world);
            }
        }
    }
}

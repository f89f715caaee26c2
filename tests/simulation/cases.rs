//! A switchover, disturbed at every step in every way.

use std::sync::Arc;

use pgorch::operation::{Action, End};

use super::{
    ALL, ASYNC, CASCADE, Controller, Ended, Fate, QUORUM, Rest, WITNESS, World, healed, picked,
};

/// More units than any operation has: looks and steps.
pub(super) const MOST: usize = 60;

pub(super) const FATES: [Fate; 10] = [
    Fate::Lost,
    Fate::Refused,
    Fate::Swallowed,
    Fate::Late,
    Fate::Dies(0),
    Fate::Dies(1),
    Fate::Dies(2),
    Fate::Dies(3),
    Fate::Dies(4),
    Fate::Dies(5),
];

pub(super) fn started(text: &str, title: String) -> World {
    let mut world = World::new(text, title);
    world.commit();
    world.flow();
    world
}

/// One unit, with the writer at work around it.
#[track_caller]
pub(super) fn unit(world: &mut World, controller: &mut Controller, fate: Fate) {
    world.commit();
    world.flow();
    controller.advance(world, fate, 0);
    world.check();
    world.commit();
    world.check();
}

#[track_caller]
pub(super) fn units(world: &mut World, controller: &mut Controller, count: usize) {
    for _ in 0..count {
        unit(world, controller, Fate::Fine);
    }
}

#[track_caller]
pub(super) fn to_the_end(world: &mut World, controller: &mut Controller) {
    while controller.ended.is_none() {
        unit(world, controller, Fate::Fine);
    }
}

pub(super) fn end(controller: &Controller) -> Option<End> {
    match &controller.ended {
        Some(Ended::Operation(finished)) => Some(finished.end),
        _ => None,
    }
}

/// Looks and steps of an undisturbed switchover.
fn length(text: &str) -> usize {
    let mut world = started(text, String::new());
    let mut controller = Controller::switchover("c0", "node2");
    to_the_end(&mut world, &mut controller);
    controller.sent.len() + 1
}

#[test]
fn there_and_back_again() {
    for text in ALL {
        let mut world = started(text, "there and back".to_owned());
        let before = world.shape();
        for to in ["node2", "node1"] {
            let mut controller = Controller::switchover("c0", to);
            to_the_end(&mut world, &mut controller);
            assert_eq!(end(&controller), Some(End::Done), "{}", world.story());
            world.whole(Rest::Nothing);
            // A second time there is nothing to do.
            let mut again = Controller::switchover("c0", to);
            again.run(&mut world);
            assert_eq!(again.ended, Some(Ended::Nothing));
            let mut resume = Controller::resume("c0");
            resume.run(&mut world);
            assert_eq!(resume.ended, Some(Ended::Nothing));
        }
        assert_eq!(world.shape(), before, "{}", world.story());
    }
}

#[test]
fn killed_anywhere_and_resumed() {
    for text in ALL {
        for count in 0..=length(text) {
            let mut world = started(text, format!("killed after {count} units"));
            units(&mut world, &mut Controller::switchover("c0", "node2"), count);
            healed(&mut world);
        }
    }
}

/// The resumption itself dies anywhere, and another one finishes.
#[test]
fn the_resumption_is_killed_too() {
    for text in [ASYNC, CASCADE] {
        for count in 0..=length(text) {
            for more in 1..MOST {
                let title = format!("killed after {count}, resume after {more}");
                if !picked(5, &(title.clone() + text)) {
                    continue;
                }
                let mut world = started(text, title);
                units(&mut world, &mut Controller::switchover("c0", "node2"), count);
                let mut resume = Controller::resume("c1");
                units(&mut world, &mut resume, more);
                healed(&mut world);
                if resume.ended.is_some() {
                    break;
                }
            }
        }
    }
}

/// A verdict is lost, a command is swallowed or late, a script dies half-way: each at every step.
#[test]
fn every_step_goes_wrong_in_every_way() {
    for text in ALL {
        for at in 1..=length(text) {
            for fate in FATES {
                let mut world = started(text, format!("step {at} {fate:?}"));
                let before = world.shape();
                let mut controller = Controller::switchover("c0", "node2");
                units(&mut world, &mut controller, at);
                unit(&mut world, &mut controller, fate);
                to_the_end(&mut world, &mut controller);
                // Nothing but that one step went wrong, so what is undone is undone to the last slot.
                if matches!(end(&controller), Some(End::Undone | End::Refused)) {
                    assert_eq!(world.shape(), before, "{}", world.story());
                }
                assert_ne!(end(&controller), Some(End::Broken), "{}", world.story());
                healed(&mut world);
            }
        }
    }
}

/// The same for the way back: a hook fails, and then a step of the undoing goes wrong.
#[test]
fn every_step_of_the_undoing_goes_wrong_in_every_way() {
    let hook = "- hosts: candidate\n  tasks:\n    - name: No\n      command: \"false\"\n\n- name: Take over";
    let shipped = pgorch::playbook::shipped("playbooks/switchover.yml").expect("shipped");
    let hooked = Arc::new(super::playbook(&shipped.replace("- name: Take over", hook)));
    for text in ALL {
        for at in 0..8 {
            for fate in FATES {
                let mut world = started(text, format!("undo step {at} {fate:?}"));
                let mut controller =
                    Controller::switchover("c0", "node2").with(Arc::clone(&hooked));
                let hook = |c: &Controller| {
                    c.sent.last().is_some_and(|s| matches!(s.action, Action::Hook { .. }))
                };
                while !hook(&controller) {
                    unit(&mut world, &mut controller, Fate::Fine);
                }
                units(&mut world, &mut controller, at);
                unit(&mut world, &mut controller, fate);
                to_the_end(&mut world, &mut controller);
                let promoted =
                    controller.sent.iter().any(|s| matches!(s.action, Action::Promote { .. }));
                assert!(!promoted, "{}", world.story());
                healed(&mut world);
                assert_eq!(world.primaries().next().expect("one").as_str(), "node1");
            }
        }
    }
}

/// A host goes dark before any step, and comes back before any later one, or afterwards.
#[test]
fn every_host_dies_at_every_step() {
    for text in ALL {
        let length = length(text);
        for host in World::new(text, "").names() {
            for at in 0..=length {
                for back in (1..=6).chain([MOST]) {
                    let title = format!("{host} dies at {at} for {back}");
                    if !picked(5, &(title.clone() + text)) {
                        continue;
                    }
                    let mut world = started(text, title);
                    let mut controller = Controller::switchover("c0", "node2");
                    units(&mut world, &mut controller, at);
                    world.power_off(&host);
                    units(&mut world, &mut controller, back);
                    world.power_on(&host);
                    to_the_end(&mut world, &mut controller);
                    healed(&mut world);
                }
            }
        }
    }
}

/// Links are cut in one direction or both, before any step, until the end.
#[test]
fn links_are_cut_at_every_step() {
    for text in ALL {
        let parties = ["c0", "node1", "node2", "node3"];
        for at in 0..=length(text) {
            for from in parties {
                for to in parties.into_iter().filter(|p| *p != from) {
                    let title = format!("{from} to {to} cut at {at}");
                    if !picked(5, &(title.clone() + text)) {
                        continue;
                    }
                    let mut world = started(text, title);
                    let mut controller = Controller::switchover("c0", "node2");
                    units(&mut world, &mut controller, at);
                    world.cuts.insert((from.to_owned(), to.to_owned()));
                    to_the_end(&mut world, &mut controller);
                    // Another controller may see more, and goes on at once.
                    let mut other = Controller::resume("c1");
                    to_the_end(&mut world, &mut other);
                    healed(&mut world);
                }
            }
        }
    }
}

/// A controller that slept, before its first look's decision or anywhere later, goes on after
/// another one has resumed, or has begun an operation of its own.
#[test]
fn a_sleeper_goes_on_after_another() {
    for text in ALL {
        for asleep in 0..=length(text) {
            for to in ["", "node3", "node2"] {
                if to == "node3" && text == WITNESS {
                    continue;
                }
                let mut world = started(text, format!("asleep after {asleep}, then {to:?}"));
                let mut sleeper = Controller::switchover("c0", "node2");
                units(&mut world, &mut sleeper, asleep);
                let mut resume = Controller::resume("c1");
                to_the_end(&mut world, &mut resume);
                if !to.is_empty() {
                    to_the_end(&mut world, &mut Controller::switchover("c1", to));
                }
                to_the_end(&mut world, &mut sleeper);
                healed(&mut world);
            }
        }
    }
}

/// Two begin side by side: one sleeps after its look, or later, while the other does any part.
#[test]
fn two_controllers_never_interleave() {
    for text in [ASYNC] {
        let length = length(text);
        for first in 1..=length {
            for second in 1..=length {
                for to in ["node3", "node2"] {
                    let title = format!("{first} units, {second} units of {to}");
                    if !picked(5, &(title.clone() + text)) {
                        continue;
                    }
                    let mut world = started(text, title);
                    let mut one = Controller::switchover("c0", "node2");
                    let mut two = Controller::switchover("c1", to);
                    units(&mut world, &mut two, 1);
                    units(&mut world, &mut one, first);
                    units(&mut world, &mut two, second);
                    to_the_end(&mut world, &mut one);
                    to_the_end(&mut world, &mut two);
                    healed(&mut world);
                }
            }
        }
    }
}

/// Ctrl-C at every step: before the promotion all is as it was, after it everything is done.
#[test]
fn interrupted_at_every_step() {
    for text in ALL {
        for at in 1..=length(text) {
            let mut world = started(text, format!("interrupted at {at}"));
            let before = world.shape();
            let mut controller = Controller::switchover("c0", "node2");
            units(&mut world, &mut controller, at);
            controller.interrupt();
            to_the_end(&mut world, &mut controller);
            let promoted =
                controller.sent.iter().any(|s| matches!(s.action, Action::Promote { .. }));
            if promoted {
                assert_eq!(end(&controller), Some(End::Done), "{}", world.story());
            } else {
                let end = end(&controller);
                assert!(matches!(end, Some(End::Undone | End::Refused)), "{}", world.story());
                assert_eq!(world.shape(), before, "{}", world.story());
            }
            world.whole(Rest::Nothing);
        }
    }
}

/// The controller dies right after it sent the promotion, which ends much later; resume meanwhile.
#[test]
fn a_promotion_that_takes_its_time_is_waited_for() {
    for text in [ASYNC, QUORUM] {
        for fuel in 0..4 {
            let mut world = started(text, format!("a slow promotion, {fuel}"));
            let mut controller = Controller::switchover("c0", "node2");
            let received = |c: &Controller| {
                c.sent.iter().filter(|s| matches!(s.action, Action::Received { .. })).count() == 2
            };
            while !received(&controller) {
                unit(&mut world, &mut controller, Fate::Fine);
            }
            unit(&mut world, &mut controller, Fate::Dies(fuel));
            drop(controller);
            let mut resume = Controller::resume("c1");
            to_the_end(&mut world, &mut resume);
            world.finish_promotion(&"node2".into());
            world.check();
            healed(&mut world);
        }
    }
}

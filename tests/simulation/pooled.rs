//! Clients behind a pooler: they wait while roles change, and go on whatever comes of it.

use pgorch::model::HostName;
use pgorch::operation::{Accepted, End};

use super::cases::{FATES, MOST, end, started, to_the_end, unit, units};
use super::world::Rest;
use super::{Controller, POOLED, World, healed, healed_and_rejoined};

fn length() -> usize {
    let mut world = started(POOLED, String::new());
    let mut controller = Controller::switchover("c0", "node2");
    to_the_end(&mut world, &mut controller);
    assert_eq!(end(&controller), Some(End::Done), "{}", world.story());
    controller.sent.len() + 1
}

fn pooler() -> HostName {
    HostName::from("lb1")
}

/// Where the clients are led to.
fn led_to(world: &World) -> &str {
    world.poolers[&pooler()].target.as_str()
}

#[test]
fn clients_follow_there_and_back() {
    let mut world = started(POOLED, "there and back".to_owned());
    for to in ["node2", "node1"] {
        let mut controller = Controller::switchover("c0", to);
        to_the_end(&mut world, &mut controller);
        assert_eq!((end(&controller), led_to(&world)), (Some(End::Done), to), "{}", world.story());
        world.whole(Rest::Nothing);
    }
}

#[test]
fn killed_anywhere_and_resumed() {
    for count in 0..=length() {
        for more in (0..8).chain([MOST]) {
            let mut world = started(POOLED, format!("killed after {count}, resume after {more}"));
            units(&mut world, &mut Controller::switchover("c0", "node2"), count);
            units(&mut world, &mut Controller::resume("c1"), more);
            healed(&mut world);
            let primary = world.primaries().next().expect("one").clone();
            assert_eq!(led_to(&world), primary.as_str(), "{}", world.story());
        }
    }
}

#[test]
fn every_step_goes_wrong_in_every_way() {
    for at in 1..=length() {
        for fate in FATES {
            let mut world = started(POOLED, format!("step {at} {fate:?}"));
            let mut controller = Controller::switchover("c0", "node2");
            units(&mut world, &mut controller, at);
            unit(&mut world, &mut controller, fate);
            to_the_end(&mut world, &mut controller);
            healed(&mut world);
            let primary = world.primaries().next().expect("one").clone();
            assert_eq!(led_to(&world), primary.as_str(), "{}", world.story());
        }
    }
}

/// What happens to a pooler, and what mends it.
type Trouble = (&'static str, fn(&mut World), fn(&mut World));

const TROUBLES: [Trouble; 4] = [
    ("dark", |w| w.power_off(&pooler()), |w| w.power_on(&pooler())),
    ("stopped", |w| w.poolers[&pooler()].stop(), |w| w.poolers[&pooler()].start()),
    ("cut off", |w| w.cut(&["lb1"], &["c0", "c1"]), |w| w.cuts.clear()),
    (
        "at work",
        |w| w.poolers[&pooler()].stubborn = true,
        |w| {
            w.poolers[&pooler()].stubborn = false;
        },
    ),
];

/// The pooler is gone, cut off, or its clients do not end, from any step on until any later one.
#[test]
fn the_pooler_is_in_trouble_at_every_step() {
    for (name, begin, over) in TROUBLES {
        for at in 0..=length() {
            for back in [1, 2, 4, MOST] {
                let mut world = started(POOLED, format!("{name} at {at} for {back}"));
                let mut controller = Controller::switchover("c0", "node2");
                units(&mut world, &mut controller, at);
                begin(&mut world);
                units(&mut world, &mut controller, back);
                over(&mut world);
                to_the_end(&mut world, &mut controller);
                healed(&mut world);
                let primary = world.primaries().next().expect("one").clone();
                assert_eq!(led_to(&world), primary.as_str(), "{}", world.story());
            }
        }
    }
}

#[test]
fn every_host_dies_at_every_step() {
    for host in World::new(POOLED, "").machines() {
        for at in 0..=length() {
            for back in [1, 3, MOST] {
                let mut world = started(POOLED, format!("{host} dies at {at} for {back}"));
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

/// A failover leads them on too, from wherever a switchover has left them.
#[test]
fn a_failover_leads_clients_on() {
    for at in 0..=length() {
        for to in ["", "node3"] {
            let mut world = started(POOLED, format!("a failover after {at}, to {to:?}"));
            units(&mut world, &mut Controller::switchover("c0", "node2"), at);
            to_the_end(&mut world, &mut Controller::resume("c1"));
            let primary = world.primaries().next().expect("one").clone();
            if primary.as_str() == "node3" || to == primary.as_str() {
                continue;
            }
            world.kill_server(&primary);
            let accepted = Accepted { data_loss: true, ..Accepted::default() };
            let mut failover = Controller::failover("c1", to, accepted);
            to_the_end(&mut world, &mut failover);
            assert_eq!(end(&failover), Some(End::Done), "{}", world.story());
            let primary = world.primaries().next().expect("one").clone();
            assert_eq!(led_to(&world), primary.as_str(), "{}", world.story());
            healed_and_rejoined(&mut world);
        }
    }
}

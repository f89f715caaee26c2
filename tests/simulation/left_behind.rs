//! A standby that has not followed to the newest timeline: what it lacks cannot be counted, so it takes over
//! only where that loss is accepted.

use pgorch::operation::{Accepted, End};

use super::cases::{end, started, to_the_end};
use super::failover::{LOSS, NONE, RISK, node};
use super::world::Server;
use super::{ASYNC, Controller, Ended, FAR, World, healed_and_rejoined};

const BOTH: Accepted = Accepted { data_loss: true, ..RISK };

/// node2 took over from node1 while node3 was off, which is back, and follows whoever it followed.
fn behind(text: &str) -> World {
    let mut world = started(text, "left behind".to_owned());
    world.power_off(&node("node3"));
    let mut switchover = Controller::switchover("c9", "node2");
    to_the_end(&mut world, &mut switchover);
    assert_eq!(end(&switchover), Some(End::Done), "{}", world.story());
    world.commit();
    world.flow();
    world.power_on(&node("node3"));
    world.commit();
    world.flow();
    let followed = world.nodes[&node("node3")].wal.iter().any(|r| r.timeline > 1);
    assert!(!followed && world.nodes[&node("node3")].server == Server::Recovery);
    world
}

#[test]
fn who_stayed_behind_does_not_take_over_unasked() {
    type Lose = fn(&mut World);
    let dead: Lose = |w| {
        w.kill_server(&node("node2"));
        w.kill_server(&node("node1"));
    };
    let dark: Lose = |w| {
        w.power_off(&node("node2"));
        w.kill_server(&node("node1"));
    };
    // Nobody is left who has followed; but the witnesses have heard of it.
    let both_dark: Lose = |w| {
        w.power_off(&node("node2"));
        w.power_off(&node("node1"));
    };
    let table: [(&str, Lose, Accepted, Option<&str>); 9] = [
        (ASYNC, dead, NONE, Some("failover_earlier_timeline")),
        (ASYNC, dead, RISK, Some("failover_earlier_timeline")),
        (ASYNC, dead, LOSS, None),
        (ASYNC, dark, NONE, Some("failover_unproved")),
        (ASYNC, dark, RISK, Some("failover_earlier_timeline")),
        (ASYNC, dark, BOTH, None),
        (FAR, both_dark, LOSS, Some("failover_operation_open")),
        (FAR, both_dark, RISK, Some("failover_earlier_timeline")),
        (FAR, both_dark, BOTH, None),
    ];
    for (number, (text, lose, accepted, refused)) in table.into_iter().enumerate() {
        let mut world = behind(text);
        lose(&mut world);
        let before = world.shape();
        let mut failover = Controller::failover("c0", "", accepted);
        to_the_end(&mut world, &mut failover);
        match (&failover.ended, refused) {
            (Some(Ended::Refused(why)), Some(code)) => {
                assert!(why.iter().any(|w| w.starts_with(code)), "{number}: {why:?}");
                assert_eq!(world.shape(), before, "{number}");
            }
            (Some(Ended::Operation(_)), None) => {
                let primary = world.nodes[&node("node3")].server;
                assert_eq!(primary, Server::Primary, "{number}: {}", world.story());
            }
            other => panic!("{number}: {other:?}\n{}", world.story()),
        }
        healed_and_rejoined(&mut world);
    }
}

/// One that has followed is there too: it is chosen, and the other one is refused by its name.
#[test]
fn who_has_followed_does() {
    let mut world = behind(ASYNC);
    world.kill_server(&node("node2"));
    let mut named = Controller::failover("c0", "node3", NONE);
    to_the_end(&mut world, &mut named);
    let refused = matches!(named.ended, Some(Ended::Refused(_)));
    assert!(refused || end(&named) == Some(End::Undone), "{}", world.story());
    let mut failover = Controller::failover("c0", "", NONE);
    to_the_end(&mut world, &mut failover);
    assert_eq!(world.nodes[&node("node1")].server, Server::Primary, "{}", world.story());
    healed_and_rejoined(&mut world);
}

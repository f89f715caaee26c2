//! Failovers that go a certain way: slow promotions, refused fences, claims without a majority, and who is
//! elected by which WAL.

use pgorch::model::HostName;
use pgorch::operation::End;

use super::cases::{end, started, to_the_end, unit};
use super::failover::{CASES, Case, LOSS, NONE, RISK, alone, dark, node, promoted};
use super::world::{Server, Stonith};
use super::{ASYNC, CASCADE, Controller, Ended, Fate, STONITH, WITNESS, healed_and_rejoined};

/// The promotion is asked for, and ends much later; somebody resumes meanwhile.
#[test]
fn a_promotion_that_takes_its_time_is_waited_for() {
    for case in CASES {
        for fuel in 0..4 {
            let mut world = case.begin(&format!("a slow promotion, {fuel}"));
            let mut controller = case.controller("c0", "");
            let at = case.length();
            for _ in 0..at {
                let next = controller.next().map(|s| s.action.name());
                let fate = if next == Some("promote") { Fate::Dies(fuel) } else { Fate::Fine };
                unit(&mut world, &mut controller, fate);
                if next == Some("promote") {
                    break;
                }
            }
            drop(controller);
            to_the_end(&mut world, &mut Controller::resume("c1"));
            world.finish_promotion(&node("node2"));
            world.check();
            healed_and_rejoined(&mut world);
        }
    }
}

/// The STONITH command's word is what counts.
#[test]
fn without_a_confirmed_stonith_nobody_is_promoted() {
    for said in [Stonith::Fails, Stonith::FailsAndIsOff] {
        for lose in [dark, alone] {
            let case = Case { name: "stonith", text: STONITH, lose, accepted: NONE };
            let mut world = case.begin(&format!("{said:?}"));
            world.stonith = said;
            let mut controller = case.controller("c0", "");
            to_the_end(&mut world, &mut controller);
            assert_eq!(end(&controller), Some(End::Undone), "{}", world.story());
            assert!(!promoted(&controller), "{}", world.story());
            world.stonith = Stonith::SwitchesOff;
            healed_and_rejoined(&mut world);
        }
    }
}

/// Whoever starts it, and whenever: a fenced node stays down, and so does one that sees a newer timeline.
#[test]
fn the_old_primary_does_not_come_up_writable() {
    for case in CASES {
        let mut world = case.begin("boots");
        let mut controller = case.controller("c0", "");
        to_the_end(&mut world, &mut controller);
        let old = node("node1");
        world.power_off(&old);
        world.cuts.clear();
        world.power_on(&old);
        world.start_server(&old);
        assert_eq!(world.nodes[&old].server, Server::Down, "{}", world.story());
        healed_and_rejoined(&mut world);
    }
}

/// A standby knows of a new timeline before it has anything of it, and another one has more of the old
/// one: that counts, not the number.
#[test]
fn a_timeline_is_counted_where_there_is_wal_of_it() {
    let mut world = started(CASCADE, "a number without WAL".to_owned());
    let (one, two, three, four) = (node("node1"), node("node2"), node("node3"), node("node4"));
    // node2 has the most, then node3, then node4, which hears of the promotion at once.
    world.nodes[&one].slots.insert("node4".to_owned());
    world.nodes[&four].upstream = Some(one.clone());
    for (at, most) in [[1, 1, 1], [1, 1, 0], [1, 0, 0]].iter().enumerate() {
        world.commit();
        for (name, most) in [&two, &three, &four].into_iter().zip(most) {
            world.receive(name, *most);
        }
        assert_eq!(world.nodes[&two].wal.len(), at + 3);
    }
    world.kill_server(&one);
    let mut first = Controller::failover("c0", "", LOSS);
    while first.next().map(|s| s.action.name()) != Some("follow_nobody") {
        first.advance(&mut world, Fate::Fine, 0);
    }
    world.nodes[&two].slots.insert("node4".to_owned());
    world.nodes[&four].upstream = Some(two.clone());
    world.receive(&four, 0);
    world.kill_server(&two);
    for name in world.machines() {
        world.hosts[&name].epoch.operation = None;
    }
    // Both former primaries are down, so who is to be replaced is not known until one is a standby.
    world.nodes[&one].standby_signal = true;
    // Of the second timeline there is WAL, and it is told that this will be lost.
    let mut unasked = Controller::failover("c0", "", NONE);
    unasked.run(&mut world);
    let Some(Ended::Refused(why)) = &unasked.ended else { panic!("{}", world.story()) };
    assert!(why[0].contains("failover_earlier_timeline"), "{why:?}");
    let mut second = Controller::failover("c0", "", LOSS);
    second.run(&mut world);
    assert_eq!(world.nodes[&three].server, Server::Primary, "{}", world.story());
}

/// The election chose another one, whose claim then fails: what was revoked is not left so.
#[test]
fn a_second_claim_that_fails_is_undone() {
    let case = Case { name: "dark", text: ASYNC, lose: dark, accepted: RISK };
    let mut world = case.begin("the second claim");
    let mut controller = case.controller("c0", "");
    while controller.next().map(|s| s.action.name()) != Some("position") {
        unit(&mut world, &mut controller, Fate::Fine);
    }
    world.power_off(&node("node2"));
    to_the_end(&mut world, &mut controller);
    assert!(!promoted(&controller), "{}", world.story());
    assert!(world.nodes[&node("node3")].revoked.is_none(), "{}", world.story());
    healed_and_rejoined(&mut world);
}

/// Too few voters have the epoch: nothing is touched.
#[test]
fn without_a_majority_nothing_is_touched() {
    for case in CASES {
        let mut world = case.begin("no majority");
        let mut controller = case.controller("c0", "");
        unit(&mut world, &mut controller, Fate::Fine);
        let before = world.shape();
        let others: Vec<HostName> =
            world.machines().into_iter().filter(|h| h.as_str() != "node2").collect();
        for host in &others {
            world.cut(&["c0"], &[host.as_str()]);
        }
        to_the_end(&mut world, &mut controller);
        assert!(controller.sent.iter().all(|s| ["claim", "release"].contains(&s.action.name())));
        assert_eq!(world.shape(), before);
        healed_and_rejoined(&mut world);
    }
}

/// A standby that went on with the old primary has more WAL than anybody, and all of it is of the past.
#[test]
fn a_long_past_counts_less() {
    let mut world = started(CASCADE, "a long past".to_owned());
    to_the_end(&mut world, &mut Controller::switchover("c0", "node2"));
    let (two, three, four) = (node("node2"), node("node3"), node("node4"));
    let old = &mut world.nodes[&three];
    old.wal.retain(|r| r.timeline == 1);
    (old.history, old.checkpoint) = (None, 1);
    for _ in 0..40 {
        world.write(&three, Some(1));
    }
    world.nodes[&two].slots.insert("node4".to_owned());
    world.nodes[&four].upstream = Some(two.clone());
    world.commit();
    world.flow();
    world.kill_server(&two);
    let mut failover = Controller::failover("c0", "", NONE);
    to_the_end(&mut world, &mut failover);
    assert!(promoted(&failover), "{}", world.story());
    healed_and_rejoined(&mut world);
}

/// Replay stands still, and servers were started anew before the look: what is told is less than what is
/// there.
#[test]
fn what_a_standby_tells_is_not_all_that_it_has() {
    for (slow, to) in [("node2", ""), ("node3", ""), ("node2", "node2")] {
        for case in CASES.iter().filter(|c| c.text != WITNESS && c.text != CASCADE) {
            let mut world = case.begin("");
            let mut world_before = started(case.text, format!("{} slow {slow}", case.name));
            std::mem::swap(&mut world, &mut world_before);
            world.nodes[&node(slow)].stalled = true;
            for _ in 0..3 {
                world.commit();
                world.receive(&node(slow), 3);
            }
            world.receive(&node(if slow == "node2" { "node3" } else { "node2" }), 1);
            (case.lose)(&mut world);
            world.stop_server(&node(slow));
            world.start_server(&node(slow));
            let mut controller = case.controller("c0", to);
            to_the_end(&mut world, &mut controller);
            healed_and_rejoined(&mut world);
        }
    }
}

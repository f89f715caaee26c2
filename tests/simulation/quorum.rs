//! What quorum replication proves in a failover, and what is lost at most: by tables.

use pgorch::facts::Proof;
use pgorch::model::{Lsn, Timeline};
use pgorch::operation::{Accepted, Action, Confirmed, Plan, Roles, assess, elect, lower, verify};

use super::rules::{host, lines};
use super::{ASYNC, QUORUM, World};

/// A failover of a primary that is off, as `proof` has it.
fn failover(world: &World, proof: Proof) -> Plan {
    let snapshot = world.snapshot("c0");
    let (old, new) = (host("node1"), host("node2"));
    let roles = Roles::seen(world.inventory, &snapshot, &old, &new, proof);
    lower("failover", &super::FAILOVER, world.inventory, &roles).expect("a plan")
}

#[test]
fn a_failover_that_asks_enough_standbys_has_them_receive_nothing_first() {
    let mut world = World::new(QUORUM, "");
    world.power_off(&host("node1"));
    let plan = failover(&world, Proof::Quorum);
    assert_eq!(
        lines(&plan),
        [
            "node2 claim, node3 claim",
            "node2 revoke, node3 revoke",
            "node2 position, node3 position",
            // Looked at again, last of all before anything rests on it.
            "node2 revoke, node3 revoke",
            "node2 slots",
            "node2 sync_record, node3 sync_record",
            "node2 sync_standbys",
            "node2 promote",
            "node2 follow_nobody, node3 follow",
            "node2 wait_sync",
            "node2 sync_record, node3 sync_record",
            "node2 record",
            "node2 release, node3 release",
        ]
    );
    verify(&plan).expect("safe");
    let mut plan = plan;
    for stage in &mut plan.stages {
        stage.steps.retain(|s| s.action != Action::Revoke || s.host != host("node3"));
    }
    let why = verify(&plan).expect_err("node3 goes on");
    assert!(why.contains("while node3 may still receive"), "{why}");
}

#[test]
fn a_lost_primary_needs_no_flag_where_enough_standbys_answer() {
    let assessed = |text: &str, gone: &[&str]| {
        let mut world = World::new(text, "");
        gone.iter().for_each(|n| world.power_off(&host(n)));
        let snapshot = world.snapshot("c0");
        let topology = pgorch::topology::analyse(world.inventory, &snapshot);
        let accepted = Accepted::default();
        assess(world.inventory, &snapshot, &topology, None, accepted).map(|(found, _)| found)
    };
    let found = assessed(QUORUM, &["node1"]).expect("a proof");
    assert_eq!(found.proof, Proof::Quorum);
    let said = found.evidence.join("\n");
    assert!(said.contains("every confirmed commit is on a standby that answers"), "{said}");
    let why = assessed(ASYNC, &["node1"]).expect_err("no proof");
    assert!(why.iter().any(|c| c.code == "failover_unproved"), "{why:?}");
    let why = assessed(QUORUM, &["node1", "node3"]).expect_err("one of three");
    assert!(why.iter().any(|c| c.code == "failover_voters"), "{why:?}");
    let unproved = why.iter().find(|c| c.code == "failover_unproved").expect("no proof");
    assert!(unproved.message.contains("1 of 3 voters answer"), "{unproved:?}");
}

#[test]
fn what_may_be_lost_depends_on_whether_it_was_confirmed() {
    let world = World::new(QUORUM, "");
    let old = host("node1");
    let end = |lsn| (Timeline(1), Lsn(lsn));
    let ends = |own, next, last| {
        [("node1", own), ("node2", next), ("node3", last)]
            .into_iter()
            .map(|(name, lsn)| (host(name), end(lsn)))
            .collect()
    };
    let far = 64 << 20;
    let ok = || Some(Ok("2 of 2".to_owned()));
    let short = || Some(Err("1 of 2".to_owned()));
    type Row = (Proof, u64, u64, Option<Result<String, String>>, bool, Result<bool, &'static str>);
    let table: [Row; 8] = [
        // What the dead primary had beyond its standbys was never confirmed.
        (Proof::Fenced, far, 5, ok(), false, Ok(true)),
        (Proof::Fenced, far, 5, None, false, Err("failover_lag")),
        (Proof::Fenced, far, 5, short(), false, Err("failover_quorum_short")),
        (Proof::Fenced, far, 5, short(), true, Ok(false)),
        (Proof::Fenced, 10, 5, short(), false, Ok(false)),
        // Another one has more.
        (Proof::Quorum, 10, 20, ok(), false, Err("failover_candidate_behind")),
        (Proof::Quorum, 10, 5, ok(), false, Ok(true)),
        // Without enough of them it may go on confirming, whatever is accepted.
        (Proof::Quorum, 10, 5, short(), true, Err("failover_quorum_short")),
    ];
    for (number, (proof, own, last, quorum, data_loss, expected)) in table.into_iter().enumerate() {
        let confirmed = Confirmed { proof, quorum };
        let accepted = Accepted { data_loss, ..Accepted::default() };
        let ends = ends(own, 10, last);
        let said = elect(world.inventory, &old, &ends, &host("node2"), &confirmed, accepted);
        let said = said.map(|e| e.all_confirmed).map_err(|check| check.code);
        assert_eq!(said, expected, "{number}");
    }
}

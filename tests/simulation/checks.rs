//! Every precondition: raised by what it is about, and by nothing on a healthy cluster.

use std::collections::BTreeSet;

use pgorch::facts::{OperationRecord, OperationState, Proof, Snapshot};
use pgorch::inventory::Inventory;
use pgorch::model::{HostName, Lsn, SystemIdentifier, Timeline};
use pgorch::operation::{Check, Level, Looked, PRECONDITIONS, Preflight, switchover_checks};
use pgorch::topology::{ClockOffsets, analyse};

use super::{ASYNC, QUORUM, World};
use crate::nodes::Spoilt;

/// What a switchover to node2 sees, before it decides.
struct Seen {
    inventory: Inventory,
    snapshot: Snapshot,
    looked: Looked,
    clocks: ClockOffsets,
}

type Spoil = fn(&mut Seen);

impl Seen {
    fn of(text: &str) -> Self {
        let world = World::new(text, "");
        Seen {
            snapshot: world.snapshot("c0"),
            looked: world.looked("c0", &"node2".into()),
            inventory: world.inventory.clone(),
            clocks: ClockOffsets::new(),
        }
    }

    fn checks(&self) -> Vec<Check> {
        let topology = analyse(&self.inventory, &self.snapshot);
        let to = HostName::from("node2");
        switchover_checks(
            &self.inventory,
            &self.snapshot,
            &topology,
            &to,
            &self.looked,
            &self.clocks,
        )
    }

    fn asked(&mut self, name: &str) -> &mut Preflight {
        self.looked.nodes.get_mut(&HostName::from(name)).expect("it answered")
    }
}

impl Spoilt for Seen {
    fn snapshot(&mut self) -> &mut Snapshot {
        &mut self.snapshot
    }
}

#[test]
fn a_healthy_cluster_raises_none() {
    for text in [ASYNC, QUORUM, super::CASCADE] {
        assert_eq!(Seen::of(text).checks(), []);
    }
}

/// A way to spoil a healthy cluster, what that raises, how bad it is, and on which node.
const TABLE: &[(Spoil, &str, Level, &str)] = &[
    (|s| s.server("node1").in_recovery = true, "switchover_no_primary", Level::Refused, ""),
    (|s| s.server("node3").in_recovery = false, "switchover_no_primary", Level::Refused, ""),
    (|s| s.unreachable("node2"), "switchover_candidate_not_streaming", Level::Refused, "node2"),
    (
        |s| s.instance("node2").server = None,
        "switchover_candidate_not_streaming",
        Level::Refused,
        "node2",
    ),
    (
        |s| s.server("node2").receiver = None,
        "switchover_candidate_not_streaming",
        Level::Refused,
        "node2",
    ),
    (
        |s| {
            let from = s.inventory.nodes[&HostName::from("node3")]
                .host
                .address
                .clone()
                .expect("an address");
            s.server("node2").receiver.as_mut().expect("a receiver").sender_host = from;
        },
        "switchover_candidate_not_streaming",
        Level::Refused,
        "node2",
    ),
    (
        |s| s.server("node2").timeline = Some(Timeline(7)),
        "switchover_candidate_not_streaming",
        Level::Refused,
        "node2",
    ),
    (
        |s| s.server("node1").lsn = Some(Lsn(17 << 20)),
        "switchover_candidate_lag",
        Level::Refused,
        "node2",
    ),
    (
        |s| {
            for node in ["node1", "node2", "node3"] {
                s.server(node).lsn = Some(Lsn(17 << 20));
            }
        },
        "switchover_candidate_lag",
        Level::Refused,
        "node2",
    ),
    (|s| s.unreachable("node3"), "switchover_sibling", Level::Warning, "node3"),
    (
        |s| {
            for node in ["node1", "node2"] {
                s.server(node).lsn = Some(Lsn(17 << 20));
            }
            s.server("node2").replay_lsn = Some(Lsn(17 << 20));
        },
        "switchover_sibling",
        Level::Warning,
        "node3",
    ),
    (
        |s| s.server("node2").replay_paused = true,
        "switchover_replay_paused",
        Level::Refused,
        "node2",
    ),
    (
        |s| {
            s.instance("node3").epoch.operation = Some(OperationRecord {
                id: "a".to_owned(),
                kind: "switchover".to_owned(),
                controller: "c".to_owned(),
                proof: Proof::CleanStop,
                elected: false,
                over: false,
                lease_ms: None,
                primary: "node1".into(),
                candidate: "node3".into(),
                earlier: Vec::new(),
                possible: Vec::new(),
                state: OperationState::Open,
                started: String::new(),
            });
        },
        "switchover_operation_open",
        Level::Refused,
        "node3",
    ),
    (
        |s| {
            s.unreachable("node2");
            s.unreachable("node3");
        },
        "switchover_voters",
        Level::Refused,
        "",
    ),
    (
        |s| s.asked("node2").vip = Some("has no network interface eth0".to_owned()),
        "switchover_vip",
        Level::Refused,
        "node2",
    ),
    (
        |s| s.asked("node3").reaches_candidate = Some(Err("no pg_hba.conf entry".to_owned())),
        "switchover_replication_refused",
        Level::Refused,
        "node3",
    ),
    (
        |s| s.asked("node2").free_wal_senders = 1,
        "switchover_no_free_senders",
        Level::Refused,
        "node2",
    ),
    (
        |s| s.asked("node2").free_replication_slots = 1,
        "switchover_no_free_senders",
        Level::Refused,
        "node2",
    ),
    (
        |s| {
            s.set("node2", "max_connections", "200", "pgorch.conf");
            s.set("node3", "max_connections", "100", "pgorch.conf");
        },
        "switchover_parameter_lower",
        Level::Refused,
        "node3",
    ),
    (
        |s| s.asked("node1").ready_to_archive = 129,
        "switchover_archive_backlog",
        Level::Refused,
        "node1",
    ),
    (
        |s| {
            s.asked("node1").ready_to_archive = 1;
            s.server("node1").archive_failing = true;
        },
        "switchover_archive_backlog",
        Level::Refused,
        "node1",
    ),
    (|s| s.instance("node1").unit.main_pid = 1, "switchover_unit", Level::Refused, "node1"),
    (|s| s.instance("node2").unit.heeds_fence = false, "switchover_unit", Level::Refused, "node2"),
    (
        |s| s.instance("node1").unit.need_daemon_reload = true,
        "switchover_unit",
        Level::Refused,
        "node1",
    ),
    (|s| s.dir("node1").made_by_pgorch = false, "switchover_not_ours", Level::Refused, "node1"),
    (
        |s| s.instance("node2").fenced = Some("by hand".to_owned()),
        "switchover_fenced",
        Level::Refused,
        "node2",
    ),
    (
        |s| s.asked("node1").prepared_transactions = 1,
        "switchover_transactions",
        Level::Warning,
        "node1",
    ),
    (
        |s| s.asked("node1").longest_transaction_seconds = 11.0,
        "switchover_transactions",
        Level::Warning,
        "node1",
    ),
    (|s| s.asked("node1").backups = 1, "switchover_backup", Level::Warning, "node1"),
    (
        |s| s.asked("node1").logical_slots = vec!["cdc".to_owned()],
        "switchover_logical_slots",
        Level::Warning,
        "node1",
    ),
    (
        |s| s.dir("node1").control.as_mut().expect("control data").data_checksums = false,
        "switchover_rewind",
        Level::Warning,
        "node1",
    ),
    (
        |s| {
            s.clocks.insert("node3".into(), 9.0);
        },
        "switchover_finding",
        Level::Warning,
        "node3",
    ),
    (
        |s| {
            let other = SystemIdentifier(1);
            s.server("node2").system_identifier = Some(other);
        },
        "switchover_finding",
        Level::Refused,
        "node2",
    ),
    (
        |s| s.inventory.nodes[&HostName::from("node2")].priority = 0,
        "switchover_nofailover",
        Level::Warning,
        "node2",
    ),
];

#[test]
fn each_is_raised_by_what_it_is_about() {
    for (number, (spoil, code, level, node)) in TABLE.iter().enumerate() {
        let mut seen = Seen::of(ASYNC);
        spoil(&mut seen);
        let checks = seen.checks();
        let hit = |c: &&Check| {
            let on = c.node.as_ref().map_or("", HostName::as_str);
            c.code == *code && c.level == *level && on == *node
        };
        let hit = checks.iter().find(hit);
        assert!(hit.is_some(), "{number}: no {code} ({level:?}) on {node:?} in {checks:#?}");
    }
}

/// Only in quorum mode: commits would wait for standbys that are not there.
#[test]
fn too_few_standbys_for_a_quorum() {
    let mut seen = Seen::of(QUORUM);
    seen.inventory.replication.sync_standbys = 3;
    let checks = seen.checks();
    assert!(checks.iter().any(|c| c.code == "switchover_sync" && c.level == Level::Refused));
}

/// The candidate's minor version must not confirm the first commits too early.
#[test]
fn a_minor_version_that_does_not_suit_a_quorum() {
    for (text, refused) in [(QUORUM, true), (ASYNC, false)] {
        let mut seen = Seen::of(text);
        seen.server("node2").version_num = 150_012;
        let hit = |c: &Check| c.code == "switchover_sync_version" && c.level == Level::Refused;
        assert_eq!(seen.checks().iter().any(hit), refused);
    }
}

/// A pooler whose console does not answer cannot be told to hold its clients.
#[test]
fn a_pooler_that_does_not_answer() {
    let mut seen = Seen::of(ASYNC);
    let routing = "routing: { poolers: { lb1: { kind: pgbouncer } } }\nhosts: { lb1: { host: 198.18.0.9 } }\n";
    seen.inventory = super::inventory(&format!("{ASYNC}{routing}"));
    seen.looked.poolers.insert("lb1".into(), Err("no answer".to_owned()));
    let checks = seen.checks();
    let hit = |c: &Check| c.code == "switchover_pooler" && c.level == Level::Refused;
    assert!(checks.iter().any(hit), "{checks:#?}");
}

#[test]
fn every_code_is_raised_somewhere_and_explained() {
    let mut raised: BTreeSet<&str> = TABLE.iter().map(|(_, code, ..)| *code).collect();
    raised.extend(["switchover_sync", "switchover_sync_version", "switchover_pooler"]);
    let explained: BTreeSet<&str> = PRECONDITIONS.iter().map(|(code, _)| *code).collect();
    assert_eq!(raised, explained);
}

/// What stands in the way is told together, worst first.
#[test]
fn all_are_told_at_once() {
    let mut seen = Seen::of(ASYNC);
    seen.asked("node1").backups = 1;
    seen.server("node2").replay_paused = true;
    seen.asked("node3").reaches_candidate = Some(Err("timed out".to_owned()));
    let checks = seen.checks();
    let levels: Vec<Level> = checks.iter().map(|c| c.level).collect();
    assert_eq!(levels, [Level::Refused, Level::Refused, Level::Warning], "{checks:#?}");
}

/// The old primary is restarted by the switchover: with what its file says, where that is why it owes one.
#[test]
fn a_parameter_that_waits_for_a_restart_of_the_primary_counts_as_it_will_be() {
    let mut seen = Seen::of(ASYNC);
    let parameters = &mut seen.inventory.postgres.parameters;
    parameters.insert("max_connections".to_owned(), "200".to_owned());
    for (node, value) in [("node1", "100"), ("node2", "200"), ("node3", "200")] {
        seen.set(node, "max_connections", value, "pgorch.conf");
    }
    let refused =
        |seen: &Seen| seen.checks().iter().any(|c| c.code == "switchover_parameter_lower");
    assert!(refused(&seen), "nothing says that it will be raised");
    let settings = &mut seen.server("node1").settings;
    settings.get_mut("max_connections").expect("set").pending_restart = true;
    assert!(!refused(&seen));
    seen.inventory.postgres.parameters["max_connections"] = "150".to_owned();
    assert!(refused(&seen));
}

//! Each finding, alone.

use std::collections::BTreeSet;

use super::super::{FINDINGS, Severity, State, Upstream, explain};
use super::{LSN, Spoil, Spoilt as _, World, sender, slot};
use crate::facts::{DataDir, History, Pause};
use crate::model::{HostName, Lsn, SystemIdentifier, Timeline};

const QUORUM: &str = "ANY 1 (\"node2\", \"node3\")";

/// What happens to a cluster that is well, for each code.
const CASES: &[(&str, Spoil)] = &[
    ("split_brain", |w| w.server("node2").in_recovery = false),
    ("no_primary", |w| w.stop("node1")),
    ("timeline_fork", |w| w.server("node3").timeline = Some(Timeline(2))),
    ("system_identifier_mismatch", |w| {
        w.server("node3").system_identifier = Some(SystemIdentifier(1));
    }),
    ("node_unreachable", |w| w.unreachable("node3")),
    ("server_down", |w| w.stop("node3")),
    ("standby_not_streaming", |w| w.server("node3").receiver = None),
    ("standby_lagging", |w| w.server("node3").lsn = Some(Lsn(LSN.0 - (100 << 20)))),
    ("slot_missing", |w| w.server("node1").slots.retain(|s| s.name != "node3")),
    ("slot_inactive_retaining", |w| {
        let slots = &mut w.server("node1").slots;
        slots[1].active = false;
        slots[1].retained_bytes = Some(3 << 30);
    }),
    ("config_error", |w| {
        w.server("node1").config_errors = vec!["pg_hba.conf:99: invalid CIDR mask".to_owned()];
    }),
    ("settings_overridden", |w| w.set("node1", "wal_keep_size", "1GB", "postgresql.auto.conf")),
    ("standby_parameter_lower", |w| {
        w.set("node1", "max_connections", "200", "pgorch.conf");
        w.set("node3", "max_connections", "100", "pgorch.conf");
    }),
    ("wrong_upstream", |w| w.connect("node3", "node2")),
    ("not_made_by_pgorch", |w| w.dir("node3").made_by_pgorch = false),
    ("archive_failing", |w| w.server("node1").archive_failing = true),
    ("disk_nearly_full", |w| w.instance("node3").disk_free_bytes = 9 << 30),
    ("clock_skew", |w| {
        w.clocks.insert(HostName::from("node3"), -3.25);
        w.clocks.insert(HostName::from("node2"), 1.9);
    }),
    ("unit_not_enabled", |w| w.instance("node3").unit.file_state = "disabled".to_owned()),
    ("node_not_in_inventory", |w| w.server("node1").senders.push(sender("stranger"))),
    ("version_differs", |w| w.server("node3").version_num = 140_000),
    ("watch_paused", |w| {
        for (node, paused) in [("node1", false), ("node2", true), ("node3", true)] {
            w.instance(node).pause = Some(Pause {
                said: if paused { 1_000 } else { 0 },
                paused,
                until: None,
                by: "dba@bastion".to_owned(),
                reason: Some("new switch".to_owned()),
            });
        }
    }),
    ("pending_restart", |w| {
        w.server("node3").pending_restart = vec!["max_connections".to_owned()];
    }),
    ("reload_owed", |w| w.instance("node3").config_newer_than_load = true),
    ("unit_needs_daemon_reload", |w| w.instance("node3").unit.need_daemon_reload = true),
    ("checksums_off", |w| {
        if let Some(control) = &mut w.dir("node3").control {
            control.data_checksums = false;
        }
    }),
    ("declared_primary_differs", |w| {
        for (name, node) in &mut w.inventory.nodes {
            node.primary = name.as_str() == "node2";
        }
    }),
    ("node_fenced", |w| {
        w.stop("node3");
        w.instance("node3").fenced = Some("fenced by the failover to node2".to_owned());
    }),
    ("operation_open", |w| {
        w.instance("node3").epoch = crate::facts::EpochFacts {
            epoch: 3,
            operation: Some(crate::facts::OperationRecord {
                id: "abc".to_owned(),
                kind: "switchover".to_owned(),
                controller: "dba@bastion".to_owned(),
                primary: HostName::from("node1"),
                candidate: HostName::from("node2"),
                earlier: Vec::new(),
                possible: Vec::new(),
                state: crate::facts::OperationState::Open,
                proof: crate::facts::Proof::CleanStop,
                elected: false,
                over: false,
                lease_ms: None,
                started: "2026-11-21T10:00:00Z".to_owned(),
            }),
        };
    }),
    ("sync_standby_missing", |w| {
        w.inventory.replication.mode = crate::inventory::ReplicationMode::Quorum;
    }),
    ("sync_change_open", |w| {
        w.inventory.replication.mode = crate::inventory::ReplicationMode::Quorum;
        w.set("node1", "synchronous_standby_names", QUORUM, "pgorch.sync.conf");
        w.server("node1").senders[0].sync_state = "quorum".to_owned();
        w.recorded(&["", QUORUM]);
    }),
    ("sync_name_taken", |w| {
        w.inventory.replication.mode = crate::inventory::ReplicationMode::Quorum;
        w.set("node1", "synchronous_standby_names", QUORUM, "pgorch.sync.conf");
        w.server("node1").senders[0].sync_state = "quorum".to_owned();
        w.recorded(&[QUORUM]);
        w.server("node1").senders[1].slot = None;
    }),
    ("sync_old_minor", |w| {
        w.inventory.replication.mode = crate::inventory::ReplicationMode::Quorum;
        w.set("node1", "synchronous_standby_names", QUORUM, "pgorch.sync.conf");
        w.server("node1").senders[0].sync_state = "quorum".to_owned();
        w.recorded(&[QUORUM]);
        w.server("node1").version_num = 150_012;
    }),
    ("replication_slot_unknown", |w| w.server("node1").slots.push(slot("old"))),
];

/// The findings as lines.
fn lines(world: &World) -> String {
    let lines = world.status().findings.into_iter().map(|f| {
        let node = f.node.map(|n| format!(" {n}")).unwrap_or_default();
        let hint = f.hint.map(|h| format!("\n    -> {h}")).unwrap_or_default();
        format!("{} {}{node}: {}{hint}", f.severity.word(), f.code, f.message)
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_cluster_that_is_well_has_none() {
    assert_eq!(lines(&World::new()), "");
}

#[test]
fn every_code_has_a_case_that_brings_it_up() {
    let mut out = String::new();
    for (code, spoil) in CASES {
        let mut world = World::new();
        spoil(&mut world);
        let found = lines(&world);
        assert!(world.status().findings.iter().any(|f| f.code == *code), "{code}: {found}");
        out.push_str(&format!("[{code}]\n{found}\n"));
    }
    let cases: BTreeSet<&str> = CASES.iter().map(|(code, _)| *code).collect();
    assert_eq!(cases, FINDINGS.iter().map(|info| info.code).collect());
    insta::assert_snapshot!(out, @r#"
    [split_brain]
    critical split_brain: node1 (timeline 1, 1/3048F28) and node2 (timeline 1, 1/3048F28) are out of recovery and accept writes
        -> pgorch explain split_brain; keep clients away, stop the stale one, rejoin it
    [no_primary]
    critical no_primary: no node is out of recovery
        -> pgorch start NODE, pgorch start --all, or pgorch failover
    warning server_down node1: PostgreSQL is not running, its unit is failed
        -> pgorch start node1
    [timeline_fork]
    critical timeline_fork node3: is on timeline 2, the primary node1 on 1
        -> pgorch rejoin node3
    [system_identifier_mismatch]
    critical system_identifier_mismatch node3: system identifier 1, node1 has 7710499155369246763
    [node_unreachable]
    warning node_unreachable node3: connection timed out
    [server_down]
    warning server_down node3: PostgreSQL is not running, its unit is failed
        -> pgorch start node3
    [standby_not_streaming]
    warning standby_not_streaming node3: receives no WAL
        -> its log says why: journalctl -u pgorch-accounts on node3
    [standby_lagging]
    warning standby_lagging node3: is 100 MB behind
    [slot_missing]
    warning slot_missing node3: has no slot "node3" on node1
        -> pgorch apply
    [slot_inactive_retaining]
    warning slot_inactive_retaining node1: slot "node3" is unused and holds 3.0 GB
    [config_error]
    warning config_error node1: pg_hba.conf:99: invalid CIDR mask
    [settings_overridden]
    warning settings_overridden node1: wal_keep_size is 1GB by postgresql.auto.conf
        -> ALTER SYSTEM RESET "wal_keep_size";
    [standby_parameter_lower]
    warning standby_parameter_lower node3: max_connections is 100, the primary has 200
        -> pgorch apply --restart
    [wrong_upstream]
    warning wrong_upstream node3: follows node2 instead of node1
        -> pgorch apply
    [not_made_by_pgorch]
    warning not_made_by_pgorch node3: /var/lib/pgorch/accounts/15/data was not made by pgorch
        -> use another port and data_dir, or stop it
    [archive_failing]
    warning archive_failing node1: archive_command failed since its last success
    [disk_nearly_full]
    warning disk_nearly_full node3: 9 % (9.0 GB) left for data_dir
    [clock_skew]
    warning clock_skew node3: the host's clock is 3.2 s behind the controller's
    [unit_not_enabled]
    warning unit_not_enabled node3: the unit is disabled: the server stays down after a reboot
        -> pgorch apply
    [node_not_in_inventory]
    warning node_not_in_inventory node1: "stranger" from 198.18.0.99 streams from here
    [version_differs]
    critical version_differs node3: is PostgreSQL 14, the inventory says 15
    [watch_paused]
    info watch_paused: paused by dba@bastion since 1970-01-01T00:00:01Z: new switch
        -> pgorch unpause
    [pending_restart]
    info pending_restart node3: max_connections waits for a restart
        -> pgorch apply --restart
    [reload_owed]
    info reload_owed node3: a configuration file changed after the server last read it
        -> pgorch apply
    [unit_needs_daemon_reload]
    info unit_needs_daemon_reload node3: the unit's file changed since systemd read it
        -> pgorch apply
    [checksums_off]
    info checksums_off node3: the data directory has no checksums
    [declared_primary_differs]
    info declared_primary_differs: node1 is the primary, the inventory marks node2
    [node_fenced]
    warning node_fenced node3: fenced by the failover to node2
        -> pgorch rejoin node3
    [operation_open]
    warning operation_open node3: the switchover to node2 of dba@bastion (2026-11-21T10:00:00Z) is not over
        -> if its controller is gone: pgorch resume
    [sync_standby_missing]
    warning sync_standby_missing node1: synchronous_standby_names is empty: commits wait for nobody
        -> pgorch apply
    [sync_change_open]
    warning sync_change_open node1: commits may be waiting for nobody, or for ANY 1 ("node2", "node3")
        -> pgorch apply
    [sync_name_taken]
    critical sync_name_taken node1: "node3" from 198.18.0.99 does not use the slot of that name
    [sync_old_minor]
    warning sync_old_minor node1: 15.20 may confirm the first commits after a start early
    [replication_slot_unknown]
    info replication_slot_unknown node1: slot "old" belongs to no declared node
        -> if nobody uses it: SELECT pg_drop_replication_slot('old')
    "#);
}

#[test]
fn the_table_is_complete() {
    let codes: BTreeSet<&str> = FINDINGS.iter().map(|info| info.code).collect();
    assert_eq!(codes.len(), FINDINGS.len());
    assert!(FINDINGS.iter().all(|info| info.sentence.ends_with('.') && info.explain.len() > 40));
    assert!(FINDINGS.is_sorted_by_key(|info| std::cmp::Reverse(info.severity)));
    assert_eq!(explain("split_brain").map(|info| info.severity), Some(Severity::Critical));
    assert_eq!(explain("nonsense"), None);
}

#[test]
fn a_fork_is_judged_by_the_primarys_history() {
    let mut world = World::new();
    let fork = Lsn(LSN.0 - 0x1000);
    world.server("node1").timeline = Some(Timeline(2));
    world.dir("node1").history =
        Some(History { timeline: Timeline(2), ancestors: vec![(Timeline(1), fork)] });
    world.server("node2").lsn = Some(fork);
    insta::assert_snapshot!(lines(&world), @r"
    critical timeline_fork node3: stands at 1/3048F28 on timeline 1, which node1 left at 1/3047F28: 4096 bytes more
        -> pgorch rejoin node3
    ");
}

#[test]
fn minor_versions_are_for_information() {
    let mut world = World::new();
    world.server("node3").version = "15.19".to_owned();
    world.server("node2").version = "15.19".to_owned();
    world.instance("node2").binary_version = Some("15.19".to_owned());
    insta::assert_snapshot!(lines(&world), @r"
    info version_differs node2: runs 15.19, the primary 15.20
    info version_differs node3: runs 15.19, installed is 15.20
        -> pgorch apply --restart
    ");
    let mut world = World::new();
    world.instance("node3").binary_replaced = true;
    insta::assert_snapshot!(lines(&world), @r"
    info version_differs node3: its binaries were replaced since it started
        -> pgorch restart --switchover
    ");
}

#[test]
fn strangers_and_odd_servers() {
    let mut world = World::new();
    world.server("node1").registered = vec!["node1".to_owned(), "node9".to_owned()];
    world.server("node1").senders.push(sender("pg_basebackup"));
    world.instance("node3").server_elsewhere = true;
    world.server("node3").data_directory = Some("/var/lib/postgresql/15/main".to_owned());
    world.server("node2").slots.push(slot("node3"));
    let lost = &mut world.server("node2").slots[0];
    lost.active = false;
    lost.wal_status = Some("lost".to_owned());
    insta::assert_snapshot!(lines(&world), @r#"
    warning slot_inactive_retaining node2: slot "node3" is lost: its WAL is gone
    warning not_made_by_pgorch node3: the server on port 5432 runs on /var/lib/postgresql/15/main, not on /var/lib/pgorch/accounts/15/data
        -> use another port and data_dir, or stop it
    warning node_not_in_inventory: "node9" is registered in pgorch.nodes
        -> add it to the inventory, or pgorch unregister node9
    "#);
}

#[test]
fn an_old_primary_is_not_simply_started_beside_the_new_one() {
    let mut world = World::new();
    world.server("node2").in_recovery = false;
    world.stop("node1");
    let found = lines(&world);
    assert!(found.contains("pgorch rejoin node1: it would come up as a second primary"), "{found}");
}

#[test]
fn an_unreachable_primary_that_feeds_standbys_seems_alive() {
    let mut world = World::new();
    world.unreachable("node1");
    insta::assert_snapshot!(lines(&world), @r"
    critical no_primary: no node is out of recovery
        -> node2 streams from node1, so that seems alive: look at the way to it
    warning node_unreachable node1: connection timed out
    ");
}

#[test]
fn follow_gives_way_to_the_primary_when_it_would_be_a_circle_or_is_ill() {
    let mut world = World::new();
    let wanted = |world: &World, name: &str| {
        let settings = world.inventory.postgres_of(&HostName::from(name)).expect("a node");
        world.topology().wanted_upstream(&settings).cloned()
    };
    let (node1, node2) = (HostName::from("node1"), HostName::from("node2"));
    world.inventory.nodes[2].follow = Some(node2.clone());
    assert_eq!(wanted(&world, "node1"), None);
    assert_eq!(wanted(&world, "node2"), Some(node1.clone()));
    assert_eq!(wanted(&world, "node3"), Some(node2.clone()));
    assert!(lines(&world).contains("wrong_upstream node3: follows node1 instead of node2"));

    // node2 streams from node3: it cannot be followed by node3.
    world.connect("node2", "node3");
    assert!(world.topology().descends_from(&node2, &node1));
    assert_eq!(wanted(&world, "node3"), Some(node1.clone()));

    let mut world = World::new();
    world.inventory.nodes[2].follow = Some(node2);
    world.server("node2").receiver = None;
    assert_eq!(wanted(&world, "node3"), Some(node1));
}

#[test]
fn upstreams_are_found_by_address_by_sender_and_by_configuration() {
    let mut world = World::new();
    let upstream = |world: &World| world.topology().members[2].upstream.clone();
    let node1 = Some(Upstream::Node(HostName::from("node1")));
    assert_eq!(upstream(&world), node1);

    // Another name for the same host: the sender's application_name tells.
    world.server("node3").receiver.as_mut().expect("a receiver").sender_host = "db1".to_owned();
    assert_eq!(upstream(&world), node1);
    world.server("node1").senders.clear();
    let other = Some(Upstream::Other { host: "db1".to_owned(), port: 5432 });
    assert_eq!(upstream(&world), other);

    world.server("node3").receiver = None;
    world.set("node3", "primary_conninfo", "host=198.18.0.11 user=replicator", "pgorch.conf");
    assert_eq!(upstream(&world), node1);
    assert_eq!(world.topology().members[2].state, State::Disconnected);
}

#[test]
fn a_data_directory_that_is_not_there_yet() {
    let mut world = World::new();
    world.remove_data("node3");
    world.instance("node3").data_dir = DataDir::Empty;
    assert_eq!(world.topology().members[2].state, State::Absent);
}

//! What captured answers of real servers are read as (tests/facts/).

use indexmap::IndexMap;
use pgorch::facts::{self, DataDir, InstanceFacts, NodeFacts, Observation, Snapshot};
use pgorch::inventory::{
    FailoverSettings, Host, Inventory, Node, NodeSettings, PostgresSettings, ReplicationMode,
    ReplicationSettings, Routing, SshSettings,
};
use pgorch::model::{Answer, Ask, HostName, Lsn, Map, Timeline};
use pgorch::topology::{Status, human};

/// The settings of a node of the cluster `accounts`, as `Inventory::postgres_of` makes them.
fn settings(name: &str, version: u32) -> NodeSettings {
    NodeSettings {
        guard: None,
        name: HostName::from(name),
        address: "198.18.0.11".to_owned(),
        version,
        port: 5432,
        data_dir: format!("/var/lib/pgorch/accounts/{version}/data"),
        home: "/var/lib/pgorch/accounts".to_owned(),
        bin_dir: format!("/usr/lib/postgresql/{version}/bin"),
        service: "pgorch-accounts".to_owned(),
        install_packages: true,
        parameters: IndexMap::new(),
        follow: None,
        priority: 100,
        slot: name.to_owned(),
    }
}

/// The answers in a captured file: host script, instance script, query.
fn answers(text: &str) -> Vec<Answer> {
    let part = |name: &str| {
        let rest = text.split_once(&format!("=== {name}")).map_or("", |(_, rest)| rest);
        let (head, body) = rest.split_once('\n').unwrap_or_default();
        let end = body.find("\n=== ").map_or(body.len(), |at| at + 1);
        (head.trim().parse().unwrap_or(0), body[..end].to_owned())
    };
    let (rc, stdout) = part("sql");
    let stderr = part("stderr").1;
    let shell = |name| Answer { stdout: part(name).1, ..Answer::default() };
    vec![shell("host"), shell("instance"), Answer { rc, stdout, stderr }]
}

fn observe(file: &str) -> Observation {
    let path = format!("{}/tests/facts/{file}.txt", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("a captured file");
    let version = file.split('-').next().expect("a version").parse().expect("a number");
    let standby = file.ends_with("standby") || file.ends_with("promoted");
    let name = if standby { "node2" } else { "node1" };
    facts::observe(&settings(name, version), &answers(&text))
}

fn seen(file: &str) -> NodeFacts {
    match observe(file) {
        Observation::Seen(facts) => *facts,
        other => panic!("{file}: {other:?}"),
    }
}

fn instance(file: &str) -> InstanceFacts {
    seen(file).instance.expect("an instance")
}

#[test]
fn every_version_is_understood() {
    for version in [13, 14, 15, 16, 17, 18] {
        for role in ["primary", "standby"] {
            let file = format!("{version}-{role}");
            let instance = instance(&file);
            let server = instance.server.as_ref().expect("a server");
            assert_eq!(server.version_num / 10000, version, "{file}");
            assert_eq!(server.in_recovery, role == "standby", "{file}");
            assert_eq!(server.timeline, Some(Timeline(1)), "{file}");
            assert!(server.lsn.is_some() && instance.made_by_pgorch(), "{file}");
            assert_eq!(server.receiver.is_some(), role == "standby", "{file}");
            assert_eq!(server.senders.len(), usize::from(role == "primary"), "{file}");
            assert!(!instance.config_newer_than_load && !instance.server_elsewhere, "{file}");
            let control = instance.cluster().and_then(|c| c.control.as_ref()).expect("control");
            assert_eq!(Some(control.system_identifier), server.system_identifier, "{file}");
            assert_eq!(control.settings["max_connections"], 120, "{file}");
            assert!(control.data_checksums && control.wal_log_hints, "{file}");
        }
    }
}

#[test]
fn the_host() {
    insta::assert_json_snapshot!(seen("15-primary").host, @r#"
    {
      "os_id": "debian",
      "os_family": "debian",
      "os_version": "12",
      "os_codename": "bookworm",
      "architecture": "x86_64",
      "kernel": "6.18.44-fc-v669",
      "hostname": "vm",
      "memory_bytes": 25276502016,
      "cpus": 2,
      "locale": "C.UTF-8",
      "boot_id": "a0380fa3-10f5-448c-bfa9-b039f7be7ef4",
      "uptime_seconds": 2721.17,
      "epoch_seconds": 1795241461.076252,
      "systemd_version": 252,
      "addresses": [
        "198.18.0.11",
        "fd00::2"
      ]
    }
    "#);
}

#[test]
fn a_primary() {
    let instance = instance("15-primary");
    assert_eq!(
        instance.replication_password.as_ref().map(|p| p.expose()),
        Some(r"s3cret:with\things")
    );
    let server = instance.server.as_ref().expect("a server");
    insta::assert_debug_snapshot!(server.senders, @r#"
    [
        Sender {
            application_name: "node2",
            client_addr: Some(
                "198.18.0.11",
            ),
            state: "streaming",
            sync_state: "async",
            slot: Some(
                "node2",
            ),
            sent: Some(
                Lsn(
                    50333536,
                ),
            ),
            flush: None,
            replay: None,
        },
    ]
    "#);
    insta::assert_debug_snapshot!(server.slots, @r#"
    [
        Slot {
            name: "gone",
            physical: true,
            active: false,
            restart_lsn: Some(
                Lsn(
                    24455600,
                ),
            ),
            wal_status: Some(
                "reserved",
            ),
            retained_bytes: Some(
                25877936,
            ),
        },
        Slot {
            name: "node2",
            physical: true,
            active: true,
            restart_lsn: None,
            wal_status: None,
            retained_bytes: None,
        },
    ]
    "#);
    insta::assert_debug_snapshot!((&instance.unit, &instance.data_dir), @r#"
    (
        UnitFacts {
            load_state: "loaded",
            active_state: "active",
            sub_state: "running",
            file_state: "enabled",
            main_pid: 4242,
            need_daemon_reload: false,
            heeds_fence: false,
        },
        Cluster(
            ClusterDir {
                major: 15,
                made_by_pgorch: true,
                standby_signal: false,
                recovery_signal: false,
                control: Some(
                    ControlData {
                        system_identifier: SystemIdentifier(
                            7710503360172365670,
                        ),
                        state: "in production",
                        timeline: Timeline(
                            1,
                        ),
                        checkpoint_lsn: Lsn(
                            33554528,
                        ),
                        redo_lsn: Lsn(
                            33554472,
                        ),
                        data_checksums: true,
                        wal_log_hints: true,
                        min_recovery_end: None,
                        settings: {
                            "max_connections": 120,
                            "max_worker_processes": 8,
                            "max_wal_senders": 10,
                            "max_prepared_transactions": 0,
                            "max_locks_per_transaction": 64,
                        },
                    },
                ),
                history: None,
                wal_timeline: None,
            },
        ),
    )
    "#);
}

#[test]
fn a_standby() {
    let server = instance("15-standby").server.expect("a server");
    insta::assert_debug_snapshot!(server.receiver, @r#"
    Some(
        Receiver {
            status: "streaming",
            sender_host: "198.18.0.11",
            sender_port: 5432,
            slot: Some(
                "node2",
            ),
            silent_seconds: 0.111816,
        },
    )
    "#);
    assert_eq!(server.settings["primary_slot_name"].value, "node2");
}

#[test]
fn the_captured_pair_makes_a_status() {
    let nodes = [("node1", "198.18.0.11"), ("node2", "198.18.0.12")].map(|(name, address)| {
        let host = Host { address: Some(address.to_owned()), ..Host::default() };
        let postgres = PostgresSettings::default();
        let node =
            Node { host, primary: false, priority: 100, location: None, follow: None, postgres };
        (HostName::from(name), node)
    });
    let mode = ReplicationMode::Async;
    let inventory = Inventory {
        cluster: "accounts".to_owned(),
        ssh: SshSettings::default(),
        postgres: PostgresSettings { version: Some(15), ..PostgresSettings::default() },
        replication: ReplicationSettings { mode, slots: true, sync_standbys: 1, strict: true },
        failover: FailoverSettings::default(),
        witnesses: IndexMap::new(),
        routing: Routing::default(),
        notifications: Vec::new(),
        nodes: nodes.into(),
        hosts: IndexMap::new(),
        vars: Map::new(),
        group_vars: IndexMap::new(),
        lab: None,
        secrets: Vec::new(),
    };
    let status = |first, second| {
        let nodes = [("node1", first), ("node2", second)];
        let nodes = nodes.map(|(name, file)| (HostName::from(name), observe(file)));
        let snapshot = Snapshot { nodes: nodes.into(), ..Snapshot::default() };
        human(&Status::new(&inventory, &snapshot, &IndexMap::new()))
    };
    insta::assert_snapshot!(status("15-primary", "15-standby"), @r#"
    cluster accounts: OK, primary node1, 2 nodes, PostgreSQL 15.20

    NODE        HOST              ROLE     STATE      TL  LSN        LAG  SYNC   FLAGS
    ◆ node1     198.18.0.11:5432  primary  running    1   0/3000760  -    -      replication slot unknown
    └─ ● node2  198.18.0.12:5432  standby  streaming  1   0/3000760  0 B  async

    i info      replication_slot_unknown  node1: slot "gone" belongs to no declared node
                → if nobody uses it: SELECT pg_drop_replication_slot('gone')
    "#);
    insta::assert_snapshot!(status("15-debts", "15-standby"), @r#"
    cluster accounts: DEGRADED, primary node1, 2 nodes, PostgreSQL 15.20

    NODE        HOST              ROLE     STATE      TL  LSN        LAG     SYNC   FLAGS
    ◆ node1     198.18.0.11:5432  primary  running    1   0/3025668  -       -      restart owed, reload owed, config error, replication slot unknown
    └─ ● node2  198.18.0.12:5432  standby  streaming  1   0/3000760  148 kB  async

    ! warning   config_error  node1: /var/lib/pgorch/accounts/15/data/pgorch.conf:7: shared_buffers: setting could not be applied
    ! warning   config_error  node1: pg_hba.conf:99: invalid CIDR mask in address "10.0.0.0/99"
    ! warning   node_not_in_inventory  "a<b>&" is registered in pgorch.nodes
                → add it to the inventory, or pgorch unregister a<b>&
    i info      pending_restart  node1: max_connections waits for a restart
                → pgorch apply --restart
    i info      reload_owed  node1: a configuration file changed after the server last read it
                → pgorch apply
    i info      replication_slot_unknown  node1: slot "gone" belongs to no declared node
                → if nobody uses it: SELECT pg_drop_replication_slot('gone')
    "#);
    insta::assert_snapshot!(status("15-stopped", "15-promoted"), @r"
    cluster accounts: DEGRADED, primary node2, 2 nodes, PostgreSQL 15.20

    NODE     HOST              ROLE     STATE    TL  LSN        LAG  SYNC  FLAGS
    ◆ node2  198.18.0.12:5432  primary  running  2   0/3026408  -    -
    ○ node1  198.18.0.11:5432  unknown  stopped  1   0/3026200  -    -

    ! warning   server_down  node1: PostgreSQL is not running, its unit is failed
                → pgorch rejoin node1: it would come up as a second primary
    ");
}

#[test]
fn debts_and_errors_of_the_files() {
    let instance = instance("15-debts");
    assert!(instance.config_newer_than_load);
    let server = instance.server.expect("a server");
    assert_eq!(server.pending_restart, ["max_connections"]);
    insta::assert_debug_snapshot!(server.config_errors, @r#"
    [
        "/var/lib/pgorch/accounts/15/data/pgorch.conf:7: shared_buffers: setting could not be applied",
        "pg_hba.conf:99: invalid CIDR mask in address \"10.0.0.0/99\"",
    ]
    "#);
    assert_eq!(server.registered, ["a<b>&", "node1", "node2"]);
    let overridden = server.settings["work_mem"].source_file.as_deref().expect("a file");
    assert!(overridden.ends_with("/postgresql.auto.conf"));
}

#[test]
fn a_stopped_server_leaves_what_is_on_disk() {
    let Observation::HostOnly(facts) = observe("15-stopped") else { panic!("not host only") };
    let instance = facts.instance.expect("an instance");
    assert_eq!((instance.postmaster_pid, &instance.server_error), (None, &None));
    let control = instance.cluster().and_then(|c| c.control.clone()).expect("control");
    assert_eq!(control.state, "shut down");
    assert_eq!(instance.unit.active_state, "failed");
}

#[test]
fn a_promoted_standby_knows_where_its_history_forked() {
    let instance = instance("15-promoted");
    let server = instance.server.as_ref().expect("a server");
    assert_eq!((server.in_recovery, server.timeline), (false, Some(Timeline(2))));
    let history = instance.cluster().and_then(|c| c.history.clone()).expect("a history");
    let fork = history.ancestors[0].1;
    assert!(history.contains(Timeline(1), fork));
    assert!(!history.contains(Timeline(1), Lsn(fork.0 + 1)));
    assert!(!history.contains(Timeline(3), fork));
}

#[test]
fn no_answer_proves_nothing() {
    let node = settings("node1", 15);
    for answers in [vec![], vec![Answer::default(); 3]] {
        assert!(matches!(facts::observe(&node, &answers), Observation::Unknown { .. }));
    }
    let refused =
        Answer { rc: 1, stderr: "sudo: a password is required\n".into(), ..Answer::default() };
    let Observation::Unknown { cause } = facts::observe(&node, &vec![refused; 3]) else {
        panic!("known")
    };
    assert_eq!(cause, "sudo: a password is required");
}

#[test]
fn a_host_without_anything() {
    let text = "=== instance\ndir=missing\n[unit]\nLoadState=not-found\n[end]\n[df]\n[end]\n\
                === sql 127\n=== stderr\nsh: psql: not found\n";
    let node = settings("node1", 15);
    let Observation::HostOnly(facts) = facts::observe(&node, &answers(text)) else {
        panic!("not host only")
    };
    let instance = facts.instance.expect("an instance");
    assert_eq!((instance.data_dir, instance.server_error), (DataDir::Missing, None));
    assert_eq!(instance.unit.load_state, "not-found");
}

#[test]
fn a_server_on_another_directory_is_not_the_nodes_own() {
    let path = format!("{}/tests/facts/15-primary.txt", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("a captured file");
    let mut answers = answers(&text);
    answers[1].stdout = "dir=missing\n".to_owned();
    let Observation::Seen(facts) = facts::observe(&settings("node1", 15), &answers) else {
        panic!("not seen")
    };
    let instance = facts.instance.expect("an instance");
    assert!(instance.server_elsewhere && !instance.made_by_pgorch());
}

#[test]
fn the_scripts_quote_what_the_inventory_says() {
    let mut node = settings("node1", 15);
    node.data_dir = "/srv/it's here".to_owned();
    node.parameters.insert("o'dd".to_owned(), "x".to_owned());
    let [Ask::Sh { script, .. }, Ask::Sql { sql, .. }] =
        [0, 1].map(|at| facts::instance_fragments(&node)[at].ask.clone())
    else {
        panic!("a script and a query")
    };
    assert!(script.as_str().starts_with(r"dir='/srv/it'\''s here'"));
    assert!(sql.contains("'o''dd'"));
}

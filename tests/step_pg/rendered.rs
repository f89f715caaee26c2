//! The files that kinds render, from given facts and answers.

use indexmap::IndexMap;
use pgorch::facts::{Sender, Setting};
use pgorch::model::Secret;
use pgorch::step::{Diff, Verdict};
use serde_json::{Value, json};

use super::cluster::{answer, bare, put, running, server};
use super::harness::{change, refused, satisfied};

#[test]
fn some_parameters_are_not_the_inventorys() {
    for (name, value, why) in [
        ("primary_conninfo", "host=x", "follows from the topology"),
        ("PORT", "1", "postgres.port says 5432"),
        ("hot_standby", "off", "asks standbys"),
        ("recovery_target_time", "now", "newest timeline"),
        ("unix_socket_directories", "/tmp", "/run/postgresql"),
    ] {
        let world = running();
        let args = json!({ "parameters": { name: value } });
        let error = world.judge("node1", "parameters", args, &[answer(0, "check ok\n")]);
        let error = error.expect_err(name);
        assert!(error.message.contains(why), "{error}");
    }
    // Without binaries nothing can be checked.
    let none = bare().judge("node1", "parameters", Value::Null, &[answer(0, "")]);
    assert!(matches!(none, Ok(Verdict::NotYet(_))));
}

#[test]
fn a_standby_gets_what_its_primary_runs_with() {
    let mut world = running();
    let mut primary = server(false);
    let setting = Setting { raw: "300".into(), value: "300".into(), ..Setting::default() };
    primary.server.as_mut().expect("a server").settings =
        IndexMap::from([("max_connections".to_owned(), setting)]);
    put(&mut world, "node1", primary);
    let args = json!({ "parameters": { "max_connections": 50 } });
    let rendered =
        change(world.judge("node2", "parameters", args.clone(), &[answer(0, "check ok\n")]));
    let value = |change: &pgorch::step::Change| {
        change.diffs.iter().find_map(|d| match d {
            Diff::Value { name, after, .. } if name == "max_connections" => after.clone(),
            _ => None,
        })
    };
    assert_eq!(value(&rendered).as_deref(), Some("300"));
    assert!(rendered.report.notices[0].contains("stays at 300 on node2 instead of 50"));
    let rendered = change(world.judge("node1", "parameters", args, &[answer(0, "check ok\n")]));
    assert_eq!(value(&rendered).as_deref(), Some("50"));
}

#[test]
fn pg_hba_conf_has_pgorchs_ways_in_first() {
    let mut world = running();
    world.inventory.postgres.hba = vec![pgorch::inventory::HbaRule {
        r#type: "hostssl".into(),
        database: "app".into(),
        user: "app".into(),
        address: Some("10.0.0.0/8".into()),
        method: "scram-sha-256".into(),
        options: Some("clientcert=verify-ca".into()),
    }];
    let rendered = change(world.judge("node1", "hba", Value::Null, &[answer(0, "file\n")]));
    let rules: Vec<String> = rendered
        .diffs
        .iter()
        .map(|d| match d {
            Diff::Value { after: Some(after), .. } => after.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        rules,
        [
            "local all postgres peer",
            "local all pgorch peer map=pgorch",
            "host replication,postgres replicator 198.18.0.1/32 scram-sha-256",
            "host replication,postgres replicator 198.18.0.2/32 scram-sha-256",
            "host replication,postgres replicator db3.example.org scram-sha-256",
            "hostssl app app 10.0.0.0/8 scram-sha-256 clientcert=verify-ca",
            "local all all scram-sha-256",
            "host all all 127.0.0.1/32 scram-sha-256",
            "host all all ::1/128 scram-sha-256",
        ]
    );
    world.inventory.ssh.user = Some("deploy".into());
    let rendered = change(world.judge("node1", "ident", Value::Null, &[answer(0, "file\n")]));
    let Diff::Text { after: Some(text), .. } = &rendered.diffs[0] else { panic!() };
    let users: Vec<&str> =
        text.lines().skip(1).filter_map(|l| l.split_whitespace().nth(1)).collect();
    assert_eq!(users, ["postgres", "root", "deploy"]);
}

#[test]
fn commits_wait_for_standbys_only_when_enough_stream() {
    let mut world = running();
    satisfied(world.judge("node1", "sync_standbys", Value::Null, &[answer(0, "file\n")]));
    world.inventory.replication.mode = pgorch::inventory::ReplicationMode::Quorum;
    let report =
        satisfied(world.judge("node1", "sync_standbys", Value::Null, &[answer(0, "file\n")]));
    assert!(report.notices[0].contains("not in force yet"), "{report:?}");
    let with = |names: &str, slot: Option<&str>| {
        let mut primary = server(false);
        let facts = primary.server.as_mut().expect("a server");
        facts.senders = vec![Sender {
            application_name: "node2".into(),
            state: "streaming".into(),
            slot: slot.map(str::to_owned),
            ..Sender::default()
        }];
        let value = Setting { value: names.to_owned(), ..Setting::default() };
        facts.settings.insert("synchronous_standby_names".to_owned(), value);
        primary
    };
    // Whoever has the name and not the slot is somebody else.
    put(&mut world, "node1", with("", None));
    satisfied(world.judge("node1", "sync_standbys", Value::Null, &[answer(0, "file\n")]));
    put(&mut world, "node1", with("", Some("node2")));
    let set = change(world.judge("node1", "sync_standbys", Value::Null, &[answer(0, "file\n")]));
    assert_eq!(set.summary, "synchronous_standby_names = 'ANY 1 (\"node2\")'");
    // First on the others, last on the primary; set; in force; struck off on the primary, then on the
    // others.
    let on = |c: &pgorch::step::Command| c.on.as_ref().map_or("node1".to_owned(), |h| h.0.clone());
    let commands: Vec<String> =
        set.commands.iter().map(|c| format!("{}: {}", on(c), c.label)).collect();
    assert_eq!(
        commands,
        [
            "node2: record whom commits may be waiting for on node2",
            "node3: record whom commits may be waiting for on node3",
            "node1: record whom commits may be waiting for on node1",
            "node1: synchronous_standby_names = 'ANY 1 (\"node2\")'",
            "node1: psql: CHECKPOINT",
            "node1: wait until it is in force, and strike off what was before",
            "node2: record whom commits may be waiting for on node2",
            "node3: record whom commits may be waiting for on node3",
        ]
    );
    // Set by hand.
    put(&mut world, "node1", with("*", Some("node2")));
    let why = refused(world.judge("node1", "sync_standbys", Value::Null, &[answer(0, "file\n")]));
    assert!(why.contains("was not set by pgorch"), "{why}");
    // An old minor version.
    let mut old = with("", Some("node2"));
    old.server.as_mut().expect("a server").version_num = 150_012;
    put(&mut world, "node1", old);
    let why = refused(world.judge("node1", "sync_standbys", Value::Null, &[answer(0, "file\n")]));
    assert!(why.contains("may confirm the first commits"), "{why}");
}

#[test]
fn a_passfile_is_written_once() {
    let mut world = running();
    let first = change(world.judge("node2", "passfile", Value::Null, &[answer(0, "")]));
    assert!(!format!("{:?}", first.diffs).contains("repl"), "the password is in the diff");
    assert!(!first.commands[0].script.as_str().contains(super::harness::PASSWORD));
    let mut instance = server(true);
    instance.replication_password = Some(Secret::new(super::harness::PASSWORD));
    put(&mut world, "node2", instance);
    let rights = |text| [answer(0, text)];
    satisfied(world.judge("node2", "passfile", Value::Null, &rights("600 postgres:postgres\n")));
    change(world.judge("node2", "passfile", Value::Null, &rights("644 postgres:postgres\n")));
    world.password = None;
    let none = world.judge("node2", "passfile", Value::Null, &rights(""));
    assert!(matches!(none, Ok(Verdict::NotYet(_))));
}

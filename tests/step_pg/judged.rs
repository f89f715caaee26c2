//! Verdicts from given facts and answers: what each kind does, and above all what it refuses.

use pgorch::facts::{ClusterDir, DataDir, InstanceFacts, Observation, Receiver, Slot};
use pgorch::model::{Answer, Lsn};
use pgorch::step::Verdict;
use serde_json::{Value, json};

use super::cluster::{answer, bare, directory, file, of, put, running, server, stopped};
use super::harness::{World, change, refused, satisfied};

#[test]
fn initdb_only_where_nothing_is_and_nobody_else_has_data() {
    let made = change(of(&bare(), "node1", "initdb"));
    let script = made.commands[0].script.as_str();
    assert!(script.contains("--data-checksums") && script.contains("--auth-host=scram-sha-256"));
    let marker = script.find("mv -f \"$marker.pgorch-new\" \"$marker\"").expect("marker");
    assert!(marker < script.find("mv -T \"$new\" \"$data\"").expect("rename"), "{script}");
    assert!(made.impact.destroys.is_none());

    satisfied(of(&running(), "node1", "initdb"));

    let with = |dir: DataDir| {
        let mut world = bare();
        put(&mut world, "node1", InstanceFacts { data_dir: dir, ..Default::default() });
        of(&world, "node1", "initdb")
    };
    assert!(refused(with(DataDir::Foreign)).contains("is no database cluster"));
    let other = DataDir::Cluster(ClusterDir { major: 14, ..directory(1) });
    assert!(refused(with(other)).contains("PostgreSQL 14"));
    assert!(matches!(with(DataDir::Missing), Ok(Verdict::NotYet(_))), "not installed");

    let mut world = bare();
    put(&mut world, "node2", stopped(directory(77)));
    assert!(refused(of(&world, "node1", "initdb")).contains("node2 has a database cluster"));

    let mut world = bare();
    world.snapshot.nodes.insert("node3".into(), Observation::Unknown { cause: "x".into() });
    assert!(refused(of(&world, "node1", "initdb")).contains("node3 could not be looked at"));

    // Its disk is gone, another node has taken over: it is to be cloned.
    let mut world = running();
    put(&mut world, "node1", InstanceFacts::default());
    world.primary = Some("node2".into());
    satisfied(of(&world, "node1", "initdb"));
}

#[test]
fn a_plan_shows_what_is_not_possible_yet() {
    let mut world = bare();
    for name in ["node1", "node2"] {
        put(&mut world, name, InstanceFacts::default());
    }
    world.options.check = true;
    assert!(change(of(&world, "node1", "initdb")).summary.contains("new database cluster"));
    assert_eq!(change(of(&world, "node2", "basebackup")).summary, "clone node2 from node1");
}

#[test]
fn a_copy_never_replaces_what_it_did_not_make() {
    let with = |dir: DataDir| {
        let mut world = running();
        let instance = InstanceFacts {
            binary_version: Some("15.18".into()),
            data_dir: dir,
            ..InstanceFacts::default()
        };
        put(&mut world, "node2", instance);
        of(&world, "node2", "basebackup")
    };
    let copy = change(with(DataDir::Missing));
    let script = copy.commands[0].script.as_str();
    assert!(script.contains("--slot=node2") && script.contains("--no-password"));
    assert!(!script.contains(super::harness::PASSWORD) && !script.contains(" -R"));
    change(with(DataDir::Empty));
    satisfied(with(DataDir::Cluster(directory(77))));
    assert!(refused(with(DataDir::Cluster(directory(78)))).contains("another cluster"));
    assert!(refused(with(DataDir::Foreign)).contains("is no database cluster"));
    let unread = DataDir::Cluster(ClusterDir { control: None, ..directory(77) });
    assert!(refused(with(unread)).contains("control file"));
    let mut world = bare();
    world.primary = Some("node2".into());
    assert!(refused(of(&world, "node2", "basebackup")).contains("is the primary"));
    // The upstream does not answer yet.
    assert!(matches!(of(&bare(), "node2", "basebackup"), Ok(Verdict::NotYet(_))));
}

#[test]
fn nothing_is_started_that_would_be_a_second_primary() {
    let mut world = running();
    satisfied(of(&world, "node2", "start"));
    put(&mut world, "node2", stopped(directory(77)));
    assert!(refused(of(&world, "node2", "start")).contains("would come up writable"));
    put(&mut world, "node2", stopped(ClusterDir { standby_signal: true, ..directory(77) }));
    let start = change(of(&world, "node2", "start"));
    assert!(start.commands[0].script.as_str().contains("systemctl start pgorch-c"));

    // The primary of the topology, while another node is out of recovery.
    let mut world = running();
    put(&mut world, "node1", stopped(directory(77)));
    change(of(&world, "node1", "start"));
    put(&mut world, "node3", server(false));
    assert!(refused(of(&world, "node1", "start")).contains("node3 is out of recovery"));

    let mut world = running();
    let mut masked = stopped(ClusterDir { standby_signal: true, ..directory(77) });
    masked.unit.load_state = "masked".into();
    put(&mut world, "node2", masked);
    assert!(refused(of(&world, "node2", "start")).contains("is masked"));
    let mut alone = stopped(ClusterDir { standby_signal: true, ..directory(77) });
    alone.postmaster_pid = Some(1);
    put(&mut world, "node2", alone);
    assert!(refused(of(&world, "node2", "start")).contains("did not start"));
}

#[test]
fn a_restart_needs_a_debt_and_leave() {
    let mut world = running();
    satisfied(of(&world, "node1", "restart"));
    let mut instance = server(false);
    let server = instance.server.as_mut().expect("a server");
    server.pending_restart = vec!["max_connections".into()];
    server.version = "15.17".into();
    put(&mut world, "node1", instance);
    let report = satisfied(of(&world, "node1", "restart"));
    let debt =
        "pending_restart: max_connections; the installed binaries are 15.18, the server runs 15.17";
    assert_eq!(report.notices, [debt]);
    world.options.restart = true;
    let restart = change(of(&world, "node1", "restart"));
    assert!(restart.impact.restart);
}

#[test]
fn a_primary_is_only_stopped_when_that_is_said() {
    let mut world = running();
    assert!(refused(of(&world, "node1", "stop")).contains("is the running primary"));
    let stop = change(world.judge("node1", "stop", json!({ "primary": true }), &[]));
    assert!(stop.impact.needs_consent());
    change(of(&world, "node2", "stop"));
    put(&mut world, "node2", stopped(ClusterDir { standby_signal: true, ..directory(77) }));
    satisfied(of(&world, "node2", "stop"));
    assert!(matches!(of(&world, "node2", "reload"), Ok(Verdict::NotYet(_))));
    assert!(change(of(&world, "node1", "reload")).impact.reload);
}

#[test]
fn a_server_that_is_not_ours_is_left_alone() {
    let mut world = running();
    let mut strange = server(false);
    strange.data_dir = DataDir::Cluster(ClusterDir { made_by_pgorch: false, ..directory(77) });
    put(&mut world, "node1", strange.clone());
    let kinds = [
        "initdb",
        "parameters",
        "hba",
        "ident",
        "follow",
        "start",
        "stop",
        "restart",
        "reload",
        "role",
        "database",
        "extension",
        "basebackup",
        "sync_standbys",
        "members",
        "checkpoint",
    ];
    for kind in kinds {
        let message = refused(of(&world, "node1", kind));
        assert!(message.contains("which pgorch did not make"), "{kind}: {message}");
    }
    assert!(refused(world.judge("node1", "slot", json!("a"), &[])).contains("did not make"));
    // Somebody else's server has our port.
    strange.data_dir = DataDir::Missing;
    strange.server_elsewhere = true;
    put(&mut world, "node1", strange);
    for kind in kinds {
        assert!(refused(of(&world, "node1", kind)).contains("does not run on"), "{kind}");
    }
}

#[test]
fn slots_are_made_where_the_task_is_delegated_to() {
    let mut world = running();
    let judge = |world: &World, args: Value| world.judge("node2", "slot", args, &[]);
    let made = change(judge(&world, json!("node3")));
    assert_eq!(made.summary, "create slot node3 on node2");
    let mut instance = server(true);
    let slot = |name: &str, active, physical| Slot {
        name: name.into(),
        active,
        physical,
        ..Slot::default()
    };
    let lost = Slot { wal_status: Some("lost".into()), ..slot("gone", false, true) };
    instance.server.as_mut().expect("a server").slots = vec![
        slot("node3", true, true),
        slot("old", false, true),
        slot("logic", false, false),
        lost,
    ];
    put(&mut world, "node2", instance);
    satisfied(judge(&world, json!("node3")));
    let absent = |name: &str| json!({ "name": name, "state": "absent" });
    assert!(refused(judge(&world, absent("node3"))).contains("is in use"));
    assert_eq!(change(judge(&world, absent("old"))).summary, "drop slot old on node2");
    satisfied(judge(&world, absent("never")));
    assert!(refused(judge(&world, json!("logic"))).contains("logical"));
    let again = change(judge(&world, json!("gone")));
    assert_eq!(again.commands.len(), 2);
    assert!(again.report.notices[0].contains("was lost"));
    assert!(judge(&world, json!("Bad-Name")).is_err());
    assert!(matches!(bare().judge("node1", "slot", json!("a"), &[]), Ok(Verdict::NotYet(_))));
}

#[test]
fn a_standby_follows_its_wanted_upstream() {
    let world = running();
    let nothing = answer(0, "file\nauto\n");
    let follow =
        change(world.judge("node2", "follow", Value::Null, std::slice::from_ref(&nothing)));
    assert_eq!(follow.summary, "node2 follows node1");
    let text = format!("{:?}", follow.diffs);
    assert!(
        text.contains("host=198.18.0.1 port=5432 user=replicator application_name=node2"),
        "{text}"
    );
    assert!(text.contains("passfile=/var/lib/pgorch/c/passfile"), "{text}");
    // Declared: node3 follows node2. The playbook's word wins.
    let follow =
        change(world.judge("node3", "follow", Value::Null, std::slice::from_ref(&nothing)));
    assert_eq!(follow.summary, "node3 follows node2");
    let follow =
        change(world.judge("node3", "follow", json!("node1"), std::slice::from_ref(&nothing)));
    assert_eq!(follow.summary, "node3 follows node1");
    // What -R or a hand has left in postgresql.auto.conf would win.
    let auto = answer(0, &file("auto", "1.0", "primary_conninfo = 'host=x'\nwork_mem = 4MB\n"));
    let follow = change(world.judge("node2", "follow", Value::Null, &[auto]));
    let script = follow.commands[0].script.as_str();
    assert!(script.contains("ALTER SYSTEM RESET \"primary_conninfo\""), "{script}");
    assert!(!script.contains("work_mem"), "{script}");
    // A revocation whose operation is over is taken back with what it has left; no other is.
    let emptied = "primary_conninfo = ''\nrestore_command = ''\nwork_mem = 4MB\n";
    let emptied = [answer(0, &file("auto", "1.0", emptied))];
    let mut revoked = server(true);
    revoked.revoked = true;
    let with = |instance| {
        let mut world = running();
        put(&mut world, "node2", instance);
        world.judge("node2", "follow", Value::Null, &emptied)
    };
    let follow = change(with(revoked.clone()));
    let script = follow.commands[0].script.as_str();
    assert!(
        script.contains("RESET \"restore_command\"") && !script.contains("work_mem"),
        "{script}"
    );
    assert!(follow.commands[1].script.as_str().contains("node2.revoked"));
    let record = json!({ "id": "a", "kind": "failover", "controller": "c", "primary": "node1",
        "candidate": "node2", "state": "open", "started": "" });
    revoked.epoch.operation = serde_json::from_value(record).expect("a record");
    assert!(refused(with(revoked)).contains("receive nothing any more, and is not over"));
    // The primary follows nobody.
    satisfied(world.judge("node1", "follow", Value::Null, std::slice::from_ref(&nothing)));
    let left = answer(0, &file("file", "1.0", "primary_conninfo = 'host=x'\n"));
    let emptied = change(world.judge("node1", "follow", Value::Null, &[left]));
    assert_eq!(emptied.summary, "node1 follows nobody");

    let mut world = running();
    put(&mut world, "node2", server(false));
    let message =
        refused(world.judge("node2", "follow", Value::Null, std::slice::from_ref(&nothing)));
    assert!(message.contains("running as a primary, and so is node1"), "{message}");
    put(&mut world, "node2", stopped(ClusterDir { standby_signal: true, ..directory(78) }));
    let message =
        refused(world.judge("node2", "follow", Value::Null, std::slice::from_ref(&nothing)));
    assert!(message.contains("different clusters"), "{message}");
    put(&mut world, "node2", stopped(directory(77)));
    let message =
        refused(world.judge("node2", "follow", Value::Null, std::slice::from_ref(&nothing)));
    assert!(message.contains("was a primary when it stopped"), "{message}");
    let forced = change(world.judge("node2", "follow", json!({ "signal": true }), &[nothing]));
    assert!(forced.impact.role_change.is_some());
}

#[test]
fn streaming_is_seen_in_the_facts() {
    let mut world = running();
    let wait = world.judge("node2", "wait_streaming", Value::Null, &[]);
    assert!(matches!(wait, Ok(Verdict::Wait(_))));
    let mut instance = server(true);
    instance.server.as_mut().expect("a server").receiver = Some(Receiver {
        status: "streaming".into(),
        sender_host: "198.18.0.1".into(),
        sender_port: 5432,
        ..Receiver::default()
    });
    put(&mut world, "node2", instance);
    satisfied(of(&world, "node2", "wait_streaming"));
    let other = world.judge("node2", "wait_streaming", json!({ "upstream": "node3" }), &[]);
    assert!(matches!(other, Ok(Verdict::Wait(_))));
    assert!(refused(of(&world, "node1", "wait_streaming")).contains("out of recovery"));
    let mut instance = server(true);
    instance.server.as_mut().expect("a server").replay_lsn = Some(Lsn(0x300));
    put(&mut world, "node2", instance);
    satisfied(world.judge("node2", "wait_replay", json!("0/300"), &[]));
    let further = world.judge("node2", "wait_replay", json!("0/301"), &[]);
    assert!(matches!(further, Ok(Verdict::Wait(_))));
    assert!(world.judge("node2", "wait_replay", json!("junk"), &[]).is_err());
}

#[test]
fn members_are_those_with_data_and_strangers_are_reported() {
    let mut world = running();
    put(&mut world, "node3", InstanceFacts::default());
    let missing = Answer { rc: 1, stdout: String::new(), stderr: "ERROR: \"pgorch.nodes\"".into() };
    let first = change(world.judge("node1", "members", Value::Null, &[missing]));
    assert_eq!(first.summary, "register node1, node2");
    assert!(first.commands[0].label.starts_with("psql: register"));
    assert_eq!(first.report.notices, ["node3 is not registered: it has no data yet"]);
    let member = |name: &str, host: &str| {
        json!({ "name": name, "host": host, "port": 5432, "location": null, "priority": 100,
                "system_identifier": "77" })
    };
    let rows =
        json!([member("node1", "198.18.0.1"), member("node2", "198.18.0.9"), member("old", "x")]);
    let again =
        change(world.judge("node1", "members", Value::Null, &[answer(0, &rows.to_string())]));
    assert_eq!(again.summary, "register node2");
    assert!(
        again
            .report
            .notices
            .iter()
            .any(|n| n.starts_with("old is registered and not in the inventory"))
    );
    let args = json!({ "nodes": ["old"], "state": "absent" });
    let gone = change(world.judge("node1", "members", args, &[answer(0, &rows.to_string())]));
    assert_eq!(gone.summary, "unregister old");
    assert!(
        refused(world.judge("node2", "members", Value::Null, &[answer(0, "[]")]))
            .contains("standby")
    );
}

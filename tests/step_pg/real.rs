//! A cluster of two servers, made by the kinds' own commands, and what they refuse.

use std::path::Path;

use pgorch::model::Script;
use pgorch::step::Verdict;
use serde_json::{Value, json};

use super::harness::{PASSWORD, change, refused, run, satisfied, sh};
use super::servers::{BIN, ROLE_PASSWORD, Servers};

#[test]
fn a_cluster_is_made_and_a_second_look_changes_nothing() {
    let Some(mut servers) = Servers::new([56431, 56432]) else { return };
    servers.primary();
    servers.standby();
    assert_eq!(servers.sql("node1", "SELECT count(*) FROM pg_stat_replication"), "1");
    servers.world.converge("node1", "members", Value::Null);
    assert_eq!(
        servers.sql("node1", "SELECT string_agg(name, ' ' ORDER BY name) FROM pgorch.nodes"),
        "node1 node2"
    );
    let again = [
        "initdb",
        "passfile",
        "parameters",
        "hba",
        "ident",
        "follow",
        "role",
        "database",
        "extension",
        "members",
        "sync_standbys",
        "restart",
    ];
    for kind in again {
        let report = satisfied(servers.world.look("node1", kind, Value::Null));
        assert_eq!(report.notices, Vec::<String>::new(), "{kind}");
    }
    for kind in [
        "passfile",
        "basebackup",
        "parameters",
        "hba",
        "ident",
        "follow",
        "wait_streaming",
        "sync_standbys",
        "restart",
    ] {
        satisfied(servers.world.look("node2", kind, Value::Null));
    }
    // No password and no verifier in either log, though all statements are logged.
    for name in ["node1", "node2"] {
        let log = servers.log(name);
        assert!(
            !log.contains(PASSWORD)
                && !log.contains(ROLE_PASSWORD)
                && !log.contains("SCRAM-SHA-256$")
        );
    }
    passwords_work(&servers);
    catalog_changes_belong_on_the_primary(&mut servers);
    waits_and_queries(&mut servers);
    destruction_is_refused(&mut servers);
}

fn passwords_work(servers: &Servers) {
    let port = servers.node("node1").port;
    let script = format!(
        "PGPASSWORD={ROLE_PASSWORD} {BIN}/psql -XAtq -h 127.0.0.1 -p {port} -U app -d 'dbname=we\\=ird' -c 'SELECT 1'"
    );
    let answer = sh(&Script::raw(script), None);
    assert_eq!((answer.rc, answer.stdout.as_str()), (0, "1\n"), "{}", answer.stderr);
    // root is mapped to the role pgorch on the socket, and may read what status needs.
    let script = format!(
        "{BIN}/psql -XAtq -h /run/postgresql -p {port} -U pgorch -d postgres \
         -c 'SELECT count(*) FROM pg_hba_file_rules WHERE error IS NOT NULL' -c 'CHECKPOINT'"
    );
    let answer = sh(&Script::raw(script), None);
    assert_eq!((answer.rc, answer.stdout.as_str()), (0, "0\n"), "{}", answer.stderr);
}

fn catalog_changes_belong_on_the_primary(servers: &mut Servers) {
    for kind in ["role", "database", "extension", "members"] {
        let message = refused(servers.world.look("node2", kind, Value::Null));
        assert!(message.contains("standby"), "{message}");
    }
}

fn waits_and_queries(servers: &mut Servers) {
    servers.sql("node1", "CREATE TABLE t AS SELECT 1 AS a");
    let lsn = servers.sql("node1", "SELECT pg_current_wal_lsn()");
    let verdict = servers.world.look("node2", "wait_replay", json!({ "lsn": lsn }));
    if let Ok(Verdict::Wait(wait)) = verdict {
        run(&wait).expect("replays");
    }
    satisfied(servers.world.look("node2", "wait_replay", json!({ "lsn": lsn })));
    let args = json!({ "lsn": "FF/0", "timeout": 1 });
    let error =
        run(&change(servers.world.look("node2", "wait_replay", args))).expect_err("too far");
    assert!(error.contains("not within 1 s") && error.contains("replayed to"), "{error}");
    let report =
        satisfied(servers.world.look("node1", "query", json!("SELECT a, a + 1 AS b FROM t;")));
    assert_eq!(report.data["row"], json!({ "a": 1, "b": 2 }));
    assert_eq!(report.data["value"], json!(1));
    let insert = json!("INSERT INTO t VALUES (3)");
    let error = servers.world.look("node1", "query", insert.clone()).expect_err("no SELECT");
    assert!(error.message.contains("syntax error"), "{error}");
    let args = json!({ "sql": insert, "changes": true });
    run(&change(servers.world.look("node1", "query", args))).expect("inserted");
    run(&change(servers.world.look("node1", "checkpoint", Value::Null))).expect("done");
    run(&change(servers.world.look(
        "node1",
        "event",
        json!({ "kind": "it's", "data": { "a": 1 } }),
    )))
    .expect("done");
    assert_eq!(
        servers.sql("node1", "SELECT data FROM pgorch.events WHERE kind = 'it''s'"),
        "{\"a\": 1}"
    );
}

fn destruction_is_refused(servers: &mut Servers) {
    // Another cluster's data on node2.
    servers.pg_ctl("node2", "stop -m fast");
    let data = servers.node("node2").data_dir;
    let script =
        format!("cd / && mv {data} {data}.kept && {BIN}/initdb -N -D {data} >/dev/null </dev/null");
    assert_eq!(sh(&Script::raw(script), Some("postgres")).rc, 0);
    assert!(
        refused(servers.world.look("node2", "basebackup", Value::Null)).contains("another cluster")
    );
    assert!(refused(servers.world.look("node2", "follow", Value::Null)).contains("was a primary"));
    // Something that is no cluster at all.
    let script = format!("rm -rf {data} && mkdir {data} && echo precious > {data}/file");
    sh(&Script::raw(script), None);
    assert!(refused(servers.world.look("node2", "basebackup", Value::Null)).contains("not empty"));
    assert!(Path::new(&data).join("file").exists());
    // Unless it was named.
    servers.world.options.destroy = vec![format!("node2:{data}")];
    let change = servers.converge("node2", "basebackup");
    assert!(change.impact.destroys.is_some());
    assert!(Path::new(&data).join("standby.signal").exists());
}

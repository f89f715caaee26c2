//! Commands on single nodes, on real hosts: an old primary comes back by each rung of the ladder, and
//! servers are stopped, started, restarted and given other upstreams.
//!
//! One cluster, one story. There is no `failover` in it: a standby is promoted by hand.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::lab::{Cluster, Ran, available};

const THREE: &str = "
cluster: back
lab: { image: bookworm }
postgres:
  version: 15
  data_dir: /var/lib/pgorch/back/data
  parameters: { shared_buffers: 32MB, max_connections: 50 }
nodes:
  node1: { primary: true }
  node2: {}
  node3: {}
";

const ALL: [&str; 3] = ["node1", "node2", "node3"];
const HOME: &str = "/var/lib/pgorch/back";
const DATA: &str = "/var/lib/pgorch/back/data";
const UNIT: &str = "pgorch-back";

#[test]
fn the_story_of_single_nodes() {
    if available() {
        story(THREE);
    }
}

#[test]
fn the_same_story_on_the_newest_debian() {
    if std::env::var("PGORCH_LAB").is_ok_and(|v| v == "full") && available() {
        story(&THREE.replace("bookworm", "trixie").replace("version: 15", "version: 17"));
    }
}

fn story(inventory: &str) {
    let cluster = Cluster::new(inventory);
    cluster.apply(&[]).exits(0);
    upstreams_change(&cluster);
    restarts_roll(&cluster);
    servers_stop_and_start(&cluster);
    everything_starts_after_a_cold_start(&cluster);
    refusals_touch_nothing(&cluster);
    by_a_start(&cluster);
    by_a_rewind(&cluster);
    by_a_new_copy_where_a_rewind_fails(&cluster);
    by_a_new_copy_where_wal_is_gone(&cluster);
    by_a_new_copy_where_nothing_is_left(&cluster);
    a_named_directory_is_replaced(&cluster);
    // It was promoted by hand; everything else is as apply would have it.
    let left = cluster.apply(&[]).exits(0).tasks("changed");
    assert_eq!(left, [("node1".to_owned(), "A primary follows nobody".to_owned())]);
}

#[track_caller]
fn run(cluster: &Cluster, words: &str, code: i32) -> Ran {
    let words: Vec<&str> = words.split(' ').collect();
    cluster.run(&[words.as_slice(), &["-o", "json"]].concat()).exits(code)
}

/// A command that has nothing to do any more.
#[track_caller]
fn again(cluster: &Cluster, words: &str) {
    let ran = run(cluster, words, 0);
    assert_eq!(ran.tasks("changed"), [], "{words}");
}

#[track_caller]
fn row(cluster: &Cluster, node: &str) -> Value {
    let status = cluster.run(&["status", "-o", "json"]).exits(0).json();
    let rows = status["nodes"].as_array().expect("nodes");
    rows.iter().find(|r| r["name"] == node).expect("a row").clone()
}

/// Code and message of the refusals.
fn refusals(ran: &Ran) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let all = ran.events();
    let refused = all.iter().filter(|e| e["event"] == "refused");
    refused.map(|e| (text(&e["data"]["code"]), text(&e["message"]))).collect()
}

#[track_caller]
fn refused(cluster: &Cluster, words: &str, code: &str, says: &str) {
    let ran = run(cluster, words, 5);
    let all = refusals(&ran);
    assert!(all.iter().any(|(c, text)| c == code && text.contains(says)), "{words}: {all:?}");
    assert_eq!(ran.tasks("changed"), [], "{words}");
}

fn slots(cluster: &Cluster, node: &str) -> String {
    let query = "SELECT string_agg(slot_name, ',' ORDER BY slot_name) FROM pg_replication_slots";
    cluster.sql(node, query)
}

fn started(cluster: &Cluster, node: &str) -> String {
    cluster.sql(node, "SELECT pg_postmaster_start_time()")
}

fn upstreams_change(cluster: &Cluster) {
    let ran = run(cluster, "follow node3 --upstream node2", 0);
    let told = ran
        .events()
        .iter()
        .any(|e| e["message"].as_str().is_some_and(|m| m.contains("the next apply restores that")));
    assert!(told, "{}", ran.stdout);
    assert_eq!(row(cluster, "node3")["upstream"], "node2");
    assert_eq!(
        (slots(cluster, "node1"), slots(cluster, "node2")),
        ("node2".into(), "node3".into())
    );
    again(cluster, "follow node3 --upstream node2");
    refused(cluster, "follow node2 --upstream node3", "precondition", "gets its WAL from node2");
    assert_eq!(slots(cluster, "node3"), "", "a refusal leaves nothing behind");
    run(cluster, "follow node3", 0);
    assert_eq!(row(cluster, "node3")["upstream"], "node1");
    assert_eq!(
        (slots(cluster, "node1"), slots(cluster, "node2")),
        ("node2,node3".into(), "".into())
    );
    assert_eq!(cluster.apply(&[]).exits(0).tasks("changed"), []);
}

fn restarts_roll(cluster: &Cluster) {
    let text = std::fs::read_to_string(cluster.inventory()).expect("an inventory");
    cluster.write_inventory(&text.replace("max_connections: 50", "max_connections: 60"));
    cluster.apply(&[]).exits(0);
    refused(cluster, "restart", "consent_needed", "restarts a running server");
    assert_eq!(cluster.sql("node1", "SHOW max_connections"), "50");
    let ran = run(cluster, "restart -y", 0);
    let moment = |host: &str, task: &str| {
        let all = ran.events();
        let hit = |e: &&Value| e["event"] == "task_done" && e["host"] == host && e["task"] == task;
        all.iter().find(hit).expect("done")["time"].as_str().expect("a time").to_owned()
    };
    let restarts = |host: &str| moment(host, "Restart if owed");
    assert!(moment("node2", "Streaming again") < restarts("node3"));
    assert!(moment("node3", "Streaming again") < restarts("node1"));
    for node in ALL {
        assert_eq!(cluster.sql(node, "SHOW max_connections"), "60", "{node}");
    }
    again(cluster, "restart -y");
    let before = ALL.map(|node| started(cluster, node));
    run(cluster, "restart node2 -y", 0);
    let after = ALL.map(|node| started(cluster, node));
    assert_eq!((&after[0], &after[2]), (&before[0], &before[2]));
    assert_ne!(after[1], before[1]);
    run(cluster, "reload node3", 0);
}

fn servers_stop_and_start(cluster: &Cluster) {
    // One that is refused holds up all that are named.
    refused(cluster, "stop node1 node2 -y", "precondition", "node1 is the running primary");
    assert_eq!(row(cluster, "node2")["state"], "streaming");
    run(cluster, "stop node2 -y", 0);
    again(cluster, "stop node2 -y");
    assert_eq!(row(cluster, "node2")["state"], "stopped");
    // A restart would start it, and that is another question.
    refused(cluster, "restart node2 -y", "precondition", "node2 does not run");
    run(cluster, "start node2", 0);
    again(cluster, "start node2");
    run(cluster, "register", 0);
    cluster.sql("node1", "DELETE FROM pgorch.nodes WHERE name = 'node3'");
    assert_eq!(run(cluster, "register node3", 0).tasks("changed").len(), 1);
    again(cluster, "register node3");
}

fn everything_starts_after_a_cold_start(cluster: &Cluster) {
    run(cluster, "stop node1 node2 node3 --primary -y", 0);
    // The one that would come up writable must be the newest of all that can be seen.
    cluster.fault("cut controller node3");
    let unseen = run(cluster, "start --all --timeout 2", 4);
    assert!(refusals(&unseen).iter().any(|(code, _)| code == "node_unreachable"));
    cluster.fault("heal");
    assert_eq!(row(cluster, "node1")["state"], "stopped");
    let ran = run(cluster, "start --all", 0);
    assert_eq!(ran.tasks("changed").len(), 3, "{}", ran.stdout);
    assert_eq!(row(cluster, "node1")["role"], "primary");
    assert_eq!(row(cluster, "node2")["state"], "streaming");
    again(cluster, "start --all");
}

fn refusals_touch_nothing(cluster: &Cluster) {
    refused(cluster, "rejoin node1 -y", "is_the_primary", "node1 is the primary");
    again(cluster, "rejoin node2 node3 -y");
    again(cluster, "clone node2 -y");
    let unknown = cluster.run(&["rejoin", "node9"]).exits(2).stderr;
    assert!(unknown.contains("no node \"node9\""), "{unknown}");
}

/// `new` takes over by hand; whatever the old primary does, it does alone.
fn promote(cluster: &Cluster, new: &str) {
    assert_eq!(cluster.sql(new, "SELECT pg_promote()"), "t");
    cluster.sql(new, &format!("CREATE TABLE IF NOT EXISTS of_{new} AS SELECT 1 AS one"));
}

fn by_a_start(cluster: &Cluster) {
    run(cluster, "stop node1 --primary -y", 0);
    promote(cluster, "node2");
    run(cluster, "follow node3", 0);
    // It would come up as a second primary.
    refused(cluster, "start node1", "precondition", "would come up writable");
    refused(cluster, "rejoin node1", "consent_needed", "becomes a standby");
    assert_eq!(row(cluster, "node1")["state"], "stopped");
    let ran = run(cluster, "rejoin node1 -y", 0);
    assert_eq!(way(&ran), "start");
    assert_eq!(row(cluster, "node1")["upstream"], "node2");
    // What it kept for its standbys holds no WAL.
    assert_eq!(slots(cluster, "node1"), "");
    again(cluster, "rejoin node1 -y");
}

/// The rung that was taken, by the last judgement.
#[track_caller]
fn way(ran: &Ran) -> String {
    let all = ran.events();
    let judged = |e: &&Value| e["event"] == "task_done" && !e["data"]["result"]["rung"].is_null();
    let last = all.iter().rfind(judged).expect("a way");
    last["data"]["result"]["rung"].as_str().expect("a word").to_owned()
}

fn by_a_rewind(cluster: &Cluster) {
    // node2 goes on alone after node3 has taken over: what clients write there is on no other node.
    promote(cluster, "node3");
    for n in 1..=3 {
        cluster.sql("node2", &format!("CREATE TABLE only{n} AS SELECT 1"));
    }
    refused(cluster, "rejoin node2 -y", "split_brain", "node2, node3");
    cluster.sh("node2", &format!("systemctl kill -s KILL {UNIT}; sleep 0.5"));
    let plan = run(cluster, "rejoin node2 --check", 3).json();
    let text = plan.to_string();
    assert!(text.contains("3 committed transactions that only node2 has"), "{text}");
    refused(cluster, "rejoin node2", "consent_needed", "3 committed transactions");
    let before = cluster.sh("node2", &format!("md5sum {DATA}/global/pg_control"));
    refused(cluster, "rejoin node2 --method start -y", "precondition", "crashed");
    assert_eq!(cluster.sh("node2", &format!("md5sum {DATA}/global/pg_control")), before);
    let ran = run(cluster, "rejoin node2 -y", 0);
    assert_eq!(way(&ran), "rewind", "{}", ran.stdout);
    whole(cluster, "node2", "node3");
    assert_eq!(cluster.sql("node2", "SELECT to_regclass('only1') IS NULL"), "t");
}

/// The node streams, nothing of the way is left behind, and a second run has nothing to do.
#[track_caller]
fn whole(cluster: &Cluster, node: &str, primary: &str) {
    let seen = row(cluster, node);
    assert_eq!((&seen["state"], &seen["upstream"]), (&"streaming".into(), &primary.into()));
    let table = format!("SELECT one FROM of_{primary}");
    assert_eq!(cluster.sql(node, &table), "1");
    let left = format!("ls -d {HOME}/{node}.fenced {HOME}/{node}.rewinding {DATA}.pgorch-new");
    assert_eq!(cluster.sh(node, &format!("{left} 2>/dev/null || :")), "");
    assert_eq!(slots(cluster, node), "");
    again(cluster, &format!("rejoin {node} -y"));
    let changed: BTreeSet<String> = cluster
        .apply(&["-l", node])
        .exits(0)
        .tasks("changed")
        .into_iter()
        .map(|(_, t)| t)
        .collect();
    assert!(changed.is_empty(), "{changed:?}");
}

/// node1 has received what only node2 wrote, and runs.
fn by_a_new_copy_where_a_rewind_fails(cluster: &Cluster) {
    let plan = run(cluster, "rejoin node1 --check", 3).json().to_string();
    assert!(plan.contains("3 committed transactions that only node1 has"), "{plan}");
    // Nothing speaks against a rewind, and then pg_rewind does not do it.
    let rewind = cluster.sh("node1", "ls /usr/lib/postgresql/*/bin/pg_rewind");
    cluster.sh("node1", &format!("mv {rewind} {rewind}.away; ln -s /bin/false {rewind}"));
    let asked = run(cluster, "rejoin node1 -y --method rewind", 1);
    assert!(asked.tasks("failed").iter().any(|(_, task)| task == "That way was asked for"));
    cluster.sh("node1", &format!("test -e {HOME}/node1.fenced && rm {HOME}/node1.rewinding"));
    refused(cluster, "start node1", "precondition", "node1 is fenced: being rejoined");
    let ran = run(cluster, "rejoin node1 -y", 0);
    cluster.sh("node1", &format!("mv -f {rewind}.away {rewind}"));
    assert_eq!(way(&ran), "clone", "{}", ran.stdout);
    assert!(
        ran.events()
            .iter()
            .any(|e| { e["message"].as_str().is_some_and(|m| m.contains("a new copy is made")) })
    );
    kept(cluster, "node1");
    whole(cluster, "node1", "node3");
}

/// The old data is there until it is given up.
fn kept(cluster: &Cluster, node: &str) {
    let list = format!("ls -d {DATA}.before-rejoin-* 2>/dev/null || :");
    assert_ne!(cluster.sh(node, &list), "");
    let discard = format!("rejoin {node} --discard-old");
    refused(cluster, &discard, "consent_needed", "destroys");
    assert_eq!(run(cluster, &format!("{discard} -y"), 0).tasks("changed").len(), 1);
    assert_eq!(cluster.sh(node, &list), "");
    again(cluster, &format!("{discard} -y"));
}

fn by_a_new_copy_where_wal_is_gone(cluster: &Cluster) {
    run(cluster, "stop node3 --primary -y", 0);
    promote(cluster, "node1");
    run(cluster, "follow node2", 0);
    // The unit's own check keeps it down, so the old primary is started past that. It writes some
    // segments, and has recycled the first.
    let server = |verb: &str| {
        let program = "/usr/lib/postgresql/*/bin/pg_ctl";
        let line =
            format!("cd / && runuser -u postgres -- {program} -D {DATA} -w -l /dev/null {verb}");
        cluster.sh("node3", &line)
    };
    server("start");
    cluster.sql("node3", "CREATE TABLE later AS SELECT 1");
    cluster.sql("node3", "SELECT pg_switch_wal()");
    cluster.sql("node3", "CHECKPOINT");
    server("stop");
    let files = format!("cd {DATA}/pg_wal && ls | grep -E '^[0-9A-F]{{24}}$' | sort");
    cluster.sh("node3", &format!("{files} | head -n -1 | xargs rm -f"));
    let ran = run(cluster, "rejoin node3 -y", 0);
    assert_eq!(way(&ran), "clone", "{}", ran.stdout);
    assert!(ran.stdout.contains("its WAL is gone, so it cannot be counted"), "{}", ran.stdout);
    kept(cluster, "node3");
    whole(cluster, "node3", "node1");
}

fn by_a_new_copy_where_nothing_is_left(cluster: &Cluster) {
    cluster.sh("node2", &format!("systemctl stop {UNIT}; rm -rf {HOME}"));
    let ran = run(cluster, "rejoin node2 -y", 0);
    assert_eq!(way(&ran), "clone", "{}", ran.stdout);
    whole(cluster, "node2", "node1");
}

fn a_named_directory_is_replaced(cluster: &Cluster) {
    cluster.sh("node2", &format!("systemctl stop {UNIT}"));
    refused(cluster, "clone node2 -y", "precondition", "holds data of this cluster");
    run(cluster, "start node2", 0);
    let replace = format!("clone node2 --from node3 --max-rate 500M --destroy node2:{DATA}");
    refused(cluster, &replace, "consent_needed", "node2");
    cluster.sh("node2", &format!("touch {DATA}/mine"));
    run(cluster, &format!("{replace} -y"), 0);
    cluster.sh("node2", &format!("test ! -e {DATA}/mine"));
    whole(cluster, "node2", "node1");
}

//! What is told of a cluster that is there: the contract of the documents.

use serde_json::Value;

use super::{ALL, row, status};
use crate::lab::Cluster;

pub(super) fn status_facts_exec_and_events(cluster: &Cluster) {
    document(cluster);
    facts(cluster);
    exec(cluster);
    events(cluster);
}

fn document(cluster: &Cluster) {
    let status = status(cluster);
    for (key, value) in
        [("schema", Value::from(1)), ("cluster", "first".into()), ("primary", "node1".into())]
    {
        assert_eq!(status[key], value, "{key}");
    }
    let keys = [
        "name",
        "host",
        "role",
        "state",
        "upstream",
        "timeline",
        "lsn",
        "lag_bytes",
        "replay_lag_seconds",
        "sync",
        "pending_restart",
        "version",
        "findings",
    ];
    for node in ALL {
        let row = row(&status, node);
        for key in keys {
            assert!(row.get(key).is_some(), "{key}: {row}");
        }
    }
    let (primary, standby) = (row(&status, "node1"), row(&status, "node2"));
    assert_eq!((&primary["role"], &primary["upstream"]), (&"primary".into(), &Value::Null));
    assert_eq!((&standby["role"], &standby["upstream"]), (&"standby".into(), &"node1".into()));
    assert_eq!((&standby["sync"], &standby["timeline"]), (&"async".into(), &1.into()));
    let human = cluster.run(&["status"]).exits(0).stdout;
    assert!(human.contains("cluster first: OK, primary node1"), "{human}");
    let check = cluster.run(&["status", "--check"]).exits(0).stdout;
    assert!(check.starts_with("PGORCH OK - first: primary node1, 2 streaming |"), "{check}");
}

fn facts(cluster: &Cluster) {
    let facts = cluster.run(&["facts", "-l", "node2", "-o", "json"]).exits(0).json();
    assert_eq!(facts["schema"], 1);
    assert_eq!(facts["hosts"].as_object().expect("hosts").len(), 1);
    let node = &facts["hosts"]["node2"];
    assert_eq!((&node["os_id"], &node["os_codename"]), (&"debian".into(), &"bookworm".into()));
    assert_eq!(node["postgres"]["in_recovery"], true);
}

fn exec(cluster: &Cluster) {
    let all = cluster.run(&["exec", "--", "hostname"]).exits(0).stdout;
    let mut lines: Vec<&str> = all.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ALL.map(|n| format!("{n}  {n}")));
    let script = "echo out; echo err >&2; exit 3";
    let one =
        cluster.run(&["exec", "-l", "node3", "-o", "json", "--", "sh", "-c", script]).exits(1);
    let all = one.events();
    let line = all.iter().find(|e| e["event"] == "task_done").expect("an end");
    let said = &line["data"]["result"];
    assert_eq!(
        (&line["host"], &line["status"], &said["rc"]),
        (&"node3".into(), &"failed".into(), &3.into())
    );
    assert_eq!((&said["stdout"], &said["stderr"]), (&"out\n".into(), &"err\n".into()));
    // Arguments arrive as they were given, whatever the shell over there would make of them.
    let odd = cluster.run(&["exec", "-l", "node1", "--", "printf", "%s|", "a b", "$HOME", "*"]);
    assert_eq!(odd.exits(0).stdout.trim(), "node1  a b|$HOME|*|");
}

fn events(cluster: &Cluster) {
    let lines = cluster.run(&["events", "-o", "json", "-n", "500"]).exits(0).events();
    let keys =
        ["schema", "time", "run", "event", "host", "task", "step", "status", "message", "data"];
    for key in keys {
        assert!(lines.iter().all(|line| line.get(key).is_some()), "{key}: {:?}", lines.first());
    }
    let cloned = |e: &Value| e["host"] == "node2" && e["message"] == "clone node2 from node1";
    assert!(lines.iter().any(cloned), "{lines:?}");
    let times: Vec<&str> = lines.iter().filter_map(|e| e["time"].as_str()).collect();
    assert!(times.is_sorted());
    let human = cluster.run(&["events", "-n", "1"]).exits(0).stdout;
    assert!(human.trim_end().ends_with("run_done  exit 0"), "{human}");
}

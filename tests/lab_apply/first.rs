//! The first two runs.

use super::{ALL, as_planned, row, settled, status};
use crate::lab::Cluster;

pub(super) fn the_first_apply_does_what_the_plan_said(cluster: &Cluster) {
    cluster.run(&["lab", "up"]).exits(0);
    let first = as_planned(cluster, &[]);
    let last = first.events().pop().expect("an event");
    assert_eq!((&last["event"], &last["data"]["exit"]), (&"run_done".into(), &0.into()));
    let status = status(cluster);
    assert_eq!((&status["primary"], &status["health"]), (&"node1".into(), &"ok".into()));
    for node in ["node2", "node3"] {
        assert_eq!(row(&status, node)["state"], "streaming", "{status}");
    }
}

/// Counted by us and by the hosts' own sshd.
pub(super) fn the_second_changes_nothing_in_one_session_a_host(cluster: &Cluster) {
    for node in ALL {
        let config = "/etc/ssh/sshd_config.d/90-verbose.conf";
        cluster.sh(node, &format!("echo LogLevel VERBOSE >{config} && systemctl reload ssh"));
    }
    let before: Vec<u32> = ALL.iter().map(|node| sessions(cluster, node)).collect();
    let second = settled(cluster);
    for (node, before) in ALL.iter().zip(before) {
        // The counting itself is one more.
        assert_eq!(sessions(cluster, node) - before - 1, 1, "{node}");
    }
    let events = second.events();
    let recap = events.iter().find(|e| e["event"] == "recap").expect("a recap");
    for host in recap["data"]["hosts"].as_array().expect("hosts") {
        assert_eq!((&host["sessions"], &host["round_trips"]), (&1.into(), &1.into()), "{host}");
    }
    let told = cluster.run(&["apply", "-v"]).exits(0).stderr;
    assert_eq!(told.matches("ssh-sessions=1 round-trips=1").count(), ALL.len(), "{told}");
    cluster.run(&["plan"]).exits(0);
    let plan = cluster.run(&["plan", "-o", "json"]).exits(0).json();
    assert_eq!(plan["changes"], serde_json::json!([]));
}

/// Exec sessions that the host's sshd has told of.
fn sessions(cluster: &Cluster, node: &str) -> u32 {
    let count = "journalctl --sync; journalctl -q -o cat _COMM=sshd + _COMM=sshd-session | \
                 grep -c 'Starting session: command'";
    cluster.sh(node, count).parse().expect("a number")
}

pub(super) fn the_summary_holds_a_uri_that_works(cluster: &Cluster) {
    let told = cluster.run(&["apply"]).exits(0).stdout;
    assert!(told.contains("cluster first: OK, primary node1, 3 nodes"), "{told}");
    let command = told.lines().find(|l| l.starts_with("psql 'postgresql://app@")).expect("psql");
    let said = cluster.sh("node3", &format!("{command} -XAtc 'SELECT pg_is_in_recovery()'"));
    assert_eq!(said, "f", "{command}");
}

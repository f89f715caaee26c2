//! Nodes that come, go, and change their roles.

use super::{ALL, DATA, as_planned, codes, edit, notices, row, settled, starts, status};
use crate::lab::Cluster;

const NODE4: &str = "  node3: {}\n  node4: { follow: node2 }\n";

/// Neither files that are no database nor another cluster's; and nobody but the new node is held up.
pub(super) fn foreign_data_is_refused_and_left_alone(cluster: &Cluster) {
    edit(cluster, "  node3: {}\n", NODE4);
    cluster.run(&["lab", "up"]).exits(0);
    cluster.sh("node4", &format!("mkdir -p {DATA} && echo precious >{DATA}/letter"));
    let sum = || {
        cluster.sh("node4", &format!("find {DATA} -type f -exec md5sum {{}} + | sort -k2 | md5sum"))
    };
    let before = sum();
    let refused = cluster.apply(&[]).exits(5);
    assert!(refused.stdout.contains("Copy of"), "{}", refused.stdout);
    assert_eq!(sum(), before);
    cluster.run(&["plan"]).exits(5);

    let initdb = format!("/usr/lib/postgresql/15/bin/initdb -D {DATA} >/dev/null");
    let owner = "chown postgres: /var/lib/pgorch/first/15";
    cluster.sh(
        "node4",
        &format!("rm -rf {DATA} && {owner} && cd / && runuser -u postgres -- {initdb}"),
    );
    let before = sum();
    let refused = cluster.apply(&[]).exits(5);
    assert!(refused.stdout.contains("belongs to another cluster"), "{}", refused.stdout);
    let shown = cluster.run(&["plan"]).exits(5).stdout;
    assert!(shown.contains(&format!("--destroy node4:{DATA}")), "{shown}");
    // Named, but nobody said yes.
    let destroy = format!("node4:{DATA}");
    cluster.run(&["apply", "--destroy", &destroy]).exits(5);
    assert_eq!(sum(), before);
}

pub(super) fn a_new_node_is_cloned_alone(cluster: &Cluster) {
    let before = starts(cluster, &ALL);
    let ran = as_planned(cluster, &["--destroy", &format!("node4:{DATA}")]);
    let changed = ran.tasks("changed");
    assert!(
        changed.contains(&("node4".to_owned(), "Copy of the upstream".to_owned())),
        "{changed:?}"
    );
    let expected =
        |(host, task): &(String, String)| host == "node4" || task == "Members of the cluster";
    assert!(changed.iter().all(expected), "the others had their change: {changed:?}");
    assert_eq!(notices(&ran), []);
    assert_eq!(starts(cluster, &ALL), before);
    let status = status(cluster);
    let node4 = row(&status, "node4");
    assert_eq!((&node4["upstream"], &node4["state"]), (&"node2".into(), &"streaming".into()));
    let slot =
        "SELECT string_agg(slot_name, ',' ORDER BY 1) FROM pg_replication_slots WHERE active";
    assert_eq!(cluster.sql("node2", slot), "node4");
    settled(cluster);
    // The middle of the cascade restarts too, and its standby waits for it.
    edit(cluster, "max_connections: 60", "max_connections: 61");
    as_planned(cluster, &["--restart"]);
    assert_eq!(row(&super::status(cluster), "node4")["upstream"], "node2");
    settled(cluster);
}

pub(super) fn a_node_that_is_gone_is_only_reported(cluster: &Cluster) {
    edit(cluster, NODE4, "  node3: {}\n");
    let ran = as_planned(cluster, &[]);
    let expected = ["Who may connect", "Boot check"];
    let rows_only = ran.tasks("changed").iter().all(|(_, task)| expected.contains(&task.as_str()));
    assert!(rows_only, "{:?}", ran.tasks("changed"));
    let told = notices(&ran);
    assert!(
        told.iter().any(|(_, text)| text.contains("node4 is registered and not in the inventory")),
        "{told:?}"
    );
    assert_eq!(cluster.sql("node4", "SELECT status FROM pg_stat_wal_receiver"), "streaming");
    settled(cluster);
    cluster.sh("node4", "systemctl stop pgorch-first");
    cluster.sql("node2", "SELECT pg_drop_replication_slot('node4')");
    cluster.sql("node1", "DELETE FROM pgorch.nodes WHERE name = 'node4'");
    assert_eq!(notices(&settled(cluster)), []);
}

/// A failover by hand, the old primary stopped cleanly: it follows, nothing moves back.
pub(super) fn the_observed_primary_stays(cluster: &Cluster) {
    cluster.sh("node1", "systemctl stop pgorch-first");
    cluster.sql("node2", "SELECT pg_promote()");
    cluster.sql("node2", "CREATE TABLE after_failover AS SELECT 1 AS one");
    let shown = cluster.run(&["plan"]).exits(3).stdout;
    assert!(shown.contains("role changes: node1 becomes a standby"), "{shown}");
    // A node changes its role, and nobody can be asked.
    cluster.run(&["apply"]).exits(5);
    assert_eq!(cluster.sh("node1", "systemctl is-active pgorch-first || :"), "inactive");
    as_planned(cluster, &[]);
    let seen = status(cluster);
    assert_eq!((&seen["primary"], &seen["health"]), (&"node2".into(), &"ok".into()), "{seen}");
    assert!(codes(&seen).contains("declared_primary_differs"), "{seen}");
    assert!(!codes(&seen).contains("pending_restart"), "{seen}");
    for node in ["node1", "node3"] {
        assert_eq!(row(&seen, node)["upstream"], "node2", "{seen}");
        assert_eq!(cluster.sql(node, "SELECT pg_is_in_recovery()"), "t", "{node}");
    }
    assert_eq!(notices(&settled(cluster)), []);
}

/// The same after a crash: it may have transactions of its own, so it stays down until `rejoin`.
pub(super) fn a_crashed_primary_is_not_started(cluster: &Cluster) {
    cluster.sh("node2", "systemctl kill -s KILL pgorch-first; sleep 1");
    cluster.sql("node3", "SELECT pg_promote()");
    let shown = cluster.run(&["plan"]).exits(5).stdout;
    assert!(
        shown.contains("was a primary when it stopped") && shown.contains("pgorch rejoin node2"),
        "{shown}"
    );
    let control = || cluster.sh("node2", &format!("md5sum {DATA}/global/pg_control {DATA}/*.conf"));
    let before = control();
    let ran = cluster.apply(&[]).exits(5);
    // On the new primary WAL is kept for it; on itself nothing is done.
    let elsewhere = |(host, task): &(String, String)| {
        host != "node2" || task == "Replication slot on the upstream"
    };
    assert!(ran.tasks("changed").iter().all(elsewhere), "{:?}", ran.tasks("changed"));
    assert_ne!(cluster.sh("node2", "systemctl is-active pgorch-first || :"), "active");
    assert_eq!(control(), before);
    let seen = status(cluster);
    assert_eq!(seen["primary"], "node3");
    assert_eq!(row(&seen, "node1")["upstream"], "node3", "{seen}");
    // Nothing was left undone for the others.
    assert_eq!(cluster.apply(&[]).exits(5).tasks("changed"), []);
}

/// By hand again, and this time the other one still runs.
pub(super) fn two_primaries_are_refused(cluster: &Cluster) {
    cluster.sql("node1", "SELECT pg_promote()");
    let seen = status(cluster);
    assert_eq!((&seen["health"], seen["primary"].is_null()), (&"split".into(), true), "{seen}");
    cluster.run(&["status", "--check"]).exits(2);
    let before = starts(cluster, &["node1", "node3"]);
    let ran = cluster.apply(&[]).exits(5);
    assert!(
        ran.events().iter().any(|e| e["event"] == "refused" && e["data"]["code"] == "split_brain")
    );
    assert!(ran.tasks("changed").is_empty());
    let refused = cluster.run(&["plan", "-o", "json"]).exits(5).json();
    assert_eq!(refused["refused"]["code"], "split_brain");
    assert_eq!(starts(cluster, &["node1", "node3"]), before);
}

//! Changed parameters, and files that others have changed.

use super::{ALL, DATA, as_planned, codes, edit, moment, notices, row, settled, starts, status};
use crate::lab::Cluster;

const OWED: &str = "pending_restart: max_connections";

pub(super) fn a_reload_is_done_at_once(cluster: &Cluster) {
    let before = starts(cluster, &ALL);
    edit(cluster, "work_mem: 8MB", "work_mem: 9MB");
    let shown = cluster.run(&["plan"]).exits(3).stdout;
    assert!(shown.contains("~ work_mem: 8MB -> 9MB  [reload]"), "{shown}");
    assert!(shown.contains("3 changes · restarts: 0 · reloads: 3"), "{shown}");
    let ran = as_planned(cluster, &[]);
    assert_eq!(ran.tasks("changed").len(), 3, "{}", ran.stdout);
    for node in ALL {
        assert_eq!(cluster.sql(node, "SHOW work_mem"), "9MB", "{node}");
    }
    assert_eq!(starts(cluster, &ALL), before);
    settled(cluster);
}

pub(super) fn a_restart_is_reported_and_waits_for_a_yes(cluster: &Cluster) {
    let before = starts(cluster, &ALL);
    edit(cluster, "max_connections: 50", "max_connections: 70");
    // Nobody can be asked here, and a restart is to be asked for: nothing at all is touched.
    let refused = cluster.run(&["apply", "--restart"]).exits(5);
    assert!(refused.stderr.contains("needs a yes"), "{}", refused.stderr);
    cluster.sh("node1", &format!("grep -q '^max_connections = 50' {DATA}/pgorch.conf"));
    let ran = as_planned(cluster, &[]);
    assert_owed(&notices(&ran));
    // The debt is the servers' own: it is told again by a run that changes nothing.
    assert_owed(&notices(&settled(cluster)));
    let status = status(cluster);
    assert_eq!(status["health"], "ok");
    assert!(codes(&status).contains("pending_restart"), "{status}");
    for node in ALL {
        assert_eq!(row(&status, node)["pending_restart"], true, "{node}");
        assert_eq!(cluster.sql(node, "SHOW max_connections"), "50", "{node}");
    }
    assert_eq!(starts(cluster, &ALL), before);
}

#[track_caller]
fn assert_owed(notices: &[(String, String)]) {
    let mut hosts: Vec<&str> =
        notices.iter().filter(|(_, text)| text == OWED).map(|(host, _)| host.as_str()).collect();
    hosts.sort_unstable();
    assert_eq!(hosts, ALL, "{notices:?}");
}

pub(super) fn the_standbys_restart_first(cluster: &Cluster) {
    let before = starts(cluster, &ALL);
    cluster.run(&["apply", "--restart"]).exits(5);
    assert_eq!(starts(cluster, &ALL), before);
    let ran = as_planned(cluster, &["--restart"]);
    assert_eq!(notices(&ran), [], "paid debts are not told");
    let restarts = |host: &str| moment(&ran, host, "Restart if owed");
    let streams = |host: &str| moment(&ran, host, "Streaming again");
    assert!(restarts("node2") < streams("node2") && streams("node2") < restarts("node3"));
    assert!(restarts("node3") < streams("node3") && streams("node3") < restarts("node1"));
    for (node, before) in ALL.iter().zip(before) {
        assert_ne!(cluster.sql(node, "SELECT pg_postmaster_start_time()"), before, "{node}");
        assert_eq!(cluster.sql(node, "SHOW max_connections"), "70", "{node}");
    }
    assert_all_stream(cluster);
    assert_eq!(notices(&settled(cluster)), []);
}

#[track_caller]
fn assert_all_stream(cluster: &Cluster) {
    let status = status(cluster);
    for node in ["node2", "node3"] {
        assert_eq!(row(&status, node)["state"], "streaming", "{status}");
    }
}

/// Raised and lowered in one go with its restarts. Lowering takes a second run for the standbys:
/// they may not go below what the primary runs with, and while it runs that is the old value.
pub(super) fn a_standby_never_has_less_than_its_primary(cluster: &Cluster) {
    edit(cluster, "max_connections: 70", "max_connections: 90");
    as_planned(cluster, &["--restart"]);
    assert_connections(cluster, &["90", "90", "90"]);
    edit(cluster, "max_connections: 90", "max_connections: 60");
    let ran = as_planned(cluster, &["--restart"]);
    let stays = |(host, text): &(String, String)| {
        host != "node1" && text.contains("max_connections stays at 90")
    };
    assert_eq!(notices(&ran).iter().filter(|n| stays(n)).count(), 2, "{:?}", notices(&ran));
    assert_connections(cluster, &["60", "90", "90"]);
    as_planned(cluster, &["--restart"]);
    assert_connections(cluster, &["60", "60", "60"]);
    settled(cluster);
}

#[track_caller]
fn assert_connections(cluster: &Cluster, wanted: &[&str; 3]) {
    for (node, wanted) in ALL.iter().zip(wanted) {
        assert_eq!(cluster.sql(node, "SHOW max_connections"), *wanted, "{node}");
    }
    assert_all_stream(cluster);
}

pub(super) fn wrong_parameters_change_nothing(cluster: &Cluster) {
    let good = std::fs::read_to_string(cluster.inventory()).expect("an inventory");
    let sums = || ALL.map(|node| cluster.sh(node, &format!("md5sum {DATA}/*.conf")));
    let before = sums();
    for (wrong, words) in [
        ("work_mme: 9MB", "did you mean \"work_mem\"?"),
        ("work_mem: 9XB", "Valid units for this parameter are"),
        ("work_mem: banana", "invalid value for parameter \"work_mem\": \"banana\""),
        ("shared_buffers: 100TB", "invalid value for parameter \"shared_buffers\""),
    ] {
        // Another change, of another task, that must not get through either.
        let row = "- host app app 198.18.0.0/15 trust";
        let text = good.replace("work_mem: 9MB", wrong);
        cluster.write_inventory(
            &text.replace(row, &format!("{row}\n    - {}", &row[2..].replace("15", "16"))),
        );
        let planned = cluster.run(&["plan"]).exits(1);
        assert!(planned.stdout.contains(words), "{wrong}: {}", planned.stdout);
        let ran = cluster.apply(&[]).exits(1);
        assert!(
            ran.stdout.contains(words.trim_matches('"'))
                || ran.stdout.contains(&words.replace('"', "\\\""))
        );
        assert_eq!(ran.tasks("changed"), [], "{wrong}");
        assert_eq!(sums(), before, "{wrong}");
    }
    cluster.write_inventory(&good.replace("work_mem: 9MB", "port: 99"));
    let refused = cluster.run(&["apply", "-y"]).exits(2).stderr;
    assert!(refused.contains("set postgres.port") && refused.contains("^^^^"), "{refused}");
    cluster.write_inventory(&good);
    settled(cluster);
}

pub(super) fn edits_by_hand_are_shown_and_undone(cluster: &Cluster) {
    let conf = format!("{DATA}/pgorch.conf");
    cluster.sh(
        "node2",
        &format!("sed -i 's/^work_mem.*/work_mem = 1MB/; /^wal_sender_timeout/d' {conf}"),
    );
    cluster.sh("node2", &format!("sed -i '1i host all all 0.0.0.0/0 trust' {DATA}/pg_hba.conf"));
    cluster.sh("node3", &format!("chmod 0644 {conf}"));
    let shown = cluster.run(&["plan"]).exits(3).stdout;
    for line in [
        "~ work_mem: 1MB -> 9MB  [reload]",
        "+ wal_sender_timeout: 5s  [reload]",
        "- pg_hba.conf rule 1: host all all 0.0.0.0/0 trust  [reload]",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    as_planned(cluster, &[]);
    cluster.sh(
        "node2",
        &format!("! grep -q trust$ {DATA}/pg_hba.conf || grep -q 'app.*trust' {DATA}/pg_hba.conf"),
    );
    assert_eq!(
        cluster.sql("node2", "SELECT count(*) FROM pg_hba_file_rules WHERE address = '0.0.0.0'"),
        "0"
    );
    assert_eq!(cluster.sh("node3", &format!("stat -c %a {conf}")), "600");
    settled(cluster);
}

pub(super) fn alter_system_is_a_finding(cluster: &Cluster) {
    cluster.sql("node1", "ALTER SYSTEM SET work_mem = '3MB'");
    cluster.sql("node1", "SELECT pg_reload_conf()");
    let told = notices(&settled(cluster));
    let words = "work_mem = 3MB in postgresql.auto.conf wins over the inventory; undo with: ALTER SYSTEM RESET \"work_mem\"";
    assert!(told.contains(&("node1".to_owned(), words.to_owned())), "{told:?}");
    let seen = status(cluster);
    assert!(codes(&seen).contains("settings_overridden"), "{seen}");
    assert_eq!(seen["health"], "degraded");
    cluster.run(&["status", "--check"]).exits(1);
    cluster.sql("node1", "ALTER SYSTEM RESET work_mem");
    cluster.sql("node1", "SELECT pg_reload_conf()");
    assert!(notices(&settled(cluster)).is_empty());
}

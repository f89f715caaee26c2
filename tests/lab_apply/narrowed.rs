//! Runs that are narrowed to some hosts or tasks.

use super::{ALL, as_planned, edit, settled};
use crate::lab::Cluster;

pub(super) fn tags_limits_and_starts(cluster: &Cluster) {
    let hosts = cluster.run(&["apply", "--list-hosts", "-l", "node2"]).exits(0).stdout;
    assert!(hosts.contains("Install PostgreSQL: node2\n"), "{hosts}");
    let tasks = cluster.run(&["apply", "--list-tasks", "-t", "restart"]).exits(0).stdout;
    assert!(tasks.contains("Restart if owed") && !tasks.contains("Packages"), "{tasks}");
    for (words, hint) in [
        (["-t", "configur"], "did you mean \"configure\"?"),
        (["--start-at-task", "Member of the cluster"], "did you mean \"Members of the cluster\"?"),
        (["-l", "node9"], "node9"),
    ] {
        let told = cluster.run(&["apply", words[0], words[1]]).exits(2).stderr;
        assert!(told.contains(hint), "{told}");
    }
    edit(cluster, "work_mem: 9MB", "work_mem: 10MB");
    for skipping in [["--skip-tags", "configure,clone"], ["-t", "install"]] {
        let ran = cluster.apply(&skipping).exits(0);
        assert_eq!(ran.tasks("changed"), [], "{skipping:?}");
    }
    let late = cluster.apply(&["--start-at-task", "Members of the cluster"]).exits(0);
    assert_eq!((late.tasks("changed").len(), late.tasks("ok").len()), (0, 11), "{}", late.stdout);
    // One standby alone: the primary is looked at and left as it is.
    as_planned(cluster, &["-l", "node3"]);
    let values = ALL.map(|node| cluster.sql(node, "SHOW work_mem"));
    assert_eq!(values, ["9MB", "9MB", "10MB"]);
    as_planned(cluster, &["-t", "configure", "-f", "1"]);
    settled(cluster);
}

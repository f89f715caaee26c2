//! Plans in files.

use super::{DATA, edit, planned, settled};
use crate::lab::Cluster;

pub(super) fn a_saved_plan_is_done_exactly_or_refused(cluster: &Cluster) {
    edit(cluster, "work_mem: 10MB", "work_mem: 11MB");
    let plan = cluster.run(&["plan", "-o", "json", "--out", "cluster.plan"]).exits(3).json();
    let text = std::fs::read_to_string(cluster.dir().join("cluster.plan")).expect("a plan");
    assert!(text.starts_with("pgorch-plan 1\n"));
    let passfile = cluster.sh("node1", "cat /var/lib/pgorch/first/passfile");
    let password = passfile.rsplit(':').next().expect("a password");
    assert!(!text.contains(password.trim()), "the plan holds the replication password");
    let done = cluster.run(&["apply", "cluster.plan", "-o", "json"]).exits(0);
    assert_eq!(done.tasks("changed").into_iter().collect::<super::Tasks>(), planned(&plan).0);
    // Done once, it is out of date.
    cluster.run(&["apply", "cluster.plan"]).exits(5);

    edit(cluster, "work_mem: 11MB", "work_mem: 12MB");
    cluster.run(&["plan", "--out", "cluster.plan"]).exits(3);
    let hba = format!("{DATA}/pg_hba.conf");
    cluster.sh(
        "node3",
        &format!("cp -p {hba} /root/hba && sed -i '1i host all all ::/0 reject' {hba}"),
    );
    let refused = cluster.run(&["apply", "cluster.plan"]).exits(5).stderr;
    assert!(refused.contains("node3 is not as it was when the plan was made"), "{refused}");
    assert_eq!(cluster.sql("node3", "SHOW work_mem"), "11MB");
    cluster.sh("node3", &format!("cp -p /root/hba {hba}"));
    edit(cluster, "work_mem: 12MB", "work_mem: 13MB");
    let refused = cluster.run(&["apply", "cluster.plan"]).exits(5).stderr;
    assert!(refused.contains("inventory.yml has changed"), "{refused}");
    super::as_planned(cluster, &[]);
    settled(cluster);
}

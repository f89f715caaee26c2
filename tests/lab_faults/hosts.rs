//! Hosts that are off, stand still, have no room, and inventories that cannot be meant.

use std::time::{Duration, Instant};

use super::login::Strangers;
use super::{Lab, changed_hosts, said};
use crate::lab::Cluster;

/// All mistakes of an inventory at once, and no host is touched.
pub(super) fn bad_inventory() {
    let cluster = Cluster::new(
        "
cluster: bad
postgres: { version: 15, parametres: {} }
nodes:
  node1: { host: 198.18.0.1, primary: true }
  node2: { host: 198.18.0.1, follow: node9 }
  node3: { host: 198.18.0.3, primary: true, priority: high }
",
    );
    let ran = cluster.run(&["apply", "-y"]).exits(2);
    let text = &ran.stderr;
    for (place, what) in [
        ("3:26", "parametres"),
        ("6:18", "taken by \"node1\""),
        ("6:38", "node9"),
        ("7:39", "primary"),
        ("7:55", "priority"),
    ] {
        assert!(text.contains(&format!("inventory.yml:{place}")), "{place}: {text}");
        assert!(text.contains(what), "{what}: {text}");
    }
    assert!(text.contains("did you mean \"parameters\"?") && text.contains('^'), "{text}");
}

// Where there is a `lab:`, apply would first switch on what is off.

/// The others are done; the run that is repeated only does the one that was off.
pub(super) fn powered_off(lab: &Lab) {
    lab.fault("power-off node3");
    lab.set_work_mem("5MB");
    let start = Instant::now();
    let ran = Strangers::new(lab).apply().exits(4);
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    assert_eq!(changed_hosts(&ran), ["node1", "node2"]);
    let text = said(&ran);
    assert!(text.contains("node3") && text.contains("is the host up"), "{text}");
    lab.fault("start node3");
    assert_eq!(changed_hosts(&lab.apply().exits(0)), ["node3"]);
    lab.is_whole();
}

pub(super) fn frozen(lab: &Lab) {
    lab.fault("freeze node3");
    lab.set_work_mem("6MB");
    let start = Instant::now();
    let ran = Strangers::new(lab).apply().exits(4);
    assert!(start.elapsed() < Duration::from_secs(45), "{:?}", start.elapsed());
    assert_eq!(changed_hosts(&ran), ["node1", "node2"]);
    lab.fault("thaw node3");
    assert_eq!(changed_hosts(&lab.apply().exits(0)), ["node3"]);
    lab.is_whole();
}

pub(super) fn disk_full(lab: &Lab) {
    let conf = "cat /var/lib/pgorch/faulty/15/data/pgorch.conf";
    let before = lab.cluster.sh("node2", conf);
    lab.fault("fill-disk node2");
    lab.set_work_mem("7MB");
    let ran = lab.apply().exits(1);
    assert!(
        said(&ran).contains("node2") && ran.stdout.contains("No space left on device"),
        "{}",
        said(&ran)
    );
    assert_eq!(lab.cluster.sh("node2", conf), before);
    lab.fault("free-disk node2");
    let again = lab.apply().exits(0);
    assert!(changed_hosts(&again).contains(&"node2".to_owned()), "{}", said(&again));
    assert!(lab.cluster.sh("node2", conf).contains("7MB"));
    lab.is_whole();
}

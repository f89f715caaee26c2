//! Roles change, hosts reboot, the inventory changes: the guard goes along.

use std::time::Duration;

use pgorch::facts::{OperationRecord, OperationState, Proof};
use pgorch::inventory::parse;
use pgorch::operation::{Action, Identity, Known, Step, command};
use pgorch::syntax::Source;

use super::host::{GUARD, Guarded, UNIT};

pub(super) fn nothing_to_do(lab: &Guarded) {
    assert_eq!(lab.cluster.apply(&[]).exits(0).tasks("changed"), []);
    assert_eq!(lab.reading("node1", "values"), Guarded::timing().guard_values());
    assert_eq!(lab.reading("node2", "slots"), "node1,node3");
    assert_eq!(lab.reading("node2", "guard"), "standby");
}

/// A host that boots does not bring a primary back by itself; an operator does.
pub(super) fn rebooted(lab: &Guarded) {
    lab.cluster.fault("power-off node1");
    lab.cluster.fault("start node1");
    std::thread::sleep(Duration::from_secs(8));
    assert!(lab.down("node1"));
    let journal = lab.sh("node1", &format!("journalctl -q -o cat -b -u {UNIT}"));
    assert!(journal.contains("nobody has granted that"), "{journal}");
    lab.back("node1");
    // A standby needs nobody.
    lab.cluster.fault("power-off node3");
    lab.cluster.fault("start node3");
    lab.settled("node1");
    lab.until_guard("node3", "standby");
}

/// A reload alone does not end the receiver of a standby whose replay is paused; the revocation does, and
/// nothing that the primary writes afterwards arrives.
pub(super) fn revoked_while_paused(lab: &Guarded) {
    lab.cluster.sql("node3", "SELECT pg_wal_replay_pause()");
    let text = lab.inventory("automatic");
    let mut inventory = parse(&Source::new("i", text)).expect("an inventory").0;
    for node in inventory.nodes.values_mut() {
        node.host.address = Some("198.18.0.1".to_owned());
    }
    let record = OperationRecord {
        id: "guard-test".to_owned(),
        kind: "failover".to_owned(),
        primary: "node1".into(),
        candidate: "node2".into(),
        state: OperationState::Open,
        controller: "test".to_owned(),
        proof: Proof::default(),
        elected: false,
        earlier: Vec::new(),
        possible: Vec::new(),
        over: false,
        lease_ms: None,
        started: String::new(),
    };
    let stored = lab.sh("node3", "head -n 1 /var/lib/pgorch/gd/epoch 2>/dev/null || echo 0");
    let epoch = stored.parse::<u64>().unwrap_or(0) + 1;
    let identity = Identity { epoch, record, replaces: Vec::new() };
    let step = |action| {
        let step = Step { host: "node3".into(), action };
        let sent = command(&step, &inventory, &identity, &Known::default()).expect("a command");
        lab.sh("node3", sent.script.as_str())
    };
    let said = step(Action::Revoke);
    assert!(said.contains("done=receives nothing"), "{said}");
    lab.cluster.sql("node1", "SELECT pg_switch_wal()");
    lab.cluster.sql("node1", "SELECT pg_logical_emit_message(true, 'test', 'x')");
    std::thread::sleep(Duration::from_secs(2));
    let receiver = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walreceiver'";
    assert_eq!(lab.cluster.sql("node3", receiver), "0");
    let senders = "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'node3'";
    assert_eq!(lab.cluster.sql("node1", senders), "0");
    let said = step(Action::Unrevoke);
    assert!(said.contains("done=receives again"), "{said}");
    step(Action::Release { undone: true });
    lab.cluster.sql("node3", "SELECT pg_wal_replay_resume()");
    lab.settled("node1");
}

/// Somebody promotes a standby past pgorch: nobody has given it a lease, and it is ended.
pub(super) fn promoted_by_hand(lab: &Guarded) {
    lab.cluster.sql("node2", "SELECT pg_promote(false)");
    std::thread::sleep(Duration::from_secs(3));
    assert!(lab.down("node2"), "it lives on");
    assert_eq!(lab.cluster.sql("node1", "SELECT pg_is_in_recovery()"), "f");
    lab.run(&["rejoin", "node2", "-y"]).exits(0);
    lab.settled("node1");
    lab.until_guard("node2", "standby");
}

pub(super) fn switched_over(lab: &Guarded) {
    lab.run(&["switchover", "--to", "node2", "-y"]).exits(0);
    lab.long_lease("node2");
    lab.settled("node2");
    lab.until_guard("node1", "standby");
    // Its lease of the promotion ends, and the standbys keep it.
    lab.only_standbys("node2");
    lab.run(&["restart", "node2", "-y"]).exits(0);
    lab.long_lease("node2");
    lab.settled("node2");
    lab.run(&["switchover", "--to", "node1", "-y"]).exits(0);
    lab.long_lease("node1");
    lab.settled("node1");
    lab.until_guard("node2", "standby");
}

/// Paused, it lives without anybody; after the pause, which ends by itself, it does not.
pub(super) fn paused(lab: &Guarded) {
    let ran = lab.run(&["pause", "--for", "10s", "--reason", "new disks"]).exits(0);
    assert!(
        ran.stdout.contains("the guard of node1 lets it run without a lease"),
        "{}",
        ran.stdout
    );
    assert_eq!(lab.reading("node1", "guard"), "paused");
    for node in ["node2", "node3"] {
        lab.sh(node, &format!("systemctl stop {UNIT}"));
    }
    lab.sh("node1", &format!("{GUARD} shorten 1"));
    std::thread::sleep(Duration::from_secs(3));
    assert!(!lab.down("node1"));
    assert_eq!(lab.reading("node1", "paused"), "1");
    std::thread::sleep(Duration::from_secs(10));
    assert!(lab.down("node1"), "no lease and no standbys");
    for node in ["node1", "node2", "node3"] {
        lab.run(&["start", node, "-y"]).exits(0);
    }
    lab.long_lease("node1");
    lab.settled("node1");
    // Without an end, and ended.
    lab.run(&["pause"]).exits(0);
    let status = lab.run(&["status"]).exits(0);
    assert!(status.stdout.contains("watch_paused"), "{}", status.stdout);
    let ran = lab.run(&["unpause"]).exits(0);
    assert!(ran.stdout.contains("the guard of node1 wants a lease again"), "{}", ran.stdout);
    lab.until_guard("node1", "lease");
    assert_eq!(lab.reading("node1", "paused"), "0");
}

/// With "mode: manual" nothing of it is left, and the server runs on.
pub(super) fn manual_again(lab: &Guarded) {
    lab.cluster.write_inventory(&lab.inventory("manual"));
    lab.cluster.apply(&[]).exits(0);
    assert_eq!(lab.cluster.apply(&[]).exits(0).tasks("changed"), []);
    let left = "ls /etc/systemd/system/*guard* /usr/local/lib/pgorch/* /etc/pgorch/* /run/pgorch/* 2>/dev/null || :";
    assert_eq!(lab.sh("node1", left), "");
    for node in ["node2", "node3"] {
        lab.sh(node, &format!("systemctl stop {UNIT}"));
    }
    std::thread::sleep(Duration::from_secs(5));
    assert!(!lab.down("node1"));
}

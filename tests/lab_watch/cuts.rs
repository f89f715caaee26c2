//! The primary lives, and somebody does not reach it.

use super::lab::{Lab, NODES, seconds};

const FROM_STANDBYS: [&str; 2] = ["node1 node2", "node1 node3"];

fn cut(lab: &Lab, pairs: &[&str]) {
    pairs.iter().for_each(|pair| lab.cluster.fault(&format!("cut {pair}")));
}

fn heal(lab: &Lab, pairs: &[&str]) {
    pairs.iter().for_each(|pair| lab.cluster.fault(&format!("heal {pair}")));
}

/// A client on the primary's own host, which nothing cuts off from it. All hosts have this machine's
/// clock.
fn pinned(lab: &Lab) {
    lab.cluster.sql("node1", "DROP TABLE IF EXISTS pinned");
    lab.cluster.sql("node1", "CREATE TABLE pinned (at timestamptz)");
    lab.cluster.sh(
        "node1",
        "systemctl stop pinned 2>/dev/null; rm -f /root/pinned; \
         systemd-run --collect --unit=pinned sh -c 'cd /; while :; do \
         runuser -u postgres -- psql -XAtqc \"INSERT INTO pinned VALUES (now())\" && \
         date +%s.%N >>/root/pinned; sleep 0.02; done'",
    );
}

/// Cut off from us and from the standbys, with clients that still reach it: it confirms nothing any more
/// when the next one begins to.
pub(super) fn from_all(lab: &Lab) {
    pinned(lab);
    let mut watching = lab.watch(&[]);
    seconds(3);
    let others = lab.writer(&["node2", "node3"]);
    let began = std::time::Instant::now();
    cut(lab, &FROM_STANDBYS);
    lab.cluster.fault("cut controller node1");
    watching.done();
    seconds(2);
    let others = others.end();
    let (first, _) = others.span().expect("rows");
    eprintln!("  writes are back after {:.2} s", (first - began).as_secs_f64());
    let first = std::time::SystemTime::now() - first.elapsed();
    let first = first.duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs_f64();
    heal(lab, &FROM_STANDBYS);
    lab.cluster.fault("heal controller node1");
    assert_ne!(lab.whole_within(300), "node1");
    let last = lab.cluster.sh("node1", "systemctl stop pinned; tail -n 1 /root/pinned");
    let last: f64 = last.parse().expect("a time");
    eprintln!(
        "  the old one confirmed its last row {:.2} s before the new one's first",
        first - last
    );
    assert!(last < first, "both confirmed for {:.2} s", last - first);
    assert_eq!(others.lost_on(&lab.cluster, &lab.primary()), [] as [i64; 0]);
    watching.end();
    lab.home();
}

/// Cut off from us alone: nothing happens.
pub(super) fn from_controller(lab: &Lab) {
    let cut_off = "controller node1";
    // This machine's clients are cut off as well; this one is not.
    pinned(lab);
    let mut watching = lab.watch(&[]);
    seconds(1);
    cut(lab, &[cut_off]);
    watching.found("primary_ssh_lost");
    seconds(15);
    heal(lab, &[cut_off]);
    watching.healthy();
    watching.ends_idle();
    assert_eq!(lab.primary(), "node1");
    let rows = lab.cluster.sh("node1", "systemctl stop pinned; cat /root/pinned");
    let rows: Vec<f64> = rows.lines().map(|l| l.parse().expect("a time")).collect();
    let longest = rows.windows(2).map(|w| w[1] - w[0]).fold(0.0, f64::max);
    eprintln!("  {} rows meanwhile, longest wait {longest:.2} s", rows.len());
    assert!(longest < 3.0, "{longest}");
    lab.home();
}

/// Cut off from the standbys alone: the watch keeps it up, and leaves the standbys as they are; they
/// come back by themselves.
pub(super) fn from_standbys(lab: &Lab) {
    let writer = lab.writer(&NODES);
    let mut watching = lab.watch(&[]);
    seconds(2);
    let start = "systemctl show -p ActiveEnterTimestampMonotonic pgorch-wa";
    let before = lab.cluster.sh("node2", start);
    cut(lab, &FROM_STANDBYS);
    watching.live.until(|e| {
        let minors = e["data"]["minors"].as_array().cloned().unwrap_or_default();
        minors.iter().any(|m| m.as_str().is_some_and(|m| m.contains("standby_cut_off")))
    });
    seconds(25);
    heal(lab, &FROM_STANDBYS);
    assert_eq!(lab.whole_within(60), "node1");
    assert_eq!(lab.cluster.sh("node2", start), before, "it was restarted");
    let ledger = writer.end();
    assert_eq!(lab.lost("cut off from the standbys", &ledger), 0);
    assert!(ledger.outage().as_secs_f64() < 1.5, "{:?}", ledger.outage());
    let events = watching.end();
    let rules: Vec<&str> = events.iter().filter_map(|e| e["data"]["rule"].as_str()).collect();
    assert!(!rules.contains(&"bring-members-back"), "{rules:?}");
    assert!(!rules.contains(&"replace-a-lost-primary"), "{rules:?}");
    lab.home();
}

/// Nothing comes from it, everything reaches it: its standbys' words reach it and prove nothing.
pub(super) fn one_way(lab: &Lab) {
    let out = ["node1 to node2", "node1 to node3", "node1 to controller"];
    pinned(lab);
    let mut watching = lab.watch(&[]);
    seconds(2);
    let others = lab.writer(&["node2", "node3"]);
    cut(lab, &out);
    watching.done();
    seconds(2);
    let others = others.end();
    let (first, _) = others.span().expect("rows");
    let first = std::time::SystemTime::now() - first.elapsed();
    let first = first.duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs_f64();
    heal(lab, &FROM_STANDBYS);
    heal(lab, &["controller node1"]);
    assert_ne!(lab.whole_within(300), "node1");
    let last = lab.cluster.sh("node1", "systemctl stop pinned; tail -n 1 /root/pinned");
    let last: f64 = last.parse().expect("a time");
    eprintln!("  last row of the old one {:.2} s before the first of the new one", first - last);
    assert!(last < first, "both confirmed for {:.2} s", last - first);
    watching.end();
    lab.home();
}

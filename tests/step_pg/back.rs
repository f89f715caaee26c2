//! What brings a node back: each kind's own preconditions, from given facts.

use pgorch::facts::{ClusterDir, DataDir, History, InstanceFacts, Receiver, Slot};
use pgorch::model::{HostName, Lsn, Timeline};
use serde_json::json;

use super::cluster::{answer, directory, of, put, running, server, stopped};
use super::harness::{World, change, refused, satisfied};

const FORK: Lsn = Lsn(0x500_0060);
/// The answer about a former primary's WAL after the fork.
const THREE_LOST: &str = "size_kb=40000\nrecords=12\ncommits=3\nlast=0/5000148\n";

/// node1 has taken over at the fork; node2 was the primary and stopped after it.
fn failed_over() -> World {
    let mut world = running();
    let mut primary = server(false);
    let history = History { timeline: Timeline(2), ancestors: vec![(Timeline(1), FORK)] };
    primary.data_dir = DataDir::Cluster(ClusterDir { history: Some(history), ..directory(77) });
    primary.server.as_mut().expect("a server").timeline = Some(Timeline(2));
    put(&mut world, "node1", primary);
    put(&mut world, "node2", old(|_| {}));
    world
}

fn old(spoil: impl FnOnce(&mut ClusterDir)) -> InstanceFacts {
    let mut dir = directory(77);
    let control = dir.control.as_mut().expect("a control file");
    (control.state, control.checkpoint_lsn) = ("shut down".to_owned(), Lsn(FORK.0 + 200));
    control.data_checksums = true;
    spoil(&mut dir);
    let mut instance = stopped(dir);
    instance.unit.heeds_fence = true;
    instance
}

#[test]
fn a_rejoin_looks_and_says_what_would_be_lost() {
    let world = failed_over();
    let report = satisfied(world.judge("node2", "rejoin", json!({}), &[answer(0, THREE_LOST)]));
    assert_eq!(
        (&report.data["rung"], &report.data["lost_transactions"]),
        (&json!("rewind"), &json!(3))
    );
    assert!(report.notices[0].contains("3 committed transactions that only node2 has (232 bytes"));
    let only = json!({ "method": "start" });
    let why = refused(world.judge("node2", "rejoin", only, &[answer(0, THREE_LOST)]));
    assert!(why.contains("left the primary's at 0/5000060"), "{why}");
}

#[test]
fn nothing_that_runs_or_is_strange_is_brought_back() {
    let with = |node: &str, instance: InstanceFacts| {
        let mut world = failed_over();
        put(&mut world, node, instance);
        refused(world.judge(node, "rejoin", json!({}), &[]))
    };
    assert!(refused(of(&failed_over(), "node1", "rejoin")).contains("is the primary"));
    assert!(with("node2", server(false)).contains("out of recovery, and so is node1"));
    let mut silent = old(|_| {});
    silent.postmaster_pid = Some(7);
    assert!(with("node2", silent).contains("does not answer"));
    assert!(with("node2", old(|d| d.made_by_pgorch = false)).contains("did not make"));
    assert!(with("node2", stopped(directory(78))).contains("another cluster"));
    let foreign = InstanceFacts { data_dir: DataDir::Foreign, ..Default::default() };
    assert!(with("node2", foreign).contains("is no database cluster"));
}

#[test]
fn a_copy_beside_the_old_data_needs_room() {
    let mut world = failed_over();
    let mut full = old(|_| {});
    (full.disk_total_bytes, full.disk_free_bytes) = (100_000_000, 30_000_000);
    put(&mut world, "node2", full);
    let clone = json!({ "method": "clone" });
    let why = refused(world.judge("node2", "rejoin", clone, &[answer(0, THREE_LOST)]));
    assert!(why.contains("needs about 43 MB on node2, and 30 MB are free"), "{why}");
}

#[test]
fn a_rewind_is_made_behind_the_fence_only() {
    let mut world = failed_over();
    let judge = |world: &World| world.judge("node2", "rewind", json!({}), &[answer(0, THREE_LOST)]);
    assert!(refused(judge(&world)).contains("node2 is not fenced"));
    let mut fenced = old(|_| {});
    fenced.fenced = Some("being rejoined".to_owned());
    put(&mut world, "node2", fenced.clone());
    let rewind = change(judge(&world));
    assert!(rewind.impact.destroys.expect("a loss").contains("3 committed transactions"));
    let script = rewind.commands[0].script.as_str();
    assert!(script.contains("user=replicator") && script.contains("dbname=postgres"), "{script}");
    assert!(!script.contains(super::harness::PASSWORD) && !script.contains("password="));
    fenced.postmaster_pid = Some(7);
    fenced.server = Some(pgorch::facts::ServerFacts { in_recovery: true, ..Default::default() });
    put(&mut world, "node2", fenced);
    assert!(refused(judge(&world)).contains("a server runs on"));
}

#[test]
fn the_fence_goes_when_the_signal_is_there() {
    let judge = |instance: InstanceFacts, state: &str| {
        let mut world = failed_over();
        put(&mut world, "node2", instance);
        world.judge("node2", "fence_marker", json!({ "state": state }), &[])
    };
    let fenced = |signal: bool| {
        let mut instance = old(|d| d.standby_signal = signal);
        instance.fenced = Some("by the failover".to_owned());
        instance
    };
    assert!(refused(judge(fenced(false), "absent")).contains("would come up writable"));
    change(judge(fenced(true), "absent"));
    satisfied(judge(fenced(true), "present"));
    change(judge(old(|_| {}), "present"));
    let mut deaf = old(|_| {});
    deaf.unit.heeds_fence = false;
    assert!(refused(judge(deaf, "present")).contains("does not look for the fence marker"));
    // Whatever starts it, a fenced server is left to rejoin.
    let mut world = failed_over();
    put(&mut world, "node2", fenced(true));
    assert!(refused(of(&world, "node2", "start")).contains("is fenced: by the failover"));
}

#[test]
fn data_of_this_cluster_is_kept_put_aside_or_in_the_way() {
    let judge = |world: &World, existing: &str| {
        let args = json!({ "existing": existing, "upstream": "node1" });
        world.judge("node2", "basebackup", args, &[answer(0, THREE_LOST)])
    };
    let mut world = failed_over();
    satisfied(judge(&world, "keep"));
    assert!(refused(judge(&world, "refuse")).contains("holds data of this cluster"));
    let aside = change(judge(&world, "aside"));
    assert!(aside.impact.destroys.expect("a loss").contains("3 committed"));
    let script = aside.commands[0].script.as_str();
    let (kept, new) = ("mv -T \"$data\" \"$data.before-rejoin-", "mv -T \"$new\" \"$data\"");
    assert!(script.find(kept).expect("kept") < script.find(new).expect("renamed"));
    assert!(!script.contains("rm -rf -- \"$data\""), "{script}");
    world.options.destroy =
        vec![format!("node2:{}", world.nodes[&HostName::from("node2")].data_dir)];
    let named = change(judge(&world, "refuse"));
    assert!(named.impact.destroys.expect("a loss").starts_with("everything in"));
}

#[test]
fn slots_that_hold_wal_for_nobody_go_and_no_others() {
    let slot = |name: &str| Slot { name: name.to_owned(), physical: true, ..Default::default() };
    let mut world = running();
    let with = |slots: &[&str], in_recovery: bool| {
        let mut instance = server(in_recovery);
        let server = instance.server.as_mut().expect("a server");
        server.slots = slots.iter().map(|n| slot(n)).collect();
        instance
    };
    // node3 is declared to follow node2; "backup" is nobody's of ours.
    put(&mut world, "node2", with(&["node1", "node2", "node3", "backup"], true));
    put(&mut world, "node1", with(&["node2", "node3"], false));
    put(&mut world, "node3", with(&["node2"], true));
    let drop = change(of(&world, "node2", "stray_slots"));
    assert_eq!(drop.summary, "drop unused slots: node1 on node2, node2 on node2, node2 on node3");
    put(&mut world, "node2", with(&["node3", "backup"], true));
    put(&mut world, "node3", with(&[], true));
    satisfied(of(&world, "node2", "stray_slots"));
    assert!(refused(of(&world, "node1", "stray_slots")).contains("is no standby"));
}

#[test]
fn a_standby_follows_nobody_that_follows_it_or_is_behind_it() {
    let mut world = running();
    let mut node2 = server(true);
    let receiver = Receiver {
        status: "streaming".to_owned(),
        sender_host: "db3.example.org".to_owned(),
        sender_port: 5432,
        ..Default::default()
    };
    node2.server.as_mut().expect("a server").receiver = Some(receiver);
    put(&mut world, "node2", node2);
    let judge = |world: &World| {
        world.judge("node3", "follow", json!({ "upstream": "node2" }), &[answer(0, "file\nauto\n")])
    };
    assert!(refused(judge(&world)).contains("node2 gets its WAL from node3"));
    let mut world = running();
    for (name, timeline) in [("node2", 1), ("node3", 2)] {
        let mut instance = server(true);
        instance.server.as_mut().expect("a server").timeline = Some(Timeline(timeline));
        put(&mut world, name, instance);
    }
    assert!(refused(judge(&world)).contains("node3 is on timeline 2, node2 still on 1"));
}

#[test]
fn old_data_is_reported_and_goes_only_when_the_node_streams() {
    let kept = "41000 /var/lib/pgorch/c/15/data.before-rejoin-20260101T000000Z\n";
    let judge = |world: &World, discard: bool, text: &str| {
        world.judge("node2", "old_data", json!({ "discard": discard }), &[answer(0, text)])
    };
    let mut world = running();
    assert_eq!(satisfied(judge(&world, true, "")).notices, Vec::<String>::new());
    assert!(satisfied(judge(&world, false, kept)).notices[0].contains("(41 MB)"));
    assert!(refused(judge(&world, true, kept)).contains("does not stream yet"));
    let mut node2 = server(true);
    node2.server.as_mut().expect("a server").receiver =
        Some(Receiver { status: "streaming".to_owned(), ..Default::default() });
    put(&mut world, "node2", node2);
    let gone = change(judge(&world, true, kept));
    assert!(gone.impact.destroys.is_some() && gone.commands[0].label.contains("before-rejoin"));
}

#[test]
fn a_restart_does_not_start_what_is_stopped() {
    let mut world = running();
    world.options.restart = true;
    let force = json!({ "force": true });
    assert!(change(world.judge("node2", "restart", force.clone(), &[])).impact.restart);
    put(&mut world, "node2", stopped(directory(77)));
    assert!(refused(world.judge("node2", "restart", force, &[])).contains("node2 does not run"));
}

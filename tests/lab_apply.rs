//! `apply` on real hosts: first, second, changed, extended; as people would use it.
//!
//! Few clusters, long stories: making a cluster costs half a minute, a check on one that is there
//! costs half a second. Each story's chapters stand in a file of their own.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::lab::{Cluster, Ran, available};

mod changes;
mod controllers;
mod first;
mod narrowed;
mod nodes;
mod observed;
mod saved;

const THREE: &str = "
cluster: first
lab: { image: bookworm }
postgres:
  version: 15
  parameters: { work_mem: 8MB, max_connections: 50 }
  hba:
    - host app app 198.18.0.0/15 trust
  roles:
    - { name: app, attributes: [login] }
  databases:
    - { name: app, owner: app }
nodes:
  node1: { primary: true }
  node2: {}
  node3: {}
";

const ALL: [&str; 3] = ["node1", "node2", "node3"];
/// The data directory of the story's nodes.
const DATA: &str = "/var/lib/pgorch/first/15/data";

#[test]
fn the_story_of_a_cluster() {
    if !available() {
        return;
    }
    let cluster = Cluster::new(THREE);
    first::the_first_apply_does_what_the_plan_said(&cluster);
    first::the_second_changes_nothing_in_one_session_a_host(&cluster);
    first::the_summary_holds_a_uri_that_works(&cluster);
    observed::status_facts_exec_and_events(&cluster);
    changes::a_reload_is_done_at_once(&cluster);
    changes::a_restart_is_reported_and_waits_for_a_yes(&cluster);
    changes::the_standbys_restart_first(&cluster);
    changes::a_standby_never_has_less_than_its_primary(&cluster);
    changes::wrong_parameters_change_nothing(&cluster);
    changes::edits_by_hand_are_shown_and_undone(&cluster);
    changes::alter_system_is_a_finding(&cluster);
    narrowed::tags_limits_and_starts(&cluster);
    saved::a_saved_plan_is_done_exactly_or_refused(&cluster);
    nodes::foreign_data_is_refused_and_left_alone(&cluster);
    nodes::a_new_node_is_cloned_alone(&cluster);
    nodes::a_node_that_is_gone_is_only_reported(&cluster);
    nodes::the_observed_primary_stays(&cluster);
    nodes::a_crashed_primary_is_not_started(&cluster);
    nodes::two_primaries_are_refused(&cluster);
}

#[test]
fn sudo_users_secrets_and_a_second_controller() {
    if available() {
        controllers::story();
    }
}

type Tasks = BTreeSet<(String, String)>;

/// `plan`, then `apply`: all that was announced is done, and nothing else but what the plan said
/// would be known later.
#[track_caller]
fn as_planned(cluster: &Cluster, more: &[&str]) -> Ran {
    let plan = cluster.run(&[&["plan", "-o", "json"], more].concat()).exits(3).json();
    assert_eq!(plan["schema"], 1);
    let (known, later) = planned(&plan);
    let ran = cluster.apply(more).exits(0);
    let changed: Tasks = ran.tasks("changed").into_iter().collect();
    let missed: Vec<_> = known.difference(&changed).collect();
    assert!(missed.is_empty(), "planned and not done: {missed:?}");
    let announced: Tasks = known.union(&later).cloned().collect();
    let surprises: Vec<_> = changed.difference(&announced).collect();
    assert!(surprises.is_empty(), "done and not planned: {surprises:?}");
    ran
}

/// The `(host, task)` of a plan's changes, and of what it can know only later.
fn planned(plan: &Value) -> (Tasks, Tasks) {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let one = |c: &Value| (text(&c["host"]), text(&c["task"]));
    let changes = plan["changes"].as_array().expect("changes");
    let of = |later: bool| changes.iter().filter(move |c| c["known_after"].is_null() != later);
    (of(false).map(one).collect(), of(true).map(one).collect())
}

/// A run of `apply` that changes nothing.
#[track_caller]
fn settled(cluster: &Cluster) -> Ran {
    let ran = cluster.apply(&[]).exits(0);
    assert_eq!(ran.tasks("changed"), [], "{}", ran.stdout);
    ran
}

/// Replaces words of the inventory.
#[track_caller]
fn edit(cluster: &Cluster, from: &str, to: &str) {
    let text = std::fs::read_to_string(cluster.inventory()).expect("an inventory");
    assert!(text.contains(from), "no {from:?} in {text}");
    cluster.write_inventory(&text.replace(from, to));
}

/// The texts of the run's notices, each with its host.
fn notices(ran: &Ran) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let all = ran.events();
    let notices = all.iter().filter(|e| e["event"] == "notice");
    notices.map(|e| (text(&e["host"]), text(&e["message"]))).collect()
}

/// When a host's task was first done; the order of a rolling play.
#[track_caller]
fn moment(ran: &Ran, host: &str, task: &str) -> String {
    let all = ran.events();
    let hit = |e: &&Value| e["event"] == "task_done" && e["host"] == host && e["task"] == task;
    let done = all.iter().find(hit).unwrap_or_else(|| panic!("no {task} on {host}"));
    done["time"].as_str().expect("a time").to_owned()
}

/// When each node's postmaster was started.
fn starts(cluster: &Cluster, nodes: &[&str]) -> Vec<String> {
    let start = |node: &&str| cluster.sql(node, "SELECT pg_postmaster_start_time()");
    nodes.iter().map(start).collect()
}

#[track_caller]
fn status(cluster: &Cluster) -> Value {
    cluster.run(&["status", "-o", "json"]).exits(0).json()
}

/// A node's row of the status.
#[track_caller]
fn row(status: &Value, node: &str) -> Value {
    let rows = status["nodes"].as_array().expect("nodes");
    rows.iter().find(|r| r["name"] == node).unwrap_or_else(|| panic!("no {node}")).clone()
}

/// The codes of the status's findings.
fn codes(status: &Value) -> BTreeSet<String> {
    let findings = status["findings"].as_array().expect("findings");
    findings.iter().filter_map(|f| f["code"].as_str().map(str::to_owned)).collect()
}

//! What is not as it should be: the findings about the cluster as a whole, and their order.

use indexmap::IndexMap;

use super::bootstrap::strangers;
use super::catalog::{Severity, explain};
use super::{Nodes, State, Topology, health};
use crate::facts::{Observation, Pause, Snapshot};
use crate::inventory::Inventory;
use crate::model::{HostName, Lsn, Role, Timeline};

/// Seconds by which each host's clock is ahead of the controller's (negative: behind), as the
/// caller measured it. A host that is missing is not judged.
pub type ClockOffsets = IndexMap<HostName, f64>;

/// Something worth knowing. `explain(code)` says more.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    pub code: &'static str,
    pub severity: Severity,
    /// None: the cluster as a whole.
    pub node: Option<HostName>,
    pub message: String,
    pub hint: Option<String>,
}

impl Finding {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        let severity = explain(code).map_or(Severity::Warning, |info| info.severity);
        Finding { code, severity, node: None, message: message.into(), hint: None }
    }

    pub(super) fn on(mut self, node: &HostName) -> Self {
        self.node = Some(node.clone());
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }
}

/// All findings, the worst first, then in the inventory's order.
#[must_use]
pub fn findings(
    inventory: &Inventory,
    snapshot: &Snapshot,
    topology: &Topology,
    clocks: &ClockOffsets,
) -> Vec<Finding> {
    let nodes = Nodes::new(inventory, snapshot);
    let mut found = Vec::new();
    roles(&nodes, topology, &mut found);
    for name in nodes.settings.keys() {
        reachability(&nodes, topology, name, &mut found);
        membership(&nodes, topology, name, &mut found);
        health::of_host(&nodes, name, clocks.get(name), &mut found);
        health::of_instance(&nodes, topology, name, &mut found);
    }
    undeclared(&nodes, &mut found);
    paused(snapshot, &mut found);
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    found
}

/// The newest word that any node has stored; whether its time is over is judged by that node's clock.
fn paused(snapshot: &Snapshot, found: &mut Vec<Finding>) {
    let facts = || snapshot.nodes.values().filter_map(Observation::facts);
    let words = facts().filter_map(|f| f.instance.as_ref()?.pause.as_ref());
    let now = facts().map(|f| f.host.epoch_seconds).fold(0.0, f64::max);
    #[expect(clippy::cast_possible_truncation, reason = "milliseconds since 1970")]
    if let Some(pause) = Pause::in_force(words, (now * 1_000.0) as i64) {
        found.push(Finding::new("watch_paused", pause.describe()).hint("pgorch unpause"));
    }
}

fn roles(nodes: &Nodes<'_>, topology: &Topology, found: &mut Vec<Finding>) {
    match topology.primaries.as_slice() {
        [] => {
            let hint = no_primary_hint(nodes, topology);
            found.push(Finding::new("no_primary", "no node is out of recovery").hint(hint));
        }
        [primary] => {
            let marked = nodes.inventory.nodes.iter().find(|(_, node)| node.primary);
            if let Some((marked, _)) = marked.filter(|(name, _)| *name != primary) {
                let message = format!("{primary} is the primary, the inventory marks {marked}");
                found.push(Finding::new("declared_primary_differs", message));
            }
        }
        several => {
            let each = several.iter().map(|name| match nodes.newest(name) {
                Some((timeline, lsn)) => format!("{name} (timeline {timeline}, {lsn})"),
                None => name.to_string(),
            });
            let each = each.collect::<Vec<_>>().join(" and ");
            let message = format!("{each} are out of recovery and accept writes");
            let hint = match strangers(nodes, several).as_slice() {
                [] => {
                    "pgorch explain split_brain; keep clients away, stop the stale one, rejoin it"
                }
                _ => "another cluster's server is among them: see not_made_by_pgorch below",
            };
            found.push(Finding::new("split_brain", message).hint(hint));
        }
    }
}

fn no_primary_hint(nodes: &Nodes<'_>, topology: &Topology) -> String {
    let unseen = |name: &HostName| nodes.instance(name).is_none();
    let fed_by_unseen = topology.members.iter().find_map(|(name, member)| {
        let upstream = member.upstream.as_ref()?.node().filter(|upstream| unseen(upstream))?;
        (member.state == State::Streaming).then_some((name, upstream))
    });
    if let Some((standby, primary)) = fed_by_unseen {
        return format!(
            "{standby} streams from {primary}, so that seems alive: look at the way to it"
        );
    }
    if nodes.settings.keys().any(unseen) {
        return "the primary may be on a node that could not be looked at".to_owned();
    }
    let has_data = |name: &HostName| nodes.instance(name).is_some_and(|i| i.cluster().is_some());
    match nodes.settings.keys().any(has_data) {
        false => "there is no data yet: pgorch apply".to_owned(),
        true => "pgorch start NODE, pgorch start --all, or pgorch failover".to_owned(),
    }
}

fn reachability(nodes: &Nodes<'_>, topology: &Topology, name: &HostName, found: &mut Vec<Finding>) {
    let Some(member) = topology.member(name) else { return };
    match member.state {
        State::Unreachable => {
            let cause = match nodes.snapshot.nodes.get(name) {
                Some(Observation::Unknown { cause }) => cause.clone(),
                _ => "was not looked at".to_owned(),
            };
            found.push(Finding::new("node_unreachable", cause).on(name));
        }
        State::Absent => found.push(
            Finding::new("server_down", "has no data directory yet").on(name).hint("pgorch apply"),
        ),
        State::Fenced => {
            let marker = nodes.instance(name).and_then(|i| i.fenced.clone()).unwrap_or_default();
            let hint = format!("pgorch rejoin {name}");
            found.push(Finding::new("node_fenced", marker).on(name).hint(hint));
        }
        State::Stopped => {
            let unit = nodes.instance(name).map(|i| i.unit.active_state.as_str());
            let message = match unit.filter(|state| !state.is_empty()) {
                Some(state) => format!("PostgreSQL is not running, its unit is {state}"),
                None => "PostgreSQL is not running".to_owned(),
            };
            // Without standby.signal it would come up writable, beside the primary.
            let writable = topology.primary.is_some() && member.role != Role::Standby;
            let hint = match writable {
                true => format!("pgorch rejoin {name}: it would come up as a second primary"),
                false => format!("pgorch start {name}"),
            };
            found.push(Finding::new("server_down", message).on(name).hint(hint));
        }
        State::NotAnswering => {
            let why = nodes.instance(name).and_then(|i| i.server_error.as_deref());
            let why = why.and_then(|e| e.lines().next()).unwrap_or("no answer").to_owned();
            let message = format!("PostgreSQL runs and does not answer: {why}");
            found.push(Finding::new("server_down", message).on(name));
        }
        _ => {}
    }
}

/// Whether the node is of this cluster and its history is the primary's.
fn membership(nodes: &Nodes<'_>, topology: &Topology, name: &HostName, found: &mut Vec<Finding>) {
    let Some(instance) = nodes.instance(name) else { return };
    let reference = topology.primaries.first().or_else(|| {
        nodes.settings.keys().find(|n| nodes.instance(n).is_some_and(|i| i.made_by_pgorch()))
    });
    let Some(reference) = reference.filter(|reference| *reference != name) else { return };
    let theirs = nodes.instance(reference).and_then(|i| i.system_identifier());
    if let (Some(own), Some(theirs)) = (instance.system_identifier(), theirs)
        && own != theirs
    {
        let message = format!("system identifier {own}, {reference} has {theirs}");
        found.push(Finding::new("system_identifier_mismatch", message).on(name));
        return;
    }
    let Some(primary) = topology.primary.as_ref().filter(|primary| *primary != name) else {
        return;
    };
    if let Some(message) = fork(nodes, name, primary) {
        let hint = format!("pgorch rejoin {name}");
        found.push(Finding::new("timeline_fork", message).on(name).hint(hint));
    }
}

/// How the node's history left the primary's, if it did and that can be known: (timeline, LSN)
/// against the primary's history file; equal numbers alone prove nothing, but a position past the
/// fork does.
fn fork(nodes: &Nodes<'_>, name: &HostName, primary: &HostName) -> Option<String> {
    let (timeline, lsn): (Timeline, Lsn) = nodes.newest(name)?;
    let (head, _) = nodes.newest(primary)?;
    if timeline > head {
        return Some(format!("is on timeline {timeline}, the primary {primary} on {head}"));
    }
    let history = nodes.instance(primary)?.cluster()?.history.as_ref()?;
    if history.timeline != head || history.contains(timeline, lsn) {
        return None;
    }
    let end = history.ancestors.iter().find(|(ancestor, _)| *ancestor == timeline);
    Some(match end {
        Some((_, end)) => format!(
            "stands at {lsn} on timeline {timeline}, which {primary} left at {end}: {} bytes more",
            lsn.bytes_since(*end)
        ),
        None => format!("timeline {timeline} is not in the history of {primary}'s timeline {head}"),
    })
}

/// Who is there without being declared.
fn undeclared(nodes: &Nodes<'_>, found: &mut Vec<Finding>) {
    let slots: Vec<&str> = nodes.settings.values().map(|node| node.slot.as_str()).collect();
    for name in nodes.settings.keys() {
        let Some(server) = nodes.server(name) else { continue };
        for sender in &server.senders {
            // pg_basebackup and pg_receivewal come and go; their names start with pg_.
            let tool = sender.application_name.starts_with("pg_");
            if !tool && !slots.contains(&sender.application_name.as_str()) {
                let from = sender.client_addr.as_deref().unwrap_or("a local socket");
                let message =
                    format!("\"{}\" from {from} streams from here", sender.application_name);
                found.push(Finding::new("node_not_in_inventory", message).on(name));
            }
        }
        for slot in server.slots.iter().filter(|s| s.physical) {
            if !slots.contains(&slot.name.as_str()) {
                let message = format!("slot \"{}\" belongs to no declared node", slot.name);
                let statement = format!(
                    "if nobody uses it: SELECT pg_drop_replication_slot({})",
                    crate::postgres::literal(&slot.name)
                );
                let finding = Finding::new("replication_slot_unknown", message).on(name);
                found.push(finding.hint(statement));
            }
        }
    }
    let registered = nodes.settings.keys().filter_map(|n| nodes.server(n)).find(|s| !s.in_recovery);
    let strange = registered.map_or(&[][..], |s| &s.registered).iter();
    let declared = |name: &String| nodes.settings.contains_key(&HostName(name.clone()));
    for name in strange.filter(|name| !declared(name)) {
        let message = format!("\"{name}\" is registered in pgorch.nodes");
        let hint = format!("add it to the inventory, or pgorch unregister {name}");
        found.push(Finding::new("node_not_in_inventory", message).hint(hint));
    }
}

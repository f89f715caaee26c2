//! The document of `pgorch status -o json`, a contract: fields are added, never renamed.

use super::findings::{ClockOffsets, Finding, findings};
use super::{Nodes, Severity, Topology, analyse};
use crate::facts::Snapshot;
use crate::inventory::Inventory;
use crate::model::{HostName, Lsn, Role, Timeline};

/// The cluster in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    Ok,
    /// A warning or worse.
    Degraded,
    /// No writable primary.
    Down,
    /// Two out of recovery.
    Split,
}

impl Health {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Health::Ok => "ok",
            Health::Degraded => "degraded",
            Health::Down => "down",
            Health::Split => "split",
        }
    }
}

/// The whole document.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Status {
    pub schema: u32,
    pub cluster: String,
    pub primary: Option<HostName>,
    pub health: Health,
    /// In the inventory's order.
    pub nodes: Vec<NodeStatus>,
    /// The worst first.
    pub findings: Vec<Finding>,
}

/// A node's row.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct NodeStatus {
    pub name: HostName,
    pub host: String,
    pub port: u16,
    pub role: Role,
    pub state: &'static str,
    /// A node's name, or `host:port` if that is no declared node.
    pub upstream: Option<String>,
    pub timeline: Option<Timeline>,
    /// Write position on a primary, `GREATEST(receive, replay)` on a standby.
    pub lsn: Option<Lsn>,
    pub lag_bytes: Option<u64>,
    /// Seconds; none when all that was received is replayed.
    pub replay_lag_seconds: Option<f64>,
    pub sync: Option<String>,
    pub pending_restart: bool,
    pub reload_owed: bool,
    pub version: Option<String>,
    /// Codes of the findings about this node.
    pub findings: Vec<&'static str>,
}

impl Status {
    /// The document about what was seen.
    #[must_use]
    pub fn new(inventory: &Inventory, snapshot: &Snapshot, clocks: &ClockOffsets) -> Self {
        let topology = analyse(inventory, snapshot);
        let findings = findings(inventory, snapshot, &topology, clocks);
        let nodes = Nodes::new(inventory, snapshot);
        let rows = nodes.settings.keys().filter_map(|name| row(&nodes, &topology, &findings, name));
        Status {
            schema: 1,
            cluster: inventory.cluster.clone(),
            nodes: rows.collect(),
            health: health(&topology, &findings),
            primary: topology.primary,
            findings,
        }
    }

    /// How many findings are of this severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|f| f.severity == severity).count()
    }
}

fn health(topology: &Topology, findings: &[Finding]) -> Health {
    match topology.primaries.len() {
        0 => Health::Down,
        1 if findings.iter().any(|f| f.severity >= Severity::Warning) => Health::Degraded,
        1 => Health::Ok,
        _ => Health::Split,
    }
}

fn row(
    nodes: &Nodes<'_>,
    topology: &Topology,
    findings: &[Finding],
    name: &HostName,
) -> Option<NodeStatus> {
    let (settings, member) = (nodes.settings.get(name)?, topology.member(name)?);
    let (instance, server) = (nodes.instance(name), nodes.server(name));
    let live = server.map(|s| s.version.clone());
    Some(NodeStatus {
        name: name.clone(),
        host: settings.address.clone(),
        port: settings.port,
        role: member.role,
        state: member.state.word(),
        upstream: member.upstream.as_ref().map(ToString::to_string),
        timeline: member.timeline,
        lsn: member.lsn,
        lag_bytes: member.lag_bytes,
        replay_lag_seconds: server.and_then(|s| s.replay_lag_seconds),
        sync: member.sync.clone(),
        pending_restart: server.is_some_and(|s| !s.pending_restart.is_empty()),
        reload_owed: instance.is_some_and(|i| i.config_newer_than_load),
        version: live.or_else(|| instance?.binary_version.clone()),
        findings: findings
            .iter()
            .filter(|f| f.node.as_ref() == Some(name))
            .map(|f| f.code)
            .collect(),
    })
}

/// `status --check`: exit code (0 OK, 1 WARNING, 2 CRITICAL; the caller uses 3 when there is no
/// status at all) and one line with performance data, as Nagios plugins print it.
#[must_use]
pub fn nagios(status: &Status) -> (u8, String) {
    let worst = status.findings.iter().map(|f| f.severity).max();
    let (code, word) = match (status.health, worst) {
        (Health::Down | Health::Split, _) | (_, Some(Severity::Critical)) => (2, "CRITICAL"),
        (Health::Degraded, _) => (1, "WARNING"),
        (Health::Ok, _) => (0, "OK"),
    };
    let streaming = status.nodes.iter().filter(|n| n.state == "streaming").count();
    let primary = match &status.primary {
        Some(primary) => format!("primary {primary}"),
        None => "no single primary".to_owned(),
    };
    let mut text = format!("{}: {primary}, {streaming} streaming", status.cluster);
    let bad = status.findings.iter().filter(|f| f.severity > Severity::Info);
    for finding in bad {
        text.push_str("; ");
        if let Some(node) = &finding.node {
            text.push_str(&format!("{node}: "));
        }
        text.push_str(finding.code);
    }
    let lag = status.nodes.iter().filter_map(|n| n.lag_bytes).max().unwrap_or(0);
    // A bar would start the performance data, a newline the long text.
    let text = text.replace(['|', '\n'], " ");
    (code, format!("PGORCH {word} - {text} | lag={lag}B streaming={streaming}"))
}

//! What a round shows of each node, for the table of a terminal and for JSON lines.

use serde::Serialize;

use super::decision::{Verdict, Watch};
use super::finding::{Finding, Minor};
use super::observation::{HostSeen, Seen, ServerSeen};
use crate::model::{HostName, Instant};

/// A cluster after a round.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Board {
    pub cluster: String,
    pub round: u64,
    pub phase: &'static str,
    pub finding: &'static str,
    pub decision: String,
    pub primary: Option<HostName>,
    /// Looks in a row that accuse the primary, and how many convince.
    pub suspicion: Option<(u32, u32)>,
    /// Who has paused the watch, why, and until when.
    pub pause: Option<String>,
    pub nodes: Vec<NodeRow>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeRow {
    pub name: HostName,
    /// `primary`, `standby`, `witness`, `unknown`.
    pub role: &'static str,
    /// `running`, `streaming`, `disconnected`, `starting`, `stopping`, `stopped`, `fenced`, `full`,
    /// `refuses`, `not_answering`, `unreachable`, `unknown`; a witness is `reachable` or `unreachable`.
    pub state: &'static str,
    pub timeline: Option<u32>,
    /// Write position of a primary, else what the node has received or replayed.
    pub lsn: Option<String>,
    /// Behind the primary's write position of the same round.
    pub lag_bytes: Option<u64>,
    /// What holds it up, as far as this watch knows; only of the primary, and of one that was.
    pub lease: Option<Held>,
    /// Findings about the node, and `revoked`.
    pub findings: Vec<&'static str>,
}

/// Until when a node may be held up by leases, every wait included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// Milliseconds from now.
    Milliseconds(u64),
    /// Its guard is paused.
    WithoutEnd,
    NotRead,
}

impl Board {
    /// The cluster in one line.
    #[must_use]
    pub fn headline(&self) -> String {
        let mut text = format!("{}: {}, {}", self.cluster, self.phase, self.finding);
        if let Some(primary) = &self.primary {
            text += &format!(", primary {primary}");
        }
        if let Some((looks, needed)) = self.suspicion {
            text += &format!(", look {looks} of {needed}");
        }
        if let Some(pause) = &self.pause {
            text += &format!(", {pause}");
        }
        text
    }
}

impl Watch {
    /// The round that has just ended.
    #[must_use]
    pub fn board(&self, verdict: &Verdict, cluster: &str, now: Instant) -> Board {
        let members = &self.policy().members;
        let primary = verdict.primary.as_ref().and_then(|p| self.sight().server(p)?.lsn);
        let row = |name: &HostName| {
            if !members.nodes.contains_key(name) {
                return self.witness(name);
            }
            let server = self.sight().server(name);
            let lsn = server.and_then(|s| s.lsn);
            let standby = server.is_some_and(|s| s.in_recovery);
            let behind = primary.zip(lsn).filter(|_| standby);
            NodeRow {
                name: name.clone(),
                role: self.role(name),
                state: self.state(name),
                timeline: server.and_then(|s| s.timeline).map(|t| t.0),
                lsn: lsn.map(|l| l.to_string()),
                lag_bytes: behind.map(|(primary, own)| primary.bytes_since(own)),
                lease: self.lease(name, now),
                findings: self.remarks(name, verdict),
            }
        };
        Board {
            cluster: cluster.to_owned(),
            round: verdict.round,
            phase: verdict.phase.word(),
            finding: verdict.finding.code(),
            decision: verdict.decision.describe(),
            primary: verdict.primary.clone(),
            suspicion: verdict.finding.accuses().then(|| self.suspects(verdict.finding)).flatten(),
            pause: verdict.pause.as_ref().map(super::Pause::describe),
            nodes: members.voters.iter().map(row).collect(),
        }
    }

    fn witness(&self, name: &HostName) -> NodeRow {
        let there = self.sight().host(name).is_some();
        NodeRow {
            name: name.clone(),
            role: "witness",
            state: if there { "reachable" } else { "unreachable" },
            timeline: None,
            lsn: None,
            lag_bytes: None,
            lease: None,
            findings: Vec::new(),
        }
    }

    fn role(&self, name: &HostName) -> &'static str {
        if let Some(server) = self.sight().server(name) {
            return if server.in_recovery { "standby" } else { "primary" };
        }
        match self.sight().host(name) {
            Some(host) if host.standby_signal => "standby",
            _ => "unknown",
        }
    }

    fn state(&self, name: &HostName) -> &'static str {
        match self.sight().fresh(name).map(|look| &look.seen) {
            None => "unknown",
            Some(Seen::Silent { .. }) => "unreachable",
            Some(Seen::Host(host)) => state_of(host),
        }
    }

    fn lease(&self, name: &HostName, now: Instant) -> Option<Held> {
        let is_primary = self.recorded().is_some_and(|r| r.primary == *name);
        if !self.policy().guarded || !is_primary {
            return None;
        }
        Some(match self.leases().over_at(name, &std::collections::BTreeMap::new()) {
            Some(over) => {
                Held::Milliseconds(u64::try_from(over.since(now).as_millis()).unwrap_or(u64::MAX))
            }
            None if self.leases().knows(name) => Held::WithoutEnd,
            None => Held::NotRead,
        })
    }

    fn remarks(&self, name: &HostName, verdict: &Verdict) -> Vec<&'static str> {
        let minors = verdict.minors.iter().filter(|(_, node)| node == name);
        let mut all: Vec<&'static str> =
            minors.map(|(minor, _): &(Minor, _)| minor.code()).collect();
        let is_primary = self.recorded().is_some_and(|r| r.primary == *name);
        if is_primary && verdict.finding != Finding::Healthy {
            all.push(verdict.finding.code());
        }
        if self.sight().host(name).is_some_and(|h| h.revoked) {
            all.push("revoked");
        }
        all
    }
}

fn state_of(host: &HostSeen) -> &'static str {
    match &host.server {
        ServerSeen::Answers(server) if !server.in_recovery => "running",
        ServerSeen::Answers(server) => {
            let streaming = server.receiver.as_ref().is_some_and(|r| r.streaming);
            if streaming { "streaming" } else { "disconnected" }
        }
        ServerSeen::StartingUp => "starting",
        ServerSeen::ShuttingDown => "stopping",
        ServerSeen::TooManyClients => "full",
        ServerSeen::Refuses(_) => "refuses",
        _ if host.postmaster.is_some() => "not_answering",
        _ if host.fenced => "fenced",
        _ => match host.unit.as_str() {
            "activating" => "starting",
            "deactivating" => "stopping",
            _ => "stopped",
        },
    }
}

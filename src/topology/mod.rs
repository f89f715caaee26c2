//! The cluster as a graph: who is primary, who follows whom, how far behind, what is wrong.
//!
//! [`analyse`] turns a [`Snapshot`] into a [`Topology`], [`findings`] names what is not as it
//! should be, [`bootstrap`] decides what a first `apply` may do, [`Status`] is the contract's
//! document. All of it is pure, and what could not be looked at proves nothing.

mod bootstrap;
mod catalog;
mod findings;
mod health;
mod render;
mod start;
mod status;
#[cfg(test)]
mod tests;

use indexmap::IndexMap;

use crate::facts::{DataDir, InstanceFacts, NodeFacts, Observation, Sender, ServerFacts, Snapshot};
use crate::inventory::{Inventory, NodeSettings};
use crate::model::{HostName, Lsn, Role, Timeline};
use crate::postgres::Conninfo;

pub use bootstrap::{Bootstrap, bootstrap, running_primary};
pub use catalog::{FINDINGS, FindingInfo, REFUSALS, Severity, explain};
pub use findings::{ClockOffsets, Finding, findings};
pub use render::{human, psql_uri};
pub use start::cold_start;
pub use status::{Health, NodeStatus, Status, nagios};

/// The graph.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Topology {
    /// The one node out of recovery; none if there is none or more than one.
    pub primary: Option<HostName>,
    /// All nodes seen out of recovery, in the inventory's order.
    pub primaries: Vec<HostName>,
    /// Every declared node, in the inventory's order.
    pub members: IndexMap<HostName, Member>,
}

/// One node's place in the graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    pub role: Role,
    pub state: State,
    /// Where a standby receives from or, while it does not, where it is configured to.
    pub upstream: Option<Upstream>,
    pub timeline: Option<Timeline>,
    pub lsn: Option<Lsn>,
    /// Behind the primary; none on the primary, and while there is no single one.
    pub lag_bytes: Option<u64>,
    /// `async`, `sync`, `quorum` or `potential`, as the primary sees this standby.
    pub sync: Option<String>,
}

/// What a node is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A primary that answers.
    Running,
    Streaming,
    /// Connected to its upstream, not yet at its end.
    CatchingUp,
    /// A standby that answers and receives nothing.
    Disconnected,
    /// A postmaster lives and does not answer: starting, stopping, overloaded or hung.
    NotAnswering,
    Stopped,
    /// Stopped, and a fence marker keeps it from starting.
    Fenced,
    /// No data directory yet.
    Absent,
    Unreachable,
}

impl State {
    /// The word in documents and tables.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Streaming => "streaming",
            State::CatchingUp => "catching_up",
            State::Disconnected => "disconnected",
            State::NotAnswering => "not_answering",
            State::Stopped => "stopped",
            State::Fenced => "fenced",
            State::Absent => "absent",
            State::Unreachable => "unreachable",
        }
    }
}

/// Where WAL comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    Node(HostName),
    /// An address that belongs to no declared node.
    Other {
        host: String,
        port: u16,
    },
}

impl Upstream {
    #[must_use]
    pub fn node(&self) -> Option<&HostName> {
        match self {
            Upstream::Node(name) => Some(name),
            Upstream::Other { .. } => None,
        }
    }
}

impl std::fmt::Display for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Upstream::Node(name) => write!(f, "{name}"),
            Upstream::Other { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl Topology {
    #[must_use]
    pub fn member(&self, name: &HostName) -> Option<&Member> {
        self.members.get(name)
    }

    /// The declared nodes that answer in recovery.
    pub fn standbys(&self) -> impl Iterator<Item = &HostName> {
        self.members.iter().filter(|(_, m)| m.is_live_standby()).map(|(name, _)| name)
    }

    /// The standbys that receive from `name` (or are configured to), in the inventory's order.
    pub fn downstream_of<'a>(&'a self, name: &'a HostName) -> impl Iterator<Item = &'a HostName> {
        let of = move |m: &Member| m.upstream.as_ref().and_then(Upstream::node) == Some(name);
        self.members.iter().filter(move |(_, m)| of(m)).map(|(name, _)| name)
    }

    /// Whether `name` gets its WAL, through however many others, from `ancestor`.
    #[must_use]
    pub fn descends_from(&self, name: &HostName, ancestor: &HostName) -> bool {
        let mut at = name;
        // A cycle of standbys is possible (each configured to follow the other).
        for _ in 0..self.members.len() {
            match self.member(at).and_then(|m| m.upstream.as_ref()?.node()) {
                Some(upstream) if upstream == ancestor => return true,
                Some(upstream) => at = upstream,
                None => return false,
            }
        }
        false
    }

    /// Whom a standby should follow now: `follow` of the inventory if that node is the primary or
    /// streams and does not itself descend from the standby, else the primary. None for the
    /// primary itself and while there is no single one.
    #[must_use]
    pub fn wanted_upstream(&self, settings: &NodeSettings) -> Option<&HostName> {
        let primary = self.primary.as_ref().filter(|primary| **primary != settings.name)?;
        let declared = settings.follow.as_ref().and_then(|follow| {
            let (name, member) = self.members.get_key_value(follow)?;
            let healthy = matches!(member.state, State::Running | State::Streaming);
            let usable = healthy && !self.descends_from(name, &settings.name);
            (usable && *name != settings.name).then_some(name)
        });
        declared.or(Some(primary))
    }
}

impl Member {
    fn is_live_standby(&self) -> bool {
        self.role == Role::Standby
            && matches!(self.state, State::Streaming | State::CatchingUp | State::Disconnected)
    }
}

/// The graph that a snapshot shows.
#[must_use]
pub fn analyse(inventory: &Inventory, snapshot: &Snapshot) -> Topology {
    let nodes = Nodes::new(inventory, snapshot);
    let out_of_recovery = |name: &&HostName| nodes.server(name).is_some_and(|s| !s.in_recovery);
    let primaries: Vec<HostName> = nodes.settings.keys().filter(out_of_recovery).cloned().collect();
    let primary = match primaries.as_slice() {
        [one] => Some(one.clone()),
        _ => None,
    };
    let head = primary.as_ref().and_then(|name| nodes.server(name));
    let member = |name: &HostName| nodes.member(name, head);
    let members = nodes.settings.keys().map(|name| (name.clone(), member(name))).collect();
    Topology { primary, primaries, members }
}

/// Settings and observations side by side.
pub(super) struct Nodes<'a> {
    pub(super) inventory: &'a Inventory,
    pub(super) snapshot: &'a Snapshot,
    pub(super) settings: IndexMap<HostName, NodeSettings>,
}

impl<'a> Nodes<'a> {
    pub(super) fn new(inventory: &'a Inventory, snapshot: &'a Snapshot) -> Self {
        let settings = inventory.nodes.keys();
        let settings = settings.filter_map(|n| Some((n.clone(), inventory.postgres_of(n)?)));
        Nodes { inventory, snapshot, settings: settings.collect() }
    }

    pub(super) fn facts(&self, name: &HostName) -> Option<&'a NodeFacts> {
        self.snapshot.nodes.get(name).and_then(Observation::facts)
    }

    pub(super) fn instance(&self, name: &HostName) -> Option<&'a InstanceFacts> {
        self.facts(name)?.instance.as_ref()
    }

    pub(super) fn server(&self, name: &HostName) -> Option<&'a ServerFacts> {
        self.instance(name)?.server.as_ref()
    }

    /// The furthest position that a node is known to hold, live or at rest.
    pub(super) fn newest(&self, name: &HostName) -> Option<(Timeline, Lsn)> {
        let instance = self.instance(name)?;
        let live = instance.server.as_ref().and_then(|s| s.timeline.zip(s.lsn));
        live.or_else(|| Some(instance.cluster()?.control.as_ref()?.newest()))
    }

    fn member(&self, name: &HostName, primary: Option<&ServerFacts>) -> Member {
        let Some(instance) = self.instance(name) else {
            return Member {
                role: Role::Unknown,
                state: State::Unreachable,
                upstream: None,
                timeline: None,
                lsn: None,
                lag_bytes: None,
                sync: None,
            };
        };
        let newest = self.newest(name);
        let live = instance.server.as_ref();
        let lsn = live.map_or(newest.map(|(_, lsn)| lsn), |s| s.lsn);
        let behind = live.is_some_and(|s| s.in_recovery);
        let upstream = live.and_then(|s| self.upstream(name, s));
        let by_primary = primary.and_then(|p| self.sender(p, name));
        Member {
            role: role_of(instance),
            state: self.state(name, instance, upstream.as_ref()),
            timeline: live.map_or(newest.map(|(timeline, _)| timeline), |s| s.timeline),
            lsn,
            lag_bytes: primary.filter(|_| behind).and_then(|p| Some(p.lsn?.bytes_since(lsn?))),
            sync: by_primary.map(|s| s.sync_state.clone()).filter(|s| !s.is_empty()),
            upstream,
        }
    }

    fn state(
        &self,
        name: &HostName,
        instance: &InstanceFacts,
        upstream: Option<&Upstream>,
    ) -> State {
        let Some(server) = &instance.server else {
            return match (&instance.data_dir, instance.postmaster_pid) {
                (_, Some(_)) => State::NotAnswering,
                (DataDir::Missing | DataDir::Empty, None) => State::Absent,
                _ if instance.fenced.is_some() => State::Fenced,
                _ => State::Stopped,
            };
        };
        if !server.in_recovery {
            return State::Running;
        }
        // The sender knows whether its standby is at the end, the receiver does not.
        let sender = upstream
            .and_then(Upstream::node)
            .and_then(|upstream| self.sender(self.server(upstream)?, name));
        match (&server.receiver, sender) {
            (None, _) => State::Disconnected,
            (Some(receiver), _) if receiver.status != "streaming" => State::CatchingUp,
            (Some(_), Some(sender)) if sender.state != "streaming" => State::CatchingUp,
            (Some(_), _) => State::Streaming,
        }
    }

    /// The row of `pg_stat_replication` on `upstream` that serves the node `name`.
    pub(super) fn sender<'b>(
        &self,
        upstream: &'b ServerFacts,
        name: &HostName,
    ) -> Option<&'b Sender> {
        let slot = &self.settings.get(name)?.slot;
        upstream.senders.iter().find(|sender| sender.application_name == *slot)
    }

    fn upstream(&self, name: &HostName, server: &ServerFacts) -> Option<Upstream> {
        if !server.in_recovery {
            return None;
        }
        let receiving = server.receiver.as_ref().map(|r| (r.sender_host.clone(), r.sender_port));
        let (host, port) = receiving.or_else(|| configured_upstream(server))?;
        let by_address = self.settings.values().find(|node| {
            node.name != *name && node.port == port && self.is_address_of(&node.name, &host)
        });
        let node = by_address.or_else(|| self.upstream_by_sender(name, server));
        Some(match node {
            Some(node) => Upstream::Node(node.name.clone()),
            None => Upstream::Other { host, port },
        })
    }

    /// Who sends to a node that streams from an address which no node is known by (a name, a
    /// second interface, address translation).
    fn upstream_by_sender(&self, name: &HostName, server: &ServerFacts) -> Option<&NodeSettings> {
        server.receiver.as_ref()?;
        self.settings.values().find(|node| {
            node.name != *name
                && self.server(&node.name).is_some_and(|s| self.sender(s, name).is_some())
        })
    }

    fn is_address_of(&self, name: &HostName, address: &str) -> bool {
        let declared = self.settings.get(name).is_some_and(|node| node.address == address);
        declared
            || self.facts(name).is_some_and(|facts| {
                facts.host.hostname == address || facts.host.addresses.iter().any(|a| a == address)
            })
    }
}

fn configured_upstream(server: &ServerFacts) -> Option<(String, u16)> {
    let conninfo = Conninfo::parse(&server.settings.get("primary_conninfo")?.raw).ok()?;
    let port = conninfo.get("port").map_or(Some(5432), |port| port.parse().ok())?;
    Some((conninfo.get("hostaddr").or_else(|| conninfo.get("host"))?.to_owned(), port))
}

/// What the instance is or would come up as.
fn role_of(instance: &InstanceFacts) -> Role {
    match (&instance.server, instance.cluster()) {
        (Some(server), _) => server.role(),
        (None, Some(dir)) if dir.standby_signal => Role::Standby,
        // A stopped directory without the signal would come up writable, but it is no primary.
        _ => Role::Unknown,
    }
}

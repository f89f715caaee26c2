//! What one look shows of a primary that is lost, of who else may be one, and of who could take its place.

use std::collections::BTreeMap;
use std::time::Duration;

use super::election::{Ranked, rank};
use super::failover::Accepted;
use super::preconditions::{Check, Level};
use super::quorum::covered;
use super::unsettled::{Left, Unsettled, way_out};
use crate::facts::{
    InstanceFacts, Observation, OperationRecord, OperationState, ServerFacts, Snapshot,
};
use crate::inventory::{Inventory, ReplicationMode};
use crate::model::{HostName, Lsn, Timeline};
use crate::postgres::publishes_sync_names;
use crate::topology::{Topology, Upstream};

/// A receiver that heard from its upstream less than this ago, in seconds, shows that it lives. The
/// sender's keepalives come at half of `wal_sender_timeout`.
const HEARD: f64 = 5.0;

/// The look, with what was declared.
pub(super) struct View<'a> {
    pub(super) inventory: &'a Inventory,
    pub(super) snapshot: &'a Snapshot,
    pub(super) topology: &'a Topology,
}

impl View<'_> {
    pub(super) fn instance(&self, name: &HostName) -> Option<&InstanceFacts> {
        self.snapshot.nodes.get(name)?.facts()?.instance.as_ref()
    }

    pub(super) fn server(&self, name: &HostName) -> Option<&ServerFacts> {
        self.instance(name)?.server.as_ref()
    }

    pub(super) fn live_standbys(&self) -> impl Iterator<Item = (&HostName, &ServerFacts)> {
        let names = self.inventory.nodes.keys();
        names.filter_map(|n| Some((n, self.server(n)?))).filter(|(_, s)| s.in_recovery)
    }

    /// The timeline that a standby follows. Without a receiver the server only tells what its control
    /// file has seen, and that lags; the newest history file does not.
    pub(super) fn timeline(&self, name: &HostName, server: &ServerFacts) -> Option<Timeline> {
        let known = self.instance(name)?.cluster()?.history.as_ref().map(|h| h.timeline);
        server.timeline.max(known)
    }

    /// A majority must be there to store the epoch.
    pub(super) fn voters(&self) -> Option<Check> {
        let there = self.snapshot.epochs().count();
        let voters = self.inventory.nodes.len() + self.inventory.witnesses.len();
        (there < voters / 2 + 1).then(|| Check {
            code: "failover_voters",
            level: Level::Refused,
            node: None,
            message: format!(
                "{there} of {voters} voters can be reached: it may be we who are cut off"
            ),
            hint: Some("run it from where a majority can be reached".to_owned()),
        })
    }

    /// No other operation may be open.
    pub(super) fn operation(&self) -> Option<Check> {
        let (node, record) = self.snapshot.epochs().find_map(|(n, e)| Some((n, e.open()?)))?;
        Some(Check {
            code: "failover_operation_open",
            level: Level::Refused,
            node: Some(node.clone()),
            message: format!(
                "the {} to {} of {} ({}) is not over",
                record.kind, record.candidate, record.controller, record.started
            ),
            hint: Some(way_out(self.snapshot, record)),
        })
    }

    /// Whether an operation is past its promotion for certain: its old primary is a standby of its candidate
    /// by now, or a standby of the candidate is on a timeline that the old primary has never been on.
    pub(super) fn has_promoted(&self, record: &OperationRecord) -> bool {
        let newest = self.instance(&record.primary).and_then(|i| {
            let dir = i.cluster()?;
            Some(dir.control.as_ref()?.newest().0.max(dir.wal_timeline?))
        });
        self.live_standbys().any(|(name, server)| {
            let upstream = self.topology.member(name).and_then(|m| m.upstream.as_ref()?.node());
            let later = newest.is_some_and(|newest| self.timeline(name, server) > Some(newest));
            upstream == Some(&record.candidate) && (*name == record.primary || later)
        })
    }

    /// Who was the primary: the node that live standbys follow or are configured to and that is no
    /// standby itself; without any word of theirs the one stopped node that would come up writable.
    pub(super) fn old_primary(&self) -> Result<HostName, String> {
        match self.suspects().as_slice() {
            [one] => Ok(one.clone()),
            [] => self
                .recorded_primary()
                .ok_or_else(|| "who was the primary is not known: no standby names one".to_owned()),
            several => {
                let names: Vec<&str> = several.iter().map(HostName::as_str).collect();
                Err(format!("{} may each have been the primary", names.join(" and ")))
            }
        }
    }

    /// Whom the last operation made the primary, where that one cannot be seen.
    fn recorded_primary(&self) -> Option<HostName> {
        let newest = self.snapshot.epochs().max_by_key(|(_, stored)| stored.epoch)?.1;
        let record = newest.operation.as_ref().filter(|o| o.state == OperationState::Done)?;
        let seen = self.snapshot.nodes.get(&record.candidate)?.facts().is_some();
        (!seen).then(|| record.candidate.clone())
    }

    /// The same where an operation has left it open: nobody but those that it names may have been one.
    pub(super) fn unsettled_primary(&self, unsettled: &Unsettled) -> Result<HostName, String> {
        let named = |n: &HostName| *n == unsettled.primary || unsettled.possible.contains(n);
        match self.suspects().into_iter().find(|n| !named(n)) {
            Some(other) => Err(format!(
                "{other} may have been the primary, and the open operation knows nothing of it"
            )),
            None => Ok(unsettled.primary.clone()),
        }
    }

    pub(super) fn suspects(&self) -> Vec<HostName> {
        let standby = |name: &HostName| {
            self.server(name).is_some_and(|s| s.in_recovery)
                || self
                    .instance(name)
                    .and_then(InstanceFacts::cluster)
                    .is_some_and(|c| c.standby_signal)
        };
        let mut named: Vec<HostName> = Vec::new();
        for (name, _) in self.live_standbys() {
            let upstream = self.topology.member(name).and_then(|m| m.upstream.clone());
            if let Some(Upstream::Node(upstream)) = upstream
                && !standby(&upstream)
                && !named.contains(&upstream)
            {
                named.push(upstream);
            }
        }
        let writable = |name: &&HostName| {
            self.instance(name).and_then(InstanceFacts::cluster).is_some_and(|c| !c.standby_signal)
        };
        // One that is fenced was replaced already, where standbys name another.
        let fenced = |name: &HostName| self.instance(name).is_some_and(|i| i.fenced.is_some());
        let stopped: Vec<HostName> = self
            .inventory
            .nodes
            .keys()
            .filter(writable)
            .filter(|name| named.is_empty() || !fenced(name))
            .cloned()
            .collect();
        let mut all = named.clone();
        all.extend(stopped.iter().filter(|s| !named.contains(s)).cloned());
        all
    }

    /// The operation that has left it open who the primary is.
    pub(super) fn left(&self, unsettled: &Unsettled, level: Level) -> Check {
        let names: Vec<&str> = unsettled.possible.iter().map(HostName::as_str).collect();
        let message = match &unsettled.left {
            Left::Unheard(record) => format!(
                "was made the primary by the {} of {} ({}); the standbys that answer name {}",
                record.kind, record.controller, record.started, unsettled.primary
            ),
            _ => "may have been promoted by an operation that was never settled".to_owned(),
        };
        let gone = || Check {
            code: "failover_operation_open",
            level,
            node: unsettled.possible.first().cloned(),
            message: message.clone(),
            hint: Some(format!(
                "bring {} back, or: pgorch failover --accept-split-brain-risk",
                names.join(" and ")
            )),
        };
        self.operation().map(|check| Check { level, ..check }).unwrap_or_else(gone)
    }

    /// What is seen of those that an open operation has left in doubt.
    pub(super) fn doubt(&self, unsettled: &Unsettled) -> Vec<String> {
        let mut lines = Vec::new();
        if let Left::Open(record) = &unsettled.left {
            lines.push(format!(
                "the {} from {} to {} of {} ({}) is not over, and nobody can say whether {} was promoted",
                record.kind,
                record.primary,
                record.candidate,
                record.controller,
                record.started,
                record.candidate
            ));
        }
        for name in &unsettled.possible {
            lines.push(format!("{}; it may be a primary too", self.seen_of(name)));
        }
        lines
    }

    /// The same where it is known of another primary since that nobody who answers has followed.
    pub(super) fn unheard(&self, unsettled: &Unsettled, accepted: Accepted) -> Option<Check> {
        let Left::Unheard(record) = &unsettled.left else { return None };
        let level = if accepted.data_loss { Level::Warning } else { Level::Refused };
        Some(Check {
            code: "failover_earlier_timeline",
            level,
            node: Some(record.candidate.clone()),
            message: format!(
                "was made the primary by the {} of {} ({}), and no standby that answers has followed it: whatever was written since would be lost",
                record.kind, record.controller, record.started
            ),
            hint: Some(format!("bring {} back, or add --accept-data-loss", record.candidate)),
        })
    }

    /// Why a standby is not taken that has not followed to the newest timeline that anybody shows.
    pub(super) fn stayed_behind(&self, chosen: &Ranked, accepted: Accepted) -> Option<Check> {
        let newest = |name: &HostName| {
            let instance = self.instance(name)?;
            let at_rest = instance.cluster().and_then(|dir| dir.wal_timeline);
            instance.stands().map(|(timeline, _)| timeline).max(at_rest)
        };
        let others = self.inventory.nodes.keys().filter(|n| *n != chosen.name());
        let (timeline, who) =
            others.filter_map(|n| Some((newest(n)?, n))).max_by_key(|(t, _)| *t)?;
        if timeline <= chosen.timeline {
            return None;
        }
        let level = if accepted.data_loss { Level::Warning } else { Level::Refused };
        Some(Check {
            code: "failover_earlier_timeline",
            level,
            node: Some(chosen.name().clone()),
            message: format!(
                "stayed behind on timeline {}: whatever was written on timeline {timeline}, where {who} is, would be lost",
                chosen.timeline
            ),
            hint: Some(format!("bring {who} back, or add --accept-data-loss")),
        })
    }

    pub(super) fn is_quorum(&self) -> bool {
        self.inventory.replication.mode == ReplicationMode::Quorum
    }

    /// Whether the standbys that answer can have every confirmed commit among them, by what the nodes have
    /// recorded. Under the epoch it is looked at again.
    pub(super) fn quorum(
        &self,
        primary: &HostName,
        doubted: &[HostName],
    ) -> Result<String, String> {
        let nodes = self.inventory.nodes.keys();
        let there = nodes.filter(|n| self.instance(n).is_some());
        // Witnesses are asked when the epoch is claimed.
        let voters: Vec<&HostName> = there.chain(self.inventory.witnesses.keys()).collect();
        let stored = |n: &&HostName| Some(((*n).clone(), self.instance(n)?.sync.clone()?));
        let records = voters.iter().filter_map(stored).collect();
        let asked = self.live_standbys().map(|(n, _)| n).filter(|n| !doubted.contains(n));
        let asked = asked.cloned().collect();
        covered(self.inventory, &records, &voters, primary, &asked)
    }

    /// The standbys that still receive from it.
    pub(super) fn heard_by_standbys(
        &self,
        primary: &HostName,
        silent: Option<Duration>,
    ) -> Vec<String> {
        let heard = silent.map_or(HEARD, |silent| silent.as_secs_f64().min(HEARD));
        let hears = |name: &HostName, server: &ServerFacts| {
            let upstream = self.topology.member(name).and_then(|m| m.upstream.as_ref()?.node());
            upstream == Some(primary)
                && server
                    .receiver
                    .as_ref()
                    .is_some_and(|r| r.status == "streaming" && r.silent_seconds < heard)
        };
        self.live_standbys().filter(|(n, s)| hears(n, s)).map(|(n, _)| n.0.clone()).collect()
    }

    /// What is seen of a node that is or may be a primary.
    pub(super) fn seen_of(&self, name: &HostName) -> String {
        match self.snapshot.nodes.get(name) {
            None | Some(Observation::Unknown { .. }) => {
                let cause = match self.snapshot.nodes.get(name) {
                    Some(Observation::Unknown { cause }) => cause.as_str(),
                    _ => "it was not looked at",
                };
                format!("{name} cannot be reached: {cause}")
            }
            Some(seen) => {
                let instance = seen.facts().and_then(|f| f.instance.as_ref());
                let unit = instance.map(|i| i.unit.active_state.clone()).unwrap_or_default();
                match instance.and_then(|i| i.postmaster_pid) {
                    None => format!("{name}: its host answers, no server runs (unit {unit})"),
                    Some(pid) => {
                        let error =
                            instance.and_then(|i| i.server_error.clone()).unwrap_or_default();
                        format!("{name}: the postmaster {pid} does not answer: {error}")
                    }
                }
            }
        }
    }

    pub(super) fn evidence(&self, primary: &HostName, heard: &[String]) -> Vec<String> {
        let mut lines = vec![self.seen_of(primary)];
        for (name, server) in self.live_standbys() {
            let lsn = server.lsn.map(|l| l.to_string()).unwrap_or_else(|| "nothing".to_owned());
            let hears = if heard.contains(&name.0) { "hears from it" } else { "does not hear it" };
            lines.push(format!("{name}: {hears}, has WAL up to {lsn}"));
        }
        lines
    }

    pub(super) fn candidates(
        &self,
        primary: &HostName,
        doubted: &[HostName],
    ) -> (Vec<Ranked>, Vec<(HostName, String)>) {
        let ends: BTreeMap<HostName, (Timeline, Lsn)> = self
            .live_standbys()
            .filter_map(|(n, _)| Some((n.clone(), self.instance(n)?.stands()?)))
            .collect();
        let mut excluded = Vec::new();
        let mut fit = BTreeMap::new();
        let system =
            self.inventory.nodes.keys().find_map(|n| self.instance(n)?.system_identifier());
        for name in self.inventory.nodes.keys().filter(|n| *n != primary) {
            let why = match self.instance(name) {
                _ if doubted.contains(name) => Some("may be a primary"),
                None => Some("cannot be reached"),
                Some(i) if i.server.is_none() => Some("its server does not answer"),
                Some(i) if !i.made_by_pgorch() => Some("was not made by pgorch"),
                Some(i) if i.system_identifier() != system => Some("is of another cluster"),
                Some(i) if i.fenced.is_some() => Some("is fenced"),
                Some(i) if !i.unit.heeds_fence => {
                    Some("its unit does not know the fence marker: pgorch apply")
                }
                Some(i)
                    if self.is_quorum()
                        && i.server
                            .as_ref()
                            .is_some_and(|s| !publishes_sync_names(s.version_num)) =>
                {
                    Some("its minor version may confirm commits too early in quorum mode")
                }
                Some(_) if self.inventory.nodes.get(name).is_some_and(|n| n.priority == 0) => {
                    Some("has priority 0")
                }
                Some(_) => None,
            };
            match (why, ends.get(name)) {
                (Some(why), _) => excluded.push((name.clone(), why.to_owned())),
                (None, None) => {
                    excluded.push((name.clone(), "cannot tell its position".to_owned()))
                }
                (None, Some(end)) => drop(fit.insert(name.clone(), *end)),
            }
        }
        (rank(self.inventory, primary, &fit), excluded)
    }
}

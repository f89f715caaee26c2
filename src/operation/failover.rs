//! Replacing a primary that does not hand over: who it was, what is known of it, who takes over.

use std::collections::BTreeMap;
use std::time::Duration;

use super::election::{Ranked, rank};
use super::interrupted::{Superseded, superseded};
use super::preconditions::{Check, Level};
use super::quorum::covered;
use crate::facts::{InstanceFacts, Observation, OperationRecord, Proof, ServerFacts, Snapshot};
use crate::inventory::{Inventory, ReplicationMode};
use crate::model::{HostName, Lsn, Timeline};
use crate::postgres::publishes_sync_names;
use crate::topology::{Topology, Upstream};

/// Why a failover may be refused, and what to do; for `pgorch explain`.
pub const FAILOVER_CODES: &[(&str, &str)] = &[
    (
        "failover_primary_healthy",
        "The primary answers: a planned change loses nothing, a failover might. Use `pgorch switchover`.",
    ),
    (
        "failover_split",
        "More than one node is out of recovery. Nobody is promoted before the stale one is stopped: `pgorch explain split_brain`.",
    ),
    (
        "failover_unknown_primary",
        "Who has to be fenced is not known: no standby names its upstream, or several nodes would come up writable. Make the nodes reachable, or stop the stale ones.",
    ),
    (
        "failover_primary_alive",
        "This controller cannot reach the primary, but standbys hear from it: it is alive, and it is we who are cut off from it.",
    ),
    (
        "failover_unproved",
        "The old primary's host cannot be reached, so nothing proves that it takes no writes. In quorum replication enough standbys that answer are a proof: what stops to receive cannot confirm; the message says how many are missing. With failover.stonith pgorch switches it off. Else switch the host off and say so with --accept-split-brain-risk; the standbys then stop to receive from it before one is promoted. Keep it off until `pgorch rejoin`.",
    ),
    (
        "failover_voters",
        "The operation's epoch must be stored on a majority of the voters. Without one it may be this controller that is cut off, and somebody else may be at work.",
    ),
    (
        "failover_operation_open",
        "Another operation has begun and is not over. If its controller is gone, `pgorch resume` continues or undoes it.",
    ),
    (
        "failover_no_candidate",
        "No standby, or not the one that was named, can take over; each has its reason.",
    ),
    (
        "failover_candidate_behind",
        "Another standby has WAL that the candidate has not: rows that were confirmed would be lost. Choose that one, or accept the loss with --accept-data-loss; the other then has to rejoin.",
    ),
    (
        "failover_lag",
        "The old primary's disk holds more WAL than the candidate has, and more than failover.maximum_lag_on_failover allows to lose. Bring the old primary back (`pgorch start`), or accept the loss with --accept-data-loss.",
    ),
    (
        "failover_quorum_short",
        "Commits on the old primary waited for standbys, and too few of those answer to be sure that what was confirmed is among them: N-k+1 of every ANY k (...) that may have been in effect must. Bring standbys or the old primary back, or accept the loss with --accept-data-loss.",
    ),
    (
        "operation_open",
        "An operation that changes roles has begun and is not over, so nothing else is changed meanwhile. If its controller is gone, `pgorch resume` continues or undoes it.",
    ),
    (
        "resume_unknown",
        "An interrupted operation can be continued or undone only when it is known whether its candidate was promoted.",
    ),
    (
        "consent_needed",
        "A change of roles, a restart or the destruction of data needs a yes: at the prompt, or with -y.",
    ),
    (
        "operation_refused",
        "A switchover in a playbook is done as a whole, by a verified plan, with a candidate that streams from the primary, and with a yes that the plan has shown.",
    ),
];

/// What an operator accepts on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accepted {
    /// `--accept-split-brain-risk`: go on without proof that the old primary is down.
    pub split_brain_risk: bool,
    /// `--accept-data-loss`: go on although more than `maximum_lag_on_failover` may be lost.
    pub data_loss: bool,
    /// The watch's: it has kept the old primary's lease, and waits until it is over.
    pub lease: bool,
    /// The watch's: for how long the old primary has said nothing to it. A standby that has not heard
    /// from it since does not hear from it.
    pub silent: Option<Duration>,
    /// The watch's: without `failover.cross_location` nobody elsewhere takes over by itself.
    pub near_only: bool,
}

/// The situation, as far as one look shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Assessment {
    /// Who was the primary.
    pub primary: HostName,
    pub proof: Proof,
    /// What is seen of it, in words.
    pub evidence: Vec<String>,
    /// Standbys that could take over, best first, each with where its WAL ends.
    pub candidates: Vec<Ranked>,
    /// Standbys that cannot, with the reason.
    pub excluded: Vec<(HostName, String)>,
    /// Operations that made this primary and are open for a pooler's sake only: this one takes their place.
    pub superseded: Superseded,
}

/// A receiver that heard from its upstream less than this ago, in seconds, shows that it lives. The
/// sender's keepalives come at half of `wal_sender_timeout`.
const HEARD: f64 = 5.0;

/// Looks at the situation, or says why nothing may be done. `wanted` is the operator's choice.
///
/// # Errors
/// The checks that refuse, all of them.
pub fn assess(
    inventory: &Inventory,
    snapshot: &Snapshot,
    topology: &Topology,
    wanted: Option<&HostName>,
    accepted: Accepted,
) -> Result<(Assessment, Vec<Check>), Vec<Check>> {
    let view = View { inventory, snapshot, topology };
    let mut checks = Vec::new();
    let refused = |code, node: Option<&HostName>, message: String, hint: &str| Check {
        code,
        level: Level::Refused,
        node: node.cloned(),
        message,
        hint: Some(hint.to_owned()),
    };
    if let Some(primary) = &topology.primary {
        let message = "answers as the primary".to_owned();
        let hint = "a planned change is: pgorch switchover";
        return Err(vec![refused("failover_primary_healthy", Some(primary), message, hint)]);
    }
    if topology.primaries.len() > 1 {
        let names: Vec<&str> = topology.primaries.iter().map(HostName::as_str).collect();
        let message = format!("{} are all out of recovery", names.join(" and "));
        return Err(vec![refused("failover_split", None, message, "pgorch explain split_brain")]);
    }
    checks.extend(view.voters());
    let primary = match view.old_primary() {
        Ok(primary) => primary,
        Err(why) => {
            checks.extend(view.operation());
            checks.push(refused("failover_unknown_primary", None, why, "pgorch status"));
            return Err(checks);
        }
    };
    let superseded = superseded(snapshot, &primary, &|record| view.has_promoted(record));
    if superseded.as_ref().is_none_or(|s| !s.ids.is_empty()) {
        let level = if superseded.is_some() { Level::Warning } else { Level::Refused };
        checks.extend(view.operation().map(|check| Check { level, ..check }));
    }
    let superseded = superseded.unwrap_or_default();
    let heard = view.heard_by_standbys(&primary, accepted.silent);
    let reachable = view.instance(&primary).is_some();
    let quorum = view.quorum(&primary);
    let proof = match (reachable, &inventory.failover.stonith) {
        (true, _) => Proof::Fenced,
        (false, Some(_)) => Proof::Stonith,
        (false, None) if quorum.is_ok() => Proof::Quorum,
        (false, None) if accepted.lease => Proof::LeaseOver,
        (false, None) => Proof::RiskAccepted,
    };
    if !reachable && !heard.is_empty() && !accepted.split_brain_risk {
        let message = format!("cannot be reached from here, but {} hear from it", heard.join(", "));
        let hint = "it is alive: mend the way to it";
        checks.push(refused("failover_primary_alive", Some(&primary), message, hint));
    } else if proof == Proof::RiskAccepted && !accepted.split_brain_risk {
        let mut message =
            "cannot be reached, so it cannot be fenced: it may go on taking writes".to_owned();
        if let (Err(why), true) = (&quorum, view.is_quorum()) {
            message = format!("{message}; {why}");
        }
        let hint = "switch its host off, then run it again with --accept-split-brain-risk";
        checks.push(refused("failover_unproved", Some(&primary), message, hint));
    }
    if proof == Proof::RiskAccepted && accepted.split_brain_risk {
        checks.push(Check {
            code: "failover_unproved",
            level: Level::Warning,
            node: Some(primary.clone()),
            message: "is not fenced: if it lives, there will be two primaries".to_owned(),
            hint: Some("keep it switched off until `pgorch rejoin`".to_owned()),
        });
    }
    let (mut candidates, mut excluded) = view.candidates(&primary);
    if accepted.near_only {
        let far = candidates.extract_if(.., |c| !c.same_location);
        excluded.extend(far.map(|c| (c.name().clone(), "is in another location".to_owned())));
    }
    let chosen = match wanted {
        Some(name) => candidates.iter().find(|c| c.name() == name),
        None => candidates.first(),
    };
    if chosen.is_none() {
        let why = excluded.iter().map(|(name, why)| format!("{name}: {why}"));
        let why: Vec<String> = match wanted {
            Some(name) => why.filter(|w| w.starts_with(&format!("{name}:"))).collect(),
            None => why.collect(),
        };
        let message = match (wanted, why.is_empty()) {
            (Some(name), true) => format!("{name} is no standby that could take over"),
            (_, true) => "there is no standby that could take over".to_owned(),
            _ => why.join("; "),
        };
        checks.push(refused("failover_no_candidate", wanted, message, "pgorch status"));
    }
    if checks.iter().any(|c| c.level == Level::Refused) {
        return Err(checks);
    }
    let mut evidence = view.evidence(&primary, &heard);
    if view.is_quorum() {
        evidence.push(match quorum {
            Ok(why) => format!("every confirmed commit is on a standby that answers: {why}"),
            Err(why) => format!("a confirmed commit may be on no standby that answers: {why}"),
        });
    }
    Ok((Assessment { primary, proof, evidence, candidates, excluded, superseded }, checks))
}

struct View<'a> {
    inventory: &'a Inventory,
    snapshot: &'a Snapshot,
    topology: &'a Topology,
}

impl View<'_> {
    fn instance(&self, name: &HostName) -> Option<&InstanceFacts> {
        self.snapshot.nodes.get(name)?.facts()?.instance.as_ref()
    }

    fn server(&self, name: &HostName) -> Option<&ServerFacts> {
        self.instance(name)?.server.as_ref()
    }

    fn live_standbys(&self) -> impl Iterator<Item = (&HostName, &ServerFacts)> {
        let names = self.inventory.nodes.keys();
        names.filter_map(|n| Some((n, self.server(n)?))).filter(|(_, s)| s.in_recovery)
    }

    /// The timeline that a standby follows. Without a receiver the server only tells what its control
    /// file has seen, and that lags; the newest history file does not.
    fn timeline(&self, name: &HostName, server: &ServerFacts) -> Option<Timeline> {
        let known = self.instance(name)?.cluster()?.history.as_ref().map(|h| h.timeline);
        server.timeline.max(known)
    }

    /// A majority must be there to store the epoch.
    fn voters(&self) -> Option<Check> {
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
    fn operation(&self) -> Option<Check> {
        let (node, record) = self.snapshot.epochs().find_map(|(n, e)| Some((n, e.open()?)))?;
        Some(Check {
            code: "failover_operation_open",
            level: Level::Refused,
            node: Some(node.clone()),
            message: format!(
                "the {} by {} ({}) is not over",
                record.what(),
                record.controller,
                record.started
            ),
            hint: Some("pgorch resume".to_owned()),
        })
    }

    /// Whether an operation is past its promotion for certain: its old primary is a standby of its candidate
    /// by now, or a standby of the candidate is on a timeline that the old primary has never been on.
    fn has_promoted(&self, record: &OperationRecord) -> bool {
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
    fn old_primary(&self) -> Result<HostName, String> {
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
        match all.as_slice() {
            [one] => Ok(one.clone()),
            [] => Err("who was the primary is not known: no standby names one".to_owned()),
            several => {
                let names: Vec<&str> = several.iter().map(HostName::as_str).collect();
                Err(format!("{} may each have been the primary", names.join(" and ")))
            }
        }
    }

    fn is_quorum(&self) -> bool {
        self.inventory.replication.mode == ReplicationMode::Quorum
    }

    /// Whether the standbys that answer can have every confirmed commit among them, by what the nodes have
    /// recorded. Under the epoch it is looked at again.
    fn quorum(&self, primary: &HostName) -> Result<String, String> {
        let nodes = self.inventory.nodes.keys();
        let there = nodes.filter(|n| self.instance(n).is_some());
        // Witnesses are asked when the epoch is claimed.
        let voters: Vec<&HostName> = there.chain(self.inventory.witnesses.keys()).collect();
        let stored = |n: &&HostName| Some(((*n).clone(), self.instance(n)?.sync.clone()?));
        let records = voters.iter().filter_map(stored).collect();
        let asked = self.live_standbys().map(|(n, _)| n.clone()).collect();
        covered(self.inventory, &records, &voters, primary, &asked)
    }

    /// The standbys that still receive from it.
    fn heard_by_standbys(&self, primary: &HostName, silent: Option<Duration>) -> Vec<String> {
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

    fn evidence(&self, primary: &HostName, heard: &[String]) -> Vec<String> {
        let mut lines = Vec::new();
        lines.push(match self.snapshot.nodes.get(primary) {
            None | Some(Observation::Unknown { .. }) => {
                let cause = match self.snapshot.nodes.get(primary) {
                    Some(Observation::Unknown { cause }) => cause.as_str(),
                    _ => "it was not looked at",
                };
                format!("{primary} cannot be reached: {cause}")
            }
            Some(seen) => {
                let instance = seen.facts().and_then(|f| f.instance.as_ref());
                let unit = instance.map(|i| i.unit.active_state.clone()).unwrap_or_default();
                match instance.and_then(|i| i.postmaster_pid) {
                    None => format!("{primary}: its host answers, no server runs (unit {unit})"),
                    Some(pid) => {
                        let error =
                            instance.and_then(|i| i.server_error.clone()).unwrap_or_default();
                        format!("{primary}: the postmaster {pid} does not answer: {error}")
                    }
                }
            }
        });
        for (name, server) in self.live_standbys() {
            let lsn = server.lsn.map(|l| l.to_string()).unwrap_or_else(|| "nothing".to_owned());
            let hears = if heard.contains(&name.0) { "hears from it" } else { "does not hear it" };
            lines.push(format!("{name}: {hears}, has WAL up to {lsn}"));
        }
        lines
    }

    fn candidates(&self, primary: &HostName) -> (Vec<Ranked>, Vec<(HostName, String)>) {
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

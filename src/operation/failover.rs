//! Replacing a primary that does not hand over: who it was, what is known of it, who takes over.

use std::time::Duration;

use super::election::Ranked;
use super::interrupted::{Superseded, superseded};
use super::preconditions::{Check, Level};
use super::situation::View;
use super::unsettled::{Left, unsettled};
use crate::facts::{Possible, Proof, Snapshot};
use crate::inventory::Inventory;
use crate::model::HostName;
use crate::topology::Topology;

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
        "Another operation has begun and is not over. If its controller is gone, `pgorch resume` continues or undoes it. Where it cannot, because the candidate is lost for good, `pgorch failover --accept-split-brain-risk` takes its place: the old primary and the lost candidate are then both taken for possible primaries, and each is fenced, switched off or given up.",
    ),
    (
        "failover_earlier_timeline",
        "The best standby that answers has not followed to the newest timeline that is seen: what was written there is lost, and nobody can say how much that is. Bring a node back that has followed, or accept the loss with --accept-data-loss.",
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
    /// Operations that made this primary and are open for a pooler's sake only, or of which nobody can say what
    /// became: this one takes their place.
    pub superseded: Superseded,
    /// Who else may be a primary, by those of which nobody can say what became.
    pub possible: Vec<Possible>,
}

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
    let named = view.old_primary();
    let known = named.as_ref().ok();
    let settled = known
        .and_then(|primary| superseded(snapshot, primary, &|record| view.has_promoted(record)));
    let in_doubt = settled.as_ref().is_none_or(|s| s.ids.is_empty());
    let unsettled = unsettled(inventory, snapshot, known).filter(|_| in_doubt);
    let named = match &unsettled {
        Some(unsettled) => view.unsettled_primary(unsettled),
        None => named,
    };
    let primary = match named {
        Ok(primary) => primary,
        Err(why) => {
            checks.extend(view.operation());
            checks.push(refused("failover_unknown_primary", None, why, "pgorch status"));
            return Err(checks);
        }
    };
    let superseded = match &unsettled {
        Some(u) => Superseded { ids: u.ids.clone(), earlier: u.earlier.clone() },
        None => settled.clone().unwrap_or_default(),
    };
    let doubted = unsettled.as_ref().map(|u| u.possible.clone()).unwrap_or_default();
    let heard = view.heard_by_standbys(&primary, accepted.silent);
    let reachable = view.instance(&primary).is_some();
    let quorum = view.quorum(&primary, &doubted);
    let proof_of = |name: &HostName, quorum: &Result<String, String>| match (
        view.instance(name).is_some(),
        &inventory.failover.stonith,
    ) {
        (true, _) => Proof::Fenced,
        (false, Some(_)) => Proof::Stonith,
        (false, None) if quorum.is_ok() => Proof::Quorum,
        (false, None) if accepted.lease && *name == primary => Proof::LeaseOver,
        (false, None) => Proof::RiskAccepted,
    };
    let proof = proof_of(&primary, &quorum);
    let possible: Vec<Possible> = doubted
        .iter()
        .map(|name| (name, view.quorum(name, &doubted)))
        .map(|(name, quorum)| Possible { name: name.clone(), proof: proof_of(name, &quorum) })
        .collect();
    let level = |goes_on| if goes_on { Level::Warning } else { Level::Refused };
    match &unsettled {
        Some(left) => {
            let proved = matches!(left.left, Left::Undone(_))
                && possible.iter().all(|p| p.proof == Proof::Fenced);
            checks.push(view.left(left, level(accepted.split_brain_risk || proved)));
        }
        None if settled.as_ref().is_some_and(|s| s.ids.is_empty()) => {}
        None => {
            let level = level(settled.is_some());
            checks.extend(view.operation().map(|check| Check { level, ..check }));
        }
    }
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
    let at_risk = std::iter::once((&primary, proof))
        .chain(possible.iter().map(|p| (&p.name, p.proof)))
        .filter(|(_, proof)| *proof == Proof::RiskAccepted && accepted.split_brain_risk);
    checks.extend(at_risk.map(|(name, _)| Check {
        code: "failover_unproved",
        level: Level::Warning,
        node: Some(name.clone()),
        message: "is not fenced: if it lives, there will be two primaries".to_owned(),
        hint: Some("keep it switched off until `pgorch rejoin`".to_owned()),
    }));
    let (mut candidates, mut excluded) = view.candidates(&primary, &doubted);
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
    let covered = quorum.is_ok() && possible.is_empty();
    let behind = chosen.filter(|_| !covered).and_then(|c| view.stayed_behind(c, accepted));
    let unheard = unsettled.as_ref().and_then(|left| view.unheard(left, accepted));
    checks.extend(behind.into_iter().chain(unheard));
    if checks.iter().any(|c| c.level == Level::Refused) {
        return Err(checks);
    }
    let mut evidence = view.evidence(&primary, &heard);
    evidence.extend(unsettled.iter().flat_map(|u| view.doubt(u)));
    if view.is_quorum() {
        evidence.push(match quorum {
            Ok(why) => format!("every confirmed commit is on a standby that answers: {why}"),
            Err(why) => format!("a confirmed commit may be on no standby that answers: {why}"),
        });
    }
    let found = Assessment { primary, proof, evidence, candidates, excluded, superseded, possible };
    Ok((found, checks))
}

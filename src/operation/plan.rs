//! The whole operation before its first step.

use std::collections::BTreeSet;

use super::Action;
use super::action::{HookTime, PoolerVerb};
use crate::facts::{Possible, Proof, Snapshot};
use crate::inventory::Inventory;
use crate::model::HostName;
use crate::postgres::SyncNames;
use crate::step::sync_names;
use crate::topology::analyse;

/// Who plays which part. Fixed when the operation begins: `primary` stays the old one's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles {
    /// The primary at the start.
    pub primary: HostName,
    /// Who is to be the primary.
    pub candidate: HostName,
    /// All other nodes that take part: reachable standbys.
    pub siblings: Vec<HostName>,
    /// Hosts that store epochs: registered nodes, then witnesses.
    pub voters: Vec<HostName>,
    /// Those of them that have no server, and so can acknowledge nothing.
    pub witnesses: Vec<HostName>,
    /// Hosts that could not be reached when the operation began: nothing is sent to them.
    pub absent: Vec<HostName>,
    /// How it is made certain that the old primary confirms nothing any more.
    pub proof: Proof,
    /// Who else may be a primary, by operations of which nobody knows what became; none of them takes part.
    pub possible: Vec<Possible>,
    /// Whom commits are to wait for on the candidate, in quorum mode.
    pub names: Option<SyncNames>,
}

/// An operation, stage by stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// `switchover`, `failover`, ...
    pub kind: String,
    pub roles: Roles,
    pub stages: Vec<Stage>,
}

/// Steps that run side by side; the next stage begins when all are over.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// The task's name in the playbook.
    pub name: String,
    /// May be empty: with other roles the same task may have nothing to do.
    pub steps: Vec<Step>,
}

/// One action on one host.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub host: HostName,
    pub action: Action,
}

impl Roles {
    /// Everybody who can take part as seen: standbys that cannot be reached follow when they are back.
    #[must_use]
    pub fn seen(
        inventory: &Inventory,
        snapshot: &Snapshot,
        primary: &HostName,
        candidate: &HostName,
        proof: Proof,
    ) -> Self {
        let topology = analyse(inventory, snapshot);
        let unseen = snapshot.nodes.iter().filter(|(_, o)| o.facts().is_none()).map(|(n, _)| n);
        let witnesses = inventory.witnesses.keys();
        let absent = unseen.chain(witnesses.filter(|w| !snapshot.witnesses.contains_key(*w)));
        let siblings = topology.standbys().filter(|n| *n != candidate && *n != primary);
        let voters = inventory.nodes.keys().chain(inventory.witnesses.keys()).cloned().collect();
        Roles {
            primary: primary.clone(),
            candidate: candidate.clone(),
            siblings: siblings.cloned().collect(),
            voters,
            witnesses: inventory.witnesses.keys().cloned().collect(),
            absent: absent.cloned().collect(),
            proof,
            possible: Vec::new(),
            // Where there are too few standbys for that, the checks before a plan say so.
            names: sync_names(inventory, candidate).ok().filter(|names| !names.is_none()),
        }
    }

    /// With others that may be primaries.
    #[must_use]
    pub fn besides(mut self, possible: &[Possible]) -> Self {
        let named = |name: &HostName| possible.iter().any(|p| p.name == *name);
        self.siblings.retain(|name| !named(name));
        self.possible = possible.iter().filter(|p| p.name != self.candidate).cloned().collect();
        self
    }

    /// The old primary and whoever else may be one, each with what makes it harmless.
    pub fn suspects(&self) -> impl Iterator<Item = (&HostName, Proof)> {
        let others = self.possible.iter().map(|p| (&p.name, p.proof));
        std::iter::once((&self.primary, self.proof)).chain(others)
    }

    /// How many voters must have stored an epoch before anything is changed.
    #[must_use]
    pub fn quorum(&self) -> usize {
        self.voters.len() / 2 + 1
    }
}

impl Plan {
    /// All steps with the index of their stage.
    pub fn steps(&self) -> impl Iterator<Item = (usize, &Step)> {
        self.stages
            .iter()
            .enumerate()
            .flat_map(|(at, stage)| stage.steps.iter().map(move |s| (at, s)))
    }

    fn stage_of(&self, wanted: impl Fn(&Step) -> bool) -> Option<usize> {
        self.steps().find(|(_, step)| wanted(step)).map(|(at, _)| at)
    }
}

/// Whether the old primary confirms nothing any more before the promotion, and what it has confirmed
/// is on the candidate, or counted.
fn harmless(plan: &Plan, promote: usize) -> Result<(), String> {
    for (suspect, proof) in plan.roles.suspects() {
        is_harmless(plan, promote, suspect, proof)?;
    }
    Ok(())
}

fn is_harmless(
    plan: &Plan,
    promote: usize,
    suspect: &HostName,
    proof: Proof,
) -> Result<(), String> {
    let roles = &plan.roles;
    let before = |host: &HostName, wanted: fn(&Action) -> bool, from: usize| {
        let hit = |(at, s): &(usize, &Step)| {
            *at >= from && *at < promote && s.host == *host && wanted(&s.action)
        };
        plan.steps().find(hit).map(|(at, _)| at)
    };
    let position: fn(&Action) -> bool = |a| *a == Action::Position;
    match proof {
        Proof::CleanStop => {
            let stop = before(suspect, |a| matches!(a, Action::Stop { .. }), 0)
                .ok_or_else(|| format!("it promotes before {suspect} is stopped"))?;
            before(&roles.candidate, |a| matches!(a, Action::Received { .. }), stop + 1)
                .ok_or("it promotes without proof that the candidate has all WAL")?;
        }
        Proof::Fenced => {
            let fence = before(suspect, |a| matches!(a, Action::Fence { .. }), 0)
                .ok_or_else(|| format!("it promotes before {suspect} is fenced"))?;
            before(&roles.candidate, position, fence + 1)
                .ok_or("it promotes without a look at where the WAL ends")?;
        }
        Proof::Stonith => {
            let off = before(suspect, |a| matches!(a, Action::Stonith { .. }), 0)
                .ok_or_else(|| format!("it promotes before the host {suspect} is switched off"))?;
            before(&roles.candidate, position, off + 1)
                .ok_or("it promotes without a look at where the WAL ends")?;
        }
        Proof::LeaseOver if *suspect == roles.primary => lease_over(plan, promote)?,
        Proof::LeaseOver => return Err(format!("nobody keeps a lease of {suspect}")),
        Proof::RiskAccepted | Proof::Quorum => {
            for standby in roles.siblings.iter().chain([&roles.candidate]) {
                let revoke = before(standby, |a| *a == Action::Revoke, 0).ok_or_else(|| {
                    format!("it promotes while {standby} may still receive from {suspect}")
                })?;
                before(standby, position, revoke + 1)
                    .ok_or("it promotes without a look at where the WAL ends")?;
            }
        }
    }
    Ok(())
}

/// Whether the old primary can hold nothing up any more when its lease is over: everybody who takes part
/// receives nothing first, they and the witnesses are a majority, and they still receive nothing when the
/// wait is over.
fn lease_over(plan: &Plan, promote: usize) -> Result<(), String> {
    let roles = &plan.roles;
    let stages = |wanted: fn(&Action) -> bool, host: &HostName| -> Vec<usize> {
        let hit = |(at, s): &(usize, &Step)| *at < promote && s.host == *host && wanted(&s.action);
        plan.steps().filter(hit).map(|(at, _)| at).collect()
    };
    let wait = stages(|a| *a == Action::LeaseOver, &roles.primary);
    let [wait] = wait.as_slice() else {
        return Err("it promotes before the old primary's lease is over".to_owned());
    };
    let members: Vec<&HostName> = roles.siblings.iter().chain([&roles.candidate]).collect();
    for standby in &members {
        let revoked = stages(|a| *a == Action::Revoke, standby);
        let told = stages(|a| *a == Action::Position, standby);
        let first = revoked.iter().min().filter(|at| *at < wait).ok_or_else(|| {
            format!("it waits while {standby} may still acknowledge to the old primary")
        })?;
        if !told.iter().any(|at| first < at && at < wait) {
            return Err(format!("it waits without knowing where the WAL of {standby} ends"));
        }
        if !revoked.iter().any(|at| at > wait) {
            return Err(format!("it promotes without another look at what {standby} receives"));
        }
    }
    let there = |w: &&HostName| !roles.absent.contains(*w);
    let witnesses = roles.witnesses.iter().filter(there).count();
    if members.len() + witnesses < roles.quorum() {
        return Err(format!(
            "{} revoked standbys and {witnesses} witnesses are no majority of {} voters",
            members.len(),
            roles.voters.len()
        ));
    }
    Ok(())
}

/// Whether the order of a plan is safe: who promotes without a claim, a stop with proof, and the
/// wait for its WAL before it would make two primaries or lose commits. The reason if not.
///
/// # Errors
/// The rule that the plan breaks, in words.
pub fn verify(plan: &Plan) -> Result<(), String> {
    let promotions: Vec<(usize, &Step)> =
        plan.steps().filter(|(_, s)| matches!(s.action, Action::Promote { .. })).collect();
    let [(promote, step)] = promotions.as_slice() else {
        return Err(format!("it has {} promotions, not one", promotions.len()));
    };
    if step.host != plan.roles.candidate {
        return Err(format!("it promotes {}, which is not the candidate", step.host));
    }
    harmless(plan, *promote)?;
    let claims = |at: usize| {
        let claimed = |s: &&Step| s.action == Action::Claim;
        plan.stages[..at].iter().flat_map(|s| &s.steps).filter(claimed).count()
    };
    let first_change = plan.stage_of(|s| s.action != Action::Claim).unwrap_or(0);
    if claims(first_change) < plan.roles.quorum() {
        return Err("it changes something before the epoch is stored on a majority".to_owned());
    }
    let early = plan.steps().find(|(at, s)| {
        at <= promote
            && matches!(
                s.action,
                Action::Follow { .. } | Action::FollowNobody | Action::Vip | Action::Release { .. }
            )
    });
    if let Some((_, step)) = early {
        return Err(format!("{} on {} comes before the promotion", step.action.name(), step.host));
    }
    names(plan, *promote)?;
    let elsewhere = |s: &Step| s.action == Action::Vip && s.host != plan.roles.candidate;
    if let Some((_, step)) = plan.steps().find(|(_, s)| elsewhere(s)) {
        return Err(format!("{} takes the virtual address, and is not the candidate", step.host));
    }
    poolers(plan, *promote)?;
    hooks(plan, *promote)?;
    let started = plan.steps().find(|(_, s)| matches!(s.action, Action::Start { .. }));
    if let Some((_, step)) = started {
        return Err(format!("it starts {} as a primary again", step.host));
    }
    if plan.stage_of(|s| matches!(s.action, Action::Release { .. })) != Some(plan.stages.len() - 1)
    {
        return Err("it does not end with the release of the epoch".to_owned());
    }
    Ok(())
}

/// In quorum mode the first commit on the new primary waits for its standbys, and whoever takes its place
/// later knows for which (failover review, amendments 5 and 14).
fn names(plan: &Plan, promote: usize) -> Result<(), String> {
    let roles = &plan.roles;
    let Some(wanted) = &roles.names else { return Ok(()) };
    let set = plan.stage_of(|s| {
        s.host == roles.candidate
            && matches!(&s.action, Action::SyncNames { names } if names == wanted)
    });
    let set = set.filter(|at| *at < promote).ok_or_else(|| {
        format!("it promotes {} before commits there would wait for standbys", roles.candidate)
    })?;
    let stored: BTreeSet<&HostName> = plan.stages[..set]
        .iter()
        .flat_map(|s| &s.steps)
        .filter(|s| {
            roles.voters.contains(&s.host)
                && matches!(&s.action, Action::SyncRecord { names, settled: false, .. } if names == wanted)
        })
        .map(|s| &s.host)
        .collect();
    if stored.len() < roles.quorum() {
        return Err("whom commits wait for is not stored on a majority before it is set".to_owned());
    }
    let waited = plan.stage_of(|s| matches!(s.action, Action::WaitSync { .. }));
    let early = plan.steps().find(|(at, s)| {
        matches!(s.action, Action::SyncRecord { settled: true, .. })
            && waited.is_none_or(|waited| waited >= *at || waited < promote)
    });
    match early {
        Some((_, step)) => Err(format!(
            "{} strikes off what commits waited for before, and nothing has waited for standbys",
            step.host
        )),
        None => Ok(()),
    }
}

/// Clients go on with the new primary only when it is one, and all that were held do.
fn poolers(plan: &Plan, promote: usize) -> Result<(), String> {
    let verbs = |wanted: PoolerVerb| {
        plan.steps().filter(
            move |(_, s)| matches!(&s.action, Action::Pooler { verb, .. } if *verb == wanted),
        )
    };
    if let Some((_, step)) = verbs(PoolerVerb::Resume).find(|(at, _)| *at <= promote) {
        return Err(format!("clients of {} go on before the promotion", step.host));
    }
    for (at, step) in verbs(PoolerVerb::Pause) {
        if at > promote {
            return Err(format!("clients of {} are held after the promotion", step.host));
        }
        if !verbs(PoolerVerb::Resume).any(|(_, s)| s.host == step.host) {
            return Err(format!("clients of {} are held and never go on", step.host));
        }
    }
    Ok(())
}

/// Commands run when their names say.
fn hooks(plan: &Plan, promote: usize) -> Result<(), String> {
    for (at, step) in plan.steps() {
        match step.action {
            Action::ControllerHook { time: HookTime::BeforePromote, .. } if at > promote => {
                return Err("it runs before_promote after the promotion".to_owned());
            }
            Action::ControllerHook { time: HookTime::AfterPromote, .. } if at < promote => {
                return Err("it runs after_promote before the promotion".to_owned());
            }
            _ => {}
        }
    }
    Ok(())
}

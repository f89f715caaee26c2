//! Who takes over: the order of candidates, and the choice by the positions that were taken last.

use std::collections::BTreeMap;

use super::action::Known;
use super::failover::{Accepted, Assessment};
use super::preconditions::{Check, Level};
use super::quorum::covered;
use crate::facts::Proof;
use crate::inventory::{Inventory, ReplicationMode};
use crate::model::{HostName, Lsn, Timeline};

/// A standby's place in the order of candidates. The derived order is the order of preference,
/// greatest first: WAL by timeline and position, then priority, location, name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ranked {
    pub timeline: Timeline,
    pub lsn: Lsn,
    pub priority: u32,
    pub same_location: bool,
    pub name: std::cmp::Reverse<HostName>,
}

impl Ranked {
    #[must_use]
    pub fn name(&self) -> &HostName {
        &self.name.0
    }

    #[must_use]
    pub fn end(&self) -> (Timeline, Lsn) {
        (self.timeline, self.lsn)
    }
}

/// The order of candidates, best first.
#[must_use]
pub fn rank(
    inventory: &Inventory,
    primary: &HostName,
    ends: &BTreeMap<HostName, (Timeline, Lsn)>,
) -> Vec<Ranked> {
    let location = |name: &HostName| inventory.nodes.get(name).and_then(|n| n.location.clone());
    let mut all: Vec<Ranked> = ends
        .iter()
        .map(|(name, (timeline, lsn))| Ranked {
            timeline: *timeline,
            lsn: *lsn,
            priority: inventory.nodes.get(name).map_or(0, |n| n.priority),
            same_location: location(name) == location(primary),
            name: std::cmp::Reverse(name.clone()),
        })
        .collect();
    all.sort_by(|a, b| b.cmp(a));
    all
}

/// Who takes over, once nobody receives anything any more.
#[derive(Debug, Clone, PartialEq)]
pub struct Elected {
    pub candidate: HostName,
    /// Bytes of WAL that the old primary had and the candidate has not; none where that is not known.
    pub lost_bytes: Option<u64>,
    /// Standbys with WAL that the candidate has not: they cannot follow without a rejoin.
    pub ahead: Vec<HostName>,
    /// In quorum replication: what it has not was never confirmed.
    pub all_confirmed: bool,
}

/// What the old primary can have confirmed, and how it is known that it confirms nothing more.
#[derive(Debug, Clone, PartialEq)]
pub struct Confirmed {
    pub proof: Proof,
    /// In quorum replication: whether the standbys that were asked have all of it among them.
    pub quorum: Option<Result<String, String>>,
}

impl Confirmed {
    /// By the records that the voters had when they took the epoch, with those asked who told a position.
    #[must_use]
    pub fn seen(inventory: &Inventory, primary: &HostName, proof: Proof, known: &Known) -> Self {
        let quorum = inventory.replication.mode == ReplicationMode::Quorum;
        let voters: Vec<&HostName> = known.claimed.iter().collect();
        let asked = known.ends.keys().filter(|n| *n != primary).cloned().collect();
        let found = covered(inventory, &known.sync, &voters, primary, &asked);
        Confirmed { proof, quorum: (quorum || proof == Proof::Quorum).then_some(found) }
    }

    /// What is so of both: where one rests on the standbys that were asked, all does.
    #[must_use]
    fn and(self, other: Confirmed) -> Self {
        let proof = if other.proof == Proof::Quorum { other.proof } else { self.proof };
        let quorum = match (self.quorum, other.quorum) {
            (Some(Ok(one)), Some(Ok(two))) => Some(Ok(format!("{one}; {two}"))),
            (Some(Err(why)), _) | (_, Some(Err(why))) => Some(Err(why)),
            (one, two) => one.or(two),
        };
        Confirmed { proof, quorum }
    }
}

/// Whether `wanted` may take over, by the positions that were taken last: another than the one with the
/// most WAL only with what that loses accepted.
///
/// # Errors
/// The check that refuses.
pub fn elect(
    inventory: &Inventory,
    primary: &HostName,
    ends: &BTreeMap<HostName, (Timeline, Lsn)>,
    wanted: &HostName,
    confirmed: &Confirmed,
    accepted: Accepted,
) -> Result<Elected, Check> {
    let refuse = |code, message: String, hint: &str| Check {
        code,
        level: Level::Refused,
        node: Some(wanted.clone()),
        message,
        hint: Some(hint.to_owned()),
    };
    let standbys: BTreeMap<_, _> =
        ends.iter().filter(|(n, _)| *n != primary).map(|(n, e)| (n.clone(), *e)).collect();
    let ranked = rank(inventory, primary, &standbys);
    let Some(chosen) = ranked.iter().find(|r| r.name() == wanted) else {
        let message = "could not tell where its WAL ends".to_owned();
        return Err(refuse("failover_no_candidate", message, "pgorch status"));
    };
    let ahead: Vec<HostName> =
        ranked.iter().filter(|r| r.end() > chosen.end()).map(|r| r.name().clone()).collect();
    let old = ends.get(primary);
    let best = ranked.iter().map(Ranked::end).chain(old.copied()).max();
    let same = best.filter(|best| best.0 == chosen.timeline);
    let lost_bytes = old
        .filter(|old| old.0 == chosen.timeline)
        .and(same)
        .map(|best| best.1.bytes_since(chosen.lsn));
    // How much was written on a timeline that it has not followed nobody can say.
    if let Some((timeline, _)) = old.filter(|old| old.0 > chosen.timeline)
        && !accepted.data_loss
        && !matches!(confirmed.quorum, Some(Ok(_)))
    {
        let message = format!(
            "stayed behind on timeline {}: whatever {primary} wrote on timeline {timeline} would be lost",
            chosen.timeline
        );
        let hint = "bring the old primary back, or add --accept-data-loss";
        return Err(refuse("failover_earlier_timeline", message, hint));
    }
    if !ahead.is_empty() && !accepted.data_loss {
        let names: Vec<&str> = ahead.iter().map(HostName::as_str).collect();
        let message = format!("{} has WAL that it has not", names.join(" and "));
        let hint = "choose that one, or add --accept-data-loss";
        return Err(refuse("failover_candidate_behind", message, hint));
    }
    let all_confirmed = ahead.is_empty() && matches!(confirmed.quorum, Some(Ok(_)));
    if let Some(Err(why)) = &confirmed.quorum {
        let hint = "bring standbys or the old primary back";
        // Then nothing says that it confirms nothing more.
        if confirmed.proof == Proof::Quorum {
            return Err(refuse("failover_quorum_short", why.clone(), hint));
        }
        if lost_bytes != Some(0) && !accepted.data_loss {
            let hint = "bring standbys or the old primary back, or add --accept-data-loss";
            return Err(refuse("failover_quorum_short", why.clone(), hint));
        }
    }
    let limit = inventory.failover.maximum_lag_bytes.unwrap_or(0);
    let too_much = |lost: &u64| *lost > limit && !accepted.data_loss && !all_confirmed;
    if let Some(lost) = lost_bytes.filter(too_much) {
        let message = format!(
            "{lost} bytes of WAL of {primary} would be lost, maximum_lag_on_failover is {limit}"
        );
        let hint = "bring the old primary back, or add --accept-data-loss";
        return Err(refuse("failover_lag", message, hint));
    }
    Ok(Elected { candidate: chosen.name().clone(), lost_bytes, ahead, all_confirmed })
}

/// The candidate once the positions are known: `wanted`, else the best of those that were found fit.
///
/// # Errors
/// Why nobody, or not this one, may take over: the check's code and words.
pub fn choose(
    inventory: &Inventory,
    found: &Assessment,
    known: &Known,
    wanted: Option<&HostName>,
    accepted: Accepted,
) -> Result<Elected, String> {
    let named = |name: &HostName| found.possible.iter().any(|p| p.name == *name);
    let (besides, mut ends): (BTreeMap<_, _>, BTreeMap<_, _>) =
        known.ends.clone().into_iter().partition(|(name, _)| named(name));
    // The live timeline was seen before the receivers were ended; the control file lags behind it.
    for ranked in &found.candidates {
        if let Some(end) = ends.get_mut(ranked.name()) {
            end.0 = end.0.max(ranked.timeline);
            end.1 = end.1.max(ranked.lsn);
        }
    }
    let fit = |name: &HostName| found.candidates.iter().any(|c| c.name() == name);
    let own = ends.iter().filter(|(n, _)| fit(n)).map(|(n, e)| (n.clone(), *e)).collect();
    let best = rank(inventory, &found.primary, &own).first().map(|r| r.name().clone());
    let wanted = wanted.or(best.as_ref()).ok_or("no candidate could tell where its WAL ends")?;
    let standbys = Known { ends: ends.clone(), ..known.clone() };
    let mut confirmed = Confirmed::seen(inventory, &found.primary, found.proof, &standbys);
    for one in &found.possible {
        let other = Confirmed::seen(inventory, &one.name, one.proof, &standbys);
        confirmed = confirmed.and(other);
    }
    let elected = elect(inventory, &found.primary, &ends, wanted, &confirmed, accepted)
        .map_err(|check| format!("{}: {}", check.code, check.message))?;
    let end = ends.get(&elected.candidate).copied();
    let newer = besides.iter().find(|(_, other)| Some(**other) > end);
    if let Some((name, (timeline, lsn))) = newer.filter(|_| !accepted.data_loss) {
        return Err(format!(
            "failover_candidate_behind: {name}, which may have been promoted, has WAL up to {lsn} on \
             timeline {timeline} that {} has not; start {name} instead, or add --accept-data-loss",
            elected.candidate
        ));
    }
    // What somebody who cannot be asked has written since nobody can say.
    let counted = newer.is_none() && found.possible.iter().all(|p| besides.contains_key(&p.name));
    Ok(Elected { lost_bytes: elected.lost_bytes.filter(|_| counted), ..elected })
}

//! What to do about an operation that was interrupted, from what is seen.

use std::collections::BTreeSet;

use super::unsettled::LOST_FOR_GOOD;
use crate::facts::{
    EpochFacts, History, OperationRecord, OperationState, Proof, ServerFacts, Snapshot,
};
use crate::inventory::Inventory;
use crate::model::HostName;

/// An operation that some voter still has open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interrupted {
    pub record: OperationRecord,
    /// It ended: another voter has it closed, or a majority has stored higher epochs. What this voter
    /// missed is left to do, and nothing of it can take effect any more.
    pub over: bool,
}

/// The decision of `pgorch resume`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// This node is the primary, by the operation or by what came after it: the rest is done.
    Finish { primary: HostName },
    /// The candidate is not the primary. Unless a promotion is under way on it, the old one
    /// comes back.
    Undo,
    /// The old primary runs and can hand over no more: no promotion was sent, and none will be. What was
    /// done is taken back, whatever has become of the candidate.
    TakeBack,
    /// It cannot be known.
    Refuse { why: String, hint: String },
}

impl Interrupted {
    /// The newest operation that is not over on a voter, or the one with this id.
    #[must_use]
    pub fn find(inventory: &Inventory, snapshot: &Snapshot, id: Option<&str>) -> Option<Self> {
        let open = stored(snapshot).filter_map(|e| Some((e.epoch, e.open()?)));
        let wanted = open.filter(|(_, o)| id.is_none_or(|id| o.id == id));
        // An election stores another candidate on a majority before it promotes: where nobody has
        // heard of one, there was none.
        let (epoch, record) = wanted.max_by_key(|(epoch, o)| (*epoch, o.elected))?;
        let closed = |e: &EpochFacts| {
            e.operation.as_ref().is_some_and(|o| o.id == record.id) && e.open().is_none()
        };
        let voters = inventory.nodes.len() + inventory.witnesses.len();
        // Two that did not see each other may have taken the same number; a majority has only one of them.
        let other = |e: &EpochFacts| e.operation.as_ref().is_some_and(|o| o.id != record.id);
        let gone_on = |e: &&EpochFacts| e.epoch > epoch || e.epoch == epoch && other(e);
        let later = stored(snapshot).filter(gone_on).count();
        let over = record.over || stored(snapshot).any(closed) || later > voters / 2;
        Some(Interrupted { record: record.clone(), over })
    }

    /// The voters that must store the higher epoch: with it on the candidate a promotion that is
    /// still on its way is refused there. Where the candidate is gone and the old primary runs, with it on
    /// that one: then it cannot be stopped any more, and before its stop nobody is promoted.
    #[must_use]
    pub fn needed(&self, snapshot: &Snapshot) -> Vec<HostName> {
        let record = &self.record;
        // A start in its place promotes nobody, and its grant ends by itself.
        if self.over || record.in_place() {
            Vec::new()
        } else if self.was_never_sent(snapshot) {
            vec![record.primary.clone()]
        } else {
            vec![record.candidate.clone()]
        }
    }

    /// Whether the candidate does not answer, and the old primary takes writes without a fence marker: it was
    /// never stopped, or was let up again by an undoing, which begins only where no promotion is under way.
    fn was_never_sent(&self, snapshot: &Snapshot) -> bool {
        let record = &self.record;
        let instance = |name: &HostName| snapshot.nodes.get(name)?.facts()?.instance.as_ref();
        let runs = instance(&record.primary).is_some_and(|i| {
            i.fenced.is_none() && i.server.as_ref().is_some_and(|s| !s.in_recovery)
        });
        let gone = instance(&record.candidate).is_none_or(|i| i.server.is_none());
        let stopped_first = matches!(record.proof, Proof::CleanStop | Proof::Fenced);
        runs && gone && stopped_first && record.possible.is_empty()
    }

    /// Decides, once a higher epoch than the operation's is stored on [`Interrupted::needed`].
    #[must_use]
    pub fn settle(&self, snapshot: &Snapshot) -> Settlement {
        self.settle_leaving(snapshot, false)
    }

    /// The same. `leaving`: an old primary that was to be fenced and cannot be reached may be left as it is,
    /// because whoever takes its place next proves that it is harmless, and nothing can make it
    /// writable meanwhile.
    #[must_use]
    pub fn settle_leaving(&self, snapshot: &Snapshot, leaving: bool) -> Settlement {
        let record = &self.record;
        let refuse = |why: String, hint: &str| Settlement::Refuse { why, hint: hint.to_owned() };
        let server =
            |name: &HostName| -> Option<&ServerFacts> { snapshot.nodes.get(name)?.server() };
        let out: Vec<&HostName> =
            snapshot.nodes.keys().filter(|n| server(n).is_some_and(|s| !s.in_recovery)).collect();
        // There is nothing to start where the old primary was given up unseen, and nothing to wait for
        // where it lives on.
        let gives_up = |name: &HostName| {
            *name == record.primary && record.proof.gives_up()
                || record.possible.iter().any(|p| p.name == *name && p.proof.gives_up())
        };
        let given_up = record.proof.gives_up();
        let besides = |name: &HostName| record.possible.iter().any(|p| p.name == *name);
        match out.as_slice() {
            several @ [_, _, ..]
                if out.contains(&&record.candidate)
                    && several.iter().all(|n| **n == record.candidate || gives_up(n)) =>
            {
                return Settlement::Finish { primary: record.candidate.clone() };
            }
            [_, _, ..] => {
                return refuse("more than one node is out of recovery".to_owned(), "pgorch status");
            }
            [one] if **one == record.candidate || self.over && **one != record.primary => {
                return Settlement::Finish { primary: (*one).clone() };
            }
            [one] if **one == record.primary && self.over => return Settlement::Undo,
            [one] if **one == record.primary && self.was_never_sent(snapshot) => {
                return Settlement::TakeBack;
            }
            // It was promoted after all: with nothing of this one in its way it is the primary.
            [one] if besides(one) => {}
            [one] if **one != record.primary => {
                let why = format!("{one} is the primary, which the operation knows nothing of");
                return refuse(why, "pgorch status");
            }
            _ => {}
        }
        let answers = |name: &HostName| snapshot.nodes.get(name).and_then(|o| o.facts()).is_some();
        if server(&record.candidate).is_none() {
            let why =
                format!("{} does not answer, and it may have been promoted", record.candidate);
            let hint = format!(
                "start its server (systemctl start on its host), then pgorch resume; {LOST_FOR_GOOD}"
            );
            return refuse(why, &hint);
        }
        let left = leaving && record.proof == Proof::Fenced;
        if !answers(&record.primary) && !given_up && !left && record.possible.is_empty() {
            let why =
                format!("{} cannot be reached, so it cannot be started again", record.primary);
            return refuse(why, "bring its host back, then pgorch resume");
        }
        Settlement::Undo
    }
}

/// Nodes that cannot follow `primary` as they are: they have WAL that it has not, or they were primaries
/// and crashed, or they are declared to follow one of these. What cannot be seen is not among them.
#[must_use]
pub fn astray(
    inventory: &Inventory,
    snapshot: &Snapshot,
    primary: &HostName,
) -> BTreeSet<HostName> {
    let instance = |name: &HostName| snapshot.nodes.get(name)?.facts()?.instance.as_ref();
    let head = instance(primary).and_then(|i| {
        let timeline = i.server.as_ref().filter(|s| !s.in_recovery)?.timeline?;
        let known = i.cluster()?.history.clone().filter(|h| h.timeline == timeline);
        Some(known.unwrap_or(History { timeline, ancestors: Vec::new() }))
    });
    let Some(head) = head else { return BTreeSet::new() };
    let lost = |name: &HostName| {
        let Some(instance) = instance(name) else { return false };
        let crashed = instance.server.is_none()
            && instance.cluster().is_some_and(|dir| {
                let clean = dir.control.as_ref().is_some_and(|c| c.state == "shut down");
                !dir.standby_signal && !clean
            });
        crashed || instance.stands().is_some_and(|(t, lsn)| !head.contains(t, lsn))
    };
    let mut astray: BTreeSet<HostName> =
        snapshot.nodes.keys().filter(|n| *n != primary && lost(n)).cloned().collect();
    let behind = |follow: &Option<HostName>| follow.as_ref().is_some_and(|f| astray.contains(f));
    let cascaded =
        inventory.nodes.iter().filter(|(name, node)| *name != primary && behind(&node.follow));
    let cascaded: Vec<HostName> = cascaded.map(|(name, _)| name.clone()).collect();
    astray.extend(cascaded);
    astray
}

/// An epoch that nobody has stored yet.
#[must_use]
pub fn next_epoch(snapshot: &Snapshot) -> u64 {
    stored(snapshot).map(|e| e.epoch).max().unwrap_or(0) + 1
}

/// What is left of operations that a failover may take the place of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Superseded {
    /// Their ids; empty where none is open.
    pub ids: Vec<String>,
    /// The primaries that a pooler may lead to yet.
    pub earlier: Vec<HostName>,
}

/// The open operations, where all that is left of them is moot by the loss of `primary`: each has made
/// that node the primary (`has_promoted` must have proof), and a failover tells everybody anew. None where
/// that is not so of one of them.
#[must_use]
pub fn superseded(
    snapshot: &Snapshot,
    primary: &HostName,
    has_promoted: &dyn Fn(&OperationRecord) -> bool,
) -> Option<Superseded> {
    let mut out = Superseded::default();
    let mut all: Vec<&EpochFacts> = stored(snapshot).collect();
    all.sort_by_key(|e| e.epoch);
    for facts in &all {
        let Some(record) = facts.open() else { continue };
        if record.candidate != *primary || !has_promoted(record) {
            return None;
        }
        out.ids.push(record.id.clone());
        out.earlier.push(record.primary.clone());
        out.earlier.extend(record.earlier.iter().cloned());
    }
    // A failover that took its place and was undone itself has kept what it knew.
    let undone = all.last().and_then(|e| e.operation.as_ref());
    if let Some(record) = undone.filter(|o| o.state == OperationState::Undone) {
        out.earlier.extend(record.earlier.iter().cloned());
    }
    out.ids.sort();
    out.ids.dedup();
    out.earlier.retain(|name| name != primary);
    out.earlier.sort();
    out.earlier.dedup();
    Some(out)
}

/// The operations that are open somewhere, which a resumption may take the place of.
#[must_use]
pub fn open_operations(snapshot: &Snapshot) -> Vec<String> {
    stored(snapshot).filter_map(|e| Some(e.open()?.id.clone())).collect()
}

pub(super) fn stored(snapshot: &Snapshot) -> impl Iterator<Item = &EpochFacts> {
    snapshot.epochs().map(|(_, stored)| stored)
}

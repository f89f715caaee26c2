//! Open operations of which nobody can say what became, because their candidate does not answer.

use std::collections::BTreeSet;

use super::interrupted::{Interrupted, open_operations, stored};
use crate::facts::{OperationRecord, OperationState, Snapshot};
use crate::inventory::Inventory;
use crate::model::HostName;

/// The way out where the candidate of an open operation does not come back.
pub(super) const LOST_FOR_GOOD: &str =
    "if it is lost for good: pgorch failover --accept-split-brain-risk";

/// What an operator can do about an open operation, in words.
#[must_use]
pub fn way_out(snapshot: &Snapshot, record: &OperationRecord) -> String {
    match snapshot.nodes.get(&record.candidate) {
        Some(seen) if seen.server().is_none() => format!(
            "pgorch resume; its candidate {} does not answer: {LOST_FOR_GOOD}",
            record.candidate
        ),
        _ => "pgorch resume".to_owned(),
    }
}

/// How it came that nobody can say who the primary is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// An operation is open, and its candidate does not answer.
    Open(OperationRecord),
    /// A failover took the place of such a one, and was undone.
    Undone(OperationRecord),
    /// Its new primary cannot be reached, and the standbys that answer have never heard of it.
    Unheard(OperationRecord),
}

impl Left {
    #[must_use]
    pub fn record(&self) -> &OperationRecord {
        match self {
            Left::Open(record) | Left::Undone(record) | Left::Unheard(record) => record,
        }
    }
}

/// An operation after which nobody can say who the primary is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsettled {
    pub left: Left,
    /// Ids of all that are open.
    pub ids: Vec<String>,
    /// Who was the primary before.
    pub primary: HostName,
    /// Who may have been promoted since, newest first.
    pub possible: Vec<HostName>,
    /// Where a pooler may lead to, besides the primary.
    pub earlier: Vec<HostName>,
}

/// What the newest operation leaves in doubt. None too where its candidate answers: then `pgorch resume`
/// can tell. `named` is whom the standbys take for the old primary.
#[must_use]
pub fn unsettled(
    inventory: &Inventory,
    snapshot: &Snapshot,
    named: Option<&HostName>,
) -> Option<Unsettled> {
    let answers = |name: &HostName| snapshot.nodes.get(name).is_some_and(|o| o.server().is_some());
    let left = match Interrupted::find(inventory, snapshot, None) {
        Some(found) if found.over || answers(&found.record.candidate) => return None,
        Some(found) => Left::Open(found.record),
        None => closed(snapshot, named)?,
    };
    let record = left.record();
    let before = match &left {
        Left::Unheard(_) => named.unwrap_or(&record.primary),
        _ => &record.primary,
    };
    // Who was made a standby since is no primary.
    let mut suspects: Vec<HostName> =
        Some(before.clone()).filter(|name| !answers(name)).into_iter().collect();
    if !matches!(left, Left::Undone(_)) {
        suspects.push(record.candidate.clone());
    }
    suspects.extend(record.possible.iter().map(|p| p.name.clone()));
    let mut seen = BTreeSet::new();
    suspects.retain(|name| inventory.nodes.contains_key(name) && seen.insert(name.clone()));
    if suspects.is_empty() {
        return None;
    }
    let primary = suspects.remove(0);
    let possible = suspects;
    let mut earlier = record.earlier.clone();
    earlier.extend(possible.iter().chain([before]).cloned());
    earlier.retain(|name| *name != primary);
    earlier.sort();
    earlier.dedup();
    let mut ids = open_operations(snapshot);
    ids.sort();
    ids.dedup();
    Some(Unsettled { left, ids, primary, possible, earlier })
}

/// The same where nothing is open.
fn closed(snapshot: &Snapshot, named: Option<&HostName>) -> Option<Left> {
    let record = stored(snapshot).max_by_key(|e| e.epoch)?.operation.clone()?;
    let unseen = |name: &HostName| snapshot.nodes.get(name).is_some_and(|o| o.facts().is_none());
    match record.state {
        OperationState::Undone if !record.possible.is_empty() => Some(Left::Undone(record)),
        OperationState::Done if unseen(&record.candidate) => {
            let other = named.is_some_and(|named| *named != record.candidate);
            other.then_some(Left::Unheard(record))
        }
        _ => None,
    }
}

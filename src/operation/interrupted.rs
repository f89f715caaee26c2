//! What to do about an operation that was interrupted, from what is seen.

use crate::facts::{OperationRecord, ServerFacts, Snapshot};
use crate::model::HostName;

/// The decision of `pgorch resume`. It holds only when a higher epoch than the operation's is stored
/// on the candidate: then a promotion that is still on its way is refused there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// The candidate is the primary: the rest is done.
    Finish,
    /// It is not, and cannot become it any more: the old primary comes back.
    Undo,
    /// It cannot be known.
    Refuse { why: String, hint: String },
}

/// Decides from the two nodes alone: whoever else may be out of recovery is a split brain.
#[must_use]
pub fn settle(record: &OperationRecord, snapshot: &Snapshot) -> Settlement {
    let refuse = |why: String, hint: &str| Settlement::Refuse { why, hint: hint.to_owned() };
    let server = |name: &HostName| -> Option<&ServerFacts> { snapshot.nodes.get(name)?.server() };
    let out: Vec<&HostName> =
        snapshot.nodes.keys().filter(|n| server(n).is_some_and(|s| !s.in_recovery)).collect();
    if let [_, _, ..] = out.as_slice() {
        return refuse("more than one node is out of recovery".to_owned(), "pgorch status");
    }
    match (server(&record.candidate), out.first()) {
        (Some(candidate), _) if !candidate.in_recovery => Settlement::Finish,
        (_, Some(other)) if **other != record.primary => refuse(
            format!("{other} is the primary, which the operation knows nothing of"),
            "pgorch status",
        ),
        (None, _) => refuse(
            format!("{} does not answer, and it may have been promoted", record.candidate),
            "bring it back, or replace it with: pgorch failover",
        ),
        (Some(_), _) => match snapshot.nodes.get(&record.primary).and_then(|o| o.facts()) {
            Some(_) => Settlement::Undo,
            None => refuse(
                format!("{} cannot be reached, so it cannot be started again", record.primary),
                "bring it back, or replace it with: pgorch failover",
            ),
        },
    }
}

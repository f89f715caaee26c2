//! What to do about an operation that was interrupted, from what is seen.

use crate::facts::{EpochFacts, OperationRecord, Proof, ServerFacts, Snapshot};
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
        let later = stored(snapshot).filter(|e| e.epoch > epoch).count();
        let over = stored(snapshot).any(closed) || later > voters / 2;
        Some(Interrupted { record: record.clone(), over })
    }

    /// The voters that must store the higher epoch: with it on the candidate a promotion that is
    /// still on its way is refused there.
    #[must_use]
    pub fn needed(&self) -> Vec<HostName> {
        if self.over { Vec::new() } else { vec![self.record.candidate.clone()] }
    }

    /// Decides, once a higher epoch than the operation's is stored on [`Interrupted::needed`].
    #[must_use]
    pub fn settle(&self, snapshot: &Snapshot) -> Settlement {
        let record = &self.record;
        let refuse = |why: String, hint: &str| Settlement::Refuse { why, hint: hint.to_owned() };
        let server =
            |name: &HostName| -> Option<&ServerFacts> { snapshot.nodes.get(name)?.server() };
        let out: Vec<&HostName> =
            snapshot.nodes.keys().filter(|n| server(n).is_some_and(|s| !s.in_recovery)).collect();
        match out.as_slice() {
            [_, _, ..] => {
                return refuse("more than one node is out of recovery".to_owned(), "pgorch status");
            }
            [one] if **one == record.candidate || self.over && **one != record.primary => {
                return Settlement::Finish { primary: (*one).clone() };
            }
            [one] if **one == record.primary && self.over => return Settlement::Undo,
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
            return refuse(why, "bring it back, or replace it with: pgorch failover");
        }
        // There is nothing to start where the old primary was given up unseen.
        let given_up = matches!(
            record.proof,
            Proof::RiskAccepted | Proof::Stonith | Proof::LeaseOver | Proof::Quorum
        );
        if !answers(&record.primary) && !given_up {
            let why =
                format!("{} cannot be reached, so it cannot be started again", record.primary);
            return refuse(why, "bring it back, or replace it with: pgorch failover");
        }
        Settlement::Undo
    }
}

/// An epoch that nobody has stored yet.
#[must_use]
pub fn next_epoch(snapshot: &Snapshot) -> u64 {
    stored(snapshot).map(|e| e.epoch).max().unwrap_or(0) + 1
}

/// The operations that are open somewhere, which a resumption may take the place of.
#[must_use]
pub fn open_operations(snapshot: &Snapshot) -> Vec<String> {
    stored(snapshot).filter_map(|e| Some(e.open()?.id.clone())).collect()
}

fn stored(snapshot: &Snapshot) -> impl Iterator<Item = &EpochFacts> {
    snapshot.nodes.values().filter_map(|o| Some(&o.facts()?.instance.as_ref()?.epoch))
}

//! `<home>/sync`: whom commits may be waiting for, as a voter has stored it.
//!
//! Every value of `synchronous_standby_names` that may be in effect on a primary stands in the newest
//! record of any majority of the voters: it is stored there before it is set, and struck off only when
//! the primary was seen to run another one. So whoever takes the place of a primary that it cannot
//! reach knows how many standbys it has to ask (failover review, amendments 5 and 15).

use serde::{Deserialize, Serialize};

use crate::model::HostName;
use crate::postgres::SyncNames;

/// What one voter has stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncRecord {
    /// The epoch under which it was written, and its number in it: the greatest pair is the newest.
    pub epoch: u64,
    pub number: u64,
    /// Who the voters were.
    pub voters: Vec<HostName>,
    pub values: Vec<SyncValue>,
}

/// A value that may be in effect on a node when that is the primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncValue {
    pub primary: HostName,
    #[serde(flatten)]
    pub names: SyncNames,
}

impl SyncRecord {
    /// A voter's text. One that is not understood is of a newer program and the newest of all, so that
    /// nothing is decided without it.
    #[must_use]
    pub fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|_| SyncRecord {
            epoch: u64::MAX,
            number: u64::MAX,
            voters: Vec::new(),
            values: Vec::new(),
        })
    }

    /// The text, one line.
    #[must_use]
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    #[must_use]
    pub fn rank(&self) -> (u64, u64) {
        (self.epoch, self.number)
    }
}

/// What several voters say together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recorded {
    /// The newest records; several that differ only where two were begun at once.
    pub newest: Vec<SyncRecord>,
}

impl Recorded {
    #[must_use]
    pub fn of<'a>(records: impl IntoIterator<Item = &'a SyncRecord>) -> Self {
        let mut newest: Vec<SyncRecord> = Vec::new();
        for record in records {
            match newest.first().map(SyncRecord::rank) {
                Some(rank) if record.rank() < rank => continue,
                Some(rank) if record.rank() > rank => newest.clear(),
                _ => {}
            }
            if !newest.contains(record) {
                newest.push(record.clone());
            }
        }
        Recorded { newest }
    }

    /// Rank of the newest; (0, 0) where nothing is recorded.
    #[must_use]
    pub fn rank(&self) -> (u64, u64) {
        self.newest.first().map_or((0, 0), SyncRecord::rank)
    }

    /// Whether a voter's record is of a newer program.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        self.rank().0 == u64::MAX
    }

    /// Every value that may be in effect on this node, each once.
    #[must_use]
    pub fn values_of(&self, primary: &HostName) -> Vec<SyncNames> {
        let mut values = Vec::new();
        for value in self.newest.iter().flat_map(|r| &r.values) {
            if value.primary == *primary && !values.contains(&value.names) {
                values.push(value.names.clone());
            }
        }
        values
    }

    /// Whether these hosts are a majority of the voters, as they are declared and as they were when the
    /// newest records were written: members may have come and gone in between.
    #[must_use]
    pub fn is_majority(&self, declared: &[HostName], hosts: &[&HostName]) -> bool {
        let most = |voters: &[HostName]| {
            let there = voters.iter().filter(|v| hosts.contains(v)).count();
            there > voters.len() / 2
        };
        most(declared) && self.newest.iter().all(|r| most(&r.voters))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(epoch: u64, number: u64, k: u32) -> SyncRecord {
        let names = SyncNames::any(k, ["n2", "n3"]);
        let primary = HostName("n1".to_owned());
        let voters = ["n1", "n2", "n3"].map(|n| HostName(n.to_owned())).to_vec();
        SyncRecord { epoch, number, voters, values: vec![SyncValue { primary, names }] }
    }

    #[test]
    fn the_newest_counts_and_two_of_one_rank_both_do() {
        let (old, one, two) = (record(3, 9, 1), record(4, 1, 1), record(4, 1, 2));
        assert_eq!(Recorded::of([&old, &one]).newest, std::slice::from_ref(&one));
        let both = Recorded::of([&two, &old, &one, &two]);
        assert_eq!(both.values_of(&HostName("n1".to_owned())).len(), 2);
        assert!(both.values_of(&HostName("n2".to_owned())).is_empty());
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let own = record(4, 2, 1);
        assert_eq!(SyncRecord::read(&own.text()), own);
        let strange = SyncRecord::read("{\"epoch\": 1}");
        assert!(Recorded::of([&own, &strange]).is_unreadable());
    }

    #[test]
    fn a_majority_is_one_of_all_voters_there_were() {
        let recorded = Recorded::of([&record(1, 1, 1)]);
        let host = |n: &str| HostName(n.to_owned());
        let now = ["n1", "n2", "n3", "n4", "n5"].map(host);
        let new = [host("n3"), host("n4"), host("n5")];
        assert!(!recorded.is_majority(&now, &new.iter().collect::<Vec<_>>()));
        let mixed = [host("n2"), host("n3"), host("n4")];
        assert!(recorded.is_majority(&now, &mixed.iter().collect::<Vec<_>>()));
    }
}

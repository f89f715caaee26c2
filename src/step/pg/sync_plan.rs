//! From what is seen to the next single change of whom commits wait for.
//!
//! What holds after every move, whoever stops or dies in between:
//!
//! - Every value that may be in effect on the primary stands in the newest record of any majority of
//!   the voters. So a value is recorded before it is set; the primary itself refuses to set what its
//!   own newest record does not name; and a value is struck off on the primary first, under its lock,
//!   after which nothing that was sent earlier can put it back.
//! - A value is struck off only when every commit that was confirmed under it is on as many members of
//!   the other one as that wants: they have flushed a mark that was written when the other one was in
//!   force. So N-k+1 of *each* recorded value have all confirmed commits among them.
//! - One member comes or goes at a time, and k changes alone. WAL senders take a new value one after
//!   the other, and what they decide in between is then one of the two values, never a third.
//!
//! PostgreSQL counts by the names in `pg_stat_replication`; a node's name is that of its slot.

use std::collections::{BTreeMap, BTreeSet};

use crate::facts::{Recorded, SyncRecord, SyncValue};
use crate::model::HostName;
use crate::postgres::SyncNames;

/// What is seen, and what is wanted.
#[derive(Debug, Clone)]
pub(super) struct Situation {
    pub(super) primary: HostName,
    /// As declared.
    pub(super) voters: Vec<HostName>,
    /// Those that can be written to now.
    pub(super) present: Vec<HostName>,
    /// What those have stored.
    pub(super) records: BTreeMap<HostName, SyncRecord>,
    /// The highest epoch that is stored anywhere.
    pub(super) epoch: u64,
    pub(super) running: SyncNames,
    pub(super) wanted: SyncNames,
    /// Who streams from the primary, each through its own slot.
    pub(super) streaming: BTreeSet<String>,
}

/// One durable write.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Move {
    /// A voter stores a record, unless it has a newer one.
    Record { on: HostName, record: SyncRecordText },
    /// The primary is given these names, if this is its record.
    Set { names: SyncNames, record: SyncRecordText },
    /// The primary is seen to run these names, and all that was confirmed before is covered by them; then
    /// it stores the record that knows no other. `first`: nothing may have been in effect before.
    Settle { names: SyncNames, first: bool, record: SyncRecordText },
}

/// A record with its rank, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SyncRecordText {
    pub(super) rank: (u64, u64),
    pub(super) text: String,
}

impl From<&SyncRecord> for SyncRecordText {
    fn from(record: &SyncRecord) -> Self {
        SyncRecordText { rank: record.rank(), text: record.text() }
    }
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    Done,
    Move(Move),
    /// The rest has to wait, for the reason.
    Wait(String),
}

/// All moves as far as they can be made now, and why the rest has to wait.
pub(super) fn moves(situation: &Situation) -> (Vec<Move>, Option<String>) {
    let mut at = situation.clone();
    let mut list = Vec::new();
    loop {
        match next(&at) {
            Next::Done => return (list, None),
            Next::Wait(why) => return (list, Some(why)),
            Next::Move(one) => {
                at.make(&one);
                list.push(one);
            }
        }
    }
}

/// The next move.
pub(super) fn next(at: &Situation) -> Next {
    let recorded = Recorded::of(at.records.values());
    if recorded.is_unreadable() {
        return Next::Wait("a newer pgorch has recorded whom commits wait for".to_owned());
    }
    let values = at.values(&recorded);
    let others: Vec<&SyncNames> = values.iter().filter(|v| **v != at.running).collect();
    let aim = aim(&at.running, &at.wanted, &at.streaming);
    let nothing_yet = recorded.newest.is_empty();
    match &aim {
        Aim::There if nothing_yet && others.is_empty() => return Next::Done,
        Aim::Wait(why) if nothing_yet && others.is_empty() => return Next::Wait(why.clone()),
        _ => {}
    }
    if let Some(on) = at.lacking(&recorded) {
        let record = SyncRecordText::from(&recorded.newest[0]);
        return Next::Move(Move::Record { on: on.clone(), record });
    }
    let settled = others.is_empty();
    let change = match &aim {
        Aim::Change(names) => Some(names),
        Aim::There | Aim::Wait(_) => None,
    };
    let pending = change.is_some_and(|names| others == [names]);
    let current = recorded.newest.len() == 1 && recorded.newest[0].voters == at.voters;
    if settled && current && change.is_none() {
        return match aim {
            Aim::Wait(why) => Next::Wait(why),
            _ => Next::Done,
        };
    }
    let present: Vec<&HostName> = at.present.iter().collect();
    if !at.present.contains(&at.primary) || !recorded.is_majority(&at.voters, &present) {
        let (there, all) = (at.present.len(), at.voters.len());
        return Next::Wait(format!(
            "{there} of {all} voters can be reached: no majority can record whom commits wait for"
        ));
    }
    let known = current && values.contains(&at.running) && !nothing_yet;
    match (known, settled, pending) {
        // Both stand in the record of every voter that is there.
        (true, false, true) => Next::Move(Move::Set {
            names: change.cloned().unwrap_or_default(),
            record: SyncRecordText::from(&recorded.newest[0]),
        }),
        // What runs is in force, and everything else is struck off.
        (true, false, false) => {
            let k = usize::try_from(at.running.k).unwrap_or(usize::MAX);
            let there = at.running.members.intersection(&at.streaming).count();
            if there < k {
                return Next::Wait(format!(
                    "commits wait for {k} standbys, {there} of them stream"
                ));
            }
            let record = at.record(&recorded, vec![at.running.clone()]);
            Next::Move(Move::Settle {
                names: at.running.clone(),
                first: values.iter().any(SyncNames::is_none),
                record: SyncRecordText::from(&record),
            })
        }
        // What is to be set, or what runs without having been recorded, or who votes has changed.
        _ => {
            let mut all = values;
            let more = [Some(&at.running), change.filter(|_| settled)];
            for names in more.into_iter().flatten() {
                if !all.contains(names) {
                    all.push(names.clone());
                }
            }
            let record = SyncRecordText::from(&at.record(&recorded, all));
            // The primary last: it is where two who begin at once find out.
            let mut order = at.present.iter().filter(|v| **v != at.primary);
            let on = order.next().unwrap_or(&at.primary).clone();
            Next::Move(Move::Record { on, record })
        }
    }
}

/// Where one step leads.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Aim {
    There,
    Change(SyncNames),
    Wait(String),
}

/// The next value on the way: k is lowered first and raised last, members come before others go, and
/// nobody is counted on who does not stream.
fn aim(running: &SyncNames, wanted: &SyncNames, streaming: &BTreeSet<String>) -> Aim {
    if running == wanted {
        return Aim::There;
    }
    if wanted.is_none() {
        return Aim::Change(SyncNames::none());
    }
    let to = |k: u32, members: BTreeSet<String>| Aim::Change(SyncNames { k, members });
    let there = |members: &BTreeSet<String>| {
        u32::try_from(members.intersection(streaming).count()).unwrap_or(u32::MAX)
    };
    if running.is_none() {
        let members: BTreeSet<String> = wanted.members.intersection(streaming).cloned().collect();
        let enough = there(&members) >= wanted.k;
        return match enough {
            true => to(wanted.k, members),
            false => Aim::Wait(format!(
                "not in force yet: commits would wait for {} standbys, {} of them stream",
                wanted.k,
                members.len()
            )),
        };
    }
    if wanted.k < running.k {
        return to(wanted.k, running.members.clone());
    }
    let mut members = running.members.clone();
    let missing = wanted.members.difference(&running.members);
    if let Some(new) = missing.clone().find(|m| streaming.contains(*m)) {
        members.insert(new.clone());
        return to(running.k, members);
    }
    if let Some(old) = running.members.difference(&wanted.members).next() {
        members.remove(old);
        return match there(&members) >= running.k {
            true => to(running.k, members),
            false => Aim::Wait(format!(
                "commits go on waiting for {old} too: without it fewer than {} would stream",
                running.k
            )),
        };
    }
    if wanted.k > running.k && there(&members) >= wanted.k {
        return to(wanted.k, members);
    }
    match missing.cloned().collect::<Vec<_>>() {
        names if !names.is_empty() => {
            let (names, verb) = (names.join(", "), if names.len() == 1 { "does" } else { "do" });
            Aim::Wait(format!("{names} {verb} not stream, so commits do not count on it yet"))
        }
        _ => Aim::Wait(format!(
            "commits wait for {} standbys: fewer than {} stream",
            running.k, wanted.k
        )),
    }
}

impl Situation {
    /// What may be in effect. Where nothing was recorded that is what runs, and nothing at all: what was
    /// confirmed before may be on no standby.
    fn values(&self, recorded: &Recorded) -> Vec<SyncNames> {
        let values = recorded.values_of(&self.primary);
        if !values.is_empty() {
            return values;
        }
        let mut values = vec![SyncNames::none()];
        if !self.running.is_none() {
            values.push(self.running.clone());
        }
        values
    }

    /// A voter that is there and has not the newest record, if there is exactly one such record. The
    /// primary comes last, but for what it has struck off itself.
    fn lacking(&self, recorded: &Recorded) -> Option<&HostName> {
        let [newest] = recorded.newest.as_slice() else { return None };
        let mut lacking: Vec<&HostName> =
            self.present.iter().filter(|v| self.records.get(*v) != Some(newest)).collect();
        lacking.sort_by_key(|v| **v == self.primary);
        lacking.first().copied()
    }

    /// A record that is newer than all that are seen.
    fn record(&self, recorded: &Recorded, mut values: Vec<SyncNames>) -> SyncRecord {
        values.sort();
        let (epoch, number) = recorded.rank();
        let epoch = epoch.max(self.epoch);
        let number = if epoch == recorded.rank().0 { number + 1 } else { 1 };
        let value = |names| SyncValue { primary: self.primary.clone(), names };
        SyncRecord {
            epoch,
            number,
            voters: self.voters.clone(),
            values: values.into_iter().map(value).collect(),
        }
    }

    /// What a move that works makes of it.
    fn make(&mut self, one: &Move) {
        let record = |text: &SyncRecordText| SyncRecord::read(&text.text);
        match one {
            Move::Record { on, record: text } => {
                self.records.insert(on.clone(), record(text));
            }
            Move::Set { names, .. } => self.running = names.clone(),
            Move::Settle { record: text, .. } => {
                self.records.insert(self.primary.clone(), record(text));
            }
        }
    }
}

#[cfg(test)]
#[path = "sync_plan_tests.rs"]
mod tests;

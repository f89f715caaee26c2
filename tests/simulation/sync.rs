//! Quorum replication: what the steps that change it do, and what must be so meanwhile.

use std::collections::BTreeMap;

use pgorch::facts::{Recorded, SyncRecord, SyncValue};
use pgorch::inventory::slot_name;
use pgorch::model::HostName;
use pgorch::operation::{Identity, Known, Report, covered};
use pgorch::postgres::SyncNames;

use super::act::{Steps, fail};
use super::world::World;

impl World {
    /// sync_record.sh
    pub(super) fn sync_record(
        &mut self,
        host: &HostName,
        identity: &Identity,
        known: &Known,
        candidate: &HostName,
        (names, settled): (&SyncNames, bool),
    ) -> Steps<Report> {
        let of = |primary: &HostName, names| SyncValue { primary: primary.clone(), names };
        let mut values = Vec::new();
        if !settled {
            let recorded = Recorded::of(known.sync.values());
            for suspect in identity.record.suspects() {
                let before = recorded.values_of(suspect);
                values.extend(before.into_iter().map(|names| of(suspect, names)));
            }
            values.push(of(candidate, SyncNames::none()));
        }
        values.push(of(candidate, names.clone()));
        let number = if settled { 2 } else { 1 };
        let record = SyncRecord { epoch: identity.epoch, number, voters: self.names(), values };
        let stored = self.nodes[host].sync.as_ref();
        if stored.is_some_and(|s| *s != record && s.rank() >= record.rank()) {
            return fail("somebody else has changed whom commits wait for");
        }
        self.spend()?;
        self.nodes[host].sync = Some(record);
        Ok(Report::default())
    }

    /// sync_settle.sql
    pub(super) fn wait_sync(&mut self, host: &HostName, names: &SyncNames) -> Steps<Report> {
        self.answers(host)?;
        if self.nodes[host].sync_in_force != *names {
            return fail("other names are in force");
        }
        self.write(host, None);
        let mut covered = 0;
        for standby in self.names() {
            let member = names.members.contains(&slot_name(&standby));
            if member && self.streams_from(&standby) == Some(host) {
                self.receive(&standby, usize::MAX);
                covered += 1;
            }
        }
        if covered < names.k {
            fail("too few standbys have all WAL")
        } else {
            Ok(Report::default())
        }
    }

    /// In quorum mode: what commits wait for is recorded on every majority, and whenever a failover would
    /// take the standbys that it has asked for enough, the one with the most WAL has what was confirmed.
    #[track_caller]
    pub(super) fn recorded(&self, primary: &HostName) {
        let names = self.names();
        for majority in subsets(&names).filter(|m| m.len() > names.len() / 2) {
            let of = |n: &&HostName| Some(((*n).clone(), self.nodes[*n].sync.clone()?));
            let records: BTreeMap<HostName, SyncRecord> = majority.iter().filter_map(of).collect();
            let values = Recorded::of(records.values()).values_of(primary);
            let running = &self.nodes[primary].sync_in_force;
            assert!(values.contains(running), "{running} is not recorded\n{}", self.story());
            for asked in subsets(&names).filter(|a| !a.contains(&primary)) {
                let set = asked.iter().map(|n| (*n).clone()).collect();
                if covered(self.inventory, &records, &majority, primary, &set).is_err() {
                    continue;
                }
                let newest = asked.iter().max_by_key(|n| {
                    let wal = &self.nodes[**n].wal;
                    (wal.last().map(|r| r.timeline), wal.len())
                });
                let newest = newest.expect("somebody was asked");
                let confirmed = self.ledger.iter().filter(|row| row.synced);
                let lost = confirmed.into_iter().find(|row| !self.has(newest, row));
                assert!(lost.is_none(), "{lost:?} would be lost with {newest}\n{}", self.story());
            }
        }
    }
}

/// All subsets, each in the order of the whole.
fn subsets(names: &[HostName]) -> impl Iterator<Item = Vec<&HostName>> {
    let bit = |m: u32, at: usize| m & (1 << at) != 0;
    (0_u32..1 << names.len()).map(move |m| {
        names.iter().enumerate().filter(|(at, _)| bit(m, *at)).map(|(_, n)| n).collect()
    })
}

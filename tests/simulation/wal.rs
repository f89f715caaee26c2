//! How WAL and commits move.

use pgorch::facts::History;
use pgorch::inventory::slot_name;
use pgorch::model::{HostName, Timeline};
use pgorch::postgres::SyncNames;

use super::world::{Record, Row, Server, World, lsn};

impl World {
    /// Whether a server does anything at all.
    pub(crate) fn serves(&self, name: &HostName) -> bool {
        let node = &self.nodes[name];
        self.alive(name) && node.server != Server::Down && !node.frozen
    }

    pub(crate) fn write(&mut self, host: &HostName, timeline: Option<u32>) -> u64 {
        self.last_record += 1;
        let id = self.last_record;
        let node = &mut self.nodes[host];
        let timeline = timeline.unwrap_or_else(|| node.timeline());
        node.wal.push(Record { id, timeline });
        node.replayed = node.wal.len();
        id
    }

    /// Whom a standby is set to receive from.
    fn receives_from(&self, name: &HostName) -> Option<&HostName> {
        let node = &self.nodes[name];
        let open = !node.emptied || node.lingers;
        let standby = self.serves(name) && node.server == Server::Recovery;
        node.upstream.as_ref().filter(|_| open && standby)
    }

    /// The same, if that one answers and has a slot for it: they are connected.
    pub(crate) fn connected_to(&self, name: &HostName) -> Option<&HostName> {
        let upstream = self.receives_from(name)?;
        let slot = self.nodes[upstream].slots.contains(&slot_name(name));
        (self.serves(upstream) && self.linked(name, upstream) && slot).then_some(upstream)
    }

    /// Whom a standby receives from now.
    pub(crate) fn streams_from(&self, name: &HostName) -> Option<&HostName> {
        let upstream = self.connected_to(name)?;
        let wal = &self.nodes[name].wal;
        // Equal at its end means equal up to there.
        (self.nodes[upstream].wal.get(wal.len() - 1) == wal.last()).then_some(upstream)
    }

    /// At most so many records reach a standby. It knows of a new timeline as soon as it is connected.
    pub(crate) fn receive(&mut self, name: &HostName, most: usize) {
        let Some(upstream) = self.streams_from(name).cloned() else { return };
        let have = self.nodes[name].wal.len();
        let new: Vec<Record> =
            self.nodes[&upstream].wal[have..].iter().take(most).copied().collect();
        let newer = self.nodes[&upstream].history.clone();
        let node = &mut self.nodes[name];
        let number = |h: &Option<History>| h.as_ref().map(|h| h.timeline);
        if number(&newer) > number(&node.history) {
            node.history = newer;
        }
        node.fresh &= new.is_empty();
        node.wal.extend(new);
        if !node.stalled {
            node.replayed = node.wal.len();
        }
    }

    /// Everything reaches everybody who is connected.
    pub(crate) fn flow(&mut self) {
        for _ in 0..2 {
            for name in self.names() {
                self.receive(&name, usize::MAX);
            }
        }
    }

    /// A client commits a row wherever it can, and notes it once it is confirmed.
    pub(crate) fn commit(&mut self) {
        for name in self.names() {
            if !self.serves(&name) || self.nodes[&name].server != Server::Primary {
                continue;
            }
            let id = self.write(&name, None);
            let at = self.nodes[&name].wal.len() - 1;
            let SyncNames { k, members } = self.nodes[&name].sync_in_force.clone();
            if k == 0 {
                self.confirm(&name, Row { at, id, synced: false });
                continue;
            }
            // An acknowledgement comes over a connection, and for nothing else.
            let mut acknowledged = 0;
            for standby in self.names() {
                if self.streams_from(&standby) == Some(&name) {
                    self.receive(&standby, usize::MAX);
                    acknowledged += u32::from(members.contains(&slot_name(&standby)));
                }
            }
            if acknowledged >= k {
                self.confirm(&name, Row { at, id, synced: true });
            }
        }
    }

    /// What a primary confirms that the operator answers for is nobody's promise.
    fn confirm(&mut self, by: &HostName, row: Row) {
        let muted = self.muted.contains(by);
        assert!(!muted, "{by} confirms {row:?} after it was replaced\n{}", self.story());
        if !self.risked.contains(by) {
            self.ledger.push(row);
        }
    }

    /// The lineage of a node's WAL, as its history file would tell it.
    pub(crate) fn lineage(&self, name: &HostName) -> Option<History> {
        let wal = &self.nodes[name].wal;
        let ends = wal.windows(2).enumerate().filter(|(_, w)| w[0].timeline != w[1].timeline);
        let ancestors: Vec<_> =
            ends.map(|(at, w)| (Timeline(w[0].timeline), lsn(at + 1))).collect();
        let timeline = Timeline(self.nodes[name].timeline());
        (!ancestors.is_empty()).then_some(History { timeline, ancestors })
    }
}

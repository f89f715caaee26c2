//! What must be so: after everything that happens, at each promotion, and when all is mended.

use std::collections::{BTreeMap, BTreeSet};

use pgorch::facts::Proof;
use pgorch::inventory::{ReplicationMode, slot_name};
use pgorch::model::HostName;
use pgorch::operation::Identity;

use super::world::{Node, Promotion, Rest, Row, Server, World};

impl Promotion {
    /// Everybody who may be a primary, with what makes it harmless.
    pub(super) fn suspects(&self) -> impl Iterator<Item = (&HostName, Proof)> {
        let others = self.possible.iter().map(|p| (&p.name, p.proof));
        std::iter::once((&self.primary, self.proof)).chain(others)
    }

    /// The standbys whose positions were compared.
    fn compared(&self) -> impl Iterator<Item = &HostName> {
        self.ends.keys().filter(|n| self.suspects().all(|(s, _)| s != *n))
    }

    /// Suspects that were fenced, and told where their WAL ends.
    fn fenced(&self) -> impl Iterator<Item = &HostName> {
        let fenced = self.suspects().filter(|(_, proof)| *proof == Proof::Fenced);
        fenced.map(|(name, _)| name).filter(|name| self.ends.contains_key(*name))
    }
}

impl World {
    /// After everything that happens.
    #[track_caller]
    pub(crate) fn check(&self) {
        let answered: Vec<&HostName> =
            self.primaries().filter(|n| !self.risked.contains(*n)).collect();
        assert!(answered.len() < 2, "{answered:?} take writes\n{}", self.story());
        // What comes before the last one is checked when it was the last one.
        if let (Some(name), Some(row)) = (answered.first(), self.ledger.last()) {
            assert!(
                self.has(name, row),
                "{name} takes writes and lacks a confirmed row\n{}",
                self.story()
            );
        }
        // It looks at all sets of nodes, so not each time.
        if let Some(name) = answered.first()
            && self.inventory.replication.mode == ReplicationMode::Quorum
            && self.last_record.is_multiple_of(4)
        {
            self.recorded(name);
        }
        self.check_twins();
        self.check_vip();
    }

    /// Who has the virtual address is a primary, and nobody else has it but who was given up.
    #[track_caller]
    fn check_vip(&self) {
        for (name, node) in self.nodes.iter().filter(|(_, n)| n.vip) {
            let primary = node.server == Server::Primary;
            assert!(primary, "{name} has the virtual address\n{}", self.story());
        }
        let holders = self.nodes.iter().filter(|(n, node)| node.vip && !self.risked.contains(*n));
        assert!(holders.count() < 2, "two have the virtual address\n{}", self.story());
    }

    /// When an operation has ended well: the new primary has the virtual address, while it runs.
    #[track_caller]
    pub(crate) fn vip_is_with(&self, name: &HostName) {
        let node = &self.nodes[name];
        let wanted = self.inventory.routing.vip.is_some() && node.server == Server::Primary;
        assert!(node.vip || !wanted, "{name} has not the virtual address\n{}", self.story());
    }

    pub(super) fn has(&self, name: &HostName, row: &Row) -> bool {
        self.nodes[name].wal.get(row.at).is_some_and(|r| r.id == row.id)
    }

    /// Two histories by one number are never taken for one: nobody is connected to a node whose WAL differs
    /// under the timeline that both call theirs.
    #[track_caller]
    fn check_twins(&self) {
        for (name, node) in &self.nodes {
            let Some(upstream) = self.connected_to(name) else { continue };
            let at = node.wal.len() - 1;
            let (own, other) = (node.wal[at], self.nodes[upstream].wal.get(at));
            let twin = other.is_some_and(|o| o.timeline == own.timeline && o.id != own.id);
            assert!(!twin, "{name} receives another history from {upstream}\n{}", self.story());
        }
    }

    /// Nodes that take writes now, or will when they thaw.
    pub(crate) fn primaries(&self) -> impl Iterator<Item = &HostName> {
        let writable =
            |name: &HostName| self.hosts[name].on && self.nodes[name].server == Server::Primary;
        self.nodes.keys().filter(move |name| writable(name))
    }

    /// When a promotion is asked for: by proof, and with the epoch on a majority.
    #[track_caller]
    pub(crate) fn proved(&self, host: &HostName, identity: &Identity, promotion: &Promotion) {
        let stored = |v: &&HostName| self.hosts[*v].epoch.epoch >= identity.epoch;
        let stored = self.voters().filter(stored).count();
        let voters = self.voters().count();
        assert!(stored > voters / 2, "{host}: {stored} of {voters} voters\n{}", self.story());
        for (suspect, proof) in promotion.suspects() {
            self.harmless(suspect, proof, promotion);
        }
    }

    #[track_caller]
    fn harmless(&self, suspect: &HostName, proof: Proof, promotion: &Promotion) {
        let old = &self.nodes[suspect];
        match proof {
            Proof::CleanStop => {
                let down = old.server == Server::Down && old.fence && old.clean;
                assert!(down, "{suspect} is not stopped\n{}", self.story());
            }
            Proof::Fenced => {
                let down = old.server == Server::Down && old.fence;
                assert!(down, "{suspect} is not fenced\n{}", self.story());
            }
            Proof::Stonith => {
                let of = (promotion.operation.clone(), suspect.clone());
                let off = self.switched_off.contains(&of);
                assert!(off, "{suspect} is not off\n{}", self.story());
            }
            Proof::LeaseOver => panic!("nobody has a lease here\n{}", self.story()),
            Proof::RiskAccepted | Proof::Quorum => {
                let accepted = self.accepted.get(&promotion.operation);
                let asked = accepted.is_some_and(|a| a.split_brain_risk);
                assert!(asked || proof == Proof::Quorum, "{}", self.story());
                for name in promotion.compared() {
                    let quiet = self.nodes[name].revoked.is_some()
                        && self.connected_to(name) != Some(suspect);
                    assert!(quiet, "{name} was compared and receives\n{}", self.story());
                }
            }
        }
    }

    /// What a promotion loses: nothing that the operator was not told of and has not accepted.
    #[track_caller]
    pub(super) fn judge_promotion(&self, name: &HostName, promotion: &Promotion) {
        let lost: Vec<&Row> = self.ledger.iter().filter(|row| !self.has(name, row)).collect();
        let accepted = self.accepted.get(&promotion.operation).copied().unwrap_or_default();
        let story = || self.story();
        assert!(
            lost.is_empty() || promotion.proof != Proof::CleanStop,
            "a switchover loses {lost:?}\n{}",
            story()
        );
        if accepted.data_loss {
            return;
        }
        let compared = |row: &Row| promotion.compared().filter(|n| self.has(n, row)).count();
        for row in &lost {
            assert!(compared(row) == 0, "{name} lacks {row:?} of a standby\n{}", story());
            let risk = promotion.suspects().any(|(_, proof)| proof == Proof::RiskAccepted);
            assert!(!row.synced || risk, "a quorum's {row:?} is lost\n{}", story());
            // Who was fenced told how far it had come, also to which timeline.
            let followed = self.nodes[name].wal.iter().rev().nth(1).map_or(1, |r| r.timeline);
            for fenced in promotion.fenced().filter(|n| self.has(n, row)) {
                let timeline = self.nodes[fenced].wal[row.at].timeline;
                let newer = timeline > followed;
                assert!(!newer, "{name} has not followed {fenced}: {row:?}\n{}", story());
            }
        }
        let limit = self.inventory.failover.maximum_lag_bytes.unwrap_or(0);
        let known =
            promotion.proof == Proof::Fenced && promotion.ends.contains_key(&promotion.primary);
        let count = u64::try_from(lost.len()).expect("small");
        assert!(!known || count <= limit, "{count} rows are lost, {limit} may be\n{}", story());
    }

    /// Where an operation is over its revocations are too, but for a server that did not answer.
    #[track_caller]
    pub(crate) fn nobody_is_forgotten(&self) {
        for (name, node) in &self.nodes {
            let over = self.hosts[name].epoch.open().is_none();
            let left = over && node.emptied && self.serves(name);
            assert!(!left, "{name} receives nothing, and nobody will see to it\n{}", self.story());
        }
    }

    /// Who is the primary, whom everybody follows, and which slots there are.
    pub(crate) fn shape(&self) -> BTreeMap<HostName, (bool, Option<HostName>, BTreeSet<String>)> {
        let of = |n: &Node| (n.server == Server::Primary, n.upstream.clone(), n.slots.clone());
        self.nodes.iter().map(|(name, n)| (name.clone(), of(n))).collect()
    }

    /// One primary that has all confirmed rows, everybody streams, clients go on, and nothing is left over
    /// but what `rest` allows.
    #[track_caller]
    pub(crate) fn whole(&mut self, rest: Rest) {
        self.commit();
        self.flow();
        self.check();
        let story = || self.story();
        let primaries: Vec<HostName> = self.primaries().cloned().collect();
        assert_eq!(primaries.len(), 1, "{}", story());
        let primary = &primaries[0];
        self.vip_is_with(primary);
        for row in &self.ledger {
            assert!(self.has(primary, row), "a confirmed row is lost\n{}", story());
        }
        for (name, host) in &self.hosts {
            assert!(host.epoch.open().is_none(), "{name} has an open operation\n{}", story());
        }
        for (name, pooler) in &self.poolers {
            assert!(!pooler.paused, "clients of {name} wait\n{}", story());
        }
        for (name, node) in &self.nodes {
            assert!(!node.fence, "{name} is fenced\n{}", story());
            assert!(node.revoked.is_none() && !node.emptied, "{name} is revoked\n{}", story());
            assert_eq!(node.standby_signal, name != primary, "{name}\n{}", story());
            assert_eq!(node.wal, self.nodes[primary].wal, "{name} is not in step\n{}", story());
            if name != primary {
                assert!(self.streams_from(name).is_some(), "{name} does not stream\n{}", story());
            }
            self.slots_are(name, primary, rest);
        }
    }

    #[track_caller]
    fn slots_are(&self, name: &HostName, primary: &HostName, rest: Rest) {
        let follows = |n: &Node| n.server == Server::Recovery && n.upstream.as_ref() == Some(name);
        let mut wanted: BTreeSet<String> =
            self.nodes.iter().filter(|(_, n)| follows(n)).map(|(n, _)| slot_name(n)).collect();
        let declared = self.inventory.nodes.iter().filter(|(_, n)| n.follow.as_ref() == Some(name));
        wanted.extend(declared.map(|(n, _)| slot_name(n)));
        let left = |s: &String| {
            self.left_by_apply.contains(&(name.clone(), s.clone()))
                || rest == Rest::SlotsOfStandbys && name != primary
        };
        let slots = &self.nodes[name].slots;
        let slots: BTreeSet<String> =
            slots.iter().filter(|s| wanted.contains(*s) || !left(s)).cloned().collect();
        assert_eq!(slots, wanted, "slots of {name}\n{}", self.story());
    }
}

//! What there is: hosts, nodes, links, poolers, a ledger of what clients were told.
//!
//! [`wal`](super::wal) is how WAL and commits move, [`hosts`](super::hosts) what happens to machines
//! and servers, [`always`](super::always) what must be so after everything that happens,
//! [`heal`](super::heal) what an operator does afterwards.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use indexmap::IndexMap;
use pgorch::facts::{EpochFacts, History, Possible, Proof, SyncRecord, SyncValue};
use pgorch::inventory::{Inventory, ReplicationMode, slot_name};
use pgorch::model::{HostName, Lsn, Timeline};
use pgorch::operation::{Accepted, Identity, Known, Step};
use pgorch::postgres::SyncNames;

use super::deeds::Deed;

/// One record of WAL; its position is its index, and no two that were written apart are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) id: u64,
    pub(crate) timeline: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Down,
    Recovery,
    Primary,
}

/// What may be left over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    Nothing,
    /// Unused slots on standbys, which `status` reports: a node that missed one operation and is
    /// moved by the next one's resumption leaves its slot on the standby that it streamed from.
    SlotsOfStandbys,
}

/// A machine. Every voter is one, and so is a pooler's host.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) on: bool,
    /// It stands still as a whole, with all that is in its memory.
    pub(crate) paused: bool,
    // On disk, in pgorch's home.
    pub(crate) epoch: EpochFacts,
    pub(crate) turned: u64,
}

/// A PostgreSQL node; its machine is the host of the same name.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    // On disk.
    pub(crate) wal: Vec<Record>,
    /// The newest timeline history file.
    pub(crate) history: Option<History>,
    /// The control file's timeline; it lags behind that of the WAL.
    pub(crate) checkpoint: u32,
    /// How many records are replayed.
    pub(crate) replayed: usize,
    /// By which epoch, and of which start of the server, a promotion was asked for.
    pub(crate) asked: Option<(u64, u64)>,
    pub(crate) fence: bool,
    /// The marker of a revocation, with its epoch.
    pub(crate) revoked: Option<u64>,
    /// primary_conninfo and restore_command are emptied in the place of the highest rank.
    pub(crate) emptied: bool,
    pub(crate) standby_signal: bool,
    pub(crate) upstream: Option<HostName>,
    pub(crate) slots: BTreeSet<String>,
    /// synchronous_standby_names as written.
    pub(crate) sync_names: SyncNames,
    /// What pgorch has recorded of whom commits wait for.
    pub(crate) sync: Option<SyncRecord>,
    /// It stopped cleanly: the control file says `shut down`.
    pub(crate) clean: bool,
    /// There is no data directory.
    pub(crate) empty: bool,
    /// A rewind began and did not end: what is there is neither the old data nor the new.
    pub(crate) half: bool,
    /// Data directories that new copies took the place of.
    pub(crate) aside: usize,
    // In memory.
    /// A parameter waits for a restart.
    pub(crate) owes: bool,
    pub(crate) server: Server,
    pub(crate) start: u64,
    /// All its processes are under SIGSTOP.
    pub(crate) frozen: bool,
    /// A promotion was asked for and is not over.
    pub(crate) promoting: Option<Promotion>,
    /// A receiver that goes on although the setting is empty: a reload alone does not end it.
    pub(crate) lingers: bool,
    /// Nothing was received in this life of the server.
    pub(crate) fresh: bool,
    /// Replay does not go on: paused, delayed, or in a conflict.
    pub(crate) stalled: bool,
    /// The names that commits wait for.
    pub(crate) sync_in_force: SyncNames,
    /// The virtual address is on its host.
    pub(crate) vip: bool,
}

/// What a promotion rests on.
#[derive(Debug, Clone)]
pub(crate) struct Promotion {
    pub(crate) operation: String,
    pub(crate) proof: Proof,
    pub(crate) primary: HostName,
    pub(crate) possible: Vec<Possible>,
    /// Where the WAL of those that were compared ends, the old primary's among them.
    pub(crate) ends: BTreeMap<HostName, (Timeline, Lsn)>,
}

/// A row whose commit was confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) at: usize,
    pub(crate) id: u64,
    /// As many standbys have it as the names in force ask for.
    pub(crate) synced: bool,
}

/// A command that its sender gave up and that is still on its way.
#[derive(Debug, Clone)]
pub(crate) enum Late {
    /// Of an operation.
    Step(Box<(Step, Identity, Known)>),
    /// Of a command on single nodes, with the epoch that its sender has seen there.
    Deed { on: HostName, deed: Deed, epoch: u64 },
}

/// What the inventory's STONITH command does, and what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stonith {
    SwitchesOff,
    /// It says that it could not, and did not.
    Fails,
    /// It says that it could not, and the host is off.
    FailsAndIsOff,
}

pub(crate) struct World {
    pub(crate) inventory: &'static Inventory,
    pub(crate) hosts: IndexMap<HostName, Host>,
    pub(crate) nodes: IndexMap<HostName, Node>,
    pub(crate) poolers: IndexMap<HostName, super::pooler::Pooler>,
    /// Directed: packets from the first to the second are dropped.
    pub(crate) cuts: BTreeSet<(String, String)>,
    pub(crate) late: VecDeque<Late>,
    pub(crate) stonith: Stonith,
    /// Durable changes that the script at work may still make; none is no limit.
    pub(crate) fuel: Option<usize>,
    /// What must never be lost.
    pub(crate) ledger: Vec<Row>,
    pub(super) last_record: u64,
    pub(crate) operations: u64,
    /// What the operator of each operation accepted, by its id.
    pub(crate) accepted: BTreeMap<String, Accepted>,
    /// Old primaries that were given up without a marker that would keep them down: that they do not come back
    /// is the operator's business.
    pub(crate) risked: BTreeSet<HostName>,
    /// Those of them that can confirm nothing any more: enough standbys receive nothing from them.
    pub(crate) muted: BTreeSet<HostName>,
    /// Operations for which the STONITH command has said that a host is off, and it was.
    pub(crate) switched_off: BTreeSet<(String, HostName)>,
    /// The members' table after each change of it, with the record of WAL that made it.
    pub(crate) members: Vec<(u64, BTreeSet<String>)>,
    /// Slots that apply leaves on a former upstream: host and name.
    pub(super) left_by_apply: BTreeSet<(HostName, String)>,
    pub(super) log: Vec<String>,
    /// What a failure has to name, to be repeated.
    pub(crate) title: String,
}

impl World {
    pub(crate) fn new(text: &str, title: impl Into<String>) -> Self {
        let inventory = &super::INVENTORIES[text];
        let primary = inventory.bootstrap_primary().expect("a node").clone();
        let host = || Host { on: true, paused: false, epoch: EpochFacts::default(), turned: 0 };
        let nodes = inventory.nodes.iter().map(|(name, node)| {
            let upstream = node.follow.clone().unwrap_or_else(|| primary.clone());
            (name.clone(), Node::new((*name != primary).then_some(upstream)))
        });
        let mut world = World {
            hosts: inventory.all_hosts().map(|(name, _)| (name.clone(), host())).collect(),
            nodes: nodes.collect(),
            poolers: super::pooler::of(inventory, &primary),
            inventory,
            cuts: BTreeSet::new(),
            late: VecDeque::new(),
            stonith: Stonith::SwitchesOff,
            fuel: None,
            ledger: Vec::new(),
            last_record: 1,
            operations: 0,
            accepted: BTreeMap::new(),
            risked: BTreeSet::new(),
            muted: BTreeSet::new(),
            switched_off: BTreeSet::new(),
            members: vec![(1, inventory.nodes.keys().map(|n| n.0.clone()).collect())],
            left_by_apply: BTreeSet::new(),
            log: Vec::new(),
            title: title.into(),
        };
        for name in world.names() {
            if let Some(upstream) = world.nodes[&name].upstream.clone() {
                world.nodes[&upstream].slots.insert(slot_name(&name));
            }
        }
        world.nodes[&primary].vip = inventory.routing.vip.is_some();
        if world.inventory.replication.mode == ReplicationMode::Quorum {
            let names = SyncNames::any(1, ["node2", "node3"]);
            let node = &mut world.nodes[&primary];
            (node.sync_names, node.sync_in_force) = (names.clone(), names.clone());
            let values = vec![SyncValue { primary: primary.clone(), names }];
            let record = SyncRecord { epoch: 0, number: 1, voters: world.names(), values };
            world.nodes.values_mut().for_each(|n| n.sync = Some(record.clone()));
        }
        world
    }

    /// The nodes.
    pub(crate) fn names(&self) -> Vec<HostName> {
        self.nodes.keys().cloned().collect()
    }

    /// Everybody that a link can lead to, but for controllers.
    pub(crate) fn machines(&self) -> Vec<HostName> {
        self.hosts.keys().cloned().collect()
    }

    pub(crate) fn voters(&self) -> impl Iterator<Item = &HostName> {
        self.inventory.nodes.keys().chain(self.inventory.witnesses.keys())
    }

    pub(crate) fn tell(&mut self, text: impl Into<String>) {
        self.log.push(text.into());
    }

    /// For a failed test: what it was, and all that happened.
    pub(crate) fn story(&self) -> String {
        let mut text = format!("{}\n", self.title);
        for line in &self.log {
            text += &format!("  {line}\n");
        }
        for (name, n) in &self.nodes {
            text += &format!("{name}: {}\n", n.story());
        }
        for (name, h) in &self.hosts {
            let operation = h.epoch.operation.as_ref().map(|o| (&o.id, &o.kind, o.state));
            text += &format!(
                "{name}: on {} paused {} turned {} epoch {} {operation:?}\n",
                h.on, h.paused, h.turned, h.epoch.epoch
            );
        }
        for (name, p) in &self.poolers {
            text += &format!("{name}: {p:?}\n");
        }
        text += &format!("risked {:?} cuts {:?}\n", self.risked, self.cuts);
        text
    }

    /// Whether packets get from one party to the other.
    pub(crate) fn passes(&self, from: &str, to: &str) -> bool {
        !self.cuts.contains(&(from.to_owned(), to.to_owned()))
    }

    /// Whether both can talk to each other.
    pub(crate) fn linked(&self, a: &HostName, b: &HostName) -> bool {
        self.passes(a.as_str(), b.as_str()) && self.passes(b.as_str(), a.as_str())
    }

    /// All links between the two sides are cut.
    pub(crate) fn cut(&mut self, these: &[&str], those: &[&str]) {
        for a in these {
            for b in those {
                self.cuts.insert(((*a).to_owned(), (*b).to_owned()));
                self.cuts.insert(((*b).to_owned(), (*a).to_owned()));
            }
        }
    }
}

impl Node {
    /// A primary, or with an upstream a standby that streams.
    fn new(upstream: Option<HostName>) -> Self {
        let standby = upstream.is_some();
        Node {
            wal: vec![Record { id: 1, timeline: 1 }],
            history: None,
            checkpoint: 1,
            replayed: 1,
            asked: None,
            fence: false,
            revoked: None,
            emptied: false,
            standby_signal: standby,
            upstream,
            slots: BTreeSet::new(),
            sync_names: SyncNames::none(),
            sync: None,
            clean: false,
            empty: false,
            half: false,
            aside: 0,
            owes: false,
            server: if standby { Server::Recovery } else { Server::Primary },
            start: 1,
            frozen: false,
            promoting: None,
            lingers: false,
            fresh: false,
            stalled: false,
            sync_in_force: SyncNames::none(),
            vip: false,
        }
    }

    /// The timeline of the last record on disk.
    pub(crate) fn timeline(&self) -> u32 {
        self.wal.last().map_or(1, |r| r.timeline)
    }

    /// Where valid WAL ends on disk: all that was received is flushed.
    pub(crate) fn flushed(&self) -> Lsn {
        lsn(self.wal.len())
    }

    fn story(&self) -> String {
        let ids: Vec<String> =
            self.wal.iter().rev().take(4).map(|r| format!("{}.{}", r.timeline, r.id)).collect();
        format!(
            "{:?} wal {} ({}) replayed {} fence {} revoked {:?} emptied {} signal {} upstream {:?} \
             slots {:?} asked {:?} start {} promoting {} frozen {} clean {} history {:?} sync {:?} \
             empty {} half {} owes {} vip {}",
            self.server,
            self.wal.len(),
            ids.join(" "),
            self.replayed,
            self.fence,
            self.revoked,
            self.emptied,
            self.standby_signal,
            self.upstream.as_ref().map(HostName::as_str),
            self.slots,
            self.asked,
            self.start,
            self.promoting.is_some(),
            self.frozen,
            self.clean,
            self.history.as_ref().map(|h| h.timeline.0),
            self.sync_in_force,
            self.empty,
            self.half,
            self.owes,
            self.vip,
        )
    }
}

/// The position after so many records.
pub(crate) fn lsn(records: usize) -> Lsn {
    Lsn(u64::try_from(records).expect("small"))
}

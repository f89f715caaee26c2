//! Nodes, WAL, links, a writer with a ledger, and what must always be so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use indexmap::IndexMap;
use pgorch::facts::{EpochFacts, Recorded, SyncRecord, SyncValue};
use pgorch::inventory::{Inventory, ReplicationMode, slot_name};
use pgorch::model::HostName;
use pgorch::operation::{Identity, Known, Step, covered};
use pgorch::postgres::SyncNames;
use pgorch::topology;

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

#[derive(Debug, Clone)]
pub(crate) struct Node {
    // On disk.
    pub(crate) wal: Vec<Record>,
    pub(crate) epoch: EpochFacts,
    pub(crate) turned: u64,
    /// By which epoch, and of which start of the server, a promotion was asked for.
    pub(crate) asked: Option<(u64, u64)>,
    pub(crate) fence: bool,
    pub(crate) standby_signal: bool,
    pub(crate) upstream: Option<HostName>,
    pub(crate) slots: BTreeSet<String>,
    pub(crate) sync_names: SyncNames,
    pub(crate) sync: Option<SyncRecord>,
    /// The control file says `shut down`.
    pub(crate) clean: bool,
    // In memory.
    pub(crate) on: bool,
    pub(crate) server: Server,
    pub(crate) start: u64,
    /// A promotion was asked for and is not over.
    pub(crate) promoting: bool,
}

/// A command that its sender gave up and that is still on its way.
#[derive(Debug, Clone)]
pub(crate) struct Late {
    pub(crate) step: Step,
    pub(crate) identity: Identity,
    pub(crate) known: Known,
}

pub(crate) struct World {
    pub(crate) inventory: Inventory,
    pub(crate) nodes: IndexMap<HostName, Node>,
    /// Directed: packets from the first to the second are dropped.
    pub(crate) cuts: BTreeSet<(String, String)>,
    pub(crate) late: VecDeque<Late>,
    /// Durable changes that the script at work may still make; none is no limit.
    pub(crate) fuel: Option<usize>,
    /// Position and id of every row whose commit was confirmed.
    ledger: Vec<(usize, u64)>,
    last_record: u64,
    pub(crate) operations: u64,
    /// Slots that apply leaves on a former upstream: host and name.
    left_by_apply: BTreeSet<(HostName, String)>,
    log: Vec<String>,
    /// What a failure has to name, to be repeated.
    pub(crate) title: String,
}

impl World {
    pub(crate) fn new(text: &str, title: impl Into<String>) -> Self {
        let inventory = super::INVENTORIES[text].clone();
        let primary = inventory.bootstrap_primary().expect("a node").clone();
        let first = Record { id: 1, timeline: 1 };
        let mut nodes = IndexMap::new();
        for (name, node) in &inventory.nodes {
            let standby = *name != primary;
            let upstream = node.follow.clone().unwrap_or_else(|| primary.clone());
            nodes.insert(
                name.clone(),
                Node {
                    wal: vec![first],
                    epoch: EpochFacts::default(),
                    turned: 0,
                    asked: None,
                    fence: false,
                    standby_signal: standby,
                    upstream: standby.then_some(upstream),
                    slots: BTreeSet::new(),
                    sync_names: SyncNames::none(),
                    sync: None,
                    clean: false,
                    on: true,
                    server: if standby { Server::Recovery } else { Server::Primary },
                    start: 1,
                    promoting: false,
                },
            );
        }
        let follows: Vec<(HostName, HostName)> = nodes
            .iter()
            .filter_map(|(n, node)| Some((n.clone(), node.upstream.clone()?)))
            .collect();
        for (name, upstream) in follows {
            nodes[&upstream].slots.insert(slot_name(&name));
        }
        if inventory.replication.mode == ReplicationMode::Quorum {
            let names = SyncNames::any(1, ["node2", "node3"]);
            nodes[&primary].sync_names = names.clone();
            let values = vec![SyncValue { primary: primary.clone(), names }];
            let voters = nodes.keys().cloned().collect();
            let record = SyncRecord { epoch: 0, number: 1, voters, values };
            nodes.values_mut().for_each(|n| n.sync = Some(record.clone()));
        }
        World {
            inventory,
            nodes,
            cuts: BTreeSet::new(),
            late: VecDeque::new(),
            fuel: None,
            ledger: Vec::new(),
            last_record: 1,
            operations: 0,
            left_by_apply: BTreeSet::new(),
            log: Vec::new(),
            title: title.into(),
        }
    }

    pub(crate) fn names(&self) -> Vec<HostName> {
        self.nodes.keys().cloned().collect()
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
            text += &format!(
                "{name}: {:?}{} wal {} tl {} fence {} signal {} upstream {:?} slots {:?} asked {:?} \
                 start {} promoting {} turned {} epoch {} {:?}\n",
                n.server,
                if n.on { "" } else { " (off)" },
                n.wal.len(),
                n.wal.last().map_or(0, |r| r.timeline),
                n.fence,
                n.standby_signal,
                n.upstream.as_ref().map(HostName::as_str),
                n.slots,
                n.asked,
                n.start,
                n.promoting,
                n.turned,
                n.epoch.epoch,
                n.epoch.operation.as_ref().map(|o| (&o.id, o.state)),
            );
        }
        text
    }

    /// Whether packets get from one party to the other.
    pub(crate) fn passes(&self, from: &str, to: &str) -> bool {
        !self.cuts.contains(&(from.to_owned(), to.to_owned()))
    }

    // ---- WAL

    pub(crate) fn write(&mut self, host: &HostName, timeline: Option<u32>) -> u64 {
        self.last_record += 1;
        let id = self.last_record;
        let node = &mut self.nodes[host];
        let timeline = timeline.or(node.wal.last().map(|r| r.timeline)).unwrap_or(1);
        node.wal.push(Record { id, timeline });
        id
    }

    /// Whom a standby receives from now, if it can.
    pub(crate) fn streams_from(&self, name: &HostName) -> Option<&HostName> {
        let node = &self.nodes[name];
        if !node.on || node.server != Server::Recovery {
            return None;
        }
        let upstream = node.upstream.as_ref()?;
        let up = &self.nodes[upstream];
        let (a, b) = (name.as_str(), upstream.as_str());
        let linked = self.passes(a, b) && self.passes(b, a);
        let alive = up.on && up.server != Server::Down && up.slots.contains(&slot_name(name));
        let at = node.wal.len() - 1;
        // Equal at its end means equal up to there.
        (linked && alive && up.wal.get(at) == node.wal.last()).then_some(upstream)
    }

    /// At most so many records reach a standby.
    pub(crate) fn receive(&mut self, name: &HostName, most: usize) {
        let Some(upstream) = self.streams_from(name).cloned() else { return };
        let have = self.nodes[name].wal.len();
        let new: Vec<Record> =
            self.nodes[&upstream].wal[have..].iter().take(most).copied().collect();
        self.nodes[name].wal.extend(new);
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
            if !self.nodes[&name].on || self.nodes[&name].server != Server::Primary {
                continue;
            }
            let id = self.write(&name, None);
            let at = self.nodes[&name].wal.len() - 1;
            let SyncNames { k, members: names } = self.nodes[&name].sync_names.clone();
            if k == 0 {
                self.ledger.push((at, id));
                continue;
            }
            let has = |world: &World, n: &HostName| {
                names.contains(&slot_name(n))
                    && world.nodes[n].wal.get(at).is_some_and(|r| r.id == id)
            };
            for standby in self.names() {
                if self.streams_from(&standby) == Some(&name) {
                    self.receive(&standby, usize::MAX);
                }
            }
            let have = self.names().iter().filter(|n| has(self, n)).count();
            if u32::try_from(have).expect("small") >= k {
                self.ledger.push((at, id));
            }
        }
    }

    // ---- hosts

    pub(crate) fn power_off(&mut self, name: &HostName) {
        self.tell(format!("{name} goes dark"));
        let node = &mut self.nodes[name];
        node.on = false;
        node.server = Server::Down;
        node.promoting = false;
    }

    pub(crate) fn power_on(&mut self, name: &HostName) {
        if !self.nodes[name].on {
            self.tell(format!("{name} comes back"));
            self.nodes[name].on = true;
            // The unit is enabled; it heeds the marker.
            let _ = self.start_server(name);
        }
    }

    /// `systemctl start`: whether the server runs afterwards.
    pub(crate) fn start_server(&mut self, name: &HostName) -> bool {
        let node = &mut self.nodes[name];
        if node.server != Server::Down {
            return true;
        }
        if node.fence {
            return false;
        }
        node.server = if node.standby_signal { Server::Recovery } else { Server::Primary };
        node.clean = false;
        node.start += 1;
        node.promoting = false;
        true
    }

    /// A promotion that was asked for comes to its end.
    pub(crate) fn finish_promotion(&mut self, name: &HostName) {
        let node = &mut self.nodes[name];
        if !node.on || !node.promoting {
            return;
        }
        node.promoting = false;
        node.standby_signal = false;
        node.server = Server::Primary;
        let timeline = node.wal.last().map_or(1, |r| r.timeline) + 1;
        self.write(name, Some(timeline));
        self.tell(format!("{name} is promoted"));
    }

    pub(crate) fn restart_standbys(&mut self) {
        for name in self.names() {
            if self.nodes[&name].server == Server::Recovery {
                self.nodes[&name].server = Server::Down;
                self.start_server(&name);
            }
        }
    }

    /// Everybody is back, and what is under way arrives.
    pub(crate) fn mend(&mut self) {
        self.tell("everything is mended");
        self.cuts.clear();
        for name in self.names() {
            self.power_on(&name);
            self.finish_promotion(&name);
        }
        while !self.late.is_empty() {
            self.deliver(0);
            self.check();
        }
        for name in self.names() {
            self.finish_promotion(&name);
        }
        self.commit();
        self.flow();
        self.check();
    }

    /// What `pgorch apply` does about standbys: slots where they are missing, and the wanted upstream.
    pub(crate) fn apply(&mut self) {
        for _ in 0..2 {
            self.flow();
            let topology = topology::analyse(&self.inventory, &self.snapshot("healer"));
            for name in self.names() {
                let settings = self.inventory.postgres_of(&name).expect("a node");
                let Some(wanted) = topology.wanted_upstream(&settings).cloned() else { continue };
                if self.nodes[&name].server != Server::Recovery {
                    continue;
                }
                self.nodes[&wanted].slots.insert(slot_name(&name));
                let before = self.nodes[&name].upstream.replace(wanted.clone());
                if let Some(before) = before.filter(|b| *b != wanted) {
                    self.left_by_apply.insert((before, slot_name(&name)));
                }
            }
        }
        self.flow();
    }

    /// What `pgorch rejoin` does about a fenced node whose history is the primary's: a plain start.
    pub(crate) fn rejoin(&mut self) {
        let Some(primary) = self.primaries().next().cloned() else { return };
        for name in self.names() {
            let node = &self.nodes[&name];
            let ancestor = self.nodes[&primary].wal.get(node.wal.len() - 1) == node.wal.last();
            if node.fence && node.clean && node.server == Server::Down && ancestor {
                let node = &mut self.nodes[&name];
                (node.fence, node.standby_signal) = (false, true);
                node.upstream = Some(primary.clone());
                node.slots.clear();
                self.start_server(&name);
            }
        }
    }

    // ---- what must be so

    /// After everything that happens.
    #[track_caller]
    pub(crate) fn check(&self) {
        let primaries: Vec<&HostName> = self.primaries().collect();
        assert!(primaries.len() < 2, "{primaries:?} take writes\n{}", self.story());
        // What comes before the last one is checked when it was the last one.
        if let (Some(name), Some((at, id))) = (primaries.first(), self.ledger.last()) {
            let there = self.nodes[*name].wal.get(*at).is_some_and(|r| r.id == *id);
            assert!(there, "{name} takes writes and lacks a confirmed row\n{}", self.story());
        }
        if let Some(name) = primaries.first()
            && self.inventory.replication.mode == ReplicationMode::Quorum
        {
            self.recorded(name);
        }
    }

    /// In quorum mode: what commits wait for is recorded on every majority, and whenever a failover would
    /// take the standbys that it has asked for enough, the one with the most WAL has what was confirmed.
    #[track_caller]
    fn recorded(&self, primary: &HostName) {
        let names = self.names();
        for majority in subsets(&names).filter(|m| m.len() > names.len() / 2) {
            let of = |n: &&HostName| Some(((*n).clone(), self.nodes[*n].sync.clone()?));
            let records: BTreeMap<HostName, SyncRecord> = majority.iter().filter_map(of).collect();
            let values = Recorded::of(records.values()).values_of(primary);
            let running = &self.nodes[primary].sync_names;
            assert!(values.contains(running), "{running} is not recorded\n{}", self.story());
            for asked in subsets(&names).filter(|a| !a.contains(&primary)) {
                let set = asked.iter().map(|n| (*n).clone()).collect();
                if covered(&self.inventory, &records, &majority, primary, &set).is_err() {
                    continue;
                }
                let newest = asked.iter().max_by_key(|n| {
                    let wal = &self.nodes[**n].wal;
                    (wal.last().map(|r| r.timeline), wal.len())
                });
                let has = |name: &HostName, (at, id): (usize, u64)| {
                    self.nodes[name].wal.get(at).is_some_and(|r| r.id == id)
                };
                let newest = newest.expect("somebody was asked");
                let lost = self.ledger.iter().find(|row| !has(newest, **row));
                assert!(lost.is_none(), "{lost:?} would be lost with {newest}\n{}", self.story());
            }
        }
    }

    pub(crate) fn primaries(&self) -> impl Iterator<Item = &HostName> {
        let writable = |n: &Node| n.on && n.server == Server::Primary;
        self.nodes.iter().filter(move |(_, n)| writable(n)).map(|(name, _)| name)
    }

    /// Who is the primary, whom everybody follows, and which slots there are.
    pub(crate) fn shape(&self) -> BTreeMap<HostName, (bool, Option<HostName>, BTreeSet<String>)> {
        let of = |n: &Node| (n.server == Server::Primary, n.upstream.clone(), n.slots.clone());
        self.nodes.iter().map(|(name, n)| (name.clone(), of(n))).collect()
    }

    /// One primary that has all confirmed rows, everybody streams, and nothing is left over but what
    /// `rest` allows.
    #[track_caller]
    pub(crate) fn whole(&mut self, rest: Rest) {
        self.commit();
        self.flow();
        self.check();
        let story = self.story();
        let primaries: Vec<HostName> = self.primaries().cloned().collect();
        assert_eq!(primaries.len(), 1, "{story}");
        let primary = &primaries[0];
        for (at, id) in &self.ledger {
            assert_eq!(self.nodes[primary].wal[*at].id, *id, "a confirmed row is lost\n{story}");
        }
        for (name, node) in &self.nodes {
            assert!(!node.fence, "{name} is fenced\n{story}");
            assert!(node.epoch.open().is_none(), "{name} has an open operation\n{story}");
            assert_eq!(node.standby_signal, name != primary, "{name}\n{story}");
            assert_eq!(node.wal, self.nodes[primary].wal, "{name} is not in step\n{story}");
            if name != primary {
                assert!(self.streams_from(name).is_some(), "{name} does not stream\n{story}");
            }
            let follows =
                |n: &Node| n.server == Server::Recovery && n.upstream.as_ref() == Some(name);
            let mut wanted: BTreeSet<String> =
                self.nodes.iter().filter(|(_, n)| follows(n)).map(|(n, _)| slot_name(n)).collect();
            let declared =
                self.inventory.nodes.iter().filter(|(_, n)| n.follow.as_ref() == Some(name));
            wanted.extend(declared.map(|(n, _)| slot_name(n)));
            let left = |s: &String| {
                self.left_by_apply.contains(&(name.clone(), s.clone()))
                    || rest == Rest::SlotsOfStandbys && name != primary
            };
            let slots: BTreeSet<String> =
                node.slots.iter().filter(|s| wanted.contains(*s) || !left(s)).cloned().collect();
            assert_eq!(slots, wanted, "slots of {name}\n{story}");
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

//! What is done on nodes, a step at a time, each of which may meet a cut.

use std::collections::BTreeMap;

use pgorch::facts::{EpochFacts, OperationRecord, OperationState, Proof};
use pgorch::model::{HostName, Instant, Lsn};
use pgorch::watch::{Act, ActEnd};

use super::world::{ME, NODES, Server, TICK, World, ms, name, number};

/// The record of an operator's start, which is over.
pub(super) fn started(node: usize, first: u64) -> OperationRecord {
    let hands = Hands { candidate: node, ..Hands::new(Act::Resume) };
    OperationRecord {
        id: format!("start {first}"),
        kind: "start".to_owned(),
        controller: "op@elsewhere".to_owned(),
        state: OperationState::Done,
        lease_ms: Some(first),
        ..hands.record(node, Proof::CleanStop)
    }
}

pub(super) struct Hands {
    pub(super) act: Act,
    stage: usize,
    due: u64,
    epoch: u64,
    id: u64,
    candidate: usize,
    members: Vec<usize>,
    claimed: Vec<usize>,
    frozen: BTreeMap<HostName, (Lsn, Instant)>,
    /// The old primary was up when it was fenced.
    fenced: Option<bool>,
    /// What the voters had stored before.
    before: Vec<EpochFacts>,
    /// What this operation is, where it is resumed.
    resumed: Option<OperationRecord>,
    /// It has made a server writable, itself; an earlier one may have.
    gave: Option<bool>,
    /// It was begun by this watch, not by one that has died.
    ours: bool,
    /// Of a start, by the node's clock: its grant is over then.
    end: u64,
}

/// How a step ended.
enum Step {
    Next,
    Again,
    End(ActEnd),
}

fn refused(why: &str) -> Step {
    Step::End(ActEnd::Refused { code: "x".to_owned(), why: why.to_owned() })
}

fn open(why: &str) -> ActEnd {
    ActEnd::Open { why: why.to_owned() }
}

impl Hands {
    pub(super) fn new(act: Act) -> Self {
        Hands {
            act,
            stage: 0,
            due: 0,
            epoch: 0,
            id: 0,
            candidate: 0,
            members: Vec::new(),
            claimed: Vec::new(),
            frozen: BTreeMap::new(),
            fenced: None,
            before: Vec::new(),
            resumed: None,
            gave: Some(false),
            ours: true,
            end: 0,
        }
    }

    /// What is said of leases when it is over.
    fn lease_ms(&self, world: &World) -> Option<u64> {
        self.gave.map(|gave| if gave { ms(world.timing.first_lease()) } else { 0 })
    }

    /// Nothing is left to do when there is an end.
    pub(super) fn go_on(&mut self, world: &mut World) -> Option<ActEnd> {
        if world.now < self.due {
            return None;
        }
        self.due = world.now + TICK + world.random.below(150);
        let step = match self.act.clone() {
            Act::Failover { primary, reachable, .. } => {
                self.fail_over(world, number(&primary), reachable)
            }
            Act::Restart { primary, .. } => self.restart(world, number(&primary)),
            Act::Rejoin { node, .. } => self.bring_back(world, number(&node)),
            Act::Resume => self.resume(world),
        };
        match step {
            Step::Next => self.stage += 1,
            Step::Again => {}
            Step::End(end) => return Some(end),
        }
        None
    }

    fn record(&self, primary: usize, proof: Proof) -> OperationRecord {
        OperationRecord {
            id: self.id.to_string(),
            kind: "failover".to_owned(),
            controller: ME.to_owned(),
            primary: name(primary),
            candidate: name(self.candidate),
            state: OperationState::Open,
            proof,
            elected: false,
            earlier: Vec::new(),
            possible: Vec::new(),
            over: false,
            lease_ms: None,
            started: String::new(),
        }
    }

    /// Stores the epoch and the intent wherever it can; whether that is enough.
    fn claim(&mut self, world: &mut World, record: &OperationRecord) -> bool {
        self.claimed.clear();
        for n in 0..NODES {
            if !world.talks(n) {
                continue;
            }
            let stored = &world.nodes[n].epoch;
            let own = stored.operation.as_ref().is_some_and(|o| o.id == record.id);
            // What it takes the place of it has seen, when it was resumed.
            let free = stored.open().is_none() || self.resumed.is_some();
            if stored.epoch < self.epoch && free || own {
                if !own {
                    self.before.push(stored.clone());
                }
                let operation = Some(record.clone());
                world.nodes[n].epoch = EpochFacts { epoch: self.epoch, operation };
                self.claimed.push(n);
            }
        }
        let needed = record.in_place() || self.claimed.contains(&self.candidate);
        self.claimed.len() >= 2 && needed
    }

    fn holds(&self, world: &World, n: usize) -> bool {
        world.talks(n) && world.nodes[n].epoch.epoch == self.epoch
    }

    fn fail_over(&mut self, world: &mut World, primary: usize, reachable: bool) -> Step {
        let proof = if reachable { Proof::Fenced } else { Proof::LeaseOver };
        match self.stage {
            0 => {
                let there: Vec<usize> = (0..NODES).filter(|n| world.talks(*n)).collect();
                if world.open(&there).is_some() {
                    return refused("an operation is open");
                }
                let least = world.watch.recorded().and_then(|r| r.timeline).map_or(0, |t| t.0);
                let fit = |n: &usize| {
                    let node = &world.nodes[*n];
                    node.timeline >= least
                        && node.server == Server::Standby
                        && !node.frozen
                        && !node.fenced
                };
                self.members = there.iter().copied().filter(|n| *n != primary && fit(n)).collect();
                let up = &world.nodes[primary];
                if there.contains(&primary) && up.server == Server::Primary && !up.frozen {
                    return refused("it is well");
                }
                if reachable != there.contains(&primary) {
                    return refused("it is not as it was");
                }
                // q of three without the primary: what `verify` demands.
                if self.members.is_empty() || !reachable && self.members.len() < 2 {
                    return refused("no majority can be revoked");
                }
                self.candidate = self.best(world);
                self.epoch =
                    there.iter().map(|n| world.nodes[*n].epoch.epoch).max().unwrap_or(0) + 1;
                self.id = world.now;
                world.begun.insert(self.id.to_string());
                Step::Next
            }
            1 => {
                let record = self.record(primary, proof);
                if self.claim(world, &record) { Step::Next } else { self.undo(world, primary) }
            }
            2 if reachable => {
                if !self.holds(world, primary) {
                    return self.undo(world, primary);
                }
                let node = &mut world.nodes[primary];
                self.fenced = Some(node.server != Server::Down);
                (node.server, node.frozen, node.fenced) = (Server::Down, false, true);
                Step::Next
            }
            2 | 5 => {
                for n in self.members.clone() {
                    if !self.holds(world, n) || world.nodes[n].server != Server::Standby {
                        return self.undo(world, primary);
                    }
                    world.nodes[n].revoked = true;
                }
                Step::Next
            }
            3 => {
                for n in self.members.clone() {
                    if !self.holds(world, n) {
                        return self.undo(world, primary);
                    }
                    let now = Instant(std::time::Duration::from_millis(world.now));
                    self.frozen.insert(name(n), (Lsn(world.nodes[n].lsn), now));
                }
                let best = self.best(world);
                if best != self.candidate {
                    self.candidate = best;
                    let record = self.record(primary, proof);
                    if !self.claim(world, &record) {
                        return self.undo(world, primary);
                    }
                }
                if reachable {
                    self.stage = 5;
                }
                Step::Next
            }
            4 if !self.before.is_empty() => {
                let now = Instant(std::time::Duration::from_millis(world.now));
                let before = std::mem::take(&mut self.before);
                world.watch.heed(before.iter(), now);
                Step::Again
            }
            4 => match world.watch.leases().over_at(&name(primary), &self.frozen) {
                None => self.undo(world, primary),
                Some(at) if u128::from(world.now) < at.0.as_millis() => Step::Again,
                Some(_) => Step::Next,
            },
            6 => self.promote(world, primary),
            _ => self.follow(world),
        }
    }

    fn best(&self, world: &World) -> usize {
        let end = |n: &&usize| (world.nodes[**n].timeline, world.nodes[**n].lsn);
        self.members.iter().max_by_key(end).copied().unwrap_or(self.candidate)
    }

    /// The command may arrive and its answer not: then the operation is open.
    fn promote(&mut self, world: &mut World, primary: usize) -> Step {
        let n = self.candidate;
        if !world.passes(super::world::CONTROLLER, n) {
            return self.undo(world, primary);
        }
        let (clock, first) = (world.clock(n), ms(world.timing.first_lease()));
        let node = &mut world.nodes[n];
        if node.epoch.epoch != self.epoch || node.server != Server::Standby || node.frozen {
            return self.undo(world, primary);
        }
        self.gave = Some(true);
        node.lease = node.lease.max(clock + first);
        (node.server, node.signal, node.revoked) = (Server::Primary, false, false);
        node.timeline += 1;
        node.lsn += 1;
        world.tell(format!("node{} is promoted", n + 1));
        if !world.talks(n) { Step::End(open("no verdict")) } else { Step::Next }
    }

    /// Everybody who can be reached follows, and the operation is over there.
    fn follow(&mut self, world: &mut World) -> Step {
        let mut left = false;
        let lease_ms = self.lease_ms(world);
        for n in 0..NODES {
            let own = world.nodes[n]
                .epoch
                .operation
                .as_ref()
                .is_some_and(|o| o.id == self.id.to_string());
            if !world.talks(n) {
                left |= self.claimed.contains(&n);
                continue;
            }
            let node = &mut world.nodes[n];
            if n != self.candidate && node.server == Server::Standby {
                (node.upstream, node.revoked) = (self.candidate, false);
            }
            if own && let Some(operation) = &mut node.epoch.operation {
                (operation.state, operation.lease_ms) = (OperationState::Done, lease_ms);
            }
        }
        Step::End(if left { open("somebody is left") } else { ActEnd::Done })
    }

    fn undo(&mut self, world: &mut World, primary: usize) -> Step {
        let mut left = false;
        for n in self.claimed.clone() {
            if !world.talks(n) {
                left = true;
                continue;
            }
            if world.nodes[n].epoch.epoch != self.epoch {
                continue;
            }
            world.nodes[n].revoked = false;
            if n == primary && self.fenced.is_some() {
                let (clock, first) = (world.clock(n), ms(world.timing.first_lease()));
                let node = &mut world.nodes[n];
                node.fenced = false;
                if self.fenced == Some(true) && !node.signal {
                    node.server = Server::Primary;
                    node.lease = clock + first;
                    self.gave = Some(true);
                }
            }
        }
        let lease_ms = self.lease_ms(world);
        for n in self.claimed.clone() {
            let there = world.talks(n) && world.nodes[n].epoch.epoch == self.epoch;
            if let Some(operation) = world.nodes[n].epoch.operation.as_mut().filter(|_| there) {
                (operation.state, operation.lease_ms) = (OperationState::Undone, lease_ms);
            }
        }
        Step::End(if left {
            open("not all is taken back")
        } else {
            ActEnd::Refused { code: "undone".to_owned(), why: String::new() }
        })
    }

    /// Its start is a grant: where it arrives the node has a lease, whether or not that is heard.
    fn restart(&mut self, world: &mut World, n: usize) -> Step {
        if !world.talks(n) {
            return refused("no answer");
        }
        // As any start of a primary it is claimed, and so is how long its grant may last.
        let lasting = 6_000;
        let mut record = OperationRecord {
            kind: "start".to_owned(),
            controller: "the watch's host".to_owned(),
            lease_ms: Some(lasting),
            ..self.record(n, Proof::CleanStop)
        };
        if self.stage == 0 {
            let there: Vec<usize> = (0..NODES).filter(|n| world.talks(*n)).collect();
            if world.open(&there).is_some() {
                return refused("an operation is open");
            }
            self.candidate = n;
            self.end = world.clock(n) + lasting;
            self.epoch = there.iter().map(|n| world.nodes[*n].epoch.epoch).max().unwrap_or(0) + 1;
            self.id = world.now;
            (record.id, record.candidate) = (self.id.to_string(), name(n));
            if !self.claim(world, &record) || !self.claimed.contains(&n) {
                self.close(world, OperationState::Undone, 0);
                return refused("it cannot be claimed");
            }
            self.due = world.now + world.random.below(3_000);
            return Step::Next;
        }
        let clock = world.clock(n);
        let first = ms(world.timing.first_lease());
        let may = self.holds(world, n) && clock < self.end;
        let node = &mut world.nodes[n];
        if node.server != Server::Down || node.fenced || node.signal || !may {
            self.close(world, OperationState::Done, lasting);
            return refused("it is not as it was");
        }
        (node.server, node.lease) = (Server::Primary, self.end);
        world.tell(format!("node{} is started again", n + 1));
        if world.random.below(10) == 0 {
            return Step::End(open("no verdict"));
        }
        self.close(world, OperationState::Done, first);
        Step::End(ActEnd::Done)
    }

    /// It is over where that can be said.
    fn close(&self, world: &mut World, state: OperationState, lease_ms: u64) {
        for n in self.claimed.iter().filter(|n| self.holds(world, **n)).collect::<Vec<_>>() {
            if let Some(operation) = &mut world.nodes[*n].epoch.operation {
                (operation.state, operation.lease_ms) = (state, Some(lease_ms));
            }
        }
    }

    fn bring_back(&mut self, world: &mut World, n: usize) -> Step {
        let there: Vec<usize> = (0..NODES).filter(|n| world.talks(*n)).collect();
        let Some(primary) = world.primary().filter(|p| there.contains(p)) else {
            return refused("no primary");
        };
        if !there.contains(&n) || n == primary || world.open(&there).is_some() {
            return refused("not now");
        }
        if self.stage == 0 {
            self.due = world.now + 1_000;
            return Step::Next;
        }
        let (timeline, lsn) = (world.nodes[primary].timeline, world.nodes[primary].lsn);
        let node = &mut world.nodes[n];
        (node.server, node.signal, node.fenced, node.revoked) =
            (Server::Standby, true, false, false);
        (node.upstream, node.timeline, node.lsn, node.frozen) = (primary, timeline, lsn, false);
        Step::End(ActEnd::Done)
    }

    /// A higher epoch first, on the candidate above all; then what is seen decides.
    fn resume(&mut self, world: &mut World) -> Step {
        let there: Vec<usize> = (0..NODES).filter(|n| world.talks(*n)).collect();
        match self.stage {
            0 => {
                let Some(record) = world.open(&there) else { return Step::End(ActEnd::Done) };
                let now = Instant(std::time::Duration::from_millis(world.now));
                let abandoned = world.watch.abandoned(now) == Some(record.id.as_str());
                if record.controller != ME && !abandoned {
                    return refused("it is somebody else's");
                }
                self.candidate = number(&record.candidate);
                self.epoch =
                    there.iter().map(|n| world.nodes[*n].epoch.epoch).max().unwrap_or(0) + 1;
                self.id = world.now;
                let primary = number(&record.primary);
                let mut own = self.record(primary, record.proof);
                own.id = self.id.to_string();
                own.kind.clone_from(&record.kind);
                self.members = vec![primary];
                // What the one before has made writable is not known here.
                self.gave = None;
                self.resumed = Some(own.clone());
                self.ours = world.begun.contains(&record.id);
                if self.ours {
                    world.begun.insert(own.id.clone());
                }
                if record.proof == Proof::Fenced {
                    self.fenced = Some(true);
                }
                let over = there.iter().any(|n| {
                    let o = world.nodes[*n].epoch.operation.as_ref();
                    o.is_some_and(|o| o.id == record.id && o.state != OperationState::Open)
                });
                let later = there.iter().filter(|n| {
                    world.nodes[**n].epoch.operation.as_ref().is_none_or(|o| o.id != record.id)
                        && world.nodes[**n].epoch.epoch + 1 == self.epoch
                });
                let over = over || later.count() >= 2;
                if !self.claim(world, &own) && !over {
                    return Step::End(open("no majority, or not the candidate"));
                }
                Step::Next
            }
            _ if self.resumed.as_ref().is_some_and(OperationRecord::in_place) => {
                let lease = Some(ms(world.timing.lease));
                for n in self.claimed.clone() {
                    let there = self.holds(world, n);
                    let operation = world.nodes[n].epoch.operation.as_mut();
                    if let Some(operation) = operation.filter(|_| there) {
                        (operation.state, operation.lease_ms) = (OperationState::Done, lease);
                    }
                }
                Step::End(ActEnd::Done)
            }
            _ => {
                let primary = self.members[0];
                match world.primary().filter(|p| there.contains(p)) {
                    Some(p) if p != primary => {
                        self.candidate = p;
                        self.follow(world)
                    }
                    Some(_) => {
                        self.fenced = None;
                        self.sweep(world, primary)
                    }
                    None if !there.contains(&self.candidate) => {
                        Step::End(open("it may be promoted"))
                    }
                    // What a watch that has died may have sent there cannot be told.
                    None if self.fenced.is_some() && !there.contains(&primary) && !self.ours => {
                        Step::End(open("the old primary cannot be started"))
                    }
                    None => self.sweep(world, primary),
                }
            }
        }
    }

    /// What was done is taken back, and it was not promoted.
    fn sweep(&mut self, world: &mut World, primary: usize) -> Step {
        let fenced = world.nodes[primary].fenced && !world.nodes[primary].signal;
        self.fenced = self.fenced.filter(|_| fenced);
        match self.undo(world, primary) {
            Step::End(ActEnd::Refused { .. }) => Step::End(ActEnd::Done),
            other => other,
        }
    }
}

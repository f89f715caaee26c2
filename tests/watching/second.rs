//! Somebody else's controller, which restarts the primary in its place (`pgorch restart`): it claims, stops,
//! grants, starts, and says that it is over. It reaches every host that is on, may stand still or die between
//! any two steps, and does not know of the watch.

use pgorch::facts::{EpochFacts, OperationRecord, OperationState, Proof};

use super::world::{NODES, Server, World, ms, name};

/// Milliseconds that a restart may take, by the node's clock from before it was claimed.
const LASTING: u64 = 15_000;

pub(super) struct Second {
    node: usize,
    stage: usize,
    due: u64,
    epoch: u64,
    /// By the node's clock: the grant is over then.
    end: u64,
    booted: u64,
    claimed: Vec<usize>,
}

impl Second {
    /// Begins with the primary that it sees; none where it sees another operation.
    pub(super) fn new(world: &mut World) -> Option<Self> {
        let node = world.primary()?;
        let on = (0..NODES).filter(|n| world.nodes[*n].on);
        let epoch = on.clone().map(|n| world.nodes[n].epoch.epoch).max().unwrap_or(0) + 1;
        if on.clone().any(|n| world.nodes[n].epoch.open().is_some()) {
            return None;
        }
        // The reading comes before anybody can have heard of it.
        let end = world.clock(node) + LASTING;
        let booted = world.nodes[node].booted;
        let due = world.now + world.random.below(500);
        Some(Second { node, stage: 0, due, epoch, end, booted, claimed: Vec::new() })
    }

    fn record(&self, state: OperationState, lease_ms: u64) -> OperationRecord {
        OperationRecord {
            possible: Vec::new(),
            id: format!("restart {}", self.end),
            kind: "restart".to_owned(),
            controller: "op@elsewhere".to_owned(),
            primary: name(self.node),
            candidate: name(self.node),
            state,
            proof: Proof::CleanStop,
            elected: false,
            earlier: Vec::new(),
            over: false,
            lease_ms: Some(lease_ms),
            started: String::new(),
        }
    }

    /// Whether its steps are still let through on the node: the test and the step are one.
    fn may(&self, world: &World) -> bool {
        let node = &world.nodes[self.node];
        let own =
            node.epoch.open().is_some_and(|o| o.id == self.record(OperationState::Open, 0).id);
        node.on && node.epoch.epoch == self.epoch && own
    }

    /// False: it is over, or it has died.
    pub(super) fn go_on(&mut self, world: &mut World) -> bool {
        if world.now < self.due {
            return true;
        }
        self.due = world.now + 50 + world.random.below(1_500);
        if world.random.chance(8) {
            // It stands still, longer than its grant may last.
            self.due += world.random.below(2 * LASTING);
        }
        if world.random.chance(4) {
            world.tell(format!("the restart of node{} is left alone", self.node + 1));
            return false;
        }
        let n = self.node;
        match self.stage {
            0 => {
                self.claim(world);
                if self.claimed.len() < 2 || !self.claimed.contains(&n) {
                    self.release(world, OperationState::Undone, 0);
                    return false;
                }
            }
            1 if self.may(world) => {
                world.nodes[n].server = Server::Down;
                world.tell(format!("node{} is stopped for a restart", n + 1));
            }
            2 if self.may(world) => {
                let clock = world.clock(n);
                let node = &mut world.nodes[n];
                let good = clock < self.end && node.booted == self.booted && !node.fenced;
                if !good || node.server != Server::Down || node.signal {
                    self.release(world, OperationState::Done, LASTING);
                    return false;
                }
                (node.server, node.lease, node.frozen) = (Server::Primary, self.end, false);
                world.tell(format!("node{} is started again", n + 1));
            }
            3 => {
                let first = ms(world.timing.first_lease());
                if !world.nodes[n].on || world.nodes[n].booted != self.booted {
                    return false;
                }
                let clock = world.clock(n);
                let node = &mut world.nodes[n];
                node.lease = node.lease.min(clock + first);
            }
            4 => {
                let first = ms(world.timing.first_lease());
                self.release(world, OperationState::Done, first);
                return false;
            }
            _ => return false,
        }
        self.stage += 1;
        true
    }

    fn claim(&mut self, world: &mut World) {
        for n in 0..NODES {
            let stored = &world.nodes[n].epoch;
            if world.nodes[n].on && stored.epoch < self.epoch && stored.open().is_none() {
                let operation = Some(self.record(OperationState::Open, LASTING));
                world.nodes[n].epoch = EpochFacts { epoch: self.epoch, operation };
                self.claimed.push(n);
            }
        }
        world.tell(format!("a restart of node{} is claimed on {:?}", self.node + 1, self.claimed));
    }

    fn release(&self, world: &mut World, state: OperationState, lease_ms: u64) {
        let id = self.record(OperationState::Open, 0).id;
        for n in &self.claimed {
            let own = world.nodes[*n].epoch.operation.as_ref().is_some_and(|o| o.id == id);
            if world.nodes[*n].on && own {
                world.nodes[*n].epoch.operation = Some(self.record(state, lease_ms));
            }
        }
        world.tell(format!("the restart is over: {state:?}"));
    }
}

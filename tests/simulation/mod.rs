//! Operations in a world of values: the production planner, driver and decisions against nodes, links
//! and controllers that fail at every point, thousands of times in seconds.
//!
//! [`world`] is what there is, [`wal`] how WAL and commits move, [`hosts`] what happens to machines and
//! servers; [`act`], [`replace`] and [`pooler`] are what each step does, in the order of
//! `src/operation/scripts`, [`sync`] those of quorum replication, and where it may stop half-way; [`seen`] is what a look shows;
//! [`controller`] is `pgorch switchover`, `failover` and `resume`, one step at a time; [`command`], [`run`] and
//! [`tasks`] are the commands on single nodes, [`deeds`] and [`answers`] what their tasks do and ask. After everything
//! that happens [`World::check`](world::World::check) holds ([`always`]); at the end [`healed`] requires
//! a whole cluster ([`heal`]).
//!
//! `PGORCH_SEED` repeats one random schedule, `PGORCH_SCHEDULES` says how many there are.
//! `PGORCH_SIMULATION=full` tries every combination; without it the larger tables are thinned, the same
//! way each time.

mod act;
mod always;
mod answers;
mod cases;
mod checks;
mod chosen;
mod command;
mod commands;
mod controller;
mod deeds;
mod elections;
mod failover;
mod heal;
mod hosts;
mod left_behind;
mod pooled;
mod pooler;
mod quorum;
mod random;
mod replace;
mod rules;
mod run;
mod seen;
mod single;
mod sync;
mod tasks;
mod unsettled;
mod wal;
mod world;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use pgorch::inventory::Inventory;
use pgorch::operation::{Accepted, End};
use pgorch::playbook::Playbook;
use pgorch::syntax::Source;

pub(crate) use controller::{Controller, Ended, Fate};
pub(crate) use world::{Rest, World};

/// Three nodes; commits are confirmed at once.
const ASYNC: &str = "
cluster: sim
postgres: { version: 15 }
nodes:
  node1: { host: 198.18.0.1, primary: true }
  node2: { host: 198.18.0.2 }
  node3: { host: 198.18.0.3 }
";

/// Three nodes; a commit is confirmed when one standby has it.
const QUORUM: &str = "
cluster: sim
postgres: { version: 15 }
replication: { mode: quorum }
nodes:
  node1: { host: 198.18.0.1, primary: true }
  node2: { host: 198.18.0.2 }
  node3: { host: 198.18.0.3 }
";

/// Four, one of them behind another standby, and a virtual address.
const CASCADE: &str = "
cluster: sim
postgres: { version: 15 }
routing: { vip: { address: 198.18.0.100/24, interface: eth0 } }
nodes:
  node1: { host: 198.18.0.1, primary: true }
  node2: { host: 198.18.0.2 }
  node3: { host: 198.18.0.3 }
  node4: { host: 198.18.0.4, follow: node3 }
";

/// Two, and a host whose vote makes a majority where one of them is gone.
const WITNESS: &str = "
cluster: sim
postgres: { version: 15 }
nodes:
  node1: { host: 198.18.0.1, primary: true }
  node2: { host: 198.18.0.2 }
witnesses:
  w1: { host: 198.18.0.8 }
";

/// Three, and two hosts whose votes count.
const FAR: &str = "
cluster: sim
postgres: { version: 15 }
nodes:
  node1: { host: 198.18.0.1, primary: true }
  node2: { host: 198.18.0.2 }
  node3: { host: 198.18.0.3 }
witnesses:
  w1: { host: 198.18.0.8 }
  w2: { host: 198.18.0.9 }
";

/// Three, with clients behind a pooler, and others that come by a virtual address.
const POOLED: &str = "
cluster: sim
postgres: { version: 15 }
routing:
  vip: { address: 198.18.0.100/24, interface: eth0 }
  poolers: { lb1: { kind: pgbouncer } }
nodes:
  node1: { host: 198.18.0.1, primary: true }
  node2: { host: 198.18.0.2 }
  node3: { host: 198.18.0.3 }
hosts:
  lb1: { host: 198.18.0.9 }
";

/// Three, a command that switches hosts off, and nothing that may be lost knowingly.
const STONITH: &str = "
cluster: sim
postgres: { version: 15 }
failover:
  maximum_lag_on_failover: 0
  stonith: { command: 'off' }
routing: { vip: { address: 198.18.0.100/24, interface: eth0 } }
nodes:
  node1: { host: 198.18.0.1, primary: true }
  node2: { host: 198.18.0.2 }
  node3: { host: 198.18.0.3 }
";

/// What switchovers are tried on.
const ALL: [&str; 4] = [ASYNC, QUORUM, CASCADE, WITNESS];
const EVERY: [&str; 7] = [ASYNC, QUORUM, CASCADE, WITNESS, FAR, POOLED, STONITH];

/// Read once: the simulation makes tens of thousands of worlds.
static INVENTORIES: LazyLock<BTreeMap<&str, Inventory>> =
    LazyLock::new(|| EVERY.into_iter().map(|text| (text, inventory(text))).collect());
static SWITCHOVER: LazyLock<Arc<Playbook>> = LazyLock::new(|| shipped("switchover"));
static FAILOVER: LazyLock<Arc<Playbook>> = LazyLock::new(|| shipped("failover"));

fn shipped(kind: &str) -> Arc<Playbook> {
    let path = format!("playbooks/{kind}.yml");
    Arc::new(playbook(pgorch::playbook::shipped(&path).expect("shipped")))
}

fn inventory(text: &str) -> Inventory {
    let source = Source::new("inventory.yml", text);
    let (inventory, _) = pgorch::inventory::parse(&source).unwrap_or_else(|e| panic!("{e:?}"));
    inventory
}

fn playbook(text: &str) -> Playbook {
    let source: Arc<Source> = Source::new("switchover.yml", text);
    pgorch::playbook::parse(&source, &|name, _| Err(format!("no {name}")))
        .unwrap_or_else(|e| panic!("{}", pgorch::syntax::render(&e)))
}

/// Whether this combination is tried: all are in a full run, else one of so many.
fn picked(of: u64, title: &str) -> bool {
    static FULL: LazyLock<bool> =
        LazyLock::new(|| std::env::var("PGORCH_SIMULATION").is_ok_and(|wanted| wanted == "full"));
    // FNV-1a (public domain).
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = title.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    *FULL || (hash >> 20).is_multiple_of(of)
}

/// All hosts and links are back: what is late arrives, `resume` is called until it has nothing to do,
/// then `apply`; after that nothing is left of whatever happened.
#[track_caller]
fn healed(world: &mut World) {
    settled(world);
    world.apply();
    world.whole(Rest::Nothing);
}

/// The same after any number of operations, or a failover, with `rejoin` for nodes that were fenced or
/// left behind.
#[track_caller]
fn healed_and_rejoined(world: &mut World) {
    rejoined(world);
    world.whole(Rest::SlotsOfStandbys);
}

#[track_caller]
fn rejoined(world: &mut World) {
    settled(world);
    if world.primaries().count() == 0 && !world.start_all() {
        // Nobody may be started: another one takes over.
        let accepted = Accepted { data_loss: true, ..Accepted::default() };
        let mut failover = Controller::failover("healer", "", accepted);
        failover.run(world);
    }
    world.rejoin();
    world.apply();
}

#[track_caller]
fn settled(world: &mut World) {
    world.mend();
    for _ in 0..8 {
        world.stop_the_stale();
        let mut resume = Controller::resume("healer");
        resume.run(world);
        match &resume.ended {
            Some(Ended::Nothing) => return,
            Some(Ended::Operation(finished)) if finished.end == End::Unknown => {
                // A promotion was asked for and never begun; the step's message says what ends that.
                world.restart_standbys();
            }
            // What does not answer is brought back, as the hint says.
            _ => world.start_what_is_down(),
        }
    }
    panic!("resume does not come to an end\n{}", world.story());
}

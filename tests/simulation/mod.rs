//! Operations in a world of values: the production planner, driver and decisions against nodes, links
//! and controllers that fail at every point, thousands of times in seconds.
//!
//! [`world`] is nodes, WAL, links and a writer; [`act`] is what each step does to a node, in the order
//! of `src/operation/scripts`, and where it may stop half-way; [`controller`] is `pgorch switchover`
//! and `pgorch resume`, one step at a time; [`seen`] is what a look shows. After everything that
//! happens [`World::check`] holds; at the end [`healed`] requires a whole cluster.
//!
//! `PGORCH_SEED` repeats one random schedule, `PGORCH_SCHEDULES` says how many there are.

mod act;
mod cases;
mod checks;

mod controller;
mod random;
mod rules;

mod seen;
mod world;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use pgorch::inventory::Inventory;
use pgorch::operation::End;
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

/// Four, one of them behind another standby.
const CASCADE: &str = "
cluster: sim
postgres: { version: 15 }
nodes:
  node1: { host: 198.18.0.1, primary: true }
  node2: { host: 198.18.0.2 }
  node3: { host: 198.18.0.3 }
  node4: { host: 198.18.0.4, follow: node3 }
";

const ALL: [&str; 3] = [ASYNC, QUORUM, CASCADE];

/// Read once: the simulation makes tens of thousands of worlds.
static INVENTORIES: LazyLock<BTreeMap<&str, Inventory>> =
    LazyLock::new(|| ALL.into_iter().map(|text| (text, inventory(text))).collect());
static SHIPPED: LazyLock<Arc<Playbook>> = LazyLock::new(|| {
    let text = pgorch::playbook::shipped("playbooks/switchover.yml").expect("shipped");
    Arc::new(playbook(text))
});

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

/// All hosts and links are back: what is late arrives, `resume` is called until it has nothing to do,
/// then `apply`; after that nothing is left of whatever happened.
#[track_caller]
fn healed(world: &mut World) {
    settled(world);
    world.apply();
    world.whole(Rest::Nothing);
}

/// The same after any number of operations, with `rejoin` for nodes that an earlier one than the last
/// has fenced.
#[track_caller]
fn healed_and_rejoined(world: &mut World) {
    settled(world);
    world.rejoin();
    world.apply();
    world.whole(Rest::SlotsOfStandbys);
}

#[track_caller]
fn settled(world: &mut World) {
    world.mend();
    for _ in 0..8 {
        let mut resume = Controller::resume("healer");
        resume.run(world);
        match &resume.ended {
            Some(Ended::Nothing) => return,
            Some(Ended::Operation(finished)) if finished.end == End::Unknown => {
                // A promotion was asked for and never begun; the step's message says what ends that.
                world.restart_standbys();
            }
            _ => {}
        }
    }
    panic!("resume does not come to an end\n{}", world.story());
}

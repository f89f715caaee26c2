//! Who takes over where nobody is named, and which open operation a failover takes the place of.

use pgorch::facts::{
    ClusterDir, DataDir, InstanceFacts, Observation, OperationRecord, OperationState, Proof,
    Snapshot,
};
use pgorch::inventory::Inventory;
use pgorch::model::{HostName, Timeline};
use pgorch::operation::{Accepted, assess, successor};
use pgorch::topology::analyse;

use super::{ASYNC, World};

fn host(name: &str) -> HostName {
    name.into()
}

fn instance<'s>(snapshot: &'s mut Snapshot, name: &str) -> &'s mut InstanceFacts {
    match snapshot.nodes.get_mut(&host(name)) {
        Some(Observation::Seen(facts) | Observation::HostOnly(facts)) => {
            facts.instance.as_mut().expect("an instance")
        }
        _ => panic!("{name} is not seen"),
    }
}

#[test]
fn the_best_standby_takes_over() {
    let world = World::new(ASYNC, "");
    let mut inventory = world.inventory.clone();
    let chosen = |inventory: &Inventory, snapshot: &Snapshot, preferred: &[HostName]| {
        let topology = analyse(inventory, snapshot);
        successor(inventory, snapshot, &topology, preferred)
    };
    let mut snapshot = world.snapshot("c0");
    assert_eq!(chosen(&inventory, &snapshot, &[]), Some(host("node2")));
    assert_eq!(chosen(&inventory, &snapshot, &[host("node3")]), Some(host("node3")));
    instance(&mut snapshot, "node2").binary_replaced = true;
    assert_eq!(chosen(&inventory, &snapshot, &[]), Some(host("node3")));
    instance(&mut snapshot, "node3").server.as_mut().expect("a server").receiver = None;
    assert_eq!(chosen(&inventory, &snapshot, &[host("node3")]), Some(host("node2")));
    inventory.nodes[&host("node2")].priority = 0;
    assert_eq!(chosen(&inventory, &snapshot, &[]), None);
}

/// node2 has taken over from node1 and is gone by now; the operation is open for a pooler's sake.
fn after_a_switchover(primary_follows: bool) -> (World, Snapshot) {
    let world = World::new(ASYNC, "");
    let mut snapshot = world.snapshot("c0");
    let address = world.inventory.nodes[&host("node2")].host.address.clone().expect("an address");
    for name in ["node1", "node3"] {
        let one = instance(&mut snapshot, name);
        one.epoch.epoch = 4;
        one.epoch.operation = Some(OperationRecord {
            id: "a".to_owned(),
            kind: "switchover".to_owned(),
            controller: "c".to_owned(),
            proof: Proof::CleanStop,
            elected: false,
            over: false,
            lease_ms: None,
            primary: host("node1"),
            candidate: host("node2"),
            earlier: vec![host("node3")],
            possible: Vec::new(),
            state: OperationState::Open,
            started: String::new(),
        });
        let server = one.server.as_mut().expect("a server");
        server.in_recovery = true;
        let settings = &mut server.settings;
        let upstream = if name == "node1" && !primary_follows { "198.18.0.9" } else { &address };
        let conninfo = pgorch::facts::Setting {
            raw: format!("host={upstream} port=5432 user=replicator"),
            ..pgorch::facts::Setting::default()
        };
        settings.insert("primary_conninfo".to_owned(), conninfo);
        server.receiver = None;
        if let DataDir::Cluster(ClusterDir { standby_signal, wal_timeline, .. }) = &mut one.data_dir
        {
            *standby_signal = true;
            *wal_timeline = Some(Timeline(1));
        }
    }
    let cause = "timed out".to_owned();
    snapshot.nodes.insert(host("node2"), Observation::Unknown { cause });
    (world, snapshot)
}

#[test]
fn a_failover_takes_the_place_of_an_operation_that_made_its_primary() {
    let risk = Accepted { split_brain_risk: true, ..Accepted::default() };
    let assessed_with = |(world, snapshot): &(World, Snapshot), accepted| {
        let topology = analyse(world.inventory, snapshot);
        assess(world.inventory, snapshot, &topology, None, accepted)
    };
    let assessed = |seen: &(World, Snapshot)| assessed_with(seen, risk);
    let (found, checks) = assessed(&after_a_switchover(true)).expect("it goes on");
    assert_eq!(found.primary, host("node2"));
    assert_eq!(found.superseded.ids, ["a"]);
    assert_eq!(found.superseded.earlier, [host("node1"), host("node3")]);
    assert!(checks.iter().any(|c| c.code == "failover_operation_open"), "{checks:?}");

    // Nothing proves that node2 was promoted: whether it was an operator has to answer for. node1 is a
    // standby by now, whoever made it one.
    let doubtful = after_a_switchover(false);
    let refused = assessed_with(&doubtful, Accepted::default()).expect_err("no proof");
    assert!(refused.iter().any(|c| c.code == "failover_operation_open"), "{refused:?}");
    let (found, _) = assessed(&doubtful).expect("the risk is accepted");
    assert_eq!((found.primary, found.possible), (host("node2"), Vec::new()));
    assert_eq!(found.superseded.earlier, [host("node1"), host("node3")]);
    // node3 follows it on a timeline that node1 has never been on.
    let mut later = after_a_switchover(false);
    let one = instance(&mut later.1, "node3");
    one.server.as_mut().expect("a server").timeline = Some(Timeline(2));
    assert_eq!(assessed(&later).expect("proof").0.superseded.ids, ["a"]);
    // Another operation is open too.
    let mut other = after_a_switchover(true);
    let one = instance(&mut other.1, "node3");
    one.epoch.operation.as_mut().expect("one").candidate = host("node3");
    assert!(assessed(&other).is_err());
}

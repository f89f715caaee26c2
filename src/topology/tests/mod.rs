//! The topology of made-up clusters.

mod bootstrapping;
mod finding;
#[path = "../../../tests/nodes.rs"]
mod nodes;
mod rendering;
mod starting;

use indexmap::IndexMap;

use super::{ClockOffsets, Status, Topology, analyse};
use crate::facts::{DataDir, Observation, Receiver, Sender, Slot, Snapshot};
use crate::inventory::{
    FailoverSettings, Host, Inventory, Node, PostgresSettings, ReplicationMode,
    ReplicationSettings, Routing, SshSettings,
};
use crate::model::{HostName, Lsn, Map};
use nodes::Spoilt;

const LSN: Lsn = Lsn(0x1_0304_8F28);

/// Something that happens to a cluster.
type Spoil = fn(&mut World);

/// Three nodes, all well: node2 and node3 stream from node1.
struct World {
    inventory: Inventory,
    snapshot: Snapshot,
    clocks: ClockOffsets,
}

impl World {
    fn new() -> Self {
        let names = ["node1", "node2", "node3"];
        let nodes = names.iter().enumerate().map(|(at, name)| (HostName::from(*name), node(at)));
        let mut snapshot = Snapshot::default();
        for (at, name) in names.into_iter().enumerate() {
            let seen = Observation::Seen(Box::new(nodes::running(
                &format!("host{}", at + 1),
                at > 0,
                LSN,
            )));
            snapshot.nodes.insert(HostName::from(name), seen);
        }
        let mut world =
            World { inventory: inventory(nodes.collect()), snapshot, clocks: ClockOffsets::new() };
        for standby in ["node2", "node3"] {
            world.connect(standby, "node1");
        }
        world
    }

    /// Makes `standby` stream from `upstream`, with a slot.
    fn connect(&mut self, standby: &str, upstream: &str) {
        let address = self.inventory.nodes[&HostName::from(upstream)].host.address.clone();
        self.server(standby).receiver = Some(Receiver {
            status: "streaming".to_owned(),
            sender_host: address.expect("an address"),
            sender_port: 5432,
            slot: Some(standby.to_owned()),
            silent_seconds: 0.2,
        });
        for other in ["node1", "node2", "node3"].map(HostName::from) {
            if let Some(Observation::Seen(facts)) = self.snapshot.nodes.get_mut(&other) {
                let server = facts.instance.as_mut().and_then(|i| i.server.as_mut());
                let server = server.expect("a server");
                server.senders.retain(|s| s.application_name != standby);
                server.slots.retain(|s| s.name != standby);
            }
        }
        let server = self.server(upstream);
        server.senders.push(sender(standby));
        server.slots.push(slot(standby));
    }

    fn stop(&mut self, name: &str) {
        nodes::stop(self.instance(name), "failed");
        if let Some(seen) = self.snapshot.nodes.get_mut(&HostName::from(name))
            && let Observation::Seen(facts) = &*seen
        {
            *seen = Observation::HostOnly(facts.clone());
        }
    }

    fn remove_data(&mut self, name: &str) {
        self.stop(name);
        self.instance(name).data_dir = DataDir::Missing;
    }

    /// What node2 has stored of whom commits on node1 may be waiting for.
    fn recorded(&mut self, values: &[&str]) {
        let value = |text: &&str| crate::facts::SyncValue {
            primary: HostName::from("node1"),
            names: crate::postgres::SyncNames::parse(text).expect("a value"),
        };
        let record = crate::facts::SyncRecord {
            epoch: 1,
            number: 1,
            voters: self.inventory.nodes.keys().cloned().collect(),
            values: values.iter().map(value).collect(),
        };
        self.instance("node2").sync = Some(record);
    }

    fn topology(&self) -> Topology {
        analyse(&self.inventory, &self.snapshot)
    }

    fn status(&self) -> Status {
        Status::new(&self.inventory, &self.snapshot, &self.clocks)
    }
}

impl Spoilt for World {
    fn snapshot(&mut self) -> &mut Snapshot {
        &mut self.snapshot
    }
}

fn inventory(nodes: IndexMap<HostName, Node>) -> Inventory {
    Inventory {
        cluster: "accounts".to_owned(),
        ssh: SshSettings::default(),
        postgres: PostgresSettings { version: Some(15), ..PostgresSettings::default() },
        replication: ReplicationSettings {
            mode: ReplicationMode::Async,
            slots: true,
            sync_standbys: 1,
            strict: true,
        },
        failover: FailoverSettings::default(),
        witnesses: IndexMap::new(),
        routing: Routing::default(),
        notifications: Vec::new(),
        nodes,
        hosts: IndexMap::new(),
        vars: Map::new(),
        group_vars: IndexMap::new(),
        lab: None,
        secrets: Vec::new(),
    }
}

fn node(at: usize) -> Node {
    Node {
        host: Host { address: Some(format!("198.18.0.1{}", at + 1)), ..Host::default() },
        primary: at == 0,
        priority: 100,
        location: None,
        follow: None,
        postgres: PostgresSettings::default(),
    }
}

fn sender(name: &str) -> Sender {
    Sender {
        application_name: name.to_owned(),
        client_addr: Some("198.18.0.99".to_owned()),
        state: "streaming".to_owned(),
        sync_state: "async".to_owned(),
        slot: Some(name.to_owned()),
        sent: Some(LSN),
        flush: Some(LSN),
        replay: Some(LSN),
    }
}

fn slot(name: &str) -> Slot {
    Slot {
        name: name.to_owned(),
        physical: true,
        active: true,
        restart_lsn: Some(LSN),
        wal_status: Some("reserved".to_owned()),
        retained_bytes: Some(0),
    }
}

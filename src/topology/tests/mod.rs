//! The topology of made-up clusters.

mod bootstrapping;
mod finding;
mod rendering;
mod starting;

use indexmap::IndexMap;

use super::{ClockOffsets, Status, Topology, analyse};
use crate::facts::{
    ClusterDir, ControlData, DataDir, HostFacts, InstanceFacts, NodeFacts, Observation, Receiver,
    Sender, ServerFacts, Setting, Slot, Snapshot, UnitFacts,
};
use crate::inventory::{
    FailoverSettings, Host, Inventory, Node, PostgresSettings, ReplicationMode,
    ReplicationSettings, Routing, SshSettings,
};
use crate::model::{HostName, Lsn, Map, SystemIdentifier, Timeline};

const SYSTEM: SystemIdentifier = SystemIdentifier(7_710_499_155_369_246_763);
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
            let seen = Observation::Seen(Box::new(facts(at, at > 0)));
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

    fn instance(&mut self, name: &str) -> &mut InstanceFacts {
        match self.snapshot.nodes.get_mut(&HostName::from(name)) {
            Some(Observation::Seen(facts) | Observation::HostOnly(facts)) => {
                facts.instance.as_mut().expect("an instance")
            }
            _ => panic!("{name} is not seen"),
        }
    }

    fn server(&mut self, name: &str) -> &mut ServerFacts {
        self.instance(name).server.as_mut().expect("a server")
    }

    fn dir(&mut self, name: &str) -> &mut ClusterDir {
        match &mut self.instance(name).data_dir {
            DataDir::Cluster(dir) => dir,
            other => panic!("{name}: {other:?}"),
        }
    }

    fn unreachable(&mut self, name: &str) {
        let cause = "connection timed out".to_owned();
        self.snapshot.nodes.insert(HostName::from(name), Observation::Unknown { cause });
    }

    fn stop(&mut self, name: &str) {
        let instance = self.instance(name);
        instance.server = None;
        instance.postmaster_pid = None;
        instance.unit.active_state = "failed".to_owned();
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

    fn set(&mut self, name: &str, parameter: &str, value: &str, file: &str) {
        let setting = Setting {
            value: value.to_owned(),
            raw: value.to_owned(),
            vartype: "integer".to_owned(),
            source_file: Some(format!("/var/lib/pgorch/accounts/15/data/{file}")),
            ..Setting::default()
        };
        self.server(name).settings.insert(parameter.to_owned(), setting);
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

fn facts(at: usize, standby: bool) -> NodeFacts {
    let control = ControlData {
        system_identifier: SYSTEM,
        state: if standby { "in archive recovery" } else { "in production" }.to_owned(),
        timeline: Timeline(1),
        checkpoint_lsn: Lsn(LSN.0 - 0x100),
        data_checksums: true,
        ..ControlData::default()
    };
    let dir = ClusterDir {
        major: 15,
        made_by_pgorch: true,
        standby_signal: standby,
        control: Some(control),
        ..ClusterDir::default()
    };
    let unit = UnitFacts {
        heeds_fence: true,
        load_state: "loaded".to_owned(),
        active_state: "active".to_owned(),
        sub_state: "running".to_owned(),
        file_state: "enabled".to_owned(),
        main_pid: 4242,
        need_daemon_reload: false,
    };
    let server = ServerFacts {
        version_num: 150_020,
        version: "15.20".to_owned(),
        in_recovery: standby,
        system_identifier: Some(SYSTEM),
        timeline: Some(Timeline(1)),
        lsn: Some(LSN),
        replay_lsn: standby.then_some(LSN),
        data_directory: Some("/var/lib/pgorch/accounts/15/data".to_owned()),
        ..ServerFacts::default()
    };
    let instance = InstanceFacts {
        binary_version: Some("15.20".to_owned()),
        data_dir: DataDir::Cluster(dir),
        unit,
        postmaster_pid: Some(4242),
        server: Some(server),
        disk_free_bytes: 50 << 30,
        disk_total_bytes: 100 << 30,
        ..InstanceFacts::default()
    };
    let host = HostFacts { hostname: format!("host{}", at + 1), ..HostFacts::default() };
    NodeFacts { host, instance: Some(instance) }
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

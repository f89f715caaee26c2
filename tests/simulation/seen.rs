//! What a look from a controller shows of the world.

use std::collections::BTreeMap;

use pgorch::facts::{
    ClusterDir, ControlData, DataDir, HostFacts, InstanceFacts, NodeFacts, Observation, Receiver,
    Sender, ServerFacts, Slot, Snapshot, UnitFacts,
};
use pgorch::inventory::slot_name;
use pgorch::model::{HostName, Lsn, SystemIdentifier, Timeline};
use pgorch::operation::{Looked, Preflight};

use super::world::{Node, Server, World};

const SYSTEM: SystemIdentifier = SystemIdentifier(7_710_499_155_369_246_763);
const PID: u32 = 4242;

impl World {
    /// Whether question and answer get through.
    pub(crate) fn reaches(&self, controller: &str, host: &HostName) -> bool {
        let there = self.passes(controller, host.as_str());
        there && self.passes(host.as_str(), controller) && self.nodes[host].on
    }

    pub(crate) fn snapshot(&self, controller: &str) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (name, node) in &self.nodes {
            let observation = if !self.reaches(controller, name) {
                Observation::Unknown { cause: "timed out".to_owned() }
            } else if node.server == Server::Down {
                Observation::HostOnly(Box::new(self.facts(name, node)))
            } else {
                Observation::Seen(Box::new(self.facts(name, node)))
            };
            snapshot.nodes.insert(name.clone(), observation);
        }
        snapshot
    }

    /// What the preconditions ask besides, of each node that answers.
    pub(crate) fn looked(&self, controller: &str, candidate: &HostName) -> Looked {
        let mut seen = BTreeMap::new();
        for (name, node) in &self.nodes {
            if !self.reaches(controller, name) || node.server == Server::Down {
                continue;
            }
            let (a, b) = (name.as_str(), candidate.as_str());
            let linked = self.passes(a, b) && self.passes(b, a) && self.nodes[candidate].on;
            let reached = if linked { Ok(()) } else { Err("timed out".to_owned()) };
            let preflight = Preflight {
                free_wal_senders: 10,
                free_replication_slots: 10,
                reaches_candidate: (name != candidate).then_some(reached),
                ..Preflight::default()
            };
            seen.insert(name.clone(), preflight);
        }
        Looked { nodes: seen, poolers: BTreeMap::new() }
    }

    fn facts(&self, name: &HostName, node: &Node) -> NodeFacts {
        let timeline = Timeline(node.wal.last().map_or(1, |r| r.timeline));
        let lsn = lsn(node);
        let state = match (node.server, node.clean) {
            (Server::Primary, _) => "in production",
            (Server::Recovery, _) => "in archive recovery",
            (Server::Down, true) => "shut down",
            (Server::Down, false) => "in production",
        };
        let control = ControlData {
            system_identifier: SYSTEM,
            state: state.to_owned(),
            timeline,
            checkpoint_lsn: lsn,
            data_checksums: true,
            ..ControlData::default()
        };
        let dir = ClusterDir {
            major: 15,
            made_by_pgorch: true,
            standby_signal: node.standby_signal,
            control: Some(control),
            ..ClusterDir::default()
        };
        let up = node.server != Server::Down;
        let unit = UnitFacts {
            load_state: "loaded".to_owned(),
            active_state: if up { "active" } else { "inactive" }.to_owned(),
            file_state: "enabled".to_owned(),
            main_pid: if up { PID } else { 0 },
            heeds_fence: true,
            ..UnitFacts::default()
        };
        let instance = InstanceFacts {
            binary_version: Some("15.20".to_owned()),
            data_dir: DataDir::Cluster(dir),
            unit,
            postmaster_pid: up.then_some(PID),
            server: up.then(|| self.server(name, node, timeline)),
            disk_free_bytes: 50 << 30,
            disk_total_bytes: 100 << 30,
            epoch: node.epoch.clone(),
            sync: node.sync.clone(),
            fenced: node.fence.then(|| "fenced".to_owned()),
            ..InstanceFacts::default()
        };
        let host = HostFacts { hostname: format!("host-{name}"), ..HostFacts::default() };
        NodeFacts { host, instance: Some(instance) }
    }

    fn server(&self, name: &HostName, node: &Node, timeline: Timeline) -> ServerFacts {
        let address = |n: &HostName| self.inventory.nodes[n].host.address.clone();
        let upstream = self.streams_from(name);
        let receiver = upstream.map(|up| Receiver {
            status: "streaming".to_owned(),
            sender_host: address(up).expect("an address"),
            sender_port: 5432,
            slot: Some(slot_name(name)),
            silent_seconds: 0.1,
        });
        let fed = self.nodes.keys().filter(|n| self.streams_from(n) == Some(name));
        let senders = fed.map(|n| Sender {
            application_name: slot_name(n),
            state: "streaming".to_owned(),
            sync_state: "async".to_owned(),
            slot: Some(slot_name(n)),
            ..Sender::default()
        });
        let senders: Vec<Sender> = senders.collect();
        let slots = node.slots.iter().map(|slot| Slot {
            name: slot.clone(),
            physical: true,
            active: senders.iter().any(|s| s.application_name == *slot),
            ..Slot::default()
        });
        ServerFacts {
            version_num: 150_020,
            version: "15.20".to_owned(),
            in_recovery: node.server == Server::Recovery,
            system_identifier: Some(SYSTEM),
            timeline: Some(timeline),
            lsn: Some(lsn(node)),
            replay_lsn: (node.server == Server::Recovery).then(|| lsn(node)),
            receiver,
            slots: slots.collect(),
            senders,
            data_directory: Some("/var/lib/pgorch/sim/15/data".to_owned()),
            ..ServerFacts::default()
        }
    }
}

fn lsn(node: &Node) -> Lsn {
    Lsn(u64::try_from(node.wal.len()).expect("small"))
}

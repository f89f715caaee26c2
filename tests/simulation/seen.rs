//! What a look from a controller shows of the world.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use pgorch::facts::{
    DataDir, NodeFacts, Observation, Receiver, Sender, ServerFacts, Setting, Slot, Snapshot,
};
use pgorch::inventory::slot_name;
use pgorch::model::{HostName, Lsn, Timeline};
use pgorch::operation::{Looked, Preflight};

use super::world::{Node, Server, World, lsn};
use crate::nodes;

impl World {
    /// Whether question and answer get through.
    pub(crate) fn reaches(&self, controller: &str, host: &HostName) -> bool {
        let there = self.passes(controller, host.as_str());
        there && self.passes(host.as_str(), controller) && self.alive(host)
    }

    pub(crate) fn snapshot(&self, controller: &str) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (name, node) in &self.nodes {
            let observation = if !self.reaches(controller, name) {
                Observation::Unknown { cause: "timed out".to_owned() }
            } else if self.serves(name) {
                Observation::Seen(Box::new(self.facts(name, node)))
            } else {
                Observation::HostOnly(Box::new(self.facts(name, node)))
            };
            snapshot.nodes.insert(name.clone(), observation);
        }
        for witness in self.inventory.witnesses.keys() {
            if self.reaches(controller, witness) {
                let stored = self.hosts[witness].epoch.clone();
                snapshot.witnesses.insert(witness.clone(), stored);
            }
        }
        snapshot
    }

    /// What the preconditions ask besides, of each node that answers.
    pub(crate) fn looked(&self, controller: &str, candidate: &HostName) -> Looked {
        let mut seen = BTreeMap::new();
        for name in self.nodes.keys() {
            if !self.reaches(controller, name) || !self.serves(name) {
                continue;
            }
            let linked = self.linked(name, candidate) && self.alive(candidate);
            let reached = if linked { Ok(()) } else { Err("timed out".to_owned()) };
            let preflight = Preflight {
                free_wal_senders: 10,
                free_replication_slots: 10,
                reaches_candidate: (name != candidate).then_some(reached),
                ..Preflight::default()
            };
            seen.insert(name.clone(), preflight);
        }
        let poolers = self.poolers.keys();
        let poolers = poolers.map(|p| (p.clone(), self.pooler_seen(controller, p)));
        Looked { nodes: seen, poolers: poolers.collect() }
    }

    fn facts(&self, name: &HostName, node: &Node) -> NodeFacts {
        let state = match (node.server, node.clean, node.standby_signal) {
            (Server::Primary, ..) | (Server::Down, false, false) => "in production",
            (Server::Recovery, ..) | (Server::Down, false, true) => "in archive recovery",
            (Server::Down, true, false) => "shut down",
            (Server::Down, true, true) => "shut down in recovery",
        };
        let at_rest = lsn(node.replayed);
        // On a primary the start of its last checkpoint, on a standby where replay has come to.
        let checkpoint = if node.standby_signal { at_rest } else { Lsn(at_rest.0 - 1) };
        let replayed = Timeline(node.wal[node.replayed - 1].timeline);
        let mut facts = nodes::running(&format!("host-{name}"), node.standby_signal, lsn(0));
        let instance = facts.instance.as_mut().expect("an instance");
        let dir = nodes::dir(instance);
        (dir.history, dir.wal_timeline) = (node.history.clone(), Some(Timeline(node.timeline())));
        let control = dir.control.as_mut().expect("a control file");
        (control.state, control.timeline) = (state.to_owned(), Timeline(node.checkpoint));
        control.checkpoint_lsn = checkpoint;
        control.min_recovery_end = node.standby_signal.then_some((replayed, at_rest));
        if node.server == Server::Down {
            nodes::stop(instance, "inactive");
        }
        match &mut instance.server {
            Some(server) if self.serves(name) => self.server(name, node, server),
            Some(_) => {
                (instance.server, instance.server_error) =
                    (None, Some("timeout expired".to_owned()));
            }
            None => {}
        }
        if node.empty {
            instance.data_dir = DataDir::Missing;
        }
        instance.epoch = self.hosts[name].epoch.clone();
        instance.sync.clone_from(&node.sync);
        instance.fenced = node.fence.then(|| "fenced".to_owned());
        instance.revoked = node.revoked.is_some();
        facts
    }

    fn server(&self, name: &HostName, node: &Node, server: &mut ServerFacts) {
        let address =
            |n: &HostName| self.inventory.nodes[n].host.address.clone().expect("an address");
        let in_recovery = node.server == Server::Recovery;
        let upstream = self.streams_from(name);
        let receiver = upstream.map(|up| Receiver {
            status: "streaming".to_owned(),
            sender_host: address(up),
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
        // A standby without a receiver tells what its control file has seen.
        let timeline =
            if in_recovery && receiver.is_none() { node.checkpoint } else { node.timeline() };
        let set = |value: &str| Setting {
            raw: value.to_owned(),
            value: value.to_owned(),
            ..Setting::default()
        };
        let conninfo = match &node.upstream {
            Some(up) if !node.emptied => format!("host={} port=5432", address(up)),
            _ => String::new(),
        };
        let settings = [
            ("primary_conninfo".to_owned(), set(&conninfo)),
            ("synchronous_standby_names".to_owned(), set(&node.sync_in_force.to_string())),
        ];
        server.in_recovery = in_recovery;
        server.timeline = Some(Timeline(timeline));
        server.lsn = self.told(name);
        server.replay_lsn = in_recovery.then(|| lsn(node.replayed));
        (server.receiver, server.slots) = (receiver, slots.collect());
        server.senders = senders;
        server.settings = IndexMap::from(settings);
        server.pending_restart.extend(node.owes.then(|| "shared_buffers".to_owned()));
    }
}

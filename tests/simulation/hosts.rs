//! What happens to machines and servers, whoever does it.

use pgorch::facts::Proof;
use pgorch::model::HostName;

use super::world::{Promotion, Server, World};

impl World {
    /// Whether the machine runs.
    pub(crate) fn alive(&self, host: &HostName) -> bool {
        let host = &self.hosts[host];
        host.on && !host.paused
    }

    pub(crate) fn power_off(&mut self, name: &HostName) {
        self.tell(format!("{name} goes dark"));
        let host = &mut self.hosts[name];
        (host.on, host.paused) = (false, false);
        self.kill_server(name);
        if let Some(pooler) = self.poolers.get_mut(name) {
            pooler.stop();
        }
    }

    pub(crate) fn power_on(&mut self, name: &HostName) {
        if self.hosts[name].on {
            return;
        }
        self.tell(format!("{name} comes back"));
        self.hosts[name].on = true;
        if let Some(pooler) = self.poolers.get_mut(name) {
            pooler.start();
        }
        if self.nodes.contains_key(name) {
            // The unit is enabled.
            let _ = self.start_server(name);
        }
    }

    /// The machine stands still, or goes on.
    pub(crate) fn pause(&mut self, name: &HostName, paused: bool) {
        if self.hosts[name].on && self.hosts[name].paused != paused {
            self.tell(format!("{name} {}", if paused { "stands still" } else { "goes on" }));
            self.hosts[name].paused = paused;
        }
    }

    /// The server's processes stand still, or go on.
    pub(crate) fn freeze(&mut self, name: &HostName, frozen: bool) {
        if self.nodes[name].server != Server::Down && self.nodes[name].frozen != frozen {
            self.tell(format!("{name} {}", if frozen { "freezes" } else { "thaws" }));
            self.nodes[name].frozen = frozen;
        }
    }

    /// `kill -9` of all its processes.
    pub(crate) fn kill_server(&mut self, name: &HostName) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        if node.server != Server::Down {
            node.server = Server::Down;
            node.clean = false;
        }
        (node.frozen, node.lingers, node.promoting) = (false, false, None);
        // What the unit does last, and what is lost with the machine.
        node.vip = false;
    }

    /// `systemctl stop`, or the host's shutdown.
    pub(crate) fn stop_server(&mut self, name: &HostName) {
        let node = &mut self.nodes[name];
        if node.server != Server::Down {
            node.server = Server::Down;
            node.clean = true;
            node.checkpoint = node.wal[node.replayed - 1].timeline;
            (node.lingers, node.promoting, node.vip) = (false, None, false);
        }
    }

    /// `systemctl start`: whether the server runs afterwards.
    pub(crate) fn start_server(&mut self, name: &HostName) -> bool {
        if self.nodes[name].server != Server::Down {
            return true;
        }
        if !self.may_start(name) {
            return false;
        }
        assert!(!self.nodes[name].half, "{name} is half rewound and starts\n{}", self.story());
        let node = &mut self.nodes[name];
        node.server = if node.standby_signal { Server::Recovery } else { Server::Primary };
        node.clean = false;
        node.start += 1;
        node.promoting = None;
        node.fresh = true;
        node.owes = false;
        node.stalled = false;
        node.checkpoint = node.wal[node.replayed - 1].timeline;
        node.sync_in_force.clone_from(&node.sync_names);
        if node.server == Server::Primary {
            // Crash recovery replays all there is.
            node.replayed = node.wal.len();
            node.checkpoint = node.timeline();
        }
        self.vip_up(name);
        let what = self.nodes[name].server;
        self.tell(format!("the server of {name} starts: {what:?}"));
        true
    }

    /// templates/vip.sh.j2
    pub(super) fn vip_up(&mut self, name: &HostName) {
        let node = &mut self.nodes[name];
        node.vip = self.inventory.routing.vip.is_some() && !node.standby_signal && !node.fence;
    }

    /// templates/boot-check.sh.j2
    fn may_start(&self, name: &HostName) -> bool {
        let node = &self.nodes[name];
        if node.fence || node.empty {
            return false;
        }
        if node.standby_signal {
            return true;
        }
        let newest = |n: &HostName| {
            let history = self.nodes[n].history.as_ref().map_or(0, |h| h.timeline.0);
            self.nodes[n].checkpoint.max(history)
        };
        let peers = self.nodes.keys().filter(|n| *n != name);
        let mut answering = peers.filter(|n| self.serves(n) && self.linked(n, name));
        !answering.any(|n| self.nodes[n].timeline() > newest(name))
    }

    /// A promotion that was asked for comes to its end.
    pub(crate) fn finish_promotion(&mut self, name: &HostName) {
        if !self.serves(name) {
            return;
        }
        let Some(promotion) = self.nodes[name].promoting.take() else { return };
        let node = &mut self.nodes[name];
        node.standby_signal = false;
        node.server = Server::Primary;
        let known = node.history.as_ref().map_or(1, |h| h.timeline.0);
        let timeline = node.timeline().max(known) + 1;
        self.write(name, Some(timeline));
        self.nodes[name].history = self.lineage(name);
        self.tell(format!("{name} is promoted"));
        self.gave_up(name, &promotion);
    }

    /// What is lost with the old primary, which must be what was to be expected.
    fn gave_up(&mut self, name: &HostName, promotion: &Promotion) {
        self.judge_promotion(name, promotion);
        for (suspect, proof) in promotion.suspects() {
            if proof.gives_up() {
                self.risked.insert(suspect.clone());
            }
            if proof == Proof::Quorum {
                self.muted.insert(suspect.clone());
            }
        }
        let wal = &self.nodes[name].wal;
        self.ledger.retain(|row| wal.get(row.at).is_some_and(|r| r.id == row.id));
    }

    /// The STONITH command runs on the controller; whether it says that the host is off.
    pub(crate) fn switch_off(&mut self, name: &HostName, operation: &str) -> Result<(), String> {
        use super::world::Stonith::{Fails, FailsAndIsOff, SwitchesOff};
        let said = self.stonith;
        if said != Fails {
            self.power_off(name);
        }
        match said {
            SwitchesOff => {
                self.switched_off.insert((operation.to_owned(), name.clone()));
                Ok(())
            }
            Fails | FailsAndIsOff => Err("exit status 1".to_owned()),
        }
    }
}

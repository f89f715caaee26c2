//! What an operator does when all is mended, and what of it is pgorch's own decision.

use std::collections::BTreeMap;

use pgorch::facts::Snapshot;
use pgorch::inventory::{NodeSettings, slot_name};
use pgorch::model::{HostName, Map};
use pgorch::step::{Args, Ctx, Options, Verdict, kind};
use pgorch::template::Templates;
use pgorch::topology::{self, Bootstrap};

use super::world::{Record, Server, World};

const ME: &str = "healer";

impl World {
    /// Everybody is back, and what is under way arrives.
    #[track_caller]
    pub(crate) fn mend(&mut self) {
        self.tell("everything is mended");
        self.cuts.clear();
        for name in self.machines() {
            self.pause(&name, false);
            self.power_on(&name);
        }
        for pooler in self.poolers.values_mut() {
            pooler.stubborn = false;
            if !pooler.running {
                pooler.start();
            }
        }
        for name in self.names() {
            self.freeze(&name, false);
            self.nodes[&name].stalled = false;
            self.finish_promotion(&name);
        }
        while !self.late.is_empty() {
            self.deliver(0);
            self.check();
        }
        for name in self.machines() {
            self.power_on(&name);
        }
        for name in self.names() {
            self.finish_promotion(&name);
            if self.nodes[&name].standby_signal {
                self.start_server(&name);
            }
        }
        self.commit();
        self.flow();
        self.check();
    }

    pub(crate) fn restart_standbys(&mut self) {
        for name in self.names() {
            if self.nodes[&name].server == Server::Recovery {
                self.stop_server(&name);
                self.start_server(&name);
            }
        }
    }

    /// `systemctl start` wherever a server is down; the units know which may not.
    #[track_caller]
    pub(crate) fn start_what_is_down(&mut self) {
        for name in self.names() {
            self.start_server(&name);
            self.check();
        }
    }

    /// Where two take writes one of them was given up: it is stopped by hand.
    #[track_caller]
    pub(crate) fn stop_the_stale(&mut self) {
        if self.primaries().count() < 2 {
            return;
        }
        let stale = self.primaries().filter(|n| self.risked.contains(*n));
        let stale: Vec<HostName> = stale.cloned().collect();
        for name in stale {
            self.tell(format!("the operator stops {name}"));
            self.stop_server(&name);
        }
        self.check();
    }

    /// `pgorch start --all`: whether somebody is the primary now.
    pub(crate) fn start_all(&mut self) -> bool {
        let decision = topology::cold_start(self.inventory, &self.snapshot(ME), None);
        self.tell(format!("start --all: {decision:?}"));
        match decision {
            Some(Bootstrap::Start { primary }) => self.start_server(&primary),
            Some(Bootstrap::Existing { .. }) => true,
            _ => false,
        }
    }

    /// What `pgorch apply` does about standbys: slots where they are missing, and the wanted upstream.
    pub(crate) fn apply(&mut self) {
        for _ in 0..2 {
            self.flow();
            let topology = topology::analyse(self.inventory, &self.snapshot(ME));
            for name in self.names() {
                let settings = self.inventory.postgres_of(&name).expect("a node");
                let Some(wanted) = topology.wanted_upstream(&settings).cloned() else { continue };
                if self.nodes[&name].server != Server::Recovery {
                    continue;
                }
                self.nodes[&wanted].slots.insert(slot_name(&name));
                self.forget_revocation(&name);
                let before = self.nodes[&name].upstream.replace(wanted.clone());
                if let Some(before) = before.filter(|b| *b != wanted) {
                    self.left_by_apply.insert((before, slot_name(&name)));
                }
            }
        }
        self.flow();
    }

    /// `pgorch rejoin` of every node that is no primary and does not stream, the way that the product's
    /// own ladder chooses.
    #[track_caller]
    pub(crate) fn rejoin(&mut self) {
        self.flow();
        let primaries: Vec<HostName> = self.primaries().cloned().collect();
        let [primary] = primaries.as_slice() else { panic!("{}", self.story()) };
        for name in self.names().into_iter().filter(|n| n != primary) {
            // The upstream keeps WAL for it from now on; pg_rewind needs a checkpoint there.
            self.nodes[primary].checkpoint = self.nodes[primary].timeline();
            let rung = self.rung(&name, primary);
            if rung == "none" {
                continue;
            }
            self.tell(format!("rejoin {name}: {rung}"));
            self.forget_revocation(&name);
            match rung.as_str() {
                "start" => {}
                "rewind" => {
                    self.same_fork(&name, primary);
                    self.copy(&name, primary);
                }
                _ => self.copy(&name, primary),
            }
            self.nodes[primary].slots.insert(slot_name(&name));
            let node = &mut self.nodes[&name];
            (node.standby_signal, node.fence) = (true, false);
            node.upstream = Some(primary.clone());
            node.slots.clear();
            self.risked.remove(&name);
            self.muted.remove(&name);
            self.start_server(&name);
            self.flow();
            let streams = self.streams_from(&name) == Some(primary);
            assert!(
                streams,
                "{name} was rejoined by a {rung} and does not stream\n{}",
                self.story()
            );
        }
    }

    /// The kind `follow`: a revocation does not outlive its operation.
    #[track_caller]
    fn forget_revocation(&mut self, name: &HostName) {
        assert!(self.hosts[name].epoch.open().is_none(), "{}", self.story());
        let node = &mut self.nodes[name];
        (node.revoked, node.emptied, node.lingers) = (None, false, false);
    }

    /// What the kind `rejoin` judges.
    #[track_caller]
    fn rung(&self, name: &HostName, primary: &HostName) -> String {
        let node = self.inventory.postgres_of(name).expect("a node");
        let snapshot = self.snapshot(ME);
        let judged = judge(&snapshot, self, name, &node, primary);
        match judged {
            Ok(Verdict::Satisfied(report)) => {
                report.data["rung"].as_str().expect("a rung").to_owned()
            }
            other => panic!("rejoin {name}: {other:?}\n{}", self.story()),
        }
    }

    /// pg_rewind goes by timeline numbers and their ends alone.
    #[track_caller]
    pub(super) fn same_fork(&self, name: &HostName, primary: &HostName) {
        let source = &self.nodes[primary].wal;
        let own = &self.nodes[name].wal;
        let same = |(a, b): &(&Record, &Record)| a.timeline == b.timeline;
        let fork = own.iter().zip(source).take_while(same).count();
        let really = own.iter().zip(source).take_while(|(a, b)| a == b).count();
        assert_eq!(
            fork,
            really,
            "the rewind of {name} takes two histories for one\n{}",
            self.story()
        );
    }

    fn copy(&mut self, name: &HostName, primary: &HostName) {
        let source = self.nodes[primary].clone();
        let node = &mut self.nodes[name];
        (node.empty, node.half) = (false, false);
        node.server = Server::Down;
        node.replayed = source.wal.len();
        (node.wal, node.history, node.checkpoint) = (source.wal, source.history, source.checkpoint);
        (node.emptied, node.lingers) = (false, false);
    }
}

fn judge(
    snapshot: &Snapshot,
    world: &World,
    host: &HostName,
    node: &NodeSettings,
    primary: &HostName,
) -> Result<Verdict, pgorch::step::StepError> {
    let (options, templates) = (Options::default(), Templates::new());
    let (roles, files, vars) = (BTreeMap::new(), BTreeMap::new(), Map::new());
    let ctx = Ctx {
        inventory: world.inventory,
        host,
        node: Some(node),
        facts: snapshot.nodes.get(host).and_then(|o| o.facts()),
        snapshot,
        primary: Some(primary),
        options: &options,
        replication_password: None,
        role_passwords: &roles,
        files: &files,
        vars: &vars,
        templates: &templates,
    };
    let answers = [world.rejoin_answer(host)];
    (kind("rejoin").expect("the kind").diff)(&Args::default(), &answers, &ctx)
}

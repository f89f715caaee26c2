//! `pgorch stop`, `start`, `restart`, `rejoin`, ... as cli/nodes.rs and cli/apply.rs make them: which playbook,
//! with which variables, on which nodes, and who may be taken for the primary.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use pgorch::inventory::{Inventory, ReplicationMode};
use pgorch::model::{HostName, Map, Value};
use pgorch::playbook::Playbook;
use pgorch::runner::PrimaryRule;
use pgorch::syntax::Source;
use serde_json::json;

use super::World;
use super::controller::Fate;
use super::run::Run;

/// One command line.
#[derive(Clone)]
pub(crate) struct Command {
    /// The machine that it runs on.
    pub(crate) me: String,
    pub(super) playbook: &'static str,
    pub(super) hosts: Vec<HostName>,
    pub(super) vars: Map,
    pub(super) rule: PrimaryRule,
    pub(super) standbys_only: bool,
    pub(super) restart: bool,
    pub(super) look_at_all: bool,
    pub(super) all_or_nothing: bool,
    pub(super) destroy: Vec<String>,
    /// None is the world's.
    pub(super) inventory: Option<&'static Inventory>,
}

/// How it went.
#[derive(Debug, Clone, Default)]
pub(crate) struct Came {
    /// It was killed.
    pub(crate) killed: bool,
    /// Before anything was touched.
    pub(crate) refused: Vec<String>,
    /// What did not work, on which host.
    pub(crate) failed: Vec<String>,
    /// Tasks that changed something.
    pub(crate) changed: usize,
    /// Commands that were sent, and the look.
    pub(crate) units: usize,
}

impl Came {
    pub(crate) fn well(&self) -> bool {
        !self.killed && self.refused.is_empty() && self.failed.is_empty()
    }
}

/// Called before the look, and before each command that is sent, with what it is: what becomes of it. None
/// kills the program there.
pub(crate) type Before<'b> = dyn FnMut(&mut World, &str) -> Option<Fate> + 'b;

static PLAYBOOKS: LazyLock<BTreeMap<&str, Arc<Playbook>>> = LazyLock::new(|| {
    let shipped = pgorch::playbook::SHIPPED.iter().map(|(path, _)| *path);
    let of_nodes = shipped.filter(|p| p.starts_with("playbooks/") && !p.contains("/tasks/"));
    of_nodes.map(|path| (path, Arc::new(load(path)))).collect()
});

/// A shipped playbook with all that it includes.
fn load(path: &str) -> Playbook {
    let read = |path: &str| {
        let text = pgorch::playbook::shipped(path).ok_or_else(|| format!("no {path}"))?;
        Ok::<Arc<Source>, String>(Source::new(path.to_owned(), text))
    };
    let beside = |name: &str, from: &str| {
        let dir = Path::new(from).parent().expect("a directory");
        read(&dir.join(name).to_string_lossy())
    };
    pgorch::playbook::parse(&read(path).expect("shipped"), &beside)
        .unwrap_or_else(|e| panic!("{}", pgorch::syntax::render(&e)))
}

impl Command {
    fn of(playbook: &'static str, hosts: &[&str]) -> Self {
        Command {
            me: "c0".to_owned(),
            playbook,
            hosts: hosts.iter().map(|n| HostName::from(*n)).collect(),
            vars: Map::new(),
            rule: PrimaryRule::default(),
            standbys_only: false,
            restart: false,
            look_at_all: false,
            all_or_nothing: true,
            destroy: Vec::new(),
            inventory: None,
        }
    }

    fn running(self) -> Self {
        Command { rule: PrimaryRule::Running { stale: Vec::new() }, ..self }
    }

    fn for_standbys(self) -> Self {
        Command { standbys_only: true, ..self.running() }
    }

    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.vars.insert(name.to_owned(), value.into());
        self
    }

    /// From another machine.
    pub(crate) fn by(self, me: &str) -> Self {
        Command { me: me.to_owned(), ..self }
    }

    pub(crate) fn stop(nodes: &[&str], primary: bool) -> Self {
        let all = if nodes.is_empty() { &["node1", "node2", "node3", "node4"] } else { nodes };
        let command = Self::of("playbooks/stop.yml", nodes).with("stop_primary", primary);
        command.with("stopped_nodes", json!(all))
    }

    pub(crate) fn start(nodes: &[&str]) -> Self {
        let named = Some(nodes.iter().map(|n| HostName::from(*n)).collect());
        let rule = PrimaryRule::Start { named };
        Command { rule, look_at_all: true, ..Self::of("playbooks/start.yml", nodes) }
    }

    pub(crate) fn start_all() -> Self {
        let rule = PrimaryRule::Start { named: None };
        Command { rule, look_at_all: true, ..Self::of("playbooks/start-all.yml", &[]) }
    }

    /// No nodes: those that owe one.
    pub(crate) fn restart(nodes: &[&str], switchover: bool) -> Self {
        let file =
            if switchover { "playbooks/restart-switchover.yml" } else { "playbooks/restart.yml" };
        let command = Self::of(file, nodes).running().with("restart_force", !nodes.is_empty());
        Command { restart: true, ..command }
    }

    pub(crate) fn reload(nodes: &[&str]) -> Self {
        Self::of("playbooks/reload.yml", nodes)
    }

    pub(crate) fn follow(node: &str, upstream: &str) -> Self {
        Self::of("playbooks/follow.yml", &[node]).for_standbys().with("upstream", upstream)
    }

    pub(crate) fn rejoin(nodes: &[&str], method: &str) -> Self {
        let command = Self::of("playbooks/rejoin.yml", nodes).for_standbys();
        let rule = PrimaryRule::Running { stale: command.hosts.clone() };
        let command = Command { rule, ..command };
        command.with("rejoin_method", method).with("discard_old", false)
    }

    pub(crate) fn clone_node(node: &str, from: Option<&str>) -> Self {
        let command = Self::of("playbooks/clone-node.yml", &[node]).for_standbys();
        let command = command.with("replaced", json!([]));
        match from {
            Some(from) => command.with("copy_from", from),
            None => command,
        }
    }

    pub(crate) fn register(nodes: &[&str]) -> Self {
        Self::of("playbooks/members.yml", &[]).running().with("registered", json!(nodes))
    }

    /// `inventory` is without them.
    pub(crate) fn unregister(node: &str, inventory: &'static Inventory) -> Self {
        let slot = pgorch::inventory::slot_name(&HostName::from(node));
        let command = Self::of("playbooks/unregister.yml", &[]);
        let command = command.with("gone", json!([{ "name": node, "slot": slot }]));
        Command { inventory: Some(inventory), all_or_nothing: false, ..command }
    }

    /// Whether every node is looked at, and not only those that it is about.
    pub(super) fn looks_at_all(&self, inventory: &Inventory) -> bool {
        let quorum = inventory.replication.mode == ReplicationMode::Quorum;
        self.look_at_all || quorum && self.playbook.ends_with("/stop.yml")
    }

    pub(super) fn loaded(&self) -> Arc<Playbook> {
        Arc::clone(&PLAYBOOKS[self.playbook])
    }

    /// From its start to wherever it comes; `before` says what happens meanwhile.
    pub(crate) fn run(&self, world: &mut World, before: &mut Before<'_>) -> Came {
        Run::new(self, self.loaded(), world, before).all()
    }

    /// With nothing in the way.
    pub(crate) fn runs(&self, world: &mut World) -> Came {
        self.run(world, &mut |world, _| {
            world.commit();
            world.flow();
            world.check();
            Some(Fate::Fine)
        })
    }
}

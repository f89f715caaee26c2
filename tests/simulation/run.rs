//! A run of a command on single nodes. The order of looks, plays, batches, blocks and tasks is `runner`'s
//! and cli/apply.rs's; every condition, verdict and command is production code.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pgorch::facts::{Observation, Snapshot};
use pgorch::inventory::{Inventory, LiveRoles, match_hosts, uses_live_roles};
use pgorch::model::{HostName, Resource, Secret};
use pgorch::operation::{End, successor};
use pgorch::plan::{Condition, Live, RunVars, Scope};
use pgorch::playbook::{Play, Playbook, Segment, Serial, segments, walk};
use pgorch::runner::PrimaryRule;
use pgorch::step::Options;
use pgorch::topology::{self, Bootstrap};

use super::World;
use super::command::{Before, Came, Command};
use super::controller::{Controller, Ended, Fate};

/// How a list of tasks ended on a host.
pub(super) enum Flow {
    Done,
    Failed(Failure),
    /// The program was killed.
    Stop,
}

pub(super) struct Failure {
    pub(super) message: String,
    pub(super) refused: bool,
    /// The host is gone.
    pub(super) lost: bool,
}

/// One host in one pass.
#[derive(Default)]
pub(super) struct State {
    pub(super) scope: Scope,
    pub(super) out: bool,
    /// What a read-only pass would have changed.
    pub(super) pending: Vec<Resource>,
}

pub(super) struct Run<'r, 'b> {
    pub(super) command: &'r Command,
    pub(super) playbook: Arc<Playbook>,
    pub(super) inventory: &'static Inventory,
    pub(super) world: &'r mut World,
    pub(super) before: &'r mut Before<'b>,
    pub(super) vars: RunVars,
    pub(super) live: Live,
    pub(super) options: Options,
    pub(super) snapshot: Snapshot,
    /// Whose facts a change has made out of date.
    pub(super) stale: BTreeSet<HostName>,
    /// The epochs that the nodes had when they were looked at first.
    pub(super) epochs: BTreeMap<HostName, u64>,
    pub(super) hosts: BTreeMap<HostName, State>,
    pub(super) came: Came,
}

impl<'r, 'b> Run<'r, 'b> {
    pub(super) fn new(
        command: &'r Command,
        playbook: Arc<Playbook>,
        world: &'r mut World,
        before: &'r mut Before<'b>,
    ) -> Self {
        let inventory = command.inventory.unwrap_or(world.inventory);
        let left_out = match command.hosts.is_empty() {
            true => Vec::new(),
            false => {
                inventory.nodes.keys().filter(|n| !command.hosts.contains(n)).cloned().collect()
            }
        };
        Run {
            playbook,
            vars: RunVars::new(Arc::new(inventory.clone()), command.vars.clone()),
            live: Live::default(),
            options: Options {
                restart: command.restart,
                check: false,
                destroy: command.destroy.clone(),
                left_out,
            },
            snapshot: Snapshot::default(),
            stale: BTreeSet::new(),
            epochs: BTreeMap::new(),
            hosts: BTreeMap::new(),
            came: Came::default(),
            command,
            inventory,
            world,
            before,
        }
    }

    /// `execute` of cli/apply.rs, with -y.
    pub(super) fn all(mut self) -> Came {
        if self.unit("look").is_none() {
            return self.came;
        }
        self.look();
        if let Some((node, record)) = self.snapshot.epochs().find_map(|(n, e)| Some((n, e.open()?)))
        {
            let why = format!("operation_open: {} on {node}", record.id);
            self.came.refused.push(why);
            return self.came;
        }
        let starts = matches!(self.command.rule, PrimaryRule::Start { .. });
        let live = self.playbook.plays.iter().any(|p| uses_live_roles(&p.hosts.text));
        if (starts || live) && !self.resolve(&self.command.rule.clone()) {
            return self.came;
        }
        let primary = self.live.primary.clone().filter(|p| self.selected().contains(p));
        if let Some(primary) = primary.filter(|_| self.command.standbys_only) {
            self.came.refused.push(format!("is_the_primary: {primary}"));
            return self.came;
        }
        if self.command.all_or_nothing {
            self.options.check = true;
            self.pass();
            self.options.check = false;
            // A read-only pass only tells what would be refused.
            self.came.failed.clear();
            if !self.came.refused.is_empty() {
                return self.came;
            }
        }
        self.pass();
        self.came
    }

    pub(super) fn me(&self) -> &'r str {
        self.command.me.as_str()
    }

    fn selected(&self) -> Vec<HostName> {
        match self.command.hosts.is_empty() {
            true => self.inventory.nodes.keys().cloned().collect(),
            false => self.command.hosts.clone(),
        }
    }

    /// What happens before the next thing that is sent, and what becomes of it.
    pub(super) fn unit(&mut self, what: &str) -> Option<Fate> {
        let fate = (self.before)(self.world, what);
        self.came.units += 1;
        self.came.killed |= fate.is_none();
        fate
    }

    /// The first batch.
    fn look(&mut self) {
        let live = self.playbook.plays.iter().any(|p| uses_live_roles(&p.hosts.text));
        let all = live || self.command.looks_at_all(self.inventory);
        let wanted = self.selected();
        self.snapshot = self.world.snapshot(self.me());
        let declared = |n: &HostName| self.inventory.nodes.contains_key(n);
        self.snapshot.nodes.retain(|name, _| declared(name) && (all || wanted.contains(name)));
        let epoch = |(n, o): (&HostName, &Observation)| {
            Some((n.clone(), o.facts()?.instance.as_ref()?.epoch.epoch))
        };
        self.epochs = self.snapshot.nodes.iter().filter_map(epoch).collect();
        self.stale.clear();
    }

    /// One host anew; false where it does not answer.
    pub(super) fn look_at(&mut self, host: &HostName) -> bool {
        let seen = self.world.snapshot(self.me()).nodes.shift_remove(host);
        let Some(seen) = seen.filter(|o| o.facts().is_some()) else { return false };
        self.snapshot.nodes.insert(host.clone(), seen);
        self.stale.remove(host);
        true
    }

    /// `Runner::resolve_primary`.
    fn resolve(&mut self, rule: &PrimaryRule) -> bool {
        let (inventory, snapshot) = (self.inventory, &self.snapshot);
        let found = match rule {
            PrimaryRule::Bootstrap => Some(topology::bootstrap(inventory, snapshot, None)),
            PrimaryRule::Running { stale } => {
                Some(topology::running_primary(inventory, snapshot, stale))
            }
            PrimaryRule::Start { named } => {
                topology::cold_start(inventory, snapshot, named.as_deref())
            }
        };
        match found {
            None => true,
            Some(Bootstrap::Refuse { code, reason, .. }) => {
                self.came.refused.push(format!("{code}: {reason}"));
                false
            }
            Some(
                Bootstrap::Existing { primary }
                | Bootstrap::Fresh { primary }
                | Bootstrap::Resume { primary }
                | Bootstrap::Start { primary },
            ) => {
                self.live.primary = Some(primary);
                self.live.replication_password = Some(Secret::new("secret"));
                self.follow_up();
                true
            }
        }
    }

    /// `wanted_upstreams` and `keep_declared` of runner/gather.rs.
    fn follow_up(&mut self) {
        let Some(primary) = self.live.primary.clone() else { return };
        let topology = topology::analyse(self.inventory, &self.snapshot);
        let mut upstream = BTreeMap::new();
        for (name, node) in self.vars.nodes.iter().filter(|(n, _)| **n != primary) {
            let wanted = topology.wanted_upstream(node).unwrap_or(&primary);
            let kept = node.follow.as_ref().filter(|d| self.live.upstream.get(name) == Some(*d));
            upstream.insert(name.clone(), kept.unwrap_or(wanted).clone());
        }
        self.live.upstream = upstream;
    }

    fn pass(&mut self) {
        let state = |name: &HostName| {
            let seen = self.snapshot.nodes.get(name).is_some_and(|o| o.facts().is_some());
            State { scope: Scope::new(name), out: !seen, ..State::default() }
        };
        self.hosts = self.selected().iter().map(|name| (name.clone(), state(name))).collect();
        for (name, _) in self.hosts.iter().filter(|(_, s)| s.out) {
            self.came.failed.push(format!("{name}: cannot be reached"));
        }
        let playbook = Arc::clone(&self.playbook);
        for segment in segments(&playbook.plays).expect("whole operations") {
            let goes_on = match segment {
                Segment::Operation(_) if self.options.check => true,
                Segment::Operation(plays) => self.operation(plays),
                Segment::Plays(plays) => plays.iter().all(|play| self.play(play)),
            };
            if !goes_on {
                return;
            }
        }
    }

    /// `refresh` of runner/gather.rs.
    fn refresh(&mut self) {
        if self.options.check {
            return;
        }
        for host in self.stale.clone() {
            self.look_at(&host);
        }
        self.follow_up();
    }

    fn in_pattern(&self, pattern: &str) -> Vec<HostName> {
        let nodes = self.inventory.nodes.keys();
        let primary = self.live.primary.clone();
        let standbys = match &primary {
            Some(primary) => nodes.filter(|n| *n != primary).cloned().collect(),
            None => Vec::new(),
        };
        let roles = LiveRoles { primary, standbys, candidate: None };
        let hosts = match_hosts(pattern, self.inventory, &roles).expect("a pattern");
        hosts.into_iter().filter(|h| self.hosts.get(h).is_some_and(|s| !s.out)).collect()
    }

    fn play(&mut self, play: &Play) -> bool {
        self.refresh();
        let hosts = self.in_pattern(&play.hosts.text);
        let size = match play.serial.first() {
            None => hosts.len().max(1),
            Some(Serial::Count(n)) => *n,
            Some(Serial::Percent(_)) => panic!("not in a shipped playbook"),
        };
        for (number, batch) in hosts.chunks(size).enumerate() {
            if number > 0 {
                self.refresh();
            }
            let mut fatal = false;
            for host in batch {
                if fatal && play.any_errors_fatal {
                    break;
                }
                match self.items(host, &play.tasks, &[&play.common]) {
                    Flow::Done => {}
                    Flow::Stop => return false,
                    Flow::Failed(why) => {
                        fatal = true;
                        self.fails(host, &why);
                    }
                }
            }
            if fatal && (play.any_errors_fatal || !play.serial.is_empty()) {
                return false;
            }
        }
        true
    }

    fn fails(&mut self, host: &HostName, why: &Failure) {
        self.world.tell(format!("{}: {host}: {}", self.command.me, why.message));
        if let Some(state) = self.hosts.get_mut(host) {
            state.out = true;
        }
        let text = format!("{host}: {}", why.message);
        match self.options.check && why.refused {
            true => self.came.refused.push(text),
            false => self.came.failed.push(text),
        }
    }

    /// `operation` of runner/segment.rs.
    fn operation(&mut self, plays: &[Play]) -> bool {
        self.refresh();
        let tasks: Vec<_> = plays.iter().flat_map(|p| walk(&p.tasks, &[&p.common])).collect();
        let (Some((around, task)), Some(primary)) = (tasks.first(), self.live.primary.clone())
        else {
            return false;
        };
        if !self.selected().contains(&primary) {
            return true;
        }
        let at = (*task, &around[..1]);
        match self.look_with(&primary, &primary, at, None, |look| look.around_holds()) {
            Ok(Condition::Holds) => {}
            Ok(_) => return true,
            Err(why) => {
                self.came.failed.push(why.message);
                return false;
            }
        }
        let topology = topology::analyse(self.inventory, &self.snapshot);
        let to = successor(self.inventory, &self.snapshot, &topology, &self.selected());
        let Some(to) = to else {
            self.came.failed.push("no standby can take over".to_owned());
            return false;
        };
        let mut controller = Controller::switchover(self.me(), to.as_str());
        while controller.ended.is_none() {
            let what = controller.next().map_or("look", |s| s.action.name()).to_owned();
            let Some(fate) = self.unit(&what) else { return false };
            controller.advance(self.world, fate, 0);
            self.world.check();
        }
        self.came.changed += 1;
        let done = matches!(&controller.ended, Some(Ended::Operation(f)) if f.end == End::Done);
        if !done {
            self.came.failed.push(format!("{:?}", controller.ended));
            return false;
        }
        self.look();
        self.resolve(&PrimaryRule::Running { stale: Vec::new() })
    }
}

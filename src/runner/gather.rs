//! The first batch, and what all hosts know together: snapshot, primary, upstreams.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use futures_util::stream::{self, StreamExt as _};

use super::link::{Link, LinkError};
use super::task::At;
use super::{HostState, Pass, Runner, lock};
use crate::clock;
use crate::event::{Event, Kind};
use crate::facts::{Observation, Snapshot};
use crate::inventory::{NodeSettings, match_hosts, uses_live_roles};
use crate::model::{Fragment, HostName, Resource};
use crate::plan::{LoopItem, expand_loop, questions};
use crate::playbook::walk;
use crate::step::Options;
use crate::topology::{self, Bootstrap};

pub use crate::inventory::LiveRoles;

/// What a run may take for the primary.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PrimaryRule {
    /// The one that runs, or a new one where there is no data yet (`apply`).
    #[default]
    Bootstrap,
    /// The one that runs. The user says of the `stale` nodes that they are to give way.
    Running { stale: Vec<HostName> },
    /// The one that runs, or the one that may be started: of these nodes, or of all.
    Start { named: Option<Vec<HostName>> },
}

impl Runner {
    /// Connects to every selected host and asks, in one batch each, its facts and everything that
    /// the playbook will want to know.
    pub async fn first_batch(&self, options: &Options) {
        let forks = self.select.forks;
        let forks = if forks == 0 { self.links.len() } else { forks };
        stream::iter(self.links.iter())
            .map(|(name, link)| async move {
                let mut held = link.lock().await;
                self.first_of(name, &mut held, options).await;
            })
            .buffer_unordered(forks.max(1))
            .collect::<Vec<()>>()
            .await;
    }

    async fn first_of(&self, name: &HostName, link: &mut Link, options: &Options) {
        self.emit(Event::host(name, Kind::Connecting, ""));
        let started = crate::clock::now();
        if let Err(error) = link.connect().await {
            self.unreachable(name, &error);
            return;
        }
        let seconds = crate::clock::now().since(started).as_secs_f64();
        self.emit(Event::host(name, Kind::Connected { seconds }, ""));
        let pass = Pass {
            options: options.clone(),
            hosts: std::sync::Mutex::new(BTreeMap::from([(
                name.clone(),
                HostState { scope: crate::plan::Scope::new(name), ..HostState::default() },
            )])),
            once: std::sync::Mutex::default(),
            planned: std::sync::Mutex::default(),
            problems: std::sync::Mutex::default(),
            notices: std::sync::Mutex::default(),
            pending: std::sync::Mutex::default(),
            fatal: std::sync::Mutex::default(),
        };
        let mut fragments = self.lookahead(&pass, name, link, false);
        fragments.extend(self.extra_questions_of(name));
        let before = clock::wall();
        match link.ask(&fragments).await {
            Ok(()) => {
                self.note_facts(link);
                self.note_epoch(link);
                self.note_clock(link, before);
                let seconds = crate::clock::now().since(started).as_secs_f64();
                let kind = Kind::Gathered { seconds, questions: fragments.len() };
                self.emit(Event::host(name, kind, ""));
            }
            Err(error) => {
                link.unreachable = Some(error.to_string());
                self.unreachable(name, &error);
            }
        }
    }

    fn note_epoch(&self, link: &Link) {
        let facts = link.facts();
        if let Some(instance) = facts.as_ref().and_then(|f| f.instance.as_ref()) {
            lock(&self.epochs).insert(link.host.clone(), instance.epoch.epoch);
        }
    }

    /// The host read its clock somewhere between our asking and now: the middle is the best guess.
    fn note_clock(&self, link: &Link, before: jiff::Timestamp) {
        let Some(facts) = link.facts() else { return };
        let seconds = |t: jiff::Timestamp| t.as_duration().as_secs_f64();
        let middle = f64::midpoint(seconds(before), seconds(clock::wall()));
        let offset = facts.host.epoch_seconds - middle;
        lock(&self.clocks).insert(link.host.clone(), offset);
    }

    fn unreachable(&self, name: &HostName, error: &LinkError) {
        let observation = Observation::Unknown { cause: error.to_string() };
        self.put_observation(name, observation);
        if matches!(error, LinkError::Interrupted { .. }) {
            return;
        }
        let kind = Kind::Unreachable { hint: error.hint() };
        self.emit(Event::host(name, kind, error.to_string()));
    }

    fn put_observation(&self, name: &HostName, observation: Observation) {
        if matches!(observation, Observation::Unknown { .. }) {
            let mut snapshot = self.snapshot.write().unwrap_or_else(PoisonError::into_inner);
            std::sync::Arc::make_mut(&mut snapshot).witnesses.shift_remove(name);
        }
        if self.vars.inventory.nodes.contains_key(name) {
            let mut snapshot = self.snapshot.write().unwrap_or_else(PoisonError::into_inner);
            std::sync::Arc::make_mut(&mut snapshot).nodes.insert(name.clone(), observation);
        }
    }

    /// Copies a link's facts into the snapshot.
    pub(crate) fn note_facts(&self, link: &Link) {
        let Some(facts) = link.facts() else { return };
        lock(&self.facts).insert(link.host.clone(), std::sync::Arc::clone(&facts));
        let answers = facts.instance.as_ref().is_some_and(|i| i.server.is_some());
        let facts = Box::new((*facts).clone());
        let observation =
            if answers { Observation::Seen(facts) } else { Observation::HostOnly(facts) };
        self.put_observation(&link.host, observation);
        if let Some(epoch) = link.witness_epoch() {
            let mut snapshot = self.snapshot.write().unwrap_or_else(PoisonError::into_inner);
            std::sync::Arc::make_mut(&mut snapshot).witnesses.insert(link.host.clone(), epoch);
        }
    }

    /// Works out the primary and the upstreams from the snapshot.
    ///
    /// # Errors
    /// The named reason why no primary may be assumed.
    pub fn resolve_primary(&self, rule: &PrimaryRule) -> Result<(), Box<Bootstrap>> {
        let snapshot = self.snapshot();
        let inventory = &self.vars.inventory;
        let bootstrap = match rule {
            PrimaryRule::Bootstrap => {
                let limit: BTreeSet<HostName> = self.select.hosts.iter().cloned().collect();
                Some(topology::bootstrap(inventory, &snapshot, Some(&limit)))
            }
            PrimaryRule::Running { stale } => {
                Some(topology::running_primary(inventory, &snapshot, stale))
            }
            PrimaryRule::Start { named } => {
                topology::cold_start(inventory, &snapshot, named.as_deref())
            }
        };
        let primary = match bootstrap {
            None => return Ok(()),
            Some(
                Bootstrap::Existing { primary }
                | Bootstrap::Fresh { primary }
                | Bootstrap::Resume { primary }
                | Bootstrap::Start { primary },
            ) => primary,
            Some(refusal @ Bootstrap::Refuse { .. }) => return Err(Box::new(refusal)),
        };
        let upstream = self.wanted_upstreams(&snapshot, &primary);
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        let live = std::sync::Arc::make_mut(&mut live);
        live.upstream = upstream;
        let password = |name: &HostName| {
            let instance = snapshot.nodes.get(name)?.facts()?.instance.as_ref()?;
            instance.replication_password.clone()
        };
        let known = password(&primary).or_else(|| snapshot.nodes.keys().find_map(password));
        if let Some(secret) = known.or_else(|| live.replication_password.clone()) {
            self.vars.redactor.learn(secret.expose());
            live.replication_password = Some(secret);
        } else {
            let made = crate::model::Secret::new(crate::clock::random_password());
            self.vars.redactor.learn(made.expose());
            live.replication_password = Some(made);
        }
        live.primary = Some(primary);
        Ok(())
    }

    /// Whom each standby should follow; before the primary runs, all follow it.
    fn wanted_upstreams(
        &self,
        snapshot: &Snapshot,
        primary: &HostName,
    ) -> BTreeMap<HostName, HostName> {
        let topology = topology::analyse(&self.vars.inventory, snapshot);
        let upstream = |settings: &NodeSettings| {
            let wanted = topology.wanted_upstream(settings).unwrap_or(primary);
            (settings.name.clone(), wanted.clone())
        };
        let standbys = self.vars.nodes.values().filter(|node| node.name != *primary);
        standbys.map(upstream).collect()
    }

    /// A declared upstream that was good is kept: a restart of this very run may have cut it off
    /// for a moment, and its standby waits for it, not for the primary.
    fn keep_declared(&self, upstream: &mut BTreeMap<HostName, HostName>) {
        let live = self.live();
        for (name, wanted) in upstream {
            let declared = self.vars.nodes.get(name).and_then(|node| node.follow.as_ref());
            if let Some(declared) = declared.filter(|d| live.upstream.get(name) == Some(*d)) {
                *wanted = declared.clone();
            }
        }
    }

    /// Whether a selected play is about live roles, so that a primary must be known.
    #[must_use]
    pub fn needs_primary(&self) -> bool {
        self.playbook.plays.iter().any(|play| {
            let tasks = walk(&play.tasks, &[&play.common]);
            uses_live_roles(&play.hosts.text)
                && tasks.iter().any(|(around, task)| self.selected(around, task))
        })
    }

    /// The roles that host patterns may name.
    pub(crate) fn roles(&self) -> LiveRoles {
        let primary = self.live().primary.clone();
        let nodes = self.vars.inventory.nodes.keys();
        let standbys = match &primary {
            Some(primary) => nodes.filter(|n| *n != primary).cloned().collect(),
            None => Vec::new(),
        };
        LiveRoles { primary, standbys, candidate: None }
    }

    /// At a barrier: gathers again what changes made stale, in parallel.
    pub(crate) async fn refresh(&self, pass: &Pass) {
        if pass.options.check {
            return;
        }
        stream::iter(self.links.iter())
            .map(|(name, link)| async move {
                let mut held = link.lock().await;
                if held.unreachable.is_some() || held.facts_fresh() {
                    return;
                }
                let fragments = self.lookahead(pass, name, &held, true);
                if held.ask(&fragments).await.is_ok() {
                    self.note_facts(&held);
                }
            })
            .buffer_unordered(self.links.len().max(1))
            .collect::<Vec<()>>()
            .await;
        if self.live().primary.is_some() {
            // The primary of this run stays the primary of this run; only upstreams follow.
            let snapshot = self.snapshot();
            let Some(primary) = self.live().primary.clone() else { return };
            let mut upstream = self.wanted_upstreams(&snapshot, &primary);
            self.keep_declared(&mut upstream);
            let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
            std::sync::Arc::make_mut(&mut live).upstream = upstream;
        }
    }

    /// Looks at all servers again if changes made any facts stale, for what is shown at the end:
    /// positions of different moments side by side would look like a lag.
    pub async fn gather_again(&self) {
        let mut stale = false;
        for link in self.links.values() {
            stale |= !link.lock().await.stale_facts().is_empty();
        }
        if !stale {
            return;
        }
        stream::iter(self.links.values())
            .map(|link| async move {
                let mut held = link.lock().await;
                held.invalidate(&[Resource::Postgres]);
                let stale = held.stale_facts();
                // What was seen before proves nothing about a host that does not answer now.
                let asked = match held.unreachable.clone() {
                    Some(cause) => Err(cause),
                    None => held.ask(&stale).await.map_err(|e| e.to_string()),
                };
                match asked {
                    Ok(()) => self.note_facts(&held),
                    Err(cause) => {
                        self.put_observation(&held.host, Observation::Unknown { cause });
                    }
                }
            })
            .buffer_unordered(self.links.len().max(1))
            .collect::<Vec<()>>()
            .await;
    }

    /// A server that goes away cuts its standbys off: what the others said before is out of date.
    pub(crate) async fn invalidate_peers(&self, host: &HostName) {
        for (name, link) in &self.links {
            if name != host {
                link.lock().await.invalidate(&[Resource::Postgres]);
            }
        }
    }

    /// What the tasks still to come on this host want to know and do not, and stale facts.
    pub(crate) fn upcoming_questions(
        &self,
        at: &At<'_>,
        link: &Link,
        target: &HostName,
    ) -> Vec<Fragment> {
        self.lookahead(at.pass, target, link, true)
    }

    fn lookahead(
        &self,
        pass: &Pass,
        host: &HostName,
        link: &Link,
        roles_known: bool,
    ) -> Vec<Fragment> {
        let mut fragments = link.stale_facts();
        let done = lock(&pass.hosts).get(host).map(|s| s.done.clone()).unwrap_or_default();
        for play in &self.playbook.plays {
            if !self.play_may_run_on(&play.hosts.text, host, roles_known) {
                continue;
            }
            let mut tasks = walk(&play.tasks, &[&play.common]);
            tasks.retain(|(around, task)| {
                self.selected(around, task)
                    && !done.contains(&task.id)
                    && !around.iter().any(|c| c.delegate_to.is_some())
                    && task.common.delegate_to.is_none()
            });
            for (around, task) in tasks {
                let at = At { pass, host, play: &play.name, task, around: &around };
                for item in self.lookahead_items(&at) {
                    let asked = self.look(&at, host, item.as_ref(), questions);
                    fragments.extend(asked);
                }
            }
        }
        let mut seen = std::collections::HashSet::new();
        fragments.retain(|f| link.lookup(f).is_none() && seen.insert(f.clone()));
        fragments
    }

    fn lookahead_items(&self, at: &At<'_>) -> Vec<Option<LoopItem>> {
        if at.task.r#loop.is_none() {
            return vec![None];
        }
        self.with_look(at, None, |look| {
            expand_loop(&self.vars, at.task.r#loop.as_ref(), &look.variables())
        })
        .unwrap_or_default()
    }

    fn play_may_run_on(&self, pattern: &str, host: &HostName, roles_known: bool) -> bool {
        if uses_live_roles(pattern) && !(roles_known && self.live().primary.is_some()) {
            let inventory = &self.vars.inventory;
            return inventory.nodes.contains_key(host)
                || inventory.routing.poolers.contains_key(host);
        }
        match_hosts(pattern, &self.vars.inventory, &self.roles())
            .is_ok_and(|hosts| hosts.contains(host))
    }
}

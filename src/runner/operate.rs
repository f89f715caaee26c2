//! Carries out an operation's plan on hosts: the driver says what, this sends it and reports back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};

use super::link::{LOOKING, Link, LinkError, pressed};
use super::{Runner, hook, lock};
use crate::event::{Detail, Event, Kind, Status};
use crate::facts::HostFacts;
use crate::model::{Fragment, HostName, Resource};
use crate::operation::{
    Action, Driver, Finished, Identity, Known, Looked, Next, Outcome, Plan, PoolerVerb, Proof,
    Report, Step, command, hook_environment, pooler_fragment, pooler_seen, preflight,
    preflight_fragments, read_outcome,
};
use crate::step::Options;

/// Waits, with what is known so far, until the old primary's lease is over; what it waited for, or why
/// that cannot be known.
pub type LeaseWait = Arc<dyn Fn(Known) -> BoxFuture<'static, Result<String, String>> + Send + Sync>;

/// How an operation went.
#[derive(Debug, Clone)]
pub struct Operated {
    pub finished: Finished,
    /// Who was to be the primary.
    pub candidate: HostName,
    /// The old primary handed over: then the outage is all of it.
    pub planned: bool,
    /// From the moment that the stop was sent until a server answered that it takes writes.
    pub outage: Option<Duration>,
    /// From the moment that a pooler was told to hold its clients until all were let go.
    pub held: Option<Duration>,
    pub known: Known,
}

impl Runner {
    /// Facts of all hosts and what the preconditions ask besides, in one round trip a host.
    pub async fn look_before(&self, candidate: &HostName) -> Looked {
        let (nodes, poolers) = self.ask_besides(candidate);
        self.first_batch(&Options { check: true, ..Options::default() }).await;
        self.looked(candidate, nodes, poolers).await
    }

    /// The same in the middle of a run: everything is looked at anew.
    pub(super) async fn look_again_before(&self, candidate: &HostName) -> Looked {
        let (nodes, poolers) = self.ask_besides(candidate);
        let asked = self.links.iter().map(|(name, link)| async move {
            let mut held = link.lock().await;
            let besides = self.extra_questions_of(name);
            held.forget(&besides);
            held.invalidate(&[Resource::Postgres]);
            let mut all = held.stale_facts();
            all.extend(besides);
            if held.unreachable.is_none() && held.ask(&all).await.is_ok() {
                self.note_facts(&held);
            }
        });
        join_all(asked).await;
        self.looked(candidate, nodes, poolers).await
    }

    /// What the preconditions ask of nodes and of poolers; it is asked with whatever is asked next.
    fn ask_besides(
        &self,
        candidate: &HostName,
    ) -> (BTreeMap<HostName, Vec<Fragment>>, BTreeMap<HostName, Fragment>) {
        let inventory = &self.vars.inventory;
        let of_node = |node| preflight_fragments(inventory, node, candidate);
        let nodes: BTreeMap<HostName, Vec<Fragment>> =
            self.vars.nodes.iter().map(|(name, node)| (name.clone(), of_node(node))).collect();
        let poolers: BTreeMap<HostName, Fragment> = inventory
            .routing
            .poolers
            .iter()
            .map(|(name, pooler)| (name.clone(), pooler_fragment(inventory, pooler)))
            .collect();
        let mut questions = nodes.clone();
        for (name, fragment) in &poolers {
            questions.entry(name.clone()).or_default().push(fragment.clone());
        }
        *lock(&self.extra_questions) = questions;
        (nodes, poolers)
    }

    async fn looked(
        &self,
        candidate: &HostName,
        nodes: BTreeMap<HostName, Vec<Fragment>>,
        poolers: BTreeMap<HostName, Fragment>,
    ) -> Looked {
        let mut looked = Looked::default();
        for (name, fragments) in nodes {
            let Some(link) = self.links.get(&name) else { continue };
            let link = link.lock().await;
            let answers: Option<Vec<_>> = fragments.iter().map(|f| link.lookup(f)).collect();
            let own = name == *candidate;
            let seen = answers.and_then(|a| preflight(&self.vars.inventory, &a, own));
            looked.nodes.extend(seen.map(|p| (name.clone(), p)));
        }
        for (name, fragment) in poolers {
            let Some(link) = self.links.get(&name) else { continue };
            let link = link.lock().await;
            let seen = match link.lookup(&fragment) {
                Some(answer) => pooler_seen(&answer),
                None => {
                    let why = link.unreachable.clone().unwrap_or_else(|| "no answer".to_owned());
                    // Whose it is stands before every refusal.
                    Err(why.strip_prefix(&format!("{name}: ")).map_or(why.clone(), str::to_owned))
                }
            };
            looked.poolers.insert(name, seen);
        }
        looked
    }

    /// The questions of a host that no task asks.
    pub(crate) fn extra_questions_of(&self, host: &HostName) -> Vec<Fragment> {
        lock(&self.extra_questions).get(host).cloned().unwrap_or_default()
    }

    /// Walks the plan to its end, forward or back. `elect` chooses the candidate where the plan asks for
    /// that: the plan with the roles as they are then.
    pub async fn operate(
        &self,
        mut driver: Driver,
        mut identity: Identity,
        elect: &(dyn Fn(&Known) -> Result<Plan, String> + Sync),
    ) -> Operated {
        for link in self.links.values() {
            link.lock().await.wait_less();
        }
        let (mut began, mut outage) = (None, None);
        let (mut pausing, mut held) = (None, None);
        let mut gave = false;
        let clocks = self.clocks();
        loop {
            if self.interrupted() {
                driver.interrupt();
            }
            let (stage, steps) = match driver.next_steps() {
                Next::Finished(finished) => {
                    let candidate = driver.plan().roles.candidate.clone();
                    let known = driver.known().clone();
                    let planned = driver.plan().roles.proof == Proof::CleanStop;
                    return Operated { finished, candidate, planned, outage, held, known };
                }
                Next::Elect => {
                    let plan = elect(driver.known());
                    if let Ok(plan) = &plan {
                        identity.elect(&plan.roles.candidate);
                    }
                    driver.elected(plan);
                    continue;
                }
                Next::Run { stage, steps } => (stage, steps),
            };
            if steps.iter().any(|s| s.action.begins_outage()) {
                began = began.or_else(|| Some(crate::clock::now()));
            }
            if steps.iter().any(|s| is_pooler(s, PoolerVerb::Pause)) {
                pausing = pausing.or_else(|| Some(crate::clock::now()));
            }
            let known = Known { clocks: clocks.clone(), ..driver.known().clone() };
            gave |= steps.iter().any(|s| s.action.gives());
            if steps.iter().any(|s| matches!(s.action, Action::Release { .. })) {
                // A start in its place has said already what it gave.
                identity.record.lease_ms = match gave || driver.past_return() {
                    true => known.lease_ms,
                    false => identity.record.lease_ms.or(Some(0)),
                };
            }
            let sent = steps.iter().map(|step| self.step(&stage, step, &identity, &known));
            let results: Vec<(Step, Outcome)> =
                steps.iter().cloned().zip(join_all(sent).await).collect();
            if let Some(pausing) = pausing
                && results.iter().any(|(s, o)| is_pooler(s, PoolerVerb::Resume) && is_done(o))
            {
                held = Some(crate::clock::now().since(pausing));
            }
            driver.report(&results);
            if let Some(began) = began
                && outage.is_none()
                && driver.known().promoted.is_some()
            {
                outage = Some(crate::clock::now().since(began));
            }
        }
    }

    /// Each host's boot and uptime, as last gathered.
    fn clocks(&self) -> BTreeMap<HostName, (String, Duration)> {
        let facts = lock(&self.facts);
        let clock = |host: &HostFacts| {
            let uptime = Duration::try_from_secs_f64(host.uptime_seconds).ok()?;
            Some((host.boot_id.clone(), uptime)).filter(|(boot, _)| !boot.is_empty())
        };
        facts.iter().filter_map(|(name, f)| Some((name.clone(), clock(&f.host)?))).collect()
    }

    /// One step on its host, told as a task.
    async fn step(&self, stage: &str, step: &Step, identity: &Identity, known: &Known) -> Outcome {
        let started = crate::clock::now();
        let tell = |kind, message: String| {
            let event = Event::host(&step.host, kind, message);
            self.emit(Event { task: Some(stage.to_owned()), ..event });
        };
        tell(Kind::TaskStarted, step.action.describe());
        let outcome = match &step.action {
            Action::ControllerHook { argv, .. } => {
                let environment = hook_environment(&self.vars.inventory, identity);
                hook::run(argv, &environment, self.interrupt.clone()).await
            }
            Action::Stonith { argv } => {
                let inventory = &self.vars.inventory;
                let address = inventory.nodes.get(&step.host).and_then(|n| n.host.address.clone());
                let environment = [
                    ("PGORCH_CLUSTER", inventory.cluster.clone()),
                    ("PGORCH_NODE", step.host.0.clone()),
                    ("PGORCH_ADDRESS", address.unwrap_or_default()),
                ];
                hook::run(argv, &environment, self.interrupt.clone()).await
            }
            Action::LeaseOver => self.wait_out(known).await,
            _ => match command(step, &self.vars.inventory, identity, known) {
                Err(why) => Outcome::Failed(why),
                Ok(command) => self.send_step(step, &command).await,
            },
        };
        let seconds = crate::clock::now().since(started).as_secs_f64();
        let (status, message) = match &outcome {
            Outcome::Done(report) if report.changed => (Status::Changed, report.text.clone()),
            Outcome::Done(report) => (Status::Ok, report.text.clone()),
            Outcome::Refused(why) | Outcome::Failed(why) => (Status::Failed, why.clone()),
            Outcome::Unknown(why) => (Status::Unknown, why.clone()),
        };
        let message = if message.is_empty() { step.action.describe() } else { message };
        tell(Kind::TaskDone { status, seconds, detail: Box::new(Detail::default()) }, message);
        outcome
    }

    /// A user who wants to stop ends the wait; nothing is promoted then.
    async fn wait_out(&self, known: &Known) -> Outcome {
        let Some(wait) = &self.lease_wait else {
            return Outcome::Failed("this controller keeps no leases".to_owned());
        };
        tokio::select! {
            waited = wait(known.clone()) => match waited {
                Ok(text) => Outcome::Done(Report { text, ..Report::default() }),
                Err(why) => Outcome::Failed(why),
            },
            () = pressed(Some(self.interrupt.clone()), LOOKING) => {
                Outcome::Failed("interrupted".to_owned())
            }
        }
    }

    async fn send_step(&self, step: &Step, command: &crate::step::Command) -> Outcome {
        let Some(link) = self.links.get(&step.host) else {
            return Outcome::Failed(format!("no connection to {}", step.host));
        };
        let mut link = link.lock().await;
        let sent = send(&mut link, command).await;
        if step.action.gives() && !sent.as_ref().is_err_and(LinkError::never_ran) {
            lock(&self.given).insert(step.host.clone(), crate::clock::raw());
        }
        link.invalidate(&[Resource::Everything]);
        match sent {
            Ok((rc, stdout, stderr)) => read_outcome(&step.action, rc, &stdout, &stderr),
            Err(error) if error.never_ran() => Outcome::Failed(error.to_string()),
            Err(error) => Outcome::Unknown(error.to_string()),
        }
    }
}

/// Sends a step; a connection that was lost before is made anew.
async fn send(
    link: &mut Link,
    command: &crate::step::Command,
) -> Result<(i32, String, String), LinkError> {
    link.command(&command.script, None, command.deadline, &mut |_| {}).await
}

fn is_pooler(step: &Step, wanted: PoolerVerb) -> bool {
    matches!(&step.action, Action::Pooler { verb, .. } if *verb == wanted)
}

fn is_done(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Done(_))
}

//! Carries out an operation's plan on hosts: the driver says what, this sends it and reports back.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;

use super::link::{Link, LinkError};
use super::{Runner, lock};
use crate::event::{Detail, Event, Kind, Status};
use crate::model::{Fragment, HostName};
use crate::operation::{
    Driver, Finished, Identity, Known, Next, Outcome, Plan, Preflight, Proof, Step, command,
    preflight, preflight_fragments, read_outcome,
};
use crate::step::Options;

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
    pub known: Known,
}

impl Runner {
    /// Facts of all hosts and what the preconditions ask besides, in one round trip a host.
    pub async fn look_before(&self, candidate: &HostName) -> BTreeMap<HostName, Preflight> {
        let options = Options { check: true, ..Options::default() };
        *lock(&self.extra_questions) = self
            .vars
            .nodes
            .iter()
            .map(|(name, node)| {
                (name.clone(), preflight_fragments(&self.vars.inventory, node, candidate))
            })
            .collect();
        self.first_batch(&options).await;
        let mut seen = BTreeMap::new();
        let questions = lock(&self.extra_questions).clone();
        for (name, fragments) in questions {
            let Some(link) = self.links.get(&name) else { continue };
            let link = link.lock().await;
            let answers: Option<Vec<_>> = fragments.iter().map(|f| link.lookup(f)).collect();
            seen.extend(answers.and_then(|a| preflight(&a)).map(|p| (name.clone(), p)));
        }
        seen
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
        let mut began = None;
        let mut outage = None;
        loop {
            if self.interrupted() {
                driver.interrupt();
            }
            let (stage, steps) = match driver.next_steps() {
                Next::Finished(finished) => {
                    let candidate = driver.plan().roles.candidate.clone();
                    let known = driver.known().clone();
                    let planned = driver.plan().roles.proof == Proof::CleanStop;
                    return Operated { finished, candidate, planned, outage, known };
                }
                Next::Elect => {
                    let plan = elect(driver.known());
                    if let Ok(plan) = &plan {
                        let candidate = plan.roles.candidate.clone();
                        identity.record.elected |= candidate != identity.record.candidate;
                        identity.record.candidate = candidate;
                    }
                    driver.elected(plan);
                    continue;
                }
                Next::Run { stage, steps } => (stage, steps),
            };
            if steps.iter().any(|s| s.action.begins_outage()) {
                began = began.or_else(|| Some(crate::clock::now()));
            }
            let known = driver.known().clone();
            let sent = steps.iter().map(|step| self.step(&stage, step, &identity, &known));
            let results: Vec<(Step, Outcome)> =
                steps.iter().cloned().zip(join_all(sent).await).collect();
            driver.report(&results);
            if let Some(began) = began
                && outage.is_none()
                && driver.known().promoted.is_some()
            {
                outage = Some(crate::clock::now().since(began));
            }
        }
    }

    /// One step on its host, told as a task.
    async fn step(&self, stage: &str, step: &Step, identity: &Identity, known: &Known) -> Outcome {
        let started = crate::clock::now();
        let tell = |kind, message: String| {
            let event = Event::host(&step.host, kind, message);
            self.emit(Event { task: Some(stage.to_owned()), ..event });
        };
        tell(Kind::TaskStarted, step.action.describe());
        let outcome = match command(step, &self.vars.inventory, identity, known) {
            Err(why) => Outcome::Failed(why),
            Ok(command) => self.send_step(step, &command).await,
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

    async fn send_step(&self, step: &Step, command: &crate::step::Command) -> Outcome {
        let Some(link) = self.links.get(&step.host) else {
            return Outcome::Failed(format!("no connection to {}", step.host));
        };
        let mut link = link.lock().await;
        let sent = send(&mut link, command).await;
        link.invalidate(&[crate::model::Resource::Everything]);
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

//! One task on one host: loop, judge, ask.

use std::sync::Arc;
use std::time::Duration;

use super::foresee::{later, never_changes};
use super::link::{Link, LinkError};
use super::outcome::{Outcome, deferred, gave_up, merge};
use super::{Pass, Runner, lock};
use crate::event::{Kind, Status};
use crate::model::{Exit, HostName, Resource, Value};
use crate::plan::{Judged, Look, LoopItem, expand_loop, judge, questions};
use crate::playbook::{Common, Task};
use crate::step::{StepError, Verdict};
use crate::syntax::Node;
use crate::template::Vars;

/// How often a task is judged again because an answer was missing, before that is called a bug.
const JUDGE_ROUNDS_MAX: usize = 6;

/// A task about to run: where it stands, and for which host.
pub(crate) struct At<'a> {
    pub(crate) pass: &'a Pass,
    pub(crate) host: &'a HostName,
    pub(crate) play: &'a str,
    pub(crate) task: &'a Task,
    pub(crate) around: &'a [&'a Common],
}

impl Runner {
    /// Runs a task with its loop and registers the result. Returns the whole task's outcome.
    pub(crate) async fn run_task(&self, at: &At<'_>) -> Outcome {
        let looked = self.with_look(at, None, |look| {
            let vars = look.variables();
            let items = expand_loop(&self.vars, at.task.r#loop.as_ref(), &vars);
            // What the loop names may be undefined just where `when` is false.
            items.or_else(|error| if look.is_skipped() { Ok(vec![None]) } else { Err(error) })
        });
        let items = match looked {
            Ok(items) => items,
            // The loop may name what a read-only run cannot know; a pass without an item says so.
            Err(error) if at.pass.options.check => {
                let unknown =
                    lock(&at.pass.hosts).get(at.host).is_some_and(|s| !s.scope.unknown.is_empty());
                if !unknown {
                    return self.finish(at, None, Outcome::error(&error), 0.0);
                }
                vec![None]
            }
            Err(error) => return self.finish(at, None, Outcome::error(&error), 0.0),
        };
        let looping = at.task.r#loop.is_some();
        let mut outcomes = Vec::new();
        for item in &items {
            let started = crate::clock::now();
            let outcome = self.once(at, item.as_ref()).await;
            let seconds = crate::clock::now().since(started).as_secs_f64();
            let outcome = self.finish(at, item.as_ref(), outcome, seconds);
            let stop = outcome.failed();
            outcomes.push(outcome);
            if stop || self.interrupted() {
                break;
            }
        }
        let whole = if looping { merge(outcomes) } else { outcomes.pop().unwrap_or_default() };
        self.register(at, &whole);
        whole
    }

    /// `until`, `retries`, `delay`.
    async fn attempts(&self, at: &At<'_>, item: Option<&LoopItem>) -> Outcome {
        if at.task.until.is_empty() && at.task.retries.is_none() {
            return self.attempt(at, item).await;
        }
        let numbers = [(&at.task.retries, "retries", 3), (&at.task.delay, "delay", 5)];
        let numbers = self.with_look(at, item, |look| {
            let scope = Vars::from(&look.variables());
            numbers.map(|(node, name, default)| self.number(node.as_ref(), name, default, &scope))
        });
        let (retries, delay) = match numbers {
            [Ok(retries), Ok(delay)] => (retries, Duration::from_secs(delay)),
            [Err(error), _] | [_, Err(error)] => return Outcome::error(&error),
        };
        let mut attempt = 0;
        loop {
            let mut outcome = self.attempt(at, item).await;
            let settled = outcome.status == Some(Status::Skipped)
                || outcome.exit == Some(Exit::Unreachable)
                || (at.pass.options.check && !outcome.failed());
            if settled {
                return outcome;
            }
            outcome.result.insert("attempts".into(), Value::from(attempt + 1));
            match self.until_holds(at, item, &outcome) {
                Ok(true) => return outcome,
                Ok(false) => {}
                Err(error) => return Outcome { result: outcome.result, ..Outcome::error(&error) },
            }
            if attempt >= retries || self.interrupted() {
                return gave_up(attempt + 1, outcome);
            }
            attempt += 1;
            let message = format!("attempt {attempt} of {retries}, next in {} s", delay.as_secs());
            self.tell(at, item, Kind::Progress { done_total: None }, message);
            let mut interrupt = self.interrupt.clone();
            let stopped = interrupt.wait_for(|count| *count > 0);
            let _ = crate::clock::process().within(delay, stopped).await;
            self.forget(at, item).await;
        }
    }

    /// What the task itself asks is asked anew for the next attempt, where it is asked.
    async fn forget(&self, at: &At<'_>, item: Option<&LoopItem>) {
        let Ok(target) = self.target_host(at, item) else { return };
        let Some(link) = self.links.get(&target) else { return };
        let mut held = link.lock().await;
        let own = self.look(at, &target, item, questions);
        held.forget(&own);
        if crate::step::needs_facts(at.task.kind) {
            held.invalidate(&[Resource::Postgres]);
        }
    }

    /// A whole number of `retries` and the like, which may be a template.
    fn number(
        &self,
        node: Option<&Node>,
        name: &str,
        default: u64,
        scope: &Vars,
    ) -> Result<u64, StepError> {
        let Some(node) = node else { return Ok(default) };
        let wrong =
            |why: String| StepError::new(format!("{name}: {why} (at {})", node.span.place()));
        let value = self.vars.templates.render_value(node, scope);
        let value = value.map_err(|e| wrong(e.to_string()))?;
        let text = value.as_str().and_then(|s| s.trim().parse().ok());
        value.as_u64().or(text).ok_or_else(|| wrong(format!("{value} is no whole number")))
    }

    fn until_holds(
        &self,
        at: &At<'_>,
        item: Option<&LoopItem>,
        outcome: &Outcome,
    ) -> Result<bool, StepError> {
        if at.task.until.is_empty() {
            return Ok(!outcome.failed());
        }
        if at.task.register.is_none() && outcome.failed() {
            return Ok(false);
        }
        self.with_look(at, item, |look| {
            let mut vars = look.variables();
            if let Some(name) = &at.task.register {
                vars.insert(name.clone(), Value::Object(outcome.result.clone()));
            }
            let scope = Vars::from(&vars);
            for condition in &at.task.until {
                match self.vars.templates.truth(&condition.text, &scope) {
                    Ok(true) => {}
                    Ok(false) => return Ok(false),
                    // A failed attempt may lack what the condition names.
                    Err(_) if outcome.failed() => return Ok(false),
                    Err(error) => {
                        let place = condition.span.place();
                        return Err(StepError::new(format!("until: {error} (at {place})")));
                    }
                }
            }
            Ok(true)
        })
    }

    /// `run_once` shares one result, with all its attempts.
    async fn once(&self, at: &At<'_>, item: Option<&LoopItem>) -> Outcome {
        let run_once =
            at.task.common.run_once.or_else(|| at.around.iter().rev().find_map(|c| c.run_once));
        if run_once != Some(true) {
            return self.attempts(at, item).await;
        }
        let cell = {
            let mut around: Vec<usize> = lock(&at.pass.hosts)
                .get(at.host)
                .map(|s| s.scope.items.iter().map(|i| i.index).collect())
                .unwrap_or_default();
            around.extend(item.map(|i| i.index));
            let mut once = lock(&at.pass.once);
            Arc::clone(once.entry((at.task.id, around)).or_default())
        };
        let mut mine = false;
        let shared = cell
            .get_or_init(|| {
                mine = true;
                self.attempts(at, item)
            })
            .await
            .clone();
        if mine || shared.failed() {
            return shared;
        }
        // The others take the result over without counting it as a change of their own.
        let unknown =
            shared.unknown || matches!(shared.status, Some(Status::Pending | Status::Deferred));
        let (status, message) = match shared.status {
            Some(Status::Skipped) => (Status::Skipped, shared.message.clone()),
            _ => (Status::Ok, "done once for all hosts".to_owned()),
        };
        Outcome { status: Some(status), message, unknown, ..shared }
    }

    /// One attempt, on the host itself or where it is delegated to.
    async fn attempt(&self, at: &At<'_>, item: Option<&LoopItem>) -> Outcome {
        let target = match self.target_host(at, item) {
            Ok(target) => target,
            Err(outcome) => return *outcome,
        };
        let Some(link) = self.links.get(&target) else {
            let why = format!("delegate_to: no host \"{target}\" in the inventory");
            return Outcome::error(&StepError::new(why));
        };
        for _ in 0..JUDGE_ROUNDS_MAX {
            if let Err(error) = self.fresh_facts(at, &target, link).await {
                return Outcome::lost(&error, Status::Failed);
            }
            let judged = {
                let held = link.lock().await;
                let answer = |f: &crate::model::Fragment| held.lookup(f);
                drop_guard(self.look(at, &target, item, |look| judge(look, &answer)))
            };
            match judged {
                Judged::Skipped(condition) => {
                    return Outcome::of(Status::Skipped, format!("when: {condition}"));
                }
                Judged::KnownAfter(task) => return later(at, &task),
                Judged::NeedFiles(names) => {
                    if let Err(why) = self.load_files(&names).await {
                        return Outcome::error(&StepError::new(why));
                    }
                }
                Judged::Ask(fragments) => {
                    if let Err(error) = self.ask_with_rest(at, link, &target, fragments).await {
                        return Outcome::lost(&error, Status::Failed);
                    }
                }
                Judged::Failed(error, _) if self.made_anew(at, &target) => {
                    return deferred(&error.message);
                }
                Judged::Failed(error, reads) => {
                    // What an earlier task would have made is not there in a read-only run.
                    let touched =
                        at.pass.options.check.then(|| self.touched(at, &target, &reads)).flatten();
                    return touched.map_or_else(|| Outcome::error(&error), |task| deferred(&task));
                }
                Judged::Verdict(verdict, reads) => {
                    return self.act(at, item, &target, *verdict, &reads).await;
                }
            }
        }
        let what = format!("the probe of \"{}\" never settled", at.task.kind.name);
        Outcome::error(&StepError::new(what).hint("this is a bug in pgorch"))
    }

    /// The host that the task runs on.
    fn target_host(&self, at: &At<'_>, item: Option<&LoopItem>) -> Result<HostName, Box<Outcome>> {
        let delegate = at.task.common.delegate_to.as_ref();
        let delegate =
            delegate.or_else(|| at.around.iter().rev().find_map(|c| c.delegate_to.as_ref()));
        let Some(node) = delegate else { return Ok(at.host.clone()) };
        let value = self.with_look(at, item, |look| {
            let scope = Vars::from(&look.variables());
            self.vars.templates.render_value(node, &scope)
        });
        match value {
            Ok(Value::String(name)) => Ok(HostName(name)),
            Ok(_) => Err(Box::new(Outcome::error(&StepError::new("delegate_to must be a name")))),
            Err(error) => {
                let why = format!("delegate_to: {error}");
                Err(Box::new(Outcome::error(&StepError::new(why))))
            }
        }
    }

    /// PostgreSQL kinds judge by facts; what a change made stale is gathered again first.
    async fn fresh_facts(
        &self,
        at: &At<'_>,
        target: &HostName,
        link: &tokio::sync::Mutex<Link>,
    ) -> Result<(), LinkError> {
        let mut held = link.lock().await;
        let needed = crate::step::needs_facts(at.task.kind) && !held.facts_fresh();
        if !needed {
            return Ok(());
        }
        let rest = self.upcoming_questions(at, &held, target);
        held.ask(&rest).await?;
        self.note_facts(&held);
        Ok(())
    }

    /// Asks what the task needs, and with it what the rest of the playbook will need.
    async fn ask_with_rest(
        &self,
        at: &At<'_>,
        link: &tokio::sync::Mutex<Link>,
        target: &HostName,
        mut fragments: Vec<crate::model::Fragment>,
    ) -> Result<(), LinkError> {
        let mut held = link.lock().await;
        fragments.extend(self.upcoming_questions(at, &held, target));
        held.ask(&fragments).await?;
        self.note_facts(&held);
        Ok(())
    }

    async fn act(
        &self,
        at: &At<'_>,
        item: Option<&LoopItem>,
        target: &HostName,
        verdict: Verdict,
        reads: &[Resource],
    ) -> Outcome {
        let check = at.pass.options.check;
        match verdict {
            Verdict::Satisfied(report) => {
                if check && let Some(task) = self.touched(at, target, reads) {
                    return deferred(&task);
                }
                if check && let Some(task) = self.will_owe_restart(at, target) {
                    let mut outcome = deferred(&task);
                    outcome.detail.impact.restart = true;
                    return outcome;
                }
                self.notices(at, &report);
                let mut outcome = Outcome::of(Status::Ok, report.message.unwrap_or_default());
                outcome.result = report.data;
                outcome.set_vars = report.set_vars;
                self.judge_result(at, item, outcome, false)
            }
            Verdict::NotYet(reason) => {
                let pending = check && self.anything_pending(at);
                if pending { deferred(&reason) } else { Outcome::error(&StepError::new(reason)) }
            }
            Verdict::Wait(change) if check => later(at, &change.summary),
            Verdict::Change(_) if check && never_changes(at.task) => {
                let why = "it changes nothing, and a plan runs no commands";
                Outcome { unknown: true, ..Outcome::of(Status::Skipped, why) }
            }
            Verdict::Change(_) if check && self.same_object(at, target, reads).is_some() => {
                deferred(&self.same_object(at, target, reads).unwrap_or_default())
            }
            Verdict::Change(change) if check => self.plan_change(at, target, change),
            Verdict::Wait(change) => self.perform(at, item, target, change, false).await,
            Verdict::Change(change) => self.perform(at, item, target, change, true).await,
        }
    }

    /// Calls `f` with a look at the task in its own host's scope.
    pub(crate) fn with_look<R>(
        &self,
        at: &At<'_>,
        item: Option<&LoopItem>,
        f: impl FnOnce(&Look<'_>) -> R,
    ) -> R {
        self.look(at, at.host, item, f)
    }

    /// Calls `f` with a look at the task as it runs on `target`.
    pub(crate) fn look<R>(
        &self,
        at: &At<'_>,
        target: &HostName,
        item: Option<&LoopItem>,
        f: impl FnOnce(&Look<'_>) -> R,
    ) -> R {
        let live = self.live();
        let snapshot = self.snapshot();
        let scope = lock(&at.pass.hosts).get(at.host).map(|s| s.scope.clone()).unwrap_or_default();
        let (own, facts) = (self.facts_of(at.host), self.facts_of(target));
        let files = self.files();
        f(&Look {
            run: &self.vars,
            live: &live,
            options: &at.pass.options,
            scope: &scope,
            task: at.task,
            around: at.around,
            item,
            host: target,
            own_facts: own.as_deref(),
            facts: facts.as_deref(),
            snapshot: &snapshot,
            files: &files,
        })
    }
}

/// Names the value so that the lock above it is seen to end here.
pub(super) fn drop_guard<T>(value: T) -> T {
    value
}

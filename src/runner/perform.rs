//! The commands of a change: with whose rights, in which environment, and what came of them.

use std::sync::atomic::Ordering;

use super::link::LinkError;
use super::outcome::{Outcome, command_result, failed_command, finish_result};
use super::task::At;
use super::{Runner, lock};
use crate::event::{Kind, Status};
use crate::model::{Exit, HostName, Map, Resource, Script, Value, quote};
use crate::plan::LoopItem;
use crate::step::{Change, Command, Progress, StepError};
use crate::template::Vars;

/// How a change ends on a node where an operation has begun since.
const OVERTAKEN: i32 = 86;
const OVERTAKEN_TEXT: &str = "an operation has begun here since this run looked";

/// With whose rights a task's commands run that name no user of their own.
pub(super) enum RunAs {
    Root,
    Login,
    User(String),
}

impl Runner {
    /// Makes a change, which is known to be in hand meanwhile: also when this future is dropped.
    pub(super) async fn perform(
        &self,
        at: &At<'_>,
        item: Option<&LoopItem>,
        target: &HostName,
        change: Change,
        counts: bool,
    ) -> Outcome {
        if change.impact.needs_consent() && !self.consented.load(Ordering::Relaxed) {
            let why = format!("this needs a yes, which the plan did not show: {}", change.summary);
            return Outcome::error(&StepError::refuse(why).hint("run again, with -y"));
        }
        lock(&self.in_hand).insert(at.host.clone(), self.label(at, item));
        let outcome = self.make(at, item, target, change, counts).await;
        lock(&self.in_hand).remove(at.host);
        outcome
    }

    /// Runs the commands of a change; what others must know of is claimed first.
    pub(super) async fn make(
        &self,
        at: &At<'_>,
        item: Option<&LoopItem>,
        target: &HostName,
        change: Change,
        counts: bool,
    ) -> Outcome {
        let Some(wanted) = change.in_place else {
            return self.run_commands(at, item, target, change, counts, &Script::new()).await;
        };
        match self.claim(target, wanted).await {
            Err(outcome) => *outcome,
            Ok(claimed) => {
                let function = &claimed.function;
                let outcome = self.run_commands(at, item, target, change, counts, function).await;
                self.over(claimed, wanted, &outcome).await;
                outcome
            }
        }
    }

    /// Runs the commands of a change in order, after `before` each.
    async fn run_commands(
        &self,
        at: &At<'_>,
        item: Option<&LoopItem>,
        target: &HostName,
        change: Change,
        counts: bool,
        before: &Script,
    ) -> Outcome {
        self.tell(at, item, Kind::TaskStarted, change.summary.clone());
        let surroundings = self.environment(at, item).and_then(|environment| {
            let user = self.run_as(at, item)?;
            Ok((environment, user))
        });
        let (environment, user) = match surroundings {
            Ok((environment, user)) => (environment.then(before), user),
            Err(error) => return Outcome::error(&error),
        };
        let mut last = Map::new();
        let mut failure = None;
        for command in &change.commands {
            match self
                .command(at, item, target, command, (&environment, &user), &change.writes)
                .await
            {
                Ok((rc, _, stderr)) if rc == OVERTAKEN && stderr.contains(OVERTAKEN_TEXT) => {
                    let why = stderr.trim().lines().last().unwrap_or_default();
                    let why = StepError::refuse(format!("{target}: {why}"));
                    return Outcome::error(&why.hint("run again when it is over"));
                }
                Ok((rc, stdout, stderr)) => {
                    last = command_result(rc, &stdout, &stderr);
                    if !command.ok_rc.contains(&rc) {
                        failure = Some((command.label.clone(), rc, stdout, stderr));
                        break;
                    }
                }
                Err(error) => {
                    let mut outcome = Outcome::lost(&error, error.status());
                    outcome.detail.command = Some(command.label.clone());
                    return outcome;
                }
            }
        }
        let mut result = change.report.data.clone();
        result.extend(last);
        let mut outcome = match failure {
            Some((label, rc, stdout, stderr)) => failed_command(label, rc, &stdout, &stderr),
            None => {
                if change.impact.restart {
                    self.debts_paid(at);
                    self.invalidate_peers(target).await;
                }
                self.notices(at, &change.report);
                let status = if counts { Status::Changed } else { Status::Ok };
                Outcome::of(status, change.summary.clone())
            }
        };
        outcome.set_vars = change.report.set_vars;
        outcome.detail.diffs = change.diffs;
        outcome.detail.impact = change.impact;
        outcome.result = result;
        self.judge_result(at, item, outcome, counts)
    }

    pub(super) async fn command(
        &self,
        at: &At<'_>,
        item: Option<&LoopItem>,
        target: &HostName,
        command: &Command,
        (environment, user): (&Script, &RunAs),
        writes: &[Resource],
    ) -> Result<(i32, String, String), LinkError> {
        let on = command.on.as_ref().unwrap_or(target);
        let Some(link) = self.links.get(on) else {
            return Err(LinkError::no_such_host(on));
        };
        let script = self.guard(on).then(&environment.clone()).then(&command.script);
        let progress = command.progress;
        let mut lines = |line: &str| {
            if let Some((done_total, text)) = progress_of(progress, line) {
                self.tell(at, item, Kind::Progress { done_total }, text);
            }
        };
        let mut held = link.lock().await;
        let user = match (&command.user, user) {
            (Some(user), _) | (None, RunAs::User(user)) => Some(user.clone()),
            (None, RunAs::Root) => None,
            (None, RunAs::Login) => Some(held.login().to_owned()).filter(|user| user != "root"),
        };
        // Answers are stale from the moment that the command may have started.
        held.invalidate(writes);
        held.command(&script, user.as_deref(), command.deadline, &mut lines).await
    }

    /// Refuses a change on a node where an operation has begun since this run looked at it: what the
    /// run wants may be wrong by now. Its own steps are made under the node's lock; here a moment
    /// without it is enough, since nothing that a playbook does promotes.
    fn guard(&self, on: &HostName) -> Script {
        let Some(epoch) = lock(&self.epochs).get(on).copied() else { return Script::new() };
        let home = self.vars.inventory.home();
        let home = quote(&home);
        Script::raw(format!(
            "pgorch_epoch=0; {{ read -r pgorch_epoch <{home}/epoch; }} 2>/dev/null || :\n\
             if [ \"${{pgorch_epoch:-0}}\" -gt {epoch} ]; then\n\
             echo \"{OVERTAKEN_TEXT} (epoch $pgorch_epoch)\" >&2; exit {OVERTAKEN}\nfi"
        ))
    }

    /// The OS user of a task's commands: `become_user` with `become`, else the login user.
    /// PostgreSQL kinds name their users themselves.
    pub(super) fn run_as(&self, at: &At<'_>, item: Option<&LoopItem>) -> Result<RunAs, StepError> {
        if crate::step::needs_facts(at.task.kind) {
            return Ok(RunAs::Root);
        }
        let layers = || [&at.task.common].into_iter().chain(at.around.iter().rev().copied());
        let asked = layers().find_map(|c| c.r#become);
        if !asked.unwrap_or_else(|| self.vars.inventory.becomes(at.host)) {
            return Ok(RunAs::Login);
        }
        let Some(node) = layers().find_map(|c| c.become_user.as_ref()) else {
            return Ok(RunAs::Root);
        };
        let value = self.with_look(at, item, |look| {
            self.vars.templates.render_value(node, Vars::from(&look.variables()))
        });
        let wrong =
            |why: String| StepError::new(format!("become_user: {why} (at {})", node.span.place()));
        match value.map_err(|e| wrong(e.to_string()))? {
            Value::String(user) if user == "root" => Ok(RunAs::Root),
            Value::String(user) if !user.is_empty() => Ok(RunAs::User(user)),
            other => Err(wrong(format!("{other} is no user's name"))),
        }
    }

    pub(super) fn environment(
        &self,
        at: &At<'_>,
        item: Option<&LoopItem>,
    ) -> Result<Script, StepError> {
        let layers = at.around.iter().copied().chain([&at.task.common]);
        let entries: Vec<_> = layers.flat_map(|c| &c.environment).collect();
        if entries.is_empty() {
            return Ok(Script::new());
        }
        self.with_look(at, item, |look| {
            let scope = Vars::from(&look.variables());
            let mut script = Script::new();
            for entry in entries {
                let value = self.vars.templates.render_value(&entry.value, &scope);
                let text = match value {
                    Ok(Value::String(text)) => text,
                    Ok(other) => other.to_string(),
                    Err(error) => {
                        let place = entry.value.span.place();
                        let why = format!("environment {}: {error} (at {place})", entry.key);
                        return Err(StepError::new(why));
                    }
                };
                script = script.line(&format!("export {}={}", entry.key, quote(&text)));
            }
            Ok(script)
        })
    }

    /// `changed_when` and `failed_when` have the last word on a result. `ran`: a command that counts
    /// as a change was run.
    pub(super) fn judge_result(
        &self,
        at: &At<'_>,
        item: Option<&LoopItem>,
        mut outcome: Outcome,
        ran: bool,
    ) -> Outcome {
        let mut changed = outcome.status == Some(Status::Changed);
        let mut failed = outcome.failed();
        let both = [&at.task.changed_when, &at.task.failed_when];
        if both.iter().all(|c| c.is_none()) {
            finish_result(&mut outcome, changed, failed);
            return outcome;
        }
        finish_result(&mut outcome, changed, failed);
        let verdicts = self.with_look(at, item, |look| {
            let mut vars = look.variables();
            if let Some(name) = &at.task.register {
                vars.insert(name.clone(), Value::Object(outcome.result.clone()));
            }
            let scope = Vars::from(&vars);
            both.map(|conditions| {
                let conditions = conditions.as_ref()?;
                let truths = conditions.iter().map(|c| self.vars.templates.truth(&c.text, &scope));
                Some(truths.collect::<Result<Vec<bool>, _>>().map(|t| t.into_iter().all(|b| b)))
            })
        });
        // What the command's status called a failure is the change that it was run for.
        changed |= failed && ran;
        for (verdict, flag) in verdicts.into_iter().zip([&mut changed, &mut failed]) {
            match verdict {
                None => {}
                Some(Ok(truth)) => *flag = truth,
                Some(Err(error)) => {
                    let why = StepError::new(format!("changed_when/failed_when: {error}"));
                    return Outcome { result: outcome.result, ..Outcome::error(&why) };
                }
            }
        }
        if failed {
            outcome.status = Some(Status::Failed);
            outcome.exit = outcome.exit.or(Some(Exit::Failed));
            if outcome.message.is_empty() || !ran {
                outcome.message = "failed_when holds".into();
            }
        } else {
            outcome.status = Some(if changed { Status::Changed } else { Status::Ok });
            outcome.exit = None;
        }
        finish_result(&mut outcome, changed, failed);
        outcome
    }
}

/// What a line of a running command says about its progress.
pub(super) fn progress_of(progress: Progress, line: &str) -> Option<(Option<(u64, u64)>, String)> {
    match progress {
        Progress::None => None,
        Progress::LastLine => Some((None, line.trim().to_owned())),
        Progress::Bytes => match line.strip_prefix("pgorch-progress ") {
            Some(numbers) => {
                let (done, total) = numbers.trim().split_once(' ')?;
                Some((Some((done.parse().ok()?, total.parse().ok()?)), String::new()))
            }
            None => Some((None, line.trim().to_owned())),
        },
    }
}

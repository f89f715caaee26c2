//! What is kept and told of a finished task: counts, results, handlers, events.

use super::outcome::{Outcome, tell_failure};
use super::task::At;
use super::{HostState, Planned, Problem, Runner, lock};
use crate::event::{Detail, Event, Kind, Status};
use crate::model::{Exit, Value};
use crate::plan::LoopItem;
use crate::playbook::Task;
use crate::step::{PENDING_RESTART, Report};
use crate::template::Vars;

/// Stands where `no_log` hides something.
pub(super) const HIDDEN: &str = "(output hidden by no_log)";

impl Runner {
    /// A restart pays what earlier tasks of this run reported as owed.
    pub(super) fn debts_paid(&self, at: &At<'_>) {
        let owed = |text: &str| text.starts_with(PENDING_RESTART);
        lock(&at.pass.notices).retain(|(host, text)| host != at.host || !owed(text));
    }

    pub(super) fn notices(&self, at: &At<'_>, report: &Report) {
        for notice in &report.notices {
            let mut notices = lock(&at.pass.notices);
            let entry = (at.host.clone(), notice.clone());
            if !notices.contains(&entry) {
                notices.push(entry);
            }
        }
    }

    /// Counts, registers what a read-only pass found, and tells.
    pub(crate) fn finish(
        &self,
        at: &At<'_>,
        item: Option<&LoopItem>,
        mut outcome: Outcome,
        seconds: f64,
    ) -> Outcome {
        let ignore = at
            .task
            .common
            .ignore_errors
            .or_else(|| at.around.iter().rev().find_map(|c| c.ignore_errors));
        let lost = matches!(outcome.exit, Some(Exit::Unreachable | Exit::Interrupted));
        if outcome.failed() && ignore == Some(true) && !lost {
            outcome.status = Some(Status::Ignored);
        }
        if outcome.failed() || outcome.status == Some(Status::Ignored) {
            tell_failure(&mut outcome);
        }
        let status = outcome.status.unwrap_or(Status::Ok);
        if let Some(state) = lock(&at.pass.hosts).get_mut(at.host) {
            count(state, status);
            if let Some(name) = &at.task.register
                && (matches!(status, Status::Deferred | Status::Pending) || outcome.unknown)
            {
                state.scope.unknown.insert(name.clone(), at.task.name.clone());
            }
            if outcome.unknown && at.task.kind.name == "set_fact" {
                let names = at.task.free_args.iter().map(|e| e.key.clone());
                state.scope.unknown.extend(names.map(|name| (name, at.task.name.clone())));
            }
        }
        if matches!(status, Status::Pending | Status::Deferred) {
            self.remember_planned(at, item, &outcome, status);
        }
        if at.pass.options.check && outcome.failed() {
            self.remember_problem(at, item, &outcome);
        }
        let mut detail = outcome.detail.clone();
        detail.result = outcome.result.clone();
        let message = outcome.message.clone();
        self.tell(at, item, Kind::TaskDone { status, seconds, detail: Box::new(detail) }, message);
        outcome
    }

    pub(super) fn no_log(&self, at: &At<'_>) -> bool {
        let around = || at.around.iter().rev().find_map(|c| c.no_log);
        at.task.common.no_log.or_else(around) == Some(true)
    }

    pub(super) fn remember_problem(&self, at: &At<'_>, item: Option<&LoopItem>, outcome: &Outcome) {
        let hidden = self.no_log(at);
        lock(&at.pass.problems).push(Problem {
            host: at.host.clone(),
            task: self.label(at, item),
            refused: outcome.exit == Some(Exit::Refused),
            message: if hidden { HIDDEN.to_owned() } else { outcome.message.clone() },
            hint: outcome.detail.hint.clone().filter(|_| !hidden),
        });
    }

    pub(super) fn remember_planned(
        &self,
        at: &At<'_>,
        item: Option<&LoopItem>,
        outcome: &Outcome,
        status: Status,
    ) {
        let deferred = (status == Status::Deferred).then(|| outcome.message.clone());
        let hidden = self.no_log(at);
        let summary = if hidden { HIDDEN.to_owned() } else { outcome.message.clone() };
        lock(&at.pass.planned).push(Planned {
            host: at.host.clone(),
            task: self.label(at, item),
            task_id: at.task.id,
            kind: at.task.kind.name,
            summary,
            deferred,
            impact: outcome.detail.impact.clone(),
            diffs: if hidden { Vec::new() } else { outcome.detail.diffs.clone() },
        });
    }

    pub(super) fn register(&self, at: &At<'_>, outcome: &Outcome) {
        let mut hosts = lock(&at.pass.hosts);
        let Some(state) = hosts.get_mut(at.host) else { return };
        state.scope.set.extend(outcome.set_vars.clone());
        if let Some(name) = &at.task.register {
            let mut result = outcome.result.clone();
            let skipped = outcome.status == Some(Status::Skipped);
            if skipped {
                result.insert("skipped".into(), Value::Bool(true));
            }
            result.entry("changed").or_insert(Value::Bool(false));
            let failed = outcome.failed() || outcome.status == Some(Status::Ignored);
            result.entry("failed").or_insert(Value::Bool(failed));
            if !state.scope.unknown.contains_key(name) {
                state.scope.set.insert(name.clone(), Value::Object(result));
            }
        }
        let changed = matches!(outcome.status, Some(Status::Changed | Status::Pending))
            || outcome.result.get("changed") == Some(&Value::Bool(true));
        if changed && !at.task.notify.is_empty() {
            self.notify(at, state);
        }
    }

    pub(super) fn notify(&self, at: &At<'_>, state: &mut HostState) {
        let play = self.playbook.plays.iter().find(|p| {
            let mut tasks = Vec::new();
            crate::playbook::flatten(&p.tasks, &mut tasks);
            tasks.iter().any(|t| t.id == at.task.id)
                || p.handlers.iter().any(|h| h.id == at.task.id)
        });
        let handlers = play.map(|p| p.handlers.as_slice()).unwrap_or_default();
        for name in &at.task.notify {
            let hit = |h: &&Task| h.name == *name || h.listen.contains(name);
            state.notified.extend(handlers.iter().filter(hit).map(|h| h.id));
        }
    }

    /// The task's name with its variables, and the loop's item.
    pub(super) fn label(&self, at: &At<'_>, item: Option<&LoopItem>) -> String {
        let plain = &at.task.name;
        let name = if crate::template::is_template(plain) {
            self.with_look(at, item, |look| {
                self.vars.templates.render("the name", plain, &look.variables())
            })
            .unwrap_or_else(|_| plain.clone())
        } else {
            plain.clone()
        };
        let Some(item) = item else { return name };
        // Under `no_log` what is looped over may be the secret.
        if self.no_log(at) {
            return format!("{name} (#{})", item.index + 1);
        }
        format!("{name} ({})", self.item_label(at, item))
    }

    pub(super) fn item_label(&self, at: &At<'_>, item: &LoopItem) -> String {
        if let Some(label) = at.task.r#loop.as_ref().and_then(|l| l.label.as_ref()) {
            let value = self.with_look(at, Some(item), |look| {
                let scope = Vars::from(&look.variables());
                self.vars.templates.render_value(label, &scope).ok()
            });
            match value {
                Some(Value::String(text)) => return text,
                Some(other) => return other.to_string(),
                None => {}
            }
        }
        match &item.value {
            Value::String(text) => text.clone(),
            Value::Object(map) => {
                let name = map.get("name").and_then(Value::as_str);
                name.map_or_else(|| format!("#{}", item.index + 1), str::to_owned)
            }
            other => other.to_string(),
        }
    }

    pub(crate) fn tell(
        &self,
        at: &At<'_>,
        item: Option<&LoopItem>,
        mut kind: Kind,
        message: impl Into<String>,
    ) {
        let mut message = message.into();
        if self.no_log(at) && !message.is_empty() {
            message = HIDDEN.into();
        }
        if self.no_log(at)
            && let Kind::TaskDone { detail, .. } = &mut kind
        {
            let (impact, rc) = (detail.impact.clone(), detail.rc);
            **detail = Detail { impact, rc, ..Detail::default() };
        }
        self.emit(Event {
            kind,
            host: Some(at.host.clone()),
            play: Some(at.play.to_owned()),
            task: Some(self.label(at, item)),
            place: Some(at.task.span.place()),
            message,
        });
    }
}

pub(super) fn count(state: &mut HostState, status: Status) {
    let counts = &mut state.counts;
    match status {
        Status::Ok => counts.ok += 1,
        Status::Changed | Status::Pending => counts.changed += 1,
        Status::Deferred => counts.deferred += 1,
        Status::Skipped => counts.skipped += 1,
        Status::Failed | Status::Unknown => counts.failed += 1,
        Status::Ignored => counts.ignored += 1,
    }
}

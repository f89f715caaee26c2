//! A read-only pass: what a change would touch, and what is known only after it.
//!
//! What is pending is kept by the host that it is done on, which is another one where a task is
//! delegated.

use super::outcome::{Outcome, deferred};
use super::task::At;
use super::{Runner, lock};
use crate::event::Status;
use crate::model::{HostName, Resource};
use crate::playbook::Task;
use crate::step::Change;

impl Runner {
    /// The earlier pending change that makes a good answer uncertain, in a read-only pass. What
    /// PostgreSQL itself does to other settings is not counted: each is judged by its own file.
    pub(super) fn touched(&self, at: &At<'_>, on: &HostName, reads: &[Resource]) -> Option<String> {
        let all = lock(&at.pass.pending);
        let hit = all.get(on)?.iter().find(|(write, _)| {
            *write != Resource::Postgres && reads.iter().any(|read| write.touches(read))
        });
        hit.map(|(_, task)| task.clone())
    }

    /// In a read-only pass of a run that may restart, or of a task that may: the pending change that a restart will be owed
    /// for. Whether it is can only be read from the server once the change is made.
    pub(super) fn will_owe_restart(&self, at: &At<'_>, on: &HostName) -> Option<String> {
        let says = |(name, node): &(&str, crate::syntax::Node)| {
            *name == "allowed" && node.to_value() == crate::model::Value::Bool(true)
        };
        let allowed = at.pass.options.restart || at.task.args.iter().any(says);
        if at.task.kind.name != "restart" || !allowed {
            return None;
        }
        let all = lock(&at.pass.pending);
        let pending = all.get(on)?;
        pending.iter().find(|(write, _)| *write == Resource::Restart).map(|(_, task)| task.clone())
    }

    /// The earlier pending change of just what this task looks at: what is left to do is known after
    /// it. PostgreSQL's own kinds are judged by their own files.
    pub(super) fn same_object(
        &self,
        at: &At<'_>,
        on: &HostName,
        reads: &[Resource],
    ) -> Option<String> {
        if crate::step::needs_facts(at.task.kind) {
            return None;
        }
        let all = lock(&at.pass.pending);
        let pending = all.get(on)?;
        // Package scripts may do anything, but what else they do is not worth a doubt about all.
        let packages = reads.contains(&Resource::Packages);
        let same = |write: &Resource| match write {
            Resource::Everything => packages,
            other => reads.contains(other),
        };
        pending.iter().find(|(write, _)| same(write)).map(|(_, task)| task.clone())
    }

    /// In a read-only pass: an earlier pending change makes the node's data directory something else
    /// (a copy, a standby), or takes its fence marker away, so that what stands against this task now says
    /// nothing about then.
    pub(super) fn made_anew(&self, at: &At<'_>, on: &HostName) -> bool {
        let Some(node) = self.vars.nodes.get(on).filter(|_| at.pass.options.check) else {
            return false;
        };
        let marker = format!("{}/{}.fenced", node.home, node.name);
        let made = [node.data_dir.clone(), marker].map(Resource::Path);
        let all = lock(&at.pass.pending);
        crate::step::needs_facts(at.task.kind)
            && all.get(on).is_some_and(|all| all.iter().any(|(write, _)| made.contains(write)))
    }

    pub(super) fn anything_pending(&self, at: &At<'_>) -> bool {
        lock(&at.pass.hosts).values().any(|s| s.counts.changed > 0 || s.counts.deferred > 0)
    }

    /// In a read-only pass: the earlier pending change that puts other data into the node's data
    /// directory; what is to be changed in the data that is there now says nothing about those.
    pub(super) fn data_replaced(&self, at: &At<'_>, on: &HostName) -> Option<String> {
        let node = self.vars.nodes.get(on)?;
        let all = lock(&at.pass.pending);
        let pending = all.get(on)?;
        let writes = |dir: &str, task: &str| {
            pending.iter().any(|(w, t)| t == task && *w == Resource::Path(dir.to_owned()))
        };
        let replaces = |task: &&String| writes(&node.data_dir, task) && writes(&node.home, task);
        let tasks = pending.iter().map(|(_, task)| task);
        tasks.into_iter().find(replaces).filter(|_| crate::step::needs_facts(at.task.kind)).cloned()
    }

    /// In a read-only pass: the earlier pending change whose reload will pay what this one owes, where
    /// it is a reload and nothing else.
    pub(super) fn reloaded_by(
        &self,
        at: &At<'_>,
        on: &HostName,
        change: &Change,
    ) -> Option<String> {
        if !change.impact.reload || !change.diffs.is_empty() {
            return None;
        }
        let all = lock(&at.pass.pending);
        let pending = all.get(on)?;
        pending.iter().find(|(write, _)| *write == Resource::Postgres).map(|(_, task)| task.clone())
    }

    pub(super) fn plan_change(&self, at: &At<'_>, on: &HostName, change: Change) -> Outcome {
        let later = self.reloaded_by(at, on, &change).or_else(|| self.data_replaced(at, on));
        if let Some(task) = later {
            let mut outcome = deferred(&task);
            outcome.detail.impact = change.impact;
            return outcome;
        }
        if change.impact.restart {
            self.debts_paid(at);
        }
        self.notices(at, &change.report);
        let elsewhere = change.commands.iter().filter_map(|command| command.on.as_ref());
        let mut all = lock(&at.pass.pending);
        for host in elsewhere.chain([on]) {
            let writes = change.writes.iter().map(|w| (w.clone(), at.task.name.clone()));
            all.entry(host.clone()).or_default().extend(writes);
        }
        drop(all);
        let mut outcome = Outcome::of(Status::Pending, change.summary);
        outcome.detail.diffs = change.diffs;
        outcome.detail.impact = change.impact;
        outcome
    }
}

/// A task that needs an unknown result. What cannot change a host is no pending change.
pub(super) fn later(at: &At<'_>, after: &str) -> Outcome {
    if crate::step::only_looks(at.task.kind) || never_changes(at.task) {
        let why = format!("known after: {after}");
        return Outcome { unknown: true, ..Outcome::of(Status::Skipped, why) };
    }
    deferred(after)
}

/// `changed_when: false`.
pub(super) fn never_changes(task: &Task) -> bool {
    task.changed_when.as_ref().is_some_and(|c| c.iter().any(|text| text.text == "false"))
}

//! The result of a task.

use super::link::LinkError;
use crate::event::{Detail, Status};
use crate::model::{Exit, Map, Value};
use crate::step::StepError;

/// Bytes of output that an error shows and a registered result keeps.
const TAIL_BYTES: usize = 4_000;
const REGISTER_BYTES: usize = 1_000_000;

/// The result of a task, or of one pass of its loop.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    pub status: Option<Status>,
    pub message: String,
    pub result: Map,
    pub set_vars: Map,
    pub detail: Detail,
    pub exit: Option<Exit>,
    /// Read-only run: what it registers or sets is not known, though it changes nothing itself.
    pub unknown: bool,
}

impl Outcome {
    pub(crate) fn failed(&self) -> bool {
        matches!(self.status, Some(Status::Failed | Status::Unknown))
    }

    pub(super) fn of(status: Status, message: impl Into<String>) -> Self {
        Outcome { status: Some(status), message: message.into(), ..Outcome::default() }
    }

    pub(crate) fn error(error: &StepError) -> Self {
        let exit = if error.refused { Exit::Refused } else { Exit::Failed };
        Outcome {
            exit: Some(exit),
            detail: Detail { hint: error.hint.clone(), ..Detail::default() },
            ..Outcome::of(Status::Failed, error.message.clone())
        }
    }

    pub(super) fn lost(error: &LinkError, status: Status) -> Self {
        // Nothing was asked and nothing done: the run stops before this task.
        let status = match error {
            LinkError::Interrupted { .. } => Status::Skipped,
            _ => status,
        };
        Outcome {
            exit: Some(error.exit()),
            detail: Detail { hint: error.hint(), ..Detail::default() },
            ..Outcome::of(status, error.to_string())
        }
    }
}

pub(super) fn gave_up(attempts: u64, outcome: Outcome) -> Outcome {
    let attempts =
        if attempts == 1 { "1 attempt".to_owned() } else { format!("{attempts} attempts") };
    let why =
        if outcome.message.is_empty() { "\"until\" is still false" } else { &outcome.message };
    Outcome {
        status: Some(Status::Failed),
        message: format!("gave up after {attempts}: {why}"),
        exit: outcome.exit.or(Some(Exit::Failed)),
        ..outcome
    }
}

pub(super) fn deferred(after: &str) -> Outcome {
    Outcome::of(Status::Deferred, format!("known after: {after}"))
}

/// `rc`, `stdout`, `stderr` and their lines, as Ansible names them.
pub(super) fn command_result(rc: i32, stdout: &str, stderr: &str) -> Map {
    let cut = |text: &str| text[..text.floor_char_boundary(REGISTER_BYTES)].trim_end().to_owned();
    let lines = |text: &str| text.lines().map(Value::from).collect::<Value>();
    let (stdout, stderr) = (cut(stdout), cut(stderr));
    crate::step::data(&[
        ("rc", Value::from(rc)),
        ("stdout_lines", lines(&stdout)),
        ("stderr_lines", lines(&stderr)),
        ("stdout", Value::from(stdout)),
        ("stderr", Value::from(stderr)),
    ])
}

pub(super) fn finish_result(outcome: &mut Outcome, changed: bool, failed: bool) {
    outcome.result.insert("changed".into(), Value::Bool(changed));
    outcome.result.insert("failed".into(), Value::Bool(failed));
    if !outcome.message.is_empty() {
        let message = Value::from(outcome.message.clone());
        outcome.result.entry("msg").or_insert(message);
    }
}

/// What `rescue` and a registered name see of a failure that no command's result came with.
pub(super) fn tell_failure(outcome: &mut Outcome) {
    let message = Value::from(outcome.message.clone());
    let pairs = [("changed", Value::Bool(false)), ("failed", Value::Bool(true)), ("msg", message)];
    for (name, value) in pairs {
        outcome.result.entry(name).or_insert(value);
    }
}

pub(super) fn failed_command(label: String, rc: i32, stdout: &str, stderr: &str) -> Outcome {
    let tail = |text: &str| {
        let from = text.len().saturating_sub(TAIL_BYTES);
        text[text.ceil_char_boundary(from)..].trim().to_owned()
    };
    let last = stderr.lines().chain(stdout.lines()).map(str::trim).rfind(|l| !l.is_empty());
    let first = last.map_or(String::new(), |l| format!(": {l}"));
    let mut outcome = Outcome::of(Status::Failed, format!("exit status {rc}{first}"));
    outcome.exit = Some(Exit::Failed);
    outcome.detail.command = Some(label);
    outcome.detail.rc = Some(rc);
    outcome.detail.stdout_tail = tail(stdout);
    outcome.detail.stderr_tail = tail(stderr);
    outcome
}

/// A looped task as one: failed if any failed, changed if any changed, with all `results`.
pub(super) fn merge(outcomes: Vec<Outcome>) -> Outcome {
    let has = |status: Status| outcomes.iter().any(|o| o.status == Some(status));
    let order = [
        Status::Unknown,
        Status::Failed,
        Status::Ignored,
        Status::Deferred,
        Status::Pending,
        Status::Changed,
        Status::Ok,
    ];
    let status = order.into_iter().find(|s| has(*s)).unwrap_or(Status::Skipped);
    let mut whole = Outcome { status: Some(status), ..Outcome::default() };
    let results: Vec<Value> = outcomes.iter().map(|o| Value::Object(o.result.clone())).collect();
    whole.result.insert("results".into(), Value::Array(results));
    // What is pending in one pass notifies like the change that it will be.
    let changed = |o: &Outcome| {
        o.status == Some(Status::Pending) || o.result.get("changed") == Some(&Value::Bool(true))
    };
    whole.result.insert("changed".into(), Value::Bool(outcomes.iter().any(changed)));
    let failed = |o: &Outcome| o.failed() || o.status == Some(Status::Ignored);
    whole.result.insert("failed".into(), Value::Bool(outcomes.iter().any(failed)));
    whole.unknown = outcomes.iter().any(|o| o.unknown);
    for outcome in outcomes {
        whole.set_vars.extend(outcome.set_vars.clone());
        if outcome.failed() || outcome.status == Some(Status::Ignored) {
            whole.message = outcome.message;
            whole.exit = outcome.exit;
        }
    }
    whole
}

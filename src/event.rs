//! Everything that can happen in a run, as values. Terminal, JSON lines and journal are told the
//! same events; nothing else leaves the runner.

use crate::model::{Exit, HostName, Map};
use crate::step::{Diff, Impact};

/// One happening. `ui` adds time and run id when it is shown or stored.
#[derive(Debug, Clone)]
pub struct Event {
    pub kind: Kind,
    pub host: Option<HostName>,
    /// Name of the play and of the task (with its loop label), where there is one.
    pub play: Option<String>,
    pub task: Option<String>,
    /// `file:line:column` of the task.
    pub place: Option<String>,
    pub message: String,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Kind {
    RunStarted {
        command: String,
        hosts: usize,
    },
    Connecting,
    Connected {
        seconds: f64,
    },
    Unreachable {
        hint: Option<String>,
    },
    /// The first batch of a host is answered.
    Gathered {
        seconds: f64,
        questions: usize,
    },
    PlayStarted {
        hosts: usize,
    },
    TaskStarted,
    /// A line of a running command, or bytes done of a total.
    Progress {
        done_total: Option<(u64, u64)>,
    },
    TaskDone {
        status: Status,
        seconds: f64,
        detail: Box<Detail>,
    },
    /// A debt or remark to repeat at the end.
    Notice,
    /// The run will not go on because it cannot be proved safe.
    Refused {
        code: String,
        hint: Option<String>,
    },
    Recap {
        hosts: Vec<HostRecap>,
        seconds: f64,
    },
    /// How an operation ended: `end`, `outage_seconds`, `seconds`.
    Operation {
        data: crate::model::Value,
    },
    /// What a round of the watch came to, when it is another than the round before: `phase`,
    /// `finding`, `rule`, `decision`, `primary`, `evidence`.
    Decided {
        data: crate::model::Value,
    },
    RunDone {
        exit: Exit,
    },
}

/// How a task ended on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Ok,
    Changed,
    /// Read-only run: would change.
    Pending,
    /// Read-only run: cannot be known before an earlier task has run.
    Deferred,
    Skipped,
    Failed,
    /// Failed, and `ignore_errors` or `rescue` goes on.
    Ignored,
    /// The connection ended while the task ran: whether it took effect is not known.
    Unknown,
}

impl Status {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Changed => "changed",
            Status::Pending => "pending",
            Status::Deferred => "deferred",
            Status::Skipped => "skipped",
            Status::Failed => "failed",
            Status::Ignored => "ignored",
            Status::Unknown => "unknown",
        }
    }
}

/// The rest of a finished task.
#[derive(Debug, Clone, Default)]
pub struct Detail {
    pub diffs: Vec<Diff>,
    pub impact: Impact,
    /// The failed command, without secrets.
    pub command: Option<String>,
    pub rc: Option<i32>,
    pub stdout_tail: String,
    pub stderr_tail: String,
    pub hint: Option<String>,
    /// The registered result, for `-v` and JSON.
    pub result: Map,
}

/// One line of the summary.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct HostRecap {
    pub host: HostName,
    pub ok: usize,
    pub changed: usize,
    pub skipped: usize,
    pub failed: usize,
    pub ignored: usize,
    pub deferred: usize,
    pub unreachable: bool,
    /// SSH exec sessions that the run opened there.
    pub sessions: usize,
    /// Round trips on them: batches of questions and commands.
    pub round_trips: usize,
}

impl Event {
    /// An event about the run as a whole.
    #[must_use]
    pub fn run(kind: Kind, message: impl Into<String>) -> Self {
        Event { kind, host: None, play: None, task: None, place: None, message: message.into() }
    }

    /// An event about one host.
    #[must_use]
    pub fn host(host: &HostName, kind: Kind, message: impl Into<String>) -> Self {
        Event { host: Some(host.clone()), ..Event::run(kind, message) }
    }

    /// The name of the event in JSON and in the journal.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::RunStarted { .. } => "run_started",
            Kind::Connecting => "connecting",
            Kind::Connected { .. } => "connected",
            Kind::Unreachable { .. } => "unreachable",
            Kind::Gathered { .. } => "gathered",
            Kind::PlayStarted { .. } => "play_started",
            Kind::TaskStarted => "task_started",
            Kind::Progress { .. } => "progress",
            Kind::TaskDone { .. } => "task_done",
            Kind::Notice => "notice",
            Kind::Refused { .. } => "refused",
            Kind::Recap { .. } => "recap",
            Kind::Operation { .. } => "operation",
            Kind::Decided { .. } => "decided",
            Kind::RunDone { .. } => "run_done",
        }
    }
}

/// Who is told.
pub trait Sink: Send + Sync {
    fn emit(&self, event: &Event);
}

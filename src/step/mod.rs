//! Task kinds: typed steps as data.
//!
//! A kind says (a) what to read, as [`Fragment`]s, (b) a pure function from the answers and the
//! wanted state to a [`Verdict`], and with it (c) the commands that make the change. Nothing here
//! runs anything. `CATALOG` is the one list of kinds: the playbook parser, `pgorch check`,
//! the JSON Schema and the manual read it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::facts::{NodeFacts, Snapshot, SyncRecord};
use crate::inventory::{Inventory, NodeSettings, Vip};
use crate::model::{Answer, Fragment, HostName, Map, Resource, Script, Secret, Value};
use crate::postgres::{Conninfo, SyncNames};
use crate::template::Templates;

mod accounts;
mod answers;
mod args;
mod attributes;
mod commands;
mod content;
mod copies;
mod detached;
mod fetch;
mod files;
mod general;
mod keys;
mod lines;
mod local;
mod mode;
mod packages;
mod paths;
mod patterns;
mod pg;
mod reads;
mod render;
mod repository;
mod schema;
mod sudoers;
mod sysctl;
mod system;
mod unarchive;
mod units;
mod waits;

pub use args::{ArgKind, ArgSpec, Args};
pub use schema::{reference, schema};

/// A task kind. All functions are pure.
pub struct Kind {
    pub name: &'static str,
    /// Other names that playbooks may use: `apt` for `package`; `ansible.builtin.` is stripped before.
    pub aliases: &'static [&'static str],
    /// One line for the manual.
    pub summary: &'static str,
    /// The argument that a bare scalar stands for (`command: ls -l`).
    pub free_form: Option<&'static str>,
    pub args: &'static [ArgSpec],
    /// Controller files whose bytes `diff` needs (paths as written; found in [`Ctx::files`]).
    pub files: fn(&Args) -> Vec<String>,
    /// What to read. Called with only the arguments whose spec says `probe`, possibly before facts
    /// are known (`Ctx::facts` is `None`), so that all questions travel in the first batch.
    pub probe: fn(&Args, &Ctx) -> Result<Vec<Fragment>, StepError>,
    /// From the answers, in the order of the fragments, to a verdict.
    pub diff: fn(&Args, &[Answer], &Ctx) -> Result<Verdict, StepError>,
}

/// What a kind may look at besides its arguments and answers.
pub struct Ctx<'a> {
    pub inventory: &'a Inventory,
    pub host: &'a HostName,
    /// Merged settings if the host is a PostgreSQL node.
    pub node: Option<&'a NodeSettings>,
    /// This host's facts; `None` in the first batch.
    pub facts: Option<&'a NodeFacts>,
    /// All nodes as last seen.
    pub snapshot: &'a Snapshot,
    /// The node that is, or by bootstrap will be, the primary.
    pub primary: Option<&'a HostName>,
    pub options: &'a Options,
    /// The replication password: read from a node, or made for this run.
    pub replication_password: Option<&'a Secret>,
    /// Passwords of `postgres.roles`, resolved, by role name.
    pub role_passwords: &'a BTreeMap<String, Secret>,
    /// Contents of controller files by the path that `Kind::files` returned.
    pub files: &'a BTreeMap<String, Vec<u8>>,
    /// The task's variables, for kinds that render a template or test an expression themselves.
    pub vars: &'a Map,
    pub templates: &'a Templates,
}

/// How the notice of an owed restart begins.
pub const PENDING_RESTART: &str = "pending_restart";

/// What the user allowed on the command line.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `--restart`, or a yes at the prompt.
    pub restart: bool,
    /// Read-only run (`plan`, `--check`).
    pub check: bool,
    /// Data directories that the user named as expendable, as `node:path`.
    pub destroy: Vec<String>,
    /// Nodes of the inventory that the command line leaves out of the run.
    pub left_out: Vec<HostName>,
}

/// What a kind found out.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// As wanted. The report is the task's registered result.
    Satisfied(Report),
    /// Not as wanted; these commands make it so.
    Change(Change),
    /// A wait whose condition does not hold yet: the commands wait on the host; never "changed".
    Wait(Change),
    /// Cannot be known before something that an earlier task does (server not running, user not
    /// there, ...). If nothing earlier is pending, this is the error of the task.
    NotYet(String),
}

/// What a task has to say when it did nothing, or besides what it did.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// One line for the human output, if worth it.
    pub message: Option<String>,
    /// The registered result besides `changed`, `failed`, `rc`, `stdout`, `stderr`, `msg`.
    pub data: Map,
    /// Variables to set on the host (`set_fact`).
    pub set_vars: Map,
    /// Debts and remarks: shown at the end of the run (`pending_restart: max_connections`).
    pub notices: Vec<String>,
}

/// A change to make.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Change {
    /// What differs, in short: `mode 0644 -> 0600`, `shared_buffers 128MB -> 256MB`.
    pub summary: String,
    pub diffs: Vec<Diff>,
    pub commands: Vec<Command>,
    /// What the commands touch; answers that read these are dropped.
    pub writes: Vec<Resource>,
    pub impact: Impact,
    pub report: Report,
    /// The primary is started or restarted, and somebody must know: the runner claims that first.
    pub in_place: Option<InPlace>,
}

/// A start or restart of the primary that stays one, where a watch may take it for a failure, or a guard lets
/// nobody come up writable without a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InPlace {
    /// `start` or `restart`, as in the operation's record.
    pub kind: &'static str,
    /// How long it may take; a grant that is given for it is over then.
    pub seconds: u64,
    /// The commands call `pgorch_grant`, a shell function that the runner defines.
    pub guarded: bool,
}

/// A difference to show. Secrets must not be in it.
#[derive(Debug, Clone, PartialEq)]
pub enum Diff {
    /// Two texts, shown as a unified diff. `before: None` is "not there".
    Text { path: String, before: Option<String>, after: Option<String> },
    /// Named values: parameters, attributes, rules. `None` is "not there".
    Value { name: String, before: Option<String>, after: Option<String>, note: Option<String> },
}

/// What a DBA wants to know before saying yes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Impact {
    /// A running server is restarted (its node's unit name).
    pub restart: bool,
    pub reload: bool,
    /// `promote`, `demote`, ... in words.
    pub role_change: Option<String>,
    /// Data that will be gone, in words.
    pub destroys: Option<String>,
}

impl Impact {
    /// Whether a run without a terminal needs `-y` for this (DESIGN.md section 2).
    #[must_use]
    pub fn needs_consent(&self) -> bool {
        self.restart || self.role_change.is_some() || self.destroys.is_some()
    }
}

/// One command of a change. Commands run in order; the first that fails ends the task.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// For output and errors, without secrets: what an operator would type.
    pub label: String,
    pub script: Script,
    /// OS user; `None` is root (or the task's `become_user`).
    pub user: Option<String>,
    pub deadline: Duration,
    pub progress: Progress,
    /// Exit statuses that are no failure.
    pub ok_rc: Vec<i32>,
    /// Run on another host of the inventory (`slot` on the upstream); `None` is the task's host.
    pub on: Option<HostName>,
}

/// How the lines of a running command become progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Progress {
    #[default]
    None,
    /// The last line of output is the status.
    LastLine,
    /// Lines `pgorch-progress DONE TOTAL` (bytes); others are status text.
    Bytes,
}

impl Command {
    /// A command as root with a deadline of a minute, no progress, and only status 0 good.
    #[must_use]
    pub fn new(label: impl Into<String>, script: Script) -> Self {
        Command {
            label: label.into(),
            script,
            user: None,
            deadline: Duration::from_secs(60),
            progress: Progress::None,
            ok_rc: vec![0],
            on: None,
        }
    }

    /// An argument vector that is its own label.
    #[must_use]
    pub fn argv<S: AsRef<str>>(argv: &[S]) -> Self {
        let script = Script::argv(argv);
        Self::new(script.as_str().trim_end().to_owned(), script)
    }

    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    #[must_use]
    pub fn deadline(mut self, seconds: u64) -> Self {
        self.deadline = Duration::from_secs(seconds);
        self
    }

    #[must_use]
    pub fn progress(mut self, progress: Progress) -> Self {
        self.progress = progress;
        self
    }
}

/// A task cannot be judged: bad argument, precondition that does not hold, unreadable answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct StepError {
    /// Lower case, no full stop.
    pub message: String,
    pub hint: Option<String>,
    /// The argument at fault, so that the error can point at it in the playbook.
    pub arg: Option<&'static str>,
    /// A safety precondition: the run's exit code is 5, nothing was touched.
    pub refused: bool,
}

impl StepError {
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        StepError { message: message.into(), hint: None, arg: None, refused: false }
    }

    /// A refusal: doing it cannot be proved safe.
    #[must_use]
    pub fn refuse(message: impl Into<String>) -> Self {
        StepError { refused: true, ..Self::new(message) }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn arg(mut self, arg: &'static str) -> Self {
        self.arg = Some(arg);
        self
    }
}

impl Verdict {
    /// Satisfied with nothing to say.
    #[must_use]
    pub fn ok() -> Self {
        Verdict::Satisfied(Report::default())
    }

    /// Satisfied, with a registered result.
    #[must_use]
    pub fn with_data(data: Map) -> Self {
        Verdict::Satisfied(Report { data, ..Report::default() })
    }
}

/// Whether a kind is a step of an operation only: it has its place in a plan that is verified as a
/// whole, and nowhere else.
#[must_use]
pub fn is_operation(kind: &Kind) -> bool {
    const OPERATION: [&str; 11] = [
        "preconditions",
        "epoch",
        "slots",
        "sync_record",
        "wait_sync",
        "pooler",
        "fence",
        "revoke",
        "position",
        "lease_over",
        "promote",
    ];
    OPERATION.contains(&kind.name)
}

/// The statements that write an event into `pgorch.events`, which they make if it is missing.
#[must_use]
pub fn event_sql(kind: &str, node: Option<&str>, data: &str) -> String {
    pg::event_sql(kind, node, data)
}

/// The path of the script that takes and gives up the virtual address on a node.
#[must_use]
pub fn vip_script(inventory: &Inventory, node: &NodeSettings) -> String {
    pg::vip_script(inventory, node)
}

/// The question how a node stands to the virtual address.
#[must_use]
pub fn vip_fragment(inventory: &Inventory, node: &NodeSettings) -> Fragment {
    pg::vip_fragment(inventory, node)
}

/// What the answer to [`vip_fragment`] says against the node's taking it; none if nothing does.
#[must_use]
pub fn vip_obstacle(vip: &Vip, answer: &Answer) -> Option<String> {
    pg::vip_obstacle(vip, answer)
}

/// The text of `pgorch.standby.conf` on a primary.
pub const FOLLOWS_NOBODY: &str = pg::FOLLOWS_NOBODY;

/// The text of `pgorch.standby.conf` on `node` when it follows `upstream`.
#[must_use]
pub fn standby_conf(node: &NodeSettings, upstream: &NodeSettings, slot: Option<&str>) -> String {
    pg::standby_conf(node, upstream, slot)
}

/// psql on a node, reading SQL from its standard input.
#[must_use]
pub fn psql_line(node: &NodeSettings, database: &str) -> String {
    pg::psql_line(node, database)
}

/// A connection string to a node as role replicator.
#[must_use]
pub fn replication_conninfo(
    upstream: &NodeSettings,
    application: &str,
    passfile: Option<&str>,
) -> Conninfo {
    pg::replication_conninfo(upstream, application, passfile)
}

/// Whom commits on `host` are to wait for when it is the primary; nobody in async mode.
///
/// # Errors
/// There are fewer standbys than commits are to wait for.
pub fn sync_names(inventory: &Inventory, host: &HostName) -> Result<SyncNames, String> {
    pg::sync_names(inventory, host)
}

/// Body of an operation's step: stores whom commits may be waiting for on a voter.
#[must_use]
pub fn sync_record_script(record: &SyncRecord) -> Script {
    pg::sync_record_script(record)
}

/// Body of an operation's step: puts names in force on a candidate.
#[must_use]
pub fn sync_set_script(node: &NodeSettings, names: &SyncNames) -> Script {
    pg::sync_set_script(node, names)
}

/// Body of an operation's step: names are in force on a new primary, and cover what was confirmed before.
#[must_use]
pub fn sync_settle_script(node: &NodeSettings, names: &SyncNames, seconds: u64) -> Script {
    pg::sync_settle_script(node, names, seconds)
}

/// A kind without controller files.
#[must_use]
pub fn no_files(_: &Args) -> Vec<String> {
    Vec::new()
}

/// A kind that asks the host nothing.
///
/// # Errors
/// Never.
pub fn no_probe(_: &Args, _: &Ctx) -> Result<Vec<Fragment>, StepError> {
    Ok(Vec::new())
}

/// Every kind, general ones first.
pub fn catalog() -> impl Iterator<Item = &'static Kind> {
    general::GENERAL.iter().chain(pg::KINDS).copied()
}

/// The kind of a name or alias; `ansible.builtin.`, `community.postgresql.` and the like are
/// stripped.
#[must_use]
pub fn kind(name: &str) -> Option<&'static Kind> {
    let short = name.rsplit('.').next().unwrap_or(name);
    catalog().find(|k| k.name == short || k.aliases.contains(&short))
}

/// Kept in one place so that results read the same everywhere.
#[must_use]
pub fn data(pairs: &[(&str, Value)]) -> Map {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect()
}

/// Whether a kind never changes its host.
#[must_use]
pub fn only_looks(kind: &Kind) -> bool {
    const LOOK: [&str; 13] = [
        "assert",
        "debug",
        "fail",
        "guard_members",
        "meta",
        "pause",
        "rejoin",
        "restart_due",
        "set_fact",
        "slurp",
        "stat",
        "upgrade_due",
        "wait_for",
    ];
    LOOK.contains(&kind.name)
}

/// Whether a kind judges by facts of the instance, which must then be fresh.
#[must_use]
pub fn needs_facts(kind: &Kind) -> bool {
    pg::KINDS.iter().any(|k| k.name == kind.name)
}

//! What a step does, and what came of it, as values.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::facts::{EpochFacts, SyncRecord};
use crate::model::{HostName, Lsn, Timeline};
use crate::postgres::SyncNames;

/// One typed step of an operation on one host. Every one may be done twice without harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Store the operation's epoch and intent on a voter, if it has seen no higher one.
    Claim,
    /// Make the physical slots of those who will follow this node; `kept` are those of them that
    /// are to be there whatever becomes of the operation.
    Slots { names: Vec<String>, kept: Vec<String> },
    /// Drop physical slots that nobody uses.
    DropSlots { names: Vec<String> },
    /// Put this synchronous_standby_names in force on a candidate.
    SyncNames { names: SyncNames },
    /// Store on a voter whom commits may be waiting for, with what `candidate` is to have among it; `settled`:
    /// that is the primary, nothing else is in effect there, and it covers all that was confirmed before.
    SyncRecord { candidate: HostName, names: SyncNames, settled: bool },
    /// Wait until the new primary's senders go by these names and as many standbys as they want have all
    /// WAL.
    WaitSync { names: SyncNames, seconds: u64 },
    /// Write out dirty pages now, so that the stop that follows is short.
    Checkpoint,
    /// Have a pooler hold its clients, or let them go on.
    Pooler { verb: PoolerVerb, database_host: Option<HostName> },
    /// Leave the fence marker, stop the server through systemd, and prove from its processes and
    /// its control file that it is down and where its WAL ends.
    Stop { seconds: u64 },
    /// Kill every process of the server, without asking it, and leave the fence marker; the proof is
    /// that none is left that could answer a client.
    Fence { seconds: u64 },
    /// Switch the step's host off by a command of the controller, which succeeds only when it is off.
    Stonith { argv: Vec<String> },
    /// Wait, on the controller, until a primary that nobody can reach confirms nothing any more: its
    /// lease is over, and so is what the revoked standbys have acknowledged. Revokes nobody itself.
    LeaseOver,
    /// Take the fence marker of a server away that was down before it was fenced.
    Unfence,
    /// Have a standby receive nothing any more, durably, so that the old primary can count on it no
    /// longer.
    Revoke,
    /// The undoing of a revocation: it receives again from whom it did.
    Unrevoke,
    /// Where valid WAL ends on a standby that receives nothing any more.
    Position,
    /// Wait until everything up to the shutdown checkpoint of the stopped primary is replayed.
    Received { seconds: u64 },
    /// End recovery, once the WAL up to the shutdown checkpoint is replayed; wait until writable.
    Promote { seconds: u64 },
    /// After a promotion without a verdict: has this node left recovery, and if not, can it still?
    Settle { seconds: u64 },
    /// Stream from another node; a stopped former primary is started as a standby.
    Follow { upstream: HostName, start: bool },
    /// What the node followed as a standby is taken out of its configuration.
    FollowNobody,
    /// Take the virtual address of routing.vip, and tell the neighbours.
    Vip,
    /// Write the operation into the cluster's own history, pgorch.events.
    Record { kind: String },
    /// Take the fence marker away and start the server as what it was: the undoing of a stop.
    Start { seconds: u64 },
    /// A command of the user's on the step's host.
    Hook { argv: Vec<String> },
    /// A command of routing.hooks, run by the controller; the step's host is the candidate.
    ControllerHook { time: HookTime, argv: Vec<String> },
    /// The operation is over: done or undone.
    Release { undone: bool },
}

/// What a pooler is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolerVerb {
    Pause,
    Resume,
}

/// When a command of routing.hooks is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookTime {
    BeforePromote,
    AfterPromote,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Done(Report),
    /// A precondition does not hold on the host; nothing was touched.
    Refused(String),
    /// The host says that it did not work.
    Failed(String),
    /// No verdict: the connection was lost, or time was up.
    Unknown(String),
}

/// What a step that worked has to say.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// Whether it changed anything.
    pub changed: bool,
    /// One line for people.
    pub text: String,
    pub shutdown: Option<Shutdown>,
    pub promoted: Option<Promoted>,
    /// Where the node's valid WAL ends, by timeline first.
    pub end: Option<(Timeline, Lsn)>,
    /// Slots that were made and were not there before.
    pub made: Vec<String>,
    /// Of [`Action::Fence`]: there was nothing to kill.
    pub was_down: bool,
    /// Of [`Action::Claim`]: whom commits may be waiting for, as the voter had it stored.
    pub sync: Option<SyncRecord>,
    /// Of [`Action::Settle`]: still in recovery, and no promotion was ever asked for.
    pub not_promoted: bool,
    /// Of a step that made a server writable: milliseconds that its lease lasts at most from now on.
    pub lease_ms: Option<u64>,
    /// Of [`Action::Claim`]: what the voter had stored before.
    pub before: Option<Box<EpochFacts>>,
}

/// The proof of a clean stop: where the old primary's WAL ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shutdown {
    pub timeline: Timeline,
    /// Start of the shutdown checkpoint record, the last one that was written.
    pub checkpoint: Lsn,
}

/// A node that has left recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promoted {
    pub timeline: Timeline,
}

/// What later steps need from earlier ones.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Known {
    /// Voters that have stored the epoch.
    pub claimed: BTreeSet<HostName>,
    pub shutdown: Option<Shutdown>,
    pub promoted: Option<Promoted>,
    /// Where each node's WAL ends, the fenced one's among them.
    pub ends: BTreeMap<HostName, (Timeline, Lsn)>,
    /// Servers that were down already when they were fenced.
    pub were_down: BTreeSet<HostName>,
    /// Whom commits may be waiting for, as each voter had it stored when it took the epoch: since then
    /// nobody else can have changed it there.
    pub sync: BTreeMap<HostName, SyncRecord>,
    /// Slots that this operation made, by host.
    pub made_slots: BTreeMap<HostName, Vec<String>>,
    /// Milliseconds that the lease of the server which it made writable lasts at most.
    pub lease_ms: Option<u64>,
    /// What each voter had stored before it took this epoch: nobody else's operation has begun there since.
    pub before: BTreeMap<HostName, EpochFacts>,
    /// Each host's boot and uptime when it was looked at last before the operation.
    pub clocks: BTreeMap<HostName, (String, Duration)>,
}

impl Action {
    /// The name in plans, events and errors.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Action::Claim => "claim",
            Action::Slots { .. } => "slots",
            Action::DropSlots { .. } => "drop_slots",
            Action::SyncNames { .. } => "sync_standbys",
            Action::SyncRecord { .. } => "sync_record",
            Action::WaitSync { .. } => "wait_sync",
            Action::Checkpoint => "checkpoint",
            Action::Pooler { verb: PoolerVerb::Pause, .. } => "pause",
            Action::Pooler { verb: PoolerVerb::Resume, .. } => "resume",
            Action::Stop { .. } => "stop",
            Action::Fence { .. } => "fence",
            Action::Stonith { .. } => "stonith",
            Action::LeaseOver => "lease_over",
            Action::Unfence => "unfence",
            Action::Revoke => "revoke",
            Action::Unrevoke => "unrevoke",
            Action::Position => "position",
            Action::Received { .. } => "received",
            Action::Promote { .. } => "promote",
            Action::Settle { .. } => "settle",
            Action::Follow { .. } => "follow",
            Action::FollowNobody => "follow_nobody",
            Action::Vip => "vip",
            Action::Record { .. } => "record",
            Action::Start { .. } => "start",
            Action::Hook { .. } => "hook",
            Action::ControllerHook { time: HookTime::BeforePromote, .. } => "before_promote",
            Action::ControllerHook { time: HookTime::AfterPromote, .. } => "after_promote",
            Action::Release { .. } => "release",
        }
    }

    /// In words, for plans.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Action::Claim => "store the operation's epoch and intent".to_owned(),
            Action::Slots { names, .. } => format!("replication slots {}", names.join(", ")),
            Action::DropSlots { names } => format!("drop unused slots {}", names.join(", ")),
            Action::SyncNames { names } if names.is_none() => {
                "no synchronous_standby_names".to_owned()
            }
            Action::SyncNames { names } => format!("synchronous_standby_names = '{names}'"),
            Action::SyncRecord { names, settled: false, .. } => {
                format!("store that commits may be waiting for {names}")
            }
            Action::SyncRecord { names, settled: true, .. } => {
                format!("store that commits wait for {names}")
            }
            Action::WaitSync { names, .. } => {
                format!("{} standbys have all WAL", names.k)
            }
            Action::Checkpoint => "CHECKPOINT".to_owned(),
            Action::Pooler { verb: PoolerVerb::Pause, .. } => "PAUSE: clients wait".to_owned(),
            Action::Pooler { verb: PoolerVerb::Resume, database_host } => match database_host {
                Some(host) => format!("RESUME: clients go on, with {host}"),
                None => "RESUME: clients go on".to_owned(),
            },
            Action::Stop { seconds } => {
                format!("fence marker, systemctl stop (at most {seconds} s), proof from pg_control")
            }
            Action::Fence { .. } => {
                "fence marker, SIGKILL to every process of the server, proof that none is left"
                    .to_owned()
            }
            Action::Stonith { argv } => format!("{}, on this machine", argv.join(" ")),
            Action::LeaseOver => {
                "wait until its lease and all that was acknowledged to it are over".to_owned()
            }
            Action::Unfence => "remove the fence marker".to_owned(),
            Action::Revoke => "empty primary_conninfo, end of the WAL receiver, proof".to_owned(),
            Action::Unrevoke => "receive again".to_owned(),
            Action::Position => "where its WAL ends".to_owned(),
            Action::Received { .. } => "has replayed the shutdown checkpoint".to_owned(),
            Action::Promote { .. } => "pg_promote(), until it accepts writes".to_owned(),
            Action::Settle { .. } => "whether the promotion took place".to_owned(),
            Action::Follow { upstream, start: false } => format!("follow {upstream}"),
            Action::Follow { upstream, start: true } => format!("start as a standby of {upstream}"),
            Action::Vip => "take the virtual address".to_owned(),
            Action::Record { kind } => format!("\"{kind}\" into pgorch.events"),
            Action::FollowNobody => "a primary follows nobody".to_owned(),
            Action::Start { .. } => "remove the fence marker, systemctl start".to_owned(),
            Action::Hook { argv } => argv.join(" "),
            Action::ControllerHook { argv, .. } => format!("{}, on this machine", argv.join(" ")),
            Action::Release { undone: false } => "the operation is over".to_owned(),
            Action::Release { undone: true } => "the operation is undone".to_owned(),
        }
    }

    /// Whether it makes a server writable.
    #[must_use]
    pub fn gives(&self) -> bool {
        matches!(self, Action::Promote { .. } | Action::Start { .. })
    }

    /// Whether clients cannot write from here on.
    #[must_use]
    pub fn begins_outage(&self) -> bool {
        matches!(
            self,
            Action::Stop { .. } | Action::Fence { .. } | Action::Stonith { .. } | Action::Revoke
        )
    }
}

impl Known {
    /// Remembers what a report says for the steps after it.
    pub fn learn(&mut self, host: &HostName, report: &Report) {
        self.shutdown = report.shutdown.or(self.shutdown);
        self.promoted = report.promoted.or(self.promoted);
        if report.was_down {
            self.were_down.insert(host.clone());
        }
        if let Some(end) = report.end {
            self.ends.insert(host.clone(), end);
        }
        self.lease_ms = report.lease_ms.or(self.lease_ms);
        if let Some(before) = &report.before {
            self.before.entry(host.clone()).or_insert_with(|| (**before).clone());
        }
        if let Some(sync) = &report.sync {
            self.sync.insert(host.clone(), sync.clone());
        }
        if !report.made.is_empty() {
            self.made_slots.entry(host.clone()).or_default().extend(report.made.iter().cloned());
        }
    }
}

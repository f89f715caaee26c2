//! Steps that have their place in an operation only, where they are verified as a whole plan
//! (`pgorch switchover`). Here are their names and arguments; `operation` carries them out.

use crate::model::Answer;
use crate::step::{ArgKind, ArgSpec, Args, Ctx, Kind, StepError, Verdict, no_files, no_probe};

pub(super) const PRECONDITIONS: Kind = kind(
    "preconditions",
    "everything that stands in the way, found before anything is touched.",
    &[],
    None,
);

pub(super) const EPOCH: Kind = kind(
    "epoch",
    "store the operation's epoch and intent on the voters, so that no other one interleaves.",
    &[ArgSpec::new("state", ArgKind::Choice(&["claimed", "released"]), "default claimed.")],
    Some("state"),
);

pub(super) const SLOTS: Kind =
    kind("slots", "the replication slots of all who will follow this node.", &[], None);

pub(super) const SYNC_RECORD: Kind = kind(
    "sync_record",
    "store on the voters whom commits may be waiting for once the candidate is the primary.",
    &[ArgSpec::new(
        "state",
        ArgKind::Choice(&["intended", "settled"]),
        "settled: after wait_sync, and nothing else may be in effect; default intended.",
    )],
    Some("state"),
);

pub(super) const WAIT_SYNC: Kind = kind(
    "wait_sync",
    "wait until commits on the new primary are covered by as many standbys as sync_standbys says.",
    &[ArgSpec::new("timeout", ArgKind::Int, "seconds; default 15.")],
    None,
);

pub(super) const POOLER: Kind = kind(
    "pooler",
    "have a pooler hold its clients, or let them go on with the new primary.",
    &[ArgSpec::new("state", ArgKind::Choice(&["paused", "resumed"]), "which.").required()],
    Some("state"),
);

pub(super) const HOOKS: Kind = kind(
    "hooks",
    "the commands of routing.hooks, on the machine where pgorch runs.",
    &[ArgSpec::new("time", ArgKind::Choice(&["before_promote", "after_promote"]), "which.")
        .required()],
    Some("time"),
);

pub(super) const PROMOTE: Kind = kind(
    "promote",
    "end recovery on the candidate; only after the old primary's stop is proved.",
    &[ArgSpec::new("timeout", ArgKind::Int, "seconds; default 60.")],
    None,
);

pub(super) const FENCE: Kind = kind(
    "fence",
    "kill every process of the server without asking it, and keep it down by a marker.",
    &[ArgSpec::new("timeout", ArgKind::Int, "seconds; default 10.")],
    None,
);

pub(super) const REVOKE: Kind = kind(
    "revoke",
    "have a standby receive nothing any more, where the old primary cannot be fenced.",
    &[],
    None,
);

pub(super) const POSITION: Kind =
    kind("position", "where the WAL of a standby ends; the candidate is chosen by it.", &[], None);

pub(super) const LEASE_OVER: Kind = kind(
    "lease_over",
    "wait until an old primary that nobody can reach confirms nothing any more.",
    &[],
    None,
);

const fn kind(
    name: &'static str,
    summary: &'static str,
    args: &'static [ArgSpec],
    free_form: Option<&'static str>,
) -> Kind {
    Kind { name, aliases: &[], summary, free_form, args, files: no_files, probe: no_probe, diff }
}

fn diff(_: &Args, _: &[Answer], _: &Ctx) -> Result<Verdict, StepError> {
    Err(StepError::refuse("this is a step of an operation, which needs a verified plan around it")
        .hint(
            "pgorch switchover, or a playbook of your own with: pgorch switchover --playbook FILE",
        ))
}

//! The watch: failover from outside the cluster, as a function of what rounds of looks show.
//!
//! A round asks every node ([`probe_script`], [`PROBE_SQL`]) and ends in a [`Verdict`]:
//! [`Sight`] keeps the answers and gives out fresh ones only, [`analyse`] names what they show, the
//! [`Suspicion`](suspicion::Suspicion) counts, [`RULES`] say what follows, and [`Watch`] holds it
//! together with pauses, budgets and the controller's side of the leases ([`Leases`]). What is then
//! done on hosts is an operation's plan like any other. No clock, no connection: `watcher` has those.

mod analysis;
mod board;
mod decision;
mod finding;
mod in_place;
mod lease;
mod notice;
mod observation;
mod probe;
mod rules;
mod standing;
mod suspicion;
#[cfg(test)]
mod tests;

pub use crate::facts::Pause;
pub use analysis::{Declared, Members, Picture, Recorded, analyse};
pub use board::{Board, Held, NodeRow};
pub use decision::{Act, ActEnd, Decision, FarProof, Policy, Verdict, Watch};
pub use finding::{Finding, FindingText, Minor};
pub use in_place::short_recovery;
pub use lease::{Holds, Leases, NoRenewal, Reading, Renewal};
pub use notice::{Notice, Notices};
pub use observation::{Answering, HostSeen, Look, Reach, ReceiverSeen, Seen, ServerSeen, Sight};
pub use probe::{
    PROBE_SQL, knock_script, probe_script, read_host, read_knock, read_server, sql_refusal,
};
pub use rules::{MORE_RULES, Phase, RULES, Reaction, Rule, diagram, matrix, rule, rule_table};
pub use standing::{Budget, Kept};
pub use suspicion::{Patience, Suspicion};

/// What `pgorch explain` knows of the watch besides its findings: why it does nothing although it would.
pub const WATCH_CODES: &[(&str, &str)] = &[
    (
        "watch_budget_used",
        "The primary has been replaced twice within an hour, and nobody has said that this is right. Look for the reason, then `pgorch ack`: until then the watch only looks on.",
    ),
    (
        "watch_lease_unknown",
        "The primary's host does not answer, and how long its lease lasts is not known: the watch has not read it since the node became the primary, or the guard is paused. Switch the host off and use `pgorch failover --accept-split-brain-risk`, or bring it back.",
    ),
    ("dry_run", "This is a dry run: the watch says what it would do, and does nothing."),
    (
        "undone",
        "An attempt did not come to its end, and all of it was taken back. The events say why; the watch tries again, later each time.",
    ),
    (
        "failover_unsafe_plan",
        "The plan that would replace the primary breaks a rule of safety, for instance because too few standbys can be asked, or because of a playbook of your own. The message names the rule.",
    ),
    (
        "rejoin_failed",
        "A node could not be brought back as a standby. The events say at which step; the watch tries again, later each time. By hand: `pgorch rejoin NODE`.",
    ),
    (
        "restart_failed",
        "A crashed primary did not come back in its place within failover.restart_in_place. It is fenced and replaced now.",
    ),
    (
        "watch_already_running",
        "Another watch of this machine looks after the cluster. One is enough; two would only wait for each other.",
    ),
];

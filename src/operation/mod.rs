//! Planned and unplanned changes of roles: switchover and what takes it back.
//!
//! [`lower`] turns an operation's playbook into a [`Plan`]: stages of typed [`Step`]s, complete
//! before the first change. [`verify`] refuses a plan whose order is not safe, whoever wrote the
//! playbook. A [`Driver`] walks the plan: it says which steps come next and is told what came of
//! them; it decides to go on, to undo, or to stop and say why. [`preconditions`] finds everything
//! that stands in the way beforehand, and [`Interrupted`] decides what to do about an operation that was
//! interrupted. [`command`] and [`read_outcome`] are the steps' shell side.
//!
//! All of it is pure: the runner carries it out on hosts, the simulation in a world of values.

mod action;
mod driver;
mod election;
mod failover;
mod in_place;
mod interrupted;
mod lease;
mod lower;
mod plan;
mod pooler;
mod preconditions;
mod questions;
mod quorum;
mod script;
mod situation;
mod successor;
mod unsettled;

pub use crate::facts::Proof;
pub use action::{Action, HookTime, Known, Outcome, PoolerVerb, Promoted, Report, Shutdown};
pub use driver::{Driver, End, Finished, Next, UNDO_START_SECONDS};
pub use election::{Confirmed, Elected, Ranked, choose, elect, rank};
pub use failover::{Accepted, Assessment, FAILOVER_CODES, assess};
pub use in_place::{claim_in_place, in_place_roles, release_in_place};
pub use interrupted::{
    Interrupted, Settlement, Superseded, astray, next_epoch, open_operations, superseded,
};
pub use lease::{LeaseCommand, LeaseRefusal, PAUSE_LATEST, Reading, lease_command, read_lease};
pub use lower::{lower, lower_plays};
pub use plan::{Plan, Roles, Stage, Step, verify};
pub use pooler::{PoolerDatabase, PoolerSeen, pooler_fragment, pooler_seen};
pub use preconditions::{Check, Level, PRECONDITIONS, switchover_checks};
pub use questions::{Looked, Preflight, preflight, preflight_fragments};
pub use quorum::covered;
pub use script::{Identity, command, hook_environment, read_outcome};
pub use successor::successor;
pub use unsettled::{Left, Unsettled, unsettled, way_out};

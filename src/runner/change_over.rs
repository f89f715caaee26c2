//! A planned change of the primary, from the look before it to what is told of its end: the same for
//! `pgorch switchover` and for an operation in a playbook.

use super::{Operated, Runner};
use crate::clock;
use crate::event::{Event, Kind};
use crate::facts::{OperationRecord, OperationState};
use crate::model::{Exit, HostName};
use crate::operation::{
    Check, End, Identity, Known, Level, Looked, Plan, Proof, Roles, lower_plays, next_epoch,
    switchover_checks, verify,
};
use crate::playbook::Play;
use crate::topology;

/// What became of the wish to make a node the primary.
#[derive(Debug)]
pub enum Prospect {
    /// It is already.
    Already,
    /// Preconditions do not hold; all that was found, worst first.
    Refused(Vec<Check>),
    Planned(Box<Plan>, Vec<Check>),
}

/// These plays make no plan that may be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPlan {
    /// A task that has no place in an operation.
    #[error("{0}")]
    Unfit(String),
    #[error("the playbook makes no safe switchover: {0}")]
    Unsafe(String),
}

impl Runner {
    /// The switchover to `candidate` as a verified plan, if all preconditions hold.
    ///
    /// # Errors
    /// The plays are no switchover, or no safe one.
    pub fn prospect(
        &self,
        plays: &[Play],
        candidate: &HostName,
        looked: &Looked,
    ) -> Result<Prospect, NoPlan> {
        let inventory = &self.vars.inventory;
        let snapshot = self.snapshot();
        let topology = topology::analyse(inventory, &snapshot);
        if topology.primary.as_ref() == Some(candidate) {
            return Ok(Prospect::Already);
        }
        let clocks = self.clock_offsets();
        let checks = switchover_checks(inventory, &snapshot, &topology, candidate, looked, &clocks);
        let refused = checks.iter().any(|c| c.level == Level::Refused);
        let Some(primary) = topology.primary.filter(|_| !refused) else {
            return Ok(Prospect::Refused(checks));
        };
        let roles = Roles::seen(inventory, &snapshot, &primary, candidate, Proof::CleanStop);
        let plan = lower_plays("switchover", plays, inventory, &roles).map_err(NoPlan::Unfit)?;
        verify(&plan).map_err(NoPlan::Unsafe)?;
        Ok(Prospect::Planned(Box::new(plan), checks))
    }

    /// A new operation: its id, and an epoch that nobody has stored yet.
    #[must_use]
    pub fn identity(&self, kind: &str, roles: &Roles) -> Identity {
        let record = OperationRecord {
            id: clock::random_id(),
            kind: kind.to_owned(),
            controller: controller(),
            primary: roles.primary.clone(),
            candidate: roles.candidate.clone(),
            earlier: Vec::new(),
            possible: roles.possible.clone(),
            state: OperationState::Open,
            proof: roles.proof,
            elected: false,
            over: false,
            lease_ms: None,
            started: clock::wall().to_string(),
        };
        Identity { epoch: next_epoch(&self.snapshot()), record, replaces: Vec::new() }
    }

    /// Tells what the preconditions found, and that they hold where nothing refuses.
    pub fn tell_checks(&self, checks: &[Check], seconds: f64) {
        for check in checks {
            let place = check.node.as_ref().map(|n| format!("{n} ")).unwrap_or_default();
            let event = match check.level {
                Level::Refused => Event::run(
                    Kind::Refused { code: check.code.to_owned(), hint: check.hint.clone() },
                    format!("{place}{}", check.message),
                ),
                _ => Event {
                    host: check.node.clone(),
                    ..Event::run(Kind::Notice, format!("{} ({})", check.message, check.code))
                },
            };
            self.emit(event);
        }
        if !checks.iter().any(|c| c.level == Level::Refused) {
            let nodes = self.vars.inventory.nodes.len();
            let text = format!("preconditions hold on {nodes} nodes ({seconds:.2} s)");
            self.emit(Event::run(Kind::Notice, text));
        }
    }

    /// Tells how an operation ended; the exit code that it means.
    pub fn tell_operated(&self, operated: &Operated, started: clock::Instant) -> Exit {
        let (finished, candidate) = (&operated.finished, &operated.candidate);
        for problem in &finished.problems {
            self.emit(Event::run(Kind::Notice, problem.clone()));
        }
        let seconds = clock::now().since(started).as_secs_f64();
        let planned = operated.outage.filter(|_| operated.planned);
        let outage = planned.map(|o| format!(", write outage {:.2} s", o.as_secs_f64()));
        let held = operated.held.map(|h| format!(", clients held {:.2} s", h.as_secs_f64()));
        let outage = outage.unwrap_or_default() + &held.unwrap_or_default();
        let text = match finished.end {
            End::Done => format!("{candidate} is the primary{outage} ({seconds:.1} s in all)"),
            End::Incomplete => format!(
                "{candidate} is the primary{outage}, and not all is done: see above, then pgorch apply or pgorch resume"
            ),
            End::Undone => "undone: everything is as it was".to_owned(),
            End::Broken => {
                "not all of it could be taken back: pgorch status, then pgorch resume".to_owned()
            }
            End::Refused => "nothing was changed".to_owned(),
            End::Unknown => format!(
                "whether {candidate} was promoted is not known: when it can be reached again, pgorch resume"
            ),
        };
        let data = serde_json::json!({
            "end": format!("{:?}", finished.end).to_lowercase(),
            "outage_seconds": operated.outage.map(|o| o.as_secs_f64()),
            "held_seconds": operated.held.map(|h| h.as_secs_f64()),
            "seconds": seconds,
        });
        self.emit(Event::run(Kind::Operation { data }, text));
        match finished.end {
            End::Done => Exit::Done,
            End::Refused => Exit::Refused,
            End::Undone if self.interrupted() => Exit::Interrupted,
            End::Incomplete | End::Undone | End::Broken | End::Unknown => Exit::Failed,
        }
    }
}

/// A plan whose candidate was named has nobody to choose.
///
/// # Errors
/// Always.
pub fn nobody_elects(_: &Known) -> Result<Plan, String> {
    Err("the candidate cannot be chosen in this operation".to_owned())
}

/// `user@host` of this process, for people.
fn controller() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    let user = user.unwrap_or_else(|_| "root".to_owned());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{user}@{host}")
}

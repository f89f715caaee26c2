//! An operation inside a playbook: whether it is wanted, who takes over, and its plan from the look
//! before it to its end. What comes after it sees the roles that it made.

use super::change_over::{NoPlan, Prospect, nobody_elects};
use super::gather::PrimaryRule;
use super::task::At;
use super::{Pass, Planned, Problem, Runner, lock};
use crate::clock;
use crate::event::{Event, Kind};
use crate::model::{Exit, HostName};
use crate::operation::{Driver, End, Level, successor};
use crate::plan::Condition;
use crate::playbook::{Play, walk};
use crate::step::{Impact, StepError};
use crate::topology;

/// How the operation is called, as a play and as a task.
const NAME: &str = "Switchover";

/// What is said of an operation before anything is looked at for it.
enum Wanted {
    No,
    Yes(HostName),
    /// Read-only run: known after this task.
    After(String),
}

impl Runner {
    /// Carries out the operation that these plays make up, or in a read-only pass says what it would
    /// be. False: the run ends here.
    pub(super) async fn operation(&self, pass: &Pass, plays: &[Play]) -> bool {
        self.refresh(pass).await;
        let done = match self.wanted(pass, plays) {
            Err(error) => Err(error),
            Ok(Wanted::No) => return true,
            Ok(Wanted::After(task)) => {
                self.planned(pass, plays, None, Some(format!("known after: {task}")));
                return true;
            }
            Ok(Wanted::Yes(candidate)) => self.change_over(pass, plays, &candidate).await,
        };
        match done {
            Ok(Exit::Done) => true,
            Ok(exit) => {
                self.ends(pass, exit);
                false
            }
            Err(error) => {
                self.refuse_operation(pass, plays, &error);
                // A read-only pass goes on: there may be more to say.
                pass.options.check
            }
        }
    }

    /// Whether the operation is chosen by the command line, its condition holds for the primary, and
    /// somebody can take over.
    fn wanted(&self, pass: &Pass, plays: &[Play]) -> Result<Wanted, StepError> {
        let all: Vec<_> = plays.iter().flat_map(|p| walk(&p.tasks, &[&p.common])).collect();
        let chosen = all.iter().filter(|(around, task)| self.selected(around, task)).count();
        if chosen == 0 {
            return Ok(Wanted::No);
        }
        if chosen < all.len() {
            let error =
                StepError::refuse("an operation is done as a whole, and tags leave parts out");
            return Err(error.hint("choose it with a tag on its import_playbook"));
        }
        let (Some((around, task)), Some(primary)) = (all.first(), self.live().primary.clone())
        else {
            return Err(StepError::refuse("which node is the primary is not known"));
        };
        if !self.select.hosts.contains(&primary) {
            let text = format!(
                "{primary} is the primary and not among the hosts of this run: it stays so"
            );
            lock(&pass.notices).push((primary, text));
            return Ok(Wanted::No);
        }
        let at = At { pass, host: &primary, play: NAME, task, around: &around[..1] };
        let (holds, named) = self.with_look(&at, None, |look| {
            (look.around_holds(), look.variables().get("candidate").cloned())
        });
        match holds? {
            Condition::False(_) => return Ok(Wanted::No),
            Condition::KnownAfter(task) => return Ok(Wanted::After(task)),
            Condition::Holds => {}
        }
        self.candidate(named.as_ref().and_then(|n| n.as_str())).map(Wanted::Yes)
    }

    /// The one that the variable `candidate` names, else the best standby.
    fn candidate(&self, named: Option<&str>) -> Result<HostName, StepError> {
        let inventory = &self.vars.inventory;
        if let Some(named) = named {
            let name = HostName(named.to_owned());
            let known = inventory.nodes.contains_key(&name);
            let why = || StepError::refuse(format!("candidate: no node \"{named}\""));
            return known.then_some(name).ok_or_else(why);
        }
        let snapshot = self.snapshot();
        let topology = topology::analyse(inventory, &snapshot);
        successor(inventory, &snapshot, &topology, &self.select.hosts).ok_or_else(|| {
            StepError::refuse("no standby can take over: none streams from the primary itself")
                .hint("pgorch status; with -e candidate=NODE all that stands in the way is told")
        })
    }

    async fn change_over(
        &self,
        pass: &Pass,
        plays: &[Play],
        candidate: &HostName,
    ) -> Result<Exit, StepError> {
        let started = clock::now();
        let looked = self.look_again_before(candidate).await;
        if self.interrupted() {
            return Ok(Exit::Interrupted);
        }
        let seconds = clock::now().since(started).as_secs_f64();
        let prospect = self.prospect(plays, candidate, &looked).map_err(|why| match why {
            NoPlan::Unfit(_) => StepError::new(why.to_string()),
            NoPlan::Unsafe(_) => {
                StepError::refuse(why.to_string()).hint("see playbooks/switchover.yml, as shipped")
            }
        })?;
        let (plan, checks) = match prospect {
            Prospect::Already => return Ok(Exit::Done),
            Prospect::Refused(checks) if pass.options.check => {
                let refused = checks.iter().filter(|c| c.level == Level::Refused);
                let problem = |check: &crate::operation::Check| Problem {
                    host: check.node.clone().unwrap_or_else(|| candidate.clone()),
                    task: NAME.to_owned(),
                    refused: true,
                    message: check.message.clone(),
                    hint: check.hint.clone(),
                };
                lock(&pass.problems).extend(refused.map(problem));
                self.ends(pass, Exit::Refused);
                return Ok(Exit::Done);
            }
            Prospect::Refused(checks) => {
                self.tell_checks(&checks, seconds);
                return Ok(Exit::Refused);
            }
            Prospect::Planned(plan, checks) => (plan, checks),
        };
        if pass.options.check {
            self.planned(pass, plays, Some((&plan.roles.primary, candidate)), None);
            return Ok(Exit::Done);
        }
        if !self.consented.load(std::sync::atomic::Ordering::Relaxed) {
            let why =
                format!("making {candidate} the primary needs a yes, which the plan did not show");
            return Err(StepError::refuse(why).hint("run again, with -y"));
        }
        let hosts = self.vars.inventory.nodes.len();
        self.emit(Event {
            play: Some(NAME.to_owned()),
            ..Event::run(Kind::PlayStarted { hosts }, "")
        });
        self.tell_checks(&checks, seconds);
        let (old, identity) =
            (plan.roles.primary.clone(), self.identity("switchover", &plan.roles));
        let operated = self.operate(Driver::new(*plan), identity, &nobody_elects).await;
        let exit = self.tell_operated(&operated, started);
        if operated.finished.end != End::Done {
            return Ok(exit);
        }
        for host in [&old, candidate] {
            if let Some(state) = lock(&pass.hosts).get_mut(host) {
                state.counts.changed += 1;
            }
        }
        self.gather_again().await;
        self.note_epochs().await;
        match self.resolve_primary(&PrimaryRule::Running { stale: Vec::new() }) {
            Ok(()) => Ok(exit),
            Err(_) => Err(StepError::refuse("who is the primary now cannot be seen")
                .hint("pgorch status, then run again")),
        }
    }

    /// What a read-only pass would do here: with the roles, or known later.
    fn planned(
        &self,
        pass: &Pass,
        plays: &[Play],
        roles: Option<(&HostName, &HostName)>,
        deferred: Option<String>,
    ) {
        let task_id = plays.iter().flat_map(|p| walk(&p.tasks, &[])).map(|(_, t)| t.id).next();
        let change = match roles {
            Some((old, new)) => format!("{new} becomes the primary instead of {old}"),
            None => "another node may become the primary".to_owned(),
        };
        let host = roles.map(|(_, new)| new.clone()).or_else(|| self.live().primary.clone());
        let host = host.unwrap_or_default();
        if let Some(state) = lock(&pass.hosts).get_mut(&host) {
            match deferred {
                Some(_) => state.counts.deferred += 1,
                None => state.counts.changed += 1,
            }
        }
        lock(&pass.planned).push(Planned {
            host,
            task: NAME.to_owned(),
            task_id: task_id.unwrap_or_default(),
            kind: "switchover",
            summary: deferred.clone().unwrap_or_else(|| change.clone()),
            deferred,
            impact: Impact { role_change: Some(change), ..Impact::default() },
            diffs: Vec::new(),
        });
    }

    fn refuse_operation(&self, pass: &Pass, plays: &[Play], error: &StepError) {
        let host = self.live().primary.clone().unwrap_or_default();
        if pass.options.check {
            lock(&pass.problems).push(Problem {
                host,
                task: NAME.to_owned(),
                refused: error.refused,
                message: error.message.clone(),
                hint: error.hint.clone(),
            });
        } else {
            let place = plays.first().map(|p| p.span.place()).unwrap_or_default();
            let kind =
                Kind::Refused { code: "operation_refused".to_owned(), hint: error.hint.clone() };
            self.emit(Event::run(kind, format!("{} ({place})", error.message)));
        }
        self.ends(pass, if error.refused { Exit::Refused } else { Exit::Failed });
    }

    /// The run's exit code is at least this one.
    fn ends(&self, pass: &Pass, exit: Exit) {
        let mut ended = lock(&pass.ended);
        *ended = Some(ended.map_or(exit, |before| before.worst(exit)));
    }
}

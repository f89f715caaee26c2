//! `pgorch switchover`, `pgorch failover` and `pgorch resume` as they are, but that they do one step at a time: looks are
//! [`World::snapshot`], steps are [`World::perform`], and everything between is production code.

use std::sync::Arc;

use pgorch::facts::{OperationRecord, OperationState, Proof, Snapshot};
use pgorch::model::HostName;
use pgorch::operation::{
    Accepted, Action, Assessment, Check, Driver, End, Finished, Identity, Interrupted, Known,
    Level, Next, Outcome, Plan, Report, Roles, Settlement, Step, assess, astray, choose, lower,
    next_epoch, open_operations, switchover_checks, verify,
};
use pgorch::playbook::Playbook;
use pgorch::topology::{ClockOffsets, analyse};

use super::world::{Late, World};

/// What becomes of a step on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Done, and its verdict comes back.
    Fine,
    /// Done, and nobody hears of it.
    Lost,
    /// It never gets there, and that is known.
    Refused,
    /// It never gets there; that is not known.
    Swallowed,
    /// It gets there much later.
    Late,
    /// The script dies after so many durable changes.
    Dies(usize),
}

/// How a run of the program ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ended {
    /// There was nothing to do.
    Nothing,
    /// Before anything was touched, or because it cannot be known.
    Refused(Vec<String>),
    Operation(Finished),
}

#[derive(Debug, Clone)]
enum Task {
    Switchover(HostName),
    Failover(Option<HostName>, Accepted),
    Resume,
}

/// What an election goes by: the look of the beginning, and what the operator wants.
struct Choice {
    snapshot: Snapshot,
    found: Assessment,
    wanted: Option<HostName>,
    accepted: Accepted,
}

/// A process on some machine; not to call it any more is to kill it, or to let it sleep.
pub(crate) struct Controller {
    pub(crate) name: String,
    task: Task,
    playbook: Option<Arc<Playbook>>,
    pub(crate) ended: Option<Ended>,
    driver: Option<Driver>,
    identity: Option<Identity>,
    choice: Option<Choice>,
    /// While a resumption claims its epoch.
    claiming: Option<Interrupted>,
    /// The steps in hand, and what came of those that are over.
    batch: Vec<(Step, Option<Outcome>)>,
    /// Steps that were sent so far, for tests that count.
    pub(crate) sent: Vec<Step>,
}

impl Controller {
    pub(crate) fn switchover(name: &str, to: &str) -> Self {
        Self::new(name, Task::Switchover(HostName::from(to)))
    }

    /// `to` may be empty: the standby with the most WAL.
    pub(crate) fn failover(name: &str, to: &str, accepted: Accepted) -> Self {
        let wanted = (!to.is_empty()).then(|| HostName::from(to));
        Self::new(name, Task::Failover(wanted, accepted))
    }

    pub(crate) fn resume(name: &str) -> Self {
        Self::new(name, Task::Resume)
    }

    fn new(name: &str, task: Task) -> Self {
        Controller {
            name: name.to_owned(),
            task,
            playbook: None,
            ended: None,
            driver: None,
            identity: None,
            choice: None,
            claiming: None,
            batch: Vec::new(),
            sent: Vec::new(),
        }
    }

    pub(crate) fn with(mut self, playbook: Arc<Playbook>) -> Self {
        self.playbook = Some(playbook);
        self
    }

    pub(crate) fn interrupt(&mut self) {
        if let Some(driver) = &mut self.driver {
            driver.interrupt();
        }
    }

    /// The first step in hand, which is sent next.
    pub(crate) fn next(&self) -> Option<&Step> {
        self.batch.iter().find(|(_, outcome)| outcome.is_none()).map(|(step, _)| step)
    }

    /// To its end, with nothing in the way.
    #[track_caller]
    pub(crate) fn run(&mut self, world: &mut World) {
        for _ in 0..400 {
            if self.ended.is_some() {
                return;
            }
            self.advance(world, Fate::Fine, 0);
            world.check();
        }
        panic!("{} does not come to an end\n{}", self.name, world.story());
    }

    /// The next thing that it does: a look with its decision, or the step in hand at `choice`.
    pub(crate) fn advance(&mut self, world: &mut World, fate: Fate, choice: usize) {
        if self.ended.is_some() {
            return;
        }
        if self.driver.is_none() {
            match self.task.clone() {
                Task::Switchover(to) => self.begin(world, &to),
                Task::Failover(to, accepted) => self.replace(world, to, accepted),
                Task::Resume => self.find(world),
            }
        } else {
            self.send(world, fate, choice);
        }
        if self.driver.is_some() {
            self.report(world);
        }
        if let Some(ended) = &self.ended {
            world.tell(format!("{} ends: {ended:?}", self.name));
        }
    }

    fn identity(&self, world: &mut World, kind: &str, roles: &Roles) -> Identity {
        world.operations += 1;
        let record = OperationRecord {
            id: format!("op{}", world.operations),
            kind: kind.to_owned(),
            controller: self.name.clone(),
            primary: roles.primary.clone(),
            candidate: roles.candidate.clone(),
            earlier: Vec::new(),
            possible: roles.possible.clone(),
            state: OperationState::Open,
            proof: roles.proof,
            elected: false,
            over: false,
            lease_ms: None,
            started: String::new(),
        };
        let epoch = next_epoch(&world.snapshot(&self.name));
        Identity { epoch, record, replaces: Vec::new() }
    }

    /// The plan that the playbook of its kind makes of these roles.
    fn plan(&self, world: &World, kind: &str, roles: &Roles) -> Plan {
        let shipped = if kind == "failover" { &super::FAILOVER } else { &super::SWITCHOVER };
        let playbook = self.playbook.as_ref().unwrap_or(shipped);
        lower(kind, playbook, world.inventory, roles).expect("a plan")
    }

    /// `change_over` of cli/switchover.rs.
    fn begin(&mut self, world: &mut World, to: &HostName) {
        let snapshot = world.snapshot(&self.name);
        let topology = analyse(world.inventory, &snapshot);
        if topology.primary.as_ref() == Some(to) {
            self.ended = Some(Ended::Nothing);
            return;
        }
        let looked = world.looked(&self.name, to);
        let clocks = ClockOffsets::new();
        let checks = switchover_checks(world.inventory, &snapshot, &topology, to, &looked, &clocks);
        let refused = refused(&checks);
        let Some(primary) = topology.primary.clone().filter(|_| refused.is_empty()) else {
            self.ended = Some(Ended::Refused(refused));
            return;
        };
        let roles = Roles::seen(world.inventory, &snapshot, &primary, to, Proof::CleanStop);
        let plan = self.plan(world, "switchover", &roles);
        verify(&plan).expect("a safe plan");
        self.identity = Some(self.identity(world, "switchover", &roles));
        self.driver = Some(Driver::new(plan));
        world.tell(format!("{} looks: {to} instead of {primary}", self.name));
    }

    /// `replace` of cli/failover.rs.
    fn replace(&mut self, world: &mut World, wanted: Option<HostName>, accepted: Accepted) {
        let snapshot = world.snapshot(&self.name);
        let topology = analyse(world.inventory, &snapshot);
        let assessed = assess(world.inventory, &snapshot, &topology, wanted.as_ref(), accepted);
        let found = match assessed {
            Ok((found, _)) => found,
            Err(checks) => {
                self.ended = Some(Ended::Refused(refused(&checks)));
                return;
            }
        };
        let first = wanted.clone().or_else(|| found.candidates.first().map(|c| c.name().clone()));
        let first = first.expect("a candidate");
        let roles = Roles::seen(world.inventory, &snapshot, &found.primary, &first, found.proof);
        let roles = roles.besides(&found.possible);
        let plan = self.plan(world, "failover", &roles);
        if let Err(why) = verify(&plan) {
            self.ended = Some(Ended::Refused(vec![why]));
            return;
        }
        let mut identity = self.identity(world, "failover", &roles);
        identity.replaces.clone_from(&found.superseded.ids);
        identity.record.earlier.clone_from(&found.superseded.earlier);
        world.accepted.insert(identity.record.id.clone(), accepted);
        world.tell(format!(
            "{} looks: {first} instead of {} ({:?})",
            self.name, found.primary, found.proof
        ));
        self.identity = Some(identity);
        self.driver = Some(Driver::new(plan));
        self.choice = Some(Choice { snapshot, found, wanted, accepted });
    }

    /// `choose` of cli/failover.rs.
    fn elect(&mut self, world: &mut World) {
        let (Some(driver), Some(choice)) = (&self.driver, &self.choice) else { return };
        let Choice { snapshot, found, wanted, accepted } = choice;
        let known = driver.known();
        let chosen = choose(world.inventory, found, known, wanted.as_ref(), *accepted);
        let plan = chosen.and_then(|chosen| {
            let to = &chosen.candidate;
            let roles = Roles::seen(world.inventory, snapshot, &found.primary, to, found.proof);
            let roles = roles.besides(&found.possible);
            let plan = self.plan(world, "failover", &roles);
            verify(&plan).map(|()| plan)
        });
        world.tell(match &plan {
            Ok(plan) => format!("{} elects {}", self.name, plan.roles.candidate),
            Err(why) => format!("{} elects nobody: {why}", self.name),
        });
        if let (Ok(plan), Some(identity)) = (&plan, &mut self.identity) {
            identity.elect(&plan.roles.candidate);
        }
        if let Some(driver) = &mut self.driver {
            driver.elected(plan);
        }
    }

    /// `go_on` of cli/switchover.rs, up to the claim.
    fn find(&mut self, world: &mut World) {
        let snapshot = world.snapshot(&self.name);
        let Some(interrupted) = Interrupted::find(world.inventory, &snapshot, None) else {
            self.ended = Some(Ended::Nothing);
            return;
        };
        let record = interrupted.record.clone();
        let OperationRecord { kind, primary, candidate, proof, .. } = &record;
        let roles = Roles::seen(world.inventory, &snapshot, primary, candidate, *proof);
        let roles = roles.besides(&record.possible);
        let mut identity = self.identity(world, kind, &roles);
        identity.replaces = open_operations(&snapshot);
        identity.record.over = interrupted.over;
        identity.record.earlier.clone_from(&record.earlier);
        self.identity = Some(identity);
        self.driver = Some(Driver::claiming(kind, &roles, interrupted.needed(&snapshot)));
        world.tell(format!("{} resumes {} over {}", self.name, record.id, interrupted.over));
        self.claiming = Some(interrupted);
    }

    /// `go_on` of cli/switchover.rs, after the claim.
    fn settle(&mut self, world: &mut World, interrupted: &Interrupted, claimed: &Known) {
        let snapshot = world.snapshot(&self.name);
        let settlement = interrupted.settle(&snapshot);
        let OperationRecord { kind, primary, candidate, proof, .. } = &interrupted.record;
        world.tell(format!("{} finds: {settlement:?}", self.name));
        let new_primary = match &settlement {
            Settlement::Refuse { why, .. } => {
                self.ended = Some(Ended::Refused(vec![why.clone()]));
                return;
            }
            Settlement::Finish { primary } => primary,
            Settlement::Undo | Settlement::TakeBack => candidate,
        };
        let roles = Roles::seen(world.inventory, &snapshot, primary, new_primary, *proof);
        let roles = roles.besides(&interrupted.record.possible);
        let plan = self.plan(world, kind, &roles);
        self.driver = Some(match settlement {
            Settlement::Undo if interrupted.over => {
                Driver::sweeping(plan, world.inventory, claimed)
            }
            Settlement::TakeBack => Driver::sweeping(plan, world.inventory, claimed),
            Settlement::Undo => Driver::undoing(plan, world.inventory, claimed),
            _ => Driver::after_promotion(
                plan,
                claimed,
                astray(world.inventory, &snapshot, new_primary),
            ),
        });
    }

    fn send(&mut self, world: &mut World, fate: Fate, choice: usize) {
        let open: Vec<usize> =
            (0..self.batch.len()).filter(|i| self.batch[*i].1.is_none()).collect();
        let at = open[choice % open.len()];
        let step = self.batch[at].0.clone();
        let (identity, driver) = (self.identity.clone(), self.driver.as_ref());
        let (Some(identity), Some(driver)) = (identity, driver) else { return };
        let known = driver.known().clone();
        let (me, host) = (self.name.clone(), step.host.clone());
        let gone = |why: &str| Outcome::Unknown(why.to_owned());
        let here = matches!(step.action, Action::Stonith { .. } | Action::ControllerHook { .. });
        let arrives = here || world.alive(&host) && world.passes(&me, host.as_str());
        let outcome = match fate {
            Fate::Refused => Outcome::Failed("no connection".to_owned()),
            Fate::Late => {
                world.late.push_back(Late::Step(Box::new((step.clone(), identity.clone(), known))));
                gone("late")
            }
            Fate::Swallowed => gone("swallowed"),
            _ if !arrives => gone("no answer"),
            Fate::Fine | Fate::Lost if here => match (at_home(world, &step, &identity), fate) {
                (Ok(()), Fate::Fine) => Outcome::Done(Report::default()),
                (Err(why), Fate::Fine) => Outcome::Failed(why),
                _ => gone("it was killed"),
            },
            Fate::Dies(_) if here => Outcome::Failed("it was killed".to_owned()),
            Fate::Fine | Fate::Lost | Fate::Dies(_) => {
                world.fuel = if let Fate::Dies(fuel) = fate { Some(fuel) } else { None };
                let outcome = world.perform(&step, &identity, &known);
                let back = world.passes(host.as_str(), &me);
                if back && fate == Fate::Fine || matches!(fate, Fate::Dies(_)) {
                    outcome
                } else {
                    gone("the answer is lost")
                }
            }
        };
        world.tell(format!(
            "{me}: {} on {host} (epoch {}, {fate:?}): {}",
            step.action.name(),
            identity.epoch,
            match &outcome {
                Outcome::Done(_) => "done".to_owned(),
                other => format!("{other:?}"),
            }
        ));
        self.sent.push(step);
        self.batch[at].1 = Some(outcome);
    }

    /// Tells the driver what is over, and takes the next steps in hand.
    fn report(&mut self, world: &mut World) {
        loop {
            let Some(driver) = &mut self.driver else { return };
            if self.batch.iter().any(|(_, outcome)| outcome.is_none()) {
                return;
            }
            if !self.batch.is_empty() {
                let results: Vec<(Step, Outcome)> =
                    self.batch.drain(..).filter_map(|(s, o)| Some((s, o?))).collect();
                driver.report(&results);
            }
            match driver.next_steps() {
                Next::Run { steps, .. } if steps.is_empty() => driver.report(&[]),
                Next::Run { steps, .. } => {
                    self.batch = steps.into_iter().map(|s| (s, None)).collect();
                }
                Next::Elect => self.elect(world),
                Next::Finished(finished) => match self.claiming.take() {
                    Some(interrupted) if finished.end == End::Done => {
                        let claimed = driver.known().clone();
                        self.settle(world, &interrupted, &claimed);
                        if self.ended.is_some() {
                            return;
                        }
                    }
                    _ => {
                        if matches!(finished.end, End::Done | End::Undone | End::Refused) {
                            world.nobody_waits(&self.sent);
                        }
                        if finished.end == End::Done {
                            world.vip_is_with(&driver.plan().roles.candidate);
                        }
                        world.nobody_is_forgotten();
                        self.ended = Some(Ended::Operation(finished));
                        return;
                    }
                },
            }
        }
    }
}

fn refused(checks: &[Check]) -> Vec<String> {
    let refused = checks.iter().filter(|c| c.level == Level::Refused);
    let words = |c: &Check| {
        format!("{}: {} ({})", c.code, c.message, c.hint.as_deref().unwrap_or_default())
    };
    refused.map(words).collect()
}

/// A command that the controller runs itself.
fn at_home(world: &mut World, step: &Step, identity: &Identity) -> Result<(), String> {
    match &step.action {
        Action::Stonith { .. } => world.switch_off(&step.host, &identity.record.id),
        _ => Ok(()),
    }
}

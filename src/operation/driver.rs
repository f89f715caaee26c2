//! Walks a plan: which steps come next, and when to turn back.
//!
//! The point of no return is the moment at which a promotion is sent. Before it whatever goes wrong
//! is undone in reverse order; after it the rest is carried out as far as it can be, and what could
//! not be done is told.

use super::action::{Action, Known, Outcome, PoolerVerb};
use super::plan::{Plan, Roles, Stage, Step};
use crate::model::HostName;

/// How long a promotion without a verdict is asked about, in rounds.
const SETTLE_ROUNDS: usize = 5;
/// Seconds that one of these rounds may wait on the host.
const SETTLE_SECONDS: u64 = 5;
/// Seconds that the old primary may take to accept connections again; it was shut down cleanly.
const UNDO_START_SECONDS: u64 = 300;

/// How often a pooler is told to let its clients go on, in all.
const RESUME_TRIES: usize = 3;

/// What the runner is to do now.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Carry these out side by side, then report all of them.
    Run {
        stage: String,
        steps: Vec<Step>,
    },
    Finished(Finished),
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    pub end: End,
    /// Why it turned back, or what could not be done; for people, most important first.
    pub problems: Vec<String>,
}

/// The kinds of end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Everything was done.
    Done,
    /// The roles have changed; something after that is not done.
    Incomplete,
    /// It could not be done, and all is as it was.
    Undone,
    /// It could not be done, and not all of it could be taken back.
    Broken,
    /// Nothing was changed.
    Refused,
    /// Whether the candidate was promoted is not known.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Forward,
    Undo,
    /// Asking what became of a promotion.
    Settle {
        round: usize,
    },
    Over(End),
}

/// The state of an operation that is under way.
#[derive(Debug, Clone)]
pub struct Driver {
    plan: Plan,
    mode: Mode,
    stage: usize,
    /// Steps that were sent and are, or may be, in effect, in order.
    sent: Vec<Step>,
    undo: Vec<Step>,
    known: Known,
    problems: Vec<String>,
    claimed: usize,
    /// Voters without which a claim is worth nothing.
    needed: Vec<HostName>,
    interrupted: bool,
    /// Poolers whose clients wait although they need not: they are told again before anything else.
    again: Vec<Step>,
    tries: usize,
    /// Poolers whose clients wait still when there are no tries left.
    held: Vec<Step>,
}

impl Driver {
    /// From the first stage on.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let needed = vec![plan.roles.primary.clone(), plan.roles.candidate.clone()];
        Driver {
            plan,
            mode: Mode::Forward,
            stage: 0,
            sent: Vec::new(),
            undo: Vec::new(),
            known: Known::default(),
            problems: Vec::new(),
            claimed: 0,
            needed,
            interrupted: false,
            again: Vec::new(),
            tries: 1,
            held: Vec::new(),
        }
    }

    /// Only claims a higher epoch for an operation that was interrupted: on the candidate above all,
    /// where nothing of the interrupted one can take effect any more then.
    #[must_use]
    pub fn claiming(kind: &str, roles: &Roles) -> Self {
        let claim = |host: &HostName| Step { host: host.clone(), action: Action::Claim };
        let steps = roles.voters.iter().map(claim).collect();
        let stage = Stage { name: "Claim a higher epoch".to_owned(), steps };
        let plan = Plan { kind: kind.to_owned(), roles: roles.clone(), stages: vec![stage] };
        let needed = vec![roles.candidate.clone()];
        Driver { needed, ..Driver::new(plan) }
    }

    /// From the stage after the promotion on, which is known to have taken place.
    #[must_use]
    pub fn after_promotion(plan: Plan) -> Self {
        let promotes =
            |s: &Stage| s.steps.iter().any(|s| matches!(s.action, Action::Promote { .. }));
        let at = plan.stages.iter().position(promotes).unwrap_or(0);
        let sent = plan.stages.get(at).map(|s| s.steps.clone()).unwrap_or_default();
        Driver { stage: at + 1, sent, ..Driver::new(plan) }
    }

    /// Takes back an operation that was interrupted before its promotion: whatever of it was done.
    #[must_use]
    pub fn undoing(kind: &str, roles: &Roles, poolers: &[HostName]) -> Self {
        let plan = Plan { kind: kind.to_owned(), roles: roles.clone(), stages: Vec::new() };
        let step = |host: &HostName, action| Step { host: host.clone(), action };
        let others = roles.voters.iter().filter(|v| **v != roles.candidate);
        let names = others.map(crate::inventory::slot_name).collect();
        let mut undo = vec![step(&roles.primary, Action::Start { seconds: UNDO_START_SECONDS })];
        undo.extend(poolers.iter().map(|host| step(host, let_go())));
        undo.push(step(&roles.candidate, Action::DropSlots { names }));
        undo.extend(roles.voters.iter().map(|v| step(v, Action::Release { undone: true })));
        let sent = vec![step(&roles.primary, Action::Stop { seconds: 0 })];
        Driver { mode: Mode::Undo, undo, sent, ..Driver::new(plan) }
    }

    /// What later steps need to know.
    #[must_use]
    pub fn known(&self) -> &Known {
        &self.known
    }

    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Whether a promotion was sent: from here on there is no way back.
    #[must_use]
    pub fn past_return(&self) -> bool {
        self.sent.iter().any(|s| matches!(s.action, Action::Promote { .. }))
    }

    /// The user wants to stop: before the point of no return that means to undo.
    pub fn interrupt(&mut self) {
        self.interrupted = true;
    }

    /// What to do next. Call it again after [`Driver::report`].
    pub fn next_steps(&mut self) -> Next {
        if self.mode == Mode::Forward && self.interrupted && !self.past_return() {
            self.turn_back("interrupted".to_owned());
        }
        match self.mode {
            Mode::Forward if !self.again.is_empty() => {
                let steps = std::mem::take(&mut self.again);
                Next::Run { stage: "Clients wait: once more".to_owned(), steps }
            }
            Mode::Forward => match self.plan.stages.get(self.stage).cloned() {
                // The operation stays open, so that `pgorch resume` lets them go on.
                Some(stage) if !self.held.is_empty() && is_release(&stage) => {
                    self.over(End::Incomplete)
                }
                Some(stage) => {
                    let steps: Vec<Step> = stage.steps;
                    self.sent.extend(steps.iter().cloned());
                    Next::Run { stage: stage.name, steps }
                }
                None => {
                    self.over(if self.problems.is_empty() { End::Done } else { End::Incomplete })
                }
            },
            Mode::Undo => match self.undo.first().cloned() {
                Some(step) => {
                    // All poolers, all slots, all voters: what is of one kind goes together.
                    let same = |s: &&Step| s.action.name() == step.action.name();
                    let steps = self.undo.iter().take_while(same).cloned().collect();
                    Next::Run { stage: "Undo".to_owned(), steps }
                }
                None => self.over(End::Undone),
            },
            Mode::Settle { .. } => {
                let host = self.plan.roles.candidate.clone();
                let action = Action::Settle { seconds: SETTLE_SECONDS };
                Next::Run {
                    stage: "What became of the promotion".to_owned(),
                    steps: vec![Step { host, action }],
                }
            }
            Mode::Over(end) => self.over(end),
        }
    }

    /// What came of the steps of the last [`Next::Run`], in the same order.
    pub fn report(&mut self, results: &[(Step, Outcome)]) {
        for (step, outcome) in results {
            if let Outcome::Done(report) = outcome {
                self.known.learn(&step.host, report);
            }
        }
        match self.mode {
            Mode::Forward => self.report_forward(results),
            Mode::Undo => self.report_undo(results),
            Mode::Settle { round } => self.report_settle(results, round),
            Mode::Over(_) => {}
        }
    }

    fn report_forward(&mut self, results: &[(Step, Outcome)]) {
        let claims = |r: &&(Step, Outcome)| r.0.action == Action::Claim;
        self.claimed += results.iter().filter(claims).filter(|(_, o)| is_done(o)).count();
        let all_claims =
            !results.is_empty() && results.iter().all(|(s, _)| s.action == Action::Claim);
        let bad: Vec<&(Step, Outcome)> = results.iter().filter(|(_, o)| !is_done(o)).collect();
        if all_claims {
            self.report_claims(&bad);
            return;
        }
        let promotion = results.iter().find(|(s, _)| matches!(s.action, Action::Promote { .. }));
        if let Some((step, outcome)) = promotion.filter(|(_, o)| !is_done(o)) {
            match outcome {
                // The host says that no promotion was asked for: nothing has happened.
                Outcome::Refused(why) | Outcome::Failed(why) => {
                    let why = format!("{}: {why}", step.host);
                    self.sent.retain(|s| !matches!(s.action, Action::Promote { .. }));
                    self.turn_back(why);
                }
                _ => {
                    self.problems.push(problem(step, outcome));
                    self.mode = Mode::Settle { round: 0 };
                }
            }
            return;
        }
        if self.past_return() {
            self.report_after_return(&bad);
            return;
        }
        match bad.first() {
            None => self.stage += 1,
            Some(_) => {
                let why: Vec<String> = bad.iter().map(|(s, o)| problem(s, o)).collect();
                for (step, outcome) in &bad {
                    // What a host refused is not in effect there.
                    if matches!(outcome, Outcome::Refused(_)) {
                        self.sent.retain(|s| s != step);
                    }
                }
                self.turn_back(why.join("; "));
            }
        }
    }

    /// There is no way back any more: what could not be done is told. Clients that wait come first.
    fn report_after_return(&mut self, bad: &[&(Step, Outcome)]) {
        let (waiting, others): (Vec<_>, Vec<_>) =
            bad.iter().copied().partition(|r| r.0.action.name() == let_go().name());
        self.problems.extend(others.iter().map(|(s, o)| problem(s, o)));
        if !waiting.is_empty() && self.tries < RESUME_TRIES {
            self.tries += 1;
            self.again = waiting.iter().map(|(s, _)| s.clone()).collect();
            return;
        }
        for (step, outcome) in waiting {
            let why = problem(step, outcome);
            self.problems.insert(0, format!("CLIENTS OF {} WAIT: {why}", step.host));
            self.held.push(step.clone());
        }
        self.stage += 1;
    }

    /// A majority is enough; a refusal means that another operation has begun since.
    fn report_claims(&mut self, bad: &[&(Step, Outcome)]) {
        let why: Vec<String> = bad.iter().map(|(s, o)| problem(s, o)).collect();
        let refused = bad.iter().any(|(_, o)| matches!(o, Outcome::Refused(_)));
        let roles = &self.plan.roles;
        let missing = bad.iter().any(|(s, _)| self.needed.contains(&s.host));
        if refused || missing || self.claimed < roles.quorum() {
            self.problems.extend(why);
            self.turn_back(format!(
                "the epoch is stored on {} of {} voters, {} are needed",
                self.claimed,
                roles.voters.len(),
                roles.quorum()
            ));
        } else {
            self.stage += 1;
        }
    }

    fn report_undo(&mut self, results: &[(Step, Outcome)]) {
        let waits = |r: &(Step, Outcome)| r.0.action == let_go() && !is_done(&r.1);
        if results.iter().any(waits) && self.tries < RESUME_TRIES {
            self.tries += 1;
            let gone = |s: &Step| results.iter().any(|(r, o)| r == s && is_done(o));
            self.undo.retain(|s| !gone(s));
            return;
        }
        for (step, outcome) in results {
            self.undo.retain(|s| s != step);
            if !is_done(outcome) {
                let why = problem(step, outcome);
                self.problems.push(match step.action == let_go() {
                    true => format!("CLIENTS OF {} WAIT: {why}", step.host),
                    false => why,
                });
                // Who could not be reached any more will refuse nothing to the next operation.
                if step.action != (Action::Release { undone: true }) {
                    self.mode = Mode::Over(End::Broken);
                }
            }
        }
        if self.mode == Mode::Over(End::Broken) {
            return;
        }
        if self.undo.is_empty() {
            let touched = self.sent.iter().any(|s| s.action != Action::Claim);
            self.mode = Mode::Over(if touched { End::Undone } else { End::Refused });
        }
    }

    fn report_settle(&mut self, results: &[(Step, Outcome)], round: usize) {
        let Some((_, outcome)) = results.first() else { return };
        match outcome {
            Outcome::Done(report) if report.promoted.is_some() => {
                // It took place; what was said about it is of no interest any more.
                self.problems.pop();
                self.mode = Mode::Forward;
                self.stage += 1;
            }
            Outcome::Done(report) if report.not_promoted => {
                self.sent.retain(|s| !matches!(s.action, Action::Promote { .. }));
                let why = self.problems.pop().unwrap_or_default();
                self.turn_back(why);
            }
            _ if round + 1 < SETTLE_ROUNDS => self.mode = Mode::Settle { round: round + 1 },
            _ => self.mode = Mode::Over(End::Unknown),
        }
    }

    /// From here on everything that was, or may have been, done is taken back.
    fn turn_back(&mut self, why: String) {
        self.problems.push(why);
        self.undo = undo(&self.sent, &self.known);
        self.mode = Mode::Undo;
        if self.undo.is_empty() {
            let touched = self.sent.iter().any(|s| s.action != Action::Claim);
            self.mode = Mode::Over(if touched { End::Undone } else { End::Refused });
        }
    }

    fn over(&mut self, end: End) -> Next {
        self.mode = Mode::Over(end);
        Next::Finished(Finished { end, problems: self.problems.clone() })
    }
}

/// What takes back the steps that were sent, in reverse order; what needs no taking back is left out.
fn undo(sent: &[Step], known: &Known) -> Vec<Step> {
    let mut steps = Vec::new();
    for Step { host, action } in sent.iter().rev() {
        let back = match action {
            Action::Stop { .. } => Some(Action::Start { seconds: UNDO_START_SECONDS }),
            Action::Pooler { verb: PoolerVerb::Pause, .. } => Some(let_go()),
            Action::Slots { .. } => made(host, known).map(|names| Action::DropSlots { names }),
            Action::Claim => Some(Action::Release { undone: true }),
            _ => None,
        };
        let step = back.map(|action| Step { host: host.clone(), action });
        steps.extend(step.filter(|s| !steps.contains(s)));
    }
    steps
}

/// A pooler's clients go on with whom they were.
fn let_go() -> Action {
    Action::Pooler { verb: PoolerVerb::Resume, database_host: None }
}

fn is_release(stage: &Stage) -> bool {
    stage.steps.iter().any(|s| matches!(s.action, Action::Release { .. }))
}

fn made(host: &HostName, known: &Known) -> Option<Vec<String>> {
    known.made_slots.get(host).filter(|names| !names.is_empty()).cloned()
}

fn is_done(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Done(_))
}

fn problem(step: &Step, outcome: &Outcome) -> String {
    let what = step.action.name();
    let host = &step.host;
    match outcome {
        Outcome::Done(_) => String::new(),
        Outcome::Refused(why) => format!("{host} refuses {what}: {why}"),
        Outcome::Failed(why) => format!("{what} on {host}: {why}"),
        Outcome::Unknown(why) => format!("{what} on {host} is without a verdict: {why}"),
    }
}

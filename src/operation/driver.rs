//! Walks a plan: which steps come next, and when to turn back.
//!
//! The point of no return is the moment at which a promotion is sent. Before it whatever goes wrong
//! is undone in reverse order; after it the rest is carried out as far as it can be, and what could
//! not be done is told.

use std::collections::BTreeSet;

use super::action::{Action, Known, Outcome, PoolerVerb};
use super::lower::slots_kept;
use super::plan::{Plan, Roles, Stage, Step};
use crate::facts::Proof;
use crate::inventory::{Inventory, slot_name};
use crate::model::HostName;

/// How long a promotion without a verdict is asked about, in rounds.
const SETTLE_ROUNDS: usize = 5;
/// Seconds that one of these rounds may wait on the host.
const SETTLE_SECONDS: u64 = 5;
/// How often a step that undoes something is sent without a verdict coming back.
const UNDO_ROUNDS: usize = 3;
/// Seconds that the old primary may take to accept connections again; it was shut down cleanly.
pub const UNDO_START_SECONDS: u64 = 300;

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
    /// Choose the candidate from [`Known::ends`], then call [`Driver::elected`].
    Elect,
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
    /// Those of them whose report is known.
    heard: Vec<Step>,
    undo: Vec<Step>,
    /// How often the first steps of `undo` were sent in vain.
    undo_round: usize,
    /// Hosts on which something is left to do: their record of the operation stays open.
    behind: BTreeSet<HostName>,
    /// Nodes that cannot follow the new primary, whoever tells them to: they need a rejoin.
    astray: BTreeSet<HostName>,
    known: Known,
    problems: Vec<String>,
    claimed: usize,
    /// The candidate is chosen from the positions that were taken last.
    elected: bool,
    /// Voters without which a claim is worth nothing.
    needed: Vec<HostName>,
    interrupted: bool,
    /// Claims in the place of an operation that is not over: whatever comes of it, that stays open.
    takes_over: bool,
    /// What poolers did not do after the promotion: their clients wait.
    held: Vec<Step>,
    /// How often they were told.
    tries: usize,
    /// They were told again just now, out of the order of the stages.
    once_more: bool,
    /// How many stages more than one were begun at once.
    together: usize,
    /// The operation is over elsewhere; this is what is left of it.
    sweeps: bool,
}

impl Driver {
    /// From the first stage on.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let mut needed = vec![plan.roles.candidate.clone()];
        if plan.roles.proof == Proof::CleanStop {
            needed.push(plan.roles.primary.clone());
        }
        Driver {
            plan,
            mode: Mode::Forward,
            stage: 0,
            sent: Vec::new(),
            heard: Vec::new(),
            undo: Vec::new(),
            undo_round: 0,
            behind: BTreeSet::new(),
            astray: BTreeSet::new(),
            known: Known::default(),
            problems: Vec::new(),
            claimed: 0,
            elected: false,
            needed,
            interrupted: false,
            takes_over: false,
            held: Vec::new(),
            tries: 1,
            once_more: false,
            together: 0,
            sweeps: false,
        }
    }

    /// Only claims a higher epoch for an operation that was interrupted: on `needed` above all. If
    /// that does not succeed the operation stays open, under the higher epoch.
    #[must_use]
    pub fn claiming(kind: &str, roles: &Roles, needed: Vec<HostName>) -> Self {
        let stage = Stage { name: "Claim a higher epoch".to_owned(), steps: claims(roles) };
        let plan = Plan { kind: kind.to_owned(), roles: roles.clone(), stages: vec![stage] };
        Driver { needed, takes_over: true, ..Driver::new(plan) }
    }

    /// From the stage after the promotion on, which is known to have taken place. At its end the
    /// operation is over on all that have claimed it, also on those that take no other part, and on those
    /// that are [`astray`](super::astray).
    #[must_use]
    pub fn after_promotion(mut plan: Plan, claimed: &Known, astray: BTreeSet<HostName>) -> Self {
        let at = promotion(&plan);
        if let Some(last) = plan.stages.last_mut() {
            for host in &claimed.claimed {
                let action = Action::Release { undone: false };
                let release = Step { host: host.clone(), action };
                if !last.steps.contains(&release) {
                    last.steps.push(release);
                }
            }
        }
        let sent = plan.stages.get(at).map(|s| s.steps.clone()).unwrap_or_default();
        Driver { stage: at + 1, sent, elected: true, astray, ..Driver::new(plan) }
    }

    /// For an operation that was interrupted and whose candidate is still in recovery: asks it
    /// whether a promotion is under way. If so the rest is done, else whatever was done before is
    /// taken back, and what an earlier one may have left on a sibling that was its candidate. At its end
    /// the operation is over on all that have `claimed` it, also on those that take no other part.
    #[must_use]
    pub fn undoing(plan: Plan, inventory: &Inventory, claimed: &Known) -> Self {
        let at = promotion(&plan);
        let slots = plan.roles.siblings.iter().map(|host| {
            let kept = slots_kept(host, inventory);
            Step { host: host.clone(), action: Action::Slots { names: Vec::new(), kept } }
        });
        let (claims, others): (Vec<Step>, Vec<Step>) = plan.stages[..plan.stages.len().min(at + 1)]
            .iter()
            .flat_map(|s| s.steps.iter().cloned())
            .partition(|s| s.action == Action::Claim);
        let more = claimed.claimed.iter().filter(|h| !claims.iter().any(|c| c.host == **h));
        let more = more.map(|host| Step { host: host.clone(), action: Action::Claim });
        let more: Vec<Step> = more.collect();
        let sent = claims.into_iter().chain(more).chain(slots).chain(others).collect();
        let mode = Mode::Settle { round: 0 };
        Driver { stage: at, sent, mode, ..Driver::new(plan) }
    }

    /// Like [`Driver::undoing`], where it is certain that no promotion can be under way any more:
    /// the operation was undone elsewhere already, and this is what is left of it.
    #[must_use]
    pub fn sweeping(plan: Plan, inventory: &Inventory, claimed: &Known) -> Self {
        let mut driver = Driver::undoing(plan, inventory, claimed);
        driver.sent.retain(|s| !matches!(s.action, Action::Promote { .. }));
        driver.undo = undo(&driver.sent, &driver.heard, &driver.known, &driver.plan.roles);
        Driver { mode: Mode::Undo, sweeps: true, ..driver }
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
        // What is done is told to all, also by who is in a hurry.
        let over = self.stage < self.plan.stages.len() && self.is_last(self.stage);
        if self.mode == Mode::Forward && self.interrupted && !self.past_return() && !over {
            self.turn_back("interrupted".to_owned());
        }
        match self.mode {
            Mode::Forward => match self.forward() {
                Some(next) => next,
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

    /// The next stage that has something to do.
    fn forward(&mut self) -> Option<Next> {
        let looked = |s: &Stage| s.steps.iter().any(|s| s.action == Action::Position);
        if !self.elected
            && self.stage > 0
            && self.plan.stages.get(self.stage - 1).is_some_and(looked)
        {
            return Some(Next::Elect);
        }
        while self.plan.stages.get(self.stage).is_some_and(|s| s.steps.is_empty()) {
            self.stage += 1;
        }
        if let Some(next) = self.tell_again() {
            return Some(next);
        }
        let Stage { mut name, mut steps } = self.plan.stages.get(self.stage)?.clone();
        if let Some((at, next)) = self.beside(&steps) {
            name = format!("{name}, {}", next.name);
            steps.extend(next.steps);
            self.together = at - self.stage;
        }
        if self.tries == 1 && !self.held.is_empty() && !self.is_last(self.stage) {
            self.tries += 1;
            steps.splice(0..0, self.held.clone());
        }
        // Where something is left to do the operation is not over.
        let over =
            |s: &Step| matches!(s.action, Action::Release { .. }) && self.behind.contains(&s.host);
        steps.retain(|s| !over(s));
        self.sent.extend(steps.iter().cloned());
        Some(Next::Run { stage: name, steps })
    }

    /// The stage that begins together with these steps: clients are let go beside what comes next, so that
    /// a pooler that does not answer holds nobody up.
    fn beside(&self, steps: &[Step]) -> Option<(usize, Stage)> {
        if !self.past_return() || !steps.iter().all(lets_go) {
            return None;
        }
        let rest = self.plan.stages.iter().enumerate().skip(self.stage + 1);
        let (at, next) = rest.clone().find(|(_, stage)| !stage.steps.is_empty())?;
        let follows = |s: &Step| {
            matches!(
                s.action,
                Action::Follow { .. } | Action::FollowNobody | Action::ControllerHook { .. }
            )
        };
        next.steps.iter().all(follows).then(|| (at, next.clone()))
    }

    /// Whether this stage ends the operation, or there is none.
    fn is_last(&self, stage: usize) -> bool {
        let is_release =
            |s: &Stage| s.steps.iter().any(|s| matches!(s.action, Action::Release { .. }));
        self.plan.stages.get(stage).is_none_or(is_release)
    }

    /// The answer to [`Next::Elect`]: the same playbook with the roles as they are now. Another candidate
    /// than before is another intent, which is stored before anything else; or nobody can be chosen.
    pub fn elected(&mut self, plan: Result<Plan, String>) {
        self.elected = true;
        let plan = match plan {
            Ok(plan) => plan,
            Err(why) => return self.turn_back(why),
        };
        let before = std::mem::replace(&mut self.plan, plan);
        let roles = &self.plan.roles;
        let chosen = self.known.ends.get(&roles.candidate);
        let ahead = self.known.ends.iter().filter(|(_, end)| Some(*end) > chosen);
        self.astray = ahead.map(|(name, _)| name.clone()).collect();
        if before.roles.candidate != self.plan.roles.candidate {
            self.claimed = 0;
            self.needed = vec![self.plan.roles.candidate.clone()];
            let steps = claims(&self.plan.roles);
            let stage = Stage { name: "Claim the epoch for another candidate".to_owned(), steps };
            self.plan.stages.insert(self.stage, stage);
        }
    }

    /// What came of the steps of the last [`Next::Run`], in the same order.
    pub fn report(&mut self, results: &[(Step, Outcome)]) {
        for (step, outcome) in results {
            if let Outcome::Done(report) = outcome {
                self.known.learn(&step.host, report);
                self.heard.push(step.clone());
                if step.action == Action::Claim {
                    self.known.claimed.insert(step.host.clone());
                }
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
        // Who cannot tell its position is not compared; who is to take over must tell.
        let counts = |(s, _): &&(Step, Outcome)| s.action != Action::Position;
        let bad: Vec<&(Step, Outcome)> =
            results.iter().filter(|(_, o)| !is_done(o)).filter(counts).collect();
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
            self.report_after_return(results);
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
    fn report_after_return(&mut self, results: &[(Step, Outcome)]) {
        for (step, outcome) in results {
            match (is_done(outcome), lets_go(step)) {
                (true, _) => self.held.retain(|s| s != step),
                (false, true) if self.tries < RESUME_TRIES => {
                    self.held.retain(|s| s != step);
                    self.held.push(step.clone());
                }
                (false, _) => self.leave_behind(step, outcome),
            }
        }
        if !std::mem::take(&mut self.once_more) {
            self.stage += 1 + std::mem::take(&mut self.together);
        }
    }

    /// Tells what is not done. While clients wait the operation is not over anywhere, so that
    /// `pgorch resume` lets them go on.
    fn leave_behind(&mut self, step: &Step, outcome: &Outcome) {
        let why = problem(step, outcome);
        let follows = matches!(step.action, Action::Follow { .. });
        if follows && self.astray.contains(&step.host) && matches!(outcome, Outcome::Failed(_)) {
            self.problems.push(format!("{why}; bring it back with: pgorch rejoin {}", step.host));
            return;
        }
        // A server that is down cannot drop slots, and holds nothing up by them; where it is not to come up
        // before a rejoin, that must not wait for this.
        if self.sweeps
            && matches!(step.action, Action::DropSlots { .. })
            && matches!(outcome, Outcome::Failed(_))
        {
            self.problems.push(why);
            return;
        }
        // A command of the user's is not the cluster's: without it the operation is over.
        if !matches!(step.action, Action::ControllerHook { .. }) {
            self.behind.insert(step.host.clone());
        }
        // Who does not follow yet may still use a slot of the old primary.
        if follows {
            self.behind.insert(self.plan.roles.primary.clone());
        }
        if lets_go(step) {
            self.problems.insert(0, format!("CLIENTS OF {} CANNOT WRITE: {why}", step.host));
            self.behind.extend(self.plan.roles.voters.iter().cloned());
        } else {
            self.problems.push(why);
        }
    }

    /// Poolers that did not let their clients go on are told again beside the next stage, and when all else
    /// is done.
    fn tell_again(&mut self) -> Option<Next> {
        if self.held.is_empty() || self.tries >= RESUME_TRIES || !self.is_last(self.stage) {
            return None;
        }
        self.tries += 1;
        self.once_more = true;
        Some(Next::Run { stage: "Clients wait: once more".to_owned(), steps: self.held.clone() })
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

    /// What cannot be taken back on one host holds up no other; only without the old primary there
    /// is no point in going on.
    fn report_undo(&mut self, results: &[(Step, Outcome)]) {
        let unheard = |(s, o): &&(Step, Outcome)| match o {
            Outcome::Unknown(_) => true,
            Outcome::Failed(_) => lets_go(s),
            _ => false,
        };
        let again: Vec<&Step> = results.iter().filter(unheard).map(|(s, _)| s).collect();
        self.undo_round += 1;
        if !again.is_empty() && self.undo_round < UNDO_ROUNDS {
            self.undo.retain(|s| again.contains(&s) || !results.iter().any(|(r, _)| r == s));
            return self.report_failures(results.iter().filter(|r| !unheard(r)));
        }
        self.undo_round = 0;
        self.undo.retain(|s| !results.iter().any(|(r, _)| r == s));
        self.report_failures(results.iter());
    }

    fn report_failures<'a>(&mut self, results: impl Iterator<Item = &'a (Step, Outcome)>) {
        for (step, outcome) in results.filter(|(_, o)| !is_done(o)) {
            self.leave_behind(step, outcome);
            if matches!(step.action, Action::Start { .. }) {
                self.mode = Mode::Over(End::Broken);
                let held = self.undo.iter().filter(|s| lets_go(s));
                self.problems.extend(held.map(|s| format!("clients of {} still wait", s.host)));
            }
        }
        let behind = &self.behind;
        let release = |s: &Step| matches!(s.action, Action::Release { .. });
        self.undo.retain(|s| !release(s) || !behind.contains(&s.host));
        if self.mode == Mode::Undo && self.undo.is_empty() {
            self.mode = Mode::Over(self.undone());
        }
    }

    fn undone(&self) -> End {
        let touched = self.sent.iter().any(|s| s.action != Action::Claim);
        match self.behind.is_empty() {
            true if touched => End::Undone,
            true => End::Refused,
            false => End::Broken,
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
        if !why.is_empty() {
            self.problems.push(why);
        }
        let off = |s: &&Step| matches!(s.action, Action::Stonith { .. }) && self.heard.contains(s);
        if let Some(step) = self.sent.iter().find(off) {
            self.problems.push(format!("{} stays switched off", step.host));
        }
        let fenced = self.sent.iter().filter(|s| matches!(s.action, Action::Fence { .. }));
        if !self.plan.roles.possible.is_empty() {
            let stay = fenced.map(|s| format!("{} stays fenced", s.host));
            self.problems.extend(stay);
        }
        if self.sent.iter().any(|s| matches!(s.action, Action::ControllerHook { .. })) {
            self.problems.push("what before_promote commands did is not taken back".to_owned());
        }
        if !self.takes_over {
            self.undo = undo(&self.sent, &self.heard, &self.known, &self.plan.roles);
        }
        self.mode = if self.undo.is_empty() { Mode::Over(self.undone()) } else { Mode::Undo };
    }

    fn over(&mut self, end: End) -> Next {
        self.mode = Mode::Over(end);
        Next::Finished(Finished { end, problems: self.problems.clone() })
    }
}

/// The stage of the promotion; where there is none, the end.
fn promotion(plan: &Plan) -> usize {
    let promotes = |s: &Stage| s.steps.iter().any(|s| matches!(s.action, Action::Promote { .. }));
    plan.stages.iter().position(promotes).unwrap_or(plan.stages.len())
}

/// What takes back the steps that were sent, in reverse order; what needs no taking back is left out.
fn undo(sent: &[Step], heard: &[Step], known: &Known, roles: &Roles) -> Vec<Step> {
    let mut steps = Vec::new();
    for step in sent.iter().rev() {
        let Step { host, action } = step;
        let back = match action {
            // Where it is not known who is the primary, nobody who was fenced is let up again.
            Action::Fence { .. } if !roles.possible.is_empty() => None,
            Action::Fence { .. } if known.were_down.contains(host) => Some(Action::Unfence),
            Action::Revoke => Some(Action::Unrevoke),
            Action::Stop { .. } | Action::Fence { .. } => {
                Some(Action::Start { seconds: UNDO_START_SECONDS })
            }
            Action::Pooler { verb: PoolerVerb::Pause, .. } => Some(let_go()),
            Action::Slots { kept, .. } => {
                // Without a report any may have been made; who was to follow is seen differently by now.
                let others = roles.voters.iter().filter(|v| *v != host).map(slot_name);
                let made = match heard.contains(step) {
                    true => known.made_slots.get(host).cloned().unwrap_or_default(),
                    false => others.filter(|n| !kept.contains(n)).collect(),
                };
                (!made.is_empty()).then_some(Action::DropSlots { names: made })
            }
            Action::Claim => Some(Action::Release { undone: true }),
            _ => None,
        };
        let step = back.map(|action| Step { host: host.clone(), action });
        steps.extend(step.filter(|s| !steps.contains(s)));
    }
    // A step is refused where the record is closed, and an election claims a second time in the middle.
    steps.sort_by_key(|s| matches!(s.action, Action::Release { .. }));
    steps
}

/// A pooler's clients go on with whom they were.
fn let_go() -> Action {
    Action::Pooler { verb: PoolerVerb::Resume, database_host: None }
}

fn lets_go(step: &Step) -> bool {
    matches!(step.action, Action::Pooler { verb: PoolerVerb::Resume, .. })
}

fn claims(roles: &Roles) -> Vec<Step> {
    let there = roles.voters.iter().filter(|v| !roles.absent.contains(v));
    there.map(|host| Step { host: host.clone(), action: Action::Claim }).collect()
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

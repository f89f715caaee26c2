//! Carries out what the watch has decided: the same plans, steps and playbooks that the commands use.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::clock;
use crate::event::{Event, Kind};
use crate::inventory::Inventory;
use crate::model::{Exit, HostName, Value};
use crate::operation::{
    self, Accepted, Assessment, Check, Confirmed, Driver, End, Identity, Interrupted, Known, Level,
    Plan, Roles, Settlement, UNDO_START_SECONDS, assess, elect, lower, open_operations, rank,
    release_in_place, verify,
};
use crate::playbook::Playbook;
use crate::runner::{LeaseWait, Operated, PrimaryRule, Runner, nobody_elects};
use crate::step::Options;
use crate::topology::{self, Bootstrap};
use crate::watch::{Act, ActEnd, Recorded, Watch};

/// Makes a runner of a playbook on these nodes, with these variables.
pub type MakeRunner = Arc<
    dyn Fn(
            Playbook,
            Vec<HostName>,
            Vec<(String, Value)>,
        ) -> BoxFuture<'static, Result<Runner, String>>
        + Send
        + Sync,
>;

/// The playbooks are read when the watch begins, never during a failover.
pub struct Hands {
    pub runner: Runner,
    pub failover: Playbook,
    pub switchover: Playbook,
    pub rejoin: Playbook,
    pub start: Playbook,
    pub make: MakeRunner,
    /// How the watch names itself in the records of its operations.
    pub identity: String,
    /// Say what would be done.
    pub dry_run: bool,
    pub revoked: Revoked,
    /// When this watch began, by the clock of the leases.
    pub since: crate::model::Instant,
    /// The operations that it has begun since, and those that it has resumed of them.
    pub begun: Mutex<BTreeSet<String>>,
}

/// Whom the plan in hand revokes.
pub type Revoked = Arc<Mutex<Vec<HostName>>>;

/// For a look at hosts that answered the watch a moment ago.
const LOOK: Duration = Duration::from_secs(3);

pub(super) fn refused(code: &str, why: impl Into<String>) -> ActEnd {
    ActEnd::Refused { code: code.to_owned(), why: why.into() }
}

impl Hands {
    /// Does it. `seen` are the hosts that answer, and whether their servers do.
    pub(super) async fn act(
        &self,
        act: &Act,
        seen: &BTreeMap<HostName, bool>,
        watch: &Arc<Mutex<Watch>>,
    ) -> ActEnd {
        match act {
            Act::Failover { reachable, silent, .. } => {
                let lease = !*reachable && keeps_leases(watch);
                self.fail_over(seen, lease, *silent, watch).await
            }
            Act::Restart { primary, limit } => self.restart(primary, *limit, watch).await,
            Act::Rejoin { node, .. } => self.bring_back(node).await,
            Act::Resume => self.go_on(seen, watch).await,
        }
    }

    fn inventory(&self) -> &Arc<Inventory> {
        &self.runner.vars.inventory
    }

    fn tell(&self, text: impl Into<String>) {
        self.runner.sink.emit(&Event::run(Kind::Notice, text));
    }

    async fn fail_over(
        &self,
        seen: &BTreeMap<HostName, bool>,
        lease: bool,
        silent: Duration,
        watch: &Arc<Mutex<Watch>>,
    ) -> ActEnd {
        let inventory = self.inventory();
        self.runner.look_again(seen, LOOK).await;
        let snapshot = self.runner.snapshot();
        let topology = topology::analyse(inventory, &snapshot);
        let accepted = Accepted {
            lease,
            silent: Some(silent),
            near_only: !inventory.failover.cross_location,
            ..Accepted::default()
        };
        let (found, checks) = match assess(inventory, &snapshot, &topology, None, accepted) {
            Ok(found) => found,
            Err(checks) => return self.refuse(&checks),
        };
        for line in found.evidence.iter().cloned() {
            self.tell(line);
        }
        for (name, why) in &found.excluded {
            self.tell(format!("{name} is no candidate: {why}"));
        }
        for check in checks {
            self.tell(format!("{} ({})", check.message, check.code));
        }
        let make = |candidate: &HostName| -> Result<Plan, String> {
            let roles = Roles::seen(inventory, &snapshot, &found.primary, candidate, found.proof);
            let plan = lower("failover", &self.failover, inventory, &roles)?;
            let members = roles.siblings.iter().chain([candidate]).cloned().collect();
            *self.revoked.lock().unwrap_or_else(PoisonError::into_inner) = members;
            verify(&plan).map(|()| plan)
        };
        let Some(first) = found.candidates.first() else {
            return refused("failover_no_candidate", "there is no candidate");
        };
        let plan = match make(first.name()) {
            Ok(plan) => plan,
            Err(why) => return refused("failover_unsafe_plan", why),
        };
        if self.dry_run {
            for (at, step) in plan.steps() {
                self.tell(format!(
                    "would: {:>2}. {} {}",
                    at + 1,
                    step.host,
                    step.action.describe()
                ));
            }
            return refused("dry_run", "nothing is done in a dry run");
        }
        let mut identity = self.identity("failover", &plan.roles);
        identity.replaces.clone_from(&found.superseded.ids);
        identity.record.earlier.clone_from(&found.superseded.earlier);
        self.begun().insert(identity.record.id.clone());
        let recorded = lock(watch).recorded().cloned();
        let choose = |known: &Known| {
            let chosen = self.choose(&found, known, recorded.as_ref(), accepted)?;
            make(&chosen)
        };
        let operated = self.runner.operate(Driver::new(plan), identity, &choose).await;
        self.ended(&operated)
    }

    /// The candidate by the positions that were taken last, with what is lost told.
    fn choose(
        &self,
        found: &Assessment,
        known: &Known,
        recorded: Option<&Recorded>,
        accepted: Accepted,
    ) -> Result<HostName, String> {
        let inventory = self.inventory();
        let mut ends = known.ends.clone();
        // The live timeline was seen before the receivers were ended; the control file lags behind it.
        for ranked in &found.candidates {
            if let Some(end) = ends.get_mut(ranked.name()) {
                *end = (end.0.max(ranked.timeline), end.1.max(ranked.lsn));
            }
        }
        // What an old primary that nobody can ask had when it was last seen.
        let timeline = recorded.and_then(|r| r.timeline);
        if let Some(last) = timeline.zip(recorded.and_then(|r| r.lsn)) {
            ends.entry(found.primary.clone()).or_insert(last);
        }
        let fit = |name: &HostName| found.candidates.iter().any(|c| c.name() == name);
        let own = ends.iter().filter(|(n, _)| fit(n)).map(|(n, e)| (n.clone(), *e)).collect();
        let best = rank(inventory, &found.primary, &own).first().map(|r| r.name().clone());
        let best = best.ok_or("no candidate could tell where its WAL ends")?;
        // A standby that stayed behind on an earlier timeline lacks all that was written since.
        if ends.get(&best).map(|end| end.0) < timeline {
            return Err(format!(
                "failover_no_candidate: {best} has not followed to the timeline that {} was on",
                found.primary
            ));
        }
        let confirmed = Confirmed::seen(inventory, &found.primary, found.proof, known);
        let elected = elect(inventory, &found.primary, &ends, &best, &confirmed, accepted)
            .map_err(|check| format!("{}: {}", check.code, check.message))?;
        let lost = match elected.lost_bytes {
            _ if elected.all_confirmed => "nothing that was confirmed is lost".to_owned(),
            Some(0) => "nothing that is known of is lost".to_owned(),
            Some(bytes) => format!("{bytes} bytes of WAL are lost"),
            None => "what is lost is not known".to_owned(),
        };
        self.tell(format!("{} takes over; {lost}", elected.candidate));
        Ok(elected.candidate)
    }

    /// A new operation, under the name by which a watch knows its own.
    fn identity(&self, kind: &str, roles: &Roles) -> Identity {
        let mut identity = self.runner.identity(kind, roles);
        identity.record.controller.clone_from(&self.identity);
        identity
    }

    fn refuse(&self, checks: &[Check]) -> ActEnd {
        let refusals = || checks.iter().filter(|c| c.level == Level::Refused);
        for check in refusals() {
            let node = check.node.as_ref().map(|n| format!("{n} ")).unwrap_or_default();
            let kind = Kind::Refused { code: check.code.to_owned(), hint: check.hint.clone() };
            self.runner.sink.emit(&Event::run(kind, format!("{node}{}", check.message)));
        }
        let code = refusals().next().map_or("refused", |c| c.code);
        let why: Vec<&str> = refusals().map(|c| c.message.as_str()).collect();
        refused(code, why.join("; "))
    }

    fn ended(&self, operated: &Operated) -> ActEnd {
        let finished = &operated.finished;
        for problem in &finished.problems {
            self.tell(problem.clone());
        }
        let why = finished.problems.join("; ");
        let data = serde_json::json!({
            "end": format!("{:?}", finished.end).to_lowercase(),
            "primary": operated.candidate,
            "outage_seconds": operated.outage.map(|o| o.as_secs_f64()),
        });
        let text = match finished.end {
            End::Done | End::Incomplete => format!("{} is the primary", operated.candidate),
            End::Undone => "undone: everything is as it was".to_owned(),
            End::Refused => "nothing was changed".to_owned(),
            End::Broken => "not all of it could be taken back yet".to_owned(),
            End::Unknown => {
                format!("whether {} was promoted is not known yet", operated.candidate)
            }
        };
        self.runner.sink.emit(&Event::run(Kind::Operation { data }, text));
        match finished.end {
            End::Done => ActEnd::Done,
            End::Undone | End::Refused => refused("undone", why),
            End::Incomplete | End::Broken | End::Unknown => ActEnd::Open { why },
        }
    }

    /// What `pgorch resume` does: a higher epoch first, then the end or the undoing.
    async fn go_on(&self, seen: &BTreeMap<HostName, bool>, watch: &Arc<Mutex<Watch>>) -> ActEnd {
        let (runner, inventory) = (&self.runner, self.inventory());
        runner.look_again(seen, LOOK).await;
        let snapshot = runner.snapshot();
        let Some(interrupted) = Interrupted::find(inventory, &snapshot, None) else {
            return ActEnd::Done;
        };
        let record = &interrupted.record;
        let abandoned = lock(watch).abandoned(clock::raw()).is_some_and(|id| id == record.id);
        if record.controller != self.identity && !abandoned {
            return refused("operation_open", format!("it is of {}", record.controller));
        }
        if self.dry_run {
            return refused("dry_run", "nothing is done in a dry run");
        }
        let proof = record.proof;
        let roles = Roles::seen(inventory, &snapshot, &record.primary, &record.candidate, proof)
            .besides(&record.possible);
        let replaces = open_operations(&snapshot);
        let mut identity = Identity { replaces, ..self.identity(&record.kind, &roles) };
        identity.record.over = interrupted.over;
        identity.record.lease_ms = record.lease_ms.filter(|_| record.in_place());
        identity.record.earlier.clone_from(&record.earlier);
        let ours = self.begun().contains(&record.id);
        if ours {
            self.begun().insert(identity.record.id.clone());
        }
        let needed = interrupted.needed(&snapshot);
        let claiming = Driver::claiming(&record.kind, &roles, needed);
        let nobody = nobody_elects;
        let claimed = runner.operate(claiming, identity.clone(), &nobody).await;
        if claimed.finished.end != End::Done {
            return ActEnd::Open { why: claimed.finished.problems.join("; ") };
        }
        if record.in_place() {
            // What it gave is over; what this watch has renewed since is not.
            let lease = inventory.failover.timing.lease.as_millis();
            identity.record.lease_ms = u64::try_from(lease).ok();
            let release = release_in_place(&record.kind, &roles, &claimed.known.claimed);
            let operated = runner.operate(release, identity, &nobody).await;
            return match operated.finished.end {
                End::Done => ActEnd::Done,
                _ => ActEnd::Open { why: operated.finished.problems.join("; ") },
            };
        }
        runner.look_again(seen, LOOK).await;
        let leaving = self.may_leave(&record.primary, ours, watch);
        let settlement = interrupted.settle_leaving(&runner.snapshot(), leaving);
        let new_primary = match &settlement {
            Settlement::Refuse { why, .. } => return ActEnd::Open { why: why.clone() },
            Settlement::Finish { primary } => primary,
            Settlement::Undo | Settlement::TakeBack => &record.candidate,
        };
        let roles = Roles::seen(inventory, &runner.snapshot(), &record.primary, new_primary, proof)
            .besides(&record.possible);
        let playbook = match record.kind.as_str() {
            "failover" => &self.failover,
            "switchover" => &self.switchover,
            other => return refused("resume_unknown", format!("a {other} is not known here")),
        };
        let plan = match lower(&record.kind, playbook, inventory, &roles) {
            Ok(plan) => plan,
            Err(why) => return ActEnd::Open { why },
        };
        let driver = match settlement {
            Settlement::Undo if interrupted.over => {
                Driver::sweeping(plan, inventory, &claimed.known)
            }
            Settlement::Undo => Driver::undoing(plan, inventory, &claimed.known),
            Settlement::TakeBack => Driver::sweeping(plan, inventory, &claimed.known),
            _ => {
                let astray = operation::astray(inventory, &runner.snapshot(), new_primary);
                Driver::after_promotion(plan, &claimed.known, astray)
            }
        };
        let operated = runner.operate(driver, identity, &nobody).await;
        match self.ended(&operated) {
            ActEnd::Refused { .. } => ActEnd::Done,
            end => end,
        }
    }

    /// Whether an old primary that vanished while it was fenced may be left as it is: the next failover has
    /// a proof of its own against it, and no start of it can be on its way. This watch was the only one to
    /// send any; what an earlier run of it has sent is too late by now, or is not yet.
    fn may_leave(&self, primary: &HostName, ours: bool, watch: &Arc<Mutex<Watch>>) -> bool {
        if lock(watch).policy().unreachable.is_none() {
            return false;
        }
        let given = self.runner.given_to(primary);
        let since = if ours { given } else { given.max(Some(self.since)) };
        let wait = self.inventory().failover.timing.wait_authority(UNDO_START_SECONDS);
        since.is_none_or(|at| clock::raw() >= at.after(wait))
    }

    fn begun(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `pgorch rejoin NODE` does.
    async fn bring_back(&self, node: &HostName) -> ActEnd {
        if self.dry_run {
            return refused("dry_run", format!("would: pgorch rejoin {node}"));
        }
        let vars = vec![
            ("rejoin_method".to_owned(), Value::from("auto")),
            ("discard_old".to_owned(), Value::from(false)),
        ];
        let runner = match (self.make)(self.rejoin.clone(), vec![node.clone()], vars).await {
            Ok(runner) => runner,
            Err(why) => return refused("rejoin_failed", why),
        };
        runner.consented.store(true, std::sync::atomic::Ordering::Relaxed);
        let options = Options::default();
        runner.first_batch(&options).await;
        if let Some((on, open)) = runner.open_operation() {
            return refused("operation_open", format!("the {} is not over on {on}", open.kind));
        }
        let stale = vec![node.clone()];
        if let Err(refusal) = runner.resolve_primary(&PrimaryRule::Running { stale }) {
            let Bootstrap::Refuse { code, reason, .. } = *refusal else {
                return refused("rejoin_failed", "no primary");
            };
            return refused(code, reason);
        }
        if runner.live().primary.as_ref() == Some(node) {
            return refused("is_the_primary", format!("{node} is the primary"));
        }
        let report = runner.pass(&options).await;
        match report.exit.unwrap_or(Exit::Done) {
            Exit::Done => ActEnd::Done,
            exit => refused("rejoin_failed", format!("it ended with exit code {}", exit.code())),
        }
    }
}

fn lock(watch: &Arc<Mutex<Watch>>) -> std::sync::MutexGuard<'_, Watch> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keeps_leases(watch: &Arc<Mutex<Watch>>) -> bool {
    lock(watch).policy().unreachable == Some(crate::watch::FarProof::Lease)
}

/// The wait of a plan whose proof is the end of the lease, by what this watch has sent and seen.
/// `revoked` are the standbys that receive nothing any more.
#[must_use]
pub fn lease_wait(watch: Arc<Mutex<Watch>>, revoked: Revoked) -> LeaseWait {
    Arc::new(move |known: Known| {
        let watch = Arc::clone(&watch);
        let members = revoked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Box::pin(async move {
            let began = clock::raw();
            let primary = lock(&watch).recorded().map(|r| r.primary.clone());
            let Some(primary) = primary else { return Err("no primary was watched".to_owned()) };
            // One that cannot tell where it ends counts from now.
            let end =
                |name: &HostName| known.ends.get(name).map_or(crate::model::Lsn(u64::MAX), |e| e.1);
            // Whoever held an epoch before may have given something: each voter has told what it had stored.
            lock(&watch).heed(known.before.values(), began);
            let others = members.iter().filter(|n| **n != primary);
            let frozen: BTreeMap<_, _> =
                others.map(|name| (name.clone(), (end(name), began))).collect();
            let until = lock(&watch).leases().over_at(&primary, &frozen);
            let until = until.ok_or("what holds the old primary up is not known")?;
            loop {
                let left = until.since(clock::raw());
                if left.is_zero() {
                    break;
                }
                // CLOCK_MONOTONIC, by which timers run, may be slewed: look again.
                clock::sleep(left).await;
            }
            let waited = clock::raw().since(began).as_secs_f64();
            Ok(format!("{primary} confirms nothing any more (waited {waited:.2} s)"))
        })
    })
}

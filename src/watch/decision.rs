//! The watch's mind: rounds go in, decisions come out. Pure; time is an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::facts::{EpochFacts, OperationRecord, OperationState, Pause};
use crate::model::{HostName, Instant, SystemIdentifier, Timeline, Timing};

use super::analysis::{Members, Picture, Recorded, analyse};
use super::finding::{Finding, Minor};
use super::lease::{Leases, Renewal};
use super::observation::{HostSeen, Look, Reach, Seen, ServerSeen, Sight};
use super::rules::{Phase, Reaction, rule};
use super::standing::{Budget, Kept};
use super::suspicion::{Patience, Suspicion};

/// What the inventory says about the watch.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub members: Members,
    pub timing: Timing,
    pub quorum_replication: bool,
    /// Guards are on the nodes, and keep leases.
    pub guarded: bool,
    /// What can prove that a primary whose host does not answer confirms nothing any more.
    pub unreachable: Option<FarProof>,
    pub auto_rejoin: bool,
    /// A crashed server on a live host is started again, and has so long to be back: a primary once
    /// before it is replaced, a standby always.
    pub restart_in_place: Option<Duration>,
}

/// How a primary that cannot be reached is known to be harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FarProof {
    Stonith,
    Lease,
    /// The standbys that commits need receive nothing any more.
    Quorum,
}

/// What is to be done on hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Replace this primary; `reachable` says whether its host answers, so that it can be fenced.
    Failover {
        primary: HostName,
        finding: Finding,
        reachable: bool,
        silent: Duration,
    },
    /// Start the crashed primary again, as the primary.
    Restart {
        primary: HostName,
        limit: Duration,
    },
    Rejoin {
        node: HostName,
        why: Minor,
    },
    Resume,
}

impl Act {
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Act::Failover { primary, finding, .. } => {
                format!("replace {primary} ({})", finding.code())
            }
            Act::Restart { primary, .. } => format!("start {primary} again in its place"),
            Act::Rejoin { node, why } => format!("bring {node} back ({})", why.code()),
            Act::Resume => "continue or undo the interrupted operation".to_owned(),
        }
    }
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActEnd {
    Done,
    /// Nothing was changed, or all of it was taken back.
    Refused {
        code: String,
        why: String,
    },
    /// What was begun is open: it is continued or undone.
    Open {
        why: String,
    },
}

/// What this round comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    Nothing,
    LookHarder,
    /// Something would be done but for this.
    Wait {
        until: Instant,
        why: String,
    },
    Act(Act),
    Alarm {
        code: &'static str,
    },
}

impl Decision {
    /// In a few words.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Decision::Nothing => "nothing".to_owned(),
            Decision::LookHarder => "look harder".to_owned(),
            Decision::Wait { why, .. } => format!("wait: {why}"),
            Decision::Act(act) => act.describe(),
            Decision::Alarm { code } => format!("alarm: {code}"),
        }
    }
}

/// A round's result, for the loop and for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub round: u64,
    pub phase: Phase,
    pub finding: Finding,
    pub rule: &'static str,
    pub because: String,
    pub evidence: Vec<String>,
    pub minors: Vec<(Minor, HostName)>,
    pub primary: Option<HostName>,
    pub decision: Decision,
    /// The next round begins then, if nothing happens before.
    pub next: Instant,
    pub knock: bool,
    pub renewals: Vec<Renewal>,
    /// What an operator has told the watch, while it is in force.
    pub pause: Option<Pause>,
}

/// After a confirming look at a server that is gone from a live host.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Pauses after attempts that came to nothing: doubled each time.
const COOL_DOWN: Duration = Duration::from_secs(5);
const COOL_DOWN_MAX: Duration = Duration::from_secs(300);
/// A standby that receives nothing may be about to connect again (`wal_retrieve_retry_interval`, 5 s).
const ASTRAY: Duration = Duration::from_secs(12);
/// A returned host has a moment to come up by itself.
const RETURNED: Duration = Duration::from_secs(1);

/// A primary that was started again in its place and is lost once more within this time is replaced.
const ONCE: Duration = Duration::from_secs(300);

/// An attempt that is not made again before its time.
#[derive(Debug, Clone, Copy, Default)]
struct Attempts {
    failed: u32,
    not_before: Instant,
}

impl Attempts {
    fn fail(&mut self, now: Instant) {
        let pause = COOL_DOWN * 2_u32.saturating_pow(self.failed.min(10));
        self.failed += 1;
        self.not_before = now.after(pause.min(COOL_DOWN_MAX));
    }
}

/// Somebody else's operation that is not over.
#[derive(Debug, Clone)]
struct Foreign {
    key: (u64, String),
    /// When it was first seen.
    since: Instant,
    /// It is a start or restart, and what it gives is over so long after it was stored.
    lasting: Option<Duration>,
    text: String,
}

/// The newest one, if it is not of this watch.
fn foreign<'a>(stored: &[&'a EpochFacts], own: &str) -> Option<(u64, &'a OperationRecord)> {
    let open = stored.iter().filter_map(|e| Some((e.epoch, e.open()?)));
    open.max_by_key(|(epoch, _)| *epoch).filter(|(_, record)| record.controller != own)
}

/// See the module's text.
#[derive(Debug, Clone)]
pub struct Watch {
    policy: Policy,
    phase: Phase,
    sight: Sight,
    recorded: Option<Recorded>,
    suspicion: Suspicion,
    /// When the last look of the primary was asked for, if it was missed.
    missed: Option<Instant>,
    /// Since when the primary says nothing.
    silent_since: Option<Instant>,
    budget: Budget,
    leases: Leases,
    recovery: Attempts,
    /// When a primary was last started again in its place.
    restarted: Option<Instant>,
    minor_since: BTreeMap<(Minor, HostName), Instant>,
    foreign: Option<Foreign>,
    rejoins: BTreeMap<HostName, Attempts>,
    /// Who is being brought back. That may take hours, and the primary is watched meanwhile: each step
    /// of it is refused on a node where an operation has begun since.
    returning: Option<HostName>,
}

impl Watch {
    #[must_use]
    pub fn new(policy: Policy, budget: Budget, now: Instant) -> Self {
        let leases = Leases::new(policy.timing.clone(), now);
        Watch {
            policy,
            phase: Phase::Looking,
            sight: Sight::default(),
            recorded: None,
            suspicion: Suspicion::default(),
            missed: None,
            silent_since: None,
            budget,
            leases,
            recovery: Attempts::default(),
            restarted: None,
            minor_since: BTreeMap::new(),
            foreign: None,
            rejoins: BTreeMap::new(),
            returning: None,
        }
    }

    /// Goes on where an earlier watch of this controller ended: whom it watched, and what may have held
    /// that node up when it ended.
    pub fn go_on_from(&mut self, kept: Kept, now: Instant) {
        if let Some(holds) = kept.holds {
            self.leases.read(&kept.primary, holds, now);
            self.leases.heard(kept.epoch);
        }
        self.recorded = Some(Recorded {
            primary: kept.primary,
            system: kept.system.map(SystemIdentifier),
            timeline: kept.timeline.map(Timeline),
            lsn: None,
            epoch: kept.epoch,
        });
    }

    /// What [`Watch::go_on_from`] wants.
    #[must_use]
    pub fn kept(&self) -> Option<Kept> {
        let recorded = self.recorded.as_ref()?;
        Some(Kept {
            primary: recorded.primary.clone(),
            system: recorded.system.map(|s| s.0),
            timeline: recorded.timeline.map(|t| t.0),
            epoch: recorded.epoch,
            holds: self.leases.longest(&recorded.primary),
        })
    }

    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Looks in a row that show this, and how many it takes.
    #[must_use]
    pub(super) fn suspects(&self, finding: Finding) -> Option<(u32, u32)> {
        let patience = Patience::of(finding, &self.policy.timing, self.policy.quorum_replication)?;
        Some((self.suspicion.rounds(), patience.probes))
    }

    /// `pgorch ack`, read from where it is kept.
    pub fn set_budget(&mut self, budget: Budget) {
        self.budget = budget;
    }

    #[must_use]
    pub fn recorded(&self) -> Option<&Recorded> {
        self.recorded.as_ref()
    }

    #[must_use]
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    pub fn leases_mut(&mut self) -> &mut Leases {
        &mut self.leases
    }

    /// The primary, while it is not known what holds it up, or that has no end: its guard is to be asked.
    #[must_use]
    pub fn unread(&self) -> Option<&HostName> {
        let primary = &self.recorded.as_ref()?.primary;
        let known = self.leases.knows(primary) && self.leases.has_end(primary);
        (!known).then_some(primary)
    }

    #[must_use]
    pub fn sight(&self) -> &Sight {
        &self.sight
    }

    pub fn begin_round(&mut self) -> u64 {
        self.sight.begin()
    }

    pub fn take(&mut self, look: Look) {
        if let Seen::Host(host) = &look.seen {
            self.take_reading(&look.node, host, look.arrived);
        }
        if let Seen::Host(host) = &look.seen
            && let ServerSeen::Answers(server) = &host.server
            && server.in_recovery
            && let Some(lsn) = server.lsn
        {
            self.leases.saw(&look.node, lsn, look.arrived);
        }
        self.sight.take(look);
    }

    fn take_reading(&mut self, node: &HostName, host: &HostSeen, arrived: Instant) {
        let watched = self.recorded.as_ref().is_some_and(|r| r.primary == *node);
        match host.reading.as_ref().map(|r| (r.holds, r.agrees)) {
            Some((Some(holds), true)) => {
                self.leases.read(node, holds, arrived);
                if host.epoch.open().is_none() {
                    self.leases.settled(node);
                }
            }
            Some((None, _)) => {}
            Some((Some(_), false)) | None if watched => self.leases.lose(node),
            _ => {}
        }
    }

    /// What voters have stored, besides what the rounds show: it arrived at `at`.
    pub fn heed<'a>(&mut self, stored: impl Iterator<Item = &'a EpochFacts>, at: Instant) {
        self.leases.heed(stored, at);
    }

    /// Everybody has answered in this round, or is known not to.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.sight.complete(&self.policy.members.voters)
    }

    /// Ends a round. `wall` is the wall clock, milliseconds since 1970: only for pauses and budgets,
    /// which people give dates to.
    pub fn decide(&mut self, now: Instant, wall: i64) -> Verdict {
        self.heed_records(now);
        let members = &self.policy.members;
        let mut picture = analyse(members, &self.sight, self.recorded.as_ref(), self.missed);
        if matches!(picture.finding, Finding::Healthy | Finding::OtherOperationOpen)
            && self.abandoned(now).is_some()
        {
            picture.finding = Finding::OperationAbandoned;
            picture.evidence.extend(self.foreign.as_ref().map(|f| f.text.clone()));
        }
        self.note_silence();
        let asleep = self.policy.timing.round * 2 + self.policy.timing.deadline;
        if self.phase != Phase::Acting {
            self.suspicion.note(picture.finding, picture.sure, now, asleep);
        }
        let pause = self.paused(wall);
        if let (Some(_), Some(recorded)) = (&pause, &self.recorded) {
            self.leases.paused(&recorded.primary);
        }
        let from = self.enter(picture.finding, pause.is_some(), now, wall);
        let rule = rule(from, picture.finding);
        let mut verdict = Verdict {
            round: self.sight.round(),
            phase: from,
            finding: picture.finding,
            rule: rule.name,
            because: rule.because.to_owned(),
            evidence: picture.evidence.clone(),
            minors: picture.minors.clone(),
            primary: picture.primary.clone(),
            decision: Decision::Nothing,
            next: now.after(self.policy.timing.round),
            knock: picture.knock,
            renewals: Vec::new(),
            pause,
        };
        self.phase = rule.to.unwrap_or(from);
        match rule.reaction {
            Reaction::Nothing => {}
            Reaction::Alarm => verdict.decision = Decision::Alarm { code: picture.finding.code() },
            Reaction::LookHarder => {
                verdict.decision = Decision::LookHarder;
                verdict.next = self.again(picture.finding, now);
            }
            Reaction::Adopt => self.record(&picture),
            Reaction::Resume => self.resume(&mut verdict, now),
            Reaction::Recover => self.recover(&mut verdict, now, wall),
        }
        if picture.finding == Finding::Healthy {
            match self.phase {
                Phase::Watching => {
                    self.record(&picture);
                    self.look_after(&picture, &mut verdict, now);
                }
                Phase::Paused => self.record(&picture),
                _ => {}
            }
        }
        verdict.phase = self.phase;
        verdict.renewals = self.renewals(picture.finding, now);
        verdict
    }

    /// The newest word of an operator, while it is to stand by.
    fn paused(&self, wall: i64) -> Option<Pause> {
        let hosts = self.policy.members.voters.iter().filter_map(|v| self.sight.host(v));
        Pause::in_force(hosts.filter_map(|h| h.pause.as_ref()), wall).cloned()
    }

    /// The phase that the table is asked about.
    fn enter(&mut self, finding: Finding, paused: bool, now: Instant, wall: i64) -> Phase {
        if self.phase == Phase::Acting {
            return Phase::Acting;
        }
        if paused {
            self.suspicion.forget();
            return Phase::Paused;
        }
        match self.phase {
            Phase::Paused => Phase::Looking,
            Phase::Halted if self.budget.allows(wall) => Phase::Looking,
            Phase::Suspecting => {
                let quorum = self.policy.quorum_replication;
                let patience = Patience::of(finding, &self.policy.timing, quorum);
                let spent = patience.is_some_and(|p| self.suspicion.spent(p, now));
                if spent { Phase::Convinced } else { Phase::Suspecting }
            }
            Phase::Convinced => Phase::Suspecting,
            phase => phase,
        }
    }

    /// When the primary is looked at again. Silence has had its time when the look ends, so that the next
    /// one begins so long after this one began.
    fn again(&self, finding: Finding, now: Instant) -> Instant {
        let timing = &self.policy.timing;
        match finding {
            Finding::PrimaryDead => now.after(LOOK_AGAIN),
            Finding::PrimaryHung | Finding::PrimaryUnreachable => {
                let look = self.recorded.as_ref().and_then(|r| self.sight.fresh(&r.primary));
                look.map_or(now, |look| look.asked).after(timing.reprobe).max(now)
            }
            _ => now.after(timing.round_suspect),
        }
    }

    /// How long a round waits for answers: once the primary has missed one, until it is asked again.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        let timing = &self.policy.timing;
        let again = self.missed.is_some() && self.phase == Phase::Suspecting;
        if again { timing.reprobe.min(timing.deadline) } else { timing.deadline }
    }

    /// An operation that is over has made its candidate the primary, whether or not that node was seen as
    /// one: it may be lost before the next look, and is the one to replace then.
    fn heed_records(&mut self, now: Instant) {
        let voters = &self.policy.members.voters;
        let stored: Vec<&EpochFacts> =
            voters.iter().filter_map(|v| Some(&self.sight.host(v)?.epoch)).collect();
        self.leases.heed(stored.iter().copied(), now);
        self.foreign = foreign(&stored, &self.policy.members.identity).map(|(epoch, record)| {
            let key = (epoch, record.id.clone());
            let since = self.foreign.as_ref().filter(|f| f.key == key).map_or(now, |f| f.since);
            let lasting = record.lease_ms.filter(|_| record.in_place());
            let text = format!("the {} of {} is not over", record.kind, record.primary);
            Foreign { key, since, lasting: lasting.map(Duration::from_millis), text }
        });
        let Some(recorded) = &self.recorded else { return };
        let done = |e: &EpochFacts| {
            let operation = e.operation.as_ref().filter(|o| o.state == OperationState::Done)?;
            Some((e.epoch, operation.candidate.clone()))
        };
        let newest = stored.iter().filter_map(|e| done(e)).max();
        let Some((epoch, candidate)) = newest.filter(|(epoch, _)| *epoch > recorded.epoch) else {
            return;
        };
        let known = self.policy.members.nodes.contains_key(&candidate);
        if known && candidate != recorded.primary {
            self.leases.forget(&candidate);
            self.leases.forget_ends();
            self.suspicion.forget();
            (self.missed, self.silent_since) = (None, None);
            self.recorded =
                Some(Recorded { primary: candidate, epoch, lsn: None, ..recorded.clone() });
        }
    }

    /// The start or restart of the primary that somebody else began and did not end, when nothing of it can
    /// take effect any more: its id.
    #[must_use]
    pub fn abandoned(&self, now: Instant) -> Option<&str> {
        let foreign = self.foreign.as_ref()?;
        let over = foreign.since.after(self.policy.timing.wait_given(foreign.lasting?));
        (now >= over).then_some(foreign.key.1.as_str())
    }

    /// Remembers whether this round missed the primary.
    fn note_silence(&mut self) {
        let Some(recorded) = &self.recorded else { return };
        let Some(look) = self.sight.fresh(&recorded.primary) else { return };
        let missed = match &look.seen {
            Seen::Silent { .. } => true,
            Seen::Host(host) => {
                matches!(host.server, ServerSeen::NoAnswer(_))
            }
        };
        self.missed = missed.then_some(look.asked);
        self.silent_since = missed.then(|| self.silent_since.unwrap_or(look.asked));
    }

    fn record(&mut self, picture: &Picture) {
        let Some(name) = &picture.primary else { return };
        let (Some(host), Some(server)) = (self.sight.host(name), self.sight.server(name)) else {
            return;
        };
        let another = self
            .recorded
            .as_ref()
            .is_none_or(|r| r.primary != *name || r.timeline != server.timeline);
        if another {
            // Whoever promoted it gave it a lease of its own length.
            self.leases.forget(name);
            self.leases.forget_ends();
            self.leases.go_on();
        }
        self.recovery = Attempts::default();
        self.recorded = Some(Recorded {
            primary: name.clone(),
            system: server.system.or(self.recorded.as_ref().and_then(|r| r.system)),
            timeline: server.timeline,
            lsn: server.lsn,
            epoch: host.epoch.epoch,
        });
    }

    fn resume(&mut self, verdict: &mut Verdict, now: Instant) {
        if self.recovery.not_before > now {
            self.wait(verdict, "the last attempt came to nothing".to_owned());
            return;
        }
        verdict.decision = Decision::Act(Act::Resume);
    }

    fn wait(&mut self, verdict: &mut Verdict, why: String) {
        verdict.rule = "not-again-at-once";
        verdict.decision = Decision::Wait { until: self.recovery.not_before, why };
        self.phase = Phase::Suspecting;
    }

    fn recover(&mut self, verdict: &mut Verdict, now: Instant, wall: i64) {
        let Some(recorded) = self.recorded.clone() else { return };
        let reachable = self.sight.host(&recorded.primary).is_some();
        if !self.budget.allows(wall) {
            verdict.rule = "two-recoveries-and-a-word";
            verdict.because =
                "it has been replaced twice within an hour: `pgorch ack` lets the watch go on"
                    .to_owned();
            verdict.decision = Decision::Alarm { code: "watch_budget_used" };
            self.phase = Phase::Halted;
            return;
        }
        if let Some(limit) = self.restarts(verdict.finding, now) {
            self.restarted = Some(now);
            verdict.rule = "restart-in-place";
            verdict.because = "a crashed server on a live host may be back sooner".to_owned();
            verdict.decision = Decision::Act(Act::Restart { primary: recorded.primary, limit });
            return;
        }
        if self.recovery.not_before > now {
            self.wait(verdict, "the last attempt came to nothing".to_owned());
            return;
        }
        if !reachable && self.policy.unreachable.is_none() {
            verdict.rule = "no-proof-no-promotion";
            verdict.because = "nothing proves that a primary whose host does not answer confirms \
                               nothing any more: set failover.stonith, or failover.mode: automatic"
                .to_owned();
            verdict.decision = Decision::Alarm { code: "failover_unproved" };
            self.phase = Phase::Suspecting;
            return;
        }
        let lease = !reachable && self.policy.unreachable == Some(FarProof::Lease);
        if lease && self.leases.over_at(&recorded.primary, &BTreeMap::new()).is_none() {
            verdict.rule = "no-proof-no-promotion";
            verdict.because =
                "what holds the old primary up was never read, or has no end because \
                               its guard is paused"
                    .to_owned();
            verdict.decision = Decision::Alarm { code: "watch_lease_unknown" };
            self.phase = Phase::Suspecting;
            return;
        }
        let silent = now.since(self.silent_since.unwrap_or(now));
        self.leases.end();
        verdict.decision = Decision::Act(Act::Failover {
            primary: recorded.primary,
            finding: verdict.finding,
            reachable,
            silent,
        });
    }

    /// How long the lost primary has to be back by itself, where it is to be started again. One that was
    /// fenced, or stopped by somebody (its unit has not failed), is not.
    fn restarts(&self, finding: Finding, now: Instant) -> Option<Duration> {
        let limit = self.policy.restart_in_place?;
        let primary = &self.recorded.as_ref()?.primary;
        let host = self.sight.host(primary)?;
        let crashed = finding == Finding::PrimaryDead
            && host.unit == "failed"
            && !host.fenced
            && !host.standby_signal
            && !host.going_down;
        let tried = self.restarted.is_some_and(|at| now.since(at) < ONCE);
        (crashed && !tried).then_some(limit)
    }

    /// Single nodes, while the primary is well: one at a time, beside the rounds.
    fn look_after(&mut self, picture: &Picture, verdict: &mut Verdict, now: Instant) {
        let there = |key: &(Minor, HostName)| picture.minors.contains(key);
        self.minor_since.retain(|key, _| there(key));
        for key in &picture.minors {
            self.minor_since.entry(key.clone()).or_insert(now);
        }
        if self.returning.is_some() {
            return;
        }
        for (minor, node) in &picture.minors {
            // A rejoin of one that cannot reach the primary would only take it down.
            let reach = self.sight.host(node).and_then(|h| h.reaches_primary);
            let reaches = reach == Some(Reach::Accepts);
            let (allowed, after) = match minor {
                Minor::OldPrimaryReturned => (self.policy.auto_rejoin, RETURNED),
                Minor::StandbyAstray => (self.policy.auto_rejoin && reaches, ASTRAY),
                Minor::StandbyDown => (self.policy.restart_in_place.is_some(), RETURNED),
                Minor::StandbyCutOff | Minor::StandbyUnreachable | Minor::NoStandbyAttached => {
                    continue;
                }
            };
            let since = self.minor_since.get(&(*minor, node.clone())).copied().unwrap_or(now);
            let ripe = now.since(since) >= after;
            let rested = self.rejoins.get(node).is_none_or(|a| a.not_before <= now);
            if allowed && ripe && rested {
                verdict.rule = "bring-members-back";
                verdict.because = minor.text().sentence.to_owned();
                verdict.decision = Decision::Act(Act::Rejoin { node: node.clone(), why: *minor });
                self.returning = Some(node.clone());
                return;
            }
        }
    }

    /// What keeps the primary's lease up: from its own fresh reading only, and only while it is who
    /// it was.
    fn renewals(&mut self, finding: Finding, now: Instant) -> Vec<Renewal> {
        let who_it_was = matches!(
            finding,
            Finding::Healthy
                | Finding::TooManyClients
                | Finding::PrimaryRefuses
                | Finding::PrimarySlow
                | Finding::PrimaryStarting
        );
        let Some(recorded) = self.recorded.as_ref().filter(|_| who_it_was) else {
            return Vec::new();
        };
        let Some(look) = self.sight.fresh(&recorded.primary) else { return Vec::new() };
        let Seen::Host(host) = &look.seen else { return Vec::new() };
        let Some(reading) = &host.reading else { return Vec::new() };
        let (node, epoch, arrived) = (recorded.primary.clone(), host.epoch.epoch, look.arrived);
        self.leases.renew(&node, epoch, &reading.clone(), arrived, now).ok().into_iter().collect()
    }

    /// An act is over.
    pub fn acted(&mut self, act: &Act, end: &ActEnd, now: Instant, wall: i64) {
        if let Act::Rejoin { node, .. } = act {
            self.returning = None;
            match end {
                ActEnd::Done => drop(self.rejoins.remove(node)),
                _ => self.rejoins.entry(node.clone()).or_default().fail(now),
            }
            return;
        }
        if let Act::Restart { primary, .. } = act {
            // The start has given it a lease, or may have: it is read before anything is waited out.
            self.leases.forget(primary);
        }
        self.phase = Phase::Looking;
        self.suspicion.forget();
        self.missed = None;
        self.silent_since = None;
        if !matches!(end, ActEnd::Open { .. }) {
            self.leases.go_on();
        }
        match (act, end) {
            (Act::Failover { .. }, ActEnd::Done) => self.budget.spend(wall),
            (Act::Restart { .. }, _) | (_, ActEnd::Done) => {}
            _ => self.recovery.fail(now),
        }
    }
}

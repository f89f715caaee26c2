//! Nodes, links and time.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use pgorch::facts::{EpochFacts, OperationRecord, OperationState, Pause};
use pgorch::model::{HostName, Instant, Lsn, SystemIdentifier, Timeline, Timing};
use pgorch::watch::{
    Act, Answering, Budget, Decision, Declared, FarProof, Holds, HostSeen, Look, Members, Policy,
    Reach, Reading, ReceiverSeen, Renewal, Seen, ServerSeen, Watch,
};

use super::hands::Hands;
use super::second::Second;

pub(super) const CONTROLLER: usize = 3;
pub(super) const NODES: usize = 3;
pub(super) const ME: &str = "the watch";
/// Milliseconds of a step of time.
pub(super) const TICK: u64 = 50;

/// splitmix64: the same numbers on every machine.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit.max(1)
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    PowerOff(usize),
    PowerOn,
    /// The postmaster is gone, its host is there.
    Kill(usize),
    /// All processes of the server stand still.
    Freeze(usize),
    Cut(usize, usize),
    Heal,
    Slow(usize, usize, u64),
    ControllerSleeps(u64),
    ControllerDies(u64),
    /// For so long, or until the other.
    Pause(Option<u64>),
    Unpause,
}

impl Fault {
    pub(super) fn random(random: &mut Random) -> Self {
        let node = usize::try_from(random.below(3)).expect("small");
        let party = |r: &mut Random| usize::try_from(r.below(4)).expect("small");
        match random.below(14) {
            0 => Fault::PowerOff(node),
            1 | 2 => Fault::PowerOn,
            3 => Fault::Kill(node),
            4 => Fault::Freeze(node),
            5..=7 => Fault::Cut(party(random), party(random)),
            8 => Fault::Heal,
            9 => Fault::Slow(party(random), party(random), random.below(4_000)),
            10 => Fault::ControllerSleeps(random.below(20_000)),
            11 => Fault::Pause(random.chance(50).then(|| random.below(20_000))),
            12 => Fault::Unpause,
            _ => Fault::ControllerDies(random.below(5_000)),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    Down,
    Standby,
    Primary,
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Hundredths of a percent by which its clock is fast.
    rate: i64,
    pub(super) on: bool,
    pub(super) booted: u64,
    pub(super) server: Server,
    pub(super) frozen: bool,
    pub(super) signal: bool,
    pub(super) fenced: bool,
    pub(super) revoked: bool,
    pub(super) timeline: u32,
    pub(super) lsn: u64,
    pub(super) upstream: usize,
    pub(super) epoch: EpochFacts,
    /// When it heard from its upstream last.
    heard: u64,
    /// What an operator has told the watch, as stored here.
    word: Option<Pause>,
    // The guard, by the node's clock.
    pub(super) lease: u64,
    /// The guard lets it run without a lease: from which epoch on, and until when.
    exempt: Option<(u64, u64)>,
    beats: VecDeque<(u64, u64)>,
    support: [u64; NODES],
    next_beat: u64,
}

#[derive(Debug, Clone)]
enum Packet {
    Acknowledged { from: usize, to: usize, lsn: u64 },
    Renewal(Renewal, usize),
}

pub(super) struct World {
    pub(super) now: u64,
    pub(super) nodes: Vec<Node>,
    cuts: BTreeSet<(usize, usize)>,
    slow: [[u64; 4]; 4],
    packets: Vec<(u64, Packet)>,
    pub(super) timing: Timing,
    pub(super) watch: Watch,
    pub(super) hands: Option<Hands>,
    /// One node's return, beside it.
    pub(super) returning: Option<Hands>,
    /// Somebody who restarts the primary.
    pub(super) second: Option<Second>,
    /// Operations of this life of the watch.
    pub(super) begun: BTreeSet<String>,
    /// The controller does nothing until then; it is dead rather than asleep.
    away: (u64, bool),
    next_round: u64,
    knock: bool,
    pub(super) random: Random,
    pub(super) rules: BTreeSet<&'static str>,
    pub(super) recoveries: u32,
    seed: u64,
    log: Vec<String>,
}

pub(super) fn name(node: usize) -> HostName {
    HostName(format!("node{}", node + 1))
}

pub(super) fn number(name: &HostName) -> usize {
    name.0.trim_start_matches("node").parse::<usize>().expect("a number") - 1
}

fn policy(timing: &Timing, restarts: bool) -> Policy {
    let declared =
        |n: usize| Declared { address: format!("n{n}"), port: 5432, slot: format!("node{n}") };
    Policy {
        members: Members {
            nodes: (0..NODES).map(|n| (name(n), declared(n))).collect(),
            voters: (0..NODES).map(name).collect(),
            identity: ME.to_owned(),
        },
        timing: timing.clone(),
        quorum_replication: false,
        guarded: true,
        unreachable: Some(FarProof::Lease),
        auto_rejoin: true,
        restart_in_place: restarts.then_some(timing.restart_in_place),
    }
}

fn instant(ms: u64) -> Instant {
    Instant(Duration::from_millis(ms))
}

pub(super) fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).expect("small")
}

impl World {
    pub(super) fn new(seed: u64, skewed: bool) -> Self {
        let timing = Timing::default();
        let mut random = Random(seed ^ 0xabcdef);
        let nodes = (0..NODES).map(|n| Node {
            // Up to 8.3 % off, which chrony may do.
            rate: if skewed { i64::try_from(random.below(1_660)).expect("small") - 830 } else { 0 },
            on: true,
            booted: 0,
            server: if n == 0 { Server::Primary } else { Server::Standby },
            frozen: false,
            signal: n != 0,
            fenced: false,
            revoked: false,
            timeline: 1,
            lsn: 1,
            upstream: 0,
            epoch: EpochFacts::default(),
            heard: 0,
            word: None,
            exempt: None,
            lease: if n == 0 { 5_000 } else { 0 },
            beats: VecDeque::new(),
            support: [0; NODES],
            next_beat: 0,
        });
        let nodes = nodes.collect();
        let watch =
            Watch::new(policy(&timing, seed.is_multiple_of(2)), Budget::default(), instant(0));
        World {
            now: 0,
            nodes,
            cuts: BTreeSet::new(),
            slow: [[0; 4]; 4],
            packets: Vec::new(),
            watch,
            timing,
            hands: None,
            returning: None,
            second: None,
            begun: BTreeSet::new(),
            away: (0, false),
            next_round: 0,
            knock: false,
            random,
            rules: BTreeSet::new(),
            recoveries: 0,
            seed,
            log: Vec::new(),
        }
    }

    pub(super) fn tell(&mut self, text: String) {
        self.log.push(format!("{:>7} {text}", self.now));
    }

    pub(super) fn story(&self) -> String {
        let log = self.log.join("\n");
        let nodes: Vec<String> = self.nodes.iter().map(|n| format!("{n:?}")).collect();
        format!("PGORCH_SEED={}\n{log}\ncuts {:?}\n{}", self.seed, self.cuts, nodes.join("\n"))
    }

    /// A node's own clock.
    pub(super) fn clock(&self, node: usize) -> u64 {
        let n = &self.nodes[node];
        let up = i64::try_from(self.now - n.booted).expect("small");
        u64::try_from(up * (10_000 + n.rate) / 10_000).expect("forward")
    }

    pub(super) fn passes(&self, from: usize, to: usize) -> bool {
        let on = |p: usize| p == CONTROLLER || self.nodes[p].on;
        on(from) && on(to) && !self.cuts.contains(&(from, to))
    }

    pub(super) fn talks(&self, node: usize) -> bool {
        self.passes(CONTROLLER, node) && self.passes(node, CONTROLLER)
    }

    pub(super) fn cut(&mut self, from: usize, to: usize) {
        self.cuts.insert((from, to));
    }

    pub(super) fn slow(&mut self, from: usize, to: usize, time: u64) {
        self.slow[from][to] = time;
    }

    pub(super) fn strike(&mut self, fault: Fault, random: &mut Random) {
        self.tell(format!("{fault:?}"));
        match fault {
            Fault::PowerOff(n) => {
                let node = &mut self.nodes[n];
                (node.on, node.server, node.frozen) = (false, Server::Down, false);
            }
            Fault::PowerOn => self.power_on(),
            Fault::Kill(n) => self.nodes[n].server = Server::Down,
            Fault::Freeze(n) => self.nodes[n].frozen = self.nodes[n].server != Server::Down,
            Fault::Cut(a, b) => {
                self.cut(a, b);
                if random.chance(50) {
                    self.cut(b, a);
                }
            }
            Fault::Heal => self.cuts.clear(),
            Fault::Slow(a, b, time) => self.slow(a, b, time),
            Fault::ControllerSleeps(time) => self.away = (self.now + time, false),
            Fault::ControllerDies(time) => {
                self.away = (self.now + time, true);
                (self.hands, self.returning) = (None, None);
            }
            Fault::Pause(time) => self.pause(time, random),
            Fault::Unpause => self.unpause(random),
        }
    }

    /// What `pgorch pause` does from the watch's own machine: the word first, then the guards.
    fn pause(&mut self, time: Option<u64>, random: &mut Random) {
        let until = time.map(|t| i64::try_from(self.now + t).expect("small"));
        if !self.say(true, until) {
            return;
        }
        for n in 0..NODES {
            // The command may be lost on its way.
            if self.talks(n) && random.chance(80) && self.nodes[n].server == Server::Primary {
                let end = time.map_or(u64::MAX / 2, |t| self.clock(n) + t);
                self.nodes[n].exempt = Some((self.nodes[n].epoch.epoch, end));
            }
        }
    }

    /// The guards first, each with a lease that lasts until somebody renews it.
    fn unpause(&mut self, random: &mut Random) {
        for n in 0..NODES {
            if self.talks(n) && random.chance(80) && self.nodes[n].exempt.is_some() {
                let clock = self.clock(n);
                let node = &mut self.nodes[n];
                (node.lease, node.exempt) = (node.lease.max(clock + 5_000), None);
            }
        }
        self.say(false, None);
    }

    /// Whether it is stored on a majority.
    fn say(&mut self, paused: bool, until: Option<i64>) -> bool {
        let said = i64::try_from(self.now).expect("small");
        let word = Pause { said, paused, until, by: "op".to_owned(), reason: None };
        let there: Vec<usize> = (0..NODES).filter(|n| self.talks(*n)).collect();
        for n in &there {
            self.nodes[*n].word = Some(word.clone());
        }
        there.len() >= 2
    }

    /// Until when, by its clock, its guard lets it run without a lease; the pass after that is the first to
    /// look for one.
    fn exempt_until(&self, n: usize) -> u64 {
        let node = &self.nodes[n];
        let (epoch, end) = node.exempt.unwrap_or_default();
        let late = ms(self.timing.guard_period + self.timing.pass_limit);
        if epoch >= node.epoch.epoch && end > 0 { end + late } else { 0 }
    }

    /// A boot: standbys come up by themselves; what would be writable has no grant, or is fenced.
    fn power_on(&mut self) {
        for n in 0..NODES {
            let now = self.now;
            let node = &mut self.nodes[n];
            if !node.on {
                (node.on, node.booted) = (true, now);
                (node.lease, node.support, node.next_beat) = (0, [0; NODES], 0);
                node.exempt = None;
                node.beats.clear();
                if node.signal && !node.fenced {
                    node.server = Server::Standby;
                }
            }
        }
    }

    /// Links, hosts and processes are well again.
    pub(super) fn mend(&mut self) {
        self.tell("mended".to_owned());
        self.cuts.clear();
        self.slow = [[0; 4]; 4];
        self.away = (self.now, self.away.1);
        self.power_on();
        for node in &mut self.nodes {
            node.frozen = false;
            if node.server == Server::Down && node.signal && !node.fenced {
                node.server = Server::Standby;
            }
        }
        self.watch.set_budget(Budget::default());
        for n in 0..NODES {
            let clock = self.clock(n);
            let node = &mut self.nodes[n];
            if node.exempt.take().is_some() {
                node.lease = node.lease.max(clock + 5_000);
            }
        }
        self.say(false, None);
        self.start_all();
    }

    /// What an operator does where nothing runs and nothing would (`pgorch start --all`).
    fn start_all(&mut self) {
        if self.nodes.iter().any(|n| n.server != Server::Down) {
            return;
        }
        // Whom the last operation promoted; two promotions from one fork have one timeline number.
        let done = |n: &usize| {
            let epoch = &self.nodes[*n].epoch;
            let over = epoch.operation.as_ref().filter(|o| o.state == OperationState::Done);
            over.map(|o| (epoch.epoch, number(&o.candidate)))
        };
        let newest = (0..NODES).filter_map(|n| done(&n)).max().map_or(0, |(_, n)| n);
        let (clock, first) = (self.clock(newest), ms(self.timing.first_lease()));
        self.tell(format!("an operator starts node{}", newest + 1));
        let epoch = self.nodes.iter().map(|n| n.epoch.epoch).max().unwrap_or(0) + 1;
        for n in 0..NODES {
            self.nodes[n].epoch.epoch = epoch;
            let record = super::hands::started(newest, first);
            self.nodes[n].epoch.operation = Some(record);
        }
        let node = &mut self.nodes[newest];
        (node.server, node.signal, node.fenced) = (Server::Primary, false, false);
        (node.revoked, node.lease) = (false, clock + first);
    }

    pub(super) fn primary(&self) -> Option<usize> {
        self.nodes.iter().position(|n| n.on && n.server == Server::Primary)
    }

    pub(super) fn run(&mut self, time: u64) {
        let until = self.now + time;
        while self.now < until {
            self.now += TICK;
            self.replicate();
            self.deliver();
            self.guards();
            self.control();
            self.restart();
            self.check();
        }
    }

    fn restart(&mut self) {
        if let Some(mut second) = self.second.take()
            && second.go_on(self)
        {
            self.second = Some(second);
        }
    }

    /// The old primary's time is over when the new one's begins.
    #[track_caller]
    fn check(&self) {
        let confirms = |n: &&Node| n.on && n.server == Server::Primary && !n.frozen;
        let count = self.nodes.iter().filter(confirms).count();
        assert!(count < 2, "two confirm\n{}", self.story());
    }

    /// One primary with everybody attached, and nothing left over; else what is wrong.
    pub(super) fn whole(&self) -> Result<(), String> {
        let wrong = |text: String| Err(format!("{text}\n{}", self.story()));
        let Some(primary) = self.primary() else { return wrong("no primary".to_owned()) };
        for (n, node) in self.nodes.iter().enumerate() {
            let name = n + 1;
            if node.fenced || node.revoked {
                return wrong(format!("node{name} is fenced or revoked"));
            }
            if node.epoch.open().is_some() {
                return wrong(format!("an operation is open on node{name}"));
            }
            let fed = node.server == Server::Standby && node.upstream == primary;
            if n != primary && !(fed && self.now - node.heard <= TICK) {
                return wrong(format!("node{name} is not fed"));
            }
        }
        Ok(())
    }

    fn replicate(&mut self) {
        if let Some(p) = self.primary().filter(|p| !self.nodes[*p].frozen) {
            self.nodes[p].lsn += 1;
        }
        for s in 0..NODES {
            let (up, node) = (self.nodes[s].upstream, &self.nodes[s]);
            let takes = node.on && node.server == Server::Standby && !node.revoked && !node.frozen;
            let sends = &self.nodes[up];
            let alive = sends.on && sends.server == Server::Primary && !sends.frozen;
            let older = (node.timeline, node.lsn) <= (sends.timeline, sends.lsn);
            if !(takes && alive && older && up != s && self.passes(up, s)) {
                continue;
            }
            let (timeline, lsn) = (sends.timeline, sends.lsn);
            let (now, late) = (self.now, self.slow[s][up]);
            let node = &mut self.nodes[s];
            (node.timeline, node.lsn, node.heard) = (timeline, lsn, now);
            if self.passes(s, up) {
                let packet = Packet::Acknowledged { from: s, to: up, lsn };
                self.packets.push((now + late, packet));
            }
        }
    }

    fn deliver(&mut self) {
        let now = self.now;
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.packets).into_iter().partition(|(at, _)| *at <= now);
        self.packets = later;
        for (_, packet) in due {
            match packet {
                Packet::Acknowledged { from, to, lsn } => {
                    let reply = ms(self.timing.reply_timeout);
                    let node = &mut self.nodes[to];
                    // The latest heartbeat that it has on disk, by when it was written.
                    let beat = node.beats.iter().rev().find(|(_, at)| *at <= lsn);
                    let end = beat.map_or(0, |(written, _)| written + reply);
                    node.support[from] = node.support[from].max(end);
                }
                Packet::Renewal(renewal, to) => {
                    let (clock, boot) = (self.clock(to), self.nodes[to].booted.to_string());
                    let node = &mut self.nodes[to];
                    let end = ms(renewal.end);
                    let good = renewal.boot_id == boot && end > clock;
                    if node.on && good && renewal.epoch >= node.epoch.epoch {
                        node.lease = node.lease.max(end);
                    }
                }
            }
        }
    }

    /// Heartbeats, and the end of who has no support: as late as the bound allows.
    fn guards(&mut self) {
        for n in 0..NODES {
            let clock = self.clock(n);
            let bound = ms(self.timing.stop_bound);
            let period = ms(self.timing.guard_period);
            let exempt = self.exempt_until(n);
            let node = &mut self.nodes[n];
            if !node.on || node.server != Server::Primary {
                continue;
            }
            if clock >= node.next_beat && !node.frozen {
                node.lsn += 1;
                node.beats.push_back((clock, node.lsn));
                if node.beats.len() > 64 {
                    node.beats.pop_front();
                }
                node.next_beat = clock + period;
            }
            // Itself and one standby are two of three.
            let acknowledged = node.support.iter().max().copied().unwrap_or(0);
            if clock > node.lease.max(acknowledged).max(exempt) + bound {
                (node.server, node.frozen) = (Server::Down, false);
                self.tell(format!("the guard ends node{}", n + 1));
            }
        }
    }

    fn control(&mut self) {
        let (until, dead) = self.away;
        if self.now < until {
            return;
        }
        if dead {
            self.away = (0, false);
            let kept = self.watch.kept();
            self.watch = Watch::new(
                policy(&self.timing, self.seed.is_multiple_of(2)),
                Budget::default(),
                instant(self.now),
            );
            if let Some(kept) = kept {
                self.watch.go_on_from(kept, instant(self.now));
            }
            self.begun.clear();
            self.tell("the controller begins anew".to_owned());
        }
        let hands = self.hands.take();
        self.hands = self.work(hands);
        let returning = self.returning.take();
        self.returning = self.work(returning);
        if self.now >= self.next_round {
            self.round();
        }
    }

    fn work(&mut self, hands: Option<Hands>) -> Option<Hands> {
        let mut hands = hands?;
        let Some(end) = hands.go_on(self) else { return Some(hands) };
        self.tell(format!("{:?}: {end:?}", hands.act));
        let wall = i64::try_from(self.now).expect("small");
        self.watch.acted(&hands.act, &end, instant(self.now), wall);
        None
    }

    fn round(&mut self) {
        let round = self.watch.begin_round();
        let (asked, read) = (instant(self.now - TICK), self.watch.unread().cloned());
        for n in 0..NODES {
            let look =
                |seen| Look { node: name(n), round, asked, arrived: instant(self.now), seen };
            let late = self.slow[CONTROLLER][n] + self.slow[n][CONTROLLER];
            let seen = if self.talks(n) && late < ms(self.timing.deadline) {
                Seen::Host(Box::new(self.seen(n, read == Some(name(n)))))
            } else {
                Seen::Silent { why: "no answer".to_owned() }
            };
            self.watch.take(look(seen));
        }
        let now = instant(self.now);
        // Budgets are another matter: here everything is always allowed.
        self.watch.set_budget(Budget::default());
        let verdict = self.watch.decide(now, i64::try_from(self.now).expect("small"));
        self.rules.insert(verdict.rule);
        self.knock = verdict.knock;
        self.next_round = ms(verdict.next.0).max(self.now + TICK);
        for renewal in verdict.renewals {
            let to = number(&renewal.node);
            if self.passes(CONTROLLER, to) {
                let late = self.slow[CONTROLLER][to] + self.random.below(200);
                self.packets.push((self.now + late, Packet::Renewal(renewal, to)));
            }
        }
        if let Decision::Act(act) = verdict.decision {
            self.tell(format!("{:?} ({}): {act:?}", verdict.finding, verdict.rule));
            if matches!(act, Act::Failover { .. }) {
                self.recoveries += 1;
            }
            match act {
                Act::Rejoin { .. } => self.returning = Some(Hands::new(act)),
                _ => self.hands = Some(Hands::new(act)),
            }
        }
    }

    fn seen(&self, n: usize, read: bool) -> HostSeen {
        let node = &self.nodes[n];
        let clock = self.clock(n);
        let answers = ServerSeen::Answers(Box::new(Answering {
            in_recovery: node.server == Server::Standby,
            system: Some(SystemIdentifier(1)),
            timeline: Some(Timeline(node.timeline)),
            lsn: Some(Lsn(node.lsn)),
            receiver: (node.server == Server::Standby && !node.revoked).then(|| {
                let silent = self.now - node.heard;
                ReceiverSeen {
                    streaming: silent < 5_000,
                    host: format!("n{}", node.upstream),
                    port: 5432,
                    silent_seconds: Duration::from_millis(silent).as_secs_f64(),
                }
            }),
            streaming_to: Vec::new(),
        }));
        let peer =
            self.watch.recorded().map(|r| number(&r.primary)).filter(|p| *p != n && self.knock);
        let holds = match self.exempt_until(n) > clock {
            true => Holds::WithoutEnd,
            false => Holds::For(Duration::from_millis(node.lease.saturating_sub(clock))),
        };
        HostSeen {
            postmaster: (node.server != Server::Down).then_some(1),
            unit: "failed".to_owned(),
            standby_signal: node.signal,
            fenced: node.fenced,
            revoked: node.revoked,
            epoch: node.epoch.clone(),
            pause: node.word.clone(),
            reading: Some(Reading {
                boot_id: node.booted.to_string(),
                clock: Duration::from_millis(clock),
                agrees: true,
                holds: (read || !self.watch.leases().knows(&name(n))).then_some(holds),
            }),
            reaches_primary: peer.map(|p| {
                let there = self.passes(n, p) && self.passes(p, n);
                let up = self.nodes[p].server != Server::Down && !self.nodes[p].frozen;
                if there && up { Reach::Accepts } else { Reach::Nothing }
            }),
            server: match (node.server, node.frozen) {
                (Server::Down, _) => ServerSeen::NotAsked,
                (_, true) => ServerSeen::NoAnswer("nothing".to_owned()),
                _ => answers,
            },
            ..HostSeen::default()
        }
    }

    /// The open operation of the highest epoch among these.
    pub(super) fn open(&self, nodes: &[usize]) -> Option<OperationRecord> {
        let open = nodes.iter().filter_map(|n| {
            let epoch = &self.nodes[*n].epoch;
            Some((epoch.epoch, epoch.open()?.clone()))
        });
        open.max_by_key(|(epoch, _)| *epoch).map(|(_, record)| record)
    }
}

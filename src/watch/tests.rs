//! The rule book as a whole, and situations from the first look to the decision.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::facts::{EpochFacts, OperationRecord, OperationState, Proof};
use crate::model::{
    Hold, HostName, Instant, Lsn, NoticeKind, Profile, SystemIdentifier, Timeline, Timing,
};

const DOCS: &str = include_str!("../../docs/watch.md");

#[test]
fn exactly_one_rule_holds_for_each_phase_and_finding() {
    for phase in Phase::ALL {
        for finding in Finding::ALL {
            let fits = |r: &&Rule| r.from.contains(&phase) && r.on.contains(&finding);
            let names: Vec<&str> = RULES.iter().filter(fits).map(|r| r.name).collect();
            assert_eq!(names.len(), 1, "{phase:?} {finding:?}: {names:?}");
        }
    }
}

#[test]
fn only_a_convinced_watch_recovers_and_only_from_a_loss() {
    for phase in Phase::ALL {
        for finding in Finding::ALL {
            let recovers = rule(phase, finding).reaction == Reaction::Recover;
            assert_eq!(recovers, phase == Phase::Convinced && finding.accuses());
        }
    }
}

#[test]
fn whoever_is_alert_gets_back_to_watching() {
    for phase in [Phase::Looking, Phase::Watching, Phase::Suspecting, Phase::Convinced] {
        assert_eq!(rule(phase, Finding::Healthy).to, Some(Phase::Watching), "{phase:?}");
    }
}

#[test]
fn names_are_words_and_none_is_used_twice() {
    let more = MORE_RULES.iter().map(|r| r.0);
    let names: BTreeSet<&str> = RULES.iter().map(|r| r.name).chain(more).collect();
    assert_eq!(names.len(), RULES.len() + MORE_RULES.len());
    let codes = Finding::ALL.map(Finding::code).into_iter();
    let codes: Vec<&str> = codes.chain(Minor::ALL.map(Minor::code)).collect();
    assert_eq!(codes.iter().collect::<BTreeSet<_>>().len(), codes.len());
    let texts = Finding::ALL.map(Finding::text).into_iter().chain(Minor::ALL.map(Minor::text));
    for text in texts {
        assert!(text.explain.ends_with('.') && text.explain.len() > 30, "{}", text.code);
    }
}

/// docs/watch.md holds what the table says; `PGORCH_DOCS=write` writes it anew.
#[test]
fn the_page_about_the_watch_is_that_of_the_table() {
    let mut page = DOCS.to_owned();
    let parts = [
        ("matrix", matrix()),
        ("rules", rule_table()),
        ("diagram", fenced(&diagram())),
        ("notices", NoticeKind::table()),
    ];
    for (name, text) in &parts {
        let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
        let start = page.find(&open).expect("its place") + open.len();
        let end = page.find(&close).expect("its end");
        page.replace_range(start..end, text);
    }
    if std::env::var("PGORCH_DOCS").is_ok_and(|v| v == "write") {
        std::fs::write("docs/watch.md", &page).expect("written");
        return;
    }
    assert!(page == DOCS, "docs/watch.md is old: PGORCH_DOCS=write cargo test the_page_about");
}

fn fenced(text: &str) -> String {
    format!("```mermaid\n{text}```\n")
}

// ---- situations

const ME: &str = "watch me";
const SYSTEM: SystemIdentifier = SystemIdentifier(7);

fn name(number: usize) -> HostName {
    HostName(format!("node{number}"))
}

fn at(ms: u64) -> Instant {
    Instant(Duration::from_millis(ms))
}

fn policy() -> Policy {
    let declared = |n: usize| Declared {
        address: format!("198.18.0.{n}"),
        port: 5432,
        slot: format!("node{n}"),
    };
    Policy {
        members: Members {
            nodes: (1..=3).map(|n| (name(n), declared(n))).collect(),
            voters: (1..=3).map(name).collect(),
            identity: ME.to_owned(),
        },
        timing: Timing::profile(Profile::Fast, Hold::Timer),
        quorum_replication: false,
        guarded: true,
        unreachable: Some(FarProof::Lease),
        auto_rejoin: true,
        restart_in_place: None,
    }
}

/// Three nodes that are well, node1 the primary; tests spoil them and let rounds pass.
struct World {
    watch: Watch,
    hosts: Vec<Seen>,
    now: u64,
}

fn host(n: usize) -> HostSeen {
    let receiver = ReceiverSeen {
        streaming: true,
        host: "198.18.0.1".to_owned(),
        port: 5432,
        silent_seconds: 0.01,
    };
    HostSeen {
        postmaster: Some(100),
        standby_signal: n != 1,
        server: ServerSeen::Answers(Box::new(Answering {
            in_recovery: n != 1,
            system: Some(SYSTEM),
            timeline: Some(Timeline(1)),
            lsn: Some(Lsn(1_000)),
            receiver: (n != 1).then_some(receiver),
            streaming_to: Vec::new(),
        })),
        ..HostSeen::default()
    }
}

impl World {
    fn new() -> Self {
        World::of(policy())
    }

    /// After two good rounds.
    fn of(policy: Policy) -> Self {
        let hosts = (1..=3).map(|n| Seen::Host(Box::new(host(n)))).collect();
        let mut world =
            World { watch: Watch::new(policy, Budget::default(), at(0)), hosts, now: 0 };
        world.round();
        let verdict = world.round();
        assert_eq!((verdict.phase, verdict.finding), (Phase::Watching, Finding::Healthy));
        world
    }

    fn host(&mut self, n: usize) -> &mut HostSeen {
        match &mut self.hosts[n - 1] {
            Seen::Host(host) => host,
            Seen::Silent { .. } => panic!("node{n} is silent"),
        }
    }

    fn server(&mut self, n: usize) -> &mut Answering {
        match &mut self.host(n).server {
            ServerSeen::Answers(server) => server,
            other => panic!("{other:?}"),
        }
    }

    fn silence(&mut self, n: usize) {
        self.hosts[n - 1] = Seen::Silent { why: "no answer in time".to_owned() };
    }

    /// The server is gone, its host is there.
    fn kill(&mut self, n: usize) {
        let host = self.host(n);
        (host.postmaster, host.server) = (None, ServerSeen::NotAsked);
        host.unit = "failed".to_owned();
    }

    /// Standbys have heard nothing for so long, as time passes.
    fn deaf(&mut self, seconds: f64) {
        for n in 2..=3 {
            if let Seen::Host(host) = &mut self.hosts[n - 1]
                && let ServerSeen::Answers(server) = &mut host.server
                && let Some(receiver) = &mut server.receiver
            {
                receiver.silent_seconds = seconds;
            }
        }
    }

    fn knocked(&mut self, reach: Reach) {
        for n in 2..=3 {
            self.host(n).reaches_primary = Some(reach);
        }
    }

    fn round(&mut self) -> Verdict {
        self.round_at(self.now + 1_000)
    }

    fn round_at(&mut self, ms: u64) -> Verdict {
        self.now = ms;
        let round = self.watch.begin_round();
        for (index, seen) in self.hosts.iter().enumerate() {
            let (asked, arrived) = (at(ms), at(ms + 20));
            let look = Look { node: name(index + 1), round, asked, arrived, seen: seen.clone() };
            self.watch.take(look);
        }
        assert!(self.watch.complete());
        self.watch.decide(at(ms + 20), i64::try_from(ms).expect("small"))
    }

    /// Rounds at the times that the watch asks for, until it acts or so many have passed.
    fn until_act(&mut self, rounds: usize) -> Option<(Act, u64)> {
        let first = self.now;
        for _ in 0..rounds {
            let verdict = self.round();
            if let Decision::Act(act) = verdict.decision {
                return Some((act, self.now - first));
            }
            // The next one begins when the watch wants it.
            self.now = u64::try_from(verdict.next.0.as_millis()).expect("small") - 1_000;
        }
        None
    }
}

fn failover(act: &Option<(Act, u64)>) -> bool {
    matches!(act, Some((Act::Failover { primary, .. }, _)) if *primary == name(1))
}

fn open(controller: &str) -> EpochFacts {
    let operation = OperationRecord {
        id: "x".to_owned(),
        kind: "failover".to_owned(),
        controller: controller.to_owned(),
        primary: name(1),
        candidate: name(2),
        state: OperationState::Open,
        proof: Proof::Fenced,
        elected: false,
        earlier: Vec::new(),
        possible: Vec::new(),
        over: false,
        lease_ms: None,
        started: String::new(),
    };
    EpochFacts { epoch: 9, operation: Some(operation) }
}

#[test]
fn replace_a_lost_primary_after_a_second_look_at_a_live_host() {
    let mut world = World::new();
    world.kill(1);
    let first = world.round();
    assert_eq!((first.finding, first.rule), (Finding::PrimaryDead, "look-again"));
    assert_eq!(first.next, at(world.now + 20 + 50));
    let second = world.round();
    assert_eq!(second.rule, "replace-a-lost-primary");
    let Decision::Act(Act::Failover { primary, reachable, .. }) = second.decision else {
        panic!("{second:?}");
    };
    assert_eq!((primary, reachable), (name(1), true));
}

#[test]
fn a_server_that_is_back_at_the_second_look_is_left_alone() {
    let mut world = World::new();
    world.kill(1);
    world.round();
    world.hosts[0] = Seen::Host(Box::new(host(1)));
    assert_eq!(world.round().rule, "all-is-well");
}

#[test]
fn blind_is_not_dead() {
    let mut world = World::new();
    world.silence(1);
    let act = world.until_act(30);
    assert_eq!(act, None, "standbys go on hearing from it");
    let verdict = world.round();
    assert_eq!((verdict.finding, verdict.rule), (Finding::PrimaryBlind, "blind-is-not-dead"));
}

#[test]
fn an_idle_primary_that_only_we_cannot_reach_is_found_alive_by_a_knock() {
    let mut world = World::new();
    world.silence(1);
    world.deaf(2.0);
    let verdict = world.round();
    assert!(verdict.knock, "the standbys are to knock");
    world.knocked(Reach::Accepts);
    assert_eq!(world.until_act(30), None);
}

#[test]
fn a_lost_host_is_replaced_when_nobody_hears_it() {
    let mut world = World::new();
    let holds = Some(Holds::For(Duration::ZERO));
    world.host(1).reading = Some(Reading { agrees: true, holds, ..Reading::default() });
    world.round();
    world.silence(1);
    world.deaf(0.5);
    world.round();
    world.deaf(1.5);
    world.knocked(Reach::Nothing);
    let act = world.until_act(10);
    assert!(failover(&act), "{act:?}");
    let Some((Act::Failover { reachable, .. }, after)) = act else { panic!() };
    assert!(!reachable);
    assert!(after <= 3_000, "{after} ms");
}

#[test]
fn without_a_word_of_the_standbys_a_lost_host_is_not_replaced() {
    let mut world = World::new();
    world.silence(1);
    // Silent, but not for longer than an idle primary would be.
    world.deaf(2.0);
    assert_eq!(world.until_act(30), None);
}

#[test]
fn no_proof_no_promotion() {
    let mut world = World::of(Policy { unreachable: None, ..policy() });
    world.silence(1);
    world.deaf(1.0);
    world.knocked(Reach::Nothing);
    assert_eq!(world.until_act(30), None);
    let verdict = world.round();
    assert_eq!(verdict.rule, "no-proof-no-promotion");
    assert_eq!(verdict.decision, Decision::Alarm { code: "failover_unproved" });
}

#[test]
fn a_lease_that_was_never_read_cannot_be_waited_out() {
    let mut world = World::new();
    world.silence(1);
    world.deaf(1.0);
    world.knocked(Reach::Nothing);
    assert_eq!(world.until_act(30), None);
    assert_eq!(world.round().decision, Decision::Alarm { code: "watch_lease_unknown" });
}

#[test]
fn cut_off_never_acts() {
    let mut world = World::new();
    for n in 1..=3 {
        world.silence(n);
    }
    assert_eq!(world.until_act(30), None);
    assert_eq!(world.round().finding, Finding::ControllerIsolated);
    // One comes back: no majority.
    world.hosts[1] = Seen::Host(Box::new(host(2)));
    world.deaf(10.0);
    assert_eq!(world.until_act(30), None);
    assert_eq!(world.round().finding, Finding::VotersMissing);
}

#[test]
fn a_hung_server_is_killed_only_when_no_standby_hears_it() {
    let mut world = World::new();
    world.host(1).server = ServerSeen::NoAnswer("nothing".to_owned());
    assert_eq!(world.until_act(20), None);
    assert_eq!(world.round().rule, "slow-is-not-dead");
    world.deaf(1.0);
    world.knocked(Reach::Nothing);
    let act = world.until_act(20);
    assert!(failover(&act), "{act:?}");
    let Some((Act::Failover { finding, reachable, .. }, _)) = act else { panic!() };
    assert_eq!((finding, reachable), (Finding::PrimaryHung, true));
}

#[test]
fn full_and_refusing_servers_are_alive() {
    let mut world = World::new();
    for server in [ServerSeen::TooManyClients, ServerSeen::Refuses("28000".to_owned())] {
        world.host(1).server = server;
        world.deaf(60.0);
        assert_eq!(world.until_act(20), None);
        assert_eq!(world.round().rule, "full-is-alive");
    }
}

#[test]
fn let_a_stop_end_and_then_replace() {
    let mut world = World::new();
    world.host(1).server = ServerSeen::ShuttingDown;
    assert_eq!(world.until_act(60), None);
    assert_eq!(world.round().rule, "let-a-stop-end");
    world.kill(1);
    assert!(failover(&world.until_act(5)));
}

#[test]
fn a_host_that_goes_down_is_let_go_down() {
    let mut world = World::new();
    world.host(1).server = ServerSeen::ShuttingDown;
    world.host(1).going_down = true;
    assert_eq!(world.until_act(60), None);
    assert_eq!(world.round().finding, Finding::HostGoingDown);
}

#[test]
fn crash_recovery_has_its_time() {
    let mut world = World::new();
    world.host(1).server = ServerSeen::StartingUp;
    let act = world.until_act(60);
    assert!(failover(&act), "{act:?}");
    assert!(act.expect("an act").1 >= 2_000);
}

#[test]
fn never_promote_into_a_split() {
    let mut world = World::new();
    world.server(2).in_recovery = false;
    assert_eq!(world.until_act(20), None);
    assert_eq!(world.round().rule, "never-promote-into-a-split");
}

#[test]
fn another_server_in_the_primary_s_place_is_not_trusted() {
    let spoil: [fn(&mut World); 3] = [
        |w| w.server(1).system = Some(SystemIdentifier(8)),
        |w| w.server(1).timeline = None,
        |w| {
            w.silence(1);
            w.server(3).in_recovery = false;
        },
    ];
    for spoil in spoil {
        let mut world = World::new();
        spoil(&mut world);
        assert_eq!(world.until_act(20), None);
        assert_eq!(world.round().finding, Finding::IdentityChanged);
    }
}

#[test]
fn observed_primary_wins() {
    let mut world = World::new();
    for n in 1..=3 {
        world.server(n).timeline = Some(Timeline(2));
    }
    (world.server(1).in_recovery, world.server(2).in_recovery) = (true, false);
    let verdict = world.round();
    assert_eq!(verdict.rule, "observed-primary-wins");
    assert_eq!(world.watch.recorded().expect("one").primary, name(2));
    assert_eq!(world.round().rule, "all-is-well");
}

#[test]
fn know_whom_you_replace() {
    let mut world = World::new();
    world.watch = Watch::new(policy(), Budget::default(), at(0));
    world.kill(1);
    assert_eq!(world.until_act(20), None);
    assert_eq!(world.round().finding, Finding::NoPrimarySeen);
}

#[test]
fn not_into_another_operation() {
    let mut world = World::new();
    world.kill(1);
    world.host(2).epoch = open("op@laptop");
    assert_eq!(world.until_act(20), None);
    assert_eq!(world.round().rule, "not-into-another-operation");
}

#[test]
fn one_owner() {
    let mut world = World::new();
    let holds = Some(Holds::For(Duration::ZERO));
    world.host(1).reading = Some(Reading { agrees: true, holds, ..Reading::default() });
    world.host(3).owner = Some(ME.to_owned());
    assert_eq!(world.round().renewals.len(), 1);
    world.host(3).owner = Some("another".to_owned());
    let verdict = world.round();
    assert_eq!((verdict.rule, verdict.renewals), ("one-owner", Vec::new()));
    world.kill(1);
    assert_eq!(world.until_act(20), None);
}

#[test]
fn a_watch_that_begins_anew_knows_whom_the_last_one_watched() {
    let mut world = World::new();
    let holds = Some(Holds::For(Duration::from_secs(90)));
    world.host(1).reading = Some(Reading { agrees: true, holds, ..Reading::default() });
    world.round();
    let kept = world.watch.kept().expect("whom it watched");
    assert_eq!(kept.holds, Some(Holds::For(Duration::from_secs(90))));
    world.watch = Watch::new(policy(), Budget::default(), at(world.now));
    world.watch.go_on_from(kept, at(world.now));
    world.silence(1);
    world.deaf(1.0);
    world.knocked(Reach::Nothing);
    assert!(failover(&world.until_act(10)));
    // It may have been given a lease in the last moment of the watch before.
    let over = world.watch.leases().over_at(&name(1), &Default::default()).expect("an end");
    assert!(over > at(world.now + 80_000));
}

/// Found by the simulation: it was promoted, and lost before the next look.
#[test]
fn whom_an_operation_promoted_is_the_primary_even_if_it_was_never_seen_as_one() {
    let mut world = World::new();
    world.kill(1);
    world.host(1).fenced = true;
    let mut over = open(ME);
    over.operation.as_mut().expect("one").state = OperationState::Done;
    for n in [2, 3] {
        world.host(n).epoch = over.clone();
    }
    world.host(2).server = ServerSeen::NoAnswer("frozen".to_owned());
    if let ServerSeen::Answers(server) = &mut world.host(3).server {
        server.receiver = None;
    }
    world.host(3).reaches_primary = Some(Reach::Nothing);
    let act = world.until_act(20).map(|a| a.0);
    let Some(Act::Failover { primary, finding, .. }) = act else { panic!("{act:?}") };
    assert_eq!((primary, finding), (name(2), Finding::PrimaryHung));
}

#[test]
fn finish_what_was_begun() {
    let mut world = World::new();
    world.kill(1);
    world.host(2).epoch = open(ME);
    assert_eq!(world.until_act(20).map(|a| a.0), Some(Act::Resume));
    // Once more only after a pause.
    world.watch.acted(&Act::Resume, &ActEnd::Open { why: String::new() }, at(world.now), 0);
    assert_eq!(world.round().rule, "not-again-at-once");
    world.round_at(world.now + 3_000);
    let verdict = world.round_at(world.now + 3_000);
    assert_eq!(verdict.decision, Decision::Act(Act::Resume));
}

#[test]
fn one_thing_at_a_time() {
    let mut world = World::new();
    world.kill(1);
    assert!(failover(&world.until_act(5)));
    for _ in 0..5 {
        assert_eq!(world.round().rule, "one-thing-at-a-time");
    }
}

#[test]
fn pause_is_heeded() {
    let mut world = World::new();
    let word =
        Pause { said: 1, paused: true, until: Some(30_000), by: "op".to_owned(), reason: None };
    // One voter that knows of it is enough to stand by.
    world.host(3).pause = Some(word);
    world.kill(1);
    for _ in 0..10 {
        assert_eq!(world.round().rule, "pause-is-heeded");
    }
    world.round_at(31_000);
    assert!(failover(&world.until_act(5)), "its time is over");
}

fn restarting() -> World {
    World::of(Policy { restart_in_place: Some(Duration::from_secs(2)), ..policy() })
}

fn restart(act: &Option<(Act, u64)>) -> bool {
    matches!(act, Some((Act::Restart { primary, .. }, _)) if *primary == name(1))
}

#[test]
fn a_crashed_primary_is_started_again_once_and_then_replaced() {
    let mut world = restarting();
    world.kill(1);
    let act = world.until_act(5);
    assert!(restart(&act), "{act:?}");
    world.watch.acted(&act.expect("it").0, &ActEnd::Done, at(world.now), 0);
    world.hosts[0] = Seen::Host(Box::new(host(1)));
    assert_eq!(world.round().finding, Finding::Healthy);
    world.kill(1);
    assert!(failover(&world.until_act(5)), "not twice in a row");
    assert_eq!(world.watch.budget(), &Budget::default());
}

#[test]
fn a_restart_in_place_that_takes_too_long_is_followed_by_a_failover() {
    for back in ["failed", "activating"] {
        let mut world = restarting();
        world.kill(1);
        let (act, _) = world.until_act(5).expect("an act");
        let end = ActEnd::Refused { code: "x".to_owned(), why: String::new() };
        world.watch.acted(&act, &end, at(world.now), 0);
        world.host(1).unit = back.to_owned();
        let act = world.until_act(40);
        assert!(failover(&act), "{back}: {act:?}");
    }
}

#[test]
fn what_somebody_stopped_or_fenced_is_not_started_again() {
    type Spoil = fn(&mut HostSeen);
    let all: [Spoil; 3] = [
        |host| host.unit = "inactive".to_owned(),
        |host| host.fenced = true,
        |host| host.standby_signal = true,
    ];
    for spoil in all {
        let mut world = restarting();
        world.kill(1);
        spoil(world.host(1));
        assert!(failover(&world.until_act(5)));
    }
    // Its host does not answer: nobody can start it.
    let mut world = restarting();
    world.silence(1);
    world.deaf(60.0);
    world.knocked(Reach::Nothing);
    assert!(!restart(&world.until_act(20)));
}

fn word(paused: bool, said: i64) -> Option<Pause> {
    Some(Pause { said, paused, until: None, by: "op".to_owned(), reason: None })
}

#[test]
fn a_paused_watch_goes_on_renewing_whoever_is_the_primary() {
    let mut world = World::new();
    let holds = Some(Holds::For(Duration::ZERO));
    let reading = Reading { agrees: true, holds, ..Reading::default() };
    world.host(1).reading = Some(reading.clone());
    world.host(2).pause = word(true, 1);
    let verdict = world.round();
    assert_eq!((verdict.phase, verdict.renewals.len()), (Phase::Paused, 1));
    assert!(verdict.pause.is_some());
    // Somebody's switchover, in the middle of it.
    world.host(1).standby_signal = true;
    (world.server(1).in_recovery, world.server(2).in_recovery) = (true, false);
    (world.server(1).timeline, world.server(2).timeline) = (Some(Timeline(2)), Some(Timeline(2)));
    world.host(2).reading = Some(reading);
    assert_eq!(world.round().rule, "a-pause-sees-too");
    let verdict = world.round();
    assert_eq!((verdict.phase, verdict.renewals.len()), (Phase::Paused, 1));
    assert_eq!(verdict.renewals[0].node, name(2));
}

#[test]
fn a_pause_whose_end_the_primary_has_not_confirmed_is_not_waited_out() {
    for confirmed in [false, true] {
        let mut world = World::new();
        let holds = Some(Holds::For(Duration::ZERO));
        let reading = Reading { agrees: true, holds, ..Reading::default() };
        world.host(1).reading = Some(reading);
        world.round();
        world.host(2).pause = word(true, 1);
        world.host(1).reading = None;
        world.round();
        world.host(2).pause = word(false, 2);
        if confirmed {
            world.host(1).reading = Some(Reading { agrees: true, holds, ..Reading::default() });
            world.round();
        }
        world.silence(1);
        world.deaf(60.0);
        world.knocked(Reach::Nothing);
        let act = world.until_act(20);
        assert_eq!(failover(&act), confirmed, "{act:?}");
    }
}

#[test]
fn two_recoveries_and_a_word() {
    let mut world = World::new();
    let mut budget = Budget::default();
    budget.spend(0);
    budget.spend(1);
    world.watch.set_budget(budget);
    world.kill(1);
    assert_eq!(world.until_act(20), None);
    assert_eq!(world.round().rule, "halted-until-acknowledged");
    world.watch.set_budget(Budget::default());
    assert!(failover(&world.until_act(5)), "acknowledged");
}

#[test]
fn an_attempt_that_came_to_nothing_is_not_repeated_at_once() {
    let mut world = World::new();
    world.kill(1);
    let (act, _) = world.until_act(5).expect("an act");
    let end = ActEnd::Refused { code: "x".to_owned(), why: "y".to_owned() };
    world.watch.acted(&act, &end, at(world.now), 0);
    let began = world.now;
    assert!(failover(&world.until_act(200)));
    assert!(world.now - began >= 4_000, "{}", world.now - began);
}

#[test]
fn bring_members_back_one_at_a_time_and_only_while_all_is_well() {
    let mut world = World::new();
    world.kill(2);
    world.host(2).fenced = true;
    let (act, _) = world.until_act(10).expect("an act");
    assert_eq!(act, Act::Rejoin { node: name(2), why: Minor::OldPrimaryReturned });
    world.watch.acted(&act, &ActEnd::Done, at(world.now), 0);
    world.kill(1);
    let act = world.until_act(10);
    assert!(failover(&act), "the primary comes first: {act:?}");
}

#[test]
fn a_returned_primary_stays_down_where_the_policy_says_so() {
    let mut world = World::of(Policy { auto_rejoin: false, ..policy() });
    world.kill(2);
    world.host(2).fenced = true;
    assert_eq!(world.until_act(30), None);
    assert_eq!(world.round().minors, [(Minor::OldPrimaryReturned, name(2))]);
}

#[test]
fn a_standby_that_was_stopped_is_started_only_by_policy() {
    let mut world = World::new();
    world.kill(3);
    assert_eq!(world.until_act(30), None);
    let mut world =
        World::of(Policy { restart_in_place: Some(Duration::from_secs(2)), ..policy() });
    world.kill(3);
    let act = world.until_act(30).map(|a| a.0);
    assert_eq!(act, Some(Act::Rejoin { node: name(3), why: Minor::StandbyDown }));
}

#[test]
fn a_standby_that_lost_its_way_has_time_to_find_it() {
    let mut world = World::new();
    world.server(3).receiver = None;
    assert!(world.round().knock, "it is to knock at the primary");
    world.host(3).reaches_primary = Some(Reach::Accepts);
    let (act, after) = world.until_act(60).expect("an act");
    assert_eq!(act, Act::Rejoin { node: name(3), why: Minor::StandbyAstray });
    assert!(after >= 12_000, "{after}");
}

/// A rejoin could not reach the primary either, and would take a good standby down on its way.
#[test]
fn a_standby_that_is_cut_off_from_the_primary_is_left_as_it_is() {
    let mut world = World::new();
    world.server(3).receiver = None;
    world.round();
    world.host(3).reaches_primary = Some(Reach::Nothing);
    assert_eq!(world.until_act(120), None);
    assert_eq!(world.round().minors, [(Minor::StandbyCutOff, name(3))]);
    // Nor while it cannot be told.
    world.host(3).reaches_primary = None;
    assert_eq!(world.until_act(120), None);
}

/// Copying a big cluster takes hours.
#[test]
fn the_primary_is_replaced_while_another_node_is_brought_back() {
    let mut world = World::new();
    world.kill(2);
    world.host(2).fenced = true;
    let (back, _) = world.until_act(10).expect("an act");
    assert!(matches!(back, Act::Rejoin { .. }));
    assert_eq!(world.until_act(30), None, "one at a time");
    world.kill(1);
    let act = world.until_act(10);
    assert!(failover(&act), "{act:?}");
    // Its steps were refused meanwhile; that says nothing about the failover.
    let end = ActEnd::Refused { code: "x".to_owned(), why: "y".to_owned() };
    world.watch.acted(&back, &end, at(world.now), 0);
    assert_eq!(world.watch.phase(), Phase::Acting);
}

/// A knock that nobody answers in time is a weak word against a receiver that goes on hearing.
#[test]
fn a_knock_in_vain_does_not_accuse_whom_a_receiver_hears() {
    let mut world = World::new();
    world.silence(1);
    world.knocked(Reach::Nothing);
    assert_eq!(world.until_act(30), None);
    assert_eq!(world.round().finding, Finding::PrimaryBlind);
}

#[test]
fn a_healthy_primary_without_standbys_is_not_touched() {
    let mut world = World::new();
    world.silence(2);
    world.silence(3);
    assert_eq!(world.until_act(30), None);
    let verdict = world.round();
    assert_eq!(verdict.finding, Finding::Healthy);
    assert!(verdict.minors.contains(&(Minor::NoStandbyAttached, name(1))));
}

#[test]
fn the_lease_is_renewed_from_the_reading_of_the_round() {
    let mut world = World::new();
    let timing = policy().timing;
    let reading = Reading {
        boot_id: "b".to_owned(),
        clock: Duration::from_secs(100),
        agrees: true,
        holds: Some(Holds::For(Duration::ZERO)),
    };
    world.host(1).reading = Some(reading);
    world.host(1).epoch.epoch = 4;
    let renewals = world.round().renewals;
    assert_eq!(renewals.len(), 1);
    assert_eq!(renewals[0].end, Duration::from_secs(100) + timing.lease);
    assert_eq!(renewals[0].epoch, 4);
    // Not what answers in its place.
    world.server(1).system = Some(SystemIdentifier(8));
    assert_eq!(world.round().renewals, []);
}

#[test]
fn a_recovery_ends_the_renewals_before_anything_is_revoked() {
    let mut world = World::new();
    let holds = Some(Holds::For(Duration::ZERO));
    let reading = Reading { agrees: true, holds, ..Reading::default() };
    world.host(1).reading = Some(reading);
    let healthy = world.hosts[0].clone();
    world.kill(1);
    assert!(failover(&world.until_act(5)));
    world.hosts[0] = healthy;
    assert_eq!(world.round().renewals, [], "it is back in the middle of its replacement");
}

/// A restart by somebody else, of which this much is known.
fn foreign_restart(lease_ms: Option<u64>) -> EpochFacts {
    let mut stored = open("op@elsewhere");
    if let Some(operation) = &mut stored.operation {
        operation.kind = "restart".to_owned();
        (operation.candidate, operation.lease_ms) = (name(1), lease_ms);
    }
    stored
}

#[test]
fn a_restart_that_somebody_claimed_is_no_failure() {
    let mut world = World::new();
    world.round();
    for n in 1..=3 {
        world.host(n).epoch = foreign_restart(Some(20_000));
    }
    world.kill(1);
    let first = world.round();
    assert_eq!(
        (first.finding, first.rule),
        (Finding::OtherOperationOpen, "not-into-another-operation")
    );
    let began = world.now;
    let act = world.until_act(60).expect("its time is over at last");
    assert_eq!(act.0, Act::Resume);
    let waited = Duration::from_millis(world.now - began);
    assert!(waited >= policy().timing.wait_given(Duration::from_secs(20)), "{waited:?}");
    assert!(waited <= Duration::from_secs(30), "{waited:?}");
    assert_eq!(world.watch.abandoned(at(world.now)), Some("x"));
    assert_eq!(world.watch.abandoned(at(began)), None);
}

#[test]
fn a_restart_whose_time_is_over_is_closed_even_where_all_is_well() {
    let mut world = World::new();
    world.round();
    world.host(2).epoch = foreign_restart(Some(5_000));
    let act = world.until_act(30).expect("nobody else does it");
    assert_eq!(act.0, Act::Resume);
    assert_eq!(world.watch.phase(), Phase::Acting);
}

#[test]
fn what_says_no_end_is_left_to_its_controller() {
    let mut world = World::new();
    world.round();
    for n in 1..=3 {
        world.host(n).epoch = foreign_restart(None);
    }
    world.kill(1);
    assert_eq!(world.until_act(900), None);
    for n in 1..=3 {
        world.host(n).epoch = open("op@elsewhere");
    }
    assert_eq!(world.until_act(900), None);
}

//! The small pure parts, by tables: the plan from the playbook, what a plan may not be, what to do
//! about an interrupted operation, and what a step's output means.

use pgorch::facts::{
    EpochFacts, OperationRecord, OperationState, Proof, witness_epoch, witness_fragment,
};
use pgorch::model::{Answer, Ask, HostName, Lsn, Timeline};
use pgorch::operation::{
    Action, Interrupted, Outcome, Plan, Roles, Settlement, Stage, Step, lower, next_epoch,
    open_operations, read_outcome, verify,
};

use super::world::Server;
use super::{ASYNC, CASCADE, QUORUM, WITNESS, World, playbook};

pub(super) fn host(name: &str) -> HostName {
    HostName::from(name)
}

fn plan(text: &str, to: &str) -> Plan {
    let world = World::new(text, "");
    let roles = Roles::seen(
        world.inventory,
        &world.snapshot("c0"),
        &host("node1"),
        &host(to),
        Proof::CleanStop,
    );
    lower("switchover", &super::SWITCHOVER, world.inventory, &roles).expect("a plan")
}

/// `stage: host action, ...` a line.
pub(super) fn lines(plan: &Plan) -> Vec<String> {
    let step = |s: &Step| format!("{} {}", s.host, s.action.name());
    let steps = |s: &Stage| s.steps.iter().map(step).collect::<Vec<_>>().join(", ");
    plan.stages.iter().filter(|s| !s.steps.is_empty()).map(steps).collect()
}

#[test]
fn the_shipped_playbook_becomes_a_safe_plan() {
    let plan = plan(ASYNC, "node2");
    assert_eq!(
        lines(&plan),
        [
            "node1 claim, node2 claim, node3 claim",
            "node2 slots",
            "node1 checkpoint",
            "node1 stop",
            "node2 received, node3 received",
            "node2 promote",
            "node2 follow_nobody, node3 follow",
            "node1 follow",
            "node2 record",
            "node1 release, node2 release, node3 release",
        ]
    );
    verify(&plan).expect("safe");
}

#[test]
fn a_plan_knows_the_inventory() {
    // In quorum mode the names are in force before the promotion.
    let quorum = plan(QUORUM, "node3");
    let names = quorum.steps().find_map(|(_, s)| match &s.action {
        Action::SyncNames { names } => Some((s.host.clone(), names.to_string())),
        _ => None,
    });
    let (on, value) = names.expect("sync names");
    // Stored on the voters before it is set, and once more when standbys cover what was confirmed.
    let sync: Vec<String> = lines(&quorum).into_iter().filter(|l| l.contains("sync")).collect();
    let recorded = "node1 sync_record, node2 sync_record, node3 sync_record";
    assert_eq!(sync, [recorded, "node3 sync_standbys", "node3 wait_sync", recorded]);
    verify(&quorum).expect("safe");
    assert_eq!((on.as_str(), value.as_str()), ("node3", "ANY 1 (\"node1\", \"node2\")"));

    let slots = |to: &str| {
        let plan = plan(CASCADE, to);
        plan.steps()
            .find_map(|(_, s)| match &s.action {
                Action::Slots { names, kept } => Some((names.join(" "), kept.join(" "))),
                _ => None,
            })
            .expect("slots")
    };
    // node4 follows node3, wherever the primary is; its slot on node3 stays whatever comes.
    assert_eq!(slots("node2"), ("node1 node3".to_owned(), String::new()));
    assert_eq!(slots("node3"), ("node1 node2 node4".to_owned(), "node4".to_owned()));

    // Who is not there takes no part.
    let mut world = World::new(ASYNC, "");
    world.power_off(&host("node3"));
    let roles = Roles::seen(
        world.inventory,
        &world.snapshot("c0"),
        &host("node1"),
        &host("node2"),
        Proof::CleanStop,
    );
    let plan = lower("switchover", &super::SWITCHOVER, world.inventory, &roles).expect("a plan");
    assert!(plan.steps().all(|(_, s)| s.host != host("node3")));
    verify(&plan).expect("two of three are enough");
}

#[test]
fn a_task_without_a_place_in_an_operation_is_named() {
    let world = World::new(ASYNC, "");
    let roles = Roles::seen(
        world.inventory,
        &world.snapshot("c0"),
        &host("node1"),
        &host("node2"),
        Proof::CleanStop,
    );
    for (task, words) in [
        ("package: { name: vim }", "\"package\" has no place in an operation"),
        ("stop: { timeout: -1 }", "\"-1\" is no number"),
        ("command: \"unclosed 'quote\"", "never closed"),
        ("stop:\n      when: facts.cpus > 1", "an operation is done as a whole"),
    ] {
        let text = format!("- hosts: primary\n  tasks:\n    - name: It\n      {task}\n");
        let error = lower("switchover", &playbook(&text), world.inventory, &roles).expect_err(task);
        assert!(error.contains(words) && error.contains("switchover.yml:"), "{error}");
    }
}

/// Each rule broken once, and the words that say so.
#[test]
fn an_unsafe_plan_is_refused() {
    type Spoil = fn(&mut Plan);
    fn without(plan: &mut Plan, name: &str) {
        for stage in &mut plan.stages {
            stage.steps.retain(|s| s.action.name() != name);
        }
    }
    fn at(plan: &Plan, name: &str) -> usize {
        let has = |s: &Stage| s.steps.iter().any(|s| s.action.name() == name);
        plan.stages.iter().position(has).expect("the stage")
    }
    fn moved(plan: &mut Plan, name: &str, to: usize) {
        let stage = plan.stages.remove(at(plan, name));
        plan.stages.insert(to, stage);
    }
    let table: [(Spoil, &str); 14] = [
        (|p| without(p, "promote"), "it has 0 promotions, not one"),
        (|p| p.stages.push(p.stages[at(p, "promote")].clone()), "it has 2 promotions, not one"),
        (
            |p| {
                let at = at(p, "promote");
                p.stages[at].steps[0].host = host("node3");
            },
            "which is not the candidate",
        ),
        (|p| without(p, "stop"), "before node1 is stopped"),
        (
            |p| {
                let at = at(p, "stop");
                p.stages[at].steps[0].host = host("node3");
            },
            "before node1 is stopped",
        ),
        (|p| moved(p, "promote", at(p, "stop")), "before node1 is stopped"),
        (|p| without(p, "claim"), "before the epoch is stored on a majority"),
        (
            |p| {
                let at = at(p, "claim");
                p.stages[at].steps.truncate(1);
            },
            "before the epoch is stored on a majority",
        ),
        (|p| moved(p, "slots", 0), "before the epoch is stored on a majority"),
        (|p| without(p, "received"), "without proof that the candidate has all WAL"),
        (
            |p| {
                let at = at(p, "received");
                p.stages[at].steps.retain(|s| s.host != host("node2"));
            },
            "without proof that the candidate has all WAL",
        ),
        (|p| moved(p, "received", at(p, "stop")), "without proof that the candidate has all WAL"),
        (|p| moved(p, "follow", at(p, "promote")), "comes before the promotion"),
        (
            |p| {
                let step = Step { host: host("node1"), action: Action::Start { seconds: 1 } };
                let at = at(p, "follow");
                p.stages[at].steps.push(step);
            },
            "as a primary again",
        ),
    ];
    for (number, (spoil, words)) in table.iter().enumerate() {
        let mut plan = plan(ASYNC, "node2");
        spoil(&mut plan);
        let why = verify(&plan).expect_err(words);
        assert!(why.contains(words), "{number}: {why:?}, not {words:?}");
    }
    let table: [(Spoil, &str); 5] = [
        (|p| without(p, "sync_standbys"), "before commits there would wait for standbys"),
        (|p| moved(p, "sync_standbys", at(p, "promote")), "before commits there would wait"),
        (
            |p| {
                let at = at(p, "sync_record");
                p.stages[at].steps.truncate(1);
            },
            "is not stored on a majority before it is set",
        ),
        (|p| moved(p, "sync_record", at(p, "sync_standbys")), "on a majority before it is set"),
        (|p| without(p, "wait_sync"), "nothing has waited for standbys"),
    ];
    for (number, (spoil, words)) in table.iter().enumerate() {
        let mut plan = self::plan(QUORUM, "node2");
        spoil(&mut plan);
        let why = verify(&plan).expect_err(words);
        assert!(why.contains(words), "{number}: {why:?}, not {words:?}");
    }
    let mut plan = plan(ASYNC, "node2");
    let hook = Action::Hook { argv: vec!["true".to_owned()] };
    let steps = vec![Step { host: host("node1"), action: hook }];
    plan.stages.push(Stage { name: "Late".to_owned(), steps });
    assert!(verify(&plan).expect_err("no release").contains("release of the epoch"));
}

fn record(id: &str, candidate: &str, state: OperationState) -> OperationRecord {
    OperationRecord {
        id: id.to_owned(),
        kind: "switchover".to_owned(),
        controller: "c0".to_owned(),
        proof: Proof::CleanStop,
        elected: false,
        over: false,
        lease_ms: None,
        primary: host("node1"),
        candidate: host(candidate),
        earlier: Vec::new(),
        possible: Vec::new(),
        state,
        started: String::new(),
    }
}

/// Three nodes with operations as `(node, epoch, id, state)`.
fn stored(all: &[(&str, u64, &str, OperationState)]) -> World {
    let mut world = World::new(ASYNC, "");
    for (node, epoch, id, state) in all {
        let stored = &mut world.hosts[&host(node)].epoch;
        stored.epoch = *epoch;
        stored.operation = Some(record(id, "node2", *state));
    }
    world
}

#[test]
fn the_newest_open_operation_is_found() {
    use OperationState::{Done, Open, Undone};
    type Stored<'a> = &'a [(&'a str, u64, &'a str, OperationState)];
    let table: [(Stored, Option<(&str, bool)>); 7] = [
        (&[], None),
        (&[("node1", 4, "a", Done), ("node2", 4, "a", Done)], None),
        (&[("node1", 4, "a", Open)], Some(("a", false))),
        // Another voter knows that it is over.
        (&[("node1", 4, "a", Open), ("node3", 4, "a", Undone)], Some(("a", true))),
        // One later epoch may be of an operation that was refused; a majority is none.
        (&[("node1", 4, "a", Open), ("node3", 5, "b", Undone)], Some(("a", false))),
        (
            &[("node1", 4, "a", Open), ("node2", 5, "b", Done), ("node3", 5, "b", Done)],
            Some(("a", true)),
        ),
        (&[("node1", 4, "a", Open), ("node2", 6, "b", Open)], Some(("b", false))),
    ];
    for (all, expected) in table {
        let world = stored(all);
        let found = Interrupted::find(world.inventory, &world.snapshot("c0"), None);
        let found = found.as_ref().map(|i| (i.record.id.as_str(), i.over));
        assert_eq!(found, expected, "{all:?}");
    }
    let world = stored(&[("node1", 4, "a", Open), ("node2", 6, "b", Open)]);
    let snapshot = world.snapshot("c0");
    let named = Interrupted::find(world.inventory, &snapshot, Some("a")).expect("by its id");
    assert_eq!(named.record.id, "a");
    assert!(Interrupted::find(world.inventory, &snapshot, Some("c")).is_none());
    assert_eq!(next_epoch(&snapshot), 7);
    assert_eq!(open_operations(&snapshot), ["a", "b"]);
}

/// What only a witness has stored counts as what a node has.
#[test]
fn witnesses_tell_too() {
    let mut world = World::new(WITNESS, "");
    let stored = &mut world.hosts[&host("w1")].epoch;
    (stored.epoch, stored.operation) = (7, Some(record("a", "node2", OperationState::Open)));
    let snapshot = world.snapshot("c0");
    let found = Interrupted::find(world.inventory, &snapshot, None).expect("the operation");
    assert_eq!((found.record.id.as_str(), found.over), ("a", false));
    assert_eq!(next_epoch(&snapshot), 8);
    assert_eq!(open_operations(&snapshot), ["a"]);
    // One that cannot be reached tells nothing, and is sent nothing.
    world.cut(&["c0"], &["w1"]);
    let snapshot = world.snapshot("c0");
    assert!(Interrupted::find(world.inventory, &snapshot, None).is_none());
    let (one, two) = (host("node1"), host("node2"));
    let roles = Roles::seen(world.inventory, &snapshot, &one, &two, Proof::CleanStop);
    assert_eq!(roles.absent, [host("w1")]);
    // The file that its scripts write, as it is read.
    let dir = tempfile::tempdir().expect("a directory");
    let home = dir.path().display().to_string();
    let ask = || {
        let fragment = witness_fragment(&home);
        let Ask::Sh { script, .. } = &fragment.ask else { panic!("{fragment:?}") };
        let ran = std::process::Command::new("sh").args(["-c", script.as_str()]).output();
        let stdout = String::from_utf8(ran.expect("sh").stdout).expect("text");
        witness_epoch(&Answer { rc: 0, stdout, stderr: String::new() })
    };
    assert_eq!(ask(), EpochFacts::default());
    let record = record("a", "node2", OperationState::Done);
    let line = serde_json::to_string(&record).expect("json");
    std::fs::write(dir.path().join("epoch"), format!("7\n{line}\n")).expect("written");
    assert_eq!(ask(), EpochFacts { epoch: 7, operation: Some(record) });
}

#[test]
fn what_becomes_of_an_interrupted_operation() {
    type Spoil = fn(&mut World);
    fn primary_is(world: &mut World, name: &str) {
        for (node, state) in &mut world.nodes {
            state.server = if node.as_str() == name { Server::Primary } else { Server::Recovery };
        }
    }
    fn down(world: &mut World, name: &str) {
        world.nodes[&host(name)].server = Server::Down;
    }
    let table: [(Spoil, bool, &str); 14] = [
        (|_| {}, false, "undo"),
        (|w| down(w, "node1"), false, "undo"),
        (|w| primary_is(w, "node2"), false, "node2"),
        (|w| w.nodes[&host("node2")].server = Server::Primary, false, "more than one"),
        (|w| primary_is(w, "node3"), false, "knows nothing of"),
        // The old primary goes on; once it refuses to be stopped nobody can be promoted.
        (|w| down(w, "node2"), false, "take back"),
        (|w| w.power_off(&host("node2")), false, "take back"),
        (
            |w| {
                down(w, "node2");
                w.nodes[&host("node1")].fence = true;
            },
            false,
            "node2 does not answer",
        ),
        (
            |w| {
                down(w, "node1");
                w.power_off(&host("node2"));
            },
            false,
            "node2 does not answer",
        ),
        (|w| w.power_off(&host("node1")), false, "node1 cannot be reached"),
        // It is over: only what is left of it is done, by whoever is the primary now.
        (|_| {}, true, "undo"),
        (|w| w.power_off(&host("node2")), true, "undo"),
        (|w| primary_is(w, "node3"), true, "node3"),
        (
            |w| {
                down(w, "node1");
                w.power_off(&host("node2"));
            },
            true,
            "node2 does not answer",
        ),
    ];
    for (number, (spoil, over, expected)) in table.iter().enumerate() {
        let mut world = World::new(ASYNC, "");
        spoil(&mut world);
        let record = record("a", "node2", OperationState::Open);
        let interrupted = Interrupted { record, over: *over };
        let said = match interrupted.settle(&world.snapshot("c0")) {
            Settlement::Undo => "undo".to_owned(),
            Settlement::TakeBack => "take back".to_owned(),
            Settlement::Finish { primary } => primary.0,
            Settlement::Refuse { why, .. } => why,
        };
        assert!(said.contains(expected), "{number}: {said:?}, not {expected:?}");
        assert_eq!(interrupted.needed(&world.snapshot("c0")).is_empty(), *over);
    }
}

#[test]
fn what_a_step_says() {
    let stop = Action::Stop { seconds: 1 };
    let promote = Action::Promote { seconds: 1 };
    let table: [(&Action, i32, &str, &str, &str); 9] = [
        (&Action::Claim, 0, "done=epoch 7\n", "", "done epoch 7"),
        (&Action::Claim, 0, "refused=a later one\n", "", "refused a later one"),
        (&Action::Checkpoint, 0, "failed=no room\n", "noise", "failed no room"),
        // A refusal counts, whatever else was said.
        (&Action::Claim, 0, "made=x\nrefused=no\ndone=\n", "", "refused no"),
        (&Action::Claim, 255, "", "", "unknown exit status 255"),
        (&promote, 1, "", "first\n  last line \n\n", "unknown exit status 1: last line"),
        (&promote, 0, "timeline=7\ndone=writable\n", "", "done writable"),
        // Without the end of the WAL a stop is no proof.
        (&stop, 0, "done=stopped\n", "", "failed the end of its WAL cannot be read"),
        (&stop, 0, "shutdown_lsn=0/3\nshutdown_timeline=2\ndone=\n", "", "done "),
    ];
    for (action, rc, stdout, stderr, expected) in table {
        let said = match read_outcome(action, rc, stdout, stderr) {
            Outcome::Done(report) => format!("done {}", report.text),
            Outcome::Refused(why) => format!("refused {why}"),
            Outcome::Failed(why) => format!("failed {why}"),
            Outcome::Unknown(why) => format!("unknown {why}"),
        };
        assert_eq!(said, expected, "{stdout:?}");
    }
    let report = |action: &Action, stdout: &str| match read_outcome(action, 0, stdout, "") {
        Outcome::Done(report) => report,
        other => panic!("{other:?}"),
    };
    let shutdown = report(&stop, "shutdown_lsn=1/A0\nshutdown_timeline=2\ndone=\n").shutdown;
    let shutdown = shutdown.expect("a proof");
    assert_eq!((shutdown.checkpoint, shutdown.timeline), (Lsn(0x1_0000_00A0), Timeline(2)));
    let promoted = report(&promote, "timeline=7\ndone=\n").promoted.expect("promoted");
    assert_eq!(promoted.timeline, Timeline(7));
    // A history file is there before anything of its timeline is.
    let history = "history_of=00000003.history\nancestor=1 0/50\nancestor=2 0/70\n";
    for (lsn, timeline) in [("0/70", 2), ("0/71", 3), ("0/50", 2)] {
        let told = format!("end_timeline=2\nend_lsn={lsn}\n{history}done=\n");
        let end = report(&Action::Position, &told).end.expect("an end");
        assert_eq!(end.0, Timeline(timeline), "{lsn}");
    }
    let slots = Action::Slots { names: Vec::new(), kept: Vec::new() };
    assert_eq!(report(&slots, "made=a\nmade=b\ndone=\n").made, ["a", "b"]);
    let settle = Action::Settle { seconds: 1 };
    let asked = report(&settle, "not_promoted=1\ndone=\n");
    assert!(asked.not_promoted && !asked.changed);
    assert!(report(&Action::Claim, "done=\n").changed);
    assert!(!report(&Action::Claim, "unchanged=1\ndone=\n").changed);
}

//! Poolers in operations: the plan, the driver, and what is read from and written to PgBouncer's file.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};

use pgorch::inventory::Inventory;
use pgorch::model::{Answer, HostName};
use pgorch::operation::{
    Action, Driver, End, Known, Next, Outcome, Plan, PoolerVerb, Promoted, Proof, Report, Roles,
    Shutdown, Step, lower, pooler_seen, verify,
};
use pgorch::playbook::{Playbook, parse, shipped};
use pgorch::syntax::Source;

const INVENTORY: &str = "
cluster: c
nodes: {a: {host: 10.0.0.1}, b: {host: 10.0.0.2}, d: {host: 10.0.0.3}}
hosts: {lb1: {host: 10.0.0.8}, lb2: {host: 10.0.0.9}}
routing: {poolers: {lb1: {kind: pgbouncer}, lb2: {kind: pgbouncer}}}
";

fn inventory() -> Inventory {
    inventory_of(INVENTORY)
}

fn inventory_of(text: &str) -> Inventory {
    let parsed = pgorch::inventory::parse(&Source::new("i.yml", text));
    parsed.unwrap_or_else(|e| panic!("{}", pgorch::syntax::render(&e))).0
}

fn playbook(text: &str) -> Playbook {
    let none = |name: &str, _: &str| Err(format!("no {name}"));
    parse(&Source::new("p.yml", text), &none)
        .unwrap_or_else(|e| panic!("{}", pgorch::syntax::render(&e)))
}

fn roles() -> Roles {
    let name = HostName::from;
    Roles {
        possible: Vec::new(),
        primary: name("a"),
        candidate: name("b"),
        siblings: vec![name("d")],
        voters: vec![name("a"), name("b"), name("d")],
        witnesses: vec![],
        absent: vec![],
        proof: Proof::CleanStop,
        names: None,
    }
}

fn shipped_text() -> &'static str {
    shipped("playbooks/switchover.yml").expect("it is shipped")
}

fn plan() -> Plan {
    lower("switchover", &playbook(shipped_text()), &inventory(), &roles()).expect("a plan")
}

/// What comes of a step, by "ACTION HOST".
type Script = BTreeMap<&'static str, Vec<Outcome>>;

/// Walks the plan; each step works unless the script has an outcome left for it. What was done, and
/// how it ended.
fn walk(mut driver: Driver, mut script: Script) -> (Vec<String>, End, Vec<String>) {
    let mut done = Vec::new();
    loop {
        let steps = match driver.next_steps() {
            Next::Finished(finished) => return (done, finished.end, finished.problems),
            Next::Run { steps, .. } => steps,
            Next::Elect => panic!("a switchover elects nobody"),
        };
        let mut results = Vec::new();
        for step in steps {
            let name = format!("{} {}", step.action.name(), step.host);
            let told = script.get_mut(name.as_str()).filter(|o| !o.is_empty());
            results.push((step.clone(), told.map_or_else(|| works(&step), |o| o.remove(0))));
            done.push(name);
        }
        driver.report(&results);
    }
}

fn works(step: &Step) -> Outcome {
    let timeline = pgorch::model::Timeline(2);
    let mut report = Report::default();
    match step.action {
        Action::Stop { .. } => {
            let checkpoint = pgorch::model::Lsn(100);
            report.shutdown = Some(Shutdown { timeline, checkpoint });
        }
        Action::Settle { .. } => report.not_promoted = true,
        Action::Promote { .. } => report.promoted = Some(Promoted { timeline }),
        _ => {}
    }
    Outcome::Done(report)
}

fn place(done: &[String], name: &str) -> usize {
    done.iter().position(|d| d == name).unwrap_or_else(|| panic!("no {name} in {done:?}"))
}

#[test]
fn clients_are_held_from_before_the_stop_until_after_the_promotion() {
    assert_eq!(verify(&plan()), Ok(()));
    let (done, end, problems) = walk(Driver::new(plan()), Script::new());
    assert_eq!((end, problems), (End::Done, vec![]));
    let at = |name: &str| place(&done, name);
    assert!(at("checkpoint a") < at("pause lb1") && at("pause lb2") < at("stop a"), "{done:?}");
    assert!(at("promote b") < at("resume lb1") && at("resume lb2") < at("follow d"), "{done:?}");
    let to = plan().steps().find_map(|(_, s)| match &s.action {
        Action::Pooler { verb: PoolerVerb::Resume, database_host } => database_host.clone(),
        _ => None,
    });
    assert_eq!(to, Some("b".into()));
}

#[test]
fn without_poolers_the_plan_has_none() {
    let text = INVENTORY.replace("routing:", "#");
    let inventory = inventory_of(&text);
    let plan =
        lower("switchover", &playbook(shipped_text()), &inventory, &roles()).expect("a plan");
    assert_eq!(verify(&plan), Ok(()));
    assert!(plan.steps().all(|(_, s)| !matches!(s.action, Action::Pooler { .. })));
}

#[test]
fn clients_that_cannot_be_held_have_it_undone_before_the_stop() {
    let script = Script::from([("pause lb2", vec![Outcome::Failed("busy".into())])]);
    let (done, end, problems) = walk(Driver::new(plan()), script);
    assert_eq!(end, End::Undone);
    assert_eq!(problems, ["pause on lb2: busy"]);
    assert!(!done.iter().any(|d| d.starts_with("stop ") || d.starts_with("start ")), "{done:?}");
    assert!(place(&done, "resume lb1") > place(&done, "pause lb2"), "{done:?}");
    place(&done, "resume lb2");
    place(&done, "release a");
}

#[test]
fn an_undone_switchover_starts_the_primary_before_its_clients_go_on() {
    let script = Script::from([("received d", vec![Outcome::Failed("late".into())])]);
    let (done, end, _) = walk(Driver::new(plan()), script);
    assert_eq!(end, End::Undone);
    assert!(place(&done, "start a") < place(&done, "resume lb1"), "{done:?}");
}

#[test]
fn a_pooler_that_does_not_answer_is_told_again_beside_what_follows_and_at_the_end() {
    let lost = || Outcome::Unknown("lost".into());
    let count = |done: &[String], name: &str| done.iter().filter(|d| *d == name).count();
    let last = |done: &[String]| done.iter().rposition(|d| d == "resume lb1").expect("told");

    let script = Script::from([("resume lb1", vec![lost()])]);
    let (done, end, problems) = walk(Driver::new(plan()), script);
    assert_eq!((end, problems), (End::Done, vec![]));
    assert_eq!((count(&done, "resume lb1"), count(&done, "resume lb2")), (2, 1));
    assert!(last(&done) < place(&done, "follow a"), "{done:?}");
    // Nobody waits for it.
    assert!(place(&done, "follow d") < last(&done), "{done:?}");

    let script = Script::from([("resume lb1", vec![lost(), Outcome::Failed("no".into())])]);
    let (done, end, problems) = walk(Driver::new(plan()), script);
    assert_eq!((end, problems), (End::Done, vec![]));
    assert_eq!((count(&done, "resume lb1"), count(&done, "follow d")), (3, 1));
    assert!(last(&done) > place(&done, "follow d"), "{done:?}");
    assert!(last(&done) < place(&done, "release a"), "{done:?}");
}

/// Everything else is done; the operation stays open for `pgorch resume`, which tells the pooler again.
#[test]
fn clients_that_cannot_write_are_told_first_and_keep_the_operation_open() {
    let lost = || Outcome::Unknown("lost".into());
    let follow = vec![Outcome::Failed("no".into())];
    let script = Script::from([("resume lb1", vec![lost(); 3]), ("follow d", follow)]);
    let (done, end, problems) = walk(Driver::new(plan()), script);
    assert_eq!(end, End::Incomplete);
    assert_eq!(
        problems,
        [
            "CLIENTS OF lb1 CANNOT WRITE: resume on lb1 is without a verdict: lost",
            "follow on d: no"
        ]
    );
    place(&done, "follow a");
    assert!(!done.iter().any(|d| d.starts_with("release")), "{done:?}");

    let (done, end, _) =
        walk(Driver::after_promotion(plan(), &Known::default(), BTreeSet::new()), Script::new());
    assert_eq!((end, done.first().map(String::as_str)), (End::Done, Some("resume lb1")));
    place(&done, "release a");
}

#[test]
fn an_interrupted_operation_that_is_undone_lets_them_go_on() {
    let failed = vec![Outcome::Failed("no".into())];
    let script = Script::from([("resume lb2", failed)]);
    let (done, end, problems) =
        walk(Driver::undoing(plan(), &inventory(), &Known::default()), script);
    assert_eq!(end, End::Undone);
    assert_eq!(done[..2], ["settle b", "start a"]);
    assert_eq!(done.iter().filter(|d| *d == "resume lb2").count(), 2);
    assert_eq!(problems, Vec::<String>::new());
}

/// Without the old primary there is nobody for them to go on with.
#[test]
fn clients_are_not_let_go_to_a_primary_that_does_not_start() {
    let script = Script::from([
        ("received d", vec![Outcome::Failed("late".into())]),
        ("start a", vec![Outcome::Failed("no".into())]),
    ]);
    let (done, end, problems) = walk(Driver::new(plan()), script);
    assert_eq!(end, End::Broken);
    assert!(!done.iter().any(|d| d.starts_with("resume")), "{done:?}");
    assert!(problems.contains(&"clients of lb1 still wait".to_owned()), "{problems:?}");
}

#[test]
fn a_failover_leads_poolers_to_the_new_primary() {
    let roles = Roles { proof: Proof::Fenced, ..roles() };
    let text = shipped("playbooks/failover.yml").expect("it is shipped");
    let plan = lower("failover", &playbook(text), &inventory(), &roles).expect("a plan");
    assert_eq!(verify(&plan), Ok(()));
    let verbs: Vec<&Step> = plan
        .steps()
        .map(|(_, step)| step)
        .filter(|s| matches!(s.action, Action::Pooler { .. } | Action::Promote { .. }))
        .collect();
    let names: Vec<String> =
        verbs.iter().map(|s| format!("{} {}", s.action.name(), s.host)).collect();
    assert_eq!(names, ["promote b", "resume lb1", "resume lb2"]);
}

#[test]
fn a_plan_that_forgets_its_clients_is_refused() {
    let why = |text: &str| {
        let plan = lower("switchover", &playbook(text), &inventory(), &roles())?;
        verify(&plan)
    };
    let text = shipped_text();
    let resume = "    - name: Resume\n      pooler: resumed\n";
    assert!(text.contains(resume));
    let forgotten = text.replace(resume, "    - name: Resume\n      command: 'true'\n");
    assert_eq!(why(&forgotten), Err("clients of lb1 are held and never go on".into()));
    let early = text.replace("pooler: paused", "pooler: resumed");
    assert_eq!(why(&early), Err("clients of lb1 go on before the promotion".into()));
    let late = text.replace("pooler: resumed", "pooler: paused");
    assert_eq!(why(&late), Err("clients of lb1 are held and never go on".into()));
    let nodes = text.replace("hosts: poolers", "hosts: candidate");
    let error = why(&nodes).expect_err("no pooler there");
    assert!(error.starts_with("b is not in routing.poolers: take \"hosts: poolers\" (p.yml:"));
}

#[test]
fn commands_of_the_controller_run_in_their_order_around_the_change() {
    let text = INVENTORY.replace(
        "routing: {",
        "routing: {hooks: {before_promote: [one, two x], after_promote: three}, ",
    );
    let inventory = inventory_of(&text);
    let lowered = |text: &str| lower("switchover", &playbook(text), &inventory, &roles());
    let plan = lowered(shipped_text()).expect("a plan");
    assert_eq!(verify(&plan), Ok(()));
    let told: Vec<String> = plan
        .steps()
        .filter(|(_, s)| s.action.name().ends_with("_promote"))
        .map(|(_, s)| format!("{} {}: {}", s.host, s.action.name(), s.action.describe()))
        .collect();
    let told: Vec<&str> = told.iter().map(String::as_str).collect();
    assert_eq!(
        told,
        [
            "b before_promote: one, on this machine",
            "b before_promote: two x, on this machine",
            "b after_promote: three, on this machine"
        ]
    );
    let (done, end, _) = walk(Driver::new(plan.clone()), Script::new());
    assert_eq!(end, End::Done);
    let at = |name: &str| place(&done, name);
    assert!(at("before_promote b") < at("pause lb1") && at("promote b") < at("resume lb1"));
    assert!(at("resume lb1") < at("after_promote b") && at("after_promote b") < at("follow d"));

    let failed = || vec![Outcome::Failed("no".into())];
    let (done, end, problems) =
        walk(Driver::new(plan.clone()), Script::from([("before_promote b", failed())]));
    assert_eq!(end, End::Undone);
    assert_eq!(
        problems,
        ["before_promote on b: no", "what before_promote commands did is not taken back"]
    );
    assert_eq!(done.iter().filter(|d| *d == "before_promote b").count(), 1);

    let (done, end, problems) =
        walk(Driver::new(plan), Script::from([("after_promote b", failed())]));
    assert_eq!((end, problems), (End::Incomplete, vec!["after_promote on b: no".to_owned()]));
    place(&done, "release b");

    let late = shipped_text().replace("hooks: after_promote", "hooks: before_promote");
    let plan = lowered(&late).expect("a plan");
    assert_eq!(verify(&plan), Err("it runs before_promote after the promotion".into()));
    let early = shipped_text().replace("hooks: before_promote", "hooks: after_promote");
    let plan = lowered(&early).expect("a plan");
    assert_eq!(verify(&plan), Err("it runs after_promote before the promotion".into()));
}

const INI: &str = r#";; host=10.0.0.1
[databases]
app = host=10.0.0.1 port=5432 dbname=app password='x host=10.0.0.1 ''q'
  "my ""db" = dbname=x   port = 5432  host = '10.0.0.1' pool_size=3
noport = host=10.0.0.1
other = host=10.0.0.10 port=5432
several = host=10.0.0.1,10.0.0.2
elsewhere = host=10.0.0.1 port=5433
; app2 = host=10.0.0.1
* = host=10.0.0.1 auth_user=x
local = dbname=y
broken = host
%include /etc/x
[pgbouncer]
listen_port = 6432
conffile = host=10.0.0.1
"#;

/// Runs `pooler.awk` as the hosts do.
fn awk(settings: &[&str], environment: &[(&str, &str)], input: &str) -> String {
    let mut command = Command::new("awk");
    let mut child = command
        .args(settings.iter().flat_map(|setting| ["-v", setting]))
        .arg(include_str!("../src/operation/scripts/pooler.awk"))
        .env("LC_ALL", "C")
        .env("only", "")
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("awk starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("written");
    drop(stdin);
    let output = child.wait_with_output().expect("awk ends");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("text")
}

/// The lines that differ after the move of 10.0.0.1:5432.
fn moved(to_port: &str, only: &str) -> String {
    let new_port = format!("new_port={to_port}");
    let settings = ["mode=move", "new_host=10.0.0.2", &new_port];
    let old = ("old", "10.7.0.1 5432\n10.0.0.1 5432");
    let out = awk(&settings, &[("only", only), old], INI);
    assert_eq!(out.lines().count(), INI.lines().count());
    let changed = out.lines().zip(INI.lines()).filter(|(new, old)| new != old);
    changed.map(|(new, _)| format!("{new}\n")).collect()
}

#[test]
fn only_entries_at_exactly_the_old_place_are_moved() {
    insta::assert_snapshot!(moved("5432", ""), @r#"
    app = host=10.0.0.2 port=5432 dbname=app password='x host=10.0.0.1 ''q'
      "my ""db" = dbname=x   port = 5432  host = 10.0.0.2 pool_size=3
    noport = host=10.0.0.2
    * = host=10.0.0.2 auth_user=x
    "#);
    insta::assert_snapshot!(moved("5444", ""), @r#"
    app = host=10.0.0.2 port=5444 dbname=app password='x host=10.0.0.1 ''q'
      "my ""db" = dbname=x   port = 5444  host = 10.0.0.2 pool_size=3
    noport = host=10.0.0.2 port=5444
    * = host=10.0.0.2 port=5444 auth_user=x
    "#);
    insta::assert_snapshot!(moved("5432", "noport\n*"), @r"
    noport = host=10.0.0.2
    * = host=10.0.0.2 auth_user=x
    ");
    let listed = awk(&["mode=list"], &[], INI);
    assert_eq!(
        listed.lines().collect::<Vec<_>>(),
        [
            "app\t10.0.0.1\t5432",
            "my \"db\t10.0.0.1\t5432",
            "noport\t10.0.0.1\t5432",
            "other\t10.0.0.10\t5432",
            "several\t10.0.0.1,10.0.0.2\t5432",
            "elsewhere\t10.0.0.1\t5433",
            "*\t10.0.0.1\t5432",
            "local\t\t5432",
        ]
    );
}

#[test]
fn what_the_console_shows_is_picked_by_place() {
    let shown = "ERROR:  RELOAD failed\nname\thost\tport\tpaused\tdisabled\npgbouncer\t\t6432\t0\t0\napp\t10.0.0.1\t5432\t1\t0\nro\t10.0.0.2\t5432\t0\t0\nx\"y\t10.9.0.1\t5432\t0\t0\n";
    let places = ("places", "10.0.0.1 5432\n10.0.0.2 5432");
    let pick = |more: &[&str], only: &str| {
        let mut settings = vec!["mode=shown", "elsewhere=0", "paused=0"];
        settings.extend(more);
        awk(&settings, &[places, ("only", only)], shown)
    };
    assert_eq!(pick(&[], ""), "\"app\"\n\"ro\"\n");
    assert_eq!(pick(&["elsewhere=1"], ""), "\"x\"\"y\"\n");
    assert_eq!(pick(&["paused=1"], ""), "\"app\"\n");
    assert_eq!(pick(&[], "ro"), "\"ro\"\n");
}

#[test]
fn a_poolers_answer_is_read_by_column_names() {
    let stdout = "name\tnew_column\thost\tport\tpaused\npgbouncer\t\t\t6432\t0\napp\t7\t10.0.0.1\t5432\t1\n--\nkey\tvalue\nquery_wait_timeout\t120\npool_mode\ttransaction\n--\napp\t10.0.0.1\t5432\n*\t\t5432\n";
    let answer = |rc, stderr: &str| Answer { rc, stdout: stdout.into(), stderr: stderr.into() };
    let seen = pooler_seen(&answer(0, "")).expect("it answered");
    assert_eq!((seen.query_wait_timeout, seen.pool_mode.as_str()), (120.0, "transaction"));
    assert_eq!(seen.running.len(), 1);
    assert!(seen.running[0].paused && seen.running[0].is_at(&node("a")));
    assert!(!seen.running[0].is_at(&node("b")));
    assert_eq!(seen.configured.len(), 2);
    assert_eq!(pooler_seen(&answer(1, "x\nno socket\n")), Err("no socket".into()));
}

fn node(name: &str) -> pgorch::inventory::NodeSettings {
    inventory().postgres_of(&name.into()).expect("a node")
}

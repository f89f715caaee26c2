//! A switchover as clients of a pooler see it: they wait, and that is all.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::lab::{Cluster, Live, Ran, available};

/// The shipped example, with less patience and with hooks.
fn inventory(before: &str, after: &str) -> String {
    let text = std::fs::read_to_string("inventories/pooler.yml").expect("it is shipped");
    assert!(text.contains("timeout: 10s") && text.contains("\nrouting:\n"));
    let hooks =
        format!("\nrouting:\n  hooks:\n    before_promote: {before}\n    after_promote: {after}\n");
    text.replace("timeout: 10s", "timeout: 2s").replace("\nrouting:\n", &hooks)
}

/// Hooks that write down when they ran, and with what.
const BEFORE: &str = r#"[[sh, -c, "env | grep -E '^PGORCH_(OLD|NEW)_' | sort >hooks.log"]]"#;
const AFTER: &str = r#"sh -c 'echo "$PGORCH_CLUSTER $PGORCH_OPERATION" >>hooks.log'"#;

const WORKERS: usize = 4;

#[test]
fn clients_of_a_pooler_wait_and_see_no_error() {
    if !available() {
        return;
    }
    let lab = Lab::new();
    lab.a_second_run_of_the_playbook_changes_nothing();
    let load = Load::start(&lab.pooler);
    load.runs_for(Duration::from_secs(1));
    lab.switches_over("node2");
    lab.hooks_ran("node1", "node2");
    load.runs_for(Duration::from_secs(1));
    load.tells("there");
    lab.points_at("node2");
    lab.a_second_run_of_the_playbook_changes_nothing();
    lab.switches_over("node1");
    load.runs_for(Duration::from_secs(1));
    load.tells("back");
    lab.a_transaction_without_end_has_it_undone(&load);
    load.tells("undone");
    lab.a_hook_that_fails_before_has_it_undone();
    lab.a_hook_that_fails_after_is_told();
    load.ends(&lab, "node2");
    lab.a_pooler_that_points_elsewhere_is_refused();
    lab.a_pooler_that_is_down_is_refused();
}

/// Three nodes, and lb1 with PgBouncer before them.
struct Lab {
    cluster: Cluster,
    /// Connection string of the pooler.
    pooler: String,
}

impl Lab {
    fn new() -> Self {
        let cluster = Cluster::new(&inventory(BEFORE, AFTER));
        cluster.apply(&[]).exits(0);
        cluster.run(&["run", "playbooks/pgbouncer.yml", "-y", "-o", "json"]).exits(0);
        let table = "CREATE TABLE ledger (worker int, number int, PRIMARY KEY (worker, number))";
        cluster.sh("node1", &as_app(table));
        let address = address(&cluster, "lb1");
        let pooler = format!("host={address} port=6432 user=app dbname=app connect_timeout=30");
        Lab { cluster, pooler }
    }

    fn switch(&self, to: &str) -> Ran {
        self.cluster.run(&["switchover", "--to", to, "-y", "-o", "json"])
    }

    fn switches_over(&self, to: &str) {
        let ran = self.switch(to).exits(0);
        let end = operation(&ran);
        let held = end["held_seconds"].as_f64().expect("clients were held");
        let outage = end["outage_seconds"].as_f64().expect("an outage");
        eprintln!("to {to}: outage {outage:.2} s, clients held {held:.2} s");
        assert!(held >= outage, "{end}");
        assert_eq!(self.primary(), to);
    }

    fn primary(&self) -> String {
        let status = self.cluster.run(&["status", "-o", "json"]).exits(0).json();
        status["primary"].as_str().unwrap_or_default().to_owned()
    }

    /// The file has the new address, and its owner and mode.
    fn points_at(&self, node: &str) {
        let file = "/etc/pgbouncer/pgbouncer.ini";
        let line = self.cluster.sh("lb1", &format!("grep '^app = ' {file}"));
        assert_eq!(line, format!("app = host={} port=5432", address(&self.cluster, node)));
        let owned = self.cluster.sh("lb1", &format!("stat -c '%U %G %a' {file}; ls {file}*"));
        assert_eq!(owned, format!("postgres postgres 640\n{file}"));
    }

    fn a_second_run_of_the_playbook_changes_nothing(&self) {
        let run = ["run", "playbooks/pgbouncer.yml", "-y", "-o", "json"];
        assert_eq!(self.cluster.run(&run).exits(0).tasks("changed"), []);
    }

    /// PAUSE waits for it in vain: clients go on with the old primary.
    fn a_transaction_without_end_has_it_undone(&self, load: &Load) {
        let runtime = runtime();
        let client = runtime.block_on(connect(&self.pooler)).expect("a connection");
        runtime.block_on(client.batch_execute("BEGIN; SELECT 1")).expect("a transaction");
        let started = self.cluster.sql("node1", "SELECT pg_postmaster_start_time()");
        let ran = self.switch("node2").exits(1);
        assert_eq!(operation(&ran)["end"], "undone");
        let why = "pause on lb1: clients are in transactions that did not end within 2 s";
        assert!(ran.stdout.contains(why), "{}", ran.stdout);
        assert_eq!(self.cluster.sql("node1", "SELECT pg_postmaster_start_time()"), started);
        load.runs_for(Duration::from_millis(500));
        runtime.block_on(client.batch_execute("COMMIT")).expect("it went on all the time");
        self.points_at("node1");
    }

    fn hooks_ran(&self, old: &str, new: &str) {
        let log = std::fs::read_to_string(self.cluster.dir().join("hooks.log")).expect("a log");
        let address = |node| address(&self.cluster, node);
        let expected = format!(
            "PGORCH_NEW_ADDRESS={}\nPGORCH_NEW_PRIMARY={new}\nPGORCH_OLD_ADDRESS={}\n\
             PGORCH_OLD_PRIMARY={old}\npooled switchover\n",
            address(new),
            address(old)
        );
        assert_eq!(log, expected);
    }

    fn a_hook_that_fails_before_has_it_undone(&self) {
        self.cluster.write_inventory(&inventory("[[sh, -c, 'echo not now >&2; exit 3']]", AFTER));
        let plan = self.cluster.run(&["switchover", "--to", "node2", "--dry-run"]).exits(0);
        assert!(
            plan.stdout.contains("echo not now >&2; exit 3, on this machine"),
            "{}",
            plan.stdout
        );
        let ran = self.switch("node2").exits(1);
        assert_eq!(operation(&ran)["end"], "undone");
        let why = "before_promote on node2: sh: exit status: 3: not now";
        assert!(ran.stdout.contains(why), "{}", ran.stdout);
        assert!(!ran.stdout.contains("PAUSE"), "{}", ran.stdout);
    }

    fn a_hook_that_fails_after_is_told(&self) {
        self.cluster.write_inventory(&inventory("[]", "[['false'], /does/not/exist]"));
        let ran = self.switch("node2").exits(1);
        assert_eq!(operation(&ran)["end"], "incomplete");
        for why in ["false: exit status: 1", "cannot run /does/not/exist"] {
            assert!(
                ran.stdout.contains(&format!("after_promote on node2: {why}")),
                "{}",
                ran.stdout
            );
        }
        assert_eq!(self.primary(), "node2");
        self.cluster.write_inventory(&inventory(BEFORE, AFTER));
    }

    fn a_pooler_that_points_elsewhere_is_refused(&self) {
        let (from, to) = (address(&self.cluster, "node2"), address(&self.cluster, "node3"));
        let file = "/etc/pgbouncer/pgbouncer.ini";
        self.cluster
            .sh("lb1", &format!("sed -i s/{from}/{to}/ {file}; systemctl reload pgbouncer"));
        let ran = self.switch("node1").exits(5);
        let why = "none of its databases points at the primary node2";
        assert!(ran.stdout.contains(why), "{}", ran.stdout);
    }

    fn a_pooler_that_is_down_is_refused(&self) {
        self.cluster.sh("lb1", "systemctl stop pgbouncer");
        let ran = self.switch("node1").exits(5);
        assert!(ran.stdout.contains("\"switchover_pooler\""), "{}", ran.stdout);
        assert!(ran.stdout.contains("is PgBouncer running?"), "{}", ran.stdout);
        assert_eq!(self.primary(), "node2");
        self.cluster.fault("power-off lb1");
        let ran = self.switch("node1").exits(4);
        assert!(ran.stdout.contains("\"switchover_pooler\""), "{}", ran.stdout);
    }
}

fn as_app(statement: &str) -> String {
    let statement = pgorch::model::quote(statement);
    format!("cd / && runuser -u postgres -- psql -XAtq -d app -c 'SET ROLE app' -c {statement}")
}

fn address(cluster: &Cluster, host: &str) -> String {
    let lab = pgorch::lab::status(&cluster.key()).expect("the lab is up");
    let found = lab.hosts.iter().find(|h| h.name == host);
    found.unwrap_or_else(|| panic!("no {host}")).address.to_string()
}

/// What the last event of an operation says.
fn operation(ran: &Ran) -> Value {
    let events = ran.events();
    let hit = events.iter().rfind(|e| e["data"]["end"].is_string());
    hit.unwrap_or_else(|| panic!("no end in {}", ran.stdout))["data"].clone()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
}

async fn connect(to: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(to, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Clients at work through the pooler: some 25 transactions a second each. The last one makes a new
/// connection for each.
struct Load {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Transactions that were acknowledged.
    done: AtomicUsize,
    ledger: Mutex<BTreeSet<(usize, usize)>>,
    errors: Mutex<Vec<String>>,
    longest: Mutex<Duration>,
}

impl Shared {
    fn waited(&self, time: Duration) {
        let mut longest = self.longest.lock().unwrap();
        *longest = time.max(*longest);
    }
}

impl Load {
    fn start(pooler: &str) -> Self {
        let shared = Arc::new(Shared::default());
        let workers = (0..=WORKERS)
            .map(|worker| {
                let (shared, pooler) = (Arc::clone(&shared), pooler.to_owned());
                std::thread::spawn(move || runtime().block_on(work(worker, &pooler, &shared)))
            })
            .collect();
        Load { shared, workers }
    }

    /// Waits, and sees that transactions are done meanwhile, without an error.
    #[track_caller]
    fn runs_for(&self, time: Duration) {
        let before = self.shared.done.load(Ordering::SeqCst);
        std::thread::sleep(time);
        let done = self.shared.done.load(Ordering::SeqCst) - before;
        assert!(done > WORKERS, "{done} transactions in {time:?}");
        assert_eq!(*self.shared.errors.lock().unwrap(), Vec::<String>::new());
    }

    /// Prints how long a client waited at most since this was asked last.
    fn tells(&self, what: &str) {
        let longest = std::mem::take(&mut *self.shared.longest.lock().unwrap());
        eprintln!("{what}: longest wait of a client {longest:.2?}");
    }

    /// Everything that was acknowledged is there.
    fn ends(self, lab: &Lab, primary: &str) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in self.workers {
            worker.join().expect("a worker ends");
        }
        assert_eq!(*self.shared.errors.lock().unwrap(), Vec::<String>::new());
        let rows = lab.cluster.sh(primary, &as_app("SELECT worker, number FROM ledger"));
        let rows: BTreeSet<(usize, usize)> = rows.lines().filter_map(row).collect();
        let ledger = self.shared.ledger.lock().unwrap();
        let lost: Vec<_> = ledger.difference(&rows).collect();
        assert!(lost.is_empty(), "acknowledged and gone: {lost:?}");
        eprintln!("{} transactions, 0 errors, 0 lost", ledger.len());
    }
}

fn row(line: &str) -> Option<(usize, usize)> {
    let (worker, number) = line.split_once('|')?;
    Some((worker.parse().ok()?, number.parse().ok()?))
}

async fn work(worker: usize, pooler: &str, shared: &Shared) {
    let mut client = None;
    for number in 0.. {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let began = Instant::now();
        match transaction(&mut client, worker, number, pooler).await {
            Ok(()) => {
                shared.done.fetch_add(1, Ordering::SeqCst);
                shared.ledger.lock().unwrap().insert((worker, number));
            }
            Err(error) => shared.errors.lock().unwrap().push(error),
        }
        shared.waited(began.elapsed());
        if worker == WORKERS {
            client = None;
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
}

/// One row, in a transaction of several statements.
async fn transaction(
    client: &mut Option<Client>,
    worker: usize,
    number: usize,
    pooler: &str,
) -> Result<(), String> {
    let told = |e: tokio_postgres::Error| format!("worker {worker}, {number}: {e:?}");
    if client.is_none() {
        *client = Some(connect(pooler).await.map_err(told)?);
    }
    let Some(client) = client else { return Err("no client".to_owned()) };
    client.batch_execute("BEGIN").await.map_err(told)?;
    let insert = format!("INSERT INTO ledger VALUES ({worker}, {number}) RETURNING number");
    let answer = client.simple_query(&insert).await.map_err(told)?;
    let rows = answer.iter().filter(|m| matches!(m, SimpleQueryMessage::Row(_))).count();
    client.batch_execute("COMMIT").await.map_err(told)?;
    if rows == 1 { Ok(()) } else { Err(format!("worker {worker}, {number}: {rows} rows")) }
}

/// It holds up neither the standbys nor the next failover, and is told when it is back.
#[test]
fn a_pooler_that_is_cut_off_holds_nobody_up() {
    if !(std::env::var("PGORCH_LAB").is_ok_and(|v| v == "full") && available()) {
        return;
    }
    let lab = Lab::new();
    let args = ["switchover", "--to", "node2", "-y", "-o", "json"];
    let mut run = Live::start(lab.cluster.command(&args));
    run.until(|e| e["event"] == "task_done" && e["task"] == "Pause");
    lab.cluster.fault("cut controller lb1");
    let ran = run.end().exits(1);
    let ended = operation(&ran);
    assert_eq!(ended["end"], "incomplete");
    assert!(ran.stdout.contains("CLIENTS OF lb1 CANNOT WRITE"), "{}", ran.stdout);
    let time = |hit: &dyn Fn(&Value) -> bool| {
        let event = ran.events().into_iter().find(hit).unwrap_or_else(|| panic!("{}", ran.stdout));
        let text = event["time"].as_str().expect("a time").to_owned();
        text.parse::<jiff::Timestamp>().expect("a time")
    };
    let promoted = time(&|e| e["event"] == "task_done" && e["task"] == "Promote");
    let told = |e: &Value| e["task"].as_str().is_some_and(|t| t.contains("Follow the new primary"));
    let follows = time(&|e| e["event"] == "task_done" && e["host"] == "node3" && told(e));
    let seconds = follows.duration_since(promoted).as_secs_f64();
    let whole = ended["seconds"].as_f64().expect("seconds");
    eprintln!("node3 follows {seconds:.2} s after the promotion, the whole took {whole:.1} s");
    assert!(seconds < 3.0, "{seconds}");
    assert!(whole < 25.0, "{whole}");

    lab.cluster.sh("node2", "systemctl kill -s KILL --kill-who=all pgorch-pooled");
    let ran = lab.cluster.run(&["failover", "-y", "-o", "json"]);
    assert_eq!(operation(&ran)["end"], "incomplete", "{}\n{}", ran.stdout, ran.stderr);
    let primary = lab.primary();
    assert_ne!(primary, "node2");
    lab.cluster.fault("heal controller lb1");
    lab.cluster.run(&["resume", "-o", "json"]).exits(0);
    lab.points_at(&primary);
    let runtime = runtime();
    let client = runtime.block_on(connect(&lab.pooler)).expect("a connection");
    runtime.block_on(client.batch_execute("INSERT INTO ledger VALUES (99, 99)")).expect("a row");
}

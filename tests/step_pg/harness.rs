//! A tiny engine for one inventory: looks with the product's own probes, judges, runs commands.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command as Process, Stdio};
use std::sync::Arc;

use indexmap::IndexMap;
use pgorch::facts::{self, Snapshot};
use pgorch::inventory::{self, Inventory, NodeSettings};
use pgorch::model::{Answer, Ask, Fragment, HostName, Map, Script, Secret};
use pgorch::step::{Args, Change, Ctx, Kind, Options, StepError, Verdict, kind};
use pgorch::syntax::Source;
use pgorch::template::Templates;
use serde_json::Value;

pub(crate) struct World {
    pub(crate) inventory: Inventory,
    pub(crate) nodes: IndexMap<HostName, NodeSettings>,
    pub(crate) snapshot: Snapshot,
    pub(crate) primary: Option<HostName>,
    pub(crate) options: Options,
    pub(crate) password: Option<Secret>,
    pub(crate) roles: BTreeMap<String, Secret>,
    templates: Templates,
}

impl World {
    pub(crate) fn new(text: &str) -> Self {
        let source = Source::new("inventory.yml", text);
        let (inventory, _) = parsed(&source);
        let nodes =
            inventory.nodes.keys().map(|n| (n.clone(), inventory.postgres_of(n).expect("a node")));
        World {
            nodes: nodes.collect(),
            primary: inventory.bootstrap_primary().cloned(),
            inventory,
            snapshot: Snapshot::default(),
            options: Options::default(),
            password: Some(Secret::new(PASSWORD)),
            roles: BTreeMap::new(),
            templates: Templates::new(),
        }
    }

    /// Judges with what the snapshot says and these answers.
    pub(crate) fn judge(
        &self,
        host: &str,
        name: &str,
        args: Value,
        answers: &[Answer],
    ) -> Result<Verdict, StepError> {
        let kind = found(name);
        self.with(host, |ctx| (kind.diff)(&arguments(kind, args), answers, ctx))
    }

    /// The questions of a kind, asked before facts are known.
    pub(crate) fn questions(&self, host: &str, name: &str, args: Value) -> Vec<Fragment> {
        let kind = found(name);
        let args = only_probe(kind, &arguments(kind, args));
        let host = HostName::from(host);
        let nothing = Snapshot::default();
        let (files, vars) = (BTreeMap::new(), Map::new());
        let mut ctx = self.ctx(&host, &files, &vars);
        ctx.snapshot = &nothing;
        ctx.facts = None;
        (kind.probe)(&args, &ctx).expect("questions")
    }

    fn with<T>(&self, host: &str, f: impl FnOnce(&Ctx) -> T) -> T {
        let host = HostName::from(host);
        let (files, vars) = (BTreeMap::new(), Map::new());
        f(&self.ctx(&host, &files, &vars))
    }

    fn ctx<'a>(
        &'a self,
        host: &'a HostName,
        files: &'a BTreeMap<String, Vec<u8>>,
        vars: &'a Map,
    ) -> Ctx<'a> {
        Ctx {
            inventory: &self.inventory,
            host,
            node: self.nodes.get(host),
            facts: self.snapshot.nodes.get(host).and_then(|o| o.facts()),
            snapshot: &self.snapshot,
            primary: self.primary.as_ref(),
            options: &self.options,
            replication_password: self.password.as_ref(),
            role_passwords: &self.roles,
            files,
            vars,
            templates: &self.templates,
        }
    }

    /// Looks at all nodes of this machine.
    pub(crate) fn observe(&mut self) {
        for (name, node) in &self.nodes {
            let answers: Vec<Answer> =
                facts::node_fragments(node).iter().map(|f| ask(f, node.port)).collect();
            self.snapshot.nodes.insert(name.clone(), facts::observe(node, &answers));
        }
    }

    /// Looks anew at everything, then judges one task.
    pub(crate) fn look(
        &mut self,
        host: &str,
        name: &str,
        args: Value,
    ) -> Result<Verdict, StepError> {
        self.observe();
        let port = self.nodes[&HostName::from(host)].port;
        let questions = self.questions(host, name, args.clone());
        let answers: Vec<Answer> = questions.iter().map(|f| ask(f, port)).collect();
        self.judge(host, name, args, &answers)
    }

    /// Makes a change that must be needed and must leave nothing to do.
    pub(crate) fn converge(&mut self, host: &str, name: &str, args: Value) -> Change {
        let change = change(self.look(host, name, args.clone()));
        if let Err(error) = run(&change) {
            panic!("{name} on {host}: {error}");
        }
        let again = self.look(host, name, args);
        assert!(
            matches!(again, Ok(Verdict::Satisfied(_))),
            "{name} on {host}: not a no-op: {again:?}"
        );
        change
    }
}

/// The replication password of all tests; with everything that a password file escapes.
pub(crate) const PASSWORD: &str = r"repl:pass\word'1";

fn parsed(source: &Arc<Source>) -> (Inventory, Vec<pgorch::syntax::Diagnostic>) {
    inventory::parse(source).unwrap_or_else(|errors| panic!("{}", pgorch::syntax::render(&errors)))
}

pub(crate) fn change(verdict: Result<Verdict, StepError>) -> Change {
    match verdict {
        Ok(Verdict::Change(change) | Verdict::Wait(change)) => change,
        other => panic!("expected a change: {other:?}"),
    }
}

pub(crate) fn refused(verdict: Result<Verdict, StepError>) -> String {
    match verdict {
        Err(error) if error.refused => error.message,
        other => panic!("expected a refusal: {other:?}"),
    }
}

pub(crate) fn satisfied(verdict: Result<Verdict, StepError>) -> pgorch::step::Report {
    match verdict {
        Ok(Verdict::Satisfied(report)) => report,
        other => panic!("expected no change: {other:?}"),
    }
}

/// Runs the commands as the runner would.
pub(crate) fn run(change: &Change) -> Result<String, String> {
    let mut out = String::new();
    for command in &change.commands {
        let answer = sh(&command.script, command.user.as_deref());
        out.push_str(&answer.stdout);
        if !command.ok_rc.contains(&answer.rc) {
            return Err(format!("{}: {}: {}", command.label, answer.rc, answer.stderr));
        }
    }
    Ok(out)
}

fn ask(fragment: &Fragment, port: u16) -> Answer {
    match &fragment.ask {
        Ask::Sh { script, user } => sh(script, user.as_deref()),
        Ask::Sql { database, sql } => query(port, database, sql),
    }
}

pub(crate) fn query(port: u16, database: &str, sql: &str) -> Answer {
    let port = port.to_string();
    let psql = ["-u", "postgres", "--", "psql", "-XAtq", "-h", "/run/postgresql", "-p", &port];
    // In the environment: as an argument a name with `=` would be a connection string.
    output(Process::new("runuser").env("PGDATABASE", database).args(psql).args(["-c", sql]), "")
}

pub(crate) fn sh(script: &Script, user: Option<&str>) -> Answer {
    match user {
        None => output(&mut Process::new("sh"), script.as_str()),
        Some(user) => {
            output(Process::new("runuser").args(["-u", user, "--", "sh"]), script.as_str())
        }
    }
}

fn output(process: &mut Process, text: &str) -> Answer {
    let mut child = process
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut stdin = child.stdin.take().expect("stdin");
    let text = text.to_owned();
    let feeder = std::thread::spawn(move || {
        let _ = stdin.write_all(text.as_bytes());
    });
    let output = child.wait_with_output().expect("ran");
    feeder.join().expect("fed");
    Answer {
        rc: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn found(name: &str) -> &'static Kind {
    kind(name).unwrap_or_else(|| panic!("no kind {name}"))
}

/// Arguments under their canonical names, as the engine hands them over.
fn arguments(kind: &Kind, args: Value) -> Args {
    let map = match (args, kind.free_form) {
        (Value::Object(map), _) => map,
        (Value::Null, _) => Map::new(),
        (other, Some(name)) => Map::from_iter([(name.to_owned(), other)]),
        (other, None) => panic!("{}: {other}", kind.name),
    };
    let canonical = |key: &String| {
        let spec = kind.args.iter().find(|a| a.name == key || a.aliases.contains(&key.as_str()));
        spec.unwrap_or_else(|| panic!("{} has no argument {key}", kind.name)).name.to_owned()
    };
    Args(map.iter().map(|(k, v)| (canonical(k), v.clone())).collect())
}

fn only_probe(kind: &Kind, args: &Args) -> Args {
    let probed = |key: &str| kind.args.iter().any(|a| a.name == key && a.probe);
    Args(args.0.iter().filter(|(k, _)| probed(k)).map(|(k, v)| (k.clone(), v.clone())).collect())
}

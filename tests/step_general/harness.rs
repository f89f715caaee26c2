//! A tiny engine: asks with `sh`, judges, runs the commands with `sh`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command as Process, Stdio};

use indexmap::IndexMap;
use pgorch::facts::Snapshot;
use pgorch::inventory::{
    FailoverSettings, Inventory, PostgresSettings, ReplicationMode, ReplicationSettings, Routing,
    SshSettings,
};
use pgorch::model::{Answer, Ask, HostName, Map, Script};
use pgorch::step::{Args, Change, Ctx, Kind, Options, StepError, Verdict, kind};
use pgorch::template::Templates;
use serde_json::Value;

pub(crate) struct World {
    inventory: Inventory,
    host: HostName,
    snapshot: Snapshot,
    pub(crate) options: Options,
    roles: BTreeMap<String, pgorch::model::Secret>,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) vars: Map,
    /// The command that starts a shell on the host; `sh` is this machine.
    shell: Vec<String>,
    templates: Templates,
}

impl World {
    pub(crate) fn new() -> Self {
        World {
            inventory: Inventory {
                cluster: "test".into(),
                ssh: SshSettings::default(),
                postgres: PostgresSettings::default(),
                replication: ReplicationSettings {
                    mode: ReplicationMode::Async,
                    slots: true,
                    sync_standbys: 1,
                    strict: true,
                },
                failover: FailoverSettings::default(),
                witnesses: IndexMap::new(),
                routing: Routing::default(),
                notifications: Vec::new(),
                nodes: IndexMap::new(),
                hosts: IndexMap::new(),
                vars: Map::new(),
                group_vars: IndexMap::new(),
                lab: None,
                secrets: Vec::new(),
            },
            host: HostName::from("node1"),
            snapshot: Snapshot::default(),
            options: Options::default(),
            roles: BTreeMap::new(),
            files: BTreeMap::new(),
            vars: Map::new(),
            shell: vec!["sh".into()],
            templates: Templates::new(),
        }
    }

    /// A disposable host, whose shell `PGORCH_TEST_SH` starts: `ssh root@host sh`.
    pub(crate) fn disposable() -> Self {
        let command = std::env::var("PGORCH_TEST_SH").expect("PGORCH_TEST_SH is set");
        let shell = command.split_whitespace().map(str::to_owned).collect();
        World { shell, ..World::new() }
    }

    fn ctx(&self) -> Ctx<'_> {
        Ctx {
            inventory: &self.inventory,
            host: &self.host,
            node: None,
            facts: None,
            snapshot: &self.snapshot,
            primary: None,
            options: &self.options,
            replication_password: None,
            role_passwords: &self.roles,
            files: &self.files,
            vars: &self.vars,
            templates: &self.templates,
        }
    }

    /// Judges by given answers, each `(rc, stdout)`.
    pub(crate) fn judge(
        &self,
        name: &str,
        args: Value,
        answers: &[(i32, &str)],
    ) -> Result<Verdict, StepError> {
        let answers: Vec<Answer> = answers
            .iter()
            .map(|(rc, out)| Answer { rc: *rc, stdout: (*out).to_owned(), stderr: String::new() })
            .collect();
        (found(name).diff)(&arguments(found(name), args), &answers, &self.ctx())
    }

    /// Asks this machine, then judges.
    pub(crate) fn look(&self, name: &str, args: Value) -> Result<Verdict, StepError> {
        let kind = found(name);
        let args = arguments(kind, args);
        let probed = only_probe(kind, &args);
        let fragments = (kind.probe)(&probed, &self.ctx())?;
        let answers: Vec<Answer> = fragments
            .iter()
            .map(|fragment| match &fragment.ask {
                Ask::Sh { script, .. } => self.sh(script),
                Ask::Sql { .. } => panic!("a general kind asks no SQL"),
            })
            .collect();
        (kind.diff)(&args, &answers, &self.ctx())
    }

    /// Changes what differs; the second look must be satisfied. Returns the change.
    pub(crate) fn converge(&self, name: &str, args: Value) -> Change {
        let change = self.change(name, args.clone());
        let again = self.look(name, args).expect("judged");
        assert!(matches!(again, Verdict::Satisfied(_)), "not a no-op: {again:?}");
        change
    }

    /// Makes the change that must be needed.
    pub(crate) fn change(&self, name: &str, args: Value) -> Change {
        let change = expect_change(self.look(name, args));
        if let Err(stderr) = self.run(&change) {
            panic!("{name}: {stderr}");
        }
        change
    }

    /// Makes the change, which must fail; its error text.
    pub(crate) fn fails(&self, name: &str, args: Value) -> String {
        self.run(&expect_change(self.look(name, args))).expect_err("fails")
    }

    /// Runs the commands as the runner would; the standard error of the first that fails.
    pub(crate) fn run(&self, change: &Change) -> Result<(), String> {
        for command in &change.commands {
            let answer = self.sh(&command.script);
            if !command.ok_rc.contains(&answer.rc) {
                return Err(answer.stderr);
            }
        }
        Ok(())
    }

    pub(crate) fn sh(&self, script: &Script) -> Answer {
        let mut process = Process::new(&self.shell[0])
            .args(&self.shell[1..])
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a shell");
        let text = script.as_str().to_owned();
        let mut stdin = process.stdin.take().expect("stdin");
        let feeder = std::thread::spawn(move || {
            let _ = stdin.write_all(text.as_bytes());
        });
        let output = process.wait_with_output().expect("the shell ran");
        feeder.join().expect("fed");
        Answer {
            rc: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

pub(crate) fn expect_change(verdict: Result<Verdict, StepError>) -> Change {
    match verdict {
        Ok(Verdict::Change(change) | Verdict::Wait(change)) => change,
        other => panic!("expected a change: {other:?}"),
    }
}

pub(crate) fn satisfied(verdict: Result<Verdict, StepError>) -> Map {
    match verdict {
        Ok(Verdict::Satisfied(report)) => report.data,
        other => panic!("expected no change: {other:?}"),
    }
}

fn found(name: &str) -> &'static Kind {
    kind(name).unwrap_or_else(|| panic!("no kind {name}"))
}

/// Arguments under their canonical names, as the engine hands them over.
fn arguments(kind: &Kind, args: Value) -> Args {
    let map = match (args, kind.free_form) {
        (Value::Object(map), _) => map,
        (other, Some(name)) => Map::from_iter([(name.to_owned(), other)]),
        (other, None) => panic!("{}: {other}", kind.name),
    };
    let free = kind.args.iter().any(|a| a.name == "*");
    let canonical = |key: &String| {
        kind.args
            .iter()
            .find(|a| a.name == key || a.aliases.contains(&key.as_str()))
            .map(|a| a.name.to_owned())
            .or_else(|| free.then(|| key.clone()))
            .unwrap_or_else(|| panic!("{} has no argument {key}", kind.name))
    };
    Args(map.into_iter().map(|(k, v)| (canonical(&k), v)).collect())
}

fn only_probe(kind: &Kind, args: &Args) -> Args {
    let probed = |key: &str| kind.args.iter().any(|a| a.name == key && a.probe);
    Args(args.0.iter().filter(|(k, _)| probed(k)).map(|(k, v)| (k.clone(), v.clone())).collect())
}

/// Every command of a change must at least be a program that sh and dash can read.
pub(crate) fn readable(change: &Change) {
    for command in &change.commands {
        let program = format!("sh -n <<'PGORCH_TEST'\n{}PGORCH_TEST\n", command.script.as_str());
        let answer = World::new().sh(&Script::raw(program));
        assert_eq!((answer.rc, answer.stderr.as_str()), (0, ""), "{}", command.script.as_str());
    }
}

/// The programs of a change as one text.
pub(crate) fn program(change: &Change) -> String {
    change.commands.iter().map(|c| c.script.as_str()).collect()
}

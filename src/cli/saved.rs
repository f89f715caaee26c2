//! Saved plans: what was found, by digest, so that `apply FILE` does exactly that or refuses.
//!
//! The file's first line is `pgorch-plan 1`; the rest is one JSON document. It holds no secrets:
//! answers are digests salted per plan, so that a password cannot be guessed from them either, and
//! variables of `-e` are named, not told: they are given again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::args::{Common, RunArgs};
use super::error::CliError;
use super::load::Prepared;
use super::sources::Loaded;
use crate::clock;
use crate::inventory::SecretRef;
use crate::model::{Exit, Fragment, Value};
use crate::runner::{Planned, Report, Runner};
use crate::ui;

/// The first line, without the format's number.
const HEADER: &str = "pgorch-plan ";
const FORMAT: u32 = 1;

/// A plan in a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedPlan {
    pub(super) inventory: String,
    limit: Option<String>,
    tags: Vec<String>,
    skip_tags: Vec<String>,
    start_at_task: Option<String>,
    restart: bool,
    destroy: Vec<String>,
    inputs: Inputs,
    primary: Option<String>,
    /// Node to live timeline.
    timelines: BTreeMap<String, u32>,
    /// Host to question to answer, all by digest.
    answers: BTreeMap<String, BTreeMap<String, String>>,
    /// Controller files that tasks read: name in the playbook to digest.
    files: BTreeMap<String, String>,
    /// What it does: for readers, and to be found the same again.
    changes: Value,
}

/// What a plan was made from besides the hosts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Inputs {
    salt: String,
    /// Path to digest: the inventory and the files of `-e @FILE`.
    files: BTreeMap<String, String>,
    /// Files of `-e @FILE`, in their order.
    extra_files: Vec<String>,
    /// Names of the variables that `-e` gave on the command line.
    extra_names: Vec<String>,
    /// Salted digest of their values and of the inventory's secrets.
    secrets: String,
    /// Name to digest of each playbook text, wherever it came from.
    playbooks: BTreeMap<String, String>,
    /// The inventory's path.
    inventory: String,
}

impl Inputs {
    pub(super) fn of(prepared: &Prepared, loaded: &Loaded) -> Result<Self, CliError> {
        let salt = clock::random_id();
        let absolute = |path: &Path| {
            let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
            path.to_string_lossy().into_owned()
        };
        let inventory = absolute(&prepared.path);
        let extra_files: Vec<String> = prepared.extra.files.iter().map(|p| absolute(p)).collect();
        let mut files = BTreeMap::new();
        for path in extra_files.iter().chain([&inventory]) {
            files.insert(path.clone(), file_digest(Path::new(path))?);
        }
        Ok(Inputs {
            files,
            extra_files,
            extra_names: prepared.extra.inline.keys().cloned().collect(),
            secrets: secrets_digest(&salt, prepared),
            playbooks: playbooks(loaded),
            inventory,
            salt,
        })
    }
}

fn playbooks(loaded: &Loaded) -> BTreeMap<String, String> {
    let digest = |text: &str| hex(&Sha256::digest(text));
    loaded.texts.iter().map(|(name, source)| (name.clone(), digest(&source.text))).collect()
}

fn secrets_digest(salt: &str, prepared: &Prepared) -> String {
    let mut all = format!("{salt}{}", Value::Object(prepared.extra.inline.clone()));
    for secret in prepared.inventory.secret_refs() {
        if let SecretRef::Plain(secret) = secret {
            all.push('\0');
            all.push_str(secret.expose());
        }
    }
    hex(&Sha256::digest(all))
}

/// Whether a file begins like a saved plan, of whatever format.
pub(super) fn is_saved_plan(path: &Path) -> bool {
    use std::io::Read as _;
    let mut head = [0u8; HEADER.len()];
    std::fs::File::open(path).and_then(|mut f| f.read_exact(&mut head)).is_ok()
        && head == *HEADER.as_bytes()
}

pub(super) fn read(path: &Path) -> Result<SavedPlan, CliError> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|e| CliError::usage(format!("cannot read the plan {shown}: {e}")))?;
    let (first, body) = text.split_once('\n').unwrap_or((&text, ""));
    if first.strip_prefix(HEADER).and_then(|n| n.trim_end().parse().ok()) != Some(FORMAT) {
        let error = CliError::usage(format!("{shown} is a plan of another format: \"{first}\""));
        return Err(error.hint("make a new one with `pgorch plan --out FILE`"));
    }
    serde_json::from_str(body)
        .map_err(|e| CliError::usage(format!("the plan {shown} is damaged: {e}")))
}

impl SavedPlan {
    pub(super) async fn new(
        common: &Common,
        run: &RunArgs,
        runner: &Runner,
        report: &Report,
        inputs: &Inputs,
    ) -> Result<Self, CliError> {
        Ok(SavedPlan {
            inventory: inputs.inventory.clone(),
            limit: common.limit.clone(),
            tags: run.tags.clone(),
            skip_tags: run.skip_tags.clone(),
            start_at_task: run.start_at_task.clone(),
            restart: run.restart,
            destroy: run.destroy.clone(),
            primary: runner.live().primary.as_ref().map(|p| p.0.clone()),
            timelines: timelines(runner),
            answers: answers(runner, &inputs.salt).await,
            files: files(runner),
            changes: runner.vars.redactor.mask_value(&changes(report)),
            inputs: inputs.clone(),
        })
    }

    /// Written beside and renamed, so that no half of a plan is ever there; for its owner only.
    pub(super) fn write(&self, path: &Path) -> Result<(), CliError> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}", clock::random_id()));
        let beside = PathBuf::from(beside);
        let mut options = std::fs::OpenOptions::new();
        let file = options.create_new(true).write(true).mode(0o600).open(&beside);
        let text = format!("{HEADER}{FORMAT}\n{text}\n");
        let written = file.and_then(|mut f| f.write_all(text.as_bytes()));
        written.and_then(|()| std::fs::rename(&beside, path)).map_err(|e| {
            let _ = std::fs::remove_file(&beside);
            CliError::failed(format!("cannot write {}: {e}", path.display()))
        })
    }

    /// The options that it was made with. Others beside it would make it another plan.
    pub(super) fn options(
        &self,
        common: &Common,
        run: &RunArgs,
    ) -> Result<(Common, RunArgs), CliError> {
        let given = [
            (!common.inventory.is_empty(), "-i"),
            (common.limit.is_some(), "-l"),
            (!run.tags.is_empty(), "-t"),
            (!run.skip_tags.is_empty(), "--skip-tags"),
            (run.start_at_task.is_some(), "--start-at-task"),
            (run.restart, "--restart"),
            (!run.destroy.is_empty(), "--destroy"),
        ];
        if let Some((_, option)) = given.into_iter().find(|(given, _)| *given) {
            let text = format!("{option} does not go with a saved plan, which is applied as it is");
            return Err(CliError::usage(text).hint("give it to `pgorch plan --out FILE`"));
        }
        let inline = common.extra_vars.iter().filter(|e| !e.starts_with('@')).cloned();
        let files = self.inputs.extra_files.iter().map(|path| format!("@{path}"));
        let common = Common {
            limit: self.limit.clone(),
            extra_vars: files.chain(inline).collect(),
            ..common.clone()
        };
        let run = RunArgs {
            tags: self.tags.clone(),
            skip_tags: self.skip_tags.clone(),
            start_at_task: self.start_at_task.clone(),
            restart: self.restart,
            destroy: self.destroy.clone(),
            ..run.clone()
        };
        Ok((common, run))
    }

    /// Refuses if a file that the plan was made from has changed.
    pub(super) fn check_inputs(&self) -> Result<(), CliError> {
        for (path, digest) in &self.inputs.files {
            if file_digest(Path::new(path))? != *digest {
                return Err(stale(format!("{path} has changed since the plan was made")));
            }
        }
        Ok(())
    }

    /// Refuses if a playbook, a secret or a variable is another one now.
    pub(super) fn check_sources(
        &self,
        prepared: &Prepared,
        loaded: &Loaded,
    ) -> Result<(), CliError> {
        let now = playbooks(loaded);
        let names = now.keys().chain(self.inputs.playbooks.keys());
        if let Some(name) = names.into_iter().find(|n| now.get(*n) != self.inputs.playbooks.get(*n))
        {
            return Err(stale(format!("{name} is not the one that the plan was made from")));
        }
        let names: Vec<&String> = prepared.extra.inline.keys().collect();
        if !names.iter().copied().eq(&self.inputs.extra_names) {
            let names = self.inputs.extra_names.join(", ");
            let text = match names.is_empty() {
                true => "the plan was made without -e".to_owned(),
                false => {
                    format!("the plan was made with -e {names}, whose values it does not hold")
                }
            };
            return Err(CliError::refused(text).hint("give the same -e as to `pgorch plan`"));
        }
        if secrets_digest(&self.inputs.salt, prepared) != self.inputs.secrets {
            return Err(stale("a secret or a value of -e is another one now".to_owned()));
        }
        Ok(())
    }

    /// Says what is not as it was: the primary, a timeline, a file, an answer, or what would be
    /// done. `report` is of a read-only pass, after which all questions are answered.
    pub(super) async fn check(&self, runner: &Runner, report: &Report) -> Result<(), String> {
        let primary = runner.live().primary.as_ref().map(|p| p.0.clone());
        if primary != self.primary {
            let word = |p: &Option<String>| p.clone().unwrap_or_else(|| "none".to_owned());
            let (was, is) = (word(&self.primary), word(&primary));
            return Err(format!("the primary was {was} and is {is}"));
        }
        let (was, is) = (&self.timelines, timelines(runner));
        if let Some(node) = was.keys().chain(is.keys()).find(|n| was.get(*n) != is.get(*n)) {
            let word = |t: Option<&u32>| t.map_or("not running".to_owned(), |t| t.to_string());
            let (was, is) = (word(was.get(node)), word(is.get(node)));
            return Err(format!("the timeline of {node} was {was} and is {is}"));
        }
        if let Some(name) = different(&self.files, &files(runner)) {
            return Err(format!("the file {name} has changed since the plan was made"));
        }
        let now = answers(runner, &self.inputs.salt).await;
        if let Some(host) = different(&self.answers, &now) {
            return Err(match now.contains_key(host) {
                true => format!("{host} is not as it was when the plan was made"),
                false => format!("{host} does not answer now"),
            });
        }
        let changes = runner.vars.redactor.mask_value(&changes(report));
        if changes != self.changes {
            let of = |v: &Value| v.as_array().cloned().unwrap_or_default();
            let (was, is) = (of(&self.changes), of(&changes));
            let other = is.iter().find(|c| !was.contains(c)).or_else(|| {
                // Nothing new: something that is not to be done any more.
                was.iter().find(|c| !is.contains(c))
            });
            let text = |key: &str| other.and_then(|c| c[key].as_str()).unwrap_or("?").to_owned();
            return Err(format!(
                "the plan would be another one now: \"{}\" on {}: {}",
                text("task"),
                text("host"),
                text("summary")
            ));
        }
        Ok(())
    }
}

/// The first key whose values differ, or that only one side has.
fn different<'m, V: PartialEq>(
    was: &'m BTreeMap<String, V>,
    is: &'m BTreeMap<String, V>,
) -> Option<&'m String> {
    was.keys().chain(is.keys()).find(|key| was.get(*key) != is.get(*key))
}

fn stale(why: String) -> CliError {
    CliError::refused(why).hint("make a new plan with `pgorch plan --out FILE`")
}

fn file_digest(path: &Path) -> Result<String, CliError> {
    let bytes = std::fs::read(path)
        .map_err(|e| CliError::usage(format!("cannot read {}: {e}", path.display())))?;
    Ok(hex(&Sha256::digest(bytes)))
}

fn files(runner: &Runner) -> BTreeMap<String, String> {
    let digest = |(name, bytes): (&String, &Vec<u8>)| (name.clone(), hex(&Sha256::digest(bytes)));
    runner.files().iter().map(digest).collect()
}

fn timelines(runner: &Runner) -> BTreeMap<String, u32> {
    let snapshot = runner.snapshot();
    let timeline = |(name, seen): (&crate::model::HostName, &crate::facts::Observation)| {
        Some((name.0.clone(), seen.server()?.timeline?.0))
    };
    snapshot.nodes.iter().filter_map(timeline).collect()
}

/// Facts hold positions and times, which always differ; the rest of the answers must not.
async fn answers(runner: &Runner, salt: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for (name, link) in &runner.links {
        let held = link.lock().await;
        if held.unreachable.is_some() {
            continue;
        }
        let digest = |(fragment, answer): (&Fragment, &crate::model::Answer)| {
            let question = hex(&Sha256::digest(format!("{salt}{fragment:?}")));
            let text = format!("{salt}{} {}", answer.rc, answer.stdout);
            (question, hex(&Sha256::digest(text)))
        };
        all.insert(name.0.clone(), held.answers().map(digest).collect());
    }
    all
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn changes(report: &Report) -> Value {
    let one = |p: &Planned| {
        json!({
            "host": p.host,
            "task": p.task,
            "kind": p.kind,
            "summary": p.summary,
            "known_after": p.deferred,
            "diff": p.diffs.iter().map(ui::diff_json).collect::<Vec<_>>(),
            "impact": ui::impact_json(&p.impact),
        })
    };
    report.planned.iter().map(one).collect()
}

/// `plan -o json`: one document.
pub(super) fn plan_document(runner: &Runner, report: &Report, exit: Exit) -> Value {
    let notices: Vec<Value> =
        report.notices.iter().map(|(h, n)| json!({ "host": h, "message": n })).collect();
    json!({
        "schema": 1,
        "cluster": runner.vars.inventory.cluster,
        "primary": runner.live().primary,
        "exit": exit.code(),
        "changes": changes(report),
        "problems": report.problems,
        "notices": notices,
        "hosts": report.recaps,
    })
}

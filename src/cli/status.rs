//! `status` and `facts`: one look at all hosts.

use super::args::{Common, Output};
use super::error::CliError;
use super::{Failure, block_on, interrupt, load};
use crate::facts::Snapshot;
use crate::model::Exit;
use crate::runner::{Runner, Selection};
use crate::step::Options;
use crate::topology;
use crate::ui::{HumanSink, Masked, Printer, Verbosity};

pub(super) fn status(common: &Common, check: bool) -> Result<Exit, Failure> {
    let paths = match load::find_all(common) {
        Ok(paths) => paths,
        Err(error) if check => return Err(plugin(vec![unknown(&error)])),
        Err(error) => return Err(error.into()),
    };
    let mut seen = Vec::new();
    for path in &paths {
        let one = load::with_inventory(common, path);
        seen.push(block_look(&one).map(|runner| shown(&one, &runner)));
    }
    if check {
        let lines = seen.iter().map(|one| match one {
            Ok(document) => topology::nagios(document),
            Err(error) => unknown(error),
        });
        return Err(plugin(lines.collect()));
    }
    print(common, seen)
}

/// Everything is looked at; with `--limit` only those nodes are shown.
fn shown(common: &Common, runner: &Runner) -> topology::Status {
    let mut document = runner.status();
    if common.limit.is_some() {
        let limit = &runner.select.hosts;
        document.nodes.retain(|node| limit.contains(&node.name));
        document.findings.retain(|f| f.node.as_ref().is_none_or(|node| limit.contains(node)));
    }
    document
}

/// A plugin that cannot look is UNKNOWN, whatever the reason.
fn unknown(error: &CliError) -> (u8, String) {
    let text = error.text().replace(['|', '\n'], " ");
    (3, format!("PGORCH UNKNOWN - {}", text.trim_start_matches("error: ").trim()))
}

/// One line for all clusters: the worst one first, since some readers take the first word only.
fn plugin(mut lines: Vec<(u8, String)>) -> Failure {
    // CRITICAL, UNKNOWN, WARNING, OK.
    let rank = |code: u8| [0, 1, 3, 2].iter().position(|c| *c == code);
    lines.sort_by_key(|(code, _)| std::cmp::Reverse(rank(*code)));
    let worst = lines.first().map_or(3, |(code, _)| *code);
    let text: Vec<&str> = match lines.as_slice() {
        [(_, only)] => vec![only],
        // The performance data of several would not be told apart.
        all => all.iter().map(|(_, l)| l.split(" | ").next().unwrap_or_default()).collect(),
    };
    Printer.out(&format!("{}\n", text.join("; ")));
    Failure::Code(worst)
}

/// One cluster is one document; several are `{"schema", "clusters"}`.
fn print(common: &Common, seen: Vec<Result<topology::Status, CliError>>) -> Result<Exit, Failure> {
    let several = seen.len() > 1;
    let mut exit = Exit::Done;
    let mut documents = Vec::new();
    for one in seen {
        match one {
            Ok(document) => documents.push(document),
            Err(error) if several => {
                Printer.err(&error.text());
                exit = exit.worst(error.exit);
            }
            Err(error) => return Err(error.into()),
        }
    }
    if common.output == Output::Json {
        let value = match documents.as_slice() {
            [only] if !several => serde_json::json!(only),
            all => serde_json::json!({ "schema": 1, "clusters": all }),
        };
        Printer.out(&format!("{}\n", serde_json::to_string_pretty(&value).unwrap_or_default()));
    } else {
        let texts: Vec<String> = documents.iter().map(topology::human).collect();
        Printer.out(&texts.join("\n"));
    }
    Ok(exit)
}

pub(super) fn facts(common: &Common) -> Result<Exit, CliError> {
    let runner = block_look(common)?;
    let document = block_on(async {
        let mut hosts = serde_json::Map::new();
        let wanted = runner.links.iter().filter(|(n, _)| runner.select.hosts.contains(*n));
        for (name, link) in wanted {
            let held = link.lock().await;
            let value = match (held.facts(), &held.unreachable) {
                (Some(facts), _) => facts_json(&facts, &runner.snapshot(), name),
                (None, why) => serde_json::json!({ "unreachable": why }),
            };
            hosts.insert(name.0.clone(), value);
        }
        serde_json::json!({ "schema": 1, "hosts": hosts })
    })?;
    let text = serde_json::to_string_pretty(&document).unwrap_or_default();
    Printer.out(&format!("{text}\n"));
    let unreachable = document["hosts"]
        .as_object()
        .is_some_and(|h| h.values().any(|v| !v["unreachable"].is_null()));
    Ok(if unreachable { Exit::Unreachable } else { Exit::Done })
}

fn facts_json(
    facts: &crate::facts::NodeFacts,
    snapshot: &Snapshot,
    name: &crate::model::HostName,
) -> serde_json::Value {
    let mut value = serde_json::Value::Object(facts.template_vars());
    if let Some(instance) = &facts.instance {
        let server = snapshot.nodes.get(name).and_then(|o| o.server());
        value["postgres"] = serde_json::json!({
            "binary_version": instance.binary_version,
            "running": instance.postmaster_pid.is_some(),
            "unit": instance.unit.active_state,
            "version": server.map(|s| s.version.clone()),
            "in_recovery": server.map(|s| s.in_recovery),
            "timeline": server.and_then(|s| s.timeline),
            "lsn": server.and_then(|s| s.lsn),
            "pending_restart": server.map(|s| s.pending_restart.clone()),
            "databases": server.map(|s| s.databases.clone()),
            "disk_free_bytes": instance.disk_free_bytes,
        });
    }
    value
}

/// [`look`] on the one inventory that the options name; Ctrl-C ends it.
fn block_look(common: &Common) -> Result<Runner, CliError> {
    let runner = look(common, None)?;
    if runner.interrupted() { Err(CliError::interrupted()) } else { Ok(runner) }
}

/// Connects to every node and every selected host, and gathers facts.
pub(super) fn look(common: &Common, file: Option<std::path::PathBuf>) -> Result<Runner, CliError> {
    let prepared = load::prepare_to_look(common, file)?;
    block_on(async move {
        let select = Selection {
            hosts: prepared.hosts().to_vec(),
            forks: common.forks,
            ..Selection::default()
        };
        let verbosity = load::verbosity(common).max(Verbosity::Normal);
        // status shows an unreachable host in its table; only -v tells how the look went.
        let inner: std::sync::Arc<dyn crate::event::Sink> = if common.verbose > 0 {
            std::sync::Arc::new(HumanSink::new(verbosity, false))
        } else {
            std::sync::Arc::new(crate::ui::Tee(Vec::new()))
        };
        let sink = std::sync::Arc::new(Masked { redactor: prepared.redactor.clone(), inner });
        let interrupt = interrupt::listen();
        let runner = prepared.looker(select, sink, interrupt, common).await?;
        runner.first_batch(&Options { check: true, ..Options::default() }).await;
        Ok(runner)
    })?
}

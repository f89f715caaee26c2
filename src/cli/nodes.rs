//! Commands on single nodes. Each is a shipped playbook, run on the nodes that are named.

use std::path::Path;

use super::apply::{Extra, go, mode, prepare};
use super::args::{Common, Method, RunArgs};
use super::error::CliError;
use super::load::{Lab, Prepared};
use super::sources;
use crate::inventory::{Inventory, ReplicationMode};
use crate::model::{Exit, HostName, Value};
use crate::runner::PrimaryRule;
use crate::syntax::lower::did_you_mean;

/// The nodes of these names.
fn named(inventory: &Inventory, names: &[String]) -> Result<Vec<HostName>, CliError> {
    let mut nodes: Vec<HostName> = Vec::new();
    for name in names {
        let node = HostName(name.clone());
        if !inventory.nodes.contains_key(&node) {
            let known: Vec<&str> = inventory.nodes.keys().map(HostName::as_str).collect();
            let hint = match did_you_mean(name, known.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("its nodes: {}", known.join(", ")),
            };
            let text = format!("no node \"{name}\" in the inventory");
            return Err(CliError::usage(text).hint(hint));
        }
        if !nodes.contains(&node) {
            nodes.push(node);
        }
    }
    Ok(nodes)
}

/// What a run on these nodes needs; none is all of the inventory, or of --limit.
fn ready(common: &Common, names: &[String], run: &RunArgs) -> Result<Prepared, CliError> {
    if !names.is_empty() && common.limit.is_some() {
        return Err(CliError::usage("both node names and --limit").hint("one of them is enough"));
    }
    let mut prepared = prepare(common, None, run, Lab::Find)?;
    let nodes = named(&prepared.inventory, names)?;
    if !nodes.is_empty() {
        prepared.narrow(nodes);
    }
    Ok(prepared)
}

/// Runs a shipped playbook with these variables.
fn play(
    common: &Common,
    run: &RunArgs,
    mut prepared: Prepared,
    playbook: &str,
    vars: &[(&str, Value)],
    extra: Extra,
) -> Result<Exit, CliError> {
    let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    prepared.extra.vars.extend(vars);
    let loaded = sources::playbook(Path::new(playbook))?;
    go(common, run, prepared, loaded, mode(run), extra)
}

/// For a command that makes nodes standbys of the primary that runs.
fn for_standbys(command: &str) -> Extra {
    let mut extra = running(command);
    extra.standbys_only = true;
    extra
}

/// For a command on a cluster that has a primary.
fn running(command: &str) -> Extra {
    let mut extra = Extra::of_nodes(command);
    extra.primary = PrimaryRule::Running { stale: Vec::new() };
    extra
}

/// `pgorch rejoin NODE ...`
pub(super) fn rejoin(
    common: &Common,
    nodes: Vec<String>,
    method: Method,
    discard_old: bool,
    run: &RunArgs,
) -> Result<Exit, CliError> {
    let prepared = ready(common, &nodes, run)?;
    let stale = prepared.hosts().to_vec();
    let mut extra = for_standbys("rejoin");
    extra.primary = PrimaryRule::Running { stale };
    let vars =
        [("rejoin_method", Value::from(method.word())), ("discard_old", Value::from(discard_old))];
    play(common, run, prepared, "playbooks/rejoin.yml", &vars, extra)
}

/// `pgorch clone NODE ...`
pub(super) fn clone(
    common: &Common,
    nodes: Vec<String>,
    from: Option<String>,
    max_rate: Option<String>,
    run: &RunArgs,
) -> Result<Exit, CliError> {
    let prepared = ready(common, &nodes, run)?;
    let path = |name: &HostName| Some(prepared.inventory.postgres_of(name)?.data_dir);
    let replaced = prepared.hosts().iter().filter(|name| {
        let named = path(name).map(|path| format!("{name}:{path}"));
        named.is_some_and(|named| run.destroy.contains(&named))
    });
    let replaced: Vec<Value> = replaced.map(|name| Value::from(name.0.clone())).collect();
    let mut vars = vec![("replaced", Value::from(replaced))];
    if let Some(from) = from {
        named(&prepared.inventory, std::slice::from_ref(&from))?;
        vars.push(("copy_from", Value::from(from)));
    }
    vars.extend(max_rate.map(|rate| ("max_rate", Value::from(rate))));
    play(common, run, prepared, "playbooks/clone-node.yml", &vars, for_standbys("clone"))
}

/// `pgorch follow NODE [--upstream NODE]`
pub(super) fn follow(
    common: &Common,
    node: String,
    upstream: Option<String>,
    run: &RunArgs,
) -> Result<Exit, CliError> {
    let prepared = ready(common, &[node], run)?;
    let mut vars = Vec::new();
    if let Some(upstream) = upstream {
        named(&prepared.inventory, std::slice::from_ref(&upstream))?;
        // What the command line says beats what the topology would make of it.
        vars.push(("upstream", Value::from(upstream)));
    }
    play(common, run, prepared, "playbooks/follow.yml", &vars, for_standbys("follow"))
}

/// `pgorch restart [NODE ...]`
pub(super) fn restart(
    common: &Common,
    nodes: Vec<String>,
    force: bool,
    switchover: bool,
    run: &RunArgs,
) -> Result<Exit, CliError> {
    let prepared = ready(common, &nodes, run)?;
    let force = force || !nodes.is_empty();
    let file = if switchover { "restart-switchover" } else { "restart" };
    let mut extra = running("restart");
    extra.restart = true;
    let vars = [("restart_force", Value::from(force))];
    play(common, run, prepared, &format!("playbooks/{file}.yml"), &vars, extra)
}

/// `pgorch reload [NODE ...]`
pub(super) fn reload(common: &Common, nodes: Vec<String>, run: &RunArgs) -> Result<Exit, CliError> {
    let prepared = ready(common, &nodes, run)?;
    play(common, run, prepared, "playbooks/reload.yml", &[], Extra::of_nodes("reload"))
}

/// `pgorch stop NODE ...`
pub(super) fn stop(
    common: &Common,
    nodes: Vec<String>,
    primary: bool,
    run: &RunArgs,
) -> Result<Exit, CliError> {
    let mut prepared = ready(common, &nodes, run)?;
    // Whether commits can do without a standby is seen on the primary, and whether a watch would replace it
    // on any node.
    let quorum = prepared.inventory.replication.mode == ReplicationMode::Quorum;
    prepared.look_at_all = quorum || primary;
    let names: Vec<Value> = prepared.hosts().iter().map(|n| Value::from(n.0.clone())).collect();
    let vars = [("stop_primary", Value::from(primary)), ("stopped_nodes", Value::from(names))];
    play(common, run, prepared, "playbooks/stop.yml", &vars, Extra::of_nodes("stop"))
}

/// `pgorch start NODE ...` and `pgorch start --all`
pub(super) fn start(
    common: &Common,
    nodes: Vec<String>,
    all: bool,
    run: &RunArgs,
) -> Result<Exit, CliError> {
    let mut prepared = ready(common, &nodes, run)?;
    // Whether there is a primary already is seen by looking at all nodes.
    prepared.look_at_all = true;
    let named = (!all).then(|| prepared.hosts().to_vec());
    let mut extra = Extra::of_nodes("start");
    extra.primary = PrimaryRule::Start { named };
    let playbook = if all { "playbooks/start-all.yml" } else { "playbooks/start.yml" };
    play(common, run, prepared, playbook, &[], extra)
}

/// `pgorch register [NODE ...]`
pub(super) fn register(
    common: &Common,
    nodes: Vec<String>,
    run: &RunArgs,
) -> Result<Exit, CliError> {
    // The change is made on the primary, whoever is named.
    let prepared = ready(common, &[], run)?;
    named(&prepared.inventory, &nodes)?;
    let vars = [("registered", Value::from(nodes))];
    play(common, run, prepared, "playbooks/members.yml", &vars, running("register"))
}

//! `sync_standbys`: synchronous_standby_names, in a file of its own.
//!
//! With `replication.mode: quorum` commits wait for standbys. On a cluster that is being made there
//! are none yet, and the first statement would wait for ever; so the names come last, when enough
//! of them stream. Once they are in force apply never takes them away because standbys are missing:
//! that is what they are there for.

use super::common::{self, OS_USER};
use super::files::{self, Replace};
use crate::facts::DataDir;
use crate::inventory::{Inventory, ReplicationMode, slot_name};
use crate::model::{Answer, Fragment, HostName, Resource, Script};
use crate::postgres::{Conf, conf_line, ident};
use crate::step::{Args, Change, Command, Ctx, Diff, Kind, Report, StepError, Verdict, no_files};

pub(super) const KIND: Kind = Kind {
    name: "sync_standbys",
    aliases: &[],
    summary: "set synchronous_standby_names as replication.mode wants it, once enough standbys stream.",
    free_form: None,
    args: &[],
    files: no_files,
    probe,
    diff,
};

const FILE: &str = "pgorch.sync.conf";
const NAME: &str = "synchronous_standby_names";

fn probe(_: &Args, ctx: &Ctx) -> Result<Vec<Fragment>, StepError> {
    let path = format!("{}/{FILE}", common::node(ctx)?.data_dir);
    let script = files::read(Script::new(), "file", &path);
    Ok(vec![Fragment::sh(script, vec![Resource::Path(path)])])
}

/// The setting: any k of the other nodes, by the application_name that `follow` gives them.
fn names(ctx: &Ctx) -> Result<String, StepError> {
    names_on(ctx.inventory, ctx.host, ctx.primary).map_err(StepError::refuse)
}

/// The setting that `host` is to have, with `primary` as the primary.
pub(super) fn names_on(
    inventory: &Inventory,
    host: &HostName,
    primary: Option<&HostName>,
) -> Result<String, String> {
    if inventory.replication.mode == ReplicationMode::Async {
        return Ok(String::new());
    }
    let mut list = Vec::new();
    for (name, node) in inventory.nodes.iter().filter(|(n, _)| *n != host) {
        // A cascaded standby is no direct sender; the primary never hears its acknowledgement.
        let cascaded = node.follow.as_ref().is_some_and(|f| f != host && Some(f) != primary);
        if !cascaded {
            list.push(slot_name(name));
        }
    }
    let k = usize::try_from(inventory.replication.sync_standbys).unwrap_or(1).max(1);
    if list.len() < k {
        return Err(format!(
            "replication.sync_standbys is {k}, and only {} standbys stream from {host}",
            list.len(),
        ));
    }
    let quoted: Vec<String> = list.iter().map(|n| ident(n)).collect();
    Ok(format!("ANY {k} ({})", quoted.join(", ")))
}

fn diff(_: &Args, answers: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    let node = common::own(ctx)?;
    let Some(at_rest) = answers.first() else {
        return Err(StepError::new(format!("the answer about {FILE} is missing")));
    };
    if !matches!(common::data_dir(ctx), Some(DataDir::Cluster(_))) {
        return Ok(Verdict::NotYet(format!("{} is not a database cluster yet", node.data_dir)));
    }
    let current = files::parse(files::lines(at_rest).get("file"))?;
    let before =
        current.as_ref().and_then(|f| Conf::parse(&f.text).parameters().shift_remove(NAME));
    let wanted = names(ctx)?;
    let loaded = common::loaded_at(ctx);
    let owed = current.as_ref().is_some_and(|f| f.newer_than(loaded));
    if before.as_deref().unwrap_or_default() == wanted && !owed {
        return Ok(Verdict::ok());
    }
    // Never in force before is the one case in which standbys may be missing for a good reason.
    if before.as_deref().unwrap_or_default().is_empty() && !enough(ctx) && !ctx.options.check {
        let notice =
            format!("{NAME} is not in force yet: too few standbys stream from {}", ctx.host);
        return Ok(Verdict::Satisfied(Report { notices: vec![notice], ..Report::default() }));
    }
    let text =
        format!("# Rendered by pgorch from replication.mode.\n{}\n", conf_line(NAME, &wanted));
    let path = format!("{}/{FILE}", node.data_dir);
    let complaints = "SELECT format('%s: %s', name, error) FROM pg_file_settings WHERE \
                      error IS NOT NULL AND sourcefile LIKE '%/pgorch.sync.conf'";
    let running = loaded.is_some();
    let replace = Replace {
        node,
        name: FILE,
        text: &text,
        precheck: None,
        complaints: Some(complaints),
        running,
    };
    let mut change = Change {
        summary: format!("{NAME} = '{wanted}'"),
        diffs: vec![Diff::Value {
            name: NAME.into(),
            before,
            after: Some(wanted),
            note: Some("reload".into()),
        }],
        commands: vec![Command::new(format!("write {path}"), replace.script()).user(OS_USER)],
        writes: vec![Resource::Path(path), Resource::Postgres],
        ..Change::default()
    };
    change.impact.reload = running;
    Ok(Verdict::Change(change))
}

/// Whether as many of the declared nodes stream as a commit is to wait for. On a standby the
/// names have no effect until it is promoted, and then they must be there at once.
fn enough(ctx: &Ctx) -> bool {
    let Some(server) = common::server(ctx) else { return false };
    if server.in_recovery {
        return true;
    }
    let slots: Vec<String> = ctx
        .inventory
        .nodes
        .keys()
        .filter_map(|n| Some(ctx.inventory.postgres_of(n)?.slot))
        .collect();
    let streaming = server
        .senders
        .iter()
        .filter(|s| s.state == "streaming" && slots.contains(&s.application_name))
        .count();
    streaming >= usize::try_from(ctx.inventory.replication.sync_standbys).unwrap_or(1).max(1)
}

//! `sync_standbys`: whom commits wait for.
//!
//! On the primary it is changed by the moves of [`sync_plan`](super::sync_plan), each of which leaves a
//! state that a failover can be built on. On a standby the names have no effect until it is promoted,
//! and then they must be there at once: they are only written. On a cluster that is being made there
//! are no standbys yet, and the first statement would wait for ever; so the names come last, when
//! enough of them stream. Once they are in force apply never takes them away because standbys are
//! missing: that is what they are there for.
//!
//! They stand in a file of their own, which `pgorch.conf` does not know: that one is rendered at once,
//! and these change one by one. Not in postgresql.auto.conf either, where a revocation has to win.

use std::collections::{BTreeMap, BTreeSet};

use super::common::{self, OS_USER};
use super::files::{self, Replace};
use super::sync_plan::{Move, Situation, moves};
use super::sync_script::{self as script, FILE, NAME};
use crate::facts::{DataDir, ServerFacts, SyncRecord};
use crate::inventory::{Inventory, NodeSettings, ReplicationMode, slot_name};
use crate::model::{Answer, Fragment, HostName, Resource, Script};
use crate::postgres::{Conf, SyncNames, publishes_sync_names, sql};
use crate::step::{Args, Change, Command, Ctx, Diff, Kind, Report, StepError, Verdict, no_files};

pub(super) const KIND: Kind = Kind {
    name: "sync_standbys",
    aliases: &[],
    summary: "have commits wait for the standbys that replication.mode wants, once enough of them stream.",
    free_form: None,
    args: &[],
    files: no_files,
    probe,
    diff,
};

/// Seconds until new names must be in force in every sender; a half-open one ends after
/// wal_sender_timeout.
const SETTLE_SECONDS: u64 = 10;

fn probe(_: &Args, ctx: &Ctx) -> Result<Vec<Fragment>, StepError> {
    let path = format!("{}/{FILE}", common::node(ctx)?.data_dir);
    let script = files::read(Script::new(), "file", &path);
    Ok(vec![Fragment::sh(script, vec![Resource::Path(path)])])
}

/// Whom commits on `host` are to wait for when it is the primary: any k of the nodes that stream from it,
/// by the application_name that `follow` gives them.
pub(super) fn names_on(inventory: &Inventory, host: &HostName) -> Result<SyncNames, String> {
    if inventory.replication.mode == ReplicationMode::Async {
        return Ok(SyncNames::none());
    }
    // The primary never hears a cascaded standby's acknowledgement.
    let direct = |(name, node): &(&HostName, &crate::inventory::Node)| {
        *name != host && node.follow.as_ref().is_none_or(|f| f == host)
    };
    let members = inventory.nodes.iter().filter(direct).map(|(name, _)| slot_name(name));
    let names = SyncNames::any(inventory.replication.sync_standbys.max(1), members);
    let count = names.members.len();
    match usize::try_from(names.k).is_ok_and(|k| k <= count) {
        true => Ok(names),
        false => Err(format!(
            "replication.sync_standbys is {}, and only {count} standbys stream from {host}",
            names.k
        )),
    }
}

/// The primary's server, as far as it was seen.
fn primary<'a>(ctx: &'a Ctx) -> Option<&'a ServerFacts> {
    ctx.snapshot.nodes.values().filter_map(|o| o.server()).find(|s| !s.in_recovery)
}

/// Whom commits on the primary wait for now.
fn running(ctx: &Ctx) -> SyncNames {
    let server = primary(ctx);
    let shown = server.and_then(|s| s.settings.get(NAME)).map(|s| s.value.as_str());
    shown.and_then(SyncNames::parse).unwrap_or_default()
}

/// Whether commits on the primary count on this standby.
pub(super) fn is_counted(ctx: &Ctx, slot: &str) -> bool {
    running(ctx).members.contains(slot)
}

/// Refuses what takes a standby away that commits cannot do without, with those that go `together` with
/// it.
pub(super) fn can_do_without(
    ctx: &Ctx,
    node: &NodeSettings,
    together: &[String],
) -> Result<(), StepError> {
    let Some(server) = primary(ctx) else { return Ok(()) };
    let names = running(ctx);
    let streams = |s: &&crate::facts::Sender| {
        s.state == "streaming" && names.members.contains(&s.application_name)
    };
    let there: BTreeSet<&str> =
        server.senders.iter().filter(streams).map(|s| s.application_name.as_str()).collect();
    let k = usize::try_from(names.k).unwrap_or(usize::MAX);
    let goes = |slot: &str| {
        slot == node.slot || together.iter().any(|n| slot_name(&HostName(n.clone())) == slot)
    };
    let going: Vec<&str> = there.iter().filter(|slot| goes(slot)).copied().collect();
    if !going.contains(&node.slot.as_str()) || there.len() - going.len() >= k {
        return Ok(());
    }
    let nodes = ctx.inventory.nodes.keys();
    let names: Vec<&str> = nodes
        .filter(|name| going.contains(&slot_name(name).as_str()))
        .map(HostName::as_str)
        .collect();
    let message = format!(
        "all writes would wait for {}: commits wait for {k} standbys, and {} stream",
        names.join(" and "),
        there.len()
    );
    Err(StepError::refuse(message)
        .hint("bring another standby back first, or lower replication.sync_standbys"))
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
    let in_file =
        current.as_ref().and_then(|f| Conf::parse(&f.text).parameters().shift_remove(NAME));
    let in_file = in_file.unwrap_or_default();
    let wanted = names_on(ctx.inventory, ctx.host);
    if common::is_standby(ctx) {
        let loaded = common::loaded_at(ctx);
        let owed = current.as_ref().is_some_and(|f| f.newer_than(loaded));
        return Ok(match wanted {
            // It matters when it is to be promoted, and is refused then.
            Err(why) => Verdict::Satisfied(Report { notices: vec![why], ..Report::default() }),
            Ok(wanted) if in_file == wanted.to_string() && !owed => Verdict::ok(),
            Ok(wanted) => on_standby(node, &wanted, in_file, loaded.is_some()),
        });
    }
    let wanted = wanted.map_err(StepError::refuse)?;
    let records = records(ctx);
    if wanted.is_none() && records.is_empty() && in_file.is_empty() {
        return Ok(Verdict::ok());
    }
    let Some(server) = common::server(ctx) else { return Ok(common::no_server(ctx)) };
    on_primary(ctx, node, server, wanted, records, &in_file)
}

/// What every voter that could be looked at has stored.
fn records(ctx: &Ctx) -> BTreeMap<HostName, SyncRecord> {
    let stored = |name: &HostName| common::seen(ctx, name)?.sync.clone();
    ctx.inventory.nodes.keys().filter_map(|n| Some((n.clone(), stored(n)?))).collect()
}

fn on_standby(node: &NodeSettings, wanted: &SyncNames, before: String, running: bool) -> Verdict {
    let complaints = "SELECT format('%s: %s', name, error) FROM pg_file_settings WHERE \
                      error IS NOT NULL AND sourcefile LIKE '%/pgorch.sync.conf'";
    let text = script::conf(wanted);
    let complaints = Some(complaints);
    let replace = Replace { node, name: FILE, text: &text, precheck: None, complaints, running };
    let path = format!("{}/{FILE}", node.data_dir);
    let mut change = Change {
        summary: format!("{NAME} = '{wanted}'"),
        diffs: vec![value(before, wanted)],
        commands: vec![Command::new(format!("write {path}"), replace.script()).user(OS_USER)],
        writes: vec![Resource::Path(path), Resource::Postgres],
        ..Change::default()
    };
    change.impact.reload = running;
    Verdict::Change(change)
}

fn value(before: String, after: &SyncNames) -> Diff {
    Diff::Value {
        name: NAME.into(),
        before: Some(before),
        after: Some(after.to_string()),
        note: Some("reload".into()),
    }
}

fn on_primary(
    ctx: &Ctx,
    node: &NodeSettings,
    server: &ServerFacts,
    wanted: SyncNames,
    records: BTreeMap<HostName, SyncRecord>,
    in_file: &str,
) -> Result<Verdict, StepError> {
    let setting = server.settings.get(NAME);
    let shown = setting.map_or("", |s| s.value.as_str());
    let source = setting.and_then(|s| s.source_file.clone()).unwrap_or_default();
    let reset = format!("{};", sql::reset_parameter(NAME));
    let Some(running) = SyncNames::parse(shown) else {
        return Err(StepError::refuse(format!("{NAME} = '{shown}' was not set by pgorch"))
            .hint(format!("take it away first, as in: {reset}")));
    };
    if source.ends_with("/postgresql.auto.conf") {
        return Err(StepError::refuse(format!(
            "{NAME} is set in postgresql.auto.conf, which wins"
        ))
        .hint(reset));
    }
    if !wanted.is_none() && !publishes_sync_names(server.version_num) {
        return Err(StepError::refuse(format!(
            "PostgreSQL {} may confirm the first commits after a start too early",
            server.version
        ))
        .hint("replication.mode: quorum needs 13.21, 14.18, 15.13, 16.9, 17.5 or later"));
    }
    let voters = ctx.inventory.nodes.keys().chain(ctx.inventory.witnesses.keys());
    let epoch_of = |name: &HostName| common::seen(ctx, name).map(|i| i.epoch.epoch);
    let present: Vec<HostName> =
        ctx.inventory.nodes.keys().filter(|n| epoch_of(n).is_some()).cloned().collect();
    let situation = Situation {
        primary: ctx.host.clone(),
        voters: voters.cloned().collect(),
        epoch: present.iter().filter_map(epoch_of).max().unwrap_or(0),
        present,
        records,
        running,
        streaming: streaming(ctx, server),
        wanted,
    };
    let (mut moves, wait) = moves(&situation);
    // A file that says something else than what is in force would be read at the next start.
    let own = situation.records.get(ctx.host);
    if moves.is_empty()
        && in_file != situation.running.to_string()
        && let Some(own) = own
    {
        moves.push(Move::Set { names: situation.running.clone(), record: own.into() });
    }
    let report = Report { notices: wait.into_iter().collect(), ..Report::default() };
    if moves.is_empty() {
        return Ok(Verdict::Satisfied(report));
    }
    Ok(Verdict::Change(change(ctx, node, &situation, &moves, report)))
}

/// Who streams through a slot of its own name. In a plan those count too that will be made.
fn streaming(ctx: &Ctx, server: &ServerFacts) -> BTreeSet<String> {
    let own = server.senders.iter().filter(|s| {
        let same = |o: &&crate::facts::Sender| o.application_name == s.application_name;
        let alone = server.senders.iter().filter(same).count() == 1;
        s.state == "streaming" && s.slot.as_ref() == Some(&s.application_name) && alone
    });
    let mut names: BTreeSet<String> = own.map(|s| s.application_name.clone()).collect();
    let to_come = |name: &&HostName| {
        let dir = common::seen(ctx, name).map(|i| &i.data_dir);
        matches!(dir, Some(DataDir::Missing | DataDir::Empty))
    };
    if ctx.options.check {
        names.extend(ctx.inventory.nodes.keys().filter(to_come).map(slot_name));
    }
    names
}

fn change(
    ctx: &Ctx,
    node: &NodeSettings,
    situation: &Situation,
    moves: &[Move],
    report: Report,
) -> Change {
    let mut before = situation.running.to_string();
    let mut diffs = Vec::new();
    let mut commands = Vec::new();
    for one in moves {
        if let Move::Set { names, .. } = one {
            diffs.push(value(std::mem::replace(&mut before, names.to_string()), names));
        }
        commands.extend(self::commands(ctx, node, one));
    }
    let summary = match diffs.is_empty() {
        true => "record whom commits wait for".to_owned(),
        false => format!("{NAME} = '{before}'"),
    };
    let file = Resource::Path(format!("{}/{FILE}", node.data_dir));
    let mut change = Change {
        summary,
        commands,
        writes: vec![file, Resource::Path(node.home.clone()), Resource::Postgres],
        report,
        ..Change::default()
    };
    change.impact.reload = !diffs.is_empty();
    change.diffs = diffs;
    change
}

/// One move, on its host.
fn commands(ctx: &Ctx, node: &NodeSettings, one: &Move) -> Vec<Command> {
    let epoch_of = |host: &HostName| common::seen(ctx, host).map_or(0, |i| i.epoch.epoch);
    let locked = |host: &HostName, body: &Script| script::locked(&node.home, epoch_of(host), body);
    match one {
        Move::Record { on, record } => {
            let label = format!("record whom commits may be waiting for on {on}");
            let mut command = Command::new(label, locked(on, &script::record(record)));
            command.on = (on != ctx.host).then(|| on.clone());
            vec![command]
        }
        Move::Set { names, record } => {
            let body = script::must_have(record).then(&script::set(node, names, false));
            vec![Command::new(format!("{NAME} = '{names}'"), locked(ctx.host, &body))]
        }
        Move::Settle { names, first, record } => {
            let body = script::settle(node, names, SETTLE_SECONDS).then(&script::record(record));
            let label = "wait until it is in force, and strike off what was before";
            let settle = Command::new(label, locked(ctx.host, &body));
            // That commits wait at all is told by the checkpointer, which reads its files before that.
            let first = *first && !names.is_none();
            let checkpoint = common::sql("psql: CHECKPOINT", node, "postgres", "CHECKPOINT;\n");
            let checkpoint = first.then(|| checkpoint.deadline(3600));
            checkpoint.into_iter().chain([settle]).collect()
        }
    }
}

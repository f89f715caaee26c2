//! What a change of roles or upstreams leaves behind: slots that hold WAL for nobody, and the data
//! directory that a new copy took the place of.

use super::common;
use super::initdb::ASIDE;
use crate::facts::{Receiver, Slot};
use crate::inventory::NodeSettings;
use crate::model::{Answer, Fragment, HostName, Resource, Script};
use crate::postgres::sql;
use crate::step::{
    ArgKind, ArgSpec, Args, Change, Command, Ctx, Diff, Kind, Report, StepError, Verdict, data,
    no_files, no_probe,
};

pub(super) const SLOTS: Kind = Kind {
    name: "stray_slots",
    aliases: &[],
    summary: "drop physical slots that hold WAL for nobody: on this standby those of nodes that do not \
              follow it, on the other nodes this one's own, but for its upstream.",
    free_form: None,
    args: &[ArgSpec::new(
        "upstream",
        ArgKind::Str,
        "node that it follows; default the wanted one.",
    )],
    files: no_files,
    probe: no_probe,
    diff: slots,
};

pub(super) const DATA: Kind = Kind {
    name: "old_data",
    aliases: &[],
    summary: "data directories that \"basebackup: {existing: aside}\" has kept: report them with their \
              size, or remove them once the node streams.",
    free_form: None,
    args: &[ArgSpec::new("discard", ArgKind::Bool, "remove them; default false.")],
    files: no_files,
    probe: old_probe,
    diff: old_data,
};

fn slots(args: &Args, _: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    let node = common::own(ctx)?;
    let Some(server) = common::server(ctx) else { return Ok(common::no_server(ctx)) };
    if !server.in_recovery {
        return Err(StepError::refuse(format!("{} is no standby: its slots are in use", ctx.host)));
    }
    let upstream = common::upstream_of(ctx, args.str("upstream")?)?;
    let mut stray: Vec<(NodeSettings, String)> = Vec::new();
    for name in ctx.inventory.nodes.keys() {
        let other = common::settings_of(ctx, name)?;
        // A slot of its own is of no use on a node itself.
        let unused = name == ctx.host || !follows(ctx, name, node);
        if unused && holds(&server.slots, &other.slot) {
            stray.push((node.clone(), other.slot.clone()));
        }
        let there = common::seen(ctx, name).filter(|_| name != ctx.host && *name != upstream.name);
        let there = there.and_then(|i| i.server.as_ref());
        if there.is_some_and(|s| holds(&s.slots, &node.slot)) {
            stray.push((other, node.slot.clone()));
        }
    }
    if stray.is_empty() {
        return Ok(Verdict::ok());
    }
    let words: Vec<String> =
        stray.iter().map(|(on, slot)| format!("{slot} on {}", on.name)).collect();
    let commands = stray.iter().map(|(on, slot)| {
        let label = format!("psql: drop replication slot {slot}");
        // The statement leaves a slot alone that somebody uses.
        let command = common::sql(label, on, "postgres", &sql::drop_slot(slot));
        Command { on: Some(on.name.clone()), ..command }
    });
    let diffs = words.iter().map(|word| Diff::Value {
        name: format!("slot {word}"),
        before: Some("present".to_owned()),
        after: None,
        note: None,
    });
    Ok(Verdict::Change(Change {
        summary: format!("drop unused slots: {}", words.join(", ")),
        diffs: diffs.collect(),
        commands: commands.collect(),
        writes: vec![Resource::Postgres],
        ..Change::default()
    }))
}

fn holds(slots: &[Slot], name: &str) -> bool {
    slots.iter().any(|s| s.physical && s.name == name)
}

/// Whether `name` follows `node`: it is declared to, or it is seen to receive from it.
fn follows(ctx: &Ctx, name: &HostName, node: &NodeSettings) -> bool {
    let declared = ctx.inventory.nodes.get(name).and_then(|n| n.follow.as_ref());
    let receives = |r: &Receiver| r.sender_host == node.address && r.sender_port == node.port;
    let server = common::seen(ctx, name).and_then(|i| i.server.as_ref());
    declared == Some(&node.name) || server.and_then(|s| s.receiver.as_ref()).is_some_and(receives)
}

fn old_probe(_: &Args, ctx: &Ctx) -> Result<Vec<Fragment>, StepError> {
    let node = common::node(ctx)?;
    let script = Script::new().set("old", &format!("{}{ASIDE}", node.data_dir)).line(
        "for d in \"$old\"[0-9]*; do\n\
         [ -d \"$d\" ] || continue\n\
         v=$(timeout 20 du -sk -- \"$d\") || v=0\n\
         printf '%s %s\\n' \"${v%%[!0-9]*}\" \"$d\"\n\
         done",
    );
    // Every directory that is put aside is written as the data directory.
    Ok(vec![Fragment::sh(script, vec![Resource::Path(node.data_dir.clone())])])
}

fn old_data(args: &Args, answers: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    let node = common::own(ctx)?;
    let text = answers.first().map(|a| a.stdout.as_str()).unwrap_or_default();
    let kept: Vec<(u64, &str)> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(kb, path)| Some((kb.parse().ok()?, path)))
        .collect();
    if kept.is_empty() {
        return Ok(Verdict::ok());
    }
    let size = |kb: u64| format!("{} MB", kb.saturating_mul(1024) / 1_000_000);
    if !args.bool("discard")?.unwrap_or(false) {
        let notices = kept.iter().map(|(kb, path)| {
            format!(
                "the old data is kept in {path} ({}); when nobody needs it: pgorch rejoin {} --discard-old",
                size(*kb),
                ctx.host
            )
        });
        let paths: Vec<&str> = kept.iter().map(|(_, path)| *path).collect();
        let data = data(&[("kept", paths.into())]);
        return Ok(Verdict::Satisfied(Report {
            notices: notices.collect(),
            data,
            ..Report::default()
        }));
    }
    let receiver = common::server(ctx).and_then(|s| s.receiver.as_ref());
    if receiver.is_none_or(|r| r.status != "streaming") {
        return Err(StepError::refuse(format!("{} does not stream yet", ctx.host))
            .hint("the old data may still be needed"));
    }
    let words: Vec<String> =
        kept.iter().map(|(kb, path)| format!("{path} ({})", size(*kb))).collect();
    let commands = kept.iter().map(|(_, path)| {
        Command::argv(&["rm", "-rf", "--one-file-system", "--", path]).deadline(3600)
    });
    let mut change = Change {
        summary: format!("remove {}", words.join(", ")),
        diffs: kept
            .iter()
            .map(|(kb, path)| Diff::Value {
                name: (*path).to_owned(),
                before: Some(size(*kb)),
                after: None,
                note: None,
            })
            .collect(),
        commands: commands.collect(),
        writes: vec![Resource::Path(node.data_dir.clone())],
        ..Change::default()
    };
    change.impact.destroys = Some(words.join(", "));
    Ok(Verdict::Change(change))
}

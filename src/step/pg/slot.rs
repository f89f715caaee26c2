//! `slot`: a physical replication slot on this host, usually delegated to a standby's upstream.

use super::{common, sync};
use crate::facts::ServerFacts;
use crate::inventory::NodeSettings;
use crate::model::{Answer, Resource};
use crate::postgres::sql;
use crate::step::{
    ArgKind, ArgSpec, Args, Change, Ctx, Diff, Kind, StepError, Verdict, data, no_files, no_probe,
};

pub(super) const KIND: Kind = Kind {
    name: "slot",
    aliases: &["postgresql_slot"],
    summary: "a physical replication slot; on another node with delegate_to.",
    free_form: Some("name"),
    args: &[
        ArgSpec::new(
            "name",
            ArgKind::Str,
            "Name of the slot, usually that of the node (node.slot).",
        )
        .required(),
        ArgSpec::new("state", ArgKind::Choice(&["present", "absent"]), "default present."),
    ],
    files: no_files,
    probe: no_probe,
    diff,
};

/// The server of the task's host. The task may be delegated, and then the facts at hand may be
/// those of the host that it is done for: what the snapshot says of this host comes first.
fn server<'a>(ctx: &'a Ctx) -> Option<&'a ServerFacts> {
    match common::seen(ctx, ctx.host) {
        Some(instance) => instance.server.as_ref(),
        None => common::server(ctx),
    }
}

fn diff(args: &Args, _: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    let name = args.need("name")?;
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.is_empty() || name.len() > 63 || !name.chars().all(valid) {
        return Err(StepError::new(format!("\"{name}\" is no name for a slot"))
            .hint("lower-case letters, digits and _, at most 63")
            .arg("name"));
    }
    let node = common::settings_of(ctx, ctx.host)?;
    if let Some(instance) = common::seen(ctx, ctx.host) {
        common::must_be_ours(&node, instance)?;
    }
    let Some(server) = server(ctx) else { return Ok(common::no_server(ctx)) };
    let slot = server.slots.iter().find(|s| s.name == name);
    let absent = args.str("state")?.as_deref() == Some("absent");
    match slot {
        None if absent => Ok(Verdict::ok()),
        None => Ok(change(ctx, &node, &name, &sql::create_slot(&name), (None, Some("present")))),
        Some(slot) if !slot.physical => {
            Err(StepError::refuse(format!("the slot {name} on {} is a logical one", ctx.host)))
        }
        Some(slot) if absent && slot.active => Err(StepError::refuse(format!(
            "the slot {name} on {} is in use: a standby streams through it",
            ctx.host
        ))),
        Some(_) if absent && !ctx.options.check && sync::is_counted(ctx, &name) => {
            Err(StepError::refuse(format!("commits may be waiting for {name}"))
                .hint("pgorch apply takes it off first, when enough other standbys stream"))
        }
        Some(_) if absent => {
            Ok(change(ctx, &node, &name, &sql::drop_slot(&name), (Some("present"), None)))
        }
        // `lost`: the WAL that the standby needs is gone, the slot can never be used again.
        Some(slot) if slot.wal_status.as_deref() == Some("lost") => {
            let mut verdict = change(
                ctx,
                &node,
                &name,
                &sql::create_slot(&name),
                (Some("lost"), Some("present")),
            );
            if let Verdict::Change(change) = &mut verdict {
                let drop =
                    common::sql("drop the lost slot", &node, "postgres", &sql::drop_slot(&name));
                change.commands.insert(0, drop);
                let notice = format!(
                    "slot {name} on {} was lost: its standby may need a new clone",
                    ctx.host
                );
                change.report.notices.push(notice);
            }
            Ok(verdict)
        }
        Some(_) => Ok(Verdict::with_data(data(&[("slot", name.into())]))),
    }
}

fn change(
    ctx: &Ctx,
    node: &NodeSettings,
    name: &str,
    statement: &str,
    (before, after): (Option<&str>, Option<&str>),
) -> Verdict {
    let verb = if after.is_some() { "create" } else { "drop" };
    let label = format!("psql: {verb} replication slot {name}");
    Verdict::Change(Change {
        summary: format!("{verb} slot {name} on {}", ctx.host),
        diffs: vec![Diff::Value {
            name: format!("slot {name} on {}", ctx.host),
            before: before.map(str::to_owned),
            after: after.map(str::to_owned),
            note: None,
        }],
        commands: vec![common::sql(label, node, "postgres", statement)],
        writes: vec![Resource::Postgres],
        ..Change::default()
    })
}

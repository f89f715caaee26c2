//! `others_streaming`: whether a standby may be taken down for a moment.

use super::common;
use crate::facts::Observation;
use crate::inventory::ReplicationMode;
use crate::model::{Answer, HostName, Script, quote};
use crate::step::{
    ArgKind, ArgSpec, Args, Change, Command, Ctx, Kind, Report, StepError, Verdict, no_files,
    no_probe,
};

pub(super) const KIND: Kind = Kind {
    name: "others_streaming",
    aliases: &[],
    summary: "wait until all other standbys stream; refuses where one cannot, unless --limit leaves it out.",
    free_form: None,
    args: &[ArgSpec::new("timeout", ArgKind::Int, "seconds; default 60.")],
    files: no_files,
    probe: no_probe,
    diff,
};

fn diff(args: &Args, _: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    let seconds = args.int("timeout")?.unwrap_or(60).clamp(1, 3600);
    let others = ctx.inventory.nodes.keys().filter(|n| *n != ctx.host && ctx.primary != Some(*n));
    let left = others.clone().filter(|name| streams(ctx, name).is_ok()).count();
    let needed = usize::try_from(ctx.inventory.replication.sync_standbys).unwrap_or(usize::MAX);
    let meanwhile = match (ctx.inventory.replication.mode, left) {
        (ReplicationMode::Quorum, left) if left < needed => "commits wait for it".to_owned(),
        (_, 0) => "no standby has what the primary commits".to_owned(),
        (_, left) => format!("{left} of the standbys have what the primary commits"),
    };
    let mut report = Report::default();
    let mut commands = Vec::new();
    for name in others {
        let Err(lack) = streams(ctx, name) else { continue };
        let alone = format!("{name} {lack}: while {} is down, {meanwhile}", ctx.host);
        if ctx.options.left_out.contains(name) {
            report.notices.push(format!("{alone}; --limit says that this is meant"));
        } else if lack.passes && !ctx.options.check {
            commands.push(until_streaming(ctx, name, u64::try_from(seconds).unwrap_or(60))?);
        } else {
            let hint = format!("bring {name} back, or leave it out with: --limit 'all:!{name}'");
            return Err(StepError::refuse(alone).hint(hint));
        }
    }
    if commands.is_empty() {
        return Ok(Verdict::Satisfied(report));
    }
    Ok(Verdict::Wait(Change {
        summary: "until the other standbys stream".to_owned(),
        commands,
        report,
        ..Change::default()
    }))
}

/// What a standby lacks.
struct Lack {
    words: &'static str,
    /// It may have it in a moment: a receiver that lost its upstream asks again within seconds.
    passes: bool,
}

impl std::fmt::Display for Lack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.words)
    }
}

fn streams(ctx: &Ctx, name: &HostName) -> Result<(), Lack> {
    let lack = |words, passes| Err(Lack { words, passes });
    let server = match ctx.snapshot.nodes.get(name) {
        None | Some(Observation::Unknown { .. }) => return lack("cannot be reached", false),
        Some(seen) => match seen.server() {
            None => return lack("does not run", false),
            Some(server) => server,
        },
    };
    if !server.in_recovery {
        return lack("is out of recovery and not the primary", false);
    }
    match server.receiver.as_ref().is_some_and(|r| r.status == "streaming") {
        true => Ok(()),
        false => lack("does not stream", true),
    }
}

/// Asks the other node's server until it streams.
fn until_streaming(ctx: &Ctx, name: &HostName, seconds: u64) -> Result<Command, StepError> {
    let node = common::settings_of(ctx, name)?;
    let psql = format!("runuser -u {} -- env {}", common::OS_USER, common::psql(&node, "postgres"));
    let query = quote("SELECT 1 FROM pg_stat_wal_receiver WHERE status = 'streaming'");
    let script = Script::raw("(\nexec </dev/null\ncd /")
        .line(&format!("end=$(($(date +%s) + {seconds}))"))
        .line(&format!("until [ -n \"$(printf '%s\\n' {query} | {psql} 2>/dev/null)\" ]; do"))
        .line("if [ \"$(date +%s)\" -ge \"$end\" ]; then")
        .line(&format!("echo \"{name} does not stream after {seconds} s\" >&2; exit 1; fi"))
        .line("sleep 0.2\ndone\n)");
    let mut command =
        Command::new(format!("wait until {name} streams"), script).deadline(seconds + 30);
    command.on = Some(name.clone());
    Ok(command)
}

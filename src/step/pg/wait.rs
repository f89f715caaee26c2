//! `wait_streaming` and `wait_replay`: standbys that have caught up enough to go on.

use super::common;
use crate::inventory::NodeSettings;
use crate::model::{Answer, Lsn, Script, quote};
use crate::postgres::literal;
use crate::step::{
    ArgKind, ArgSpec, Args, Change, Command, Ctx, Kind, Progress, StepError, Verdict, data,
    no_files, no_probe,
};

const TIMEOUT: ArgSpec = ArgSpec::new("timeout", ArgKind::Int, "seconds; default 300.");

/// How long after its start a standby is expected to be behind for want of time.
const JUST_STARTED_SECONDS: f64 = 30.0;

pub(super) const STREAMING: Kind = Kind {
    name: "wait_streaming",
    aliases: &[],
    summary: "wait until this standby streams from its wanted upstream.",
    free_form: None,
    args: &[
        TIMEOUT,
        ArgSpec::new("upstream", ArgKind::Str, "node to stream from; default the wanted upstream."),
    ],
    files: no_files,
    probe: no_probe,
    diff: streaming,
};

pub(super) const REPLAY: Kind = Kind {
    name: "wait_replay",
    aliases: &[],
    summary: "wait until this standby has replayed up to a position.",
    free_form: Some("lsn"),
    args: &[
        TIMEOUT,
        ArgSpec::new("lsn", ArgKind::Str, "position; default the primary's as last seen."),
    ],
    files: no_files,
    probe: no_probe,
    diff: replay,
};

fn streaming(args: &Args, _: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    let node = common::node(ctx)?;
    let Some(server) = common::server(ctx) else { return Ok(common::no_server(ctx)) };
    if !server.in_recovery {
        return Err(StepError::refuse(format!(
            "{} is out of recovery: it streams from nobody",
            ctx.host
        )));
    }
    let upstream = common::upstream_of(ctx, args.str("upstream")?)?;
    let streams = server.receiver.as_ref().is_some_and(|r| {
        r.status == "streaming"
            && r.sender_host == upstream.address
            && r.sender_port == upstream.port
    });
    // A receiver begins at a segment's start. One that has just come up should be where its
    // upstream is before the next node's turn; one that has been there may lag.
    let upstream_lsn = common::seen(ctx, &upstream.name).and_then(|i| i.server.as_ref()?.lsn);
    let caught_up = server.lsn.zip(upstream_lsn).is_none_or(|(own, wanted)| own >= wanted);
    if streams && (caught_up || server.up_seconds > JUST_STARTED_SECONDS) {
        return Ok(Verdict::with_data(data(&[("upstream", upstream.name.0.into())])));
    }
    let condition = format!(
        "SELECT 1 FROM pg_stat_wal_receiver WHERE status = 'streaming' AND sender_host = {} \
         AND sender_port = {} AND pg_last_wal_receive_lsn() >= latest_end_lsn",
        literal(&upstream.address),
        upstream.port
    );
    let state = "SELECT coalesce((SELECT format('receiver %s, from %s:%s, at %s', status, \
                 sender_host, sender_port, latest_end_lsn) FROM pg_stat_wal_receiver), \
                 'no receiver, replayed to ' || coalesce(pg_last_wal_replay_lsn()::text, 'nothing'))";
    let what = format!("{} streams from {}", ctx.host, upstream.name);
    wait(args, node, &what, &condition, state)
}

fn replay(args: &Args, _: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    let node = common::node(ctx)?;
    let Some(server) = common::server(ctx) else { return Ok(common::no_server(ctx)) };
    let target = match args.str("lsn")? {
        Some(text) => text.parse::<Lsn>().map_err(|e| StepError::new(e.to_string()).arg("lsn"))?,
        None => ctx
            .primary
            .and_then(|p| common::seen(ctx, p)?.server.as_ref()?.lsn)
            .ok_or_else(|| StepError::new("the primary's position is not known").arg("lsn"))?,
    };
    if !server.in_recovery {
        return Err(StepError::refuse(format!(
            "{} is out of recovery: it replays nothing",
            ctx.host
        )));
    }
    if server.replay_lsn.is_some_and(|lsn| lsn >= target) {
        return Ok(Verdict::with_data(data(&[("lsn", target.to_string().into())])));
    }
    let condition = format!(
        "SELECT 1 WHERE pg_last_wal_replay_lsn() >= {}::pg_lsn",
        literal(&target.to_string())
    );
    let state = "SELECT 'replayed to ' || coalesce(pg_last_wal_replay_lsn()::text, 'nothing')";
    wait(args, node, &format!("{} has replayed to {target}", ctx.host), &condition, state)
}

/// A loop on the host that asks the server five times a second until the condition gives a row. Where
/// it runs out of time, what the server said last and the end of its log are the error.
fn wait(
    args: &Args,
    node: &NodeSettings,
    what: &str,
    condition: &str,
    state: &str,
) -> Result<Verdict, StepError> {
    let seconds =
        u64::try_from(args.int("timeout")?.unwrap_or(300).clamp(1, 86_400)).unwrap_or(300);
    let psql = format!("runuser -u {} -- env {}", common::OS_USER, common::psql(node, "postgres"));
    let script = Script::raw("(\nexec </dev/null\ncd /")
        .set("condition", condition)
        .set("state", state)
        .line(
            "was=; end=$(($(date +%s) + TIMEOUT))"
                .replace("TIMEOUT", &seconds.to_string())
                .as_str(),
        )
        .line("while :; do")
        .line(&format!(
            "if [ -n \"$(printf '%s\\n' \"$condition\" | {psql} 2>/dev/null)\" ]; then exit 0; fi"
        ))
        .line(&format!("now=$(printf '%s\\n' \"$state\" | {psql} 2>&1)"))
        .line("if [ \"$now\" != \"$was\" ]; then printf '%s\\n' \"$now\"; was=$now; fi")
        .line("[ \"$(date +%s)\" -lt \"$end\" ] || break\nsleep 0.2\ndone")
        .line(&format!(
            "printf '%s\\n' {} \"$was\" >&2",
            quote(&format!("not within {seconds} s: {what}"))
        ))
        .line(&format!(
            "journalctl --no-pager -q -o cat -n 20 -u {} 2>/dev/null >&2",
            quote(&node.service)
        ))
        .line("exit 1\n)");
    let command = Command::new(format!("wait until {what}"), script)
        .deadline(seconds + 30)
        .progress(Progress::LastLine);
    Ok(Verdict::Wait(Change {
        summary: format!("until {what}"),
        commands: vec![command],
        writes: vec![crate::model::Resource::Postgres],
        ..Change::default()
    }))
}

//! `start`, `stop`, `restart`, `reload`: the node's unit, with the preconditions of a database.

use super::parameters::pending_notice;
use super::{common, files, guard, sync, watched};
use crate::facts::{DataDir, InstanceFacts};
use crate::inventory::NodeSettings;
use crate::model::{Answer, Resource, Script, quote};
use crate::step::{
    ArgKind, ArgSpec, Args, Change, Command, Ctx, Diff, InPlace, Kind, Report, StepError, Verdict,
    data, no_files, no_probe,
};

const TIMEOUT: ArgSpec =
    ArgSpec::new("timeout", ArgKind::Int, "seconds until the server must be ready; default 600.");

/// Seconds for a restart of a primary with a guard: a clean stop and a clean start.
const GUARDED_RESTART: i64 = 120;

pub(super) const START: Kind = Kind {
    name: "start",
    aliases: &[],
    summary: "start and enable the node's unit; refuses what would be a second primary.",
    free_form: None,
    args: &[TIMEOUT, ArgSpec::new("enabled", ArgKind::Bool, "start at boot; default true.")],
    files: no_files,
    probe: no_probe,
    diff: start,
};

pub(super) const RESTART: Kind = Kind {
    name: "restart",
    aliases: &[],
    summary: "restart the server if it owes one and --restart allows it; else report the debt.",
    free_form: None,
    args: &[
        TIMEOUT,
        ArgSpec::new("force", ArgKind::Bool, "also without a debt; --restart is still needed."),
        ArgSpec::new(
            "allowed",
            ArgKind::Bool,
            "restarting is what the playbook is for: --restart is not needed, a yes is.",
        ),
    ],
    files: no_files,
    probe: no_probe,
    diff: restart,
};

pub(super) const RESTART_DUE: Kind = Kind {
    name: "restart_due",
    aliases: &[],
    summary: "whether the server owes a restart, and why; changes nothing.",
    free_form: None,
    args: &[ArgSpec::new("force", ArgKind::Bool, "it is due whatever the server owes.")],
    files: no_files,
    probe: no_probe,
    diff: restart_due,
};

pub(super) const STOP: Kind = Kind {
    name: "stop",
    aliases: &[],
    summary: "stop the server; the primary only if it is said that it is meant",
    free_form: None,
    args: &[
        TIMEOUT,
        ArgSpec::new("primary", ArgKind::Bool, "this may be the running primary; default false"),
        ArgSpec::new(
            "role",
            ArgKind::Choice(&["primary", "standby"]),
            "only what has this role now; default both",
        ),
        ArgSpec::new(
            "together",
            ArgKind::StrList,
            "the nodes that are stopped in one go: what commits can do without is judged for all of them.",
        ),
    ],
    files: no_files,
    probe: no_probe,
    diff: stop,
};

pub(super) const RELOAD: Kind = Kind {
    name: "reload",
    aliases: &[],
    summary: "have the server read its configuration again, and wait until it has",
    free_form: None,
    args: &[],
    files: no_files,
    probe: no_probe,
    diff: |_, _, ctx| {
        let node = common::own(ctx)?;
        if common::server(ctx).is_none() {
            return Ok(common::no_server(ctx));
        }
        let script =
            Script::raw("(\nexec </dev/null\nset -eu\ncd /").then(&files::reload(node)).line(")");
        let mut change = Change {
            summary: "reload".into(),
            commands: vec![
                Command::new("psql: SELECT pg_reload_conf()", script).user(common::OS_USER),
            ],
            writes: vec![Resource::Postgres],
            ..Change::default()
        };
        change.impact.reload = true;
        Ok(Verdict::Change(change))
    },
};

fn stop(args: &Args, _: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    let node = common::own(ctx)?;
    let Some(instance) = common::instance(ctx) else {
        return Ok(Verdict::NotYet(format!("{} has not been looked at", ctx.host)));
    };
    let down = matches!(instance.unit.active_state.as_str(), "inactive" | "failed" | "");
    if instance.postmaster_pid.is_none() && down {
        return Ok(Verdict::ok());
    }
    if down {
        return Err(StepError::refuse(format!(
            "a server that the unit {} did not start runs on {}",
            node.service, node.data_dir
        )));
    }
    let primary =
        instance.server.as_ref().map_or(ctx.primary == Some(ctx.host), |s| !s.in_recovery);
    let role = if primary { "primary" } else { "standby" };
    if args.str("role")?.is_some_and(|wanted| wanted != role) {
        return Ok(Verdict::ok());
    }
    if primary && !args.bool("primary")?.unwrap_or(false) {
        return Err(StepError::refuse(format!("{} is the running primary", ctx.host)).hint(
            "pgorch stop --primary (\"primary: true\") says that it is meant; pgorch switchover moves it",
        ));
    }
    if primary {
        watched::may_stop(ctx)?;
    }
    let together = args.str_list("together")?;
    // With the primary nobody is left to wait.
    let with_primary = match together.as_slice() {
        [] => args.bool("primary")?.unwrap_or(false),
        some => ctx.snapshot.nodes.iter().any(|(name, seen)| {
            some.contains(&name.0) && seen.server().is_some_and(|s| !s.in_recovery)
        }),
    };
    if !primary && !with_primary {
        sync::can_do_without(ctx, node, &together)?;
    }
    let seconds = seconds(args, 600)?;
    let mut change = Change {
        summary: format!("{}: stopped", node.service),
        diffs: vec![Diff::Value {
            name: node.service.clone(),
            before: Some("running".into()),
            after: Some("stopped".into()),
            note: None,
        }],
        commands: vec![systemctl("stop", node, None, seconds)],
        writes: vec![Resource::Units, Resource::Postgres, Resource::Path(node.data_dir.clone())],
        ..Change::default()
    };
    change.impact.role_change = Some(format!("the {role} {} is stopped", ctx.host));
    Ok(Verdict::Change(change))
}

fn start(args: &Args, _: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    let node = common::own(ctx)?;
    let Some(instance) = common::instance(ctx) else {
        return Ok(Verdict::NotYet(format!("{} has not been looked at", ctx.host)));
    };
    let DataDir::Cluster(dir) = &instance.data_dir else {
        return Ok(Verdict::NotYet(format!("{} is not a database cluster yet", node.data_dir)));
    };
    let enable = args.bool("enabled")?.unwrap_or(true) && instance.unit.file_state != "enabled";
    let running = instance.postmaster_pid.is_some() && instance.unit.active_state == "active";
    if running && !enable {
        return Ok(Verdict::ok());
    }
    match instance.unit.load_state.as_str() {
        "masked" => {
            return Err(StepError::refuse(format!("the unit {} is masked", node.service))
                .hint("it was fenced or masked by hand: pgorch status, then pgorch rejoin"));
        }
        "not-found" | "" => {
            return Ok(Verdict::NotYet(format!("the unit {} is not there yet", node.service)));
        }
        _ => {}
    }
    if !running {
        if let Some(text) = &instance.fenced {
            return Err(StepError::refuse(format!("{} is fenced: {text}", ctx.host)).hint(
                format!("another node has, or was to have, its place: pgorch rejoin {}", ctx.host),
            ));
        }
        if instance.postmaster_pid.is_some() {
            return Err(StepError::refuse(format!(
                "a server that the unit {} did not start runs on {}",
                node.service, node.data_dir
            ))
            .hint("stop it, then apply starts it through the unit"));
        }
        if !dir.standby_signal {
            only_primary(ctx, node)?;
        }
    }
    let seconds = seconds(args, 600)?;
    let in_place = in_place(ctx, "start", instance, !dir.standby_signal, seconds);
    let mut change = command(node, (enable, running), seconds, in_place);
    change.impact.restart = false;
    Ok(Verdict::Change(change))
}

/// Without standby.signal the server comes up writable. That is right on the one node that is the
/// primary, and a split brain anywhere else.
fn only_primary(ctx: &Ctx, node: &NodeSettings) -> Result<(), StepError> {
    if ctx.primary != Some(ctx.host) {
        return Err(StepError::refuse(format!(
            "{} would come up writable, and it is not the primary",
            ctx.host
        ))
        .hint(format!("bring it back as a standby with: pgorch rejoin {}", node.name)));
    }
    for (name, seen) in ctx.snapshot.nodes.iter().filter(|(name, _)| *name != ctx.host) {
        if seen.server().is_some_and(|s| !s.in_recovery) {
            return Err(StepError::refuse(format!("{name} is out of recovery: it is the primary")));
        }
    }
    Ok(())
}

/// What has to be claimed before the primary is started or restarted, if anything.
fn in_place(
    ctx: &Ctx,
    kind: &'static str,
    instance: &InstanceFacts,
    writable: bool,
    seconds: u64,
) -> Option<InPlace> {
    let guarded = instance.guarded && ctx.node.is_some_and(|node| node.guard.is_some());
    let wanted = writable && (guarded || watched::owner(ctx).is_some());
    wanted.then_some(InPlace { kind, seconds, guarded })
}

fn seconds(args: &Args, default: i64) -> Result<u64, StepError> {
    let seconds = args.int("timeout")?.unwrap_or(default).clamp(1, 86_400);
    Ok(u64::try_from(seconds).unwrap_or(1))
}

fn command(
    node: &NodeSettings,
    (enable, running): (bool, bool),
    seconds: u64,
    in_place: Option<InPlace>,
) -> Change {
    let unit = &node.service;
    let mut commands = Vec::new();
    let mut words = Vec::new();
    if enable {
        commands.push(Command::argv(&["systemctl", "enable", "--quiet", unit]));
        words.push("enabled");
    }
    if !running {
        commands.push(systemctl("start", node, in_place, seconds));
        words.push("started");
    }
    let before = if running { "running, not enabled" } else { "stopped" };
    Change {
        summary: format!("{unit}: {}", words.join(" and ")),
        diffs: vec![Diff::Value {
            name: unit.clone(),
            before: Some(before.into()),
            after: Some(words.join(", ")),
            note: None,
        }],
        commands,
        writes: vec![Resource::Units, Resource::Postgres, Resource::Path(node.data_dir.clone())],
        in_place: in_place.filter(|_| !running),
        ..Change::default()
    }
}

/// `systemctl VERB UNIT`, with the grant that a guarded node needs where the server comes up writable;
/// where it fails, with the unit's state and the end of its journal, which
/// is PostgreSQL's log. `--no-block` and a loop of our own: the unit may take as long as recovery
/// takes, our patience is the task's.
fn systemctl(verb: &str, node: &NodeSettings, in_place: Option<InPlace>, seconds: u64) -> Command {
    let unit = quote(&node.service);
    let guard = node.guard.as_ref().filter(|_| in_place.is_some_and(|p| p.guarded));
    let mut script = Script::raw("(\nexec </dev/null\nset -u")
        .line(&format!("systemctl reset-failed {unit} 2>/dev/null || :"))
        .line("since=$(date '+%Y-%m-%d %H:%M:%S')");
    let mut run = format!("timeout {seconds} systemctl {verb} {unit}");
    if guard.is_some() {
        // One start uses a grant up, so a restart gives it after the stop.
        if verb == "restart" {
            script = script.line(&format!("timeout {seconds} systemctl stop {unit} || exit 1"));
            run = format!("timeout {seconds} systemctl start {unit}");
        }
        script = script.then(&guard::grant());
    }
    let done = guard.map(guard::shorten).unwrap_or_default();
    let script = script
        .line(&format!("if {run}; then"))
        .then(&done)
        .line("exit 0\nfi")
        .line(&format!("echo \"systemctl {verb} {unit} failed or took more than {seconds} s\" >&2"))
        .line(&format!("systemctl --no-pager --full --lines=0 status {unit} 2>&1 | head -n 12 >&2"))
        .line(&format!("journalctl --no-pager -q -o cat -u {unit} --since \"$since\" 2>/dev/null | tail -n 30 >&2"))
        .line("exit 1\n)");
    Command::new(format!("systemctl {verb} {}", node.service), script).deadline(seconds + 30)
}

fn restart(args: &Args, _: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    let node = common::own(ctx)?;
    let Some(instance) = common::instance(ctx) else {
        return Ok(Verdict::NotYet(format!("{} has not been looked at", ctx.host)));
    };
    let mut debts = debts(instance);
    if debts.is_empty() && args.bool("force")?.unwrap_or(false) {
        // systemctl restart starts what is stopped, and that is another question.
        if instance.postmaster_pid.is_none() {
            return Err(StepError::refuse(format!("{} does not run", ctx.host))
                .hint(format!("pgorch start {}", ctx.host)));
        }
        debts.push("asked for".to_owned());
    }
    if debts.is_empty() {
        return Ok(Verdict::with_data(data(&[("pending", false.into())])));
    }
    let text = debts.join("; ");
    if !ctx.options.restart && !args.bool("allowed")?.unwrap_or(false) {
        let notices = vec![text];
        let data = data(&[("pending", true.into())]);
        return Ok(Verdict::Satisfied(Report { data, notices, ..Report::default() }));
    }
    let writable = instance.server.as_ref().is_some_and(|s| !s.in_recovery);
    // While it lasts nobody may replace a primary whose host is lost in the middle.
    let patience = if writable && instance.guarded { GUARDED_RESTART } else { 600 };
    let seconds = seconds(args, patience)?;
    let in_place = in_place(ctx, "restart", instance, writable, seconds);
    let mut change = Change {
        summary: format!("restart for {text}"),
        diffs: vec![Diff::Value {
            name: node.service.clone(),
            before: Some(text),
            after: Some("restarted".into()),
            note: Some("restart".into()),
        }],
        commands: vec![systemctl("restart", node, in_place, seconds)],
        writes: vec![Resource::Units, Resource::Postgres, Resource::Path(node.data_dir.clone())],
        in_place,
        ..Change::default()
    };
    change.report.data = data(&[("pending", true.into())]);
    change.impact.restart = true;
    Ok(Verdict::Change(change))
}

fn restart_due(args: &Args, _: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    common::own(ctx)?;
    let Some(instance) = common::instance(ctx) else {
        return Ok(Verdict::NotYet(format!("{} has not been looked at", ctx.host)));
    };
    let mut debts = debts(instance);
    if debts.is_empty() && args.bool("force")?.unwrap_or(false) {
        debts.push("asked for".to_owned());
    }
    let why = debts.join("; ");
    let data = data(&[("needed", (!debts.is_empty()).into()), ("why", why.clone().into())]);
    let message = (!why.is_empty()).then(|| format!("due: {why}"));
    Ok(Verdict::Satisfied(Report { message, data, ..Report::default() }))
}

/// Why a running server should be restarted. Read from the node, never remembered.
fn debts(instance: &InstanceFacts) -> Vec<String> {
    let Some(server) = &instance.server else { return Vec::new() };
    let mut debts: Vec<String> = pending_notice(server).into_iter().collect();
    debts.extend(binaries_owed(instance));
    debts
}

/// What newer binaries wait for a restart, in words.
pub(super) fn binaries_owed(instance: &InstanceFacts) -> Option<String> {
    let server = instance.server.as_ref().filter(|_| instance.owes_new_binaries())?;
    let installed = instance.binary_version.as_deref().unwrap_or_default();
    Some(match installed == server.version {
        true => format!("the binaries of {installed} were replaced since the server started"),
        false => {
            format!("the installed binaries are {installed}, the server runs {}", server.version)
        }
    })
}

//! `guard`: what stops a primary that has lost its lease and its standbys, enabled or taken away as
//! `failover.mode` says.

use super::{common, watched};
use crate::inventory::{GuardSettings, NodeSettings, guard_paths};
use crate::model::{Answer, Fragment, Resource, Script};
use crate::step::{Args, Change, Command, Ctx, Diff, Kind, StepError, Verdict, no_files};

pub(super) const KIND: Kind = Kind {
    name: "guard",
    aliases: &[],
    summary: "enable the node's guard with \"failover: {mode: automatic}\", else take it away; on the \
              primary only while enough standbys stream from it.",
    free_form: None,
    args: &[],
    files: no_files,
    probe,
    diff,
};

fn probe(_: &Args, ctx: &Ctx) -> Result<Vec<Fragment>, StepError> {
    let paths = guard_paths(&common::node(ctx)?.service);
    let script = Script::new()
        .set("enabled", &paths.enabled)
        .set("unit", &paths.unit)
        .line("[ ! -e \"$enabled\" ] || echo enabled")
        .line("[ ! -e \"/etc/systemd/system/$unit.timer\" ] || echo there")
        .line("systemctl is-active -q -- \"$unit.timer\" && echo active")
        .line("systemctl is-enabled -q -- \"$unit.timer\" 2>/dev/null && echo at_boot")
        .line("systemctl show -p NeedDaemonReload --value -- \"$unit.timer\" \"$unit.service\"")
        .line(":");
    Ok(vec![Fragment::sh(script, vec![Resource::Units, Resource::Path(paths.enabled)])])
}

fn diff(_: &Args, answers: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    let node = common::own(ctx)?;
    let Some(answer) = answers.first() else {
        return Err(StepError::new("the answer about the guard is missing"));
    };
    let has = |word: &str| answer.stdout.lines().any(|line| line == word);
    let Some(guard) = &node.guard else {
        if !has("enabled") && !has("there") {
            return Ok(Verdict::ok());
        }
        watched::may_change_guard(ctx)?;
        return Ok(remove(node));
    };
    let stale = has("yes");
    if has("enabled") && has("active") && has("at_boot") && !stale {
        return Ok(Verdict::ok());
    }
    if !has("there") {
        return Ok(Verdict::NotYet(format!("{} is not there yet", guard.script)));
    }
    let primary = ctx.primary == Some(ctx.host);
    if primary && !has("enabled") {
        let Some(server) = common::server(ctx) else { return Ok(common::no_server(ctx)) };
        let streams = |slot: &&String| {
            let by = |s: &&crate::facts::Sender| s.slot.as_ref() == Some(slot);
            server.senders.iter().filter(by).any(|s| s.state == "streaming")
        };
        let (have, need) = (guard.slots.iter().filter(streams).count(), guard.majority - 1);
        if have < need {
            return Err(StepError::refuse(format!(
                "{have} standbys stream from {}, and {need} are needed to keep it up",
                ctx.host
            ))
            .hint("bring the standbys back first: pgorch status"));
        }
    }
    // One whose guard is on already has what holds it up, and a watch may count on knowing all of that.
    Ok(enable(node, guard, primary && !has("enabled")))
}

fn enable(node: &NodeSettings, guard: &GuardSettings, first: bool) -> Verdict {
    let script = Script::raw("(\nexec </dev/null\nset -eu\numask 022")
        .set("enabled", &guard.enabled)
        .set("timer", &format!("{}.timer", guard.unit))
        .line("mkdir -p \"${enabled%/*}\"\nsystemctl daemon-reload")
        .line("echo 'The guard works while this file is there.' >\"$enabled\"\nsync \"$enabled\"");
    let script = if first { script.then(&lease(guard)) } else { script };
    let script =
        script.line("systemctl enable --quiet -- \"$timer\"\nsystemctl start -- \"$timer\"\n)");
    change(node, "enabled", script)
}

fn remove(node: &NodeSettings) -> Verdict {
    let paths = guard_paths(&node.service);
    let script = Script::raw("(\nexec </dev/null\nset -u")
        .set("enabled", &paths.enabled)
        .set("unit", &paths.unit)
        .set("script", &paths.script)
        .line("rm -f \"$enabled\" && systemctl disable --quiet --now -- \"$unit.timer\" || exit 1")
        .line("[ ! -e \"$script\" ] || /bin/sh \"$script\" disarm || exit 1")
        .line("cd /etc/systemd/system && rm -f \"$script\" \"$unit.timer\" \"$unit.service\"")
        .line("systemctl daemon-reload\n)");
    change(node, "taken away", script)
}

fn change(node: &NodeSettings, verb: &str, script: Script) -> Verdict {
    let paths = guard_paths(&node.service);
    let word = |there: bool| there.then(|| "enabled".to_owned());
    Verdict::Change(Change {
        summary: format!("{}: {verb}", paths.unit),
        diffs: vec![Diff::Value {
            name: paths.unit.clone(),
            before: word(verb != "enabled"),
            after: word(verb == "enabled"),
            note: None,
        }],
        commands: vec![Command::new(format!("{}: {verb}", paths.unit), script)],
        writes: vec![Resource::Units, Resource::Path(paths.enabled), Resource::Path(paths.script)],
        ..Change::default()
    })
}

/// Gives the running primary its first lease. Nobody has claimed that, and nobody has to: a watch waits for no
/// lease of a primary whose guard it has not seen at work.
fn lease(guard: &GuardSettings) -> Script {
    let seconds = guard.first_seconds.to_string();
    Script::argv(&["/bin/sh", &guard.script, "allow", "lease", &seconds])
}

/// Before a start of what comes up writable: the runner has claimed that for this change, and knows how the
/// grant is given ([`crate::step::InPlace`]).
pub(super) fn grant() -> Script {
    Script::new().line("said=$(pgorch_grant 2>&1) || :").line(
        "case $said in *uptime=*) ;; *) echo \"no grant for the start: $said\" >&2; exit 1 ;; esac",
    )
}

/// After it: the lease that came of the grant ends soon, unless somebody renews it.
pub(super) fn shorten(guard: &GuardSettings) -> Script {
    let shorten = format!("/bin/sh \"$guard\" shorten {} || exit 1", guard.first_seconds);
    Script::new().set("guard", &guard.script).line(&shorten)
}

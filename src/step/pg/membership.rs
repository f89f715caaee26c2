//! `guard_members`: who counts for a majority changes by one at a time, never while the primary is out of
//! sight, and, as the constants too, never under a watch that waits by what it knows of them. Else the old primary and a new one could each have a majority of another list
//! (failover review, amendment 15). The list in the guard's script is the one in force.

use std::collections::BTreeSet;

use super::{common, watched};
use crate::inventory::guard_paths;
use crate::model::{Answer, Fragment, Resource, Script};
use crate::step::{Args, Ctx, Kind, StepError, Verdict, no_files};

pub(super) const KIND: Kind = Kind {
    name: "guard_members",
    aliases: &[],
    summary: "refuse to change who votes by more than one node or witness at a time, while the primary \
              cannot be seen, or while a watch counts on it; looks only.",
    free_form: None,
    args: &[],
    files: no_files,
    probe,
    diff,
};

fn probe(_: &Args, ctx: &Ctx) -> Result<Vec<Fragment>, StepError> {
    let path = guard_paths(&common::node(ctx)?.service).script;
    let script = Script::new()
        .set("script", &path)
        .line("sed -n -e 's/^voters=//p' -e 's/^values=/values /p' \"$script\" 2>/dev/null || :");
    Ok(vec![Fragment::sh(script, vec![Resource::Path(path)])])
}

fn diff(_: &Args, answers: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    let node = common::node(ctx)?;
    let lines = || answers.iter().flat_map(|answer| answer.stdout.lines());
    let in_force = lines().find_map(in_force);
    let (Some(guard), Some((voters, slots))) = (&node.guard, in_force) else {
        return Ok(Verdict::ok());
    };
    let wanted: BTreeSet<&str> = guard.slots.iter().map(String::as_str).collect();
    let values = lines().find_map(|line| line.strip_prefix("values ")?.split(' ').next());
    let same_values = values.is_none_or(|values| values.trim_matches('\'') == guard.values);
    if !same_values {
        watched::may_change_guard(ctx)?;
    }
    if slots == wanted && voters == guard.voters {
        return Ok(Verdict::ok());
    }
    watched::may_change_guard(ctx)?;
    // Nodes that come or go, and witnesses, of whom only the number is known here.
    let nodes = slots.symmetric_difference(&wanted).count();
    let witnesses = (voters - slots.len().min(voters)).abs_diff(guard.voters - wanted.len());
    let list = |slots: &BTreeSet<&str>| slots.iter().copied().collect::<Vec<_>>().join(", ");
    // The number of votes stays odd, so a node comes or goes with a witness.
    if nodes > 1 || witnesses > 1 {
        return Err(StepError::refuse(format!(
            "the votes of {voters} ({} and itself) would become {} ({} and itself) at once",
            list(&slots),
            guard.voters,
            list(&wanted)
        ))
        .hint("add or remove one node, with a witness to keep the votes odd, and apply; then the next"));
    }
    let primary = ctx.primary.and_then(|name| common::seen(ctx, name));
    let writable = primary.and_then(|i| i.server.as_ref()).is_some_and(|s| !s.in_recovery);
    if !writable {
        return Err(StepError::refuse("the votes would change while the primary cannot be seen")
            .hint("bring the primary back first: pgorch status"));
    }
    Ok(Verdict::ok())
}

/// `VOTERS majority=N slots=WORDS`, as the script has it.
fn in_force(line: &str) -> Option<(usize, BTreeSet<&str>)> {
    let (voters, rest) = line.trim().split_once(" majority=")?;
    let slots = rest.split_once(" slots=")?.1.trim_matches('\'');
    Some((voters.parse().ok()?, slots.split(' ').filter(|s| !s.is_empty()).collect()))
}

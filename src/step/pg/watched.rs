//! What a watch would make of a change to the primary: it must not take it for a failure, and it must know
//! what holds the primary up.

use super::common;
use crate::facts::Pause;
use crate::step::{Ctx, StepError};

/// The watch that owns the cluster, as any node has it stored. One that was killed owns it still.
pub(super) fn owner<'a>(ctx: &'a Ctx) -> Option<&'a str> {
    ctx.snapshot.nodes.keys().find_map(|name| common::seen(ctx, name)?.owner.as_deref())
}

/// Refuses a stop of the primary that a watch would answer with a failover.
pub(super) fn may_stop(ctx: &Ctx) -> Result<(), StepError> {
    let Some(owner) = owner(ctx) else { return Ok(()) };
    let instances = || ctx.snapshot.nodes.keys().filter_map(|name| common::seen(ctx, name));
    // By the host's clock, which is this machine's within what pauses are given in.
    let wall = ctx.facts.map_or(0.0, |facts| facts.host.epoch_seconds);
    #[expect(clippy::cast_possible_truncation, reason = "milliseconds since 1970")]
    let wall = (wall * 1000.0) as i64;
    if Pause::in_force(instances().filter_map(|i| i.pause.as_ref()), wall).is_some() {
        return Ok(());
    }
    let text = format!("{owner} would take a stop of {} for its loss, and replace it", ctx.host);
    Err(StepError::refuse(text)
        .hint("pgorch pause --for 1h first; pgorch switchover moves the primary"))
}

/// Refuses a change to what a guard goes by: a watch waits by what it knows of that.
pub(super) fn may_change_guard(ctx: &Ctx) -> Result<(), StepError> {
    match owner(ctx) {
        None => Ok(()),
        Some(owner) => {
            let text = format!("{owner} counts on the guard of {} as it is", ctx.host);
            Err(StepError::refuse(text).hint(
                "stop the watch first, and start it again after this; of one that is gone: \
                 pgorch watch --take-over, then Ctrl-C",
            ))
        }
    }
}

//! `failover.mode: automatic`: its constants, and what a cluster needs for it.

use std::time::Duration;

use super::settings::{choice, duration, number_in};
use super::{FailoverSettings, Inventory};
use crate::model::{Hold, Profile, Timing};
use crate::syntax::lower::{Complaints, MapReader};
use crate::syntax::{Diagnostic, Node, NodeKind};

/// `failover.timing`: a profile's name, or a mapping of single values over one.
pub(super) fn timing(node: Option<&Node>, out: &mut Complaints) -> Timing {
    let Some(node) = node else { return Timing::default() };
    if !matches!(node.kind, NodeKind::Map(_)) {
        return Timing::profile(profile(Some(node), "timing", out), Hold::Watchdog);
    }
    let Some(mut map) = MapReader::new(node, "timing", out) else { return Timing::default() };
    let profile = profile(map.get("profile"), "profile", out);
    let hold = match choice(map.get("hold"), "hold", (&["watchdog", "timer"], &[]), out) {
        Some("timer") => Hold::Timer,
        _ => Hold::Watchdog,
    };
    let mut timing = Timing::profile(profile, hold);
    let times: [(&str, &mut Duration); 8] = [
        ("round", &mut timing.round),
        ("deadline", &mut timing.deadline),
        ("lease", &mut timing.lease),
        ("reply_timeout", &mut timing.reply_timeout),
        ("guard_period", &mut timing.guard_period),
        ("pass_limit", &mut timing.pass_limit),
        ("stop_bound", &mut timing.stop_bound),
        ("margin", &mut timing.margin),
    ];
    for (key, value) in times {
        if let Some(given) = duration(map.get(key), key, out) {
            *value = Duration::from_millis(given);
        }
    }
    let rate = number_in(map.get("clock_rate"), "clock_rate", (0, 100), out);
    if let Some(rate) = rate.and_then(|r| u32::try_from(r).ok()) {
        timing.clock_rate_percent = rate;
    }
    map.finish(out);
    if let Some(problem) = timing.problem() {
        out.push(Diagnostic::error(&node.span, problem));
    }
    timing
}

fn profile(node: Option<&Node>, key: &str, out: &mut Complaints) -> Profile {
    match choice(node, key, (&["fast", "calm"], &[]), out) {
        Some("calm") => Profile::Calm,
        _ => Profile::Fast,
    }
}

/// `failover.restart_in_place`: `never`, or how long a crashed server may take to come back by itself.
pub(super) fn restart_in_place(node: Option<&Node>, out: &mut Complaints) -> Option<Duration> {
    let node = node?;
    match node.as_str() {
        Some("never") => None,
        _ => duration(Some(node), "restart_in_place", out).map(Duration::from_millis),
    }
}

/// What must hold for a primary that is to stay up by a majority: an odd number of votes, enough
/// standbys that stream from it directly, and a slot for each, which says who acknowledges.
pub(super) fn possible(inventory: &Inventory, tree: &Node, out: &mut Complaints) {
    let FailoverSettings { automatic: true, .. } = inventory.failover else { return };
    let Some(mode) = tree.get("failover").and_then(|f| f.get("mode")) else { return };
    let mut complain = |message: String, hint: String| {
        out.push(Diagnostic::error(&mode.span, message).hint(hint));
    };
    let (voters, majority) = inventory.voters();
    if voters % 2 == 0 {
        complain(
            format!("\"mode: automatic\" needs an odd number of votes, and there are {voters}"),
            "add a node, or under \"witnesses\" any host with SSH".to_owned(),
        );
    }
    let primary = inventory.bootstrap_primary();
    let standbys = inventory.nodes.iter().filter(|(name, _)| Some(*name) != primary);
    let direct = standbys.filter(|(_, n)| n.follow.is_none() || n.follow.as_ref() == primary);
    let direct = direct.count();
    if direct + 1 < majority {
        complain(
            format!(
                "\"mode: automatic\" needs {} standbys that stream from the primary itself, and there are {direct}",
                majority - 1
            ),
            "a witness or a cascaded standby cannot acknowledge: add nodes, or take \"follow\" away"
                .to_owned(),
        );
    }
    if !inventory.replication.slots {
        complain(
            "\"mode: automatic\" needs replication slots".to_owned(),
            "a slot says which node acknowledges: take \"slots: false\" away".to_owned(),
        );
    }
}

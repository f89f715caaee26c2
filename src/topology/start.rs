//! Which node may be started as the primary where none runs.
//!
//! A server without standby.signal comes up writable. That is right on one node at most, and only
//! where nobody can have more than it has, so every declared node must have been seen.

use super::bootstrap::{
    Bootstrap, SHUTDOWN_RECORD, list, not_ours, refuse, several_primaries, with_primary,
};
use super::{Nodes, analyse};
use crate::facts::{ClusterDir, ControlData, DataDir, InstanceFacts, Snapshot};
use crate::inventory::Inventory;
use crate::model::{HostName, Lsn};

/// States of the control file in which a primary stopped or crashed (13 to 18). In all others the
/// node was a standby, and starting it without its signal would make a second history.
const PRIMARY_STATES: [&str; 4] =
    ["shut down", "in production", "shutting down", "in crash recovery"];

/// The node to start as the primary, or why none. `named` are the nodes that are to be started;
/// `None` is all of them, after a cold start of everything. No answer: none of those that are named
/// would come up writable, so there is nothing to decide.
#[must_use]
pub fn cold_start(
    inventory: &Inventory,
    snapshot: &Snapshot,
    named: Option<&[HostName]>,
) -> Option<Bootstrap> {
    let nodes = Nodes::new(inventory, snapshot);
    match analyse(inventory, snapshot).primaries.as_slice() {
        [] => {}
        [primary] => return Some(with_primary(&nodes, primary, &[])),
        several => return Some(several_primaries(&nodes, several)),
    }
    let asked = |name: &HostName| named.is_none_or(|named| named.contains(name));
    let writable: Vec<HostName> =
        nodes.settings.keys().filter(|n| comes_up_writable(&nodes, n)).cloned().collect();
    let wanted: Vec<HostName> = writable.iter().filter(|n| asked(n)).cloned().collect();
    if named.is_some() && wanted.is_empty() {
        return None;
    }
    Some(cannot_judge(&nodes).unwrap_or_else(|| one_of(&nodes, &wanted, named.is_none())))
}

/// Stopped, with data and without a signal that would keep it in recovery.
fn comes_up_writable(nodes: &Nodes<'_>, name: &HostName) -> bool {
    let Some(instance) = nodes.instance(name) else { return false };
    let idle = instance.server.is_none() && instance.postmaster_pid.is_none();
    idle && instance.cluster().is_some_and(|dir| !dir.standby_signal && !dir.recovery_signal)
}

/// What stands in the way whoever is to be started.
fn cannot_judge(nodes: &Nodes<'_>) -> Option<Bootstrap> {
    let names = || nodes.settings.keys();
    let unseen: Vec<HostName> = names().filter(|n| nodes.instance(n).is_none()).cloned().collect();
    if !unseen.is_empty() {
        return Some(refuse(
            "node_unreachable",
            format!("{} could not be looked at, and may be the primary", list(&unseen)),
            "make every node reachable, or take those that are gone out of the inventory"
                .to_owned(),
        ));
    }
    let instance = |name: &HostName| nodes.instance(name);
    let strange: Vec<HostName> = names()
        .filter(|n| instance(n).is_some_and(|i| i.cluster().is_some() && !i.made_by_pgorch()))
        .cloned()
        .collect();
    if !strange.is_empty() {
        return Some(not_ours(&strange));
    }
    let in_recovery = |dir: &ClusterDir| dir.standby_signal || dir.recovery_signal;
    let waking = names().find(|n| {
        instance(n).is_some_and(|i| {
            let silent = i.server.is_none() && i.postmaster_pid.is_some();
            silent && !i.cluster().is_some_and(in_recovery)
        })
    });
    waking.map(|name| {
        refuse(
            "no_primary",
            format!("the server on {name} runs and does not answer: it may be the primary"),
            "try again when it has started".to_owned(),
        )
    })
}

/// The one of these that is the primary of all.
fn one_of(nodes: &Nodes<'_>, wanted: &[HostName], all: bool) -> Bootstrap {
    let fence = |name: &HostName| nodes.instance(name).and_then(|i| i.fenced.clone());
    let free: Vec<HostName> = wanted.iter().filter(|n| fence(n).is_none()).cloned().collect();
    match (free.as_slice(), wanted) {
        ([], [fenced, ..]) => refuse(
            "node_fenced",
            format!("{fenced} was a primary and is fenced: {}", fence(fenced).unwrap_or_default()),
            format!("another node has, or was to have, its place: pgorch rejoin {fenced}"),
        ),
        ([], []) => nothing_writable(nodes),
        ([one], _) => alone_and_newest(nodes, one),
        (several, _) if all => {
            let each = several.iter().map(|n| at(nodes, n)).collect::<Vec<_>>().join(" and ");
            refuse(
                "start_ambiguous",
                format!("{each} would all come up writable"),
                "pgorch start the right one by its name, then pgorch rejoin the others".to_owned(),
            )
        }
        (several, _) => refuse(
            "start_ambiguous",
            format!("{} would all come up writable", list(several)),
            "only one can be the primary: start that one, then pgorch rejoin the others".to_owned(),
        ),
    }
}

fn nothing_writable(nodes: &Nodes<'_>) -> Bootstrap {
    let has_data = |n: &&HostName| {
        nodes.instance(n).is_some_and(|i| matches!(i.data_dir, DataDir::Cluster(_)))
    };
    let with_data: Vec<HostName> = nodes.settings.keys().filter(has_data).cloned().collect();
    if with_data.is_empty() {
        return refuse(
            "no_primary",
            "there is no data on any node".to_owned(),
            "pgorch apply makes the cluster".to_owned(),
        );
    }
    refuse(
        "no_primary",
        format!("{} are standbys: none of them was the primary", list(&with_data)),
        "start them by name, then pgorch failover promotes the best".to_owned(),
    )
}

/// The name with where it stands.
fn at(nodes: &Nodes<'_>, name: &HostName) -> String {
    match nodes.newest(name) {
        Some((timeline, lsn)) => format!("{name} (timeline {timeline}, {lsn})"),
        None => name.to_string(),
    }
}

/// Whether nobody has what this one has not.
fn alone_and_newest(nodes: &Nodes<'_>, one: &HostName) -> Bootstrap {
    let control = nodes.instance(one).and_then(|i| i.cluster()?.control.as_ref());
    let Some(control) = control else {
        return refuse(
            "start_ambiguous",
            format!("the control file on {one} cannot be read"),
            format!("pgorch facts -l {one}; its journal says more"),
        );
    };
    if !PRIMARY_STATES.contains(&control.state.as_str()) {
        return refuse(
            "start_ambiguous",
            format!("{one} was a standby when it stopped, and its standby.signal is gone"),
            format!("pgorch rejoin {one} when there is a primary"),
        );
    }
    let system = Some(control.system_identifier);
    let ours = |n: &&HostName| {
        *n != one && nodes.instance(n).and_then(InstanceFacts::system_identifier) == system
    };
    for other in nodes.settings.keys().filter(ours) {
        if let Some(why) = newer(nodes, one, control, other) {
            return why;
        }
    }
    Bootstrap::Start { primary: one.clone() }
}

/// Why `other` stands in the way of `one`, if it does.
fn newer(
    nodes: &Nodes<'_>,
    one: &HostName,
    control: &ControlData,
    other: &HostName,
) -> Option<Bootstrap> {
    let (timeline, lsn) = nodes.newest(other)?;
    let both = || format!("{} and {}", at(nodes, one), at(nodes, other));
    if timeline > control.timeline {
        return Some(refuse(
            "start_not_newest",
            format!("{other} is on a newer timeline: {}", both()),
            format!("{other} was promoted since: start it, then pgorch rejoin {one}"),
        ));
    }
    if timeline < control.timeline {
        return None;
    }
    if comes_up_writable(nodes, other) {
        return Some(refuse(
            "start_ambiguous",
            format!("both were primaries on one timeline: {}", both()),
            "which of them clients wrote to cannot be seen from their positions".to_owned(),
        ));
    }
    // After a clean stop pg_control names the start of the last record. A primary that crashed has
    // whatever it ever sent.
    let end = Lsn(control.checkpoint_lsn.0.saturating_add(SHUTDOWN_RECORD));
    (control.state == "shut down" && lsn > end).then(|| {
        refuse(
            "start_not_newest",
            format!("{other} has more WAL than {one}, which was the primary: {}", both()),
            format!("{one} is not what it was: promote {other} (pgorch failover --to {other})"),
        )
    })
}

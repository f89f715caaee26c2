//! What `apply` may take for the primary: the observed one, a new one, or nothing.

use std::collections::BTreeSet;

use super::{Nodes, analyse, role_of};
use crate::facts::{DataDir, InstanceFacts, Snapshot};
use crate::inventory::Inventory;
use crate::model::{HostName, Lsn, Role};

/// The decision. `Refuse::code` is a finding's code or one of [`super::REFUSALS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bootstrap {
    /// A primary runs and pgorch made it: go on with it, whoever was declared.
    Existing {
        primary: HostName,
    },
    /// There is no data anywhere: initdb on the declared primary.
    Fresh {
        primary: HostName,
    },
    /// A first apply stopped between initdb and the first standby: go on there.
    Resume {
        primary: HostName,
    },
    /// Everything that could be the primary is stopped, and this node may be started as it.
    Start {
        primary: HostName,
    },
    Refuse {
        code: &'static str,
        reason: String,
        hint: String,
    },
}

/// Bytes that a shutdown checkpoint takes, with a page header that may come between (13 to 18).
pub(super) const SHUTDOWN_RECORD: u64 = 120 + 40;

/// Decides. `limit` is the set of nodes that this run may touch (`None`: all); for a fresh start
/// only these must have been looked at.
#[must_use]
pub fn bootstrap(
    inventory: &Inventory,
    snapshot: &Snapshot,
    limit: Option<&BTreeSet<HostName>>,
) -> Bootstrap {
    let nodes = Nodes::new(inventory, snapshot);
    let topology = analyse(inventory, snapshot);
    match topology.primaries.as_slice() {
        [] => without_primary(&nodes, limit),
        [primary] => with_primary(&nodes, primary, &[]),
        several => several_primaries(&nodes, several),
    }
}

/// The primary that runs, for what is done to standbys of a cluster that is there. The histories of
/// `stale` nodes count for nothing: the user says of them that they are to give way.
#[must_use]
pub fn running_primary(
    inventory: &Inventory,
    snapshot: &Snapshot,
    stale: &[HostName],
) -> Bootstrap {
    let nodes = Nodes::new(inventory, snapshot);
    let topology = analyse(inventory, snapshot);
    match topology.primaries.as_slice() {
        [] => match without_primary(&nodes, None) {
            Bootstrap::Refuse { code, reason, hint } => Bootstrap::Refuse { code, reason, hint },
            Bootstrap::Resume { primary } => refuse(
                "no_primary",
                format!("{primary} is the only node with data and does not run"),
                format!("pgorch start {primary}, or pgorch apply"),
            ),
            _ => refuse(
                "no_primary",
                "there is no cluster yet".to_owned(),
                "pgorch apply makes it".to_owned(),
            ),
        },
        [primary] => with_primary(&nodes, primary, stale),
        several => several_primaries(&nodes, several),
    }
}

pub(super) fn several_primaries(nodes: &Nodes<'_>, several: &[HostName]) -> Bootstrap {
    match strangers(nodes, several).as_slice() {
        [] => refuse(
            "split_brain",
            format!("{} are all out of recovery", list(several)),
            "pgorch explain split_brain; stop the stale one, then rejoin it".to_owned(),
        ),
        strange => not_ours(strange),
    }
}

/// Which of several primaries are no other half of this cluster: not made by pgorch, and with an
/// identifier of their own.
pub(super) fn strangers(nodes: &Nodes<'_>, primaries: &[HostName]) -> Vec<HostName> {
    let system = |name: &HostName| nodes.instance(name).and_then(InstanceFacts::system_identifier);
    let ours = |name: &HostName| nodes.instance(name).is_some_and(InstanceFacts::made_by_pgorch);
    let twin = |name: &HostName| primaries.iter().any(|p| p != name && system(p) == system(name));
    primaries.iter().filter(|name| !ours(name) && !twin(name)).cloned().collect()
}

pub(super) fn not_ours(names: &[HostName]) -> Bootstrap {
    refuse(
        "not_made_by_pgorch",
        format!("a server that pgorch did not make runs on {}", list(names)),
        "use another port and data_dir there, or stop and move that server away".to_owned(),
    )
}

pub(super) fn with_primary(nodes: &Nodes<'_>, primary: &HostName, stale: &[HostName]) -> Bootstrap {
    if !nodes.instance(primary).is_some_and(InstanceFacts::made_by_pgorch) {
        return not_ours(std::slice::from_ref(primary));
    }
    let system = nodes.instance(primary).and_then(InstanceFacts::system_identifier);
    let ours =
        |name: &HostName| nodes.instance(name).and_then(InstanceFacts::system_identifier) == system;
    // An old primary that came back alone must not pass for the primary.
    let timeline = nodes.newest(primary).map(|(timeline, _)| timeline);
    let newer = nodes
        .settings
        .keys()
        .filter(|name| !stale.contains(name))
        .find(|name| ours(name) && nodes.newest(name).map(|(timeline, _)| timeline) > timeline);
    match newer {
        Some(newer) => refuse(
            "timeline_fork",
            format!("{primary} runs as primary, but {newer} is on a newer timeline"),
            format!(
                "if {newer} is right, stop {primary} and promote {newer}, else pgorch rejoin {newer}"
            ),
        ),
        None => Bootstrap::Existing { primary: primary.clone() },
    }
}

fn without_primary(nodes: &Nodes<'_>, limit: Option<&BTreeSet<HostName>>) -> Bootstrap {
    let within = |name: &HostName| limit.is_none_or(|limit| limit.contains(name));
    let unseen = |name: &&HostName| nodes.instance(name).is_none();
    let names = || nodes.settings.keys();

    let unseen_within: Vec<HostName> =
        names().filter(|n| within(n)).filter(unseen).cloned().collect();
    if !unseen_within.is_empty() {
        return refuse(
            "node_unreachable",
            format!("no primary is seen, and {} could not be looked at", list(&unseen_within)),
            "the primary may be there: make every node reachable, or leave it out of the inventory"
                .to_owned(),
        );
    }
    let foreign: Vec<HostName> = names()
        .filter(|n| nodes.instance(n).is_some_and(|i| i.data_dir == DataDir::Foreign))
        .cloned()
        .collect();
    if !foreign.is_empty() {
        return refuse(
            "data_dir_foreign",
            format!("data_dir on {} holds something that is no database", list(&foreign)),
            "choose an empty directory below the mount point, or move its contents away".to_owned(),
        );
    }
    let with_data: Vec<&HostName> =
        names().filter(|n| nodes.instance(n).is_some_and(|i| i.cluster().is_some())).collect();
    let Some(declared) = nodes.inventory.bootstrap_primary() else {
        return refuse("no_primary", "no node is declared".to_owned(), "add nodes".to_owned());
    };
    match with_data.as_slice() {
        [] if !within(declared) => refuse(
            "declared_primary_outside_limit",
            format!("the cluster does not exist yet and its first primary {declared} is left out"),
            format!("run without --limit, or with {declared} in it"),
        ),
        [] => Bootstrap::Fresh { primary: declared.clone() },
        // A node that was not looked at, inside the limit or not, may have taken over since.
        [one] if *one == declared && resumable(nodes, one) && !names().any(|n| unseen(&n)) => {
            Bootstrap::Resume { primary: declared.clone() }
        }
        several => no_primary(nodes, several),
    }
}

/// A directory that pgorch made as a primary's and that nothing runs on.
fn resumable(nodes: &Nodes<'_>, name: &HostName) -> bool {
    nodes.instance(name).is_some_and(|instance| {
        let idle = instance.server.is_none() && instance.postmaster_pid.is_none();
        let fresh = instance
            .cluster()
            .is_some_and(|dir| dir.made_by_pgorch && !dir.standby_signal && !dir.recovery_signal);
        idle && fresh
    })
}

fn no_primary(nodes: &Nodes<'_>, with_data: &[&HostName]) -> Bootstrap {
    let names: Vec<HostName> = with_data.iter().map(|n| (*n).clone()).collect();
    let waking = with_data.iter().find(|n| {
        nodes.instance(n).is_some_and(|i| i.server.is_none() && i.postmaster_pid.is_some())
    });
    if let Some(name) = waking {
        let why = nodes.instance(name).and_then(|i| i.server_error.clone()).unwrap_or_default();
        return refuse(
            "no_primary",
            format!("no primary answers; the server on {name} runs and does not answer: {why}"),
            "try again when it has started".to_owned(),
        );
    }
    let reason = format!("there is data on {}, but no primary runs", list(&names));
    refuse("no_primary", reason, start_hint(nodes, with_data))
}

/// What to start: the old primary if standbys wait for one, else the newest.
fn start_hint(nodes: &Nodes<'_>, with_data: &[&HostName]) -> String {
    let control = |n: &HostName| nodes.instance(n)?.cluster()?.control.as_ref();
    let stopped = |n: &HostName| nodes.server(n).is_none();
    let was_standby = |n: &HostName| nodes.instance(n).is_some_and(|i| role_of(i) == Role::Standby);
    if with_data.iter().any(|n| !stopped(n)) {
        let head = with_data.iter().filter_map(|n| nodes.newest(n)).map(|(t, _)| t).max();
        let old = with_data
            .iter()
            .find(|n| stopped(n) && !was_standby(n) && nodes.newest(n).map(|(t, _)| t) == head);
        return match old {
            Some(old) => format!("pgorch start {old}, which was the primary; or pgorch failover"),
            None => "pgorch failover".to_owned(),
        };
    }
    // pg_control names the start of the shutdown checkpoint on a primary, and its end on a standby
    // that got it: after a clean stop of all they are equal, and the old primary is meant.
    let end = |n: &HostName, lsn: Lsn| match control(n).is_some_and(|c| c.state == "shut down") {
        true => Lsn(lsn.0.saturating_add(SHUTDOWN_RECORD)),
        false => lsn,
    };
    let newest = with_data.iter().filter_map(|n| {
        let (timeline, lsn) = nodes.newest(n)?;
        Some(((timeline, end(n, lsn), !was_standby(n)), lsn, *n))
    });
    match newest.rev().max_by_key(|(rank, _, _)| *rank) {
        Some(((timeline, ..), lsn, name)) => format!(
            "{name} looks newest (timeline {timeline}, {lsn}): pgorch start --all, or pgorch start {name}"
        ),
        None => "pgorch start --all".to_owned(),
    }
}

pub(super) fn refuse(code: &'static str, reason: String, hint: String) -> Bootstrap {
    Bootstrap::Refuse { code, reason, hint }
}

pub(super) fn list(names: &[HostName]) -> String {
    names.iter().map(HostName::as_str).collect::<Vec<_>>().join(", ")
}

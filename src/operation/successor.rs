//! Who takes over in a planned change that names nobody.

use std::cmp::Reverse;

use crate::facts::Snapshot;
use crate::inventory::Inventory;
use crate::model::HostName;
use crate::topology::{State, Topology, Upstream};

/// The standby that is to become the primary: one that streams from the primary itself and may become
/// one (priority above 0). `preferred` ones (those that the run is about) come first, then those without
/// newer binaries waiting, the newer minor version, the higher priority, the smaller lag, the
/// inventory's order.
#[must_use]
pub fn successor(
    inventory: &Inventory,
    snapshot: &Snapshot,
    topology: &Topology,
    preferred: &[HostName],
) -> Option<HostName> {
    let primary = topology.primary.as_ref()?;
    let rank = |name: &HostName| {
        let member = topology.member(name)?;
        let direct = member.upstream == Some(Upstream::Node(primary.clone()));
        let instance = snapshot.nodes.get(name)?.facts()?.instance.as_ref()?;
        let server = instance.server.as_ref()?;
        let priority = inventory.nodes.get(name)?.priority;
        (direct && member.state == State::Streaming && priority > 0).then(|| {
            let up_to_date = !instance.owes_new_binaries();
            let lag = Reverse(member.lag_bytes.unwrap_or(u64::MAX));
            (preferred.contains(name), up_to_date, server.version_num, priority, lag)
        })
    };
    let ranked = inventory.nodes.keys().filter_map(|name| Some((rank(name)?, name)));
    // The first of equals, where max_by would take the last.
    ranked.reduce(|best, one| if one.0 > best.0 { one } else { best }).map(|(_, name)| name.clone())
}

//! What must hold over the whole file: names, addresses, the replication tree, versions.

use std::collections::HashMap;
use std::net::IpAddr;

use super::parse::with_names;
use super::{Inventory, ReplicationMode, SshSettings};
use crate::model::HostName;
use crate::syntax::lower::Complaints;
use crate::syntax::{Diagnostic, Entry, Node as Tree, Span};

/// Checks the relations between the parts of an inventory.
pub(super) fn whole(inventory: &Inventory, tree: &Tree, out: &mut Complaints) {
    names(inventory, tree, out);
    addresses(inventory, tree, out);
    primaries(inventory, tree, out);
    upstreams(inventory, tree, out);
    versions(inventory, tree, out);
    sync_standbys(inventory, tree, out);
    synchronous_commit(inventory, tree, out);
    poolers(inventory, tree, out);
    super::automatic::possible(inventory, tree, out);
    vip(inventory, tree, out);
}

/// The entries of nodes, witnesses and hosts, as [`Inventory::all_hosts`] orders them.
fn host_entries(tree: &Tree) -> impl Iterator<Item = (&'static str, &Entry)> {
    [("nodes", "node"), ("witnesses", "witness"), ("hosts", "host")]
        .into_iter()
        .filter_map(|(section, what)| Some((what, tree.get(section)?.as_map()?)))
        .flat_map(|(what, entries)| entries.iter().map(move |e| (what, e)))
}

fn node_entry<'a>(tree: &'a Tree, name: &HostName) -> Option<&'a Entry> {
    tree.get("nodes")?.as_map()?.iter().find(|e| e.key == name.0)
}

/// The place of a node's key, or of its name where it has none.
fn place(tree: &Tree, name: &HostName, key: &str) -> Span {
    match node_entry(tree, name) {
        Some(entry) => entry.value.get(key).map_or(&entry.key_span, |v| &v.span).clone(),
        None => tree.span.clone(),
    }
}

fn names(inventory: &Inventory, tree: &Tree, out: &mut Complaints) {
    let mut seen: HashMap<&str, &str> = HashMap::new();
    for (what, entry) in host_entries(tree) {
        if let Some(first) = seen.insert(&entry.key, what) {
            let message = format!("the name \"{}\" is taken by a {first}", entry.key);
            out.push(Diagnostic::error(&entry.key_span, message));
        }
    }
    let groups = inventory.all_hosts().flat_map(|(_, host)| &host.groups);
    for group in inventory.group_vars.keys().chain(groups) {
        if let Some((what, entry)) = host_entries(tree).find(|(_, e)| e.key == *group) {
            let message = format!("\"{group}\" is both a {what} and a group");
            out.push(Diagnostic::error(&entry.key_span, message));
        }
    }
    let mut slots: HashMap<String, &HostName> = HashMap::new();
    for name in inventory.nodes.keys() {
        let slot = super::slot_name(name);
        if let Some(first) = slots.insert(slot.clone(), name) {
            let message = format!("\"{name}\" and \"{first}\" have the same slot name \"{slot}\"");
            let hint = "slot names are lower case, with \"_\" for \"-\" and \".\"";
            out.push(Diagnostic::error(&place(tree, name, ""), message).hint(hint));
        }
    }
}

fn addresses(inventory: &Inventory, tree: &Tree, out: &mut Complaints) {
    let default_port = inventory.ssh.port.unwrap_or(22);
    let port = |ssh: &SshSettings| ssh.port.unwrap_or(default_port);
    let mut seen: HashMap<(String, u16), &str> = HashMap::new();
    for (what, entry) in host_entries(tree) {
        let name = HostName(entry.key.clone());
        let found = match what {
            "node" => inventory.nodes.get(&name).map(|node| &node.host),
            "witness" => inventory.witnesses.get(&name),
            _ => inventory.hosts.get(&name),
        };
        let Some(host) = found else { continue };
        let Some(address) = &host.address else {
            if inventory.lab.is_none() && entry.value.get("host").is_none() {
                let message = format!("{what} \"{}\" needs a \"host\"", entry.key);
                let hint = "its address or name; only with \"lab:\" it may be left out";
                out.push(Diagnostic::error(&entry.key_span, message).hint(hint));
            }
            continue;
        };
        let key = (canonical(address), port(&host.ssh));
        if let Some(first) = seen.insert(key, &entry.key) {
            let span = entry.value.get("host").map_or(&entry.key_span, |n| &n.span);
            let message = format!("the address {address} is taken by \"{first}\"");
            out.push(Diagnostic::error(span, message));
        }
    }
}

/// One text for each address, however it is written.
fn canonical(address: &str) -> String {
    match address.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().to_string(),
        Err(_) => address.trim_end_matches('.').to_lowercase(),
    }
}

fn primaries(inventory: &Inventory, tree: &Tree, out: &mut Complaints) {
    let mut first: Option<&HostName> = None;
    for (name, node) in inventory.nodes.iter().filter(|(_, node)| node.primary) {
        if let Some(first) = first {
            let message = format!("\"{first}\" is marked primary already");
            let hint = "mark the node where initdb runs; afterwards pgorch follows what it sees";
            out.push(Diagnostic::error(&place(tree, name, "primary"), message).hint(hint));
        }
        first = first.or(Some(name));
        if node.follow.is_some() {
            let message = format!("\"{name}\" is marked primary and follows another node");
            out.push(Diagnostic::error(&place(tree, name, "follow"), message));
        }
    }
}

fn upstreams(inventory: &Inventory, tree: &Tree, out: &mut Complaints) {
    let names: Vec<String> = inventory.nodes.keys().map(|n| n.0.clone()).collect();
    for (name, node) in &inventory.nodes {
        let Some(upstream) = &node.follow else { continue };
        let span = place(tree, name, "follow");
        if upstream == name {
            out.push(Diagnostic::error(&span, format!("\"{name}\" cannot follow itself")));
        } else if !inventory.nodes.contains_key(upstream) {
            let other = inventory.all_hosts().any(|(n, _)| n == upstream);
            let what = if other { "not a node" } else { "unknown" };
            let message = format!("\"{upstream}\" in \"follow\" is {what}");
            out.push(with_names(Diagnostic::error(&span, message), &upstream.0, &names));
        } else if let Some(circle) = circle(inventory, name) {
            out.push(Diagnostic::error(&span, format!("\"follow\" goes in a circle: {circle}")));
        }
    }
}

/// The circle that starts and ends at `name`, told once, from its first node in file order.
fn circle(inventory: &Inventory, name: &HostName) -> Option<String> {
    let mut path = vec![name];
    loop {
        let next = inventory.nodes.get(*path.last()?)?.follow.as_ref()?;
        if next == name {
            let position = |n: &HostName| inventory.nodes.get_index_of(n);
            let first = path.iter().all(|n| position(name) <= position(n));
            let names: Vec<&str> = path.iter().chain([&name]).map(|n| n.as_str()).collect();
            return (first && path.len() > 1).then(|| names.join(" -> "));
        }
        if path.contains(&next) {
            return None;
        }
        path.push(next);
    }
}

/// Physical replication needs one major version (manual, 26.2.1).
fn versions(inventory: &Inventory, tree: &Tree, out: &mut Complaints) {
    let version = |name| inventory.postgres_of(name).map(|settings| settings.version);
    let Some(first) = inventory.bootstrap_primary() else { return };
    for (name, node) in &inventory.nodes {
        if version(name) == version(first) {
            continue;
        }
        // An inherited version cannot differ by itself: the odd one out is the explicit one.
        let guilty = if node.postgres.version.is_some() { name } else { first };
        let message = format!("all nodes of a cluster need the same version as \"{first}\"");
        out.push(Diagnostic::error(&place(tree, guilty, "postgres"), message));
        return;
    }
}

/// Whether as many standbys stream from a primary as commits are to wait for, with one to spare.
fn sync_standbys(inventory: &Inventory, tree: &Tree, out: &mut Complaints) {
    let Some(replication) = tree.get("replication") else { return };
    let quorum = inventory.replication.mode == ReplicationMode::Quorum;
    let node =
        replication.get("sync_standbys").or_else(|| replication.get("mode").filter(|_| quorum));
    let Some(node) = node else { return };
    let primary = inventory.bootstrap_primary();
    let direct = inventory.nodes.iter().filter(|(name, node)| {
        Some(*name) != primary && node.follow.as_ref().is_none_or(|f| Some(f) == primary)
    });
    let standbys = direct.count();
    let wanted = usize::try_from(inventory.replication.sync_standbys).unwrap_or(usize::MAX);
    let are = match standbys {
        1 => "is 1 standby".to_owned(),
        _ => format!("are {standbys} standbys"),
    };
    if wanted > standbys {
        let message = format!(
            "\"sync_standbys\" is {wanted}, but there {are} that would stream from the primary"
        );
        let hint = "commits would wait for ever; more nodes, or a smaller number";
        out.push(Diagnostic::error(&node.span, message).hint(hint));
    } else if quorum && wanted == standbys {
        let message = format!("\"sync_standbys\" is {wanted}, and there {are}");
        let diagnostic = match standbys {
            // With two nodes there is no other number: writes stop while one of them is away.
            1 => Diagnostic::warning(&node.span, message)
                .hint("writes stop while it is down; a third node would go on"),
            _ => Diagnostic::error(&node.span, message)
                .hint(format!("one that is down would stop all writes: at most {}", standbys - 1)),
        };
        out.push(diagnostic);
    }
}

/// A virtual address that a host has for itself would never move.
fn vip(inventory: &Inventory, tree: &Tree, out: &mut Complaints) {
    let Some(vip) = &inventory.routing.vip else { return };
    let taken = inventory.all_hosts().find(|(_, host)| {
        let own = host.address.as_ref().and_then(|a| a.parse::<IpAddr>().ok());
        own == Some(IpAddr::V4(vip.address))
    });
    let place = tree.get("routing").and_then(|r| r.get("vip"));
    if let (Some((name, _)), Some(node)) = (taken, place) {
        let message = format!("the virtual address {} is {name}'s own", vip.address);
        out.push(Diagnostic::error(&node.span, message).hint("take one that no host has"));
    }
}

/// What a whole cluster must not opt out of in quorum mode; a session may.
fn synchronous_commit(inventory: &Inventory, tree: &Tree, out: &mut Complaints) {
    if inventory.replication.mode != ReplicationMode::Quorum {
        return;
    }
    let too_weak = |name: &HostName| {
        let parameters = inventory.postgres_of(name)?.parameters;
        let set =
            parameters.into_iter().find(|(n, _)| n.eq_ignore_ascii_case("synchronous_commit"));
        let (_, value) = set?;
        let value = value.to_lowercase();
        (!["on", "true", "yes", "1", "remote_apply"].contains(&value.as_str())).then_some(value)
    };
    let found = inventory.nodes.keys().find_map(too_weak);
    let mode = tree.get("replication").and_then(|r| r.get("mode"));
    if let (Some(value), Some(mode)) = (found, mode) {
        let message =
            format!("with synchronous_commit = {value} commits wait for no standby's disk");
        let hint = "\"mode: quorum\" needs on or remote_apply in postgres.parameters; a session may lower it";
        out.push(Diagnostic::error(&mode.span, message).hint(hint));
    }
}

fn poolers(inventory: &Inventory, tree: &Tree, out: &mut Complaints) {
    let Some(poolers) = tree.get("routing").and_then(|r| r.get("poolers")) else { return };
    let names: Vec<String> = inventory.all_hosts().map(|(name, _)| name.0.clone()).collect();
    for entry in poolers.as_map().unwrap_or_default() {
        if !names.contains(&entry.key) {
            let message = format!("unknown host \"{}\" in \"routing.poolers\"", entry.key);
            out.push(with_names(Diagnostic::error(&entry.key_span, message), &entry.key, &names));
        }
    }
}

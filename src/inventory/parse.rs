//! The file as a whole: its blocks, hosts and groups.

use std::sync::Arc;

use indexmap::IndexMap;

use super::settings::{checked, number_in};
use super::{
    Host, Inventory, Node, SecretRef, check, notifications, postgres, routing, secrets, settings,
    text,
};
use crate::model::{HostName, Map};
use crate::syntax::lower::{Complaints, MapReader, did_you_mean, mismatch, string};
use crate::syntax::{Diagnostic, Entry, Node as Tree, NodeKind, Severity, Source, yaml};

/// Reads an inventory file: the inventory and the warnings, in the order of the file.
///
/// # Errors
/// Everything that is wrong with the text, warnings included, in the order of the file.
pub fn parse(source: &Arc<Source>) -> Result<(Inventory, Vec<Diagnostic>), Vec<Diagnostic>> {
    let tree = yaml::parse(source)?;
    let mut out = Complaints::default();
    let inventory = inventory(&tree, &mut out);
    if let Some(inventory) = &inventory {
        check::whole(inventory, &tree, &mut out);
    }
    let failed = out.has_errors();
    let mut complaints = out.0;
    complaints.sort_by_key(|d| d.span.as_ref().map_or(0, |s| s.start));
    match inventory {
        Some(inventory) if !failed => Ok((inventory, complaints)),
        _ => Err(complaints),
    }
}

/// Lowers the tree; `None` only if it is no mapping.
fn inventory(tree: &Tree, out: &mut Complaints) -> Option<Inventory> {
    let mut map = MapReader::new(tree, "the inventory", out)?;
    let cluster = map.get("cluster");
    if cluster.is_none() {
        let complaint = Diagnostic::error(map.span(), "the inventory needs a \"cluster\" name");
        out.push(complaint.hint("for example: cluster: accounts"));
    }
    let cluster = checked(cluster, "cluster", text::cluster_name, out).unwrap_or_default();
    let ssh = settings::ssh(map.get("ssh"), out);
    let postgres = postgres::settings(map.get("postgres"), out);
    let replication = settings::replication(map.get("replication"), out);
    let failover = settings::failover(map.get("failover"), out);
    let mut secrets = Vec::new();
    let witnesses = hosts(map.get("witnesses"), "witness", &mut secrets, out);
    let routing = routing::routing(map.get("routing"), out);
    let notifications = notifications::all(map.list("notifications"), out);
    let nodes = nodes(&mut map, &mut secrets, out);
    let hosts = hosts(map.get("hosts"), "host", &mut secrets, out);
    let groups = groups(map.get("groups"), &mut secrets, out);
    let vars = map.get("vars").map(|v| secrets::vars(v, &mut secrets, out)).unwrap_or_default();
    let lab = settings::lab(map.get("lab"), out);
    map.finish(out);
    let mut inventory = Inventory {
        cluster,
        ssh,
        postgres,
        replication,
        failover,
        witnesses,
        routing,
        notifications,
        nodes,
        hosts,
        vars,
        group_vars: IndexMap::new(),
        secrets,
        lab,
    };
    join_groups(&mut inventory, groups, out);
    Some(inventory)
}

/// The entries of a mapping; none for an empty value, a complaint for anything else.
pub(super) fn entries<'a>(node: &'a Tree, what: &str, out: &mut Complaints) -> &'a [Entry] {
    match &node.kind {
        NodeKind::Map(entries) => entries,
        NodeKind::Null => &[],
        _ => {
            out.push(mismatch(node, what, "a mapping"));
            &[]
        }
    }
}

fn checked_name(entry: &Entry, what: &str, out: &mut Complaints) {
    if let Err(problem) = text::name(&entry.key) {
        let message = format!("bad {what} name \"{}\"", entry.key);
        out.push(Diagnostic::error(&entry.key_span, message).hint(problem));
    }
}

fn nodes(
    map: &mut MapReader<'_>,
    secrets: &mut Vec<SecretRef>,
    out: &mut Complaints,
) -> IndexMap<HostName, Node> {
    let Some(tree) = map.get("nodes") else {
        // `pgorch run` on plain hosts needs no database.
        if map.get("hosts").is_some() {
            return IndexMap::new();
        }
        let complaint = Diagnostic::error(map.span(), "the inventory needs \"nodes\"");
        out.push(complaint.hint("for example: nodes: {node1: {host: 198.18.0.11}}"));
        return IndexMap::new();
    };
    let entries = entries(tree, "nodes", out);
    if entries.is_empty() && matches!(tree.kind, NodeKind::Map(_) | NodeKind::Null) {
        out.push(Diagnostic::error(&tree.span, "\"nodes\" must name one node at least"));
    }
    let mut nodes = IndexMap::new();
    for entry in entries {
        checked_name(entry, "node", out);
        nodes.insert(HostName(entry.key.clone()), node(entry, secrets, out));
    }
    nodes
}

fn node(entry: &Entry, secrets: &mut Vec<SecretRef>, out: &mut Complaints) -> Node {
    let mut node = Node {
        host: Host::default(),
        primary: false,
        priority: 100,
        location: None,
        follow: None,
        postgres: super::PostgresSettings::default(),
    };
    if entry.value.kind == NodeKind::Null {
        return node;
    }
    let what = format!("node \"{}\"", entry.key);
    let Some(mut map) = MapReader::new(&entry.value, &what, out) else { return node };
    node.host = host_settings(&mut map, secrets, out);
    node.primary = map.bool("primary", out).unwrap_or(false);
    let priority = number_in(map.get("priority"), "priority", (0, 1_000_000), out);
    node.priority = priority.and_then(|p| u32::try_from(p).ok()).unwrap_or(100);
    node.location = checked(map.get("location"), "location", text::name, out);
    node.follow = map.string("follow", out).map(HostName);
    node.postgres = postgres::own_settings(map.get("postgres"), out);
    map.finish(out);
    node
}

fn hosts(
    tree: Option<&Tree>,
    what: &str,
    secrets: &mut Vec<SecretRef>,
    out: &mut Complaints,
) -> IndexMap<HostName, Host> {
    let mut hosts = IndexMap::new();
    let Some(tree) = tree else { return hosts };
    for entry in entries(tree, if what == "witness" { "witnesses" } else { "hosts" }, out) {
        checked_name(entry, what, out);
        let title = format!("{what} \"{}\"", entry.key);
        let mut host = Host::default();
        if entry.value.kind != NodeKind::Null
            && let Some(mut map) = MapReader::new(&entry.value, &title, out)
        {
            host = host_settings(&mut map, secrets, out);
            map.finish(out);
        }
        hosts.insert(HostName(entry.key.clone()), host);
    }
    hosts
}

/// The keys that everything with SSH has.
fn host_settings(
    map: &mut MapReader<'_>,
    secrets: &mut Vec<SecretRef>,
    out: &mut Complaints,
) -> Host {
    let address = checked(map.get("host"), "host", text::address, out);
    let ssh = settings::ssh(map.get("ssh"), out);
    let mut groups: Vec<String> = Vec::new();
    for group in map.list("groups").unwrap_or_default() {
        let name = checked(Some(group), "group", text::name, out);
        groups.extend(name.filter(|name| !groups.contains(name)));
    }
    let vars = map.get("vars").map(|v| secrets::vars(v, secrets, out)).unwrap_or_default();
    Host { address, ssh, groups, vars }
}

/// One entry of `groups:`.
struct Group<'a> {
    name: String,
    vars: Map,
    members: Vec<&'a Tree>,
}

/// `groups: {NAME: {vars: {...}, hosts: [...]}}`: variables of a group, and members besides those
/// that name it in their own `groups`.
fn groups<'a>(
    tree: Option<&'a Tree>,
    secrets: &mut Vec<SecretRef>,
    out: &mut Complaints,
) -> Vec<Group<'a>> {
    let mut groups = Vec::new();
    let Some(tree) = tree else { return groups };
    for entry in entries(tree, "groups", out) {
        checked_name(entry, "group", out);
        let mut group = Group { name: entry.key.clone(), vars: Map::new(), members: Vec::new() };
        let title = format!("group \"{}\"", entry.key);
        if entry.value.kind != NodeKind::Null
            && let Some(mut map) = MapReader::new(&entry.value, &title, out)
        {
            let vars = map.get("vars").map(|v| secrets::vars(v, secrets, out));
            group.vars = vars.unwrap_or_default();
            group.members = map.list("hosts").unwrap_or_default();
            map.finish(out);
        }
        groups.push(group);
    }
    groups
}

fn join_groups(inventory: &mut Inventory, groups: Vec<Group<'_>>, out: &mut Complaints) {
    let names: Vec<String> = inventory.all_hosts().map(|(name, _)| name.0.clone()).collect();
    for group in groups {
        for member in group.members {
            let Some(name) = string(member, "hosts", out) else { continue };
            let Some(host) = inventory.host_mut(&HostName(name.clone())) else {
                let message = format!("unknown host \"{name}\" in group \"{}\"", group.name);
                out.push(with_names(Diagnostic::error(&member.span, message), &name, &names));
                continue;
            };
            if !host.groups.contains(&group.name) {
                host.groups.push(group.name.clone());
            }
        }
        inventory.group_vars.insert(group.name, group.vars);
    }
}

/// Adds "did you mean" or the known names to a complaint about a name.
pub(super) fn with_names(complaint: Diagnostic, word: &str, names: &[String]) -> Diagnostic {
    match did_you_mean(word, names.iter().map(String::as_str)) {
        Some(near) => complaint.hint(format!("did you mean \"{near}\"?")),
        None if names.is_empty() || complaint.severity == Severity::Warning => complaint,
        None => complaint.hint(format!("known: {}", names.join(", "))),
    }
}

//! The status for people. No colours: the caller adds them.

use std::collections::BTreeSet;

use super::health::bytes;
use super::{NodeStatus, Severity, Status};
use crate::inventory::Inventory;
use crate::model::{HostName, Role};

const HEADINGS: [&str; 9] = ["NODE", "HOST", "ROLE", "STATE", "TL", "LSN", "LAG", "SYNC", "FLAGS"];

/// The status as a page of text: a line about the cluster, a table of nodes drawn as a tree by
/// upstream, the findings with their hints. Each line ends with a newline.
#[must_use]
pub fn human(status: &Status) -> String {
    let mut out = headline(status);
    out.push('\n');
    let rows: Vec<[String; 9]> =
        tree(status).into_iter().map(|(prefix, node)| columns(&prefix, node)).collect();
    let mut widths = HEADINGS.map(|h| h.chars().count());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in std::iter::once(HEADINGS.map(str::to_owned)).chain(rows) {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    findings(status, &mut out);
    out
}

fn headline(status: &Status) -> String {
    let primary = match (&status.primary, status.health) {
        (Some(primary), _) => format!("primary {primary}"),
        (None, super::Health::Split) => "more than one primary".to_owned(),
        (None, _) => "no primary".to_owned(),
    };
    let versions: BTreeSet<&str> =
        status.nodes.iter().filter_map(|n| n.version.as_deref()).collect();
    let versions = match versions.len() {
        0 => String::new(),
        _ => format!(", PostgreSQL {}", versions.into_iter().collect::<Vec<_>>().join("/")),
    };
    let nodes = match status.nodes.len() {
        1 => "1 node".to_owned(),
        n => format!("{n} nodes"),
    };
    let health = status.health.word().to_uppercase();
    format!("cluster {}: {health}, {primary}, {nodes}{versions}\n", status.cluster)
}

/// The nodes with the branches to draw before them: roots are the nodes whose upstream is no
/// declared node; the nodes of a cycle, which no root leads to, come last.
fn tree(status: &Status) -> Vec<(String, &NodeStatus)> {
    let known = |name: &str| status.nodes.iter().any(|n| n.name.as_str() == name);
    let is_root = |n: &&NodeStatus| !n.upstream.as_deref().is_some_and(known);
    let mut rows = Vec::new();
    let mut done = BTreeSet::new();
    let (primaries, others): (Vec<_>, Vec<_>) =
        status.nodes.iter().filter(is_root).partition(|n| n.role == Role::Primary);
    for root in primaries.into_iter().chain(others).chain(&status.nodes) {
        branch(status, root, "", "", &mut done, &mut rows);
    }
    rows
}

fn branch<'a>(
    status: &'a Status,
    node: &'a NodeStatus,
    first: &str,
    rest: &str,
    done: &mut BTreeSet<&'a HostName>,
    rows: &mut Vec<(String, &'a NodeStatus)>,
) {
    if !done.insert(&node.name) {
        return;
    }
    rows.push((first.to_owned(), node));
    let below = |n: &&NodeStatus| n.upstream.as_deref() == Some(node.name.as_str());
    let children: Vec<&NodeStatus> =
        status.nodes.iter().filter(below).filter(|n| !done.contains(&n.name)).collect();
    let last = children.len().saturating_sub(1);
    for (at, child) in children.into_iter().enumerate() {
        let (own, below) = if at == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        branch(status, child, &format!("{rest}{own}"), &format!("{rest}{below}"), done, rows);
    }
}

fn columns(prefix: &str, node: &NodeStatus) -> [String; 9] {
    let dash = || "-".to_owned();
    let role = match node.role {
        Role::Primary => "primary",
        Role::Standby => "standby",
        Role::Unknown => "unknown",
    };
    let lag = match (node.lag_bytes, node.replay_lag_seconds) {
        (Some(lag), Some(seconds)) => format!("{}, {seconds:.1} s", bytes(lag)),
        (Some(lag), None) => bytes(lag),
        (None, _) => dash(),
    };
    [
        format!("{prefix}{} {}", symbol(node), node.name),
        address(&node.host, node.port),
        role.to_owned(),
        node.state.replace('_', " "),
        node.timeline.map_or_else(dash, |t| t.to_string()),
        node.lsn.map_or_else(dash, |l| l.to_string()),
        lag,
        node.sync.clone().unwrap_or_else(dash),
        flags(node),
    ]
}

fn symbol(node: &NodeStatus) -> char {
    match node.state {
        "running" => '◆',
        "streaming" => '●',
        "catching_up" | "disconnected" | "not_answering" => '◐',
        "unreachable" => '?',
        _ => '○',
    }
}

fn flags(node: &NodeStatus) -> String {
    let mut flags = Vec::new();
    if node.pending_restart {
        flags.push("restart owed".to_owned());
    }
    if node.reload_owed {
        flags.push("reload owed".to_owned());
    }
    let told = ["pending_restart", "reload_owed"];
    // The state already says these.
    let shown = ["node_unreachable", "server_down", "standby_not_streaming"];
    let others: BTreeSet<&str> = node
        .findings
        .iter()
        .copied()
        .filter(|code| !told.contains(code) && !shown.contains(code))
        .collect();
    flags.extend(others.into_iter().map(|code| code.replace('_', " ")));
    flags.join(", ")
}

fn findings(status: &Status, out: &mut String) {
    if status.findings.is_empty() {
        return;
    }
    out.push('\n');
    for finding in &status.findings {
        let symbol = match finding.severity {
            Severity::Critical => '✗',
            Severity::Warning => '!',
            Severity::Info => 'i',
        };
        let node = finding.node.as_ref().map(|n| format!("{n}: ")).unwrap_or_default();
        let (severity, code) = (finding.severity.word(), finding.code);
        out.push_str(&format!("{symbol} {severity:8}  {code}  {node}{}\n", finding.message));
        if let Some(hint) = &finding.hint {
            out.push_str(&format!("            → {hint}\n"));
        }
    }
}

/// A URI for psql that finds the primary wherever it is: all nodes, and `target_session_attrs`.
/// The role and database are the first declared ones, else postgres; libpq asks for a password.
#[must_use]
pub fn psql_uri(inventory: &Inventory, status: &Status) -> Option<String> {
    status.primary.as_ref()?;
    let hosts: Vec<String> = status.nodes.iter().map(|n| address(&n.host, n.port)).collect();
    let postgres = &inventory.postgres;
    let login = |role: &&crate::inventory::PgRole| {
        role.attributes.is_empty() || role.attributes.iter().any(|a| a == "login")
    };
    let role = postgres.roles.iter().find(login).map_or("postgres", |r| r.name.as_str());
    let database = postgres.databases.first().map_or("postgres", |d| d.name.as_str());
    let hosts = hosts.join(",");
    Some(format!("postgresql://{role}@{hosts}/{database}?target_session_attrs=read-write"))
}

/// `host:port`, an IPv6 address in brackets.
fn address(host: &str, port: u16) -> String {
    match host {
        "" => format!("?:{port}"),
        host if host.contains(':') => format!("[{host}]:{port}"),
        host => format!("{host}:{port}"),
    }
}

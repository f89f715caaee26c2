//! Host patterns as Ansible has them, with the live roles of the cluster.
//!
//! A pattern is a list of terms separated by `,` or `:`. A term is a name, a group, a keyword or a
//! glob (`*`, `?`, `[abc]`); `!term` takes away and `&term` keeps only these. As in Ansible the plain
//! terms are joined first, whatever their place, then `&` and `!` apply; without a plain term the
//! start is `all`. The result is in the inventory's order, except that `cascaded` alone is by depth.

use std::collections::BTreeSet;

use super::Inventory;
use crate::model::HostName;
use crate::syntax::lower::did_you_mean;

/// Keywords for which the cluster must have been seen: their hosts depend on it, or, of `poolers`, what
/// is done there.
const LIVE: &[&str] = &["primary", "standbys", "candidate", "poolers"];
const FIXED: &[&str] = &["all", "nodes", "witnesses", "hosts", "cascaded"];

/// Who has which role now; empty where nobody has looked yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LiveRoles {
    pub primary: Option<HostName>,
    pub standbys: Vec<HostName>,
    /// The node that an operation in hand will make primary.
    pub candidate: Option<HostName>,
}

/// A pattern that names something the inventory does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown host or group \"{term}\" in the pattern \"{pattern}\"")]
pub struct PatternError {
    pub pattern: String,
    pub term: String,
    /// "did you mean ...?", or what is known.
    pub hint: String,
}

/// Whether the hosts of a pattern depend on live roles.
#[must_use]
pub fn uses_live_roles(pattern: &str) -> bool {
    terms(pattern).any(|(_, term)| LIVE.contains(&term))
}

/// The hosts that a pattern selects, each once.
///
/// # Errors
/// A term that is no host, group or keyword, and a glob that fits nothing.
pub fn match_hosts(
    pattern: &str,
    inventory: &Inventory,
    live: &LiveRoles,
) -> Result<Vec<HostName>, PatternError> {
    let (mut joined, mut kept, mut taken) = (None, Vec::new(), Vec::new());
    let mut only = None;
    for (sign, term) in terms(pattern) {
        let hosts = one(term, inventory, live).ok_or_else(|| unknown(pattern, term, inventory))?;
        match sign {
            '&' => kept.push(hosts),
            '!' => taken.push(hosts),
            _ => {
                only = if joined.is_none() { Some(hosts.clone()) } else { None };
                joined.get_or_insert_with(BTreeSet::new).extend(hosts);
            }
        }
    }
    if let (Some(hosts), true) = (only, kept.is_empty() && taken.is_empty()) {
        return Ok(hosts);
    }
    let selected = |name: &&HostName| {
        joined.as_ref().is_none_or(|all: &BTreeSet<HostName>| all.contains(*name))
            && kept.iter().all(|hosts| hosts.contains(name))
            && !taken.iter().any(|hosts| hosts.contains(name))
    };
    // A pattern without any term selects nothing, not everything.
    let empty = terms(pattern).next().is_none();
    let all = inventory.all_hosts().map(|(name, _)| name).filter(|_| !empty);
    Ok(all.filter(selected).cloned().collect())
}

/// The terms of a pattern with their sign (`!`, `&` or a space). Colons inside `[...]` and in
/// IPv6 addresses do not occur, since names take none.
fn terms(pattern: &str) -> impl Iterator<Item = (char, &str)> {
    pattern.split([',', ':']).map(str::trim).filter(|term| !term.is_empty()).map(|term| match term
        .strip_prefix(['!', '&'])
    {
        Some(rest) => (if term.starts_with('!') { '!' } else { '&' }, rest.trim()),
        None => (' ', term),
    })
}

/// The hosts of one term in inventory order; `None` if nothing has that name.
fn one(term: &str, inventory: &Inventory, live: &LiveRoles) -> Option<Vec<HostName>> {
    let names = |hosts: &mut dyn Iterator<Item = &HostName>| hosts.cloned().collect::<Vec<_>>();
    let ordered = |wanted: &dyn Fn(&HostName) -> bool| {
        names(&mut inventory.nodes.keys().filter(|name| wanted(name)))
    };
    Some(match term {
        "all" | "*" => names(&mut inventory.all_hosts().map(|(name, _)| name)),
        "nodes" => names(&mut inventory.nodes.keys()),
        "witnesses" => names(&mut inventory.witnesses.keys()),
        "hosts" => names(&mut inventory.hosts.keys()),
        "poolers" => {
            let pools = |name: &&HostName| inventory.routing.poolers.contains_key(*name);
            names(&mut inventory.all_hosts().map(|(name, _)| name).filter(pools))
        }
        "primary" => ordered(&|name| live.primary.as_ref() == Some(name)),
        "standbys" => ordered(&|name| live.standbys.contains(name)),
        "candidate" => ordered(&|name| live.candidate.as_ref() == Some(name)),
        "cascaded" => cascaded(inventory),
        _ if term.contains(['*', '?', '[']) => {
            let all: Vec<HostName> = inventory
                .all_hosts()
                .filter(|(name, host)| {
                    glob(term, name.as_str()) || host.groups.iter().any(|g| glob(term, g))
                })
                .map(|(name, _)| name.clone())
                .collect();
            return (!all.is_empty()).then_some(all);
        }
        _ => {
            let is_group = inventory.group_vars.contains_key(term)
                || inventory.all_hosts().any(|(_, host)| host.groups.iter().any(|g| g == term));
            let hosts: Vec<HostName> = inventory
                .all_hosts()
                .filter(|(name, host)| {
                    name.as_str() == term || host.groups.iter().any(|g| g == term)
                })
                .map(|(name, _)| name.clone())
                .collect();
            return (is_group || !hosts.is_empty()).then_some(hosts);
        }
    })
}

/// The nodes with an upstream of their own, those nearer to the primary first.
fn cascaded(inventory: &Inventory) -> Vec<HostName> {
    let depth = |name: &HostName| {
        let upstream = |name: &HostName| inventory.nodes.get(name).and_then(|n| n.follow.clone());
        std::iter::successors(upstream(name), upstream).take(inventory.nodes.len()).count()
    };
    let mut nodes: Vec<HostName> =
        inventory.nodes.keys().filter(|name| depth(name) > 0).cloned().collect();
    nodes.sort_by_key(depth);
    nodes
}

fn unknown(pattern: &str, term: &str, inventory: &Inventory) -> PatternError {
    let hosts = inventory.all_hosts();
    let names = hosts.flat_map(|(name, host)| {
        std::iter::once(name.as_str()).chain(host.groups.iter().map(String::as_str))
    });
    let mut known: Vec<&str> =
        names.chain(inventory.group_vars.keys().map(String::as_str)).collect();
    let mut seen = BTreeSet::new();
    known.retain(|name| seen.insert(*name));
    let words = known.iter().chain(FIXED).chain(LIVE).copied();
    let hint = match did_you_mean(term, words) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("known: {}", known.join(", ")),
    };
    PatternError { pattern: pattern.to_owned(), term: term.to_owned(), hint }
}

/// Shell-like matching of a whole name: `*`, `?`, `[abc]`, `[a-c]`, `[!abc]`.
fn glob(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match step(&pattern[p..], name[n]) {
            Some(0) => {
                star = Some((p, n));
                p += 1;
            }
            Some(length) => {
                p += length;
                n += 1;
            }
            // Let the last star swallow one character more.
            None => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, n) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// How many pattern characters take `c`: 0 for a star, `None` if they do not.
fn step(pattern: &[char], c: char) -> Option<usize> {
    match pattern.first()? {
        '*' => Some(0),
        '?' => Some(1),
        '[' => {
            let end = pattern.iter().skip(2).position(|p| *p == ']')? + 2;
            let negated = pattern[1] == '!';
            let set = &pattern[1 + usize::from(negated)..end];
            let range = set.windows(3).any(|w| w[1] == '-' && (w[0]..=w[2]).contains(&c));
            ((range || set.contains(&c)) != negated).then_some(end + 1)
        }
        plain => (*plain == c).then_some(1),
    }
}

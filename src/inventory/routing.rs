//! `routing:`: the virtual address, poolers and hooks.

use std::net::Ipv4Addr;

use indexmap::IndexMap;

use super::parse::entries;
use super::settings::{checked, choice, duration, not_built, port};
use super::{Pooler, Routing, Vip, text};
use crate::model::{HostName, Value, split_words};
use crate::syntax::lower::{Complaints, MapReader, mismatch, string};
use crate::syntax::{Diagnostic, Entry, Node};

/// PgBouncer's own default.
const PORT: u16 = 6432;
const CONFIG: &str = "/etc/pgbouncer/pgbouncer.ini";
/// As whom the packages of Debian and Ubuntu run it.
const USER: &str = "postgres";
/// Long enough for what a pooler in transaction mode is meant for, seconds.
const TIMEOUT_SECONDS: u64 = 10;

pub(super) fn routing(node: Option<&Node>, out: &mut Complaints) -> Routing {
    let mut routing = Routing::default();
    let Some(node) = node else { return routing };
    let Some(mut map) = MapReader::new(node, "routing", out) else { return routing };
    routing.vip = vip(map.get("vip"), out);
    routing.poolers = poolers(map.get("poolers"), out);
    if let Some(hooks) = map.get("hooks")
        && let Some(mut hooks) = MapReader::new(hooks, "hooks", out)
    {
        routing.hooks.before_promote = commands(&mut hooks, "before_promote", out);
        routing.hooks.after_promote = commands(&mut hooks, "after_promote", out);
        hooks.finish(out);
    }
    map.finish(out);
    if let Value::Object(raw) = node.to_value() {
        routing.raw = raw;
    }
    routing
}

fn vip(node: Option<&Node>, out: &mut Complaints) -> Option<Vip> {
    let node = node?;
    let mut map = MapReader::new(node, "vip", out)?;
    let (given, on) = (map.get("address"), map.get("interface"));
    let before = out.0.len();
    map.finish(out);
    // A key that is not known is one of these, mistyped.
    let mistyped = out.0.len() > before;
    let interface = checked(on, "interface", text::interface, out);
    if !mistyped && (given.is_none() || on.is_none()) {
        let complaint = Diagnostic::error(&node.span, "\"vip\" needs an address and an interface");
        out.push(complaint.hint("vip: {address: 192.0.2.10/24, interface: eth0}"));
    }
    let (address, prefix) = network_address(given?, out)?;
    Some(Vip { address, prefix, interface: interface? })
}

/// `ADDRESS/PREFIX`.
fn network_address(node: &Node, out: &mut Complaints) -> Option<(Ipv4Addr, u8)> {
    let text = string(node, "address", out)?;
    let (address, prefix) = text.split_once('/').unwrap_or((&text, ""));
    if address.parse::<std::net::Ipv6Addr>().is_ok() {
        not_built(node, "an IPv6 address in \"vip\"", "give an IPv4 address", out);
        return None;
    }
    let parsed = address.parse::<Ipv4Addr>().ok();
    let usable = parsed.filter(|a| !a.is_loopback() && !a.is_unspecified() && !a.is_multicast());
    let bits = prefix.parse::<u8>().ok().filter(|bits| (1..=32).contains(bits));
    let found = usable.zip(bits);
    if found.is_none() {
        let complaint = Diagnostic::error(&node.span, format!("bad address \"{text}\""));
        out.push(complaint.hint("an IPv4 address with the network's prefix, like 192.0.2.10/24"));
    }
    found
}

fn poolers(node: Option<&Node>, out: &mut Complaints) -> IndexMap<HostName, Pooler> {
    let Some(node) = node else { return IndexMap::new() };
    let all = entries(node, "poolers", out).iter();
    all.map(|entry| (HostName(entry.key.clone()), pooler(entry, out))).collect()
}

fn pooler(entry: &Entry, out: &mut Complaints) -> Pooler {
    let mut pooler = Pooler {
        port: PORT,
        config: CONFIG.to_owned(),
        databases: Vec::new(),
        user: USER.to_owned(),
        timeout_seconds: TIMEOUT_SECONDS,
    };
    let what = format!("pooler \"{}\"", entry.key);
    let Some(mut map) = MapReader::new(&entry.value, &what, out) else { return pooler };
    let kind = map.get("kind");
    if kind.is_none() {
        let complaint = Diagnostic::error(&entry.key_span, format!("{what} needs a \"kind\""));
        out.push(complaint.hint("kind: pgbouncer"));
    }
    choice(kind, "kind", (&["pgbouncer"], &[]), out);
    pooler.port = port(map.get("port"), out).unwrap_or(pooler.port);
    let config = checked(map.get("config"), "config", text::absolute, out);
    pooler.config = config.unwrap_or(pooler.config);
    for database in map.list("databases").unwrap_or_default() {
        pooler.databases.extend(checked(Some(database), "databases", text::one_line, out));
    }
    pooler.user = checked(map.get("user"), "user", text::account, out).unwrap_or(pooler.user);
    if let Some(milliseconds) = duration(map.get("timeout"), "timeout", out) {
        pooler.timeout_seconds = milliseconds.div_ceil(1_000).max(1);
    }
    map.finish(out);
    pooler
}

/// A list of commands, each a line of words or a list of them.
fn commands(map: &mut MapReader<'_>, key: &'static str, out: &mut Complaints) -> Vec<Vec<String>> {
    let all = map.list(key).unwrap_or_default();
    all.into_iter().filter_map(|node| command(node, key, out)).collect()
}

/// A command: a list of words, or one text that is split as a shell would.
pub(super) fn command(node: &Node, key: &str, out: &mut Complaints) -> Option<Vec<String>> {
    let words = match (node.as_str(), node.as_seq()) {
        (Some(line), _) => match split_words(line) {
            Ok(words) => words,
            Err(problem) => {
                out.push(Diagnostic::error(&node.span, format!("bad {key}")).hint(problem));
                return None;
            }
        },
        (None, Some(words)) => {
            words.iter().map(|word| string(word, key, out)).collect::<Option<_>>()?
        }
        (None, None) => {
            out.push(mismatch(node, key, "a list of commands"));
            return None;
        }
    };
    if words.first().is_none_or(String::is_empty) {
        out.push(Diagnostic::error(&node.span, format!("\"{key}\" has an empty command")));
        return None;
    }
    Some(words)
}

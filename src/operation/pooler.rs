//! Poolers: what they are asked beforehand, and how they hold their clients and let them go.
//!
//! PgBouncer is told on its admin console, by psql on its host as the account that it runs as, which needs
//! no password there. Where its databases point to is changed in its own file, and nothing else is.

use super::action::PoolerVerb;
use crate::facts::OperationRecord;
use crate::inventory::{Inventory, NodeSettings, Pooler};
use crate::model::{Answer, Fragment, HostName, Resource, Script};

/// What a pooler said before an operation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PoolerSeen {
    /// `SHOW DATABASES`, without the console itself.
    pub running: Vec<PoolerDatabase>,
    /// The entries of `[databases]` in its file; `*` is for all other names.
    pub configured: Vec<PoolerDatabase>,
    /// Seconds that a client waits at most before it gets an error; 0 is for ever.
    pub query_wait_timeout: f64,
    /// `session`, `transaction` or `statement`.
    pub pool_mode: String,
}

/// Where one database of a pooler is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolerDatabase {
    pub name: String,
    /// As written; empty for a socket of its own host.
    pub host: String,
    pub port: u16,
    pub paused: bool,
}

impl PoolerDatabase {
    /// Whether it is on this node.
    #[must_use]
    pub fn is_at(&self, node: &NodeSettings) -> bool {
        self.host == node.address && self.port == node.port
    }
}

/// What a pooler is asked: its databases, its settings, its file.
#[must_use]
pub fn pooler_fragment(inventory: &Inventory, pooler: &Pooler) -> Fragment {
    let script = common(inventory, pooler, &[], None)
        .line("[ -r \"$config\" ] || { echo \"no file $config\" >&2; exit 1; }")
        .line("answer=$(console 10 'SHOW DATABASES') || { why >&2; exit 1; }")
        .line("printf '%s\\n--\\n' \"$answer\"")
        .line("answer=$(console 10 'SHOW CONFIG') || { why >&2; exit 1; }")
        .line("printf '%s\\n--\\n' \"$answer\"")
        .line("configured");
    Fragment::sh(script, vec![Resource::Everything])
}

/// The pooler as its answer to [`pooler_fragment`] shows it.
///
/// # Errors
/// Why it cannot be told anything, in its own words.
pub fn pooler_seen(answer: &Answer) -> Result<PoolerSeen, String> {
    if answer.rc != 0 {
        let last = answer.stderr.lines().map(str::trim).rfind(|l| !l.is_empty());
        return Err(last.unwrap_or("its console does not answer").to_owned());
    }
    let mut parts = answer.stdout.split("\n--\n");
    let (databases, config) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let configured = parts.next().unwrap_or("");
    let setting = |key: &str| {
        let rows = config.lines().map(|line| line.split('\t').collect::<Vec<_>>());
        rows.filter(|r| r.first() == Some(&key)).find_map(|r| r.get(1).map(|v| (*v).to_owned()))
    };
    let seconds = setting("query_wait_timeout").and_then(|text| text.parse::<f64>().ok());
    Ok(PoolerSeen {
        running: running(databases),
        configured: configured.lines().filter_map(configured_one).collect(),
        query_wait_timeout: seconds.unwrap_or(0.0),
        pool_mode: setting("pool_mode").unwrap_or_default(),
    })
}

/// Columns are found by their names: their number grows from version to version.
fn running(shown: &str) -> Vec<PoolerDatabase> {
    let mut lines = shown.lines().skip_while(|line| !line.starts_with("name\t"));
    let header: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('\t').collect();
        let cell = |name: &str| {
            let at = header.iter().position(|column| *column == name)?;
            cells.get(at).copied()
        };
        Some(PoolerDatabase {
            name: cell("name")?.to_owned(),
            host: cell("host")?.to_owned(),
            port: cell("port")?.parse().ok()?,
            paused: cell("paused") == Some("1"),
        })
    };
    lines.filter_map(row).filter(|database| database.name != "pgbouncer").collect()
}

fn configured_one(line: &str) -> Option<PoolerDatabase> {
    let mut cells = line.split('\t').map(str::to_owned);
    Some(PoolerDatabase {
        name: cells.next()?,
        host: cells.next()?,
        port: cells.next()?.parse().ok()?,
        paused: false,
    })
}

/// The step's script, and the seconds that it may take. What leads to the old primary, or to one before
/// it that it was not told of, is led to `database_host`: clients go on with that, or, where
/// that is none, with whom they were.
///
/// # Errors
/// The host has no pooler, or a node is not in the inventory.
pub(super) fn pooler_script(
    inventory: &Inventory,
    host: &HostName,
    verb: PoolerVerb,
    record: &OperationRecord,
    database_host: Option<&HostName>,
) -> Result<(Script, u64), String> {
    let pooler = inventory.routing.poolers.get(host);
    let pooler = pooler.ok_or_else(|| format!("{host} is not in routing.poolers"))?;
    let node = |name: &HostName| {
        inventory.postgres_of(name).ok_or_else(|| format!("{name} is not a node of the inventory"))
    };
    let new = database_host.map(node).transpose()?;
    // One that has left the inventory has no address any more.
    let earlier = record.earlier.iter().filter(|name| Some(*name) != database_host);
    let mut old = vec![node(&record.primary)?];
    old.extend(earlier.filter_map(|name| inventory.postgres_of(name)));
    let script = common(inventory, pooler, &old, new.as_ref())
        // Whoever has been asleep since must not speak to it any more. No record: it is no voter.
        .line("[ \"$stored\" -ge \"$epoch\" ] || put \"$home/epoch\" \"$epoch\"");
    Ok(match verb {
        PoolerVerb::Pause => (
            script
                .set("seconds", &pooler.timeout_seconds.to_string())
                .line("[ \"$turned\" != \"$epoch\" ] || refuse 'its clients were let go already'")
                .line(include_str!("scripts/pause.sh")),
            // A pause that began earlier is begun anew; then the clients are let go.
            2 * pooler.timeout_seconds + 60,
        ),
        PoolerVerb::Resume => (
            script
                // A pause that arrives late must not hold them again.
                .line("[ \"$turned\" = \"$epoch\" ] || put \"$home/turned\" \"$epoch\"")
                .line(include_str!("scripts/resume.sh")),
            90,
        ),
    })
}

/// The functions of `pooler.sh` with their variables.
fn common(
    inventory: &Inventory,
    pooler: &Pooler,
    old: &[NodeSettings],
    new: Option<&NodeSettings>,
) -> Script {
    let places = |nodes: &mut dyn Iterator<Item = NodeSettings>| {
        nodes.map(|n| format!("{} {}", n.address, n.port)).collect::<Vec<_>>().join("\n")
    };
    let nodes = places(&mut inventory.nodes.keys().filter_map(|name| inventory.postgres_of(name)));
    let old = places(&mut old.iter().cloned());
    let (new_host, new_port) =
        new.map_or_else(Default::default, |n| (n.address.clone(), n.port.to_string()));
    Script::new()
        .set("config", &pooler.config)
        .set("port", &pooler.port.to_string())
        .set("user", &pooler.user)
        .set("only", &pooler.databases.join("\n"))
        .set("nodes", &nodes)
        .set("old", &old)
        .set("new_host", &new_host)
        .set("new_port", &new_port)
        .set("program", include_str!("scripts/pooler.awk"))
        .line(include_str!("scripts/pooler.sh"))
}

//! What the preconditions ask besides the facts, in the same round trip.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::pooler::PoolerSeen;

use crate::inventory::{Inventory, NodeSettings};
use crate::model::{Answer, Fragment, HostName, Resource, Script, quote};
use crate::step::{replication_conninfo, vip_fragment, vip_obstacle};

/// What was found out before an operation, besides the facts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Looked {
    /// Nodes whose server answered.
    pub nodes: BTreeMap<HostName, Preflight>,
    /// Every pooler, or why it cannot be told anything.
    pub poolers: BTreeMap<HostName, Result<PoolerSeen, String>>,
}

/// What a node says before an operation.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Preflight {
    pub prepared_transactions: u64,
    /// Age of the oldest transaction of a client, seconds.
    pub longest_transaction_seconds: f64,
    /// Base backups that this node is sending.
    pub backups: u64,
    /// WAL files that wait to be archived.
    pub ready_to_archive: u64,
    /// Logical slots that do not move to another node by themselves.
    pub logical_slots: Vec<String>,
    pub free_wal_senders: i64,
    pub free_replication_slots: i64,
    /// Connections of clients.
    pub clients: u64,
    /// Whether this node gets a replication connection to the candidate; none on the candidate.
    #[serde(skip)]
    pub reaches_candidate: Option<Result<(), String>>,
    /// Why the candidate could not take the virtual address; none on other nodes.
    #[serde(skip)]
    pub vip: Option<String>,
}

/// Each subquery stands alone: it may cost little, since all of it is in the first round trip.
const QUERY: &str = "SELECT json_build_object(\
    'prepared_transactions', (SELECT count(*) FROM pg_prepared_xacts),\
    'longest_transaction_seconds', (SELECT coalesce(extract(epoch FROM max(now() - xact_start)), 0) \
        FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()),\
    'backups', (SELECT count(*) FROM pg_stat_replication WHERE state = 'backup'),\
    'ready_to_archive', (SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'),\
    'logical_slots', (SELECT coalesce(json_agg(slot_name), '[]') FROM pg_replication_slots \
        WHERE slot_type = 'logical' AND NOT temporary \
        AND coalesce((to_jsonb(pg_replication_slots) ->> 'failover')::boolean, false) IS FALSE),\
    'free_wal_senders', current_setting('max_wal_senders')::int \
        - (SELECT count(*) FROM pg_stat_replication),\
    'free_replication_slots', current_setting('max_replication_slots')::int \
        - (SELECT count(*) FROM pg_replication_slots),\
    'clients', (SELECT count(*) FROM pg_stat_activity \
        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()))";

/// The questions to a node; the candidate is asked no replication connection to itself.
#[must_use]
pub fn preflight_fragments(
    inventory: &Inventory,
    node: &NodeSettings,
    candidate: &HostName,
) -> Vec<Fragment> {
    let mut fragments = vec![Fragment::sql("postgres", QUERY)];
    if node.name != *candidate
        && let Some(target) = inventory.postgres_of(candidate)
    {
        let passfile = format!("{}/passfile", node.home);
        let conninfo = replication_conninfo(&target, "pgorch_check", Some(&passfile))
            .with("replication", "true")
            .to_string();
        let psql = quote(&format!("{}/psql", node.bin_dir));
        let line = format!(
            "cd / && runuser -u postgres -- env LC_ALL=C {psql} -XAtqwc IDENTIFY_SYSTEM -d {}",
            quote(&conninfo)
        );
        let script = Script::new().line(&line);
        fragments.push(Fragment::sh(script, vec![Resource::Postgres]));
    } else if node.name == *candidate && inventory.routing.vip.is_some() {
        fragments.push(vip_fragment(inventory, node));
    }
    fragments
}

/// The node as the answers to [`preflight_fragments`] show it; none if its server did not answer.
#[must_use]
pub fn preflight(
    inventory: &Inventory,
    answers: &[Answer],
    is_candidate: bool,
) -> Option<Preflight> {
    let first = answers.first().filter(|a| a.rc == 0)?;
    let mut seen: Preflight = serde_json::from_str(first.stdout.trim()).ok()?;
    let second = answers.get(1);
    if let Some(vip) = inventory.routing.vip.as_ref().filter(|_| is_candidate) {
        seen.vip = second.and_then(|answer| vip_obstacle(vip, answer));
    }
    seen.reaches_candidate = second.filter(|_| !is_candidate).map(|a| match a.rc {
        0 => Ok(()),
        _ => Err(a.stderr.trim().lines().last().unwrap_or("no answer").to_owned()),
    });
    Some(seen)
}

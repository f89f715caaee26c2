//! The PostgreSQL task kinds.
//!
//! Each checks its own preconditions, whoever wrote the playbook: a data directory is only made
//! where nothing is, only a standby is told to follow, catalog changes go to the primary alone.
//! Most kinds read nothing of their own: the facts that travel in the same batch are enough.

mod basebackup;
mod common;
mod database;
mod defaults;
mod event;
mod extension;
mod fence;
mod files;
mod follow;
mod guard;
mod hba;
mod initdb;
mod ladder;
mod leftovers;
mod members;
mod membership;
mod operation;
mod parameters;
mod passfile;
mod query;
mod rejoin;
mod role;
mod role_sql;
mod service;
mod slot;
mod spare;
mod sync;
mod sync_plan;
mod sync_script;
mod upgrade;
mod vip;
mod wait;
mod watched;

use super::Kind;
use crate::facts::SyncRecord;
use crate::inventory::{Inventory, NodeSettings};
use crate::model::{HostName, Script};
use crate::postgres::{Conninfo, SyncNames};

/// The PostgreSQL kinds, in the order in which a cluster is made.
pub(super) const KINDS: &[&Kind] = &[
    &initdb::KIND,
    &parameters::KIND,
    &hba::HBA,
    &hba::IDENT,
    &service::START,
    &service::STOP,
    &service::RESTART,
    &service::RESTART_DUE,
    &service::RELOAD,
    &role::KIND,
    &database::KIND,
    &extension::KIND,
    &passfile::KIND,
    &slot::KIND,
    &basebackup::KIND,
    &rejoin::REJOIN,
    &rejoin::REWIND,
    &fence::KIND,
    &guard::KIND,
    &membership::KIND,
    &follow::KIND,
    &wait::STREAMING,
    &wait::REPLAY,
    &spare::KIND,
    &upgrade::UPGRADE_DUE,
    &upgrade::MINOR_UPGRADE,
    &leftovers::SLOTS,
    &leftovers::DATA,
    &sync::KIND,
    &vip::KIND,
    &query::QUERY,
    &query::CHECKPOINT,
    &members::KIND,
    &event::KIND,
    &operation::PRECONDITIONS,
    &operation::EPOCH,
    &operation::SLOTS,
    &operation::SYNC_RECORD,
    &operation::WAIT_SYNC,
    &operation::POOLER,
    &operation::HOOKS,
    &operation::FENCE,
    &operation::REVOKE,
    &operation::POSITION,
    &operation::LEASE_OVER,
    &operation::PROMOTE,
];

/// The statements that write an event into `pgorch.events`, which they make if it is missing.
pub(super) fn event_sql(kind: &str, node: Option<&str>, data: &str) -> String {
    format!("BEGIN;\n{}{}COMMIT;", members::SCHEMA, members::event(kind, node, data))
}

/// The text of `pgorch.standby.conf` on a primary.
pub(super) const FOLLOWS_NOBODY: &str = follow::FOLLOWS_NOBODY;

/// The text of `pgorch.standby.conf` on `node` when it follows `upstream`.
pub(super) fn standby_conf(
    node: &NodeSettings,
    upstream: &NodeSettings,
    slot: Option<&str>,
) -> String {
    follow::text(node, upstream, slot)
}

/// psql on a node, reading SQL from its standard input.
pub(super) fn psql_line(node: &NodeSettings, database: &str) -> String {
    common::psql(node, database)
}

/// A connection string to a node as role replicator.
pub(super) fn replication_conninfo(
    upstream: &NodeSettings,
    application: &str,
    passfile: Option<&str>,
) -> Conninfo {
    basebackup::conninfo(upstream, application, passfile)
}

/// The path of the script that takes and gives up the virtual address on a node.
pub(super) fn vip_script(inventory: &Inventory, node: &NodeSettings) -> String {
    vip::script_of(inventory, node)
}

/// How a node stands to the virtual address, and what the answer says against it.
pub(in crate::step) use vip::{fragment as vip_fragment, obstacle as vip_obstacle};

/// Whom commits on `host` are to wait for when it is the primary.
pub(super) fn sync_names(inventory: &Inventory, host: &HostName) -> Result<SyncNames, String> {
    sync::names_on(inventory, host)
}

/// Body of an operation's step: stores a record on a voter.
pub(super) fn sync_record_script(record: &SyncRecord) -> Script {
    sync_script::record(&record.into())
}

/// Body of an operation's step: puts names in force on a candidate.
pub(super) fn sync_set_script(node: &NodeSettings, names: &SyncNames) -> Script {
    sync_script::set(node, names, true)
}

/// Body of an operation's step: names are in force on a new primary, and cover what was confirmed before.
pub(super) fn sync_settle_script(node: &NodeSettings, names: &SyncNames, seconds: u64) -> Script {
    sync_script::settle(node, names, seconds)
}

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
mod files;
mod follow;
mod hba;
mod initdb;
mod members;
mod parameters;
mod passfile;
mod query;
mod role;
mod role_sql;
mod service;
mod slot;
mod sync;
mod wait;

use super::Kind;

/// The PostgreSQL kinds, in the order in which a cluster is made.
pub(super) const KINDS: &[&Kind] = &[
    &initdb::KIND,
    &parameters::KIND,
    &hba::HBA,
    &hba::IDENT,
    &service::START,
    &service::STOP,
    &service::RESTART,
    &service::RELOAD,
    &role::KIND,
    &database::KIND,
    &extension::KIND,
    &passfile::KIND,
    &slot::KIND,
    &basebackup::KIND,
    &follow::KIND,
    &wait::STREAMING,
    &wait::REPLAY,
    &sync::KIND,
    &query::QUERY,
    &query::CHECKPOINT,
    &members::KIND,
    &event::KIND,
];

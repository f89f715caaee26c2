//! The vocabulary: small value types that every other module speaks.
//!
//! Glossary. *Host*: a machine reached by SSH. *Node*: a PostgreSQL instance on a host. *Cluster*:
//! one primary and its standbys. *Primary*, *standby*, *upstream*. *Switchover* is planned,
//! *failover* is not; an old primary *rejoins*; *clone* is a base backup; *follow* is to change the
//! upstream; *fence* is to make unable to accept writes. *Lag* is in bytes, *staleness* in time.

mod exit;
mod ids;
mod instant;
mod lsn;
mod notice;
mod probe;
mod secret;
mod shell;
mod timing;
mod words;

pub use exit::Exit;
pub use ids::{HostName, Role, SystemIdentifier, Timeline};
pub use instant::Instant;
pub use lsn::{BadLsn, Lsn};
pub use notice::NoticeKind;
pub use probe::{Answer, Ask, Fragment, Resource};
pub use secret::{MASK, Redactor, Secret};
pub use shell::{Script, quote, unit_word};
pub use timing::{Hold, Profile, Timing};
pub use words::split_words;

/// The dynamic value of variables, arguments and registered results.
pub type Value = serde_json::Value;
/// A map of [`Value`]s that keeps the order of its file.
pub type Map = serde_json::Map<String, Value>;

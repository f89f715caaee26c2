//! Every statement that pgorch sends, by name.
//!
//! All of them work on servers 13 to 18, on primaries and standbys. Names and values go in through
//! [`ident`](super::ident) and [`literal`](super::literal) only. The session should have
//! `search_path=pg_catalog` (CVE-2018-1058): before 15 everybody may create functions in `public`.

use super::literal;

/// Parameters that the status reads besides those that are set in a file: what the shipped
/// templates render and what findings look at.
const WATCHED: &[&str] = &[
    "archive_command",
    "archive_mode",
    "cluster_name",
    "data_checksums",
    "data_directory",
    "full_page_writes",
    "hot_standby",
    "hot_standby_feedback",
    "lc_messages",
    "listen_addresses",
    "log_checkpoints",
    "log_destination",
    "log_line_prefix",
    "log_lock_waits",
    "logging_collector",
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_replication_slots",
    "max_slot_wal_keep_size",
    "max_wal_senders",
    "max_worker_processes",
    "password_encryption",
    "port",
    "primary_conninfo",
    "primary_slot_name",
    "recovery_target_timeline",
    "restore_command",
    "shared_buffers",
    "synchronous_commit",
    "synchronous_standby_names",
    "tcp_keepalives_count",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "tcp_user_timeout",
    "unix_socket_directories",
    "wal_keep_size",
    "wal_level",
    "wal_log_hints",
    "wal_receiver_status_interval",
    "wal_receiver_timeout",
    "wal_segment_size",
    "wal_sender_timeout",
];

/// Whether the shipped templates render a parameter of this name or findings look at it.
#[must_use]
pub fn is_watched(name: &str) -> bool {
    WATCHED.contains(&name)
}

/// Everything that is read of a server in one look, as one JSON document. `parameters` are names
/// whose settings are wanted even where they have their defaults.
///
/// Parts that need privileges which the session lacks are null, not an error: they are queries in
/// strings, run by `query_to_xml` only after a look at the privilege (a plain subquery would be
/// checked at the start of the whole statement). Passwords in connection strings are masked by
/// the server.
#[must_use]
pub fn status<'a>(parameters: impl IntoIterator<Item = &'a str>) -> String {
    let mut names: Vec<String> = WATCHED.iter().map(|n| (*n).to_owned()).collect();
    names.extend(parameters.into_iter().map(str::to_lowercase));
    names.sort();
    names.dedup();
    let names: Vec<String> = names.iter().map(|n| literal(n)).collect();
    include_str!("sql/status.sql").replace("@NAMES@", &names.join(","))
}

/// Asks the postmaster to read its files again; returns before it has.
#[must_use]
pub fn reload() -> String {
    "SELECT pg_reload_conf()".to_owned()
}

/// Needs a superuser, or `pg_checkpoint` since 15. On a standby it is a restartpoint.
#[must_use]
pub fn checkpoint() -> String {
    "CHECKPOINT".to_owned()
}

/// Promotes and waits: `f` means "not yet", the promotion goes on.
#[must_use]
pub fn promote(wait_seconds: u32) -> String {
    format!("SELECT pg_promote(true, {wait_seconds})")
}

/// Creates a physical slot, unless it is there. It keeps WAL from now on, not from first use.
#[must_use]
pub fn create_slot(name: &str) -> String {
    let name = literal(name);
    format!(
        "SELECT pg_create_physical_replication_slot({name}, true) \
         WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = {name})"
    )
}

/// Drops a slot, if it is there and nobody uses it.
#[must_use]
pub fn drop_slot(name: &str) -> String {
    format!(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
         WHERE slot_name = {} AND NOT active",
        literal(name)
    )
}

/// Removes a parameter from postgresql.auto.conf; in force after a reload or a restart.
#[must_use]
pub fn reset_parameter(name: &str) -> String {
    // A name of an extension's parameter has a dot, which separates two identifiers.
    let parts: Vec<String> = name.split('.').map(super::ident).collect();
    format!("ALTER SYSTEM RESET {}", parts.join("."))
}

/// The newest rows of `pgorch.events` as one JSON array of event objects (as text), oldest first. Where
/// nothing is registered yet the table is missing and the query fails.
#[must_use]
pub fn events() -> String {
    "SELECT coalesce(json_agg(json_build_object('schema', 1, 'time', to_char(at AT TIME ZONE 'UTC', \
     'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), 'run', null, 'event', kind, 'host', node, 'task', null, \
     'step', null, 'status', null, 'message', '', 'data', data) ORDER BY id)::text, '[]') \
     FROM (SELECT * FROM pgorch.events ORDER BY id DESC LIMIT 1000) newest"
        .to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_and_values_are_quoted() {
        assert_eq!(super::reset_parameter("a.b"), r#"ALTER SYSTEM RESET "a"."b""#);
        assert!(super::create_slot("it's").contains("'it''s'"));
        assert!(super::status(["O'dd"]).contains("'o''dd'"));
        assert!(!super::status([]).contains('@'));
    }
}

//! The server parameters that pgorch sets unless the inventory says otherwise, each with its
//! reason, and those that are not the inventory's to set.

use crate::inventory::{Inventory, NodeSettings};

/// A default: parameter, value, and why; the reason is written into pgorch.conf.
pub(super) struct Default {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) why: &'static str,
}

/// The defaults of a node, in the order of the file.
pub(super) fn defaults(inventory: &Inventory, node: &NodeSettings) -> Vec<Default> {
    let senders = senders(inventory.nodes.len()).to_string();
    let slots = inventory.replication.slots;
    let mut list = Vec::new();
    let mut add =
        |name, value: &str, why| list.push(Default { name, value: value.to_owned(), why });

    add("listen_addresses", "*", "pg_hba.conf decides who may connect");
    add("port", &node.port.to_string(), "");
    add("unix_socket_directories", super::common::SOCKETS, "pgorch talks to this socket");
    add("cluster_name", &inventory.cluster, "shown by ps");
    add("password_encryption", "scram-sha-256", "");

    add("wal_level", "replica", "what standbys need");
    add("hot_standby", "on", "standbys answer queries, and pgorch's own questions");
    add("wal_log_hints", "on", "pg_rewind can bring back an old primary");
    add("max_wal_senders", &senders, "two for each node, rounded up: a change needs a restart");
    add("max_replication_slots", &senders, "");
    let keep = if slots { "512MB" } else { "2GB" };
    add("wal_keep_size", keep, "WAL for pg_rewind and for a standby whose slot is not there yet");
    add("max_slot_wal_keep_size", "10GB", "a lost standby must not fill the primary's disk");

    add("wal_receiver_status_interval", "1s", "lag is known to the second");
    add("wal_sender_timeout", "5s", "a half-open standby holds its slot and a clean stop so long");
    add("wal_receiver_timeout", "5s", "a standby notices a silent primary");
    add("tcp_keepalives_idle", "10s", "dead clients are noticed within half a minute");
    add("tcp_keepalives_interval", "5s", "");
    add("tcp_keepalives_count", "3", "");
    add("tcp_user_timeout", "10s", "unacknowledged data ends a connection: the host is gone");

    add("log_destination", "stderr", "the journal: journalctl -u SERVICE");
    add("logging_collector", "off", "");
    add("log_line_prefix", "%m [%p] %q%u@%d/%a ", "");
    add("log_checkpoints", "on", "");
    add("log_lock_waits", "on", "");
    add("lc_messages", "C", "messages that tools can read");
    list
}

/// Two walsenders for each node (one half-open, one new) and some for backups, in steps of ten
/// from twenty so that one more node seldom needs a restart.
fn senders(nodes: usize) -> usize {
    (2 * nodes + 4).div_ceil(10).max(2) * 10
}

/// Parameters that follow from the topology or from the layout; the inventory may not set them.
const OWNED: &[(&str, &str)] = &[
    ("primary_conninfo", "it follows from the topology; use \"follow\" of the node"),
    ("primary_slot_name", "it follows from the node's name"),
    ("data_directory", "set postgres.data_dir instead"),
    ("config_file", "the configuration lives in the data directory"),
    ("hba_file", "pgorch renders pg_hba.conf; add rows under postgres.hba"),
    ("ident_file", "pgorch renders pg_ident.conf"),
    ("external_pid_file", "systemd keeps the main process"),
    ("promote_trigger_file", "promotion is an operation of pgorch"),
    ("synchronous_standby_names", "set replication.mode: quorum and replication.sync_standbys"),
];

/// Why the inventory may not set this parameter to this value, if it may not.
pub(super) fn refusal(name: &str, value: &str, node: &NodeSettings) -> Option<String> {
    let off = ["off", "false", "no", "0"].contains(&value.to_lowercase().as_str());
    if let Some((_, why)) = OWNED.iter().find(|(owned, _)| *owned == name) {
        return Some((*why).to_owned());
    }
    match name {
        _ if name.starts_with("recovery_target") => {
            Some("standbys follow the newest timeline; for a point in time restore by hand".into())
        }
        "port" if value != node.port.to_string() => {
            Some(format!("postgres.port says {}", node.port))
        }
        "unix_socket_directories"
            if !value.split(',').any(|d| d.trim() == super::common::SOCKETS) =>
        {
            Some(format!("pgorch needs the socket in {}", super::common::SOCKETS))
        }
        "wal_level" if value == "minimal" => Some("standbys need replica or logical".into()),
        "hot_standby" if off => Some("pgorch asks standbys by SQL".into()),
        _ => None,
    }
}

/// Parameters whose value on a standby must not be below the primary's: 13 shuts the standby
/// down, 14 and later pause its replay (manual, section 27.4.3 "Administrator's overview").
pub(super) const NOT_BELOW_PRIMARY: &[&str] = &[
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
];

#[cfg(test)]
mod tests {
    #[test]
    fn senders_come_in_tens() {
        let of = |n| super::senders(n);
        assert_eq!([of(1), of(3), of(4), of(8), of(9)], [20, 20, 20, 20, 30]);
    }
}

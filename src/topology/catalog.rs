//! The findings, by code: one table for `status`, `pgorch explain` and the manual.

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

impl Severity {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

/// What a code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FindingInfo {
    pub code: &'static str,
    pub severity: Severity,
    /// One sentence.
    pub sentence: &'static str,
    /// What it means and what to do, for `pgorch explain`.
    pub explain: &'static str,
}

/// The entry of a code, of a finding or a refusal.
#[must_use]
pub fn explain(code: &str) -> Option<&'static FindingInfo> {
    FINDINGS.iter().chain(REFUSALS).find(|info| info.code == code)
}

const fn info(code: &'static str, sentence: &'static str, explain: &'static str) -> FindingInfo {
    FindingInfo { code, severity: Severity::Info, sentence, explain }
}

const fn warning(code: &'static str, sentence: &'static str, explain: &'static str) -> FindingInfo {
    FindingInfo { code, severity: Severity::Warning, sentence, explain }
}

const fn critical(
    code: &'static str,
    sentence: &'static str,
    explain: &'static str,
) -> FindingInfo {
    FindingInfo { code, severity: Severity::Critical, sentence, explain }
}

/// Why a run may be refused, besides findings.
pub const REFUSALS: &[FindingInfo] = &[
    critical(
        "is_the_primary",
        "The command is for standbys, and the node is the primary.",
        "rejoin, clone and follow make a node a standby of the primary that runs. For another primary \
         there is `pgorch switchover --to NODE`; then the old one follows by itself.",
    ),
    critical(
        "precondition",
        "A step would refuse what it is to do.",
        "Commands on single nodes judge all their steps before the first change; where one refuses, \
         nothing at all is touched. The message and the hint are the step's own.",
    ),
    critical(
        "start_ambiguous",
        "Which node was the primary cannot be seen.",
        "More than one stopped server would come up writable, or the one that would was a standby when \
         it stopped. Find out which one clients wrote to last (usually the higher timeline), start \
         that one by its name, and rejoin the others: a rejoin shows what would be lost.",
    ),
    critical(
        "start_not_newest",
        "Another node is ahead of the one that would come up writable.",
        "It was promoted since, or the old primary's disk is not what it was. Starting the old one \
         would take back what clients were told is committed. Start the newer one and rejoin the old.",
    ),
    critical(
        "data_dir_foreign",
        "data_dir is neither empty nor a database cluster.",
        "pgorch never initialises a directory that holds something. A mount point holds lost+found: \
         choose a directory below it. After a crash of initdb, look what is there and remove it.",
    ),
    critical(
        "declared_primary_outside_limit",
        "The first primary is not among the nodes of this run.",
        "A first apply runs initdb on the node that the inventory marks as primary, or on the first. \
         With --limit that leaves it out there is nothing to make standbys of.",
    ),
];

/// All findings' codes, the worst first.
pub const FINDINGS: &[FindingInfo] = &[
    critical(
        "split_brain",
        "More than one node is out of recovery.",
        "Two servers accept writes, and what clients write to one is missing on the other. pgorch \
         promotes nothing and changes nothing while this lasts. Keep clients away from both, find \
         out which one holds what must be kept (usually the higher timeline, and the one the \
         application was switched to), stop the other, and rejoin it; a rejoin shows what would be \
         lost before it discards anything.",
    ),
    critical(
        "no_primary",
        "No node is seen out of recovery.",
        "Nothing accepts writes, as far as can be seen. If a node could not be reached, the primary \
         may be there. If the old primary is only stopped, `pgorch start` it; after a cold start of \
         everything, `pgorch start --all` starts the newest first; if its host is lost, `pgorch \
         failover` promotes the best standby.",
    ),
    critical(
        "timeline_fork",
        "A node's history left the primary's.",
        "The node holds WAL that is not in the primary's history: it was promoted itself, or it \
         wrote more as primary than the new primary had when that was promoted. It cannot stream \
         until it is rewound or copied anew: `pgorch rejoin NODE` shows what would be lost and does \
         it.",
    ),
    critical(
        "system_identifier_mismatch",
        "A node belongs to another database cluster.",
        "Its data directory was made by another initdb, so it can never follow this primary. The \
         inventory names the wrong host, port or data_dir, or a server of another origin runs there.",
    ),
    critical(
        "sync_name_taken",
        "Somebody acknowledges commits under a standby's name.",
        "PostgreSQL counts acknowledgements by application_name, which is not unique. A standby of \
         pgorch's streams through the slot of its own name. Another sender with that name counts as if \
         it were the standby, so a confirmed commit may be on fewer of them than it seems. A half-open \
         connection ends after wal_sender_timeout; find out who else it is.",
    ),
    warning(
        "node_unreachable",
        "A node could not be looked at.",
        "SSH, sudo or the look itself failed; that says nothing about the server there. The message \
         is the cause as seen from here.",
    ),
    warning(
        "server_down",
        "The host answers, its PostgreSQL does not.",
        "The server is stopped, still starting, or does not accept the connection. `journalctl -u` \
         of its unit says why. `pgorch start NODE` starts it; a node without a data directory is \
         filled by `pgorch apply`.",
    ),
    warning(
        "standby_not_streaming",
        "A standby receives no WAL.",
        "It answers queries with ever older data and cannot take over. Its log says why it does not \
         connect: address, pg_hba.conf, password, a missing slot, WAL that the upstream has removed \
         already, or a history that forked.",
    ),
    warning(
        "standby_lagging",
        "A standby is far behind the primary.",
        "The distance is above failover.maximum_lag_on_failover (at least 16 MB count). Slow network \
         or disk, a long query that holds up replay (max_standby_streaming_delay), or paused replay.",
    ),
    warning(
        "slot_missing",
        "A standby's replication slot is missing on its upstream.",
        "The upstream may remove WAL that the standby still needs. `pgorch apply` creates the slot.",
    ),
    warning(
        "slot_inactive_retaining",
        "A replication slot that nobody uses holds back WAL.",
        "pg_wal grows until the disk is full or max_slot_wal_keep_size gives the slot up. Bring its \
         standby back, or drop the slot: SELECT pg_drop_replication_slot('NAME').",
    ),
    warning(
        "config_error",
        "A configuration file has an error.",
        "The running server keeps its old values, but would not start with this file. Correct the \
         line; what pgorch renders comes back with `pgorch apply`.",
    ),
    warning(
        "settings_overridden",
        "postgresql.auto.conf overrides what pgorch renders.",
        "ALTER SYSTEM (or pg_basebackup -R) wrote a value there, and it beats every other file. Put \
         the value into the inventory and run the ALTER SYSTEM RESET statement of the hint.",
    ),
    warning(
        "standby_parameter_lower",
        "A parameter of a standby is lower than the primary's.",
        "max_connections, max_worker_processes, max_wal_senders, max_prepared_transactions and \
         max_locks_per_transaction must be at least the primary's on a standby. Otherwise a server \
         13 shuts down, and later ones pause replay, when they replay the primary's change. Raise \
         them on standbys first, lower them on the primary first.",
    ),
    warning(
        "wrong_upstream",
        "A standby follows another node than it should.",
        "The inventory's `follow`, or the primary, is what it should follow. `pgorch apply` or \
         `pgorch follow NODE` changes that.",
    ),
    warning(
        "not_made_by_pgorch",
        "A server that pgorch did not make runs there.",
        "It is shown, and every changing command refuses. Its data directory has no marker of \
         pgorch's, or the server on the node's port runs on another directory than data_dir.",
    ),
    warning(
        "archive_failing",
        "archive_command fails.",
        "No segment was archived since the last failure. pg_wal keeps everything until it works, \
         and backups have a gap. pg_stat_archiver and the log name the segment and the error.",
    ),
    warning(
        "disk_nearly_full",
        "The file system of data_dir has less than 10 % left.",
        "A server that cannot write WAL stops. Look for inactive slots, a failing archive_command, \
         and logs.",
    ),
    warning(
        "clock_skew",
        "A host's clock differs from the controller's by more than 2 s.",
        "Timestamps, replay lag and leases are compared across hosts. Check chrony or timesyncd \
         there and here.",
    ),
    warning(
        "unit_not_enabled",
        "The server does not start when its host starts.",
        "The systemd unit is not enabled (or not there). `pgorch apply` enables it.",
    ),
    warning(
        "node_not_in_inventory",
        "Someone streams or is registered who is not in the inventory.",
        "An application_name in pg_stat_replication, or a row of pgorch.nodes, names no declared \
         node. Add it to the inventory, `pgorch unregister` it, or find out who reads your data.",
    ),
    warning(
        "version_differs",
        "Nodes run different versions.",
        "Different majors cannot replicate: the inventory, the packages and the data directory must \
         agree. Different minors work for a while; update standbys first. A server that is older \
         than its binaries waits for a restart.",
    ),
    warning(
        "node_fenced",
        "A fence marker keeps the server down.",
        "An operation has stopped or killed this server so that it cannot come up beside a new \
         primary. The marker's text names it. If the operation is over, bring the node back as a \
         standby with `pgorch rejoin`; if it was interrupted, `pgorch resume`.",
    ),
    warning(
        "operation_open",
        "An operation that changes roles has begun and is not over.",
        "While its controller lives this is how it should be. If it was killed or cut off, \
         `pgorch resume` looks at what there is and finishes or undoes it. Until then other changes \
         are refused.",
    ),
    warning(
        "sync_standby_missing",
        "In quorum mode the primary waits for too few standbys, or has too few.",
        "With replication.mode quorum a commit waits for sync_standbys standbys. While fewer stream, \
         commits hang: bring the standbys back. Where the setting is not in force yet, commits \
         wait for nobody: `pgorch apply` sets it as soon as enough standbys stream.",
    ),
    warning(
        "sync_change_open",
        "A change of whom commits wait for is not over.",
        "In quorum replication each value of synchronous_standby_names is stored on a majority of the \
         voters before it is set, and the one before is struck off when the new one is in force and as \
         many standbys as it wants have all WAL. In between a failover must satisfy both, and where \
         commits could have waited for nobody none can be proved safe. `pgorch apply` goes on with it.",
    ),
    warning(
        "sync_old_minor",
        "This minor version does not suit quorum replication.",
        "Before May 2025 a server could let the first commits after a start through before it knew that \
         they must wait for standbys. Update to 13.21, 14.18, 15.13, 16.9, 17.5 or later.",
    ),
    info(
        "watch_paused",
        "An operator has told the watch to stand by.",
        "`pgorch pause`: the watch looks on and replaces nobody, and the guard of the primary lets it \
         run without a lease. `pgorch unpause` ends it; one with `--for` ends by itself.",
    ),
    info(
        "pending_restart",
        "A changed parameter waits for a restart.",
        "The file has the new value, the server runs with the old one. `pgorch restart` does it in \
         a rolling way; `pgorch apply --restart` too.",
    ),
    info(
        "reload_owed",
        "A configuration file is newer than the server's last reload.",
        "Someone changed a file and did not reload, or an apply was interrupted. `pgorch reload NODE` \
         or `pgorch apply`.",
    ),
    info(
        "unit_needs_daemon_reload",
        "systemd has not read the unit's file since it changed.",
        "`pgorch apply`, or systemctl daemon-reload there.",
    ),
    info(
        "checksums_off",
        "Data checksums are off.",
        "Corruption on disk goes unnoticed until it is read wrongly. Stop the server and run \
         pg_checksums --enable, standbys first. pg_rewind then needs wal_log_hints.",
    ),
    info(
        "declared_primary_differs",
        "The primary is not the one marked in the inventory.",
        "Normal after a switchover or failover: the mark only matters for the first apply, and what \
         is observed wins. Move the mark if you like.",
    ),
    info(
        "replication_slot_unknown",
        "A physical replication slot belongs to no declared node.",
        "A tool such as pg_receivewal may use it. If nobody does, drop it, because it holds WAL.",
    ),
];

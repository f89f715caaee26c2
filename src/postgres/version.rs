//! What differs between the major versions 13 to 18.

/// Something that a server can do from some major version on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// A standby whose parameters are too low pauses its replay; 13 shuts down (manual, 27.4.3).
    PausesOnLowerSettings,
    /// pg_hba.conf lines may go on after a backslash.
    HbaContinuation,
    /// The role `pg_checkpoint`: before it, CHECKPOINT needs a superuser.
    CheckpointRole,
    /// `pg_rewind --config-file`, for a configuration outside the data directory.
    RewindConfigFile,
    /// Not everybody may create objects in `public`.
    PrivatePublicSchema,
    /// `include` in pg_hba.conf; `file_name` and `rule_number` in `pg_hba_file_rules`.
    HbaInclude,
    /// `reserved_connections` and `pg_use_reserved_connections`.
    ReservedConnections,
    /// `scram_iterations`.
    ScramIterations,
    /// Logical failover slots; `pg_logical_emit_message(..., flush)`.
    FailoverSlots,
    /// initdb turns data checksums on unless told not to.
    ChecksumsByDefault,
}

impl Feature {
    /// The first major version that has it.
    #[must_use]
    pub fn since(self) -> u32 {
        match self {
            Feature::PausesOnLowerSettings | Feature::HbaContinuation => 14,
            Feature::CheckpointRole | Feature::RewindConfigFile | Feature::PrivatePublicSchema => {
                15
            }
            Feature::HbaInclude | Feature::ReservedConnections | Feature::ScramIterations => 16,
            Feature::FailoverSlots => 17,
            Feature::ChecksumsByDefault => 18,
        }
    }

    #[must_use]
    pub fn in_version(self, major: u32) -> bool {
        major >= self.since()
    }
}

/// A parameter that a version no longer knows: the server does not start with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone {
    pub name: &'static str,
    /// The first major version without it.
    pub since: u32,
    /// What to write instead, if there is something.
    pub instead: Option<&'static str>,
}

const fn gone(name: &'static str, since: u32, instead: Option<&'static str>) -> Gone {
    Gone { name, since, instead }
}

/// From the release notes of 13 to 18.
const GONE: &[Gone] = &[
    gone("wal_keep_segments", 13, Some("wal_keep_size (in MB: segments times 16)")),
    gone("operator_precedence_warning", 14, None),
    gone("vacuum_cleanup_index_scale_factor", 14, None),
    gone("stats_temp_directory", 15, None),
    gone("force_parallel_mode", 16, Some("debug_parallel_query")),
    gone("promote_trigger_file", 16, None),
    gone("vacuum_defer_cleanup_age", 16, None),
    gone("db_user_namespace", 17, None),
    gone("old_snapshot_threshold", 17, None),
    gone("trace_recovery_messages", 17, None),
];

/// A parameter that a version does not know yet.
const NEW: &[(&str, u32)] = &[
    ("client_connection_check_interval", 14),
    ("compute_query_id", 14),
    ("huge_page_size", 14),
    ("idle_session_timeout", 14),
    ("log_recovery_conflict_waits", 14),
    ("recovery_init_sync_method", 14),
    ("remove_temp_files_after_crash", 14),
    ("archive_library", 15),
    ("log_startup_progress_interval", 15),
    ("recovery_prefetch", 15),
    ("wal_decode_buffer_size", 15),
    ("reserved_connections", 16),
    ("scram_iterations", 16),
    ("vacuum_buffer_usage_limit", 16),
    ("allow_alter_system", 17),
    ("summarize_wal", 17),
    ("sync_replication_slots", 17),
    ("synchronized_standby_slots", 17),
    ("transaction_timeout", 17),
    ("idle_replication_slot_timeout", 18),
    ("io_method", 18),
    ("max_active_replication_origins", 18),
    ("autovacuum_worker_slots", 18),
];

/// Why a server of this major version would not start with this parameter, if that is known.
#[must_use]
pub fn unknown_parameter(name: &str, major: u32) -> Option<String> {
    let name = name.to_lowercase();
    if let Some(gone) = GONE.iter().find(|g| g.name == name && major >= g.since) {
        let since = gone.since;
        return Some(match gone.instead {
            Some(instead) => format!("{name} is gone since PostgreSQL {since}: use {instead}"),
            None => format!("{name} is gone since PostgreSQL {since}"),
        });
    }
    let (_, since) = NEW.iter().find(|(new, since)| *new == name && major < *since)?;
    Some(format!("{name} came with PostgreSQL {since}"))
}

/// The first minor version of each major whose first commits after a start cannot overtake the
/// publishing of `synchronous_standby_names` (May 2025; failover review, amendment 14).
const PUBLISHES_SYNC_NAMES: [u32; 5] = [130_021, 140_018, 150_013, 160_009, 170_005];

/// Whether a server of this `server_version_num` lets no commit through unconfirmed right after its
/// start. Quorum replication needs that.
#[must_use]
pub fn publishes_sync_names(version_num: u32) -> bool {
    let major = major_of(version_num);
    match PUBLISHES_SYNC_NAMES.iter().find(|first| major_of(**first) == major) {
        Some(first) => version_num >= *first,
        None => major >= 18,
    }
}

/// The major version of a `server_version_num` such as 150018.
#[must_use]
pub fn major_of(version_num: u32) -> u32 {
    version_num / 10_000
}

#[cfg(test)]
mod tests {
    use super::{Feature, publishes_sync_names, unknown_parameter};

    #[test]
    fn quorum_replication_needs_the_minors_of_may_2025() {
        let table = [
            (120_022, false),
            (130_020, false),
            (130_021, true),
            (140_017, false),
            (140_018, true),
            (150_012, false),
            (150_018, true),
            (160_008, false),
            (160_009, true),
            (170_004, false),
            (170_005, true),
            (180_000, true),
            (190_001, true),
        ];
        for (version, fit) in table {
            assert_eq!(publishes_sync_names(version), fit, "{version}");
        }
    }

    #[test]
    fn versions_differ() {
        assert!(!Feature::CheckpointRole.in_version(14));
        assert!(Feature::ChecksumsByDefault.in_version(18));
        assert_eq!(unknown_parameter("work_mem", 15), None);
        assert_eq!(unknown_parameter("vacuum_defer_cleanup_age", 15), None);
        assert_eq!(
            unknown_parameter("WAL_keep_segments", 15).as_deref(),
            Some(
                "wal_keep_segments is gone since PostgreSQL 13: use wal_keep_size (in MB: segments times 16)"
            )
        );
        assert_eq!(
            unknown_parameter("io_method", 17).as_deref(),
            Some("io_method came with PostgreSQL 18")
        );
    }
}

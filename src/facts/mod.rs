//! What a host and its PostgreSQL instance are, as seen now.
//!
//! A fact is a [`Fragment`](crate::model::Fragment) to run plus a pure parser of its answer. No
//! connection is in sight: captured output is all that a test needs.

use indexmap::IndexMap;

use crate::inventory::NodeSettings;
use crate::model::{
    Answer, Fragment, HostName, Lsn, Map, Role, Secret, SystemIdentifier, Timeline,
};

mod control;
mod epoch;
mod host;
mod instance;
mod pause;
mod server;
mod sync;

pub use crate::postgres::Setting;
pub use epoch::{
    EpochFacts, OperationRecord, OperationState, Possible, Proof, read as read_epoch,
    witness_epoch, witness_fragment,
};
pub use host::{host_facts, host_fragments};
pub use instance::{instance_facts, instance_fragments};
pub use pause::Pause;
pub use sync::{Recorded, SyncRecord, SyncValue};

/// All declared nodes, each as it was seen in one look.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub nodes: IndexMap<HostName, Observation>,
    /// What the witnesses have stored, of those that could be looked at.
    pub witnesses: IndexMap<HostName, EpochFacts>,
}

/// One node's facts, or an honest account of why there are none.
#[derive(Debug, Clone)]
pub enum Observation {
    /// SSH answers and the server answered SQL.
    Seen(Box<NodeFacts>),
    /// SSH answers, the server does not (or there is none): `server` is `None`.
    HostOnly(Box<NodeFacts>),
    /// We could not look; that says nothing about the node.
    Unknown { cause: String },
}

impl Snapshot {
    /// What each voter has stored that could be looked at: nodes, then witnesses.
    pub fn epochs(&self) -> impl Iterator<Item = (&HostName, &EpochFacts)> {
        let of_nodes = self
            .nodes
            .iter()
            .filter_map(|(name, seen)| Some((name, &seen.facts()?.instance.as_ref()?.epoch)));
        of_nodes.chain(&self.witnesses)
    }
}

impl Observation {
    /// The facts, if we could look at all.
    #[must_use]
    pub fn facts(&self) -> Option<&NodeFacts> {
        match self {
            Observation::Seen(facts) | Observation::HostOnly(facts) => Some(facts),
            Observation::Unknown { .. } => None,
        }
    }

    /// The server's own answers, if it gave any.
    #[must_use]
    pub fn server(&self) -> Option<&ServerFacts> {
        self.facts()?.instance.as_ref()?.server.as_ref()
    }
}

/// Everything seen on one host. `instance` is `None` on a host without a PostgreSQL node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeFacts {
    pub host: HostFacts,
    pub instance: Option<InstanceFacts>,
}

/// The machine. Also the shape of `facts.*` in templates.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize)]
pub struct HostFacts {
    /// `ID` of os-release: `debian`, `ubuntu`, ...
    pub os_id: String,
    /// `debian` or `redhat`; empty if unknown.
    pub os_family: String,
    /// `VERSION_ID`, such as `12`.
    pub os_version: String,
    /// `VERSION_CODENAME`, such as `bookworm`.
    pub os_codename: String,
    pub architecture: String,
    pub kernel: String,
    pub hostname: String,
    pub memory_bytes: u64,
    pub cpus: u32,
    /// `LANG` and the like of the login, before pgorch sets C.
    pub locale: String,
    pub boot_id: String,
    pub uptime_seconds: f64,
    /// Host's wall clock at the look, seconds since the epoch.
    pub epoch_seconds: f64,
    pub systemd_version: u32,
    /// IPv4 and IPv6 addresses without loopback.
    pub addresses: Vec<String>,
}

/// The instance at rest and, if it answers, at work.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct InstanceFacts {
    /// `postgres --version` of the configured bin_dir, such as `15.18`; none if not installed.
    pub binary_version: Option<String>,
    pub data_dir: DataDir,
    pub unit: UnitFacts,
    /// A live postmaster on this data directory, however started (`postmaster.pid` checked
    /// against /proc: the process's working directory is the data directory).
    pub postmaster_pid: Option<u32>,
    /// The file that the postmaster runs is not the one in bin_dir any more: a package was upgraded (or
    /// installed again) after its start.
    pub binary_replaced: bool,
    pub server: Option<ServerFacts>,
    /// Why `server` is none although a postmaster lives.
    pub server_error: Option<String>,
    /// From `<home>/passfile`; never printed.
    pub replication_password: Option<Secret>,
    /// Free and total bytes of the file system that holds the data directory (or its nearest
    /// existing parent).
    pub disk_free_bytes: u64,
    pub disk_total_bytes: u64,
    /// A configuration file was put in place after the server last read them: a reload is owed.
    pub config_newer_than_load: bool,
    /// The server that answers on the node's port does not run on `data_dir`.
    pub server_elsewhere: bool,
    /// The highest epoch that this node has stored, with the operation that it belongs to.
    pub epoch: EpochFacts,
    /// What an operator has told the watch, as this node has stored it.
    pub pause: Option<Pause>,
    /// Whom commits may be waiting for, as this node has stored it.
    pub sync: Option<SyncRecord>,
    /// The fence marker's text: the unit refuses to start while it is there.
    pub fenced: Option<String>,
    /// An operation has had this standby receive nothing any more, and is not over.
    pub revoked: bool,
    /// Its guard is on: what would come up writable needs a grant.
    pub guarded: bool,
    /// The watch that has the cluster's leases in its hands, as this node has stored it.
    pub owner: Option<String>,
}

/// What stands at `data_dir`.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum DataDir {
    #[default]
    Missing,
    Empty,
    /// Something is there and it is not a database cluster.
    Foreign,
    Cluster(ClusterDir),
}

/// An initialised data directory.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ClusterDir {
    /// `PG_VERSION`.
    pub major: u32,
    /// `<home>/<node>.made` names this system identifier: pgorch ran initdb or the base backup.
    pub made_by_pgorch: bool,
    pub standby_signal: bool,
    pub recovery_signal: bool,
    /// pg_controldata, if it could be read.
    pub control: Option<ControlData>,
    /// The newest timeline history file in `pg_wal`; none on timeline 1.
    pub history: Option<History>,
    /// The timeline of the newest file in `pg_wal`.
    pub wal_timeline: Option<Timeline>,
}

/// A timeline history file: where each ancestor of `timeline` was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    pub timeline: Timeline,
    /// Oldest first: an ancestor, and the position up to which it belongs to this history.
    pub ancestors: Vec<(Timeline, Lsn)>,
}

impl History {
    /// The timeline that this position is on.
    #[must_use]
    pub fn timeline_at(&self, lsn: Lsn) -> Timeline {
        let before = self.ancestors.iter().find(|(_, end)| lsn <= *end);
        before.map_or(self.timeline, |(timeline, _)| *timeline)
    }

    /// Whether a node that stands at `lsn` on `timeline` is on this history, so that it can follow
    /// without a rewind.
    #[must_use]
    pub fn contains(&self, timeline: Timeline, lsn: Lsn) -> bool {
        timeline == self.timeline
            || self.ancestors.iter().any(|(t, end)| *t == timeline && lsn <= *end)
    }
}

/// The parts of pg_controldata (read under `LC_ALL=C`) that decisions use.
#[derive(Debug, Clone, PartialEq)]
pub struct ControlData {
    pub system_identifier: SystemIdentifier,
    /// `Database cluster state`: `in production`, `shut down`, `in archive recovery`, ...
    pub state: String,
    pub timeline: Timeline,
    pub checkpoint_lsn: Lsn,
    /// Where crash recovery begins.
    pub redo_lsn: Lsn,
    pub data_checksums: bool,
    /// `wal_log_hints` as of the last start; one of this and checksums is what pg_rewind needs.
    pub wal_log_hints: bool,
    /// On a standby: how far it must replay, and on which timeline; that much WAL it has.
    pub min_recovery_end: Option<(Timeline, Lsn)>,
    /// `max_connections`, `max_worker_processes`, `max_wal_senders`, `max_prepared_transactions`,
    /// `max_locks_per_transaction`: what the primary ran with, by parameter name.
    pub settings: IndexMap<String, i64>,
}

/// `systemctl show` of the node's unit.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UnitFacts {
    /// `loaded`, `not-found`, `masked`, ...
    pub load_state: String,
    /// `active`, `inactive`, `failed`, `activating`, ...
    pub active_state: String,
    pub sub_state: String,
    /// `enabled`, `disabled`, `static`, ... or empty.
    pub file_state: String,
    pub main_pid: u32,
    pub need_daemon_reload: bool,
    /// The unit looks for the fence marker before it starts the server.
    pub heeds_fence: bool,
}

/// What the server says of itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ServerFacts {
    /// `server_version_num`, such as 150018.
    pub version_num: u32,
    /// `server_version`, such as `15.18`.
    pub version: String,
    pub in_recovery: bool,
    pub system_identifier: Option<SystemIdentifier>,
    /// The live timeline: on a primary of its current WAL file, on a standby what it receives or,
    /// without a receiver, what pg_control says.
    pub timeline: Option<Timeline>,
    /// Primary: `pg_current_wal_lsn()`. Standby: `GREATEST(receive, replay)`.
    pub lsn: Option<Lsn>,
    pub replay_lsn: Option<Lsn>,
    /// Seconds since the last replayed commit, none when all that was received is replayed.
    pub replay_lag_seconds: Option<f64>,
    pub replay_paused: bool,
    pub receiver: Option<Receiver>,
    pub senders: Vec<Sender>,
    pub slots: Vec<Slot>,
    /// By name; only those that pgorch renders, the inventory names, or are pending.
    pub settings: IndexMap<String, Setting>,
    pub pending_restart: Vec<String>,
    /// Rows of `pg_file_settings` and `pg_hba_file_rules` with an error.
    pub config_errors: Vec<String>,
    pub databases: Vec<String>,
    pub roles: Vec<String>,
    /// Seconds since `pg_postmaster_start_time()` and `pg_conf_load_time()`.
    pub up_seconds: f64,
    pub conf_loaded_seconds: f64,
    /// `pg_stat_archiver`: failures after the last success.
    pub archive_failing: bool,
    pub data_directory: Option<String>,
    /// `pg_conf_load_time()` on the host's clock, seconds since the epoch.
    pub conf_loaded_at: f64,
    /// Names in `pgorch.nodes`, if that table is there.
    pub registered: Vec<String>,
}

/// A row of `pg_stat_wal_receiver`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Receiver {
    pub status: String,
    pub sender_host: String,
    pub sender_port: u16,
    pub slot: Option<String>,
    /// Seconds since `last_msg_receipt_time`.
    pub silent_seconds: f64,
}

/// A row of `pg_stat_replication`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sender {
    pub application_name: String,
    pub client_addr: Option<String>,
    pub state: String,
    pub sync_state: String,
    /// The slot that it uses.
    pub slot: Option<String>,
    pub sent: Option<Lsn>,
    pub flush: Option<Lsn>,
    pub replay: Option<Lsn>,
}

/// A row of `pg_replication_slots`, physical or logical.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Slot {
    pub name: String,
    pub physical: bool,
    pub active: bool,
    pub restart_lsn: Option<Lsn>,
    pub wal_status: Option<String>,
    pub retained_bytes: Option<u64>,
}

impl InstanceFacts {
    /// The data directory, if it is an initialised one.
    #[must_use]
    pub fn cluster(&self) -> Option<&ClusterDir> {
        match &self.data_dir {
            DataDir::Cluster(cluster) => Some(cluster),
            _ => None,
        }
    }

    /// Where the WAL that it tells of ends. Without a receiver a standby's timeline is that of its last
    /// checkpoint; its newest history file may know better, and may be of a timeline of which it has
    /// nothing yet.
    #[must_use]
    pub fn stands(&self) -> Option<(Timeline, Lsn)> {
        let dir = self.cluster();
        let (timeline, lsn) = match &self.server {
            Some(server) => (server.timeline?, server.lsn?),
            None => dir?.control.as_ref()?.newest(),
        };
        let known = dir.and_then(|d| d.history.as_ref()).map(|h| h.timeline_at(lsn));
        Some((known.map_or(timeline, |known| known.max(timeline)), lsn))
    }

    /// Whether pgorch made the data directory and, if a server answers, it runs on that one.
    #[must_use]
    pub fn made_by_pgorch(&self) -> bool {
        !self.server_elsewhere && self.cluster().is_some_and(|c| c.made_by_pgorch)
    }

    /// Whether the running server would be another program after a restart: another file, or one of
    /// another version.
    #[must_use]
    pub fn owes_new_binaries(&self) -> bool {
        let Some(server) = &self.server else { return false };
        let other = self.binary_version.as_ref().is_some_and(|binary| *binary != server.version);
        self.binary_replaced || other && !server.version.is_empty()
    }

    /// The live server's system identifier, else that of the data directory at rest.
    #[must_use]
    pub fn system_identifier(&self) -> Option<SystemIdentifier> {
        let live = self.server.as_ref().and_then(|s| s.system_identifier);
        live.or_else(|| Some(self.cluster()?.control.as_ref()?.system_identifier))
    }
}

impl ControlData {
    /// The most advanced position that this directory is known to hold: timeline, then WAL.
    #[must_use]
    pub fn newest(&self) -> (Timeline, Lsn) {
        let checkpoint = (self.timeline, self.checkpoint_lsn);
        self.min_recovery_end.map_or(checkpoint, |end| end.max(checkpoint))
    }
}

impl Default for ControlData {
    fn default() -> Self {
        ControlData {
            system_identifier: SystemIdentifier(0),
            state: String::new(),
            timeline: Timeline(0),
            checkpoint_lsn: Lsn(0),
            redo_lsn: Lsn(0),
            data_checksums: false,
            wal_log_hints: false,
            min_recovery_end: None,
            settings: IndexMap::new(),
        }
    }
}

impl ServerFacts {
    #[must_use]
    pub fn role(&self) -> Role {
        if self.in_recovery { Role::Standby } else { Role::Primary }
    }
}

impl NodeFacts {
    /// The host's facts as a map for templates.
    #[must_use]
    pub fn template_vars(&self) -> Map {
        let mut vars = match serde_json::to_value(&self.host) {
            Ok(serde_json::Value::Object(map)) => map,
            _ => Map::new(),
        };
        if let Some(instance) = &self.instance {
            let postgres = serde_json::json!({ "binary_version": instance.binary_version });
            vars.insert("postgres".to_owned(), postgres);
        }
        vars
    }
}

/// The answers do not say what is on the host; that proves nothing about the node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CannotLook(pub String);

/// What to ask a host that has a PostgreSQL node: [`host_fragments`], then [`instance_fragments`].
#[must_use]
pub fn node_fragments(node: &NodeSettings) -> Vec<Fragment> {
    let mut fragments = host_fragments();
    fragments.extend(instance_fragments(node));
    fragments
}

/// The node as the answers to [`node_fragments`] show it, in that order.
#[must_use]
pub fn observe(node: &NodeSettings, answers: &[Answer]) -> Observation {
    let split = host_fragments().len().min(answers.len());
    let (of_host, of_instance) = answers.split_at(split);
    match instance_facts(node, of_instance) {
        Err(CannotLook(cause)) => Observation::Unknown { cause },
        Ok(instance) => {
            let answers_sql = instance.server.is_some();
            let facts = Box::new(NodeFacts { host: host_facts(of_host), instance: Some(instance) });
            if answers_sql { Observation::Seen(facts) } else { Observation::HostOnly(facts) }
        }
    }
}

//! What the operator declared: the cluster, its nodes and other hosts, and every setting.
//!
//! `parse` turns text into an [`Inventory`] or a list of all complaints. No file is opened and no
//! environment is read here: secrets stay references ([`SecretRef`]) until the caller resolves them.

mod automatic;
mod check;
mod first;
mod guard;
mod hba;
mod notifications;
mod parse;
mod pattern;
mod postgres;
mod routing;
mod schema;
mod secrets;
mod settings;
mod text;
pub mod vault;

pub use first::{FirstInventory, write_first};
pub use guard::{GuardPaths, GuardSettings, guard_paths};
pub use parse::parse;
pub use pattern::{LiveRoles, PatternError, match_hosts, uses_live_roles};
pub use schema::schema;
pub use secrets::SECRET_MARKER;

use std::time::Duration;

use indexmap::IndexMap;

use crate::model::{HostName, Map, NoticeKind, Secret, Timing};

/// A whole inventory file, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Inventory {
    /// Cluster name: `[a-z][a-z0-9_-]*`, at most 40 characters; part of unit and path names.
    pub cluster: String,
    pub ssh: SshSettings,
    pub postgres: PostgresSettings,
    pub replication: ReplicationSettings,
    pub failover: FailoverSettings,
    pub witnesses: IndexMap<HostName, Host>,
    pub routing: Routing,
    pub notifications: Vec<Notification>,
    /// In file order; the order is the default order of output.
    pub nodes: IndexMap<HostName, Node>,
    pub hosts: IndexMap<HostName, Host>,
    pub vars: Map,
    /// Variables of groups, in file order; members are in [`Host::groups`].
    pub group_vars: IndexMap<String, Map>,
    /// The secrets inside `vars`; the marker [`SECRET_MARKER`] there counts them from 0.
    pub secrets: Vec<SecretRef>,
    pub lab: Option<LabSettings>,
}

/// A secret as the inventory names it; resolved once at start, in the controller's memory only.
#[derive(Debug, Clone, PartialEq)]
pub enum SecretRef {
    /// Written in clear in the file (`check` warns).
    Plain(Secret),
    Env(String),
    File(String),
    Command(Vec<String>),
    /// An ansible-vault block, still encrypted.
    Vault(String),
}

/// How to reach a host. Fields that are `None` fall back: node, then inventory, then
/// command line and `~/.ssh/config`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SshSettings {
    pub user: Option<String>,
    pub port: Option<u16>,
    pub identity_file: Option<String>,
    pub password: Option<SecretRef>,
    pub r#become: Option<bool>,
    pub become_password: Option<SecretRef>,
    pub proxy_jump: Option<String>,
    pub known_hosts: Option<String>,
    /// Honour `~/.ssh/config` (through `ssh -G`); default true.
    pub ssh_config: Option<bool>,
    pub connect_timeout_seconds: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct PostgresSettings {
    /// Major version, 13 to 18.
    pub version: Option<u32>,
    pub install: Option<Install>,
    pub port: Option<u16>,
    pub data_dir: Option<String>,
    pub bin_dir: Option<String>,
    pub service: Option<String>,
    /// Server parameters in file order; values as text in postgresql.conf's unquoted form.
    pub parameters: IndexMap<String, String>,
    pub hba: Vec<HbaRule>,
    pub databases: Vec<Database>,
    pub roles: Vec<PgRole>,
    pub extensions: Vec<Extension>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Install {
    Package,
    /// Binaries are there already; nothing is installed.
    None,
}

/// One extra pg_hba.conf row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HbaRule {
    /// `local`, `host`, `hostssl`, `hostnossl`, `hostgssenc`, `hostnogssenc`.
    pub r#type: String,
    pub database: String,
    pub user: String,
    /// CIDR, host name, `all`, `samehost`, `samenet`; none for `local`.
    pub address: Option<String>,
    pub method: String,
    pub options: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    pub name: String,
    pub owner: Option<String>,
    pub encoding: Option<String>,
    pub locale: Option<String>,
    pub template: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct PgRole {
    pub name: String,
    pub password: Option<SecretRef>,
    /// `LOGIN`, `SUPERUSER`, `CREATEDB`, ... in lower case, without `no` means set.
    pub attributes: Vec<String>,
    pub member_of: Vec<String>,
    pub connection_limit: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    pub name: String,
    pub database: String,
    pub schema: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplicationMode {
    #[default]
    Async,
    Quorum,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ReplicationSettings {
    pub mode: ReplicationMode,
    pub slots: bool,
    pub sync_standbys: u32,
    pub strict: bool,
}

/// The parts of `failover:` that are kept for later issues are checked and stored as given.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FailoverSettings {
    /// Guards are on the nodes, and a watcher fails over.
    pub automatic: bool,
    /// What guards and watchers rest on.
    pub timing: Timing,
    /// How long a crashed server on a live host may take to come back by itself; none: not at all.
    pub restart_in_place: Option<Duration>,
    pub maximum_lag_bytes: Option<u64>,
    pub auto_rejoin: bool,
    pub cross_location: bool,
    /// The command of the controller that switches a node's host off, and returns 0 only when it
    /// is off.
    pub stonith: Option<Vec<String>>,
    pub raw: Map,
}

/// How clients find the primary; `raw` is the block as given.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Routing {
    /// An address that is on whichever node is the primary.
    pub vip: Option<Vip>,
    /// By the host that they run on.
    pub poolers: IndexMap<HostName, Pooler>,
    pub hooks: Hooks,
    pub raw: Map,
}

/// A virtual IP address, which clients use instead of the nodes' own.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Vip {
    /// IPv4, without the prefix.
    pub address: std::net::Ipv4Addr,
    /// Bits of the network's part, 1 to 32.
    pub prefix: u8,
    /// The network interface that gets it, on every node.
    pub interface: String,
}

/// Commands that the controller runs when the primary changes: argument vectors, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hooks {
    pub before_promote: Vec<Vec<String>>,
    pub after_promote: Vec<Vec<String>>,
}

/// Whom the watch tells of what happens.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    pub to: Recipient,
    /// Which kinds it wants.
    pub events: Vec<NoticeKind>,
    /// How long one message may take.
    pub timeout: Duration,
}

/// Where a message goes.
#[derive(Debug, Clone, PartialEq)]
pub enum Recipient {
    /// A command of the controller, which gets the message on its standard input.
    Command(Vec<String>),
    Webhook(Webhook),
}

/// An address that the message is posted to.
#[derive(Debug, Clone, PartialEq)]
pub struct Webhook {
    /// `http://` or `https://`; often a secret itself.
    pub url: SecretRef,
    pub headers: IndexMap<String, SecretRef>,
    /// Certificates of authorities besides those of the system, PEM.
    pub ca_file: Option<String>,
}

/// A PgBouncer, which holds its clients while the primary changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pooler {
    /// `listen_port`; part of its socket's name.
    pub port: u16,
    /// The file with the section `[databases]`.
    pub config: String,
    /// Entries of that section that belong to the cluster; empty for all that point at one of its nodes.
    pub databases: Vec<String>,
    /// The OS user that it runs as: who may use the admin console without a password.
    pub user: String,
    /// How long transactions may take to end before a change is given up, seconds.
    pub timeout_seconds: u64,
}

/// A node: a host with one PostgreSQL instance of the cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub host: Host,
    /// Bootstrap only: where initdb runs.
    pub primary: bool,
    pub priority: u32,
    pub location: Option<String>,
    /// Wanted upstream; `None` is the primary.
    pub follow: Option<HostName>,
    /// Overrides; merged with the inventory's by [`Inventory::postgres_of`].
    pub postgres: PostgresSettings,
}

/// Anything that answers SSH.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Host {
    /// Address or name to dial; `None` only while `lab:` has not given one yet.
    pub address: Option<String>,
    pub ssh: SshSettings,
    pub groups: Vec<String>,
    pub vars: Map,
}

#[derive(Debug, Clone, PartialEq)]
pub struct LabSettings {
    /// `auto` or `nspawn` (`docker` comes later).
    pub backend: String,
    /// A Debian or Ubuntu suite: `bookworm`, `trixie`.
    pub image: String,
}

/// The settings of one node with all defaults and overrides applied.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct NodeSettings {
    pub name: HostName,
    pub address: String,
    pub version: u32,
    pub port: u16,
    pub data_dir: String,
    /// Directory that holds data_dir's cluster-owned neighbours (passfile, marker):
    /// `/var/lib/pgorch/<cluster>`.
    pub home: String,
    pub bin_dir: String,
    pub service: String,
    pub install_packages: bool,
    pub parameters: IndexMap<String, String>,
    pub follow: Option<HostName>,
    pub priority: u32,
    /// Replication slot and application name: the node's name with `-` and `.` as `_`.
    pub slot: String,
    /// Its guard, with `failover.mode: automatic`.
    pub guard: Option<GuardSettings>,
}

impl Inventory {
    /// Where every host of the cluster keeps what pgorch stores there.
    #[must_use]
    pub fn home(&self) -> String {
        format!("/var/lib/pgorch/{}", self.cluster)
    }

    /// The merged settings of a node.
    #[must_use]
    pub fn postgres_of(&self, name: &HostName) -> Option<NodeSettings> {
        let node = self.nodes.get(name)?;
        let (own, all) = (&node.postgres, &self.postgres);
        let version = own.version.or(all.version).unwrap_or(15);
        let home = self.home();
        let mut parameters = all.parameters.clone();
        parameters.extend(own.parameters.clone());
        let service = own.service.clone().or_else(|| all.service.clone());
        let service = service.unwrap_or_else(|| format!("pgorch-{}", self.cluster));
        let guard = self.guard_of(name, &service);
        Some(NodeSettings {
            name: name.clone(),
            address: node.host.address.clone().unwrap_or_default(),
            version,
            port: own.port.or(all.port).unwrap_or(5432),
            data_dir: own
                .data_dir
                .clone()
                .or_else(|| all.data_dir.clone())
                .unwrap_or_else(|| format!("{home}/{version}/data")),
            home,
            bin_dir: own
                .bin_dir
                .clone()
                .or_else(|| all.bin_dir.clone())
                .unwrap_or_else(|| format!("/usr/lib/postgresql/{version}/bin")),
            service,
            guard,
            install_packages: own.install.or(all.install).unwrap_or(Install::Package)
                == Install::Package,
            parameters,
            follow: node.follow.clone(),
            priority: node.priority,
            slot: slot_name(name),
        })
    }

    /// Every host of the inventory by name: nodes, witnesses, other hosts, in this order.
    pub fn all_hosts(&self) -> impl Iterator<Item = (&HostName, &Host)> {
        let nodes = self.nodes.iter().map(|(name, node)| (name, &node.host));
        nodes.chain(&self.witnesses).chain(&self.hosts)
    }

    /// The host of this name, of whichever kind.
    pub fn host_mut(&mut self, name: &HostName) -> Option<&mut Host> {
        if let Some(node) = self.nodes.get_mut(name) {
            return Some(&mut node.host);
        }
        self.witnesses.get_mut(name).or_else(|| self.hosts.get_mut(name))
    }

    /// The node where a first `apply` runs initdb: the one marked `primary`, else the first that
    /// follows no other.
    #[must_use]
    pub fn bootstrap_primary(&self) -> Option<&HostName> {
        let marked = self.nodes.iter().find(|(_, node)| node.primary);
        let free = || self.nodes.iter().find(|(_, node)| node.follow.is_none());
        marked.or_else(free).or_else(|| self.nodes.first()).map(|(name, _)| name)
    }

    /// Whether what says nothing of its own about `become` runs as root on a host.
    #[must_use]
    pub fn becomes(&self, name: &HostName) -> bool {
        let own = self.all_hosts().find(|(n, _)| *n == name).and_then(|(_, h)| h.ssh.r#become);
        own.or(self.ssh.r#become).unwrap_or(false)
    }

    /// Free variables of a host: inventory vars, then its groups' in order, then its own.
    #[must_use]
    pub fn vars_of(&self, name: &HostName) -> Map {
        let mut vars = self.vars.clone();
        if let Some((_, host)) = self.all_hosts().find(|(n, _)| *n == name) {
            let groups = host.groups.iter().filter_map(|g| self.group_vars.get(g));
            for layer in groups.chain([&host.vars]) {
                vars.extend(layer.iter().map(|(k, v)| (k.clone(), v.clone())));
            }
        }
        vars
    }
}

/// A slot's name takes lower-case letters, digits and underscores only (manual, 26.2.6).
#[must_use]
pub fn slot_name(node: &HostName) -> String {
    node.0.replace(['-', '.'], "_").to_lowercase()
}

//! Everything that stands in the way of a planned change, found in one look and told together.

use super::pooler::{PoolerDatabase, PoolerSeen};
use super::questions::Looked;
use super::unsettled::way_out;
use crate::facts::{InstanceFacts, Observation, ServerFacts, Snapshot};
use crate::inventory::{Inventory, NodeSettings, Pooler, ReplicationMode};
use crate::model::HostName;
use crate::postgres::publishes_sync_names;
use crate::step::sync_names;
use crate::topology::{ClockOffsets, State, Topology, Upstream, findings};

/// What one look found out about one thing.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Check {
    pub code: &'static str,
    pub level: Level,
    pub node: Option<HostName>,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Whether the operation goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Ok,
    /// It goes on, and this should be known.
    Warning,
    /// It does not.
    Refused,
}

/// The codes with what they mean, for `pgorch explain`.
pub const PRECONDITIONS: &[(&str, &str)] = &[
    ("switchover_no_primary", "There must be exactly one node out of recovery: it hands over."),
    (
        "switchover_candidate_not_streaming",
        "The candidate must stream from the primary itself, on its timeline, or the last WAL does not reach it.",
    ),
    (
        "switchover_candidate_lag",
        "The candidate must be close behind: the primary is down until it has replayed everything.",
    ),
    (
        "switchover_sibling",
        "Another standby is not in order. It does not hold up the switchover, but it may not follow at once.",
    ),
    (
        "switchover_replay_paused",
        "With replay paused the candidate cannot reach the end of the WAL: SELECT pg_wal_replay_resume() on it.",
    ),
    (
        "switchover_operation_open",
        "Another operation has begun and is not over. If its controller is gone, `pgorch resume` continues or undoes it.",
    ),
    (
        "switchover_voters",
        "The operation's epoch must be stored on a majority of the voters, so that no other controller can interleave.",
    ),
    (
        "switchover_replication_refused",
        "The nodes must get replication connections to the candidate, or they cannot follow it: look at its pg_hba.conf (pgorch apply) and at firewalls.",
    ),
    (
        "switchover_no_free_senders",
        "The candidate needs a free WAL sender and slot for every node that will follow: raise max_wal_senders and max_replication_slots.",
    ),
    (
        "switchover_parameter_lower",
        "A standby must not have less of max_connections and the like than its primary (manual, 27.4.3): it would stop. `pgorch apply --restart` evens them out.",
    ),
    (
        "switchover_archive_backlog",
        "A clean stop waits for the archiver: a backlog or a failing archive_command makes the outage long.",
    ),
    (
        "switchover_unit",
        "The servers must run under their units, and the units must know the fence marker: `pgorch apply` renders them.",
    ),
    ("switchover_not_ours", "pgorch changes only clusters that it made."),
    (
        "switchover_fenced",
        "A node that carries a fence marker is not to be promoted: see the marker, and `pgorch rejoin`.",
    ),
    (
        "switchover_transactions",
        "What is open when the primary stops is broken off; prepared transactions move along.",
    ),
    ("switchover_backup", "A base backup from the primary is broken off by the switchover."),
    (
        "switchover_logical_slots",
        "Logical slots stay on the old primary unless they are failover slots (PostgreSQL 17): their consumers must be moved by hand.",
    ),
    (
        "switchover_rewind",
        "Without checksums or wal_log_hints an old primary that has diverged can only be cloned again.",
    ),
    (
        "switchover_finding",
        "A finding of `pgorch status` that is worth knowing before roles change.",
    ),
    (
        "switchover_pooler",
        "The poolers of routing.poolers hold their clients meanwhile: their consoles must answer, and their databases must point at the present primary, or they cannot be moved.",
    ),
    (
        "switchover_vip",
        "The candidate must be able to take the virtual address of routing.vip: it needs the network interface and the script that `pgorch apply` puts there.",
    ),
    (
        "switchover_nofailover",
        "The candidate has priority 0: it is not meant to be the primary for long.",
    ),
    (
        "switchover_sync",
        "replication.sync_standbys asks for more standbys than will be there: commits would wait.",
    ),
    (
        "switchover_sync_version",
        "Before May 2025 a server could let the first commits after a start through before it knew that they must wait for standbys. Quorum replication needs 13.21, 14.18, 15.13, 16.9, 17.5 or later.",
    ),
];

/// Lag from which on the outage would be long: one WAL segment.
const LAG_MAX: u64 = 16 << 20;
/// Files waiting for the archiver from which on a stop would take too long.
const READY_MAX: u64 = 128;
/// What clients of a pooler should be ready to wait besides its timeout, seconds.
const POOLER_OUTAGE_SECONDS: u64 = 30;
/// A transaction that is worth a warning, seconds.
const LONG_TRANSACTION: f64 = 10.0;
/// What a standby must not have lower than its primary.
const NOT_LOWER: [&str; 5] = [
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
];

/// All checks of a switchover to `candidate`, worst first; what is in order is one line.
#[must_use]
pub fn switchover_checks(
    inventory: &Inventory,
    snapshot: &Snapshot,
    topology: &Topology,
    candidate: &HostName,
    looked: &Looked,
    clocks: &ClockOffsets,
) -> Vec<Check> {
    let mut checks = Checks { inventory, snapshot, topology, candidate, looked, out: Vec::new() };
    checks.roles();
    checks.operation();
    checks.candidate();
    checks.primary();
    checks.siblings();
    checks.connections();
    checks.parameters();
    checks.poolers();
    checks.others(clocks);
    let mut out = checks.out;
    out.sort_by_key(|c| std::cmp::Reverse(c.level));
    out
}

struct Checks<'a> {
    inventory: &'a Inventory,
    snapshot: &'a Snapshot,
    topology: &'a Topology,
    candidate: &'a HostName,
    looked: &'a Looked,
    out: Vec<Check>,
}

impl Checks<'_> {
    fn add(
        &mut self,
        code: &'static str,
        level: Level,
        node: Option<&HostName>,
        message: impl Into<String>,
        hint: Option<&str>,
    ) {
        let hint = hint.map(str::to_owned);
        self.out.push(Check { code, level, node: node.cloned(), message: message.into(), hint });
    }

    fn refuse(
        &mut self,
        code: &'static str,
        node: &HostName,
        message: impl Into<String>,
        hint: &str,
    ) {
        self.add(code, Level::Refused, Some(node), message, Some(hint));
    }

    fn warn(&mut self, code: &'static str, node: &HostName, message: impl Into<String>) {
        self.add(code, Level::Warning, Some(node), message, None);
    }

    fn instance(&self, name: &HostName) -> Option<&InstanceFacts> {
        self.snapshot.nodes.get(name)?.facts()?.instance.as_ref()
    }

    fn server(&self, name: &HostName) -> Option<&ServerFacts> {
        self.instance(name)?.server.as_ref()
    }

    fn roles(&mut self) {
        if self.topology.primary.is_some() {
            return;
        }
        let hint = Some("pgorch status");
        match self.topology.primaries.as_slice() {
            [] => self.add(
                "switchover_no_primary",
                Level::Refused,
                None,
                "no node is seen out of recovery, so nobody can hand over",
                Some("a lost primary is replaced by: pgorch failover"),
            ),
            several => {
                let names: Vec<&str> = several.iter().map(HostName::as_str).collect();
                let message = format!("{} are out of recovery: split brain", names.join(" and "));
                self.add("switchover_no_primary", Level::Refused, None, message, hint);
            }
        }
    }

    fn operation(&mut self) {
        let reachable = self.snapshot.epochs().count();
        let voters = self.inventory.nodes.len() + self.inventory.witnesses.len();
        if reachable < voters / 2 + 1 {
            let message = format!("{reachable} of {voters} voters can be reached, no majority");
            self.add("switchover_voters", Level::Refused, None, message, None);
        }
        let open = self.snapshot.epochs().find_map(|(n, e)| Some((n.clone(), e.open()?.clone())));
        if let Some((node, record)) = open {
            let message = format!(
                "the {} to {} of {} ({}) is not over",
                record.kind, record.candidate, record.controller, record.started
            );
            let hint = way_out(self.snapshot, &record);
            self.refuse("switchover_operation_open", &node, message, &hint);
        }
    }

    fn candidate(&mut self) {
        let name = self.candidate.clone();
        let Some(instance) = self.instance(&name) else {
            let cause = match self.snapshot.nodes.get(&name) {
                Some(Observation::Unknown { cause }) => cause.clone(),
                _ => "it was not looked at".to_owned(),
            };
            let hint = "choose another candidate";
            return self.refuse("switchover_candidate_not_streaming", &name, cause, hint);
        };
        let Some(server) = instance.server.clone() else {
            let hint = "pgorch apply starts a stopped standby";
            return self.refuse(
                "switchover_candidate_not_streaming",
                &name,
                "its server does not answer",
                hint,
            );
        };
        let fenced = instance.fenced.clone();
        let member = self.topology.member(&name).cloned();
        let primary = self.topology.primary.clone();
        if let Some(text) = fenced {
            self.refuse("switchover_fenced", &name, text, "pgorch rejoin");
        }
        let (Some(member), Some(primary)) = (member, primary) else { return };
        let direct = member.upstream == Some(Upstream::Node(primary.clone()));
        if member.state != State::Streaming || !direct {
            let from = member.upstream.map(|u| format!(" from {u}")).unwrap_or_default();
            let message = format!("is {}{from}, not streaming from {primary}", member.state.word());
            let hint = "wait until it streams, or choose another candidate";
            self.refuse("switchover_candidate_not_streaming", &name, message, hint);
        }
        let timeline = self.server(&primary).and_then(|s| s.timeline);
        if server.timeline != timeline {
            let hint = "pgorch status";
            let message = "is not on the primary's timeline";
            self.refuse("switchover_candidate_not_streaming", &name, message, hint);
        }
        if let Some(lag) = member.lag_bytes.filter(|lag| *lag > LAG_MAX) {
            let message = format!("is {} MB behind", lag >> 20);
            self.refuse("switchover_candidate_lag", &name, message, "wait until it has caught up");
        }
        let replay = server.lsn.zip(server.replay_lsn).map(|(end, at)| end.bytes_since(at));
        if let Some(behind) = replay.filter(|bytes| *bytes > LAG_MAX) {
            let message = format!("has {} MB to replay", behind >> 20);
            self.refuse("switchover_candidate_lag", &name, message, "wait until it has caught up");
        }
        if server.replay_paused {
            let hint = "SELECT pg_wal_replay_resume()";
            self.refuse("switchover_replay_paused", &name, "replay is paused", hint);
        }
        if self.inventory.nodes.get(&name).is_some_and(|n| n.priority == 0) {
            self.warn("switchover_nofailover", &name, "has priority 0");
        }
    }

    fn primary(&mut self) {
        let Some(primary) = self.topology.primary.clone() else { return };
        for name in [primary.clone(), self.candidate.clone()] {
            let Some(instance) = self.instance(&name).cloned() else { continue };
            if !instance.made_by_pgorch() {
                let hint = "taking over a running server is not built yet";
                self.refuse("switchover_not_ours", &name, "was not made by pgorch", hint);
            }
            let unit = &instance.unit;
            if unit.main_pid == 0 || Some(unit.main_pid) != instance.postmaster_pid {
                let message = "the server does not run under its unit";
                self.refuse(
                    "switchover_unit",
                    &name,
                    message,
                    "systemctl status, then restart it by its unit",
                );
            } else if !unit.heeds_fence || unit.need_daemon_reload {
                let message = "the unit does not know the fence marker yet";
                self.refuse("switchover_unit", &name, message, "pgorch apply");
            }
        }
        let Some(preflight) = self.looked.nodes.get(&primary).cloned() else { return };
        if preflight.prepared_transactions > 0 {
            let message = format!("{} prepared transactions", preflight.prepared_transactions);
            self.warn("switchover_transactions", &primary, message);
        }
        if preflight.longest_transaction_seconds > LONG_TRANSACTION {
            let seconds = preflight.longest_transaction_seconds;
            let message = format!("a transaction of {seconds:.0} s is broken off");
            self.warn("switchover_transactions", &primary, message);
        }
        if preflight.backups > 0 {
            self.warn("switchover_backup", &primary, "a base backup is under way");
        }
        let failing = self.server(&primary).is_some_and(|s| s.archive_failing);
        if preflight.ready_to_archive > READY_MAX || failing && preflight.ready_to_archive > 0 {
            let failing = if failing { ", and archive_command fails" } else { "" };
            let message =
                format!("{} files wait to be archived{failing}", preflight.ready_to_archive);
            self.refuse(
                "switchover_archive_backlog",
                &primary,
                message,
                "mend archive_command first",
            );
        }
        if !preflight.logical_slots.is_empty() {
            let message =
                format!("logical slots stay here: {}", preflight.logical_slots.join(", "));
            self.warn("switchover_logical_slots", &primary, message);
        }
        let control = self.instance(&primary).and_then(|i| i.cluster()?.control.clone());
        if control.is_some_and(|c| !c.data_checksums && !c.wal_log_hints) {
            self.warn("switchover_rewind", &primary, "has neither checksums nor wal_log_hints");
        }
    }

    fn siblings(&mut self) {
        let Some(primary) = self.topology.primary.clone() else { return };
        let members: Vec<_> = self.topology.members.clone().into_iter().collect();
        for (name, member) in members {
            if name == primary || name == *self.candidate {
                continue;
            }
            if !matches!(member.state, State::Streaming) {
                let message = format!("is {}: it will follow when it is back", member.state.word());
                self.warn("switchover_sibling", &name, message);
            } else if member.lag_bytes.is_some_and(|lag| lag > LAG_MAX) {
                let message = format!("is {} MB behind", member.lag_bytes.unwrap_or(0) >> 20);
                self.warn("switchover_sibling", &name, message);
            }
        }
    }

    fn connections(&mut self) {
        let candidate = self.candidate.clone();
        let refused: Vec<(HostName, String)> = self
            .looked
            .nodes
            .iter()
            .filter_map(|(name, seen)| match &seen.reaches_candidate {
                Some(Err(why)) => Some((name.clone(), why.clone())),
                _ => None,
            })
            .collect();
        for (name, why) in refused {
            let message = format!("gets no replication connection to {candidate}: {why}");
            let hint = "pgorch apply, and look at firewalls";
            self.refuse("switchover_replication_refused", &name, message, hint);
        }
        let followers = self.inventory.nodes.len().saturating_sub(1);
        let Some(seen) = self.looked.nodes.get(&candidate) else { return };
        if let Some(why) = seen.vip.clone() {
            self.refuse("switchover_vip", &candidate, why, "pgorch apply");
        }
        let needed = i64::try_from(followers).unwrap_or(i64::MAX);
        let (senders, slots) = (seen.free_wal_senders, seen.free_replication_slots);
        let server = self.server(&candidate);
        let present = server.map_or(0, |s| s.slots.iter().filter(|s| s.physical).count());
        let slots = slots + i64::try_from(present).unwrap_or(0);
        let short = senders < needed || self.inventory.replication.slots && slots < needed;
        if short {
            let message = format!("{senders} WAL senders and {slots} slots for {needed} followers");
            let hint = "raise max_wal_senders and max_replication_slots";
            self.refuse("switchover_no_free_senders", &candidate, message, hint);
        }
        if self.inventory.replication.mode == ReplicationMode::Quorum {
            if let Err(why) = sync_names(self.inventory, &candidate) {
                self.refuse("switchover_sync", &candidate, why, "pgorch explain switchover_sync");
            }
            let version = self.server(&candidate).map(|s| (s.version_num, s.version.clone()));
            if let Some((number, version)) = version
                && !publishes_sync_names(number)
            {
                let message =
                    format!("PostgreSQL {version} may confirm the first commits too early");
                let hint = "update it to 13.21, 14.18, 15.13, 16.9, 17.5 or later";
                self.refuse("switchover_sync_version", &candidate, message, hint);
            }
            let k = usize::try_from(self.inventory.replication.sync_standbys).unwrap_or(1);
            let there = self.topology.standbys().count();
            if there < k {
                let message = format!("commits wait for {k} standbys, {there} are there");
                self.refuse("switchover_sync", &candidate, message, "bring standbys back first");
            }
        }
    }

    /// Who follows must have at least what the new primary has.
    fn parameters(&mut self) {
        let number = |server: &ServerFacts, name: &str| -> Option<i64> {
            server.settings.get(name)?.raw.parse().ok()
        };
        let Some(candidate) = self.server(self.candidate).cloned() else { return };
        let nodes: Vec<HostName> =
            self.inventory.nodes.keys().filter(|n| *n != self.candidate).cloned().collect();
        for name in nodes {
            let Some(server) = self.server(&name).cloned() else { continue };
            for parameter in NOT_LOWER {
                let (own, wanted) = (number(&server, parameter), number(&candidate, parameter));
                // The operation restarts the old primary, with what its file says by now.
                let own = match self.topology.primary.as_ref() == Some(&name) {
                    true => self.pending(&server, &name, parameter).or(own),
                    false => own,
                };
                if let (Some(own), Some(wanted)) = (own, wanted)
                    && own < wanted
                {
                    let message = format!("{parameter} is {own}, the candidate has {wanted}");
                    let hint = "pgorch apply --restart";
                    self.refuse("switchover_parameter_lower", &name, message, hint);
                }
            }
        }
    }

    /// What a parameter is to be after a restart that the server owes for it.
    fn pending(&self, server: &ServerFacts, name: &HostName, parameter: &str) -> Option<i64> {
        server.settings.get(parameter).filter(|s| s.pending_restart)?;
        self.inventory.postgres_of(name)?.parameters.get(parameter)?.trim().parse().ok()
    }

    fn poolers(&mut self) {
        let primary = self.topology.primary.as_ref();
        let Some(primary) = primary.and_then(|p| self.inventory.postgres_of(p)) else { return };
        for (name, pooler) in self.inventory.routing.poolers.clone() {
            let seen = self.looked.poolers.get(&name).cloned();
            match seen.unwrap_or_else(|| Err("it was not looked at".to_owned())) {
                Err(why) => {
                    let hint = "without it: take it out of routing.poolers";
                    self.refuse("switchover_pooler", &name, why, hint);
                }
                Ok(seen) => {
                    self.pooler_databases(&name, &pooler, &seen, &primary);
                    self.pooler_patience(&name, &pooler, &seen);
                }
            }
        }
    }

    /// Whether its databases are where they can be moved from.
    fn pooler_databases(
        &mut self,
        name: &HostName,
        pooler: &Pooler,
        seen: &PoolerSeen,
        primary: &NodeSettings,
    ) {
        let code = "switchover_pooler";
        let place = format!("{} ({}:{})", primary.name, primary.address, primary.port);
        let ours =
            |d: &&PoolerDatabase| pooler.databases.is_empty() || pooler.databases.contains(&d.name);
        let running = |d: &&PoolerDatabase| {
            let same =
                |r: &PoolerDatabase| (&r.name, &r.host, r.port) == (&d.name, &d.host, d.port);
            seen.running.iter().any(same)
        };
        let configured = seen.configured.iter().filter(|d| !running(d));
        let all: Vec<&PoolerDatabase> =
            seen.running.iter().chain(configured).filter(ours).collect();
        let hint = "mend its configuration and RELOAD it";
        for wanted in &pooler.databases {
            if !all.iter().any(|d| d.name == *wanted) {
                self.refuse(code, name, format!("has no database \"{wanted}\""), hint);
            }
        }
        if !all.iter().any(|d| d.is_at(primary)) {
            let message = format!("none of its databases points at the primary {place}");
            self.refuse(code, name, message, hint);
        }
        for database in all {
            let PoolerDatabase { name: own, host, port, .. } = database;
            let listed = host.contains(',') && host.split(',').any(|h| h == primary.address);
            let in_file =
                |d: &PoolerDatabase| d.is_at(primary) && (d.name == *own || d.name == "*");
            if listed {
                let message = format!("\"{own}\" points at several hosts ({host})");
                self.refuse(code, name, message, "one host a database can be moved");
            } else if database.is_at(primary) && !seen.configured.iter().any(in_file) {
                let message = format!("\"{own}\" does not point at {place} in {}", pooler.config);
                self.refuse(code, name, message, "RELOAD it, or see routing.poolers: config");
            } else if !database.is_at(primary) && !pooler.databases.is_empty() {
                let message = format!("\"{own}\" points at {host}:{port}, not at {place}");
                self.refuse(code, name, message, hint);
            } else if !database.is_at(primary)
                && let Some(node) = self.node_at(database)
            {
                self.warn(code, name, format!("\"{own}\" points at {node} and stays there"));
            }
        }
    }

    fn node_at(&self, database: &PoolerDatabase) -> Option<HostName> {
        let is_there =
            |n: &&HostName| self.inventory.postgres_of(n).is_some_and(|node| database.is_at(&node));
        self.inventory.nodes.keys().find(is_there).cloned()
    }

    /// Whether its clients can wait, and their transactions end.
    fn pooler_patience(&mut self, name: &HostName, pooler: &Pooler, seen: &PoolerSeen) {
        let patience = seen.query_wait_timeout;
        let needed = std::time::Duration::from_secs(pooler.timeout_seconds + POOLER_OUTAGE_SECONDS);
        if patience > 0.0 && patience < needed.as_secs_f64() {
            let message =
                format!("query_wait_timeout is {patience} s: who waits longer gets an error");
            self.warn("switchover_pooler", name, message);
        }
        if seen.pool_mode == "session" {
            let message = "pool_mode is session: clients are held when their sessions end";
            self.warn("switchover_pooler", name, message);
        }
        if let Some(database) = seen.running.iter().find(|d| d.paused) {
            let message = format!("\"{}\" is paused already", database.name);
            self.warn("switchover_pooler", name, message);
        }
    }

    /// Findings that are no refusal by themselves.
    fn others(&mut self, clocks: &ClockOffsets) {
        let worth = [
            "clock_skew",
            "disk_nearly_full",
            "system_identifier_mismatch",
            "timeline_fork",
            "settings_overridden",
        ];
        let found = findings(self.inventory, self.snapshot, self.topology, clocks);
        for finding in found.iter().filter(|f| worth.contains(&f.code)) {
            let fatal = finding.code == "system_identifier_mismatch"
                && finding.node.as_ref() == Some(self.candidate);
            let level = if fatal { Level::Refused } else { Level::Warning };
            self.out.push(Check {
                code: "switchover_finding",
                level,
                node: finding.node.clone(),
                message: format!("{}: {}", finding.code, finding.message),
                hint: finding.hint.clone(),
            });
        }
    }
}

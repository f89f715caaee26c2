//! Findings about one host and its instance.

use super::catalog::Severity;
use super::findings::Finding;
use super::{Nodes, State, Topology};
use crate::facts::{InstanceFacts, Recorded, ServerFacts};
use crate::inventory::{NodeSettings, ReplicationMode};
use crate::model::HostName;
use crate::postgres::{SyncNames, major_of, publishes_sync_names, sql};

/// Clock difference from which on it is a finding, in seconds.
const CLOCK_SKEW: f64 = 2.0;
/// Lag below this is never a finding, whatever the failover limit is: one WAL segment.
const LAG_FLOOR: u64 = 16 << 20;
/// WAL that an unused slot may hold before it is a finding.
const RETAINED: u64 = 64 << 20;
/// What a standby must not have lower than its primary (manual, 27.4.3).
const AT_LEAST_PRIMARYS: &[&str] = &[
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
];

pub(super) fn of_host(
    nodes: &Nodes<'_>,
    name: &HostName,
    clock: Option<&f64>,
    found: &mut Vec<Finding>,
) {
    if let Some(offset) = clock.filter(|offset| offset.abs() > CLOCK_SKEW) {
        let side = if *offset > 0.0 { "ahead of" } else { "behind" };
        let message = format!("the host's clock is {:.1} s {side} the controller's", offset.abs());
        found.push(Finding::new("clock_skew", message).on(name));
    }
    let Some(instance) = nodes.instance(name) else { return };
    let (free, total) = (instance.disk_free_bytes, instance.disk_total_bytes);
    if total > 0 && free < total / 10 {
        let percent = free.saturating_mul(100) / total;
        let message = format!("{percent} % ({}) left for data_dir", bytes(free));
        found.push(Finding::new("disk_nearly_full", message).on(name));
    }
}

pub(super) fn of_instance(
    nodes: &Nodes<'_>,
    topology: &Topology,
    name: &HostName,
    found: &mut Vec<Finding>,
) {
    let (Some(instance), Some(settings)) = (nodes.instance(name), nodes.settings.get(name)) else {
        return;
    };
    let mut own = Vec::new();
    unit(instance, &mut own);
    version(instance, settings, &mut own);
    let control = instance.cluster().and_then(|c| c.control.as_ref());
    if control.is_some_and(|control| !control.data_checksums) {
        own.push(Finding::new("checksums_off", "the data directory has no checksums"));
    }
    if let Some(server) = &instance.server {
        if !instance.made_by_pgorch() {
            own.push(not_ours(instance, server, settings));
        }
        files(instance, server, settings, &mut own);
        slots(server, &mut own);
        if server.archive_failing {
            own.push(Finding::new(
                "archive_failing",
                "archive_command failed since its last success",
            ));
        }
    }
    if instance.fenced.is_some() && instance.server.is_some() {
        let message = "runs, and carries a fence marker: its next start will be refused";
        own.push(Finding::new("node_fenced", message));
    }
    if let Some(open) = instance.epoch.open() {
        let message =
            format!("the {} by {} ({}) is not over", open.what(), open.controller, open.started);
        let finding = Finding::new("operation_open", message);
        own.push(finding.hint("if its controller is gone: pgorch resume"));
    }
    sync(nodes, topology, settings, &mut own);
    standby(nodes, topology, settings, &mut own);
    found.extend(own.into_iter().map(|finding| finding.on(name)));
}

fn unit(instance: &InstanceFacts, found: &mut Vec<Finding>) {
    let unit = &instance.unit;
    let made = instance.cluster().is_some_and(|c| c.made_by_pgorch);
    // `enabled`, `enabled-runtime`, `alias`, `static`, `generated`, `linked` all start somehow.
    let off = matches!(unit.file_state.as_str(), "disabled" | "masked" | "masked-runtime");
    let missing =
        matches!(unit.load_state.as_str(), "not-found" | "masked" | "bad-setting" | "error");
    if made && (off || missing) {
        let state = if missing { &unit.load_state } else { &unit.file_state };
        let message = format!("the unit is {state}: the server stays down after a reboot");
        found.push(Finding::new("unit_not_enabled", message).hint("pgorch apply"));
    }
    if unit.need_daemon_reload {
        let message = "the unit's file changed since systemd read it";
        found.push(Finding::new("unit_needs_daemon_reload", message).hint("pgorch apply"));
    }
}

fn version(instance: &InstanceFacts, settings: &NodeSettings, found: &mut Vec<Finding>) {
    let wanted = settings.version;
    let on_disk = instance.cluster().map(|c| c.major).filter(|major| *major != 0);
    let running = instance.server.as_ref().map(|s| major_of(s.version_num));
    if let Some(major) = running.or(on_disk).filter(|major| *major != wanted) {
        let message = format!("is PostgreSQL {major}, the inventory says {wanted}");
        found.push(Finding::new("version_differs", message).severity(Severity::Critical));
    } else if let (Some(server), Some(binary)) = (&instance.server, &instance.binary_version)
        && server.version != *binary
    {
        let message = format!("runs {}, installed is {binary}", server.version);
        let finding = Finding::new("version_differs", message).hint("pgorch apply --restart");
        found.push(finding.severity(Severity::Info));
    } else if instance.owes_new_binaries() {
        let message = "its binaries were replaced since it started";
        let finding = Finding::new("version_differs", message).hint("pgorch restart --switchover");
        found.push(finding.severity(Severity::Info));
    }
}

fn not_ours(instance: &InstanceFacts, server: &ServerFacts, settings: &NodeSettings) -> Finding {
    let message = if instance.server_elsewhere {
        let dir = server.data_directory.as_deref().unwrap_or("another directory");
        format!("the server on port {} runs on {dir}, not on {}", settings.port, settings.data_dir)
    } else {
        format!("{} was not made by pgorch", settings.data_dir)
    };
    Finding::new("not_made_by_pgorch", message).hint("use another port and data_dir, or stop it")
}

fn files(
    instance: &InstanceFacts,
    server: &ServerFacts,
    settings: &NodeSettings,
    found: &mut Vec<Finding>,
) {
    for error in &server.config_errors {
        found.push(Finding::new("config_error", error.clone()));
    }
    if !server.pending_restart.is_empty() {
        let message = format!("{} waits for a restart", server.pending_restart.join(", "));
        found.push(Finding::new("pending_restart", message).hint("pgorch apply --restart"));
    }
    if instance.config_newer_than_load {
        let message = "a configuration file changed after the server last read it";
        found.push(Finding::new("reload_owed", message).hint("pgorch apply"));
    }
    let in_auto_conf = server.settings.iter().filter(|(name, setting)| {
        let file = setting.source_file.as_deref().unwrap_or_default();
        file.ends_with("/postgresql.auto.conf")
            && (sql::is_watched(name)
                || settings.parameters.keys().any(|p| p.eq_ignore_ascii_case(name)))
    });
    for (name, setting) in in_auto_conf {
        let message = format!("{name} is {} by postgresql.auto.conf", setting.value);
        let finding = Finding::new("settings_overridden", message);
        found.push(finding.hint(format!("{};", sql::reset_parameter(name))));
    }
}

fn slots(server: &ServerFacts, found: &mut Vec<Finding>) {
    for slot in server.slots.iter().filter(|slot| !slot.active) {
        let lost = slot.wal_status.as_deref() == Some("lost");
        let retained = slot.retained_bytes.filter(|_| slot.restart_lsn.is_some()).unwrap_or(0);
        if lost || retained >= RETAINED {
            let message = match lost {
                true => format!("slot \"{}\" is lost: its WAL is gone", slot.name),
                false => format!("slot \"{}\" is unused and holds {}", slot.name, bytes(retained)),
            };
            found.push(Finding::new("slot_inactive_retaining", message));
        }
    }
}

/// Whether a primary in quorum mode waits for as many standbys as it should, and has them.
fn sync(nodes: &Nodes<'_>, topology: &Topology, settings: &NodeSettings, found: &mut Vec<Finding>) {
    let replication = &nodes.inventory.replication;
    let primary = topology.primary.as_ref() == Some(&settings.name);
    let Some(server) = nodes.server(&settings.name).filter(|_| primary) else { return };
    if replication.mode != ReplicationMode::Quorum {
        return;
    }
    if !publishes_sync_names(server.version_num) {
        let message =
            format!("{} may confirm the first commits after a start early", server.version);
        found.push(Finding::new("sync_old_minor", message));
    }
    let names = server.settings.get("synchronous_standby_names").map_or("", |s| &s.value);
    sync_record(nodes, &settings.name, names, found);
    sync_names_taken(nodes, server, names, found);
    if names.is_empty() {
        let message = "synchronous_standby_names is empty: commits wait for nobody";
        found.push(Finding::new("sync_standby_missing", message).hint("pgorch apply"));
        return;
    }
    let counted = |s: &&crate::facts::Sender| {
        s.state == "streaming" && matches!(s.sync_state.as_str(), "quorum" | "sync")
    };
    let there = server.senders.iter().filter(counted).count();
    let wanted = usize::try_from(replication.sync_standbys).unwrap_or(usize::MAX);
    if there < wanted {
        let message = format!("commits wait for {wanted} standbys, {there} of them stream");
        found.push(Finding::new("sync_standby_missing", message).severity(Severity::Critical));
    }
}

/// Whether exactly what the primary runs is recorded, so that a failover knows whom to ask.
fn sync_record(nodes: &Nodes<'_>, primary: &HostName, names: &str, found: &mut Vec<Finding>) {
    let stored = nodes.settings.keys().filter_map(|n| nodes.instance(n)?.sync.as_ref());
    let values = Recorded::of(stored).values_of(primary);
    let wait = |v: &SyncNames| if v.is_none() { "nobody".to_owned() } else { v.to_string() };
    let message = match values.as_slice() {
        [one] if one.to_string() == names => return,
        [] if names.is_empty() => return,
        [] => format!("commits wait for {names}, which is not recorded"),
        several => {
            let several: Vec<String> = several.iter().map(wait).collect();
            format!("commits may be waiting for {}", several.join(", or for "))
        }
    };
    found.push(Finding::new("sync_change_open", message).hint("pgorch apply"));
}

/// Who acknowledges as a member without its slot, or beside it.
fn sync_names_taken(
    nodes: &Nodes<'_>,
    server: &ServerFacts,
    names: &str,
    found: &mut Vec<Finding>,
) {
    let members = SyncNames::parse(names).unwrap_or_default().members;
    for name in nodes.settings.values().map(|n| &n.slot).filter(|n| members.contains(*n)) {
        let of_name = server.senders.iter().filter(|s| s.application_name == *name);
        if let Some(other) = of_name.clone().find(|s| s.slot.as_ref() != Some(name)) {
            let from = other.client_addr.as_deref().unwrap_or("a local socket");
            let message = format!("\"{name}\" from {from} does not use the slot of that name");
            found.push(Finding::new("sync_name_taken", message));
        }
    }
}

/// What concerns a node as a standby of the primary.
fn standby(
    nodes: &Nodes<'_>,
    topology: &Topology,
    settings: &NodeSettings,
    found: &mut Vec<Finding>,
) {
    let name = &settings.name;
    let (Some(member), Some(server)) = (topology.member(name), nodes.server(name)) else { return };
    if !server.in_recovery {
        return;
    }
    if member.state == State::Disconnected {
        let from = member.upstream.as_ref().map(|u| format!(" from {u}")).unwrap_or_default();
        let hint = format!("its log says why: journalctl -u {} on {name}", settings.service);
        let finding = Finding::new("standby_not_streaming", format!("receives no WAL{from}"));
        found.push(finding.hint(hint));
    }
    if server.replay_paused {
        let message = "replay is paused";
        let hint = "SELECT pg_wal_replay_resume()";
        found.push(Finding::new("standby_lagging", message).hint(hint));
    }
    let limit = nodes.inventory.failover.maximum_lag_bytes.unwrap_or(0).max(LAG_FLOOR);
    if let Some(lag) = member.lag_bytes.filter(|lag| *lag > limit) {
        found.push(Finding::new("standby_lagging", format!("is {} behind", bytes(lag))));
    }
    if let Some(wanted) = topology.wanted_upstream(settings) {
        upstream(nodes, member, settings, wanted, found);
    }
    if let Some(primary) = topology.primary.as_ref().and_then(|p| nodes.server(p)) {
        lower_parameters(server, primary, found);
        let same_major = major_of(server.version_num) == major_of(primary.version_num);
        let told = nodes
            .instance(name)
            .is_some_and(|i| i.binary_version.as_ref() != Some(&server.version));
        if same_major && !told && server.version != primary.version {
            let message = format!("runs {}, the primary {}", server.version, primary.version);
            found.push(Finding::new("version_differs", message).severity(Severity::Info));
        }
    }
}

fn upstream(
    nodes: &Nodes<'_>,
    member: &super::Member,
    settings: &NodeSettings,
    wanted: &HostName,
    found: &mut Vec<Finding>,
) {
    let follow = settings.follow.as_ref();
    if let Some(actual) = member.upstream.as_ref().filter(|actual| actual.node() != Some(wanted)) {
        let message = format!("follows {actual} instead of {wanted}");
        found.push(Finding::new("wrong_upstream", message).hint("pgorch apply"));
    } else if let Some(follow) = follow.filter(|follow| *follow != wanted) {
        let message = format!("follows {wanted}, because {follow} is not fit to be followed now");
        found.push(Finding::new("wrong_upstream", message).severity(Severity::Info));
    }
    let actual = member.upstream.as_ref().and_then(super::Upstream::node).unwrap_or(wanted);
    if let Some(server) = nodes.server(actual).filter(|_| nodes.inventory.replication.slots)
        && !server.slots.iter().any(|slot| slot.name == settings.slot)
    {
        let message = format!("has no slot \"{}\" on {actual}", settings.slot);
        found.push(Finding::new("slot_missing", message).hint("pgorch apply"));
    }
}

fn lower_parameters(standby: &ServerFacts, primary: &ServerFacts, found: &mut Vec<Finding>) {
    let number = |server: &ServerFacts, name: &str| -> Option<i64> {
        server.settings.get(name)?.raw.parse().ok()
    };
    for name in AT_LEAST_PRIMARYS {
        if let (Some(own), Some(theirs)) = (number(standby, name), number(primary, name))
            && own < theirs
        {
            let message = format!("{name} is {own}, the primary has {theirs}");
            found.push(
                Finding::new("standby_parameter_lower", message).hint("pgorch apply --restart"),
            );
        }
    }
}

/// A size as people read it: `0 B`, `12 kB`, `3.4 MB`; powers of 1024, PostgreSQL's names.
pub(super) fn bytes(bytes: u64) -> String {
    let units = ["kB", "MB", "GB", "TB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(value < 10.0);
    format!("{value:.digits$} {}", units[unit])
}

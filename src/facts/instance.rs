//! The instance at rest (one script) and at work (one query).

use std::collections::BTreeMap;

use super::{
    CannotLook, ClusterDir, DataDir, InstanceFacts, Pause, SyncRecord, UnitFacts, control, epoch,
    server,
};
use crate::inventory::{NodeSettings, guard_paths};
use crate::model::{Answer, Fragment, Resource, Script, Secret, SystemIdentifier, Timeline};
use crate::postgres::{parse_pass_line, sql};

/// The role that standbys connect as.
const REPLICATION_USER: &str = "replicator";

/// What to ask about a node's instance: one script of about six forks, one query.
#[must_use]
pub fn instance_fragments(node: &NodeSettings) -> Vec<Fragment> {
    let guarded = guard_paths(&node.service).enabled;
    let script = Script::new()
        .set("dir", &node.data_dir)
        .set("home", &node.home)
        .set("bin", &node.bin_dir)
        .set("unit", &unit_name(&node.service))
        .set("node", node.name.as_str())
        .set("guarded", &guarded)
        .line(include_str!("instance.sh"));
    let paths = [&node.data_dir, &node.home, &node.bin_dir, &guarded];
    let mut reads: Vec<Resource> = paths.map(|p| Resource::Path(p.clone())).into();
    reads.extend([Resource::Packages, Resource::Units, Resource::Postgres]);

    let mut query =
        Fragment::sql("postgres", sql::status(node.parameters.keys().map(String::as_str)));
    // A unit that starts or stops, and with it the server, changes this answer too.
    query.reads.push(Resource::Units);
    vec![Fragment::sh(script, reads), query]
}

/// systemctl would take a name without suffix for a service, except one with a dot in it.
fn unit_name(service: &str) -> String {
    if service.ends_with(".service") { service.to_owned() } else { format!("{service}.service") }
}

/// The instance as the answers to [`instance_fragments`] show it.
///
/// # Errors
/// The script did not run to where it says what stands at `data_dir`: nothing is known then, least
/// of all that there is no data.
pub fn instance_facts(
    node: &NodeSettings,
    answers: &[Answer],
) -> Result<InstanceFacts, CannotLook> {
    let Some(rest) = answers.first() else {
        return Err(CannotLook("no answer".to_owned()));
    };
    let report = Report::read(&rest.stdout);
    let mut facts = at_rest(&report).ok_or_else(|| CannotLook(complaint(rest)))?;
    if let Some(answer) = answers.get(1) {
        match server::server_facts(answer) {
            Ok(server) => facts.server = Some(server),
            Err(message) if facts.postmaster_pid.is_some() => facts.server_error = Some(message),
            Err(_) => {}
        }
    }
    compare_with_server(node, &report, &mut facts);
    Ok(facts)
}

/// Why a script said nothing of use.
fn complaint(answer: &Answer) -> String {
    match answer.stderr.trim().lines().last() {
        Some(line) => line.to_owned(),
        None => format!("the look at the instance ended with status {}", answer.rc),
    }
}

/// Lines `key=value` and sections of the script.
struct Report<'a> {
    values: BTreeMap<&'a str, &'a str>,
    sections: BTreeMap<&'a str, Vec<&'a str>>,
}

impl<'a> Report<'a> {
    fn read(text: &'a str) -> Self {
        let mut report = Report { values: BTreeMap::new(), sections: BTreeMap::new() };
        let mut section = None;
        for line in text.lines() {
            match (section, line.strip_prefix('[').and_then(|l| l.strip_suffix(']'))) {
                (Some(_), Some("end")) => section = None,
                (Some(name), _) => report.sections.entry(name).or_default().push(line),
                (None, Some(name)) => section = Some(name),
                (None, None) => {
                    if let Some((key, value)) = line.split_once('=') {
                        // Of several lines for the password the first counts, as in libpq.
                        report.values.entry(key).or_insert(value);
                    }
                }
            }
        }
        report
    }

    fn value(&self, key: &str) -> Option<&'a str> {
        self.values.get(key).copied()
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.value(key)?.trim().parse().ok()
    }

    fn section(&self, name: &str) -> &[&'a str] {
        self.sections.get(name).map_or(&[], Vec::as_slice)
    }
}

/// Everything but the server; `None` if the report does not say what stands at the data directory.
fn at_rest(report: &Report) -> Option<InstanceFacts> {
    let data_dir = match report.value("dir")? {
        "missing" => DataDir::Missing,
        "empty" => DataDir::Empty,
        "cluster" => DataDir::Cluster(cluster_dir(report)),
        "foreign" => DataDir::Foreign,
        _ => return None,
    };
    let (disk_total_bytes, disk_free_bytes) = disk(report.section("df")).unwrap_or_default();
    Some(InstanceFacts {
        binary_version: report.value("binary").and_then(binary_version),
        data_dir,
        unit: unit(report.section("unit")),
        postmaster_pid: report.number("postmaster"),
        binary_replaced: report.value("binary_replaced").is_some(),
        replication_password: report.value("pass").and_then(replication_password),
        disk_free_bytes,
        disk_total_bytes,
        epoch: epoch::read(report.value("epoch"), report.value("operation")),
        pause: report.value("pause").and_then(Pause::read),
        sync: report.value("sync").map(SyncRecord::read),
        revoked: report.value("revoked").is_some(),
        guarded: report.value("guarded").is_some(),
        owner: report.value("owner").map(str::to_owned),
        fenced: report.value("fenced").map(str::to_owned),
        ..InstanceFacts::default()
    })
}

/// What only the script and the server together show.
fn compare_with_server(node: &NodeSettings, report: &Report, facts: &mut InstanceFacts) {
    let Some(server) = &facts.server else { return };
    let on_disk = facts.cluster().and_then(|c| c.control.as_ref()).map(|c| c.system_identifier);
    let same_system = match (on_disk, server.system_identifier) {
        (Some(disk), Some(live)) => disk == live,
        _ => facts.cluster().is_some(),
    };
    let trimmed = |path: &str| path.trim_end_matches('/').to_owned();
    let same_dir = server.data_directory.as_deref().map(trimmed) == Some(trimmed(&node.data_dir));
    let port: Option<u16> = report.number("postmaster_port");
    let same_process = facts.postmaster_pid.is_some() && port == Some(node.port);
    facts.server_elsewhere = !(same_system && (same_dir || same_process));

    let loaded = server.conf_loaded_at;
    let newer = |line: &&str| {
        let time = line.split(' ').next().and_then(|t| t.parse::<f64>().ok());
        time.is_some_and(|time| time > loaded)
    };
    facts.config_newer_than_load =
        !facts.server_elsewhere && report.section("changed").iter().any(newer);
}

fn cluster_dir(report: &Report) -> ClusterDir {
    let control = control::control_data(&report.section("control").join("\n"));
    let made: Option<u64> = report.number("made");
    let history = report
        .value("history_of")
        .and_then(|name| control::history(name, &report.section("history").join("\n")));
    ClusterDir {
        major: report.number("major").unwrap_or_default(),
        made_by_pgorch: made.is_some()
            && made.map(SystemIdentifier) == control.as_ref().map(|c| c.system_identifier),
        standby_signal: report.value("standby_signal").is_some(),
        recovery_signal: report.value("recovery_signal").is_some(),
        control,
        history,
        wal_timeline: report.value("wal_file").and_then(wal_timeline),
    }
}

/// The first eight digits of a WAL file's name.
fn wal_timeline(name: &str) -> Option<Timeline> {
    u32::from_str_radix(name.get(..8)?, 16).ok().map(Timeline)
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` is `15.18`.
fn binary_version(line: &str) -> Option<String> {
    Some(line.split_once("(PostgreSQL) ")?.1.split(' ').next()?.to_owned())
}

fn unit(lines: &[&str]) -> UnitFacts {
    let mut unit = UnitFacts::default();
    for (key, value) in lines.iter().filter_map(|line| line.split_once('=')) {
        match key {
            "LoadState" => unit.load_state = value.to_owned(),
            "ActiveState" => unit.active_state = value.to_owned(),
            "SubState" => unit.sub_state = value.to_owned(),
            "UnitFileState" => unit.file_state = value.to_owned(),
            "MainPID" => unit.main_pid = value.parse().unwrap_or_default(),
            "NeedDaemonReload" => unit.need_daemon_reload = value == "yes",
            "ExecStartPre" => unit.heeds_fence |= value.contains(".boot"),
            _ => {}
        }
    }
    unit
}

fn replication_password(line: &str) -> Option<Secret> {
    let line = parse_pass_line(line)?;
    (line.user == REPLICATION_USER && !line.password.expose().is_empty()).then_some(line.password)
}

/// Total and free bytes of the last line of `df -Pk`: device, 1024-blocks, used, available,
/// capacity, mount point. A device name may hold blanks, so the fields are counted from the
/// one with the percent sign.
fn disk(lines: &[&str]) -> Option<(u64, u64)> {
    let words: Vec<&str> = lines.last()?.split_whitespace().collect();
    let percent = words.iter().position(|w| w.ends_with('%'))?;
    let bytes = |at: usize| words.get(at)?.parse::<u64>().ok()?.checked_mul(1024);
    Some((bytes(percent.checked_sub(3)?)?, bytes(percent.checked_sub(1)?)?))
}

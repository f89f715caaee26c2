//! pg_controldata's output.

use indexmap::IndexMap;

use super::{ControlData, History};
use crate::model::{Lsn, SystemIdentifier, Timeline};

/// How pg_controldata (13 to 18) names the parameters that a standby must not have lower.
const SETTINGS: &[(&str, &str)] = &[
    ("max_connections setting", "max_connections"),
    ("max_worker_processes setting", "max_worker_processes"),
    ("max_wal_senders setting", "max_wal_senders"),
    ("max_prepared_xacts setting", "max_prepared_transactions"),
    ("max_locks_per_xact setting", "max_locks_per_transaction"),
];

/// Reads the output; `None` if an essential line is missing or the checksum of the file was wrong
/// (a read that met a write shows rubbish).
pub(super) fn control_data(text: &str) -> Option<ControlData> {
    if text.lines().any(|line| line.to_ascii_lowercase().contains("crc checksum does not match")) {
        return None;
    }
    let lines: IndexMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim(), value.trim()))
        .collect();
    let number = |name: &str| lines.get(name)?.parse::<u64>().ok();
    let timeline = |name: &str| Some(Timeline(u32::try_from(number(name)?).ok()?));
    let lsn = |name: &str| lines.get(name)?.parse::<Lsn>().ok();

    let end = timeline("Min recovery ending loc's timeline")
        .zip(lsn("Minimum recovery ending location"))
        .filter(|(_, lsn)| *lsn != Lsn(0));
    let settings = SETTINGS.iter().filter_map(|(label, name)| {
        Some(((*name).to_owned(), lines.get(label)?.parse::<i64>().ok()?))
    });
    Some(ControlData {
        system_identifier: SystemIdentifier(number("Database system identifier")?),
        state: (*lines.get("Database cluster state")?).to_owned(),
        timeline: timeline("Latest checkpoint's TimeLineID")?,
        checkpoint_lsn: lsn("Latest checkpoint location")?,
        redo_lsn: lsn("Latest checkpoint's REDO location")
            .or_else(|| lsn("Latest checkpoint location"))?,
        data_checksums: number("Data page checksum version").unwrap_or(0) != 0,
        wal_log_hints: lines.get("wal_log_hints setting") == Some(&"on"),
        min_recovery_end: end,
        settings: settings.collect(),
    })
}

/// Reads a timeline history file (`0000000A.history`): lines of timeline, end and reason.
pub(super) fn history(file_name: &str, text: &str) -> Option<History> {
    let hex = file_name.strip_suffix(".history")?;
    let timeline = Timeline(u32::from_str_radix(hex, 16).ok()?);
    let ancestors = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let timeline = words.next()?.parse().ok()?;
        Some((Timeline(timeline), words.next()?.parse().ok()?))
    });
    Some(History { timeline, ancestors: ancestors.collect() })
}

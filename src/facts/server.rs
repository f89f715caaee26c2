//! The server's answer to [`crate::postgres::sql::status`].

use indexmap::IndexMap;
use serde::Deserialize;

use super::{Receiver, Sender, ServerFacts, Setting, Slot};
use crate::model::{Answer, Lsn, SystemIdentifier, Timeline};
use crate::postgres::valid_value;

/// The document as the statement builds it.
#[derive(Deserialize)]
struct Document {
    version_num: u32,
    version: String,
    in_recovery: bool,
    system_identifier: Option<String>,
    timeline: Option<u32>,
    lsn: Option<String>,
    replay_lsn: Option<String>,
    replay_lag_seconds: Option<f64>,
    replay_paused: Option<bool>,
    receiver: Option<ReceiverRow>,
    senders: Option<Vec<SenderRow>>,
    slots: Option<Vec<SlotRow>>,
    settings: Option<IndexMap<String, Setting>>,
    databases: Option<Vec<String>>,
    roles: Option<Vec<String>>,
    up_seconds: Option<f64>,
    conf_loaded_seconds: Option<f64>,
    conf_loaded_at: Option<f64>,
    archive_failing: Option<bool>,
    file_settings: Option<String>,
    hba_rules: Option<String>,
    registered: Option<String>,
}

#[derive(Deserialize)]
struct ReceiverRow {
    status: Option<String>,
    sender_host: Option<String>,
    sender_port: Option<u16>,
    slot: Option<String>,
    silent_seconds: Option<f64>,
}

#[derive(Deserialize)]
struct SenderRow {
    application_name: Option<String>,
    client_addr: Option<String>,
    state: Option<String>,
    sync_state: Option<String>,
    slot: Option<String>,
    sent: Option<String>,
    flush: Option<String>,
    replay: Option<String>,
}

#[derive(Deserialize)]
struct SlotRow {
    name: String,
    physical: bool,
    active: Option<bool>,
    restart_lsn: Option<String>,
    wal_status: Option<String>,
    retained_bytes: Option<i64>,
}

/// A row of `pg_file_settings` with an error, joined with the parameter's description.
#[derive(Deserialize)]
struct FileSetting {
    file: Option<String>,
    line: Option<i64>,
    name: Option<String>,
    setting: Option<String>,
    error: Option<String>,
    context: Option<String>,
    vartype: Option<String>,
    unit: Option<String>,
    choices: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct HbaError {
    line: Option<i64>,
    error: Option<String>,
}

/// The server's facts, or why there are none.
pub(super) fn server_facts(answer: &Answer) -> Result<ServerFacts, String> {
    if answer.rc != 0 {
        let stderr = answer.stderr.trim();
        return Err(match (stderr.is_empty(), answer.rc) {
            (false, _) => stderr.to_owned(),
            (true, rc) => format!("psql ended with status {rc}"),
        });
    }
    let document: Document = serde_json::from_str(answer.stdout.trim())
        .map_err(|e| format!("the server's answer is not understood: {e}"))?;
    Ok(document.into_facts())
}

impl Document {
    fn into_facts(self) -> ServerFacts {
        let config_errors = self.config_errors();
        let registered = rows(self.registered.as_deref());
        let settings = self.settings.unwrap_or_default();
        let pending = settings.iter().filter(|(_, s)| s.pending_restart);
        ServerFacts {
            version_num: self.version_num,
            // Distributions add their own: `15.18 (Debian 15.18-0+deb12u1)`.
            version: self.version.split(' ').next().unwrap_or_default().to_owned(),
            in_recovery: self.in_recovery,
            system_identifier: self
                .system_identifier
                .and_then(|id| id.parse().ok())
                .map(SystemIdentifier),
            timeline: self.timeline.map(Timeline),
            lsn: lsn(self.lsn),
            replay_lsn: lsn(self.replay_lsn),
            replay_lag_seconds: self.replay_lag_seconds,
            replay_paused: self.replay_paused.unwrap_or_default(),
            receiver: self.receiver.map(ReceiverRow::into_facts),
            senders: self.senders.unwrap_or_default().into_iter().map(Sender::from).collect(),
            slots: self.slots.unwrap_or_default().into_iter().map(Slot::from).collect(),
            pending_restart: pending.map(|(name, _)| name.clone()).collect(),
            config_errors,
            databases: self.databases.unwrap_or_default(),
            roles: self.roles.unwrap_or_default(),
            up_seconds: self.up_seconds.unwrap_or_default(),
            conf_loaded_seconds: self.conf_loaded_seconds.unwrap_or_default(),
            conf_loaded_at: self.conf_loaded_at.unwrap_or_default(),
            archive_failing: self.archive_failing.unwrap_or_default(),
            data_directory: settings.get("data_directory").map(|s| s.value.clone()),
            registered,
            settings,
        }
    }

    fn config_errors(&self) -> Vec<String> {
        let files: Vec<FileSetting> = rows(self.file_settings.as_deref());
        let files = files.into_iter().filter(|row| !row.only_needs_restart()).map(|row| {
            let place = format!(
                "{}:{}",
                row.file.as_deref().unwrap_or("postgresql.conf"),
                row.line.unwrap_or_default()
            );
            let error = row.error.as_deref().unwrap_or_default();
            match &row.name {
                Some(name) => format!("{place}: {name}: {error}"),
                None => format!("{place}: {error}"),
            }
        });
        let rules: Vec<HbaError> = rows(self.hba_rules.as_deref());
        let rules = rules.into_iter().map(|row| {
            let line = row.line.unwrap_or_default();
            format!("pg_hba.conf:{line}: {}", row.error.unwrap_or_default())
        });
        files.chain(rules).collect()
    }
}

impl FileSetting {
    /// A parameter of the start that was taken out of its file has no place any more, only words in
    /// the server's language. "setting could not be applied" (in the server's language) is said both of a bad value and
    /// of a good one that waits for a restart; only for a parameter that can be set at start alone
    /// it may be the latter, so the value is judged here.
    fn only_needs_restart(&self) -> bool {
        let taken_out = self.name.is_none() && self.file.is_none();
        taken_out
            || self.context.as_deref() == Some("postmaster")
                && valid_value(
                    self.setting.as_deref().unwrap_or_default(),
                    self.vartype.as_deref().unwrap_or_default(),
                    self.unit.as_deref(),
                    self.choices.as_deref().unwrap_or_default(),
                )
    }
}

impl ReceiverRow {
    fn into_facts(self) -> Receiver {
        Receiver {
            status: self.status.unwrap_or_default(),
            sender_host: self.sender_host.unwrap_or_default(),
            sender_port: self.sender_port.unwrap_or_default(),
            slot: self.slot,
            silent_seconds: self.silent_seconds.unwrap_or_default(),
        }
    }
}

impl From<SenderRow> for Sender {
    fn from(row: SenderRow) -> Self {
        Sender {
            application_name: row.application_name.unwrap_or_default(),
            client_addr: row.client_addr,
            state: row.state.unwrap_or_default(),
            sync_state: row.sync_state.unwrap_or_default(),
            slot: row.slot,
            sent: lsn(row.sent),
            flush: lsn(row.flush),
            replay: lsn(row.replay),
        }
    }
}

impl From<SlotRow> for Slot {
    fn from(row: SlotRow) -> Self {
        Slot {
            name: row.name,
            physical: row.physical,
            active: row.active.unwrap_or_default(),
            restart_lsn: lsn(row.restart_lsn),
            wal_status: row.wal_status,
            retained_bytes: row.retained_bytes.map(|b| u64::try_from(b).unwrap_or(0)),
        }
    }
}

fn lsn(text: Option<String>) -> Option<Lsn> {
    text?.parse().ok()
}

/// The rows of a part that the server ran through `query_to_xml`: JSON in the element `j`, which
/// is not there when there were no rows. A part that is not understood is empty.
fn rows<T: serde::de::DeserializeOwned>(xml: Option<&str>) -> Vec<T> {
    let json = xml
        .and_then(|xml| xml.split_once("<j>"))
        .and_then(|(_, rest)| rest.split_once("</j>"))
        // What escape_xml() of xml.c writes; `&amp;` last, or `&amp;lt;` would become `<`.
        .map(|(json, _)| json.replace("&#x0d;", "\r").replace("&lt;", "<").replace("&gt;", ">"))
        .map(|json| json.replace("&amp;", "&"));
    json.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default()
}

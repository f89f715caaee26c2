//! What a round asks, and what the answers say.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::lease::Reading;
use super::observation::{Answering, HostSeen, Reach, ReceiverSeen, ServerSeen};
use crate::facts::{Pause, read_epoch};
use crate::inventory::NodeSettings;
use crate::model::{Script, SystemIdentifier, Timeline};

/// The question to the server, over the standing session: one row, one column, JSON.
pub const PROBE_SQL: &str = "SELECT json_build_object(\
    'in_recovery', r.recovery,\
    'system', (SELECT system_identifier::text FROM pg_control_system()),\
    'timeline', CASE WHEN r.recovery \
        THEN coalesce((SELECT received_tli FROM pg_stat_wal_receiver WHERE received_tli > 0), \
            greatest((SELECT timeline_id FROM pg_control_checkpoint()), \
                (SELECT min_recovery_end_timeline FROM pg_control_recovery()))) \
        ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END,\
    'lsn', CASE WHEN r.recovery \
        THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) \
        ELSE pg_current_wal_lsn() END,\
    'receiver', (SELECT json_build_object('streaming', status = 'streaming', 'host', sender_host, \
        'port', sender_port, 'silent', extract(epoch FROM clock_timestamp() - last_msg_receipt_time)) \
        FROM pg_stat_wal_receiver),\
    'streaming_to', (SELECT json_agg(s.slot_name ORDER BY s.slot_name) FROM pg_stat_replication p \
        JOIN pg_replication_slots s ON s.active_pid = p.pid WHERE p.state = 'streaming')) \
    FROM (SELECT pg_is_in_recovery() AS recovery OFFSET 0) r";

/// The question to the host. `node` is none on a witness; a suspected one is asked what systemd says too.
#[must_use]
pub fn probe_script(home: &str, node: Option<&NodeSettings>, suspect: bool) -> Script {
    let of = |f: fn(&NodeSettings) -> &str| node.map(f).unwrap_or_default();
    let unit = of(|n| &n.service);
    let unit = match unit.ends_with(".service") {
        true => unit.to_owned(),
        false => format!("{unit}.service"),
    };
    Script::new()
        .set("dir", of(|n| &n.data_dir))
        .set("home", home)
        .set("bin", of(|n| &n.bin_dir))
        .set("unit", &unit)
        .set("node", of(|n| n.name.as_str()))
        .set(
            "guarded",
            node.and_then(|n| Some(n.guard.as_ref()?.enabled.as_str())).unwrap_or_default(),
        )
        .set("suspect", if suspect { "1" } else { "" })
        .line(include_str!("probe.sh"))
}

/// A knock at the primary's port, from another host: beside the looks, because nobody may answer. It is
/// over within a look of a suspected primary.
#[must_use]
pub fn knock_script(node: &NodeSettings, address: &str, port: u16) -> Script {
    Script::new()
        .set("bin", &node.bin_dir)
        .set("address", address)
        .set("port", &port.to_string())
        .line("timeout 0.4 \"$bin/pg_isready\" -q -t 1 -h \"$address\" -p \"$port\"")
        .line("printf 'reach=%s\\n' \"$?\"")
}

/// What a knock gave; none if it could not be tried.
#[must_use]
pub fn read_knock(stdout: &str) -> Option<Reach> {
    match stdout.trim().strip_prefix("reach=")? {
        "0" => Some(Reach::Accepts),
        "1" => Some(Reach::Rejects),
        // 2 is no answer, 124 the end of our patience.
        "2" | "124" => Some(Reach::Nothing),
        _ => None,
    }
}

/// The host's answer; none if the script did not run.
#[must_use]
pub fn read_host(stdout: &str) -> Option<HostSeen> {
    let lines = stdout.lines().filter_map(|l| l.split_once('='));
    let values: BTreeMap<&str, &str> = lines.collect();
    values.get("uptime")?;
    let text = |key: &str| values.get(key).copied();
    Some(HostSeen {
        postmaster: text("postmaster").and_then(|pid| pid.parse().ok()),
        unit: text("unit").unwrap_or_default().to_owned(),
        going_down: text("going_down").is_some(),
        standby_signal: text("standby_signal").is_some(),
        fenced: text("fenced").is_some(),
        revoked: text("revoked").is_some(),
        epoch: read_epoch(text("epoch"), text("operation")),
        pause: text("pause").and_then(Pause::read),
        owner: text("owner").map(str::to_owned),
        reading: text("guarded").and_then(|_| reading(text("uptime")?, text("boot")?)),
        reaches_primary: None,
        server: ServerSeen::NotAsked,
    })
}

/// The clock of a host whose guard is on. What the guard says besides is asked of it.
fn reading(uptime: &str, boot: &str) -> Option<Reading> {
    let clock = std::time::Duration::try_from_secs_f64(uptime.parse().ok()?).ok()?;
    Some(Reading { boot_id: boot.to_owned(), clock, agrees: false, holds: None })
}

#[derive(Deserialize)]
struct Document {
    in_recovery: bool,
    system: Option<String>,
    timeline: Option<u32>,
    lsn: Option<String>,
    receiver: Option<Receiver>,
    streaming_to: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Receiver {
    streaming: Option<bool>,
    host: Option<String>,
    port: Option<u16>,
    silent: Option<f64>,
}

/// The server's answer to [`PROBE_SQL`].
#[must_use]
pub fn read_server(json: &str) -> ServerSeen {
    let document: Document = match serde_json::from_str(json) {
        Ok(document) => document,
        // It has an answer.
        Err(error) => return ServerSeen::Refuses(format!("its answer is not understood: {error}")),
    };
    let receiver = document.receiver.map(|r| ReceiverSeen {
        streaming: r.streaming.unwrap_or_default(),
        host: r.host.unwrap_or_default(),
        port: r.port.unwrap_or_default(),
        silent_seconds: r.silent.unwrap_or(f64::MAX),
    });
    ServerSeen::Answers(Box::new(Answering {
        in_recovery: document.in_recovery,
        system: document.system.and_then(|id| id.parse().ok()).map(SystemIdentifier),
        timeline: document.timeline.map(Timeline),
        lsn: document.lsn.and_then(|lsn| lsn.parse().ok()),
        receiver,
        streaming_to: document.streaming_to.unwrap_or_default(),
    }))
}

/// What a server means by refusing with this SQLSTATE.
#[must_use]
pub fn sql_refusal(code: Option<&str>, text: &str) -> ServerSeen {
    match code {
        Some("53300") => ServerSeen::TooManyClients,
        // One code for starting, in recovery and shutting down; the words are in the server's language,
        // but for lc_messages = C, which the templates render.
        Some("57P03") if text.contains("shutting down") => ServerSeen::ShuttingDown,
        Some("57P03") => ServerSeen::StartingUp,
        Some("57P01") => ServerSeen::ShuttingDown,
        Some(_) => ServerSeen::Refuses(text.to_owned()),
        None => ServerSeen::NoAnswer(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Lsn;

    #[test]
    fn a_host_without_an_answer_is_none() {
        assert_eq!(read_host(""), None);
        assert_eq!(read_host("sh: syntax error"), None);
    }

    #[test]
    fn a_host_s_answer_is_read() {
        let seen = read_host(
            "uptime=12.34\nboot=x\npostmaster=77\nepoch=3\noperation=\n\
             owner=watch 1 of a@b\n\
             pause={\"said\":5,\"paused\":true,\"until\":null,\"by\":\"a@b\"}\n",
        )
        .expect("an answer");
        assert_eq!(seen.postmaster, Some(77));
        assert_eq!(seen.epoch.epoch, 3);
        assert_eq!(seen.pause.expect("a pause").by, "a@b");
        assert_eq!(seen.owner.as_deref(), Some("watch 1 of a@b"));
        assert!(!seen.fenced && !seen.revoked && !seen.going_down);
        let seen = read_host("uptime=1\nunit=failed\n").expect("an answer");
        assert_eq!((seen.unit.as_str(), seen.postmaster), ("failed", None));
    }

    #[test]
    fn a_knock_s_answer_is_read() {
        assert_eq!(read_knock("reach=0\n"), Some(Reach::Accepts));
        assert_eq!(read_knock("reach=1\n"), Some(Reach::Rejects));
        assert_eq!(read_knock("reach=124\n"), Some(Reach::Nothing));
        assert_eq!((read_knock("reach=127\n"), read_knock("")), (None, None));
    }

    #[test]
    fn a_server_s_answer_is_read() {
        let json = r#"{"in_recovery":true,"system":"7","timeline":2,"lsn":"0/5000148",
            "receiver":{"streaming":true,"host":"198.18.0.1","port":5432,"silent":0.25},
            "streaming_to":null}"#;
        let ServerSeen::Answers(server) = read_server(json) else { panic!("no answer") };
        assert!(server.in_recovery);
        assert_eq!(server.lsn, Some(Lsn(0x500_0148)));
        assert_eq!(server.receiver.expect("one").silent_seconds, 0.25);
        assert!(matches!(read_server("{}"), ServerSeen::Refuses(_)));
    }

    #[test]
    fn refusals_are_told_apart() {
        let starting = sql_refusal(Some("57P03"), "the database system is starting up");
        assert_eq!(starting, ServerSeen::StartingUp);
        let recovering = sql_refusal(Some("57P03"), "the database system is in recovery mode");
        assert_eq!(recovering, ServerSeen::StartingUp);
        let stopping = sql_refusal(Some("57P03"), "the database system is shutting down");
        assert_eq!(stopping, ServerSeen::ShuttingDown);
        assert_eq!(sql_refusal(Some("53300"), "x"), ServerSeen::TooManyClients);
        assert!(matches!(sql_refusal(None, "refused"), ServerSeen::NoAnswer(_)));
        assert!(matches!(sql_refusal(Some("28000"), "no"), ServerSeen::Refuses(_)));
    }
}

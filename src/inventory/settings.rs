//! The settings blocks: ssh, replication, failover, lab.

use super::automatic;
use super::routing::command;
use super::secrets::password;
use super::{FailoverSettings, LabSettings, ReplicationMode, ReplicationSettings, SshSettings};
use crate::model::{Map, Timing, Value};
use crate::syntax::lower::{Complaints, MapReader, boolean, did_you_mean, int, string};
use crate::syntax::{Diagnostic, Node, NodeKind, quantity};

/// Complains that a value of the contract is not built yet (DESIGN section 3: exit 2).
pub(super) fn not_built(node: &Node, what: &str, instead: &str, out: &mut Complaints) {
    let complaint = Diagnostic::error(&node.span, format!("{what} is not built yet"));
    out.push(if instead.is_empty() { complaint } else { complaint.hint(instead) });
}

/// One of `built`, or one of `later`, which is refused as not built yet.
pub(super) fn choice(
    node: Option<&Node>,
    key: &str,
    (built, later): (&[&'static str], &[&'static str]),
    out: &mut Complaints,
) -> Option<&'static str> {
    let node = node?;
    let text = string(node, key, out)?;
    if let Some(known) = built.iter().find(|b| **b == text) {
        return Some(known);
    }
    if let Some(known) = later.iter().find(|l| **l == text) {
        not_built(node, &format!("\"{key}: {known}\""), &format!("use {}", one_of(built)), out);
        return Some(known);
    }
    let complaint = mismatch_text(node, key, &one_of(built), &text);
    out.push(match did_you_mean(&text, built.iter().copied()) {
        Some(near) => complaint.hint(format!("did you mean \"{near}\"?")),
        None => complaint,
    });
    None
}

fn one_of(words: &[&str]) -> String {
    words.join(" or ")
}

fn mismatch_text(node: &Node, key: &str, wanted: &str, found: &str) -> Diagnostic {
    Diagnostic::error(&node.span, format!("\"{key}\" must be {wanted}, not \"{found}\""))
}

/// A whole number within bounds.
pub(super) fn number_in(
    node: Option<&Node>,
    key: &str,
    (least, most): (i64, i64),
    out: &mut Complaints,
) -> Option<i64> {
    let node = node?;
    let value = int(node, key, out)?;
    if (least..=most).contains(&value) {
        return Some(value);
    }
    let message = format!("\"{key}\" must be from {least} to {most}, not {value}");
    out.push(Diagnostic::error(&node.span, message));
    None
}

/// A TCP port.
pub(super) fn port(node: Option<&Node>, out: &mut Complaints) -> Option<u16> {
    number_in(node, "port", (1, 65_535), out).and_then(|p| u16::try_from(p).ok())
}

/// Text that `check` accepts.
pub(super) fn checked<E: std::fmt::Display>(
    node: Option<&Node>,
    key: &str,
    check: impl FnOnce(&str) -> Result<(), E>,
    out: &mut Complaints,
) -> Option<String> {
    let node = node?;
    let text = string(node, key, out)?;
    match check(&text) {
        Ok(()) => Some(text),
        Err(problem) => {
            out.push(
                Diagnostic::error(&node.span, format!("bad {key} \"{text}\""))
                    .hint(problem.to_string()),
            );
            None
        }
    }
}

fn size(node: Option<&Node>, key: &str, out: &mut Complaints) -> Option<u64> {
    let node = node?;
    let text = string(node, key, out)?;
    let bytes = quantity::bytes(&text);
    if bytes.is_none() {
        let complaint = mismatch_text(node, key, "a size", &text);
        out.push(complaint.hint("a whole number with B, kB, MB, GB or TB, like 16MB"));
    }
    bytes
}

/// Milliseconds.
pub(super) fn duration(node: Option<&Node>, key: &str, out: &mut Complaints) -> Option<u64> {
    let node = node?;
    let text = string(node, key, out)?;
    let duration = quantity::milliseconds(&text);
    if duration.is_none() {
        let complaint = mismatch_text(node, key, "a duration", &text);
        out.push(complaint.hint("a whole number with ms, s, min, h or d, like 10s"));
    }
    duration
}

fn not_empty(text: &str) -> Result<(), &'static str> {
    if text.trim().is_empty() || text.chars().any(char::is_control) {
        Err("must not be empty")
    } else {
        Ok(())
    }
}

pub(super) fn ssh(node: Option<&Node>, out: &mut Complaints) -> SshSettings {
    let Some(mut map) = node.and_then(|n| MapReader::new(n, "ssh", out)) else {
        return SshSettings::default();
    };
    let settings = SshSettings {
        user: checked(map.get("user"), "user", not_empty, out),
        port: port(map.get("port"), out),
        identity_file: checked(map.get("identity_file"), "identity_file", not_empty, out),
        password: password(map.get("password"), "password", out),
        r#become: map.bool("become", out),
        become_password: password(map.get("become_password"), "become_password", out),
        proxy_jump: checked(map.get("proxy_jump"), "proxy_jump", not_empty, out),
        known_hosts: checked(map.get("known_hosts"), "known_hosts", not_empty, out),
        ssh_config: map.bool("ssh_config", out),
        connect_timeout_seconds: duration(map.get("connect_timeout"), "connect_timeout", out)
            .map(|ms| ms.div_ceil(1_000).max(1)),
    };
    choice(map.get("become_method"), "become_method", (&["sudo"], &["su", "doas"]), out);
    map.finish(out);
    settings
}

pub(super) fn replication(node: Option<&Node>, out: &mut Complaints) -> ReplicationSettings {
    let mut settings = ReplicationSettings {
        mode: ReplicationMode::Async,
        slots: true,
        sync_standbys: 1,
        strict: true,
    };
    let Some(mut map) = node.and_then(|n| MapReader::new(n, "replication", out)) else {
        return settings;
    };
    if choice(map.get("mode"), "mode", (&["async", "quorum"], &[]), out) == Some("quorum") {
        settings.mode = ReplicationMode::Quorum;
    }
    let slots = map.get("slots");
    settings.slots = slots.and_then(|node| boolean(node, "slots", out)).unwrap_or(true);
    if let Some(node) =
        slots.filter(|_| !settings.slots && settings.mode == ReplicationMode::Quorum)
    {
        // Names are not unique in PostgreSQL, and a slot has one sender (failover review, 8).
        let message =
            "\"mode: quorum\" needs slots: a standby's acknowledgement is told by its slot";
        out.push(Diagnostic::error(&node.span, message).hint("leave \"slots\" out"));
    }
    let standbys = number_in(map.get("sync_standbys"), "sync_standbys", (1, 1_000), out);
    settings.sync_standbys = standbys.and_then(|n| u32::try_from(n).ok()).unwrap_or(1);
    settings.strict = map.bool("strict", out).unwrap_or(true);
    map.finish(out);
    settings
}

pub(super) fn failover(node: Option<&Node>, out: &mut Complaints) -> FailoverSettings {
    let mut settings = FailoverSettings {
        automatic: false,
        timing: Timing::default(),
        restart_in_place: None,
        maximum_lag_bytes: Some(1024 * 1024),
        auto_rejoin: true,
        cross_location: false,
        stonith: None,
        raw: Map::new(),
    };
    let Some(node) = node else { return settings };
    let Some(mut map) = MapReader::new(node, "failover", out) else { return settings };
    let mode = choice(map.get("mode"), "mode", (&["manual", "automatic"], &[]), out);
    settings.automatic = mode == Some("automatic");
    let managers: (&[_], &[_]) = (&["pgorch", "none"], &["repmgr", "keepalived"]);
    choice(map.get("manager"), "manager", managers, out);
    let lag = size(map.get("maximum_lag_on_failover"), "maximum_lag_on_failover", out);
    settings.maximum_lag_bytes = lag.or(settings.maximum_lag_bytes);
    settings.restart_in_place = automatic::restart_in_place(map.get("restart_in_place"), out);
    settings.auto_rejoin = map.bool("auto_rejoin", out).unwrap_or(true);
    settings.cross_location = map.bool("cross_location", out).unwrap_or(false);
    election(map.get("election"), out);
    settings.stonith = map.get("stonith").and_then(|node| stonith(node, out));
    settings.timing = automatic::timing(map.get("timing"), out);
    map.finish(out);
    if let Value::Object(raw) = node.to_value() {
        settings.raw = raw;
    }
    settings
}

fn stonith(node: &Node, out: &mut Complaints) -> Option<Vec<String>> {
    let mut map = MapReader::new(node, "stonith", out)?;
    let given = map.get("command");
    if given.is_none() {
        out.push(Diagnostic::error(&node.span, "stonith needs a \"command\"".to_owned()));
    }
    let command = given.and_then(|given| command(given, "command", out));
    map.finish(out);
    command
}

fn election(node: Option<&Node>, out: &mut Complaints) {
    let Some(node) = node else { return };
    match node.as_str() {
        Some(text) if text == "etcd" || text.starts_with("etcd:") => {
            not_built(node, "\"election: etcd\"", "use local", out);
        }
        _ => drop(choice(Some(node), "election", (&["local"], &[]), out)),
    }
}

pub(super) fn lab(node: Option<&Node>, out: &mut Complaints) -> Option<LabSettings> {
    let mut settings = LabSettings { backend: "auto".to_owned(), image: "bookworm".to_owned() };
    let node = node?;
    if node.kind == NodeKind::Null {
        return Some(settings);
    }
    let Some(mut map) = MapReader::new(node, "lab", out) else { return Some(settings) };
    let backends: (&[_], &[_]) = (&["auto", "nspawn"], &["docker", "podman"]);
    if let Some(backend) = choice(map.get("backend"), "backend", backends, out) {
        settings.backend = backend.to_owned();
    }
    let suite = |text: &str| {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        if !text.is_empty() && text.chars().all(good) {
            Ok(())
        } else {
            Err("a suite's name, like bookworm, trixie or noble")
        }
    };
    if let Some(image) = checked(map.get("image"), "image", suite, out) {
        settings.image = image;
    }
    map.finish(out);
    Some(settings)
}

//! `notifications:`: commands and webhooks that are told what the watch sees and does.

use std::time::Duration;

use indexmap::IndexMap;

use super::parse::entries;
use super::routing::command;
use super::secrets::text_or_secret;
use super::settings::{checked, duration};
use super::{Notification, Recipient, SecretRef, Webhook, text};
use crate::model::NoticeKind;
use crate::syntax::lower::{Complaints, MapReader, did_you_mean, string};
use crate::syntax::{Diagnostic, Node};

/// For one message, where nothing else is said.
const TIMEOUT: Duration = Duration::from_secs(10);
/// One that takes longer holds up those after it.
const TIMEOUT_MAX: Duration = Duration::from_secs(300);

pub(super) fn all(nodes: Option<Vec<&Node>>, out: &mut Complaints) -> Vec<Notification> {
    nodes.unwrap_or_default().into_iter().filter_map(|node| one(node, out)).collect()
}

fn one(node: &Node, out: &mut Complaints) -> Option<Notification> {
    let mut map = MapReader::new(node, "a notification", out)?;
    let (argv, url) = (map.get("command"), map.get("webhook"));
    let headers = map.get("headers");
    let ca_file = map.get("ca_file");
    let events = events(map.list("events"), out);
    let given = map.get("timeout");
    let timeout = duration(given, "timeout", out).map(Duration::from_millis).unwrap_or(TIMEOUT);
    if let Some(given) = given.filter(|_| timeout.is_zero() || timeout > TIMEOUT_MAX) {
        let most = TIMEOUT_MAX.as_secs();
        let text = format!("\"timeout\" must be more than nothing and at most {most}s");
        out.push(Diagnostic::error(&given.span, text));
    }
    map.finish(out);
    let of_webhook = [("headers", headers), ("ca_file", ca_file)];
    let to = match (argv, url) {
        (Some(argv), None) => {
            for (key, node) in of_webhook.into_iter().filter_map(|(k, n)| Some((k, n?))) {
                let text = format!("\"{key}\" is for a webhook, and this is a command");
                out.push(Diagnostic::error(&node.span, text));
            }
            Recipient::Command(command(argv, "command", out)?)
        }
        (None, Some(node)) => Recipient::Webhook(Webhook {
            url: url_of(node, out)?,
            headers: headers.map(|node| header_lines(node, out)).unwrap_or_default(),
            ca_file: checked(ca_file, "ca_file", text::one_line, out),
        }),
        _ => {
            let text = "a notification needs either a \"command\" or a \"webhook\"";
            let hint = "command: [/usr/local/bin/page], or webhook: https://hooks.example.org/pg";
            out.push(Diagnostic::error(&node.span, text).hint(hint));
            return None;
        }
    };
    Some(Notification { to, events, timeout })
}

fn events(nodes: Option<Vec<&Node>>, out: &mut Complaints) -> Vec<NoticeKind> {
    let Some(nodes) = nodes else { return NoticeKind::usual() };
    let mut kinds = Vec::new();
    for node in nodes {
        let Some(word) = string(node, "events", out) else { continue };
        match NoticeKind::of(&word) {
            Some(kind) => kinds.push(kind),
            None => {
                let words = || NoticeKind::TABLE.iter().map(|row| row.1);
                let complaint = Diagnostic::error(&node.span, format!("unknown event \"{word}\""));
                out.push(match did_you_mean(&word, words()) {
                    Some(near) => complaint.hint(format!("did you mean \"{near}\"?")),
                    None => {
                        complaint.hint(format!("known: {}", words().collect::<Vec<_>>().join(", ")))
                    }
                });
            }
        }
    }
    kinds
}

fn url_of(node: &Node, out: &mut Complaints) -> Option<SecretRef> {
    let url = text_or_secret(node, "webhook", out)?;
    if let SecretRef::Plain(plain) = &url
        && let Err(problem) = text::web_address(plain.expose())
    {
        out.push(Diagnostic::error(&node.span, "bad \"webhook\"").hint(problem));
        return None;
    }
    Some(url)
}

fn header_lines(node: &Node, out: &mut Complaints) -> IndexMap<String, SecretRef> {
    let mut lines = IndexMap::new();
    for entry in entries(node, "headers", out) {
        // RFC 9110, 5.1: a token.
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if entry.key.is_empty() || !entry.key.chars().all(token) {
            let text = format!("bad header name \"{}\"", entry.key);
            out.push(Diagnostic::error(&entry.key_span, text));
            continue;
        }
        let value = text_or_secret(&entry.value, &entry.key, out);
        if let Some(SecretRef::Plain(value)) = &value
            && text::one_line(value.expose()).is_err()
        {
            let text = format!("the header \"{}\" must be one line", entry.key);
            out.push(Diagnostic::error(&entry.value.span, text));
        }
        lines.extend(value.map(|value| (entry.key.clone(), value)));
    }
    lines
}

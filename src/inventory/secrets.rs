//! Secrets as the inventory names them, in passwords and inside `vars`.
//!
//! A variable that is a secret is kept as the marker `{"__secret": N}`, where N counts
//! [`Inventory::secrets`]; [`Inventory::with_secrets`] puts the values in.

use std::ops::Range;

use super::{Inventory, Recipient, SecretRef, SshSettings};
use crate::model::{Map, Secret, Value};
use crate::syntax::lower::{Complaints, MapReader, mismatch};
use crate::syntax::{Diagnostic, Entry, Node, NodeKind};

/// The key of the marker object that stands for a secret inside `vars`.
pub const SECRET_MARKER: &str = "__secret";

/// A password: text (warned about), `!vault`, or `{secret: {env|file|command: ...}}`.
pub(super) fn password(node: Option<&Node>, key: &str, out: &mut Complaints) -> Option<SecretRef> {
    let node = node?;
    match &node.kind {
        NodeKind::Str(text) => {
            let warning = Diagnostic::warning(&node.span, format!("\"{key}\" is written in clear"));
            out.push(warning.hint("use !vault or {secret: {env: NAME}}, {secret: {file: PATH}}"));
            Some(SecretRef::Plain(Secret::new(text.clone())))
        }
        _ => match reference(node, out) {
            Some(found) => found,
            None => {
                out.push(mismatch(node, key, "text, !vault or {secret: ...}"));
                None
            }
        },
    }
}

/// Text that may be written in clear, or a secret.
pub(super) fn text_or_secret(node: &Node, key: &str, out: &mut Complaints) -> Option<SecretRef> {
    match &node.kind {
        NodeKind::Str(text) => Some(SecretRef::Plain(Secret::new(text.clone()))),
        _ => password(Some(node), key, out),
    }
}

/// `None` if the node is no secret at all; `Some(None)` if it is one with a mistake.
fn reference(node: &Node, out: &mut Complaints) -> Option<Option<SecretRef>> {
    if let NodeKind::Vault(text) = &node.kind {
        if !text.starts_with("$ANSIBLE_VAULT;") {
            let complaint = Diagnostic::error(&node.span, "this is not an ansible-vault block");
            out.push(complaint.hint("make one with: ansible-vault encrypt_string"));
            return Some(None);
        }
        return Some(Some(SecretRef::Vault(text.clone())));
    }
    match node.as_map() {
        Some([only]) if only.key == "secret" => Some(source(only, out)),
        _ => None,
    }
}

fn source(entry: &Entry, out: &mut Complaints) -> Option<SecretRef> {
    let node = &entry.value;
    let mut map = MapReader::new(node, "secret", out)?;
    let env = map.string("env", out).map(SecretRef::Env);
    let file = map.string("file", out).map(SecretRef::File);
    let command = map.list("command").map(|words| {
        let text = |n: &&Node| crate::syntax::lower::string(n, "command", out);
        SecretRef::Command(words.iter().filter_map(text).collect())
    });
    map.finish(out);
    let empty = |found: &SecretRef| match found {
        SecretRef::Env(text) | SecretRef::File(text) => text.is_empty(),
        SecretRef::Command(words) => words.is_empty(),
        _ => false,
    };
    let mut found = [env, file, command].into_iter().flatten();
    match (found.next(), found.next()) {
        (Some(one), None) if !empty(&one) => Some(one),
        _ => {
            let complaint = Diagnostic::error(&node.span, "a secret needs exactly one source");
            out.push(complaint.hint("env: NAME, file: PATH or command: [PROGRAM, ARGUMENT]"));
            None
        }
    }
}

/// A `vars` mapping; secrets inside become markers and are added to `secrets`.
pub(super) fn vars(node: &Node, secrets: &mut Vec<SecretRef>, out: &mut Complaints) -> Map {
    let entries = super::parse::entries(node, "vars", out);
    for entry in entries.iter().filter(|e| !is_identifier(&e.key)) {
        let complaint =
            Diagnostic::error(&entry.key_span, format!("bad variable name \"{}\"", entry.key));
        out.push(complaint.hint("letters, digits and \"_\", not beginning with a digit"));
    }
    entries.iter().map(|e| (e.key.clone(), value(&e.value, secrets, out))).collect()
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && text != SECRET_MARKER
}

fn value(node: &Node, secrets: &mut Vec<SecretRef>, out: &mut Complaints) -> Value {
    if let Some(found) = reference(node, out) {
        secrets.extend(found);
        let id = secrets.len().saturating_sub(1);
        return Value::Object([(SECRET_MARKER.to_owned(), Value::from(id))].into_iter().collect());
    }
    match &node.kind {
        NodeKind::Seq(items) => items.iter().map(|n| value(n, secrets, out)).collect(),
        NodeKind::Map(entries) => {
            if let Some(entry) = entries.iter().find(|e| e.key == SECRET_MARKER) {
                let complaint = format!("the key \"{SECRET_MARKER}\" is taken by pgorch");
                out.push(Diagnostic::error(&entry.key_span, complaint));
            }
            let entry = |e: &Entry| (e.key.clone(), value(&e.value, secrets, out));
            Value::Object(entries.iter().map(entry).collect())
        }
        _ => node.to_value(),
    }
}

impl Inventory {
    /// Every secret of the file in a fixed order: those of `vars` ([`Inventory::secrets`]), then
    /// the passwords of `ssh`, roles, nodes and hosts as they come, then what notifications need.
    #[must_use]
    pub fn secret_refs(&self) -> Vec<&SecretRef> {
        let mut all: Vec<&SecretRef> = self.secrets.iter().collect();
        let hosts = self.all_hosts().map(|(_, host)| &host.ssh);
        for ssh in [&self.ssh].into_iter().chain(hosts) {
            all.extend(ssh.password.iter().chain(&ssh.become_password));
        }
        let nodes = self.nodes.values().map(|node| &node.postgres);
        for postgres in [&self.postgres].into_iter().chain(nodes) {
            all.extend(postgres.roles.iter().filter_map(|role| role.password.as_ref()));
        }
        for notification in &self.notifications {
            if let Recipient::Webhook(webhook) = &notification.to {
                all.extend([&webhook.url].into_iter().chain(webhook.headers.values()));
            }
        }
        all
    }

    /// Which of [`Inventory::secret_refs`] are needed to log in: the passwords of `ssh`.
    #[must_use]
    pub fn login_secrets(&self) -> Range<usize> {
        let hosts = self.all_hosts().map(|(_, host)| &host.ssh);
        let passwords = |ssh: &SshSettings| {
            usize::from(ssh.password.is_some()) + usize::from(ssh.become_password.is_some())
        };
        let count: usize = [&self.ssh].into_iter().chain(hosts).map(passwords).sum();
        self.secrets.len()..self.secrets.len() + count
    }

    /// Which of [`Inventory::secret_refs`] only notifications need: the last ones.
    #[must_use]
    pub fn notification_secrets(&self) -> Range<usize> {
        let webhooks = self.notifications.iter().filter_map(|n| match &n.to {
            Recipient::Webhook(webhook) => Some(1 + webhook.headers.len()),
            Recipient::Command(_) => None,
        });
        let all = self.secret_refs().len();
        all - webhooks.sum::<usize>()..all
    }

    /// The inventory with its secrets known: `secrets[i]` is the value of `secret_refs()[i]`.
    /// Passwords become [`SecretRef::Plain`], markers inside `vars` become text. What is none or
    /// beyond the end of `secrets` stays as it is.
    #[must_use]
    pub fn with_secrets(mut self, secrets: &[Option<Secret>]) -> Inventory {
        let all_vars = [&mut self.vars].into_iter().chain(self.group_vars.values_mut());
        let hosts = self.witnesses.values_mut().chain(self.hosts.values_mut());
        let hosts = self.nodes.values_mut().map(|n| &mut n.host).chain(hosts);
        for map in all_vars.chain(hosts.map(|h| &mut h.vars)) {
            map.values_mut().for_each(|v| substitute(v, secrets));
        }
        let mut values = secrets.iter();
        for slot in self.secret_slots() {
            let Some(value) = values.next() else { break };
            if let Some(value) = value {
                *slot = SecretRef::Plain(value.clone());
            }
        }
        self
    }

    /// The places of [`Inventory::secret_refs`], in the same order.
    fn secret_slots(&mut self) -> Vec<&mut SecretRef> {
        let mut all: Vec<&mut SecretRef> = self.secrets.iter_mut().collect();
        let mut postgres = vec![&mut self.postgres];
        let mut ssh = vec![&mut self.ssh];
        for node in self.nodes.values_mut() {
            ssh.push(&mut node.host.ssh);
            postgres.push(&mut node.postgres);
        }
        let others = self.witnesses.values_mut().chain(self.hosts.values_mut());
        ssh.extend(others.map(|host| &mut host.ssh));
        for ssh in ssh {
            all.extend(ssh.password.iter_mut().chain(&mut ssh.become_password));
        }
        for postgres in postgres {
            all.extend(postgres.roles.iter_mut().filter_map(|role| role.password.as_mut()));
        }
        for notification in &mut self.notifications {
            if let Recipient::Webhook(webhook) = &mut notification.to {
                all.extend([&mut webhook.url].into_iter().chain(webhook.headers.values_mut()));
            }
        }
        all
    }
}

fn substitute(value: &mut Value, secrets: &[Option<Secret>]) {
    match value {
        Value::Object(map) => {
            let id = map.get(SECRET_MARKER).and_then(Value::as_u64);
            let secret = id.and_then(|id| secrets.get(usize::try_from(id).ok()?)?.as_ref());
            match secret {
                Some(secret) => *value = Value::String(secret.expose().to_owned()),
                None => map.values_mut().for_each(|v| substitute(v, secrets)),
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|v| substitute(v, secrets)),
        _ => {}
    }
}

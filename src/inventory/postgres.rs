//! The `postgres:` block, the cluster's or a node's own.

use indexmap::IndexMap;

use super::secrets::password;
use super::settings::{checked, not_built, number_in, port};
use super::{Database, Extension, Install, PgRole, PostgresSettings, hba, text};
use crate::syntax::lower::{Complaints, MapReader, did_you_mean, mismatch, string};
use crate::syntax::{Diagnostic, Node, NodeKind};

/// Parameters that have a place of their own in the inventory, or that pgorch derives.
const DERIVED: &[(&str, &str)] = &[
    ("config_file", "pgorch keeps it in the data directory"),
    ("data_directory", "set postgres.data_dir"),
    ("hba_file", "pgorch keeps it in the data directory; rows go to postgres.hba"),
    ("ident_file", "pgorch keeps it in the data directory"),
    ("port", "set postgres.port"),
    ("primary_conninfo", "pgorch derives it from the topology; see follow"),
    ("primary_slot_name", "pgorch derives it from the node's name"),
    ("synchronous_standby_names", "set replication.mode and replication.sync_standbys"),
];

const ATTRIBUTES: &[&str] =
    &["superuser", "createdb", "createrole", "inherit", "login", "replication", "bypassrls"];

/// The inventory's block.
pub(super) fn settings(node: Option<&Node>, out: &mut Complaints) -> PostgresSettings {
    let Some(mut map) = node.and_then(|n| MapReader::new(n, "postgres", out)) else {
        return PostgresSettings::default();
    };
    let mut settings = of_servers(&mut map, out);
    settings.databases = databases(&mut map, out);
    settings.roles = roles(&mut map, out);
    settings.extensions = extensions(&mut map, out);
    map.finish(out);
    settings
}

/// A node's own block: what all nodes share, because they hold the same data, has no place there.
pub(super) fn own_settings(node: Option<&Node>, out: &mut Complaints) -> PostgresSettings {
    let Some(mut map) = node.and_then(|n| MapReader::new(n, "postgres", out)) else {
        return PostgresSettings::default();
    };
    let settings = of_servers(&mut map, out);
    for key in ["databases", "roles", "extensions"] {
        if node.and_then(|n| n.get(key)).is_some()
            && let Some(value) = map.get(key)
        {
            let complaint = format!("\"{key}\" are the whole cluster's, not one node's");
            let hint = format!("write them under postgres.{key} of the inventory");
            out.push(Diagnostic::error(&value.span, complaint).hint(hint));
        }
    }
    map.finish(out);
    settings
}

/// What each server may have of its own.
fn of_servers(map: &mut MapReader<'_>, out: &mut Complaints) -> PostgresSettings {
    PostgresSettings {
        version: version(map.get("version"), out),
        install: install(map.get("install"), out),
        port: port(map.get("port"), out),
        data_dir: checked(map.get("data_dir"), "data_dir", text::data_dir, out)
            .map(|path| path.trim_end_matches('/').to_owned()),
        bin_dir: checked(map.get("bin_dir"), "bin_dir", text::absolute, out),
        service: checked(map.get("service"), "service", service, out)
            .map(|unit| unit.trim_end_matches(".service").to_owned()),
        parameters: parameters(map.get("parameters"), out),
        hba: map.list("hba").unwrap_or_default().iter().filter_map(|n| hba::rule(n, out)).collect(),
        ..PostgresSettings::default()
    }
}

fn version(node: Option<&Node>, out: &mut Complaints) -> Option<u32> {
    let text = node.and_then(Node::as_str).or_else(|| {
        let node = node?;
        let written = node.span.source.text.get(node.span.start..node.span.end);
        matches!(node.kind, NodeKind::Float(_)).then_some(written).flatten()
    });
    if let (Some(node), Some((major, _))) = (node, text.and_then(|t| t.split_once('.'))) {
        let complaint = mismatch(node, "version", "a major version");
        out.push(complaint.hint(format!("write {major}; the newest minor release is installed")));
        return None;
    }
    number_in(node, "version", (13, 18), out).and_then(|v| u32::try_from(v).ok())
}

fn install(node: Option<&Node>, out: &mut Complaints) -> Option<Install> {
    let node = node?;
    let is_source = node.get("source").is_some();
    match node.as_str() {
        Some("package") => Some(Install::Package),
        Some("none") => Some(Install::None),
        source if source == Some("source") || is_source => {
            not_built(node, "\"install: source\"", "use package or none", out);
            None
        }
        _ => {
            out.push(mismatch(node, "install", "package or none"));
            None
        }
    }
}

fn service(unit: &str) -> Result<(), &'static str> {
    let good = |c: char| c.is_ascii_alphanumeric() || ":_.@-".contains(c);
    if !unit.is_empty() && unit.len() < 200 && unit.chars().all(good) {
        Ok(())
    } else {
        Err("a systemd unit's name, like postgresql@15-main")
    }
}

fn parameters(node: Option<&Node>, out: &mut Complaints) -> IndexMap<String, String> {
    let Some(node) = node else { return IndexMap::new() };
    let mut found = IndexMap::new();
    for entry in super::parse::entries(node, "parameters", out) {
        let name = entry.key.to_ascii_lowercase();
        if !text::parameter_name(&name) {
            let message = format!("bad parameter name \"{}\"", entry.key);
            out.push(Diagnostic::error(&entry.key_span, message));
        }
        if let Some((_, instead)) = DERIVED.iter().find(|(derived, _)| *derived == name) {
            let message = format!("the parameter \"{name}\" is not set here");
            out.push(Diagnostic::error(&entry.key_span, message).hint(*instead));
        }
        if found.contains_key(&name) {
            let message = format!("the parameter \"{name}\" is given twice");
            out.push(Diagnostic::error(&entry.key_span, message));
        }
        if let Some(value) = parameter(&entry.value, &name, out) {
            found.insert(name, value);
        }
    }
    found
}

/// A parameter's value as postgresql.conf would have it, without quotes.
fn parameter(node: &Node, name: &str, out: &mut Complaints) -> Option<String> {
    let written = node.span.source.text.get(node.span.start..node.span.end).unwrap_or_default();
    let value = match &node.kind {
        NodeKind::Bool(true) => "on".to_owned(),
        NodeKind::Bool(false) => "off".to_owned(),
        NodeKind::Int(i) => i.to_string(),
        // As written: 1.10 must not become 1.1 under the eyes of its author.
        NodeKind::Float(f) => match written.parse::<f64>() {
            Ok(same) if same.to_bits() == f.to_bits() => written.to_owned(),
            _ => f.to_string(),
        },
        NodeKind::Str(text) => text.clone(),
        NodeKind::Seq(items) => {
            let parts: Vec<String> =
                items.iter().filter_map(|item| parameter(item, name, out)).collect();
            return (parts.len() == items.len()).then(|| parts.join(", "));
        }
        NodeKind::Null => {
            let complaint = mismatch(node, name, "a value");
            out.push(complaint.hint("leave the parameter out to have its default"));
            return None;
        }
        NodeKind::Vault(_) | NodeKind::Map(_) => {
            out.push(mismatch(node, name, "text, a number, true/false or a list of these"));
            return None;
        }
    };
    if value.chars().any(char::is_control) {
        out.push(Diagnostic::error(&node.span, format!("\"{name}\" must be one line of text")));
        return None;
    }
    Some(value)
}

/// PostgreSQL cuts longer names silently (manual, 4.1.1).
fn identifier(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.len() > 63 || text.chars().any(char::is_control) {
        Err("1 to 63 bytes, without control characters")
    } else {
        Ok(())
    }
}

/// A list whose items are names or mappings with a `name`, each name once.
fn named<'a, T>(
    map: &mut MapReader<'a>,
    key: &'static str,
    out: &mut Complaints,
    mut read: impl FnMut(&'a Node, &mut Complaints) -> Option<(String, T)>,
) -> Vec<T> {
    let mut seen: Vec<String> = Vec::new();
    let mut items = Vec::new();
    for node in map.list(key).unwrap_or_default() {
        let Some((name, item)) = read(node, out) else { continue };
        if seen.contains(&name) {
            let message = format!("\"{name}\" is given twice in {key}");
            out.push(Diagnostic::error(&node.span, message));
        }
        seen.push(name);
        items.push(item);
    }
    items
}

fn required_name(map: &mut MapReader<'_>, what: &str, out: &mut Complaints) -> Option<String> {
    let node = map.get("name");
    if node.is_none() {
        out.push(Diagnostic::error(map.span(), format!("{what} needs a \"name\"")));
    }
    checked(node, "name", identifier, out)
}

fn databases(map: &mut MapReader<'_>, out: &mut Complaints) -> Vec<Database> {
    named(map, "databases", out, |node, out| {
        let mut database = Database {
            name: String::new(),
            owner: None,
            encoding: None,
            locale: None,
            template: None,
        };
        if node.as_str().is_some() {
            database.name = checked(Some(node), "database", identifier, out)?;
            return Some((database.name.clone(), database));
        }
        let mut map = MapReader::new(node, "a database", out)?;
        let name = required_name(&mut map, "a database", out);
        database.owner = checked(map.get("owner"), "owner", identifier, out);
        database.encoding = map.string("encoding", out);
        database.locale = map.string("locale", out);
        database.template = checked(map.get("template"), "template", identifier, out);
        map.finish(out);
        database.name = name?;
        Some((database.name.clone(), database))
    })
}

fn roles(map: &mut MapReader<'_>, out: &mut Complaints) -> Vec<PgRole> {
    named(map, "roles", out, |node, out| {
        let mut role = PgRole {
            name: String::new(),
            password: None,
            attributes: Vec::new(),
            member_of: Vec::new(),
            connection_limit: None,
        };
        if node.as_str().is_some() {
            role.name = checked(Some(node), "role", identifier, out)?;
            return Some((role.name.clone(), role));
        }
        let mut map = MapReader::new(node, "a role", out)?;
        let name = required_name(&mut map, "a role", out);
        role.password = password(map.get("password"), "password", out);
        role.attributes = attributes(&mut map, out);
        for parent in map.list("member_of").unwrap_or_default() {
            role.member_of.extend(checked(Some(parent), "member_of", identifier, out));
        }
        let limits = (-1, i64::from(i32::MAX));
        role.connection_limit =
            number_in(map.get("connection_limit"), "connection_limit", limits, out);
        map.finish(out);
        role.name = name?;
        Some((role.name.clone(), role))
    })
}

fn attributes(map: &mut MapReader<'_>, out: &mut Complaints) -> Vec<String> {
    let mut found = Vec::new();
    for node in map.list("attributes").unwrap_or_default() {
        let Some(text) = string(node, "attributes", out) else { continue };
        for word in text.split([' ', ',']).filter(|w| !w.is_empty()) {
            let word = word.to_ascii_lowercase();
            let bare = word.strip_prefix("no").unwrap_or(&word);
            if ATTRIBUTES.contains(&bare) {
                found.push(word);
                continue;
            }
            let complaint = Diagnostic::error(&node.span, format!("unknown attribute \"{word}\""));
            out.push(match did_you_mean(bare, ATTRIBUTES.iter().copied()) {
                Some(near) => complaint.hint(format!("did you mean \"{near}\"?")),
                None => complaint.hint(format!("known: {}", ATTRIBUTES.join(", "))),
            });
        }
    }
    found
}

fn extensions(map: &mut MapReader<'_>, out: &mut Complaints) -> Vec<Extension> {
    let mut all = Vec::new();
    for node in map.list("extensions").unwrap_or_default() {
        if node.as_str().is_some() {
            let name = checked(Some(node), "extension", identifier, out);
            let database = "postgres".to_owned();
            all.extend(name.map(|name| Extension { name, database, schema: None }));
            continue;
        }
        let Some(mut map) = MapReader::new(node, "an extension", out) else { continue };
        let name = required_name(&mut map, "an extension", out);
        let mut databases = Vec::new();
        for database in map.list("database").unwrap_or_default() {
            databases.extend(checked(Some(database), "database", identifier, out));
        }
        if databases.is_empty() {
            databases.push("postgres".to_owned());
        }
        let schema = checked(map.get("schema"), "schema", identifier, out);
        map.finish(out);
        let Some(name) = name else { continue };
        all.extend(databases.into_iter().map(|database| Extension {
            name: name.clone(),
            database,
            schema: schema.clone(),
        }));
    }
    all
}

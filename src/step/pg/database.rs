//! `database`: databases of the inventory, on the primary.

use serde::Deserialize;

use super::common;
use crate::inventory::{Database, NodeSettings};
use crate::model::{Answer, Fragment, Resource};
use crate::postgres::{ident, literal};
use crate::step::{ArgKind, ArgSpec, Args, Change, Ctx, Diff, Kind, StepError, Verdict, no_files};

pub(super) const KIND: Kind = Kind {
    name: "database",
    aliases: &["postgresql_db"],
    summary: "databases on the primary; without a name all of the inventory's.",
    free_form: Some("name"),
    args: &[
        ArgSpec::new("name", ArgKind::Str, "one database; without it all of postgres.databases.")
            .probe(),
        ArgSpec::new("owner", ArgKind::Str, "a role; it is changed where it differs."),
        ArgSpec::new("encoding", ArgKind::Str, "only when it is made; a difference is an error."),
        ArgSpec::new("locale", ArgKind::Str, "only when it is made; a difference is an error."),
        ArgSpec::new("template", ArgKind::Str, "only when it is made."),
        ArgSpec::new("state", ArgKind::Choice(&["present", "absent"]), "default present."),
    ],
    files: no_files,
    probe,
    diff,
};

#[derive(Deserialize)]
struct Seen {
    name: String,
    owner: String,
    encoding: String,
    collate: String,
}

fn wanted(args: &Args, ctx: &Ctx) -> Result<Vec<Database>, StepError> {
    let Some(name) = args.str("name")? else {
        return Ok(ctx.inventory.postgres.databases.clone());
    };
    Ok(vec![Database {
        name,
        owner: args.str("owner")?,
        encoding: args.str("encoding")?,
        locale: args.str("locale")?,
        template: args.str("template")?,
    }])
}

fn probe(args: &Args, ctx: &Ctx) -> Result<Vec<Fragment>, StepError> {
    let names: Vec<String> = wanted_names(args, ctx)?.iter().map(|n| literal(n)).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT coalesce(json_agg(json_build_object('name', datname, \
         'owner', pg_get_userbyid(datdba), 'encoding', pg_encoding_to_char(encoding), \
         'collate', datcollate) ORDER BY datname), '[]') FROM pg_database WHERE datname IN ({})",
        names.join(", ")
    );
    Ok(vec![Fragment::sql("postgres", sql)])
}

fn wanted_names(args: &Args, ctx: &Ctx) -> Result<Vec<String>, StepError> {
    Ok(match args.str("name")? {
        Some(name) => vec![name],
        None => ctx.inventory.postgres.databases.iter().map(|d| d.name.clone()).collect(),
    })
}

fn diff(args: &Args, answers: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    common::must_be_writable(ctx)?;
    let node = common::own(ctx)?;
    let Some(answer) = answers.first() else { return Ok(Verdict::ok()) };
    match answer.rc {
        0 => {}
        2 => return Ok(common::no_server(ctx)),
        _ => {
            return Err(StepError::new(format!("cannot read databases: {}", answer.stderr.trim())));
        }
    }
    let seen: Vec<Seen> = serde_json::from_str(answer.stdout.trim())
        .map_err(|e| StepError::new(format!("unreadable answer about databases: {e}")))?;
    let absent = args.str("state")?.as_deref() == Some("absent");
    let mut change = Change { writes: vec![Resource::Postgres], ..Change::default() };
    let mut summary = Vec::new();
    for database in wanted(args, ctx)? {
        let current = seen.iter().find(|s| s.name == database.name);
        match (current, absent) {
            (None, false) => {
                summary.push(format!("new database {}", database.name));
                push(
                    &mut change,
                    node,
                    &database.name,
                    None,
                    Some(made(&database)),
                    &create(&database),
                );
            }
            (Some(current), false) => keep(&mut change, &mut summary, node, &database, current)?,
            (Some(_), true) => {
                summary.push(format!("drop database {}", database.name));
                change.impact.destroys = Some(format!("database {}", database.name));
                let sql = format!("DROP DATABASE {};", ident(&database.name));
                push(&mut change, node, &database.name, Some("present".into()), None, &sql);
            }
            (None, true) => {}
        }
    }
    if summary.is_empty() {
        return Ok(Verdict::ok());
    }
    change.summary = summary.join(", ");
    Ok(Verdict::Change(change))
}

fn push(
    change: &mut Change,
    node: &NodeSettings,
    name: &str,
    before: Option<String>,
    after: Option<String>,
    sql: &str,
) {
    change.diffs.push(Diff::Value { name: format!("database {name}"), before, after, note: None });
    change.commands.push(common::sql(format!("psql: {sql}"), node, "postgres", sql).deadline(600));
}

/// An existing database: the owner can be changed, the rest is what it was made with.
fn keep(
    change: &mut Change,
    summary: &mut Vec<String>,
    node: &NodeSettings,
    wanted: &Database,
    current: &Seen,
) -> Result<(), StepError> {
    let fixed = [
        ("encoding", wanted.encoding.as_deref(), &current.encoding),
        ("locale", wanted.locale.as_deref(), &current.collate),
    ];
    for (what, wanted_value, is) in fixed {
        // UTF-8 and utf8 are one; so are C.UTF-8 and C.utf8.
        let plain = |s: &str| s.to_lowercase().replace(['-', '_'], "");
        if let Some(value) = wanted_value.filter(|v| plain(v) != plain(is)) {
            return Err(StepError::new(format!(
                "database {} has {what} {is}, not {value}; it cannot be changed",
                wanted.name
            ))
            .hint("dump it and load it into a new database, or correct the inventory"));
        }
    }
    if let Some(owner) = wanted.owner.as_ref().filter(|o| **o != current.owner) {
        let sql = format!("ALTER DATABASE {} OWNER TO {};", ident(&wanted.name), ident(owner));
        summary.push(format!("owner of database {}", wanted.name));
        let before = Some(format!("owner {}", current.owner));
        push(change, node, &wanted.name, before, Some(format!("owner {owner}")), &sql);
    }
    Ok(())
}

fn made(database: &Database) -> String {
    let parts = [
        ("owner", &database.owner),
        ("encoding", &database.encoding),
        ("locale", &database.locale),
        ("template", &database.template),
    ];
    let words: Vec<String> =
        parts.iter().filter_map(|(k, v)| v.as_ref().map(|v| format!("{k} {v}"))).collect();
    if words.is_empty() { "present".into() } else { words.join(", ") }
}

fn create(database: &Database) -> String {
    let mut sql = format!("CREATE DATABASE {}", ident(&database.name));
    if let Some(owner) = &database.owner {
        sql.push_str(&format!(" OWNER {}", ident(owner)));
    }
    if let Some(encoding) = &database.encoding {
        sql.push_str(&format!(" ENCODING {}", literal(encoding)));
    }
    if let Some(locale) = &database.locale {
        sql.push_str(&format!(" LOCALE {}", literal(locale)));
    }
    // Another encoding or locale than template1's is only possible from the pristine template0.
    let other = database.encoding.is_some() || database.locale.is_some();
    let template = database.template.as_deref().or(other.then_some("template0"));
    if let Some(template) = template {
        sql.push_str(&format!(" TEMPLATE {}", ident(template)));
    }
    sql.push(';');
    sql
}

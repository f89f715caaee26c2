//! `extension`: extensions of the inventory, on the primary.

use serde::Deserialize;

use super::common;
use crate::inventory::Extension;
use crate::model::{Answer, Fragment, Resource};
use crate::postgres::{ident, literal};
use crate::step::{ArgKind, ArgSpec, Args, Change, Ctx, Diff, Kind, StepError, Verdict, no_files};

pub(super) const KIND: Kind = Kind {
    name: "extension",
    aliases: &["postgresql_ext"],
    summary: "extensions on the primary; without a name all of the inventory's.",
    free_form: Some("name"),
    args: &[
        ArgSpec::new("name", ArgKind::Str, "one extension; without it all of postgres.extensions.")
            .probe(),
        ArgSpec::new("database", ArgKind::Str, "default postgres.").aliases(&["db"]).probe(),
        ArgSpec::new("schema", ArgKind::Str, "where its objects go, when it is made.").probe(),
        ArgSpec::new("state", ArgKind::Choice(&["present", "absent"]), "default present."),
    ],
    files: no_files,
    probe,
    diff,
};

#[derive(Deserialize)]
struct Seen {
    installed: Vec<String>,
    available: Vec<String>,
}

fn wanted(args: &Args, ctx: &Ctx) -> Result<Vec<Extension>, StepError> {
    let Some(name) = args.str("name")? else {
        return Ok(ctx.inventory.postgres.extensions.clone());
    };
    let database = args.str("database")?.unwrap_or_else(|| "postgres".into());
    Ok(vec![Extension { name, database, schema: args.str("schema")? }])
}

fn probe(args: &Args, ctx: &Ctx) -> Result<Vec<Fragment>, StepError> {
    let ask = |e: &Extension| {
        let name = literal(&e.name);
        let sql = format!(
            "SELECT json_build_object('installed', ARRAY(SELECT extname FROM pg_extension WHERE \
             extname = {name}), 'available', ARRAY(SELECT name FROM pg_available_extensions WHERE \
             name = {name}))"
        );
        Fragment::sql(&e.database, sql)
    };
    Ok(wanted(args, ctx)?.iter().map(ask).collect())
}

fn diff(args: &Args, answers: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    common::must_be_writable(ctx)?;
    let node = common::own(ctx)?;
    let absent = args.str("state")?.as_deref() == Some("absent");
    let mut change = Change { writes: vec![Resource::Postgres], ..Change::default() };
    let mut summary = Vec::new();
    for (extension, answer) in wanted(args, ctx)?.iter().zip(answers) {
        let Extension { name, database, .. } = extension;
        if answer.rc == 2 && common::server(ctx).is_none() {
            return Ok(common::no_server(ctx));
        }
        if answer.rc != 0 {
            let why = answer.stderr.trim();
            return Ok(Verdict::NotYet(format!("database {database} does not answer yet: {why}")));
        }
        let seen: Seen = serde_json::from_str(answer.stdout.trim())
            .map_err(|e| StepError::new(format!("unreadable answer about extensions: {e}")))?;
        if seen.installed.is_empty() == absent {
            continue;
        }
        let (sql, before, after) = if absent {
            change.impact.destroys = Some(format!("extension {name} in {database}"));
            (format!("DROP EXTENSION {};", ident(name)), Some("present"), None)
        } else {
            if seen.available.is_empty() {
                return Err(StepError::new(format!("the extension {name} is not on {}", ctx.host))
                    .hint("install the package that holds it on every node first")
                    .arg("name"));
            }
            (create(extension), None, Some("present"))
        };
        summary.push(format!("extension {name} in {database}"));
        change.diffs.push(Diff::Value {
            name: format!("extension {name} in {database}"),
            before: before.map(str::to_owned),
            after: after.map(str::to_owned),
            note: None,
        });
        change.commands.push(common::sql(format!("psql: {sql}"), node, database, &sql));
    }
    if summary.is_empty() {
        return Ok(Verdict::ok());
    }
    change.summary = summary.join(", ");
    Ok(Verdict::Change(change))
}

fn create(extension: &Extension) -> String {
    let name = ident(&extension.name);
    match &extension.schema {
        Some(schema) => {
            let schema = ident(schema);
            format!(
                "CREATE SCHEMA IF NOT EXISTS {schema}; CREATE EXTENSION {name} SCHEMA {schema};"
            )
        }
        None => format!("CREATE EXTENSION {name};"),
    }
}

//! `query` and `checkpoint`: SQL that is not about a wanted state.

use super::common;
use crate::model::{Answer, Ask, Fragment, Resource, Script, Value};
use crate::step::{
    ArgKind, ArgSpec, Args, Change, Ctx, Kind, StepError, Verdict, data, no_files, no_probe,
};

pub(super) const QUERY: Kind = Kind {
    name: "query",
    aliases: &["postgresql_query"],
    summary: "a SELECT whose rows are registered (rows, row, value); with changes: true any statement.",
    free_form: Some("sql"),
    args: &[
        ArgSpec::new("sql", ArgKind::Str, "one statement.").required().aliases(&["query"]).probe(),
        ArgSpec::new("database", ArgKind::Str, "default postgres.")
            .aliases(&["db", "login_db"])
            .probe(),
        ArgSpec::new(
            "changes",
            ArgKind::Bool,
            "it changes something: never run by plan; default false.",
        )
        .probe(),
    ],
    files: no_files,
    probe,
    diff: query,
};

pub(super) const CHECKPOINT: Kind = Kind {
    name: "checkpoint",
    aliases: &[],
    summary: "write a checkpoint now, so that a stop or a base backup that follows is quick.",
    free_form: None,
    args: &[ArgSpec::new("timeout", ArgKind::Int, "seconds; default 600.")],
    files: no_files,
    probe: no_probe,
    diff: |args, _, ctx| {
        let node = common::own(ctx)?;
        if common::server(ctx).is_none() {
            return Ok(common::no_server(ctx));
        }
        let seconds = args.int("timeout")?.unwrap_or(600).clamp(1, 86_400);
        let command = common::sql("psql: CHECKPOINT", node, "postgres", "CHECKPOINT;")
            .deadline(u64::try_from(seconds).unwrap_or(600));
        // It leaves nothing that anybody could call a change.
        Ok(Verdict::Wait(Change {
            summary: "checkpoint.".into(),
            commands: vec![command],
            ..Change::default()
        }))
    },
};

fn database(args: &Args) -> Result<String, StepError> {
    Ok(args.str("database")?.unwrap_or_else(|| "postgres".into()))
}

fn statement(args: &Args) -> Result<String, StepError> {
    Ok(args.need("sql")?.trim().trim_end_matches(';').to_owned())
}

/// A query is a subquery of ours: PostgreSQL takes nothing but a SELECT or VALUES there, and no
/// WITH that changes data, so a plan cannot change anything but through a volatile function.
fn probe(args: &Args, ctx: &Ctx) -> Result<Vec<Fragment>, StepError> {
    if args.bool("changes")?.unwrap_or(false) {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT coalesce(json_agg(pgorch_row), '[]') FROM (\n{}\n) AS pgorch_row",
        statement(args)?
    );
    // Not with pgorch's own questions, which have no search_path: the user's names are found in the
    // user's schemas.
    let psql = common::psql(common::node(ctx)?, &database(args)?);
    let script = Script::raw("(\ncd /").feed(sql.as_bytes(), &psql).line(")");
    let user = Some(common::OS_USER.to_owned());
    Ok(vec![Fragment { ask: Ask::Sh { script, user }, reads: vec![Resource::Postgres] }])
}

fn query(args: &Args, answers: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    let node = common::node(ctx)?;
    let Some(answer) = answers.first() else {
        common::own(ctx)?;
        if common::server(ctx).is_none() {
            return Ok(common::no_server(ctx));
        }
        let sql = statement(args)?;
        let label = sql.lines().next().unwrap_or_default().to_owned();
        let command =
            common::sql(format!("psql: {label}"), node, &database(args)?, &format!("{sql};\n"));
        return Ok(Verdict::Change(Change {
            summary: label,
            commands: vec![command.deadline(3600)],
            writes: vec![Resource::Postgres],
            ..Change::default()
        }));
    };
    match answer.rc {
        0 => {}
        _ if common::server(ctx).is_none() => return Ok(common::no_server(ctx)),
        _ => return Err(StepError::new(answer.stderr.trim().to_owned()).arg("sql")),
    }
    let rows: Vec<Value> = serde_json::from_str(answer.stdout.trim())
        .map_err(|e| StepError::new(format!("unreadable answer: {e}")).arg("sql"))?;
    let row = rows.first().cloned().unwrap_or(Value::Null);
    let value = row.as_object().and_then(|r| r.values().next()).cloned().unwrap_or(Value::Null);
    let count = rows.len();
    Ok(Verdict::with_data(data(&[
        ("rows", Value::Array(rows)),
        ("row", row),
        ("value", value),
        ("rowcount", count.into()),
    ])))
}

//! `event`: a line in the cluster's own history.

use super::{common, members};
use crate::model::{Answer, Value};
use crate::step::{
    ArgKind, ArgSpec, Args, Change, Ctx, Kind, StepError, Verdict, no_files, no_probe,
};

pub(super) const KIND: Kind = Kind {
    name: "event",
    aliases: &[],
    summary: "write an event into pgorch.events, on the primary.",
    free_form: None,
    args: &[
        ArgSpec::new("kind", ArgKind::Str, "a word: switchover, maintenance, ...").required(),
        ArgSpec::new("node", ArgKind::Str, "the node that it is about."),
        ArgSpec::new("data", ArgKind::Map, "anything; no secrets."),
    ],
    files: no_files,
    probe: no_probe,
    diff,
};

fn diff(args: &Args, _: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    common::must_be_writable(ctx)?;
    let node = common::own(ctx)?;
    if common::server(ctx).is_none() {
        return Ok(common::no_server(ctx));
    }
    let kind = args.need("kind")?;
    let data = args.get("data").cloned().unwrap_or_else(|| Value::Object(crate::model::Map::new()));
    let insert = members::event(&kind, args.str("node")?.as_deref(), &data.to_string());
    let sql = format!("BEGIN;\n{}{insert}COMMIT;\n", members::SCHEMA);
    let summary = format!("event {kind}");
    Ok(Verdict::Change(Change {
        commands: vec![common::sql(format!("psql: {summary}"), node, "postgres", &sql)],
        summary,
        ..Change::default()
    }))
}

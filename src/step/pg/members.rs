//! `members`: the members of the cluster, in the cluster itself (`register` is a word of every task).

use serde::Deserialize;

use super::basebackup::system_identifier;
use super::common;
use crate::inventory::NodeSettings;
use crate::model::{Answer, Fragment, HostName, Resource, SystemIdentifier};
use crate::postgres::literal;
use crate::step::{
    ArgKind, ArgSpec, Args, Change, Ctx, Diff, Kind, Report, StepError, Verdict, no_files,
};

pub(super) const KIND: Kind = Kind {
    name: "members",
    aliases: &[],
    summary: "keep members in pgorch.nodes, and each change of them in pgorch.events; on the primary.",
    free_form: None,
    args: &[
        ArgSpec::new("nodes", ArgKind::StrList, "default: all nodes that hold the cluster's data."),
        ArgSpec::new("state", ArgKind::Choice(&["present", "absent"]), "absent needs nodes."),
    ],
    files: no_files,
    probe: |_, _| Ok(vec![Fragment::sql("postgres", PROBE)]),
    diff,
};

/// The query names a table that may not be there yet, so the server may refuse it: that is an
/// answer too.
const PROBE: &str = "SELECT coalesce(json_agg(json_build_object('name', name, 'host', host, \
    'port', port, 'location', location, 'priority', priority, \
    'system_identifier', system_identifier) ORDER BY name), '[]') FROM pgorch.nodes";

/// Everything is made if it is missing; the schema belongs to pgorch's role.
pub(super) const SCHEMA: &str = "CREATE SCHEMA IF NOT EXISTS pgorch;\n\
    CREATE TABLE IF NOT EXISTS pgorch.nodes (\n\
    name text PRIMARY KEY, host text NOT NULL, port integer NOT NULL, location text,\n\
    priority integer NOT NULL, system_identifier text NOT NULL,\n\
    registered_at timestamptz NOT NULL DEFAULT now());\n\
    CREATE TABLE IF NOT EXISTS pgorch.events (\n\
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(),\n\
    kind text NOT NULL, node text, data jsonb NOT NULL DEFAULT '{}');\n\
    ALTER SCHEMA pgorch OWNER TO pgorch;\n\
    ALTER TABLE pgorch.nodes OWNER TO pgorch;\n\
    ALTER TABLE pgorch.events OWNER TO pgorch;\n";

#[derive(Deserialize, PartialEq, Clone)]
struct Member {
    name: String,
    host: String,
    port: u16,
    location: Option<String>,
    priority: u32,
    system_identifier: String,
}

fn diff(args: &Args, answers: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    common::must_be_writable(ctx)?;
    let node = common::own(ctx)?;
    let answer =
        answers.first().ok_or_else(|| StepError::new("the answer about members is missing"))?;
    // The server's messages may be in any language; the table's name is in all of them.
    let missing = answer.rc == 1 && answer.stderr.contains("pgorch.nodes");
    let present: Vec<Member> = match answer.rc {
        0 => serde_json::from_str(answer.stdout.trim())
            .map_err(|e| StepError::new(format!("unreadable answer about members: {e}")))?,
        _ if missing => Vec::new(),
        2 => return Ok(common::no_server(ctx)),
        _ => return Err(StepError::new(format!("cannot read members: {}", answer.stderr.trim()))),
    };
    let Some(cluster) = system_identifier(ctx, ctx.host) else { return Ok(common::no_server(ctx)) };
    let named = args.str_list("nodes")?;
    if args.str("state")?.as_deref() == Some("absent") {
        return unregister(&named, &present, node);
    }
    let (wanted, mut report) = members(ctx, &named, &present, cluster)?;
    report.notices.extend(strangers(ctx, &present));
    let mut sql = if missing { SCHEMA.to_owned() } else { String::new() };
    let mut diffs = Vec::new();
    for member in &wanted {
        let current = present.iter().find(|p| p.name == member.name);
        if current != Some(member) {
            sql.push_str(&upsert(member, current.is_some()));
            diffs.push(Diff::Value {
                name: format!("member {}", member.name),
                before: current.map(show),
                after: Some(show(member)),
                note: None,
            });
        }
    }
    if sql.is_empty() {
        return Ok(Verdict::Satisfied(report));
    }
    let names: Vec<&str> = diffs.iter().filter_map(name_of).collect();
    Ok(change(node, format!("register {}", names.join(", ")), diffs, &sql, report))
}

fn name_of(diff: &Diff) -> Option<&str> {
    match diff {
        Diff::Value { name, .. } => name.strip_prefix("member "),
        Diff::Text { .. } => None,
    }
}

/// Who is to be in the table: declared nodes that hold this cluster's data, and those that are in
/// already. A plan counts all declared ones, because by then they will be made.
fn members(
    ctx: &Ctx,
    named: &[String],
    present: &[Member],
    cluster: SystemIdentifier,
) -> Result<(Vec<Member>, Report), StepError> {
    let mut wanted = Vec::new();
    let mut report = Report::default();
    for name in named {
        common::settings_of(ctx, &HostName(name.clone())).map_err(|e| e.arg("nodes"))?;
    }
    for (name, declared) in &ctx.inventory.nodes {
        if !named.is_empty() && !named.contains(&name.0) {
            continue;
        }
        let settings = common::settings_of(ctx, name)?;
        let known = present.iter().any(|p| p.name == name.0);
        let seen = system_identifier(ctx, name);
        let will_be_copied = ctx.options.check && common::expendable(ctx, &settings);
        if seen.is_some_and(|id| id != cluster) && !will_be_copied {
            report.notices.push(format!("{name} is not registered: it holds another cluster"));
            continue;
        }
        if !(known || seen.is_some() || ctx.options.check) {
            report.notices.push(format!("{name} is not registered: it has no data yet"));
            continue;
        }
        wanted.push(Member {
            name: name.0.clone(),
            host: settings.address,
            port: settings.port,
            location: declared.location.clone(),
            priority: declared.priority,
            system_identifier: cluster.to_string(),
        });
    }
    Ok((wanted, report))
}

/// Registered and no longer declared: reported, never removed by apply.
fn strangers(ctx: &Ctx, present: &[Member]) -> Vec<String> {
    let declared = |name: &str| ctx.inventory.nodes.keys().any(|n| n.0 == name);
    let gone = present.iter().filter(|m| !declared(&m.name));
    gone.map(|m| {
        format!("{0} is registered and not in the inventory: pgorch unregister {0}", m.name)
    })
    .collect()
}

fn unregister(
    named: &[String],
    present: &[Member],
    node: &NodeSettings,
) -> Result<Verdict, StepError> {
    if named.is_empty() {
        return Err(StepError::new("which nodes are to be unregistered?").arg("nodes"));
    }
    let (mut sql, mut diffs) = (String::new(), Vec::new());
    for member in present.iter().filter(|m| named.contains(&m.name)) {
        let name = literal(&member.name);
        sql.push_str(&format!("DELETE FROM pgorch.nodes WHERE name = {name};\n"));
        sql.push_str(&event("unregistered", Some(&member.name), "{}"));
        diffs.push(Diff::Value {
            name: format!("member {}", member.name),
            before: Some(show(member)),
            after: None,
            note: None,
        });
    }
    if sql.is_empty() {
        return Ok(Verdict::ok());
    }
    let summary = format!("unregister {}", named.join(", "));
    Ok(change(node, summary, diffs, &sql, Report::default()))
}

fn change(
    node: &NodeSettings,
    summary: String,
    diffs: Vec<Diff>,
    sql: &str,
    report: Report,
) -> Verdict {
    let sql = format!("BEGIN;\n{sql}COMMIT;\n");
    Verdict::Change(Change {
        commands: vec![common::sql(format!("psql: {summary}"), node, "postgres", &sql)],
        summary,
        diffs,
        writes: vec![Resource::Postgres],
        report,
        ..Change::default()
    })
}

fn show(member: &Member) -> String {
    let location = member.location.as_ref().map(|l| format!(", {l}")).unwrap_or_default();
    format!("{}:{}, priority {}{location}", member.host, member.port, member.priority)
}

fn upsert(member: &Member, known: bool) -> String {
    let location = member.location.as_deref().map_or_else(|| "NULL".to_owned(), literal);
    let values = format!(
        "{}, {}, {}, {location}, {}, {}",
        literal(&member.name),
        literal(&member.host),
        member.port,
        member.priority,
        literal(&member.system_identifier)
    );
    let kind = if known { "changed" } else { "registered" };
    let data = serde_json::json!({ "host": member.host, "port": member.port });
    format!(
        "INSERT INTO pgorch.nodes (name, host, port, location, priority, system_identifier) \
         VALUES ({values}) ON CONFLICT (name) DO UPDATE SET host = EXCLUDED.host, \
         port = EXCLUDED.port, location = EXCLUDED.location, priority = EXCLUDED.priority, \
         system_identifier = EXCLUDED.system_identifier;\n{}",
        event(kind, Some(&member.name), &data.to_string())
    )
}

/// The statement that writes one event.
pub(super) fn event(kind: &str, node: Option<&str>, data: &str) -> String {
    let node = node.map_or_else(|| "NULL".to_owned(), literal);
    format!(
        "INSERT INTO pgorch.events (kind, node, data) VALUES ({}, {node}, {}::jsonb);\n",
        literal(kind),
        literal(data)
    )
}

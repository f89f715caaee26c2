//! `hba` and `ident`: who may connect, and as whom. Both files are rendered whole.

use super::common::{self, OS_USER, PGORCH, REPLICATOR};
use super::files::{self, Replace};
use crate::facts::DataDir;
use crate::inventory::NodeSettings;
use crate::model::{Answer, Fragment, Resource, Script};
use crate::postgres::{HbaChange, HbaRule, diff_hba, hba_rules, render_hba};
use crate::step::{
    ArgKind, ArgSpec, Args, Change, Command, Ctx, Diff, Kind, StepError, Verdict, no_files,
};

pub(super) const HBA: Kind = Kind {
    name: "hba",
    aliases: &["pg_hba"],
    summary: "render pg_hba.conf: pgorch's own rows, replication among the nodes, the inventory's.",
    free_form: None,
    args: &[ArgSpec::new(
        "replication_type",
        ArgKind::Choice(&["host", "hostssl"]),
        "type of the replication rows; default host.",
    )],
    files: no_files,
    probe: |_, ctx| probe(ctx, "pg_hba.conf"),
    diff: |args, answers, ctx| {
        let node = common::own(ctx)?;
        let text = hba_text(args, ctx)?;
        let complaints = "SELECT format('line %s: %s', line_number, error) \
                          FROM pg_hba_file_rules WHERE error IS NOT NULL";
        judge(answers, ctx, node, "pg_hba.conf", &text, Some(complaints))
    },
};

pub(super) const IDENT: Kind = Kind {
    name: "ident",
    aliases: &["pg_ident"],
    summary: "render pg_ident.conf: which OS users may be the role pgorch on the socket.",
    free_form: None,
    args: &[ArgSpec::new(
        "users",
        ArgKind::StrList,
        "further OS users; root, postgres and the SSH login are there.",
    )],
    files: no_files,
    probe: |_, ctx| probe(ctx, "pg_ident.conf"),
    diff: |args, answers, ctx| {
        let node = common::own(ctx)?;
        let text = ident_text(args, ctx)?;
        // The view is new in 15.
        let complaints = "SELECT format('line %s: %s', line_number, error) \
                          FROM pg_ident_file_mappings WHERE error IS NOT NULL";
        let complaints = (node.version >= 15).then_some(complaints);
        judge(answers, ctx, node, "pg_ident.conf", &text, complaints)
    },
};

const HEADER: &str =
    "# Rendered by pgorch from the inventory; edits are undone by the next apply.\n";

/// The rows, first match wins: pgorch's own ways in come first so that no row of the inventory can
/// lock it out; password logins from the host itself come last.
fn hba_text(args: &Args, ctx: &Ctx) -> Result<String, StepError> {
    let kind = args.str("replication_type")?.unwrap_or_else(|| "host".into());
    let mut rows = vec![
        row("local", "all", OS_USER, None, "peer"),
        HbaRule {
            options: vec![format!("map={PGORCH}")],
            ..row("local", "all", PGORCH, None, "peer")
        },
    ];
    for name in ctx.inventory.nodes.keys() {
        let address = address(&common::settings_of(ctx, name)?.address)?;
        // pg_rewind connects to a database besides the replication protocol.
        rows.push(row(&kind, "replication,postgres", REPLICATOR, Some(&address), SCRAM));
    }
    let own = ctx.inventory.nodes.get(ctx.host).map(|node| &node.postgres.hba);
    let declared = ctx.inventory.postgres.hba.iter().chain(own.into_iter().flatten());
    rows.extend(declared.map(of_inventory));
    rows.push(row("local", "all", "all", None, SCRAM));
    rows.push(row("host", "all", "all", Some("127.0.0.1/32"), SCRAM));
    rows.push(row("host", "all", "all", Some("::1/128"), SCRAM));
    Ok(format!("{HEADER}{}", render_hba(&rows)))
}

const SCRAM: &str = "scram-sha-256";

fn row(kind: &str, database: &str, user: &str, address: Option<&str>, method: &str) -> HbaRule {
    HbaRule {
        kind: kind.to_owned(),
        database: database.to_owned(),
        user: user.to_owned(),
        address: address.map(str::to_owned),
        method: method.to_owned(),
        options: Vec::new(),
    }
}

fn of_inventory(rule: &crate::inventory::HbaRule) -> HbaRule {
    let options = rule.options.iter().flat_map(|o| o.split_whitespace());
    HbaRule {
        options: options.map(str::to_owned).collect(),
        ..row(&rule.r#type, &rule.database, &rule.user, rule.address.as_deref(), &rule.method)
    }
}

/// An address as one host: with a full mask, or a name as it is.
fn address(text: &str) -> Result<String, StepError> {
    match text.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(ip)) => Ok(format!("{ip}/32")),
        Ok(std::net::IpAddr::V6(ip)) => Ok(format!("{ip}/128")),
        Err(_) if text.is_empty() => Err(StepError::new("a node has no address yet")),
        Err(_) => Ok(text.to_owned()),
    }
}

fn ident_text(args: &Args, ctx: &Ctx) -> Result<String, StepError> {
    let mut users = vec![OS_USER.to_owned(), "root".to_owned()];
    let own = ctx.inventory.nodes.get(ctx.host).and_then(|n| n.host.ssh.user.clone());
    users.extend(own.or_else(|| ctx.inventory.ssh.user.clone()));
    users.extend(args.str_list("users")?);
    let mut text = HEADER.to_owned();
    let mut seen: Vec<&String> = Vec::new();
    for user in &users {
        if !seen.contains(&user) {
            text.push_str(&format!("{PGORCH:<8} {:<16} {PGORCH}\n", word(user)));
            seen.push(user);
        }
    }
    Ok(text)
}

/// A name in pg_ident.conf; a leading slash would make it a regular expression.
fn word(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if name.chars().all(plain) { name.to_owned() } else { format!("\"{name}\"") }
}

fn probe(ctx: &Ctx, name: &str) -> Result<Vec<Fragment>, StepError> {
    let path = format!("{}/{name}", common::node(ctx)?.data_dir);
    let script = files::read(Script::new(), "file", &path);
    Ok(vec![Fragment::sh(script, vec![Resource::Path(path)])])
}

fn judge(
    answers: &[Answer],
    ctx: &Ctx,
    node: &NodeSettings,
    name: &str,
    text: &str,
    complaints: Option<&str>,
) -> Result<Verdict, StepError> {
    let Some(at_rest) = answers.first() else {
        return Err(StepError::new(format!("the answer about {name} is missing")));
    };
    if !matches!(common::data_dir(ctx), Some(DataDir::Cluster(_))) {
        return Ok(Verdict::NotYet(format!("{} is not a database cluster yet", node.data_dir)));
    }
    let current = files::parse(files::lines(at_rest).get("file"))?;
    let loaded = common::loaded_at(ctx);
    let running = loaded.is_some();
    let same = current.as_ref().is_some_and(|f| f.text == text && f.is_private());
    let owed = current.as_ref().is_some_and(|f| f.newer_than(loaded));
    if same && !owed {
        return Ok(Verdict::ok());
    }
    let path = format!("{}/{name}", node.data_dir);
    let before = current.map(|f| f.text);
    let diffs = rule_diffs(&path, before, text);
    let summary = match (same, diffs.len()) {
        (true, _) => format!("{name} is newer than the running configuration: reload"),
        (_, 0) => format!("mode or owner of {name}"),
        (_, 1) => format!("{name}: 1 row"),
        (_, n) => format!("{name}: {n} rows"),
    };
    let replace = Replace { node, name, text, precheck: None, complaints, running };
    let command = Command::new(format!("write {path} and reload"), replace.script()).user(OS_USER);
    let mut change = Change {
        summary,
        diffs,
        commands: vec![command],
        writes: vec![Resource::Path(path), Resource::Postgres],
        ..Change::default()
    };
    change.impact.reload = running;
    Ok(Verdict::Change(change))
}

/// By rule where rules differ, as text where only their form does, and for pg_ident.conf.
fn rule_diffs(path: &str, before: Option<String>, text: &str) -> Vec<Diff> {
    if before.as_deref() == Some(text) {
        return Vec::new();
    }
    let rules = hba_rules(before.as_deref().unwrap_or_default());
    let changes = match path.ends_with("pg_hba.conf") {
        true => diff_hba(&rules, &hba_rules(text)),
        false => Vec::new(),
    };
    if changes.is_empty() {
        // initdb's file is one long comment: nothing that a reader would miss.
        let says = |t: &String| t.lines().any(|l| !l.trim().is_empty() && !l.starts_with('#'));
        let before = before.filter(says);
        return vec![Diff::Text { path: path.to_owned(), before, after: Some(text.to_owned()) }];
    }
    let value = |at: usize, before, after| Diff::Value {
        name: format!("pg_hba.conf rule {at}"),
        before,
        after,
        note: Some("reload".into()),
    };
    changes
        .into_iter()
        .map(|change| match change {
            HbaChange::Added { at, rule } => value(at, None, Some(rule.to_string())),
            HbaChange::Removed { at, rule } => value(at, Some(rule.to_string()), None),
            HbaChange::Moved { from, to, rule } => {
                value(to, Some(format!("at {from}: {rule}")), Some(rule.to_string()))
            }
        })
        .collect()
}

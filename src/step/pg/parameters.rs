//! `parameters`: `<data_dir>/pgorch.conf`, checked by the server's own binary before it is written.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use super::common::{self, OS_USER};
use super::defaults::{self, NOT_BELOW_PRIMARY};
use super::files::{self, HostFile, Replace};
use super::initdb::INCLUDES;
use crate::facts::{DataDir, ServerFacts};
use crate::inventory::NodeSettings;
use crate::model::{Answer, Fragment, Resource, Script, Value, quote};
use crate::postgres::{Conf, conf_value, diff_conf, sql, unknown_parameter};
use crate::step::{
    ArgKind, ArgSpec, Args, Change, Command, Ctx, Diff, Kind, PENDING_RESTART, Report, StepError,
    Verdict, no_files,
};
use crate::syntax::lower::did_you_mean;

pub(super) const KIND: Kind = Kind {
    name: "parameters",
    aliases: &[],
    summary: "render pgorch.conf from the inventory, check it with the server, reload.",
    free_form: None,
    args: &[ArgSpec::new(
        "parameters",
        ArgKind::Map,
        "parameters that win over the inventory's, by name.",
    )
    .probe()],
    files: no_files,
    probe,
    diff,
};

const FILE: &str = "pgorch.conf";
/// The note on a parameter that is only read at the start.
const RESTART: &str = "restart";

/// A complaint for each line of pgorch.conf that the running server would not take. That a
/// parameter waits for a restart is no complaint, though the view calls it an error.
const COMPLAINTS: &str = "SELECT format('%s: %s', f.name, f.error) FROM pg_file_settings f \
    WHERE f.error IS NOT NULL AND f.sourcefile LIKE '%/pgorch.conf' AND NOT EXISTS \
    (SELECT FROM pg_settings s WHERE s.name = f.name AND s.pending_restart)";

/// What pgorch.conf is to say, in order, with the reason of each default.
struct Wanted {
    values: IndexMap<String, String>,
    reasons: BTreeMap<String, &'static str>,
}

fn wanted(args: &Args, ctx: &Ctx, node: &NodeSettings) -> Result<Wanted, StepError> {
    let mut values = IndexMap::new();
    let mut reasons = BTreeMap::new();
    for default in defaults::defaults(ctx.inventory, node) {
        reasons.insert(default.name.to_owned(), default.why);
        values.insert(default.name.to_owned(), default.value);
    }
    let mut own = node.parameters.clone();
    if let Some(Value::Object(extra)) = args.get("parameters") {
        for (name, value) in extra {
            own.insert(name.clone(), scalar(name, value)?);
        }
    }
    for (name, value) in own {
        // Names are not case-sensitive in postgresql.conf; one spelling keeps one entry.
        let name = name.to_lowercase();
        if let Some(why) = defaults::refusal(&name, &value, node) {
            let message = format!("the parameter {name} is not the inventory's to set: {why}");
            return Err(StepError::new(message).arg("parameters"));
        }
        reasons.remove(&name);
        values.insert(name, value);
    }
    Ok(Wanted { values, reasons })
}

fn scalar(name: &str, value: &Value) -> Result<String, StepError> {
    match value {
        Value::String(s) => Ok(s.clone()),
        Value::Number(n) => Ok(n.to_string()),
        Value::Bool(b) => Ok(if *b { "on" } else { "off" }.into()),
        _ => {
            Err(StepError::new(format!("{name} must be text, a number or on/off"))
                .arg("parameters"))
        }
    }
}

impl Wanted {
    fn text(&self) -> String {
        let mut text = String::from(
            "# Rendered by pgorch from the inventory; edits are undone by the next apply.\n",
        );
        for (name, value) in &self.values {
            let why = self.reasons.get(name).filter(|w| !w.is_empty());
            let why = why.map(|w| format!("  # {w}")).unwrap_or_default();
            text.push_str(&format!("{name} = {}{why}\n", conf_value(value)));
        }
        text
    }
}

/// What stands in the files, and what the server's binary says to the wanted text: `postgres -C`
/// reads a whole configuration and starts nothing.
fn probe(args: &Args, ctx: &Ctx) -> Result<Vec<Fragment>, StepError> {
    let node = common::node(ctx)?;
    let wanted = wanted(args, ctx, node)?;
    let dir = &node.data_dir;
    let script = files::read(Script::new(), "conf", &format!("{dir}/{FILE}"));
    let script = files::read(script, "auto", &format!("{dir}/postgresql.auto.conf"));
    let postgres = quote(&format!("{}/postgres", node.bin_dir));
    let mut script = script.line(&format!(
        "if [ -f {0} ]; then for i in {1}; do grep -qxF \"$i\" {0} || echo \"include $i\"; done; fi",
        quote(&format!("{dir}/postgresql.conf")),
        INCLUDES.map(quote).join(" "),
    ));
    // A file, because the server reads its configuration twice; of OS user postgres, because it
    // runs as nobody else; `-D /` because there may be no data directory yet.
    let check = format!(
        "runuser -u {OS_USER} -- sh -c 'cd / && f=$(mktemp) && cat >\"$f\" && {{ LC_ALL=C \"$0\" -D / \\\n\
         --config-file=\"$f\" -C config_file 2>&1 >/dev/null; r=$?; rm -f \"$f\"; exit $r; }}' {postgres}"
    );
    script = script
        .line("wanted=$(")
        .feed(wanted.text().as_bytes(), "cat")
        .line(")")
        .set("conf", &format!("{dir}/{FILE}"))
        // What is in place has been checked before: nothing is started for a run without changes.
        .line("if [ -f \"$conf\" ] && [ \"$(cat \"$conf\")\" = \"$wanted\" ]; then echo 'check ok'")
        .line(&format!("elif [ -x {postgres} ] && id {OS_USER} >/dev/null 2>&1; then"))
        .line(&format!("said=$(printf '%s\\n' \"$wanted\" | {check}) && echo 'check ok' || {{"))
        .line("printf 'check %s\\n' \"$(printf '%s' \"$said\" | base64 -w0)\"")
        .line(&format!("{postgres} --describe-config | cut -f1 | sed 's/^/name /'"))
        .line("}\nfi\n:");
    let reads = [FILE, "postgresql.auto.conf", "postgresql.conf"];
    let mut reads = reads.map(|f| Resource::Path(format!("{dir}/{f}"))).to_vec();
    reads.push(Resource::Packages);
    Ok(vec![Fragment::sh(script, reads)])
}

fn diff(args: &Args, answers: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    let node = common::own(ctx)?;
    let Some(at_rest) = answers.first() else {
        return Err(StepError::new("the answer about the configuration is missing"));
    };
    let lines = files::lines(at_rest);
    match lines.get("check") {
        None => {
            return Ok(Verdict::NotYet(format!(
                "PostgreSQL {} is not installed yet",
                node.version
            )));
        }
        Some(&"ok") => {}
        Some(encoded) => return Err(complaint(encoded, &at_rest.stdout, node.version)),
    }
    match common::data_dir(ctx) {
        Some(DataDir::Cluster(_)) => {}
        _ => {
            return Ok(Verdict::NotYet(format!("{} is not a database cluster yet", node.data_dir)));
        }
    }
    let mut wanted = wanted(args, ctx, node)?;
    let mut notices = clamp(&mut wanted, ctx);
    let auto = files::parse(lines.get("auto"))?.map(|f| f.text).unwrap_or_default();
    let auto = Conf::parse(&auto).parameters();
    notices.extend(overridden(&wanted, &auto));
    notices.extend(common::server(ctx).and_then(pending_notice));
    let current = files::parse(lines.get("conf"))?;
    let missing: Vec<&str> =
        at_rest.stdout.lines().filter_map(|l| l.strip_prefix("include ")).collect();
    Ok(judge(node, &wanted, current.as_ref(), &missing, common::server(ctx), notices))
}

fn judge(
    node: &NodeSettings,
    wanted: &Wanted,
    current: Option<&HostFile>,
    missing: &[&str],
    live: Option<&ServerFacts>,
    notices: Vec<String>,
) -> Verdict {
    let text = wanted.text();
    let report = Report { notices, ..Report::default() };
    let same = current.is_some_and(|f| f.text == text && f.is_private());
    let owed = same && current.is_some_and(|f| f.newer_than(live.map(|s| s.conf_loaded_at)));
    if same && missing.is_empty() && !owed {
        return Verdict::Satisfied(report);
    }
    let path = format!("{}/{FILE}", node.data_dir);
    let diffs = diffs(&path, current, &text, live);
    let summary = match (owed, missing.is_empty()) {
        (true, true) => format!("{FILE} is newer than the running configuration: reload"),
        (_, false) => "postgresql.conf does not include pgorch's files".to_owned(),
        _ => summary(&diffs),
    };
    let precheck = include_check(node, missing);
    let replace = Replace {
        node,
        name: FILE,
        text: &text,
        precheck: Some(precheck),
        complaints: Some(COMPLAINTS),
        running: live.is_some(),
    };
    let command = Command::new(format!("write {path} and reload"), replace.script()).user(OS_USER);
    let mut change = Change {
        summary,
        diffs,
        commands: vec![command],
        writes: vec![Resource::Path(path), Resource::Postgres],
        report,
        ..Change::default()
    };
    if !missing.is_empty() {
        change.writes.push(Resource::Path(format!("{}/postgresql.conf", node.data_dir)));
    }
    let restart = |d: &Diff| matches!(d, Diff::Value { note: Some(note), .. } if note == RESTART);
    if change.diffs.iter().any(restart) {
        change.writes.push(Resource::Restart);
    }
    change.impact.reload = live.is_some();
    Verdict::Change(change)
}

/// Before the file is put in place: missing include lines are added to postgresql.conf, and the
/// server's binary reads the whole configuration with the new file at the end. That catches what
/// only shows together with the rest of the host's configuration.
fn include_check(node: &NodeSettings, missing: &[&str]) -> String {
    let conf = quote(&format!("{}/postgresql.conf", node.data_dir));
    let mut text = String::new();
    if !missing.is_empty() {
        let lines: Vec<String> = missing.iter().map(|l| quote(l)).collect();
        text = format!(
            "[ -e \"$file\" ] || : >\"$file\"\nprintf '%s\\n' {} >>{conf}\n",
            lines.join(" ")
        );
    }
    format!(
        "{text}try=$file.pgorch-try\nprintf \"include '%s'\\n\" {conf} \"$new\" >\"$try\"\n\
         if ! said=$(LC_ALL=C {} -D {} --config-file=\"$try\" -C config_file 2>&1 >/dev/null); then\n\
         printf '%s\\n' \"$said\" >&2; rm -f \"$try\" \"$new\"; exit 1\nfi\nrm -f \"$try\"",
        quote(&format!("{}/postgres", node.bin_dir)),
        quote(&node.data_dir),
    )
}

/// The server's words about the first wrong parameter, with the name that was probably meant.
fn complaint(encoded: &str, stdout: &str, major: u32) -> StepError {
    let said = files::decode(encoded).unwrap_or_default();
    let of = |kind: &str| {
        said.lines()
            .filter_map(|l| Some(l.split_once(kind)?.1.trim().to_owned()))
            .collect::<Vec<_>>()
    };
    let mut errors: Vec<String> = of("LOG: ");
    errors.retain(|line| !line.starts_with("skipping missing configuration file"));
    if errors.is_empty() {
        errors = of("FATAL: ");
    }
    let message = if errors.is_empty() { said.trim().to_owned() } else { errors.join("; ") };
    // The place is a temporary file of ours and tells the user nothing.
    let place = message.find(" in file \"").unwrap_or(message.len());
    let error =
        StepError::new(format!("the server refuses: {}", &message[..place])).arg("parameters");
    let unknown = message.split_once("unrecognized configuration parameter \"");
    if let Some((name, _)) = unknown.and_then(|(_, rest)| rest.split_once('"')) {
        if let Some(why) = unknown_parameter(name, major) {
            return error.hint(why);
        }
        let names = stdout.lines().filter_map(|l| l.strip_prefix("name "));
        if let Some(near) = did_you_mean(name, names) {
            return error.hint(format!("did you mean \"{near}\"?"));
        }
    }
    match of("HINT: ").into_iter().next() {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Raises what a standby must not have below its primary, and says so.
fn clamp(wanted: &mut Wanted, ctx: &Ctx) -> Vec<String> {
    if !common::is_standby(ctx) {
        return Vec::new();
    }
    let mut notices = Vec::new();
    for name in NOT_BELOW_PRIMARY {
        let Some(floor) = floor(name, ctx) else { continue };
        let value = wanted.values.get(*name).and_then(|v| v.trim().parse::<i64>().ok());
        let boot = match *name {
            "max_connections" => 100,
            "max_worker_processes" => 8,
            "max_locks_per_transaction" => 64,
            _ => 0,
        };
        if value.unwrap_or(boot) < floor {
            // Without a declared value the server's own default counts: silent for the user.
            if let Some(value) = value {
                notices.push(format!(
                    "{name} stays at {floor} on {} instead of {value}: a standby must not have less than its primary runs with; \
                     apply again once the primary has restarted",
                    ctx.host
                ));
            }
            wanted.values.insert((*name).to_owned(), floor.to_string());
        }
    }
    notices
}

/// What the primary runs with: by its own word, by its control file, by ours (replay keeps the
/// primary's values there).
fn floor(name: &str, ctx: &Ctx) -> Option<i64> {
    let control = |dir: &DataDir| match dir {
        DataDir::Cluster(dir) => dir.control.as_ref()?.settings.get(name).copied(),
        _ => None,
    };
    let primary = ctx.primary.and_then(|p| common::seen(ctx, p));
    let running = primary
        .and_then(|p| p.server.as_ref())
        .and_then(|s| s.settings.get(name))
        .and_then(|s| s.raw.parse().ok());
    let known = [
        running,
        primary.and_then(|p| control(&p.data_dir)),
        common::data_dir(ctx).and_then(control),
    ];
    known.into_iter().flatten().max()
}

/// Wanted parameters that `ALTER SYSTEM` has set: that file is read last and wins.
fn overridden(wanted: &Wanted, auto: &IndexMap<String, String>) -> Vec<String> {
    let hit = |name: &str| wanted.values.get(name);
    auto.iter()
        .filter(|(name, value)| hit(name).is_some_and(|wanted| wanted != *value))
        .map(|(name, value)| {
            format!(
                "{name} = {value} in postgresql.auto.conf wins over the inventory; undo with: {}",
                sql::reset_parameter(name)
            )
        })
        .collect()
}

/// The debt in one form, whoever reports it.
pub(super) fn pending_notice(server: &ServerFacts) -> Option<String> {
    (!server.pending_restart.is_empty())
        .then(|| format!("{PENDING_RESTART}: {}", server.pending_restart.join(", ")))
}

/// By parameter where a value differs, as text where only the form does.
fn diffs(
    path: &str,
    current: Option<&HostFile>,
    text: &str,
    live: Option<&ServerFacts>,
) -> Vec<Diff> {
    let before = current.map(|f| Conf::parse(&f.text)).unwrap_or_default();
    let setting = |name: &str| live?.settings.get(name);
    let note = |name: &str| {
        let restart = setting(name)?.context == "postmaster";
        Some(if restart { RESTART } else { "reload" }.to_owned())
    };
    let mut list: Vec<Diff> = diff_conf(&before, &Conf::parse(text))
        .into_iter()
        .map(|c| Diff::Value {
            note: note(&c.name),
            // On a first apply the file is empty: what the server runs with says more, unless it
            // runs with the same by another's word.
            before: c.before.or_else(|| {
                let running = &setting(&c.name)?.value;
                (c.after.as_ref() != Some(running)).then(|| running.clone())
            }),
            after: c.after,
            name: c.name,
        })
        .collect();
    let old = current.map(|f| f.text.clone());
    if list.is_empty() && old.as_deref() != Some(text) {
        list.push(Diff::Text { path: path.to_owned(), before: old, after: Some(text.to_owned()) });
    }
    list
}

fn summary(diffs: &[Diff]) -> String {
    let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "unset".into());
    let words: Vec<String> = diffs
        .iter()
        .filter_map(|d| match d {
            Diff::Value { name, before, after, .. } => {
                Some(format!("{name} {} -> {}", show(before), show(after)))
            }
            Diff::Text { .. } => None,
        })
        .collect();
    match words.as_slice() {
        [] => format!("{FILE} was edited by hand"),
        [.., _] if words.len() > 4 => {
            format!("{} and {} more", words[..3].join(", "), words.len() - 3)
        }
        _ => words.join(", "),
    }
}

//! `follow`: which upstream a standby streams from; `<data_dir>/pgorch.standby.conf`.

use super::basebackup::{conninfo, system_identifier};
use super::common::{self, OS_USER};
use super::files::{self, HostFile, Replace};
use super::{passfile, sync};
use crate::facts::{ClusterDir, DataDir, ServerFacts};
use crate::inventory::NodeSettings;
use crate::model::{Answer, Fragment, HostName, Resource, Script, quote};
use crate::postgres::{Conf, conf_value, diff_conf, sql};
use crate::step::{
    ArgKind, ArgSpec, Args, Change, Command, Ctx, Diff, Kind, StepError, Verdict, data, no_files,
};

pub(super) const KIND: Kind = Kind {
    name: "follow",
    aliases: &[],
    summary: "make a standby stream from its wanted upstream; empty the setting on the primary.",
    free_form: Some("upstream"),
    args: &[
        ArgSpec::new("upstream", ArgKind::Str, "node to stream from; default the wanted upstream."),
        ArgSpec::new("slot", ArgKind::Str, "slot on the upstream; default the node's own."),
        ArgSpec::new(
            "signal",
            ArgKind::Bool,
            "make a stopped former primary a standby (standby.signal) in any case; without it only where \
             its history is seen to be an ancestor of the primary's.",
        ),
    ],
    files: no_files,
    probe,
    diff,
};

const FILE: &str = "pgorch.standby.conf";
/// The file on a primary.
pub(super) const FOLLOWS_NOBODY: &str = "# A primary follows nobody.\n";
/// Parameters of the file. ALTER SYSTEM beats every include, so it must not have them.
const OURS: [&str; 3] = ["primary_conninfo", "primary_slot_name", "recovery_target_timeline"];

fn probe(_: &Args, ctx: &Ctx) -> Result<Vec<Fragment>, StepError> {
    let dir = &common::node(ctx)?.data_dir;
    let script = files::read(Script::new(), "file", &format!("{dir}/{FILE}"));
    let script = files::read(script, "auto", &format!("{dir}/postgresql.auto.conf"));
    let read = [FILE, "postgresql.auto.conf"].map(|name| Resource::Path(format!("{dir}/{name}")));
    Ok(vec![Fragment::sh(script, read.to_vec())])
}

fn diff(args: &Args, answers: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    let node = common::own(ctx)?;
    let Some(at_rest) = answers.first() else {
        return Err(StepError::new(format!("the answer about {FILE} is missing")));
    };
    let Some(DataDir::Cluster(dir)) = common::data_dir(ctx) else {
        return Ok(Verdict::NotYet(format!("{} is not a database cluster yet", node.data_dir)));
    };
    let lines = files::lines(at_rest);
    let current = files::parse(lines.get("file"))?;
    let loaded = common::loaded_at(ctx);
    if ctx.primary == Some(ctx.host) {
        return primary(ctx, node, current, loaded);
    }
    let revoked = common::instance(ctx).filter(|i| i.revoked);
    if revoked.is_some_and(|i| i.epoch.open().is_some()) {
        return Err(StepError::refuse(format!(
            "an operation has had {} receive nothing any more, and is not over",
            ctx.host
        ))
        .hint("pgorch resume"));
    }
    let signal = needs_signal(args, ctx, node, dir)?;
    let upstream = common::upstream_of(ctx, args.str("upstream")?)?;
    same_cluster(ctx, node, dir, &upstream)?;
    fits(ctx, node, &upstream, current.as_ref())?;
    // A cascaded standby acknowledges nothing to the primary.
    if ctx.primary != Some(&upstream.name) {
        sync::can_do_without(ctx, node, &[])?;
    }
    let slot = args.str("slot")?.unwrap_or_else(|| node.slot.clone());
    let slot = ctx.inventory.replication.slots.then_some(slot);
    let text = text(node, &upstream, slot.as_deref());
    let auto = files::parse(lines.get("auto"))?.map(|f| f.text).unwrap_or_default();
    let auto = Conf::parse(&auto).parameters();
    // A server that was down all the time missed that its revocation was taken back.
    let emptied = |name: &str, value: &str| {
        revoked.is_some() && name == "restore_command" && value.is_empty()
    };
    let ours = |(name, value): (String, String)| {
        (OURS.contains(&name.as_str()) || emptied(&name, &value)).then_some(name)
    };
    let overrides: Vec<String> = auto.into_iter().filter_map(ours).collect();
    let revoked = revoked.is_some();
    let wish = Wish { node, upstream: Some(&upstream), text: &text, signal, overrides, revoked };
    Ok(wish.judge(current.as_ref(), loaded))
}

/// A primary follows nobody. What an earlier life as a standby left is emptied.
fn primary(
    ctx: &Ctx,
    node: &NodeSettings,
    current: Option<HostFile>,
    loaded: Option<f64>,
) -> Result<Verdict, StepError> {
    if common::server(ctx).is_some_and(|s| s.in_recovery) {
        return Err(StepError::refuse(format!("{} is in recovery, not the primary", ctx.host)));
    }
    let text = FOLLOWS_NOBODY;
    let nothing = current.as_ref().is_none_or(|f| Conf::parse(&f.text).parameters().is_empty());
    if nothing {
        return Ok(Verdict::ok());
    }
    let wish =
        Wish { node, upstream: None, text, signal: false, overrides: Vec::new(), revoked: false };
    Ok(wish.judge(current.as_ref(), loaded))
}

/// Whether standby.signal must be made. Without it a stopped server would come up writable; with
/// it a former primary with transactions of its own would never stream. Who is to judge that is
/// rejoin, not apply.
fn needs_signal(
    args: &Args,
    ctx: &Ctx,
    node: &NodeSettings,
    dir: &ClusterDir,
) -> Result<bool, StepError> {
    let instance = common::instance(ctx);
    if let Some(server) = instance.and_then(|i| i.server.as_ref()) {
        if !server.in_recovery {
            return Err(StepError::refuse(format!(
                "{} is running as a primary, and so is {}",
                ctx.host,
                ctx.primary.map_or("another node", |p| p.as_str())
            ))
            .hint("two primaries: pgorch status, then fence the stale one"));
        }
        return Ok(false);
    }
    if dir.standby_signal {
        return Ok(false);
    }
    if instance.is_some_and(|i| i.postmaster_pid.is_some()) {
        return Err(StepError::refuse(format!("{} runs and does not answer", ctx.host)));
    }
    if !args.bool("signal")?.unwrap_or(false) && !is_ancestor(ctx, dir) {
        return Err(StepError::refuse(format!(
            "{} on {} was a primary when it stopped",
            node.data_dir, ctx.host
        ))
        .hint(format!("bring it back as a standby with: pgorch rejoin {}", ctx.host)));
    }
    Ok(true)
}

/// Whether this stopped former primary is on the primary's history with all it has: it was shut
/// down cleanly, and its shutdown checkpoint was received before the primary left that timeline.
/// Then it can follow as it is. A record ends after its position, so "before" is strict.
fn is_ancestor(ctx: &Ctx, dir: &ClusterDir) -> bool {
    let history = ctx.primary.and_then(|p| common::seen(ctx, p)?.cluster()?.history.as_ref());
    let (Some(control), Some(history)) = (&dir.control, history) else { return false };
    control.state == "shut down"
        && history
            .ancestors
            .iter()
            .any(|(timeline, end)| *timeline == control.timeline && control.checkpoint_lsn < *end)
}

fn same_cluster(
    ctx: &Ctx,
    node: &NodeSettings,
    dir: &ClusterDir,
    upstream: &NodeSettings,
) -> Result<(), StepError> {
    if upstream.name == node.name {
        return Err(
            StepError::refuse(format!("{} cannot follow itself", node.name)).arg("upstream")
        );
    }
    let own = dir.control.as_ref().map(|c| c.system_identifier);
    match (own, system_identifier(ctx, &upstream.name)) {
        (Some(own), Some(other)) if own != other => Err(StepError::refuse(format!(
            "{} and {} are of different clusters (system identifiers {own} and {other})",
            node.name, upstream.name
        ))),
        _ => Ok(()),
    }
}

/// Whether the standby can stream from a new upstream at all: not if that gets its WAL from the standby
/// itself, nor while it is on an older timeline. An upstream that it follows already is left to catch
/// up.
fn fits(
    ctx: &Ctx,
    node: &NodeSettings,
    upstream: &NodeSettings,
    current: Option<&HostFile>,
) -> Result<(), StepError> {
    let text = text(node, upstream, None);
    if current.is_some_and(|f| f.text.starts_with(&text)) {
        return Ok(());
    }
    if descends(ctx, &upstream.name, node)? {
        return Err(StepError::refuse(format!(
            "{} gets its WAL from {}: neither would get any",
            upstream.name, node.name
        ))
        .arg("upstream")
        .hint(format!("let {} follow another node first", upstream.name)));
    }
    let timeline = |server: Option<&ServerFacts>| server.and_then(|s| s.timeline);
    let theirs = timeline(common::seen(ctx, &upstream.name).and_then(|i| i.server.as_ref()));
    match (timeline(common::server(ctx)), theirs) {
        (Some(own), Some(theirs)) if theirs < own => Err(StepError::refuse(format!(
            "{} is on timeline {own}, {} still on {theirs}",
            node.name, upstream.name
        ))
        .arg("upstream")
        .hint(format!("pgorch status: does {} follow the primary?", upstream.name))),
        _ => Ok(()),
    }
}

/// Whether `name` gets its WAL, through however many others, from `node`, as far as is seen.
fn descends(ctx: &Ctx, name: &HostName, node: &NodeSettings) -> Result<bool, StepError> {
    let mut at = name.clone();
    for _ in 0..ctx.inventory.nodes.len() {
        let receiver = common::seen(ctx, &at)
            .and_then(|i| i.server.as_ref()?.receiver.as_ref())
            .map(|r| (r.sender_host.clone(), r.sender_port));
        let Some((host, port)) = receiver else { return Ok(false) };
        let mut next = None;
        for other in ctx.inventory.nodes.keys() {
            let settings = common::settings_of(ctx, other)?;
            if settings.address == host && settings.port == port {
                next = Some(settings.name);
            }
        }
        match next {
            Some(next) if next == node.name => return Ok(true),
            Some(next) => at = next,
            None => return Ok(false),
        }
    }
    Ok(false)
}

/// `recovery_target_timeline` is not in it: the newest is the default, and a parameter of the start
/// that a promoted node loses again would owe it a restart.
pub(super) fn text(node: &NodeSettings, upstream: &NodeSettings, slot: Option<&str>) -> String {
    let conninfo = conninfo(upstream, &node.slot, Some(&passfile::path(&node.home)));
    let slot = slot.map(|s| format!("primary_slot_name = {}\n", conf_value(s))).unwrap_or_default();
    format!(
        "# Rendered by pgorch: {} follows {}.\nprimary_conninfo = {}\n{slot}",
        node.name,
        upstream.name,
        conf_value(&conninfo.to_string())
    )
}

struct Wish<'a> {
    node: &'a NodeSettings,
    upstream: Option<&'a NodeSettings>,
    text: &'a str,
    signal: bool,
    /// Parameters of ours in postgresql.auto.conf.
    overrides: Vec<String>,
    /// The marker of a revocation whose operation is over.
    revoked: bool,
}

impl Wish<'_> {
    fn judge(&self, current: Option<&HostFile>, loaded: Option<f64>) -> Verdict {
        let same = current.is_some_and(|f| f.text == self.text && f.is_private());
        let owed = current.is_some_and(|f| f.newer_than(loaded));
        let registered = self.upstream.map(|u| data(&[("upstream", u.name.0.clone().into())]));
        if same && !owed && !self.signal && !self.revoked && self.overrides.is_empty() {
            return Verdict::with_data(registered.unwrap_or_default());
        }
        let path = format!("{}/{FILE}", self.node.data_dir);
        let summary = match self.upstream {
            Some(upstream) => format!("{} follows {}", self.node.name, upstream.name),
            None => format!("{} follows nobody", self.node.name),
        };
        let replace = Replace {
            node: self.node,
            name: FILE,
            text: self.text,
            precheck: self.precheck(loaded.is_some()),
            complaints: Some(
                "SELECT format('%s: %s', name, error) FROM pg_file_settings \
                 WHERE error IS NOT NULL AND sourcefile LIKE '%/pgorch.standby.conf' \
                 AND name <> 'recovery_target_timeline'",
            ),
            running: loaded.is_some(),
        };
        let command = Command::new(format!("write {path}"), replace.script()).user(OS_USER);
        let mut commands = vec![command];
        if self.revoked {
            let marker = format!("{}/{}.revoked", self.node.home, self.node.name);
            let script = Script::new().set("marker", &marker).line("rm -f -- \"$marker\"");
            commands.push(Command::new(format!("remove {marker}"), script));
        }
        let mut change = Change {
            summary,
            diffs: self.diffs(current),
            commands,
            writes: [&self.node.data_dir, &self.node.home]
                .map(|path| Resource::Path(path.clone()))
                .into_iter()
                .chain([Resource::Postgres])
                .collect(),
            ..Change::default()
        };
        change.report.data = registered.unwrap_or_default();
        change.impact.reload = loaded.is_some();
        if self.signal {
            change.impact.role_change = Some(format!("{} becomes a standby", self.node.name));
        }
        Verdict::Change(change)
    }

    /// What else must be so before the file counts: nothing of ours in postgresql.auto.conf
    /// (`pg_basebackup -R` and hands write there), and standby.signal.
    fn precheck(&self, running: bool) -> Option<String> {
        let dir = &self.node.data_dir;
        let mut text = Vec::new();
        if !self.overrides.is_empty() {
            if running {
                let psql = common::psql(self.node, "postgres");
                let resets: Vec<String> = self
                    .overrides
                    .iter()
                    .map(|n| quote(&format!("{};", sql::reset_parameter(n))))
                    .collect();
                text.push(format!("printf '%s\\n' {} | {psql}", resets.join(" ")));
            } else {
                let auto = quote(&format!("{dir}/postgresql.auto.conf"));
                let names = self.overrides.join("|");
                text.push(format!(
                    "sed -E '/^({names})[ =]/d' {auto} >{auto}.pgorch-new && mv -f {auto}.pgorch-new {auto}"
                ));
            }
        }
        if self.signal {
            text.push(format!(
                "[ ! -e {0}/postmaster.pid ] || {{ echo 'a server may be running' >&2; exit 1; }}\n: >{0}/standby.signal",
                quote(dir)
            ));
        }
        (!text.is_empty()).then(|| text.join("\n"))
    }

    fn diffs(&self, current: Option<&HostFile>) -> Vec<Diff> {
        let before = current.map(|f| Conf::parse(&f.text)).unwrap_or_default();
        let mut diffs: Vec<Diff> = diff_conf(&before, &Conf::parse(self.text))
            .into_iter()
            .map(|c| Diff::Value {
                name: c.name,
                before: c.before,
                after: c.after,
                note: Some("reload".into()),
            })
            .collect();
        for name in &self.overrides {
            let before = Some("set in postgresql.auto.conf".to_owned());
            diffs.push(Diff::Value { name: name.clone(), before, after: None, note: None });
        }
        if self.signal {
            let after = Some("present".to_owned());
            diffs.push(Diff::Value {
                name: "standby.signal".into(),
                before: None,
                after,
                note: None,
            });
        }
        diffs
    }
}

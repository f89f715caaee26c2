//! `basebackup`: a standby's data directory, copied from its upstream.

use super::common::{self, OS_USER, REPLICATOR};
use super::initdb::{self, Place};
use super::{passfile, rejoin, sync};
use crate::facts::{ClusterDir, DataDir, InstanceFacts};
use crate::inventory::NodeSettings;
use crate::model::{Answer, Fragment, HostName, Resource, Script, SystemIdentifier, quote};
use crate::postgres::Conninfo;
use crate::step::{
    ArgKind, ArgSpec, Args, Change, Command, Ctx, Diff, Kind, Progress, Report, StepError, Verdict,
    data, no_files,
};

pub(super) const KIND: Kind = Kind {
    name: "basebackup",
    aliases: &["clone"],
    summary: "copy the data directory of a new standby; never overwrites one that is not named.",
    free_form: None,
    args: &[
        ArgSpec::new("upstream", ArgKind::Str, "node to follow; default the wanted upstream."),
        ArgSpec::new("from", ArgKind::Str, "node to copy from; default the upstream."),
        ArgSpec::new(
            "existing",
            ArgKind::Choice(&["keep", "refuse", "aside"]),
            "what a directory of this cluster is: as wanted (keep, the default), in the way (refuse: \
             only --destroy replaces it), or to be kept under another name beside the new one (aside).",
        )
        .probe(),
        ArgSpec::new("max_rate", ArgKind::Str, "limit, such as 50M (per second)."),
        ArgSpec::new("checkpoint", ArgKind::Choice(&["fast", "spread"]), "default fast."),
        ArgSpec::new("slot", ArgKind::Str, "slot on the upstream; default the node's own."),
        ArgSpec::new("extra", ArgKind::StrList, "further options of pg_basebackup."),
    ],
    files: no_files,
    probe,
    diff,
};

/// What goes when a directory is put aside is what only this node has.
fn probe(args: &Args, ctx: &Ctx) -> Result<Vec<Fragment>, StepError> {
    match args.str("existing")?.as_deref() {
        Some("aside") => rejoin::loss_probe(ctx),
        _ => Ok(Vec::new()),
    }
}

fn diff(args: &Args, answers: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    let node = common::own(ctx)?;
    let Some(instance) = common::instance(ctx) else {
        return Ok(Verdict::NotYet(format!("{} has not been looked at", ctx.host)));
    };
    let Some(place) = place(args, ctx, node, instance)? else { return Ok(Verdict::ok()) };
    if ctx.primary == Some(ctx.host) {
        return Err(StepError::refuse(format!("{} is the primary; it is not cloned", ctx.host)));
    }
    // A plan that stops the server first is judged while it runs.
    let will_stop = place != Place::Empty && ctx.options.check;
    if instance.postmaster_pid.is_some() && !will_stop {
        return Err(StepError::refuse(format!("a server runs on {}", node.data_dir)));
    }
    let upstream = common::upstream_of(ctx, args.str("upstream")?)?;
    let source = match args.str("from")? {
        Some(name) => common::settings_of(ctx, &HostName(name)).map_err(|e| e.arg("from"))?,
        None => upstream.clone(),
    };
    if source.name == *ctx.host {
        return Err(
            StepError::refuse(format!("{} cannot be cloned from itself", ctx.host)).arg("from")
        );
    }
    if ctx.primary != Some(&source.name) && sync::is_counted(ctx, &node.slot) {
        return Err(StepError::refuse(format!(
            "commits count on {}, and {} may lack some that it had confirmed",
            ctx.host, source.name
        ))
        .hint("in quorum replication such a standby is copied from the primary")
        .arg("from"));
    }
    if source.version != node.version {
        return Err(StepError::refuse(format!(
            "{} has PostgreSQL {}, {} is to have {}: physical replication needs one major version",
            source.name, source.version, node.name, node.version
        )));
    }
    // A plan shows the copy although what it needs is only planned as well.
    if instance.binary_version.is_none() && !ctx.options.check {
        return Ok(Verdict::NotYet(format!("PostgreSQL {} is not installed yet", node.version)));
    }
    let answers_sql = common::seen(ctx, &source.name).is_some_and(|i| i.server.is_some());
    if !answers_sql && !ctx.options.check {
        return Ok(Verdict::NotYet(format!("{} does not answer yet", source.name)));
    }
    let mut change = change(args, ctx, node, &source, upstream.name == source.name, place)?;
    if place == Place::Aside {
        change.impact.role_change = Some(format!("{} becomes a standby", node.name));
        change.impact.destroys = rejoin::loss(ctx, answers);
    }
    Ok(Verdict::Change(change))
}

/// Where the copy goes, and what becomes of what is there. `None`: there is nothing to do.
fn place(
    args: &Args,
    ctx: &Ctx,
    node: &NodeSettings,
    instance: &InstanceFacts,
) -> Result<Option<Place>, StepError> {
    let expendable = common::expendable(ctx, node);
    let existing = args.str("existing")?;
    let dir = match &instance.data_dir {
        DataDir::Missing | DataDir::Empty => return Ok(Some(Place::Empty)),
        DataDir::Foreign if expendable => return Ok(Some(Place::Expendable)),
        DataDir::Foreign => return Err(initdb::foreign(node)),
        DataDir::Cluster(dir) => dir,
    };
    match (mismatch(ctx, node, dir), existing.as_deref()) {
        (Some(_), _) if expendable => Ok(Some(Place::Expendable)),
        (Some(refusal), _) => Err(refusal),
        (None, Some("aside")) => Ok(Some(Place::Aside)),
        (None, Some("refuse")) if expendable => Ok(Some(Place::Expendable)),
        (None, Some("refuse")) if !streams(instance) => Err(StepError::refuse(format!(
            "{} on {} holds data of this cluster",
            node.data_dir, ctx.host
        ))
        .hint(format!(
            "pgorch rejoin {0} brings it back and keeps what it can; to give it up: --destroy {0}:{1}",
            ctx.host, node.data_dir
        ))),
        _ => Ok(None),
    }
}

fn streams(instance: &InstanceFacts) -> bool {
    let receiver = instance.server.as_ref().and_then(|s| s.receiver.as_ref());
    receiver.is_some_and(|r| r.status == "streaming")
}

/// Why this directory is no member of the cluster, if that can be said.
pub(super) fn mismatch(ctx: &Ctx, node: &NodeSettings, dir: &ClusterDir) -> Option<StepError> {
    let dir_text = &node.data_dir;
    if dir.major != node.version {
        return Some(StepError::refuse(format!(
            "{dir_text} holds a cluster of PostgreSQL {}, the inventory wants {}",
            dir.major, node.version
        )));
    }
    let Some(control) = &dir.control else {
        return Some(StepError::refuse(format!("the control file in {dir_text} cannot be read")));
    };
    let own = control.system_identifier;
    // Without a primary in sight there is nothing to compare with, and nothing is done either.
    let other = system_identifier(ctx, ctx.primary?)?;
    (own != other).then(|| {
        StepError::refuse(format!(
            "{dir_text} belongs to another cluster: system identifier {own}, the primary's is {other}"
        ))
        .hint(format!(
            "pgorch never removes it by itself: move it away, or name it: --destroy {}:{dir_text}",
            ctx.host
        ))
    })
}

/// A node's system identifier, by its server or its control file.
pub(super) fn system_identifier(ctx: &Ctx, name: &HostName) -> Option<SystemIdentifier> {
    common::seen(ctx, name)?.system_identifier()
}

/// The copy of `upstream`, through the node's slot where that is the one that it will follow.
fn change(
    args: &Args,
    ctx: &Ctx,
    node: &NodeSettings,
    upstream: &NodeSettings,
    follows: bool,
    place: Place,
) -> Result<Change, StepError> {
    let slot = args.str("slot")?.unwrap_or_else(|| node.slot.clone());
    let slot = (ctx.inventory.replication.slots && follows).then_some(slot);
    let expected = system_identifier(ctx, &upstream.name);
    let script = script(args, node, upstream, slot.as_deref(), expected, place)?;
    let label = format!(
        "pg_basebackup -h {} -p {} -U {REPLICATOR} -D {}",
        upstream.address, upstream.port, node.data_dir
    );
    let summary = format!("clone {} from {}", node.name, upstream.name);
    let diff = Diff::Value {
        name: node.data_dir.clone(),
        before: match place {
            Place::Empty => None,
            Place::Expendable => Some("other data".to_owned()),
            Place::Aside => Some("the old data, kept beside it".to_owned()),
        },
        after: Some(format!("base backup of {} ({})", upstream.name, upstream.address)),
        note: None,
    };
    let mut change = Change {
        summary: summary.clone(),
        diffs: vec![diff],
        commands: vec![Command::new(label, script).deadline(24 * 3600).progress(Progress::Bytes)],
        writes: vec![
            Resource::Path(node.data_dir.clone()),
            Resource::Path(node.home.clone()),
            Resource::Postgres,
        ],
        report: Report {
            message: Some(summary),
            data: data(&[("upstream", upstream.name.0.clone().into())]),
            ..Report::default()
        },
        ..Change::default()
    };
    if place == Place::Expendable {
        change.impact.destroys = Some(format!("everything in {}", node.data_dir));
    }
    Ok(change)
}

/// The whole copy, as root. The password is in the passfile only. `9>&-` is not used here: the
/// backup itself holds the lock, so a second run cannot start while it goes on alone.
fn script(
    args: &Args,
    node: &NodeSettings,
    upstream: &NodeSettings,
    slot: Option<&str>,
    expected: Option<SystemIdentifier>,
    place: Place,
) -> Result<Script, StepError> {
    let mut options = vec![
        format!("--checkpoint={}", args.str("checkpoint")?.unwrap_or_else(|| "fast".into())),
        "--wal-method=stream".to_owned(),
        "--progress".to_owned(),
        "--no-password".to_owned(),
        format!("--label=pgorch clone of {}", node.name),
    ];
    options.extend(slot.map(|s| format!("--slot={s}")));
    options.extend(args.str("max_rate")?.map(|r| format!("--max-rate={r}")));
    options.extend(args.str_list("extra")?);
    let words: Vec<String> = options.iter().map(|o| quote(o)).collect();
    // The cluster's wal_sender_timeout is made for standbys; a copy may keep its disk busy longer.
    let conninfo = conninfo(upstream, &format!("{}_clone", node.slot), None)
        .with("options", "-c wal_sender_timeout=30s");
    let script = initdb::begin(node, place)
        .set("conninfo", &conninfo.to_string())
        .set("expected", &expected.map(|e| e.to_string()).unwrap_or_default())
        .set("pass", &passfile::path(&node.home))
        .line("exec 3>&1 5>&2\nrc=$( {")
        .line(&format!(
            "{{ runuser -u {OS_USER} -- env LC_ALL=C PGPASSFILE=\"$pass\" \"$bin/pg_basebackup\" \
             -d \"$conninfo\" -D \"$new\" {} 2>&1; echo $? >&4; }} |",
            words.join(" ")
        ))
        .line(PROGRESS)
        .line("} 4>&1 )");
    Ok(script
        .line("if [ \"$rc\" != 0 ]; then rm -rf -- \"$new\"; exit 1; fi")
        .then(&after_copy())
        .then(&initdb::finish(place)))
}

/// Turns pg_basebackup's progress (one line a second where standard error is no terminal:
/// `  12345/67890 kB (18%), 0/1 tablespace`) into the runner's form. `read` takes the pipe byte by
/// byte, so nothing waits in a buffer; when our reader is gone, the copy still goes on.
const PROGRESS: &str = "while IFS= read -r line; do\n\
    case $line in\n\
    *' kB ('*'%)'*) set -- $line; done=${1%/*}; total=${1#*/}\n\
    case $done$total in *[!0-9]*) echo \"$line\" >&5;;\n\
    *) echo \"pgorch-progress $((done * 1024)) $((total * 1024))\" >&3;; esac;;\n\
    *) echo \"$line\" >&5;;\n\
    esac || :\n\
    done";

/// The copy is a standby of this cluster, and nothing of its source's identity stays in it.
fn after_copy() -> Script {
    Script::raw(
        "got=$(LC_ALL=C \"$bin/pg_controldata\" -D \"$new\" | \
         sed -n 's/^Database system identifier: *//p')\n\
         if [ -n \"$expected\" ] && [ \"$got\" != \"$expected\" ]; then\n\
         rm -rf -- \"$new\"; fail \"the copy has system identifier $got, not $expected\"\nfi",
    )
    .line(&format!("install -o {OS_USER} -g {OS_USER} -m 0600 /dev/null \"$new/standby.signal\""))
    .line("rm -f \"$new/pgorch.standby.conf\"")
    .line("rm -f \"$new\"/*.pgorch-new \"$new\"/*.pgorch-old \"$new\"/*.pgorch-try")
    .line("sync -f \"$new/PG_VERSION\" 2>/dev/null || :")
}

/// A libpq connection string to a node as role replicator. It goes into argument lists and into
/// primary_conninfo; the password never does. The timeouts are there so that a cut link is noticed
/// without waiting for the kernel's two hours.
pub(super) fn conninfo(
    upstream: &NodeSettings,
    application: &str,
    passfile: Option<&str>,
) -> Conninfo {
    let mut info = Conninfo::new()
        .with("host", &upstream.address)
        .with("port", upstream.port)
        .with("user", REPLICATOR)
        .with("application_name", application);
    if let Some(path) = passfile {
        info = info.with("passfile", path);
    }
    info.with("connect_timeout", 5)
        .with("keepalives_idle", 5)
        .with("keepalives_interval", 2)
        .with("keepalives_count", 3)
        .with("tcp_user_timeout", 10_000)
}

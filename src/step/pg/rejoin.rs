//! `rejoin` looks which way an old node comes back and what would be lost; `rewind` is one of them.

use std::collections::BTreeMap;

use super::common::{self, OS_USER};
use super::ladder::{self, Line, Method, NOT_PARTED, Old, Rung, Was};
use super::{basebackup, initdb, passfile};
use crate::facts::{ClusterDir, DataDir, InstanceFacts};
use crate::inventory::NodeSettings;
use crate::model::{Answer, Fragment, Lsn, Resource, Script, Timeline, Value};
use crate::step::{
    ArgKind, ArgSpec, Args, Change, Command, Ctx, Diff, Kind, Progress, Report, StepError, Verdict,
    data, no_files,
};

pub(super) const REJOIN: Kind = Kind {
    name: "rejoin",
    aliases: &[],
    summary: "look which way an old node comes back as a standby, and what would be lost (rung: none, \
              start, rewind or clone; reason, lost_transactions, lost_bytes). Changes nothing.",
    free_form: None,
    args: &[ArgSpec::new(
        "method",
        ArgKind::Choice(&["auto", "start", "rewind", "clone"]),
        "auto (the default) takes the cheapest that is sure to work.",
    )],
    files: no_files,
    probe,
    diff: rejoin,
};

pub(super) const REWIND: Kind = Kind {
    name: "rewind",
    aliases: &["pg_rewind"],
    summary: "take a stopped node back to where its history left the primary's, with pg_rewind; what \
              only this node has is lost. The fence marker must be there.",
    free_form: None,
    args: &[],
    files: no_files,
    probe,
    diff: rewind,
};

/// States of the control file after a clean stop (13 to 18).
const CLEAN: [&str; 2] = ["shut down", "shut down in recovery"];
/// Seconds that counting lost transactions may take; more WAL than that is told as "at least".
const COUNT_SECONDS: u32 = 30;

/// The marker of a rewind that has begun and not ended.
fn half_rewound(node: &NodeSettings) -> String {
    format!("{}/{}.rewinding", node.home, node.name)
}

fn rejoin(args: &Args, answers: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    let node = common::own(ctx)?;
    let (instance, old) = look(ctx, node, answers)?;
    let method = method(args)?;
    let (rung, reason) = ladder::choose(&old, method).map_err(|why| {
        StepError::refuse(format!("{} cannot come back that way: {why}", ctx.host))
            .arg("method")
            .hint("without --method the cheapest way that works is taken")
    })?;
    let seen = Seen::read(answers);
    if rung == Rung::Clone && !old.empty {
        room(node, instance, &seen)?;
    }
    let lost = Some(&old).filter(|_| matches!(rung, Rung::Rewind | Rung::Clone));
    let lost = lost.and_then(|old| Lost::of(old, &seen));
    let number = |n: Option<u64>| n.map_or(Value::Null, Value::from);
    let data = data(&[
        ("rung", rung.word().into()),
        ("reason", reason.clone().into()),
        ("auto", (method == Method::Auto).into()),
        ("lost_transactions", number(lost.as_ref().and_then(|l| l.transactions))),
        ("lost_bytes", number(lost.as_ref().and_then(|l| l.bytes))),
    ]);
    let message = match rung {
        Rung::Nothing => return Ok(Verdict::with_data(data)),
        _ => format!("{} comes back by a {}: {reason}", ctx.host, rung.word()),
    };
    let notices = lost.iter().map(|l| format!("lost by the {}: {}", rung.word(), l.words(node)));
    let notices = notices.collect();
    Ok(Verdict::Satisfied(Report { message: Some(message), data, notices, ..Report::default() }))
}

fn method(args: &Args) -> Result<Method, StepError> {
    Ok(match args.str("method")?.as_deref() {
        Some("start") => Method::Only(Rung::Start),
        Some("rewind") => Method::Only(Rung::Rewind),
        Some("clone") => Method::Only(Rung::Clone),
        _ => Method::Auto,
    })
}

/// The node as the ladder sees it, once it is sure that it may be touched at all.
fn look<'a>(
    ctx: &'a Ctx,
    node: &NodeSettings,
    answers: &[Answer],
) -> Result<(&'a InstanceFacts, Old), StepError> {
    let Some(instance) = common::instance(ctx) else {
        return Err(StepError::new(format!("{} has not been looked at", ctx.host)));
    };
    let primary = ctx.primary.ok_or_else(|| StepError::refuse("no primary is known"))?;
    if primary == ctx.host {
        return Err(StepError::refuse(format!("{} is the primary", ctx.host)));
    }
    if instance.server.as_ref().is_some_and(|s| !s.in_recovery) {
        return Err(StepError::refuse(format!(
            "{} is out of recovery, and so is {primary}",
            ctx.host
        ))
        .hint("two primaries: pgorch status, then stop the stale one and rejoin it"));
    }
    if instance.server.is_none() && instance.postmaster_pid.is_some() {
        return Err(StepError::refuse(format!(
            "the server on {} runs and does not answer",
            ctx.host
        ))
        .hint(format!("wait until it does, or: pgorch stop {}", ctx.host)));
    }
    let head = common::seen(ctx, primary).and_then(|i| {
        let timeline = i.server.as_ref().filter(|s| !s.in_recovery)?.timeline?;
        Some(Line::new(timeline, i.cluster()?.history.as_ref()))
    });
    let Some(head) = head else {
        return Err(StepError::refuse(format!(
            "the history of the primary {primary} is not known"
        )));
    };
    let dir = match &instance.data_dir {
        DataDir::Missing | DataDir::Empty => return Ok((instance, empty(head))),
        DataDir::Foreign => return Err(initdb::foreign(node)),
        DataDir::Cluster(dir) => dir,
    };
    if let Some(refusal) = basebackup::mismatch(ctx, node, dir) {
        return Err(refusal);
    }
    if !dir.made_by_pgorch {
        return Err(StepError::refuse(format!("pgorch did not make {}", node.data_dir)).hint(
            format!("pgorch clone {0} --destroy {0}:{1} replaces it", ctx.host, node.data_dir),
        ));
    }
    Ok((instance, old(instance, dir, head, &Seen::read(answers))))
}

fn empty(primary: Line) -> Old {
    Old {
        empty: true,
        was: Was::Primary { clean: false },
        at: (Timeline(0), Lsn(0)),
        line: Line::new(Timeline(0), None),
        primary,
        rewindable: false,
        half_rewound: false,
        wal_missing: false,
    }
}

fn old(instance: &InstanceFacts, dir: &ClusterDir, primary: Line, seen: &Seen) -> Old {
    let control = dir.control.clone().unwrap_or_default();
    let clean = CLEAN.contains(&control.state.as_str());
    let live = instance.server.as_ref();
    let streams = |s: &&crate::facts::ServerFacts| {
        s.receiver.as_ref().is_some_and(|r| r.status == "streaming")
    };
    let was = match live {
        Some(_) if live.filter(streams).is_some() => Was::Streaming,
        // It will be stopped before it is rewound.
        Some(_) => Was::Standby { clean: true },
        None if dir.standby_signal => Was::Standby { clean },
        None => Was::Primary { clean },
    };
    let (timeline, lsn) =
        live.and_then(|s| s.timeline.zip(s.lsn)).unwrap_or_else(|| control.newest());
    // pg_control learns of a new timeline at a checkpoint only; the files of its WAL are there before.
    let at = (dir.wal_timeline.map_or(timeline, |newer| newer.max(timeline)), lsn);
    Old {
        empty: false,
        was,
        at,
        line: Line::new(at.0, dir.history.as_ref()),
        primary,
        rewindable: control.data_checksums || control.wal_log_hints,
        half_rewound: seen.half_rewound,
        wal_missing: seen.wal_missing && !seen.restores,
    }
}

/// What is asked on the node once both histories are known: how much there is after the fork, and
/// what a rewind or a copy would need.
fn probe(_: &Args, ctx: &Ctx) -> Result<Vec<Fragment>, StepError> {
    let node = common::node(ctx)?;
    if ctx.facts.is_none() {
        return Ok(Vec::new());
    }
    let Ok((_, old)) = look(ctx, node, &[]) else { return Ok(Vec::new()) };
    if old.was == Was::Streaming || old.empty {
        return Ok(Vec::new());
    }
    // pg_waldump waits for five seconds for WAL that is not there: where the histories have not parted, as after
    // a rewind, there is nothing to count.
    let fork = old.fork().filter(|(_, lsn)| *lsn != NOT_PARTED);
    let fork = fork.map(|(_, lsn)| lsn.to_string()).unwrap_or_default();
    let script = Script::new()
        .set("data", &node.data_dir)
        .set("bin", &node.bin_dir)
        .set("half", &half_rewound(node))
        .set("fork", &fork)
        .set("timeline", &old.at.0.to_string())
        .set("seconds", &COUNT_SECONDS.to_string())
        .line(include_str!("rejoin.sh"));
    let reads = [&node.data_dir, &node.home].map(|p| Resource::Path(p.clone()));
    let mut reads = reads.to_vec();
    reads.push(Resource::Postgres);
    Ok(vec![Fragment::sh(script, reads)])
}

/// The answer to [`probe`].
#[derive(Debug, Default, PartialEq)]
struct Seen {
    half_rewound: bool,
    /// restore_command is set: WAL that is missing here may be in the archive.
    restores: bool,
    wal_missing: bool,
    /// Of the data directory.
    size_kb: Option<u64>,
    commits: Option<u64>,
    /// Not all WAL after the fork was read.
    at_least: bool,
    /// Start of the last record.
    last: Option<Lsn>,
}

impl Seen {
    fn read(answers: &[Answer]) -> Self {
        let text = answers.first().map(|a| a.stdout.as_str()).unwrap_or_default();
        let lines: BTreeMap<&str, &str> = text.lines().filter_map(|l| l.split_once('=')).collect();
        let number = |key: &str| lines.get(key)?.parse().ok();
        let records: Option<u64> = number("records");
        let missing = lines.contains_key("missing");
        Seen {
            half_rewound: lines.contains_key("half_rewound"),
            restores: lines.contains_key("restores"),
            wal_missing: missing && records.unwrap_or(0) == 0,
            size_kb: number("size_kb"),
            commits: number("commits").filter(|_| records.unwrap_or(0) > 0 || !missing),
            at_least: missing || lines.contains_key("cut"),
            last: lines.get("last").and_then(|lsn| lsn.parse().ok()),
        }
    }
}

/// What only the old node has.
struct Lost {
    transactions: Option<u64>,
    bytes: Option<u64>,
    at_least: bool,
    from: (Timeline, Lsn),
}

impl Lost {
    /// `None` where nothing is known to be lost: it has no WAL after the fork.
    fn of(old: &Old, seen: &Seen) -> Option<Self> {
        let from = old.fork()?;
        let last = seen.last.unwrap_or(old.at.1).max(old.at.1);
        let bytes = last.bytes_since(from.1);
        let nothing = seen.commits == Some(0) && bytes == 0;
        (!nothing).then_some(Lost {
            transactions: seen.commits,
            bytes: (!seen.wal_missing && from.1 != NOT_PARTED).then_some(bytes),
            at_least: seen.at_least,
            from,
        })
    }

    fn words(&self, node: &NodeSettings) -> String {
        let (timeline, lsn) = self.from;
        let place = format!("after {lsn} on timeline {timeline}");
        let (Some(count), Some(bytes)) = (self.transactions, self.bytes) else {
            return format!(
                "whatever only {} has {place}: its WAL is gone, so it cannot be counted",
                node.name
            );
        };
        let least = if self.at_least { "at least " } else { "" };
        let noun = if count == 1 { "transaction" } else { "transactions" };
        format!(
            "{least}{count} committed {noun} that only {} has ({bytes} bytes of WAL {place})",
            node.name
        )
    }
}

/// What a change that discards this node's own history destroys, in words; for other kinds.
pub(super) fn loss(ctx: &Ctx, answers: &[Answer]) -> Option<String> {
    let node = ctx.node?;
    let (_, old) = look(ctx, node, answers).ok()?;
    if old.empty {
        return None;
    }
    Some(Lost::of(&old, &Seen::read(answers))?.words(node))
}

/// The question behind [`loss`].
///
/// # Errors
/// The host is no node.
pub(super) fn loss_probe(ctx: &Ctx) -> Result<Vec<Fragment>, StepError> {
    probe(&Args::default(), ctx)
}

/// The old directory is kept until the node streams, so the disk must hold both.
fn room(node: &NodeSettings, instance: &InstanceFacts, seen: &Seen) -> Result<(), StepError> {
    let Some(size) = seen.size_kb.map(|kb| kb.saturating_mul(1024)) else { return Ok(()) };
    let needed = size.saturating_add(size / 20);
    if instance.disk_total_bytes == 0 || instance.disk_free_bytes >= needed {
        return Ok(());
    }
    let mb = |bytes: u64| bytes / 1_000_000;
    Err(StepError::refuse(format!(
        "a new copy beside the old data needs about {} MB on {}, and {} MB are free",
        mb(needed),
        node.name,
        mb(instance.disk_free_bytes)
    ))
    .hint(format!(
        "make room, or give the old data up first: pgorch clone {0} --destroy {0}:{1}",
        node.name, node.data_dir
    )))
}

fn rewind(_: &Args, answers: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    let node = common::own(ctx)?;
    let (instance, old) = look(ctx, node, answers)?;
    let chosen = ladder::choose(&old, Method::Only(Rung::Rewind));
    let (rung, _) = chosen.map_err(|why| StepError::refuse(format!("no rewind: {why}")))?;
    if rung == Rung::Nothing {
        return Ok(Verdict::ok());
    }
    let planned = ctx.options.check;
    if instance.postmaster_pid.is_some() && !planned {
        return Err(StepError::refuse(format!("a server runs on {}", node.data_dir)));
    }
    if instance.fenced.is_none() && !planned {
        return Err(StepError::refuse(format!("{} is not fenced", ctx.host)).hint(
            "a host that reboots in the middle would start it: put \"fence_marker: present\" before it",
        ));
    }
    let Some(source) = ctx.primary.map(|p| common::settings_of(ctx, p)).transpose()? else {
        return Err(StepError::refuse("no primary is known"));
    };
    let seen = Seen::read(answers);
    let lost = Lost::of(&old, &seen).map(|l| l.words(node));
    let summary = format!("rewind {} to the history of {}", node.name, source.name);
    let label = format!("pg_rewind --target-pgdata={}", node.data_dir);
    let command = Command::new(label, rewind_script(node, &source, seen.restores))
        .deadline(24 * 3600)
        .progress(Progress::Bytes);
    let mut change = Change {
        diffs: vec![Diff::Value {
            name: node.data_dir.clone(),
            before: Some(lost.clone().unwrap_or_else(|| "a history of its own".to_owned())),
            after: Some(format!("the history of {}", source.name)),
            note: None,
        }],
        commands: vec![command],
        writes: vec![
            Resource::Path(node.data_dir.clone()),
            Resource::Path(node.home.clone()),
            Resource::Postgres,
        ],
        report: Report { message: Some(summary.clone()), ..Report::default() },
        summary,
        ..Change::default()
    };
    change.impact.destroys = lost;
    change.impact.role_change = Some(format!("{} becomes a standby", node.name));
    Ok(Verdict::Change(change))
}

/// As root. Crash recovery is pg_rewind's own business (13 and later); the single-user server that it
/// starts for that does not take standby.signal, and until the signal is back the fence marker
/// keeps the unit down.
fn rewind_script(node: &NodeSettings, source: &NodeSettings, restores: bool) -> Script {
    let conninfo = basebackup::conninfo(source, &format!("{}_rewind", node.slot), None)
        .with("dbname", "postgres");
    Script::new()
        .set("data", &node.data_dir)
        .set("home", &node.home)
        .set("bin", &node.bin_dir)
        .set("fence", &format!("{}/{}.fenced", node.home, node.name))
        .set("half", &half_rewound(node))
        .set("pass", &passfile::path(&node.home))
        .set("conninfo", &conninfo.to_string())
        .set("restore", if restores { "--restore-target-wal" } else { "" })
        .set("user", OS_USER)
        .line("(")
        .line(include_str!("rewind.sh"))
        .line(")")
}

#[cfg(test)]
mod tests {
    use super::Seen;
    use crate::model::{Answer, Lsn};

    fn seen(stdout: &str) -> Seen {
        Seen::read(&[Answer { rc: 0, stdout: stdout.to_owned(), stderr: String::new() }])
    }

    #[test]
    fn what_was_counted_is_told_from_what_could_not_be() {
        let counted = seen("size_kb=40000\nrecords=12\ncommits=3\nlast=0/5000148\n");
        assert_eq!((counted.commits, counted.last), (Some(3), Some(Lsn(0x500_0148))));
        assert!(!counted.wal_missing && !counted.at_least);
        // The first segment is gone: nothing is known.
        let gone = seen("size_kb=40000\nmissing=1\nrecords=0\ncommits=0\nlast=\n");
        assert!(gone.wal_missing && gone.commits.is_none());
        // A later one is: what was found is the least.
        let cut = seen("missing=1\nrecords=7\ncommits=2\nlast=0/5FFFFF0\n");
        assert!(!cut.wal_missing && cut.at_least && cut.commits == Some(2));
        // A crash right at the fork: there is WAL, and nothing in it.
        let nothing = seen("records=0\ncommits=0\nlast=\n");
        assert!(!nothing.wal_missing && nothing.commits == Some(0));
    }
}

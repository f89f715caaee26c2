//! `initdb`: the first data directory of the cluster, on the bootstrap primary and only there.

use super::common::{self, NEW, OS_USER};
use crate::facts::{DataDir, Observation};
use crate::inventory::NodeSettings;
use crate::model::{Resource, Script, quote};
use crate::step::{
    ArgKind, ArgSpec, Args, Change, Command, Ctx, Diff, Kind, Report, StepError, Verdict, data,
    no_files, no_probe,
};

pub(super) const KIND: Kind = Kind {
    name: "initdb",
    aliases: &[],
    summary: "make the cluster's first data directory; never touches one that has something in it.",
    free_form: None,
    args: &[
        ArgSpec::new("locale", ArgKind::Str, "locale of the template databases; default C.UTF-8."),
        ArgSpec::new("encoding", ArgKind::Str, "default UTF8."),
        ArgSpec::new("data_checksums", ArgKind::Bool, "page checksums; default true."),
        ArgSpec::new("wal_segment_size", ArgKind::Int, "in MB; default 16."),
        ArgSpec::new("extra", ArgKind::StrList, "further options of initdb."),
    ],
    files: no_files,
    probe: no_probe,
    diff,
};

fn diff(args: &Args, _: &[crate::model::Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    let node = common::own(ctx)?;
    let Some(instance) = common::instance(ctx) else {
        return Ok(Verdict::NotYet(format!("{} has not been looked at", ctx.host)));
    };
    match &instance.data_dir {
        DataDir::Cluster(dir) if dir.major == node.version => Ok(Verdict::ok()),
        DataDir::Cluster(dir) => Err(StepError::refuse(format!(
            "{} holds a cluster of PostgreSQL {}, the inventory wants {}",
            node.data_dir, dir.major, node.version
        ))
        .hint("a major upgrade is not done by apply; set postgres.version or another data_dir")),
        DataDir::Foreign if !common::expendable(ctx, node) => Err(foreign(node)),
        DataDir::Missing | DataDir::Empty | DataDir::Foreign => fresh(args, ctx, node),
    }
}

/// The refusal to touch what pgorch did not make.
pub(super) fn foreign(node: &NodeSettings) -> StepError {
    StepError::refuse(format!("{} is not empty and is no database cluster", node.data_dir)).hint(
        "pgorch never removes what it did not make: look at it and empty it by hand, or set data_dir",
    )
}

fn fresh(args: &Args, ctx: &Ctx, node: &NodeSettings) -> Result<Verdict, StepError> {
    if let Some(primary) = ctx.primary.filter(|p| *p != ctx.host) {
        // After a failover the play's host may be a node that is now to be cloned.
        let message = format!("{primary} is the primary; {} is cloned from it", ctx.host);
        return Ok(Verdict::Satisfied(Report { message: Some(message), ..Report::default() }));
    }
    nobody_else_has_data(ctx)?;
    // A plan shows what will be made although the package is only planned as well.
    let installed = common::instance(ctx).is_some_and(|i| i.binary_version.is_some());
    if !installed && !ctx.options.check {
        return Ok(Verdict::NotYet(format!("PostgreSQL {} is not installed yet", node.version)));
    }
    let options = options(args)?;
    let label = format!("initdb -D {} {}", quote(&node.data_dir), options.join(" "));
    let summary = format!("new database cluster in {}", node.data_dir);
    let report =
        Report { data: data(&[("data_dir", node.data_dir.clone().into())]), ..Report::default() };
    let before = Diff::Value {
        name: node.data_dir.clone(),
        before: None,
        after: Some(format!("PostgreSQL {}, {}", node.version, options.join(" "))),
        note: None,
    };
    let mut change = Change {
        summary,
        diffs: vec![before],
        commands: vec![
            Command::new(label, script(node, &options, common::expendable(ctx, node)))
                .deadline(600),
        ],
        writes: vec![
            Resource::Path(node.home.clone()),
            Resource::Path(node.data_dir.clone()),
            Resource::Postgres,
        ],
        report,
        ..Change::default()
    };
    if matches!(common::data_dir(ctx), Some(DataDir::Foreign)) {
        change.impact.destroys = Some(format!("everything in {}", node.data_dir));
    }
    Ok(Verdict::Change(change))
}

/// A second cluster beside an existing one would be a split brain by birth: every other node
/// must have been seen, and seen without data.
fn nobody_else_has_data(ctx: &Ctx) -> Result<(), StepError> {
    for name in ctx.inventory.nodes.keys().filter(|n| *n != ctx.host) {
        match ctx.snapshot.nodes.get(name) {
            Some(Observation::Unknown { .. }) | None => {
                return Err(StepError::refuse(format!(
                    "{name} could not be looked at, so it may hold the cluster's data"
                ))
                .hint("run without --limit; if it is gone, take it out of the inventory"));
            }
            Some(seen) => {
                let dir = seen.facts().and_then(|f| f.instance.as_ref()).map(|i| &i.data_dir);
                if let Some(DataDir::Cluster(_)) = dir {
                    return Err(StepError::refuse(format!(
                        "{name} has a database cluster and {} has none",
                        ctx.host
                    ))
                    .hint(format!(
                        "start {name} (pgorch start {name}); {} is then cloned from it",
                        ctx.host
                    )));
                }
            }
        }
    }
    Ok(())
}

fn options(args: &Args) -> Result<Vec<String>, StepError> {
    let mut options: Vec<String> =
        ["--username=postgres", "--auth-local=peer", "--auth-host=scram-sha-256"]
            .map(str::to_owned)
            .to_vec();
    if args.bool("data_checksums")?.unwrap_or(true) {
        options.push("--data-checksums".into());
    }
    let text = |name, default: &str| Ok(args.str(name)?.unwrap_or_else(|| default.to_owned()));
    options.push(format!("--encoding={}", text("encoding", "UTF8")?));
    options.push(format!("--locale={}", text("locale", "C.UTF-8")?));
    if let Some(size) = args.int("wal_segment_size")? {
        options.push(format!("--wal-segsize={size}"));
    }
    options.extend(args.str_list("extra")?);
    Ok(options)
}

/// How long a run waits for what an earlier run began: that goes on when its controller is gone.
const WAIT_SECONDS: u32 = 3600;

/// Whether a directory that pgorch made is there, complete: its identity is the marker's.
const MADE: &str = "made() { [ -s \"$marker\" ] && [ -e \"$data/PG_VERSION\" ] && \
    [ \"$(cat \"$marker\")\" = \"$(LC_ALL=C \"$bin/pg_controldata\" -D \"$data\" 2>/dev/null | \
    sed -n 's/^Database system identifier: *//p')\" ]; }";

/// What becomes of what stands where a data directory is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// There must be nothing.
    Empty,
    /// It is removed first: the user named it.
    Expendable,
    /// It is renamed when the new one is whole.
    Aside,
}

/// What stands behind the name of a directory that was put aside, before the time (UTC).
pub(super) const ASIDE: &str = ".before-rejoin-";

/// Common beginning of the scripts that make a data directory, as root: takes the lock, refuses
/// a directory with something in it, removes what an earlier try left, and makes `$new`.
///
/// The lock's descriptor is inherited by what the script starts, so it holds for as long as a
/// base backup goes on after its controller is gone.
pub(super) fn begin(node: &NodeSettings, place: Place) -> Script {
    let install = format!("install -d -o {OS_USER} -g {OS_USER} -m 0700");
    let mut script = Script::raw("(\nexec </dev/null\nset -eu\ncd /\numask 077\ntrap '' PIPE")
        .set("data", node.data_dir.trim_end_matches('/'))
        .set("home", &node.home)
        .set("marker", &format!("{}/{}.made", node.home, node.name))
        .set("bin", &node.bin_dir)
        .line(&format!("new=$data{NEW}; parent=${{data%/*}}; parent=${{parent:-/}}"))
        .line("fail() { echo \"$*\" >&2; exit 1; }")
        .line("(umask 022; mkdir -p \"${home%/*}\")")
        .line(&format!("[ -d \"$home\" ] || {install} \"$home\""))
        .line("(umask 022; mkdir -p \"${parent%/*}/\")")
        .line(&format!("[ -d \"$parent\" ] || {install} \"$parent\""))
        .line("exec 9>\"$home/.making\"")
        .line(MADE)
        .line("waited=; if ! flock -n 9; then waited=1")
        .line("echo \"an earlier initdb or base backup is at work on $data: waiting for its end\"")
        .line(&format!("flock -w {WAIT_SECONDS} 9 || fail \"another initdb or base backup is at work on $data\"; fi"));
    // A rename would replace the link, and the data would be where nobody wants it.
    const LINK: &str =
        "[ ! -L \"$data\" ] || fail \"$data is a link: set data_dir to where it points\"";
    const MOUNT: &str =
        "! mountpoint -q \"$data\" || fail \"$data is a mount point: use a directory below it\"";
    script = match place {
        // It may also have ended between the look and now.
        Place::Empty => script.line("if made; then exit 0; fi"),
        Place::Expendable => script
            .line("if [ -n \"$waited\" ] && made; then exit 0; fi")
            .line(GONE)
            .line("rm -rf -- \"$data\""),
        // The old one is made too: who waited cannot tell it from a new one.
        Place::Aside => script
            .line("[ -z \"$waited\" ] || fail \"another base backup was at work on $data: run again\"")
            .line(GONE),
    };
    script = script.line(LINK).line("if [ -e \"$data\" ]; then");
    if place != Place::Aside {
        script = script.line("[ -z \"$(ls -A \"$data\")\" ] || fail \"$data is not empty\"");
    }
    script.line(MOUNT).line("fi").line("rm -rf -- \"$new\"").line(&format!("{install} \"$new\""))
}

/// No server process lives on the directory. A crash leaves postmaster.pid behind, so that says
/// nothing.
const GONE: &str = "for p in /proc/[0-9]*; do\n\
    if [ \"$p/cwd\" -ef \"$data\" ]; then\n\
    comm=; { read -r comm <\"$p/comm\"; } 2>/dev/null || :\n\
    case $comm in postgres|postmaster) fail \"a server process lives on $data: ${p#/proc/}\";; esac\n\
    fi\n\
    done";

/// Common end: the marker first, then the rename. Killed in between, the next run finds an empty
/// place and starts again; killed after it, everything is there.
pub(super) fn finish(place: Place) -> Script {
    let rename = match place {
        Place::Aside => format!(
            "{GONE}\nmv -T \"$data\" \"$data{ASIDE}$(date -u +%Y%m%dT%H%M%SZ)\"\n\
             mv -T \"$new\" \"$data\""
        ),
        Place::Empty | Place::Expendable => "mv -T \"$new\" \"$data\"".to_owned(),
    };
    Script::raw(
        "id=$(LC_ALL=C \"$bin/pg_controldata\" -D \"$new\" | \
         sed -n 's/^Database system identifier: *//p')\n\
         case $id in ''|*[!0-9]*) fail \"no system identifier in $new\";; esac",
    )
    .line("printf '%s\\n' \"$id\" >\"$marker.pgorch-new\"")
    .line("mv -f \"$marker.pgorch-new\" \"$marker\"")
    .line("sync \"$marker\" \"$home\" 2>/dev/null || :")
    .line(&rename)
    // Whatever was half rewound is not here any more.
    .line("rm -f \"${marker%.made}.rewinding\"")
    .line("sync \"$parent\" 2>/dev/null || :")
    .line(")")
}

fn script(node: &NodeSettings, options: &[String], expendable: bool) -> Script {
    let place = if expendable { Place::Expendable } else { Place::Empty };
    let words: Vec<String> = options.iter().map(|o| quote(o)).collect();
    begin(node, place)
        .line(&format!(
            "runuser -u {OS_USER} -- \"$bin/initdb\" -D \"$new\" {} 9>&- >\"$home/.initdb.log\" 2>&1 \
             || {{ cat \"$home/.initdb.log\" >&2; exit 1; }}",
            words.join(" ")
        ))
        .line("rm -f \"$home/.initdb.log\"")
        .line(&format!("printf '%s\\n' '' '# pgorch' {} >>\"$new/postgresql.conf\"", includes()))
        .line(&format!("install -o {OS_USER} -g {OS_USER} -m 0600 /dev/null \"$new/pgorch.conf\""))
        .then(&finish(place))
}

/// The lines at the end of postgresql.conf, as shell words. The later one wins.
pub(super) fn includes() -> String {
    INCLUDES.map(quote).join(" ")
}

/// What postgresql.conf ends with: what the inventory wants, what the topology wants.
pub(super) const INCLUDES: [&str; 3] = [
    "include 'pgorch.conf'",
    "include_if_exists 'pgorch.sync.conf'",
    "include_if_exists 'pgorch.standby.conf'",
];

//! `upgrade_due` and `minor_upgrade`: newer packages of the server's own major version.
//!
//! Packages are switched while the server runs, as Debian does it itself: dpkg writes each file beside
//! its target and renames it, so that a running server keeps the program that it started with, and its
//! new sessions are forks of that. What it loads later (plpgsql, extensions) is of the newer version
//! already, which PostgreSQL keeps compatible within a major version. The new program runs from the next
//! start on, which is `restart`'s.
//!
//! Debian's maintainer scripts stop all units `postgresql@VERSION-*` and start `postgresql.service`
//! (maintscripts-functions of postgresql-common). Our unit is none of these, but one that the inventory's
//! `postgres.service` names may be: so they get no systemd to talk to, and needrestart is kept out. Clusters
//! of others on the host go on with the old program until somebody restarts them.

use super::{common, service};
use crate::model::{Answer, Fragment, Map, Resource, Script, Value, quote};
use crate::step::answers::{Fields, output};
use crate::step::detached::detached;
use crate::step::packages::upgrade_body;
use crate::step::{
    Args, Change, Command, Ctx, Diff, Kind, Progress, Report, StepError, Verdict, data, no_files,
};

pub(in crate::step) const UPGRADE_DUE: Kind = Kind {
    name: "upgrade_due",
    aliases: &[],
    summary: "whether newer packages of the server, or a restart into newer binaries, are due; changes nothing.",
    free_form: None,
    args: &[],
    files: no_files,
    probe,
    diff: due,
};

pub(in crate::step) const MINOR_UPGRADE: Kind = Kind {
    name: "minor_upgrade",
    aliases: &[],
    summary: "the newest packages of the server's own major version; the server is not restarted.",
    free_form: None,
    args: &[],
    files: no_files,
    probe,
    diff: upgrade,
};

/// Prints `pkg=NAME STATUS VERSION` for all packages that are built from the server's source, and
/// `candidate=NAME VERSION`: with the server come its client, its library and its languages.
fn probe(_: &Args, ctx: &Ctx) -> Result<Vec<Fragment>, StepError> {
    let node = common::node(ctx)?;
    if !node.install_packages {
        return Ok(Vec::new());
    }
    let source = quote(&format!("postgresql-{}", node.version));
    let script = Script::raw(format!(
        "(\ncommand -v dpkg-query >/dev/null 2>&1 || exit 0\n\
         k=$(dpkg-query -W -f='${{source:Package}} ${{Package}} ${{db:Status-Status}} ${{Version}}\\n' \
         | awk -v s={source} '$1 == s && $3 != \"not-installed\" && $3 != \"config-files\" \
         {{ print \"pkg=\" $2 \" \" $3 \" \" $4 }}')\n\
         printf '%s\\n' \"$k\"\n\
         n=$(printf '%s\\n' \"$k\" | sed -n 's/^pkg=\\([^ ]*\\) .*/\\1/p')\n\
         [ -n \"$n\" ] || exit 0\n\
         apt-cache policy $n 2>/dev/null | awk '/^[^ ]/ {{ n = $1; sub(/:$/, \"\", n) }} \
         /^  Candidate:/ {{ print \"candidate=\" n \" \" $2 }}'\n:\n)"
    ));
    Ok(vec![Fragment::sh(script, vec![Resource::Packages])])
}

/// A package that is to be another version.
struct Newer<'a> {
    name: &'a str,
    installed: &'a str,
    candidate: &'a str,
}

/// What apt would upgrade; a package that dpkg was interrupted at counts too.
fn newer(answers: &[Answer]) -> Result<Vec<Newer<'_>>, StepError> {
    if answers.is_empty() {
        return Ok(Vec::new());
    }
    let fields = Fields::new(output(answers, 0)?);
    let candidates: Vec<(&str, &str)> =
        fields.all("candidate").filter_map(|l| l.split_once(' ')).collect();
    let mut out = Vec::new();
    for line in fields.all("pkg") {
        let mut words = line.split(' ');
        let (Some(name), Some(status), Some(installed)) =
            (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let candidate = candidates.iter().find(|(n, _)| *n == name).map_or("(none)", |(_, v)| *v);
        let other = candidate != "(none)" && candidate != installed;
        if other || status != "installed" {
            let candidate = if other { candidate } else { installed };
            out.push(Newer { name, installed, candidate });
        }
    }
    Ok(out)
}

fn due(_: &Args, answers: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    common::own(ctx)?;
    let newer = newer(answers)?;
    let packages = newer.iter().map(|n| format!("{} {} -> {}", n.name, n.installed, n.candidate));
    let binaries = common::instance(ctx).and_then(service::binaries_owed);
    let why: Vec<String> = packages.chain(binaries).collect();
    let data = data(&[
        ("needed", (!why.is_empty()).into()),
        ("packages", (!newer.is_empty()).into()),
        ("why", why.join("; ").into()),
    ]);
    let message = (!why.is_empty()).then(|| format!("due: {}", why.join("; ")));
    Ok(Verdict::Satisfied(Report { message, data, ..Report::default() }))
}

fn upgrade(_: &Args, answers: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    common::own(ctx)?;
    let newer = newer(answers)?;
    if newer.is_empty() {
        return Ok(Verdict::ok());
    }
    let names: Vec<&str> = newer.iter().map(|n| n.name).collect();
    let diff = |n: &Newer| Diff::Value {
        name: n.name.to_owned(),
        before: Some(n.installed.to_owned()),
        after: Some(n.candidate.to_owned()),
        note: None,
    };
    let label = format!("apt-get install --only-upgrade {}", names.join(" "));
    let command = Command::new(label, detached(&upgrade_body(&names)))
        .deadline(3600)
        .progress(Progress::LastLine);
    let versions: Map =
        newer.iter().map(|n| (n.name.to_owned(), Value::from(n.candidate))).collect();
    Ok(Verdict::Change(Change {
        summary: format!("upgrade {}", names.join(" ")),
        diffs: newer.iter().map(diff).collect(),
        commands: vec![command],
        // The server owes a restart for its new binaries.
        writes: vec![Resource::Everything, Resource::Restart],
        report: Report {
            data: data(&[("versions", Value::Object(versions))]),
            ..Report::default()
        },
        ..Change::default()
    }))
}

//! `passfile`: the replication password of a node, where only its server can read it.

use super::common::{self, OS_USER, REPLICATOR};
use crate::model::{Answer, Fragment, Resource, Script, quote};
use crate::postgres::pass_line;
use crate::step::{Args, Change, Command, Ctx, Diff, Kind, StepError, Verdict, no_files};

pub(super) const KIND: Kind = Kind {
    name: "passfile",
    aliases: &[],
    summary: "keep the replication password in <home>/passfile (0600, postgres).",
    free_form: None,
    args: &[],
    files: no_files,
    probe,
    diff,
};

/// The path of a node's passfile.
pub(super) fn path(home: &str) -> String {
    format!("{home}/passfile")
}

fn probe(_: &Args, ctx: &Ctx) -> Result<Vec<Fragment>, StepError> {
    let path = path(&common::node(ctx)?.home);
    let script = Script::raw(format!("stat -c '%a %U:%G' {} 2>/dev/null || :", quote(&path)));
    Ok(vec![Fragment::sh(script, vec![Resource::Path(path)])])
}

fn diff(_: &Args, answers: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    let node = common::node(ctx)?;
    let Some(password) = ctx.replication_password else {
        return Ok(Verdict::NotYet("the replication password is not known yet".into()));
    };
    let line = format!("{}\n", pass_line(REPLICATOR, password).expose());
    let known = common::instance(ctx).and_then(|i| i.replication_password.as_ref());
    let rights = answers.first().map(|a| a.stdout.trim()).unwrap_or_default();
    let wanted = format!("600 {OS_USER}:{OS_USER}");
    if known == Some(password) && rights == wanted {
        return Ok(Verdict::ok());
    }
    let path = path(&node.home);
    let (before, what) = match known {
        None => (None, "replication password written"),
        Some(old) if old == password => (Some(rights.to_owned()), "mode or owner"),
        Some(_) => (Some("another password".to_owned()), "replication password replaced"),
    };
    let script = Script::raw("(\nexec </dev/null\nset -eu\ncd /\numask 077")
        .set("home", &node.home)
        .set("file", &path)
        .line("(umask 022; mkdir -p \"${home%/*}\")")
        .line(&format!(
            "[ -d \"$home\" ] || install -d -o {OS_USER} -g {OS_USER} -m 0700 \"$home\""
        ))
        .feed(line.as_bytes(), "cat >\"$file.pgorch-new\"")
        .line(&format!("chown {OS_USER}:{OS_USER} \"$file.pgorch-new\""))
        .line("chmod 0600 \"$file.pgorch-new\"\nmv -f \"$file.pgorch-new\" \"$file\"\n)");
    Ok(Verdict::Change(Change {
        summary: format!("{what} in {path}"),
        diffs: vec![Diff::Value { name: path.clone(), before, after: Some(wanted), note: None }],
        commands: vec![Command::new(format!("write {path}"), script)],
        writes: vec![Resource::Path(path)],
        ..Change::default()
    }))
}

//! `file` and `directory`: what stands at a path, without its content.

use super::answers::{Fields, choice, flag, output, path_arg};
use super::attributes::{Attributes, GROUP, MODE, OWNER, set_lines, summary, value};
use super::content::{own_shell, set_attributes, touched};
use super::paths::{self, PathState, SMALL};
use super::{
    ArgKind, ArgSpec, Args, Change, Command, Ctx, Impact, Kind, Report, StepError, Verdict,
    no_files,
};
use crate::model::{Answer, Fragment, Resource, Script, quote};

const STATES: &[&str] = &["", "file", "directory", "absent", "link", "touch"];

const PATH: ArgSpec = ArgSpec::new("path", ArgKind::Path, "The path on the host.")
    .aliases(&["dest", "name"])
    .required()
    .probe();
const RECURSE: ArgSpec = ArgSpec::new(
    "recurse",
    ArgKind::Bool,
    "Set owner, group and mode of everything below the directory too.",
)
.probe();

/// `file`.
pub(super) const FILE: Kind = Kind {
    name: "file",
    aliases: &[],
    summary: "Attributes of a path; directories, symbolic links, absence.",
    free_form: None,
    args: &[
        PATH,
        ArgSpec::new(
            "state",
            ArgKind::Choice(&["file", "directory", "absent", "link", "touch"]),
            "Default: what is there, else file. touch creates an empty file and leaves the times \
             of one that is there alone.",
        )
        .probe(),
        ArgSpec::new("src", ArgKind::Str, "What a link points to.").aliases(&["src_path"]),
        ArgSpec::new("force", ArgKind::Bool, "A link may replace a file."),
        OWNER,
        GROUP,
        MODE,
        RECURSE,
    ],
    files: no_files,
    probe,
    diff,
};

/// `directory`.
pub(super) const DIRECTORY: Kind = Kind {
    name: "directory",
    aliases: &[],
    summary: "A directory: file with state directory.",
    free_form: Some("path"),
    args: &[PATH, OWNER, GROUP, MODE, RECURSE],
    files: no_files,
    probe,
    diff: directory_diff,
};

fn probe(args: &Args, _: &Ctx) -> Result<Vec<Fragment>, StepError> {
    let path = path_arg(args, "path")?;
    let mut fragments = vec![paths::probe(&path, SMALL)];
    if flag(args, "recurse", false)? {
        fragments.push(below(&path));
    }
    if choice(args, "state", STATES)? == "absent" {
        fragments.push(clusters_below(&path));
    }
    Ok(fragments)
}

/// Every combination of attributes that occurs below a directory.
fn below(path: &str) -> Fragment {
    let text = format!(
        "p={}; if [ -d \"$p\" ]; then find \"$p\" -mindepth 1 -printf \
         'has=%m %U %G %u %g %s %y\\n' | sed 's/ [0-9]* \\(.\\)$/ 0 \\1/' | sort -u; fi; :",
        quote(path)
    );
    Fragment::sh(Script::raw(text), vec![Resource::Path(path.to_owned())])
}

/// Database clusters at or below a path, and whether it is a mount point.
fn clusters_below(path: &str) -> Fragment {
    let text = format!(
        "p={}; if [ -d \"$p\" ] && [ ! -L \"$p\" ]; then\n\
         find \"$p\" -maxdepth 6 -name global -path '*/global' -type d 2>/dev/null | \
         while IFS= read -r g; do\n\
         [ -f \"${{g%/global}}/PG_VERSION\" ] && printf 'cluster=%s\\n' \"${{g%/global}}\"\n\
         done\n\
         if mountpoint -q -- \"$p\" 2>/dev/null; then echo mount=yes; fi; fi; :",
        quote(path)
    );
    Fragment::sh(Script::raw(text), vec![Resource::Path(path.to_owned())])
}

fn diff(args: &Args, answers: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    let state = paths::parse(&path_arg(args, "path")?, answers, 0)?;
    match choice(args, "state", STATES)? {
        "directory" => directory(args, &state, answers),
        "absent" => absent(&state, answers, ctx),
        "link" => link(args, &state),
        "touch" if !state.exists() => touch(args, &state),
        word => existing(args, &state, answers, word),
    }
}

fn directory_diff(args: &Args, answers: &[Answer], _: &Ctx) -> Result<Verdict, StepError> {
    directory(args, &paths::parse(&path_arg(args, "path")?, answers, 0)?, answers)
}

/// Attributes of what is there.
fn existing(
    args: &Args,
    state: &PathState,
    answers: &[Answer],
    word: &str,
) -> Result<Verdict, StepError> {
    let Some(stat) = &state.stat else {
        return Ok(Verdict::NotYet(format!("{} does not exist", state.path)));
    };
    if word == "file" && !state.is_file() {
        let message = format!("{} is a {}, not a file", state.path, state.word());
        return Err(StepError::new(message).arg("state"));
    }
    let wanted = Attributes::args(args)?;
    if flag(args, "recurse", false)? {
        if !state.is_dir() {
            return Err(StepError::new("\"recurse\" needs a directory").arg("recurse"));
        }
        if let Some(change) = recurse(&wanted, state, answers)? {
            return Ok(Verdict::Change(change));
        }
    }
    let diffs = wanted.diffs(stat);
    if diffs.is_empty() {
        return Ok(Verdict::with_data(state.data()));
    }
    Ok(Verdict::Change(set_attributes(&state.path, &wanted, diffs, state.data())))
}

/// Attributes of a whole tree, if anything below differs.
fn recurse(
    wanted: &Attributes,
    state: &PathState,
    answers: &[Answer],
) -> Result<Option<Change>, StepError> {
    let fields = Fields::new(output(answers, 1)?);
    let differs = fields.all("has").any(|line| !fits(wanted, line));
    if !differs {
        return Ok(None);
    }
    let path = quote(&state.path);
    let mut lines = String::new();
    if let Some(chown) = wanted.chown_word() {
        lines.push_str(&format!("chown -hR -- {} {path} || exit 1\n", quote(&chown)));
    }
    if let Some(mode) = &wanted.mode {
        lines.push_str(&format!("chmod -R -- {} {path} || exit 1\n", quote(&mode.word())));
    }
    let diffs = vec![value("attributes below", Some("differ"), Some("as wanted"))];
    let label = format!("set attributes of everything below {}", state.path);
    Ok(Some(Change {
        summary: "attributes of the tree".to_owned(),
        diffs,
        commands: vec![Command::new(label, own_shell(&lines)).deadline(600)],
        writes: touched(&[&state.path]),
        report: Report { data: state.data(), ..Report::default() },
        ..Change::default()
    }))
}

/// Whether one combination `mode uid gid owner group 0 type` is as wanted. Links have no mode.
fn fits(wanted: &Attributes, line: &str) -> bool {
    let words: Vec<&str> = line.split(' ').collect();
    let [mode, uid, gid, owner, group, _, kind] = words[..] else { return false };
    let named = |want: &Option<String>, name: &str, id: &str| {
        want.as_ref().is_none_or(|w| w == name || w == id)
    };
    let mode = u32::from_str_radix(mode, 8).unwrap_or(u32::MAX);
    let mode_fits =
        kind == "l" || wanted.mode.as_ref().is_none_or(|m| m.apply(mode, kind == "d") == mode);
    named(&wanted.owner, owner, uid) && named(&wanted.group, group, gid) && mode_fits
}

fn directory(args: &Args, state: &PathState, answers: &[Answer]) -> Result<Verdict, StepError> {
    if state.is_dir() {
        return existing(args, state, answers, "directory");
    }
    if state.exists() {
        let message = format!("{} is a {}, not a directory", state.path, state.word());
        return Err(StepError::new(message).arg("path"));
    }
    let wanted = Attributes::args(args)?;
    let mode = wanted.mode.as_ref().map_or(0o755, |m| m.apply(0o755, true));
    let mode = super::mode::octal(mode);
    let set = set_lines(wanted.chown_word().as_deref(), Some(&mode), "\"$1\"");
    // Directories above that are missing get the same attributes, as in Ansible.
    let body = format!(
        "umask 077\nmk() {{\n[ -d \"$1\" ] && return 0\nmk \"$(dirname -- \"$1\")\"\n\
         mkdir -- \"$1\" || exit 1\n{set}}}\nmk {}",
        quote(&state.path)
    );
    let mut diffs = vec![value("state", Some("absent"), Some("directory"))];
    diffs.push(value("mode", None, Some(&mode)));
    if let Some(owner) = wanted.chown_word() {
        diffs.push(value("owner", None, Some(&owner)));
    }
    Ok(Verdict::Change(Change {
        summary: format!("create directory {}", state.path),
        diffs,
        commands: vec![Command::new(format!("mkdir -p {}", state.path), own_shell(&body))],
        writes: state.touched(),
        report: Report { data: state.data(), ..Report::default() },
        ..Change::default()
    }))
}

fn touch(args: &Args, state: &PathState) -> Result<Verdict, StepError> {
    if !state.parent {
        return Ok(Verdict::NotYet(format!("the directory of {} does not exist", state.path)));
    }
    let wanted = Attributes::args(args)?;
    let mode = wanted.mode.as_ref().map_or(0o644, |m| m.apply(0o644, false));
    let mode = super::mode::octal(mode);
    let path = quote(&state.path);
    let set = set_lines(wanted.chown_word().as_deref(), Some(&mode), &path);
    let body = format!("umask 077\n: >>{path} || exit 1\n{set}");
    Ok(Verdict::Change(Change {
        summary: format!("create {}", state.path),
        diffs: vec![value("state", Some("absent"), Some("file")), value("mode", None, Some(&mode))],
        commands: vec![Command::new(format!("touch {}", state.path), own_shell(&body))],
        writes: touched(&[&state.path]),
        report: Report { data: state.data(), ..Report::default() },
        ..Change::default()
    }))
}

fn link(args: &Args, state: &PathState) -> Result<Verdict, StepError> {
    let src = args.need("src")?;
    let wanted = Attributes::args(args)?;
    let mut diffs = Vec::new();
    if let Some(stat) = &state.link_stat {
        // A link's own mode means nothing.
        diffs = Attributes { mode: None, ..wanted.clone() }.diffs(stat);
    } else if state.is_dir() {
        return Err(StepError::new(format!("{} is a directory, not a link", state.path)));
    } else if state.exists() && !flag(args, "force", false)? {
        let error = StepError::new(format!("{} is a {}, not a link", state.path, state.word()));
        return Err(error.hint("force: true replaces it"));
    } else if !state.parent {
        return Ok(Verdict::NotYet(format!("the directory of {} does not exist", state.path)));
    }
    if state.link.as_deref() != Some(&src) {
        let before = state.link.as_deref().unwrap_or_else(|| state.word());
        diffs.insert(0, value("link", Some(before), Some(&src)));
    }
    if diffs.is_empty() {
        return Ok(Verdict::with_data(state.data()));
    }
    let chown = wanted.chown_word();
    let chown = chown.map(|c| format!("chown -h -- {} \"$t/l\" || exit 1\n", quote(&c)));
    let path = quote(&state.path);
    // ln cannot replace in one step; a rename can.
    let body = format!(
        "t=$(mktemp -d {path}.pgorch.XXXXXXXX) || exit 1\ntrap 'rm -rf -- \"$t\"' EXIT\n\
         trap 'exit 1' HUP INT TERM PIPE\nln -s -- {} \"$t/l\" || exit 1\n{}\
         mv -fT -- \"$t/l\" {path} || exit 1",
        quote(&src),
        chown.unwrap_or_default(),
    );
    let label = format!("ln -sfn {} {path}", quote(&src));
    Ok(Verdict::Change(Change {
        summary: summary(&diffs),
        diffs,
        commands: vec![Command::new(label, own_shell(&body))],
        writes: touched(&[&state.path]),
        report: Report { data: state.data(), ..Report::default() },
        ..Change::default()
    }))
}

/// Directories that no playbook means to remove.
const KEPT: &[&str] = &[
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/lib",
    "/lib64",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/var",
    "/var/lib",
    "/var/lib/postgresql",
    "/var/log",
];

fn absent(state: &PathState, answers: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    if !state.exists() {
        return Ok(Verdict::with_data(state.data()));
    }
    let directory = state.is_dir() && !state.is_link();
    let path = &state.path;
    if KEPT.contains(&path.as_str()) || path.contains("/../") || path.ends_with("/..") {
        return Err(StepError::refuse(format!("{path} is not removed by a task")).arg("path"));
    }
    let position = 1 + usize::from(answers.len() > 2);
    let fields = Fields::new(output(answers, position)?);
    let mut destroys = Vec::new();
    for cluster in fields.all("cluster") {
        if !ctx.options.destroy.contains(&format!("{}:{cluster}", ctx.host)) {
            let error = StepError::refuse(format!("{path} holds the database cluster {cluster}"));
            return Err(error.arg("path").hint("a directory with data is removed only by name"));
        }
        destroys.push(cluster);
    }
    if fields.yes("mount") {
        return Err(StepError::refuse(format!("{path} is a mount point")).arg("path"));
    }
    let destroys =
        (!destroys.is_empty()).then(|| format!("database clusters {}", destroys.join(", ")));
    let argv: &[&str] = if directory {
        &["rm", "-rf", "--one-file-system", "--", path]
    } else {
        &["rm", "-f", "--", path]
    };
    Ok(Verdict::Change(Change {
        summary: format!("remove {} {path}", state.word()),
        diffs: vec![value("state", Some(state.word()), Some("absent"))],
        commands: vec![Command::argv(argv).deadline(600)],
        writes: touched(&[path]),
        impact: Impact { destroys, ..Impact::default() },
        report: Report::default(),
        in_place: None,
    }))
}

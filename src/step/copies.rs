//! `copy` and `template`: a file with this content.

use super::answers::{absolute, flag, path_arg};
use super::attributes::{Attributes, GROUP, MODE, OWNER};
use super::content::{self, Source, Target, Write, converge};
use super::paths::{self, PathState, SMALL};
use super::render::render;
use super::{ArgKind, ArgSpec, Args, Change, Command, Ctx, Kind, Report, StepError, Verdict};
use crate::model::{Answer, Fragment, Script, Value, quote};

const DEST: ArgSpec = ArgSpec::new("dest", ArgKind::Path, "Where the file goes.")
    .aliases(&["path"])
    .required()
    .probe();
const VALIDATE: ArgSpec = ArgSpec::new(
    "validate",
    ArgKind::Str,
    "A command with %s for the new file; the old file stays if it fails. No shell features.",
);
const BACKUP: ArgSpec =
    ArgSpec::new("backup", ArgKind::Bool, "Keep the old file as NAME.PID.DATE~.");
const FORCE: ArgSpec =
    ArgSpec::new("force", ArgKind::Bool, "false: only create, never replace. Default true.");
const FOLLOW: ArgSpec = ArgSpec::new(
    "follow",
    ArgKind::Bool,
    "Write what a symbolic link points to instead of replacing the link.",
);
const SECRET: ArgSpec = ArgSpec::new(
    "secret",
    ArgKind::Bool,
    "The content is secret: no diff is shown, a new file gets mode 0600.",
);

/// `copy`.
pub(super) const COPY: Kind = Kind {
    name: "copy",
    aliases: &[],
    summary: "A file with given content, from the controller, from the text, or from the host.",
    free_form: None,
    args: &[
        DEST,
        ArgSpec::new("content", ArgKind::Any, "The content; a mapping or list becomes JSON."),
        ArgSpec::new("src", ArgKind::Str, "A file on the controller (on the host: remote_src).")
            .probe(),
        ArgSpec::new("remote_src", ArgKind::Bool, "src is a file on the host.").probe(),
        OWNER,
        GROUP,
        MODE,
        VALIDATE,
        BACKUP,
        FORCE,
        FOLLOW,
        SECRET,
    ],
    files: source_file,
    probe: copy_probe,
    diff: copy_diff,
};

/// `template`.
pub(super) const TEMPLATE: Kind = Kind {
    name: "template",
    aliases: &[],
    summary: "A file rendered from a template with the task's variables.",
    free_form: None,
    args: &[
        DEST,
        ArgSpec::new("src", ArgKind::Str, "The template, a file on the controller.").probe(),
        ArgSpec::new("content", ArgKind::Template, "The template's text, instead of src."),
        OWNER,
        GROUP,
        MODE,
        VALIDATE,
        BACKUP,
        FORCE,
        FOLLOW,
        SECRET,
    ],
    files: source_file,
    probe: template_probe,
    diff: template_diff,
};

fn source_file(args: &Args) -> Vec<String> {
    let remote = args.bool("remote_src").ok().flatten().unwrap_or(false);
    match args.str("src") {
        Ok(Some(src)) if !remote => vec![src],
        _ => Vec::new(),
    }
}

/// `dest`; one that ends in a slash gets the name of `src`, as in Ansible.
fn dest(args: &Args) -> Result<String, StepError> {
    let given = args.need("dest")?;
    if !given.ends_with('/') {
        return path_arg(args, "dest");
    }
    let src = args.str("src")?.unwrap_or_default();
    let name = src.rsplit('/').next().unwrap_or_default();
    let name = name.strip_suffix(".j2").unwrap_or(name);
    if name.is_empty() {
        let error = StepError::new(format!("\"dest\" is a directory name: {given}"));
        return Err(error.arg("dest").hint("give the full path of the file"));
    }
    absolute("dest", &format!("{given}{name}"))
}

fn copy_probe(args: &Args, _: &Ctx) -> Result<Vec<Fragment>, StepError> {
    let mut fragments = vec![paths::probe(&dest(args)?, SMALL)];
    if flag(args, "remote_src", false)? {
        fragments.push(paths::probe(&path_arg(args, "src")?, SMALL));
    }
    Ok(fragments)
}

fn template_probe(args: &Args, _: &Ctx) -> Result<Vec<Fragment>, StepError> {
    Ok(vec![paths::probe(&dest(args)?, SMALL)])
}

fn copy_diff(args: &Args, answers: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    let state = paths::parse(&dest(args)?, answers, 0)?;
    if let Some(kept) = kept_as_is(args, &state)? {
        return Ok(kept);
    }
    if flag(args, "remote_src", false)? {
        let source = paths::parse(&path_arg(args, "src")?, answers, 1)?;
        return remote_copy(args, &source, &state);
    }
    let bytes = match (args.get("content"), args.str("src")?) {
        (Some(_), Some(_)) => {
            return Err(StepError::new("give \"content\" or \"src\", not both").arg("content"));
        }
        (Some(Value::String(text)), None) => text.clone().into_bytes(),
        (Some(value @ (Value::Object(_) | Value::Array(_))), None) => {
            serde_json::to_vec(value).map_err(|e| StepError::new(e.to_string()).arg("content"))?
        }
        (Some(other), None) => other.to_string().into_bytes(),
        (None, Some(src)) => controller_file(ctx, &src)?.to_vec(),
        (None, None) => {
            return Err(StepError::new("one of \"content\" and \"src\" is required"));
        }
    };
    converge(&target(args, bytes)?, &state)
}

fn template_diff(args: &Args, answers: &[Answer], ctx: &Ctx) -> Result<Verdict, StepError> {
    let state = paths::parse(&dest(args)?, answers, 0)?;
    if let Some(kept) = kept_as_is(args, &state)? {
        return Ok(kept);
    }
    let (name, text) = match (args.str("content")?, args.str("src")?) {
        (Some(text), None) => ("content", text),
        (None, Some(src)) => {
            let bytes = controller_file(ctx, &src)?;
            let text = std::str::from_utf8(bytes)
                .map_err(|_| StepError::new(format!("{src} is not UTF-8 text")).arg("src"))?;
            ("src", text.to_owned())
        }
        _ => return Err(StepError::new("one of \"src\" and \"content\" is required")),
    };
    let file = args.str("src")?.unwrap_or_else(|| "the template".to_owned());
    let rendered = render(&file, &text, ctx).map_err(|e| e.arg(name))?;
    converge(&target(args, rendered.into_bytes())?, &state)
}

/// The bytes of a controller file.
pub(super) fn controller_file<'a>(ctx: &'a Ctx, src: &str) -> Result<&'a [u8], StepError> {
    ctx.files.get(src).map(Vec::as_slice).ok_or_else(|| {
        StepError::new(format!("the file {src} was not found on the controller")).arg("src")
    })
}

/// With `force: false` whatever is there is good.
fn kept_as_is(args: &Args, state: &PathState) -> Result<Option<Verdict>, StepError> {
    let keep = !flag(args, "force", true)? && state.exists();
    Ok(keep.then(|| Verdict::with_data(state.data())))
}

fn target(args: &Args, bytes: Vec<u8>) -> Result<Target, StepError> {
    Ok(Target {
        path: dest(args)?,
        bytes,
        attributes: Attributes::args(args)?,
        validate: args.str("validate")?,
        backup: flag(args, "backup", false)?,
        secret: flag(args, "secret", false)?,
        follow: flag(args, "follow", false)?,
        ..Target::default()
    })
}

/// Copies a file of the host onto another: small ones as usual, with a diff, others on the host.
fn remote_copy(args: &Args, source: &PathState, state: &PathState) -> Result<Verdict, StepError> {
    if !source.exists() {
        return Ok(Verdict::NotYet(format!("{} does not exist on the host", source.path)));
    }
    if !source.is_file() {
        return Err(StepError::new(format!("{} is not a file", source.path)).arg("src"));
    }
    if let Some(bytes) = &source.content {
        return converge(&target(args, bytes.clone())?, state);
    }
    let wanted = target(args, Vec::new())?;
    if state.is_dir() {
        return Err(StepError::new(format!("{} is a directory", state.path)).arg("dest"));
    }
    let diffs = state.stat.as_ref().map(|s| wanted.attributes.diffs(s)).unwrap_or_default();
    if state.sha256 == source.sha256 && !state.is_link() {
        if diffs.is_empty() {
            return Ok(Verdict::with_data(state.data()));
        }
        let data = state.data();
        let change = content::set_attributes(&state.path, &wanted.attributes, diffs, data);
        return Ok(Verdict::Change(change));
    }
    let fill = format!("cat -- {} >\"$t\" || exit 1", quote(&source.path));
    let mode = wanted.attributes.mode.as_ref();
    let old = state.stat.as_ref().map_or(0o644, |s| s.mode);
    let script = content::write(&Write {
        path: &state.path,
        source: Source::Fill(&Script::raw(fill)),
        chown: wanted.attributes.chown_word(),
        mode: mode.map_or(old, |m| m.apply(old, false)),
        validate: wanted.validate.as_deref().map(content::validate_words).transpose()?,
        backup: wanted.backup && state.is_file(),
        make_parent: false,
    });
    Ok(Verdict::Change(Change {
        summary: format!("copy of {}", source.path),
        diffs,
        commands: vec![Command::new(format!("write {}", state.path), script).deadline(600)],
        writes: content::touched(&[&state.path]),
        report: Report { data: state.data(), ..Report::default() },
        ..Change::default()
    }))
}

//! `sudoers`: a file in /etc/sudoers.d, never in place before visudo has accepted it.

use super::answers::choice;
use super::attributes::{Attributes, value};
use super::content::{Target, converge, touched};
use super::mode::Mode;
use super::paths::{self, SMALL};
use super::{ArgKind, ArgSpec, Args, Change, Command, Ctx, Kind, StepError, Verdict, no_files};
use crate::model::{Answer, Fragment};

/// `sudoers`.
pub(super) const SUDOERS: Kind = Kind {
    name: "sudoers",
    aliases: &[],
    summary: "A file in /etc/sudoers.d, checked by visudo.",
    free_form: None,
    args: &[
        ArgSpec::new("name", ArgKind::Str, "The file's name; letters, digits, - and _.")
            .required()
            .probe(),
        ArgSpec::new("content", ArgKind::Str, "The file's text."),
        ArgSpec::new("rules", ArgKind::StrList, "Its lines, instead of content."),
        ArgSpec::new("state", ArgKind::Choice(&["present", "absent"]), "Default present."),
    ],
    files: no_files,
    probe,
    diff,
};

fn path(args: &Args) -> Result<String, StepError> {
    let name = args.need("name")?;
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(good) {
        let error = StepError::new(format!("\"{name}\" is not a name for a sudoers file"));
        return Err(error.arg("name").hint("sudo ignores files with a dot or ~ in their name"));
    }
    Ok(format!("/etc/sudoers.d/{name}"))
}

fn probe(args: &Args, _: &Ctx) -> Result<Vec<Fragment>, StepError> {
    Ok(vec![paths::probe(&path(args)?, SMALL)])
}

fn diff(args: &Args, answers: &[Answer], _: &Ctx) -> Result<Verdict, StepError> {
    let path = path(args)?;
    let state = paths::parse(&path, answers, 0)?;
    if choice(args, "state", &["present", "absent"])? == "absent" {
        if !state.exists() {
            return Ok(Verdict::ok());
        }
        return Ok(Verdict::Change(Change {
            summary: format!("remove {path}"),
            diffs: vec![value("state", Some("file"), Some("absent"))],
            commands: vec![Command::argv(&["rm", "-f", "--", &path])],
            writes: touched(&[&path]),
            ..Change::default()
        }));
    }
    let mut text = match (args.str("content")?, args.str_list("rules")?) {
        (Some(content), rules) if rules.is_empty() => content,
        (None, rules) if !rules.is_empty() => rules.join("\n"),
        _ => return Err(StepError::new("one of \"content\" and \"rules\" is required")),
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let root = Some("root".to_owned());
    let target = Target {
        path,
        bytes: text.into_bytes(),
        attributes: Attributes { mode: Some(Mode::Octal(0o440)), owner: root.clone(), group: root },
        validate: Some("visudo -cf %s".to_owned()),
        ..Target::default()
    };
    converge(&target, &state)
}

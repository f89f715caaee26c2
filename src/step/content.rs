//! The one way in which pgorch writes a file: a temporary file in the same directory, filled,
//! owned, moded, validated, synced, and only then renamed over the old one.

use sha2::{Digest as _, Sha256};

use super::attributes::{self, Attributes, set_lines, summary};
use super::mode::octal;
use super::paths::{PathState, Stat, as_text, human};
use super::{Change, Command, Diff, Report, StepError, Verdict, answers};
use crate::model::{Map, Resource, Script, quote, split_words};

/// A file as it should be.
#[derive(Debug, Clone, Default)]
pub(super) struct Target {
    pub(super) path: String,
    pub(super) bytes: Vec<u8>,
    pub(super) attributes: Attributes,
    /// A command line with `%s` for the temporary file; it must succeed before the rename.
    pub(super) validate: Option<String>,
    /// Validation as program text that finds the temporary file in `$t`.
    pub(super) validate_script: Option<String>,
    /// Keep a copy of the old file beside it.
    pub(super) backup: bool,
    /// Show no content.
    pub(super) secret: bool,
    /// Write what a symbolic link points to instead of replacing the link.
    pub(super) follow: bool,
    /// Make the directory (0755) if it is not there.
    pub(super) make_parent: bool,
    /// Mode of a new file if none is given; 0644 or, for secrets, 0600.
    pub(super) new_mode: Option<u32>,
}

/// Where the bytes of a write come from.
pub(super) enum Source<'a> {
    Bytes(&'a [u8]),
    /// Program text that fills the file named by `$t`, and exits if it cannot.
    Fill(&'a Script),
}

/// A write, with everything decided.
pub(super) struct Write<'a> {
    pub(super) path: &'a str,
    pub(super) source: Source<'a>,
    pub(super) chown: Option<String>,
    pub(super) mode: u32,
    pub(super) validate: Option<String>,
    pub(super) backup: bool,
    pub(super) make_parent: bool,
}

/// Compares and, where needed, plans the write.
pub(super) fn converge(target: &Target, state: &PathState) -> Result<Verdict, StepError> {
    if state.is_dir() {
        let message = format!("{} is a directory, not a file", target.path);
        return Err(StepError::new(message).hint("give the full path of the file"));
    }
    if !state.parent && !target.make_parent {
        return Ok(Verdict::NotYet(format!("the directory of {} does not exist", target.path)));
    }
    let follow = target.follow && state.is_link();
    let replaces = state.is_link() && !target.follow || (state.exists() && !state.is_file());
    let same_content = state.is_file() && state.sha256.as_deref() == Some(&sha256(&target.bytes));
    let old = state.stat.as_ref().filter(|_| !replaces);
    let mut diffs = old.map(|s| target.attributes.diffs(s)).unwrap_or_default();
    let data = registered(target, old);
    if same_content && !replaces {
        if diffs.is_empty() {
            return Ok(Verdict::with_data(data));
        }
        return Ok(Verdict::Change(set_attributes(&target.path, &target.attributes, diffs, data)));
    }
    if replaces {
        diffs.push(attributes::value("type", Some(state.word()), Some("file")));
    }
    if !state.exists() {
        let wanted = &target.attributes;
        let owner = wanted.chown_word().map(|o| attributes::value("owner", None, Some(&o)));
        let mode = octal(final_mode(target, old));
        let mode = wanted.mode.as_ref().map(|_| attributes::value("mode", None, Some(&mode)));
        diffs.extend(owner.into_iter().chain(mode));
    }
    let text = match (state.exists(), summary(&diffs)) {
        (false, _) => format!("create {}", target.path),
        (true, rest) if rest.is_empty() => "content".to_owned(),
        (true, rest) => format!("content, {rest}"),
    };
    diffs.insert(0, content_diff(target, state));
    let path = if follow { state.real.clone().unwrap_or_default() } else { target.path.clone() };
    let script = write(&Write {
        path: &path,
        source: Source::Bytes(&target.bytes),
        chown: chown_word(&target.attributes, old),
        mode: final_mode(target, old),
        validate: validation(target)?,
        backup: target.backup && state.is_file(),
        make_parent: target.make_parent,
    });
    Ok(Verdict::Change(Change {
        summary: text,
        diffs,
        commands: vec![Command::new(format!("write {path}"), script)],
        writes: state.touched().into_iter().chain(follow.then_some(Resource::Path(path))).collect(),
        report: Report { data, ..Report::default() },
        ..Change::default()
    }))
}

/// The paths as resources, each once.
pub(super) fn touched(paths: &[&str]) -> Vec<Resource> {
    let mut found: Vec<Resource> = paths.iter().map(|p| Resource::Path((*p).to_owned())).collect();
    found.dedup();
    found
}

/// Owner and mode of something that is there.
pub(super) fn set_attributes(
    path: &str,
    wanted: &Attributes,
    diffs: Vec<Diff>,
    data: Map,
) -> Change {
    let differs =
        |n: &str| diffs.iter().any(|d| matches!(d, Diff::Value { name, .. } if name == n));
    let chown = wanted.chown_word().filter(|_| differs("owner") || differs("group"));
    // chown clears setuid bits, so a wanted mode is set again after it.
    let mode = wanted.mode.as_ref().map(|m| m.word());
    let lines = set_lines(chown.as_deref(), mode.as_deref(), &quote(path));
    Change {
        summary: summary(&diffs),
        commands: vec![Command::new(format!("set attributes of {path}"), own_shell(&lines))],
        diffs,
        writes: touched(&[path]),
        report: Report { data, ..Report::default() },
        ..Change::default()
    }
}

/// What `chown` takes; an old file's owner is kept, because the new one is another inode.
fn chown_word(wanted: &Attributes, old: Option<&Stat>) -> Option<String> {
    let Some(old) = old else { return wanted.chown_word() };
    let owner = wanted.owner.as_ref().unwrap_or(&old.uid);
    let group = wanted.group.as_ref().unwrap_or(&old.gid);
    Some(format!("{owner}:{group}"))
}

fn final_mode(target: &Target, old: Option<&Stat>) -> u32 {
    if let Some(old) = old {
        return target.attributes.mode_for(old);
    }
    let fresh = target.new_mode.unwrap_or(if target.secret { 0o600 } else { 0o644 });
    target.attributes.mode.as_ref().map_or(fresh, |m| m.apply(fresh, false))
}

fn registered(target: &Target, old: Option<&Stat>) -> Map {
    let mut data = super::data(&[
        ("path", answers::text(&target.path)),
        ("dest", answers::text(&target.path)),
        ("state", answers::text("file")),
        ("checksum", answers::text(sha256(&target.bytes))),
        ("size", target.bytes.len().into()),
        ("mode", answers::text(octal(final_mode(target, old)))),
    ]);
    let kept = |given: &Option<String>, old: Option<&String>| given.clone().or(old.cloned());
    if let Some(owner) = kept(&target.attributes.owner, old.map(|s| &s.owner)) {
        data.insert("owner".into(), answers::text(owner));
    }
    if let Some(group) = kept(&target.attributes.group, old.map(|s| &s.group)) {
        data.insert("group".into(), answers::text(group));
    }
    data
}

/// The difference of the contents, as far as it may and can be shown.
fn content_diff(target: &Target, state: &PathState) -> Diff {
    let after = as_text(&target.bytes);
    let before = if state.is_file() { state.text() } else { Some("") };
    let why = if target.secret {
        "the content is secret"
    } else if state.is_file() && state.content.is_none() {
        "the file is large"
    } else if after.is_none() || before.is_none() {
        "the content is not text"
    } else {
        return Diff::Text {
            path: target.path.clone(),
            before: before.filter(|_| state.is_file()).map(str::to_owned),
            after: after.map(str::to_owned),
        };
    };
    Diff::Value {
        name: target.path.clone(),
        before: state.stat.as_ref().map(|s| human(s.size)),
        after: Some(human(target.bytes.len() as u64)),
        note: Some(format!("no diff: {why}")),
    }
}

/// The validation of a target as program text.
fn validation(target: &Target) -> Result<Option<String>, StepError> {
    match &target.validate {
        Some(command) => validate_words(command).map(Some),
        None => Ok(target.validate_script.clone()),
    }
}

/// A command line with `%s` as program text: its words are quoted, `%s` is the file.
pub(super) fn validate_words(command: &str) -> Result<String, StepError> {
    let bad = |message: &str| StepError::new(message.to_owned()).arg("validate");
    if !command.contains("%s") {
        return Err(bad("\"validate\" must contain %s, which stands for the new file"));
    }
    let word = |word: &String| {
        let parts: Vec<String> = word.split("%s").map(quote_part).collect();
        parts.join("\"$t\"")
    };
    let parts = split_words(command).map_err(|e| StepError::new(e).arg("validate"))?;
    let line = parts.iter().map(word).collect::<Vec<_>>().join(" ");
    let label = quote(&format!("validation failed: {command}"));
    Ok(format!("{line} >&2 || {{ printf '%s\\n' {label} >&2; exit 1; }}"))
}

fn quote_part(part: &str) -> String {
    if part.is_empty() { String::new() } else { quote(part) }
}

/// The program that writes a file; never leaves a half-written one under its name.
pub(super) fn write(write: &Write) -> Script {
    let dir = match write.path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((dir, _)) => dir,
    };
    let mut script = Script::raw("(\numask 077").set("p", write.path).set("d", dir);
    if write.make_parent {
        script = script.line("[ -d \"$d\" ] || (umask 022; mkdir -p -- \"$d\") || exit 1");
    }
    // A lost connection sends HUP or PIPE; without the second trap the first would not run.
    script = script
        .line("t=$(mktemp \"$d/.pgorch.XXXXXXXXXX\") || exit 1")
        .line("trap 'rm -f -- \"$t\"' EXIT")
        .line("trap 'exit 1' HUP INT TERM PIPE");
    script = match &write.source {
        Source::Fill(fill) => script.then(fill),
        Source::Bytes(bytes) => {
            // A here-document that was cut off is not an error for the shell; the sum finds it.
            let check = format!("[ \"$s\" = {} ]", quote(&format!("{}  -", sha256(bytes))));
            script
                .feed(bytes, "cat >\"$t\" || exit 1")
                .line("s=$(sha256sum <\"$t\")")
                .line(&format!("{check} || {{ echo 'content arrived damaged' >&2; exit 1; }}"))
        }
    };
    script = script.line(&set_lines(write.chown.as_deref(), Some(&octal(write.mode)), "\"$t\""));
    if let Some(validate) = &write.validate {
        script = script.line(validate);
    }
    script = script.line("sync -- \"$t\" || exit 1");
    if write.backup {
        script = script.line("cp -p -- \"$p\" \"$p.$$.$(date +%Y-%m-%d@%H:%M:%S)~\" || exit 1");
    }
    script
        .line("mv -fT -- \"$t\" \"$p\" || exit 1")
        .line("sync -- \"$d\" 2>/dev/null || :")
        .line(")")
}

/// Program text in a subshell: it may `exit` and set variables without touching the caller.
pub(super) fn own_shell(body: &str) -> Script {
    Script::raw("(").line(body.trim_end_matches('\n')).line(")")
}

/// The SHA-256 of bytes in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

//! `line`, `replace` and `blockinfile`: edits of a file, computed here on its probed content, so
//! that the plan shows them as a diff, and written like every other file.

use regex::Regex;

use super::answers::{choice, flag, path_arg};
use super::attributes::{Attributes, GROUP, MODE, OWNER};
use super::content::{Target, converge};
use super::paths::{self, EDITABLE, PathState};
use super::patterns::{compile, expand};
use super::{ArgKind, ArgSpec, Args, Ctx, Kind, StepError, Verdict, no_files};
use crate::model::{Answer, Fragment};

const PATH: ArgSpec = ArgSpec::new("path", ArgKind::Path, "The file on the host.")
    .aliases(&["dest", "destfile", "name"])
    .required()
    .probe();
const CREATE: ArgSpec = ArgSpec::new("create", ArgKind::Bool, "Make the file if it is not there.");
const VALIDATE: ArgSpec =
    ArgSpec::new("validate", ArgKind::Str, "A command with %s for the new file.");
const BACKUP: ArgSpec = ArgSpec::new("backup", ArgKind::Bool, "Keep the old file beside it.");
const AFTER: ArgSpec = ArgSpec::new(
    "insertafter",
    ArgKind::Str,
    "Insert after the last line that matches this expression, or EOF (default) or BOF.",
);
const BEFORE: ArgSpec = ArgSpec::new(
    "insertbefore",
    ArgKind::Str,
    "Insert before the last line that matches this expression, or BOF.",
);
const STATE: ArgSpec =
    ArgSpec::new("state", ArgKind::Choice(&["present", "absent"]), "Default present.");

/// `line`.
pub(super) const LINE: Kind = Kind {
    name: "line",
    aliases: &["lineinfile"],
    summary: "One line of a file.",
    free_form: None,
    args: &[
        PATH,
        ArgSpec::new("line", ArgKind::Str, "The line.").aliases(&["value"]),
        ArgSpec::new("regexp", ArgKind::Str, "The line to replace or remove: the last match.")
            .aliases(&["regex"]),
        ArgSpec::new("search_string", ArgKind::Str, "As regexp, but literal text."),
        STATE,
        AFTER,
        BEFORE,
        ArgSpec::new("firstmatch", ArgKind::Bool, "Take the first match, not the last."),
        ArgSpec::new(
            "backrefs",
            ArgKind::Bool,
            "\\1 and \\g<name> in line are groups of regexp; without a match nothing happens.",
        ),
        CREATE,
        VALIDATE,
        BACKUP,
        OWNER,
        GROUP,
        MODE,
    ],
    files: no_files,
    probe,
    diff: line_diff,
};

/// `replace`.
pub(super) const REPLACE: Kind = Kind {
    name: "replace",
    aliases: &[],
    summary: "Every match of a regular expression in a file.",
    free_form: None,
    args: &[
        PATH,
        ArgSpec::new("regexp", ArgKind::Str, "What is replaced; ^ and $ match at lines.")
            .required(),
        ArgSpec::new("replace", ArgKind::Str, "The replacement, with \\1 and \\g<name>."),
        ArgSpec::new("after", ArgKind::Str, "Only behind the first match of this expression."),
        ArgSpec::new("before", ArgKind::Str, "Only in front of the first match of this."),
        VALIDATE,
        BACKUP,
        OWNER,
        GROUP,
        MODE,
    ],
    files: no_files,
    probe,
    diff: replace_diff,
};

/// `blockinfile`.
pub(super) const BLOCKINFILE: Kind = Kind {
    name: "blockinfile",
    aliases: &["block_in_file"],
    summary: "Several lines of a file between two marker lines.",
    free_form: None,
    args: &[
        PATH,
        ArgSpec::new("block", ArgKind::Str, "The lines; none removes the block.")
            .aliases(&["content"]),
        ArgSpec::new(
            "marker",
            ArgKind::Str,
            "The marker lines; {mark} is BEGIN or END. Default \"# {mark} PGORCH MANAGED BLOCK\".",
        ),
        ArgSpec::new("marker_begin", ArgKind::Str, "Instead of BEGIN."),
        ArgSpec::new("marker_end", ArgKind::Str, "Instead of END."),
        STATE,
        AFTER,
        BEFORE,
        CREATE,
        VALIDATE,
        BACKUP,
        OWNER,
        GROUP,
        MODE,
    ],
    files: no_files,
    probe,
    diff: block_diff,
};

fn probe(args: &Args, _: &Ctx) -> Result<Vec<Fragment>, StepError> {
    Ok(vec![paths::probe(&path_arg(args, "path")?, EDITABLE)])
}

/// The text of the file, or why there is none to edit.
enum Before {
    Text(String),
    NotYet(String),
    /// Not there, and that is as wanted.
    Absent,
}

fn before(args: &Args, state: &PathState, removing: bool) -> Result<Before, StepError> {
    if !state.exists() {
        if removing {
            return Ok(Before::Absent);
        }
        if args.get("create").is_some() && flag(args, "create", false)? {
            return Ok(Before::Text(String::new()));
        }
        let message = format!("{} does not exist (create: true makes it)", state.path);
        return Ok(Before::NotYet(message));
    }
    if !state.is_file() {
        return Err(StepError::new(format!("{} is not a file", state.path)).arg("path"));
    }
    let why = if state.content.is_none() { "is larger than 4 MiB" } else { "is not UTF-8 text" };
    let text = state.text().ok_or_else(|| StepError::new(format!("{} {why}", state.path)))?;
    Ok(Before::Text(text.to_owned()))
}

/// Writes the edited text, if it is another.
fn finish(args: &Args, state: &PathState, after: String) -> Result<Verdict, StepError> {
    let target = Target {
        path: state.path.clone(),
        bytes: after.into_bytes(),
        attributes: Attributes::args(args)?,
        validate: args.str("validate")?,
        backup: flag(args, "backup", false)?,
        follow: true,
        ..Target::default()
    };
    converge(&target, state)
}

fn removing(args: &Args) -> Result<bool, StepError> {
    Ok(choice(args, "state", &["present", "absent"])? == "absent")
}

fn line_diff(args: &Args, answers: &[Answer], _: &Ctx) -> Result<Verdict, StepError> {
    let state = paths::parse(&path_arg(args, "path")?, answers, 0)?;
    let removing = removing(args)?;
    let edit = LineEdit::args(args)?;
    if removing && edit.find.is_none() && args.get("line").is_none() {
        return Err(StepError::new("state absent needs line, regexp or search_string"));
    }
    let text = match before(args, &state, removing)? {
        Before::Text(text) => text,
        Before::NotYet(why) => return Ok(Verdict::NotYet(why)),
        Before::Absent => return Ok(Verdict::ok()),
    };
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    if removing {
        let line = args.str("line")?;
        lines.retain(|l| !edit.matches_removed(bare(l), line.as_deref()));
    } else {
        edit.put(&mut lines, &args.need("line")?);
    }
    finish(args, &state, lines.concat())
}

/// A line without its end.
fn bare(line: &str) -> &str {
    line.trim_end_matches(['\n', '\r'])
}

/// What finds a line.
enum Find {
    Pattern(Regex),
    Literal(String),
}

impl Find {
    fn hits(&self, line: &str) -> bool {
        match self {
            Find::Pattern(regex) => regex.is_match(line),
            Find::Literal(text) => line.contains(text),
        }
    }
}

/// Where something is inserted.
enum Place {
    Start,
    End,
    After(Regex),
    Before(Regex),
}

impl Place {
    fn args(args: &Args) -> Result<Self, StepError> {
        match (args.str("insertafter")?, args.str("insertbefore")?) {
            (Some(_), Some(_)) => {
                Err(StepError::new("give insertafter or insertbefore, not both").arg("insertafter"))
            }
            (Some(word), None) if word == "BOF" => Ok(Place::Start),
            (None, Some(word)) if word == "BOF" => Ok(Place::Start),
            (Some(word), None) if word != "EOF" => Ok(Place::After(compile("insertafter", &word)?)),
            (None, Some(word)) if word != "EOF" => {
                Ok(Place::Before(compile("insertbefore", &word)?))
            }
            _ => Ok(Place::End),
        }
    }

    /// The index to insert at; the end if nothing matches.
    fn index(&self, lines: &[String], first: bool) -> usize {
        let find = |regex: &Regex| {
            let hit = |l: &String| regex.is_match(bare(l));
            if first { lines.iter().position(hit) } else { lines.iter().rposition(hit) }
        };
        match self {
            Place::Start => 0,
            Place::End => lines.len(),
            Place::After(regex) => find(regex).map_or(lines.len(), |i| i + 1),
            Place::Before(regex) => find(regex).unwrap_or(lines.len()),
        }
    }
}

struct LineEdit {
    find: Option<Find>,
    place: Place,
    first: bool,
    backrefs: bool,
}

impl LineEdit {
    fn args(args: &Args) -> Result<Self, StepError> {
        let find = match (args.str("regexp")?, args.str("search_string")?) {
            (Some(pattern), None) => Some(Find::Pattern(compile("regexp", &pattern)?)),
            (None, Some(text)) => Some(Find::Literal(text)),
            (None, None) => None,
            _ => return Err(StepError::new("give regexp or search_string, not both").arg("regexp")),
        };
        let backrefs = flag(args, "backrefs", false)?;
        if backrefs && !matches!(find, Some(Find::Pattern(_))) {
            return Err(StepError::new("backrefs needs regexp").arg("backrefs"));
        }
        let first = flag(args, "firstmatch", false)?;
        Ok(LineEdit { find, place: Place::args(args)?, first, backrefs })
    }

    fn matches_removed(&self, line: &str, exact: Option<&str>) -> bool {
        match &self.find {
            Some(find) => find.hits(line),
            None => exact == Some(line),
        }
    }

    /// Ansible's order: the match of the expression is replaced; else an equal line is enough;
    /// else the line is inserted.
    fn put(&self, lines: &mut Vec<String>, line: &str) {
        let hit = |l: &String| self.find.as_ref().is_some_and(|f| f.hits(bare(l)));
        let at = if self.first { lines.iter().position(hit) } else { lines.iter().rposition(hit) };
        if let Some(at) = at {
            let new = match (&self.find, self.backrefs) {
                (Some(Find::Pattern(regex)), true) => regex
                    .captures(bare(&lines[at]))
                    .map_or_else(|| line.to_owned(), |groups| expand(line, &groups)),
                _ => line.to_owned(),
            };
            if bare(&lines[at]) != new {
                lines[at] = format!("{new}\n");
            }
            return;
        }
        if self.backrefs || lines.iter().any(|l| bare(l) == line) {
            return;
        }
        let at = self.place.index(lines, self.first);
        insert(lines, at, format!("{line}\n"));
    }
}

/// Inserts, and ends a last line that has no end.
fn insert(lines: &mut Vec<String>, at: usize, text: String) {
    if let Some(above) = at.checked_sub(1).and_then(|i| lines.get_mut(i))
        && !above.ends_with('\n')
    {
        above.push('\n');
    }
    lines.insert(at, text);
}

fn replace_diff(args: &Args, answers: &[Answer], _: &Ctx) -> Result<Verdict, StepError> {
    let state = paths::parse(&path_arg(args, "path")?, answers, 0)?;
    let regex = compile("regexp", &format!("(?m:{})", args.need("regexp")?))?;
    let text = match before(args, &state, false)? {
        Before::Text(text) => text,
        Before::NotYet(_) | Before::Absent => {
            return Ok(Verdict::NotYet(format!("{} does not exist", state.path)));
        }
    };
    let scope = |name: &'static str| -> Result<Option<Regex>, StepError> {
        args.str(name)?.map(|p| compile(name, &format!("(?s:{p})"))).transpose()
    };
    let start = match scope("after")? {
        None => Some(0),
        Some(after) => after.find(&text).map(|m| m.end()),
    };
    let end = match (scope("before")?, start) {
        (None, _) => Some(text.len()),
        (Some(before), Some(start)) => before.find_at(&text, start).map(|m| m.start()),
        (Some(_), None) => None,
    };
    // As in Ansible: a border that is nowhere leaves nothing to replace in.
    let (Some(start), Some(end)) = (start, end) else {
        return finish(args, &state, text);
    };
    let with = args.str("replace")?.unwrap_or_default();
    let middle = regex.replace_all(&text[start..end], |g: &regex::Captures| expand(&with, g));
    let after = format!("{}{middle}{}", &text[..start], &text[end..]);
    finish(args, &state, after)
}

fn block_diff(args: &Args, answers: &[Answer], _: &Ctx) -> Result<Verdict, StepError> {
    let state = paths::parse(&path_arg(args, "path")?, answers, 0)?;
    let block = args.str("block")?.unwrap_or_default();
    let removing = removing(args)? || block.trim().is_empty();
    let text = match before(args, &state, removing)? {
        Before::Text(text) => text,
        Before::NotYet(why) => return Ok(Verdict::NotYet(why)),
        Before::Absent => return Ok(Verdict::ok()),
    };
    let marker = args.str("marker")?.unwrap_or_else(|| "# {mark} PGORCH MANAGED BLOCK".to_owned());
    if !marker.contains("{mark}") {
        return Err(StepError::new("\"marker\" must contain {mark}").arg("marker"));
    }
    let word = |name, default: &str| -> Result<String, StepError> {
        let word = args.str(name)?.unwrap_or_else(|| default.to_owned());
        Ok(marker.replace("{mark}", &word))
    };
    let (begin, end) = (word("marker_begin", "BEGIN")?, word("marker_end", "END")?);
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    let at = |wanted: &str| lines.iter().rposition(|l| bare(l) == wanted);
    let place = match (at(&begin), at(&end)) {
        (Some(from), Some(to)) => {
            let (low, high) = (from.min(to), from.max(to));
            lines.drain(low..=high);
            low
        }
        _ => Place::args(args)?.index(&lines, false),
    };
    if !removing {
        let block = block.trim_end_matches('\n');
        insert(&mut lines, place, format!("{begin}\n{block}\n{end}\n"));
    }
    finish(args, &state, lines.concat())
}

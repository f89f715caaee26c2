//! `command` and `shell`: a command of the user's.

use super::answers::{Fields, flag, output};
use super::content::own_shell;
use super::{
    ArgKind, ArgSpec, Args, Change, Command, Ctx, Kind, Progress, Report, StepError, Verdict, data,
    no_files,
};
use crate::model::{Answer, Fragment, Resource, Script, Value, quote, split_words};

const CHDIR: ArgSpec = ArgSpec::new("chdir", ArgKind::Path, "The directory it runs in.").probe();
const CREATES: ArgSpec = ArgSpec::new(
    "creates",
    ArgKind::Str,
    "A path or pattern; if it is there, the command is not run.",
)
.probe();
const REMOVES: ArgSpec = ArgSpec::new(
    "removes",
    ArgKind::Str,
    "A path or pattern; if it is not there, the command is not run.",
)
.probe();
const STDIN: ArgSpec = ArgSpec::new("stdin", ArgKind::Str, "Text for its standard input.");
const STDIN_NEWLINE: ArgSpec =
    ArgSpec::new("stdin_add_newline", ArgKind::Bool, "End stdin with a line break. Default true.");
const TIMEOUT: ArgSpec = ArgSpec::new("timeout", ArgKind::Int, "Seconds it may take (3600).");

/// `command`.
pub(super) const COMMAND: Kind = Kind {
    name: "command",
    aliases: &[],
    summary: "A command, without a shell: no variables, pipes or patterns.",
    free_form: Some("cmd"),
    args: &[
        ArgSpec::new("cmd", ArgKind::Str, "The command line; quotes work, nothing is expanded."),
        ArgSpec::new("argv", ArgKind::StrList, "The words of the command, instead of cmd."),
        CHDIR,
        CREATES,
        REMOVES,
        STDIN,
        STDIN_NEWLINE,
        TIMEOUT,
    ],
    files: no_files,
    probe,
    diff: command_diff,
};

/// `shell`.
pub(super) const SHELL: Kind = Kind {
    name: "shell",
    aliases: &["raw"],
    summary: "A shell script.",
    free_form: Some("cmd"),
    args: &[
        ArgSpec::new("cmd", ArgKind::Str, "The script.").required(),
        ArgSpec::new("executable", ArgKind::Path, "The shell. Default /bin/sh."),
        CHDIR,
        CREATES,
        REMOVES,
        STDIN,
        STDIN_NEWLINE,
        TIMEOUT,
    ],
    files: no_files,
    probe,
    diff: shell_diff,
};

/// Asks whether `creates` and `removes` match something, in `chdir`.
fn probe(args: &Args, _: &Ctx) -> Result<Vec<Fragment>, StepError> {
    let mut lines = String::new();
    let mut reads = Vec::new();
    let chdir = args.str("chdir")?;
    for name in ["creates", "removes"] {
        let Some(path) = args.str(name)? else { continue };
        lines.push_str(&format!(
            "for f in {}; do if [ -e \"$f\" ] || [ -L \"$f\" ]; then echo {name}=yes; break; fi; \
             done\n",
            pattern(&path)
        ));
        reads.push(Resource::Path(fixed_part(&path, chdir.as_deref())));
    }
    if lines.is_empty() {
        return Ok(Vec::new());
    }
    if let Some(dir) = chdir {
        lines = format!("cd -- {} 2>/dev/null || exit 0\n{lines}", quote(&dir));
    }
    Ok(vec![Fragment::sh(own_shell(&format!("{lines}:")), reads)])
}

/// A path whose `*`, `?` and `[…]` the shell expands, everything else quoted.
pub(super) fn pattern(path: &str) -> String {
    let special = |c: char| "*?[]".contains(c);
    let mut text = String::new();
    let mut plain = String::new();
    for c in path.chars() {
        if special(c) {
            if !plain.is_empty() {
                text.push_str(&quote(&std::mem::take(&mut plain)));
            }
            text.push(c);
        } else {
            plain.push(c);
        }
    }
    if !plain.is_empty() || text.is_empty() {
        text.push_str(&quote(&plain));
    }
    text
}

/// The directory or path that must change for the answer to change.
fn fixed_part(path: &str, chdir: Option<&str>) -> String {
    let full = match chdir {
        _ if path.starts_with('/') => path.to_owned(),
        Some(dir) => format!("{}/{path}", dir.trim_end_matches('/')),
        None => return "/".to_owned(),
    };
    match full.find(['*', '?', '[']) {
        None => full,
        Some(at) => match full[..at].rfind('/') {
            Some(0) | None => "/".to_owned(),
            Some(slash) => full[..slash].to_owned(),
        },
    }
}

fn command_diff(args: &Args, answers: &[Answer], _: &Ctx) -> Result<Verdict, StepError> {
    let words = match (args.str("cmd")?, args.str_list("argv")?) {
        (Some(line), argv) if argv.is_empty() => split_words(&line)
            .map_err(|e| StepError::new(e).arg("cmd").hint("use shell for shell features"))?,
        (None, argv) => argv,
        (Some(_), _) => return Err(StepError::new("give cmd or argv, not both").arg("argv")),
    };
    if words.is_empty() {
        return Err(StepError::new("there is no command to run").arg("cmd"));
    }
    let line: Vec<String> = words.iter().map(|w| quote(w)).collect();
    let line = line.join(" ");
    let cmd = Value::from(words);
    run(args, answers, &line.clone(), cmd, |script, stdin| match stdin {
        Some(bytes) => script.feed(bytes, &line),
        None => script.line(&format!("{line} </dev/null")),
    })
}

fn shell_diff(args: &Args, answers: &[Answer], _: &Ctx) -> Result<Verdict, StepError> {
    let text = args.need("cmd")?;
    let shell = args.str("executable")?.unwrap_or_else(|| "/bin/sh".to_owned());
    let label = text.trim().to_owned();
    let cmd = Value::from(text.clone());
    run(args, answers, &label, cmd, |script, stdin| {
        // The script is a file descriptor, not an argument: what it says is in no process list,
        // and its standard input stays free.
        let end = delimiter(&text);
        let call = format!("{} /dev/fd/3 3<<'{end}'", quote(&shell));
        let script = match stdin {
            Some(bytes) => script.feed(bytes, &call),
            None => script.line(&format!("{call} </dev/null")),
        };
        script.line(&text).line(&end)
    })
}

/// A here-document delimiter that is no line of the text.
fn delimiter(text: &str) -> String {
    let mut end = "PGORCH_SCRIPT".to_owned();
    while text.lines().any(|line| line == end) {
        end.push('_');
    }
    end
}

/// What both kinds share; `body` adds the program's line.
fn run(
    args: &Args,
    answers: &[Answer],
    label: &str,
    cmd: Value,
    body: impl Fn(Script, Option<&[u8]>) -> Script,
) -> Result<Verdict, StepError> {
    let (creates, removes) = (args.str("creates")?, args.str("removes")?);
    if creates.is_some() || removes.is_some() {
        let fields = Fields::new(output(answers, 0)?);
        let skip = match (&creates, &removes) {
            (Some(path), _) if fields.yes("creates") => Some(format!("{path} is there")),
            (_, Some(path)) if !fields.yes("removes") => Some(format!("{path} is not there")),
            _ => None,
        };
        if let Some(message) = skip {
            let mut report = Report { data: data(&[("cmd", cmd)]), ..Report::default() };
            report.data.insert("rc".into(), 0.into());
            report.message = Some(message);
            return Ok(Verdict::Satisfied(report));
        }
    }
    let mut script = Script::raw("(");
    if let Some(dir) = args.str("chdir")? {
        script = script.line(&format!("cd -- {} || exit 1", quote(&dir)));
    }
    let stdin = match args.str("stdin")? {
        Some(mut text) => {
            if flag(args, "stdin_add_newline", true)? && !text.ends_with('\n') {
                text.push('\n');
            }
            Some(text.into_bytes())
        }
        None => None,
    };
    let script = body(script, stdin.as_deref()).line(")");
    let seconds = args.int("timeout")?.and_then(|s| u64::try_from(s).ok()).unwrap_or(3600);
    let first = label.lines().next().unwrap_or_default();
    Ok(Verdict::Change(Change {
        summary: format!("run {first}"),
        commands: vec![Command::new(label, script).deadline(seconds).progress(Progress::LastLine)],
        writes: vec![Resource::Everything],
        report: Report { data: data(&[("cmd", cmd)]), ..Report::default() },
        ..Change::default()
    }))
}

//! `wait_for` and `pause`.

use super::answers::{choice, output, path_arg};
use super::content::own_shell;
use super::patterns::compile;
use super::{
    ArgKind, ArgSpec, Args, Change, Command, Ctx, Kind, StepError, Verdict, no_files, no_probe,
};
use crate::model::{Answer, Fragment, Resource, Script, quote};

/// `wait_for`.
pub(super) const WAIT_FOR: Kind = Kind {
    name: "wait_for",
    aliases: &[],
    summary: "Waits on the host for a port or a path.",
    free_form: None,
    args: &[
        ArgSpec::new("port", ArgKind::Int, "A TCP port.").probe(),
        ArgSpec::new("host", ArgKind::Str, "Whose port. Default 127.0.0.1.").probe(),
        ArgSpec::new("path", ArgKind::Path, "A path, instead of a port.").probe(),
        ArgSpec::new("search_regex", ArgKind::Str, "Text that the file at path must hold (ERE).")
            .probe(),
        ArgSpec::new(
            "state",
            ArgKind::Choice(&["started", "present", "stopped", "absent"]),
            "Whether the port accepts or the path is there (default), or not.",
        )
        .probe(),
        ArgSpec::new("timeout", ArgKind::Int, "Seconds to wait at most (300)."),
        ArgSpec::new("delay", ArgKind::Int, "Seconds to wait first (0)."),
        ArgSpec::new("sleep", ArgKind::Int, "Seconds between looks (1)."),
        ArgSpec::new("connect_timeout", ArgKind::Int, "Seconds for one connection (5).").probe(),
        ArgSpec::new("msg", ArgKind::Str, "What to say if it does not come true."),
    ],
    files: no_files,
    probe,
    diff,
};

/// `pause`.
pub(super) const PAUSE: Kind = Kind {
    name: "pause",
    aliases: &[],
    summary: "Waits for a time.",
    free_form: None,
    args: &[
        ArgSpec::new("seconds", ArgKind::Int, "How long."),
        ArgSpec::new("minutes", ArgKind::Int, "How long, in minutes."),
    ],
    files: no_files,
    probe: no_probe,
    diff: pause,
};

/// The condition as a shell command, and what it is in words.
///
/// A port is tested with bash's `/dev/tcp`: bash is essential on Debian and Red Hat systems, nc is
/// not, and a table of listening sockets (`ss`) says nothing of other hosts.
fn condition(args: &Args) -> Result<(String, String), StepError> {
    let down = matches!(
        choice(args, "state", &["started", "present", "stopped", "absent"])?,
        "stopped" | "absent"
    );
    let not = if down { "! " } else { "" };
    let (test, what) = match (args.int("port")?, args.get("path")) {
        (Some(port), None) => {
            if !(1..=65535).contains(&port) {
                return Err(StepError::new(format!("{port} is not a port")).arg("port"));
            }
            let host = args.str("host")?.unwrap_or_else(|| "127.0.0.1".to_owned());
            let seconds = args.int("connect_timeout")?.unwrap_or(5).max(1);
            let test = format!(
                "timeout {seconds} bash -c 'exec 3<>\"/dev/tcp/$1/$2\"' - {} {port} \
                 >/dev/null 2>&1 </dev/null",
                quote(&host)
            );
            (test, format!("{host}:{port} to {}", if down { "close" } else { "accept" }))
        }
        (None, Some(_)) => {
            let path = path_arg(args, "path")?;
            let quoted = quote(&path);
            let test = match args.str("search_regex")? {
                None => format!("[ -e {quoted} ]"),
                Some(pattern) => {
                    compile("search_regex", &pattern)?;
                    format!("grep -qE -e {} -- {quoted} 2>/dev/null", quote(&pattern))
                }
            };
            (test, format!("{path} to be {}", if down { "absent" } else { "there" }))
        }
        _ => return Err(StepError::new("one of \"port\" and \"path\" is required")),
    };
    Ok((format!("{not}{test}"), what))
}

fn probe(args: &Args, _: &Ctx) -> Result<Vec<Fragment>, StepError> {
    let (test, _) = condition(args)?;
    let reads = match args.get("path") {
        Some(_) => Resource::Path(path_arg(args, "path")?),
        // Anything may open or close a port.
        None => Resource::Everything,
    };
    let text = format!("if {test}; then echo yes; else echo no; fi");
    Ok(vec![Fragment::sh(Script::raw(text), vec![reads])])
}

fn seconds(args: &Args, name: &'static str, default: u64) -> Result<u64, StepError> {
    let given = args.int(name)?;
    let bad = |_| StepError::new(format!("\"{name}\" must not be negative")).arg(name);
    given.map_or(Ok(default), |n| u64::try_from(n).map_err(bad))
}

fn diff(args: &Args, answers: &[Answer], _: &Ctx) -> Result<Verdict, StepError> {
    let (test, what) = condition(args)?;
    let delay = seconds(args, "delay", 0)?;
    if output(answers, 0)?.trim() == "yes" && delay == 0 {
        return Ok(Verdict::ok());
    }
    let timeout = seconds(args, "timeout", 300)?;
    let sleep = seconds(args, "sleep", 1)?.max(1);
    let message = match args.str("msg")? {
        Some(message) => message,
        None => format!("timed out after {timeout} s waiting for {what}"),
    };
    // An absolute end, so that slow looks do not stretch the wait.
    let body = format!(
        "sleep {delay}\nend=$(( $(date +%s) + {timeout} ))\nuntil {test}; do\n\
         if [ \"$(date +%s)\" -ge \"$end\" ]; then echo {} >&2; exit 1; fi\n\
         sleep {sleep}\ndone",
        quote(&message)
    );
    let connect = seconds(args, "connect_timeout", 5)?;
    let label = format!("wait for {what}");
    let command = Command::new(label.clone(), own_shell(&body))
        .deadline(delay + timeout + sleep + connect + 15);
    Ok(Verdict::Wait(Change { summary: label, commands: vec![command], ..Change::default() }))
}

fn pause(args: &Args, _: &[Answer], _: &Ctx) -> Result<Verdict, StepError> {
    let total = seconds(args, "seconds", 0)? + 60 * seconds(args, "minutes", 0)?;
    if args.get("seconds").is_none() && args.get("minutes").is_none() {
        let error = StepError::new("one of \"seconds\" and \"minutes\" is required");
        return Err(error.hint("pause does not ask questions"));
    }
    let command = Command::argv(&["sleep", &total.to_string()]).deadline(total + 30);
    let summary = format!("pause {total} s");
    Ok(Verdict::Wait(Change { summary, commands: vec![command], ..Change::default() }))
}

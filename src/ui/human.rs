//! Events as lines of text. Pure: no colour, no width, no clock; `terminal` adds those.

use similar::TextDiff;

use crate::event::{Detail, Event, HostRecap, Kind, Status};
use crate::step::Diff;

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Changes, failures, notices, the recap.
    Normal,
    /// `-v`: also what was already right or skipped, connections and round trips.
    Verbose,
    /// `-vv`: also registered results and output.
    Debug,
}

/// Diffs longer than this are cut in a run that was not asked for diffs.
const DIFF_LINES_MAX: usize = 40;

/// The lines that an event is worth.
#[must_use]
pub fn event_lines(event: &Event, verbosity: Verbosity, all_diffs: bool) -> Vec<String> {
    let host = event.host.as_ref().map(|h| h.0.as_str()).unwrap_or_default();
    let verbose = verbosity >= Verbosity::Verbose;
    match &event.kind {
        Kind::RunStarted { command, hosts } => {
            vec![format!("{command}: {} ({})", event.message, count(*hosts, "host"))]
        }
        Kind::Connected { seconds } if verbose => {
            vec![format!("  {host}  connected in {seconds:.2} s")]
        }
        Kind::Gathered { seconds, questions } if verbose => vec![format!(
            "  {host}  {} answered {seconds:.2} s after dialling",
            count(*questions, "question")
        )],
        Kind::Unreachable { hint } => {
            let mut lines = vec![format!("  {host}  unreachable: {}", event.message)];
            lines.extend(hint.iter().map(|h| format!("      hint: {h}")));
            lines
        }
        Kind::PlayStarted { hosts } => {
            let play = event.play.as_deref().unwrap_or_default();
            vec![format!("{play} ({})", count(*hosts, "host"))]
        }
        Kind::TaskDone { status, seconds, detail } => {
            task_lines(event, host, *status, *seconds, detail, verbosity, all_diffs)
        }
        Kind::Notice if host.is_empty() => vec![format!("  {}", event.message)],
        Kind::Notice => vec![format!("  note  {host}  {}", event.message)],
        Kind::Operation { .. } => vec![event.message.clone()],
        Kind::Decided { data } => {
            let mut lines = vec![event.message.clone()];
            let evidence = data["evidence"].as_array().into_iter().flatten();
            lines.extend(evidence.filter_map(|e| Some(format!("    {}", e.as_str()?))));
            lines
        }
        Kind::Refused { code, hint } => {
            let mut lines = vec![format!("refused ({code}): {}", event.message)];
            lines.extend(hint.iter().map(|h| format!("  hint: {h}")));
            lines
        }
        Kind::Recap { hosts, seconds } => recap_lines(hosts, *seconds, verbosity),
        _ => Vec::new(),
    }
}

fn task_lines(
    event: &Event,
    host: &str,
    status: Status,
    seconds: f64,
    detail: &Detail,
    verbosity: Verbosity,
    all_diffs: bool,
) -> Vec<String> {
    let told = event.message.is_empty();
    let quiet = match status {
        Status::Ok => told,
        Status::Skipped => true,
        _ => false,
    };
    if quiet && verbosity < Verbosity::Verbose {
        return Vec::new();
    }
    let task = event.task.as_deref().unwrap_or_default();
    let mut line = format!("  {host}  {:<8} {task}", status.word());
    if !event.message.is_empty() {
        line.push_str(&format!(": {}", first_line(&event.message)));
    }
    if seconds >= 1.0 {
        line.push_str(&format!(" ({seconds:.1} s)"));
    }
    let mut lines = vec![line];
    let deep = |text: &str| format!("      {text}");
    lines.extend(event.message.lines().skip(1).map(deep));
    if matches!(status, Status::Changed | Status::Pending) {
        // What is new is told by the line itself; a whole new file would only hide the rest.
        let shown: Vec<Diff> = detail
            .diffs
            .iter()
            .filter(|d| {
                let (Diff::Text { before, .. } | Diff::Value { before, .. }) = d;
                all_diffs || before.as_ref().is_some_and(|b| b != "absent" && b != "unset")
            })
            .cloned()
            .collect();
        let cut = if all_diffs { usize::MAX } else { DIFF_LINES_MAX };
        lines.extend(diff_lines(&shown, cut).iter().map(|l| deep(l)));
    }
    if matches!(status, Status::Failed | Status::Ignored | Status::Unknown) {
        lines.extend(failure_lines(event, detail).iter().map(|l| deep(l)));
    }
    if verbosity >= Verbosity::Debug && !detail.result.is_empty() {
        let text = serde_json::to_string(&detail.result).unwrap_or_default();
        lines.push(deep(&text));
    }
    lines
}

fn failure_lines(event: &Event, detail: &Detail) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(event.place.iter().map(|p| format!("at {p}")));
    lines.extend(detail.command.iter().map(|c| format!("command: {c}")));
    for (name, text) in [("stderr", &detail.stderr_tail), ("stdout", &detail.stdout_tail)] {
        let all: Vec<&str> = text.lines().collect();
        let tail = &all[all.len().saturating_sub(20)..];
        lines.extend(tail.iter().map(|l| format!("{name}: {l}")));
    }
    lines.extend(detail.hint.iter().map(|h| format!("hint: {h}")));
    lines
}

/// Diffs as lines: `~ name: before -> after` for values, unified for texts.
#[must_use]
pub fn diff_lines(diffs: &[Diff], max: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for diff in diffs {
        match diff {
            Diff::Value { name, before, after, note } => {
                let note = note.as_ref().map_or(String::new(), |n| format!("  [{n}]"));
                lines.push(match (before, after) {
                    (Some(b), Some(a)) => format!("~ {name}: {b} -> {a}{note}"),
                    (None, Some(a)) => format!("+ {name}: {a}{note}"),
                    (Some(b), None) => format!("- {name}: {b}{note}"),
                    (None, None) => format!("~ {name}{note}"),
                });
            }
            Diff::Text { path, before, after } => {
                lines.extend(text_diff(path, before.as_deref(), after.as_deref()));
            }
        }
    }
    if lines.len() > max {
        let more = lines.len() - max;
        lines.truncate(max);
        lines.push(format!("... {more} more lines (-D shows all)"));
    }
    lines
}

fn text_diff(path: &str, before: Option<&str>, after: Option<&str>) -> Vec<String> {
    let name = |text: Option<&str>| if text.is_some() { path } else { "/dev/null" };
    let diff = TextDiff::from_lines(before.unwrap_or_default(), after.unwrap_or_default());
    let mut unified = diff.unified_diff();
    let text = unified.context_radius(2).header(name(before), name(after)).to_string();
    text.lines().map(str::to_owned).collect()
}

fn recap_lines(hosts: &[HostRecap], seconds: f64, verbosity: Verbosity) -> Vec<String> {
    let sum = |f: fn(&HostRecap) -> usize| hosts.iter().map(f).sum::<usize>();
    let mut parts = vec![
        count(hosts.len(), "host"),
        format!("{} changed", sum(|h| h.changed)),
        format!("{} ok", sum(|h| h.ok)),
    ];
    for (number, word) in [
        (sum(|h| h.deferred), "known later"),
        (sum(|h| h.ignored), "ignored"),
        (sum(|h| h.failed), "failed"),
        (sum(|h| usize::from(h.unreachable)), "unreachable"),
    ] {
        if number > 0 {
            parts.push(format!("{number} {word}"));
        }
    }
    let mut lines = vec![format!("{} · {seconds:.1} s", parts.join(" · "))];
    let width = hosts.iter().map(|h| h.host.0.len()).max().unwrap_or(0);
    for host in hosts {
        let bad = host.failed > 0 || host.unreachable;
        if verbosity < Verbosity::Verbose && !bad {
            continue;
        }
        lines.push(format!(
            "  {:<width$}  changed={} ok={} skipped={} failed={} ignored={} unreachable={} \
             ssh-sessions={} round-trips={}",
            host.host.0,
            host.changed,
            host.ok,
            host.skipped,
            host.failed,
            host.ignored,
            u8::from(host.unreachable),
            host.sessions,
            host.round_trips
        ));
    }
    lines
}

pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

//! What a read-only pass found, by task with hosts put together, and the impact in one line.

use std::fmt::Write as _;

use super::human::{count, diff_lines};
use crate::runner::{Planned, Problem, Report};

/// The plan as text: one block a task in run order, what would fail, then the impact.
#[must_use]
pub fn plan_text(report: &Report) -> String {
    let planned = report.planned.as_slice();
    let mut out = String::new();
    let mut groups: Vec<(&Planned, Vec<&str>)> = Vec::new();
    for one in planned {
        let same = groups.iter_mut().find(|(first, _)| {
            first.task_id == one.task_id
                && first.task == one.task
                && first.summary == one.summary
                && first.diffs == one.diffs
        });
        match same {
            Some((_, hosts)) => hosts.push(&one.host.0),
            None => groups.push((one, vec![&one.host.0])),
        }
    }
    for (one, hosts) in &groups {
        let sign = if one.deferred.is_some() { "?" } else { "~" };
        let _ = writeln!(out, "{sign} {}  [{}]  {}", one.task, hosts.join(" "), one.summary);
        for line in diff_lines(&one.diffs, usize::MAX) {
            let _ = writeln!(out, "    {line}");
        }
    }
    out.push_str(&problem_lines(&report.problems));
    if planned.is_empty() && !report.problems.is_empty() {
        return out;
    }
    out.push_str(&impact_line(planned));
    out
}

/// What would fail, one block a problem.
fn problem_lines(problems: &[Problem]) -> String {
    let mut out = String::new();
    for problem in problems {
        let word = if problem.refused { "refuses" } else { "fails" };
        let Problem { task, host, message, hint, .. } = problem;
        let _ = writeln!(out, "! {task}  [{host}]  {word}: {message}");
        if let Some(hint) = hint {
            let _ = writeln!(out, "    hint: {hint}");
        }
    }
    out
}

fn impact_line(planned: &[Planned]) -> String {
    let changes = planned.iter().filter(|p| p.deferred.is_none()).count();
    let later = planned.len() - changes;
    if planned.is_empty() {
        return "Nothing to change.\n".to_owned();
    }
    let mut parts = vec![count(changes, "change")];
    if later > 0 {
        parts.push(format!("{later} known only after others"));
    }
    parts.push(format!("restarts: {}", planned.iter().filter(|p| p.impact.restart).count()));
    parts.push(format!("reloads: {}", planned.iter().filter(|p| p.impact.reload).count()));
    let words = |f: fn(&Planned) -> Option<&String>| -> Vec<String> {
        planned.iter().filter_map(|p| f(p).map(|t| format!("{} ({})", t, p.host))).collect()
    };
    let roles = words(|p| p.impact.role_change.as_ref());
    let destroyed = words(|p| p.impact.destroys.as_ref());
    let list = |items: Vec<String>| {
        if items.is_empty() { "none".to_owned() } else { items.join(", ") }
    };
    parts.push(format!("role changes: {}", list(roles)));
    parts.push(format!("data destroyed: {}", list(destroyed)));
    format!("{}\n", parts.join(" · "))
}

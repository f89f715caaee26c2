//! What a playbook has: listed, and checked before any host is touched.

use super::args::RunArgs;
use super::error::CliError;
use super::load::Prepared;
use crate::inventory::{Inventory, LiveRoles, match_hosts, uses_live_roles};
use crate::model::{Exit, HostName};
use crate::plan::Choice;
use crate::playbook::{Playbook, segments, walk};
use crate::syntax::lower::did_you_mean;
use crate::ui::Printer;

/// `--list-tasks`.
pub(super) fn tasks(playbook: &Playbook, choice: &Choice) -> Exit {
    for play in &playbook.plays {
        let mut lines = String::new();
        for (around, task) in walk(&play.tasks, &[&play.common]) {
            if !choice.allows(&around, task) {
                continue;
            }
            let all = around.iter().flat_map(|c| &c.tags).chain(&task.common.tags);
            let tags: Vec<&str> = all.map(String::as_str).collect();
            let shown = match tags.is_empty() {
                true => String::new(),
                false => format!("  tags: {}", tags.join(", ")),
            };
            lines.push_str(&format!("  {:<14} {}{shown}\n", task.kind.name, task.name));
        }
        if !lines.is_empty() {
            Printer.out(&format!("{} [{}]\n{lines}", play.name, play.hosts.text));
        }
    }
    Exit::Done
}

/// `--list-hosts`; live roles are known only when the hosts are looked at.
pub(super) fn hosts(prepared: &Prepared, playbook: &Playbook) -> Result<Exit, CliError> {
    for play in &playbook.plays {
        let hosts = match match_hosts(&play.hosts.text, &prepared.inventory, &LiveRoles::default())
        {
            Ok(hosts) => hosts,
            Err(error) => return Err(CliError::usage(error.to_string())),
        };
        let selected = hosts.iter().filter(|host| prepared.hosts().contains(host));
        let names: Vec<&str> = selected.map(HostName::as_str).collect();
        let names = if uses_live_roles(&play.hosts.text) {
            format!("by role: {}", play.hosts.text)
        } else {
            names.join(" ")
        };
        Printer.out(&format!("{}: {names}\n", play.name));
    }
    Ok(Exit::Done)
}

/// Patterns that name unknown hosts, and operations without an end, are found before any host is touched.
pub(super) fn check_patterns(inventory: &Inventory, playbook: &Playbook) -> Result<(), CliError> {
    let mut complaints = Vec::new();
    for play in &playbook.plays {
        if let Err(error) = match_hosts(&play.hosts.text, inventory, &LiveRoles::default()) {
            let complaint = crate::syntax::Diagnostic::error(&play.hosts.span, error.to_string());
            complaints.push(complaint.hint(error.hint));
        }
    }
    complaints.extend(segments(&playbook.plays).err().map(|complaint| *complaint));
    if complaints.is_empty() { Ok(()) } else { Err(CliError::diagnostics(&complaints)) }
}

/// The tasks that the options name. A task or a tag that is not there would make the run an empty
/// one that looks like a success.
pub(super) fn choice(playbook: &Playbook, run: &RunArgs) -> Result<Choice, CliError> {
    let mut names = Vec::new();
    let mut tags = vec!["all", "always", "never", "tagged", "untagged"];
    for (around, task) in playbook.walk() {
        names.push(task.name.as_str());
        let all = around.into_iter().flat_map(|c| &c.tags).chain(&task.common.tags);
        tags.extend(all.map(String::as_str));
    }
    tags.sort_unstable();
    tags.dedup();
    let unknown = |what: &str, word: &str, known: &[&str]| {
        let error = CliError::usage(format!("no task has the {what} \"{word}\""));
        match did_you_mean(word, known.iter().copied()) {
            Some(near) => error.hint(format!("did you mean \"{near}\"?")),
            None => error.hint("--list-tasks shows names and tags"),
        }
    };
    let start_at = run.start_at_task.as_deref();
    if let Some(name) = start_at.filter(|n| !names.contains(n)) {
        return Err(unknown("name", name, &names));
    }
    if let Some(tag) = run.tags.iter().find(|t| !tags.contains(&t.as_str())) {
        return Err(unknown("tag", tag, &tags));
    }
    Choice::new(playbook, &run.tags, &run.skip_tags, start_at).ok_or_else(|| {
        CliError::usage("the tags leave out the task of --start-at-task")
            .hint("--list-tasks shows what they choose")
    })
}

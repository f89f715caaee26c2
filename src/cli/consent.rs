//! The yes that a run needs: from the command line, from a person, or not at all.

use std::io::IsTerminal as _;
use std::sync::atomic::Ordering;

use super::apply::{Gate, ended};
use super::args::Common;
use crate::event::{Event, Kind};
use crate::model::Exit;
use crate::runner::{Planned, Report, Runner};
use crate::step::{Options, PENDING_RESTART};
use crate::ui::{Printer, plan_text};

/// Whether a run goes on, and with what.
pub(super) enum Consent {
    Go(Options),
    /// It does not; everything is told.
    Stop(Exit),
}

/// Asks where a person can answer, refuses where nobody can and it matters, else goes on. A plan
/// that was saved is its own answer to a person's question.
pub(super) async fn consent(
    common: &Common,
    runner: &Runner,
    options: &Options,
    gate: &Gate,
    saved: bool,
) -> Consent {
    if common.yes {
        runner.consented.store(true, Ordering::Relaxed);
        return Consent::Go(options.clone());
    }
    gate.open.store(false, Ordering::Relaxed);
    let report = runner.pass(&Options { check: true, ..options.clone() }).await;
    gate.open.store(true, Ordering::Relaxed);
    if runner.interrupted() {
        return Consent::Stop(ended(runner, Exit::Interrupted));
    }
    let person = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if person {
        return ask_person(runner, options, &report, saved).await;
    }
    let Some(first) = report.planned.iter().find(|p| p.impact.needs_consent()) else {
        return Consent::Go(options.clone());
    };
    let why = format!("this run needs a yes: {}", weighty(first));
    let hint = "run it with -y, or look at `pgorch plan` first".to_owned();
    let kind = Kind::Refused { code: "consent_needed".to_owned(), hint: Some(hint) };
    runner.sink.emit(&Event::run(kind, why));
    Consent::Stop(ended(runner, Exit::Refused))
}

/// The change that the yes is for, in words.
fn weighty(planned: &Planned) -> String {
    let Planned { task, host, impact, summary, .. } = planned;
    let what = match (&impact.destroys, &impact.role_change) {
        (Some(gone), _) => format!("destroys {gone}"),
        (None, Some(role)) => role.clone(),
        (None, None) if impact.restart => "restarts a running server".to_owned(),
        (None, None) => summary.clone(),
    };
    format!("\"{task}\" on {host} {what}")
}

async fn ask_person(runner: &Runner, options: &Options, report: &Report, saved: bool) -> Consent {
    let mut options = options.clone();
    if saved {
        runner.consented.store(true, Ordering::Relaxed);
        return Consent::Go(options);
    }
    if !report.planned.is_empty() {
        Printer.err(&runner.vars.redactor.mask(&plan_text(report)));
        match answer(runner, "Apply these changes? [yes/no] ").await {
            Some(true) => runner.consented.store(true, Ordering::Relaxed),
            Some(false) => {
                Printer.err("nothing was changed\n");
                return Consent::Stop(ended(runner, Exit::Refused));
            }
            None => return Consent::Stop(ended(runner, Exit::Interrupted)),
        }
    }
    let owed = owed(runner, &options, report);
    if owed.is_empty() {
        return Consent::Go(options);
    }
    Printer.err(&runner.vars.redactor.mask(&owed.concat()));
    let question = "Restart for this, standbys first, the primary last? [yes/no] ";
    match answer(runner, question).await {
        Some(yes) => options.restart = yes,
        None => return Consent::Stop(ended(runner, Exit::Interrupted)),
    }
    if options.restart {
        runner.consented.store(true, Ordering::Relaxed);
    }
    Consent::Go(options)
}

/// The restarts that are owed and that this playbook could make, as lines.
fn owed(runner: &Runner, options: &Options, report: &Report) -> Vec<String> {
    let restarts = runner.playbook.tasks().iter().any(|t| t.kind.name == "restart");
    if options.restart || !restarts {
        return Vec::new();
    }
    let owed = report.notices.iter().filter(|(_, text)| text.starts_with(PENDING_RESTART));
    owed.map(|(host, text)| format!("  note  {host}  {text}\n")).collect()
}

/// What came of a question about one operation.
pub(super) enum Answer {
    Yes,
    No,
    Interrupted,
    /// There is no terminal to ask at.
    Nobody,
}

/// Asks a person, where there is one.
pub(super) async fn yes(runner: &Runner, question: &str) -> Answer {
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Answer::Nobody;
    }
    match answer(runner, question).await {
        Some(true) => Answer::Yes,
        Some(false) => {
            Printer.err("nothing was changed\n");
            Answer::No
        }
        None => Answer::Interrupted,
    }
}

/// A person's answer; `None` for Ctrl-C.
async fn answer(runner: &Runner, question: &str) -> Option<bool> {
    Printer.err(question);
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        let read = std::io::stdin().read_line(&mut line);
        read.is_ok() && matches!(line.trim(), "yes" | "y")
    });
    let mut interrupt = runner.interrupt.clone();
    tokio::select! {
        yes = read => Some(yes.unwrap_or(false)),
        Ok(_) = interrupt.wait_for(|count| *count > 0) => {
            Printer.err("\n");
            None
        }
    }
}

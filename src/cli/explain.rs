//! `pgorch explain`: what a code means.

use std::fmt::Write as _;

use super::error::CliError;
use crate::model::{Exit, NoticeKind};
use crate::operation::{FAILOVER_CODES, PRECONDITIONS};
use crate::syntax::lower::did_you_mean;
use crate::topology::{self, FINDINGS, REFUSALS};
use crate::ui::Printer;
use crate::watch::{Finding, FindingText, MORE_RULES, Minor, RULES, WATCH_CODES};

pub(super) fn explain(code: Option<&str>) -> Result<Exit, CliError> {
    let Some(code) = code else {
        Printer.out(&all());
        return Ok(Exit::Done);
    };
    if code == "exit-codes" {
        Printer.out(&exit_codes());
        return Ok(Exit::Done);
    }
    let wanted = code.replace('-', "_").to_lowercase();
    if let Some(finding) = topology::explain(&wanted) {
        Printer.out(&format!("{} ({})\n\n{}\n", finding.code, finding.sentence, finding.explain));
        return Ok(Exit::Done);
    }
    if let Some(text) = of_watch().into_iter().find(|t| t.code == wanted) {
        Printer.out(&format!("{} ({})\n\n{}\n", text.code, text.sentence, text.explain));
        return Ok(Exit::Done);
    }
    if let Some(rule) = RULES.iter().find(|r| r.name.replace('-', "_") == wanted) {
        let (name, does, because) = (rule.name, rule.reaction.word(), rule.because);
        Printer.out(&format!("{name} (a rule of the watch)\n\nDoes: {does}. Because {because}.\n"));
        return Ok(Exit::Done);
    }
    if let Some((name, does, because)) =
        MORE_RULES.iter().find(|(name, ..)| name.replace('-', "_") == wanted)
    {
        Printer.out(&format!("{name} (a rule of the watch)\n\nDoes: {does}. Because {because}.\n"));
        return Ok(Exit::Done);
    }
    if let Some((_, word, severity, sentence)) = NoticeKind::TABLE.iter().find(|r| r.1 == wanted) {
        Printer.out(&format!("{word} (a notification, {severity})\n\nIt says: {sentence}.\n"));
        return Ok(Exit::Done);
    }
    let of_operations = || PRECONDITIONS.iter().chain(FAILOVER_CODES).chain(WATCH_CODES);
    if let Some((code, text)) = of_operations().find(|(code, _)| *code == wanted) {
        Printer.out(&format!("{code}\n\n{text}\n"));
        return Ok(Exit::Done);
    }
    let by_number = Exit::TABLE
        .iter()
        .find(|(e, name, _)| e.code().to_string() == code || name.replace('-', "_") == wanted);
    if let Some((exit, name, sentence)) = by_number {
        Printer.out(&format!("exit code {} ({name}): {sentence}\n", exit.code()));
        return Ok(Exit::Done);
    }
    let known = FINDINGS.iter().chain(REFUSALS).map(|f| f.code);
    let known = known.chain(of_operations().map(|(code, _)| *code));
    let known = known.chain(of_watch().into_iter().map(|t| t.code));
    let known = known.chain(RULES.iter().map(|r| r.name));
    let known = known.chain(MORE_RULES.iter().map(|r| r.0));
    let known = known.chain(NoticeKind::TABLE.iter().map(|r| r.1));
    let known = known.chain(Exit::TABLE.iter().map(|(_, n, _)| *n));
    let error = CliError::usage(format!("no code \"{code}\""));
    Err(match did_you_mean(&wanted, known) {
        Some(near) => error.hint(format!("did you mean \"{near}\"?")),
        None => error.hint("`pgorch explain` lists all codes"),
    })
}

/// The findings of the watch that `status` does not know under the same name.
fn of_watch() -> Vec<FindingText> {
    let main = Finding::ALL.into_iter().map(Finding::text);
    main.chain(Minor::ALL.into_iter().map(Minor::text)).collect()
}

fn all() -> String {
    let mut out = String::from("Findings:\n");
    let width = FINDINGS.iter().chain(REFUSALS).map(|f| f.code.len()).max().unwrap_or(0);
    for finding in FINDINGS {
        let _ = writeln!(out, "  {:<width$}  {}", finding.code, finding.sentence);
    }
    out.push_str("\nRefusals:\n");
    for refusal in REFUSALS {
        let _ = writeln!(out, "  {:<width$}  {}", refusal.code, refusal.sentence);
    }
    out.push_str("\nPreconditions and refusals of operations:\n");
    for (code, text) in PRECONDITIONS.iter().chain(FAILOVER_CODES).chain(WATCH_CODES) {
        let sentence = text.split_once(": ").map_or(*text, |(first, _)| first);
        let sentence = sentence.split_once(". ").map_or(sentence, |(first, _)| first);
        let _ = writeln!(out, "  {code:<width$}  {}", sentence.trim_end_matches('.'));
    }
    out.push_str("\nFindings of the watch:\n");
    for text in of_watch() {
        let _ = writeln!(out, "  {:<width$}  {}", text.code, text.sentence);
    }
    out.push_str("\nRules of the watch:\n");
    for rule in RULES {
        let _ = writeln!(out, "  {:<width$}  {}", rule.name, rule.because);
    }
    for (name, _, because) in MORE_RULES {
        let _ = writeln!(out, "  {name:<width$}  {because}");
    }
    out.push_str("\nNotifications of the watch:\n");
    for (_, word, _, sentence) in NoticeKind::TABLE {
        let _ = writeln!(out, "  {word:<width$}  {sentence}");
    }
    out.push('\n');
    out.push_str(&exit_codes());
    out
}

fn exit_codes() -> String {
    let mut out = String::from("Exit codes:\n");
    for (exit, name, sentence) in Exit::TABLE {
        let _ = writeln!(out, "  {:>3}  {name:<16}  {sentence}", exit.code());
    }
    out.push_str("Where several apply: 130, 2, 1, 4, 5, 3, 0 in this order.\n");
    out
}

//! The YAML library's complaints in plain words.

use std::sync::Arc;

use serde_saphyr::{Error, UserMessageFormatter};

use super::yaml::span_of;
use super::{Diagnostic, Source, Span};

/// One error of the library as a diagnostic of ours.
pub(super) fn diagnostic(source: &Arc<Source>, error: &Error) -> Diagnostic {
    let error = error.without_snippet();
    if let Error::AliasError { error, .. } = error {
        return diagnostic(source, error);
    }
    let mut span = match error.location() {
        Some(location) => span_of(source, location),
        None => Span { source: Arc::clone(source), start: 0, end: 0 },
    };
    if let Some(template) = unquoted_template(&span) {
        return Diagnostic::error(&template, "a value that starts with \"{{\" needs quotes")
            .hint("write key: \"{{ value }}\"; without quotes YAML reads a mapping here");
    }
    // Where the library names only a point, show the rest of that word.
    if span.end <= span.start {
        let rest = source.text.get(span.start..).unwrap_or_default();
        let word = rest.find(char::is_whitespace).unwrap_or(rest.len());
        span.end = span.start + word;
    }
    let (message, hint) = words(error);
    let diagnostic = Diagnostic::error(&span, message);
    match hint.or_else(|| hint_for_line(&span)) {
        Some(hint) => diagnostic.hint(hint),
        None => diagnostic,
    }
}

/// Message and hint for an error; the library's own sentence where it has nothing special.
fn words(error: &Error) -> (String, Option<String>) {
    let (message, hint) = match error {
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            (format!("the key \"{key}\" is given twice in this mapping"), "keep one of the two")
        }
        Error::DuplicateMappingKey { key: None, .. } => {
            ("this key is given twice in this mapping".to_owned(), "keep one of the two")
        }
        Error::Budget { breach, .. } => (budget_words(breach), ""),
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. } => (
            "the aliases of this file expand to too much".to_owned(),
            "aliases of aliases grow without bound; write the values out",
        ),
        Error::MultipleDocuments { .. } => {
            ("a second document starts here".to_owned(), "one file is one document")
        }
        Error::UnknownAnchor { .. } => {
            ("this alias has no anchor".to_owned(), "an anchor (&name) must come before its alias")
        }
        Error::RecursiveReferencesRequireWeakTypes { .. } => {
            ("this alias refers to something that contains it".to_owned(), "")
        }
        Error::MergeValueNotMapOrSeqOfMaps { .. } => {
            ("\"<<\" takes a mapping or a list of mappings".to_owned(), "")
        }
        Error::NullIntoString { .. } => ("a key must not be empty".to_owned(), ""),
        Error::Eof { .. } => ("the file ends in the middle of a value".to_owned(), ""),
        other => (library_words(other), ""),
    };
    (message, (!hint.is_empty()).then(|| hint.to_owned()))
}

fn budget_words(breach: &serde_saphyr::budget::BudgetBreach) -> String {
    use serde_saphyr::budget::BudgetBreach as B;
    let what = match breach {
        B::Depth { .. } => "is nested too deeply",
        B::Documents { .. } => return "a second document starts here".to_owned(),
        B::Aliases { .. } | B::AliasAnchorRatio { .. } | B::MergeKeys { .. } => {
            "uses too many aliases"
        }
        B::RecordedAnchorEvents { .. } | B::RecordedAnchorBytes { .. } | B::Anchors { .. } => {
            "puts too much under anchors"
        }
        _ => "is too large",
    };
    format!("this file {what}")
}

/// The library's sentence, without its place and in our form.
fn library_words(error: &Error) -> String {
    let text = error.render_with_formatter(&UserMessageFormatter);
    let text = text.lines().next().unwrap_or_default().trim_end_matches('.');
    let text = text.rsplit_once(" at line ").map_or(text, |(text, _)| text);
    let text = text
        .split_once(": line ")
        .map_or(text, |(_, rest)| rest.split_once(": ").map_or(rest, |(_, message)| message));
    format!("not valid YAML: {text}")
}

/// The place of an unquoted `{{` on the span's line, if that is what went wrong.
fn unquoted_template(span: &Span) -> Option<Span> {
    let text = &span.source.text;
    let start = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
    let line = text[start..].lines().next()?;
    let at = [": {{", "- {{"].iter().find_map(|p| line.find(p))? + 2;
    let end = line[at..].find("}}").map_or(line.len(), |n| at + n + 2);
    Some(Span { source: Arc::clone(&span.source), start: start + at, end: start + end })
}

/// Hints for the slips that make up most syntax errors.
fn hint_for_line(span: &Span) -> Option<String> {
    let text = &span.source.text;
    let start = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
    let line = text[start..].lines().next()?;
    let indent = &line[..line.len() - line.trim_start().len()];
    if indent.contains('\t') {
        return Some("indent with spaces; YAML does not allow tabs".to_owned());
    }
    if line.matches(": ").count() > 1 && !line.contains(['"', '\'', '{']) {
        return Some("text that contains \": \" needs quotes".to_owned());
    }
    None
}

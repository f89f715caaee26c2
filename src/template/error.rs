//! What went wrong in a template, and where in the user's file that is.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use minijinja::ErrorKind;

use super::paths::Move;
use crate::syntax::{Diagnostic, Source, Span};

/// The sort of an error in a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateErrorKind {
    /// A variable or attribute is missing; `name` as written, `a.b.c`.
    Undefined { name: String },
    /// The text is not a template.
    Syntax,
    /// A filter, a test or an operation refused its arguments.
    Other,
}

/// An error in a template. Its texts never hold values of variables by our doing; the redactor
/// masks what a filter of the engine may quote.
#[derive(Debug, Clone, PartialEq)]
pub struct TemplateError(Box<TemplateErrorDetails>);

/// What a [`TemplateError`] knows; boxed, since results are mostly fine.
#[derive(Debug, Clone, PartialEq)]
pub struct TemplateErrorDetails {
    pub kind: TemplateErrorKind,
    /// Lower case, no full stop.
    pub message: String,
    pub hint: Option<String>,
    /// The template's name as given to [`super::Templates::render`].
    pub template: String,
    /// Line in the template, from 1.
    pub line: Option<usize>,
    /// Byte range in the template.
    pub range: Option<Range<usize>>,
    /// The template itself, for finding the place in the file around it.
    text: String,
    /// The place in the user's file, once known.
    pub span: Option<Span>,
}

impl std::ops::Deref for TemplateError {
    type Target = TemplateErrorDetails;

    fn deref(&self) -> &TemplateErrorDetails {
        &self.0
    }
}

impl TemplateError {
    /// From the engine's error about `text`; `moves` tell how the text was rewritten before.
    pub(super) fn new(error: &minijinja::Error, name: &str, text: &str, moves: &[Move]) -> Self {
        let error = innermost(error);
        let range = error.range().map(|r| {
            let back = |offset| text.floor_char_boundary(super::paths::original(moves, offset));
            back(r.start)..back(r.end).max(back(r.start))
        });
        let range = range.map(|r| whole_path(text, r));
        let piece = range.clone().and_then(|r| text.get(r)).unwrap_or_default().trim();
        let included = error.name().is_some_and(|n| n != name && !n.starts_with('<'));
        let kind = match error.kind() {
            ErrorKind::UndefinedError => TemplateErrorKind::Undefined {
                name: piece.trim_matches(['{', '}', ' ', '-']).to_owned(),
            },
            ErrorKind::SyntaxError | ErrorKind::BadEscape | ErrorKind::InvalidDelimiter => {
                TemplateErrorKind::Syntax
            }
            _ => TemplateErrorKind::Other,
        };
        let detail = error.detail().map(str::to_owned);
        let (message, hint) = words(error.kind(), &kind, detail);
        Self(Box::new(TemplateErrorDetails {
            kind,
            message,
            hint,
            template: error.name().filter(|_| included).unwrap_or(name).to_owned(),
            line: error.line(),
            range: range.filter(|_| !included),
            text: text.to_owned(),
            span: None,
        }))
    }

    /// Names the variable, if something undefined was the cause: the engine's range is that of the
    /// operation, which may be a filter behind it. `missing` are the paths that do not exist.
    pub(super) fn naming(mut self, missing: &[String]) -> Self {
        let cause = match &self.kind {
            TemplateErrorKind::Undefined { name } => !missing.contains(name),
            _ => self.message.contains("undefined"),
        };
        let found = missing.iter().filter_map(|path| Some((self.text.find(path)?, path)));
        // The one that stands nearest before the end of the failed operation.
        let end = self.range.as_ref().map_or(self.text.len(), |r| r.end);
        let Some((at, path)) = found.filter(|(at, _)| *at < end).max() else { return self };
        if cause {
            let kind = TemplateErrorKind::Undefined { name: path.clone() };
            (self.0.message, self.0.hint) = words(ErrorKind::UndefinedError, &kind, None);
            self.0.range = Some(at..at + path.len());
            self.0.kind = kind;
        }
        self
    }

    pub(super) fn undefined(expression: &str) -> Self {
        let name = expression.trim().to_owned();
        Self(Box::new(TemplateErrorDetails {
            message: format!("\"{name}\" is undefined"),
            kind: TemplateErrorKind::Undefined { name },
            hint: None,
            template: "an expression".to_owned(),
            line: Some(1),
            range: Some(0..expression.len()),
            text: expression.to_owned(),
            span: None,
        }))
    }

    pub(super) fn not_boolean(expression: &str, found: &str, hint: &str) -> Self {
        Self(Box::new(TemplateErrorDetails {
            kind: TemplateErrorKind::Other,
            message: format!("a condition must be true or false, not {found}"),
            hint: Some(hint.to_owned()),
            template: "a condition".to_owned(),
            line: Some(1),
            range: Some(0..expression.len()),
            text: expression.to_owned(),
            span: None,
        }))
    }

    /// The same error, of an expression that starts at `start` inside `text`.
    pub(super) fn shifted(mut self, start: usize, text: &str) -> Self {
        self.0.range = self.0.range.map(|r| r.start + start..r.end + start);
        text.clone_into(&mut self.0.text);
        self
    }

    /// The same error with its place: the template is the YAML scalar at `span`.
    #[must_use]
    pub fn inside(mut self, span: &Span) -> Self {
        let place = self.range.clone().and_then(|range| locate(&self.text, range, span));
        self.0.span = Some(match place {
            Some(range) => {
                Span { source: Arc::clone(&span.source), start: range.start, end: range.end }
            }
            None => span.clone(),
        });
        self
    }

    /// The error as a diagnostic: at [`TemplateError::span`] if it has one, else into the
    /// template's own text.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        let span = self.span.clone().or_else(|| {
            let range = self.range.clone()?;
            let source = Source::new(self.template.clone(), self.text.clone());
            Some(Span { source, start: range.start, end: range.end })
        });
        let severity = crate::syntax::Severity::Error;
        Diagnostic { severity, message: self.message.clone(), span, hint: self.hint.clone() }
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.span, self.line) {
            (Some(span), _) => write!(f, "{}: {}", span.place(), self.message),
            (None, Some(line)) => write!(f, "{}:{line}: {}", self.template, self.message),
            (None, None) => write!(f, "{}: {}", self.template, self.message),
        }
    }
}

impl std::error::Error for TemplateError {}

/// The error inside an included template, which the engine wraps.
fn innermost(error: &minijinja::Error) -> &minijinja::Error {
    let inner = std::error::Error::source(error).and_then(|e| e.downcast_ref());
    match error.kind() {
        ErrorKind::BadInclude | ErrorKind::EvalBlock => inner.map_or(error, innermost),
        _ => error,
    }
}

/// The engine's range of a failed lookup starts at its dot; the path starts before.
fn whole_path(text: &str, range: Range<usize>) -> Range<usize> {
    let (Some(before), Some(piece)) = (text.get(..range.start), text.get(range.clone())) else {
        return range;
    };
    if !piece.starts_with(['.', '[']) {
        return range;
    }
    let path = |c: char| c.is_alphanumeric() || "_.[]'\"".contains(c);
    before.trim_end_matches(path).len()..range.end
}

fn words(
    engine: ErrorKind,
    kind: &TemplateErrorKind,
    detail: Option<String>,
) -> (String, Option<String>) {
    match (kind, engine, detail) {
        (TemplateErrorKind::Undefined { name }, _, _) if !name.is_empty() => {
            let hint = "set it in vars, or give it a value with \"| default(...)\"";
            (format!("\"{name}\" is undefined"), Some(hint.to_owned()))
        }
        (TemplateErrorKind::Undefined { .. }, _, detail) => {
            (detail.unwrap_or_else(|| "a variable is undefined".to_owned()), None)
        }
        (_, ErrorKind::UnknownFilter | ErrorKind::UnknownTest, Some(detail)) => {
            let word = detail.split(' ').nth(1).unwrap_or_default().to_owned();
            (format!("{engine} \"{word}\""), None)
        }
        (_, ErrorKind::UnknownFunction, Some(detail)) => {
            let word = detail.split(' ').next().unwrap_or_default();
            let hint = "nothing is read from outside here; use {secret: ...} or vars";
            let reads = ["lookup", "query", "q"].contains(&word);
            (format!("{engine} \"{word}\""), reads.then(|| hint.to_owned()))
        }
        (TemplateErrorKind::Syntax, _, Some(detail)) => (format!("bad template: {detail}"), None),
        (_, ErrorKind::OutOfFuel, _) => {
            let hint = "a loop in it is too long".to_owned();
            ("this template does not come to an end".to_owned(), Some(hint))
        }
        (_, ErrorKind::InvalidOperation, Some(detail)) => (detail, None),
        (_, engine, Some(detail)) => (format!("{engine}: {detail}"), None),
        (_, engine, None) => (engine.to_string(), None),
    }
}

/// Where the bytes `range` of a scalar's value stand in the file; `None` if that is not sure.
fn locate(text: &str, range: Range<usize>, span: &Span) -> Option<Range<usize>> {
    let raw = span.source.text.get(span.start..span.end)?;
    let quoted = raw.get(1..raw.len().saturating_sub(1)).filter(|inner| *inner == text);
    if raw == text || quoted.is_some() {
        let start = span.start + usize::from(raw != text);
        return Some(start + range.start..start + range.end);
    }
    // A folded or escaped text: the same piece, counted from the start.
    let piece = text.get(range.clone()).filter(|p| !p.is_empty() && !p.contains('\n'))?;
    let nth = text.get(..range.start)?.matches(piece).count();
    if text.matches(piece).count() != raw.matches(piece).count() {
        return None;
    }
    let (at, _) = raw.match_indices(piece).nth(nth)?;
    Some(span.start + at..span.start + at + piece.len())
}

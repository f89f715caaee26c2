//! A complaint about a user's text, and how it is shown.

use std::fmt;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};
use serde::ser::SerializeStruct as _;

use super::Span;

/// How bad it is. Only errors stop a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// One complaint: message (lower case, no full stop), the place, and what to do about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnostic {
    pub severity: Severity,
    pub message: String,
    pub span: Option<Span>,
    pub hint: Option<String>,
}

impl Diagnostic {
    #[must_use]
    pub fn error(span: &Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            span: Some(span.clone()),
            hint: None,
        }
    }

    #[must_use]
    pub fn warning(span: &Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, message) }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// All diagnostics as plain text: file, line, column, the line itself with a caret, and the hint.
#[must_use]
pub fn render(diagnostics: &[Diagnostic]) -> String {
    render_with(diagnostics, false)
}

/// The same, with ANSI colours on request.
#[must_use]
pub fn render_with(diagnostics: &[Diagnostic], colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let mut out = String::new();
    for d in diagnostics {
        let (_, level) = d.level();
        let title = level.primary_title(printable(&d.message));
        let group = match &d.span {
            Some(span) => title.element(snippet(span)),
            None => Group::with_title(title),
        };
        let group = match &d.hint {
            Some(hint) => group.element(Level::HELP.with_name("hint").message(printable(hint))),
            None => group,
        };
        out.push_str(&renderer.render(&[group]));
        out.push_str("\n\n");
    }
    out
}

/// The first line of a span, marked; a span over many lines is marked on its first only.
///
/// Only that line is handed over, because the renderer's cost grows with the text before it.
fn snippet(span: &Span) -> Snippet<'_, Annotation<'_>> {
    let text = &span.source.text;
    let start = text.floor_char_boundary(span.start);
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line = text[line_start..].split('\n').next().unwrap_or_default().trim_end_matches('\r');
    let from = (start - line_start).min(line.len());
    let to = text.floor_char_boundary(span.end).saturating_sub(line_start).clamp(from, line.len());
    Snippet::source(masked(line))
        .path(span.source.name.as_str())
        .line_start(span.line())
        .annotation(AnnotationKind::Primary.span(from..to))
}

/// A line of the user's file with the clear-text values of password-like keys as asterisks, one a
/// byte, so that offsets stay: complaints end up in logs, and passwords must not.
fn masked(line: &str) -> String {
    const KEYS: [&str; 5] = ["password", "passwd", "passphrase", "secret", "token"];
    let lower = line.to_ascii_lowercase();
    let mut out = line.to_owned();
    for (at, key) in KEYS.iter().flat_map(|key| lower.match_indices(key)) {
        let rest = &line[at + key.len()..];
        let Some(value) = rest.trim_start_matches(['"', '\'', ' ']).strip_prefix([':', '=']) else {
            continue;
        };
        let value = value.trim_start();
        let quote = value.chars().next().filter(|c| *c == '"' || *c == '\'');
        let length = match quote {
            Some(quote) => value[1..].find(quote).map_or(value.len(), |end| end + 2),
            // A reference, a vault tag or an alias is no secret.
            None if value.starts_with(['{', '[', '!', '*', '|', '>', '&']) => 0,
            None => value.find([',', '}', ']', '#']).unwrap_or(value.len()),
        };
        let start = line.len() - value.len();
        let end = start + value[..length].trim_end().len();
        out.replace_range(start..end, &"*".repeat(end - start));
    }
    out
}

/// Text without control characters: a file's content must not drive the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

impl Diagnostic {
    fn level(&self) -> (&'static str, Level<'static>) {
        match self.severity {
            Severity::Error => ("error", Level::ERROR),
            Severity::Warning => ("warning", Level::WARNING),
        }
    }
}

impl fmt::Display for Diagnostic {
    /// One line: `file:line:column: error: message (hint)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(span) = &self.span {
            write!(f, "{}: ", span.place())?;
        }
        write!(f, "{}: {}", self.level().0, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl serde::Serialize for Diagnostic {
    /// `{severity, message, file, line, column, end_line, end_column, hint}`; lines and columns
    /// count from 1, columns in characters, the end is exclusive; `null` where unknown.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let start = self.span.as_ref().map(|s| s.source.line_column(s.start));
        let end = self.span.as_ref().map(|s| s.source.line_column(s.end));
        let mut out = serializer.serialize_struct("Diagnostic", 8)?;
        out.serialize_field("severity", &self.severity)?;
        out.serialize_field("message", &self.message)?;
        out.serialize_field("file", &self.span.as_ref().map(|s| &s.source.name))?;
        out.serialize_field("line", &start.map(|p| p.0))?;
        out.serialize_field("column", &start.map(|p| p.1))?;
        out.serialize_field("end_line", &end.map(|p| p.0))?;
        out.serialize_field("end_column", &end.map(|p| p.1))?;
        out.serialize_field("hint", &self.hint)?;
        out.end()
    }
}

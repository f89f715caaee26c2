//! Text with positions: sources, spans, the spanned YAML tree and the diagnostics that point into it.
//!
//! No file is opened here; text comes in as a value. `yaml` is the only module that knows which
//! YAML library is used.

mod diagnostic;
pub mod lower;
mod node;
pub mod quantity;
pub mod yaml;
mod yaml_error;

pub use diagnostic::{Diagnostic, Severity, render, render_with};
pub use node::{Entry, Node, NodeKind};

use std::sync::Arc;

/// A named text: a file's path as the user wrote it, and its contents.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    pub name: String,
    pub text: String,
}

impl Source {
    #[must_use]
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Source { name: name.into(), text: text.into() })
    }

    /// Line and column of a byte offset, both from 1, the column in characters.
    #[must_use]
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let before = &self.text[..self.text.floor_char_boundary(offset)];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        (line, column)
    }
}

/// A byte range in one source.
#[derive(Debug, Clone)]
pub struct Span {
    pub source: Arc<Source>,
    pub start: usize,
    pub end: usize,
}

impl Span {
    /// `file:line:column`, as editors and compilers print it.
    #[must_use]
    pub fn place(&self) -> String {
        let (line, column) = self.source.line_column(self.start);
        format!("{}:{line}:{column}", self.source.name)
    }

    /// The line number, from 1.
    #[must_use]
    pub fn line(&self) -> usize {
        self.source.line_column(self.start).0
    }
}

impl PartialEq for Span {
    /// Spans are places, not content: two parses of the same text give equal trees.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

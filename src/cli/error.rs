//! An error that ends a command: what, why, what to do, and the exit code.

use crate::model::Exit;
use crate::syntax::{Diagnostic, render};

#[derive(Debug)]
pub(super) struct CliError {
    pub(super) exit: Exit,
    message: String,
    hint: Option<String>,
}

impl CliError {
    fn new(exit: Exit, message: impl Into<String>) -> Self {
        CliError { exit, message: message.into(), hint: None }
    }

    /// Bad usage or a bad input file.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self::new(Exit::Refused, message)
    }

    pub(super) fn unreachable(message: impl Into<String>) -> Self {
        Self::new(Exit::Unreachable, message)
    }

    /// Ctrl-C, where nothing but looking was under way.
    pub(super) fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "interrupted")
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// All complaints about input files.
    pub(super) fn diagnostics(diagnostics: &[Diagnostic]) -> Self {
        Self::new(Exit::Usage, render(diagnostics).trim_end().to_owned())
    }

    pub(super) fn text(&self) -> String {
        let prefix = if self.message.starts_with("error") || self.message.starts_with("warning") {
            ""
        } else {
            "error: "
        };
        let hint = self.hint.as_ref().map_or(String::new(), |h| format!("  hint: {h}\n"));
        format!("{prefix}{}\n{hint}", self.message)
    }
}

//! The single place where kinds render templates and evaluate expressions.

use super::{Ctx, StepError};
use crate::model::Value;
use crate::template::TemplateError;

/// Renders a whole template file with the task's variables. An error names the file's line.
pub(super) fn render(name: &str, text: &str, ctx: &Ctx) -> Result<String, StepError> {
    ctx.templates.render(name, text, ctx.vars).map_err(|error| {
        let place = error.diagnostic().span.map(|span| span.place());
        let mut failed = failed(&error);
        if let Some(place) = place {
            failed.message = format!("{place}: {}", error.message);
        }
        failed
    })
}

/// The value of an expression (`debug: var`).
pub(super) fn eval(expression: &str, ctx: &Ctx) -> Result<Value, StepError> {
    ctx.templates.eval(expression, ctx.vars).map_err(|e| failed(&e))
}

/// Whether a condition holds (`assert: that`).
pub(super) fn truth(expression: &str, ctx: &Ctx) -> Result<bool, StepError> {
    ctx.templates.truth(expression, ctx.vars).map_err(|e| failed(&e))
}

fn failed(error: &TemplateError) -> StepError {
    let failed = StepError::new(error.to_string());
    match &error.hint {
        Some(hint) => failed.hint(hint),
        None => failed,
    }
}

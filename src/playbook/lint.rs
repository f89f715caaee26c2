//! Syntax of expressions and templates, checked before any host is asked.

use super::{Common, Playbook, Task, Text, segments, walk};
use crate::step::ArgKind;
use crate::syntax::{Diagnostic, Node, NodeKind};
use crate::template::{TemplateError, Templates};

/// Every expression and template of a playbook that cannot be read, and an operation without an end, at
/// its place.
#[must_use]
pub fn lint(playbook: &Playbook) -> Vec<Diagnostic> {
    let mut lint = Lint { templates: Templates::new(), out: Vec::new() };
    for play in &playbook.plays {
        lint.common(&play.common);
        let mut seen: Vec<*const Common> = vec![&raw const play.common];
        for (around, task) in walk(&play.tasks, &[&play.common]) {
            for common in around {
                if !seen.contains(&std::ptr::from_ref(common)) {
                    seen.push(common);
                    lint.common(common);
                }
            }
            lint.task(task);
        }
        play.handlers.iter().for_each(|handler| lint.task(handler));
    }
    lint.out.extend(segments(&playbook.plays).err().map(|complaint| *complaint));
    lint.out
}

struct Lint {
    templates: Templates,
    out: Vec<Diagnostic>,
}

impl Lint {
    fn task(&mut self, task: &Task) {
        self.common(&task.common);
        let conditions = [Some(&task.until), task.changed_when.as_ref(), task.failed_when.as_ref()];
        conditions.into_iter().flatten().for_each(|all| self.conditions(all));
        let is_expression = |name: &str| {
            let spec = task.kind.args.iter().find(|s| s.name == name);
            spec.is_some_and(|s| s.kind == ArgKind::Expr)
        };
        for (name, node) in &task.args {
            self.node(node, is_expression(name));
        }
        task.free_args.iter().for_each(|entry| self.node(&entry.value, false));
        let looped = task.r#loop.iter().flat_map(|l| [Some(&l.items), l.label.as_ref()]);
        let more = [task.retries.as_ref(), task.delay.as_ref()];
        looped.chain(more).flatten().for_each(|node| self.node(node, false));
    }

    fn common(&mut self, common: &Common) {
        self.conditions(&common.when);
        let nodes = [common.become_user.as_ref(), common.delegate_to.as_ref()];
        nodes.into_iter().flatten().for_each(|node| self.node(node, false));
        let entries = common.vars.iter().chain(&common.environment);
        entries.for_each(|entry| self.node(&entry.value, false));
    }

    fn conditions(&mut self, conditions: &[Text]) {
        for condition in conditions {
            let checked = self.templates.check_expression(&condition.text);
            self.complain(checked, &condition.span);
        }
    }

    fn node(&mut self, node: &Node, expression: bool) {
        match &node.kind {
            NodeKind::Str(text) => {
                let checked = match expression {
                    true => self.templates.check_expression(text),
                    false => self.templates.check("text", text),
                };
                self.complain(checked, &node.span);
            }
            NodeKind::Seq(items) => items.iter().for_each(|n| self.node(n, expression)),
            NodeKind::Map(entries) => entries.iter().for_each(|e| self.node(&e.value, expression)),
            _ => {}
        }
    }

    fn complain(&mut self, checked: Result<(), TemplateError>, span: &crate::syntax::Span) {
        if let Err(error) = checked {
            self.out.push(error.inside(span).diagnostic());
        }
    }
}

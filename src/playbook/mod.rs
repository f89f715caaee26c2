//! Plays, blocks and tasks: Ansible's form, read into types, every complaint at its place.
//!
//! A playbook is parsed with everything that it imports or includes: paths are literal, so that
//! `pgorch check` and the first probe batch see all tasks. Values stay unrendered [`Node`]s.

mod lint;
mod parse;
mod schema;
mod segments;
mod shipped;

pub use lint::lint;
pub use parse::{Loader, parse};
pub use schema::schema;
pub use segments::{Segment, segments};
pub use shipped::{SHIPPED, shipped};

use crate::step::Kind;
use crate::syntax::{Entry, Node, Span};

/// A playbook with all its imports resolved.
#[derive(Debug, Clone, Default)]
pub struct Playbook {
    pub plays: Vec<Play>,
}

/// A text of the playbook (pattern, condition, expression) that knows its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    pub text: String,
    pub span: Span,
}

/// One play: hosts and what to do there.
#[derive(Debug, Clone)]
pub struct Play {
    pub name: String,
    pub hosts: Text,
    /// Batches of hosts, one after the other; empty is all at once.
    pub serial: Vec<Serial>,
    pub vars: Vec<Entry>,
    pub common: Common,
    /// A host that fails ends the play for all.
    pub any_errors_fatal: bool,
    pub tasks: Vec<Item>,
    pub handlers: Vec<Task>,
    pub span: Span,
}

/// A batch size of `serial`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serial {
    Count(usize),
    Percent(usize),
}

/// What plays, blocks and tasks have in common and pass on to what is inside.
#[derive(Debug, Clone, Default)]
pub struct Common {
    pub r#become: Option<bool>,
    pub become_user: Option<Node>,
    pub when: Vec<Text>,
    pub tags: Vec<String>,
    pub vars: Vec<Entry>,
    pub environment: Vec<Entry>,
    pub delegate_to: Option<Node>,
    pub ignore_errors: Option<bool>,
    pub no_log: Option<bool>,
    pub run_once: Option<bool>,
}

/// One entry of a task list.
#[derive(Debug, Clone)]
pub enum Item {
    Task(Box<Task>),
    Block(Box<Block>),
}

/// `block:` with `rescue:` and `always:`; an included file is a block too.
#[derive(Debug, Clone)]
pub struct Block {
    pub name: Option<String>,
    pub common: Common,
    /// `include_tasks` with `loop`: the whole block once per item.
    pub r#loop: Option<Loop>,
    pub block: Vec<Item>,
    pub rescue: Vec<Item>,
    pub always: Vec<Item>,
}

/// One task.
#[derive(Clone)]
pub struct Task {
    /// Unique within the playbook, in reading order.
    pub id: usize,
    pub name: String,
    pub kind: &'static Kind,
    /// Argument name (canonical) to unrendered value.
    pub args: Vec<(&'static str, Node)>,
    /// Keys of a kind that takes free keys (`set_fact`).
    pub free_args: Vec<Entry>,
    pub common: Common,
    pub r#loop: Option<Loop>,
    pub register: Option<String>,
    pub notify: Vec<String>,
    /// Other names that a handler answers to.
    pub listen: Vec<String>,
    pub until: Vec<Text>,
    pub retries: Option<Node>,
    pub delay: Option<Node>,
    pub changed_when: Option<Vec<Text>>,
    pub failed_when: Option<Vec<Text>>,
    pub span: Span,
}

/// `loop:` with its `loop_control:`.
#[derive(Debug, Clone)]
pub struct Loop {
    pub items: Node,
    pub var: String,
    pub index_var: Option<String>,
    pub label: Option<Node>,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Task({} {})", self.kind.name, self.name)
    }
}

impl Playbook {
    /// All tasks in reading order, handlers of a play after its tasks.
    #[must_use]
    pub fn tasks(&self) -> Vec<&Task> {
        let mut out = Vec::new();
        for play in &self.plays {
            flatten(&play.tasks, &mut out);
            out.extend(&play.handlers);
        }
        out
    }

    /// All tasks in reading order with what surrounds them, handlers left out.
    pub fn walk(&self) -> impl Iterator<Item = (Vec<&Common>, &Task)> {
        self.plays.iter().flat_map(|play| walk(&play.tasks, &[&play.common]))
    }
}

/// All tasks of a list with what surrounds them, in reading order.
#[must_use]
pub fn walk<'a>(items: &'a [Item], around: &[&'a Common]) -> Vec<(Vec<&'a Common>, &'a Task)> {
    let mut out = Vec::new();
    for item in items {
        match item {
            Item::Task(task) => out.push((around.to_vec(), task.as_ref())),
            Item::Block(block) => {
                let mut inner = around.to_vec();
                inner.push(&block.common);
                for list in [&block.block, &block.rescue, &block.always] {
                    out.extend(walk(list, &inner));
                }
            }
        }
    }
    out
}

/// All tasks of a list in reading order, those of `rescue` and `always` included.
pub fn flatten<'a>(items: &'a [Item], out: &mut Vec<&'a Task>) {
    for item in items {
        match item {
            Item::Task(task) => out.push(task),
            Item::Block(block) => {
                for list in [&block.block, &block.rescue, &block.always] {
                    flatten(list, out);
                }
            }
        }
    }
}

//! One task on one host: skipped, unknown yet, a question, or a verdict.

use std::collections::BTreeMap;

use super::scope::{Live, LoopItem, RunVars, Scope};
use crate::facts::{NodeFacts, Snapshot};
use crate::model::{Answer, Fragment, HostName, Map, Resource, Value};
use crate::playbook::{Common, Loop, Task, Text};
use crate::step::{ArgKind, Args, Ctx, Options, StepError, Verdict};
use crate::syntax::{Entry, Node, NodeKind, Span};
use crate::template::{OMIT, TemplateError, Vars};

/// Everything that a judgement looks at. `host` differs from `scope.host` where a task is delegated.
pub struct Look<'a> {
    pub run: &'a RunVars,
    pub live: &'a Live,
    pub options: &'a Options,
    pub scope: &'a Scope,
    pub task: &'a Task,
    /// Play and blocks around the task, outermost first.
    pub around: &'a [&'a Common],
    pub item: Option<&'a LoopItem>,
    pub host: &'a HostName,
    /// Facts of the task's own host (for variables) and of the host that it runs on.
    pub own_facts: Option<&'a NodeFacts>,
    pub facts: Option<&'a NodeFacts>,
    pub snapshot: &'a Snapshot,
    pub files: &'a BTreeMap<String, Vec<u8>>,
}

/// What is known about a task on a host.
#[derive(Debug)]
pub enum Judged {
    /// Its condition is false; the condition's text.
    Skipped(String),
    /// A read-only run cannot know before this task has run.
    KnownAfter(String),
    /// These controller files are needed first.
    NeedFiles(Vec<String>),
    /// These questions must be answered first.
    Ask(Vec<Fragment>),
    /// The verdict, and what it was read from.
    Verdict(Box<Verdict>, Vec<Resource>),
    /// It cannot be done, as far as these answers say (none: whatever they say).
    Failed(StepError, Vec<Resource>),
}

/// Judges a task. `answer` looks a fragment up in the host's cache.
pub fn judge(look: &Look<'_>, answer: &dyn Fn(&Fragment) -> Option<Answer>) -> Judged {
    let vars = look.variables();
    let scope = Vars::from(&vars);
    let unknown = look.unknown_names();
    match look.condition(&scope, &unknown) {
        Ok(Condition::Holds) => {}
        Ok(Condition::False(text)) => return Judged::Skipped(text),
        Ok(Condition::KnownAfter(task)) => return Judged::KnownAfter(task),
        Err(error) => return Judged::Failed(error, Vec::new()),
    }
    if let Some(task) = look.needs_unknown(&unknown) {
        return Judged::KnownAfter(task);
    }
    let args = match look.args(&scope, false) {
        Ok(args) => args,
        Err(error) => return Judged::Failed(error, Vec::new()),
    };
    let kind = look.task.kind;
    let missing: Vec<String> =
        (kind.files)(&args).into_iter().filter(|f| !look.files.contains_key(f)).collect();
    if !missing.is_empty() {
        return Judged::NeedFiles(missing);
    }
    let ctx = look.ctx(&vars);
    let fragments = match (kind.probe)(&args, &ctx) {
        Ok(fragments) => fragments,
        Err(error) => return Judged::Failed(error, Vec::new()),
    };
    let mut answers = Vec::with_capacity(fragments.len());
    for fragment in &fragments {
        match answer(fragment) {
            Some(found) => answers.push(found),
            None => return Judged::Ask(fragments),
        }
    }
    let reads = fragments.into_iter().flat_map(|f| f.reads).collect();
    match (kind.diff)(&args, &answers, &ctx) {
        Ok(verdict) => Judged::Verdict(Box::new(verdict), reads),
        Err(error) => Judged::Failed(error, reads),
    }
}

/// The questions of a task that will be judged later, as far as they are known now. A condition
/// that cannot be evaluated yet does not hold them back: asking too much costs nothing.
#[must_use]
pub fn questions(look: &Look<'_>) -> Vec<Fragment> {
    let vars = look.variables();
    let scope = Vars::from(&vars);
    if let Ok(Condition::False(_)) = look.condition(&scope, &look.unknown_names()) {
        return Vec::new();
    }
    let Ok(args) = look.args(&scope, true) else { return Vec::new() };
    (look.task.kind.probe)(&args, &look.ctx(&vars)).unwrap_or_default()
}

/// The passes of a task's `loop`: one without an item where there is none.
///
/// # Errors
/// The loop's value is no list or names something undefined.
pub fn expand_loop(
    run: &RunVars,
    r#loop: Option<&Loop>,
    vars: &Map,
) -> Result<Vec<Option<LoopItem>>, StepError> {
    let Some(spec) = r#loop else { return Ok(vec![None]) };
    let value = run.templates.render_value(&spec.items, vars).map_err(|e| from_template(&e))?;
    let values = match value {
        Value::Array(items) => items,
        Value::Null => Vec::new(),
        _ => {
            return Err(StepError::new("\"loop\" must be a list")
                .hint("a mapping becomes a list with the filter dict2items"));
        }
    };
    let item = |(index, value): (usize, Value)| {
        Some(LoopItem { var: spec.var.clone(), value, index_var: spec.index_var.clone(), index })
    };
    Ok(values.into_iter().enumerate().map(item).collect())
}

impl Look<'_> {
    /// All variables of the task.
    #[must_use]
    pub fn variables(&self) -> Map {
        let layers = self.layers();
        self.scope.variables(self.run, self.live, self.options, self.own_facts, &layers, self.item)
    }

    /// In a read-only run: the names that are not known, with the task that will tell.
    #[must_use]
    pub fn unknown_names(&self) -> BTreeMap<String, String> {
        self.scope.unknown_names(self.run, &self.layers())
    }

    fn layers(&self) -> Vec<&[Entry]> {
        let around = self.around.iter().map(|c| c.vars.as_slice());
        around.chain([self.task.common.vars.as_slice()]).collect()
    }

    /// Whether a condition is false already.
    #[must_use]
    pub fn is_skipped(&self) -> bool {
        let own = self.around.iter().flat_map(|c| &c.when).chain(&self.task.common.when);
        self.is_false(own)
    }

    /// Whether a condition of what surrounds the task is false already.
    #[must_use]
    pub fn is_false_around(&self) -> bool {
        self.is_false(self.around.iter().flat_map(|c| &c.when))
    }

    /// What the conditions around the task say, as far as they can be known.
    ///
    /// # Errors
    /// One of them cannot be evaluated.
    pub fn around_holds(&self) -> Result<Condition, StepError> {
        let scope = Vars::from(&self.variables());
        self.judged(self.around.iter().flat_map(|c| &c.when), &scope, &self.unknown_names())
    }

    fn is_false<'t>(&self, conditions: impl Iterator<Item = &'t Text>) -> bool {
        let scope = Vars::from(&self.variables());
        let unknown = self.unknown_names();
        matches!(self.judged(conditions, &scope, &unknown), Ok(Condition::False(_)))
    }

    fn condition(
        &self,
        scope: &Vars,
        unknown: &BTreeMap<String, String>,
    ) -> Result<Condition, StepError> {
        let own = self.around.iter().flat_map(|c| &c.when).chain(&self.task.common.when);
        self.judged(own, scope, unknown)
    }

    /// All conditions together. One that is false says more than one that is not known yet.
    fn judged<'t>(
        &self,
        conditions: impl Iterator<Item = &'t Text>,
        scope: &Vars,
        unknown: &BTreeMap<String, String>,
    ) -> Result<Condition, StepError> {
        let templates = &self.run.templates;
        let mut waits = None;
        for when in conditions {
            let roots = || templates.roots_of_expression(&when.text);
            if !unknown.is_empty()
                && let Some(task) = roots().iter().find_map(|root| unknown.get(root))
            {
                waits.get_or_insert_with(|| task.clone());
                continue;
            }
            match templates.truth(&when.text, scope) {
                Ok(true) => {}
                Ok(false) => return Ok(Condition::False(when.text.clone())),
                // The condition before this one may be there to prevent this.
                Err(_) if waits.is_some() => break,
                Err(error) => return Err(from_template_at("when", &error, &when.span)),
            }
        }
        Ok(waits.map_or(Condition::Holds, Condition::KnownAfter))
    }

    /// The rendered arguments; for a probe only those that it needs.
    fn args(&self, scope: &Vars, probe_only: bool) -> Result<Args, StepError> {
        let mut args = Map::new();
        for (name, node) in &self.task.args {
            let spec = self.task.kind.args.iter().find(|s| s.name == *name);
            if probe_only && spec.is_some_and(|s| !s.probe) {
                continue;
            }
            // `assert: that:` and the like hold expressions, which the kind evaluates itself.
            let value = match spec.map(|s| s.kind) {
                Some(ArgKind::Expr | ArgKind::Template) => node.to_value(),
                _ => self.render(name, node, scope)?,
            };
            if spec.is_some_and(|s| s.secret) {
                learn_strings(self.run, &value);
            }
            if value.as_str() != Some(OMIT) {
                args.insert((*name).to_owned(), value);
            }
        }
        if !probe_only {
            for entry in &self.task.free_args {
                args.insert(entry.key.clone(), self.render(&entry.key, &entry.value, scope)?);
            }
        }
        Ok(Args(args))
    }

    fn render(&self, name: &str, node: &Node, scope: &Vars) -> Result<Value, StepError> {
        let value = self.run.templates.render_value(node, scope);
        value.map_err(|error| from_template_at(name, &error, &node.span))
    }

    fn ctx<'c>(&'c self, vars: &'c Map) -> Ctx<'c> {
        Ctx {
            inventory: &self.run.inventory,
            host: self.host,
            node: self.run.nodes.get(self.host),
            facts: self.facts,
            snapshot: self.snapshot,
            primary: self.live.primary.as_ref(),
            options: self.options,
            replication_password: self.live.replication_password.as_ref(),
            role_passwords: &self.run.role_passwords,
            files: self.files,
            vars,
            templates: &self.run.templates,
        }
    }

    /// In a read-only run: the task whose unknown result this one needs for what it does.
    fn needs_unknown(&self, unknown: &BTreeMap<String, String>) -> Option<String> {
        if unknown.is_empty() {
            return None;
        }
        let task = self.task;
        let is_expression = |name: &str| {
            let spec = task.kind.args.iter().find(|s| s.name == name);
            spec.is_some_and(|s| s.kind == ArgKind::Expr)
        };
        let (mut expressions, mut texts) = (Vec::new(), Vec::new());
        for (name, node) in &task.args {
            let out = if is_expression(name) { &mut expressions } else { &mut texts };
            collect_strings(node, out);
        }
        let commons = || self.around.iter().copied().chain([&task.common]);
        let free = task.free_args.iter().map(|e| &e.value);
        let looped = task.r#loop.iter().map(|l| &l.items);
        let elsewhere = commons().flat_map(|c| [c.delegate_to.as_ref(), c.become_user.as_ref()]);
        let environment = commons().flat_map(|c| &c.environment).map(|e| &e.value);
        let nodes = free.chain(looped).chain(elsewhere.flatten()).chain(environment);
        nodes.for_each(|node| collect_strings(node, &mut texts));
        let templates = &self.run.templates;
        let roots = expressions.iter().flat_map(|t| templates.roots_of_expression(t));
        let mut roots = roots.chain(texts.iter().flat_map(|t| templates.roots(t)));
        roots.find_map(|root| unknown.get(&root).cloned())
    }
}

/// What all conditions of a task say together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    Holds,
    /// The text of the one that does not.
    False(String),
    /// In a read-only run: the task that will tell.
    KnownAfter(String),
}

/// The same, with the keyword or argument and the place: the template's own, else the value's.
fn from_template_at(what: &str, error: &TemplateError, span: &Span) -> StepError {
    let place = error.span.as_ref().unwrap_or(span).place();
    let message = format!("{what}: {} (at {place})", error.message);
    StepError { message, ..from_template(error) }
}

/// The error of a template as the error of its task.
fn from_template(error: &TemplateError) -> StepError {
    let failed = StepError::new(error.to_string());
    match &error.hint {
        Some(hint) => failed.hint(hint),
        None => failed,
    }
}

fn collect_strings<'n>(node: &'n Node, out: &mut Vec<&'n str>) {
    match &node.kind {
        NodeKind::Str(text) => out.push(text),
        NodeKind::Seq(items) => items.iter().for_each(|n| collect_strings(n, out)),
        NodeKind::Map(entries) => entries.iter().for_each(|e| collect_strings(&e.value, out)),
        _ => {}
    }
}

fn learn_strings(run: &RunVars, value: &Value) {
    match value {
        Value::String(text) => run.redactor.learn(text),
        Value::Array(items) => items.iter().for_each(|v| learn_strings(run, v)),
        Value::Object(map) => map.values().for_each(|v| learn_strings(run, v)),
        _ => {}
    }
}

//! Values and templates through minijinja, with strict undefined and positions in errors.
//!
//! The language is Ansible's Jinja as far as people use it; where it differs: a value is rendered
//! once and never again, lists and mappings inside text become JSON (Ansible: Python's notation),
//! `true` is `true` (not `True`), nothing becomes empty text, and filters that read files, the
//! environment, clocks or dice do not exist. `a.b.c | default(x)` and `a.b.c is defined` work when
//! `a` or `a.b` is missing, as long as nothing but the path stands before the bar.

mod collections;
mod error;
mod filters;
mod paths;
mod postgres;
mod regexes;
mod tests;

pub use error::{TemplateError, TemplateErrorDetails, TemplateErrorKind};

use std::collections::BTreeSet;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};

use crate::model::{Map, Value};
use crate::syntax::{Node, NodeKind};

/// What `{{ x | default(omit) }}` gives where `x` is missing: [`Templates::render_value`] drops
/// entries of mappings and items of lists that have this value.
pub const OMIT: &str = "__omit_place_holder__";

/// Instructions that one rendering may execute.
const FUEL: u64 = 5_000_000;

/// The template engine with all filters and tests; made once, used from any thread.
#[derive(Debug)]
pub struct Templates {
    environment: Environment<'static>,
}

/// Variables, converted once for many renderings. Cheap to clone; `Debug` shows no value.
#[derive(Clone)]
pub struct Vars(minijinja::Value);

impl std::fmt::Debug for Vars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vars")
    }
}

impl From<&Value> for Vars {
    fn from(value: &Value) -> Self {
        Vars(minijinja::Value::from(minijinja::value::Serde(value)))
    }
}

impl From<&Map> for Vars {
    fn from(value: &Map) -> Self {
        Vars(minijinja::Value::from(minijinja::value::Serde(value)))
    }
}

impl From<&Vars> for Vars {
    fn from(vars: &Vars) -> Self {
        vars.clone()
    }
}

/// Whether a text has anything for the engine to do.
#[must_use]
pub fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%") || text.contains("{#")
}

impl Default for Templates {
    fn default() -> Self {
        Self::new()
    }
}

impl Templates {
    #[must_use]
    pub fn new() -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        // With debug on, errors print the values of variables: secrets would leak.
        environment.set_debug(false);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(64);
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .keep_trailing_newline(true)
            .build();
        if let Ok(syntax) = syntax {
            environment.set_syntax(syntax);
        }
        environment.set_formatter(|out, _, value| filters::format(out, value));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_global("omit", OMIT);
        filters::register(&mut environment);
        collections::register(&mut environment);
        regexes::register(&mut environment);
        postgres::register(&mut environment);
        tests::register(&mut environment);
        paths::register(&mut environment);
        Self { environment }
    }

    /// Makes a template known by name, for `{% include %}`, `{% import %}` and `{% extends %}`.
    ///
    /// # Errors
    /// Its syntax errors.
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), TemplateError> {
        let (rewritten, moves) = paths::rewrite(text);
        self.environment
            .add_template_owned(name.to_owned(), rewritten)
            .map_err(|e| TemplateError::new(&e, name, text, &moves))
    }

    /// Renders a text; `name` stands for it in errors (a file's path, "the name of the task").
    ///
    /// # Errors
    /// Syntax errors, missing variables, and whatever a filter refuses.
    pub fn render(
        &self,
        name: &str,
        text: &str,
        vars: impl Into<Vars>,
    ) -> Result<String, TemplateError> {
        if !is_template(text) {
            return Ok(text.to_owned());
        }
        let (rewritten, moves) = paths::rewrite(text);
        let vars = vars.into();
        let template = self
            .environment
            .template_from_named_str(name, &rewritten)
            .map_err(|e| TemplateError::new(&e, name, text, &moves))?;
        template.render(vars.0.clone()).map_err(|e| {
            let read = template.undeclared_variables(true);
            TemplateError::new(&e, name, text, &moves).naming(&self.missing(read, &vars))
        })
    }

    /// Those of the paths (`a.b`) that a template reads which do not exist.
    fn missing(&self, paths: impl IntoIterator<Item = String>, vars: &Vars) -> Vec<String> {
        let known = |path: &str| {
            let mut value = vars.0.clone();
            for step in path.split('.') {
                value = value.get_attr(step).unwrap_or_default();
            }
            let root = path.split('.').next();
            !value.is_undefined() || self.environment.globals().any(|(name, _)| Some(name) == root)
        };
        let mut missing: Vec<String> = paths.into_iter().filter(|path| !known(path)).collect();
        missing.sort();
        missing
    }

    /// The value of a tree with every text in it rendered. A text that is exactly one
    /// `{{ expression }}` keeps the expression's type. Keys are rendered too.
    ///
    /// # Errors
    /// The first error, with its place in the file.
    pub fn render_value(&self, node: &Node, vars: impl Into<Vars>) -> Result<Value, TemplateError> {
        let vars = vars.into();
        self.node(node, &vars)
    }

    fn node(&self, node: &Node, vars: &Vars) -> Result<Value, TemplateError> {
        match &node.kind {
            NodeKind::Str(text) => self.text(text, vars).map_err(|e| e.inside(&node.span)),
            NodeKind::Seq(items) => {
                let mut values = Vec::with_capacity(items.len());
                for item in items {
                    values.push(self.node(item, vars)?);
                }
                values.retain(|value| value != OMIT);
                Ok(Value::Array(values))
            }
            NodeKind::Map(entries) => {
                let mut map = Map::new();
                for entry in entries {
                    let key = self
                        .render("a key", &entry.key, vars)
                        .map_err(|e| e.inside(&entry.key_span))?;
                    let value = self.node(&entry.value, vars)?;
                    if value != OMIT {
                        map.insert(key, value);
                    }
                }
                Ok(Value::Object(map))
            }
            _ => Ok(node.to_value()),
        }
    }

    /// The value of a text that may be a template, by the rules of [`Templates::render_value`].
    ///
    /// # Errors
    /// Those of [`Templates::eval`].
    pub fn eval_text(&self, text: &str, vars: impl Into<Vars>) -> Result<Value, TemplateError> {
        self.text(text, &vars.into())
    }

    fn text(&self, text: &str, vars: &Vars) -> Result<Value, TemplateError> {
        match single_expression(text) {
            Some((expression, start)) => {
                self.eval(expression, vars).map_err(|e| e.shifted(start, text))
            }
            None => self.render("text", text, vars).map(Value::String),
        }
    }

    /// The value of an expression (without braces).
    ///
    /// # Errors
    /// Syntax errors, missing variables, and whatever a filter refuses.
    pub fn eval(&self, expression: &str, vars: impl Into<Vars>) -> Result<Value, TemplateError> {
        let (rewritten, moves) = paths::rewrite_expression(expression);
        let error =
            |e: minijinja::Error| TemplateError::new(&e, "an expression", expression, &moves);
        let compiled = self.environment.compile_expression(&rewritten).map_err(error)?;
        let vars = vars.into();
        let value = compiled.eval(vars.0.clone());
        if value.as_ref().is_ok_and(minijinja::Value::is_undefined) {
            return Err(TemplateError::undefined(expression));
        }
        value
            .and_then(|value| filters::to_json(&value))
            .map_err(|e| error(e).naming(&self.missing(compiled.undeclared_variables(true), &vars)))
    }

    /// Whether a condition holds: an expression as in `when`, braces around it are allowed.
    ///
    /// Nothing and empty values are false. As in ansible-core 2.19, other values that are no
    /// booleans are refused, since `"no"` or `"false"` would count as true.
    ///
    /// # Errors
    /// Those of [`Templates::eval`], and a value that is neither true nor false.
    pub fn truth(&self, expression: &str, vars: impl Into<Vars>) -> Result<bool, TemplateError> {
        let (bare, start) = single_expression(expression).unwrap_or((expression, 0));
        let value = self.eval(bare, vars).map_err(|e| e.shifted(start, expression))?;
        let hint = match &value {
            Value::Null => return Ok(false),
            Value::Bool(b) => return Ok(*b),
            Value::String(text) if text.is_empty() => return Ok(false),
            Value::Array(items) if items.is_empty() => return Ok(false),
            Value::Object(map) if map.is_empty() => return Ok(false),
            Value::String(_) => ("text", "add \"| bool\" or compare it with something"),
            Value::Number(_) => ("a number", "compare it: != 0"),
            Value::Array(_) => ("a list", "write: (...) | length > 0"),
            Value::Object(_) => ("a mapping", "write: (...) | length > 0"),
        };
        Err(TemplateError::not_boolean(expression, hint.0, hint.1))
    }

    /// Whether the condition in a file holds: true/false itself, an expression, or a list of
    /// conditions of which all must hold.
    ///
    /// # Errors
    /// Those of [`Templates::truth`], with the place in the file.
    pub fn truth_of(&self, node: &Node, vars: impl Into<Vars>) -> Result<bool, TemplateError> {
        let vars = vars.into();
        match &node.kind {
            NodeKind::Bool(b) => Ok(*b),
            NodeKind::Str(text) => self.truth(text, &vars).map_err(|e| e.inside(&node.span)),
            NodeKind::Seq(items) => {
                for item in items {
                    if !self.truth_of(item, &vars)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            _ => {
                let error = TemplateError::not_boolean("", node.type_name(), "write an expression");
                Err(error.inside(&node.span))
            }
        }
    }

    /// The variables that a template reads: the roots only (`a` of `a.b`), without the engine's own
    /// and those that the template itself sets. Empty for a text with syntax errors.
    #[must_use]
    pub fn roots(&self, text: &str) -> BTreeSet<String> {
        let (rewritten, _) = paths::rewrite(text);
        let template = self.environment.template_from_str(&rewritten);
        self.own(template.map(|t| t.undeclared_variables(false)).unwrap_or_default())
    }

    /// The same for all texts of a tree.
    #[must_use]
    pub fn roots_of(&self, node: &Node) -> BTreeSet<String> {
        match &node.kind {
            NodeKind::Str(text) if is_template(text) => self.roots(text),
            NodeKind::Seq(items) => items.iter().flat_map(|n| self.roots_of(n)).collect(),
            NodeKind::Map(entries) => {
                entries.iter().flat_map(|e| self.roots_of(&e.value)).collect()
            }
            _ => BTreeSet::new(),
        }
    }

    /// The same for an expression without braces, as in `when`.
    #[must_use]
    pub fn roots_of_expression(&self, expression: &str) -> BTreeSet<String> {
        let bare = single_expression(expression).map_or(expression, |(bare, _)| bare);
        let (rewritten, _) = paths::rewrite_expression(bare);
        let compiled = self.environment.compile_expression(&rewritten);
        self.own(compiled.map(|e| e.undeclared_variables(false)).unwrap_or_default())
    }

    fn own(&self, names: impl IntoIterator<Item = String>) -> BTreeSet<String> {
        let known: BTreeSet<&str> = self.environment.globals().map(|(name, _)| name).collect();
        names.into_iter().filter(|name| !known.contains(name.as_str())).collect()
    }

    /// Complains about a template's syntax without rendering it.
    ///
    /// # Errors
    /// The first syntax error.
    pub fn check(&self, name: &str, text: &str) -> Result<(), TemplateError> {
        let (rewritten, moves) = paths::rewrite(text);
        let template = self.environment.template_from_named_str(name, &rewritten);
        template.map(drop).map_err(|e| TemplateError::new(&e, name, text, &moves))
    }

    /// Complains about an expression's syntax without evaluating it.
    ///
    /// # Errors
    /// The first syntax error.
    pub fn check_expression(&self, expression: &str) -> Result<(), TemplateError> {
        let (bare, start) = single_expression(expression).unwrap_or((expression, 0));
        let (rewritten, moves) = paths::rewrite_expression(bare);
        let compiled = self.environment.compile_expression(&rewritten);
        compiled.map(drop).map_err(|e| {
            TemplateError::new(&e, "an expression", bare, &moves).shifted(start, expression)
        })
    }
}

/// The expression of a text that is exactly one `{{ expression }}`, and where it starts.
fn single_expression(text: &str) -> Option<(&str, usize)> {
    let inner = text.strip_prefix("{{")?.strip_suffix("}}")?;
    let mut start = 2;
    let mut inner = inner;
    if let Some(rest) = inner.strip_prefix(['-', '+']) {
        (inner, start) = (rest, 3);
    }
    let inner = inner.strip_suffix('-').unwrap_or(inner);
    let mut quote = None;
    let mut depth = 0_usize;
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match quote {
            Some(_) if c == '\\' => drop(chars.next()),
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == '{' => depth += 1,
            // A brace that nothing opened ends this expression: another one follows.
            None if c == '}' => depth = depth.checked_sub(1)?,
            None => {}
        }
    }
    (quote.is_none() && depth == 0).then_some((inner, start))
}

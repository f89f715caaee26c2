//! Rendered arguments of a task and their specification.

use super::StepError;
use crate::model::{Map, Value};

/// What an argument takes. `check` tests literals against it, the schema prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArgKind {
    Str,
    /// An absolute path on the host.
    Path,
    Bool,
    Int,
    /// A file mode as quoted octal text (`"0644"`) or `u=rw,go=r`; a bare number is refused.
    Mode,
    /// A list of text; a single text stands for a list of one.
    StrList,
    List,
    Map,
    /// One of these words.
    Choice(&'static [&'static str]),
    Any,
    /// Expressions, which the kind evaluates itself (`assert: that:`); not rendered before.
    Expr,
    /// The text of a template, which the kind renders itself; not rendered before.
    Template,
}

/// One argument of a kind. The name `*` stands for any name (`set_fact`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArgSpec {
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    pub kind: ArgKind,
    pub required: bool,
    /// `Kind::probe` needs it.
    pub probe: bool,
    /// Never shown: masked in output and errors.
    pub secret: bool,
    pub doc: &'static str,
}

impl ArgSpec {
    /// An optional argument that only `diff` needs.
    #[must_use]
    pub const fn new(name: &'static str, kind: ArgKind, doc: &'static str) -> Self {
        ArgSpec { name, aliases: &[], kind, required: false, probe: false, secret: false, doc }
    }

    #[must_use]
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    #[must_use]
    pub const fn probe(mut self) -> Self {
        self.probe = true;
        self
    }

    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    #[must_use]
    pub const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }
}

/// The rendered arguments, under their canonical names. Null counts as not given.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Args(pub Map);

impl Args {
    /// The value, if given and not null.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|v| !v.is_null())
    }

    /// Text; numbers are taken as their text.
    ///
    /// # Errors
    /// Another type.
    pub fn str(&self, name: &'static str) -> Result<Option<String>, StepError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(s)) => Ok(Some(s.clone())),
            Some(Value::Number(n)) => Ok(Some(n.to_string())),
            Some(other) => Err(wrong(name, "text", other)),
        }
    }

    /// Text that must be there.
    ///
    /// # Errors
    /// Missing or another type.
    pub fn need(&self, name: &'static str) -> Result<String, StepError> {
        self.str(name)?
            .ok_or_else(|| StepError::new(format!("the argument \"{name}\" is required")).arg(name))
    }

    /// True or false; the words yes/no/on/off/true/false are taken too, as Ansible does.
    ///
    /// # Errors
    /// Anything else.
    pub fn bool(&self, name: &'static str) -> Result<Option<bool>, StepError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(*b)),
            Some(Value::String(s)) => match s.to_lowercase().as_str() {
                "yes" | "on" | "true" => Ok(Some(true)),
                "no" | "off" | "false" => Ok(Some(false)),
                _ => Err(wrong(name, "true or false", &Value::String(s.clone()))),
            },
            Some(other) => Err(wrong(name, "true or false", other)),
        }
    }

    /// A whole number; text of digits is taken too.
    ///
    /// # Errors
    /// Anything else.
    pub fn int(&self, name: &'static str) -> Result<Option<i64>, StepError> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => {
                let number = match value {
                    Value::Number(n) => n.as_i64(),
                    Value::String(s) => s.parse().ok(),
                    _ => None,
                };
                number.map(Some).ok_or_else(|| wrong(name, "a whole number", value))
            }
        }
    }

    /// A list of text; one text is a list of one.
    ///
    /// # Errors
    /// Items that are no text.
    pub fn str_list(&self, name: &'static str) -> Result<Vec<String>, StepError> {
        let item = |v: &Value| match v {
            Value::String(s) => Ok(s.clone()),
            Value::Number(n) => Ok(n.to_string()),
            other => Err(wrong(name, "a list of text", other)),
        };
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => items.iter().map(item).collect(),
            Some(single) => Ok(vec![item(single)?]),
        }
    }
}

fn wrong(name: &'static str, wanted: &str, found: &Value) -> StepError {
    let kind = match found {
        Value::Null => "nothing",
        Value::Bool(_) => "true/false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    };
    StepError::new(format!("\"{name}\" must be {wanted}, not {kind}")).arg(name)
}

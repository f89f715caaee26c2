//! The catalog as a JSON Schema and as a reference in Markdown: generated, so that neither can
//! say something else than the code.

use serde_json::json;

use super::{ArgKind, ArgSpec, Kind, catalog};
use crate::model::{Map, Value};

/// Properties of a task, one per kind and alias, for `pgorch schema playbook`: a piece to put
/// beside the task's keywords. Every value may also be a template.
#[must_use]
pub fn schema() -> Value {
    let mut properties = Map::new();
    for kind in catalog() {
        let one = kind_schema(kind);
        for name in std::iter::once(&kind.name).chain(kind.aliases) {
            properties.insert((*name).to_owned(), one.clone());
        }
    }
    json!({ "type": "object", "properties": properties })
}

fn kind_schema(kind: &Kind) -> Value {
    let mut properties = Map::new();
    for arg in kind.args.iter().filter(|a| a.name != "*") {
        for name in std::iter::once(&arg.name).chain(arg.aliases) {
            properties.insert((*name).to_owned(), arg_schema(arg));
        }
    }
    let open = kind.args.iter().any(|a| a.name == "*");
    let mapping = json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": open,
    });
    // No "required": an argument may come by an alias, or from the task's `args`.
    let mut forms = vec![mapping];
    if kind.free_form.is_some() {
        forms.push(json!({ "type": "string" }));
    }
    if !kind.args.iter().any(|a| a.required) {
        forms.push(json!({ "type": "null" }));
    }
    json!({ "description": sentence(kind.summary), "anyOf": forms })
}

fn arg_schema(arg: &ArgSpec) -> Value {
    let template = json!({ "type": "string", "pattern": "\\{[{%]" });
    let text = json!({ "type": ["string", "number"] });
    let any_of = match arg.kind {
        ArgKind::Str | ArgKind::Path => return described(text, arg),
        ArgKind::Any | ArgKind::Expr | ArgKind::Template => {
            return json!({ "description": sentence(arg.doc) });
        }
        ArgKind::Bool => {
            let words = json!({ "enum": ["yes", "no", "on", "off", "true", "false"] });
            vec![json!({ "type": "boolean" }), words]
        }
        ArgKind::Int => vec![json!({ "type": "integer" })],
        ArgKind::Mode => {
            let pattern =
                "^([0-7]{3,5}|[ugoa]*[=+-][rwxXstugo=+-]*(,[ugoa]*[=+-][rwxXstugo=+-]*)*)$";
            vec![json!({ "type": "string", "pattern": pattern })]
        }
        ArgKind::StrList => vec![json!({ "type": "array", "items": text }), text],
        ArgKind::List => vec![json!({ "type": "array" })],
        ArgKind::Map => vec![json!({ "type": "object" })],
        ArgKind::Choice(words) => vec![json!({ "enum": words })],
    };
    let forms: Vec<Value> = any_of.into_iter().chain([template]).collect();
    described(json!({ "anyOf": forms }), arg)
}

fn described(mut schema: Value, arg: &ArgSpec) -> Value {
    if let Value::Object(map) = &mut schema {
        map.insert("description".into(), sentence(arg.doc).into());
    }
    schema
}

/// The reference of all kinds in Markdown.
#[must_use]
pub fn reference() -> String {
    let mut text = "# Task kinds\n".to_owned();
    for kind in catalog() {
        text.push_str(&format!("\n## {}\n\n{}\n", kind.name, sentence(kind.summary)));
        if !kind.aliases.is_empty() {
            text.push_str(&format!("\nAlso: {}.\n", code_list(kind.aliases)));
        }
        if let Some(name) = kind.free_form {
            text.push_str(&format!("\nA bare text stands for `{name}`.\n"));
        }
        if kind.args.is_empty() {
            continue;
        }
        text.push_str("\n| argument | takes | |\n|---|---|---|\n");
        for arg in kind.args {
            text.push_str(&row(arg));
        }
    }
    text
}

fn row(arg: &ArgSpec) -> String {
    let mut name = format!("`{}`", arg.name);
    if !arg.aliases.is_empty() {
        name.push_str(&format!(" ({})", code_list(arg.aliases)));
    }
    if arg.required {
        name.push_str(", required");
    }
    format!("| {name} | {} | {} |\n", takes(arg.kind), sentence(arg.doc).replace('|', "\\|"))
}

fn takes(kind: ArgKind) -> String {
    match kind {
        ArgKind::Str => "text".to_owned(),
        ArgKind::Path => "absolute path".to_owned(),
        ArgKind::Bool => "true or false".to_owned(),
        ArgKind::Int => "whole number".to_owned(),
        ArgKind::Mode => "mode".to_owned(),
        ArgKind::StrList => "list of text".to_owned(),
        ArgKind::List => "list".to_owned(),
        ArgKind::Map => "mapping".to_owned(),
        ArgKind::Choice(words) => words.join(", "),
        ArgKind::Any | ArgKind::Expr | ArgKind::Template => "anything".to_owned(),
    }
}

fn code_list(names: &[&str]) -> String {
    names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

/// A summary with a capital and a full stop, however its author began and ended it.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    // Names of things keep their case: a first word with a dot, an underscore or a digit.
    let word = text.split(' ').next().unwrap_or_default();
    let name = word.contains(|c: char| !c.is_ascii_alphabetic() && !",;:'".contains(c));
    let mut sentence: String = match chars.next() {
        Some(first) if !name => first.to_uppercase().chain(chars).collect(),
        _ => text.to_owned(),
    };
    if !sentence.is_empty() && !sentence.ends_with(['.', '!', '?']) {
        sentence.push('.');
    }
    sentence
}

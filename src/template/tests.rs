//! Tests (`x is ...`) that Ansible has and the engine lacks.

use std::cmp::Ordering;

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, Value};

use super::filters::refuse;

pub(super) fn register(environment: &mut Environment<'_>) {
    for name in ["version", "version_compare"] {
        environment.add_test(name, version);
    }
    environment.add_test("subset", |a: Value, b: Value| subset(&a, &b));
    environment.add_test("superset", |a: Value, b: Value| subset(&b, &a));
    environment.add_test("contains", |a: Value, item: Value| {
        Ok::<_, Error>(a.try_iter()?.any(|v| v == item))
    });
    environment.add_test("truthy", |v: Value| v.is_true());
    environment.add_test("falsy", |v: Value| !v.is_true());
    for name in ["failed", "failure"] {
        environment.add_test(name, |result: Value| flag(&result, "failed"));
    }
    for name in ["succeeded", "success"] {
        environment.add_test(name, |result: Value| flag(&result, "failed").map(|failed| !failed));
    }
    for name in ["changed", "change"] {
        environment.add_test(name, |result: Value| flag(&result, "changed"));
    }
    for name in ["skipped", "skip"] {
        environment.add_test(name, |result: Value| flag(&result, "skipped"));
    }
}

/// A flag of a registered result; absent is false.
fn flag(result: &Value, name: &str) -> Result<bool, Error> {
    if result.kind() != ValueKind::Map {
        return Err(refuse(format!("a registered result is wanted, not {}", result.kind())));
    }
    Ok(result.get_attr(name)?.is_true())
}

fn subset(a: &Value, b: &Value) -> Result<bool, Error> {
    let all: Vec<Value> = b.try_iter()?.collect();
    Ok(a.try_iter()?.all(|v| all.contains(&v)))
}

/// `x is version('15.2', '>=')`; the operator is `==` where it is left out.
fn version(value: Value, other: Value, operator: Option<String>) -> Result<bool, Error> {
    let order = compare(&value.to_string(), &other.to_string());
    Ok(match operator.as_deref().unwrap_or("==") {
        "==" | "=" | "eq" => order == Ordering::Equal,
        "!=" | "<>" | "ne" => order != Ordering::Equal,
        "<" | "lt" => order == Ordering::Less,
        "<=" | "le" => order != Ordering::Greater,
        ">" | "gt" => order == Ordering::Greater,
        ">=" | "ge" => order != Ordering::Less,
        other => return Err(refuse(format!("version: unknown operator \"{other}\""))),
    })
}

/// Numbers as numbers, words as words, a missing part before any other, as LooseVersion does.
fn compare(a: &str, b: &str) -> Ordering {
    fn parts(text: &str) -> Vec<(u64, String)> {
        let mut parts = Vec::new();
        let mut rest = text.trim().trim_start_matches(['v', 'V']);
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let other = rest.bytes().take_while(|b| !b.is_ascii_digit()).count();
            let (part, tail) = rest.split_at(digits.max(other));
            rest = tail;
            let word = part.trim_matches(['.', '-', '_', '+', '~']);
            if digits > 0 {
                parts.push((part.parse().unwrap_or(u64::MAX), String::new()));
            } else if !word.is_empty() {
                parts.push((0, word.to_owned()));
            }
        }
        parts
    }
    parts(a).cmp(&parts(b))
}

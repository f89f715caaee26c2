//! Filters that quote and count for PostgreSQL.

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, Value};

use super::filters::refuse;
use crate::syntax::quantity;

pub(super) fn register(environment: &mut Environment<'_>) {
    environment.add_filter("pg_ident", pg_ident);
    environment.add_filter("pg_literal", pg_literal);
    environment.add_filter("conf_value", conf_value);
    environment.add_filter("pg_bytes", pg_bytes);
    environment.add_filter("human_to_bytes", pg_bytes);
    environment.add_filter("pg_size", pg_size);
}

/// A quoted identifier (manual, 4.1.1); always quoted, so that keywords need no list.
fn pg_ident(name: String) -> Result<String, Error> {
    if name.is_empty() || name.contains('\0') {
        return Err(refuse("pg_ident: a name must not be empty"));
    }
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}

/// A literal that means the same with standard_conforming_strings on and off (manual, 4.1.2).
fn pg_literal(value: Value) -> Result<String, Error> {
    Ok(match value.kind() {
        ValueKind::None => "NULL".to_owned(),
        ValueKind::Bool => if value.is_true() { "true" } else { "false" }.to_owned(),
        ValueKind::Number => value.to_string(),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            if text.contains('\0') {
                return Err(refuse("pg_literal: a text must not contain a zero byte"));
            }
            let doubled = text.replace('\'', "''");
            match text.contains('\\') {
                true => format!("E'{}'", doubled.replace('\\', "\\\\")),
                false => format!("'{doubled}'"),
            }
        }
        other => return Err(refuse(format!("pg_literal: {other} has no literal"))),
    })
}

/// A value as postgresql.conf takes it: quotes doubled, backslashes too, because the file's
/// quoted strings know escapes (guc-file.l, `DeescapeQuotedString`).
fn conf_value(value: Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::Bool => return Ok(if value.is_true() { "on" } else { "off" }.to_owned()),
        ValueKind::Number => return Ok(value.to_string()),
        ValueKind::Seq => {
            let texts: Vec<String> = value.try_iter()?.map(|v| v.to_string()).collect();
            return conf_value(Value::from(texts.join(", ")));
        }
        ValueKind::String => {}
        other => return Err(refuse(format!("conf_value: {other} is no parameter's value"))),
    }
    let text = value.as_str().unwrap_or_default();
    if text.chars().any(char::is_control) {
        return Err(refuse("conf_value: a value is one line"));
    }
    let number = text.trim_start_matches('-');
    let is_number = number.starts_with(|c: char| c.is_ascii_digit())
        && number.chars().all(|c| c.is_ascii_alphanumeric() || c == '.');
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if is_number || is_word {
        return Ok(text.to_owned());
    }
    Ok(format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''")))
}

/// `'16GB' | pg_bytes` as a number of bytes, for arithmetic.
fn pg_bytes(value: Value) -> Result<i64, Error> {
    let bytes = match value.kind() {
        ValueKind::Number => value.as_i64(),
        _ => value.as_str().and_then(quantity::bytes).and_then(|b| i64::try_from(b).ok()),
    };
    bytes.ok_or_else(|| refuse("pg_bytes: this is no size (16MB, 1GB, 8192)"))
}

/// Bytes as the largest unit that is exact, rounded down to whole kB: `25GB`, `1536MB`.
fn pg_size(value: Value) -> Result<String, Error> {
    let number = f64::try_from(value).map_err(|_| refuse("pg_size: a number is wanted"))?;
    if !(0.0..9.0e18).contains(&number) {
        return Err(refuse("pg_size: this number is no size"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    let kilobytes = number as u64 / 1024;
    let unit = [(1_u64 << 30, "TB"), (1 << 20, "GB"), (1 << 10, "MB")]
        .into_iter()
        .find(|(factor, _)| kilobytes > 0 && kilobytes.is_multiple_of(*factor));
    Ok(match unit {
        Some((factor, unit)) => format!("{}{unit}", kilobytes / factor),
        None => format!("{kilobytes}kB"),
    })
}

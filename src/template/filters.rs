//! Output, conversion, and the filters on single values.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minijinja::value::{Kwargs, Rest, Serde, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, Value};
use sha2::Digest as _;

use crate::model;

pub(super) fn refuse(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

pub(super) fn register(environment: &mut Environment<'_>) {
    environment.add_filter("bool", to_bool);
    environment.add_filter("ternary", ternary);
    environment.add_filter("mandatory", mandatory);
    environment.add_filter("quote", |text: String| model::quote(&text));
    environment.add_filter("b64encode", |text: String| STANDARD.encode(text));
    environment.add_filter("b64decode", b64decode);
    environment.add_filter("hash", hash);
    environment.add_filter("to_json", |v: Value| json_text(&v, None));
    environment.add_filter("tojson", |v: Value| json_text(&v, None));
    environment.add_filter("to_nice_json", |v: Value| json_text(&v, Some(4)));
    environment.add_filter("to_yaml", |v: Value, _: Kwargs| yaml_text(&v));
    environment.add_filter("to_nice_yaml", |v: Value, _: Kwargs| yaml_text(&v));
    environment.add_filter("from_json", from_json);
    environment.add_filter("from_yaml", from_yaml);
    environment.add_filter("basename", |path: String| {
        path.rsplit('/').next().unwrap_or_default().to_owned()
    });
    environment.add_filter("dirname", dirname);
    environment.add_filter("type_debug", |v: Value| v.kind().to_string());
}

/// How `{{ value }}` prints inside text: nothing as empty, booleans in lower case, lists and
/// mappings as JSON.
pub(super) fn format(out: &mut Output, value: &Value) -> Result<(), Error> {
    let written = match value.kind() {
        ValueKind::Undefined => return Err(Error::from(ErrorKind::UndefinedError)),
        ValueKind::None => Ok(()),
        ValueKind::Bool => out.write_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => {
            out.write_str(&to_json(value)?.to_string())
        }
        _ => match value.as_str() {
            Some(text) => out.write_str(text),
            None => out.write_str(&value.to_string()),
        },
    };
    written.map_err(|_| Error::from(ErrorKind::WriteFailure))
}

/// A value of the engine as one of ours; undefined parts are errors, keys become text.
pub(super) fn to_json(value: &Value) -> Result<model::Value, Error> {
    match value.kind() {
        ValueKind::Undefined => Err(Error::from(ErrorKind::UndefinedError)),
        ValueKind::None => Ok(model::Value::Null),
        ValueKind::Seq | ValueKind::Iterable => value.try_iter()?.map(|v| to_json(&v)).collect(),
        ValueKind::Map => {
            let mut map = model::Map::new();
            for key in value.try_iter()? {
                map.insert(key.to_string(), to_json(&value.get_item(&key)?)?);
            }
            Ok(model::Value::Object(map))
        }
        _ => match value.as_str() {
            Some(text) => Ok(model::Value::String(text.to_owned())),
            None => serde_json::to_value(value)
                .map_err(|_| refuse(format!("{} cannot be a result", value.kind()))),
        },
    }
}

/// True and false from what people write; the engine's own takes every text that is not empty.
fn to_bool(value: Value) -> Result<bool, Error> {
    match value.kind() {
        ValueKind::Bool => return Ok(value.is_true()),
        ValueKind::None => return Ok(false),
        ValueKind::Undefined => return Err(Error::from(ErrorKind::UndefinedError)),
        ValueKind::Number => match value.as_i64() {
            Some(0) => return Ok(false),
            Some(1) => return Ok(true),
            _ => {}
        },
        ValueKind::String => {
            match value.as_str().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" | "y" | "t" => return Ok(true),
                "false" | "no" | "off" | "0" | "n" | "f" | "" => return Ok(false),
                _ => {}
            }
        }
        _ => {}
    }
    Err(refuse("bool: this is neither true nor false (true, yes, on, 1; false, no, off, 0)"))
}

fn ternary(value: Value, yes: Value, no: Value, none: Option<Value>) -> Value {
    match none {
        Some(none) if value.is_none() => none,
        _ if value.is_true() => yes,
        _ => no,
    }
}

fn mandatory(value: Value, message: Option<String>) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            message.unwrap_or_else(|| "a mandatory variable is not defined".to_owned()),
        ));
    }
    Ok(value)
}

fn b64decode(text: String) -> Result<String, Error> {
    let compact: String = text.split_whitespace().collect();
    let bytes = STANDARD.decode(compact).map_err(|_| refuse("b64decode: this is not base64"))?;
    String::from_utf8(bytes).map_err(|_| refuse("b64decode: what comes out is not text"))
}

fn hash(text: String, algorithm: Option<String>) -> Result<String, Error> {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect();
    match algorithm.as_deref().unwrap_or("sha256") {
        "sha224" => Ok(hex(&sha2::Sha224::digest(text))),
        "sha256" => Ok(hex(&sha2::Sha256::digest(text))),
        "sha384" => Ok(hex(&sha2::Sha384::digest(text))),
        "sha512" => Ok(hex(&sha2::Sha512::digest(text))),
        other => Err(refuse(format!("hash: \"{other}\" is not one of sha224 to sha512"))),
    }
}

fn json_text(value: &Value, indent: Option<usize>) -> Result<String, Error> {
    let value = to_json(value)?;
    let Some(indent) = indent else { return Ok(value.to_string()) };
    let spaces = " ".repeat(indent);
    let formatter = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
    let mut out = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    serde::Serialize::serialize(&value, &mut serializer)
        .map_err(|_| refuse("to_nice_json: this cannot be JSON"))?;
    Ok(String::from_utf8(out).unwrap_or_default())
}

fn from_json(text: String) -> Result<Value, Error> {
    let value: model::Value = serde_json::from_str(&text)
        .map_err(|e| refuse(format!("from_json: not JSON at line {}", e.line())))?;
    Ok(Value::from(Serde(value)))
}

fn from_yaml(text: String) -> Result<Value, Error> {
    let source = crate::syntax::Source::new("text", text);
    let node = crate::syntax::yaml::parse(&source).map_err(|complaints| {
        let first = complaints.first().map(|d| d.message.clone()).unwrap_or_default();
        refuse(format!("from_yaml: {first}"))
    })?;
    Ok(Value::from(Serde(node.to_value())))
}

/// As Python's `os.path.dirname`: what stands before the last slash.
fn dirname(path: String) -> String {
    let Some((directory, _)) = path.rsplit_once('/') else { return String::new() };
    let trimmed = directory.trim_end_matches('/');
    if trimmed.is_empty() { format!("{directory}/") } else { trimmed.to_owned() }
}

/// Block-style YAML, two spaces a level, texts quoted wherever they could be read otherwise.
fn yaml_text(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    write_yaml(&to_json(value)?, 0, &mut out);
    Ok(out.trim_start_matches('\n').to_owned() + "\n")
}

fn write_yaml(value: &model::Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        model::Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                out.push_str(&format!("\n{indent}{}:", yaml_scalar(key)));
                write_yaml(value, depth + 1, out);
            }
        }
        model::Value::Array(items) if !items.is_empty() => {
            for item in items {
                out.push_str(&format!("\n{indent}-"));
                let mut inner = String::new();
                write_yaml(item, depth + 1, &mut inner);
                // The first key of a mapping stands on the dash's line.
                let line = format!("\n{indent}  ");
                match inner.strip_prefix(&line) {
                    Some(rest) => out.push_str(&format!(" {rest}")),
                    None => out.push_str(&inner),
                }
            }
        }
        model::Value::String(text) => {
            let space = if depth == 0 { "" } else { " " };
            out.push_str(&format!("{space}{}", yaml_scalar(text)));
        }
        other => {
            let space = if depth == 0 { "" } else { " " };
            out.push_str(&format!("{space}{other}"));
        }
    }
}

fn yaml_scalar(text: &str) -> String {
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_')
        && text.chars().all(|c| c.is_alphanumeric() || "_-./@+ ".contains(c))
        && !text.ends_with(' ')
        && !words.contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { model::Value::from(text).to_string() }
}

/// Positional arguments as text, for filters that take any number of them.
pub(super) fn texts(arguments: &Rest<Value>) -> Result<Vec<String>, Error> {
    let text = |v: &Value| v.as_str().map(str::to_owned).ok_or_else(|| refuse("text is wanted"));
    arguments.iter().map(text).collect()
}

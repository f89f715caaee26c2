//! Regular expressions: Rust's dialect (no look-around, no back-references in patterns), with
//! Python's `\1` and `\g<name>` in replacements.

use minijinja::value::{Kwargs, Rest};
use minijinja::{Environment, Error, Value};
use regex::{Regex, RegexBuilder};

use super::filters::{refuse, texts};

pub(super) fn register(environment: &mut Environment<'_>) {
    environment.add_filter("regex_search", search);
    environment.add_filter("regex_findall", findall);
    environment.add_filter("regex_replace", replace);
    environment.add_filter("regex_escape", |text: String| regex::escape(&text));
    environment.add_test("match", |text: String, pattern: String, options: Kwargs| {
        Ok::<_, Error>(compile(&format!("^(?:{pattern})"), &options)?.is_match(&text))
    });
    environment.add_test("search", |text: String, pattern: String, options: Kwargs| {
        Ok::<_, Error>(compile(&pattern, &options)?.is_match(&text))
    });
    environment.add_test("regex", |text: String, pattern: String, options: Kwargs| {
        Ok::<_, Error>(compile(&pattern, &options)?.is_match(&text))
    });
}

fn compile(pattern: &str, options: &Kwargs) -> Result<Regex, Error> {
    let flag = |name| options.get::<Option<bool>>(name).map(|found| found.unwrap_or(false));
    let (ignore_case, multi_line) = (flag("ignorecase")?, flag("multiline")?);
    options.assert_all_used()?;
    RegexBuilder::new(pattern)
        .case_insensitive(ignore_case)
        .multi_line(multi_line)
        .size_limit(1 << 20)
        .build()
        .map_err(|e| {
            let reason = e.to_string();
            refuse(format!("bad pattern: {}", reason.lines().last().unwrap_or_default()))
        })
}

/// The match, or with group arguments (`'\\1'`, `'\\g<name>'`) the list of these; else nothing.
fn search(
    text: String,
    pattern: String,
    groups: Rest<Value>,
    options: Kwargs,
) -> Result<Value, Error> {
    let regex = compile(&pattern, &options)?;
    let Some(found) = regex.captures(&text) else { return Ok(Value::from(())) };
    if groups.is_empty() {
        return Ok(Value::from(&found[0]));
    }
    let mut values = Vec::new();
    for group in texts(&groups)? {
        let name = group.trim_start_matches("\\g").trim_matches(['\\', '<', '>']).to_owned();
        let value = match name.parse::<usize>() {
            Ok(number) => found.get(number),
            Err(_) => found.name(&name),
        };
        values.push(value.map_or(Value::from(()), |m| Value::from(m.as_str())));
    }
    Ok(Value::from(values))
}

fn findall(text: String, pattern: String, options: Kwargs) -> Result<Value, Error> {
    let regex = compile(&pattern, &options)?;
    let group = |found: &regex::Captures<'_>, n| {
        Value::from(found.get(n).map_or("", |m: regex::Match<'_>| m.as_str()))
    };
    let all = regex.captures_iter(&text).map(|found| match found.len() {
        1 => group(&found, 0),
        2 => group(&found, 1),
        more => (1..more).map(|n| group(&found, n)).collect(),
    });
    Ok(all.collect())
}

fn replace(
    text: String,
    pattern: String,
    replacement: Option<String>,
    options: Kwargs,
) -> Result<String, Error> {
    let count = options.get::<Option<usize>>("count")?.unwrap_or(0);
    let regex = compile(&pattern, &options)?;
    let replacement = from_python(&replacement.unwrap_or_default());
    Ok(regex.replacen(&text, count, replacement.as_str()).into_owned())
}

/// `\1` and `\g<name>` as `${1}` and `${name}`; a dollar sign is itself.
fn from_python(replacement: &str) -> String {
    let mut out = String::new();
    let mut rest = replacement;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let digits = after.bytes().take_while(u8::is_ascii_digit).count().min(2);
        let named = after.strip_prefix("g<").and_then(|r| r.split_once('>'));
        rest = match (c, named) {
            ('\\', Some((name, after))) => {
                out.push_str(&format!("${{{name}}}"));
                after
            }
            ('\\', None) if digits > 0 => {
                out.push_str(&format!("${{{}}}", &after[..digits]));
                &after[digits..]
            }
            ('\\', None) if after.starts_with('\\') => {
                out.push('\\');
                &after[1..]
            }
            ('$', _) => {
                out.push_str("$$");
                after
            }
            _ => {
                out.push(c);
                after
            }
        };
    }
    out
}

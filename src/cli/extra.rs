//! `-e`: variables from the command line.

use std::path::PathBuf;

use super::error::CliError;
use crate::model::{Map, Redactor, Value, split_words};
use crate::syntax::{Source, yaml};

/// The variables of all `-e`, and where they came from.
#[derive(Debug, Default)]
pub(super) struct ExtraVars {
    pub(super) vars: Map,
    /// Those of `@FILE`.
    pub(super) files: Vec<PathBuf>,
    /// Those that were written on the command line itself.
    pub(super) inline: Map,
}

/// Names that say that a value is none of a reader's business.
const SECRET_NAMES: [&str; 5] = ["password", "passwd", "secret", "token", "private_key"];

/// `NAME=VALUE` pairs are text, several in one argument too; a mapping or a file is YAML.
pub(super) fn extra_vars(arguments: &[String], redactor: &Redactor) -> Result<ExtraVars, CliError> {
    let mut extra = ExtraVars::default();
    for given in arguments {
        let vars = match given.strip_prefix('@') {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|e| CliError::usage(format!("-e @{path}: {e}")))?;
                extra.files.push(PathBuf::from(path));
                mapping(path, text)?
            }
            None => {
                let vars = match given.trim_start().starts_with('{') {
                    true => mapping("-e", given.clone())?,
                    false => pairs(given)?,
                };
                extra.inline.extend(vars.clone());
                vars
            }
        };
        extra.vars.extend(vars);
    }
    for (name, value) in &extra.vars {
        let name = name.to_lowercase();
        if SECRET_NAMES.iter().any(|word| name.contains(word))
            && let Some(text) = value.as_str()
        {
            redactor.learn(text);
        }
    }
    Ok(extra)
}

fn mapping(name: &str, text: String) -> Result<Map, CliError> {
    let node = yaml::parse(&Source::new(name, text)).map_err(|all| CliError::diagnostics(&all))?;
    match node.to_value() {
        Value::Object(map) => Ok(map),
        _ => Err(CliError::usage(format!("{name}: not a mapping"))),
    }
}

/// `a=1 b='x y'` are two variables, `a=x y` is one.
fn pairs(given: &str) -> Result<Map, CliError> {
    let pair = |word: &str| {
        let (name, value) = word.split_once('=')?;
        let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let named = !name.is_empty() && name.chars().all(good);
        named.then(|| (name.to_owned(), Value::from(value)))
    };
    let words = split_words(given).unwrap_or_default();
    let all: Option<Map> = words.iter().map(|w| pair(w)).collect();
    let one = || Some(Map::from_iter([pair(given.trim())?]));
    all.filter(|map| !map.is_empty()).or_else(one).ok_or_else(|| {
        // Not repeated here: it may be a secret.
        CliError::usage("-e: not NAME=VALUE").hint("-e name=value, -e '{\"a\": 1}' or -e @FILE")
    })
}

#[cfg(test)]
mod tests {
    use super::{Redactor, extra_vars};

    fn read(arguments: &[&str]) -> String {
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        match extra_vars(&arguments, &Redactor::default()) {
            Ok(extra) => serde_json::to_string(&extra.vars).expect("JSON"),
            Err(error) => error.text(),
        }
    }

    #[test]
    fn pairs_as_ansible_reads_them() {
        assert_eq!(read(&["a=1 b='x y'"]), r#"{"a":"1","b":"x y"}"#);
        assert_eq!(read(&["a=x y", "b="]), r#"{"a":"x y","b":""}"#);
        assert_eq!(read(&["a=b=c"]), r#"{"a":"b=c"}"#);
        assert_eq!(read(&[r#"{"a": 1}"#, "a=2"]), r#"{"a":"2"}"#);
        assert!(read(&["hunter22"]).contains("not NAME=VALUE"));
        assert!(!read(&["hunter22"]).contains("hunter22"));
    }

    #[test]
    fn what_is_called_a_password_is_masked() {
        let redactor = Redactor::default();
        extra_vars(&["db_password=hunter22 user=x".to_owned()], &redactor).expect("read");
        assert_eq!(redactor.mask("hunter22"), crate::model::MASK);
    }
}

//! Reading what probes print: lines `key=value`, and small checks that every kind shares.

use base64::Engine as _;

use super::{Args, StepError};
use crate::model::{Answer, Value};

/// The `key=value` lines of an answer. A key may come more than once.
pub(super) struct Fields<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Fields<'a> {
    /// Splits the output; lines without `=` are no fields.
    pub(super) fn new(text: &'a str) -> Self {
        Fields(text.lines().filter_map(|line| line.split_once('=')).collect())
    }

    /// The first value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&'a str> {
        self.all(key).next()
    }

    /// Every value of a key, in order.
    pub(super) fn all<'k>(&'k self, key: &'k str) -> impl Iterator<Item = &'a str> + 'k {
        self.0.iter().filter(move |(k, _)| *k == key).map(|(_, v)| *v)
    }

    /// Whether the probe printed `key=yes`.
    pub(super) fn yes(&self, key: &str) -> bool {
        self.get(key) == Some("yes")
    }

    /// A value that the probe printed as base64.
    pub(super) fn bytes(&self, key: &str) -> Result<Option<Vec<u8>>, StepError> {
        self.get(key)
            .map(|text| {
                base64::engine::general_purpose::STANDARD
                    .decode(text.trim())
                    .map_err(|_| StepError::new(format!("the host's answer is damaged ({key})")))
            })
            .transpose()
    }

    /// [`Fields::bytes`] as text.
    pub(super) fn text(&self, key: &str) -> Result<Option<String>, StepError> {
        Ok(self.bytes(key)?.map(|b| String::from_utf8_lossy(&b).into_owned()))
    }
}

/// The output of answer `index`, or why there is none.
pub(super) fn output(answers: &[Answer], index: usize) -> Result<&str, StepError> {
    let answer = answers
        .get(index)
        .ok_or_else(|| StepError::new("the host gave no answer to this task's question"))?;
    if answer.rc == 0 {
        return Ok(&answer.stdout);
    }
    let why = answer.stderr.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("no message");
    Err(StepError::new(format!("reading the host's state failed (status {}): {why}", answer.rc)))
}

/// An absolute path without a trailing slash. `~` is refused: on whose home it stands depends on
/// the user that happens to log in.
pub(super) fn absolute(name: &'static str, path: &str) -> Result<String, StepError> {
    if path.contains('\n') || path.contains('\0') {
        return Err(StepError::new(format!("\"{name}\" has a line break in it")).arg(name));
    }
    if !path.starts_with('/') {
        let error = StepError::new(format!("\"{name}\" must be an absolute path, not \"{path}\""));
        return Err(error.arg(name));
    }
    let trimmed = path.trim_end_matches('/');
    Ok(if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_owned() })
}

/// The required path argument `name`, absolute.
pub(super) fn path_arg(args: &Args, name: &'static str) -> Result<String, StepError> {
    absolute(name, &args.need(name)?)
}

/// One of the words, or the first if not given.
pub(super) fn choice(
    args: &Args,
    name: &'static str,
    words: &'static [&'static str],
) -> Result<&'static str, StepError> {
    let Some(given) = args.str(name)? else {
        return Ok(words.first().copied().unwrap_or_default());
    };
    words.iter().find(|w| **w == given).copied().ok_or_else(|| {
        let all: Vec<&str> = words.iter().copied().filter(|w| !w.is_empty()).collect();
        let all = all.join(", ");
        StepError::new(format!("\"{name}\" must be one of {all}, not \"{given}\"")).arg(name)
    })
}

/// A boolean with a default.
pub(super) fn flag(args: &Args, name: &'static str, default: bool) -> Result<bool, StepError> {
    Ok(args.bool(name)?.unwrap_or(default))
}

/// A list of words; each item may itself hold several, separated by commas.
pub(super) fn comma_list(args: &Args, name: &'static str) -> Result<Vec<String>, StepError> {
    let items = args.str_list(name)?;
    let words = items.iter().flat_map(|i| i.split(',')).map(str::trim);
    Ok(words.filter(|w| !w.is_empty()).map(str::to_owned).collect())
}

/// A name that is safe as a word for account, package and unit tools: not empty, no blanks, no
/// leading dash, no slash.
pub(super) fn plain_name(name: &'static str, text: &str) -> Result<(), StepError> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || "/:'\"`$\\".contains(c);
    if text.is_empty() || text.starts_with('-') || text.contains(bad) {
        return Err(StepError::new(format!("\"{text}\" is not a good name")).arg(name));
    }
    Ok(())
}

/// Text as a value.
pub(super) fn text(value: impl Into<String>) -> Value {
    Value::String(value.into())
}

//! Secrets: a type that does not print itself, and a redactor for text that others print.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, RwLock};

use zeroize::Zeroize;

/// What stands in the place of a secret in anything that is printed or stored.
pub const MASK: &str = "********";

/// A secret value. `Debug` and `Display` print [`MASK`]; [`Secret::expose`] is the only way in.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The secret itself. Never put it into argv, an event, an error text or a diff.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// Knows every secret of a run and removes them from text that leaves the program: events,
/// diffs, error texts, the journal. Cheap to clone; all clones share one list.
#[derive(Clone, Default)]
pub struct Redactor {
    known: Arc<RwLock<BTreeSet<String>>>,
}

impl Redactor {
    /// Remembers a secret. Values under 4 characters are not tracked: masking them would
    /// destroy unrelated text.
    pub fn learn(&self, secret: &str) {
        if secret.chars().count() < 4 {
            return;
        }
        let mut known = self.known.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        known.insert(secret.to_owned());
        // As it stands inside a quoted shell word, an SQL literal and a JSON string.
        known.insert(secret.replace('\'', "'\\''"));
        known.insert(secret.replace('\'', "''"));
        if let Ok(json) = serde_json::to_string(secret) {
            known.insert(json[1..json.len() - 1].to_owned());
        }
        // A multi-line secret leaks line by line when output is cut into lines.
        for line in secret.lines().filter(|l| l.len() >= 8 && *l != secret) {
            known.insert(line.to_owned());
        }
    }

    /// `text` with every known secret replaced by [`MASK`], the longest first.
    #[must_use]
    pub fn mask(&self, text: &str) -> String {
        let known = self.known.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut hits: Vec<&String> = known.iter().filter(|s| text.contains(s.as_str())).collect();
        hits.sort_by_key(|s| std::cmp::Reverse(s.len()));
        hits.into_iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), MASK))
    }

    /// Masks every string inside a value, keys included.
    #[must_use]
    pub fn mask_value(&self, value: &super::Value) -> super::Value {
        use super::Value;
        match value {
            Value::String(s) => Value::String(self.mask(s)),
            Value::Array(items) => items.iter().map(|v| self.mask_value(v)).collect(),
            Value::Object(map) => {
                Value::Object(map.iter().map(|(k, v)| (self.mask(k), self.mask_value(v))).collect())
            }
            other => other.clone(),
        }
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

#[cfg(test)]
mod tests {
    use super::{MASK, Redactor, Secret};

    #[test]
    fn a_secret_never_prints_itself() {
        let secret = Secret::new("hunter22");
        assert_eq!(format!("{secret} {secret:?}"), format!("{MASK} {MASK}"));
    }

    #[test]
    fn quoted_secrets_are_masked_too() {
        let redactor = Redactor::default();
        redactor.learn("it's \\ a\"b");
        for quoted in ["'it'\\''s \\ a\"b'", "'it''s \\ a\"b'", "'it's \\\\ a\\\"b'"] {
            assert_eq!(redactor.mask(quoted), format!("'{MASK}'"), "{quoted}");
        }
    }

    #[test]
    fn the_longest_secret_is_masked_first() {
        let redactor = Redactor::default();
        redactor.learn("abcd");
        redactor.learn("abcdefgh");
        assert_eq!(redactor.mask("x abcdefgh y abcd"), format!("x {MASK} y {MASK}"));
    }
}

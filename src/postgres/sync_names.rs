//! `synchronous_standby_names` as pgorch writes it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::ident;

/// `ANY k (members)`, or nothing: then a commit waits for nobody.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct SyncNames {
    /// How many members must have a commit on disk before it is confirmed; 0 is nothing.
    pub k: u32,
    /// By `application_name`.
    pub members: BTreeSet<String>,
}

impl SyncNames {
    /// Commits wait for any `k` of these.
    #[must_use]
    pub fn any<S: Into<String>>(k: u32, members: impl IntoIterator<Item = S>) -> Self {
        SyncNames { k, members: members.into_iter().map(Into::into).collect() }
    }

    /// Commits wait for nobody.
    #[must_use]
    pub fn none() -> Self {
        SyncNames::default()
    }

    #[must_use]
    pub fn is_none(&self) -> bool {
        self.k == 0
    }

    /// The setting's text; none where it is neither empty nor of the form `ANY k (name, ...)`, so that
    /// it was not written by pgorch.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() {
            return Some(SyncNames::none());
        }
        let (any, rest) = text.split_at_checked(3)?;
        let (k, rest) = rest.split_once('(')?;
        let list = rest.trim_end().strip_suffix(')')?;
        let k: u32 = k.trim().parse().ok()?;
        let members: Option<BTreeSet<String>> = list.split(',').map(name).collect();
        (any.eq_ignore_ascii_case("any") && k > 0).then_some(SyncNames { k, members: members? })
    }

    /// Of how many members at least one has every commit that was confirmed: N-k+1, because a set of
    /// k and one of N-k+1 out of N have one in common. None where commits wait for nobody.
    #[must_use]
    pub fn to_ask(&self) -> Option<usize> {
        let k = usize::try_from(self.k).ok().filter(|k| *k > 0)?;
        Some((self.members.len() + 1).saturating_sub(k).max(1))
    }
}

/// One name of a list, with its quotes or without. A comma in a name is not met: names are slots'.
fn name(text: &str) -> Option<String> {
    let text = text.trim();
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match text.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').map(|name| name.replace("\"\"", "\"")),
        None => (!text.is_empty() && text.chars().all(bare)).then(|| text.to_owned()),
    }
}

impl std::fmt::Display for SyncNames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_none() {
            return Ok(());
        }
        let names: Vec<String> = self.members.iter().map(|n| ident(n)).collect();
        write!(f, "ANY {} ({})", self.k, names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::SyncNames;

    #[test]
    fn what_is_written_is_read() {
        for names in [SyncNames::none(), SyncNames::any(2, ["n2", "n3", "n4"])] {
            assert_eq!(SyncNames::parse(&names.to_string()), Some(names));
        }
        assert_eq!(SyncNames::parse("any 1 (a,b)"), Some(SyncNames::any(1, ["a", "b"])));
        for strange in ["*", "a, b", "FIRST 1 (a)", "1 (a, b)", "ANY 0 (a)", "ANY 1 (*)"] {
            assert_eq!(SyncNames::parse(strange), None, "{strange}");
        }
    }

    #[test]
    fn every_quorum_meets_those_who_are_asked() {
        let ask = |k, n: usize| SyncNames::any(k, (0..n).map(|i| i.to_string())).to_ask();
        assert_eq!(
            [ask(1, 1), ask(1, 2), ask(2, 3), ask(3, 3)],
            [Some(1), Some(2), Some(2), Some(1)]
        );
        assert_eq!(SyncNames::none().to_ask(), None);
    }
}

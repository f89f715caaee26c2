//! `<home>/pause`: what an operator has told the watch, as each voter has stored it.

use serde::{Deserialize, Serialize};

/// `pgorch pause` and `pgorch unpause`, as stored on the voters (`<home>/pause`). The newest word
/// counts, wherever it is seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// When it was said, milliseconds since 1970 on the wall clock of who said it.
    pub said: i64,
    pub paused: bool,
    /// Milliseconds since 1970; none is until `pgorch unpause`.
    pub until: Option<i64>,
    /// `user@host`.
    pub by: String,
    /// As given with `--reason`.
    #[serde(default)]
    pub reason: Option<String>,
}

impl Pause {
    /// The file's text; none if it is not understood.
    #[must_use]
    pub fn read(text: &str) -> Option<Pause> {
        serde_json::from_str(text).ok()
    }

    /// Who and why, and until when, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        let end = self.until.map(|until| format!(" until {}", date(until))).unwrap_or_default();
        let why = self.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        format!("paused by {} since {}{end}{why}", self.by, date(self.said))
    }

    /// The word that counts, and only while it says to stand by.
    pub fn in_force<'a>(all: impl Iterator<Item = &'a Pause>, wall: i64) -> Option<&'a Pause> {
        let newest = all.max_by_key(|p| (p.said, p.paused))?;
        (newest.paused && newest.until.is_none_or(|until| until > wall)).then_some(newest)
    }
}

/// Milliseconds since 1970 as a date in UTC.
fn date(milliseconds: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(milliseconds).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pause(said: i64, paused: bool, until: Option<i64>) -> Pause {
        Pause { said, paused, until, by: "a@b".to_owned(), reason: None }
    }

    #[test]
    fn the_newest_word_counts() {
        let all = [pause(1, true, None), pause(3, false, None), pause(2, true, None)];
        assert_eq!(Pause::in_force(all.iter(), 10), None);
        assert_eq!(Pause::in_force(all[..1].iter(), 10), Some(&all[0]));
        assert_eq!(Pause::in_force([].iter(), 10), None);
    }

    #[test]
    fn a_pause_says_who_and_why() {
        let said = pause(0, true, None);
        assert_eq!(said.describe(), "paused by a@b since 1970-01-01T00:00:00Z");
        let said = Pause { reason: Some("disk".to_owned()), ..pause(0, true, Some(60_000)) };
        assert_eq!(
            said.describe(),
            "paused by a@b since 1970-01-01T00:00:00Z until 1970-01-01T00:01:00Z: disk"
        );
        // As an earlier version has stored it.
        let old = r#"{"said":0,"paused":true,"until":null,"by":"a@b"}"#;
        assert_eq!(Pause::read(old), Some(pause(0, true, None)));
    }

    #[test]
    fn a_pause_with_an_end_ends() {
        let all = [pause(1, true, Some(100))];
        assert!(Pause::in_force(all.iter(), 99).is_some());
        assert!(Pause::in_force(all.iter(), 100).is_none());
    }
}

//! What an operator has told the watch, and what it may still do by itself.

use serde::{Deserialize, Serialize};

use super::lease::Holds;
use crate::model::HostName;

/// `pgorch pause` and `pgorch unpause`, as stored on the voters. The newest word counts, wherever it
/// is seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// When it was said, milliseconds since 1970 on the wall clock of who said it.
    pub said: i64,
    pub paused: bool,
    /// Milliseconds since 1970; none is until `pgorch unpause`.
    pub until: Option<i64>,
    /// `user@host`.
    pub by: String,
}

impl Pause {
    /// The word that counts, and only while it says to stand by.
    pub fn in_force<'a>(all: impl Iterator<Item = &'a Pause>, wall: i64) -> Option<&'a Pause> {
        let newest = all.max_by_key(|p| (p.said, p.paused))?;
        (newest.paused && newest.until.is_none_or(|until| until > wall)).then_some(newest)
    }
}

/// What a watch that begins anew must know of the one before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub primary: HostName,
    pub system: Option<u64>,
    pub timeline: Option<u32>,
    pub epoch: u64,
    /// What may have held it up at most; none where it was never read.
    pub holds: Option<Holds>,
}

/// How often the primary may be replaced before somebody must have looked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Budget {
    /// Recoveries that nobody has acknowledged, milliseconds since 1970.
    pub recoveries: Vec<i64>,
}

/// Recoveries within [`PERIOD`] that need no word of anybody.
const RECOVERIES_MAX: usize = 2;
/// Milliseconds after which a recovery counts no more.
const PERIOD: i64 = 3_600_000;

impl Budget {
    #[must_use]
    pub fn allows(&self, wall: i64) -> bool {
        self.recoveries.iter().filter(|at| wall - **at < PERIOD).count() < RECOVERIES_MAX
    }

    pub fn spend(&mut self, wall: i64) {
        self.recoveries.retain(|at| wall - at < PERIOD);
        self.recoveries.push(wall);
    }

    pub fn acknowledge(&mut self) {
        self.recoveries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pause(said: i64, paused: bool, until: Option<i64>) -> Pause {
        Pause { said, paused, until, by: "a@b".to_owned() }
    }

    #[test]
    fn the_newest_word_counts() {
        let all = [pause(1, true, None), pause(3, false, None), pause(2, true, None)];
        assert_eq!(Pause::in_force(all.iter(), 10), None);
        assert_eq!(Pause::in_force(all[..1].iter(), 10), Some(&all[0]));
        assert_eq!(Pause::in_force([].iter(), 10), None);
    }

    #[test]
    fn a_pause_with_an_end_ends() {
        let all = [pause(1, true, Some(100))];
        assert!(Pause::in_force(all.iter(), 99).is_some());
        assert!(Pause::in_force(all.iter(), 100).is_none());
    }

    #[test]
    fn a_third_recovery_within_an_hour_needs_a_word() {
        let mut budget = Budget::default();
        budget.spend(0);
        assert!(budget.allows(1));
        budget.spend(1_000);
        assert!(!budget.allows(2_000));
        assert!(budget.allows(PERIOD), "the first is an hour old");
        budget.spend(PERIOD);
        assert!(!budget.allows(PERIOD));
        budget.acknowledge();
        assert!(budget.allows(PERIOD));
    }
}

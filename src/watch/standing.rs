//! What a watch remembers of itself: whom it watched, and what it may still do.

use serde::{Deserialize, Serialize};

use super::lease::Holds;
use crate::model::HostName;

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

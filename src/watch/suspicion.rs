//! How often and for how long in a row a finding has been seen.

use std::time::Duration;

use crate::model::{Instant, Timing};

use super::finding::Finding;

/// Looks in a row that accuse the primary of the same. Another finding, a round that could not
/// tell, or a controller that was asleep begin from nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Suspicion {
    of: Option<Finding>,
    rounds: u32,
    since: Instant,
    last: Instant,
}

/// Looks that it takes, and time that must have passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    pub probes: u32,
    pub lasting: Duration,
}

impl Patience {
    /// What convinces of this finding. A server that is gone from a live host is looked at once more;
    /// silence needs K probes; one that starts has the time of a restart in place.
    #[must_use]
    pub fn of(finding: Finding, timing: &Timing, quorum: bool) -> Option<Self> {
        let probes = match finding {
            Finding::PrimaryDead => 2,
            Finding::PrimaryHung => timing.probes_frozen,
            Finding::PrimaryUnreachable if quorum => timing.probes_quorum,
            Finding::PrimaryUnreachable => timing.probes_async,
            Finding::PrimaryStarting => 2,
            _ => return None,
        };
        let lasting = match finding {
            Finding::PrimaryStarting => timing.restart_in_place,
            _ => Duration::ZERO,
        };
        Some(Patience { probes, lasting })
    }
}

impl Suspicion {
    /// One more round. `sure` is false where the round could not tell: it neither counts nor
    /// acquits.
    pub fn note(&mut self, finding: Finding, sure: bool, now: Instant, asleep: Duration) {
        let slept = now.since(self.last) > asleep;
        self.last = now;
        if !finding.accuses() {
            *self = Suspicion { last: now, ..Suspicion::default() };
            return;
        }
        if self.of != Some(finding) || slept {
            *self = Suspicion { of: Some(finding), rounds: 0, since: now, last: now };
        }
        if sure {
            self.rounds += 1;
        }
    }

    pub fn forget(&mut self) {
        *self = Suspicion { last: self.last, ..Suspicion::default() };
    }

    #[must_use]
    pub fn rounds(&self) -> u32 {
        self.rounds
    }

    /// Whether it has been seen often and long enough.
    #[must_use]
    pub fn spent(&self, patience: Patience, now: Instant) -> bool {
        self.of.is_some()
            && self.rounds >= patience.probes
            && now.since(self.since) >= patience.lasting
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Hold, Profile};

    const ASLEEP: Duration = Duration::from_secs(3);

    fn at(ms: u64) -> Instant {
        Instant(Duration::from_millis(ms))
    }

    fn patience(finding: Finding) -> Patience {
        let timing = Timing::profile(Profile::Fast, Hold::Watchdog);
        Patience::of(finding, &timing, false).expect("it accuses")
    }

    fn noted(rounds: &[(Finding, bool, u64)]) -> (Suspicion, Instant) {
        let mut suspicion = Suspicion::default();
        for (finding, sure, time) in rounds {
            suspicion.note(*finding, *sure, at(*time), ASLEEP);
        }
        (suspicion, at(rounds.last().expect("one").2))
    }

    #[test]
    fn one_look_convinces_of_nothing() {
        for finding in Finding::ALL.into_iter().filter(|f| f.accuses()) {
            let (suspicion, now) = noted(&[(finding, true, 1_000)]);
            assert!(!suspicion.spent(patience(finding), now), "{finding:?}");
        }
    }

    #[test]
    fn two_looks_convince_of_a_server_that_is_gone() {
        use Finding::PrimaryDead as D;
        let (suspicion, now) = noted(&[(D, true, 1_000), (D, true, 1_050)]);
        assert!(suspicion.spent(patience(D), now));
    }

    #[test]
    fn silence_takes_four_looks_in_async_mode() {
        use Finding::PrimaryUnreachable as U;
        let mut looks = vec![(U, true, 1_000), (U, true, 1_700), (U, true, 2_200)];
        let (suspicion, now) = noted(&looks);
        assert!(!suspicion.spent(patience(U), now));
        looks.push((U, true, 2_700));
        let (suspicion, now) = noted(&looks);
        assert!(suspicion.spent(patience(U), now));
    }

    #[test]
    fn a_round_that_cannot_tell_does_not_count() {
        use Finding::PrimaryUnreachable as U;
        let (suspicion, now) = noted(&[(U, true, 0), (U, false, 500), (U, true, 1_000)]);
        assert_eq!(suspicion.rounds(), 2);
        assert!(!suspicion.spent(patience(U), now));
    }

    #[test]
    fn one_answer_or_another_reason_begins_anew() {
        use Finding::{Healthy as H, PrimaryHung as G, PrimaryUnreachable as U};
        let (suspicion, _) =
            noted(&[(U, true, 0), (U, true, 500), (H, true, 900), (U, true, 1_000)]);
        assert_eq!(suspicion.rounds(), 1);
        let (suspicion, _) = noted(&[(U, true, 0), (U, true, 500), (G, true, 1_000)]);
        assert_eq!(suspicion.rounds(), 1);
    }

    #[test]
    fn a_controller_that_was_asleep_looks_anew() {
        use Finding::PrimaryUnreachable as U;
        let (suspicion, now) = noted(&[(U, true, 0), (U, true, 500), (U, true, 60_500)]);
        assert_eq!(suspicion.rounds(), 1);
        assert!(!suspicion.spent(patience(U), now));
    }

    #[test]
    fn a_start_has_its_time() {
        use Finding::PrimaryStarting as S;
        let rounds: Vec<_> = (0..8).map(|n| (S, true, n * 250)).collect();
        let (suspicion, now) = noted(&rounds);
        assert!(!suspicion.spent(patience(S), now));
        let rounds: Vec<_> = (0..10).map(|n| (S, true, n * 250)).collect();
        let (suspicion, now) = noted(&rounds);
        assert!(suspicion.spent(patience(S), now));
    }
}

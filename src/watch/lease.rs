//! The controller's side of the lease: which renewals are sent, and when the old primary can confirm
//! nothing any more although nobody can ask it.
//!
//! Every renewal rests on a reading of the node's own clock, and what counts for the wait is the
//! moment at which that reading reached us: the reading is older than its arrival, so the lease's end
//! is never later than we think. Whether a renewal arrived is of no interest: one that was sent may
//! have. What others give is told by the records of their operations.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::facts::{EpochFacts, OperationState};
use crate::model::{HostName, Instant, Lsn, Timing};

/// A node's own clock, where a guard that is switched on keeps a lease by it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    pub boot_id: String,
    /// The node's clock: time since its boot.
    pub clock: Duration,
    /// The guard runs by the constants, votes and slots that it should.
    pub agrees: bool,
    /// What holds the node up, where the guard was asked in this look.
    pub holds: Option<Holds>,
}

/// What is left of a node's lease when its guard was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Holds {
    For(Duration),
    /// It is paused: its lease has no end.
    WithoutEnd,
}

/// A lease to be written on the primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    pub node: HostName,
    pub epoch: u64,
    pub boot_id: String,
    /// By the node's clock.
    pub end: Duration,
}

/// Why no renewal is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRenewal {
    /// The guard runs by other constants than ours: `pgorch apply`.
    OtherValues,
    /// A recovery has begun, and is not over.
    Ended,
    /// The reading is older than a round.
    Stale,
    /// What holds the node up was not read yet.
    Unread,
}

/// What was sent and what was seen, for the two waits.
#[derive(Debug, Clone)]
pub struct Leases {
    timing: Timing,
    /// Before this nothing is known: another controller, or this one before its restart, may have
    /// sent anything on a reading just before it.
    since: Instant,
    bounds: BTreeMap<HostName, Bound>,
    /// A recovery is under way, or was and is not over: nothing is renewed.
    ended: bool,
    /// Rising ends of WAL of each standby, with when each was first seen.
    ends: BTreeMap<HostName, Vec<(Lsn, Instant)>>,
    /// What operations have given and nobody has read since.
    given: BTreeMap<HostName, Given>,
    /// The highest epoch that was heard of; none where nothing was.
    heard: Option<u64>,
    /// Operations of late that are over, and were heeded.
    heeded: BTreeSet<(u64, String)>,
}

/// A lease that an operation has given, by the operation's record.
#[derive(Debug, Clone, Copy)]
enum Given {
    /// It lasts so long at most, and until then, waits included.
    Until(Duration, Instant),
    /// Nobody can say: the node has to be asked.
    Unknown,
}

/// Until when a node's lease may hold it up, waits included.
#[derive(Debug, Clone, Copy)]
struct Bound {
    /// By what its guard said last, whoever gave it; none without an end.
    read: Option<Instant>,
    /// By everything that was sent to it, confirmed or not.
    sent: Instant,
    /// The longest lease that it was ever seen to have, or that was sent to it.
    longest: Holds,
}

/// Epochs for which it is remembered what was heeded.
const EPOCHS_MAX: u64 = 16;

/// Ends that are remembered of each standby. Forgetting the oldest only makes a wait longer.
const ENDS_MAX: usize = 256;

impl Leases {
    #[must_use]
    pub fn new(timing: Timing, since: Instant) -> Self {
        let (bounds, ends, given) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (heard, heeded) = (None, BTreeSet::new());
        Leases { timing, since, bounds, ended: false, ends, given, heard, heeded }
    }

    /// An earlier watch has heard of everything up to this epoch.
    pub fn heard(&mut self, epoch: u64) {
        self.heard = Some(epoch);
    }

    /// What voters have stored, as it arrived at `at`. Every lease that is not this watch's own is given
    /// under an operation on a majority of them, whose record says how long it may last when it is over; as
    /// long as it is open nobody takes that node's place. One that was missed may have given anything.
    pub fn heed<'a>(&mut self, stored: impl Iterator<Item = &'a EpochFacts>, at: Instant) {
        let mut all: Vec<&EpochFacts> = stored.filter(|s| s.epoch > 0).collect();
        all.sort_by_key(|s| s.epoch);
        let begins = self.heard.is_none();
        for stored in all {
            let heard = self.heard.unwrap_or(stored.epoch);
            let Some(operation) = &stored.operation else {
                if stored.epoch > heard {
                    self.missed();
                    self.heard = Some(stored.epoch);
                }
                continue;
            };
            let key = (stored.epoch, operation.id.clone());
            if stored.epoch < heard || self.heeded.contains(&key) {
                continue;
            }
            if stored.epoch > heard + 1 {
                self.missed();
            }
            if operation.state == OperationState::Open {
                // What was before it is heard of, and it is heeded when it is over.
                self.heard = Some(heard.max(stored.epoch - 1));
                continue;
            }
            self.heard = Some(stored.epoch);
            self.heeded.insert(key);
            match operation.lease_ms {
                // Where nothing is known yet everything has to be read anyway.
                _ if begins => {}
                Some(0) => {}
                Some(ms) => self.give(operation.leased(), Duration::from_millis(ms), at),
                None => {
                    self.given.insert(operation.leased().clone(), Given::Unknown);
                }
            }
        }
        let oldest = self.heard.unwrap_or(0).saturating_sub(EPOCHS_MAX);
        self.heeded.retain(|(epoch, _)| *epoch >= oldest);
    }

    fn give(&mut self, node: &HostName, lasting: Duration, at: Instant) {
        let until = at.after(self.timing.wait_given(lasting));
        let both = match self.given.get(node) {
            Some(Given::Unknown) => return,
            Some(Given::Until(longest, other)) => {
                Given::Until(lasting.max(*longest), until.max(*other))
            }
            None => Given::Until(lasting, until),
        };
        self.given.insert(node.clone(), both);
    }

    /// Something may have been given to any node that was known.
    fn missed(&mut self) {
        for node in self.bounds.keys() {
            self.given.insert(node.clone(), Given::Unknown);
        }
        self.given.values_mut().for_each(|given| *given = Given::Unknown);
    }

    /// The authority begins here: every wait starts at this moment at the earliest.
    pub fn begin(&mut self, since: Instant) {
        self.since = self.since.max(since);
    }

    /// The renewal that follows from a reading, which is remembered as sent.
    ///
    /// # Errors
    /// Why there is none.
    pub fn renew(
        &mut self,
        node: &HostName,
        epoch: u64,
        reading: &Reading,
        received: Instant,
        now: Instant,
    ) -> Result<Renewal, NoRenewal> {
        if !reading.agrees {
            return Err(NoRenewal::OtherValues);
        }
        if self.ended {
            return Err(NoRenewal::Ended);
        }
        if now.since(received) > self.timing.round {
            return Err(NoRenewal::Stale);
        }
        let bound = self.bound(self.timing.lease, received);
        // What was there before is not known here: it is read first.
        let kept = self.bounds.get_mut(node).ok_or(NoRenewal::Unread)?;
        kept.sent = kept.sent.max(bound);
        let end = reading.clock + self.timing.lease;
        Ok(Renewal { node: node.clone(), epoch, boot_id: reading.boot_id.clone(), end })
    }

    fn bound(&self, left: Duration, received: Instant) -> Instant {
        received.after(self.timing.elsewhere(left + self.timing.reaction()))
    }

    /// What holds a node up, as its guard said in an answer that arrived at `received`. It is one
    /// record, so that the last answer is the one that counts.
    pub fn read(&mut self, node: &HostName, holds: Holds, received: Instant) {
        let read = match holds {
            Holds::WithoutEnd => None,
            Holds::For(left) => Some(self.bound(left, received)),
        };
        let fresh = Bound { read, sent: Instant::default(), longest: holds };
        let kept = self.bounds.entry(node.clone()).or_insert(fresh);
        kept.read = read;
        kept.longest = kept.longest.max(holds);
    }

    /// What was read last covers all that operations have given to this node: none is open there.
    pub fn settled(&mut self, node: &HostName) {
        self.given.remove(node);
    }

    /// Its guard was told, or is about to be told, that the node needs no lease: until the guard itself
    /// says otherwise, what holds it up has no end.
    pub fn paused(&mut self, node: &HostName) {
        match self.bounds.get_mut(node) {
            Some(bound) => {
                bound.read = None;
                bound.longest = Holds::WithoutEnd;
            }
            // What an operation has given to it is not all that may hold it up.
            None => {
                self.given.insert(node.clone(), Given::Unknown);
            }
        }
    }

    /// What a controller that begins anew has to take for what holds this node up.
    #[must_use]
    pub fn longest(&self, node: &HostName) -> Option<Holds> {
        let given = match self.given.get(node) {
            Some(Given::Unknown) => return None,
            Some(Given::Until(lasting, _)) => Some(Holds::For(*lasting)),
            None => None,
        };
        let read = self.bounds.get(node).map(|bound| bound.longest);
        Some(read.max(given)?.max(Holds::For(self.timing.lease)))
    }

    /// Whether it was read what holds this node up, since anything else was given to it.
    #[must_use]
    pub fn knows(&self, node: &HostName) -> bool {
        self.bounds.contains_key(node) && !self.given.contains_key(node)
    }

    /// Nothing is known of what holds it up, and no record can say: its guard is off, or goes by other
    /// constants than ours.
    pub fn lose(&mut self, node: &HostName) {
        self.bounds.remove(node);
        self.given.insert(node.clone(), Given::Unknown);
    }

    /// Whether what holds this node up has an end, as far as its guard has said.
    #[must_use]
    pub fn has_end(&self, node: &HostName) -> bool {
        self.bounds.get(node).is_some_and(|bound| bound.read.is_some())
    }

    /// Another server, or another start of it: what holds it up has to be read anew.
    pub fn forget(&mut self, node: &HostName) {
        self.bounds.remove(node);
    }

    /// A revocation may begin: from here on nothing is renewed.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// A recovery was given up and everybody streams again.
    pub fn go_on(&mut self) {
        self.ended = false;
    }

    /// Where a standby's WAL ended when it was looked at.
    pub fn saw(&mut self, standby: &HostName, end: Lsn, received: Instant) {
        let ends = self.ends.entry(standby.clone()).or_default();
        match ends.last() {
            Some((last, _)) if end == *last => return,
            // A new copy, or a restart: what it had then says nothing about what it has now.
            Some((last, _)) if end < *last => ends.clear(),
            _ => {}
        }
        ends.push((end, received));
        if ends.len() > ENDS_MAX {
            ends.remove(0);
        }
    }

    /// Another primary: ends on the old history mean nothing on the new one.
    pub fn forget_ends(&mut self) {
        self.ends.clear();
    }

    /// When a standby was first seen to have reached the position at which it is frozen now. `told` is
    /// when that position was told.
    fn reached(&self, standby: &HostName, frozen: Lsn, told: Instant) -> Instant {
        let ends = self.ends.get(standby).into_iter().flatten();
        let first = ends.filter(|(end, _)| *end >= frozen).map(|(_, at)| *at).min();
        first.map_or(told, |first| first.min(told)).max(self.since)
    }

    /// From when on the old primary confirms nothing any more: both waits of amendment 12 are over.
    /// `frozen` is where each revoked standby's WAL ends, and when it told that. None where what
    /// holds the primary up is not known, or has no end.
    #[must_use]
    pub fn over_at(
        &self,
        primary: &HostName,
        frozen: &BTreeMap<HostName, (Lsn, Instant)>,
    ) -> Option<Instant> {
        let read = match self.bounds.get(primary) {
            Some(bound) => Some(bound.read?.max(bound.sent)),
            None => None,
        };
        let given = match self.given.get(primary) {
            Some(Given::Unknown) => return None,
            Some(Given::Until(_, until)) => Some(*until),
            None => None,
        };
        let lease = read.max(given)?.max(self.since.after(self.timing.wait_lease()));
        let reached = frozen.iter().map(|(name, (lsn, told))| self.reached(name, *lsn, *told));
        let acknowledged = reached.map(|at| at.after(self.timing.wait_acknowledged()));
        Some(acknowledged.fold(lease, Instant::max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{OperationRecord, Proof};
    use crate::model::{Hold, Profile};

    fn at(ms: u64) -> Instant {
        Instant(Duration::from_millis(ms))
    }

    fn name(text: &str) -> HostName {
        HostName(text.to_owned())
    }

    fn timing() -> Timing {
        Timing::profile(Profile::Fast, Hold::Timer)
    }

    fn reading(clock: u64) -> Reading {
        Reading {
            boot_id: "b".to_owned(),
            clock: Duration::from_millis(clock),
            agrees: true,
            holds: None,
        }
    }

    fn leases() -> Leases {
        Leases::new(timing(), at(0))
    }

    /// The primary's lease is long over.
    fn expired() -> Leases {
        let mut leases = leases();
        leases.read(&name("p"), Holds::For(Duration::ZERO), at(0));
        leases
    }

    #[test]
    fn a_renewal_ends_a_lease_after_the_reading_by_the_node_s_clock() {
        let renewal = expired().renew(&name("p"), 7, &reading(500_000), at(1_000), at(1_050));
        let renewal = renewal.expect("a renewal");
        assert_eq!(renewal.end, Duration::from_millis(500_000) + timing().lease);
        assert_eq!((renewal.epoch, renewal.boot_id.as_str()), (7, "b"));
    }

    #[test]
    fn the_wait_counts_from_the_last_reading_whether_or_not_it_was_confirmed() {
        let mut leases = expired();
        let p = name("p");
        leases.renew(&p, 1, &reading(10), at(1_000), at(1_010)).expect("sent");
        leases.renew(&p, 1, &reading(11), at(2_000), at(2_900)).expect("sent");
        let over = leases.over_at(&p, &BTreeMap::new());
        assert_eq!(over, Some(at(2_000).after(timing().wait_lease())));
    }

    #[test]
    fn a_longer_lease_that_somebody_else_gave_is_waited_out() {
        let mut leases = leases();
        let p = name("p");
        leases.read(&p, Holds::For(Duration::from_secs(90)), at(5_000));
        leases.renew(&p, 1, &reading(10), at(6_000), at(6_010)).expect("sent");
        let over = leases.over_at(&p, &BTreeMap::new()).expect("an end");
        assert_eq!(over, at(5_000).after(timing().elsewhere(Duration::from_millis(91_500))));
        // It was shortened since, or its time has passed.
        leases.read(&p, Holds::For(Duration::from_secs(1)), at(7_000));
        let over = leases.over_at(&p, &BTreeMap::new()).expect("an end");
        assert_eq!(over, at(6_000).after(timing().wait_lease()));
    }

    #[test]
    fn an_answer_that_does_not_show_a_renewal_yet_does_not_undo_it() {
        let mut leases = expired();
        let p = name("p");
        leases.renew(&p, 1, &reading(10), at(6_000), at(6_010)).expect("sent");
        leases.read(&p, Holds::For(Duration::ZERO), at(6_020));
        let over = leases.over_at(&p, &BTreeMap::new()).expect("an end");
        assert_eq!(over, at(6_000).after(timing().wait_lease()));
    }

    #[test]
    fn a_paused_node_is_held_until_its_guard_says_otherwise() {
        let (mut leases, p) = (expired(), name("p"));
        leases.paused(&p);
        assert_eq!(leases.over_at(&p, &BTreeMap::new()), None);
        // It is renewed meanwhile; that says nothing about the pause.
        leases.renew(&p, 1, &reading(10), at(1_000), at(1_010)).expect("sent");
        assert_eq!(leases.over_at(&p, &BTreeMap::new()), None);
        leases.read(&p, Holds::WithoutEnd, at(1_020));
        assert_eq!(leases.over_at(&p, &BTreeMap::new()), None);
        leases.read(&p, Holds::For(Duration::from_secs(2)), at(5_000));
        assert!(leases.over_at(&p, &BTreeMap::new()).is_some());
        assert_eq!(leases.longest(&p), Some(Holds::WithoutEnd), "for a watch that begins anew");
    }

    #[test]
    fn nothing_is_renewed_before_it_was_read_what_is_there() {
        let renewal = leases().renew(&name("p"), 1, &reading(1), at(0), at(0));
        assert_eq!(renewal, Err(NoRenewal::Unread));
    }

    #[test]
    fn what_was_never_read_or_has_no_end_cannot_be_waited_out() {
        let mut leases = leases();
        let p = name("p");
        assert_eq!(leases.over_at(&p, &BTreeMap::new()), None);
        leases.read(&p, Holds::WithoutEnd, at(1_000));
        assert_eq!(leases.over_at(&p, &BTreeMap::new()), None);
        leases.read(&p, Holds::For(Duration::ZERO), at(2_000));
        assert!(leases.over_at(&p, &BTreeMap::new()).is_some(), "the pause is over");
        leases.forget(&p);
        assert_eq!(leases.over_at(&p, &BTreeMap::new()), None);
    }

    #[test]
    fn a_restarted_controller_counts_from_its_own_start() {
        let mut leases = Leases::new(timing(), at(9_000));
        leases.read(&name("p"), Holds::For(Duration::ZERO), at(9_100));
        let over = leases.over_at(&name("p"), &BTreeMap::new());
        assert_eq!(over, Some(at(9_000).after(timing().wait_lease())));
    }

    #[test]
    fn other_constants_on_the_node_are_no_lease() {
        let mut other = reading(1);
        other.agrees = false;
        let renewal = expired().renew(&name("p"), 1, &other, at(0), at(0));
        assert_eq!(renewal, Err(NoRenewal::OtherValues));
    }

    #[test]
    fn a_revocation_ends_the_renewals_until_it_is_over() {
        let mut leases = expired();
        leases.end();
        let renew = |leases: &mut Leases| leases.renew(&name("p"), 4, &reading(1), at(0), at(0));
        assert_eq!(renew(&mut leases), Err(NoRenewal::Ended));
        leases.go_on();
        assert!(renew(&mut leases).is_ok());
    }

    #[test]
    fn a_reading_of_an_earlier_round_renews_nothing() {
        let renewal = expired().renew(&name("p"), 1, &reading(1), at(0), at(1_500));
        assert_eq!(renewal, Err(NoRenewal::Stale));
    }

    #[test]
    fn a_standby_counts_from_when_it_was_first_seen_where_it_froze() {
        let mut leases = expired();
        let (p, s) = (name("p"), name("s"));
        for (lsn, time) in [(100, 1_000), (200, 2_000), (200, 3_000), (200, 4_000)] {
            leases.saw(&s, Lsn(lsn), at(time));
        }
        let frozen = BTreeMap::from([(s.clone(), (Lsn(200), at(4_500)))]);
        assert_eq!(
            leases.over_at(&p, &frozen),
            Some(at(2_000).after(timing().wait_acknowledged()))
        );
        // It has received a little more since the last look.
        let frozen = BTreeMap::from([(s.clone(), (Lsn(201), at(4_500)))]);
        assert_eq!(
            leases.over_at(&p, &frozen),
            Some(at(4_500).after(timing().wait_acknowledged()))
        );
    }

    #[test]
    fn the_slowest_standby_and_the_lease_are_all_waited_for() {
        let mut leases = expired();
        let (p, s, t) = (name("p"), name("s"), name("t"));
        leases.saw(&s, Lsn(1), at(1_000));
        leases.saw(&t, Lsn(1), at(3_000));
        let told = (Lsn(1), at(9_000));
        let both = BTreeMap::from([(s.clone(), told), (t, told)]);
        assert_eq!(leases.over_at(&p, &both), Some(at(3_000).after(timing().wait_acknowledged())));
        leases.read(&p, Holds::For(timing().lease), at(8_000));
        assert_eq!(leases.over_at(&p, &both), Some(at(8_000).after(timing().wait_lease())));
    }

    #[test]
    fn what_a_standby_had_before_it_fell_back_does_not_count() {
        let mut leases = expired();
        let (p, s) = (name("p"), name("s"));
        leases.saw(&s, Lsn(500), at(1_000));
        leases.saw(&s, Lsn(100), at(2_000));
        leases.saw(&s, Lsn(500), at(7_000));
        let frozen = BTreeMap::from([(s, (Lsn(500), at(8_000)))]);
        assert_eq!(
            leases.over_at(&p, &frozen),
            Some(at(7_000).after(timing().wait_acknowledged()))
        );
    }

    #[test]
    fn forgetting_old_ends_never_shortens_the_wait() {
        let mut leases = expired();
        let (p, s) = (name("p"), name("s"));
        for n in 0..1_000 {
            leases.saw(&s, Lsn(n), at(n));
        }
        let frozen = BTreeMap::from([(s, (Lsn(10), at(2_000)))]);
        assert!(leases.over_at(&p, &frozen) >= Some(at(10).after(timing().wait_acknowledged())));
    }

    /// What a voter has stored of an operation that gave `p` a lease.
    fn stored(epoch: u64, id: &str, state: OperationState, lease_ms: Option<u64>) -> EpochFacts {
        let operation = OperationRecord {
            possible: Vec::new(),
            id: id.to_owned(),
            kind: "restart".to_owned(),
            controller: "op@elsewhere".to_owned(),
            primary: name("p"),
            candidate: name("p"),
            earlier: Vec::new(),
            state,
            proof: Proof::CleanStop,
            elected: false,
            over: false,
            lease_ms,
            started: String::new(),
        };
        EpochFacts { epoch, operation: Some(operation) }
    }

    fn over(leases: &Leases) -> Option<Instant> {
        leases.over_at(&name("p"), &BTreeMap::new())
    }

    /// Up to epoch 4 everything was heard of.
    fn heard() -> Leases {
        let mut leases = expired();
        leases.heard(4);
        leases
    }

    #[test]
    fn a_pause_before_anything_was_read_is_not_covered_by_a_record() {
        let mut leases = leases();
        leases.heard(4);
        leases.heed([stored(5, "a", OperationState::Done, Some(13_000))].iter(), at(1_000));
        assert!(over(&leases).is_some());
        leases.paused(&name("p"));
        assert_eq!(over(&leases), None);
        leases.read(&name("p"), Holds::For(Duration::ZERO), at(2_000));
        leases.settled(&name("p"));
        assert!(over(&leases).is_some());
    }

    #[test]
    fn what_an_operation_gave_is_waited_out_from_when_its_end_is_seen() {
        use OperationState::{Done, Open};
        let mut leases = heard();
        let before = over(&leases);
        leases.heed([stored(5, "a", Open, Some(120_000))].iter(), at(10_000));
        assert_eq!(over(&leases), before, "as long as it is open nobody takes that node's place");
        let record = stored(5, "a", Done, Some(13_000));
        leases.heed([record.clone()].iter(), at(20_000));
        let until = at(20_000).after(timing().wait_given(Duration::from_secs(13)));
        assert_eq!(over(&leases), Some(until));
        assert!(!leases.knows(&name("p")), "its guard is to be asked");
        // Seen again it is no news; a reading that covers it is.
        leases.heed([record].iter(), at(90_000));
        assert_eq!(over(&leases), Some(until));
        leases.read(&name("p"), Holds::For(Duration::ZERO), at(21_000));
        leases.settled(&name("p"));
        assert_eq!(over(&leases), Some(at(21_000).after(timing().elsewhere(timing().reaction()))));
    }

    #[test]
    fn an_operation_that_gave_nothing_changes_nothing() {
        let mut leases = heard();
        let before = over(&leases);
        leases.heed([stored(5, "a", OperationState::Undone, Some(0))].iter(), at(10_000));
        assert_eq!((over(&leases), leases.knows(&name("p"))), (before, true));
    }

    #[test]
    fn what_nobody_can_say_has_to_be_read() {
        use OperationState::Done;
        let p = name("p");
        let unknown = [
            vec![stored(5, "a", Done, None)],
            // Epoch 5 was missed, or its record is of a newer program.
            vec![stored(6, "b", Done, Some(0))],
            vec![EpochFacts { epoch: 5, operation: None }],
        ];
        for records in unknown {
            let mut leases = heard();
            leases.heed(records.iter(), at(10_000));
            assert_eq!(over(&leases), None, "{records:?}");
            assert_eq!(leases.longest(&p), None, "nor for a watch that begins anew");
            // A shorter one that is known does not make it known.
            leases.heed([stored(7, "c", Done, Some(1_000))].iter(), at(11_000));
            assert_eq!(over(&leases), None);
            leases.read(&p, Holds::For(Duration::from_secs(2)), at(12_000));
            assert_eq!(over(&leases), None, "an operation may be open there");
            leases.settled(&p);
            assert!(over(&leases).is_some());
        }
    }

    #[test]
    fn two_that_took_one_number_are_both_heeded() {
        use OperationState::{Done, Open, Undone};
        let mut leases = heard();
        let first = [stored(5, "a", Undone, Some(0)), stored(5, "b", Open, Some(120_000))];
        leases.heed(first.iter(), at(10_000));
        leases.heed([stored(5, "b", Done, Some(13_000))].iter(), at(11_000));
        assert_eq!(
            over(&leases),
            Some(at(11_000).after(timing().wait_given(Duration::from_secs(13))))
        );
    }

    #[test]
    fn a_node_whose_guard_is_off_cannot_be_waited_out() {
        let mut leases = heard();
        leases.lose(&name("p"));
        assert_eq!(over(&leases), None);
        leases.heed([stored(5, "a", OperationState::Done, Some(1))].iter(), at(10_000));
        assert_eq!(over(&leases), None);
    }
}

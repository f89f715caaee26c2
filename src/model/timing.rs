//! The constants of automatic failover and every wait that follows from them.
//!
//! There is one set for a cluster. The guard's files on the nodes are rendered from it and the
//! controller waits by it, so that both sides rest on the same numbers; the names in brackets are
//! those of docs/failover.md. All times are measured on one machine's own clock each, and the two
//! clocks may differ in rate by [`Timing::clock_rate_percent`].

use std::time::Duration;

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// How late PID 1 may act on a timeout of a service: sd-event's default accuracy of 250 ms, which
/// service.c asks for (systemd 247 to 257), and the time that a message takes to get there.
const SYSTEMD_LATE: Duration = ms(300);

/// What ends a lease on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hold {
    /// The watchdog of the server's unit: PID 1 acts by itself at the end of what it was fed, so
    /// neither the guard's period nor the length of its pass adds to the bound.
    Watchdog,
    /// Only the guard, run by a timer: it notices an end up to a period and a pass later.
    Timer,
}

/// The named sets of constants, `failover.timing` in the inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// For one network with few pauses: a lost host costs less than 5 s of writes.
    Fast,
    /// For networks and hypervisors that stand still for seconds now and then.
    Calm,
}

/// The constants. [`Timing::profile`] makes them; single ones may be changed before use, and
/// [`Timing::problem`] says whether they still fit together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// One look at all nodes begins this long after the one before.
    pub round: Duration,
    /// The same while something is suspected.
    pub round_suspect: Duration,
    /// A node that has not answered by then counts as not answering in this round.
    pub deadline: Duration,
    /// Between two probes of a suspected node.
    pub reprobe: Duration,
    /// Missed looks (K), the first included, before a primary counts as gone: with quorum
    /// replication, where an attempt can be undone without harm.
    pub probes_quorum: u32,
    /// The same with asynchronous replication; the lease's wait hides so many that a host which stands
    /// still for two seconds is no lost one.
    pub probes_async: u32,
    /// The same where the host answers and PostgreSQL does not.
    pub probes_frozen: u32,
    /// What the two constants below end.
    pub hold: Hold,
    /// For how long a renewal lets the primary run (L), from the node's own reading of its clock.
    pub lease: Duration,
    /// For how long an acknowledged heartbeat does (R), from when the guard wrote it.
    pub reply_timeout: Duration,
    /// From the end of a pass of the guard to the start of the next (G).
    pub guard_period: Duration,
    /// The longest a pass may take (Q); PID 1 ends one that takes longer.
    pub pass_limit: Duration,
    /// From the decision to stop until no process can confirm anything (B).
    pub stop_bound: Duration,
    /// How much faster one clock may run than another, in percent (rho): chrony may slew by 8.3 %,
    /// the monotonic clock too.
    pub clock_rate_percent: u32,
    /// Added to every wait (m): scheduling, and the resolution of /proc/uptime.
    pub margin: Duration,
    /// `wal_receiver_status_interval`; nothing rests on it.
    pub receiver_status_interval: Duration,
    /// `wal_sender_timeout`: frees a slot that a half-open connection holds.
    pub sender_timeout: Duration,
    /// `wal_receiver_timeout`: notices a half-open upstream.
    pub receiver_timeout: Duration,
    /// How long a crashed server on a live host may take to come back by itself before a standby
    /// is promoted, where the policy allows a restart in place.
    pub restart_in_place: Duration,
}

/// The fast profile, held by the watchdog.
impl Default for Timing {
    fn default() -> Self {
        Timing::profile(Profile::Fast, Hold::Watchdog)
    }
}

/// Storing the intent and giving the grant (0.1 s), and the promotion of a standby with little to
/// replay (0.3 s; 0.11 s measured on an idle server).
const TAIL: Duration = ms(400);
/// Revoking the standbys and comparing where they stand (19 ms measured on idle hosts).
const REVOKE: Duration = ms(300);
/// From the end of a round to the position of a standby that it saw, at most.
const FIRST_LOOK: Duration = ms(100);
/// SIGKILL to all processes of a frozen server, over a connection that stands.
const KILL: Duration = ms(100);
/// Revoking where the old primary is known to be down.
const REVOKE_IDLE: Duration = ms(200);
/// Two attempts of a standby to connect: `wal_retrieve_retry_interval` is 5 s.
const RECONNECT: Duration = ms(10_000);
/// How long after the look before it an operation may still begin to make a server writable. Longer than
/// what may come before a promotion in one that goes well: hooks have five minutes each.
const AUTHORITY: Duration = ms(900_000);

impl Timing {
    /// The set of a profile for nodes whose leases are ended by `hold`.
    ///
    /// With the timer alone the fast lease is 1 s shorter, because the guard's period and its pass
    /// come on top. With the watchdog an acknowledgement counts for as long as it costs nothing: until
    /// wait (b) would be over later than wait (a); and a pass may take longer, because its length is
    /// not in the bound, and on a host with much to do half a second was not enough.
    #[must_use]
    pub const fn profile(profile: Profile, hold: Hold) -> Timing {
        match profile {
            Profile::Fast => Timing {
                round: ms(1_000),
                round_suspect: ms(250),
                deadline: ms(700),
                reprobe: ms(500),
                probes_quorum: 2,
                probes_async: 4,
                probes_frozen: 3,
                hold,
                lease: match hold {
                    Hold::Watchdog => ms(3_000),
                    Hold::Timer => ms(2_000),
                },
                reply_timeout: match hold {
                    Hold::Watchdog => ms(2_000),
                    Hold::Timer => ms(1_200),
                },
                guard_period: match hold {
                    Hold::Watchdog => ms(400),
                    Hold::Timer => ms(500),
                },
                pass_limit: match hold {
                    Hold::Watchdog => ms(2_000),
                    Hold::Timer => ms(500),
                },
                stop_bound: ms(500),
                clock_rate_percent: 10,
                margin: ms(300),
                receiver_status_interval: ms(1_000),
                sender_timeout: ms(5_000),
                receiver_timeout: ms(5_000),
                restart_in_place: ms(2_000),
            },
            Profile::Calm => Timing {
                round: ms(2_000),
                round_suspect: ms(250),
                deadline: ms(1_500),
                reprobe: ms(500),
                probes_quorum: 4,
                probes_async: 10,
                probes_frozen: 4,
                hold,
                lease: ms(8_000),
                reply_timeout: match hold {
                    Hold::Watchdog => ms(5_000),
                    Hold::Timer => ms(3_000),
                },
                guard_period: ms(1_000),
                pass_limit: match hold {
                    Hold::Watchdog => ms(2_000),
                    Hold::Timer => ms(1_000),
                },
                stop_bound: ms(1_000),
                clock_rate_percent: 10,
                margin: ms(500),
                receiver_status_interval: ms(1_000),
                sender_timeout: ms(10_000),
                receiver_timeout: ms(10_000),
                restart_in_place: ms(10_000),
            },
        }
    }

    /// From the end of all support until the server confirms nothing any more, on the node's clock:
    /// B with the watchdog, G + Q + B with the timer.
    ///
    /// Fast: 0.5 s or 1.5 s. Calm: 1 s or 3 s.
    #[must_use]
    pub fn reaction(&self) -> Duration {
        match self.hold {
            Hold::Watchdog => self.stop_bound,
            Hold::Timer => self.guard_period + self.pass_limit + self.stop_bound,
        }
    }

    /// What is taken off the time that is left when the watchdog is fed, because PID 1 may act that
    /// much later; so the bound counts from the true end.
    #[must_use]
    pub fn feed_less(&self) -> Duration {
        match self.hold {
            Hold::Watchdog => SYSTEMD_LATE,
            Hold::Timer => Duration::ZERO,
        }
    }

    /// `TimeoutAbortSec` of the server's unit: from the watchdog's SIGQUIT to SIGKILL, so that both are
    /// over within B although PID 1 may be late again.
    ///
    /// Fast: 0.5 - 0.3 = 0.2 s. Calm: 0.7 s.
    #[must_use]
    pub fn abort_after(&self) -> Duration {
        self.stop_bound.saturating_sub(SYSTEMD_LATE)
    }

    /// What the controller waits on its own clock so that `on_node` has passed on another machine's:
    /// `on_node` · (1 + rho) + m.
    #[must_use]
    pub fn elsewhere(&self, on_node: Duration) -> Duration {
        on_node * (100 + self.clock_rate_percent) / 100 + self.margin
    }

    /// Wait (a): from the receipt of the last reading of the old primary's clock on which any
    /// renewal or grant was based, sent or confirmed, until none of them can hold it up any more:
    /// (L + reaction) · (1 + rho) + m.
    ///
    /// - fast, watchdog: (3.0 + 0.5) · 1.1 + 0.3 = 4.15 s
    /// - fast, timer: (2.0 + 0.5 + 0.5 + 0.5) · 1.1 + 0.3 = 4.15 s
    /// - calm, watchdog: (8 + 1) · 1.1 + 0.5 = 10.4 s
    /// - calm, timer: (8 + 1 + 1 + 1) · 1.1 + 0.5 = 12.6 s
    #[must_use]
    pub fn wait_lease(&self) -> Duration {
        self.elsewhere(self.lease + self.reaction())
    }

    /// Wait (b): for each revoked standby, from the receipt of the first observation in which it had
    /// already reached the position at which it is frozen, until no heartbeat that it acknowledged
    /// can hold the old primary up any more: (R + reaction) · (1 + rho) + m.
    ///
    /// - fast, watchdog: (2.0 + 0.5) · 1.1 + 0.3 = 3.05 s (2.17 s with an R of 1.2 s)
    /// - fast, timer: (1.2 + 0.5 + 0.5 + 0.5) · 1.1 + 0.3 = 3.27 s
    /// - calm, watchdog: (5 + 1) · 1.1 + 0.5 = 7.1 s
    /// - calm, timer: (3 + 1 + 1 + 1) · 1.1 + 0.5 = 7.1 s
    #[must_use]
    pub fn wait_acknowledged(&self) -> Duration {
        self.elsewhere(self.reply_timeout + self.reaction())
    }

    /// The lease of a server that has just been promoted, or started as the primary: until its standbys
    /// acknowledge, or a watch renews. Whole seconds.
    ///
    /// Fast: 10 + 3 = 13 s (timer 12 s). Calm: 18 s.
    #[must_use]
    pub fn first_lease(&self) -> Duration {
        let more = u64::from(self.lease.subsec_nanos() > 0);
        RECONNECT + Duration::from_secs(self.lease.as_secs() + more)
    }

    /// What a watch waits after it has seen the record of an operation under which leases end no later
    /// than `lasting` after the record was stored: `elsewhere(lasting + reaction)`.
    ///
    /// Fast, with the first lease: (13 + 0.5) · 1.1 + 0.3 = 15.15 s.
    #[must_use]
    pub fn wait_given(&self, lasting: Duration) -> Duration {
        self.elsewhere(lasting.saturating_add(self.reaction()))
    }

    /// How long after an operation's look at a host, by that host's clock, its steps may still make the server
    /// there writable: 15 min. A step that arrives later is refused.
    #[must_use]
    pub const fn authority() -> Duration {
        AUTHORITY
    }

    /// What a watch waits after it has sent such a step, or may have, until nothing that it gave is left:
    /// it may have begun at its last moment, and given a lease of `seconds` then.
    #[must_use]
    pub fn wait_authority(&self, seconds: u64) -> Duration {
        self.wait_given(AUTHORITY + Duration::from_secs(seconds))
    }

    /// When at the latest writes are back after the loss of the primary's host with asynchronous
    /// replication, little WAL to replay and q votes: the later of both waits, then the tail of
    /// 0.4 s. Wait (a) counts from a reading just before the loss, wait (b) from the end of a round
    /// that began just after it.
    ///
    /// Fast, watchdog: max(4.15, 1.0 + 0.1 + 3.05) + 0.4 = 4.55 s; timer: max(4.15, 1.1 + 3.27) + 0.4
    /// = 4.77 s.
    #[must_use]
    pub fn worst_async(&self) -> Duration {
        let acknowledged = self.round + FIRST_LOOK + self.wait_acknowledged();
        self.wait_lease().max(acknowledged).max(self.detection(self.probes_async)) + TAIL
    }

    /// The same with quorum replication, where nothing is waited for: a round, a deadline, the
    /// other probes, 0.3 s for the revocation and the tail.
    ///
    /// Fast: 1.0 + 0.7 + 0.5 + 0.3 + 0.4 = 2.9 s.
    #[must_use]
    pub fn worst_quorum(&self) -> Duration {
        self.detection(self.probes_quorum) + REVOKE + TAIL
    }

    /// The same for a server that is frozen on a host that answers: it is killed over SSH.
    ///
    /// Fast: 1.0 + 0.7 + 2 · 0.5 + 0.1 + 0.2 + 0.4 = 3.4 s.
    #[must_use]
    pub fn worst_frozen(&self) -> Duration {
        self.detection(self.probes_frozen) + KILL + REVOKE_IDLE + TAIL
    }

    /// From a fault until `probes` looks have missed the node, at the latest.
    #[must_use]
    pub fn detection(&self, probes: u32) -> Duration {
        self.round + self.deadline + self.reprobe * probes.saturating_sub(1)
    }

    /// What a controller must wait by after the constants were changed, until every node is known to
    /// run the new ones: the larger of both in everything that enters a wait.
    #[must_use]
    pub fn larger(&self, other: &Timing) -> Timing {
        let hold = match (self.hold, other.hold) {
            (Hold::Watchdog, Hold::Watchdog) => Hold::Watchdog,
            _ => Hold::Timer,
        };
        Timing {
            hold,
            lease: self.lease.max(other.lease),
            reply_timeout: self.reply_timeout.max(other.reply_timeout),
            guard_period: self.guard_period.max(other.guard_period),
            pass_limit: self.pass_limit.max(other.pass_limit),
            stop_bound: self.stop_bound.max(other.stop_bound),
            clock_rate_percent: self.clock_rate_percent.max(other.clock_rate_percent),
            margin: self.margin.max(other.margin),
            ..self.clone()
        }
    }

    /// What a node's guard runs by, as one word that the guard's files hold and its readings repeat.
    /// A controller acts on a node only where it is that of its own constants.
    #[must_use]
    pub fn guard_values(&self) -> String {
        let hold = match self.hold {
            Hold::Watchdog => "watchdog",
            Hold::Timer => "timer",
        };
        let times =
            [self.lease, self.reply_timeout, self.guard_period, self.pass_limit, self.stop_bound];
        let times: Vec<String> = times.iter().map(|t| t.as_millis().to_string()).collect();
        format!("{hold}:{}", times.join(":"))
    }

    /// Why these constants do not fit together, if they do not: a healthy primary would be stopped,
    /// or a bound could not be kept.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let least = ms(50);
        let times = [
            ("round", self.round),
            ("deadline", self.deadline),
            ("lease", self.lease),
            ("reply_timeout", self.reply_timeout),
            ("guard_period", self.guard_period),
            ("pass_limit", self.pass_limit),
            ("stop_bound", self.stop_bound),
            ("margin", self.margin),
        ];
        if let Some((name, _)) = times.iter().find(|(_, time)| *time < least) {
            return Some(format!("{name} is shorter than 50 ms"));
        }
        if self.clock_rate_percent < 9 {
            return Some("clock_rate must be at least 9 %: chrony may slew by 8.3 %".to_owned());
        }
        if self.stop_bound < ms(400) {
            return Some("stop_bound is shorter than 400 ms: PID 1 may be 300 ms late".to_owned());
        }
        let late = self.feed_less();
        // With the watchdog a pass has two heartbeats, the second one where the first was slow.
        let beat = match self.hold {
            Hold::Watchdog => self.pass_limit / 2,
            Hold::Timer => self.pass_limit,
        };
        let needed = self.guard_period + beat + late;
        if self.reply_timeout <= needed {
            return Some(format!(
                "reply_timeout must be longer than {} ms, with this guard_period and pass_limit: \
                 the next heartbeat would come too late",
                needed.as_millis()
            ));
        }
        let needed = self.round + self.deadline + late;
        if self.lease <= needed {
            return Some(format!(
                "lease must be longer than {} ms, with this round and deadline: one slow answer \
                 would stop the primary",
                needed.as_millis()
            ));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{Hold, Profile, Timing, ms};

    const WATCHDOG: Timing = Timing::profile(Profile::Fast, Hold::Watchdog);
    const TIMER: Timing = Timing::profile(Profile::Fast, Hold::Timer);
    const CALM_WATCHDOG: Timing = Timing::profile(Profile::Calm, Hold::Watchdog);
    const CALM_TIMER: Timing = Timing::profile(Profile::Calm, Hold::Timer);

    #[test]
    fn waits_are_those_of_the_argument() {
        assert_eq!(WATCHDOG.wait_lease(), ms(4_150));
        assert_eq!(TIMER.wait_lease(), ms(4_150));
        assert_eq!(CALM_WATCHDOG.wait_lease(), ms(10_400));
        assert_eq!(CALM_TIMER.wait_lease(), ms(12_600));
        assert_eq!(WATCHDOG.wait_acknowledged(), ms(3_050));
        let short = Timing { reply_timeout: ms(1_200), ..WATCHDOG };
        assert_eq!(short.wait_acknowledged(), ms(2_170));
        assert_eq!(TIMER.wait_acknowledged(), ms(3_270));
        assert_eq!(CALM_WATCHDOG.wait_acknowledged(), ms(7_100));
        assert_eq!(CALM_TIMER.wait_acknowledged(), ms(7_100));
    }

    #[test]
    fn a_first_lease_lets_standbys_connect_twice() {
        assert_eq!(WATCHDOG.first_lease(), ms(13_000));
        assert_eq!(TIMER.first_lease(), ms(12_000));
        assert_eq!(CALM_WATCHDOG.first_lease(), ms(18_000));
        assert_eq!(WATCHDOG.wait_given(WATCHDOG.first_lease()), ms(15_150));
        // Without anything given it is the reaction alone, and never shorter than that.
        assert_eq!(WATCHDOG.wait_given(ms(0)), ms(850));
        assert!(WATCHDOG.wait_given(super::AUTHORITY) > super::AUTHORITY);
    }

    #[test]
    fn the_goals_hold_with_the_fast_profile() {
        assert_eq!(WATCHDOG.worst_async(), ms(4_550));
        assert_eq!(TIMER.worst_async(), ms(4_770));
        assert_eq!(WATCHDOG.worst_quorum(), ms(2_900));
        assert_eq!(WATCHDOG.worst_frozen(), ms(3_400));
        // Counted from the revocation instead of the first observation it would miss the 5 s.
        let revoked = WATCHDOG.detection(WATCHDOG.probes_async) + super::REVOKE;
        assert_eq!(revoked, ms(3_500));
        assert!(revoked + TIMER.wait_acknowledged() + super::TAIL > ms(5_000));
    }

    #[test]
    fn a_wait_covers_the_node_s_time_on_a_clock_that_is_slower_by_the_rate() {
        for timing in [WATCHDOG, TIMER, CALM_WATCHDOG, CALM_TIMER] {
            let on_node = timing.lease + timing.reaction();
            // While the controller's clock shows the wait, a slow node's shows this much less.
            let seen_by_slow_node = timing.wait_lease() * 100 / (100 + timing.clock_rate_percent);
            assert!(seen_by_slow_node > on_node, "{timing:?}");
        }
    }

    #[test]
    fn pid_1_may_be_late_twice_and_the_bound_still_holds() {
        for timing in [WATCHDOG, CALM_WATCHDOG] {
            // The watchdog's own timeout counts from what was fed, the kill's from the watchdog's.
            let end = timing.lease;
            let quit = end - timing.feed_less() + super::SYSTEMD_LATE;
            let kill = quit + timing.abort_after() + super::SYSTEMD_LATE;
            assert_eq!(quit, end);
            assert!(kill <= end + timing.reaction(), "{timing:?}");
        }
    }

    #[test]
    fn a_change_waits_with_the_larger_of_both() {
        let all = [WATCHDOG, TIMER, CALM_WATCHDOG, CALM_TIMER];
        for (one, other) in all.iter().flat_map(|one| all.iter().map(move |other| (one, other))) {
            let both = one.larger(other);
            for each in [one, other] {
                assert!(both.wait_lease() >= each.wait_lease(), "{one:?} {other:?}");
                assert!(both.wait_acknowledged() >= each.wait_acknowledged());
            }
        }
        assert_eq!(WATCHDOG.larger(&WATCHDOG), WATCHDOG);
    }

    #[test]
    fn each_set_of_values_has_a_word_of_its_own() {
        assert_eq!(WATCHDOG.guard_values(), "watchdog:3000:2000:400:2000:500");
        assert_eq!(CALM_TIMER.guard_values(), "timer:8000:3000:1000:1000:1000");
        assert_ne!(WATCHDOG.guard_values(), TIMER.guard_values());
    }

    #[test]
    fn constants_that_do_not_fit_are_named() {
        for timing in [WATCHDOG, TIMER, CALM_WATCHDOG, CALM_TIMER] {
            assert_eq!(timing.problem(), None);
        }
        let wrong = |change: fn(&mut Timing)| {
            let mut timing = WATCHDOG;
            change(&mut timing);
            timing.problem().expect("a problem")
        };
        assert!(wrong(|t| t.lease = ms(2_000)).starts_with("lease"));
        assert!(wrong(|t| t.reply_timeout = ms(1_700)).starts_with("reply_timeout"));
        assert!(wrong(|t| t.stop_bound = ms(300)).starts_with("stop_bound"));
        assert!(wrong(|t| t.clock_rate_percent = 8).starts_with("clock_rate"));
        assert!(wrong(|t| t.margin = ms(0)).starts_with("margin"));
    }
}

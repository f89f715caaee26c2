//! The only reader of time and randomness.
//!
//! Everything above takes a [`Clock`] or a plain argument, so that a simulation can hand in its own
//! readings. The waits here are tokio's: `tokio::time::pause` makes them virtual in tests.

use std::future::Future;
use std::time::Duration;

/// A reading of the monotonic clock: the time since the [`Clock`] was made. Readings of different
/// clocks (processes) cannot be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(pub Duration);

impl Instant {
    /// The time from `earlier` to `self`, zero when `earlier` is in fact later.
    #[must_use]
    pub fn since(self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// This reading plus `span`.
    #[must_use]
    pub fn after(self, span: Duration) -> Instant {
        Instant(self.0.saturating_add(span))
    }
}

/// The process's clocks. Cheap to clone; all clones share one zero.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: tokio::time::Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Clock { start: tokio::time::Instant::now() }
    }
}

impl Clock {
    /// Monotonic time since this clock was made. Linux's CLOCK_MONOTONIC: it does not count suspend.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant(self.start.elapsed())
    }

    /// The wall clock, for people and for certificates; never for deadlines.
    #[must_use]
    pub fn wall(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }

    /// Waits.
    pub async fn sleep(&self, span: Duration) {
        tokio::time::sleep(span).await;
    }

    /// `future`'s output, or `None` when it is not ready within `span`; the future is dropped then.
    pub async fn within<F: Future>(&self, span: Duration, future: F) -> Option<F::Output> {
        tokio::time::timeout(span, future).await.ok()
    }

    /// 128 random bits as 32 hexadecimal digits: ids of runs, nonces of protocols.
    #[must_use]
    pub fn random_id(&self) -> String {
        format!("{:032x}", rand::random::<u128>())
    }
}

static PROCESS: std::sync::OnceLock<Clock> = std::sync::OnceLock::new();

/// The process's own clock.
#[must_use]
pub fn process() -> Clock {
    *PROCESS.get_or_init(Clock::default)
}

/// Monotonic time since the process first asked.
#[must_use]
pub fn now() -> Instant {
    process().now()
}

/// The wall clock, for people; never for deadlines.
#[must_use]
pub fn wall() -> jiff::Timestamp {
    process().wall()
}

/// Waits.
pub async fn sleep(span: Duration) {
    process().sleep(span).await;
}

/// See [`Clock::random_id`].
#[must_use]
pub fn random_id() -> String {
    process().random_id()
}

/// A password of 192 random bits, of letters and digits only: no file format needs to escape it.
#[must_use]
pub fn random_password() -> String {
    const ALPHABET: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    // 33 symbols of 62 hold more than 192 bits; `random_range` has no modulo bias.
    (0..33).map(|_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())])).collect()
}

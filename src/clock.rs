//! The only reader of time and randomness.
//!
//! Everything above takes a [`Clock`] or a plain argument, so that a simulation can hand in its own
//! readings. The waits here are tokio's: `tokio::time::pause` makes them virtual in tests.

use std::future::Future;
use std::time::Duration;

pub use crate::model::Instant;

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

/// Time by CLOCK_MONOTONIC_RAW since the process first asked, which nobody slews: for waits that are
/// compared with another machine's clock. Not comparable with [`now`].
#[must_use]
pub fn raw() -> Instant {
    static START: std::sync::OnceLock<std::time::Duration> = std::sync::OnceLock::new();
    let read = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicRaw);
    let read = std::time::Duration::new(
        u64::try_from(read.tv_sec).unwrap_or_default(),
        u32::try_from(read.tv_nsec).unwrap_or_default(),
    );
    Instant(read.saturating_sub(*START.get_or_init(|| read)))
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

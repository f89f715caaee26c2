//! A moment on this process's monotonic clock.

use std::time::Duration;

/// A reading of the monotonic clock: the time since the process's clock was made. Readings of
/// different processes cannot be compared. Only `clock` makes new ones; everything else is handed
/// them.
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

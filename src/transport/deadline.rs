//! One deadline over many waits.

use std::future::Future;
use std::time::Duration;

use crate::clock::{Clock, Instant};

/// What is left of a span of time.
#[derive(Debug, Clone)]
pub(super) struct Deadline {
    clock: Clock,
    end: Instant,
    pub(super) whole: Duration,
}

impl Deadline {
    pub(super) fn new(clock: Clock, whole: Duration) -> Self {
        Deadline { clock, end: clock.now().after(whole), whole }
    }

    pub(super) fn left(&self) -> Duration {
        self.end.since(self.clock.now())
    }

    /// The output of `future`, or `None` when the deadline passes first.
    pub(super) async fn run<F: Future>(&self, future: F) -> Option<F::Output> {
        self.clock.within(self.left(), future).await
    }

    /// Runs something that must not count, such as a question to the user.
    pub(super) async fn paused<F: Future>(&mut self, future: F) -> F::Output {
        let start = self.clock.now();
        let output = future.await;
        self.end = self.end.after(self.clock.now().since(start));
        output
    }
}

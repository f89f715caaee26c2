//! Whether a crashed server may be back soon enough.

use std::time::Duration;

use crate::model::Lsn;

/// WAL that crash recovery replays in a second, bytes: a good deal less than what a host with little memory
/// and a slow disk was seen to do.
const REPLAYED: u64 = 32 << 20;

/// Whether recovery from `redo` to `end`, where its WAL ended when it was last seen, may be over within
/// `limit`. A start of the server without anything to replay takes a part of it.
#[must_use]
pub fn short_recovery(redo: Lsn, end: Lsn, limit: Duration) -> bool {
    let milliseconds = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    end.bytes_since(redo) <= REPLAYED.saturating_mul(milliseconds) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_replayed_has_to_fit_into_the_limit() {
        let fits = |bytes: u64, seconds: u64| {
            short_recovery(Lsn(1_000), Lsn(1_000 + bytes), Duration::from_secs(seconds))
        };
        assert!(fits(0, 1) && fits(64 << 20, 2));
        assert!(!fits((64 << 20) + 1, 2) && !fits(1, 0));
        // A checkpoint that was begun after the last look.
        assert!(short_recovery(Lsn(2_000), Lsn(1_000), Duration::from_secs(1)));
    }
}

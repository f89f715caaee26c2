//! What a node's guard is rendered from, with `failover.mode: automatic`.

use super::{Inventory, slot_name};
use crate::model::{Hold, HostName, Timing};

/// The guard of a node: its constants, the members that count, and where its files are. Files that
/// root runs are not below the node's home, which the server's own user may write.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct GuardSettings {
    /// [`Timing::guard_values`].
    pub values: String,
    /// `watchdog` or `timer`.
    pub hold: &'static str,
    /// Milliseconds, as are all of these: how long a renewal lasts.
    pub lease_ms: u64,
    /// How long an acknowledged heartbeat lasts.
    pub reply_ms: u64,
    /// What is taken off when the watchdog is fed.
    pub late_ms: u64,
    pub pass_ms: u64,
    pub period_ms: u64,
    /// From the watchdog's SIGQUIT to SIGKILL.
    pub abort_ms: u64,
    /// Seconds, for once: [`Timing::first_lease`].
    pub first_seconds: u64,
    /// Registered nodes and witnesses.
    pub voters: usize,
    /// More than half of them.
    pub majority: usize,
    /// Slots of the other nodes: whoever streams through one is that node.
    pub slots: Vec<String>,
    /// Unit of the guard without suffix; `.service` and `.timer` are there.
    pub unit: String,
    /// The guard itself.
    pub script: String,
    /// It does nothing before this file is there.
    pub enabled: String,
    /// Leases and grants; on tmpfs, so that no lease outlives a boot.
    pub run: String,
}

/// Where the guard of a unit and its files are, whether or not there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardPaths {
    pub script: String,
    pub enabled: String,
    pub run: String,
    /// The unit's name without suffix; `.service` and `.timer` are the guard's.
    pub unit: String,
}

/// The guard's paths for a server's unit.
#[must_use]
pub fn guard_paths(service: &str) -> GuardPaths {
    let name = service.trim_end_matches(".service");
    GuardPaths {
        script: format!("/usr/local/lib/pgorch/{name}.guard"),
        enabled: format!("/etc/pgorch/{name}.guarded"),
        run: format!("/run/pgorch/{name}"),
        unit: format!("{name}-guard"),
    }
}

impl Inventory {
    /// How many votes there are, and how many are a majority.
    #[must_use]
    pub fn voters(&self) -> (usize, usize) {
        let voters = self.nodes.len() + self.witnesses.len();
        (voters, voters / 2 + 1)
    }

    /// The guard's settings of a node; none with `failover.mode: manual`.
    pub(super) fn guard_of(&self, name: &HostName, service: &str) -> Option<GuardSettings> {
        if !self.failover.automatic {
            return None;
        }
        let timing: &Timing = &self.failover.timing;
        let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (voters, majority) = self.voters();
        let GuardPaths { script, enabled, run, unit } = guard_paths(service);
        Some(GuardSettings {
            values: timing.guard_values(),
            hold: match timing.hold {
                Hold::Watchdog => "watchdog",
                Hold::Timer => "timer",
            },
            lease_ms: ms(timing.lease),
            reply_ms: ms(timing.reply_timeout),
            late_ms: ms(timing.feed_less()),
            pass_ms: ms(timing.pass_limit),
            period_ms: ms(timing.guard_period),
            abort_ms: ms(timing.abort_after()),
            first_seconds: timing.first_lease().as_secs(),
            voters,
            majority,
            slots: self.nodes.keys().filter(|n| *n != name).map(slot_name).collect(),
            unit,
            script,
            enabled,
            run,
        })
    }
}

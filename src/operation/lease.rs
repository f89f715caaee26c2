//! What a controller says to a node's guard, and the node's answer: renew a lease, grant a start,
//! pause, and read.
//!
//! A lease names its end on the node's own clock, and the node's boot. The controller computes it from
//! the last [`Reading`] that the node gave after the controller had last been sure of its authority,
//! so that what is delivered late extends nothing (failover review, amendments 3 and 13).

use std::time::Duration;

use crate::inventory::NodeSettings;
use crate::model::Script;
use crate::step::Command;

/// What a node's guard says about itself, at one moment of the node's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Of /proc/uptime.
    pub uptime: Duration,
    /// What the reading, and all that is computed from it, is bound to.
    pub boot: String,
    /// systemd's ActiveState of the server's unit, where it was asked: after [`LeaseCommand::Read`] and a
    /// grant. Else `unknown`.
    pub unit: String,
    /// What is left of the lease; zero where there is none.
    pub lease: Duration,
    /// What is left of the last acknowledged heartbeat.
    pub acknowledged: Duration,
    pub paused: bool,
    /// [`crate::model::Timing::guard_values`] as the node has them.
    pub values: String,
    pub voters: usize,
    pub majority: usize,
    /// Slots of the members that count on this node.
    pub slots: Vec<String>,
    /// What the guard's last pass found: `lease`, `acknowledged`, `standby`, `paused`, `stopping`,
    /// `down`, `killed`.
    pub guard: String,
}

impl Reading {
    /// The end of a lease of this length that is computed from this reading.
    #[must_use]
    pub fn end(&self, length: Duration) -> Duration {
        self.uptime + length
    }

    /// Whether the node runs by what its settings say: nobody acts on one that does not.
    #[must_use]
    pub fn agrees(&self, node: &NodeSettings) -> bool {
        node.guard.as_ref().is_some_and(|guard| {
            self.values == guard.values
                && (self.voters, self.majority) == (guard.voters, guard.majority)
                && self.slots == guard.slots
        })
    }
}

/// One word to a guard. Each but `Read` carries what it was computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseCommand<'a> {
    /// Only the reading.
    Read,
    /// The server may be writable until `end` on the node's clock.
    Renew { reading: &'a Reading, end: Duration },
    /// One start, begun before `end`; the lease that comes of it ends then too.
    Grant { reading: &'a Reading, end: Duration, nonce: &'a str },
    /// The server runs without a lease, while this boot and this epoch last: until `end` on the node's
    /// clock, or until [`LeaseCommand::Unpause`]. Refused when it arrives [`PAUSE_LATEST`] after the reading.
    Pause { reading: &'a Reading, end: Option<Duration> },
    /// The end of a pause; a lease must have been given before.
    Unpause,
    /// Lease and grant are taken back: a promotion that they were for came to nothing.
    Withdraw,
}

/// A pause may be this long on its way: one that comes after its own end must not begin anew.
pub const PAUSE_LATEST: Duration = Duration::from_secs(5);
/// Milliseconds of a host's uptime that none sees: three thousand years.
const NEVER: u128 = 99_999_999_999_999;

/// Why a node did not do it; nothing has changed there, but for [`LeaseRefusal::Failed`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseRefusal {
    #[error("a step of an operation is at work there")]
    Busy,
    #[error("epoch {0} is stored there, a later one")]
    Newer(u64),
    #[error("epoch {0} is stored there: this one has to be stored first")]
    Older(u64),
    #[error("the host has booted since the reading")]
    Booted,
    #[error("it arrived after its own end")]
    Late,
    #[error("there is no guard on the node")]
    NoGuard,
    #[error("the guard said: {0}")]
    Failed(String),
    #[error("the answer is not understood: {0}")]
    Answer(String),
}

impl LeaseRefusal {
    /// The name in events.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            LeaseRefusal::Busy => "lease_busy",
            LeaseRefusal::Newer(_) => "lease_newer_epoch",
            LeaseRefusal::Older(_) => "lease_epoch_not_stored",
            LeaseRefusal::Booted => "lease_other_boot",
            LeaseRefusal::Late => "lease_late",
            LeaseRefusal::NoGuard => "lease_no_guard",
            LeaseRefusal::Failed(_) => "lease_failed",
            LeaseRefusal::Answer(_) => "lease_bad_answer",
        }
    }
}

/// The command that says this under `epoch`; its answer is for [`read_lease`]. `lock_wait` is how long
/// it waits for a step of an operation on the same host.
///
/// # Errors
/// The node has no guard: `failover.mode` is not `automatic`.
pub fn lease_command(
    node: &NodeSettings,
    epoch: u64,
    command: LeaseCommand<'_>,
    lock_wait: Duration,
) -> Result<Command, LeaseRefusal> {
    let guard = node.guard.as_ref().ok_or(LeaseRefusal::NoGuard)?;
    let script = Script::raw("(\nexec </dev/null\nset -u\ncd /").set("guard", &guard.script);
    let (label, words) = match command {
        LeaseCommand::Read => {
            let read = script
                .line("[ -e \"$guard\" ] || { echo refused=no_guard; exit 0; }")
                .line("exec /bin/sh \"$guard\" read\n)");
            return Ok(Command::new("read the lease", read).deadline(5));
        }
        LeaseCommand::Renew { reading, end } => {
            ("renew the lease", format!("lease {epoch} {} {}", reading.boot, end.as_millis()))
        }
        LeaseCommand::Grant { reading, end, nonce } => {
            ("grant a start", format!("grant {epoch} {} {} {nonce}", reading.boot, end.as_millis()))
        }
        LeaseCommand::Pause { reading, end } => {
            let end = end.map_or(NEVER, |end| end.as_millis());
            let latest = (reading.uptime + PAUSE_LATEST).as_millis();
            ("pause", format!("pause {epoch} {} {end} {latest}", reading.boot))
        }
        LeaseCommand::Unpause => ("end the pause", "unpause".to_owned()),
        LeaseCommand::Withdraw => ("take the lease back", "withdraw".to_owned()),
    };
    let script = script
        .set("home", &node.home)
        .set("epoch", &epoch.to_string())
        .set("lock_wait", &format!("{:.3}", lock_wait.as_secs_f64()))
        .set("words", &words)
        .line(include_str!("scripts/lease.sh"))
        .line(")");
    Ok(Command::new(label, script).deadline(5 + lock_wait.as_secs()))
}

/// The answer to a [`lease_command`].
///
/// # Errors
/// Why it was not done.
pub fn read_lease(stdout: &str, stderr: &str) -> Result<Reading, LeaseRefusal> {
    let line = stdout.lines().map(str::trim).rfind(|line| !line.is_empty());
    let Some(line) = line else {
        let last = stderr.lines().map(str::trim).rfind(|line| !line.is_empty());
        return Err(LeaseRefusal::Answer(last.unwrap_or("nothing").to_owned()));
    };
    if let Some(why) = line.strip_prefix("refused=") {
        let (word, rest) = why.split_once(' ').unwrap_or((why, ""));
        let number = || rest.parse().unwrap_or_default();
        return Err(match word {
            "busy" => LeaseRefusal::Busy,
            "newer" => LeaseRefusal::Newer(number()),
            "older" => LeaseRefusal::Older(number()),
            "booted" => LeaseRefusal::Booted,
            "late" => LeaseRefusal::Late,
            "no_guard" | "no_home" => LeaseRefusal::NoGuard,
            _ => {
                let said = stderr.lines().map(str::trim).rfind(|line| !line.is_empty());
                let status = why.trim_start_matches("failed ");
                LeaseRefusal::Failed(said.unwrap_or(status).to_owned())
            }
        });
    }
    parse(line).ok_or_else(|| LeaseRefusal::Answer(line.to_owned()))
}

fn parse(line: &str) -> Option<Reading> {
    let value =
        |key: &str| line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    let time = |key: &str| {
        // What is over is not below zero here.
        let ms: i64 = value(key)?.parse().ok()?;
        Some(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
    };
    Some(Reading {
        uptime: time("uptime")?,
        boot: value("boot").filter(|b| !b.is_empty())?.to_owned(),
        unit: value("unit")?.to_owned(),
        lease: time("lease")?,
        acknowledged: time("acknowledged")?,
        paused: value("paused")? == "1",
        values: value("values")?.to_owned(),
        voters: value("voters")?.parse().ok()?,
        majority: value("majority")?.parse().ok()?,
        slots: value("slots")?.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect(),
        guard: value("guard")?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::{LeaseRefusal, read_lease};
    use std::time::Duration;

    const LINE: &str = "uptime=1234560 boot=b-1 unit=active lease=-20 acknowledged=1870 paused=0 \
        values=watchdog:3000:2000:400:2000:500 voters=3 majority=2 slots=node2,node3 guard=acknowledged\n";

    #[test]
    fn a_reading_is_understood_as_a_whole_or_not_at_all() {
        let reading = read_lease(LINE, "").expect("a reading");
        assert_eq!(reading.uptime, Duration::from_millis(1_234_560));
        assert_eq!(reading.lease, Duration::ZERO);
        assert_eq!(reading.acknowledged, Duration::from_millis(1_870));
        assert_eq!(reading.slots, ["node2", "node3"]);
        assert_eq!(reading.guard, "acknowledged");
        assert_eq!(reading.end(Duration::from_secs(3)), Duration::from_millis(1_237_560));
        for word in ["uptime=1234560 ", "boot=b-1 ", "lease=-20 ", "majority=2 ", "paused=0 "] {
            let torn = read_lease(&LINE.replace(word, ""), "");
            assert!(matches!(torn, Err(LeaseRefusal::Answer(_))), "{word}");
        }
    }

    #[test]
    fn refusals_have_names() {
        let refused = |text: &str| read_lease(&format!("refused={text}\n"), "").expect_err("one");
        assert_eq!(refused("busy"), LeaseRefusal::Busy);
        assert_eq!(refused("newer 8"), LeaseRefusal::Newer(8));
        assert_eq!(refused("older 6"), LeaseRefusal::Older(6));
        assert_eq!(refused("booted"), LeaseRefusal::Booted);
        assert_eq!(refused("late"), LeaseRefusal::Late);
        assert_eq!(refused("failed x y").to_string(), "the guard said: x y");
        let killed = read_lease("refused=failed exit status 1\n", "<3>node1: killed\n");
        assert_eq!(killed.expect_err("no").to_string(), "the guard said: <3>node1: killed");
        assert_eq!(
            read_lease("", "sh: no\n").expect_err("none"),
            LeaseRefusal::Answer("sh: no".to_owned())
        );
    }
}

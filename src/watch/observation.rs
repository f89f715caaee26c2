//! What one round saw of each node, and which of it may be believed.
//!
//! Every answer carries the round that asked for it and the moments of asking and of arrival.
//! [`Sight::fresh`] gives out answers of the round in hand only, so that an old one is never
//! taken for a new one: there is no other way to an answer.

use std::collections::BTreeMap;

use crate::facts::EpochFacts;
use crate::model::{HostName, Instant, Lsn, SystemIdentifier, Timeline};

use super::lease::Reading;

/// One answer, or its absence.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    pub node: HostName,
    pub round: u64,
    /// When the question was sent.
    pub asked: Instant,
    /// When the answer was complete, or was given up.
    pub arrived: Instant,
    pub seen: Seen,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// The host answered over SSH.
    Host(Box<HostSeen>),
    /// It did not within the deadline. That says nothing about what it does.
    Silent { why: String },
}

/// What a host that answered showed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HostSeen {
    /// A live postmaster on the data directory.
    pub postmaster: Option<u32>,
    /// `ActiveState` of the unit; empty where it was not asked for because a postmaster lives.
    pub unit: String,
    /// systemd stops the whole host.
    pub going_down: bool,
    /// The data directory would come up as a standby.
    pub standby_signal: bool,
    pub fenced: bool,
    pub revoked: bool,
    pub epoch: EpochFacts,
    /// Somebody has told the watch to stand by, as stored on this voter.
    pub pause: Option<super::Pause>,
    /// Which watch this voter has stored as the one that may renew, grant and promote.
    pub owner: Option<String>,
    /// The node's own clock and lease, where a guard keeps them.
    pub reading: Option<Reading>,
    /// What this host gets when it knocks at the primary's port; none where it was not asked to.
    pub reaches_primary: Option<Reach>,
    pub server: ServerSeen,
}

/// What a knock at a server's port gave (the exit status of pg_isready).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    Accepts,
    /// A postmaster answers that takes no connections now.
    Rejects,
    Nothing,
}

/// What the server said over SQL.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum ServerSeen {
    Answers(Box<Answering>),
    /// 57P03 while it starts or is in crash recovery.
    StartingUp,
    /// 57P01, 57P02, or 57P03 while it shuts down.
    ShuttingDown,
    /// 53300: every connection is taken, so it is alive.
    TooManyClients,
    /// It refuses with another SQLSTATE.
    Refuses(String),
    /// No word of the server: the kernel refuses, or nothing came until the deadline.
    NoAnswer(String),
    /// There is nobody to ask.
    #[default]
    NotAsked,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answering {
    pub in_recovery: bool,
    pub system: Option<SystemIdentifier>,
    pub timeline: Option<Timeline>,
    /// Primary: end of WAL. Standby: `GREATEST(receive, replay)`.
    pub lsn: Option<Lsn>,
    /// `status` and `sender_host:sender_port` of the WAL receiver.
    pub receiver: Option<ReceiverSeen>,
    /// Slots whose standbys stream from this node now.
    pub streaming_to: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReceiverSeen {
    pub streaming: bool,
    pub host: String,
    pub port: u16,
    /// Seconds since its last message, on the standby's own clock: a duration, never compared
    /// with another machine's time.
    pub silent_seconds: f64,
}

/// The last look at every node.
#[derive(Debug, Clone, Default)]
pub struct Sight {
    round: u64,
    looks: BTreeMap<HostName, Look>,
}

impl Sight {
    /// Begins a round: nothing that was seen before is fresh any more.
    pub fn begin(&mut self) -> u64 {
        self.round += 1;
        self.round
    }

    #[must_use]
    pub fn round(&self) -> u64 {
        self.round
    }

    /// Keeps an answer; one of an earlier round than the one that is kept is of no use.
    pub fn take(&mut self, look: Look) {
        let newer = self.looks.get(&look.node).is_none_or(|kept| kept.round <= look.round);
        if newer {
            self.looks.insert(look.node.clone(), look);
        }
    }

    /// The answer of this node to this round's question.
    #[must_use]
    pub fn fresh(&self, node: &HostName) -> Option<&Look> {
        self.looks.get(node).filter(|look| look.round == self.round)
    }

    /// The host's part of a fresh answer.
    #[must_use]
    pub fn host(&self, node: &HostName) -> Option<&HostSeen> {
        match &self.fresh(node)?.seen {
            Seen::Host(host) => Some(host),
            Seen::Silent { .. } => None,
        }
    }

    /// The server's part of a fresh answer.
    #[must_use]
    pub fn server(&self, node: &HostName) -> Option<&Answering> {
        match &self.host(node)?.server {
            ServerSeen::Answers(server) => Some(server),
            _ => None,
        }
    }

    /// Whether all of these have answered in this round, or are known not to.
    #[must_use]
    pub fn complete<'a>(&self, nodes: impl IntoIterator<Item = &'a HostName>) -> bool {
        nodes.into_iter().all(|node| self.fresh(node).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(round: u64, why: &str) -> Look {
        let seen = Seen::Silent { why: why.to_owned() };
        Look {
            node: HostName("n".to_owned()),
            round,
            asked: Instant::default(),
            arrived: Instant::default(),
            seen,
        }
    }

    #[test]
    fn an_answer_of_an_earlier_round_is_not_fresh() {
        let mut sight = Sight::default();
        let node = HostName("n".to_owned());
        assert!(sight.fresh(&node).is_none());
        let first = sight.begin();
        sight.take(look(first, "a"));
        assert!(sight.fresh(&node).is_some());
        let second = sight.begin();
        assert!(sight.fresh(&node).is_none(), "of the round before");
        sight.take(look(second, "b"));
        // An answer to the first question that comes after the second's.
        sight.take(look(first, "late"));
        assert_eq!(sight.fresh(&node), Some(&look(second, "b")));
    }

    #[test]
    fn a_late_answer_does_not_complete_a_round() {
        let mut sight = Sight::default();
        let node = HostName("n".to_owned());
        let first = sight.begin();
        sight.begin();
        sight.take(look(first, "late"));
        assert!(!sight.complete([&node]));
    }
}

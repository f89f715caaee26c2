//! What a round shows, in one word that an operator can search for.
//!
//! The main finding is about the primary; [`Minor`] ones are about single nodes and are looked after
//! while the primary is well. Both are worked out from fresh answers of both sides: what we see of
//! the primary, and what the standbys hear of it.

/// The main finding of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Finding {
    Healthy,
    PrimaryMoved,
    TooManyClients,
    PrimaryRefuses,
    PrimarySlow,
    PrimaryStarting,
    PrimaryStopping,
    HostGoingDown,
    PrimaryDead,
    PrimaryHung,
    PrimaryUnreachable,
    PrimaryBlind,
    NotLooked,
    IdentityChanged,
    PrimaryDemoted,
    NoPrimarySeen,
    SplitBrain,
    OwnOperationOpen,
    OtherOperationOpen,
    OperationAbandoned,
    NotOwner,
    VotersMissing,
    ControllerIsolated,
}

/// The name, what is seen, and what it means and what to do; for tables, events and
/// `pgorch explain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FindingText {
    pub code: &'static str,
    pub sentence: &'static str,
    pub explain: &'static str,
}

impl Finding {
    pub const ALL: [Finding; 23] = [
        Finding::Healthy,
        Finding::PrimaryMoved,
        Finding::TooManyClients,
        Finding::PrimaryRefuses,
        Finding::PrimarySlow,
        Finding::PrimaryStarting,
        Finding::PrimaryStopping,
        Finding::HostGoingDown,
        Finding::PrimaryDead,
        Finding::PrimaryHung,
        Finding::PrimaryUnreachable,
        Finding::PrimaryBlind,
        Finding::NotLooked,
        Finding::IdentityChanged,
        Finding::PrimaryDemoted,
        Finding::NoPrimarySeen,
        Finding::SplitBrain,
        Finding::OwnOperationOpen,
        Finding::OtherOperationOpen,
        Finding::OperationAbandoned,
        Finding::NotOwner,
        Finding::VotersMissing,
        Finding::ControllerIsolated,
    ];

    #[must_use]
    pub fn code(self) -> &'static str {
        self.text().code
    }

    /// Whether it speaks for a primary that is lost, once it has been seen often enough.
    #[must_use]
    pub fn accuses(self) -> bool {
        matches!(
            self,
            Finding::PrimaryDead
                | Finding::PrimaryHung
                | Finding::PrimaryUnreachable
                | Finding::PrimaryStarting
        )
    }

    #[must_use]
    pub fn text(self) -> FindingText {
        let text = |code, sentence, explain| FindingText { code, sentence, explain };
        match self {
            Finding::Healthy => text(
                "primary_healthy",
                "the primary answers and is who it was",
                "Nothing is to be done about the primary.",
            ),
            Finding::PrimaryMoved => text(
                "primary_moved",
                "another node of the cluster is the primary now",
                "Somebody has changed the roles, for instance by a switchover. The watch looks after the new primary from now on.",
            ),
            Finding::TooManyClients => text(
                "primary_too_many_clients",
                "the primary has no connection left, so it is alive",
                "The server refuses with SQLSTATE 53300, which only a live one does. Raise max_connections, or put a pooler in front of it.",
            ),
            Finding::PrimaryRefuses => text(
                "primary_refuses",
                "the primary answers that it will not talk to the watch",
                "It has an answer with an SQLSTATE, so it is alive. `pgorch apply` mends the role pgorch and its rows in pg_hba.conf and pg_ident.conf.",
            ),
            Finding::PrimarySlow => text(
                "primary_slow",
                "the primary does not answer in time, but somebody hears from it",
                "Its host and its standbys show that it lives: an overloaded server is not a dead one, and a failover would only move the load.",
            ),
            Finding::PrimaryStarting => text(
                "primary_starting",
                "the primary is starting, or in crash recovery",
                "It may be back sooner than a standby could be promoted. After the limit of restart_in_place it counts as lost.",
            ),
            Finding::PrimaryStopping => text(
                "primary_stopping",
                "the primary is being shut down",
                "A clean stop sends the standbys everything; to kill it would lose rows to win a second. When it is down it is replaced, unless the watch is paused: `pgorch pause` before maintenance.",
            ),
            Finding::HostGoingDown => text(
                "host_going_down",
                "the primary's host is shutting down",
                "The clean stop of the server is let finish, then a standby is promoted.",
            ),
            Finding::PrimaryDead => text(
                "primary_dead_on_live_host",
                "the primary's host answers and no server runs there",
                "It can be fenced over SSH, so a standby is promoted at once when a second look shows the same.",
            ),
            Finding::PrimaryHung => text(
                "primary_hung",
                "the primary's processes are there and answer nobody",
                "Neither we nor a standby gets a word from it, look after look. It is killed over SSH without being asked, because a frozen server that is thawed would confirm what it had in hand.",
            ),
            Finding::PrimaryUnreachable => text(
                "primary_unreachable",
                "the primary's host does not answer, and no standby hears from it",
                "It is dead or cut off, which looks the same from here. A standby is promoted only with a proof that the old primary confirms nothing any more: failover.stonith, or its lease waited out.",
            ),
            Finding::PrimaryBlind => text(
                "primary_ssh_lost",
                "the primary's host does not answer us, but standbys hear from it",
                "It is alive, and it is we who are cut off from it. Mend the way to it: until then it cannot be watched.",
            ),
            Finding::NotLooked => text(
                "primary_not_looked_at",
                "this round has no answer about the primary, not even that there is none",
                "The watch itself was late. Nothing is decided on an old answer.",
            ),
            Finding::IdentityChanged => text(
                "identity_changed",
                "the primary answers, but it is not the server that it was",
                "Its system identifier is another, or its timeline or epoch is older than was seen before: restored, initialised anew, or a stale copy. Its lease is not renewed. Stop the watch, look at `pgorch status`, and start it again when this is the server that you want.",
            ),
            Finding::PrimaryDemoted => text(
                "primary_demoted",
                "the node that was the primary is in recovery, and nobody is the primary",
                "An operation was interrupted, or somebody restarted it as a standby. `pgorch resume`, or `pgorch failover`.",
            ),
            Finding::NoPrimarySeen => text(
                "no_primary_seen",
                "no primary has been seen since the watch began",
                "The watch replaces a primary that it has seen alive. Start it (`pgorch start`), or choose one with `pgorch failover`; from then on it is watched.",
            ),
            Finding::SplitBrain => text(
                "split_brain",
                "more than one node is out of recovery",
                "Nobody is promoted. Stop the stale one: `pgorch status` shows both, `pgorch stop` and `pgorch rejoin` bring it back as a standby.",
            ),
            Finding::OwnOperationOpen => text(
                "own_operation_open",
                "an operation of this watch was interrupted",
                "It is continued or undone as `pgorch resume` does, under a higher epoch.",
            ),
            Finding::OtherOperationOpen => text(
                "operation_open",
                "somebody else's operation is not over",
                "Nothing is done meanwhile. If its controller is gone: `pgorch resume`.",
            ),
            Finding::OperationAbandoned => text(
                "operation_abandoned",
                "somebody else's restart of the primary was begun and not ended",
                "Its time is over: nothing of it can take effect any more, so the watch closes it under a higher epoch, as `pgorch resume` does, and looks after the primary again.",
            ),
            Finding::NotOwner => text(
                "not_owner",
                "another watch owns the cluster",
                "Only one watch renews leases and replaces primaries: two could each wait out a lease that the other renews. The voters name the owner. If that one is gone for good: `pgorch watch --take-over`, which is your word for it.",
            ),
            Finding::VotersMissing => text(
                "voters_missing",
                "fewer voters answer than an operation needs",
                "Below a majority of the voters it may be this controller that is cut off, and somebody else may be at work. Nothing is done.",
            ),
            Finding::ControllerIsolated => text(
                "controller_isolated",
                "nobody answers",
                "It is this controller that is cut off. Nothing is done, and nothing has to be: the nodes go on by themselves.",
            ),
        }
    }
}

/// What is wrong with a single node while the primary is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Minor {
    OldPrimaryReturned,
    StandbyDown,
    StandbyAstray,
    StandbyCutOff,
    StandbyUnreachable,
    NoStandbyAttached,
}

impl Minor {
    pub const ALL: [Minor; 6] = [
        Minor::OldPrimaryReturned,
        Minor::StandbyDown,
        Minor::StandbyAstray,
        Minor::StandbyCutOff,
        Minor::StandbyUnreachable,
        Minor::NoStandbyAttached,
    ];

    #[must_use]
    pub fn code(self) -> &'static str {
        self.text().code
    }

    /// Whether it is about a standby that runs and receives nothing.
    #[must_use]
    pub fn of_receivers(self) -> bool {
        matches!(self, Minor::StandbyAstray | Minor::StandbyCutOff)
    }

    #[must_use]
    pub fn text(self) -> FindingText {
        let text = |code, sentence, explain| FindingText { code, sentence, explain };
        match self {
            Minor::OldPrimaryReturned => text(
                "old_primary_returned",
                "a former primary is back, and down",
                "With failover.auto_rejoin it becomes a standby by the cheapest way that is sure to work, as with `pgorch rejoin`.",
            ),
            Minor::StandbyDown => text(
                "standby_down",
                "a standby's host answers and its server is down",
                "It is started again where failover.restart_in_place allows that; else `pgorch start`.",
            ),
            Minor::StandbyAstray => text(
                "standby_astray",
                "a standby runs and receives from nobody",
                "It follows a node that is no upstream any more, or its history has parted from the primary's. With failover.auto_rejoin it is brought back as with `pgorch rejoin`.",
            ),
            Minor::StandbyCutOff => text(
                "standby_cut_off",
                "a standby runs and does not reach the primary",
                "Nothing is done to it: it is well, and goes on by itself when the network between the two does. A rejoin could only take a good standby down.",
            ),
            Minor::StandbyUnreachable => text(
                "standby_unreachable",
                "a standby's host does not answer",
                "Nothing is done: when it is back it is looked after.",
            ),
            Minor::NoStandbyAttached => text(
                "no_standby_attached",
                "the primary is well and no standby receives from it",
                "With quorum replication writes wait; with async what is written now is on one disk only. The primary is not touched.",
            ),
        }
    }
}

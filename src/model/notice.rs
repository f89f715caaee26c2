//! What a watch tells people of, in the words that the inventory, commands and webhooks share.

/// A kind of message. [`NoticeKind::TABLE`] has its word and what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NoticeKind {
    WatchStarted,
    WatchStopped,
    Suspected,
    Alarm,
    Well,
    FailoverStarted,
    FailoverDone,
    FailoverFailed,
    PrimaryChanged,
    Restarted,
    NodeTrouble,
    NodeWell,
    RejoinDone,
    RejoinFailed,
    Paused,
    Unpaused,
}

impl NoticeKind {
    /// Kind, word, severity (`info`, `warning`, `critical`), and what has happened.
    pub const TABLE: [(NoticeKind, &'static str, &'static str, &'static str); 16] = [
        (NoticeKind::WatchStarted, "watch_started", "info", "the watch has begun to look"),
        (NoticeKind::WatchStopped, "watch_stopped", "warning", "the watch has been told to stop"),
        (NoticeKind::Suspected, "suspected", "warning", "something accuses the primary"),
        (
            NoticeKind::Alarm,
            "alarm",
            "critical",
            "something is wrong that the watch may not, or cannot, mend",
        ),
        (NoticeKind::Well, "well", "info", "the primary has been well again for ten seconds"),
        (
            NoticeKind::FailoverStarted,
            "failover_started",
            "critical",
            "the primary is being replaced",
        ),
        (
            NoticeKind::FailoverDone,
            "failover_done",
            "critical",
            "the watch has made another node the primary",
        ),
        (
            NoticeKind::FailoverFailed,
            "failover_failed",
            "critical",
            "a failover came to nothing, or is not over; it is tried again",
        ),
        (
            NoticeKind::PrimaryChanged,
            "primary_changed",
            "warning",
            "another node is the primary, and it was not the watch's doing",
        ),
        (
            NoticeKind::Restarted,
            "restarted",
            "warning",
            "a crashed primary was started again in its place",
        ),
        (
            NoticeKind::NodeTrouble,
            "node_trouble",
            "warning",
            "a standby has been out of order for ten seconds",
        ),
        (NoticeKind::NodeWell, "node_well", "info", "a standby is in order again"),
        (NoticeKind::RejoinDone, "rejoin_done", "info", "a node was brought back as a standby"),
        (NoticeKind::RejoinFailed, "rejoin_failed", "warning", "a node could not be brought back"),
        (NoticeKind::Paused, "paused", "info", "an operator has told the watch to stand by"),
        (NoticeKind::Unpaused, "unpaused", "info", "the pause is over"),
    ];

    fn row(self) -> &'static (NoticeKind, &'static str, &'static str, &'static str) {
        Self::TABLE.iter().find(|row| row.0 == self).unwrap_or(&Self::TABLE[0])
    }

    /// The name in the inventory and in messages.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.row().1
    }

    #[must_use]
    pub fn severity(self) -> &'static str {
        self.row().2
    }

    /// The kind of this name.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::TABLE.iter().find(|row| row.1 == word).map(|row| row.0)
    }

    /// What is sent to whoever does not choose: all but [`NoticeKind::Suspected`], which one lost
    /// packet can bring about.
    #[must_use]
    pub fn usual() -> Vec<Self> {
        Self::TABLE.iter().map(|row| row.0).filter(|kind| *kind != NoticeKind::Suspected).collect()
    }

    /// The kinds as a table for people.
    #[must_use]
    pub fn table() -> String {
        let mut text = String::from("| event | severity | what has happened |\n|---|---|---|\n");
        for (_, word, severity, sentence) in Self::TABLE {
            text += &format!("| {word} | {severity} | {sentence} |\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::NoticeKind;

    #[test]
    fn each_kind_has_its_own_row() {
        for (kind, word, severity, _) in NoticeKind::TABLE {
            assert_eq!((kind.word(), kind.severity()), (word, severity));
            assert_eq!(NoticeKind::of(word), Some(kind));
        }
        assert_eq!(NoticeKind::of("Alarm"), None);
        assert_eq!(NoticeKind::usual().len(), NoticeKind::TABLE.len() - 1);
    }
}

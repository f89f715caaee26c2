//! The rule book: in each phase, what each finding makes of it. A table that is read as it stands;
//! the matrix of its answers is a test, and the diagram in docs/watch.md is made from it.

use super::finding::Finding;

/// Where the watch stands with a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Nothing is known yet, or what was known is doubted: patience begins from nothing.
    Looking,
    /// The primary is well.
    Watching,
    /// Something accuses the primary.
    Suspecting,
    /// It has been seen often enough.
    Convinced,
    /// An operation of ours is under way.
    Acting,
    /// No more by itself until `pgorch ack`.
    Halted,
    /// `pgorch pause`.
    Paused,
}

impl Phase {
    pub const ALL: [Phase; 7] = [
        Phase::Looking,
        Phase::Watching,
        Phase::Suspecting,
        Phase::Convinced,
        Phase::Acting,
        Phase::Halted,
        Phase::Paused,
    ];

    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Phase::Looking => "looking",
            Phase::Watching => "watching",
            Phase::Suspecting => "suspecting",
            Phase::Convinced => "convinced",
            Phase::Acting => "acting",
            Phase::Halted => "halted",
            Phase::Paused => "paused",
        }
    }
}

/// What a rule has the watch do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reaction {
    Nothing,
    /// Probe again soon; the standbys knock at the primary.
    LookHarder,
    /// Take this primary for the one to watch.
    Adopt,
    /// Replace the primary.
    Recover,
    /// Continue or undo an operation of ours.
    Resume,
    /// Nothing can be done from here; somebody should know.
    Alarm,
}

impl Reaction {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Reaction::Nothing => "nothing",
            Reaction::LookHarder => "look harder",
            Reaction::Adopt => "adopt",
            Reaction::Recover => "recover",
            Reaction::Resume => "resume",
            Reaction::Alarm => "alarm",
        }
    }
}

/// One row: exactly one holds for each phase and finding.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    pub name: &'static str,
    pub from: &'static [Phase],
    pub on: &'static [Finding],
    pub reaction: Reaction,
    /// None stays where it is.
    pub to: Option<Phase>,
    pub because: &'static str,
}

use Finding as F;
use Phase as P;

const ALERT: &[Phase] = &[P::Looking, P::Watching, P::Suspecting, P::Convinced];
const DOUBTING: &[Phase] = &[P::Looking, P::Watching, P::Suspecting];
const LOST: &[Finding] =
    &[F::PrimaryDead, F::PrimaryHung, F::PrimaryUnreachable, F::PrimaryStarting];

/// All but [`Finding::PrimaryMoved`].
const NOT_MOVED: &[Finding] = &[
    F::Healthy,
    F::TooManyClients,
    F::PrimaryRefuses,
    F::PrimarySlow,
    F::PrimaryStarting,
    F::PrimaryStopping,
    F::HostGoingDown,
    F::PrimaryDead,
    F::PrimaryHung,
    F::PrimaryUnreachable,
    F::PrimaryBlind,
    F::NotLooked,
    F::IdentityChanged,
    F::PrimaryDemoted,
    F::NoPrimarySeen,
    F::SplitBrain,
    F::OwnOperationOpen,
    F::OtherOperationOpen,
    F::OperationAbandoned,
    F::NotOwner,
    F::VotersMissing,
    F::ControllerIsolated,
];

/// The table.
pub const RULES: &[Rule] = &[
    Rule {
        name: "a-pause-sees-too",
        from: &[P::Paused],
        on: &[F::PrimaryMoved],
        reaction: Reaction::Adopt,
        to: None,
        because: "its lease is renewed during a pause as well, whoever has become the primary",
    },
    Rule {
        name: "pause-is-heeded",
        from: &[P::Paused],
        on: NOT_MOVED,
        reaction: Reaction::Nothing,
        to: None,
        because: "an operator has told the watch to stand by",
    },
    Rule {
        name: "one-thing-at-a-time",
        from: &[P::Acting],
        on: &Finding::ALL,
        reaction: Reaction::Nothing,
        to: None,
        because: "an operation of this watch is under way, and says itself what comes next",
    },
    Rule {
        name: "halted-until-acknowledged",
        from: &[P::Halted],
        on: &Finding::ALL,
        reaction: Reaction::Alarm,
        to: None,
        because: "somebody must have looked before the watch acts again: `pgorch ack`",
    },
    Rule {
        name: "all-is-well",
        from: ALERT,
        on: &[F::Healthy],
        reaction: Reaction::Nothing,
        to: Some(P::Watching),
        because: "the primary answers and is who it was",
    },
    Rule {
        name: "observed-primary-wins",
        from: ALERT,
        on: &[F::PrimaryMoved],
        reaction: Reaction::Adopt,
        to: Some(P::Watching),
        because: "one node is out of recovery, of the same cluster, and not older than what was seen",
    },
    Rule {
        name: "full-is-alive",
        from: ALERT,
        on: &[F::TooManyClients, F::PrimaryRefuses],
        reaction: Reaction::Nothing,
        to: Some(P::Watching),
        because: "only a live server has an answer, whatever it says",
    },
    Rule {
        name: "slow-is-not-dead",
        from: ALERT,
        on: &[F::PrimarySlow],
        reaction: Reaction::LookHarder,
        to: Some(P::Suspecting),
        because: "a standby hears from it, so it is overloaded and not gone",
    },
    Rule {
        name: "blind-is-not-dead",
        from: ALERT,
        on: &[F::PrimaryBlind],
        reaction: Reaction::Alarm,
        to: Some(P::Suspecting),
        because: "a standby hears from it: it is we who are cut off",
    },
    Rule {
        name: "let-a-stop-end",
        from: ALERT,
        on: &[F::PrimaryStopping, F::HostGoingDown],
        reaction: Reaction::LookHarder,
        to: Some(P::Suspecting),
        because: "a clean stop loses nothing; when it is over the primary is replaced",
    },
    Rule {
        name: "look-again",
        from: DOUBTING,
        on: LOST,
        reaction: Reaction::LookHarder,
        to: Some(P::Suspecting),
        because: "one look proves nothing",
    },
    Rule {
        name: "replace-a-lost-primary",
        from: &[P::Convinced],
        on: LOST,
        reaction: Reaction::Recover,
        to: Some(P::Acting),
        because: "look after look shows the same, and no standby hears from it",
    },
    Rule {
        name: "old-answers-decide-nothing",
        from: ALERT,
        on: &[F::NotLooked],
        reaction: Reaction::LookHarder,
        to: None,
        because: "this round has no answer of its own about the primary",
    },
    Rule {
        name: "finish-what-was-begun",
        from: ALERT,
        on: &[F::OwnOperationOpen],
        reaction: Reaction::Resume,
        to: Some(P::Acting),
        because: "an operation of this watch was interrupted",
    },
    Rule {
        name: "close-what-is-over",
        from: ALERT,
        on: &[F::OperationAbandoned],
        reaction: Reaction::Resume,
        to: Some(P::Acting),
        because: "nothing of somebody else's restart can take effect any more, and nobody has ended it",
    },
    Rule {
        name: "not-into-another-operation",
        from: ALERT,
        on: &[F::OtherOperationOpen],
        reaction: Reaction::Alarm,
        to: Some(P::Looking),
        because: "somebody else is at work",
    },
    Rule {
        name: "one-owner",
        from: ALERT,
        on: &[F::NotOwner],
        reaction: Reaction::Alarm,
        to: Some(P::Looking),
        because: "nobody can wait out a lease that somebody else may be renewing",
    },
    Rule {
        name: "cut-off-never-acts",
        from: ALERT,
        on: &[F::ControllerIsolated, F::VotersMissing],
        reaction: Reaction::Alarm,
        to: Some(P::Looking),
        because: "below a majority of the voters it may be we who are cut off",
    },
    Rule {
        name: "never-promote-into-a-split",
        from: ALERT,
        on: &[F::SplitBrain],
        reaction: Reaction::Alarm,
        to: Some(P::Looking),
        because: "a third primary would make it worse",
    },
    Rule {
        name: "know-whom-you-replace",
        from: ALERT,
        on: &[F::NoPrimarySeen, F::PrimaryDemoted, F::IdentityChanged],
        reaction: Reaction::Alarm,
        to: Some(P::Looking),
        because: "who was the primary, or whether this is it, cannot be told from what is seen",
    },
];

/// Where the table says "recover", or the primary is well, one of these may hold instead: its name, what it
/// does, and why.
pub const MORE_RULES: &[(&str, &str, &str)] = &[
    (
        "restart-in-place",
        "start it again",
        "a crashed server on a live host may be back sooner than a standby is promoted, and loses nothing; \
         once, and then it is replaced",
    ),
    (
        "no-proof-no-promotion",
        "alarm",
        "the host does not answer, and nothing could prove that its server confirms nothing",
    ),
    (
        "two-recoveries-and-a-word",
        "alarm",
        "it has been replaced twice within an hour: `pgorch ack` lets the watch go on",
    ),
    ("not-again-at-once", "wait", "the last attempt came to nothing a moment ago"),
    ("bring-members-back", "rejoin", "the primary is well, and a node is not; one at a time"),
];

/// The rule for this phase and finding.
#[must_use]
pub fn rule(phase: Phase, finding: Finding) -> &'static Rule {
    let fits = |r: &&Rule| r.from.contains(&phase) && r.on.contains(&finding);
    RULES.iter().find(fits).unwrap_or(&RULES[0])
}

/// The matrix: a line for each finding, a column for each phase.
#[must_use]
pub fn matrix() -> String {
    let mut text = String::from("| finding |");
    for phase in Phase::ALL {
        text += &format!(" {} |", phase.word());
    }
    text += "\n|---|";
    text += &"---|".repeat(Phase::ALL.len());
    text.push('\n');
    for finding in Finding::ALL {
        text += &format!("| {} |", finding.code());
        for phase in Phase::ALL {
            let rule = rule(phase, finding);
            let to = rule.to.filter(|to| *to != phase).map(|to| format!(" → {}", to.word()));
            text += &format!(" {}{} |", rule.reaction.word(), to.unwrap_or_default());
        }
        text.push('\n');
    }
    text
}

/// The phases and what leads from one to the other, as a Mermaid diagram.
#[must_use]
pub fn diagram() -> String {
    let mut text = String::from("stateDiagram-v2\n  [*] --> looking\n");
    for rule in RULES {
        for from in rule.from {
            let Some(to) = rule.to.filter(|to| to != from) else { continue };
            text += &format!("  {} --> {}: {}\n", from.word(), to.word(), rule.name);
        }
    }
    text += "  suspecting --> convinced: patience is spent\n";
    text += "  acting --> looking: the operation is over\n";
    text += "  acting --> halted: its end is not known, or the budget is used up\n";
    text += "  halted --> looking: pgorch ack\n";
    text += "  looking --> paused: pgorch pause (from everywhere but acting)\n";
    text += "  paused --> looking: pgorch unpause, or its time is over\n";
    text
}

/// The rules as a table for people.
#[must_use]
pub fn rule_table() -> String {
    let mut text = String::from("| rule | does | because |\n|---|---|---|\n");
    for rule in RULES {
        let does = rule.reaction.word();
        text += &format!("| {} | {does} | {} |\n", rule.name, rule.because);
    }
    for (name, does, because) in MORE_RULES {
        text += &format!("| {name} | {does} | {because} |\n");
    }
    text
}

//! How an old node comes back: by a plain start, by a rewind, or by a new copy. A pure choice.
//!
//! The cheapest way that is sure to work is taken. A start is sure where everything that the node has
//! is in the primary's history; a rewind where both histories part at a position that can be known.

use crate::facts::History;
use crate::model::{Lsn, Timeline};

/// The ways, cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rung {
    /// It streams: there is nothing to do.
    Nothing,
    Start,
    Rewind,
    Clone,
}

/// What the user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Auto,
    Only(Rung),
}

/// What a node was when it was last seen to run, or is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Was {
    /// In recovery, and receiving WAL.
    Streaming,
    /// In recovery, or stopped with standby.signal. `clean`: not crashed.
    Standby { clean: bool },
    /// Stopped without the signal.
    Primary { clean: bool },
}

/// A line of timelines, oldest first: each with the position up to which it belongs to the history.
/// The last one is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line(Vec<(Timeline, Lsn)>);

/// Everything that decides.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Old {
    /// There is no data directory: nothing can be lost, and nothing started.
    pub(super) empty: bool,
    pub(super) was: Was,
    /// The last position that it is known to hold: on a former primary the start of the last record,
    /// on a standby the end.
    pub(super) at: (Timeline, Lsn),
    pub(super) line: Line,
    pub(super) primary: Line,
    /// Checksums or wal_log_hints: pages that changed can be found.
    pub(super) rewindable: bool,
    /// An earlier rewind began and did not end: the directory is neither old nor new.
    pub(super) half_rewound: bool,
    /// The node's own WAL from the fork on is not there, and no archive would give it back.
    pub(super) wal_missing: bool,
}

/// The end of a timeline that goes on: where two lines are one, they part nowhere.
pub(super) const NOT_PARTED: Lsn = Lsn(u64::MAX);

impl Rung {
    /// The word in playbooks.
    pub(super) fn word(self) -> &'static str {
        match self {
            Rung::Nothing => "none",
            Rung::Start => "start",
            Rung::Rewind => "rewind",
            Rung::Clone => "clone",
        }
    }
}

impl Line {
    /// The line that ends in `timeline`, by the newest history file that the node has.
    pub(super) fn new(timeline: Timeline, history: Option<&History>) -> Self {
        let known = history.filter(|h| {
            h.timeline == timeline || h.ancestors.iter().any(|(ancestor, _)| *ancestor == timeline)
        });
        let before = known.into_iter().flat_map(|h| &h.ancestors);
        let mut line: Vec<(Timeline, Lsn)> =
            before.take_while(|(ancestor, _)| *ancestor != timeline).copied().collect();
        line.push((timeline, NOT_PARTED));
        Line(line)
    }

    fn timeline(&self) -> Option<Timeline> {
        self.0.last().map(|(timeline, _)| *timeline)
    }

    /// The last timeline that both have, and the position up to which they are one.
    pub(super) fn fork(&self, other: &Line) -> Option<(Timeline, Lsn)> {
        let mut fork = None;
        for ((own, own_end), (their, their_end)) in self.0.iter().zip(&other.0) {
            if own != their {
                break;
            }
            fork = Some((*own, *own_end.min(their_end)));
            if own_end != their_end {
                break;
            }
        }
        fork
    }
}

impl Old {
    /// Where its history leaves the primary's; none if they have nothing in common.
    pub(super) fn fork(&self) -> Option<(Timeline, Lsn)> {
        self.line.fork(&self.primary)
    }

    /// Whether all that it has is in the primary's history.
    fn is_ancestor(&self) -> bool {
        let (timeline, lsn) = self.at;
        self.fork().is_some_and(|(common, end)| {
            // A record ends after its position, so on a former primary "before" is strict.
            let within = if let Was::Primary { .. } = self.was { lsn < end } else { lsn <= end };
            common == timeline && within
        })
    }

    fn left(&self) -> String {
        match self.fork() {
            Some((timeline, lsn)) => {
                format!("its history left the primary's at {lsn} on timeline {timeline}")
            }
            None => "its history has nothing in common with the primary's".to_owned(),
        }
    }

    /// Two promotions from one fork give the same number: a node that wrote on the primary's own
    /// timeline as a primary has another one by that name, whatever the numbers say.
    fn is_twin(&self) -> bool {
        matches!(self.was, Was::Primary { .. }) && self.line.timeline() == self.primary.timeline()
    }

    /// Why a plain start is enough, or why it is not.
    fn start(&self) -> Result<String, String> {
        match self.was {
            _ if self.half_rewound => Err("an earlier rewind of it was interrupted".to_owned()),
            Was::Primary { .. } if self.is_twin() => Err(format!(
                "it was a primary on timeline {}, as the primary is: two histories by one number",
                self.at.0
            )),
            Was::Primary { clean: false } => Err("it was a primary and crashed".to_owned()),
            _ if !self.is_ancestor() => Err(self.left()),
            Was::Primary { .. } => {
                Ok("it was shut down cleanly, and the primary has all that it has".to_owned())
            }
            _ => Ok("the primary has all that it has".to_owned()),
        }
    }

    /// Whether a rewind can be tried, or why it cannot.
    fn rewind(&self) -> Result<(), String> {
        let why = match self.was {
            _ if self.half_rewound => "an earlier rewind of it was interrupted",
            _ if self.is_twin() => "a rewind would take both histories for one",
            _ if self.fork().is_none() => "there is no common history to go back to",
            _ if !self.rewindable => "it has neither data checksums nor wal_log_hints",
            _ if self.wal_missing => "its WAL from the fork on is gone",
            Was::Standby { clean: false } => "a standby that crashed cannot be rewound",
            _ => return Ok(()),
        };
        Err(why.to_owned())
    }
}

/// The way, and why.
///
/// # Errors
/// The way that the user asked for is not open; the reason.
pub(super) fn choose(old: &Old, method: Method) -> Result<(Rung, String), String> {
    if old.was == Was::Streaming {
        return Ok((Rung::Nothing, "it streams".to_owned()));
    }
    if old.empty {
        return match method {
            Method::Auto | Method::Only(Rung::Clone) => {
                Ok((Rung::Clone, "it has no data".to_owned()))
            }
            Method::Only(_) => Err("it has no data, so it can only be cloned".to_owned()),
        };
    }
    let (start, rewind) = (old.start(), old.rewind());
    match method {
        Method::Only(Rung::Start) => start.map(|why| (Rung::Start, why)),
        Method::Only(Rung::Rewind) => rewind.map(|()| (Rung::Rewind, "asked for".to_owned())),
        Method::Only(_) => Ok((Rung::Clone, "asked for".to_owned())),
        Method::Auto => Ok(match (start, rewind) {
            (Ok(why), _) => (Rung::Start, why),
            (Err(why), Ok(())) => (Rung::Rewind, why),
            (Err(why), Err(more)) if why == more => (Rung::Clone, why),
            (Err(why), Err(more)) => (Rung::Clone, format!("{why}; {more}")),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, Method, Old, Rung, Was, choose};
    use crate::facts::History;
    use crate::model::{Lsn, Timeline};

    const FORK: Lsn = Lsn(0x500_0060);

    fn line(timeline: u32, ancestors: &[(u32, Lsn)]) -> Line {
        let ancestors = ancestors.iter().map(|(t, end)| (Timeline(*t), *end)).collect();
        let history = History { timeline: Timeline(timeline), ancestors };
        Line::new(Timeline(timeline), Some(&history))
    }

    /// A primary of timeline 1 whose standby was promoted to timeline 2 at the fork.
    fn old(was: Was, at: u64) -> Old {
        Old {
            empty: false,
            was,
            at: (Timeline(1), Lsn(at)),
            line: line(1, &[]),
            primary: line(2, &[(1, FORK)]),
            rewindable: true,
            half_rewound: false,
            wal_missing: false,
        }
    }

    const CLEAN: Was = Was::Primary { clean: true };

    #[track_caller]
    fn takes(old: &Old, rung: Rung, words: &str) {
        let (taken, why) = choose(old, Method::Auto).expect("a way");
        assert_eq!(taken, rung, "{why}");
        assert!(why.contains(words), "{why}");
    }

    #[test]
    fn the_ladder() {
        takes(&old(Was::Streaming, 0), Rung::Nothing, "streams");
        takes(&old(CLEAN, FORK.0 - 120), Rung::Start, "shut down cleanly");
        // The record at the fork itself is the first that the primary does not have.
        takes(&old(CLEAN, FORK.0), Rung::Rewind, "left the primary's at 0/5000060 on timeline 1");
        takes(&old(Was::Primary { clean: false }, 0), Rung::Rewind, "crashed");
        // What a standby holds is known by its end.
        takes(&old(Was::Standby { clean: true }, FORK.0), Rung::Start, "has all");
        takes(&old(Was::Standby { clean: false }, FORK.0), Rung::Start, "has all");
        takes(&old(Was::Standby { clean: true }, FORK.0 + 1), Rung::Rewind, "left");
        takes(&old(Was::Standby { clean: false }, FORK.0 + 1), Rung::Clone, "crashed");
        takes(&Old { empty: true, ..old(CLEAN, 0) }, Rung::Clone, "no data");
    }

    #[test]
    fn what_cannot_be_rewound_is_cloned() {
        let diverged = || old(CLEAN, FORK.0 + 120);
        takes(&diverged(), Rung::Rewind, "left");
        takes(&Old { rewindable: false, ..diverged() }, Rung::Clone, "neither data checksums");
        takes(&Old { wal_missing: true, ..diverged() }, Rung::Clone, "is gone");
        takes(&Old { half_rewound: true, ..diverged() }, Rung::Clone, "was interrupted");
        // The same number is not the same history, even where nothing seems to have been written.
        let at = (Timeline(2), FORK);
        let twin = Old { line: line(2, &[(1, FORK)]), at, ..old(CLEAN, 0) };
        takes(&twin, Rung::Clone, "two histories by one number");
        let stranger =
            Old { line: line(7, &[(5, FORK)]), at: (Timeline(7), FORK), ..old(CLEAN, 0) };
        takes(&stranger, Rung::Clone, "nothing in common");
    }

    #[test]
    fn a_node_on_a_timeline_of_its_own_goes_back_to_where_it_left() {
        // Promoted by mistake while the primary went on.
        let mistaken = Old {
            line: line(2, &[(1, FORK)]),
            at: (Timeline(2), Lsn(FORK.0 + 500)),
            primary: line(1, &[]),
            ..old(CLEAN, 0)
        };
        assert_eq!(mistaken.fork(), Some((Timeline(1), FORK)));
        takes(&mistaken, Rung::Rewind, "left the primary's at 0/5000060 on timeline 1");
        // Both were promoted from timeline 1, at different positions: the earlier one counts.
        let both = Old { primary: line(3, &[(1, Lsn(0x400_0000))]), ..mistaken };
        assert_eq!(both.fork(), Some((Timeline(1), Lsn(0x400_0000))));
        // A history file of a later timeline says where this one ended in that history, not here.
        let history = History { timeline: Timeline(3), ancestors: vec![(Timeline(1), FORK)] };
        assert_eq!(Line::new(Timeline(1), Some(&history)), line(1, &[]));
    }

    #[test]
    fn what_is_asked_for_is_done_or_refused() {
        let only = |old: &Old, rung| choose(old, Method::Only(rung));
        let diverged = old(CLEAN, FORK.0 + 120);
        assert!(only(&diverged, Rung::Start).expect_err("refused").contains("left the primary's"));
        assert_eq!(only(&diverged, Rung::Clone).expect("a way").0, Rung::Clone);
        let ancestor = old(CLEAN, FORK.0 - 120);
        assert_eq!(only(&ancestor, Rung::Rewind).expect("a way").0, Rung::Rewind);
        let gone = Old { wal_missing: true, ..diverged };
        assert!(only(&gone, Rung::Rewind).expect_err("refused").contains("is gone"));
        assert!(only(&Old { empty: true, ..gone }, Rung::Start).is_err());
    }
}

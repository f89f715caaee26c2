//! Everybody who is told what the rounds come to: events, people, the terminal, the service manager.
//! Nobody here holds up a round.

use std::sync::Arc;
use std::time::Duration;

use super::notify::Notifier;
use super::supervisor::Supervisor;
use crate::clock;
use crate::event::{Event, Kind, Sink};
use crate::model::NoticeKind;
use crate::watch::{Act, ActEnd, Board, Decision, Notice, Notices, Verdict};

/// For messages that wait when the watch ends.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Draws the table of a terminal.
pub type Draw = Box<dyn Fn(&Board) + Send + Sync>;

/// Whom a watch tells.
pub struct Audience {
    pub sink: Arc<dyn Sink>,
    /// None in a dry run.
    pub notifier: Option<Notifier>,
    pub notices: Notices,
    pub supervisor: Supervisor,
    /// The terminal's table, where there is one.
    pub draw: Option<Draw>,
    pub cluster: String,
    /// How the watch names itself.
    pub controller: String,
}

/// Remembers what was told last.
pub(super) struct Teller {
    to: Audience,
    last: Option<String>,
    verdict: Option<Verdict>,
}

impl Teller {
    pub(super) fn new(to: Audience) -> Self {
        Teller { to, last: None, verdict: None }
    }

    /// The watch begins.
    pub(super) fn begin(&mut self) {
        let text = format!("{} looks after {}", self.to.controller, self.to.cluster);
        self.notify(&Notice::new(NoticeKind::WatchStarted, text));
    }

    /// A round has ended.
    pub(super) fn round(&mut self, verdict: &Verdict, board: &Board) {
        self.verdict = Some(verdict.clone());
        self.to.supervisor.round(&board.headline());
        for notice in self.to.notices.round(verdict, clock::raw()) {
            self.notify(&notice);
        }
        self.decided(verdict, board);
        if let Some(draw) = &self.to.draw {
            draw(board);
        }
    }

    /// An act is over.
    pub(super) fn over(&mut self, act: &Act, end: &ActEnd) {
        let (word, why) = match end {
            ActEnd::Done => ("done", String::new()),
            ActEnd::Refused { code, why } => ("came to nothing", format!(": {why} ({code})")),
            ActEnd::Open { why } => ("is not over", format!(": {why}")),
        };
        let text = format!("{} {word}{why}", act.describe());
        self.to.sink.emit(&Event::run(Kind::Notice, text));
        if let Some(notice) = self.to.notices.ended(act, end) {
            self.notify(&notice);
        }
        self.last = None;
    }

    /// The watch ends; what waits to be delivered is delivered, for a moment.
    pub(super) async fn end(self) {
        self.to.supervisor.stopping();
        let text = format!("{} looks after {} no more", self.to.controller, self.to.cluster);
        self.notify(&Notice::new(NoticeKind::WatchStopped, text));
        if let Some(notifier) = self.to.notifier {
            notifier.finish(LAST_WORDS).await;
        }
    }

    fn notify(&self, notice: &Notice) {
        let Some(notifier) = &self.to.notifier else { return };
        let time = clock::wall().to_string();
        let about = (self.to.cluster.as_str(), self.to.controller.as_str(), time.as_str());
        notifier.tell(notice.kind, &notice.document(about, self.verdict.as_ref()));
    }

    /// Tells a round that is another than the one before.
    fn decided(&mut self, verdict: &Verdict, board: &Board) {
        let decision = verdict.decision.describe();
        let minors: Vec<String> = verdict
            .minors
            .iter()
            .map(|(minor, node)| format!("{node}: {}", minor.code()))
            .collect();
        let key = format!(
            "{} {} {} {decision} {minors:?} {:?} {:?}",
            verdict.phase.word(),
            verdict.finding.code(),
            verdict.rule,
            verdict.primary,
            verdict.pause
        );
        if self.last.as_ref() == Some(&key) {
            return;
        }
        self.last = Some(key);
        let text = format!(
            "{}: {} -> {decision} ({}: {})",
            verdict.phase.word(),
            verdict.finding.code(),
            verdict.rule,
            verdict.because
        );
        let mut evidence = verdict.evidence.clone();
        evidence.extend(minors.iter().cloned());
        let data = serde_json::json!({
            "phase": verdict.phase.word(),
            "finding": verdict.finding.code(),
            "rule": verdict.rule,
            "because": verdict.because,
            "decision": decision,
            "alarm": match verdict.decision {
                Decision::Alarm { code } => Some(code),
                _ => None,
            },
            "primary": verdict.primary,
            "pause": verdict.pause,
            "evidence": evidence,
            "minors": minors,
            "nodes": board.nodes,
        });
        self.to.sink.emit(&Event::run(Kind::Decided { data }, text));
    }
}

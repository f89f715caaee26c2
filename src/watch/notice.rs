//! What of the rounds people are told, and when: once, and not for what is over before it is read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;

use super::decision::{Act, ActEnd, Decision, Verdict};
use super::finding::{Finding, Minor};
use crate::model::{HostName, Instant, NoticeKind, Value};

/// What stands in the way of the watch is told after this time: a round that missed is no news.
const ALARMING: Duration = Duration::from_secs(2);
/// Single nodes, and being well again: so that what comes and goes is not told each time.
const LASTING: Duration = Duration::from_secs(10);

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    pub kind: NoticeKind,
    pub message: String,
    /// Which node it is about, if it is about one.
    pub node: Option<HostName>,
    /// The finding, alarm or refusal behind it, for `pgorch explain`.
    pub code: Option<String>,
}

impl Notice {
    #[must_use]
    pub fn new(kind: NoticeKind, message: impl Into<String>) -> Self {
        Notice { kind, message: message.into(), node: None, code: None }
    }

    fn of(self, node: &HostName) -> Self {
        Notice { node: Some(node.clone()), ..self }
    }

    fn code(self, code: &str) -> Self {
        Notice { code: Some(code.to_owned()), ..self }
    }

    /// The document that commands and webhooks get. `time` is RFC 3339; `verdict` is of the round in
    /// which it came about.
    #[must_use]
    pub fn document(
        &self,
        (cluster, controller, time): (&str, &str, &str),
        verdict: Option<&Verdict>,
    ) -> Value {
        json!({
            "schema": 1,
            "time": time,
            "cluster": cluster,
            "controller": controller,
            "event": self.kind.word(),
            "severity": self.kind.severity(),
            "message": self.message,
            "node": self.node,
            "code": self.code,
            "primary": verdict.and_then(|v| v.primary.as_ref()),
            "phase": verdict.map(|v| v.phase.word()),
            "finding": verdict.map(|v| v.finding.code()),
            "rule": verdict.map(|v| v.rule),
            "evidence": verdict.map_or(&[][..], |v| &v.evidence),
        })
    }
}

/// A finding about a node that comes or goes.
#[derive(Debug, Clone, Copy)]
struct Trouble {
    since: Instant,
    gone: Option<Instant>,
    told: bool,
}

/// What was told already.
#[derive(Debug, Clone, Default)]
pub struct Notices {
    primary: Option<HostName>,
    /// A failover of this watch has ended, and its primary was not seen yet.
    own: bool,
    paused: bool,
    wrong: Option<Instant>,
    well: Option<Instant>,
    /// Of what is wrong now.
    told: BTreeSet<String>,
    troubles: BTreeMap<(Minor, HostName), Trouble>,
    /// Nodes that could not be brought back.
    failed: BTreeSet<HostName>,
}

impl Notices {
    /// `primary` is whom an earlier watch of this controller knew.
    #[must_use]
    pub fn new(primary: Option<HostName>) -> Self {
        Notices { primary, ..Notices::default() }
    }

    /// What a round is worth telling.
    pub fn round(&mut self, verdict: &Verdict, now: Instant) -> Vec<Notice> {
        let mut out = Vec::new();
        self.pause(verdict, &mut out);
        match verdict.finding {
            Finding::Healthy | Finding::PrimaryMoved => {
                self.seen(verdict, &mut out);
                self.well(now, &mut out);
                self.nodes(verdict, now, &mut out);
            }
            _ => self.wrong(verdict, now, &mut out),
        }
        out
    }

    fn once(&mut self, key: impl Into<String>) -> bool {
        self.told.insert(key.into())
    }

    fn pause(&mut self, verdict: &Verdict, out: &mut Vec<Notice>) {
        let paused = verdict.pause.is_some();
        if paused == std::mem::replace(&mut self.paused, paused) {
            return;
        }
        out.push(match &verdict.pause {
            Some(pause) => Notice::new(NoticeKind::Paused, pause.describe()),
            None => Notice::new(NoticeKind::Unpaused, "the watch acts again"),
        });
    }

    fn seen(&mut self, verdict: &Verdict, out: &mut Vec<Notice>) {
        let Some(primary) = &verdict.primary else { return };
        let own = std::mem::take(&mut self.own);
        let before = self.primary.replace(primary.clone()).filter(|before| before != primary);
        let Some(before) = before else { return };
        let kind = if own { NoticeKind::FailoverDone } else { NoticeKind::PrimaryChanged };
        let text = format!("{primary} is the primary; it was {before}");
        out.push(Notice::new(kind, text).of(primary));
    }

    fn well(&mut self, now: Instant, out: &mut Vec<Notice>) {
        self.wrong = None;
        let since = *self.well.get_or_insert(now);
        if !self.told.is_empty() && now.since(since) >= LASTING {
            self.told.clear();
            let name = self.primary.as_ref().map_or("the primary", HostName::as_str);
            out.push(Notice::new(NoticeKind::Well, format!("{name} is well")));
        }
    }

    fn wrong(&mut self, verdict: &Verdict, now: Instant, out: &mut Vec<Notice>) {
        self.well = None;
        let since = *self.wrong.get_or_insert(now);
        let finding = verdict.finding;
        match &verdict.decision {
            Decision::Alarm { code } if now.since(since) >= ALARMING && self.once(*code) => {
                let what = match finding.code() == *code {
                    true => finding.text().sentence,
                    false => &verdict.because,
                };
                let text = format!("{code}: {what}");
                out.push(Notice::new(NoticeKind::Alarm, text).code(code));
            }
            Decision::LookHarder if finding.accuses() && self.once(finding.code()) => {
                let text = format!("{}: {}", finding.code(), finding.text().sentence);
                out.push(Notice::new(NoticeKind::Suspected, text).code(finding.code()));
            }
            Decision::Act(Act::Failover { primary, finding, .. }) if self.once("failover") => {
                let text = format!("{primary} is being replaced: {}", finding.text().sentence);
                let notice = Notice::new(NoticeKind::FailoverStarted, text);
                out.push(notice.of(primary).code(finding.code()));
            }
            _ => {}
        }
    }

    fn nodes(&mut self, verdict: &Verdict, now: Instant, out: &mut Vec<Notice>) {
        for key in &verdict.minors {
            let fresh = Trouble { since: now, gone: None, told: false };
            let trouble = self.troubles.entry(key.clone()).or_insert(fresh);
            trouble.gone = None;
            if !trouble.told && now.since(trouble.since) >= LASTING {
                trouble.told = true;
                let (minor, node) = key;
                let text = format!("{node}: {}", minor.text().sentence);
                out.push(Notice::new(NoticeKind::NodeTrouble, text).of(node).code(minor.code()));
            }
        }
        self.troubles.retain(|key, trouble| {
            if verdict.minors.contains(key) {
                return true;
            }
            let gone = *trouble.gone.get_or_insert(now);
            if trouble.told && now.since(gone) < LASTING {
                return true;
            }
            if trouble.told {
                let (minor, node) = key;
                let text = format!("{node} is in order again");
                out.push(Notice::new(NoticeKind::NodeWell, text).of(node).code(minor.code()));
            }
            false
        });
    }

    /// What the end of an act is worth telling.
    pub fn ended(&mut self, act: &Act, end: &ActEnd) -> Option<Notice> {
        match (act, end) {
            (Act::Failover { .. } | Act::Resume, ActEnd::Done) => {
                // Told when the new primary is seen to be one.
                self.own = true;
                None
            }
            (Act::Failover { .. } | Act::Resume, ActEnd::Refused { code, why }) => {
                let text = format!("{} came to nothing: {why}", act.describe());
                let news = self.once(format!("refused {code}"));
                news.then(|| Notice::new(NoticeKind::FailoverFailed, text).code(code))
            }
            (Act::Failover { .. } | Act::Resume, ActEnd::Open { why }) => {
                let text = format!("{} is not over: {why}", act.describe());
                let news = self.once("open");
                news.then(|| Notice::new(NoticeKind::FailoverFailed, text))
            }
            (Act::Restart { primary, .. }, ActEnd::Done) => {
                let text = format!("{primary} had crashed and was started again");
                Some(Notice::new(NoticeKind::Restarted, text).of(primary))
            }
            // It is replaced now, which is told.
            (Act::Restart { .. }, _) => None,
            (Act::Rejoin { node, .. }, ActEnd::Done) => {
                self.failed.remove(node);
                let text = format!("{node} is a standby again");
                Some(Notice::new(NoticeKind::RejoinDone, text).of(node))
            }
            (Act::Rejoin { node, .. }, ActEnd::Refused { code, why }) => {
                let text = format!("{node} could not be brought back: {why}");
                let news = self.failed.insert(node.clone());
                news.then(|| Notice::new(NoticeKind::RejoinFailed, text).of(node).code(code))
            }
            (Act::Rejoin { node, .. }, ActEnd::Open { why }) => {
                let text = format!("{node} could not be brought back: {why}");
                let news = self.failed.insert(node.clone());
                news.then(|| Notice::new(NoticeKind::RejoinFailed, text).of(node))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rules::Phase;
    use super::*;
    use crate::facts::Pause;

    fn at(ms: u64) -> Instant {
        Instant(Duration::from_millis(ms))
    }

    fn name(text: &str) -> HostName {
        HostName(text.to_owned())
    }

    fn round(finding: Finding, decision: Decision) -> Verdict {
        Verdict {
            round: 1,
            phase: Phase::Watching,
            finding,
            rule: "r",
            because: "b".to_owned(),
            evidence: vec!["e".to_owned()],
            minors: Vec::new(),
            primary: (finding == Finding::Healthy).then(|| name("n1")),
            decision,
            next: at(0),
            knock: false,
            renewals: Vec::new(),
            pause: None,
        }
    }

    fn well() -> Verdict {
        round(Finding::Healthy, Decision::Nothing)
    }

    fn words(notices: &[Notice]) -> Vec<&'static str> {
        notices.iter().map(|n| n.kind.word()).collect()
    }

    fn failover() -> Act {
        Act::Failover {
            primary: name("n1"),
            finding: Finding::PrimaryDead,
            reachable: true,
            silent: Duration::ZERO,
        }
    }

    #[test]
    fn a_failover_is_told_from_its_suspicion_to_its_end() {
        let mut told = Notices::new(None);
        assert_eq!(words(&told.round(&well(), at(0))), [""; 0]);
        let look = round(Finding::PrimaryDead, Decision::LookHarder);
        assert_eq!(words(&told.round(&look, at(1_000))), ["suspected"]);
        assert_eq!(words(&told.round(&look, at(1_100))), [""; 0], "once");
        let act = round(Finding::PrimaryDead, Decision::Act(failover()));
        let notices = told.round(&act, at(1_200));
        assert_eq!(words(&notices), ["failover_started"]);
        assert_eq!(notices[0].node, Some(name("n1")));
        assert_eq!(told.ended(&failover(), &ActEnd::Done), None);
        let new = Verdict { primary: Some(name("n2")), ..well() };
        let notices = told.round(&new, at(2_000));
        assert_eq!(words(&notices), ["failover_done"]);
        assert_eq!(notices[0].message, "n2 is the primary; it was n1");
        assert_eq!(words(&told.round(&new, at(11_000))), [""; 0]);
        assert_eq!(words(&told.round(&new, at(12_000))), ["well"]);
        // Somebody's switchover.
        assert_eq!(words(&told.round(&well(), at(13_000))), ["primary_changed"]);
    }

    #[test]
    fn an_attempt_that_fails_again_for_the_same_reason_is_told_once() {
        let mut told = Notices::new(Some(name("n1")));
        let end = ActEnd::Refused { code: "failover_no_candidate".to_owned(), why: "x".to_owned() };
        let first = told.ended(&failover(), &end).expect("news");
        assert_eq!(first.code.as_deref(), Some("failover_no_candidate"));
        assert_eq!(told.ended(&failover(), &end), None);
        let other = ActEnd::Open { why: "y".to_owned() };
        assert!(told.ended(&failover(), &other).is_some());
    }

    #[test]
    fn a_missed_round_alarms_nobody() {
        let mut told = Notices::new(None);
        let alarm =
            round(Finding::ControllerIsolated, Decision::Alarm { code: "controller_isolated" });
        assert_eq!(words(&told.round(&alarm, at(0))), [""; 0]);
        assert_eq!(words(&told.round(&well(), at(1_000))), [""; 0]);
        assert_eq!(words(&told.round(&alarm, at(2_500))), [""; 0], "it was well in between");
        let notices = told.round(&alarm, at(4_500));
        assert_eq!(words(&notices), ["alarm"]);
        assert_eq!(notices[0].code.as_deref(), Some("controller_isolated"));
        assert_eq!(words(&told.round(&alarm, at(60_000))), [""; 0], "once");
        assert_eq!(words(&told.round(&well(), at(61_000))), [""; 0]);
        assert_eq!(words(&told.round(&alarm, at(62_000))), [""; 0], "it was not well for long");
        told.round(&well(), at(70_000));
        assert_eq!(words(&told.round(&well(), at(80_000))), ["well"]);
    }

    #[test]
    fn a_standby_that_comes_and_goes_is_told_once() {
        let mut told = Notices::new(None);
        let lost = Verdict { minors: vec![(Minor::StandbyUnreachable, name("n2"))], ..well() };
        for (time, verdict, expected) in [
            (0, &lost, None),
            (9_000, &lost, None),
            (10_000, &lost, Some("node_trouble")),
            (11_000, &well(), None),
            (12_000, &lost, None),
            (13_000, &well(), None),
            (23_000, &well(), Some("node_well")),
            (24_000, &well(), None),
            // A standby that is back before anybody was told.
            (30_000, &lost, None),
            (31_000, &well(), None),
            (50_000, &well(), None),
        ] {
            let notices = told.round(verdict, at(time));
            assert_eq!(words(&notices), Vec::from_iter(expected), "{time}");
        }
    }

    #[test]
    fn a_pause_is_told_with_who_and_why() {
        let mut told = Notices::new(None);
        let pause = Pause {
            said: 0,
            paused: true,
            until: None,
            by: "a@b".to_owned(),
            reason: Some("new switch".to_owned()),
        };
        let paused = Verdict { pause: Some(pause), ..well() };
        let notices = told.round(&paused, at(0));
        assert_eq!(words(&notices), ["paused"]);
        assert!(notices[0].message.contains("a@b"), "{}", notices[0].message);
        assert!(notices[0].message.contains("new switch"), "{}", notices[0].message);
        assert_eq!(words(&told.round(&paused, at(1_000))), [""; 0]);
        assert_eq!(words(&told.round(&well(), at(2_000))), ["unpaused"]);
    }

    #[test]
    fn the_document_has_one_form() {
        let notice = Notice::new(NoticeKind::Alarm, "m").of(&name("n1")).code("c");
        let verdict = round(Finding::SplitBrain, Decision::Nothing);
        let document = notice.document(("accounts", "w", "2026-01-02T03:04:05Z"), Some(&verdict));
        insta::assert_snapshot!(document, @r#"{"schema":1,"time":"2026-01-02T03:04:05Z","cluster":"accounts","controller":"w","event":"alarm","severity":"critical","message":"m","node":"n1","code":"c","primary":null,"phase":"watching","finding":"split_brain","rule":"r","evidence":["e"]}"#);
        let document = notice.document(("a", "w", "t"), None);
        assert_eq!(document["evidence"], serde_json::json!([]));
        assert_eq!(document["phase"], Value::Null);
    }
}

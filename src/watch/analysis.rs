//! From what a round saw to its finding: a pure function of both sides' words.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::facts::OperationRecord;
use crate::model::{HostName, Instant, Lsn, SystemIdentifier, Timeline};

use super::finding::{Finding, Minor};
use super::observation::{Answering, HostSeen, Reach, Seen, ServerSeen, Sight};

/// The primary as it was when it was last seen well.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    pub primary: HostName,
    pub system: Option<SystemIdentifier>,
    pub timeline: Option<Timeline>,
    pub lsn: Option<Lsn>,
    pub epoch: u64,
}

/// A member as the inventory declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    pub address: String,
    pub port: u16,
    pub slot: String,
}

/// What stays the same from round to round.
#[derive(Debug, Clone, PartialEq)]
pub struct Members {
    pub nodes: BTreeMap<HostName, Declared>,
    /// Nodes and witnesses.
    pub voters: Vec<HostName>,
    /// How this watch names itself in the records of its operations.
    pub identity: String,
}

impl Members {
    /// How many voters an operation needs.
    #[must_use]
    pub fn quorum(&self) -> usize {
        self.voters.len() / 2 + 1
    }
}

/// A round, understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    pub finding: Finding,
    /// False where an accusation lacks a word of the other side: it does not count.
    pub sure: bool,
    /// The one node that is out of recovery.
    pub primary: Option<HostName>,
    /// Lines for people.
    pub evidence: Vec<String>,
    pub minors: Vec<(Minor, HostName)>,
    /// Standbys that are to knock at the primary's port in the next look.
    pub knock: bool,
}

/// A standby whose receiver has been silent this long has heard nothing for more than half of
/// `wal_sender_timeout` (5 s), after which an idle sender sends a keepalive (PostgreSQL manual,
/// runtime-config-replication). Seconds.
const KEEPALIVE: f64 = 3.0;

/// Looks at a round. `missed` is when the last look of the primary before this one was asked for, if it
/// was missed as well.
#[must_use]
pub fn analyse(
    members: &Members,
    sight: &Sight,
    recorded: Option<&Recorded>,
    missed: Option<Instant>,
) -> Picture {
    let view = View { members, sight, recorded, missed };
    let mut picture = view.main();
    if picture.finding == Finding::Healthy {
        picture.minors = view.minors();
        // Whether who receives nothing could is asked of it, before anything is done there.
        picture.knock = picture.minors.iter().any(|(minor, _)| minor.of_receivers());
    }
    picture
}

struct View<'a> {
    members: &'a Members,
    sight: &'a Sight,
    recorded: Option<&'a Recorded>,
    missed: Option<Instant>,
}

fn only(finding: Finding, evidence: impl Into<String>) -> Picture {
    Picture {
        finding,
        sure: true,
        primary: None,
        evidence: vec![evidence.into()],
        minors: Vec::new(),
        knock: false,
    }
}

impl View<'_> {
    fn main(&self) -> Picture {
        let voters = &self.members.voters;
        if !voters.iter().any(|v| self.sight.fresh(v).is_some()) {
            return only(Finding::NotLooked, "no host was asked in time");
        }
        let there = voters.iter().filter(|v| self.sight.host(v).is_some()).count();
        if there == 0 {
            let text = format!("none of {} hosts answers", voters.len());
            return only(Finding::ControllerIsolated, text);
        }
        // One that says so is enough to stand back.
        let owners = voters.iter().filter_map(|v| Some((v, self.sight.host(v)?.owner.as_ref()?)));
        if let Some((voter, owner)) = owners.clone().find(|(_, o)| **o != self.members.identity) {
            return only(Finding::NotOwner, format!("{voter} names {owner}"));
        }
        let out = |n: &&HostName| self.sight.server(n).is_some_and(|s| !s.in_recovery);
        let primaries: Vec<&HostName> = self.members.nodes.keys().filter(out).collect();
        let mut picture = match (primaries.as_slice(), self.recorded) {
            ([_, _, ..], _) => {
                let names: Vec<&str> = primaries.iter().map(|n| n.as_str()).collect();
                let text = format!("{} are out of recovery", names.join(" and "));
                return only(Finding::SplitBrain, text);
            }
            ([one], recorded) => self.one_primary(one, recorded),
            ([], None) => {
                only(Finding::NoPrimarySeen, "no node is out of recovery, and none was seen to be")
            }
            ([], Some(recorded)) => self.gone(recorded),
        };
        picture.primary = match primaries.as_slice() {
            [one] => Some((*one).clone()),
            _ => None,
        };
        let finding = picture.finding;
        if let Some((node, record)) = self.open() {
            let own = record.controller == self.members.identity;
            let text = format!("the {} to {} is open on {node}", record.kind, record.candidate);
            if own {
                picture.finding = Finding::OwnOperationOpen;
                picture.evidence.insert(0, text);
            } else if finding != Finding::Healthy {
                picture.finding = Finding::OtherOperationOpen;
                picture.evidence.insert(0, format!("{text}, by {}", record.controller));
            }
        }
        if picture.finding.accuses() && there < self.members.quorum() {
            picture.finding = Finding::VotersMissing;
            let text = format!("{there} of {} voters answer", voters.len());
            picture.evidence.insert(0, text);
        }
        picture
    }

    /// The newest operation that is not over on some voter.
    fn open(&self) -> Option<(&HostName, &OperationRecord)> {
        let hosts = self.members.voters.iter().filter_map(|v| Some((v, self.sight.host(v)?)));
        let open = hosts.filter_map(|(v, h)| Some((h.epoch.epoch, v, h.epoch.open()?)));
        open.max_by_key(|(epoch, ..)| *epoch).map(|(_, voter, record)| (voter, record))
    }

    fn one_primary(&self, name: &HostName, recorded: Option<&Recorded>) -> Picture {
        let (Some(host), Some(server)) = (self.sight.host(name), self.sight.server(name)) else {
            return only(Finding::NotLooked, "");
        };
        let text = format!("{name} answers as the primary");
        let Some(recorded) = recorded else { return only(Finding::PrimaryMoved, text) };
        let differs = |what: String| only(Finding::IdentityChanged, format!("{name}: {what}"));
        if let (Some(was), Some(is)) = (recorded.system, server.system)
            && was != is
        {
            return differs(format!("its system identifier is {is}, it was {was}"));
        }
        if host.epoch.epoch < recorded.epoch {
            return differs(format!(
                "has stored epoch {}, {} was seen",
                host.epoch.epoch, recorded.epoch
            ));
        }
        let (was, is) = (recorded.timeline, server.timeline);
        match (*name == recorded.primary, is.cmp(&was)) {
            (true, std::cmp::Ordering::Equal) => only(Finding::Healthy, text),
            (_, std::cmp::Ordering::Greater) => only(Finding::PrimaryMoved, text),
            // Nobody becomes the primary on the timeline of another.
            _ => {
                let number = |t: Option<Timeline>| t.map_or("none".to_owned(), |t| t.0.to_string());
                differs(format!("it is on timeline {}, {} was seen", number(is), number(was)))
            }
        }
    }

    /// Nobody is out of recovery, and this node was.
    fn gone(&self, recorded: &Recorded) -> Picture {
        let name = &recorded.primary;
        let Some(look) = self.sight.fresh(name) else {
            return only(Finding::NotLooked, format!("{name} was not asked in time"));
        };
        match &look.seen {
            Seen::Silent { why } => {
                let text = format!("{name} does not answer: {why}");
                self.silent(name, look.asked, text, Finding::PrimaryUnreachable)
            }
            Seen::Host(host) => self.live_host(name, look.asked, host),
        }
    }

    fn live_host(&self, name: &HostName, asked: Instant, host: &HostSeen) -> Picture {
        let says = |what: &str| format!("{name}: its host answers; {what}");
        match (&host.server, host.postmaster) {
            (ServerSeen::Answers(_), _) => only(Finding::PrimaryDemoted, says("it is in recovery")),
            (ServerSeen::StartingUp, _) => {
                only(Finding::PrimaryStarting, says("the server is starting"))
            }
            (ServerSeen::TooManyClients, _) => {
                only(Finding::TooManyClients, says("every connection is taken"))
            }
            (ServerSeen::ShuttingDown, Some(_)) if host.going_down => {
                only(Finding::HostGoingDown, says("the host shuts down"))
            }
            (ServerSeen::ShuttingDown, Some(_)) => {
                only(Finding::PrimaryStopping, says("the server shuts down"))
            }
            (_, None) => {
                let text = format!("no server runs (unit {})", host.unit);
                match host.unit.as_str() {
                    "deactivating" => only(Finding::PrimaryStopping, says(&text)),
                    "activating" => only(Finding::PrimaryStarting, says(&text)),
                    _ => only(Finding::PrimaryDead, says(&text)),
                }
            }
            (ServerSeen::Refuses(why), Some(_)) => only(Finding::PrimaryRefuses, says(why)),
            (ServerSeen::NoAnswer(why), Some(pid)) => {
                if host.going_down {
                    return only(Finding::HostGoingDown, says("the host shuts down"));
                }
                let text = says(&format!("the postmaster {pid} does not answer: {why}"));
                self.silent(name, asked, text, Finding::PrimaryHung)
            }
            // The session is being made: nothing is known of it yet.
            (ServerSeen::NotAsked, Some(_)) => Picture {
                sure: false,
                ..only(Finding::PrimaryHung, says("the server was not asked"))
            },
        }
    }

    /// It says nothing to us: what do the standbys hear?
    fn silent(&self, name: &HostName, asked: Instant, text: String, worst: Finding) -> Picture {
        let mut picture = only(worst, text);
        picture.knock = true;
        let mut asked_of = 0;
        for (standby, declared) in self.members.nodes.iter().filter(|(n, _)| *n != name) {
            let Some(hears) = self.hears(standby, name, asked) else { continue };
            asked_of += 1;
            let words = match hears {
                Some(true) => "hears from it",
                Some(false) => "does not hear from it",
                None => "cannot tell yet whether it hears from it",
            };
            picture.evidence.push(format!("{standby} ({}) {words}", declared.address));
            match hears {
                Some(true) => {
                    picture.finding = match worst {
                        Finding::PrimaryHung => Finding::PrimarySlow,
                        _ => Finding::PrimaryBlind,
                    };
                }
                Some(false) => {}
                None => picture.sure = false,
            }
        }
        if asked_of == 0 {
            picture.sure = false;
            picture.evidence.push("no standby of its can be asked".to_owned());
        }
        picture
    }

    /// Whether a standby hears from the primary: yes, no, or it cannot tell yet; none where it is
    /// no standby that answers.
    fn hears(
        &self,
        standby: &HostName,
        primary: &HostName,
        asked: Instant,
    ) -> Option<Option<bool>> {
        let look = self.sight.fresh(standby)?;
        let host = self.sight.host(standby)?;
        if let Some(Reach::Accepts | Reach::Rejects) = host.reaches_primary {
            return Some(Some(true));
        }
        let server = self.sight.server(standby).filter(|s| s.in_recovery);
        let receiver = server.and_then(|server| self.receiver_of(server, primary));
        // The moment of its last message, on our clock; its own may run up to a tenth faster.
        let silent = receiver.map(|r| Duration::try_from_secs_f64(r.silent_seconds.max(0.0) * 1.1));
        let heard = silent.and_then(|s| look.arrived.0.checked_sub(s.unwrap_or(Duration::MAX)));
        if heard.is_some_and(|heard| heard > self.missed.unwrap_or(asked).0) {
            return Some(Some(true));
        }
        // A knock that nobody answered in time counts against it only where the receiver hears nothing either.
        match (host.reaches_primary, server, receiver) {
            (Some(_), ..) => Some(Some(false)),
            (None, None, _) => None,
            // Without a connection it hears nothing; but it may only have lost its own way.
            (None, Some(_), None) => Some(None),
            (None, _, Some(r)) => Some((r.silent_seconds >= KEEPALIVE).then_some(false)),
        }
    }

    fn receiver_of<'a>(
        &self,
        server: &'a Answering,
        primary: &HostName,
    ) -> Option<&'a super::observation::ReceiverSeen> {
        let of = self.members.nodes.get(primary)?;
        let receiver = server.receiver.as_ref()?;
        let same = receiver.host == of.address && receiver.port == of.port;
        (same && receiver.streaming).then_some(receiver)
    }

    fn minors(&self) -> Vec<(Minor, HostName)> {
        let Some(recorded) = self.recorded else { return Vec::new() };
        let primary = &recorded.primary;
        let mut minors = Vec::new();
        let mut attached = 0;
        let others = self.members.nodes.keys().filter(|n| *n != primary);
        for name in others {
            let Some(look) = self.sight.fresh(name) else { continue };
            let host = match &look.seen {
                Seen::Silent { .. } => {
                    minors.push((Minor::StandbyUnreachable, name.clone()));
                    continue;
                }
                Seen::Host(host) => host,
            };
            match &host.server {
                ServerSeen::Answers(server)
                    if server.receiver.as_ref().is_some_and(|r| r.streaming) =>
                {
                    attached += 1;
                }
                ServerSeen::Answers(_) if !host.revoked => {
                    let minor = match host.reaches_primary {
                        Some(Reach::Nothing | Reach::Rejects) => Minor::StandbyCutOff,
                        _ => Minor::StandbyAstray,
                    };
                    minors.push((minor, name.clone()));
                }
                _ if host.postmaster.is_none() && !transient(&host.unit) => {
                    let returned = host.fenced || !host.standby_signal;
                    let minor =
                        if returned { Minor::OldPrimaryReturned } else { Minor::StandbyDown };
                    minors.push((minor, name.clone()));
                }
                _ => {}
            }
        }
        if attached == 0 && self.members.nodes.len() > 1 {
            minors.push((Minor::NoStandbyAttached, primary.clone()));
        }
        minors
    }
}

fn transient(unit: &str) -> bool {
    matches!(unit, "activating" | "deactivating" | "reloading")
}

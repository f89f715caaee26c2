//! What each step does to a node, line by line as `src/operation/scripts` do it. Every durable change
//! costs fuel: where it runs out the script died there.

use pgorch::facts::{OperationState, Recorded, SyncRecord, SyncValue};
use pgorch::inventory::slot_name;
use pgorch::model::{HostName, Lsn, Timeline};
use pgorch::operation::{
    Action, Identity, Known, Outcome, PoolerVerb, Promoted, Report, Shutdown, Step,
};
use pgorch::postgres::SyncNames;

use super::world::{Late, Server, World};

/// Why a script ended before its end.
enum Halt {
    Refused(String),
    Failed(String),
    Died,
}

type Steps<T = ()> = Result<T, Halt>;

fn refuse<T>(why: impl Into<String>) -> Steps<T> {
    Err(Halt::Refused(why.into()))
}

fn fail<T>(why: impl Into<String>) -> Steps<T> {
    Err(Halt::Failed(why.into()))
}

impl World {
    /// A step on its host, which is on: what the script did, and what it says.
    pub(crate) fn perform(&mut self, step: &Step, identity: &Identity, known: &Known) -> Outcome {
        let outcome = match self.act(step, identity, known) {
            Ok(report) => Outcome::Done(report),
            Err(Halt::Refused(why)) => Outcome::Refused(why),
            Err(Halt::Failed(why)) => Outcome::Failed(why),
            Err(Halt::Died) => Outcome::Unknown("the script died".to_owned()),
        };
        self.fuel = None;
        outcome
    }

    /// A command that nobody waits for any more arrives.
    pub(crate) fn deliver(&mut self, at: usize) {
        let Some(Late { step, identity, known }) = self.late.remove(at) else { return };
        if self.nodes[&step.host].on {
            let outcome = self.perform(&step, &identity, &known);
            let name = step.action.name();
            self.tell(format!(
                "late: {name} on {} (epoch {}): {outcome:?}",
                step.host, identity.epoch
            ));
        }
    }

    fn spend(&mut self) -> Steps {
        match &mut self.fuel {
            Some(0) => Err(Halt::Died),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn act(&mut self, step: &Step, identity: &Identity, known: &Known) -> Steps<Report> {
        let Step { host, action } = step;
        self.prelude(host, action, identity)?;
        match action {
            Action::Claim => {
                let sync = self.nodes[host].sync.clone();
                Ok(Report { sync, ..Report::default() })
            }
            Action::Checkpoint
            | Action::Vip
            | Action::Record { .. }
            | Action::Hook { .. }
            | Action::ControllerHook { .. } => self.plain(host, action),
            Action::Slots { names, .. } => self.slots(host, names),
            Action::DropSlots { names } => self.drop_slots(host, names),
            Action::SyncNames { names } => {
                self.answers(host)?;
                self.spend()?;
                self.nodes[host].sync_names.clone_from(names);
                Ok(Report::default())
            }
            Action::SyncRecord { candidate, names, settled } => {
                let of = (&identity.record.primary, candidate);
                self.sync_record(host, identity, known, of, (names, *settled))
            }
            Action::WaitSync { names, .. } => self.wait_sync(host, names),
            Action::Stop { .. } => self.stop(host),
            Action::Received { .. } => self.received(host, known),
            Action::Promote { .. } => self.promote(host, identity, known),
            Action::Settle { .. } => self.settle(host, identity),
            Action::Follow { upstream, start } => self.follow(host, upstream, *start),
            Action::FollowNobody => {
                self.spend()?;
                self.nodes[host].upstream = None;
                self.answers(host)?;
                Ok(Report::default())
            }
            Action::Start { .. } => self.start(host),
            Action::Release { undone } => self.release(host, identity, *undone),
            Action::Pooler { .. }
            | Action::Fence { .. }
            | Action::Stonith { .. }
            | Action::LeaseOver
            | Action::Unfence
            | Action::Revoke
            | Action::Unrevoke
            | Action::Position => fail("no step of a switchover here"),
        }
    }

    /// prelude.sh
    fn prelude(&mut self, host: &HostName, action: &Action, identity: &Identity) -> Steps {
        let stored = self.nodes[host].epoch.clone();
        if stored.epoch > identity.epoch {
            return refuse("a later one has begun");
        }
        if matches!(action, Action::Release { .. }) {
            return Ok(());
        }
        if stored.epoch < identity.epoch {
            if stored.open().is_some_and(|o| !identity.replaces.contains(&o.id)) {
                return refuse("another operation has begun here and is not over");
            }
            self.spend()?;
            let epoch = &mut self.nodes[host].epoch;
            epoch.epoch = identity.epoch;
            epoch.operation = Some(identity.record.clone());
        } else {
            if stored.operation.as_ref().map(|o| &o.id) != Some(&identity.record.id) {
                return refuse("the epoch belongs to another operation");
            }
            if stored.open().is_none() {
                return refuse("this operation is over");
            }
        }
        match action {
            Action::Start { .. } | Action::DropSlots { .. } => {
                self.spend()?;
                self.nodes[host].turned = identity.epoch;
            }
            Action::Claim
            | Action::Settle { .. }
            | Action::Follow { .. }
            | Action::FollowNobody
            | Action::Pooler { verb: PoolerVerb::Resume, .. } => {}
            _ if self.nodes[host].turned == identity.epoch => {
                return refuse("this operation is being undone");
            }
            _ => {}
        }
        Ok(())
    }

    fn answers(&self, host: &HostName) -> Steps {
        match self.nodes[host].server {
            Server::Down => fail("the server does not answer"),
            _ => Ok(()),
        }
    }

    fn plain(&mut self, host: &HostName, action: &Action) -> Steps<Report> {
        match action {
            Action::Checkpoint | Action::Record { .. } => self.answers(host)?,
            Action::Hook { argv } if argv.first().is_some_and(|w| w == "false") => {
                return fail("exit status 1");
            }
            _ => {}
        }
        Ok(Report::default())
    }

    fn slots(&mut self, host: &HostName, names: &[String]) -> Steps<Report> {
        self.answers(host)?;
        let mut made = Vec::new();
        for name in names {
            if !self.nodes[host].slots.contains(name) {
                self.spend()?;
                self.nodes[host].slots.insert(name.clone());
                made.push(name.clone());
            }
        }
        Ok(Report { made, ..Report::default() })
    }

    /// sync_record.sh
    fn sync_record(
        &mut self,
        host: &HostName,
        identity: &Identity,
        known: &Known,
        (primary, candidate): (&HostName, &HostName),
        (names, settled): (&SyncNames, bool),
    ) -> Steps<Report> {
        let of = |primary: &HostName, names| SyncValue { primary: primary.clone(), names };
        let mut values = Vec::new();
        if !settled {
            let before = Recorded::of(known.sync.values()).values_of(primary);
            values.extend(before.into_iter().map(|names| of(primary, names)));
            values.push(of(candidate, SyncNames::none()));
        }
        values.push(of(candidate, names.clone()));
        let number = if settled { 2 } else { 1 };
        let record = SyncRecord { epoch: identity.epoch, number, voters: self.names(), values };
        let stored = self.nodes[host].sync.as_ref();
        if stored.is_some_and(|s| *s != record && s.rank() >= record.rank()) {
            return fail("somebody else has changed whom commits wait for");
        }
        self.spend()?;
        self.nodes[host].sync = Some(record);
        Ok(Report::default())
    }

    /// sync_settle.sql
    fn wait_sync(&mut self, host: &HostName, names: &SyncNames) -> Steps<Report> {
        self.answers(host)?;
        if self.nodes[host].sync_names != *names {
            return fail("other names are in force");
        }
        self.write(host, None);
        let mut covered = 0;
        for standby in self.names() {
            let member = names.members.contains(&slot_name(&standby));
            if member && self.streams_from(&standby) == Some(host) {
                self.receive(&standby, usize::MAX);
                covered += 1;
            }
        }
        if covered < names.k {
            fail("too few standbys have all WAL")
        } else {
            Ok(Report::default())
        }
    }

    /// Whether somebody streams with a slot of the host.
    fn slot_active(&self, host: &HostName, slot: &str) -> bool {
        let user = self.nodes.keys().find(|n| slot_name(n) == slot);
        user.is_some_and(|n| self.streams_from(n) == Some(host))
    }

    fn drop_slots(&mut self, host: &HostName, names: &[String]) -> Steps<Report> {
        self.answers(host)?;
        for name in names {
            if self.nodes[host].slots.contains(name) && !self.slot_active(host, name) {
                self.spend()?;
                self.nodes[host].slots.remove(name);
            }
        }
        Ok(Report::default())
    }

    /// stop.sh
    fn stop(&mut self, host: &HostName) -> Steps<Report> {
        self.spend()?;
        self.nodes[host].fence = true;
        match self.nodes[host].server {
            Server::Primary => {
                self.spend()?;
                // A clean stop waits until the connected standbys have the checkpoint.
                self.write(host, None);
                for standby in self.names() {
                    if self.streams_from(&standby) == Some(host) {
                        self.receive(&standby, usize::MAX);
                    }
                }
                self.nodes[host].server = Server::Down;
                self.nodes[host].clean = true;
                self.spend()?;
            }
            Server::Recovery => {
                self.spend()?;
                self.nodes[host].server = Server::Down;
            }
            Server::Down => {}
        }
        let node = &self.nodes[host];
        if !node.clean {
            return fail("the control file does not say \"shut down\"");
        }
        let at = node.wal.len() - 1;
        let shutdown = Shutdown {
            timeline: Timeline(node.wal[at].timeline),
            checkpoint: Lsn(u64::try_from(at).expect("small")),
        };
        Ok(Report { shutdown: Some(shutdown), ..Report::default() })
    }

    fn received(&mut self, host: &HostName, known: &Known) -> Steps<Report> {
        if self.nodes[host].server != Server::Recovery {
            return fail("it is not in recovery");
        }
        self.has_all(host, known)?;
        Ok(Report::default())
    }

    /// As the scripts judge it: by position alone.
    fn has_all(&self, host: &HostName, known: &Known) -> Steps {
        let Some(shutdown) = known.shutdown else {
            return fail("where the old primary's WAL ends is not known");
        };
        let end = u64::try_from(self.nodes[host].wal.len()).expect("small");
        if end > shutdown.checkpoint.0 { Ok(()) } else { fail("not past the shutdown checkpoint") }
    }

    /// promote.sh
    fn promote(&mut self, host: &HostName, identity: &Identity, known: &Known) -> Steps<Report> {
        self.answers(host)?;
        if self.nodes[host].server == Server::Primary {
            if self.nodes[host].asked.is_none_or(|(epoch, _)| epoch != identity.epoch) {
                return refuse("it is out of recovery, and this operation did not promote it");
            }
        } else {
            self.has_all(host, known)?;
            self.spend()?;
            self.nodes[host].asked = Some((identity.epoch, self.nodes[host].start));
            self.spend()?;
            self.nodes[host].promoting = true;
            self.spend()?;
            self.finish_promotion(host);
            self.spend()?;
        }
        Ok(self.promoted(host))
    }

    fn promoted(&self, host: &HostName) -> Report {
        let timeline = Timeline(self.nodes[host].wal.last().map_or(1, |r| r.timeline));
        Report { promoted: Some(Promoted { timeline }), ..Report::default() }
    }

    /// settle.sh
    fn settle(&mut self, host: &HostName, identity: &Identity) -> Steps<Report> {
        match self.nodes[host].server {
            Server::Down => Err(Halt::Died),
            Server::Primary => Ok(self.promoted(host)),
            Server::Recovery => {
                let start = self.nodes[host].start;
                if self.nodes[host].asked.is_some_and(|(_, of)| of == start) {
                    // Time is up without an answer.
                    return Err(Halt::Died);
                }
                self.spend()?;
                self.nodes[host].turned = identity.epoch;
                Ok(Report { not_promoted: true, ..Report::default() })
            }
        }
    }

    /// follow.sh
    fn follow(&mut self, host: &HostName, upstream: &HostName, start: bool) -> Steps<Report> {
        self.spend()?;
        self.nodes[host].upstream = Some(upstream.clone());
        if start && self.nodes[host].server == Server::Down {
            if !self.nodes[host].clean {
                return fail("it did not stop cleanly");
            }
            self.spend()?;
            self.nodes[host].standby_signal = true;
            self.spend()?;
            self.nodes[host].fence = false;
            self.spend()?;
            self.start_server(host);
        } else if self.nodes[host].server != Server::Recovery {
            return fail("it is no standby that answers");
        }
        if self.streams_from(host) != Some(upstream) {
            return fail("it does not stream within a minute");
        }
        self.receive(host, usize::MAX);
        let follows = |n: &HostName| self.inventory.nodes[n].follow.as_ref() == Some(host);
        let members: Vec<String> =
            self.nodes.keys().filter(|n| *n != host && !follows(n)).map(slot_name).collect();
        self.drop_slots(host, &members)
    }

    /// start.sh
    fn start(&mut self, host: &HostName) -> Steps<Report> {
        self.spend()?;
        self.nodes[host].fence = false;
        self.spend()?;
        self.start_server(host);
        match self.nodes[host].server {
            Server::Primary => Ok(Report::default()),
            _ => fail("the server is not writable again"),
        }
    }

    /// release.sh
    fn release(&mut self, host: &HostName, identity: &Identity, undone: bool) -> Steps<Report> {
        let stored = &self.nodes[host].epoch;
        if stored.operation.as_ref().is_some_and(|o| o.id == identity.record.id) {
            self.spend()?;
            let state = if undone { OperationState::Undone } else { OperationState::Done };
            let node = &mut self.nodes[host];
            node.epoch.epoch = identity.epoch;
            node.epoch.operation.as_mut().expect("just seen").state = state;
        }
        Ok(Report::default())
    }
}

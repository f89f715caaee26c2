//! What each step does to a host, line by line as `src/operation/scripts` do it. Every durable change
//! costs fuel: where it runs out the script died there. [`replace`](super::replace) has the steps of a
//! failover alone, [`pooler`](super::pooler) those of poolers.

use pgorch::facts::OperationState;
use pgorch::inventory::slot_name;
use pgorch::model::{HostName, Lsn, Timeline};
use pgorch::operation::{Action, Identity, Known, Outcome, Promoted, Report, Shutdown, Step};

use super::world::{Late, Promotion, Server, World, lsn};

/// Why a script ended before its end.
pub(super) enum Halt {
    Refused(String),
    Failed(String),
    Died,
}

pub(super) type Steps<T = ()> = Result<T, Halt>;

pub(super) fn refuse<T>(why: impl Into<String>) -> Steps<T> {
    Err(Halt::Refused(why.into()))
}

pub(super) fn fail<T>(why: impl Into<String>) -> Steps<T> {
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
        let (step, identity, known) = match self.late.remove(at) {
            None => return,
            Some(Late::Step(late)) => *late,
            Some(Late::Deed { on, deed, epoch }) => return self.deliver_deed(&on, &deed, epoch),
        };
        if let Action::Stonith { .. } = step.action {
            self.power_off(&step.host);
        } else if self.alive(&step.host) {
            let outcome = self.perform(&step, &identity, &known);
            let name = step.action.name();
            self.tell(format!(
                "late: {name} on {} (epoch {}): {outcome:?}",
                step.host, identity.epoch
            ));
        }
    }

    pub(super) fn spend(&mut self) -> Steps {
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
            Action::Claim => self.claim(host, identity),
            Action::Vip => {
                self.answers(host)?;
                if self.nodes[host].server != Server::Primary {
                    return fail("it is no primary");
                }
                self.spend()?;
                self.vip_up(host);
                Ok(Report::default())
            }
            Action::Checkpoint
            | Action::Record { .. }
            | Action::Hook { .. }
            | Action::ControllerHook { .. } => self.plain(host, action),
            Action::Slots { names, .. } => self.slots(host, names),
            Action::DropSlots { names } => self.drop_slots(host, names),
            Action::SyncNames { names } => {
                self.answers(host)?;
                self.spend()?;
                self.nodes[host].sync_names.clone_from(names);
                self.spend()?;
                self.nodes[host].sync_in_force.clone_from(names);
                Ok(Report::default())
            }
            Action::SyncRecord { candidate, names, settled } => {
                self.sync_record(host, identity, known, candidate, (names, *settled))
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
                self.unrevoke(host)
            }
            Action::Start { .. } => self.start(host),
            Action::Release { undone } => self.release(host, identity, *undone),
            Action::Fence { .. } => self.fence(host),
            Action::Unfence => {
                self.spend()?;
                self.nodes[host].fence = false;
                Ok(Report::default())
            }
            Action::Revoke => self.revoke(host, identity),
            Action::Unrevoke => self.unrevoke(host),
            Action::Position => self.position(host),
            Action::Pooler { verb, database_host } => {
                self.pooler(host, identity, *verb, database_host.as_ref())
            }
            Action::Stonith { .. } => fail("this runs on no host"),
            Action::LeaseOver => fail("nobody has a lease here"),
        }
    }

    /// prelude.sh
    fn prelude(&mut self, host: &HostName, action: &Action, identity: &Identity) -> Steps {
        let stored = self.hosts[host].epoch.clone();
        if stored.epoch > identity.epoch {
            return refuse("a later one has begun");
        }
        if matches!(action, Action::Release { .. } | Action::Pooler { .. }) {
            return Ok(());
        }
        if stored.epoch < identity.epoch {
            if stored.open().is_some_and(|o| !identity.replaces.contains(&o.id)) {
                return refuse("another operation has begun here and is not over");
            }
            self.spend()?;
            let epoch = &mut self.hosts[host].epoch;
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
            Action::Start { .. }
            | Action::DropSlots { .. }
            | Action::Unfence
            | Action::Unrevoke => {
                self.spend()?;
                self.hosts[host].turned = identity.epoch;
            }
            Action::Claim
            | Action::Settle { .. }
            | Action::Follow { .. }
            | Action::FollowNobody => {}
            _ if self.hosts[host].turned == identity.epoch => {
                return refuse("this operation is being undone");
            }
            _ => {}
        }
        Ok(())
    }

    /// claim.sh: an election may have changed the candidate since.
    fn claim(&mut self, host: &HostName, identity: &Identity) -> Steps<Report> {
        if self.hosts[host].epoch.operation.as_ref() != Some(&identity.record) {
            self.spend()?;
            self.hosts[host].epoch.operation = Some(identity.record.clone());
        }
        let sync = self.nodes.get(host).and_then(|n| n.sync.clone());
        Ok(Report { sync, ..Report::default() })
    }

    pub(super) fn answers(&self, host: &HostName) -> Steps {
        match self.nodes[host].server {
            Server::Down => fail("the server does not answer"),
            // Nobody answers in time.
            _ if self.nodes[host].frozen => Err(Halt::Died),
            _ => Ok(()),
        }
    }

    fn plain(&mut self, host: &HostName, action: &Action) -> Steps<Report> {
        match action {
            Action::Checkpoint => {
                self.answers(host)?;
                let node = &mut self.nodes[host];
                node.checkpoint = node.timeline();
            }
            Action::Record { .. } => self.answers(host)?,
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

    /// Whether somebody streams with a slot of the host.
    pub(super) fn slot_active(&self, host: &HostName, slot: &str) -> bool {
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
        self.clients_wait(host);
        if self.nodes[host].frozen {
            return fail("systemctl stop did not end");
        }
        match self.nodes[host].server {
            Server::Primary => {
                self.spend()?;
                self.shut_down(host);
                self.spend()?;
            }
            Server::Recovery => {
                self.spend()?;
                self.stop_server(host);
            }
            Server::Down => {}
        }
        let node = &self.nodes[host];
        if !node.clean || node.standby_signal {
            return fail("the control file does not say \"shut down\"");
        }
        let at = node.wal.len() - 1;
        let shutdown = Shutdown { timeline: Timeline(node.wal[at].timeline), checkpoint: lsn(at) };
        Ok(Report { shutdown: Some(shutdown), ..Report::default() })
    }

    /// A clean stop, which on a primary waits until the connected standbys have the checkpoint.
    pub(super) fn shut_down(&mut self, host: &HostName) {
        if self.nodes[host].server == Server::Primary {
            self.write(host, None);
            for standby in self.names() {
                if self.streams_from(&standby) == Some(host) {
                    self.receive(&standby, usize::MAX);
                }
            }
        }
        self.stop_server(host);
    }

    fn received(&mut self, host: &HostName, known: &Known) -> Steps<Report> {
        self.answers(host)?;
        if self.nodes[host].server != Server::Recovery {
            return fail("it is not in recovery");
        }
        self.has_all(host, known)?;
        Ok(Report::default())
    }

    /// As the scripts judge it: by position alone.
    fn has_all(&self, host: &HostName, known: &Known) -> Steps {
        let node = &self.nodes[host];
        match (known.shutdown, known.ends.get(host)) {
            (Some(shutdown), _) if lsn(node.replayed) > shutdown.checkpoint => Ok(()),
            (Some(_), _) => fail("not past the shutdown checkpoint"),
            // Where nothing was received in this life there is nothing to compare with.
            (None, Some((_, end))) if node.fresh || node.flushed() >= *end => Ok(()),
            (None, Some(_)) => fail("its WAL ends before where it ended a moment ago"),
            (None, None) => fail("what it must have replayed is not known"),
        }
    }

    /// `GREATEST(receive, replay)` of a live standby: what it received before its start is not told.
    pub(super) fn told(&self, host: &HostName) -> Option<Lsn> {
        let node = &self.nodes[host];
        (node.server != Server::Down)
            .then(|| if node.fresh { lsn(node.replayed) } else { node.flushed() })
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
            let promotion = Promotion {
                operation: identity.record.id.clone(),
                proof: identity.record.proof,
                primary: identity.record.primary.clone(),
                possible: identity.record.possible.clone(),
                ends: known.ends.clone(),
            };
            self.proved(host, identity, &promotion);
            self.nodes[host].promoting = Some(promotion);
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
        if self.nodes[host].frozen {
            return Err(Halt::Died);
        }
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
                self.hosts[host].turned = identity.epoch;
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
        } else {
            self.answers(host)?;
            if self.nodes[host].server != Server::Recovery {
                return fail("it is no standby that answers");
            }
            if self.nodes[host].revoked.is_some() {
                self.spend()?;
                self.nodes[host].emptied = false;
                self.spend()?;
                self.nodes[host].revoked = None;
            }
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
        let stored = &self.hosts[host].epoch;
        if stored.operation.as_ref().is_some_and(|o| o.id == identity.record.id) {
            self.spend()?;
            let state = if undone { OperationState::Undone } else { OperationState::Done };
            let own = &mut self.hosts[host];
            own.epoch.epoch = identity.epoch;
            own.epoch.operation.as_mut().expect("just seen").state = state;
        }
        Ok(Report::default())
    }
}

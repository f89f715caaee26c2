//! A change that starts or restarts the primary in its place is an operation of its own: it is claimed before
//! its commands and over after them. Its grant ends when it was claimed to end, whenever it arrives.

use std::collections::BTreeSet;
use std::time::Duration;

use super::change_over::nobody_elects;
use super::outcome::Outcome;
use super::{Runner, lock};
use crate::clock;
use crate::event::{Event, Kind, Status};
use crate::model::{HostName, Script};
use crate::operation::{
    End, Identity, LeaseCommand, LeaseRefusal, Reading, Roles, claim_in_place, in_place_roles,
    lease_command, read_lease, release_in_place,
};
use crate::step::{InPlace, StepError};

/// What was claimed for a change.
pub(super) struct Claimed {
    identity: Identity,
    roles: Roles,
    voters: BTreeSet<HostName>,
    /// The shell function by which the change's commands give themselves a grant.
    pub(super) function: Script,
}

/// For a step of somebody else's on the same host.
const LOCK_WAIT: Duration = Duration::from_secs(5);

impl Runner {
    /// Claims the epoch for it, on a majority and on the node.
    pub(super) async fn claim(
        &self,
        on: &HostName,
        wanted: InPlace,
    ) -> Result<Claimed, Box<Outcome>> {
        let refuse = |why: String| {
            let error = StepError::refuse(format!("{on} cannot be {}ed now: {why}", wanted.kind));
            Box::new(Outcome::error(&error.hint("pgorch status")))
        };
        // Before anybody can have heard of it: whoever waits from then on waits long enough.
        let reading = match wanted.guarded {
            true => Some(self.read_guard(on).await.map_err(refuse)?),
            false => None,
        };
        let roles = in_place_roles(&self.vars.inventory, &self.snapshot(), on);
        let mut identity = self.identity(wanted.kind, &roles);
        identity.record.lease_ms = Some(wanted.seconds * 1000);
        let driver = claim_in_place(wanted.kind, &roles);
        let operated = self.operate(driver, identity.clone(), &nobody_elects).await;
        if operated.finished.end != End::Done {
            return Err(refuse(operated.finished.problems.join("; ")));
        }
        let voters = operated.known.claimed;
        for voter in voters.iter().filter(|v| self.vars.inventory.nodes.contains_key(*v)) {
            lock(&self.epochs).insert(voter.clone(), identity.epoch);
        }
        let function = match reading {
            None => Script::new(),
            Some(reading) => self.grant(on, identity.epoch, &reading, wanted).map_err(refuse)?,
        };
        Ok(Claimed { identity, roles, voters, function })
    }

    async fn read_guard(&self, on: &HostName) -> Result<Reading, String> {
        let words = |e: LeaseRefusal| e.to_string();
        let node = self.vars.inventory.postgres_of(on).ok_or("it is no node")?;
        let command = lease_command(&node, 0, LeaseCommand::Read, LOCK_WAIT).map_err(words)?;
        let mut link = self.links.get(on).ok_or("there is no connection")?.lock().await;
        let sent = link.command(&command.script, None, command.deadline, &mut |_| {}).await;
        let (_, stdout, stderr) = sent.map_err(|e| e.to_string())?;
        read_lease(&stdout, &stderr).map_err(words)
    }

    fn grant(
        &self,
        on: &HostName,
        epoch: u64,
        reading: &Reading,
        wanted: InPlace,
    ) -> Result<Script, String> {
        let node = self.vars.inventory.postgres_of(on).ok_or("it is no node")?;
        let end = reading.end(Duration::from_secs(wanted.seconds));
        let nonce = clock::random_id();
        let grant = LeaseCommand::Grant { reading, end, nonce: &nonce };
        let command = lease_command(&node, epoch, grant, LOCK_WAIT).map_err(|e| e.to_string())?;
        Ok(Script::raw("pgorch_grant() {").then(&command.script).line("}"))
    }

    /// It is over, unless nobody knows what became of it: then its record stays, and says how long what it
    /// gave may last.
    pub(super) async fn over(&self, claimed: Claimed, wanted: InPlace, outcome: &Outcome) {
        let Claimed { mut identity, roles, voters, .. } = claimed;
        if outcome.status == Some(Status::Unknown) {
            return;
        }
        let first = self.vars.inventory.failover.timing.first_lease();
        let first = u64::try_from(first.as_millis()).unwrap_or(u64::MAX);
        let given = if wanted.guarded { first } else { 0 };
        identity.record.lease_ms =
            Some(if outcome.failed() { wanted.seconds * 1000 } else { given });
        let driver = release_in_place(wanted.kind, &roles, &voters);
        let operated = self.operate(driver, identity, &nobody_elects).await;
        for problem in operated.finished.problems {
            let text = format!("{problem}; where it is still open: pgorch resume");
            self.emit(Event::run(Kind::Notice, text));
        }
    }
}

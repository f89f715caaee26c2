//! The steps that only a failover has, as fence.sh, revoke.sh, unrevoke.sh and position.sh.

use pgorch::model::{HostName, Timeline};
use pgorch::operation::{Identity, Report};

use super::act::{Steps, fail};
use super::world::{Server, World};

impl World {
    /// fence.sh
    pub(super) fn fence(&mut self, host: &HostName) -> Steps<Report> {
        self.spend()?;
        self.nodes[host].fence = true;
        let was_down = self.nodes[host].server == Server::Down;
        if !was_down {
            self.spend()?;
            self.kill_server(host);
            self.spend()?;
        }
        self.nodes[host].vip = false;
        let node = &self.nodes[host];
        let end = Some((Timeline(node.timeline()), node.flushed()));
        Ok(Report { end, was_down, ..Report::default() })
    }

    /// revoke.sh
    pub(super) fn revoke(&mut self, host: &HostName, identity: &Identity) -> Steps<Report> {
        self.spend()?;
        self.nodes[host].revoked = Some(identity.epoch);
        self.answers(host)?;
        self.spend()?;
        // A reload does not end the receiver that is there.
        self.nodes[host].lingers = self.connected_to(host).is_some();
        self.nodes[host].emptied = true;
        self.spend()?;
        self.nodes[host].lingers = false;
        Ok(Report::default())
    }

    /// unrevoke.sh
    pub(super) fn unrevoke(&mut self, host: &HostName) -> Steps<Report> {
        if self.nodes[host].revoked.is_some() {
            self.answers(host)?;
            self.spend()?;
            self.nodes[host].emptied = false;
            self.spend()?;
            self.nodes[host].revoked = None;
        }
        Ok(Report::default())
    }

    /// position.sh
    pub(super) fn position(&mut self, host: &HostName) -> Steps<Report> {
        self.answers(host)?;
        let node = &self.nodes[host];
        if node.server != Server::Recovery {
            return fail("it is not in recovery");
        }
        // Without a receiver the control file and the newest history file are all that tells. What was not
        // received in this life pg_waldump finds, from the replay position on.
        let end = node.flushed();
        let known = node.history.as_ref().map_or(Timeline(0), |h| h.timeline_at(end));
        let timeline = Timeline(node.checkpoint).max(known);
        Ok(Report { end: Some((timeline, end)), ..Report::default() })
    }
}

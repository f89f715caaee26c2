//! Poolers: what a pause, a move and a crash do to them, as scripts/pause.sh and resume.sh.

use indexmap::IndexMap;
use pgorch::inventory::Inventory;
use pgorch::model::HostName;
use pgorch::operation::{Action, Identity, PoolerDatabase, PoolerSeen, PoolerVerb, Report};

use super::act::{Steps, fail, refuse};
use super::world::World;

/// A PgBouncer; its machine is the host of the same name.
#[derive(Debug, Clone)]
pub(crate) struct Pooler {
    // In its file.
    pub(crate) configured: HostName,
    // In memory.
    pub(crate) running: bool,
    pub(crate) target: HostName,
    pub(crate) paused: bool,
    /// A client is in a transaction that does not end.
    pub(crate) stubborn: bool,
    /// Its clients went on although no operation let them: it was started anew meanwhile.
    pub(crate) forgot: bool,
}

pub(crate) fn of(inventory: &Inventory, primary: &HostName) -> IndexMap<HostName, Pooler> {
    let pooler = || Pooler {
        configured: primary.clone(),
        running: true,
        target: primary.clone(),
        paused: false,
        stubborn: false,
        forgot: false,
    };
    inventory.routing.poolers.keys().map(|name| (name.clone(), pooler())).collect()
}

impl Pooler {
    pub(crate) fn stop(&mut self) {
        self.running = false;
        self.forgot |= self.paused;
        self.paused = false;
    }

    pub(crate) fn start(&mut self) {
        self.running = true;
        self.target = self.configured.clone();
    }
}

impl World {
    pub(super) fn pooler(
        &mut self,
        host: &HostName,
        identity: &Identity,
        verb: PoolerVerb,
        database_host: Option<&HostName>,
    ) -> Steps<Report> {
        let own = &mut self.hosts[host];
        if own.epoch.epoch < identity.epoch {
            own.epoch.epoch = identity.epoch;
            self.spend()?;
        }
        match verb {
            PoolerVerb::Pause => self.pause_clients(host, identity),
            PoolerVerb::Resume => self.resume_clients(host, identity, database_host),
        }
    }

    /// pause.sh
    fn pause_clients(&mut self, host: &HostName, identity: &Identity) -> Steps<Report> {
        if self.hosts[host].turned == identity.epoch {
            return refuse("its clients were let go already");
        }
        if !self.poolers[host].running {
            return fail("is PgBouncer running?");
        }
        self.spend()?;
        let pooler = &mut self.poolers[host];
        pooler.paused = true;
        pooler.forgot = false;
        if pooler.stubborn {
            self.spend()?;
            self.poolers[host].paused = false;
            return fail("clients are in transactions that did not end");
        }
        Ok(Report::default())
    }

    /// resume.sh
    fn resume_clients(
        &mut self,
        host: &HostName,
        identity: &Identity,
        database_host: Option<&HostName>,
    ) -> Steps<Report> {
        self.spend()?;
        self.hosts[host].turned = identity.epoch;
        if let Some(new) = database_host {
            let record = &identity.record;
            let old = |name: &HostName| {
                *name != *new && (*name == record.primary || record.earlier.contains(name))
            };
            self.spend()?;
            let pooler = &mut self.poolers[host];
            if old(&pooler.configured) {
                pooler.configured = new.clone();
            }
            if pooler.running {
                pooler.target = pooler.configured.clone();
            }
        }
        let pooler = &self.poolers[host];
        if !pooler.running {
            return fail("is PgBouncer running?");
        }
        let record = &identity.record;
        let left = pooler.target == record.primary || record.earlier.contains(&pooler.target);
        if database_host.is_some_and(|new| pooler.target != *new) && left {
            return fail("still points at the old primary");
        }
        self.spend()?;
        let pooler = &mut self.poolers[host];
        (pooler.paused, pooler.forgot) = (false, false);
        let to = pooler.target.clone();
        let fenced = self.nodes[&to].fence;
        assert!(!fenced, "clients of {host} go on with {to}, which is fenced\n{}", self.story());
        Ok(Report::default())
    }

    /// What `SHOW DATABASES` and the file say, or that nobody answers.
    pub(crate) fn pooler_seen(
        &self,
        controller: &str,
        name: &HostName,
    ) -> Result<PoolerSeen, String> {
        let pooler = &self.poolers[name];
        if !self.reaches(controller, name) || !pooler.running {
            return Err("no answer".to_owned());
        }
        let database = |node: &HostName, paused: bool| {
            let settings = self.inventory.postgres_of(node).expect("a node");
            let name = "app".to_owned();
            PoolerDatabase { name, host: settings.address, port: settings.port, paused }
        };
        Ok(PoolerSeen {
            running: vec![database(&pooler.target, pooler.paused)],
            configured: vec![database(&pooler.configured, false)],
            query_wait_timeout: 0.0,
            pool_mode: "transaction".to_owned(),
        })
    }

    /// A planned stop finds no client at work whom a pooler could have held.
    #[track_caller]
    pub(super) fn clients_wait(&self, primary: &HostName) {
        for (name, pooler) in &self.poolers {
            let at_work = pooler.running && !pooler.paused && !pooler.forgot;
            let hit = at_work && pooler.target == *primary;
            assert!(!hit, "{primary} stops under the clients of {name}\n{}", self.story());
        }
    }

    /// An operation that says it is over leaves nobody waiting whom it has held.
    #[track_caller]
    pub(crate) fn nobody_waits(&self, steps: &[pgorch::operation::Step]) {
        for step in steps.iter().filter(|s| matches!(s.action, Action::Pooler { .. })) {
            let waits = self.poolers[&step.host].paused;
            assert!(!waits, "clients of {} wait for nothing\n{}", step.host, self.story());
        }
    }
}

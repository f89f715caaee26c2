//! What the commands of single tasks do to a host, change by change as the scripts of the task kinds do
//! them, and how a kind's [`Command`] is told to be one of them: by its label, which is what an operator
//! would type. One that is not known fails the test.

use pgorch::facts::SyncRecord;
use pgorch::inventory::Inventory;
use pgorch::model::{HostName, split_words};
use pgorch::postgres::SyncNames;
use pgorch::step::{Change, Command, Diff};

use super::act::{Halt, Steps, fail};
use super::world::{Record, Server, World};

/// One command of a change.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Deed {
    /// It changes nothing here: `systemctl enable`, an event, old data that goes.
    Nothing,
    Start,
    Stop,
    Restart,
    Reload,
    Checkpoint,
    Slot(String),
    DropSlot(String),
    /// pgorch.standby.conf, with standby.signal, and what has a higher rank taken out.
    Conf {
        upstream: Option<HostName>,
        signal: bool,
        resets: bool,
    },
    NotRevoked,
    Fence(bool),
    Copy {
        from: HostName,
        aside: bool,
    },
    Rewind(HostName),
    Streams(HostName),
    /// Members that come, and members that go.
    Members(Vec<(String, bool)>),
    SyncRecord(SyncRecord),
    SyncSet(SyncNames, SyncRecord),
    SyncSettle(SyncNames, SyncRecord),
    /// The names on a standby, where they have no effect yet.
    SyncFile(SyncNames),
}

impl Deed {
    pub(crate) fn of(command: &Command, change: &Change, inventory: &Inventory) -> Self {
        let label = command.label.as_str();
        let word = |prefix: &str| label.strip_prefix(prefix).map(str::to_owned);
        let set = |name: &str| set_in(command.script.as_str(), name);
        let record = || SyncRecord::read(&set("record"));
        let names = |text: &str| SyncNames::parse(text).expect("names");
        if let Some(verb) = word("systemctl ") {
            return match verb.split(' ').next() {
                Some("start") => Deed::Start,
                Some("stop") => Deed::Stop,
                Some("restart") => Deed::Restart,
                Some("enable") => Deed::Nothing,
                _ => panic!("{label}"),
            };
        }
        if let Some(slot) = word("psql: create replication slot ") {
            return Deed::Slot(slot);
        }
        if let Some(slot) = word("psql: drop replication slot ") {
            return Deed::DropSlot(slot);
        }
        if label.starts_with("psql: register ") || label.starts_with("psql: unregister ") {
            return Deed::Members(members(change));
        }
        if label.ends_with("/pgorch.standby.conf") {
            let upstream = change.report.data.get("upstream").and_then(|u| u.as_str());
            return Deed::Conf {
                upstream: upstream.map(HostName::from),
                signal: change.impact.role_change.is_some(),
                resets: change.diffs.iter().any(is_override),
            };
        }
        if label.ends_with("/pgorch.sync.conf") {
            return Deed::SyncFile(names(&after(change)));
        }
        if label.starts_with("pg_basebackup ") {
            let address = label.split(' ').nth(2).expect("an address");
            let at =
                |name: &&HostName| inventory.nodes[*name].host.address.as_deref() == Some(address);
            let from = inventory.nodes.keys().find(at).expect("a node").clone();
            let aside = change
                .diffs
                .iter()
                .any(|d| matches!(d, Diff::Value { before: Some(b), .. } if b.contains("kept")));
            return Deed::Copy { from, aside };
        }
        if label.starts_with("pg_rewind ") {
            let from = after(change);
            return Deed::Rewind(from.strip_prefix("the history of ").expect("a node").into());
        }
        if let Some((_, upstream)) = label.split_once(" streams from ") {
            return Deed::Streams(upstream.into());
        }
        if let Some(value) = word("synchronous_standby_names = '") {
            return Deed::SyncSet(names(value.trim_end_matches('\'')), record());
        }
        match label {
            "psql: SELECT pg_reload_conf()" => Deed::Reload,
            "psql: CHECKPOINT" => Deed::Checkpoint,
            "wait until it is in force, and strike off what was before" => {
                Deed::SyncSettle(names(&set("names")), record())
            }
            _ if label.starts_with("record whom commits") => Deed::SyncRecord(record()),
            _ if label.starts_with("psql: event ") || label.starts_with("rm ") => Deed::Nothing,
            _ if label.ends_with(".revoked") => Deed::NotRevoked,
            _ if label.ends_with(".fenced") => Deed::Fence(label.starts_with("put ")),
            _ => panic!("what does \"{label}\" do?"),
        }
    }
}

/// The value that a script gives a variable.
fn set_in(script: &str, name: &str) -> String {
    let line = |l: &str| l.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
    let quoted = script.lines().find_map(line).unwrap_or_else(|| panic!("no {name} in {script}"));
    split_words(&quoted).expect("a word").concat()
}

fn members(change: &Change) -> Vec<(String, bool)> {
    let one = |d: &Diff| match d {
        Diff::Value { name, after, .. } => {
            Some((name.strip_prefix("member ")?.to_owned(), after.is_some()))
        }
        Diff::Text { .. } => None,
    };
    change.diffs.iter().filter_map(one).collect()
}

fn is_override(diff: &Diff) -> bool {
    matches!(diff, Diff::Value { before: Some(before), .. } if before.contains("auto.conf"))
}

fn after(change: &Change) -> String {
    match change.diffs.last() {
        Some(Diff::Value { after: Some(after), .. }) => after.clone(),
        other => panic!("{other:?}"),
    }
}

impl World {
    /// A command on its host, which is on; refused where an operation has begun since `epoch` was seen
    /// there (`guard` of runner/perform.rs).
    pub(super) fn deed(&mut self, on: &HostName, deed: &Deed, epoch: u64) -> Steps {
        let done = match self.hosts[on].epoch.epoch > epoch {
            true => Err(Halt::Refused("an operation has begun here since this run looked".into())),
            false => self.do_it(on, deed),
        };
        self.fuel = None;
        done
    }

    pub(super) fn deliver_deed(&mut self, on: &HostName, deed: &Deed, epoch: u64) {
        if self.alive(on) {
            let done = self.deed(on, deed, epoch);
            self.tell(format!("late: {deed:?} on {on}: {}", done.is_ok()));
        }
    }

    fn do_it(&mut self, on: &HostName, deed: &Deed) -> Steps {
        match deed {
            Deed::Nothing => Ok(()),
            Deed::Start => self.unit_starts(on),
            Deed::Stop => self.unit_stops(on),
            Deed::Restart => {
                self.unit_stops(on)?;
                self.unit_starts(on)
            }
            Deed::Reload => self.answers(on),
            Deed::Checkpoint => {
                self.answers(on)?;
                self.nodes[on].checkpoint = self.nodes[on].timeline();
                Ok(())
            }
            Deed::Slot(slot) => {
                self.answers(on)?;
                self.spend()?;
                self.nodes[on].slots.insert(slot.clone());
                Ok(())
            }
            Deed::DropSlot(slot) => {
                self.answers(on)?;
                if !self.slot_active(on, slot) {
                    self.spend()?;
                    self.nodes[on].slots.remove(slot);
                }
                Ok(())
            }
            Deed::Conf { upstream, signal, resets } => {
                self.standby_conf(on, upstream.as_ref(), *signal, *resets)
            }
            Deed::NotRevoked => {
                self.spend()?;
                self.nodes[on].revoked = None;
                Ok(())
            }
            Deed::Fence(true) => {
                self.spend()?;
                self.nodes[on].fence = true;
                Ok(())
            }
            Deed::Fence(false) if !self.nodes[on].standby_signal => fail("no standby.signal"),
            Deed::Fence(false) => {
                self.spend()?;
                self.nodes[on].fence = false;
                Ok(())
            }
            Deed::Copy { from, aside } => self.base_backup(on, from, *aside),
            Deed::Rewind(from) => self.rewinds(on, from),
            Deed::Streams(upstream) => {
                self.answers(on)?;
                self.flow();
                match self.streams_from(on) == Some(upstream) {
                    true => Ok(()),
                    false => fail(format!("it does not stream from {upstream}")),
                }
            }
            Deed::Members(changes) => self.change_members(on, changes),
            Deed::SyncRecord(record) => self.store_sync(on, record),
            Deed::SyncSet(names, record) => {
                if self.nodes[on].sync.as_ref() != Some(record) {
                    return fail("somebody else has changed whom commits wait for");
                }
                self.sync_file(on, names)?;
                self.spend()?;
                self.nodes[on].sync_in_force.clone_from(names);
                Ok(())
            }
            Deed::SyncSettle(names, record) => {
                self.wait_sync(on, names)?;
                self.store_sync(on, record)
            }
            Deed::SyncFile(names) => self.sync_file(on, names),
        }
    }

    fn unit_starts(&mut self, on: &HostName) -> Steps {
        self.spend()?;
        match self.start_server(on) {
            true => Ok(()),
            false => fail("the unit does not start"),
        }
    }

    fn unit_stops(&mut self, on: &HostName) -> Steps {
        if self.nodes[on].frozen {
            return fail("systemctl stop did not end");
        }
        self.spend()?;
        if self.nodes[on].server != Server::Down {
            self.shut_down(on);
        }
        Ok(())
    }

    /// `Wish::judge` of step/pg/follow.rs: what wins over the file goes first, the signal before it is in
    /// place.
    fn standby_conf(
        &mut self,
        on: &HostName,
        upstream: Option<&HostName>,
        signal: bool,
        resets: bool,
    ) -> Steps {
        if resets {
            if self.nodes[on].server != Server::Down {
                self.answers(on)?;
            }
            self.spend()?;
            self.nodes[on].emptied = false;
        }
        if signal {
            if self.nodes[on].server != Server::Down {
                return fail("a server may be running");
            }
            self.spend()?;
            self.nodes[on].standby_signal = true;
        }
        self.spend()?;
        self.nodes[on].upstream = upstream.cloned();
        Ok(())
    }

    /// The script of step/pg/basebackup.rs: until the copy is whole it has another name.
    fn base_backup(&mut self, on: &HostName, from: &HostName, aside: bool) -> Steps {
        if self.nodes[on].server != Server::Down {
            return fail("a server process lives there");
        }
        if !self.serves(from) || !self.linked(from, on) {
            return fail("no replication connection");
        }
        let source = self.nodes[from].clone();
        self.spend()?;
        if aside && !self.nodes[on].empty {
            self.spend()?;
            let node = &mut self.nodes[on];
            node.aside += 1;
            node.empty = true;
            (node.wal, node.replayed) = (vec![Record { id: 0, timeline: 0 }], 1);
            node.standby_signal = false;
        } else if !self.nodes[on].empty {
            return fail("the directory is not empty");
        }
        self.spend()?;
        self.takes(on, &source);
        let node = &mut self.nodes[on];
        (node.empty, node.standby_signal) = (false, true);
        self.spend()?;
        self.nodes[on].half = false;
        Ok(())
    }

    /// rewind.sh; what pg_rewind itself does goes by timeline numbers and their ends alone.
    fn rewinds(&mut self, on: &HostName, from: &HostName) -> Steps {
        if !self.nodes[on].fence {
            return fail("the fence marker is gone");
        }
        if self.nodes[on].server != Server::Down {
            return fail("a server process lives there");
        }
        self.spend()?;
        self.nodes[on].half = true;
        self.spend()?;
        self.nodes[on].standby_signal = false;
        if !self.serves(from) || !self.linked(from, on) {
            return fail("pg_rewind: no connection to the source");
        }
        self.spend()?;
        self.same_fork(on, from);
        let source = self.nodes[from].clone();
        self.takes(on, &source);
        self.spend()?;
        self.nodes[on].standby_signal = true;
        self.spend()?;
        self.nodes[on].half = false;
        Ok(())
    }

    /// All files of another node's data directory, but for what says whom it follows.
    fn takes(&mut self, on: &HostName, source: &super::world::Node) {
        let node = &mut self.nodes[on];
        (node.wal, node.replayed) = (source.wal.clone(), source.wal.len());
        (node.history, node.checkpoint) = (source.history.clone(), source.checkpoint);
        node.sync_names.clone_from(&source.sync_names);
        (node.emptied, node.upstream, node.clean) = (source.emptied, None, false);
        node.slots.clear();
    }

    fn change_members(&mut self, on: &HostName, changes: &[(String, bool)]) -> Steps {
        self.answers(on)?;
        let mut members = self.members_of(on);
        for (name, comes) in changes {
            match comes {
                true => members.insert(name.clone()),
                false => members.remove(name),
            };
        }
        self.spend()?;
        let id = self.write(on, None);
        self.members.push((id, members));
        Ok(())
    }

    fn sync_file(&mut self, on: &HostName, names: &SyncNames) -> Steps {
        self.spend()?;
        self.nodes[on].sync_names.clone_from(names);
        Ok(())
    }

    /// sync_record.sh
    fn store_sync(&mut self, on: &HostName, record: &SyncRecord) -> Steps {
        let stored = self.nodes[on].sync.as_ref();
        if stored.is_some_and(|s| s != record && s.rank() >= record.rank()) {
            return fail("somebody else has changed whom commits wait for");
        }
        self.spend()?;
        self.nodes[on].sync = Some(record.clone());
        Ok(())
    }
}

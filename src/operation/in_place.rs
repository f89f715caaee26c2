//! A start or restart of the primary in its place, as an operation: nobody's role changes, but as long as it
//! is open nobody replaces the primary, and whoever does so afterwards knows how long what was given may last.

use std::collections::BTreeSet;

use super::action::Action;
use super::driver::Driver;
use super::plan::{Plan, Roles, Stage, Step};
use crate::facts::{Proof, Snapshot};
use crate::inventory::Inventory;
use crate::model::HostName;

/// The roles of one that is done to `primary`.
#[must_use]
pub fn in_place_roles(inventory: &Inventory, snapshot: &Snapshot, primary: &HostName) -> Roles {
    Roles::seen(inventory, snapshot, primary, primary, Proof::CleanStop)
}

/// Its first half: the epoch on a majority and on the primary itself, or nowhere.
#[must_use]
pub fn claim_in_place(kind: &str, roles: &Roles) -> Driver {
    let there = roles.voters.iter().filter(|voter| !roles.absent.contains(voter)).cloned();
    Driver::new(plan(kind, roles, "Claim the epoch", there, &Action::Claim))
}

/// Its second half, and all that is left of one that was interrupted: it is over on these voters.
#[must_use]
pub fn release_in_place(kind: &str, roles: &Roles, claimed: &BTreeSet<HostName>) -> Driver {
    let release = Action::Release { undone: false };
    Driver::new(plan(kind, roles, "Release the epoch", claimed.iter().cloned(), &release))
}

fn plan(
    kind: &str,
    roles: &Roles,
    name: &str,
    hosts: impl Iterator<Item = HostName>,
    action: &Action,
) -> Plan {
    let steps = hosts.map(|host| Step { host, action: action.clone() }).collect();
    let stages = vec![Stage { name: name.to_owned(), steps }];
    Plan { kind: kind.to_owned(), roles: roles.clone(), stages }
}

//! Which sides of a cut may promote when the old primary's lease is waited out: those whose revoked
//! standbys and witnesses are a majority of the voters, and no others.

use pgorch::facts::Proof;
use pgorch::inventory::{Inventory, parse};
use pgorch::model::HostName;
use pgorch::operation::{Roles, lower, verify};
use pgorch::playbook::{self, Playbook};
use pgorch::syntax::Source;

fn inventory(nodes: usize, witnesses: usize) -> Inventory {
    let mut text = "cluster: c\nfailover: {mode: automatic}\nnodes:\n".to_owned();
    for n in 1..=nodes {
        text += &format!("  node{n}: {{host: 10.0.0.{n}}}\n");
    }
    text += "witnesses:\n";
    for n in 1..=witnesses {
        text += &format!("  w{n}: {{host: 10.0.1.{n}}}\n");
    }
    parse(&Source::new("i", text)).expect("an inventory").0
}

fn failover() -> Playbook {
    let text = playbook::shipped("playbooks/failover.yml").expect("shipped");
    playbook::parse(&Source::new("playbooks/failover.yml", text), &|name, _| {
        let text = playbook::shipped(name).ok_or_else(|| format!("no {name}"))?;
        Ok(Source::new(name, text))
    })
    .expect("a playbook")
}

/// The plan that replaces node1, of a controller that reaches these standbys and witnesses.
fn promotes(
    nodes: usize,
    witnesses: usize,
    standbys: &[usize],
    reached: usize,
) -> Result<(), String> {
    let inventory = inventory(nodes, witnesses);
    let name = |n: &usize| HostName(format!("node{n}"));
    let voters: Vec<HostName> =
        inventory.nodes.keys().chain(inventory.witnesses.keys()).cloned().collect();
    let witnesses: Vec<HostName> = inventory.witnesses.keys().cloned().collect();
    let there: Vec<HostName> =
        standbys.iter().map(name).chain(witnesses.iter().take(reached).cloned()).collect();
    let roles = Roles {
        possible: Vec::new(),
        primary: name(&1),
        candidate: name(&standbys[0]),
        siblings: standbys[1..].iter().map(name).collect(),
        absent: voters.iter().filter(|v| !there.contains(v)).cloned().collect(),
        voters,
        witnesses,
        proof: Proof::LeaseOver,
        names: None,
    };
    verify(&lower("failover", &failover(), &inventory, &roles).expect("a plan"))
}

#[track_caller]
fn refused(promoted: Result<(), String>) {
    let why = promoted.expect_err("no majority");
    assert!(why.contains("majority"), "{why}");
}

#[test]
fn one_standby_of_three_nodes_is_not_enough() {
    promotes(3, 0, &[2, 3], 0).expect("two of three");
    refused(promotes(3, 0, &[2], 0));
    // Two witnesses make up for one that is out.
    promotes(3, 2, &[2], 2).expect("three of five");
    refused(promotes(3, 2, &[2], 1));
}

#[test]
fn a_witness_completes_a_majority() {
    promotes(4, 1, &[2, 3], 1).expect("three of five");
    refused(promotes(4, 1, &[2, 3], 0));
    refused(promotes(4, 1, &[2], 1));
}

#[test]
fn five_nodes_are_cut_into_three_and_two() {
    promotes(5, 0, &[2, 3, 4], 0).expect("the primary is with one");
    refused(promotes(5, 0, &[2, 3], 0));
}

//! The watch on real hosts, under writers with ledgers. The whole matrix runs with `PGORCH_LAB=full`, one
//! part of it with `PGORCH_PART=NAME`; a plain run has the few parts that tell most.

mod alive;
mod controllers;
mod cuts;
mod lab;
mod lost;
mod quorum;
mod returns;
mod two;

use crate::lab::available;
use lab::{Lab, Part};

const AUTOMATIC: &str = "failover: { mode: automatic }\n";
const QUORUM: &str =
    "failover: { mode: automatic }\nreplication: { mode: quorum, sync_standbys: 1 }\n";

fn full() -> bool {
    std::env::var("PGORCH_LAB").is_ok_and(|v| v == "full")
}

/// The parts that are made, of one lab.
fn run(more: &str, always: &[(&str, Part)], matrix: &[(&str, Part)]) {
    let parts: Vec<(&str, Part)> = match full() {
        true => always.iter().chain(matrix).copied().collect(),
        false => always.to_vec(),
    };
    if available() && !parts.is_empty() {
        Lab::new(more).parts(&parts);
    }
}

/// Its host answers: it is fenced over SSH.
#[test]
fn the_watch_replaces_a_primary_that_is_lost_on_a_live_host() {
    let matrix: &[(&str, Part)] = &[
        ("dry run", alive::dry_run),
        ("killed", alive::killed),
        ("stopped by hand", alive::stopped),
        ("frozen", alive::frozen),
        ("paused", alive::paused),
        ("unreachable without a proof", alive::unreachable),
        ("two watches", alive::two_watches),
    ];
    run("", &[], matrix);
}

/// Its host does not answer: the lease is waited out.
#[test]
fn the_watch_replaces_a_primary_whose_host_is_lost() {
    let always: &[(&str, Part)] =
        &[("host lost", lost::host_lost), ("cut off with clients", cuts::from_all)];
    let matrix: &[(&str, Part)] = &[
        ("no need", lost::no_need),
        ("standbys gone", lost::standbys_gone),
        ("disk full", lost::disk_full),
        ("cold start", lost::cold_start),
        ("comes back early", returns::early),
        ("comes back in the wait", returns::in_the_wait),
        ("standby rebooted", returns::standby_rebooted),
        ("thawed", lost::thawed),
    ];
    run(AUTOMATIC, always, matrix);
}

/// Who is cut off from whom decides what is done.
#[test]
fn the_watch_tells_a_cut_from_a_loss() {
    let matrix: &[(&str, Part)] = &[
        ("cut off from us", cuts::from_controller),
        ("cut off from the standbys", cuts::from_standbys),
        ("heard one way", cuts::one_way),
    ];
    run(AUTOMATIC, &[], matrix);
}

/// Whatever becomes of the watch, it does no harm, and somebody goes on.
#[test]
fn a_watch_that_dies_or_sleeps_does_no_harm() {
    let matrix: &[(&str, Part)] = &[
        ("killed in its failover", controllers::killed),
        ("asleep in its failover", controllers::asleep),
        ("overtaken in its sleep", controllers::overtaken),
    ];
    run(AUTOMATIC, &[], matrix);
}

/// No row that was acknowledged is lost.
#[test]
fn the_watch_loses_nothing_in_quorum_mode() {
    let matrix: &[(&str, Part)] =
        &[("host lost", quorum::host_lost), ("killed", quorum::killed), ("thawed", quorum::thawed)];
    run(QUORUM, &[], matrix);
}

/// Two nodes and a witness.
#[test]
fn the_watch_replaces_one_of_two() {
    if full() && available() {
        two::story();
    }
}

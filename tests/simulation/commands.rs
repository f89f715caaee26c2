//! The commands on single nodes that are disturbed in [`single`](super::single), each on what it is given on.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use pgorch::inventory::Inventory;

use super::command::Command;
use super::failover::node;
use super::world::{Record, Server};
use super::{ASYNC, CASCADE, Controller, QUORUM, World};

/// A command, what it is given on, and what is so when it has ended well.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
    pub(super) prepare: fn(&mut World),
    pub(super) command: fn() -> Command,
    pub(super) after: fn(&World) -> bool,
    /// A second run does it again: that is what was asked for.
    pub(super) again: bool,
}

const CASE: Case = Case {
    name: "",
    text: ASYNC,
    prepare: |_| {},
    command: || Command::reload(&[]),
    after: |_| true,
    again: false,
};

/// Without the third node.
pub(super) static WITHOUT: LazyLock<[Inventory; 2]> = LazyLock::new(|| {
    [ASYNC, QUORUM].map(|text| super::inventory(text.split("  node3").next().expect("a text")))
});

fn streams(world: &World, name: &str, from: &str) -> bool {
    world.streams_from(&node(name)) == Some(&node(from))
}

/// It is a standby of somebody.
fn is_back(world: &World, name: &str) -> bool {
    world.streams_from(&node(name)).is_some()
}

fn is(world: &World, name: &str, server: Server) -> bool {
    world.nodes[&node(name)].server == server
}

fn all_stream(world: &World) -> bool {
    let primary = world.primaries().next().cloned();
    let mut standbys = world.nodes.keys().filter(|n| Some(*n) != primary.as_ref());
    primary.is_some() && standbys.all(|n| world.streams_from(n).is_some())
}

fn nobody_owes(world: &World) -> bool {
    all_stream(world) && world.nodes.values().all(|n| !n.owes)
}

fn all_owe(world: &mut World) {
    world.nodes.values_mut().for_each(|n| n.owes = true);
}

pub(super) fn all_down(world: &mut World) {
    for name in world.names() {
        world.shut_down(&name);
    }
}

fn all_crashed(world: &mut World) {
    for name in world.names() {
        world.kill_server(&name);
    }
}

/// node1 had rows that nobody else has when it crashed, and node2 took its place.
pub(super) fn replaced(world: &mut World) {
    world.nodes[&node("node1")].slots.clear();
    world.commit();
    world.kill_server(&node("node1"));
    let mut failover = Controller::failover("c9", "node2", super::failover::LOSS);
    failover.run(world);
    world.flow();
    assert!(is(world, "node2", Server::Primary), "{}", world.story());
}

/// The same, and its rewind was begun.
fn half_rewound(world: &mut World) {
    replaced(world);
    (world.nodes[&node("node1")].half, world.nodes[&node("node1")].fence) = (true, true);
}

pub(super) fn destroyed(world: &mut World, name: &str) {
    let node = &mut world.nodes[&node(name)];
    (node.server, node.empty, node.standby_signal, node.clean) = (Server::Down, true, false, false);
    (node.wal, node.replayed) = (vec![Record { id: 0, timeline: 0 }], 1);
    (node.history, node.upstream) = (None, None);
    node.slots.clear();
}

fn members(world: &World) -> BTreeSet<String> {
    let primary = world.primaries().next().expect("a primary");
    world.members_of(primary)
}

pub(super) const CASES: &[Case] = &[
    Case {
        name: "stop a standby",
        command: || Command::stop(&["node2"], false),
        after: |w| is(w, "node2", Server::Down),
        ..CASE
    },
    Case {
        name: "stop one of two that commits wait for",
        text: QUORUM,
        command: || Command::stop(&["node2"], false),
        after: |w| is(w, "node2", Server::Down),
        ..CASE
    },
    Case {
        name: "stop all",
        command: || Command::stop(&[], true),
        after: |w| w.nodes.values().all(|n| n.server == Server::Down),
        ..CASE
    },
    Case {
        name: "stop all",
        text: QUORUM,
        command: || Command::stop(&[], true),
        after: |w| w.nodes.values().all(|n| n.server == Server::Down),
        ..CASE
    },
    Case {
        name: "start a standby",
        prepare: |w| w.stop_server(&node("node2")),
        command: || Command::start(&["node2"]),
        after: |w| is(w, "node2", Server::Recovery),
        ..CASE
    },
    Case {
        name: "start the primary",
        prepare: |w| w.kill_server(&node("node1")),
        command: || Command::start(&["node1"]),
        after: |w| is(w, "node1", Server::Primary),
        ..CASE
    },
    Case {
        name: "start all that was stopped",
        text: CASCADE,
        prepare: all_down,
        command: Command::start_all,
        after: all_stream,
        ..CASE
    },
    Case {
        name: "start all that has crashed",
        text: QUORUM,
        prepare: all_crashed,
        command: Command::start_all,
        after: all_stream,
        ..CASE
    },
    Case {
        name: "restart what owes one",
        text: CASCADE,
        prepare: all_owe,
        command: || Command::restart(&[], false),
        after: nobody_owes,
        ..CASE
    },
    Case {
        name: "restart what owes one",
        text: QUORUM,
        prepare: all_owe,
        command: || Command::restart(&[], false),
        after: nobody_owes,
        ..CASE
    },
    Case {
        name: "restart one",
        command: || Command::restart(&["node1"], false),
        after: all_stream,
        again: true,
        ..CASE
    },
    Case {
        name: "restart by a switchover",
        prepare: all_owe,
        command: || Command::restart(&[], true),
        after: nobody_owes,
        ..CASE
    },
    Case {
        name: "restart by a switchover",
        text: QUORUM,
        prepare: all_owe,
        command: || Command::restart(&[], true),
        after: nobody_owes,
        ..CASE
    },
    Case { name: "reload", again: true, ..CASE },
    Case {
        name: "follow another standby",
        command: || Command::follow("node3", "node2"),
        after: |w| streams(w, "node3", "node2"),
        ..CASE
    },
    Case {
        name: "follow another standby",
        text: QUORUM,
        command: || Command::follow("node3", "node2"),
        after: |w| streams(w, "node3", "node2"),
        ..CASE
    },
    Case {
        name: "rejoin by a start",
        prepare: |w| {
            w.shut_down(&node("node1"));
            Controller::failover("c9", "node2", super::failover::NONE).run(w);
        },
        command: || Command::rejoin(&["node1"], "auto"),
        after: |w| is_back(w, "node1"),
        ..CASE
    },
    Case {
        name: "rejoin by a rewind",
        prepare: replaced,
        command: || Command::rejoin(&["node1"], "auto"),
        after: |w| is_back(w, "node1"),
        ..CASE
    },
    Case {
        name: "rejoin by a rewind",
        text: QUORUM,
        prepare: replaced,
        command: || Command::rejoin(&["node1"], "auto"),
        after: |w| is_back(w, "node1"),
        ..CASE
    },
    Case {
        name: "rejoin what is half rewound",
        prepare: half_rewound,
        command: || Command::rejoin(&["node1"], "auto"),
        after: |w| is_back(w, "node1"),
        ..CASE
    },
    Case {
        name: "rejoin by a copy that is asked for",
        prepare: replaced,
        command: || Command::rejoin(&["node1"], "clone"),
        after: |w| is_back(w, "node1"),
        ..CASE
    },
    Case {
        name: "rejoin what is destroyed",
        text: QUORUM,
        prepare: |w| destroyed(w, "node3"),
        command: || Command::rejoin(&["node3"], "auto"),
        after: |w| is_back(w, "node3"),
        ..CASE
    },
    Case {
        name: "clone",
        text: QUORUM,
        prepare: |w| destroyed(w, "node3"),
        command: || Command::clone_node("node3", None),
        after: |w| is_back(w, "node3"),
        ..CASE
    },
    Case {
        name: "clone from a standby",
        prepare: |w| destroyed(w, "node3"),
        command: || Command::clone_node("node3", Some("node2")),
        after: |w| is_back(w, "node3"),
        ..CASE
    },
    Case {
        name: "register",
        prepare: |w| w.members = vec![(1, BTreeSet::from(["node1".to_owned()]))],
        command: || Command::register(&[]),
        after: |w| members(w).len() == 3,
        ..CASE
    },
    Case {
        name: "unregister",
        prepare: |w| w.stop_server(&node("node3")),
        command: || Command::unregister("node3", &WITHOUT[0]),
        after: |w| members(w).len() == 2,
        ..CASE
    },
    Case {
        name: "unregister",
        text: QUORUM,
        prepare: |w| w.stop_server(&node("node3")),
        command: || Command::unregister("node3", &WITHOUT[1]),
        after: |w| {
            let primary = w.primaries().next().expect("a primary");
            let names = &w.nodes[primary].sync_in_force;
            members(w).len() == 2 && !names.members.contains("node3")
        },
        ..CASE
    },
];

//! The commands on single nodes, disturbed at every command that they send, in every way: a later run of
//! the same command makes it whole, and nothing is ever lost or doubled.

use super::cases::{FATES, started, to_the_end, units};
use super::command::{Came, Command};
use super::commands::{CASES, Case, WITHOUT, all_down, destroyed, replaced};
use super::failover::node;
use super::{
    ASYNC, CASCADE, Controller, Fate, QUORUM, World, healed_and_rejoined, picked, rejoined, settled,
};

impl Case {
    fn begin(&self, title: &str) -> World {
        let title = format!("{}: {title}", self.name);
        let mut world = started(self.text, title);
        (self.prepare)(&mut world);
        world.check();
        world
    }

    fn picked(&self, of: u64, title: &str) -> bool {
        picked(of, &format!("{}{}{title}", self.name, self.text))
    }

    /// How many commands an undisturbed run sends, its look among them.
    fn length(&self) -> usize {
        let mut world = self.begin("length");
        let came = (self.command)().runs(&mut world);
        assert!(came.well(), "{came:?}\n{}", world.story());
        came.units
    }

    fn leaves(&self) -> bool {
        self.name == "unregister"
    }

    /// All is mended, and the command is given once more; where nobody else was at work it must end well.
    #[track_caller]
    fn heals(&self, world: &mut World, alone: bool) {
        if self.leaves() {
            // It is not there any more, so nobody starts it.
            world.stop_server(&node("node3"));
            world.nodes[&node("node3")].standby_signal = false;
            world.nodes[&node("node3")].fence = true;
        }
        settled(world);
        let mut came = (self.command)().by("healer").runs(world);
        if let Some(first) = came.hinted() {
            let hinted = first.by("healer").runs(world);
            assert!(hinted.well() || !alone, "{hinted:?}\n{}", world.story());
            came = (self.command)().by("healer").runs(world);
        }
        assert!(came.well() || !alone, "{came:?}\n{}", world.story());
        if came.well() {
            assert!((self.after)(world), "{came:?}\n{}", world.story());
            self.does_nothing(world);
        }
        if self.leaves() {
            world.nodes.shift_remove(&node("node3"));
            world.hosts.shift_remove(&node("node3"));
            world.inventory = if self.text == QUORUM { &WITHOUT[1] } else { &WITHOUT[0] };
            // Commits may have counted on it while the other standby was away.
            rejoined(world);
            let came = (self.command)().by("healer").runs(world);
            assert!(came.well() && (self.after)(world), "{came:?}\n{}", world.story());
        }
        healed_and_rejoined(world);
    }

    #[track_caller]
    fn does_nothing(&self, world: &mut World) {
        let came = (self.command)().by("healer").runs(world);
        let nothing = came.changed == 0 || self.again;
        assert!(came.well() && nothing, "{came:?}\n{}", world.story());
    }

    /// A run during which `happens` is asked before each command: `at` tells which it is.
    #[track_caller]
    fn run(
        &self,
        world: &mut World,
        mut happens: impl FnMut(&mut World, usize) -> Option<Fate>,
    ) -> Came {
        let mut at = 0;
        let came = (self.command)().run(world, &mut |world, _| {
            world.commit();
            world.flow();
            world.check();
            at += 1;
            let fate = happens(world, at);
            world.check();
            fate
        });
        world.commit();
        world.check();
        came
    }
}

impl Came {
    /// What a refusal says is to be done first.
    fn hinted(&self) -> Option<Command> {
        let says = |words: &str| self.refused.iter().any(|why| why.contains(words));
        if says("no_primary") {
            return Some(Command::start_all());
        }
        says("node3 holds data of this cluster").then(|| Command::rejoin(&["node3"], "auto"))
    }
}

#[test]
fn each_does_what_it_is_for() {
    for case in CASES {
        let mut world = case.begin("undisturbed");
        let came = case.run(&mut world, |_, _| Some(Fate::Fine));
        assert!(came.well() && (case.after)(&world), "{came:?}\n{}", world.story());
        assert!(came.changed > 0, "{came:?}\n{}", world.story());
        case.does_nothing(&mut world);
        case.heals(&mut world, true);
    }
}

#[test]
fn killed_anywhere_and_run_again() {
    for case in CASES {
        for at in 1..=case.length() {
            let mut world = case.begin(&format!("killed before {at}"));
            let came = case.run(&mut world, |_, n| (n < at).then_some(Fate::Fine));
            assert!(came.killed, "{came:?}");
            case.heals(&mut world, true);
        }
    }
}

#[test]
fn every_command_goes_wrong_in_every_way() {
    for case in CASES {
        for at in 2..=case.length() {
            for fate in FATES {
                let title = format!("{at} {fate:?}");
                if !case.picked(8, &title) {
                    continue;
                }
                let mut world = case.begin(&title);
                case.run(&mut world, |_, n| Some(if n == at { fate } else { Fate::Fine }));
                case.heals(&mut world, true);
            }
        }
    }
}

/// A host goes dark before any command, and comes back before a later one, or afterwards.
#[test]
fn every_host_dies_at_every_command() {
    for case in CASES {
        let length = case.length();
        for host in World::new(case.text, "").names() {
            for at in 1..=length {
                for back in [1, 3, 99] {
                    let title = format!("{host} dies at {at} for {back}");
                    if !case.picked(12, &title) {
                        continue;
                    }
                    let mut world = case.begin(&title);
                    case.run(&mut world, |world, n| {
                        if n == at {
                            world.power_off(&host);
                        } else if n == at + back {
                            world.power_on(&host);
                        }
                        Some(Fate::Fine)
                    });
                    case.heals(&mut world, false);
                }
            }
        }
    }
}

/// Another controller has changed the roles before any command: what goes on then goes by an old look.
#[test]
fn roles_change_at_every_command() {
    for case in CASES {
        for at in 1..=case.length() {
            for lost in [false, true] {
                let title = format!("roles change at {at}, lost {lost}");
                if !case.picked(3, &title) {
                    continue;
                }
                let mut world = case.begin(&title);
                case.run(&mut world, |world, n| {
                    if n == at {
                        let mut other = someone_else(world, lost);
                        to_the_end(world, &mut other);
                    }
                    Some(Fate::Fine)
                });
                case.heals(&mut world, false);
            }
        }
    }
}

/// It comes half-way, sleeps while the command goes on, and then wakes up.
#[test]
fn roles_are_being_changed_at_every_command() {
    for case in CASES {
        for at in 1..=case.length() {
            for some in [1, 4, 6, 8, 11] {
                for lost in [false, true] {
                    let title = format!("{some} units of another at {at}, lost {lost}");
                    if !case.picked(20, &title) {
                        continue;
                    }
                    let mut world = case.begin(&title);
                    let mut sleeper = None;
                    case.run(&mut world, |world, n| {
                        if n == at {
                            let mut other = someone_else(world, lost);
                            units(world, &mut other, some);
                            sleeper = Some(other);
                        }
                        Some(Fate::Fine)
                    });
                    to_the_end(&mut world, &mut sleeper.expect("it has begun"));
                    case.heals(&mut world, false);
                }
            }
        }
    }
}

/// A switchover of whoever is the primary to another node, or a failover when it has crashed.
fn someone_else(world: &mut World, lost: bool) -> Controller {
    let primary = world.primaries().next().cloned();
    let to = if primary == Some(node("node2")) { "node3" } else { "node2" };
    match primary.filter(|_| lost) {
        Some(primary) => {
            world.kill_server(&primary);
            Controller::failover("c1", "", super::failover::LOSS)
        }
        None => Controller::switchover("c1", to),
    }
}

/// What is refused, and with which words; nothing is touched.
#[test]
fn what_is_not_safe_is_refused() {
    type Spoil = fn(&mut World);
    let table: &[(&str, Spoil, Command, &str)] = &[
        (ASYNC, |_| {}, Command::stop(&["node1"], false), "is the running primary"),
        (
            QUORUM,
            |w| w.stop_server(&node("node3")),
            Command::stop(&["node2"], false),
            "all writes would wait",
        ),
        (QUORUM, |_| {}, Command::stop(&["node2", "node3"], false), "wait for node2 and node3"),
        // That it is meant says nothing of a primary that goes on.
        (QUORUM, |_| {}, Command::stop(&["node2", "node3"], true), "wait for node2 and node3"),
        (ASYNC, replaced, Command::start(&["node1"]), "is fenced"),
        (ASYNC, |_| {}, Command::rejoin(&["node1"], "auto"), "is_the_primary"),
        (ASYNC, |_| {}, Command::follow("node1", "node2"), "is_the_primary"),
        (ASYNC, |_| {}, Command::clone_node("node2", None), ""),
        (
            ASYNC,
            |w| w.stop_server(&node("node2")),
            Command::clone_node("node2", None),
            "holds data of this cluster",
        ),
        (CASCADE, |_| {}, Command::follow("node3", "node4"), "neither would get any"),
        (
            ASYNC,
            |w| {
                all_down(w);
                w.power_off(&node("node3"));
            },
            Command::start_all(),
            "node_unreachable",
        ),
        (
            QUORUM,
            |w| destroyed(w, "node3"),
            Command::clone_node("node3", Some("node2")),
            "commits count on node3",
        ),
    ];
    for (text, spoil, command, words) in table {
        let mut world = started(text, format!("refused: {words}"));
        spoil(&mut world);
        let before = world.shape();
        let came = command.runs(&mut world);
        let said = came.refused.iter().chain(&came.failed).any(|w| w.contains(words));
        assert!(said || words.is_empty(), "{came:?}, not {words}\n{}", world.story());
        assert_eq!(world.shape(), before, "{}", world.story());
    }
}

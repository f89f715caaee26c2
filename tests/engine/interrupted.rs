//! Ctrl-C.

use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::hosts::{Hosts, Ran, start};

fn press(child: &Child) {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("a pid");
    kill_process(pid, Signal::INT).expect("running");
}

/// A run of a first task that waits for a file, and a second; it is in the first when this returns.
fn waiting(hosts: &Hosts, seconds: u32) -> Child {
    let begun = hosts.at("begun");
    let plays = format!(
        "- hosts: a\n  tasks:\n    - name: long\n      shell: touch {}; sleep {seconds}\n    \
         - name: after\n      command: id\n",
        begun.display()
    );
    hosts.write("play.yml", &plays);
    let child = hosts.command(&["run", "play.yml", "-o", "json"]).spawn().expect("started");
    let end = Instant::now() + Duration::from_secs(20);
    while !begun.exists() {
        assert!(Instant::now() < end, "the task does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

fn end(child: Child) -> Ran {
    Ran::from(child.wait_with_output().expect("ends")).exits(130)
}

#[test]
fn the_first_finishes_the_step_in_hand() {
    let Some(hosts) = start() else { return };
    let child = waiting(&hosts, 2);
    press(&child);
    let ran = end(child);
    let tasks = ran.tasks("a");
    assert!(tasks.len() == 1 && tasks[0].starts_with("changed long"), "{tasks:?}");
    let events = ran.events();
    assert!(events.iter().any(|e| e["message"] == "stopped before \"after\""), "{events:?}");
    assert_eq!(events.last().expect("events")["data"]["exit"], 130);
}

#[test]
fn the_second_stops_the_command_on_its_host() {
    let Some(hosts) = start() else { return };
    let begun = Instant::now();
    let child = waiting(&hosts, 3917);
    press(&child);
    std::thread::sleep(Duration::from_millis(300));
    press(&child);
    let ran = end(child);
    assert!(begun.elapsed() < Duration::from_secs(60));
    let tasks = ran.tasks("a");
    assert!(tasks[0].contains("its processes were stopped"), "{tasks:?}");
    let running = std::process::Command::new("pgrep").args(["-f", "^sleep 3917$"]).status();
    assert_eq!(running.expect("pgrep").code(), Some(1));
}

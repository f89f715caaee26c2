//! Leases, grants and pauses: which one counts.

use std::fs::File;
use std::process::Command;
use std::time::Duration;

use pgorch::operation::{LeaseCommand, LeaseRefusal, Reading, lease_command, read_lease};

use super::world::{SYSTEM, World};

/// Runs the controller's command.
fn send(world: &World, epoch: u64, command: LeaseCommand<'_>) -> Result<Reading, LeaseRefusal> {
    let command = lease_command(&world.node, epoch, command, Duration::from_millis(200))?;
    let output =
        Command::new("/bin/sh").args(["-c", command.script.as_str()]).output().expect("sh runs");
    read_lease(&String::from_utf8_lossy(&output.stdout), &String::from_utf8_lossy(&output.stderr))
}

fn stored(world: &World, epoch: u64) {
    world.write("home/epoch", &format!("{epoch}\n{{}}\n"));
}

#[test]
fn a_higher_epoch_wins_then_the_later_end() {
    let world = World::new();
    assert_eq!(world.lease(2, 3000), "");
    let first = world.text("run/lease");
    // Late and out of order: nothing is shortened, nothing revived.
    assert_eq!(world.lease(2, 2000), "");
    assert_eq!(world.text("run/lease"), first);
    assert_eq!(world.lease(1, 9000), "refused=newer 2");
    assert_eq!(world.lease(2, -500), "refused=late");
    assert_eq!(world.text("run/lease"), first);
    assert_eq!(world.lease(2, 4000), "");
    assert_ne!(world.text("run/lease"), first);
    assert_eq!(world.lease(3, 2000), "");
    assert!(world.text("run/lease").contains(&format!("{SYSTEM} node1 3 ")));
    let end = World::now() + 9000;
    let other = world.says(&["lease", "4", "0-another-boot", &end.to_string()]);
    assert_eq!(other, "refused=booted");
}

#[test]
fn a_record_of_another_server_or_boot_is_none() {
    let mut world = World::new();
    world.lease(1, 3000);
    let good = world.text("run/lease");
    world.write("have", "0\n");
    for (from, to) in [
        (SYSTEM, "7000000000000000002"),
        ("accounts", "other"),
        ("node1", "node2"),
        (World::boot().as_str(), "0-another-boot"),
    ] {
        world.write("run/lease", &good.replace(from, to));
        assert!(!world.run(&["pass"]).status.success(), "{to}");
        assert!(!world.runs(), "{to}");
        world = World::new();
        world.write("have", "0\n");
    }
    // The wall clock says that it is over: it stood still, or was set.
    world.lease(1, 3000);
    let good = world.text("run/lease");
    let words: Vec<&str> = good.split(' ').collect();
    world.write("run/lease", &good.replace(words[6], "1000000000"));
    assert!(!world.run(&["pass"]).status.success());
}

#[test]
fn a_writable_start_uses_a_grant_up() {
    let world = World::new();
    let start = || {
        let output = world.run(&["start"]);
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (passed, why) = start();
    assert!(!passed && why.contains("nobody has granted"), "{why}");
    // A lease is no grant, and what a former life left is gone.
    world.lease(1, 3000);
    assert!(!start().0);
    assert_eq!(world.text("run/lease"), "");
    world.give("grant", 1, 3000, &["n-1"]);
    assert!(start().0);
    assert!(world.text("run/lease").ends_with(" n-1\n"));
    assert!(!start().0, "it was used up");
    // The grant of an earlier operation.
    world.give("grant", 1, 3000, &["n-2"]);
    stored(&world, 2);
    let (passed, why) = start();
    assert!(!passed && why.contains("epoch 1, and 2 is stored"), "{why}");
    world.give("grant", 2, 60, &["n-3"]);
    std::thread::sleep(Duration::from_millis(100));
    let (passed, why) = start();
    assert!(!passed && why.contains("ended before"), "{why}");
    // For a directory that has become another database.
    world.give("grant", 2, 3000, &["n-4"]);
    world.write("control", "Database system identifier: 7\nDatabase cluster state: shut down\n");
    let (passed, why) = start();
    assert!(!passed && why.contains("another server"), "{why}");
    // A standby needs none, and keeps none.
    world.give("grant", 2, 3000, &["n-5"]);
    world.write("data/standby.signal", "");
    assert!(start().0);
    assert_eq!(world.text("run/grant"), "");
    assert_eq!(world.text("run/role"), "standby\n");
}

#[test]
fn the_lease_of_a_start_is_put_into_force_by_its_end() {
    let world = World::new();
    stored(&world, 1);
    world.give("grant", 1, 3000, &["n-1"]);
    world.says(&["start"]);
    assert_eq!(world.fed(), None);
    world.says(&["started"]);
    assert!(world.fed().expect("fed") > 2_000_000);
    world.says(&["allow", "lease", "60"]);
    assert!(world.fed().expect("fed") > 50_000_000);
    world.says(&["shorten", "30"]);
    let fed = world.fed().expect("fed");
    assert!((29_000_000..30_000_000).contains(&fed), "{fed}");
}

#[test]
fn an_operation_that_is_over_leaves_no_more_than_is_renewed() {
    let world = World::new();
    stored(&world, 1);
    let left = || {
        let reading = send(&world, 1, LeaseCommand::Read).expect("a reading");
        reading.lease
    };
    world.says(&["allow", "lease", "60"]);
    // Standbys connect yet: they are what it lives by when its lease is over.
    world.write("have", "0\n");
    world.says(&["settle"]);
    assert!(left() > Duration::from_secs(55), "{:?}", left());
    world.write("have", "1\n");
    world.says(&["settle"]);
    let renewed = Duration::from_millis(world.node.guard.as_ref().expect("a guard").lease_ms);
    assert!(left() <= renewed && left() > renewed / 2, "{:?}", left());
    // PID 1 was told as well.
    assert!(world.fed().expect("fed") <= 3_000_000);
    // It makes nothing longer, and a standby has none.
    world.says(&["shorten", "1"]);
    world.says(&["settle"]);
    assert!(left() <= Duration::from_secs(1), "{:?}", left());
    std::fs::remove_file(world.path("run/lease")).expect("there");
    world.says(&["settle"]);
    assert_eq!(left(), Duration::ZERO);
}

#[test]
fn the_controller_is_answered_with_a_reading() {
    let mut world = World::new();
    stored(&world, 7);
    let first = send(&world, 7, LeaseCommand::Read).expect("a reading");
    assert!(first.agrees(&world.node) && first.lease.is_zero(), "{first:?}");
    let end = first.end(Duration::from_secs(3));
    let renew = LeaseCommand::Renew { reading: &first, end };
    let second = send(&world, 7, renew).expect("renewed");
    assert!(second.lease > Duration::from_millis(2_000), "{second:?}");
    assert_eq!(second.guard, "lease");
    assert_eq!(send(&world, 6, renew), Err(LeaseRefusal::Newer(7)));
    assert_eq!(send(&world, 8, renew), Err(LeaseRefusal::Older(7)));
    let late = LeaseCommand::Renew { reading: &first, end: first.uptime };
    assert_eq!(send(&world, 7, late), Err(LeaseRefusal::Late));
    let booted = Reading { boot: "0-another-boot".to_owned(), ..first.clone() };
    let booted = LeaseCommand::Renew { reading: &booted, end };
    assert_eq!(send(&world, 7, booted), Err(LeaseRefusal::Booted));
    // A step of an operation has the lock.
    let lock = File::create(world.path("home/epoch.lock")).expect("a file");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("locked");
    assert_eq!(send(&world, 7, renew), Err(LeaseRefusal::Busy));
    send(&world, 7, LeaseCommand::Read).expect("a look needs no lock");
    drop(lock);
    // Rendered before a node was added: nobody acts on it.
    world.node.guard.as_mut().expect("a guard").slots.push("node4".to_owned());
    assert!(!second.agrees(&world.node));
    std::fs::remove_file(world.path("guard")).expect("there");
    assert_eq!(send(&world, 7, LeaseCommand::Read), Err(LeaseRefusal::NoGuard));
}

#[test]
fn a_pause_has_no_end_and_is_ended() {
    let mut world = World::new();
    stored(&world, 3);
    world.write("have", "0\n");
    let reading = send(&world, 3, LeaseCommand::Read).expect("a reading");
    let paused =
        send(&world, 3, LeaseCommand::Pause { reading: &reading, end: None }).expect("paused");
    assert!(paused.paused && paused.lease.is_zero(), "{paused:?}");
    assert_eq!((world.fed(), world.state().as_str()), (Some(0), "paused"));
    world.says(&["pass"]);
    assert!(world.runs());
    // A later operation has begun here: the pause is no longer its. That is said when a pass has seen it.
    stored(&world, 4);
    assert!(send(&world, 4, LeaseCommand::Read).expect("a reading").paused);
    world.write("have", "2\n");
    world.says(&["pass"]);
    assert!(!send(&world, 4, LeaseCommand::Read).expect("a reading").paused);
    world.write("have", "0\n");
    stored(&world, 3);
    world.says(&["pass"]);
    assert_eq!(world.state(), "paused");
    let end = paused.end(Duration::from_secs(3));
    send(&world, 3, LeaseCommand::Renew { reading: &paused, end }).expect("a lease first");
    assert_eq!(world.fed(), Some(0));
    let over = send(&world, 3, LeaseCommand::Unpause).expect("over");
    assert!(!over.paused && world.fed().expect("fed") > 1_500_000, "{over:?}");
}

#[test]
fn a_pause_with_an_end_ends_by_itself() {
    let mut world = World::new();
    stored(&world, 3);
    world.write("have", "0\n");
    let reading = send(&world, 3, LeaseCommand::Read).expect("a reading");
    let pause = |seconds| LeaseCommand::Pause {
        reading: &reading,
        end: Some(reading.end(Duration::from_secs(seconds))),
    };
    assert!(send(&world, 3, pause(600)).expect("paused").paused);
    // The last word counts, also where it ends sooner.
    assert!(send(&world, 3, pause(2)).expect("paused").paused);
    world.says(&["pass"]);
    assert!(world.runs());
    std::thread::sleep(Duration::from_millis(2_100));
    // Its watchdog is off until a pass: nobody may take it for one that is held.
    assert!(send(&world, 3, LeaseCommand::Read).expect("a reading").paused);
    assert!(!world.run(&["pass"]).status.success());
    assert!(!world.runs(), "{}", world.state());
    assert!(!send(&world, 3, LeaseCommand::Read).expect("a reading").paused);
}

#[test]
fn a_pause_that_was_long_on_its_way_is_refused() {
    let world = World::new();
    stored(&world, 3);
    let mut reading = send(&world, 3, LeaseCommand::Read).expect("a reading");
    reading.uptime = reading.uptime.saturating_sub(Duration::from_secs(6));
    let pause = LeaseCommand::Pause { reading: &reading, end: None };
    assert_eq!(send(&world, 3, pause), Err(LeaseRefusal::Late));
    assert!(!world.path("run/pause").exists());
}

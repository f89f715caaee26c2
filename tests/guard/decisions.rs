//! What a pass makes of what it finds.

use std::time::Instant;

use super::world::World;

/// A pass that kills says so and fails.
#[track_caller]
fn kills(world: &mut World) {
    let output = world.run(&["pass"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("killed"), "{error}");
    assert!(!world.runs(), "it lives on");
    assert_eq!(world.state(), "killed");
}

#[track_caller]
fn leaves_it(world: &mut World, state: &str) {
    world.says(&["pass"]);
    assert!(world.runs());
    assert_eq!(world.state(), state);
}

#[test]
fn a_lease_is_fed_with_what_is_left_of_it() {
    let mut world = World::new();
    world.write("have", "0\n");
    assert_eq!(world.lease(1, 3000), "");
    let fed = world.fed().expect("fed at once");
    assert!((2_400_000..=2_710_000).contains(&fed), "{fed}");
    leaves_it(&mut world, "lease");
    let later = world.fed().expect("fed");
    assert!(later < fed && later > 2_000_000, "{later}");
    // Nothing was asked of the server or its files.
    world.write("control", "");
    leaves_it(&mut world, "lease");
}

#[test]
fn acknowledgements_keep_it_up_when_the_lease_is_over() {
    let mut world = World::new();
    world.ended_lease();
    leaves_it(&mut world, "acknowledged");
    let fed = world.fed().expect("fed");
    assert!((1_200_000..=1_700_000).contains(&fed), "{fed}");
    // One standby is enough for two of three; none is not.
    world.write("have", "1\n");
    leaves_it(&mut world, "acknowledged");
    world.write("have", "0\n");
    leaves_it(&mut world, "acknowledged");
    std::fs::remove_file(world.path("run/acknowledged")).expect("there");
    kills(&mut world);
}

#[test]
fn an_acknowledgement_is_of_one_life_of_the_server() {
    let mut world = World::new();
    world.says(&["pass"]);
    let mine = world.text("run/acknowledged");
    world.write("run/acknowledged", &mine.replace(&world.pid().to_string(), "1"));
    world.write("have", "0\n");
    kills(&mut world);
}

#[test]
fn without_any_support_it_is_killed() {
    for have in ["0\n", "", "nonsense\n"] {
        let mut world = World::new();
        world.write("have", have);
        kills(&mut world);
    }
}

#[test]
fn a_server_that_answers_nothing_has_no_support_and_holds_no_pass_up() {
    let mut world = World::new();
    world.write("slow", "5\n");
    let begin = Instant::now();
    kills(&mut world);
    assert!(begin.elapsed().as_millis() < 4_000, "{:?}", begin.elapsed());
}

#[test]
fn a_stopped_process_is_killed_without_being_woken() {
    let mut world = World::new();
    world.write("have", "0\n");
    let pid = rustix::process::Pid::from_raw(i32::try_from(world.pid()).expect("a pid"));
    rustix::process::kill_process(pid.expect("a pid"), rustix::process::Signal::STOP)
        .expect("stopped");
    kills(&mut world);
}

#[test]
fn a_standby_is_left_alone() {
    let mut world = World::new();
    world.control("in archive recovery");
    world.write("have", "0\n");
    leaves_it(&mut world, "standby");
    assert_eq!(world.fed(), Some(0), "the watchdog is off");
}

#[test]
fn a_signal_file_beside_a_running_primary_exempts_nobody() {
    let mut world = World::new();
    world.write("data/standby.signal", "");
    world.write("run/role", "standby\n");
    world.write("have", "0\n");
    kills(&mut world);
}

#[test]
fn a_standby_that_starts_is_one_before_its_control_file_says_so() {
    let mut world = World::new();
    world.write("run/role", "standby\n");
    world.unit("activating", world.pid());
    world.control("shut down");
    leaves_it(&mut world, "standby");
    // A copy of a primary says what that was.
    world.control("in production");
    leaves_it(&mut world, "standby");
    leaves_it(&mut world, "standby");
    // The same without having passed the start as one.
    world.write("run/role", "primary\n");
    world.write("have", "");
    kills(&mut world);
}

#[test]
fn crash_recovery_is_under_the_lease() {
    let mut world = World::new();
    world.write("run/role", "primary\n");
    world.unit("activating", world.pid());
    world.control("in crash recovery");
    world.write("have", "");
    world.lease(1, 1000);
    leaves_it(&mut world, "lease");
    world.ended_lease();
    kills(&mut world);
}

#[test]
fn a_clean_stop_may_take_its_time_once_no_client_is_left() {
    let mut world = World::new();
    world.unit("deactivating", world.pid());
    world.write("have", "");
    world.control("shutting down");
    leaves_it(&mut world, "stopping");
    world.control("in production");
    kills(&mut world);
}

#[test]
fn with_a_lease_a_standby_is_about_to_be_promoted() {
    let mut world = World::new();
    world.control("in archive recovery");
    world.lease(2, 3000);
    leaves_it(&mut world, "lease");
    assert!(world.fed().expect("fed") > 2_000_000);
    // The promotion came to nothing.
    world.says(&["withdraw"]);
    assert_eq!((world.fed(), world.state().as_str()), (Some(0), "standby"));
    assert!(world.runs());
    // Nobody took it back: whether a promotion is on its way cannot be known.
    world.ended_lease();
    kills(&mut world);
}

#[test]
fn an_unreadable_control_file_is_left_to_the_watchdog() {
    let mut world = World::new();
    world.says(&["pass"]);
    std::fs::remove_file(world.path("run/acknowledged")).expect("there");
    world.write("control", "pg_controldata: error: could not read file\n");
    world.write("have", "0\n");
    let before = world.text("notified");
    world.run(&["pass"]);
    assert!(world.runs());
    assert_eq!(world.text("notified"), before, "it was fed without support");
}

#[test]
fn a_server_past_the_unit_is_found_by_its_data_directory() {
    let mut world = World::new();
    let pid = world.pid();
    world.lease(1, 60_000);
    world.unit("inactive", 0);
    world.write("data/postmaster.pid", &format!("{pid}\n"));
    world.write("have", "0\n");
    // A single-user server during a rejoin serves nobody.
    world.write("data/postmaster.pid", &format!("-{pid}\n"));
    world.write("home/node1.fenced", "being rejoined\n");
    leaves_it(&mut world, "down");
    std::fs::remove_file(world.path("home/node1.fenced")).expect("there");
    // PID 1 cannot hold a lease of what it has not started.
    world.write("have", "2\n");
    kills(&mut world);
}

#[test]
fn nothing_is_done_before_it_is_enabled() {
    let mut world = World::new();
    world.write("have", "0\n");
    std::fs::remove_file(world.path("enabled")).expect("there");
    world.says(&["pass"]);
    world.says(&["start"]);
    world.says(&["started"]);
    assert!(world.runs());
    assert_eq!(world.fed(), None);
}

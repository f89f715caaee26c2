//! Cut, interrupted, killed: in the middle of a run.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Lab, said};

/// Ctrl-C while packages are installed, death in initdb and in the base backup; each time the same
/// command again, at once.
pub(super) fn interrupted_and_killed(lab: &Lab) {
    let mut run = lab.applying();
    run.until_task("node2", "Packages");
    run.signal(Signal::INT);
    let ran = run.end().exits(130);
    let text = said(&ran);
    // The step in hand was finished, the next was not begun, and that is said.
    assert!(ran.tasks("changed").contains(&("node2".into(), "Packages".into())), "{text}");
    assert!(text.contains("node2 stopped before \"Directory of the cluster\""), "{text}");
    assert!(text.contains("the step in hand is finished first"), "{text}");
    assert_eq!(lab.cluster.sh("node2", "dpkg --audit; ls /var/lib/pgorch"), "");

    let mut run = lab.applying();
    run.until_task("node1", "Data directory");
    run.kill();

    let mut run = lab.applying();
    run.until_task("node2", "Copy of the upstream");
    run.kill();

    lab.apply().exits(0);
    lab.is_whole();
}

/// The connection to one host breaks while its packages are installed: that is noticed in time, not
/// called a failure, and the others go on.
pub(super) fn cut_off(lab: &Lab) {
    let mut run = lab.applying();
    run.until_task("node2", "Packages");
    lab.fault("cut controller node2");
    let start = Instant::now();
    run.until(|e| e["event"] == "task_done" && e["host"] == "node2" && e["task"] == "Packages");
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    let ran = run.end().exits(4);
    let text = said(&ran);
    assert!(ran.tasks("unknown").contains(&("node2".into(), "Packages".into())), "{text}");
    assert!(ran.tasks("failed").is_empty(), "{text}");
    assert!(text.contains("its outcome is unknown") && text.contains("run again"), "{text}");
    assert!(ran.tasks("changed").contains(&("node3".into(), "Unit".into())), "{text}");
    lab.fault("heal controller node2");
}

/// The second Ctrl-C does not wait; the first one does.
pub(super) fn stopped_at_once(lab: &Lab) {
    let play = "- hosts: node1\n  tasks:\n    - { name: long, command: sleep 20 }\n    - { name: later, debug: { msg: m } }\n";
    let play = lab.cluster.write("long.yml", play);
    let mut run = lab.live(&["run", &play.to_string_lossy(), "-y", "-o", "json"]);
    run.until_task("node1", "long");
    run.signal(Signal::INT);
    std::thread::sleep(Duration::from_secs(1));
    assert!(run.running(), "the step in hand is finished first");
    run.signal(Signal::INT);
    let start = Instant::now();
    let ran = run.end().exits(130);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let text = said(&ran);
    assert!(text.contains("interrupted; its processes were stopped"), "{text}");
}

//! Who holds a lease, and what happens when it is let go.

use std::time::Duration;

use super::host::{GUARD, Guarded, UNIT};

/// Without a controller a healthy primary stays up, and so does a standby.
pub(super) fn by_standbys(lab: &Guarded) {
    lab.only_standbys("node1");
    let start = lab.sh("node1", &format!("systemctl show -p ActiveEnterTimestampMonotonic {UNIT}"));
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(lab.reading("node1", "guard"), "acknowledged");
    assert_eq!(lab.reading("node1", "lease").parse::<i64>().expect("a number").max(0), 0);
    assert_eq!(lab.reading("node2", "guard"), "standby");
    let now = lab.sh("node1", &format!("systemctl show -p ActiveEnterTimestampMonotonic {UNIT}"));
    assert_eq!(start, now, "it was restarted");
    // One of two standbys is enough.
    lab.sh("node3", &format!("systemctl stop {UNIT}"));
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(lab.reading("node1", "guard"), "acknowledged");
    assert_eq!(lab.reading("node3", "guard"), "down");
    lab.run(&["start", "node3", "-y"]).exits(0);
    lab.settled("node1");
    assert_eq!(lab.reading("node3", "guard"), "standby");
}

/// Nobody runs any more but PID 1, which has been told once, and has been executed anew since.
pub(super) fn by_pid_1(lab: &Guarded) {
    for renewed in ["daemon-reload", "daemon-reexec"] {
        let told = format!(
            "{GUARD} allow lease 60\nsystemctl stop {UNIT}-guard.timer {UNIT}-guard.service\n\
             {GUARD} shorten 6; cut -d' ' -f6 /run/pgorch/{UNIT}/lease\n\
             systemctl {renewed}\nsystemctl is-active {UNIT}\n{}",
            Guarded::gone_line()
        );
        let said = lab.sh("node1", &told);
        let lines: Vec<&str> = said.lines().collect();
        let [end, "active", gone] = lines.as_slice() else { panic!("{renewed}: {said}") };
        Guarded::in_time(renewed, end.parse().expect("a moment"), gone);
        assert!(lab.down("node1"));
        let why = lab.sh("node1", &format!("systemctl show -p Result --value {UNIT}"));
        assert_eq!(why, "watchdog");
        // The standbys have lived through all this, and nothing that is down starts by itself.
        let refused = lab.sh("node1", &format!("systemctl start {UNIT} 2>&1 || :"));
        assert!(refused.contains("failed"), "{refused}");
        let journal = lab.sh("node1", &format!("journalctl -q -o cat -n 20 -u {UNIT}"));
        assert!(journal.contains("nobody has granted that"), "{journal}");
        lab.sh("node1", "systemctl start pgorch-gd-guard.timer");
        lab.back("node1");
    }
}

/// The script is gone: nobody feeds, and the server ends. Without it no start is possible either.
pub(super) fn without_its_script(lab: &Guarded) {
    lab.only_standbys("node1");
    let line = format!(
        "mv /usr/local/lib/pgorch/{UNIT}.guard /root/\ncut -d' ' -f2 /run/pgorch/{UNIT}/acknowledged\n{}",
        Guarded::gone_line()
    );
    let said = lab.sh("node1", &line);
    let lines: Vec<&str> = said.lines().collect();
    let [end, gone] = lines.as_slice() else { panic!("{said}") };
    Guarded::in_time("no script", end.parse().expect("a moment"), gone);
    let refused = lab.sh("node1", &format!("systemctl start {UNIT} 2>&1 || :"));
    assert!(refused.contains("failed"), "{refused}");
    lab.sh("node1", "mv /root/pgorch-gd.guard /usr/local/lib/pgorch/");
    lab.back("node1");
}

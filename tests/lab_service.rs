//! The watch as a systemd service of a controller, and on a terminal: real systemd, a real
//! pseudo-terminal. The controller is a lab host of its own.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pgorch::lab;

use crate::lab::{Cluster, available};

const UNIT: &str = "pgorch-watch-sv.service";

fn inventory() -> String {
    "cluster: sv\npostgres: { version: 15 }\nlab: { image: bookworm }\n\
     nodes: { node1: { primary: true }, node2: {}, node3: {} }\nhosts: { ctl: {} }\n"
        .to_owned()
}

struct Lab {
    cluster: Cluster,
}

impl Lab {
    fn ctl(&self, line: &str) -> String {
        self.cluster.sh("ctl", line)
    }

    /// A file of this machine on the controller.
    fn copy(&self, from: &std::path::Path, to: &str, mode: &str) {
        let line = format!("mkdir -p $(dirname {to}) && cat >{to} && chmod {mode} {to}");
        let argv = lab::ssh_argv(&self.cluster.key(), "ctl", &[line]).expect("a host");
        let file = std::fs::File::open(from).expect("a file");
        let status = Command::new(&argv[0]).args(&argv[1..]).stdin(Stdio::from(file)).status();
        assert!(status.expect("ssh runs").success(), "{to}");
    }

    fn property(&self, name: &str) -> String {
        self.ctl(&format!("systemctl show -P {name} {UNIT}"))
    }

    fn until(&self, what: &str, seconds: u64, hit: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(seconds);
        while !hit() {
            if Instant::now() >= end {
                let journal = self.ctl(&format!("journalctl -u {UNIT} --no-pager | tail -n 60"));
                panic!("{what}: {}\n{journal}", self.property("StatusText"));
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// The program, its inventory and its keys on the controller, which reaches the nodes by address.
    fn install(&self) {
        let known = lab::status(&self.cluster.key()).expect("a lab");
        self.copy(env!("CARGO_BIN_EXE_pgorch").as_ref(), "/usr/local/bin/pgorch", "0755");
        self.copy(&known.identity_file, "/root/.ssh/lab", "0600");
        self.copy(&known.known_hosts, "/root/.ssh/known_hosts", "0600");
        let node = |name: &str| {
            let host = known.hosts.iter().find(|h| h.name == name).expect("it");
            format!("  {name}: {{ host: {} }}\n", host.address)
        };
        let text = format!(
            "cluster: sv\npostgres: {{ version: 15 }}\n\
             ssh: {{ user: root, identity_file: /root/.ssh/lab }}\n\
             failover: {{ restart_in_place: 20s }}\n\
             notifications: [{{ command: [/bin/sh, -c, 'cat >>/root/told'] }}]\n\
             nodes:\n{}{}{}",
            node("node1"),
            node("node2"),
            node("node3")
        );
        let file = self.cluster.write("ctl.yml", &text);
        self.copy(&file, "/root/inventory.yml", "0644");
    }
}

#[test]
fn the_watch_is_a_service_with_a_watchdog() {
    if !available() {
        return;
    }
    let lab = Lab { cluster: Cluster::new(&inventory()) };
    lab.cluster.apply(&[]).exits(0);
    lab.install();
    a_table_on_a_terminal(&lab);
    a_service_that_is_ready_and_fed(&lab);
    one_that_stands_still_is_begun_anew(&lab);
    a_pause_is_seen(&lab);
    a_crashed_primary_is_started_again_once(&lab);
    it_replaces_a_primary_and_tells(&lab);
    it_ends_when_it_is_told_to(&lab);
}

/// `script` gives it a pseudo-terminal; two interrupts are one too many for the first.
fn a_table_on_a_terminal(lab: &Lab) {
    lab.ctl(
        "cd /root && TERM=xterm timeout -s INT 8 script -qefc 'stty cols 100 rows 30; \
         pgorch watch -i /root/inventory.yml' /root/screen >/dev/null 2>&1 </dev/null || :",
    );
    let screen = lab.ctl("cat /root/screen");
    for words in ["sv  watching  primary_healthy", "node1  primary  running", "standby  streaming"]
    {
        assert!(screen.contains(words), "{words}:\n{screen}");
    }
    // Drawn over and over in one place.
    let drawn = screen.matches("sv  watching").count();
    assert!(drawn >= 3, "{drawn}\n{screen}");
    assert!(screen.contains("\u{1b}["), "{screen}");
}

fn a_service_that_is_ready_and_fed(lab: &Lab) {
    let print = "/usr/local/bin/pgorch watch -i /root/inventory.yml --print-unit";
    lab.ctl(&format!("{print} >/etc/systemd/system/{UNIT}"));
    let verified = lab.ctl(&format!("systemd-analyze verify {UNIT} 2>&1"));
    assert_eq!(verified, "");
    // Ends when the first round has ended.
    lab.ctl(&format!("systemctl daemon-reload && systemctl enable --now {UNIT} 2>&1"));
    assert_eq!(lab.property("ActiveState"), "active");
    lab.until("it is well", 20, || lab.property("StatusText").contains("primary node1"));
    let fed = || lab.property("WatchdogTimestampMonotonic");
    let first = fed();
    lab.until("it is fed", 10, || fed() != first);
}

/// Its process lives and does nothing.
fn one_that_stands_still_is_begun_anew(lab: &Lab) {
    let main = lab.property("MainPID");
    lab.ctl(&format!("kill -STOP {main}"));
    lab.until("it is begun anew", 60, || {
        let now = lab.property("MainPID");
        now != main && now != "0" && lab.property("ActiveState") == "active"
    });
    assert_eq!(lab.property("NRestarts"), "1");
    lab.until("it is well", 20, || lab.property("StatusText").contains("primary node1"));
}

/// By the watch and by `status`, with its reason.
fn a_pause_is_seen(lab: &Lab) {
    let said = ["pause", "--for", "10min", "--reason", "new switch"];
    lab.cluster.run(&said).exits(0);
    lab.until("it stands by", 10, || lab.property("StatusText").contains("new switch"));
    let status = lab.cluster.run(&["status", "-o", "json"]).json();
    let findings = status["findings"].as_array().expect("a list");
    let paused = findings.iter().find(|f| f["code"] == "watch_paused").expect("it");
    assert!(paused["message"].as_str().expect("text").contains("new switch"), "{paused}");
    lab.cluster.run(&["unpause"]).exits(0);
    lab.until("it watches again", 10, || !lab.property("StatusText").contains("new switch"));
}

/// Nobody else becomes the primary, and it is told.
fn a_crashed_primary_is_started_again_once(lab: &Lab) {
    lab.cluster.sh("node1", "systemctl kill -s KILL --kill-who=all pgorch-sv");
    lab.until("it is told", 60, || lab.ctl("cat /root/told").contains("restarted"));
    assert_eq!(lab.cluster.sql("node1", "SELECT pg_is_in_recovery()"), "f");
    lab.until("it is well", 20, || lab.property("StatusText").contains("primary node1"));
}

fn it_replaces_a_primary_and_tells(lab: &Lab) {
    lab.cluster.sh("node1", "systemctl kill -s KILL --kill-who=all pgorch-sv");
    lab.until("somebody else is the primary", 60, || {
        let status = lab.property("StatusText");
        status.contains("primary node2") || status.contains("primary node3")
    });
    lab.until("the failover is told", 20, || lab.ctl("cat /root/told").contains("failover_done"));
    let told = lab.ctl("cat /root/told");
    for word in ["watch_started", "suspected", "failover_started", "failover_done"] {
        assert_eq!(told.contains(&format!("\"event\":\"{word}\"")), word != "suspected", "{told}");
    }
    lab.until("it is back", 120, || lab.ctl("cat /root/told").contains("rejoin_done"));
}

fn it_ends_when_it_is_told_to(lab: &Lab) {
    let began = Instant::now();
    lab.ctl(&format!("systemctl stop {UNIT}"));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(lab.property("Result"), "success");
    assert!(lab.ctl("tail -n 1 /root/told").contains("watch_stopped"));
}

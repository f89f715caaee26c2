//! A cluster with guards, and its clock: the hosts share this machine's /proc/uptime.

use std::time::{Duration, Instant};

use pgorch::model::Timing;

use crate::lab::writer::FOR_WRITER;
use crate::lab::{Cluster, Ran};

pub(super) const UNIT: &str = "pgorch-gd";
pub(super) const GUARD: &str = "/bin/sh /usr/local/lib/pgorch/pgorch-gd.guard";

pub(super) struct Guarded {
    pub(super) cluster: Cluster,
    image: &'static str,
    version: u32,
}

impl Guarded {
    pub(super) fn new(image: &'static str, version: u32) -> Self {
        let mut lab = Guarded { cluster: Cluster::new("cluster: gd\n"), image, version };
        lab.mode("automatic");
        lab.cluster.apply(&[]).exits(0);
        lab.settled("node1");
        lab
    }

    /// Writes the inventory with this `failover.mode`.
    pub(super) fn mode(&mut self, mode: &str) {
        self.cluster.write_inventory(&self.inventory(mode));
    }

    pub(super) fn inventory(&self, mode: &str) -> String {
        format!(
            "cluster: gd\npostgres:\n  version: {}\n{}failover: {{ mode: {mode} }}\n\
             lab: {{ image: {} }}\nnodes: {{ node1: {{ primary: true }}, node2: {{}}, node3: {{}} }}\n",
            self.version,
            FOR_WRITER.trim_start_matches('\n'),
            self.image
        )
    }

    pub(super) fn timing() -> Timing {
        Timing::default()
    }

    pub(super) fn run(&self, args: &[&str]) -> Ran {
        self.cluster.run(args)
    }

    pub(super) fn sh(&self, host: &str, line: &str) -> String {
        self.cluster.sh(host, line)
    }

    /// One word of a guard's reading.
    #[track_caller]
    pub(super) fn reading(&self, host: &str, key: &str) -> String {
        let line = self.sh(host, &format!("{GUARD} read"));
        let word = line.split(' ').find_map(|w| w.strip_prefix(key)?.strip_prefix('='));
        word.unwrap_or_else(|| panic!("no {key} in {line}")).to_owned()
    }

    /// Waits until the guard of a host says this.
    #[track_caller]
    pub(super) fn until_guard(&self, host: &str, state: &str) {
        let end = Instant::now() + Duration::from_secs(40);
        let mut seen = String::new();
        while Instant::now() < end {
            seen = self.reading(host, "guard");
            if seen == state {
                return;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        panic!("{host}: the guard says {seen}, not {state}");
    }

    /// `primary` is writable and both others stream.
    #[track_caller]
    pub(super) fn settled(&self, primary: &str) {
        let query = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
        let end = Instant::now() + Duration::from_secs(60);
        let mut seen = String::new();
        while Instant::now() < end {
            let line = format!("cd / && runuser -u postgres -- psql -XAtc \"{query}\" 2>&1 || :");
            seen = self.sh(primary, &line);
            if seen == "2" {
                assert_eq!(self.cluster.sql(primary, "SELECT pg_is_in_recovery()"), "f");
                return;
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        panic!("{primary}: {seen} standbys stream");
    }

    pub(super) fn down(&self, host: &str) -> bool {
        let state = self.sh(host, &format!("systemctl is-active {UNIT} || :"));
        state == "inactive" || state == "failed"
    }

    /// The primary is down and comes back by a grant of the operator.
    #[track_caller]
    pub(super) fn back(&self, primary: &str) {
        self.run(&["start", primary, "-y"]).exits(0);
        self.long_lease(primary);
        self.settled(primary);
    }

    /// What the test does next is not to depend on how busy this machine is.
    pub(super) fn long_lease(&self, primary: &str) {
        self.sh(primary, &format!("{GUARD} allow lease 600"));
    }

    /// The lease ends soon, and then only the standbys keep the primary up.
    pub(super) fn only_standbys(&self, primary: &str) {
        self.sh(primary, &format!("{GUARD} shorten 3"));
        self.until_guard(primary, "acknowledged");
    }

    /// Milliseconds of the clock that all hosts and this machine share.
    pub(super) fn now() -> i64 {
        let text = std::fs::read_to_string("/proc/uptime").expect("Linux");
        let seconds: f64 = text.split(' ').next().and_then(|t| t.parse().ok()).expect("a number");
        (seconds * 1000.0).round() as i64
    }

    /// A shell line for a host that ends when no process of the server that was there at its start is
    /// left but what cannot run any more, and prints when that was.
    pub(super) fn gone_line() -> &'static str {
        "main=$(systemctl show -p MainPID --value pgorch-gd)\n\
         all=$(ps -o pid= --ppid $main; echo $main)\n\
         now() { read -r up rest </proc/uptime; echo \"${up%.*}${up#*.}0\"; }\n\
         end=$(($(now) + 20000))\n\
         while :; do\n\
           left=\n\
           for p in $all; do\n\
             s=$(sed -n 's/^State:[[:space:]]*//p' /proc/$p/status 2>/dev/null)\n\
             case $s in ''|Z*|X*) ;; *) left=1 ;; esac\n\
           done\n\
           [ -n \"$left\" ] || break\n\
           [ $(now) -lt $end ] || { echo never; exit 0; }\n\
           sleep 0.01\n\
         done\n\
         now\n"
    }

    /// Asserts a moment against the bound after the end of all support.
    #[track_caller]
    pub(super) fn in_time(what: &str, end: i64, gone: &str) {
        let gone: i64 =
            gone.lines().last().unwrap_or_default().trim().parse().unwrap_or_else(|_| {
                panic!("{what}: it lives on ({gone})");
            });
        let late = gone - end;
        let bound = i64::try_from(Self::timing().reaction().as_millis()).expect("small");
        eprintln!("  {what}: gone {late} ms after its end, bound {bound} ms");
        assert!(late <= bound, "{what}: {late} ms after its end");
        assert!(late > -1_500, "{what}: {late} ms, long before its end");
    }
}

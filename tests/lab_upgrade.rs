//! A minor upgrade and restarts by switchover on real hosts, under a writer. "Newer" packages are Debian's
//! own with a higher version, in a repository on each host, so that apt and the maintainer scripts do what
//! they do for a real one.

use crate::lab::writer::{FOR_WRITER, Writer};
use crate::lab::{Cluster, Live, Ran, available};

const ALL: [&str; 3] = ["node1", "node2", "node3"];
const PLAYBOOK: &str = "playbooks/upgrade-minor.yml";
/// The hosts' package lists are new enough: each test refreshes them itself.
const FRESH: [&str; 2] = ["-e", "cache_valid_time=86400"];

/// Builds the next version of the server and of its client, and has apt know them.
const NEWER: &str = r#"set -e
rm -rf /srv/newer && mkdir -p /srv/newer && cd /srv/newer
for p in postgresql-VERSION postgresql-client-VERSION; do
  apt-get download -qq "$p=$(dpkg-query -W -f '${Version}' "$p" | sed 's/+next.*//')"
  dpkg-deb -R "$p"_*.deb tree && rm "$p"_*.deb
  sed -i 's/^Version: .*/&+nextNUMBER/' tree/DEBIAN/control
  dpkg-deb -Znone -b tree "$p.deb" >/dev/null && rm -r tree
  dpkg-deb -f "$p.deb"
  printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$p.deb" "$(stat -c %s "$p.deb")" \
    "$(sha256sum <"$p.deb" | cut -d' ' -f1)"
done >Packages.new
mv Packages.new Packages
echo 'deb [trusted=yes] file:/srv/newer ./' >/etc/apt/sources.list.d/newer.list
apt-get update -qq -o Dir::Etc::sourcelist=sources.list.d/newer.list -o Dir::Etc::sourceparts=- \
  -o APT::Get::List-Cleanup=0"#;

fn inventory(version: u32, image: &str, more: &str) -> String {
    format!(
        "cluster: up\npostgres:\n  version: {version}\n{more}{}lab: {{ image: {image} }}\n\
         nodes: {{ node1: {{ primary: true }}, node2: {{}}, node3: {{}} }}\n",
        FOR_WRITER.trim_start_matches('\n')
    )
}

struct Lab {
    cluster: Cluster,
    version: u32,
}

impl Lab {
    fn new(version: u32, image: &str) -> Self {
        let cluster = Cluster::new(&inventory(version, image, ""));
        cluster.apply(&[]).exits(0);
        Lab { cluster, version }
    }

    fn newer(&self, number: u32) {
        let line = NEWER
            .replace("VERSION", &self.version.to_string())
            .replace("NUMBER", &number.to_string());
        std::thread::scope(|scope| {
            for node in ALL {
                let line = &line;
                scope.spawn(move || self.cluster.sh(node, line));
            }
        });
    }

    fn upgrade(&self, more: &[&str]) -> Ran {
        self.cluster.run(&[&["run", PLAYBOOK], &FRESH[..], more].concat())
    }

    fn upgrading(&self) -> Live {
        let args = [&["run", PLAYBOOK, "-y", "-o", "json"], &FRESH[..]].concat();
        Live::start(self.cluster.command(&args))
    }

    /// The version that dpkg has on a node, without what this test does not change.
    fn installed(&self, node: &str) -> String {
        let line = format!("dpkg-query -W -f '${{Version}}' postgresql-{}", self.version);
        let version = self.cluster.sh(node, &line);
        version.rsplit_once('+').map(|(_, last)| last.to_owned()).unwrap_or_default()
    }

    fn started(&self, node: &str) -> String {
        self.cluster.sql(node, "SELECT pg_postmaster_start_time()")
    }

    /// The primary, where all others stream from it and nothing is to be said of anybody.
    #[track_caller]
    fn whole(&self) -> String {
        for _ in 0..60 {
            let status = self.cluster.run(&["status", "-o", "json"]).exits(0).json();
            let nodes = status["nodes"].as_array().expect("nodes");
            let streaming = nodes.iter().filter(|n| n["state"] == "streaming").count();
            let quiet = nodes.iter().all(|n| n["findings"].as_array().is_some_and(Vec::is_empty));
            if status["health"] == "ok" && streaming == 2 && quiet {
                return status["primary"].as_str().expect("a primary").to_owned();
            }
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
        panic!("not whole:\n{}", self.cluster.run(&["status"]).stdout)
    }

    /// Nothing is due and nothing is done, least of all a switchover.
    #[track_caller]
    fn nothing_to_do(&self, args: &[&str]) {
        let before = ALL.map(|node| self.started(node));
        let ran = self.cluster.run(&[args, &["-y", "-o", "json"]].concat()).exits(0);
        assert_eq!(ran.tasks("changed"), [], "{}", ran.stderr);
        assert!(!ran.events().iter().any(|e| e["event"] == "operation"), "{}", ran.stdout);
        assert_eq!(ALL.map(|node| self.started(node)), before);
    }

    fn upgrade_args() -> Vec<&'static str> {
        [&["run", PLAYBOOK], &FRESH[..]].concat()
    }
}

#[track_caller]
fn done(ran: &Ran) -> f64 {
    let end = ran.events().into_iter().find(|e| e["event"] == "operation").expect("an operation");
    assert_eq!(end["data"]["end"], "done", "{end}");
    end["data"]["outage_seconds"].as_f64().expect("it was measured")
}

#[test]
fn a_cluster_is_upgraded_and_restarted_node_by_node() {
    if !available() {
        return;
    }
    let lab = Lab::new(15, "bookworm");
    let writer = Writer::start(&lab.cluster, &ALL, 0);
    lab.upgrade(&["--check"]).exits(0);
    lab.newer(1);
    one_standby_while_the_other_is_down(&lab);
    packages_restart_nothing(&lab);
    the_rest_goes_on(&lab);
    a_restart_that_is_owed(&lab);
    let ledger = writer.end();
    let lost = ledger.lost_on(&lab.cluster, &lab.whole());
    eprintln!("{} rows, longest pause {:.2} s", ledger.len(), ledger.outage().as_secs_f64());
    assert!(lost.is_empty(), "confirmed and lost: {lost:?}");
    assert!(ledger.len() > 1000, "{}", ledger.len());
}

/// It is refused unless it is said that this is meant, and then it says what it means.
fn one_standby_while_the_other_is_down(lab: &Lab) {
    lab.cluster.sh("node3", "systemctl stop pgorch-up");
    let before = ALL[..2].iter().map(|node| lab.started(node)).collect::<Vec<_>>();
    let ran = lab.upgrade(&["-y"]).exits(5);
    assert!(ran.stderr.contains("node3 does not run: while node2 is down"), "{}", ran.stderr);
    assert!(ran.stderr.contains("--limit 'all:!node3'"), "{}", ran.stderr);
    let planned = lab.upgrade(&["--check"]);
    assert_eq!(planned.code, 5, "{}\n{}", planned.stdout, planned.stderr);
    assert_eq!(ALL[..2].iter().map(|node| lab.started(node)).collect::<Vec<_>>(), before);
    assert_eq!(ALL.map(|node| lab.installed(node)).iter().filter(|v| *v == "next1").count(), 0);

    // A host that does not answer is no other thing.
    lab.cluster.fault("cut controller node3");
    let ran = lab.upgrade(&["-y", "--limit", "node2", "--timeout", "3"]).exits(0);
    assert!(ran.stderr.contains("node3 cannot be reached: while node2 is down"), "{}", ran.stderr);
    assert!(ran.stderr.contains("--limit says that this is meant"), "{}", ran.stderr);
    assert!(ran.stderr.contains("node1 is the primary and not among the hosts"), "{}", ran.stderr);
    lab.cluster.fault("heal controller node3");
    assert_eq!(lab.installed("node2"), "next1");
    assert_eq!(lab.installed("node1"), lab.installed("node3"));
    lab.cluster.sh("node3", "systemctl start pgorch-up");
    assert_eq!(lab.whole(), "node1");
}

/// As if a run had died after the packages: dpkg's scripts leave our unit alone, and the debt is seen.
fn packages_restart_nothing(lab: &Lab) {
    let play = "- hosts: node3\n  become: true\n  tasks: [{ name: Packages, minor_upgrade: }]\n";
    let play = lab.cluster.write("packages.yml", play);
    let before = lab.started("node3");
    lab.cluster.run(&["run", &play.to_string_lossy(), "-y"]).exits(0);
    assert_eq!(lab.installed("node3"), "next1");
    assert_eq!(lab.started("node3"), before);
    let status = lab.cluster.run(&["status", "-o", "json"]).exits(0).stdout;
    assert!(status.contains("its binaries were replaced"), "{status}");
    let unregistered = lab.cluster.sh("node3", "pg_lsclusters -h 2>/dev/null || :");
    assert_eq!(unregistered, "", "the package made a cluster of its own");
}

fn the_rest_goes_on(lab: &Lab) {
    let node2 = lab.started("node2");
    let planned = lab.upgrade(&["--check", "-o", "json"]).exits(3);
    let text = planned.stdout.clone();
    assert!(text.contains("node2 becomes the primary instead of node1"), "{text}");
    // Nobody says yes.
    let ran = lab.upgrade(&[]).exits(5);
    assert!(ran.stderr.contains("needs a yes"), "{}", ran.stderr);
    let ran = lab.upgrade(&["-y", "-o", "json"]).exits(0);
    let outage = done(&ran);
    eprintln!("upgrade: write outage {outage:.2} s");
    assert_eq!(lab.started("node2"), node2, "node2 was upgraded before");
    assert_eq!(lab.whole(), "node2");
    assert_eq!(ALL.map(|node| lab.installed(node)), ["next1"; 3]);
    lab.nothing_to_do(&Lab::upgrade_args());
}

fn a_restart_that_is_owed(lab: &Lab) {
    lab.nothing_to_do(&["restart", "--switchover"]);
    let changed = inventory(15, "bookworm", "  parameters: { max_connections: 123 }\n");
    lab.cluster.write_inventory(&changed);
    lab.cluster.apply(&[]).exits(0);
    let planned = lab.cluster.run(&["restart", "--switchover", "--check"]).exits(3);
    assert!(planned.stdout.contains("becomes the primary instead of node2"), "{}", planned.stdout);
    let ran = lab.cluster.run(&["restart", "--switchover", "-y", "-o", "json"]).exits(0);
    eprintln!("restart --switchover: write outage {:.2} s", done(&ran));
    assert_ne!(lab.whole(), "node2");
    for node in ALL {
        assert_eq!(lab.cluster.sql(node, "SHOW max_connections"), "123", "{node}");
    }
    lab.nothing_to_do(&["restart", "--switchover"]);
}

/// Commits go on waiting for standbys while these are upgraded one by one, and none is lost.
#[test]
fn a_cluster_whose_commits_wait_is_upgraded() {
    if !(std::env::var("PGORCH_LAB").is_ok_and(|v| v == "full") && available()) {
        return;
    }
    let quorum =
        inventory(15, "bookworm", "").replace("lab: ", "replication: { mode: quorum }\nlab: ");
    let lab = Lab { cluster: Cluster::new(&quorum), version: 15 };
    lab.cluster.apply(&[]).exits(0);
    let names = |node: &str| lab.cluster.sql(node, "SHOW synchronous_standby_names");
    assert_eq!(names("node1"), "ANY 1 (\"node2\", \"node3\")");
    let writer = Writer::start(&lab.cluster, &ALL, 0);
    lab.newer(1);
    // Without the other one commits would wait for ever.
    lab.cluster.sh("node3", "systemctl stop pgorch-up");
    lab.upgrade(&["-y"]).exits(5);
    lab.cluster.sh("node3", "systemctl start pgorch-up");
    assert_eq!(lab.whole(), "node1");
    let ran = lab.upgrade(&["-y", "-o", "json"]).exits(0);
    eprintln!("upgrade in quorum mode: write outage {:.2} s", done(&ran));
    let primary = lab.whole();
    assert_ne!(primary, "node1");
    assert_eq!(ALL.map(|node| lab.installed(node)), ["next1"; 3]);
    assert!(names(&primary).starts_with("ANY 1 (\"node1\""), "{}", names(&primary));
    lab.nothing_to_do(&Lab::upgrade_args());
    let ledger = writer.end();
    eprintln!("{} rows, longest pause {:.2} s", ledger.len(), ledger.outage().as_secs_f64());
    assert_eq!(ledger.lost_on(&lab.cluster, &primary), Vec::<i64>::new());
}

/// Killed in the middle of dpkg, of a restart and of the switchover: the next run goes on.
#[test]
fn an_upgrade_that_is_killed_anywhere_goes_on() {
    if !(std::env::var("PGORCH_LAB").is_ok_and(|v| v == "full") && available()) {
        return;
    }
    for (version, image) in [(15, "bookworm"), (17, "trixie")] {
        killed_everywhere(&Lab::new(version, image));
    }
}

fn killed_everywhere(lab: &Lab) {
    let writer = Writer::start(&lab.cluster, &ALL, 0);
    lab.newer(1);
    for (host, task) in [
        ("node2", "Newer packages"),
        ("node2", "Restart into the newer binaries"),
        ("node3", "Newer packages"),
        ("node1", "Stop the primary"),
    ] {
        let mut run = lab.upgrading();
        run.until_task(host, task);
        run.kill();
        eprintln!("  killed at {task} on {host}");
    }
    let refused = lab.upgrade(&["-y"]).exits(5);
    assert!(refused.stderr.contains("pgorch resume"), "{}", refused.stderr);
    lab.cluster.run(&["resume", "-o", "json"]).exits(0);
    lab.whole_enough();
    let mut run = lab.upgrading();
    run.until(|e| e["event"] == "task_started" && e["task"] == "Promote");
    run.kill();
    lab.cluster.run(&["resume", "-o", "json"]).exits(0);
    lab.whole_enough();
    lab.upgrade(&["-y"]).exits(0);
    let primary = lab.whole();
    assert_eq!(ALL.map(|node| lab.installed(node)), ["next1"; 3]);
    lab.nothing_to_do(&Lab::upgrade_args());
    let ledger = writer.end();
    assert_eq!(ledger.lost_on(&lab.cluster, &primary), Vec::<i64>::new());
}

impl Lab {
    /// Two stream; what is owed may be owed.
    #[track_caller]
    fn whole_enough(&self) {
        for _ in 0..60 {
            let status = self.cluster.run(&["status", "-o", "json"]).exits(0).json();
            let nodes = status["nodes"].as_array().expect("nodes");
            if nodes.iter().filter(|n| n["state"] == "streaming").count() == 2 {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
        panic!("not whole:\n{}", self.cluster.run(&["status"]).stdout)
    }
}

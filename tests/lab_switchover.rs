//! `switchover` and `resume` on real hosts, with a client that writes all the time and remembers what
//! was confirmed. One cluster, one story; after each chapter the cluster is whole again.

use std::time::{Duration, Instant};

mod changes;
mod refused;
mod undone;
mod writer;

use serde_json::Value;

use crate::lab::{Cluster, Live, Ran, available};
use writer::Writer;

const ALL: [&str; 3] = ["node1", "node2", "node3"];
const HOME: &str = "/var/lib/pgorch/over";

struct Story {
    cluster: Cluster,
    writer: Writer,
}

fn inventory(version: u32, image: &str) -> String {
    format!(
        "
cluster: over
lab: {{ image: {image} }}
postgres:
  version: {version}
  hba:
    - host app app 198.18.0.0/15 trust
  roles:
    - {{ name: app, attributes: [login] }}
  databases:
    - {{ name: app, owner: app }}
nodes:
  node1: {{ primary: true }}
  node2: {{}}
  node3: {{}}
"
    )
}

#[test]
fn a_primary_is_changed_and_no_row_is_lost() {
    if available() {
        story(15, "bookworm");
    }
}

#[test]
fn the_same_on_the_newest_debian() {
    if std::env::var("PGORCH_LAB").is_ok_and(|v| v == "full") && available() {
        story(17, "trixie");
    }
}

fn story(version: u32, image: &str) {
    let cluster = Cluster::new(&inventory(version, image));
    cluster.run(&["lab", "up"]).exits(0);
    cluster.apply(&[]).exits(0);
    let lab = pgorch::lab::status(&cluster.key()).expect("a lab");
    let addresses: Vec<String> = lab.hosts.iter().map(|h| h.address.to_string()).collect();
    let story = Story { cluster, writer: Writer::start(&addresses) };
    type Chapter = fn(&Story);
    let chapters: [(&str, Chapter); 8] = [
        ("dry run", refused::a_dry_run_changes_nothing),
        ("there and back", changes::there_and_back),
        ("refused", refused::all_refusals_together),
        ("hook", undone::a_hook_that_fails),
        ("killed after the stop", changes::killed_after_the_stop),
        ("killed after the promotion", changes::killed_after_the_promotion),
        ("interrupted", undone::interrupted_after_the_stop),
        ("candidate off", undone::the_candidate_goes_dark),
    ];
    for (name, chapter) in chapters {
        let start = Instant::now();
        let before = story.writer.confirmed();
        chapter(&story);
        let outage = story.writer.longest_pause(before).as_secs_f64();
        let seconds = start.elapsed().as_secs_f64();
        eprintln!("{version} {name}: {seconds:.1} s, longest pause of the writer {outage:.2} s");
    }
    let primary = story.whole();
    story.nothing_lost(&primary);
    eprintln!("{} rows confirmed", story.writer.confirmed());
}

impl Story {
    fn over(&self, more: &[&str]) -> Ran {
        self.cluster.run(&[&["switchover", "-y", "-o", "json"], more].concat())
    }

    fn overing(&self, more: &[&str]) -> Live {
        Live::start(self.cluster.command(&[&["switchover", "-y", "-o", "json"], more].concat()))
    }

    /// The shipped playbook with a command of the user's on `hosts` before a play.
    fn hooked(&self, before: &str, hosts: &str, command: &str) -> String {
        let shipped = pgorch::playbook::shipped("playbooks/switchover.yml").expect("shipped");
        let mark = format!("- name: {before}\n");
        assert!(shipped.contains(&mark), "no play {before:?}");
        let hook =
            format!("- hosts: {hosts}\n  tasks:\n    - name: Hook\n      command: {command}\n\n");
        let path = self.cluster.write("hooked.yml", &shipped.replace(&mark, &(hook + &mark)));
        path.to_string_lossy().into_owned()
    }

    #[track_caller]
    fn status(&self) -> Value {
        self.cluster.run(&["status", "-o", "json"]).exits(0).json()
    }

    /// One primary, which takes writes; the others stream from it, with exactly their slots; no
    /// marker, no operation that is not over. The primary's name.
    #[track_caller]
    fn whole(&self) -> String {
        // After an undone stop a standby tries again within five seconds.
        let end = Instant::now() + Duration::from_secs(30);
        let mut status = self.status();
        let settled = |status: &Value| {
            let nodes = status["nodes"].as_array().expect("nodes");
            let streaming = nodes.iter().filter(|n| n["state"] == "streaming").count();
            status["health"] == "ok" && streaming == ALL.len() - 1
        };
        while !settled(&status) && Instant::now() < end {
            assert!(!status.to_string().contains("timeline_fork"), "{status}");
            std::thread::sleep(Duration::from_millis(300));
            status = self.status();
        }
        assert_eq!(status["health"], "ok", "{status}");
        let primary = status["primary"].as_str().expect("a primary").to_owned();
        let slots = "SELECT coalesce(string_agg(slot_name, ' ' ORDER BY slot_name), '') FROM pg_replication_slots";
        for node in ALL {
            let left = format!(
                "ls {HOME} | grep -e fenced -e pgorch-new || :; sed -n 2p {HOME}/epoch 2>/dev/null || :"
            );
            let left = self.cluster.sh(node, &left);
            assert!(!left.contains("fenced") && !left.contains("pgorch-new"), "{node}: {left}");
            assert!(!left.contains("\"state\":\"open\""), "{node}: {left}");
            let followers: Vec<&str> = match node == primary {
                true => ALL.into_iter().filter(|n| *n != primary).collect(),
                false => Vec::new(),
            };
            assert_eq!(self.cluster.sql(node, slots), followers.join(" "), "{node}");
            let row = status["nodes"].as_array().expect("nodes").iter().find(|r| r["name"] == node);
            let row = row.expect("a row");
            if node != primary {
                let upstream = (row["state"].as_str(), row["upstream"].as_str());
                assert_eq!(upstream, (Some("streaming"), Some(primary.as_str())), "{status}");
            }
        }
        self.writer.goes_on();
        primary
    }

    /// All confirmed rows are on the primary.
    #[track_caller]
    fn nothing_lost(&self, primary: &str) {
        let confirmed = self.writer.rows();
        let query = "psql -XAtd app -c 'SELECT id FROM ledger'";
        let stored = self.cluster.sh(primary, &format!("cd / && runuser -u postgres -- {query}"));
        let stored: std::collections::BTreeSet<i64> =
            stored.lines().map(|l| l.parse().expect("a number")).collect();
        let lost: Vec<&i64> = confirmed.iter().filter(|id| !stored.contains(id)).collect();
        assert!(lost.is_empty(), "confirmed and lost: {lost:?}");
        assert!(confirmed.len() > 100, "the writer wrote {} rows only", confirmed.len());
    }

    fn timeline(&self, node: &str) -> String {
        self.cluster.sql(node, "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)")
    }

    /// When each server was started, and what each node has stored of operations.
    fn untouched(&self) -> Vec<String> {
        let look = |node: &&str| {
            let start = self.cluster.sql(node, "SELECT pg_postmaster_start_time()");
            start
                + &self
                    .cluster
                    .sh(node, &format!("cd {HOME}; cat epoch turned *.promoted 2>/dev/null || :"))
        };
        ALL.iter().map(look).collect()
    }
}

/// What the run says of its end: the word, and the outage that it measured.
#[track_caller]
fn end(ran: &Ran) -> (String, Option<f64>) {
    let all = ran.events();
    let event = all.iter().find(|e| e["event"] == "operation");
    let event = event.unwrap_or_else(|| panic!("no end\n{}\n{}", ran.stdout, ran.stderr));
    let word = event["data"]["end"].as_str().expect("a word").to_owned();
    (word, event["data"]["outage_seconds"].as_f64())
}

//! Two controllers on two sides of a cut: A is this machine, with the majority of the nodes; B runs in the
//! network of a host `ctl`, with the old primary only. Each side has a client that writes all the time.

use std::process::{Command, Stdio};
use std::time::Duration;

use pgorch::lab;

use crate::lab::writer::{FOR_WRITER, Network, Writer};
use crate::lab::{Cluster, Ran, available};

const CUTS: [&str; 5] =
    ["controller node1", "node1 node2", "node1 node3", "ctl node2", "ctl node3"];

struct Sides {
    cluster: Cluster,
    /// The network of `ctl`.
    b: Network,
}

/// The inventory of B: the same hosts by their addresses, since B makes no lab.
fn inventory_of_b(cluster: &Cluster) -> String {
    let lab = lab::status(&cluster.key()).expect("a lab");
    let address = |name: &str| lab.hosts.iter().find(|h| h.name == name).expect("it").address;
    let home = cluster.dir().join("b");
    std::fs::create_dir_all(home.join(".ssh")).expect("a home");
    std::fs::copy(&lab.known_hosts, home.join(".ssh/known_hosts")).expect("known hosts");
    let (begin, _) =
        inventory(false).split_once("lab:").map(|(b, e)| (b.to_owned(), e)).expect("it");
    let node = |name: &str, more: &str| format!("  {name}: {{ host: {}{more} }}\n", address(name));
    let nodes = node("node1", ", primary: true") + &node("node2", "") + &node("node3", "");
    let ssh = format!("ssh: {{ user: root, identity_file: {} }}\n", lab.identity_file.display());
    format!("{begin}{ssh}nodes:\n{nodes}hosts:\n{}", node("ctl", ""))
}

fn inventory(stonith: bool) -> String {
    let exe = env!("CARGO_BIN_EXE_pgorch");
    let stonith = match stonith {
        true => {
            format!("failover: {{ stonith: {{ command: '{exe} lab fault power-off node1' }} }}\n")
        }
        false => String::new(),
    };
    format!(
        "cluster: sides\npostgres:\n  version: 15\n{}{stonith}lab: {{ image: bookworm }}\n\
         nodes: {{ node1: {{ primary: true }}, node2: {{}}, node3: {{}} }}\nhosts: {{ ctl: {{}} }}\n",
        FOR_WRITER.trim_start_matches('\n')
    )
}

#[test]
fn only_one_side_of_a_cut_goes_on() {
    if !available() {
        return;
    }
    let cluster = Cluster::new(&inventory(false));
    cluster.apply(&[]).exits(0);
    let b = Network::of(&cluster, "ctl");
    cluster.write("b.yml", &inventory_of_b(&cluster));
    let sides = Sides { cluster, b };
    sides.the_majority_goes_on_with_proof();
    if full() {
        sides.the_minority_tries_first();
        sides.the_risk_is_taken();
    }
}

fn full() -> bool {
    std::env::var("PGORCH_LAB").is_ok_and(|v| v == "full")
}

impl Sides {
    /// The controller on the minority's side.
    fn b(&self, args: &[&str]) -> Ran {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.b.path()))
            .arg(env!("CARGO_BIN_EXE_pgorch"))
            .args(args)
            .env("PGORCH_INVENTORY", self.cluster.dir().join("b.yml"))
            .env("HOME", self.cluster.dir().join("b"))
            .env("XDG_STATE_HOME", self.cluster.dir().join("b/state"))
            .env_remove("SSH_AUTH_SOCK")
            .current_dir(self.cluster.dir())
            .stdin(Stdio::null());
        Ran::of(&command.output().expect("the program runs"))
    }

    fn a(&self, args: &[&str]) -> Ran {
        self.cluster.run(args)
    }

    fn cut(&self) {
        CUTS.iter().for_each(|pair| self.cluster.fault(&format!("cut {pair}")));
        // What was sent is noticed as lost.
        std::thread::sleep(Duration::from_secs(6));
    }

    fn heal(&self) {
        CUTS.iter().for_each(|pair| self.cluster.fault(&format!("heal {pair}")));
    }

    fn in_recovery(&self, node: &str) -> String {
        self.cluster.sql(node, "SELECT pg_is_in_recovery()")
    }

    /// Whatever B tries, nobody becomes a primary by it, and the old one stays what it is.
    #[track_caller]
    fn b_gets_nowhere(&self) {
        let tries: [&[&str]; 8] = [
            &["failover", "-y", "--to", "node3", "--accept-split-brain-risk", "--accept-data-loss"],
            &["run", "playbooks/switchover.yml", "-e", "candidate=node2", "-y"],
            &["switchover", "--to", "node2", "-y"],
            &["failover", "-y"],
            &["promote", "node2", "-y", "--accept-split-brain-risk", "--accept-data-loss"],
            &["rejoin", "node1", "-y"],
            &["start", "node2", "-y"],
            &["restart", "--switchover", "--force", "-y"],
        ];
        // Each waits for hosts that do not answer.
        for words in &tries[..if full() { 8 } else { 2 }] {
            let ran = self.b(&[*words, &["--timeout", "3"]].concat());
            assert!(matches!(ran.code, 4 | 5), "{words:?}: {}\n{}", ran.code, ran.stderr);
        }
        // It changes nothing on whom it reaches, and says whom it does not.
        self.b(&["apply", "-y", "--timeout", "3"]).exits(4);
        let resumed = self.b(&["resume", "--timeout", "3"]).exits(0);
        assert!(resumed.stderr.contains("nothing to do"), "{}", resumed.stderr);
    }

    /// The old primary comes back as a standby; then everything is as it was at first. What each side's
    /// client was told is compared: `kept` must all be there.
    #[track_caller]
    fn mend(&self) {
        self.a(&["rejoin", "node1", "-y"]).exits(0);
        self.a(&["switchover", "--to", "node1", "-y"]).exits(0);
        let status = self.status_when(|s| streaming(s) == 2);
        assert_eq!(status["primary"], "node1", "{status}");
        // Both controllers see the same.
        let seen = self.b(&["status", "-o", "json"]).exits(0).json();
        assert_eq!(seen["primary"], "node1", "{seen}");
        assert_eq!(seen["health"], "ok", "{seen}");
    }

    #[track_caller]
    fn status_when(&self, hit: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let mut status = self.a(&["status", "-o", "json"]).json();
        for _ in 0..40 {
            if hit(&status) {
                return status;
            }
            std::thread::sleep(Duration::from_millis(500));
            status = self.a(&["status", "-o", "json"]).json();
        }
        panic!("{status}")
    }

    /// In async mode the old primary goes on confirming on its side; so the majority does not go on before
    /// that is known to be over.
    fn the_majority_goes_on_with_proof(&self) {
        let before = Writer::start(&self.cluster, &["node1"], 0);
        std::thread::sleep(Duration::from_secs(2));
        let before = before.end();
        self.cut();
        let left = Writer::start_in(&self.cluster, &["node1"], 1_000_000, Some(&self.b));
        std::thread::sleep(Duration::from_secs(1));

        let ran = self.a(&["failover", "-y", "--timeout", "3"]).exits(4);
        assert!(ran.stderr.contains("failover_unproved"), "{}", ran.stderr);
        assert!(ran.stderr.contains("--accept-split-brain-risk"), "{}", ran.stderr);
        assert_eq!(
            (self.in_recovery("node2"), self.in_recovery("node3")),
            ("t".into(), "t".into())
        );
        self.b_gets_nowhere();
        assert_eq!(
            (self.in_recovery("node2"), self.in_recovery("node3")),
            ("t".into(), "t".into())
        );

        self.cluster.write_inventory(&inventory(true));
        self.a(&["failover", "-y", "--timeout", "3"]).exits(0);
        let off = std::time::Instant::now();
        let status = self.a(&["status", "-o", "json", "--timeout", "3"]).json();
        let primary = status["primary"].as_str().expect("a primary").to_owned();
        assert_ne!(primary, "node1");
        let right = Writer::start(&self.cluster, &["node2", "node3"], 2_000_000);
        std::thread::sleep(Duration::from_secs(1));
        self.b_gets_nowhere();

        self.heal();
        self.cluster.fault("start node1");
        std::thread::sleep(Duration::from_secs(5));
        let status = self.a(&["status", "-o", "json"]).json();
        assert_eq!(status["primary"], primary.as_str(), "{status}");
        assert_ne!(status["health"], "split", "{status}");
        let (left, right) = (left.end(), right.end());
        assert_eq!(left.since(off), 0, "the old primary confirmed a write after the promotion");
        assert_eq!(before.lost_on(&self.cluster, &primary), Vec::<i64>::new());
        assert_eq!(right.lost_on(&self.cluster, &primary), Vec::<i64>::new());
        assert!(left.len() > 100 && right.len() > 30, "{} {}", left.len(), right.len());
        // What only the old primary had was confirmed without a standby: async permits its loss.
        assert_eq!(left.lost_on(&self.cluster, &primary).len(), left.len());
        self.mend();
        self.cluster.write_inventory(&inventory(false));
    }

    /// B begins; A comes later and finds nothing of it in its way.
    fn the_minority_tries_first(&self) {
        self.cut();
        self.b_gets_nowhere();
        // What B may do is with its own node, which is the primary and stays it.
        self.b(&["restart", "node1", "-y", "--timeout", "3"]);
        self.b_gets_nowhere();
        self.cluster.write_inventory(&inventory(true));
        self.a(&["failover", "-y", "--timeout", "3", "--to", "node3"]).exits(0);
        self.b_gets_nowhere();
        self.heal();
        self.cluster.fault("start node1");
        let status = self.status_when(|s| s["primary"] == "node3" && streaming(s) == 1);
        assert_ne!(status["health"], "split", "{status}");
        self.mend();
        self.cluster.write_inventory(&inventory(false));
    }

    /// The risk is spelled out: both sides confirm until they are joined again. Then it is said, nothing
    /// else is changed before it is put right, and one is left.
    fn the_risk_is_taken(&self) {
        let before = Writer::start(&self.cluster, &["node1"], 3_000_000);
        std::thread::sleep(Duration::from_secs(1));
        let before = before.end();
        self.cut();
        let left = Writer::start_in(&self.cluster, &["node1"], 4_000_000, Some(&self.b));
        let risk = ["failover", "-y", "--timeout", "3", "--accept-split-brain-risk"];
        self.a(&risk).exits(0);
        let right = Writer::start(&self.cluster, &["node2", "node3"], 5_000_000);
        std::thread::sleep(Duration::from_secs(1));
        self.b_gets_nowhere();
        self.heal();
        let status = self.status_when(|s| s["health"] == "split");
        assert!(status.to_string().contains("split_brain"), "{status}");
        self.a(&["apply", "-y"]).exits(5);
        self.b(&["apply", "-y"]).exits(5);
        self.b(&["switchover", "--to", "node1", "-y"]).exits(5);
        self.b(&["failover", "-y", "--accept-split-brain-risk"]).exits(5);
        // Which of the two is stale only a person can say; its client goes on until then.
        let refused = self.a(&["rejoin", "node1", "-y"]).exits(5);
        assert!(refused.stderr.contains("stop the stale one"), "{}", refused.stderr);
        self.a(&["stop", "node1", "--primary", "-y"]).exits(0);
        self.a(&["rejoin", "node1", "-y"]).exits(0);
        let (left, right) = (left.end(), right.end());
        let status = self.status_when(|s| streaming(s) == 2);
        let primary = status["primary"].as_str().expect("a primary").to_owned();
        assert_ne!(primary, "node1");
        assert_eq!(before.lost_on(&self.cluster, &primary), Vec::<i64>::new());
        assert_eq!(right.lost_on(&self.cluster, &primary), Vec::<i64>::new());
        assert_eq!(left.lost_on(&self.cluster, &primary).len(), left.len());
        self.a(&["switchover", "--to", "node1", "-y"]).exits(0);
        assert_eq!(self.status_when(|s| streaming(s) == 2)["primary"], "node1");
    }
}

fn streaming(status: &serde_json::Value) -> usize {
    let nodes = status["nodes"].as_array().map_or(&[][..], Vec::as_slice);
    nodes.iter().filter(|n| n["state"] == "streaming").count()
}

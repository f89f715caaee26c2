//! What breaks during `apply`, and the run that is repeated. One lab of three hosts: first while
//! they are empty, then with the cluster on them.

mod during;
mod hosts;

mod login;
mod secrets;

use serde_json::Value;

use crate::lab::{Cluster, Live, Ran, available};

const THREE: &str = "
cluster: faulty
lab: { image: bookworm }
postgres:
  version: 15
  parameters: { work_mem: 4MB }
  roles:
    - { name: app, attributes: [login], password: { secret: { env: APP_PASSWORD } } }
nodes:
  node1: { primary: true }
  node2: {}
  node3: {}
";

struct Lab {
    cluster: Cluster,
    /// Password of the role app: random, so that it is nowhere by chance.
    password: String,
}

impl Lab {
    fn new() -> Self {
        let password = format!("geheim-{}", pgorch::clock::random_id());
        let lab = Lab { cluster: Cluster::new(THREE), password };
        lab.run(&["lab", "up"]).exits(0);
        lab
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = self.cluster.command(args);
        command.env("APP_PASSWORD", &self.password).env_remove("SSH_AUTH_SOCK");
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran::of(&self.command(args).output().expect("the program runs"))
    }

    fn apply(&self) -> Ran {
        self.run(&["apply", "-y", "-o", "json"])
    }

    fn live(&self, args: &[&str]) -> Live {
        Live::start(self.command(args))
    }

    /// `apply` under way.
    fn applying(&self) -> Live {
        self.live(&["apply", "-y", "-o", "json"])
    }

    fn fault(&self, words: &str) {
        self.cluster.fault(words);
    }

    /// Fresh hosts again.
    fn reset(&self) {
        self.run(&["lab", "reset"]).exits(0);
    }

    fn set_work_mem(&self, value: &str) {
        let new = format!("work_mem: {value}");
        self.cluster.write_inventory(&THREE.replace("work_mem: 4MB", &new));
    }

    /// Everything is there, nothing is half done, and another run has nothing to do.
    #[track_caller]
    fn is_whole(&self) {
        let status = self.run(&["status", "-o", "json"]).exits(0).json();
        assert_eq!(status["primary"], "node1", "{status}");
        let streams = |n: &&Value| n["state"] == "streaming";
        let nodes = status["nodes"].as_array().expect("nodes");
        assert_eq!(nodes.iter().filter(streams).count(), 2, "{status}");
        let left = "cd /var/lib/pgorch; find . -name '*pgorch-new*' -o -name '.initdb.log'; \
                    ls /tmp/pgorch.* 2>/dev/null; dpkg --audit";
        for node in ["node1", "node2", "node3"] {
            assert_eq!(self.cluster.sh(node, left), "", "{node}");
        }
        let again = self.apply().exits(0);
        assert_eq!(again.tasks("changed"), []);
    }
}

/// What a run said, in lines: messages of all events and standard error.
fn said(ran: &Ran) -> String {
    let mut text = String::new();
    for event in ran.events() {
        for part in [&event["host"], &event["message"], &event["data"]["hint"]] {
            text += part.as_str().unwrap_or_default();
            text.push(' ');
        }
        text.push('\n');
    }
    text + &ran.stderr
}

/// The hosts on which a run changed something.
fn changed_hosts(ran: &Ran) -> Vec<String> {
    let mut hosts: Vec<String> = ran.tasks("changed").into_iter().map(|(host, _)| host).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

#[test]
fn whatever_breaks_a_repeated_run_makes_it_whole() {
    if !available() {
        return;
    }
    hosts::bad_inventory();
    let lab = Lab::new();
    type Part = fn(&Lab);
    let parts: [(&str, Part); 10] = [
        ("interrupted, killed", during::interrupted_and_killed),
        ("reset", Lab::reset),
        ("cut off, secrets", secrets::stay_secret),
        ("stopped at once", during::stopped_at_once),
        ("host keys", login::keys_of_hosts),
        ("powered off", hosts::powered_off),
        ("frozen", hosts::frozen),
        ("disk full", hosts::disk_full),
        ("sudo", login::sudo),
        ("jump host", login::through_another_host),
    ];
    for (name, part) in parts {
        let start = std::time::Instant::now();
        part(&lab);
        eprintln!("{name}: {:.1} s", start.elapsed().as_secs_f64());
    }
    lab.is_whole();
}

//! The playbook language and the general task kinds, on real hosts: one lab of two plain hosts.

mod data;
mod errors;
mod flow;
mod kinds;
mod order;

use crate::lab::{Cluster, Ran, available};

const PLAIN: &str = "
cluster: plain
lab: { image: bookworm }
vars: { level: inventory, only: inventory, greeting: 'hello {{ whom }}', whom: '{{ inventory_hostname }}' }
groups:
  pair: { vars: { level: group, group: yes it is } }
hosts:
  web1: { groups: [pair], vars: { level: host } }
  web2: { groups: [pair] }
";

/// The lab with its two hosts.
struct Lab(Cluster);

impl Lab {
    fn new() -> Self {
        let lab = Lab(Cluster::new(PLAIN));
        lab.0.run(&["lab", "up"]).exits(0);
        lab
    }

    /// `pgorch run` of this playbook with further arguments, as JSON events.
    fn run(&self, playbook: &str, more: &[&str]) -> Ran {
        let path = self.0.write("playbook.yml", playbook);
        let path = path.to_string_lossy();
        self.0.run(&[&["run", &path, "-y", "-o", "json"], more].concat())
    }

    /// The same on web1 alone, which must end well; what it told.
    #[track_caller]
    fn good(&self, playbook: &str) -> Vec<String> {
        told(&self.run(playbook, &["-l", "web1"]).exits(0))
    }

    /// The same, which must fail.
    #[track_caller]
    fn bad(&self, playbook: &str) -> Vec<String> {
        told(&self.run(playbook, &["-l", "web1"]).exits(1))
    }
}

/// `host status task: message` of each finished task, by host, each host's in their order.
fn told(ran: &Ran) -> Vec<String> {
    let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_owned();
    let events = ran.events();
    let done = events.iter().filter(|e| e["event"] == "task_done");
    let mut lines: Vec<(String, String)> = done
        .map(|e| {
            let (host, status, task) = (text(&e["host"]), text(&e["status"]), text(&e["task"]));
            let message = text(&e["message"]);
            let colon = if message.is_empty() { "" } else { ": " };
            (host.clone(), format!("{host} {status} {task}{colon}{message}"))
        })
        .collect();
    lines.sort_by(|a, b| a.0.cmp(&b.0));
    lines.into_iter().map(|(_, line)| line).collect()
}

/// One play on all hosts with these tasks (indented by four).
fn tasks(tasks: &str) -> String {
    format!("- hosts: all\n  tasks:\n{tasks}")
}

#[test]
fn the_language_holds_on_real_hosts() {
    if !available() {
        return;
    }
    let lab = Lab::new();
    errors::all(&lab);
    data::all(&lab);
    flow::all(&lab);
    order::all(&lab);
    kinds::all(&lab);
}

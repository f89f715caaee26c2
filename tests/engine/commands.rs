//! Commands besides `apply` and `run`.

use serde_json::Value;

use super::hosts::{HOSTS, Hosts, start};

/// The fields of an event line, a contract.
const FIELDS: [&str; 10] =
    ["schema", "time", "run", "event", "host", "task", "step", "status", "message", "data"];

fn is_event(event: &Value) {
    let mut keys: Vec<&str> =
        event.as_object().expect("an object").keys().map(String::as_str).collect();
    let mut fields = FIELDS;
    keys.sort_unstable();
    fields.sort_unstable();
    assert_eq!(keys, fields, "{event}");
    assert_eq!(event["schema"], 1);
}

/// A second cluster on the same hosts, beside the first in a directory.
fn two_clusters(hosts: &Hosts) -> String {
    let text = std::fs::read_to_string(hosts.at("inventory.yml")).expect("read");
    let dir = hosts.at("clusters");
    std::fs::create_dir_all(&dir).expect("made");
    std::fs::write(dir.join("one.yml"), &text).expect("written");
    let other = text.replace("cluster: engine", "cluster: other");
    std::fs::write(dir.join("two.yaml"), other).expect("written");
    dir.display().to_string()
}

#[test]
fn exec_tells_events_and_takes_a_directory_of_inventories() {
    let Some(hosts) = start() else { return };
    let ran =
        hosts.run(&["exec", "-o", "json", "--", "sh", "-c", "echo out; echo err >&2; exit 3"]);
    let events = ran.exits(1).events();
    events.iter().for_each(is_event);
    let done: Vec<&Value> = events.iter().filter(|e| e["event"] == "task_done").collect();
    assert_eq!(done.len(), HOSTS.len());
    let result = serde_json::json!({ "rc": 3, "stdout": "out\n", "stderr": "err\n" });
    assert_eq!(done[0]["data"]["result"], result);
    assert_eq!(events.last().expect("events")["data"]["exit"], 1);

    let dir = two_clusters(&hosts);
    let ran = hosts.run(&["exec", "-i", &dir, "-l", "a", "--", "echo", "here"]).exits(0);
    assert_eq!(ran.stdout, "a  here\na  here\n");
    let one = hosts.run(&["run", "-i", &dir, "play.yml"]).exits(2);
    assert!(one.stderr.contains("is a directory"), "{}", one.stderr);
}

#[test]
fn status_of_several_clusters_is_one_document() {
    let Some(hosts) = start() else { return };
    let dir = two_clusters(&hosts);
    let document = hosts.run(&["status", "-i", &dir, "-o", "json"]).exits(0).json();
    assert_eq!(document["schema"], 1);
    assert_eq!(document["clusters"][1]["cluster"], "other");
    let one = hosts.run(&["status", "-o", "json"]).exits(0).json();
    assert_eq!(one["cluster"], "engine");
    // A plugin's answer is one line, the worst first.
    std::fs::write(hosts.at("clusters/broken.yml"), "cluster: [").expect("written");
    let plugin = hosts.run(&["status", "--check", "-i", &dir]).exits(2);
    assert_eq!(plugin.stdout.lines().count(), 1, "{}", plugin.stdout);
    assert!(plugin.stdout.starts_with("PGORCH CRITICAL"), "{}", plugin.stdout);
    // What could be read is shown, and the exit code tells of the rest.
    let ran = hosts.run(&["status", "-i", &dir]).exits(2);
    assert!(ran.stdout.contains("cluster other"), "{}", ran.stdout);
}

#[test]
fn the_history_of_a_run_is_whole_events() {
    let Some(hosts) = start() else { return };
    let plays = "- hosts: a\n  tasks:\n    - command: id\n";
    hosts.play(plays, &[]).exits(0).events().iter().for_each(is_event);
    let ran = hosts.run(&["events", "-o", "json"]).exits(0);
    let events = ran.events();
    events.iter().for_each(is_event);
    assert_eq!(events[0]["data"]["command"], "run play.yml");
    assert!(ran.stderr.contains("this controller's runs only"), "{}", ran.stderr);
}

#[test]
fn two_inventories_at_once_are_an_error() {
    let Some(hosts) = start() else { return };
    hosts.write("other.yml", "cluster: other\nnodes: { n: { host: 127.0.0.9 } }\n");
    let ran = hosts.run(&["plan", "other.yml", "-i", "inventory.yml"]).exits(2);
    assert!(ran.stderr.contains("two inventories"), "{}", ran.stderr);
}

#[test]
fn mistakes_in_expressions_are_found_before_any_host_is_asked() {
    let Some(hosts) = start() else { return };
    let plays = "- hosts: all\n  tasks:\n    - command: touch never\n    \
                 - debug: { msg: \"{{ a b }}\" }\n      when: x ==\n";
    let ran = hosts.play(plays, &[]).exits(2);
    assert!(ran.stdout.is_empty());
    assert!(
        ran.stderr.contains("play.yml:4") && ran.stderr.contains("play.yml:5"),
        "{}",
        ran.stderr
    );
    let checked = hosts.run(&["check", "--playbook", "play.yml"]).exits(2);
    assert!(checked.stderr.contains("play.yml:5"), "{}", checked.stderr);
}

#[test]
fn a_look_needs_only_the_secrets_of_the_login() {
    let Some(hosts) = start() else { return };
    let text = std::fs::read_to_string(hosts.at("inventory.yml")).expect("read");
    let vars = "vars: { a: { secret: { file: token } }, b: { secret: { env: PGORCH_NOT_SET } }, ";
    std::fs::create_dir_all(hosts.at("elsewhere")).expect("made");
    hosts.write("elsewhere/token", "of-the-file\n");
    let path = hosts.write("elsewhere/inventory.yml", &text.replace("vars: { ", vars));
    let inventory = path.display().to_string();
    let look = ["exec", "-i", &inventory, "-l", "a", "--", "echo", "of-the-file"];
    assert_eq!(hosts.run(&look).exits(0).stdout, "a  ********\n");
    hosts.run(&["facts", "-i", &inventory]).exits(0);
    hosts.write("play.yml", "- hosts: a\n  tasks: [{ debug: { msg: \"{{ a }}\" } }]\n");
    let ran = hosts.run(&["run", "-i", &inventory, "play.yml"]).exits(2);
    assert!(ran.stderr.contains("from $PGORCH_NOT_SET, which is not set"), "{}", ran.stderr);
}

#[test]
fn trust_stores_new_keys_and_never_a_changed_one() {
    let Some(hosts) = start() else { return };
    let known = std::fs::read_to_string(hosts.at("known_hosts")).expect("read");
    hosts.write("known_hosts", "");
    hosts.run(&["exec", "-l", "a", "--", "true"]).exits(4);
    let asked = hosts.run(&["trust"]).exits(5);
    assert!(asked.stdout.contains("a  ssh-ed25519 SHA256:"), "{}", asked.stdout);
    hosts.run(&["trust", "a", "-y"]).exits(0);
    hosts.run(&["exec", "-l", "a", "--", "true"]).exits(0);
    let other = std::fs::read_to_string(hosts.at("id.pub")).expect("read");
    let other = other.split(' ').nth(1).expect("a key");
    let key = known.split_whitespace().nth(2).expect("a key");
    let changed = known.replace(key, other);
    hosts.write("known_hosts", &changed);
    let refused = hosts.run(&["trust", "-y", "--accept-new"]).exits(5);
    assert!(refused.stderr.contains("THE HOST KEY HAS CHANGED"), "{}", refused.stderr);
    assert_eq!(std::fs::read_to_string(hosts.at("known_hosts")).expect("read"), changed);
    let wrong = hosts.run(&["trust", "nodex"]).exits(2);
    assert!(wrong.stderr.contains("did you mean \"nodes\""), "{}", wrong.stderr);
}

#[test]
fn commands_to_come_say_so() {
    let Some(hosts) = start() else { return };
    let ran = hosts.run(&["drill", "a", "--flag"]).exits(2);
    assert!(ran.stderr.contains("not built yet"), "{}", ran.stderr);
}

#[test]
fn what_cannot_be_read_is_said_as_it_is() {
    let Some(hosts) = start() else { return };
    let missing = hosts.run(&["check", "nowhere.yml"]).exits(2);
    assert!(missing.stderr.contains("there is no inventory nowhere.yml"), "{}", missing.stderr);
    std::fs::write(hosts.at("latin1.yml"), b"cluster: caf\xe9\n").expect("written");
    let bytes = hosts.run(&["check", "latin1.yml"]).exits(2);
    assert!(bytes.stderr.contains("UTF-8"), "{}", bytes.stderr);
    let limit = hosts.run(&["exec", "-l", "al", "--", "true"]).exits(2);
    assert!(limit.stderr.contains("did you mean \"all\""), "{}", limit.stderr);
    hosts.run(&["exec", "--timeout", "0", "--", "true"]).exits(2);
}

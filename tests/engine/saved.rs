//! Saved plans. Nothing here is applied: each attempt is refused before a host is touched.

use super::hosts::{Hosts, start};

/// The hosts as nodes of a cluster that is not there yet, and a plan for it.
fn planned(hosts: &Hosts, more: &[&str]) -> String {
    let text = std::fs::read_to_string(hosts.at("inventory.yml")).expect("read");
    let text =
        text.replace("hosts:\n", "nodes:\n").replace("127.0.0.1,", "127.0.0.1, primary: true,");
    // Whatever goes wrong here must not end in a server on this machine.
    hosts.write(
        "inventory.yml",
        &format!("{text}postgres: {{ install: none, bin_dir: /nowhere }}\n"),
    );
    let ran = hosts.run(&[&["plan", "--out", "p.plan"], more].concat()).exits(3);
    assert!(ran.stderr.contains("saved"), "{}", ran.stderr);
    std::fs::read_to_string(hosts.at("p.plan")).expect("written")
}

fn refuses(hosts: &Hosts, args: &[&str], code: i32, words: &str) {
    let ran = hosts.run(&[&["apply", "p.plan"], args].concat()).exits(code);
    assert!(ran.stderr.contains(words), "{args:?}: {}", ran.stderr);
}

#[test]
fn a_plan_holds_no_values_of_variables_and_wants_them_again() {
    let Some(hosts) = start() else { return };
    hosts.write("more.yml", "colour: blue\n");
    let plan = planned(&hosts, &["-e", "token=hunter22", "-e", "@more.yml"]);
    assert!(plan.starts_with("pgorch-plan 1\n"));
    assert!(!plan.contains("hunter22"));
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(hosts.at("p.plan")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    refuses(&hosts, &[], 5, "made with -e token");
    refuses(&hosts, &["-e", "token=other"], 5, "value of -e is another one");
    refuses(&hosts, &["-e", "token=hunter22", "-e", "a=1"], 5, "made with -e token");
    // Read-only, it is the same plan again.
    let ran = hosts.run(&["apply", "p.plan", "--check", "-e", "token=hunter22"]).exits(3);
    assert!(!ran.stderr.contains("refused"), "{}", ran.stderr);

    hosts.write("more.yml", "colour: red\n");
    refuses(&hosts, &["-e", "token=hunter22"], 5, "more.yml has changed");
}

#[test]
fn a_plan_is_applied_as_it_is_or_not_at_all() {
    let Some(hosts) = start() else { return };
    let plan = planned(&hosts, &["-l", "a,b"]);
    for option in [["-l", "a"], ["-t", "install"], ["--start-at-task", "Unit"], ["-i", "x.yml"]] {
        refuses(&hosts, &option, 2, "does not go with a saved plan");
    }
    refuses(&hosts, &["--restart"], 2, "does not go with a saved plan");

    hosts.write("p.plan", &plan.replace("pgorch-plan 1", "pgorch-plan 12"));
    refuses(&hosts, &[], 2, "another format");
    hosts.write("p.plan", &plan[..plan.len() / 2]);
    refuses(&hosts, &[], 2, "is damaged");
    hosts.write("p.plan", &plan);

    // A playbook beside us now wins over the shipped one that the plan was made from.
    std::fs::create_dir(hosts.at("playbooks")).expect("made");
    hosts.write("playbooks/restart.yml", "- hosts: primary\n  tasks: [{ command: id }]\n");
    let unchanged = hosts.run(&["apply", "p.plan", "--check"]);
    assert_eq!(unchanged.code, 5, "{}", unchanged.stderr);
    assert!(unchanged.stderr.contains("is not the one"), "{}", unchanged.stderr);
    std::fs::remove_dir_all(hosts.at("playbooks")).expect("removed");

    let inventory = std::fs::read_to_string(hosts.at("inventory.yml")).expect("read");
    hosts.write("inventory.yml", &format!("{inventory}# a comment\n"));
    refuses(&hosts, &[], 5, "inventory.yml has changed");
}

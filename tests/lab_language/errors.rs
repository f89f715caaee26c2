//! Mistakes are found before any host is touched: all of them, each at its place.

use super::{Lab, tasks};

pub(super) fn all(lab: &Lab) {
    all_mistakes_at_once(lab);
    unknown_hosts(lab);
    templates(lab);
}

fn all_mistakes_at_once(lab: &Lab) {
    let play = "
- hosts: all
  becom: true
  tasks:
    - { name: one, shel: echo }
    - { name: two, copy: { dst: /x, content: c } }
    - { name: three, command: 'true', notify: restrat }
    - { name: four, file: { path: /x, state: foo, mode: 644 } }
    - { name: five, command: 'true', shell: 'true' }
    - include_tasks: not-there.yml
  handlers:
    - { name: restart, debug: { msg: m } }
";
    let ran = lab.run(play, &[]).exits(2);
    assert_eq!(ran.stdout, "", "no host was touched");
    let text = &ran.stderr;
    for (place, what, hint) in [
        ("3:3", "becom", "become"),
        ("5:20", "shel", "shell"),
        ("6:28", "dst", "dest"),
        ("7:47", "restrat", "restart"),
        ("8:46", "foo", "one of"),
        ("8:57", "644", "0644"),
        ("9:38", "second", ""),
        ("10:22", "not-there.yml", ""),
    ] {
        let at = format!("playbook.yml:{place}");
        assert!(text.contains(&at), "{at}: {text}");
        assert!(text.contains(what) && text.contains(hint), "{what} {hint}: {text}");
    }
    for near in ["become", "shell", "dest", "restart"] {
        assert!(text.contains(&format!("did you mean \"{near}\"?")), "{near}: {text}");
    }
    assert!(text.contains("  becom: true") && text.contains("^^^^^"), "{text}");
}

fn unknown_hosts(lab: &Lab) {
    let ran = lab.run("- hosts: web3\n  tasks:\n    - debug: { msg: m }\n", &[]).exits(2);
    assert!(
        ran.stderr.contains("playbook.yml:1:10") && ran.stderr.contains("web3"),
        "{}",
        ran.stderr
    );
    let ran = lab.run(&tasks("    - debug: { msg: m }\n"), &["-l", "web3"]).exits(2);
    assert!(ran.stderr.contains("web3"), "{}", ran.stderr);
    lab.0.run(&["run", "not-there.yml"]).exits(2);
}

/// The place is that in the template, not that of the task alone.
fn templates(lab: &Lab) {
    lab.0.write("conf.j2", "line one\nport = {{ nowhere.port }}\n");
    lab.0.write("syntax.j2", "a\nb\n{% if x %}\n");
    let lines =
        lab.bad(&tasks("    - { name: t, template: { src: conf.j2, dest: /root/conf } }\n"));
    assert!(lines[0].contains("conf.j2:2:") && lines[0].contains("nowhere"), "{lines:?}");
    let lines =
        lab.bad(&tasks("    - { name: t, template: { src: syntax.j2, dest: /root/conf } }\n"));
    assert!(lines[0].contains("syntax.j2:"), "{lines:?}");
    assert_eq!(lab.0.sh("web1", "ls /root/conf 2>/dev/null || echo none"), "none");
}

//! Who runs a task, when, and in what order: handlers, batches, delegation, patterns.

use super::{Lab, told};

pub(super) fn all(lab: &Lab) {
    handlers(lab);
    once_and_elsewhere(lab);
    batches(lab);
    patterns(lab);
}

fn handlers(lab: &Lab) {
    let play = "
- hosts: all
  tasks:
    - { name: first, command: 'true', notify: [second handler, heard] }
    - { name: quiet, command: 'true', changed_when: false, notify: never }
    - { name: now, meta: flush_handlers }
    - { name: looped, shell: 'true', changed_when: item == 2, loop: [1, 2], notify: second handler }
    - block:
        - { name: inner, command: 'true', notify: first handler }
    - { name: last, debug: { msg: m } }
  handlers:
    - { name: first handler, debug: { msg: m }, listen: heard }
    - { name: never, debug: { msg: m } }
    - { name: second handler, debug: { msg: m } }
";
    let names: Vec<String> = lab
        .good(play)
        .iter()
        .filter_map(|l| l.strip_suffix(": m").map(|l| l["web1 ok ".len()..].to_owned()))
        .collect();
    let order = ["first handler", "second handler", "last", "first handler", "second handler"];
    assert_eq!(names, order);
    let failed = lab.bad(
        "
- hosts: all
  tasks:
    - { name: change, command: 'true', notify: h }
    - { name: bad, fail: { msg: no } }
  handlers:
    - { name: h, debug: { msg: m } }
",
    );
    assert_eq!(failed, ["web1 changed change: run true", "web1 failed bad: no"]);
}

fn once_and_elsewhere(lab: &Lab) {
    let ran = lab.run(
        "
- hosts: all
  tasks:
    - { name: clean, file: { path: /tmp/once, state: absent } }
- hosts: all
  tasks:
    - { name: once, shell: 'echo x >> /tmp/once; cat /tmp/once', run_once: true, register: r }
    - { name: shared, debug: { msg: '{{ r.stdout }}' } }
    - { name: there, command: hostname, delegate_to: web2, changed_when: false, register: d }
    - { name: was, debug: { msg: '{{ inventory_hostname }} {{ d.stdout }}' } }
    - name: tried
      shell: echo x >> /tmp/tried; wc -l < /tmp/tried
      delegate_to: web1
      run_once: true
      register: t
      until: t.stdout == '2'
      retries: 5
      delay: 0
",
        &[],
    );
    let ran = ran.exits(0);
    let lines = told(&ran);
    let with = |text: &str| lines.iter().filter(|l| l.contains(text)).count();
    assert_eq!((with("changed once"), with("done once for all hosts")), (1, 2), "{lines:?}");
    assert_eq!(with(" ok shared: x"), 2, "{lines:?}");
    assert_eq!(with(" ok was: web1 web2") + with(" ok was: web2 web2"), 2, "{lines:?}");
    assert_eq!(with("changed tried"), 1, "{lines:?}");
    assert_eq!(lab.0.sh("web1", "wc -l < /tmp/tried"), "2");
    let nobody = "- hosts: web1\n  tasks:\n    - { name: t, command: 'true', delegate_to: web9 }\n";
    assert_eq!(lab.bad(nobody), ["web1 failed t: delegate_to: no host \"web9\" in the inventory"]);
}

/// The hosts of the tasks in the order in which they ended.
fn batches(lab: &Lab) {
    for serial in ["1", "'50%'", "[1, 1]"] {
        let play = format!(
            "
- hosts: all
  serial: {serial}
  tasks:
    - {{ name: wait, pause: {{ seconds: 1 }}, when: inventory_hostname == 'web1' }}
    - {{ name: done, debug: {{ msg: m }} }}
"
        );
        let ran = lab.run(&play, &[]).exits(0);
        let hosts: Vec<String> = ran
            .tasks("ok")
            .into_iter()
            .filter_map(|(host, task)| (task == "done").then_some(host))
            .collect();
        assert_eq!(hosts, ["web1", "web2"], "serial: {serial}");
    }
}

fn patterns(lab: &Lab) {
    let hosts = |pattern: &str, more: &[&str]| {
        let play =
            format!("- hosts: {pattern}\n  tasks:\n    - {{ name: t, debug: {{ msg: m }} }}\n");
        let lines = told(&lab.run(&play, more).exits(0));
        let host = |l: &String| l.split(' ').next().unwrap_or_default().to_owned();
        lines.iter().map(host).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(hosts("all", &[]), "web1 web2");
    assert_eq!(hosts("pair:!web1", &[]), "web2");
    assert_eq!(hosts("'web*'", &["-l", "web2"]), "web2");
    assert_eq!(hosts("[web1, web2]", &[]), "web1 web2");
    assert_eq!(hosts("'pair:&web1'", &[]), "web1");
    assert_eq!(hosts("nodes", &[]), "");
}

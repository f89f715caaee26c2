//! What runs, how often, and what happens after a failure.

use super::{Lab, tasks, told};

pub(super) fn all(lab: &Lab) {
    blocks(lab);
    retries(lab);
    includes(lab);
    tags(lab);
    failures(lab);
}

fn blocks(lab: &Lab) {
    let lines = lab.good(&tasks(
        "
    - block:
        - { name: good, debug: { msg: m } }
        - { name: bad, fail: { msg: no } }
        - { name: never, debug: { msg: m } }
      rescue:
        - { name: rescued, debug: { msg: '{{ ansible_failed_result.msg }}' } }
      always:
        - { name: always, debug: { msg: m } }
    - when: level == 'nothing'
      block:
        - { name: not here, debug: { msg: m } }
    - { name: goes on, debug: { msg: m } }
",
    ));
    assert_eq!(
        lines,
        [
            "web1 ok good: m",
            "web1 failed bad: no",
            "web1 ok rescued: no",
            "web1 ok always: m",
            "web1 skipped not here: when: level == 'nothing'",
            "web1 ok goes on: m",
        ]
    );
    let lines = lab.bad(&tasks(
        "
    - block:
        - { name: bad, fail: { msg: no } }
      rescue:
        - { name: worse, fail: { msg: no } }
      always:
        - { name: always, debug: { msg: m } }
    - { name: never, debug: { msg: m } }
",
    ));
    assert_eq!(lines, ["web1 failed bad: no", "web1 failed worse: no", "web1 ok always: m"]);
}

fn retries(lab: &Lab) {
    let count = "echo x >> /tmp/count; wc -l < /tmp/count";
    let lines = lab.good(&tasks(&format!(
        "
    - {{ name: none, file: {{ path: /tmp/count, state: absent }} }}
    - name: third time
      shell: {count}
      register: r
      until: r.stdout == '3'
      retries: '{{{{ 2 + 3 }}}}'
      delay: 0
    - {{ name: attempts, debug: {{ msg: '{{{{ r.attempts }}}} {{{{ r.stdout }}}}' }} }}
    - {{ name: in vain, shell: exit 1, retries: 2, delay: 0, ignore_errors: true, register: v }}
    - {{ name: tried, debug: {{ msg: '{{{{ v.attempts }}}}' }} }}
"
    )));
    assert_eq!(lines[1], "web1 changed third time: run echo x >> /tmp/count; wc -l < /tmp/count");
    assert_eq!(lines[2], "web1 ok attempts: 3 3");
    assert_eq!(lines[3], "web1 ignored in vain: gave up after 3 attempts: exit status 1");
    assert_eq!(lines[4], "web1 ok tried: 3");
    let lines = lab.bad(&tasks(
        "    - { name: typo, command: 'true', register: r, until: s.rc == 0, retries: 9, delay: 9 }\n",
    ));
    assert!(lines[0].contains("until: ") && lines[0].contains("playbook.yml:3"), "{lines:?}");
}

fn includes(lab: &Lab) {
    lab.0.write("more.yml", "- { name: more, debug: { msg: '{{ given }} {{ part | default(\"none\") }} {{ n | default(\"-\") }}' } }\n");
    lab.0.write(
        "imported.yml",
        "- hosts: all\n  tasks:\n    - { name: imported, debug: { msg: m } }\n",
    );
    let lines = lab.good(
        "
- import_playbook: imported.yml
- import_playbook: imported.yml
  when: false
- hosts: all
  vars: { given: play, part: before }
  tasks:
    - include_tasks: more.yml
      vars: { given: include }
    - include_tasks: { file: more.yml }
      loop: [a, b]
      loop_control: { loop_var: part, index_var: n }
    - include_tasks: more.yml
      when: given == 'nothing'
    - import_tasks: more.yml
",
    );
    assert_eq!(
        lines,
        [
            "web1 ok imported: m",
            "web1 skipped imported: when: false",
            "web1 ok more: include before -",
            "web1 ok more: play a 0",
            "web1 ok more: play b 1",
            "web1 skipped more: when: given == 'nothing'",
            "web1 ok more: play before -",
        ]
    );
}

fn tags(lab: &Lab) {
    let play = tasks(
        "
    - { name: one, debug: { msg: m }, tags: [one, both] }
    - { name: two, debug: { msg: m }, tags: 'two,both' }
    - { name: always, debug: { msg: m }, tags: always }
    - { name: never, debug: { msg: m }, tags: [never, rare] }
    - tags: block
      block:
        - { name: inside, debug: { msg: m } }
",
    );
    let names = |more: &[&str]| {
        let ran = lab.run(&play, &[&["-l", "web1"], more].concat()).exits(0);
        let lines = told(&ran);
        let name = |l: &String| l.split([' ', ':']).nth(2).unwrap_or_default().to_owned();
        lines.iter().map(name).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(&[]), "one two always inside");
    assert_eq!(names(&["-t", "both"]), "one two always");
    assert_eq!(names(&["-t", "one,rare"]), "one always never");
    assert_eq!(names(&["--skip-tags", "two,block"]), "one always");
    assert_eq!(names(&["-t", "block", "--skip-tags", "always"]), "inside");
    assert_eq!(names(&["--start-at-task", "always"]), "always inside");
}

/// A host that fails stops its own work; `any_errors_fatal` and a rolling play stop all of it.
fn failures(lab: &Lab) {
    let play = |keyword: &str| {
        format!(
            "
- hosts: all
  {keyword}
  tasks:
    - {{ name: bad, fail: {{ msg: no }}, when: inventory_hostname == 'web1' }}
    - {{ name: wait, pause: {{ seconds: 1 }} }}
    - {{ name: next, debug: {{ msg: m }} }}
- hosts: all
  tasks:
    - {{ name: later, debug: {{ msg: m }} }}
"
        )
    };
    let lines = |keyword: &str| {
        let all = told(&lab.run(&play(keyword), &[]).exits(1));
        all.into_iter().filter(|l| !l.contains(" skipped ")).collect::<Vec<_>>()
    };
    let wait = "web2 ok wait: pause 1 s";
    let alone = ["web1 failed bad: no", wait, "web2 ok next: m", "web2 ok later: m"];
    assert_eq!(lines("gather_facts: false"), alone);
    // web2 may have begun to wait by then.
    let mut fatal = lines("any_errors_fatal: true");
    fatal.retain(|l| l != wait);
    assert_eq!(fatal, ["web1 failed bad: no"]);
    assert_eq!(lines("serial: 1"), ["web1 failed bad: no"]);
}

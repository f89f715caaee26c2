//! Variables, conditions, loops, results, and with whose rights a task runs.

use super::{Lab, tasks, told};

pub(super) fn all(lab: &Lab) {
    conditions(lab);
    loops(lab);
    results(lab);
    precedence(lab);
    rights_and_environment(lab);
    secrets_stay_hidden(lab);
}

fn conditions(lab: &Lab) {
    let lines = lab.good(&tasks(
        "
    - { name: 'host {{ inventory_hostname }}', debug: { msg: 'm' }, when: true }
    - { name: not now, debug: { msg: m }, when: level == 'none' }
    - { name: braces, debug: { msg: m }, when: '{{ level == \"host\" }}' }
    - name: all of them
      debug: { msg: m }
      when: [level == 'host', 'false']
    - { name: no loop, debug: { msg: '{{ item }}' }, loop: '{{ nowhere }}', when: nowhere is defined }
",
    ));
    assert_eq!(
        lines,
        [
            "web1 ok host web1: m",
            "web1 skipped not now: when: level == 'none'",
            "web1 ok braces: m",
            "web1 skipped all of them: when: false",
            "web1 skipped no loop: when: nowhere is defined",
        ]
    );
    let lines = lab.bad(&tasks("    - { name: lost, debug: { msg: m }, when: nowhere > 1 }\n"));
    assert!(lines[0].starts_with("web1 failed lost: when:"), "{lines:?}");
    assert!(lines[0].contains("nowhere") && lines[0].contains("playbook.yml:3:"), "{lines:?}");
}

fn loops(lab: &Lab) {
    let lines = lab.good(&tasks(
        "
    - { name: plain, debug: { msg: 'item {{ item }}' }, loop: [a, 2] }
    - { name: mappings, debug: { msg: '{{ item.v }}' }, loop: [{ name: n1, v: 1 }, { v: 2 }] }
    - name: named
      debug: { msg: '{{ i }} {{ one.v }}' }
      loop: [{ v: x }, { v: y }]
      loop_control: { loop_var: one, index_var: i, label: 'v={{ one.v }}' }
    - { name: dictionary, debug: { msg: '{{ item.key }}={{ item.value }}' }, loop: '{{ {\"k\": 1} | dict2items }}' }
    - { name: some, debug: { msg: '{{ item }}' }, loop: [1, 2, 3], when: item != 2, register: some }
    - { name: after, debug: { msg: '{{ some.results | length }} {{ some.changed }}' } }
    - { name: nothing, debug: { msg: m }, loop: [] }
",
    ));
    assert_eq!(
        lines,
        [
            "web1 ok plain (a): item a",
            "web1 ok plain (2): item 2",
            "web1 ok mappings (n1): 1",
            "web1 ok mappings (#2): 2",
            "web1 ok named (v=x): 0 x",
            "web1 ok named (v=y): 1 y",
            "web1 ok dictionary (#1): k=1",
            "web1 ok some (1): 1",
            "web1 skipped some (2): when: item != 2",
            "web1 ok some (3): 3",
            "web1 ok after: 3 false",
        ]
    );
    let lines = lab.bad(&tasks("    - { name: text, debug: { msg: m }, loop: '{{ level }}' }\n"));
    assert_eq!(lines, ["web1 failed text: \"loop\" must be a list"]);
}

fn results(lab: &Lab) {
    let lines = lab.good(&tasks(
        "
    - { name: run, shell: 'echo out; echo err >&2', register: r }
    - { name: rc, debug: { msg: '{{ r.rc }} {{ r.stdout }} {{ r.stderr }} {{ r.stdout_lines | length }}' } }
    - { name: flags, debug: { msg: '{{ r.changed }} {{ r.failed }}' } }
    - { name: left out, command: 'true', when: false, register: s }
    - { name: skipped, debug: { msg: '{{ s.skipped }} {{ s is skipped }}' } }
    - { name: fails, shell: exit 7, register: f, ignore_errors: true }
    - { name: failed, debug: { msg: '{{ f.rc }} {{ f.failed }} {{ f is failed }}' } }
    - { name: no probe, line: { path: /nowhere, line: x }, register: p, ignore_errors: true }
    - { name: failed too, debug: { msg: '{{ p.failed }} {{ p.changed }}' } }
    - { name: some fail, shell: 'exit {{ item }}', loop: [0, 3], register: l, ignore_errors: true }
    - { name: and a loop, debug: { msg: '{{ l.failed }} {{ l.results | map(attribute=\"rc\") | list }}' } }
    - { name: looks, command: 'true', changed_when: false, register: c }
    - { name: a look, debug: { msg: '{{ c.changed }} {{ c is changed }}' } }
    - { name: finds, shell: echo nothing to do, register: n, changed_when: \"'nothing' not in n.stdout\" }
    - { name: good after all, shell: exit 2, register: g, failed_when: g.rc > 2 }
    - { name: bad after all, shell: echo oops, register: b, failed_when: \"'oops' in b.stdout\", ignore_errors: true }
",
    ));
    let short: Vec<&str> = lines.iter().map(|l| l.split(": run ").next().unwrap_or(l)).collect();
    assert_eq!(
        short,
        [
            "web1 changed run",
            "web1 ok rc: 0 out err 1",
            "web1 ok flags: true false",
            "web1 skipped left out: when: false",
            "web1 ok skipped: true true",
            "web1 ignored fails: exit status 7",
            "web1 ok failed: 7 true true",
            "web1 ignored no probe: /nowhere does not exist (create: true makes it)",
            "web1 ok failed too: true false",
            "web1 changed some fail (0)",
            "web1 ignored some fail (3): exit status 3",
            "web1 ok and a loop: true [0,3]",
            "web1 ok looks",
            "web1 ok a look: false false",
            "web1 ok finds",
            "web1 changed good after all: exit status 2",
            "web1 ignored bad after all",
        ]
    );
}

fn precedence(lab: &Lab) {
    let play = "
- hosts: all
  vars: { p: play, b: play, t: play, s: play, e: play, sum: '{{ last }}!', last: end }
  tasks:
    - { name: inventory, debug: { msg: '{{ only }} {{ group }} {{ level }} {{ greeting }}' } }
    - vars: { b: block, t: block }
      block:
        - { name: inner, debug: { msg: '{{ p }} {{ b }} {{ t }}' }, vars: { t: task } }
    - { name: outer, debug: { msg: '{{ b }} {{ t }} {{ sum }}' } }
    - { set_fact: { s: fact }, name: set }
    - { name: fact, debug: { msg: '{{ s }} {{ e }}' }, vars: { s: task } }
    - { name: look, command: echo x, changed_when: false, register: p }
    - { name: registered, debug: { msg: '{{ p.stdout }}' } }
";
    let ran = lab.run(play, &["-e", "e=extra"]).exits(0);
    let lines: Vec<String> = told(&ran).into_iter().filter(|l| !l.contains(" set")).collect();
    assert_eq!(
        lines,
        [
            "web1 ok inventory: inventory yes it is host hello web1",
            "web1 ok inner: play block task",
            "web1 ok outer: play play end!",
            "web1 ok fact: fact extra",
            "web1 ok look: run echo x",
            "web1 ok registered: x",
            "web2 ok inventory: inventory yes it is group hello web2",
            "web2 ok inner: play block task",
            "web2 ok outer: play play end!",
            "web2 ok fact: fact extra",
            "web2 ok look: run echo x",
            "web2 ok registered: x",
        ]
    );
    let more = ["-l", "web1", "-e", "s=extra", "-e", "{p: {stdout: extra}}"];
    let lines = told(&lab.run(play, &more).exits(0));
    assert!(lines.contains(&"web1 ok fact: extra play".to_owned()), "{lines:?}");
    assert!(lines.contains(&"web1 ok registered: extra".to_owned()), "{lines:?}");
}

fn rights_and_environment(lab: &Lab) {
    let who = "shell: 'echo $(id -un) $HOME', register: r, changed_when: false";
    let play = format!(
        "
- hosts: all
  environment: {{ A: play, B: play }}
  become: true
  tasks:
    - {{ name: root, {who} }}
    - {{ debug: {{ msg: '{{{{ r.stdout }}}}' }}, name: is }}
    - {{ name: nobody, {who}, become_user: nobody }}
    - {{ debug: {{ msg: '{{{{ r.stdout }}}}' }}, name: is }}
    - {{ name: plain, {who}, become: false }}
    - {{ debug: {{ msg: '{{{{ r.stdout }}}}' }}, name: is }}
    - {{ name: env, shell: 'echo $A$B', environment: {{ B: \"it's {{{{ level }}}}\" }}, register: r, changed_when: false }}
    - {{ debug: {{ msg: '{{{{ r.stdout }}}}' }}, name: is }}
"
    );
    let is = |user: &str| {
        let ran = lab.run(&play, &["-l", "web1", "-u", user]).exits(0);
        let lines = told(&ran).into_iter();
        lines.filter_map(|l| l.strip_prefix("web1 ok is: ").map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(is("root"), ["root /root", "nobody /nonexistent", "root /root", "playit's host"]);
    assert_eq!(
        is("admin"),
        ["root /root", "nobody /nonexistent", "admin /home/admin", "playit's host"]
    );
    let lines = lab.bad(&tasks("    - { name: t, shell: x, environment: { A: '{{ nope }}' } }\n"));
    assert!(lines[0].contains("environment A:") && lines[0].contains("nope"), "{lines:?}");
    let lines = lab.bad(&tasks("    - { name: t, shell: x, become: true, become_user: nouser }\n"));
    assert!(lines[0].contains("there is no user nouser"), "{lines:?}");
}

/// Nothing that a task with `no_log` knows is told: not when it starts, changes, fails or is planned,
/// not by its loop, and not in the journal.
fn secrets_stay_hidden(lab: &Lab) {
    let play = "
- hosts: web1
  become: true
  tasks:
    - { name: says, shell: 'echo sesame1; echo sesame1 >&2', no_log: true, register: r }
    - { name: writes, copy: { dest: /root/sesame, content: \"sesame2\\n\" }, no_log: true }
    - { name: loops, debug: { msg: '{{ item }}' }, loop: [sesame3, { name: sesame4 }], no_log: true }
    - { name: fails, shell: 'echo sesame5; exit 1', no_log: true, ignore_errors: true }
    - { name: retries, shell: 'echo sesame6; exit 1', no_log: true, ignore_errors: true, retries: 1, delay: 0 }
    - { name: cannot, debug: { msg: '{{ {}[\"sesame7\"].x }}' }, no_log: true, ignore_errors: true }
    - no_log: true
      block:
        - { name: inside, debug: { msg: sesame8 } }
    - { name: has it, assert: { that: \"r.stdout[:6] == 'sesame'\" } }
";
    let path = lab.0.write("playbook.yml", play);
    let path = path.to_string_lossy();
    for more in [&["-vv", "--check", "-D"][..], &["-vv", "-D"], &["-vv", "-o", "json"]] {
        let ran = lab.0.run(&[&["run", &path, "-y"], more].concat());
        let all = format!("{}{}", ran.stdout, ran.stderr);
        assert!(all.contains("hidden by no_log"), "{all}");
        let places = all.replace("/root/sesame", "");
        assert!(!places.contains("sesame"), "{more:?}: {all}");
    }
    let journal = lab.0.dir().join("state/pgorch/plain/journal.jsonl");
    let journal = std::fs::read_to_string(journal).expect("a journal");
    assert!(journal.contains("\"loops (#1)\""));
    let told = journal.lines().filter(|l| l.contains("no_log")).collect::<String>();
    assert!(!told.is_empty() && !told.replace("/root/sesame", "").contains("sesame"), "{told}");
}

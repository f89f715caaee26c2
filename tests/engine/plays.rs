//! The engine: variables, order, sharing and plans.

use super::hosts::{HOSTS, start};

/// Variables see those that win, whatever layer and order they are written in.
#[test]
fn variables_see_what_wins() {
    let Some(hosts) = start() else { return };
    let plays = r#"
- hosts: a
  vars: { path: "{{ base }}/{{ last }}", last: "{{ given }}", base: /play }
  tasks:
    - { command: echo done, register: r }
    - name: task
      vars: { base: /task, word: "{{ r.stdout }}" }
      debug: { msg: "{{ path }} {{ word }}" }
    - include_tasks: included.yml
      loop: [x, y]
      loop_control: { index_var: n }
      vars: { name: "{{ item }}{{ n }}" }
    - debug: { msg: "{{ item is defined }}" }
"#;
    hosts.write("included.yml", "- { name: inc, debug: { msg: \"{{ name }}\" } }\n");
    let ran = hosts.play(plays, &["-e", "given=extra"]).exits(0);
    let told: Vec<String> = ran.tasks("a").into_iter().skip(1).collect();
    let wanted = ["ok task: /task/extra done", "ok inc: x0", "ok inc: y1", "ok debug: false"];
    assert_eq!(told, wanted);
}

/// All hosts begin at the same task, also inside a block, however fast one of them is.
#[test]
fn every_host_begins_at_the_named_task() {
    let Some(hosts) = start() else { return };
    let plays = r#"
- hosts: all
  tasks:
    - { name: first, command: "true" }
    - block:
        - { name: second, command: "true" }
        - { name: third, command: "true" }
"#;
    let ran = hosts.play(plays, &["--start-at-task", "third"]).exits(0);
    for host in HOSTS {
        assert_eq!(ran.tasks(host), ["changed third: run true"], "{host}");
    }
    let typo = hosts.play(plays, &["--start-at-task", "thrid"]).exits(2);
    assert!(typo.stderr.contains("did you mean \"third\""), "{}", typo.stderr);
}

#[test]
fn once_is_once_for_each_batch_and_item() {
    let Some(hosts) = start() else { return };
    let count = |name: &str| std::fs::read_to_string(hosts.at(name)).unwrap_or_default().len();
    let at = |name: &str| hosts.at(name).display().to_string();
    hosts.write(
        "included.yml",
        &format!("- {{ shell: \"printf x >> {}\", run_once: true }}\n", at("items")),
    );
    let plays = format!(
        "- hosts: all\n  serial: 2\n  tasks:\n    - shell: printf x >> {}\n      run_once: true\n\
         - hosts: all\n  tasks:\n    - include_tasks: included.yml\n      loop: [1, 2, 3]\n",
        at("batches")
    );
    hosts.play(&plays, &[]).exits(0);
    assert_eq!((count("batches"), count("items")), (2, 3));
}

/// In a plan the others know no more about a task that runs once than the host that runs it.
#[test]
fn what_a_plan_cannot_know_is_said_to_be_known_later() {
    let Some(hosts) = start() else { return };
    let plays = r#"
- hosts: all
  tasks:
    - { name: made, command: echo 1, register: r, run_once: true }
    - { name: fact, set_fact: { x: "{{ r.stdout }}" } }
    - name: uses
      vars: { y: "{{ x }}" }
      shell: echo {{ y }}
    - name: looped
      loop: "{{ r.stdout_lines }}"
      command: echo {{ item }}
    - include_tasks: included.yml
      loop: "{{ r.stdout_lines }}"
    - name: never mind
      when: [r.rc == 0, "false"]
      command: "false"
"#;
    hosts.write("included.yml", "- { name: inner, command: \"echo {{ item }}\" }\n");
    let ran = hosts.play(plays, &["--check"]).exits(3);
    let document = ran.json();
    assert_eq!(document["problems"].as_array().map(Vec::len), Some(0), "{document:#}");
    let of = |host: &str| -> Vec<String> {
        let all = document["changes"].as_array().cloned().unwrap_or_default();
        let mine = all.iter().filter(|c| c["host"] == host);
        mine.map(|c| format!("{} {}", c["task"], !c["known_after"].is_null())).collect()
    };
    let later = ["\"uses\" true", "\"looped\" true", "\"inner\" true"];
    let all: Vec<Vec<String>> = HOSTS.iter().map(|h| of(h)).collect();
    for changes in &all {
        assert!(later.iter().all(|l| changes.contains(&(*l).to_owned())), "{changes:?}");
        assert!(!changes.iter().any(|c| c.contains("never mind")), "{changes:?}");
    }
    let made = all.iter().filter(|c| c.contains(&"\"made\" false".to_owned())).count();
    assert_eq!(made, 1);
    // And so it runs.
    let ran = hosts.play(plays, &[]).exits(0);
    assert!(
        ran.tasks("b").contains(&"changed inner: run echo 1".to_owned()),
        "{:?}",
        ran.tasks("b")
    );
}

/// Delegated: variables and facts are the host's own, the work and its answers the other's.
#[test]
fn delegated_work_is_asked_for_where_it_is_done() {
    let Some(hosts) = start() else { return };
    let flag = hosts.at("flag").display().to_string();
    let plays = format!(
        r#"
- hosts: a
  tasks:
    - name: own
      delegate_to: b
      debug: {{ msg: "{{{{ inventory_hostname }}}} {{{{ facts.os_family is defined }}}}" }}
    - {{ name: later, shell: "(sleep 1; touch {flag}) >/dev/null 2>&1 &" }}
    - name: waits
      delegate_to: b
      stat: {{ path: {flag} }}
      register: r
      until: r.stat.exists
      retries: 10
      delay: 1
    - name: gone
      delegate_to: b
      file: {{ path: "{flag}.d", state: directory }}
    - name: below
      delegate_to: b
      copy: {{ dest: "{flag}.d/x", content: x }}
"#
    );
    let plan = hosts.play(&plays, &["--check", "-t", "all"]);
    let plan = plan.json();
    let text = plan.to_string();
    assert!(!text.contains("\"below\",\"kind\":\"copy\",\"refused\""), "{plan:#}");
    let ran = hosts.play(&plays, &[]).exits(0);
    assert_eq!(ran.tasks("a")[0], "ok own: a true");
    assert!(ran.tasks("b").is_empty());
}

/// A user that cannot be told must not become root.
#[test]
fn an_unknown_become_user_is_an_error() {
    let Some(hosts) = start() else { return };
    let plays = "- hosts: a\n  become: true\n  become_user: \"{{ nobody_knows }}\"\n  \
                 tasks: [{ command: id -un }]\n";
    let ran = hosts.play(plays, &[]).exits(1);
    assert!(ran.tasks("a")[0].contains("become_user"), "{:?}", ran.tasks("a"));
}

#[test]
fn handlers_of_a_loop_run_and_blocks_among_handlers_are_refused() {
    let Some(hosts) = start() else { return };
    let plays = r#"
- hosts: a
  tasks:
    - name: some
      loop: ["true", "false"]
      command: "{{ item }}"
      ignore_errors: true
      register: r
      notify: told
    - { name: seen, debug: { msg: "{{ r.failed }} {{ r.changed }} {{ r.results | length }}" } }
  handlers:
    - { name: told, debug: { msg: handled } }
"#;
    let told = hosts.play(plays, &[]).exits(0).tasks("a");
    assert!(told.contains(&"ok seen: true true 2".to_owned()), "{told:?}");
    assert!(told.contains(&"ok told: handled".to_owned()), "{told:?}");
    let plays = "- hosts: a\n  tasks: []\n  handlers:\n    - block: [{ debug: { msg: x } }]\n";
    let ran = hosts.play(plays, &[]).exits(2);
    assert!(ran.stderr.contains("a handler must be one task"), "{}", ran.stderr);
}

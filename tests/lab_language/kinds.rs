//! `tests/playbooks/kinds*.yml`: every general kind changes once, then not; each says its errors.

use super::Lab;
use crate::lab::Ran;

const KINDS: &str = include_str!("../playbooks/kinds.yml");
const ERRORS: &str = include_str!("../playbooks/kinds-errors.yml");

pub(super) fn all(lab: &Lab) {
    let planned = lab.run(KINDS, &["--check", "-l", "web1"]).exits(3).json();
    let first = lab.run(KINDS, &["-l", "web1"]).exits(0);
    each_change_says_so(&first);
    what_was_planned_was_done(&planned, &first);
    assert_eq!(lab.run(KINDS, &["-l", "web1"]).exits(0).tasks("changed"), []);
    let pending = lab.run(KINDS, &["--check", "-l", "web1"]).exits(0).json();
    assert_eq!(pending["changes"], serde_json::json!([]));
    each_error_says_what_it_should(&lab.run(ERRORS, &["-l", "web1"]).exits(0));
}

fn each_change_says_so(first: &Ran) {
    let named: Vec<&str> = KINDS.split("name: \"change: ").skip(1).collect();
    let changed = first.tasks("changed");
    let wrong: Vec<&String> =
        changed.iter().map(|(_, t)| t).filter(|t| !t.starts_with("change: ")).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(changed.len(), named.len(), "{changed:?}");
}

/// Apply does the static changes of the plan, and beyond them only what the plan named as not
/// known yet.
fn what_was_planned_was_done(planned: &serde_json::Value, first: &Ran) {
    let list = planned["changes"].as_array().expect("changes");
    let of = |known: bool| -> Vec<&str> {
        let wanted = list.iter().filter(|c| c["known_after"].is_null() == known);
        wanted.filter_map(|c| c["task"].as_str()).collect()
    };
    let (stated, deferred) = (of(true), of(false));
    let changed: Vec<String> = first.tasks("changed").into_iter().map(|(_, t)| t).collect();
    assert!(stated.len() > 8, "{stated:?}");
    for task in &stated {
        assert!(changed.iter().any(|t| t == task), "planned, not done: {task}");
    }
    for task in &changed {
        let foreseen = stated.contains(&task.as_str()) || deferred.contains(&task.as_str());
        assert!(foreseen, "done, not planned: {task}");
    }
}

fn each_error_says_what_it_should(ran: &Ran) {
    let events = ran.events();
    let done = |name: &str| {
        events.iter().find(|e| e["event"] == "task_done" && e["task"] == name).expect(name)
    };
    let mut wanted = None;
    let mut count = 0;
    for line in ERRORS.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("# error: ") {
            wanted = Some(text);
        } else if let Some(name) = line.strip_prefix("- name: ")
            && let Some(text) = wanted.take()
        {
            let event = done(name);
            assert_eq!(event["status"], "ignored", "{event}");
            assert!(event.to_string().contains(&text.replace('"', "\\\"")), "{text}: {event}");
            count += 1;
        }
    }
    assert!(count > 30, "{count} error cases");
}

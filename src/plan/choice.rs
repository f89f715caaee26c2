//! Which tasks of a playbook a run is about: tags, and where it begins.

use crate::playbook::{Common, Playbook, Task};

/// `--tags`, `--skip-tags`, `--start-at-task`.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    pub tags: Vec<String>,
    pub skip_tags: Vec<String>,
    /// The first task's number; tasks are numbered in reading order.
    from: usize,
}

impl Choice {
    /// `None` if no task that the tags let run has the name.
    #[must_use]
    pub fn new(
        playbook: &Playbook,
        tags: &[String],
        skip_tags: &[String],
        start_at: Option<&str>,
    ) -> Option<Self> {
        let mut choice = Choice { tags: tags.to_vec(), skip_tags: skip_tags.to_vec(), from: 0 };
        if let Some(name) = start_at {
            let mut all = playbook.walk();
            let first = all.find(|(around, task)| task.name == name && choice.allows(around, task));
            choice.from = first?.1.id;
        }
        Some(choice)
    }

    /// Whether a task runs, as far as the command line has a say. As in Ansible `always` runs unless
    /// skipped by name, `never` only if asked for; `all`, `tagged` and `untagged` are understood.
    #[must_use]
    pub fn allows(&self, around: &[&Common], task: &Task) -> bool {
        let inherited = around.iter().flat_map(|c| c.tags.iter());
        let tags: Vec<&str> = inherited.chain(&task.common.tags).map(String::as_str).collect();
        let bare = tags.is_empty();
        let named = |list: &[String]| {
            list.iter().any(|wanted| match wanted.as_str() {
                "tagged" => !bare,
                "untagged" => bare,
                tag => tags.contains(&tag),
            })
        };
        let has = |list: &[String], word: &str| list.iter().any(|t| t == word);
        let skipped =
            named(&self.skip_tags) || (has(&self.skip_tags, "all") && !tags.contains(&"always"));
        if task.id < self.from || skipped {
            return false;
        }
        if named(&self.tags) && (!tags.contains(&"never") || asked(&self.tags, &tags)) {
            return true;
        }
        let all = self.tags.is_empty() || has(&self.tags, "all") || tags.contains(&"always");
        all && !tags.contains(&"never")
    }
}

/// Whether one of the tags is named itself, not by `tagged`.
fn asked(wanted: &[String], tags: &[&str]) -> bool {
    wanted.iter().any(|w| tags.contains(&w.as_str()))
}

#[cfg(test)]
mod tests {
    use super::Choice;
    use crate::playbook::parse;
    use crate::syntax::Source;

    const TEXT: &str = "
- hosts: all
  tasks:
    - { name: bare, debug: { msg: x } }
    - { name: always, tags: always, debug: { msg: x } }
    - { name: never, tags: [never, rare], debug: { msg: x } }
    - block:
        - { name: inner, tags: more, debug: { msg: x } }
        - { name: last, debug: { msg: x } }
      tags: outer
";

    fn chosen(tags: &[&str], skip: &[&str], from: Option<&str>) -> String {
        let loader = |_: &str, _: &str| Err(String::new());
        let playbook = parse(&Source::new("p.yml", TEXT), &loader).expect("parses");
        let words = |list: &[&str]| list.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let Some(choice) = Choice::new(&playbook, &words(tags), &words(skip), from) else {
            return "no such task".to_owned();
        };
        let names = playbook.walk().filter(|(around, task)| choice.allows(around, task));
        names.map(|(_, task)| task.name.clone()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn tags_choose_as_in_ansible() {
        assert_eq!(chosen(&[], &[], None), "bare always inner last");
        assert_eq!(chosen(&["outer"], &[], None), "always inner last");
        assert_eq!(chosen(&["rare"], &[], None), "always never");
        assert_eq!(chosen(&["all"], &[], None), "bare always inner last");
        assert_eq!(chosen(&["untagged"], &[], None), "bare always");
        assert_eq!(chosen(&["tagged"], &[], None), "always inner last");
        assert_eq!(chosen(&[], &["always", "more"], None), "bare last");
        assert_eq!(chosen(&[], &["tagged"], None), "bare");
    }

    #[test]
    fn a_run_begins_at_a_task_inside_a_block() {
        assert_eq!(chosen(&[], &[], Some("inner")), "inner last");
        assert_eq!(chosen(&["outer"], &[], Some("bare")), "no such task");
        assert_eq!(chosen(&[], &[], Some("nothing")), "no such task");
    }
}

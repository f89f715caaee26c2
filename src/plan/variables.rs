//! Variables that name each other, in whatever order they stand.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;

use crate::model::{Map, Value};
use crate::syntax::Node;
use crate::template::{Templates, Vars, is_template};

/// A variable as it was written.
#[derive(Clone, Copy)]
pub(super) enum Written<'w> {
    /// In the inventory.
    Value(&'w Value),
    /// In a playbook.
    Node(&'w Node),
}

impl Written<'_> {
    fn render(self, templates: &Templates, vars: &Vars) -> Option<Value> {
        match self {
            Written::Node(node) => templates.render_value(node, vars).ok(),
            Written::Value(value) => render_value(templates, value, vars),
        }
    }

    /// The variables that it reads.
    fn roots(self, templates: &Templates) -> BTreeSet<String> {
        match self {
            Written::Node(node) => templates.roots_of(node),
            Written::Value(value) => {
                let mut texts = Vec::new();
                texts_of_value(value, &mut texts);
                texts.iter().flat_map(|text| templates.roots(text)).collect()
            }
        }
    }
}

/// Puts the values of `written` into `vars`, each when those that it reads are there: the value that
/// wins, wherever it was written. What names itself in a circle, or something that is not there,
/// stays undefined; what names itself directly gets the value that it hides.
pub(super) fn settle(
    templates: &Templates,
    vars: &mut Map,
    mut written: IndexMap<String, Written<'_>>,
) {
    let mut roots: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, one) in &written {
        let mut reads = one.roots(templates);
        reads.remove(name);
        roots.insert(name.clone(), reads);
    }
    while !written.is_empty() {
        let ready = |name: &String| {
            roots.get(name).is_none_or(|reads| !reads.iter().any(|r| written.contains_key(r)))
        };
        let now: Vec<String> = written.keys().filter(|name| ready(name)).cloned().collect();
        if now.is_empty() {
            break;
        }
        let scope = Vars::from(&*vars);
        for name in now {
            let Some(one) = written.shift_remove(&name) else { continue };
            match one.render(templates, &scope) {
                Some(value) => vars.insert(name, value),
                None => vars.shift_remove(&name),
            };
        }
    }
    for name in written.keys() {
        vars.shift_remove(name);
    }
}

/// The names that are not known because they read one that is not, with the task that will tell.
pub(super) fn unknown_too(
    templates: &Templates,
    unknown: &BTreeMap<String, String>,
    written: &IndexMap<String, Written<'_>>,
) -> BTreeMap<String, String> {
    let mut all = unknown.clone();
    if all.is_empty() {
        return all;
    }
    loop {
        let before = all.len();
        for (name, one) in written.iter().filter(|(name, _)| !unknown.contains_key(*name)) {
            let cause = one.roots(templates).iter().find_map(|root| all.get(root).cloned());
            if let Some(task) = cause {
                all.insert(name.clone(), task);
            }
        }
        if all.len() == before {
            return all;
        }
    }
}

fn render_value(templates: &Templates, value: &Value, vars: &Vars) -> Option<Value> {
    match value {
        Value::String(text) if is_template(text) => templates.eval_text(text, vars).ok(),
        Value::Array(items) => items.iter().map(|v| render_value(templates, v, vars)).collect(),
        Value::Object(map) => {
            let pairs =
                map.iter().map(|(k, v)| Some((k.clone(), render_value(templates, v, vars)?)));
            pairs.collect::<Option<Map>>().map(Value::Object)
        }
        other => Some(other.clone()),
    }
}

fn texts_of_value<'v>(value: &'v Value, out: &mut Vec<&'v str>) {
    match value {
        Value::String(text) if is_template(text) => out.push(text),
        Value::Array(items) => items.iter().for_each(|v| texts_of_value(v, out)),
        Value::Object(map) => map.values().for_each(|v| texts_of_value(v, out)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;
    use serde_json::json;

    use super::{Templates, Value, Written, settle, unknown_too};

    fn settled(before: &Value, written: &Value) -> String {
        let object = |v: &Value| v.as_object().cloned().unwrap_or_default();
        let (mut vars, written) = (object(before), object(written));
        let written: IndexMap<String, Written<'_>> =
            written.iter().map(|(k, v)| (k.clone(), Written::Value(v))).collect();
        settle(&Templates::new(), &mut vars, written);
        let mut all: Vec<String> = vars.iter().map(|(k, v)| format!("{k}={v}")).collect();
        all.sort();
        all.join(" ")
    }

    #[test]
    fn order_does_not_matter_and_the_winner_is_read() {
        let written = json!({ "a": "{{ b }}/x", "b": "{{ c }}", "c": 1 });
        assert_eq!(settled(&json!({ "b": "old" }), &written), r#"a="1/x" b=1 c=1"#);
    }

    #[test]
    fn circles_and_what_is_missing_stay_undefined() {
        let written = json!({ "a": "{{ b }}", "b": "{{ a }}", "c": "{{ nope }}", "d": "{{ c }}" });
        assert_eq!(settled(&json!({ "a": 1, "e": 2 }), &written), "e=2");
        assert_eq!(settled(&json!({ "a": 1 }), &json!({ "a": "{{ a + 1 }}" })), "a=2");
    }

    #[test]
    fn what_reads_the_unknown_is_unknown() {
        let (b, c) = (json!("{{ a.stdout }}"), json!(["{{ b }}"]));
        let one = json!(1);
        let written = [("c", &c), ("b", &b), ("d", &one)];
        let written = written.map(|(k, v)| (k.to_owned(), Written::Value(v)));
        let unknown = [("a".to_owned(), "task".to_owned())].into();
        let all = unknown_too(&Templates::new(), &unknown, &IndexMap::from_iter(written));
        assert_eq!(all.keys().map(String::as_str).collect::<Vec<_>>(), ["a", "b", "c"]);
    }
}

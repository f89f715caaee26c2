//! The catalog as a whole: names, documentation, schema, reference.

use std::collections::BTreeSet;

use pgorch::step::{catalog, kind, reference, schema};

#[test]
fn names_are_unique_and_everything_is_documented() {
    let mut seen = BTreeSet::new();
    for kind in catalog() {
        for name in std::iter::once(&kind.name).chain(kind.aliases) {
            assert!(seen.insert(*name), "{name} is there twice");
        }
        assert!(!kind.summary.is_empty(), "{}", kind.name);
        let mut args = BTreeSet::new();
        for arg in kind.args {
            for name in std::iter::once(&arg.name).chain(arg.aliases) {
                assert!(args.insert(*name), "{}: {name} is there twice", kind.name);
            }
            assert!(!arg.doc.is_empty(), "{}: {}", kind.name, arg.name);
        }
        if let Some(name) = kind.free_form {
            assert!(args.contains(name), "{}: free form {name}", kind.name);
        }
    }
    assert!(kind("ansible.builtin.apt").is_some_and(|k| k.name == "package"));
    assert!(kind("nonsense").is_none());
}

#[test]
fn schema_and_reference_hold_every_kind() {
    let schema = schema();
    let text = reference();
    for kind in catalog() {
        assert!(schema["properties"][kind.name]["description"].is_string(), "{}", kind.name);
        assert!(text.contains(&format!("\n## {}\n", kind.name)));
    }
    let copy = &schema["properties"]["copy"]["anyOf"][0];
    assert_eq!(copy["additionalProperties"], serde_json::json!(false));
    assert!(copy["properties"]["mode"]["anyOf"].is_array());
    assert!(text.contains("| `dest` (`path`), required | absolute path |"));
}

/// Each kind has its three cases in the playbooks that the lab runs.
#[test]
fn the_playbooks_for_the_lab_hold_every_general_kind() {
    let (cases, errors) =
        (include_str!("../playbooks/kinds.yml"), include_str!("../playbooks/kinds-errors.yml"));
    // Of these nothing can go wrong, or nothing general.
    let harmless = ["meta"];
    let names = |kind: &pgorch::step::Kind| -> Vec<String> {
        std::iter::once(&kind.name).chain(kind.aliases).map(|n| format!("\n      {n}:")).collect()
    };
    let general = ["package", "meta"].map(|n| catalog().position(|k| k.name == n).expect("there"));
    for kind in catalog().skip(general[0]).take(general[1] + 1) {
        let has = |text: &str| names(kind).iter().any(|n| text.contains(n.as_str()));
        assert!(has(cases), "kinds.yml lacks {}", kind.name);
        assert!(
            has(errors) || harmless.contains(&kind.name),
            "kinds-errors.yml lacks {}",
            kind.name
        );
    }
}

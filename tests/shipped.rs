//! What is shipped is complete and right.

use std::collections::BTreeSet;
use std::path::Path;

use pgorch::playbook::{SHIPPED, parse, shipped};
use pgorch::syntax::Source;

fn files(dir: &Path, out: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, out);
        } else {
            out.insert(path.to_string_lossy().into_owned());
        }
    }
}

#[test]
fn every_playbook_and_template_is_inside_the_binary() {
    let mut on_disk = BTreeSet::new();
    files(Path::new("playbooks"), &mut on_disk);
    files(Path::new("templates"), &mut on_disk);
    let inside: BTreeSet<String> = SHIPPED.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(inside, on_disk);
}

#[test]
fn every_shipped_playbook_parses() {
    for (path, text) in SHIPPED.iter().filter(|(p, _)| p.ends_with(".yml")) {
        if path.contains("/tasks/") {
            continue;
        }
        let source = Source::new(*path, *text);
        let loaded = parse(&source, &|name, from| {
            let beside =
                Path::new(from).parent().map(|d| d.join(name).to_string_lossy().into_owned());
            let text = beside.and_then(|p| shipped(&p).map(|t| (p, t)));
            text.map(|(p, t)| Source::new(p, t)).ok_or_else(|| format!("no {name}"))
        });
        if let Err(complaints) = loaded {
            panic!("{}", pgorch::syntax::render(&complaints));
        }
    }
}

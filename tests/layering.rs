//! The layers of ARCHITECTURE.md: a module uses only lower ones, and only those below the I/O line
//! touch clocks, sockets, files and the terminal. This table is the rule; prose follows it.

use std::path::{Path, PathBuf};

/// Module and layer, low to high. Modules of one layer may not use each other, but for the pairs in
/// [`SAME_LAYER`].
const LAYERS: &[(&str, u32)] = &[
    ("model", 0),
    ("syntax", 1),
    ("postgres", 1),
    ("inventory", 2),
    ("template", 2),
    ("facts", 3),
    ("step", 4),
    ("playbook", 5),
    ("topology", 5),
    ("plan", 6),
    ("operation", 7),
    ("watch", 8),
    ("event", 9),
    ("clock", 10),
    ("transport", 11),
    ("journal", 12),
    ("runner", 12),
    ("watcher", 13),
    ("lab", 13),
    ("ui", 13),
    ("cli", 14),
];

const SAME_LAYER: &[(&str, &str)] = &[];

/// The highest pure layer: above it nothing but values.
const PURE_UP_TO: u32 = 9;

/// What a pure module may not name, and where it belongs.
const IMPURE: &[(&str, &str)] = &[
    ("std::fs", "cli, journal or lab"),
    ("std::net::Tcp", "transport"),
    ("std::process", "lab or transport"),
    ("std::env", "cli"),
    ("std::io::std", "ui"),
    ("std::time::Instant", "clock"),
    ("SystemTime", "clock"),
    ("tokio::", "the modules below the I/O line"),
    ("Timestamp::now", "clock"),
    ("rand::", "clock"),
];

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

fn module_of(path: &Path) -> String {
    let inside = path.strip_prefix("src").expect("below src");
    let first = inside.components().next().expect("a component").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

fn layer(module: &str) -> Option<u32> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

/// The code without comments and without the tests at its foot.
fn code(text: &str) -> String {
    let production = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = production.lines().filter(|l| !l.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

fn uses(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for rest in code.split("crate::").skip(1) {
        if let Some(group) = rest.strip_prefix('{') {
            // A braced import of several modules: the first word of each item at depth one.
            let mut depth = 1;
            let mut word = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => found.push(std::mem::take(&mut word)),
                    c if depth == 1 => word.push(c),
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
            found.push(word);
        } else {
            found.push(rest.to_owned());
        }
    }
    let name = |text: &String| -> String {
        text.trim().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
    };
    found.iter().map(name).collect()
}

#[test]
fn modules_use_only_lower_ones() {
    let mut all = Vec::new();
    sources(Path::new("src"), &mut all);
    let mut wrong = Vec::new();
    for path in all {
        let module = module_of(&path);
        if module == "lib" || module == "main" {
            continue;
        }
        let own = layer(&module).unwrap_or_else(|| panic!("{module} has no layer: add it above"));
        let text = code(&std::fs::read_to_string(&path).expect("text"));
        for used in uses(&text) {
            let Some(other) = layer(&used) else { continue };
            let allowed = used == module
                || other < own
                || SAME_LAYER.contains(&(module.as_str(), used.as_str()));
            if !allowed {
                wrong.push(format!("{}: {module} ({own}) uses {used} ({other})", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn pure_modules_touch_nothing() {
    let mut all = Vec::new();
    sources(Path::new("src"), &mut all);
    let mut wrong = Vec::new();
    for path in all {
        if layer(&module_of(&path)).is_none_or(|l| l > PURE_UP_TO) {
            continue;
        }
        if path.components().any(|c| c.as_os_str() == "tests" || c.as_os_str() == "tests.rs") {
            continue;
        }
        let text = code(&std::fs::read_to_string(&path).expect("text"));
        for (banned, home) in IMPURE.iter().filter(|(banned, _)| text.contains(banned)) {
            wrong.push(format!("{}: {banned} belongs into {home}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

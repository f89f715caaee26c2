//! The README's commands are understood and its inventory is valid.

use pgorch::syntax::Source;

fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let fence = format!("```{language}\n");
    let parts = text.split(fence.as_str()).skip(1);
    parts.map(|part| part.split("```").next().expect("an end")).collect()
}

#[test]
fn every_command_is_understood() {
    let text = std::fs::read_to_string("README.md").expect("the README");
    let mut checked = 0;
    for line in blocks(&text, "console").iter().flat_map(|b| b.lines()) {
        let command = line.strip_prefix("$ ").expect("a prompt");
        let arguments = match command.strip_prefix("pgorch ") {
            Some(arguments) => arguments,
            None => match command.strip_prefix("cargo run --release -- ") {
                Some(arguments) => arguments,
                None => continue,
            },
        };
        let words: Vec<&str> = arguments.split_whitespace().collect();
        pgorch::cli::check_arguments(&words).unwrap_or_else(|e| panic!("{command}: {e}"));
        checked += 1;
    }
    assert!(checked > 5);
}

#[test]
fn the_inventory_is_valid() {
    let text = std::fs::read_to_string("README.md").expect("the README");
    for block in blocks(&text, "yaml") {
        if let Err(complaints) = pgorch::inventory::parse(&Source::new("README.md", block)) {
            panic!("{}", pgorch::syntax::render(&complaints));
        }
    }
}

#[test]
fn the_shipped_inventories_fit_the_shipped_playbook() {
    for entry in std::fs::read_dir("inventories").expect("inventories") {
        let path = entry.expect("an entry").path();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_pgorch"))
            .arg("check")
            .arg(&path)
            .output()
            .expect("the program runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {error}", path.display());
    }
}

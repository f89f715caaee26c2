//! docs/scenarios.md names tests that exist.

use std::collections::BTreeSet;
use std::path::Path;

fn rows(page: &str) -> Vec<Vec<&str>> {
    let table = page.split("<!-- scenarios -->").nth(1).expect("the table");
    let table = table.split("<!-- end of scenarios -->").next().expect("its end");
    let cells = |line: &str| line.matches('|').count() == 6;
    let lines = table.lines().filter(|line| line.starts_with('|')).skip(2);
    lines
        .map(|line| {
            assert!(cells(line), "six bars: {line}");
            line.trim_matches('|').split('|').map(str::trim).collect()
        })
        .collect()
}

#[test]
fn every_scenario_has_a_row_and_every_test_that_is_named_exists() {
    let page = std::fs::read_to_string("docs/scenarios.md").expect("the page");
    let rows = rows(&page);
    let numbers: Vec<String> = (1..=65).map(|n| n.to_string()).collect();
    assert_eq!(rows.iter().map(|row| row[0]).collect::<Vec<_>>(), numbers);
    let mut named = BTreeSet::new();
    for row in &rows {
        for cell in &row[3..] {
            let tests: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
            let said = tests.iter().all(|t| t.contains('#')) && !tests.is_empty();
            assert!(said || ["-", "not yet"].contains(cell), "{}: {cell}", row[0]);
            named.extend(tests);
        }
    }
    assert!(named.len() > 60, "{}", named.len());
    for test in named {
        let (file, name) = test.split_once('#').expect("checked");
        let path = match file.starts_with("src/") {
            true => format!("{file}.rs"),
            false => format!("tests/{file}.rs"),
        };
        let text = std::fs::read_to_string(Path::new(&path))
            .unwrap_or_else(|e| panic!("{test}: {path}: {e}"));
        assert!(text.contains(&format!("fn {name}(")), "{path} has no {name}");
    }
}

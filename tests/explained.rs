//! `pgorch explain` knows every word that the watch uses: findings, rules, alarms, refusals,
//! notifications.

use std::collections::BTreeSet;
use std::process::Command;

use pgorch::model::NoticeKind;
use pgorch::watch::{Finding, MORE_RULES, Minor, RULES, WATCH_CODES};

/// What stands between these marks in the sources of the watch, tests left out.
fn in_sources(files: &[&str], marks: &[&str]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{file}: {e}"));
        let code = text.split("#[cfg(test)]").next().expect("a part").to_owned();
        for mark in marks {
            let words = code.split(mark).skip(1).filter_map(|rest| rest.split('"').next());
            found.extend(words.map(str::to_owned));
        }
    }
    found
}

#[test]
fn every_word_of_the_watch_is_explained() {
    let mut words = in_sources(
        &["src/watcher/hands.rs", "src/watch/decision.rs"],
        &["refused(\"", "code: \"", "verdict.rule = \""],
    );
    assert!(words.len() >= 10, "{words:?}");
    words.extend(Finding::ALL.map(|f| f.code().to_owned()));
    words.extend(Minor::ALL.map(|m| m.code().to_owned()));
    words.extend(RULES.iter().map(|r| r.name.to_owned()));
    words.extend(MORE_RULES.iter().map(|r| r.0.to_owned()));
    words.extend(WATCH_CODES.iter().map(|c| c.0.to_owned()));
    words.extend(NoticeKind::TABLE.iter().map(|r| r.1.to_owned()));
    let unknown: Vec<String> = words.into_iter().filter(|word| !explained(word)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    assert!(!explained("no_such_word"));
}

/// It says more than the word.
fn explained(word: &str) -> bool {
    let output = Command::new(env!("CARGO_BIN_EXE_pgorch")).args(["explain", word]).output();
    let output = output.expect("the program runs");
    output.status.success() && output.stdout.len() > word.len() + 40
}

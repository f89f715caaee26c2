//! Regular expressions as playbooks write them: Python's replacement syntax on Rust's engine.

use regex::{Captures, Regex};

use super::StepError;

/// Compiles an expression of argument `name`.
pub(super) fn compile(name: &'static str, pattern: &str) -> Result<Regex, StepError> {
    // Python writes named groups as Rust does; \Z is its \z.
    let pattern = pattern.replace("\\Z", "\\z");
    Regex::new(&pattern).map_err(|error| {
        let text = error.to_string();
        let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        StepError::new(format!("\"{name}\" is not a regular expression: {why}"))
            .arg(name)
            .hint("look-around and back-references inside an expression are not supported")
    })
}

/// A replacement text with `\1`, `\g<1>`, `\g<name>`, `\n`, `\t` and `\\` filled in.
pub(super) fn expand(template: &str, groups: &Captures) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        let digits = tail.chars().take(2).take_while(char::is_ascii_digit).count();
        if digits > 0 {
            let number = tail[..digits].parse::<usize>().unwrap_or_default();
            text.push_str(groups.get(number).map_or("", |m| m.as_str()));
            rest = &tail[digits..];
        } else if let Some((name, after)) = group_name(tail) {
            let found = match name.parse::<usize>() {
                Ok(number) => groups.get(number),
                Err(_) => groups.name(name),
            };
            text.push_str(found.map_or("", |m| m.as_str()));
            rest = after;
        } else {
            let mut chars = tail.chars();
            match chars.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some('\\') | None => text.push('\\'),
                Some(other) => text.extend(['\\', other]),
            }
            rest = chars.as_str();
        }
    }
    text.push_str(rest);
    text
}

/// `g<name>…`: the name and what follows.
fn group_name(tail: &str) -> Option<(&str, &str)> {
    tail.strip_prefix("g<")?.split_once('>')
}

#[cfg(test)]
mod tests {
    use super::{compile, expand};

    #[test]
    fn replacements_are_pythons() {
        let regex = compile("regexp", r"(?P<key>\w+)\s*=\s*(\w+)").expect("valid");
        let groups = regex.captures("a = b").expect("matches");
        assert_eq!(expand(r"\2=\g<key>$1\\\t\g<0>", &groups), "b=a$1\\\ta = b");
        assert!(compile("regexp", r"(?=x)").expect_err("refused").hint.is_some());
    }
}

//! postgresql.conf as text (manual, 20.1.2; guc-file.l): parameters, include directives, errors.

use std::iter::Peekable;
use std::str::Chars;

use indexmap::IndexMap;

use super::conf_value;

/// A file's entries in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conf {
    pub entries: Vec<ConfEntry>,
    /// Lines that the server would not read: number from 1, text.
    pub errors: Vec<(usize, String)>,
}

/// A line that says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfEntry {
    /// From 1.
    pub line: usize,
    /// In lower case: names are compared without case. `include`, `include_if_exists` and
    /// `include_dir` are directives, no parameters.
    pub name: String,
    /// Without quotes and escapes.
    pub value: String,
}

impl ConfEntry {
    #[must_use]
    pub fn is_include(&self) -> bool {
        matches!(self.name.as_str(), "include" | "include_if_exists" | "include_dir")
    }
}

impl Conf {
    /// Reads a file's text. Never fails: what cannot be read is in `errors`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut conf = Conf::default();
        for (at, line) in text.lines().enumerate() {
            match entry(line) {
                Ok(None) => {}
                Ok(Some((name, value))) => {
                    conf.entries.push(ConfEntry { line: at + 1, name, value });
                }
                Err(()) => conf.errors.push((at + 1, line.to_owned())),
            }
        }
        conf
    }

    /// The parameters in the file's order; of a parameter given twice the last counts, as in the
    /// server.
    #[must_use]
    pub fn parameters(&self) -> IndexMap<String, String> {
        let parameters = self.entries.iter().filter(|e| !e.is_include());
        parameters.map(|e| (e.name.clone(), e.value.clone())).collect()
    }
}

/// A `name = value` line of a file, quoted as needed, without a newline.
#[must_use]
pub fn conf_line(name: &str, value: &str) -> String {
    format!("{name} = {}", conf_value(value))
}

/// A parameter that differs between two files; `None` is "not there".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfChange {
    pub name: String,
    pub before: Option<String>,
    pub after: Option<String>,
}

/// What differs, by parameter: changed and added ones in the new file's order, then removed ones.
/// Order, comments, quoting and repetition do not count; values are compared as text.
#[must_use]
pub fn diff_conf(before: &Conf, after: &Conf) -> Vec<ConfChange> {
    let (before, after) = (before.parameters(), after.parameters());
    let kept = after.iter().filter(|(name, value)| before.get(*name) != Some(value));
    let kept = kept.map(|(name, value)| ConfChange {
        name: name.clone(),
        before: before.get(name).cloned(),
        after: Some(value.clone()),
    });
    let gone = before.iter().filter(|(name, _)| !after.contains_key(*name));
    let gone = gone.map(|(name, value)| ConfChange {
        name: name.clone(),
        before: Some(value.clone()),
        after: None,
    });
    kept.chain(gone).collect()
}

/// A line as name and value, or nothing for blanks and comments.
fn entry(line: &str) -> Result<Option<(String, String)>, ()> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let named = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '.');
    let end = line.find(|c| !named(c)).unwrap_or(line.len());
    if end == 0 || line.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Err(());
    }
    let rest = line[end..].trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
    let mut chars = rest.chars().peekable();
    let value = if chars.next_if_eq(&'\'').is_some() {
        quoted(&mut chars).ok_or(())?
    } else {
        let mut value = String::new();
        while let Some(c) = chars.next_if(|c| !c.is_whitespace() && *c != '#') {
            value.push(c);
        }
        value
    };
    let quoted = rest.starts_with('\'');
    let tail: String = chars.collect();
    let tail = tail.trim_start();
    if (value.is_empty() && !quoted) || !(tail.is_empty() || tail.starts_with('#')) {
        return Err(());
    }
    Ok(Some((line[..end].to_lowercase(), value)))
}

/// The rest of a quoted value, as `GUC_scanstr` reads it; `None` if it does not end.
fn quoted(chars: &mut Peekable<Chars<'_>>) -> Option<String> {
    let mut value = String::new();
    loop {
        match chars.next()? {
            '\'' if chars.next_if_eq(&'\'').is_some() => value.push('\''),
            '\'' => return Some(value),
            '\\' => match chars.next()? {
                'b' => value.push('\u{8}'),
                'f' => value.push('\u{c}'),
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                c @ '0'..='7' => {
                    let mut code = c.to_digit(8)?;
                    for _ in 0..2 {
                        let Some(c) = chars.next_if(|c| c.is_digit(8)) else { break };
                        code = code * 8 + c.to_digit(8)?;
                    }
                    value.push(char::from_u32(code)?);
                }
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Conf, conf_line, diff_conf};

    const FILE: &str = "# a comment\n\
        Shared_Buffers = 128MB   # more\n\
        work_mem 4MB\n\
        log_line_prefix='%m it''s \\'q\\' \\101'\n\
        include_if_exists = 'pgorch.conf'\n\
        my.thing = on\n\
        work_mem = 8MB\n\
        empty = ''\n\
        broken = 'no end\n\
        two words here\n\
        = x\n";

    #[test]
    fn reads_names_values_and_directives() {
        let conf = Conf::parse(FILE);
        insta::assert_json_snapshot!(conf.parameters(), @r#"
        {
          "shared_buffers": "128MB",
          "work_mem": "8MB",
          "log_line_prefix": "%m it's 'q' A",
          "my.thing": "on",
          "empty": ""
        }
        "#);
        assert_eq!(conf.entries[3].line, 5);
        assert!(conf.entries[3].is_include());
        assert_eq!(conf.errors.iter().map(|e| e.0).collect::<Vec<_>>(), [9, 10, 11]);
    }

    #[test]
    fn what_is_written_is_read_back() {
        for value in ["", "on", "it's", r"a\b", "a\nb", "# no comment", "'", "256MB", "ü x"] {
            let conf = Conf::parse(&conf_line("name", value));
            assert_eq!(conf.parameters().get("name").map(String::as_str), Some(value));
        }
    }

    #[test]
    fn differences_are_by_parameter() {
        let after = "my.thing = on\nwork_mem = '8MB'\nshared_buffers = 256MB\nnew = 1\n";
        let changes = diff_conf(&Conf::parse(FILE), &Conf::parse(after));
        let lines: Vec<String> =
            changes.iter().map(|c| format!("{} {:?} {:?}", c.name, c.before, c.after)).collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        shared_buffers Some("128MB") Some("256MB")
        new None Some("1")
        log_line_prefix Some("%m it's 'q' A") None
        empty Some("") None
        "#);
    }
}

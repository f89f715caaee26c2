//! Quoting for SQL and for postgresql.conf.

/// `name` as an SQL identifier: always in double quotes, so that case and keywords do not matter.
/// A NUL, which no identifier may hold, is dropped.
#[must_use]
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('\0', "").replace('"', "\"\""))
}

/// `text` as an SQL string literal. With a backslash it becomes `E'...'`, which reads the same
/// whatever `standard_conforming_strings` is (manual, 4.1.2.2). A NUL is dropped.
#[must_use]
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\0', "").replace('\'', "''");
    if quoted.contains('\\') {
        format!("E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// `value` as the right side of a postgresql.conf line: bare if it is a plain number, name or
/// number with unit, else in single quotes with quotes doubled and backslashes escaped
/// (`GUC_scanstr` in guc-file.l reads C-like escapes inside quotes). A line cannot hold a newline,
/// so it is written as `\n`.
#[must_use]
pub fn conf_value(value: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let starts_well = value.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-');
    if starts_well && value.chars().all(bare) && is_one_token(value) {
        return value.to_owned();
    }
    let mut out = String::with_capacity(value.len() + 2);
    out.push('\'');
    for c in value.chars() {
        match c {
            '\'' => out.push_str("''"),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\0' => {}
            other => out.push(other),
        }
    }
    out.push('\'');
    out
}

/// Whether guc-file.l reads this as one number (with unit) or one word; `1.2.3` and `a-b` are not.
fn is_one_token(value: &str) -> bool {
    let digits = value.strip_prefix('-').unwrap_or(value);
    if digits.starts_with(|c: char| c.is_ascii_digit()) {
        let unit = digits.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        digits.matches('.').count() <= 1 && unit.chars().all(|c| c.is_ascii_alphabetic())
    } else {
        // `ID` of guc-file.l: letters, digits and underscores; a dot would make a qualified name.
        !value.contains(['.', '-'])
    }
}

#[cfg(test)]
mod tests {
    use super::{conf_value, ident, literal};

    #[test]
    fn quotes_for_sql() {
        assert_eq!(ident(r#"we"ird"#), r#""we""ird""#);
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"C:\'"), r"E'C:\\'''");
    }

    #[test]
    fn quotes_for_postgresql_conf() {
        let table = [
            ("256MB", "256MB"),
            ("0.9", "0.9"),
            ("-1", "-1"),
            ("on", "on"),
            ("scram-sha-256", "'scram-sha-256'"),
            ("", "''"),
            ("*", "'*'"),
            ("1.2.3.4", "'1.2.3.4'"),
            ("it's", "'it''s'"),
            (r"%m \x", r"'%m \\x'"),
            ("a\nb", r"'a\nb'"),
        ];
        for (value, written) in table {
            assert_eq!(conf_value(value), written);
        }
    }
}

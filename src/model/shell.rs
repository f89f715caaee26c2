//! The one place where text is quoted, for a POSIX shell and for the command lines of systemd's units.

use std::fmt::Write as _;

use base64::Engine as _;

/// `text` as one word of a POSIX shell (single quotes; a quote becomes `'\''`).
#[must_use]
pub fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,@%+^".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// `text` as one word of `ExecStart=` (systemd.service(5), "Command lines"): neither a specifier nor a
/// variable is left in it.
#[must_use]
pub fn unit_word(text: &str) -> String {
    let escaped = text.replace('%', "%%").replace('$', "$$");
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,@%+^$".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return escaped;
    }
    let escaped = escaped.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

/// A piece of POSIX-sh program text, built from quoted words.
///
/// Secrets may be in a script: it travels on the standing shell's standard input and is never in
/// an argument vector, as long as they only reach builtins, redirections and here-documents.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Script(String);

impl Script {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A script of this literal program text (no quoting is done).
    #[must_use]
    pub fn raw(text: impl Into<String>) -> Self {
        let mut script = Script(text.into());
        script.end_line();
        script
    }

    /// A script that runs one argument vector.
    #[must_use]
    pub fn argv<S: AsRef<str>>(argv: &[S]) -> Self {
        let words: Vec<String> = argv.iter().map(|w| quote(w.as_ref())).collect();
        Script(format!("{}\n", words.join(" ")))
    }

    /// Adds a line of literal program text.
    #[must_use]
    pub fn line(mut self, text: &str) -> Self {
        self.0.push_str(text);
        self.end_line();
        self
    }

    /// Adds all of `other`.
    #[must_use]
    pub fn then(mut self, other: &Script) -> Self {
        self.0.push_str(&other.0);
        self
    }

    /// Adds `NAME=value`, quoted. Only for shell variables, which no process list shows.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        let _ = writeln!(self.0, "{name}={}", quote(value));
        self
    }

    /// Adds `command <<here-document` whose text is `bytes`, decoded on the host: `command` reads
    /// exactly these bytes on its standard input. Needs coreutils' `base64` on the host.
    #[must_use]
    pub fn feed(mut self, bytes: &[u8], command: &str) -> Self {
        let _ = writeln!(self.0, "base64 -d <<'PGORCH_EOF' | {command}");
        let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
        for chunk in encoded.as_bytes().chunks(76) {
            self.0.push_str(std::str::from_utf8(chunk).unwrap_or_default());
            self.0.push('\n');
        }
        self.0.push_str("PGORCH_EOF\n");
        self
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn end_line(&mut self) {
        if !self.0.is_empty() && !self.0.ends_with('\n') {
            self.0.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Script, quote, unit_word};

    #[test]
    fn quotes_what_a_shell_would_touch() {
        assert_eq!(quote("plain/path-1.conf"), "plain/path-1.conf");
        assert_eq!(quote(""), "''");
        assert_eq!(quote("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quote("~root"), "'~root'");
    }

    #[test]
    fn a_unit_s_words_have_no_specifiers() {
        assert_eq!(unit_word("/usr/bin/pgorch"), "/usr/bin/pgorch");
        assert_eq!(unit_word(""), "\"\"");
        assert_eq!(unit_word("a b"), "\"a b\"");
        assert_eq!(unit_word("50%h"), "50%%h");
        assert_eq!(unit_word("$HOME"), "$$HOME");
        assert_eq!(unit_word(r#"it"s \x"#), r#""it\"s \\x""#);
    }

    #[test]
    fn feed_is_a_here_document() {
        let script = Script::new().feed(b"hello\n", "cat");
        assert_eq!(script.as_str(), "base64 -d <<'PGORCH_EOF' | cat\naGVsbG8K\nPGORCH_EOF\n");
    }
}

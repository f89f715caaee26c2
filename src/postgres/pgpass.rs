//! Lines of a libpq password file (manual, 34.16): `host:port:database:user:password`.

use crate::model::Secret;

/// One line of a password file. `*` in a field matches everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassLine {
    pub host: String,
    pub port: String,
    pub database: String,
    pub user: String,
    pub password: Secret,
}

/// The line for a user on every host, port and database, without a newline. `:` and `\` are
/// escaped in the user, and in the password as well: libpq takes a backslash there for an escape.
#[must_use]
pub fn pass_line(user: &str, password: &Secret) -> Secret {
    Secret::new(format!("*:*:*:{}:{}", escape(user), escape(password.expose())))
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace(':', "\\:")
}

/// Reads a line; `None` for a comment, an empty line or one with too few fields. As in libpq,
/// an unescaped colon ends a field and what follows the password's end is ignored.
#[must_use]
pub fn parse_pass_line(line: &str) -> Option<PassLine> {
    if line.starts_with('#') {
        return None;
    }
    let mut fields = vec![String::new()];
    let mut chars = line.trim_end_matches(['\n', '\r']).chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => fields.last_mut()?.extend(chars.next()),
            ':' => fields.push(String::new()),
            other => fields.last_mut()?.push(other),
        }
    }
    let mut fields = fields.into_iter();
    Some(PassLine {
        host: fields.next()?,
        port: fields.next()?,
        database: fields.next()?,
        user: fields.next()?,
        password: Secret::new(fields.next()?),
    })
}

#[cfg(test)]
mod tests {
    use super::{parse_pass_line, pass_line};
    use crate::model::Secret;

    #[test]
    fn a_password_with_colons_and_backslashes_survives() {
        let line = pass_line("replicator", &Secret::new(r"a:b\c d"));
        assert_eq!(line.expose(), r"*:*:*:replicator:a\:b\\c d");
        let read = parse_pass_line(line.expose()).expect("a line");
        assert_eq!((read.user.as_str(), read.password.expose()), ("replicator", r"a:b\c d"));
        assert_eq!(parse_pass_line("# *:*:*:x:y"), None);
        assert_eq!(parse_pass_line("*:*:*:x"), None);
    }
}

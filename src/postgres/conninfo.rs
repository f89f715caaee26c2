//! libpq connection strings in keyword form (manual, 34.1.1.1): `host=a port=5432 user=x`.

use indexmap::IndexMap;

/// A connection string; a keyword given twice counts as last given, in the place of the first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conninfo(pub IndexMap<String, String>);

/// Why a connection string cannot be read. The text itself is not repeated: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadConninfo {
    #[error("missing \"=\" after \"{0}\" in a connection string")]
    NoEquals(String),
    #[error("unterminated quoted value of \"{0}\" in a connection string")]
    Unterminated(String),
    #[error("connection strings of the form postgresql://... are not understood here")]
    Uri,
}

impl Conninfo {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With a keyword set.
    #[must_use]
    pub fn with(mut self, keyword: &str, value: impl ToString) -> Self {
        self.0.insert(keyword.to_owned(), value.to_string());
        self
    }

    #[must_use]
    pub fn get(&self, keyword: &str) -> Option<&str> {
        self.0.get(keyword).map(String::as_str)
    }

    /// Reads the keyword form.
    ///
    /// # Errors
    /// A URI, a keyword without a value, a quote that does not end.
    pub fn parse(text: &str) -> Result<Self, BadConninfo> {
        if text.trim_start().starts_with("postgresql://")
            || text.trim_start().starts_with("postgres://")
        {
            return Err(BadConninfo::Uri);
        }
        let mut conninfo = Conninfo::new();
        let mut chars = text.chars().peekable();
        loop {
            while chars.next_if(|c| c.is_whitespace()).is_some() {}
            let mut keyword = String::new();
            while let Some(c) = chars.next_if(|c| !c.is_whitespace() && *c != '=') {
                keyword.push(c);
            }
            if keyword.is_empty() && chars.peek().is_none() {
                return Ok(conninfo);
            }
            while chars.next_if(|c| c.is_whitespace()).is_some() {}
            if chars.next() != Some('=') {
                return Err(BadConninfo::NoEquals(keyword));
            }
            while chars.next_if(|c| c.is_whitespace()).is_some() {}
            let Some(value) = value(&mut chars) else {
                return Err(BadConninfo::Unterminated(keyword));
            };
            conninfo.0.insert(keyword, value);
        }
    }
}

/// One value, in quotes or up to a blank; a backslash takes the next character as it is.
fn value(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    let quoted = chars.next_if_eq(&'\'').is_some();
    let mut value = String::new();
    loop {
        match chars.next_if(|c| quoted || !c.is_whitespace()) {
            None if quoted => return None,
            None => return Some(value),
            Some('\'') if quoted => return Some(value),
            Some('\\') => value.extend(chars.next()),
            Some(c) => value.push(c),
        }
    }
}

impl std::fmt::Display for Conninfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, (keyword, value)) in self.0.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            let plain = !value.is_empty()
                && !value.contains(|c: char| c.is_whitespace() || c == '\'' || c == '\\');
            if plain {
                write!(f, "{space}{keyword}={value}")?;
            } else {
                let value = value.replace('\\', "\\\\").replace('\'', "\\'");
                write!(f, "{space}{keyword}='{value}'")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{BadConninfo, Conninfo};

    #[test]
    fn what_is_written_is_read_back() {
        let info = Conninfo::new()
            .with("host", "198.18.0.11")
            .with("port", 5432)
            .with("options", r"it's \ so");
        let text = info.to_string();
        assert_eq!(text, r"host=198.18.0.11 port=5432 options='it\'s \\ so'");
        assert_eq!(Conninfo::parse(&text), Ok(info));
    }

    #[test]
    fn reads_what_libpq_reads() {
        let info = Conninfo::parse("  host = a  port=5432 password='' user=b\\ c ").expect("valid");
        assert_eq!(info.get("host"), Some("a"));
        assert_eq!((info.get("password"), info.get("user")), (Some(""), Some("b c")));
        assert_eq!(Conninfo::parse("host"), Err(BadConninfo::NoEquals("host".to_owned())));
        assert_eq!(Conninfo::parse("x='a"), Err(BadConninfo::Unterminated("x".to_owned())));
        assert_eq!(Conninfo::parse("postgresql://a/b"), Err(BadConninfo::Uri));
        assert_eq!(Conninfo::parse(""), Ok(Conninfo::new()));
    }
}

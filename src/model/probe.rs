//! Questions to a host and their answers: the words in which facts and steps say what to read.

use super::Script;

/// One question to a host. Equal fragments are asked once per batch, so a fragment's text is its key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fragment {
    pub ask: Ask,
    /// What the answer depends on; a change that writes one of these makes the answer stale.
    pub reads: Vec<Resource>,
}

/// How a question is asked. Nothing here may change the host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Ask {
    /// A POSIX-sh script, as root (`user: None`) or as an OS user. Its standard input is empty,
    /// its locale is C. Output must be machine-readable; binary content is base64.
    Sh { script: Script, user: Option<String> },
    /// One SQL query through psql on the host as OS user postgres, in a database. The answer is
    /// psql's unaligned, tuples-only output: let the server build one JSON value.
    Sql { database: String, sql: String },
}

impl Fragment {
    #[must_use]
    pub fn sh(script: Script, reads: Vec<Resource>) -> Self {
        Fragment { ask: Ask::Sh { script, user: None }, reads }
    }

    #[must_use]
    pub fn sql(database: &str, sql: impl Into<String>) -> Self {
        let ask = Ask::Sql { database: database.to_owned(), sql: sql.into() };
        Fragment { ask, reads: vec![Resource::Postgres] }
    }
}

/// What came back. For SQL: `rc` 0 when the query succeeded, 1 when the server refused it,
/// 2 when there was no connection; the message is in `stderr`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    pub rc: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Something on a host that answers depend on and changes touch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    /// Unknown reach: a command of the user's, a package's scripts.
    Everything,
    /// A path and all below it.
    Path(String),
    Packages,
    Accounts,
    /// Unit files, their enablement and states.
    Units,
    /// sysctl values.
    Kernel,
    /// The PostgreSQL server: its state, settings and catalogs.
    Postgres,
    /// What a running server only reads when it starts: who writes it owes a restart.
    Restart,
}

impl Resource {
    /// Whether a change of `self` can alter an answer that reads `other`.
    #[must_use]
    pub fn touches(&self, other: &Resource) -> bool {
        match (self, other) {
            (Resource::Everything, _) | (_, Resource::Everything) => true,
            (Resource::Path(a), Resource::Path(b)) => under(a, b) || under(b, a),
            // Whoever writes a unit file or a sysctl file changes what those show.
            (Resource::Path(a), Resource::Units) => UNIT_DIRS.iter().any(|dir| under(a, dir)),
            (a, b) => a == b,
        }
    }
}

/// Where systemd reads unit files from (systemd.unit(5)).
const UNIT_DIRS: [&str; 4] = ["/etc/systemd", "/run/systemd", "/usr/lib/systemd", "/lib/systemd"];

/// Whether `path` is `dir` or below it.
fn under(path: &str, dir: &str) -> bool {
    let dir = dir.trim_end_matches('/');
    path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::Resource::{self, Path};

    #[test]
    fn a_path_touches_what_is_above_and_below_it() {
        let path = |p: &str| Path(p.to_owned());
        assert!(path("/etc/a").touches(&path("/etc")));
        assert!(path("/etc").touches(&path("/etc/a/b")));
        assert!(!path("/etc/a").touches(&path("/etc/ab")));
        assert!(!path("/etc/a").touches(&Resource::Postgres));
        assert!(Resource::Everything.touches(&Resource::Postgres));
    }
}

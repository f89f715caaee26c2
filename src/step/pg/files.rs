//! Configuration files in the data directory: how they are read, and how they are replaced so
//! that a file that the server would not take never stays.

use std::collections::BTreeMap;

use base64::Engine as _;

use super::common::{self, OS_USER};
use crate::inventory::NodeSettings;
use crate::model::{Answer, Script, quote};
use crate::step::StepError;

/// A file as a probe saw it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct HostFile {
    /// Octal, without leading zero: `600`.
    pub(super) mode: String,
    /// `user:group`.
    pub(super) owner: String,
    /// Change time (a rename into place counts), seconds since the epoch with fraction.
    pub(super) changed: f64,
    pub(super) text: String,
}

impl HostFile {
    /// Only the server's own user may read it.
    pub(super) fn is_private(&self) -> bool {
        self.mode == "600" && self.owner == format!("{OS_USER}:{OS_USER}")
    }

    /// Whether a reload is owed: the file was put in place after the server last read its
    /// configuration. A run that died in between leaves this behind.
    pub(super) fn newer_than(&self, loaded: Option<f64>) -> bool {
        loaded.is_some_and(|loaded| self.changed > loaded)
    }
}

/// Adds to a probe: one line `key MODE OWNER CHANGED BASE64`, or `key` alone if there is no file.
pub(super) fn read(script: Script, key: &str, path: &str) -> Script {
    let path = quote(path);
    script.line(&format!(
        "if [ -f {path} ]; then printf '{key} %s %s\\n' \"$(stat -c '%a %U:%G %.9Z' {path})\" \
         \"$(base64 -w0 {path})\"; else echo {key}; fi"
    ))
}

/// The lines of a probe's answer by their first word.
pub(super) fn lines(answer: &Answer) -> BTreeMap<&str, &str> {
    let split = |line| str::split_once(line, ' ').unwrap_or((line, ""));
    answer.stdout.lines().map(split).collect()
}

/// Reads what [`read`] printed.
pub(super) fn parse(line: Option<&&str>) -> Result<Option<HostFile>, StepError> {
    let Some(line) = line.filter(|l| !l.is_empty()) else { return Ok(None) };
    let words: Vec<&str> = line.split(' ').collect();
    let bad = || StepError::new(format!("unreadable answer about a file: {line}"));
    let [mode, owner, changed, rest @ ..] = words.as_slice() else { return Err(bad()) };
    let text = decode(rest.first().copied().unwrap_or_default()).ok_or_else(bad)?;
    let changed = changed.parse().map_err(|_| bad())?;
    Ok(Some(HostFile { mode: (*mode).to_owned(), owner: (*owner).to_owned(), changed, text }))
}

/// Base64 text as UTF-8; other bytes become replacement characters.
pub(super) fn decode(encoded: &str) -> Option<String> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// How a new configuration file is tried before and after it is in place.
pub(super) struct Replace<'a> {
    pub(super) node: &'a NodeSettings,
    /// File name in the data directory.
    pub(super) name: &'a str,
    pub(super) text: &'a str,
    /// Shell text that tests `$new` before it is put in place; its failure ends the change.
    pub(super) precheck: Option<String>,
    /// A query that reads the file in place through the server, before it is loaded: every row is
    /// a complaint. Only asked while the server runs.
    pub(super) complaints: Option<&'a str>,
    pub(super) running: bool,
}

impl Replace<'_> {
    /// The script, for OS user postgres: write, check, put in place, ask the server, reload. Where
    /// the server complains the old file comes back, and it was never loaded.
    pub(super) fn script(&self) -> Script {
        let path = format!("{}/{}", self.node.data_dir, self.name);
        let mut script = Script::raw("(\nexec </dev/null\nset -eu\ncd /\numask 077")
            .set("file", &path)
            .line("new=$file.pgorch-new; old=$file.pgorch-old")
            .feed(self.text.as_bytes(), "cat >\"$new\"");
        if let Some(check) = &self.precheck {
            script = script.line(check);
        }
        script = script
            .line("sync \"$new\" 2>/dev/null || :")
            .line("rm -f \"$old\"; if [ -e \"$file\" ]; then cp -p \"$file\" \"$old\"; fi")
            .line("mv -f \"$new\" \"$file\"");
        if self.running {
            if let Some(query) = self.complaints {
                script = script.then(&self.ask(query));
            }
            script = script.then(&reload(self.node));
        }
        script.line("rm -f \"$old\"\n)")
    }

    fn ask(&self, query: &str) -> Script {
        let psql = common::psql(self.node, "postgres");
        Script::new()
            .line("back() { if [ -e \"$old\" ]; then mv -f \"$old\" \"$file\"; else rm -f \"$file\"; fi; }")
            .set("query", query)
            .line(&format!(
                "if ! said=$(printf '%s\\n' \"$query\" | {psql} 2>&1) || [ -n \"$said\" ]; then"
            ))
            .line("back\necho \"the server does not take $file: $said\" >&2; exit 1\nfi")
    }
}

/// Reloads the configuration and waits until the server has read it; part of a script with
/// `set -e`. Through SQL as the superuser: the signal is the same as `systemctl reload` sends, and
/// `pg_conf_load_time()` of a new session shows when the postmaster has acted on it.
pub(super) fn reload(node: &NodeSettings) -> Script {
    let psql = common::psql(node, "postgres");
    Script::raw(format!(
        "loaded() {{ echo 'SELECT pg_conf_load_time()' | {psql}; }}\n\
         before=$(loaded)\n\
         echo 'SELECT pg_reload_conf()' | {psql} >/dev/null\n\
         tries=0\n\
         while [ \"$(loaded)\" = \"$before\" ]; do\n\
         tries=$((tries + 1))\n\
         if [ $tries -gt 100 ]; then echo 'the server did not reload within 10 s' >&2; exit 1; fi\n\
         sleep 0.1\n\
         done"
    ))
}

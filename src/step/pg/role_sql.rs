//! The SQL of the kind `role`.

use super::common::{PGORCH, REPLICATOR};
use crate::postgres::{ident, literal};
use crate::step::Diff;

/// Keeps what follows out of the server's log, whatever its settings: the verifier in a statement
/// is not the password, and still nobody's business. Only this session is affected.
pub(super) const QUIET: &str = "SET log_statement = 'none';\n\
    SET log_min_duration_statement = -1;\n\
    SET log_min_duration_sample = -1;\n\
    SET log_min_error_statement = 'panic';\n\
    SET log_transaction_sample_rate = 0;\n\
    SET log_parser_stats = off;\n\
    SET debug_print_parse = off;\n";

/// Attributes of CREATE ROLE, in the words of pg_authid's columns.
pub(super) const ATTRIBUTES: &[&str] =
    &["login", "superuser", "createdb", "createrole", "inherit", "replication", "bypassrls"];

/// The attribute and whether it is to be on.
pub(super) fn attribute(word: &str) -> Option<(&'static str, bool)> {
    let find = |word: &str| ATTRIBUTES.iter().find(|a| **a == word).copied();
    find(word).map(|base| (base, true)).or_else(|| Some((find(word.strip_prefix("no")?)?, false)))
}

/// Roles that pgorch's own role is a member of: reading statistics and settings, CHECKPOINT
/// without being superuser (since 15), ending backends.
pub(super) fn memberships(version: u32) -> Vec<String> {
    let mut list = vec!["pg_monitor".to_owned(), "pg_signal_backend".to_owned()];
    if version >= 15 {
        list.push("pg_checkpoint".to_owned());
    }
    list
}

/// Functions and views that are closed to the public and that the roles need: pgorch to operate,
/// replicator for pg_rewind (manual, pg_rewind, Notes). Rights are per database; this is postgres.
fn rights() -> Vec<(&'static str, &'static str, &'static str, &'static str)> {
    let function = |role, name| (role, "function", "EXECUTE", name);
    vec![
        function(PGORCH, "pg_catalog.pg_reload_conf()"),
        function(PGORCH, "pg_catalog.pg_promote(boolean, integer)"),
        function(PGORCH, "pg_catalog.pg_wal_replay_pause()"),
        function(PGORCH, "pg_catalog.pg_wal_replay_resume()"),
        function(PGORCH, "pg_catalog.pg_switch_wal()"),
        function(PGORCH, "pg_catalog.pg_show_all_file_settings()"),
        function(PGORCH, "pg_catalog.pg_hba_file_rules()"),
        function(PGORCH, "pg_catalog.pg_stat_file(text, boolean)"),
        (PGORCH, "table", "SELECT", "pg_catalog.pg_file_settings"),
        (PGORCH, "table", "SELECT", "pg_catalog.pg_hba_file_rules"),
        function(REPLICATOR, "pg_catalog.pg_ls_dir(text, boolean, boolean)"),
        function(REPLICATOR, "pg_catalog.pg_stat_file(text, boolean)"),
        function(REPLICATOR, "pg_catalog.pg_read_binary_file(text)"),
        function(REPLICATOR, "pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)"),
    ]
}

/// One JSON value about these roles. `own`: also the missing rights of pgorch's own roles.
pub(super) fn probe(names: &[String], own: bool) -> String {
    let flags: Vec<String> = ATTRIBUTES
        .iter()
        .map(|a| {
            let column = match *a {
                "login" => "rolcanlogin".to_owned(),
                "superuser" => "rolsuper".to_owned(),
                other => format!("rol{other}"),
            };
            format!("CASE WHEN {column} THEN '{a}' END")
        })
        .collect();
    let list: Vec<String> = names.iter().map(|n| literal(n)).collect();
    let grants = if own { missing_rights() } else { "NULL".to_owned() };
    format!(
        "SELECT json_build_object('system_identifier', \
         (SELECT system_identifier::text FROM pg_control_system()), 'grants', {grants}, \
         'roles', (SELECT json_agg(json_build_object('name', r.rolname, \
         'attributes', array_remove(ARRAY[{}], NULL), 'connection_limit', r.rolconnlimit, \
         'verifier', r.rolpassword, 'member_of', (SELECT json_agg(p.rolname) FROM pg_auth_members m \
         JOIN pg_roles p ON p.oid = m.roleid WHERE m.member = r.oid)) ORDER BY r.rolname) \
         FROM pg_authid r WHERE r.rolname IN ({})))",
        flags.join(", "),
        list.join(", ")
    )
}

/// A subquery with the statements for the rights that are missing. A role that is not there yet
/// lacks all of them; CASE keeps the privilege functions from being asked about it.
fn missing_rights() -> String {
    let rows: Vec<String> = rights()
        .into_iter()
        .map(|(role, kind, privilege, object)| {
            format!(
                "({}, '{kind}', '{privilege}', {}, {})",
                literal(role),
                literal(object),
                literal(&format!(
                    "GRANT {privilege} ON {} {object} TO {};",
                    kind.to_uppercase(),
                    ident(role)
                ))
            )
        })
        .collect();
    format!(
        "(SELECT json_agg(g.statement) FROM (VALUES {}) AS g(role, kind, privilege, object, statement) \
         WHERE NOT CASE WHEN NOT EXISTS (SELECT FROM pg_roles WHERE rolname = g.role) THEN false \
         WHEN g.kind = 'function' THEN has_function_privilege(g.role, g.object, g.privilege) \
         ELSE has_table_privilege(g.role, g.object, g.privilege) END)",
        rows.join(", ")
    )
}

/// Statements and what to show of them.
#[derive(Default)]
pub(super) struct Statements {
    sql: String,
    summary: Vec<String>,
    diffs: Vec<Diff>,
}

impl Statements {
    pub(super) fn plain(&mut self, statement: &str) {
        self.sql.push_str(statement);
        self.sql.push('\n');
    }

    pub(super) fn diff(&mut self, name: &str, before: Option<String>, after: Option<String>) {
        self.diffs.push(Diff::Value { name: name.to_owned(), before, after, note: None });
    }

    pub(super) fn role(&mut self, name: &str, exists: bool, options: &[String]) {
        if exists && options.is_empty() {
            return;
        }
        let verb = if exists { "ALTER" } else { "CREATE" };
        let with =
            if options.is_empty() { String::new() } else { format!(" {}", options.join(" ")) };
        self.plain(&format!("{verb} ROLE {}{with};", ident(name)));
        let before = exists.then(|| "other attributes".to_owned());
        self.diff(&format!("role {name}"), before, Some(options.join(" ").to_lowercase()));
        let what = if exists { "attributes of role" } else { "new role" };
        self.summary.push(format!("{what} {name}"));
    }

    pub(super) fn member(&mut self, name: &str, parent: &str) {
        self.plain(&format!("GRANT {} TO {};", ident(parent), ident(name)));
        self.diff(&format!("role {name}"), None, Some(format!("member of {parent}")));
    }

    /// Sets a password by its verifier.
    pub(super) fn password(&mut self, name: &str, had_one: bool, verifier: &str) {
        self.plain(&format!("ALTER ROLE {} PASSWORD {};", ident(name), literal(verifier)));
        let before = had_one.then(|| "another password".to_owned());
        self.diff(&format!("password of role {name}"), before, Some("set".into()));
        self.summary.push(format!("password of role {name}"));
    }

    /// Summary, diffs and SQL, if there is anything to do. All of it is one transaction.
    pub(super) fn finish(self) -> Option<(String, Vec<Diff>, String)> {
        if self.sql.is_empty() {
            return None;
        }
        let summary = match self.summary.as_slice() {
            [] => "memberships and rights of roles".to_owned(),
            words => words.join(", "),
        };
        Some((summary, self.diffs, format!("BEGIN;\n{}COMMIT;\n", self.sql)))
    }
}

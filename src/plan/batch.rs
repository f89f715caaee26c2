//! Many fragments in one script, and its output taken apart again.
//!
//! Each fragment runs in a subshell; after it, a marker line with its number and exit status is
//! printed to standard output and to standard error, so both streams can be cut. SQL fragments of
//! one database share one psql.

use std::collections::BTreeMap;

use crate::model::{Answer, Ask, Fragment, Script, quote};

/// A server that hangs takes connections (the kernel does) and answers nothing: it must not hold up
/// what else is asked. Statements have a limit of their own.
const CONNECT_SECONDS: u64 = 5;
const SESSION_SECONDS: u64 = 40;

/// How psql is called on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Psql {
    pub bin_dir: String,
    pub socket_dir: String,
    pub port: u16,
}

/// One script that asks all `fragments`. `mark` must not occur in any answer: take random text.
/// SQL without `psql` (a host without PostgreSQL) is answered with "no connection".
#[must_use]
pub fn compose(fragments: &[Fragment], psql: Option<&Psql>, mark: &str) -> Script {
    let mut script = Script::new().line(&format!(
        "pgorch_mark() {{ printf '\\n%s %s %s\\n' {mark} \"$1\" \"$2\"; \
         printf '\\n%s %s %s\\n' {mark} \"$1\" \"$2\" >&2; }}"
    ));
    let mut by_user: BTreeMap<&str, Vec<(usize, &Script)>> = BTreeMap::new();
    let mut by_database: BTreeMap<&str, Vec<(usize, &str)>> = BTreeMap::new();
    for (number, fragment) in fragments.iter().enumerate() {
        match &fragment.ask {
            Ask::Sh { script: body, user: None } => {
                script = script.line(&one(number, body));
            }
            Ask::Sh { script: body, user: Some(user) } => {
                by_user.entry(user).or_default().push((number, body));
            }
            Ask::Sql { database, sql } => {
                by_database.entry(database).or_default().push((number, sql));
            }
        }
    }
    for (user, group) in by_user {
        script = script.then(&as_user(user, &group, mark));
    }
    for (database, group) in by_database {
        match psql {
            Some(psql) => script = script.then(&through_psql(psql, database, &group, mark)),
            None => {
                for (number, _) in group {
                    script = script.line(&format!("pgorch_mark {number} 2"));
                }
            }
        }
    }
    script
}

fn one(number: usize, body: &Script) -> String {
    format!("( eval {} ) </dev/null; pgorch_mark {number} $?", quote(body.as_str()))
}

/// The fragments of one OS user in one shell of that user.
fn as_user(user: &str, group: &[(usize, &Script)], mark: &str) -> Script {
    let mut inner = format!(
        "pgorch_mark() {{ printf '\\n%s %s %s\\n' {mark} \"$1\" \"$2\"; \
         printf '\\n%s %s %s\\n' {mark} \"$1\" \"$2\" >&2; }}\n"
    );
    for (number, body) in group {
        inner.push_str(&one(*number, body));
        inner.push('\n');
    }
    Script::raw(format!(
        "runuser -u {} -- sh <<'PGORCH_USER_EOF'\n{inner}PGORCH_USER_EOF",
        quote(user)
    ))
}

/// The queries of one database in one psql session. The socket is looked for first: starting psql
/// for nothing costs more than all other probes together.
fn through_psql(psql: &Psql, database: &str, group: &[(usize, &str)], mark: &str) -> Script {
    let socket = format!("{}/.s.PGSQL.{}", psql.socket_dir, psql.port);
    let program = format!("{}/psql", psql.bin_dir);
    let mut text = format!("if [ -S {} ]; then\n", quote(&socket));
    text.push_str(&format!("p={}; [ -x \"$p\" ] || p=psql\n", quote(&program)));
    // A name given with -d could be read as a connection string (it may hold "=").
    text.push_str(&format!(
        "cd / && PGDATABASE={} PGCONNECT_TIMEOUT={CONNECT_SECONDS} runuser -u postgres -- \
         timeout -k 1 {SESSION_SECONDS} \"$p\" -XAtqw -h {} -p {} <<'PGORCH_SQL_EOF'\n",
        quote(database),
        quote(&psql.socket_dir),
        psql.port
    ));
    // Before 15 anyone may create functions in schema public; none of them may be found first.
    text.push_str("SET search_path = pg_catalog;\n");
    text.push_str("SET statement_timeout = '20s'; SET lock_timeout = '5s';\n");
    // pg_file_settings reads the files anew, and each included file that is not there would be told in the
    // server's log, with all of the question, at every look. Only a superuser may say so.
    text.push_str(
        "DO $$ BEGIN IF current_setting('is_superuser') = 'on' THEN \
         PERFORM set_config('log_min_messages', 'fatal', false); END IF; END $$;\n",
    );
    for (number, sql) in group {
        let sql = sql.trim().trim_end_matches(';');
        text.push_str(&format!("{sql};\n\\echo\n\\echo {mark} {number} :ERROR\n"));
        text.push_str(&format!("\\warn\n\\warn {mark} {number} :ERROR\n"));
    }
    text.push_str("PGORCH_SQL_EOF\nelse echo 'no server socket' >&2; fi\n");
    // What psql did not answer is answered here: there was no connection, or it broke.
    text.push_str(&format!("printf '\\n%s rest 2\\n' {mark}; printf '\\n%s rest 2\\n' {mark} >&2"));
    Script::raw(text)
}

/// The answers in the order of the fragments; `None` where the output has none at all, which
/// means that the script was cut short.
#[must_use]
pub fn split(stdout: &str, stderr: &str, count: usize, mark: &str) -> Vec<Option<Answer>> {
    let mut answers: Vec<Option<Answer>> = vec![None; count];
    for (number, rc, text) in sections(stdout, mark) {
        if let Some(number) = number
            && let Some(slot) = answers.get_mut(number)
        {
            *slot = Some(Answer { rc, stdout: text, stderr: String::new() });
        }
    }
    let mut rest = None;
    for (number, rc, text) in sections(stderr, mark) {
        match number {
            Some(number) => {
                if let Some(Some(answer)) = answers.get_mut(number) {
                    answer.stderr = text;
                }
            }
            None => rest = Some((rc, rest.map_or(text.clone(), |(_, t): (i32, String)| t + &text))),
        }
    }
    if let Some((rc, stderr)) = rest {
        for answer in answers.iter_mut().filter(|a| a.is_none()) {
            *answer = Some(Answer { rc, stdout: String::new(), stderr: stderr.clone() });
        }
    }
    answers
}

/// The text before each marker, with the marker's number (`None` for "rest") and status.
fn sections(text: &str, mark: &str) -> Vec<(Option<usize>, i32, String)> {
    let mut found = Vec::new();
    let mut body = String::new();
    for line in text.split_inclusive('\n') {
        let Some(words) = line.strip_prefix(mark).and_then(|l| l.strip_prefix(' ')) else {
            body.push_str(line);
            continue;
        };
        let (number, status) = words.trim_end().split_once(' ').unwrap_or((words.trim_end(), ""));
        let rc = match status {
            "false" => 0,
            "true" => 1,
            other => other.parse().unwrap_or(2),
        };
        // The newline before the marker is ours.
        if body.ends_with('\n') {
            body.pop();
        }
        found.push((number.parse().ok(), rc, std::mem::take(&mut body)));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::{compose, split};
    use crate::model::{Answer, Fragment, Script};

    fn run(fragments: &[Fragment]) -> Vec<Option<Answer>> {
        let script = compose(fragments, None, "MARK-1");
        let output = Command::new("sh")
            .arg("-c")
            .arg(script.as_str())
            .stdin(Stdio::null())
            .output()
            .expect("sh runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        split(&text(&output.stdout), &text(&output.stderr), fragments.len(), "MARK-1")
    }

    #[test]
    fn each_answer_has_its_own_output_and_status() {
        let sh = |text: &str| Fragment::sh(Script::raw(text), vec![]);
        let answers = run(&[
            sh("printf 'no newline'"),
            sh("echo out; echo err >&2; exit 3"),
            sh("if then syntax error"),
            sh("cat; echo \"it's\""),
            Fragment::sql("postgres", "SELECT 1"),
        ]);
        let answer = |i: usize| answers[i].clone().expect("answered");
        assert_eq!(answer(0).stdout, "no newline");
        assert_eq!(answer(1), Answer { rc: 3, stdout: "out\n".into(), stderr: "err\n".into() });
        assert_ne!(answer(2).rc, 0);
        assert_eq!(answer(3).stdout, "it's\n");
        assert_eq!(answer(4).rc, 2);
    }

    #[test]
    fn a_script_that_was_cut_short_leaves_none() {
        let cut = "one\nMARK-1 0 0\ntwo";
        let answers = split(cut, "", 2, "MARK-1");
        assert_eq!(answers[0].as_ref().map(|a| a.stdout.as_str()), Some("one"));
        assert_eq!(answers[1], None);
    }
}

//! The text that is sent to the standing shell. Pure.
//!
//! The remote end is `sh` reading commands from its standard input. dash reads that in blocks and
//! bash byte by byte, so nothing that runs may read it too: every request has `</dev/null`. A
//! request is `( eval '...' )`: in a subshell a script may `exit`, `set -e` or `cd` as it likes, and
//! `eval` keeps a syntax error inside. Then the marker follows on stdout and on stderr.

use crate::model::quote;

use super::super::target::Become;

/// The random words of one session. They are never in a shell variable, or `set` would show them.
#[derive(Debug, Clone)]
pub(super) struct Words {
    /// `@pgorch-<32 hex digits> `, before everything that we say.
    pub(super) marker: String,
    /// sudo's prompt. No `%` (sudo expands it) and no space.
    pub(super) prompt: String,
}

/// What a request's own exit status 125 means if the marker word `refuse` stands in stderr.
pub(super) const REFUSED: i32 = 125;

impl Words {
    pub(super) fn new(random: &str) -> Self {
        let (long, short) = (random, &random[..random.len().min(12)]);
        Words { marker: format!("@pgorch-{long} "), prompt: format!("pgorch-asks-{short}:") }
    }

    /// The command for the exec request. The user's login shell interprets it, which may be fish
    /// or csh: plain words and single quotes only. `exec`, so that nothing stands between.
    ///
    /// Without a password `sudo -n` fails at once instead of asking, so that the requests can be
    /// sent with the command. With one, sudo tells by the word `root` when it has become root:
    /// what is sent earlier might be taken for the password, or the password for a command.
    /// `LC_ALL=C`, because sudo translates its messages.
    pub(super) fn command(&self, r#become: &Become) -> String {
        match r#become {
            Become::None => "exec sh -s".to_owned(),
            Become::Sudo { program, password: None } => {
                format!("exec env LC_ALL=C {} -n sh -s", quote(program))
            }
            Become::Sudo { program, password: Some(_) } => format!(
                "exec env LC_ALL=C {} -S -p {} sh -c 'echo {}root; exec sh -s'",
                quote(program),
                self.prompt,
                // Not as the word itself: a list of processes among a command's output would hold it.
                self.marker.replacen('@', "@\"\"", 1)
            ),
        }
    }

    /// The first thing the shell is told: settings, and the answer that shows that it listens.
    ///
    /// umask 022, not 077: package scripts create files with it. What is secret sets its own mode.
    pub(super) fn hello(&self, r#become: &Become) -> String {
        let home = match r#become {
            Become::None => "",
            // Older Ubuntu's sudo keeps the caller's HOME.
            Become::Sudo { .. } => "HOME=~root; export HOME\n",
        };
        let m = &self.marker;
        format!(
            "unset ENV BASH_ENV CDPATH\n\
             PATH=\"${{PATH:-/usr/bin:/bin}}:/usr/local/sbin:/usr/sbin:/sbin\" LC_ALL=C\n\
             export PATH LC_ALL; umask 022\n{home}\
             pgorch_uid=$(id -u); read -r pgorch_s </proc/$$/stat; set -- ${{pgorch_s##*) }}\n\
             printf '{m}ready %s %s %s %s %s\\n' \"$$\" \"$3\" \"$pgorch_uid\" \
             \"${{BASH_VERSION:+bash}}-\" \"${{LANG:-}}\"\n\
             printf '{m}ready\\n' >&2; set --; unset pgorch_s\n"
        )
    }

    /// One request.
    pub(super) fn request(&self, seq: u64, script: &str, user: Option<&str>) -> String {
        let m = &self.marker;
        let body = match user {
            None => format!("eval {}", quote_script(script)),
            Some(user) => self.as_user(script, user),
        };
        format!(
            "(\n{body}\n) </dev/null\n\
             printf '{m}%s %s\\n' {seq} $?; printf '{m}%s 0\\n' {seq} >&2\n"
        )
    }

    /// The script as another user, as root, without files of ours that the user would have to read.
    ///
    /// The script goes through a pipe from `printf`, a builtin, so that no process list and no
    /// temporary file has it; inside it is wrapped again, for the inner shell must not have its
    /// input read either. `setpriv` where it is there: it logs nothing and runs no PAM session.
    fn as_user(&self, script: &str, user: &str) -> String {
        let (m, u) = (&self.marker, quote(user));
        let inner = quote_script(&format!("eval {} </dev/null\n", quote_script(script)));
        let eval = format!("eval {}", quote_script(script));
        format!(
            "pgorch_p=$(getent passwd {u}) || {{ printf '{m}refuse user\\n' >&2; exit {REFUSED}; }}\n\
             IFS=: read -r _ _ pgorch_u pgorch_g _ pgorch_h _ <<PGORCH_PASSWD\n$pgorch_p\nPGORCH_PASSWD\n\
             if [ \"$pgorch_u\" = \"$pgorch_uid\" ]; then\n{eval}\nexit\nfi\n\
             [ \"$pgorch_uid\" = 0 ] || {{ printf '{m}refuse root\\n' >&2; exit {REFUSED}; }}\n\
             cd / || exit\n\
             HOME=$pgorch_h USER={u} LOGNAME={u} SHELL=/bin/sh; export HOME USER LOGNAME SHELL\n\
             if command -v setpriv >/dev/null; then\n\
             set -- setpriv --reuid \"$pgorch_u\" --regid \"$pgorch_g\" --init-groups --\n\
             else set -- runuser -u {u} --; fi\n\
             unset pgorch_p\n\
             printf '%s' {inner} | \"$@\" sh -s"
        )
    }
}

/// Always in single quotes: a script is never a plain word.
fn quote_script(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The script that ends a shell and everything below it: SIGTERM, then SIGKILL after the grace.
///
/// The process group reaches all ordinary children, the walk over /proc those that have made a
/// session of their own (`su -c` does). Says `gone` or `alive`.
pub(super) fn stop_script(pid: u32, group: u32, grace: std::time::Duration) -> String {
    // A group of 0 or 1 would be our own or everybody's.
    let group = if group > 1 { format!("-{group}") } else { String::new() };
    let tenths = grace.as_millis() / 100;
    format!(
        r#"all=" {pid} "; group='{group}'
field() {{ l=; read -r l 2>/dev/null <"/proc/$1/stat" || return 1; set -- ${{l##*) }}; s=$1 pp=$2 pg=$3; }}
grow=1
while [ $grow = 1 ]; do
  grow=0
  for d in /proc/[0-9]*; do
    p=${{d#/proc/}}
    case $all in *" $p "*) continue;; esac
    field "$p" || continue
    case $all in *" $pp "*) all="$all$p "; grow=1; continue;; esac
    if [ "-$pg" = "$group" ]; then all="$all$p "; grow=1; fi
  done
done
alive() {{ for p in $all; do if field "$p"; then case $s in Z|X) ;; *) return 0;; esac; fi; done; return 1; }}
tell() {{ [ -z "$group" ] || kill -s "$1" -- "$group" 2>/dev/null; for p in $all; do kill -s "$1" "$p" 2>/dev/null; done; }}
tell TERM
i=0
while alive && [ $i -lt {tenths} ]; do sleep 0.1; i=$((i+1)); done
if alive; then tell KILL; i=0; while alive && [ $i -lt 20 ]; do sleep 0.1; i=$((i+1)); done; fi
if alive; then echo alive; else echo gone; fi
"#
    )
}

#[cfg(test)]
mod tests {
    use super::{Become, Words};
    use crate::model::Secret;

    #[test]
    fn no_secret_is_in_the_command() {
        let words = Words::new("0123456789abcdef0123456789abcdef");
        let command = words.command(&Become::sudo(Some(Secret::new("hunter22"))));
        assert!(!command.contains("hunter22"));
        assert_eq!(
            command,
            "exec env LC_ALL=C sudo -S -p pgorch-asks-0123456789ab: sh -c \
             'echo @\"\"pgorch-0123456789abcdef0123456789abcdef root; exec sh -s'"
        );
    }
}

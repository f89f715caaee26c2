//! Why a shell did not start, and why a request has no result.

use std::time::Duration;

use super::super::error::ChannelError;
use super::super::exec::Output;

/// The standing shell did not come up. Except after `Lost` and `TimedOut`, nothing that was asked
/// of it has run or will.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShellError {
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error("{host}: sshd refused to run a command; is there a ForceCommand or a locked account?")]
    Refused { host: String },
    #[error(
        "{host}: sudo wants a password for {user}; give one (--ask-become-pass, \
         `become_password`) or allow NOPASSWD"
    )]
    SudoWantsPassword { host: String, user: String },
    #[error("{host}: the sudo password of {user} is wrong")]
    SudoWrongPassword { host: String, user: String },
    #[error("{host}: {user} may not use sudo ({said}); add a sudoers rule, or log in as root")]
    SudoNotAllowed { host: String, user: String, said: String },
    #[error("{host}: {program} is not installed; install it, or log in as root")]
    SudoMissing { host: String, program: String },
    #[error("{host}: sudo insists on a terminal; remove `Defaults requiretty` for {user}")]
    SudoNeedsTerminal { host: String, user: String },
    #[error("{host}: sudo failed ({said})")]
    Sudo { host: String, said: String },
    #[error("{host}: the login of {user} ended before a shell started ({said})")]
    NoShell { host: String, user: String, said: String },
    #[error(
        "{host}: the shell said nothing within {} s; does the login profile of {user} hang? \
         ({said})", after.as_secs_f32()
    )]
    TimedOut { host: String, user: String, after: Duration, said: String },
    #[error("{host}: the connection was lost while the shell started ({cause})")]
    Lost { host: String, cause: String },
}

/// A request without a result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The shell never started: the request has not run.
    #[error(transparent)]
    Start(#[from] ShellError),
    /// The shell had ended before the request was sent: it has not run.
    #[error("{host}: not sent: {why}")]
    NotRun { host: String, why: String },
    /// The OUTCOME IS UNKNOWN: it may have run wholly, partly or not at all, or be running still.
    /// Look at the host before anything is repeated.
    #[error(
        "{host}: the connection was lost while a command ran ({cause}); its outcome is unknown"
    )]
    Lost { host: String, cause: String, partial: Box<Output> },
    /// It ran for too long. `stopped`: its processes are gone; otherwise they may run on.
    #[error(
        "{host}: no end within {} s; {}", after.as_secs_f32(), stopped_text(*stopped)
    )]
    TimedOut { host: String, after: Duration, stopped: bool, partial: Box<Output> },
    /// [`super::Interrupter::interrupt`] was called.
    #[error("{host}: interrupted; {}", stopped_text(*stopped))]
    Interrupted { host: String, stopped: bool, partial: Box<Output> },
    #[error("{host}: there is no user {user}")]
    NoUser { host: String, user: String },
    #[error(
        "{host}: running as {user} needs root: log in as root, as {user}, or set `become: true`"
    )]
    NeedsRoot { host: String, user: String },
}

fn stopped_text(stopped: bool) -> &'static str {
    if stopped { "its processes were stopped" } else { "its processes may be running still" }
}

/// Reads sudo's or the login shell's last words. `said` is both streams, `status` the exit status.
pub(super) fn why_no_shell(
    host: &str,
    user: &str,
    sudo: Option<(&str, bool)>,
    said: &str,
    status: Option<i32>,
) -> ShellError {
    let (host, user) = (host.to_owned(), user.to_owned());
    let last = last_words(said, status);
    let Some((program, has_password)) = sudo else {
        return ShellError::NoShell { host, user, said: last };
    };
    let has = |needles: &[&str]| needles.iter().any(|n| said.contains(n));
    if status == Some(127) && has(&["No such file", "not found"]) {
        return ShellError::SudoMissing { host, program: program.to_owned() };
    }
    if has(&["must have a tty"]) {
        return ShellError::SudoNeedsTerminal { host, user };
    }
    // The second ones are sudo-rs.
    if has(&["not in the sudoers", "may not run sudo", "is not allowed to", "I'm afraid I can't"]) {
        return ShellError::SudoNotAllowed { host, user, said: last };
    }
    if has(&["incorrect password", "Sorry, try again", "Authentication failed"]) && has_password {
        return ShellError::SudoWrongPassword { host, user };
    }
    let wants = ["password is required", "authentication is required", "terminal is required"];
    if has(&wants) {
        return ShellError::SudoWantsPassword { host, user };
    }
    ShellError::Sudo { host, said: last }
}

/// The last lines of a text, short enough for one line.
pub(super) fn last_words(said: &str, status: Option<i32>) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let tail = lines[lines.len().saturating_sub(3)..].join("; ");
    match (tail.is_empty(), status) {
        (false, _) => tail.chars().take(400).collect(),
        (true, Some(status)) => format!("exit status {status}"),
        (true, None) => "it said nothing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{ShellError, why_no_shell};

    #[test]
    fn sudo_is_understood() {
        let why = |said: &str, password: bool, status: i32| {
            why_no_shell("n1", "ada", Some(("sudo", password)), said, Some(status))
        };
        let (host, user) = ("n1".to_owned(), "ada".to_owned());
        for said in
            ["sudo: a password is required\n", "sudo: interactive authentication is required"]
        {
            let expected = ShellError::SudoWantsPassword { host: host.clone(), user: user.clone() };
            assert_eq!(why(said, false, 1), expected);
        }
        let missing = why("env: 'sudo': No such file or directory\n", false, 127);
        assert_eq!(missing, ShellError::SudoMissing { host: host.clone(), program: "sudo".into() });
        let tty = why("sudo: sorry, you must have a tty to run sudo\n", false, 1);
        assert_eq!(tty, ShellError::SudoNeedsTerminal { host: host.clone(), user: user.clone() });
        let denied = why("ada is not in the sudoers file.\n", true, 1);
        assert!(matches!(denied, ShellError::SudoNotAllowed { .. }), "{denied}");
        let wrong = why("Sorry, try again.\nsudo: 1 incorrect password attempt\n", true, 1);
        assert_eq!(wrong, ShellError::SudoWrongPassword { host, user });
    }
}

//! Runs other programs: argument vectors in, text or a typed error out.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use super::LabError;

/// Where the programs are; root's `PATH` under cron or sudo often lacks the sbin directories.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs `argv` and returns its standard output; `doing` names the purpose in the error.
pub(super) fn run<S: AsRef<OsStr>>(doing: &str, argv: &[S]) -> Result<String, LabError> {
    run_with_input(doing, argv, b"")
}

/// As [`run`], with `input` on the program's standard input.
pub(super) fn run_with_input<S: AsRef<OsStr>>(
    doing: &str,
    argv: &[S],
    input: &[u8],
) -> Result<String, LabError> {
    let output = output(argv, input).map_err(|source| LabError::Command {
        doing: doing.to_owned(),
        host: None,
        command: display(argv),
        ended: format!("could not be run: {source}"),
        output: String::new(),
    })?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    Err(LabError::Command {
        doing: doing.to_owned(),
        host: None,
        command: display(argv),
        ended: format!("ended with {}", output.status),
        output: format!("{stdout}\n{}", String::from_utf8_lossy(&output.stderr)),
    })
}

/// Whether `argv` ran and exited 0. For questions such as `iptables -C`.
pub(super) fn succeeds<S: AsRef<OsStr>>(argv: &[S]) -> bool {
    output(argv, b"").is_ok_and(|output| output.status.success())
}

fn output<S: AsRef<OsStr>>(argv: &[S], input: &[u8]) -> std::io::Result<Output> {
    let (program, arguments) =
        argv.split_first().ok_or_else(|| std::io::Error::other("empty command"))?;
    let mut command = Command::new(program);
    // Secrets of the inventory may be in pgorch's environment, and are nobody else's business.
    command.env_clear().envs(std::env::vars_os().filter(|(name, _)| is_passed_on(name)));
    command.args(arguments).env("PATH", PATH).env("LC_ALL", "C");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    if input.is_empty() {
        return command.stdin(Stdio::null()).output();
    }
    let mut child = command.stdin(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that fails early closes its end; its status tells more than EPIPE.
        let _ = stdin.write_all(input);
    }
    child.wait_with_output()
}

/// What the package tools need of the environment: where to work, and how to get out.
fn is_passed_on(name: &OsStr) -> bool {
    const NAMES: [&str; 7] = [
        "HOME",
        "TMPDIR",
        "APT_CONFIG",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "DEBIAN_FRONTEND",
        "TERM",
    ];
    let name = name.to_string_lossy();
    NAMES.contains(&name.as_ref()) || name.to_ascii_lowercase().ends_with("_proxy")
}

fn display<S: AsRef<OsStr>>(argv: &[S]) -> String {
    let words = argv.iter().map(|word| crate::model::quote(&word.as_ref().to_string_lossy()));
    words.collect::<Vec<_>>().join(" ")
}

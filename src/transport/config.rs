//! What `~/.ssh/config` says about a host, asked of OpenSSH itself with `ssh -G`.
//!
//! So Match, Include, tokens and canonicalization mean here what they mean to the user's own ssh.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::clock::Clock;

/// `ssh -G` takes about 8 ms; Match exec may run anything.
const ANSWER: Duration = Duration::from_secs(10);

/// The settings of one host that pgorch honours; those that are absent were not configured.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SshConfig {
    pub hostname: Option<String>,
    pub user: Option<String>,
    pub port: Option<u16>,
    pub identity_files: Vec<String>,
    pub certificate_files: Vec<String>,
    /// `none`, `SSH_AUTH_SOCK`, `$NAME` or a path.
    pub identity_agent: Option<String>,
    pub identities_only: bool,
    pub proxy_jump: Option<String>,
    pub proxy_command: Option<String>,
    pub user_known_hosts: Vec<String>,
    pub global_known_hosts: Vec<String>,
    pub host_key_alias: Option<String>,
    pub connect_timeout: Option<Duration>,
}

/// Words that change how we connect. A configuration without them need not be asked.
const RELEVANT: [&str; 19] = [
    "match",
    "hostname",
    "user",
    "port",
    "identityfile",
    "certificatefile",
    "identityagent",
    "identitiesonly",
    "proxyjump",
    "proxycommand",
    "userknownhostsfile",
    "globalknownhostsfile",
    "hostkeyalias",
    "connecttimeout",
    "canonicalizehostname",
    "canonicaldomains",
    "tag",
    "addressfamily",
    "knownhostscommand",
];

/// Whether a configuration file has anything that matters to us. Saves a process per host where
/// it has not: Debian's own /etc/ssh/ssh_config does not. `included` tells the same about the
/// files of an Include.
#[must_use]
pub fn matters(text: &str, included: &dyn Fn(&str) -> bool) -> bool {
    text.lines().any(|line| {
        let line = line.trim_start();
        let end = line.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(line.len());
        let (word, rest) = line.split_at(end);
        let word = word.to_ascii_lowercase();
        if word == "include" {
            return rest.trim_start_matches(['=', ' ', '\t']).split_whitespace().any(included);
        }
        RELEVANT.contains(&word.as_str())
    })
}

/// [`matters`] for the user's and the system's files. A file that cannot be read may matter.
#[must_use]
pub fn files_matter(user: &Path, system: &Path) -> bool {
    let directory = system.parent().unwrap_or(Path::new("/")).to_owned();
    let one = |file: &Path, included: &dyn Fn(&str) -> bool| match std::fs::read(file) {
        Ok(bytes) => matters(&String::from_utf8_lossy(&bytes), included),
        Err(e) => e.kind() != std::io::ErrorKind::NotFound,
    };
    let system_include = |pattern: &str| {
        // Only the pattern that distributions ship is looked into; any other counts.
        let shipped = directory.join("ssh_config.d/*.conf");
        if Path::new(pattern) != shipped && pattern != "ssh_config.d/*.conf" {
            return true;
        }
        let Ok(entries) = std::fs::read_dir(directory.join("ssh_config.d")) else { return false };
        let files = entries.flatten().map(|e| e.path());
        let mut files = files.filter(|p| p.extension().is_some_and(|e| e == "conf"));
        files.any(|file| one(&file, &|_| true))
    };
    one(user, &|_| true) || one(system, &system_include)
}

/// Reads the answer of `ssh -G`: `keyword value` lines, keywords in lower case.
#[must_use]
pub fn parse(text: &str) -> SshConfig {
    let mut config = SshConfig::default();
    for line in text.lines() {
        let Some((word, value)) = line.split_once(' ') else { continue };
        let some = || Some(value.trim().to_owned());
        let unless_none = || some().filter(|v| v != "none");
        match word {
            "hostname" => config.hostname = some(),
            "user" => config.user = some(),
            "port" => config.port = value.trim().parse().ok(),
            "identityfile" => config.identity_files.extend(unless_none()),
            "certificatefile" => config.certificate_files.extend(unless_none()),
            "identityagent" => config.identity_agent = some(),
            "identitiesonly" => config.identities_only = value.trim() == "yes",
            "proxyjump" => config.proxy_jump = unless_none(),
            "proxycommand" => config.proxy_command = unless_none(),
            "userknownhostsfile" => config.user_known_hosts = paths(value),
            "globalknownhostsfile" => config.global_known_hosts = paths(value),
            "hostkeyalias" => config.host_key_alias = some(),
            "connecttimeout" => {
                config.connect_timeout = value.trim().parse().ok().map(Duration::from_secs);
            }
            _ => {}
        }
    }
    config
}

/// Several paths in one value. `ssh -G` drops the quotes, so a word that does not begin like a path
/// belongs to the one before it.
fn paths(value: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for word in value.split(' ').filter(|w| !w.is_empty() && *w != "none") {
        match found.last_mut() {
            Some(last) if !word.starts_with(['/', '~', '%']) => {
                last.push(' ');
                last.push_str(word);
            }
            _ => found.push(word.to_owned()),
        }
    }
    found
}

/// Why `ssh -G` gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AskError {
    /// There is no ssh program here: nothing to honour.
    NoProgram,
    Failed(String),
}

/// Runs `ssh -G` for one host. `user` and `port` are given along, for Match blocks.
pub(super) async fn ask(
    clock: Clock,
    program: &Path,
    host: &str,
    user: Option<&str>,
    port: Option<u16>,
) -> Result<SshConfig, AskError> {
    let mut command = tokio::process::Command::new(program);
    command.arg("-G").stdin(Stdio::null()).kill_on_drop(true);
    if let Some(user) = user {
        command.args(["-l", user]);
    }
    if let Some(port) = port {
        command.args(["-p", &port.to_string()]);
    }
    command.args(["--", host]);
    match clock.within(ANSWER, command.output()).await {
        None => Err(AskError::Failed(format!("no answer within {} s", ANSWER.as_secs()))),
        Some(Err(e)) if e.kind() == std::io::ErrorKind::NotFound => Err(AskError::NoProgram),
        Some(Err(e)) => Err(AskError::Failed(e.to_string())),
        Some(Ok(output)) if output.status.success() => {
            Ok(parse(&String::from_utf8_lossy(&output.stdout)))
        }
        Some(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(AskError::Failed(said.trim().replace('\n', "; ")))
        }
    }
}

/// `~`, `%d` and the like in a path of the configuration.
pub(super) fn expand(path: &str, home: &Path, host: &str, user: &str, port: u16) -> PathBuf {
    let mut out = String::new();
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        match (c, c == '%') {
            (_, true) => match chars.next() {
                Some('d') => out.push_str(&home.to_string_lossy()),
                Some('h') => out.push_str(host),
                Some('r') => out.push_str(user),
                Some('p') => out.push_str(&port.to_string()),
                Some('%') => out.push('%'),
                Some(other) => out.extend(['%', other]),
                None => out.push('%'),
            },
            _ => out.push(c),
        }
    }
    match out.strip_prefix("~/") {
        Some(rest) => home.join(rest),
        None => PathBuf::from(out),
    }
}

//! Where to connect and how: everything resolved, nothing left to look up.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::model::Secret;

/// A host as it will be dialled. Made by [`super::Resolver`] or by hand (lab, tests).
#[derive(Debug, Clone)]
pub struct Target {
    /// The inventory's name; every error text begins with it.
    pub name: String,
    /// Address or DNS name to dial (after `HostName` of ssh_config).
    pub host: String,
    pub port: u16,
    pub user: String,
    /// Key files, in the order to try them.
    pub identities: Vec<Identity>,
    /// OpenSSH user certificates, besides each key's `<path>-cert.pub`; each goes with the key that
    /// it certifies.
    pub certificates: Vec<PathBuf>,
    /// Offer only `identities` (from the agent or the file), not every key that the agent has.
    pub identities_only: bool,
    /// Socket of the ssh-agent; `None` uses no agent.
    pub agent: Option<PathBuf>,
    /// Login password, the last resort after all keys.
    pub password: Option<Secret>,
    pub r#become: Become,
    /// The jump host to go through; its own `jump` makes a chain.
    pub jump: Option<Box<Target>>,
    /// The first file is the one that accept-new and `trust` write to.
    pub known_hosts: Vec<PathBuf>,
    pub host_keys: HostKeys,
    /// Name to look up in known_hosts instead of `host` (ssh_config's `HostKeyAlias`).
    pub host_key_alias: Option<String>,
    pub timeouts: Timeouts,
}

/// One private key file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub path: PathBuf,
    /// Named by the user: tried before the agent's keys, and it is an error if it cannot be read.
    pub explicit: bool,
}

impl Identity {
    /// A key that the user named.
    #[must_use]
    pub fn explicit(path: impl Into<PathBuf>) -> Self {
        Identity { path: path.into(), explicit: true }
    }

    /// A key from the usual places, which may not exist.
    #[must_use]
    pub fn usual(path: impl Into<PathBuf>) -> Self {
        Identity { path: path.into(), explicit: false }
    }
}

/// How root rights are had on the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Become {
    /// Not at all: commands run as the login user.
    #[default]
    None,
    /// Through sudo (or a program with its command line: `sudo-rs`).
    Sudo { program: String, password: Option<Secret> },
}

impl Become {
    /// The ordinary `sudo`.
    #[must_use]
    pub fn sudo(password: Option<Secret>) -> Self {
        Become::Sudo { program: "sudo".to_owned(), password }
    }
}

/// What to do with a host key that no known_hosts file has. A changed or revoked key is refused
/// whatever this says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostKeys {
    #[default]
    Strict,
    /// Store it and go on (`--accept-new`).
    AcceptNew,
}

/// Deadlines and limits of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For the whole dial: name, TCP, key exchange and authentication; each jump host adds its own.
    pub connect: Duration,
    /// A dead peer is noticed after `keepalive * (keepalive_max + 1)`.
    pub keepalive: Duration,
    pub keepalive_max: usize,
    /// For opening a channel, refusals for lack of sessions and waiting for our own limit included.
    pub channel: Duration,
    /// From starting a shell to its first word (login profile, sudo, PAM).
    pub shell_start: Duration,
    /// Between SIGTERM and SIGKILL when a command is stopped.
    pub grace: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(10),
            keepalive: Duration::from_secs(5),
            keepalive_max: 3,
            channel: Duration::from_secs(20),
            shell_start: Duration::from_secs(20),
            grace: Duration::from_secs(5),
        }
    }
}

impl Timeouts {
    /// For an operation: while it waits for a dead host clients wait too. sshd answers keepalives however
    /// long a command runs, so that only the host's own silence counts: three seconds of it.
    #[must_use]
    pub fn watchful(self) -> Self {
        Timeouts { keepalive: Duration::from_secs(1), keepalive_max: 2, ..self }
    }
}

impl Target {
    /// A target with defaults: port 22, no keys, strict host keys, no known_hosts file.
    #[must_use]
    pub fn new(name: &str, host: &str, user: &str) -> Self {
        Target {
            name: name.to_owned(),
            host: host.to_owned(),
            port: 22,
            user: user.to_owned(),
            identities: Vec::new(),
            certificates: Vec::new(),
            identities_only: false,
            agent: None,
            password: None,
            r#become: Become::None,
            jump: None,
            known_hosts: Vec::new(),
            host_keys: HostKeys::Strict,
            host_key_alias: None,
            timeouts: Timeouts::default(),
        }
    }

    /// The name that known_hosts files have for this host: `host`, or `[host]:port` off port 22
    /// (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT); the alias stands alone, without a port.
    #[must_use]
    pub fn known_hosts_name(&self) -> String {
        match &self.host_key_alias {
            Some(alias) => alias.to_lowercase(),
            None => super::known_hosts::lookup_name(&self.host, self.port),
        }
    }

    /// How long a silent peer is believed in.
    #[must_use]
    pub fn dead_after(&self) -> Duration {
        let beats =
            u32::try_from(self.timeouts.keepalive_max).unwrap_or(u32::MAX).saturating_add(1);
        self.timeouts.keepalive.saturating_mul(beats)
    }

    /// `user@host:port`, which tells two connections apart.
    #[must_use]
    pub fn address(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{}@{host}:{}", self.user, self.port)
    }
}

/// Asks the user; implemented by the user interface. Called from a blocking thread.
pub trait Prompts: Send + Sync {
    /// The passphrase of an encrypted key, or `None` when nobody can be asked. `attempt` counts
    /// from 1 and is above 1 after a wrong answer.
    fn passphrase(&self, key: &Path, attempt: u32) -> Option<Secret>;
}

/// Nobody can be asked: CI, `watch`.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPrompts;

impl Prompts for NoPrompts {
    fn passphrase(&self, _key: &Path, _attempt: u32) -> Option<Secret> {
        None
    }
}

/// A shared [`Prompts`].
pub type SharedPrompts = Arc<dyn Prompts>;

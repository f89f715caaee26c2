//! Why a connection could not be made. Each text says host, stage and what to do.

use std::path::PathBuf;
use std::time::Duration;

use super::known_hosts::Place;

/// How far the dial had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Name,
    Tcp,
    Handshake,
    Authentication,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Stage::Name => "resolving its name",
            Stage::Tcp => "connecting",
            Stage::Handshake => "the SSH handshake",
            Stage::Authentication => "authentication",
        })
    }
}

/// A host that could not be connected to. Nothing has run on it.
#[derive(Debug, thiserror::Error)]
#[error("{host}: {kind}")]
pub struct ConnectError {
    /// The inventory's name of the host.
    pub host: String,
    pub kind: ConnectErrorKind,
}

/// What went wrong, with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ConnectErrorKind {
    #[error("the name {name} does not resolve ({cause}); correct `host` or DNS")]
    NameNotResolved { name: String, cause: String },
    #[error(
        "no route to {address} ({cause}); is the host up, and is there a network between here and it?"
    )]
    NoRoute { address: String, cause: String },
    #[error(
        "{address} refuses connections; is sshd running there, and is the port right (`ssh: {{port}}`)?"
    )]
    Refused { address: String },
    #[error("connecting to {address} failed ({cause})")]
    Tcp { address: String, cause: String },
    #[error("no answer within {} s during {stage} of {address}; {}", after.as_secs_f32(), timeout_hint(*stage))]
    TimedOut { address: String, stage: Stage, after: Duration },
    #[error("the SSH handshake with {address} failed ({cause}); is this an SSH server?")]
    Handshake { address: String, cause: String },
    #[error(
        "the host key of {name} is not known: {algorithm} {fingerprint}; compare it, then run \
         `pgorch trust {}` (or pass --accept-new)",
        host
    )]
    UnknownHostKey { host: String, name: String, algorithm: String, fingerprint: String },
    #[error(
        "THE HOST KEY OF {name} HAS CHANGED: it shows {algorithm} {fingerprint}, and {place} has \
         another key; if the host was reinstalled, remove that line and run `pgorch trust`, else \
         somebody may be listening in"
    )]
    ChangedHostKey { name: String, algorithm: String, fingerprint: String, place: Place },
    #[error("the host key of {name} ({fingerprint}) is marked @revoked at {place}; do not connect")]
    RevokedHostKey { name: String, fingerprint: String, place: Place },
    #[error("the host certificate of {name} is refused: {why}")]
    BadHostCertificate { name: String, why: String },
    #[error("cannot read {} ({cause}); host keys cannot be checked without it", file.display())]
    KnownHostsUnreadable { file: PathBuf, cause: String },
    #[error("cannot store the new host key in {} ({cause})", file.display())]
    KnownHostsUnwritable { file: PathBuf, cause: String },
    #[error("{user} was not let in: {}; {}", tried_text(tried), methods_text(remaining))]
    NotAccepted { user: String, tried: Vec<String>, remaining: Vec<String> },
    #[error(
        "the server hung up after {} keys ({}); name the right one with `identity_file`, or set \
         IdentitiesOnly in ssh_config", tried.len(), tried.join(", ")
    )]
    TooManyKeys { tried: Vec<String> },
    #[error("{0}")]
    Key(#[from] KeyError),
    #[error("the ssh-agent at {} cannot be used ({cause}); start it or unset SSH_AUTH_SOCK", socket.display())]
    Agent { socket: PathBuf, cause: String },
    #[error("the connection broke during {stage} ({cause})")]
    Lost { stage: Stage, cause: String },
    #[error("the jump host failed: {0}")]
    Jump(Box<ConnectError>),
    #[error(
        "the jump host {jump} does not pass on to {address} ({cause}); is the host up, and \
         AllowTcpForwarding on there?"
    )]
    JumpRefused { jump: String, address: String, cause: String },
}

/// A private key that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("cannot read the key {} ({cause})", path.display())]
    Unreadable { path: PathBuf, cause: String },
    #[error("{} is not a private key that can be used ({cause})", path.display())]
    Malformed { path: PathBuf, cause: String },
    #[error(
        "the key {} is encrypted and there is no passphrase; load it into the ssh-agent \
         (`ssh-add {}`)", path.display(), path.display()
    )]
    Encrypted { path: PathBuf },
    #[error("wrong passphrase for the key {}", path.display())]
    WrongPassphrase { path: PathBuf },
}

fn timeout_hint(stage: Stage) -> &'static str {
    match stage {
        Stage::Name => "check DNS",
        Stage::Tcp => "is the host up, and does no firewall drop the packets?",
        Stage::Handshake => "something accepts connections there but does not speak SSH",
        Stage::Authentication => "the host is overloaded, or its user database does not answer",
    }
}

fn tried_text(tried: &[String]) -> String {
    match tried {
        [] => "there was nothing to try (no key file, no agent, no password)".to_owned(),
        tried => format!("tried {}", tried.join(", ")),
    }
}

fn methods_text(remaining: &[String]) -> String {
    match remaining {
        [] => "the server offers nothing else".to_owned(),
        methods => format!(
            "the server accepts {}; set `identity_file`, or --ask-pass for a password",
            methods.join(", ")
        ),
    }
}

/// A channel (session, forward) that could not be opened on a connection that stood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The connection is gone. Nothing was started on this channel.
    #[error("{host}: the connection was lost ({cause})")]
    Lost { host: String, cause: String },
    #[error("{host}: no session within {} s ({cause}); is MaxSessions of sshd too low?", after.as_secs_f32())]
    NoSession { host: String, after: Duration, cause: String },
    #[error("{host}: {what} was refused ({cause}); {hint}")]
    Refused { host: String, what: String, cause: String, hint: &'static str },
}

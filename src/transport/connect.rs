//! Dialling: name, TCP or jump host, key exchange, host key, authentication, all under one deadline.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::clock::Clock;

use super::auth::Auth;
use super::connection::Connection;
use super::deadline::Deadline;
use super::error::{ChannelError, ConnectError, ConnectErrorKind as Kind, Stage};
use super::host_check::{Client, HostCheck, LostCause, ScannedKey, cause_text};
use super::keyring::KeyRing;
use super::quick_ack::QuickAck;
use super::target::{SharedPrompts, Target};

pub(super) type SshHandle = client::Handle<Client>;

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
type JumpSlot = Arc<tokio::sync::Mutex<Option<Connection>>>;

/// Makes connections. One per process: it holds the unlocked keys and the connections to jump
/// hosts, which all targets share. Cheap to clone.
#[derive(Clone)]
pub struct Transport {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    keys: KeyRing,
    jumps: Mutex<HashMap<String, JumpSlot>>,
}

impl Transport {
    #[must_use]
    pub fn new(clock: Clock, prompts: SharedPrompts) -> Self {
        let keys = KeyRing::new(prompts);
        Transport { shared: Arc::new(Shared { clock, keys, jumps: Mutex::default() }) }
    }

    #[must_use]
    pub fn clock(&self) -> Clock {
        self.shared.clock
    }

    /// Dials and logs in. Takes at most `target.timeouts.connect`, not counting questions to the
    /// user and the dials of jump hosts, which have deadlines of their own.
    ///
    /// # Errors
    /// [`ConnectError`]; nothing has run on the host then.
    pub async fn connect(&self, target: &Target) -> Result<Connection, ConnectError> {
        self.dial(target).await.map_err(|kind| ConnectError { host: target.name.clone(), kind })
    }

    /// Asks a host for its key without logging in.
    ///
    /// # Errors
    /// As [`Transport::connect`], up to the handshake.
    pub async fn scan(&self, target: &Target) -> Result<ScannedKey, ConnectError> {
        let fail = |kind| ConnectError { host: target.name.clone(), kind };
        let check = Arc::new(HostCheck::new(target, self.shared.clock, true).map_err(fail)?);
        let jump = self.jump_of(target).await.map_err(fail)?;
        let deadline = Deadline::new(self.shared.clock, target.timeouts.connect);
        let shaken = self.shake(target, &check, jump.as_ref(), &deadline).await;
        match (check.seen(), shaken) {
            (Some(key), _) => Ok(key),
            (None, Err(kind)) => Err(fail(kind)),
            (None, Ok(_)) => Err(fail(Kind::Handshake {
                address: target.address(),
                cause: "no host key was shown".to_owned(),
            })),
        }
    }

    /// Boxed, because a jump host is dialled from within.
    fn dial<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Connection, Kind>> {
        Box::pin(async move {
            let check = Arc::new(HostCheck::new(target, self.shared.clock, false)?);
            let jump = self.jump_of(target).await?;
            let mut deadline = Deadline::new(self.shared.clock, target.timeouts.connect);
            let (mut handle, lost) = self.shake(target, &check, jump.as_ref(), &deadline).await?;
            let keys = &self.shared.keys;
            Auth::new(&mut handle, target, keys, &mut deadline, &lost).run().await?;
            Ok(Connection::new(target.clone(), self.shared.clock, handle, lost, jump))
        })
    }

    /// The transport stream and the SSH handshake over it.
    async fn shake(
        &self,
        target: &Target,
        check: &Arc<HostCheck>,
        jump: Option<&Connection>,
        deadline: &Deadline,
    ) -> Result<(SshHandle, LostCause), Kind> {
        let Some(jump) = jump else {
            let stream = tcp(target, deadline).await?;
            return handshake(target, check, stream, deadline).await;
        };
        match deadline.run(jump.forward_tcp(&target.host, target.port)).await {
            Some(Ok(channel)) => handshake(target, check, channel.into_stream(), deadline).await,
            Some(Err(ChannelError::Refused { host, cause, .. })) => {
                Err(Kind::JumpRefused { jump: host, address: target.address(), cause })
            }
            Some(Err(other)) => Err(Kind::JumpRefused {
                jump: jump.target().name.clone(),
                address: target.address(),
                cause: other.to_string(),
            }),
            None => Err(timed_out(target, Stage::Tcp, deadline)),
        }
    }

    /// The live connection to a target's jump host, shared by all targets behind it.
    async fn jump_of(&self, target: &Target) -> Result<Option<Connection>, Kind> {
        let Some(jump) = target.jump.as_deref() else { return Ok(None) };
        let slot = {
            let mut jumps = self.shared.jumps.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(jumps.entry(chain_key(jump)).or_default())
        };
        // One dial at a time per jump host; the others wait for it, each within its deadlines.
        let mut slot = slot.lock().await;
        if let Some(live) = slot.as_ref().filter(|c| c.lost().is_none()) {
            return Ok(Some(live.clone()));
        }
        let nested = |mut kind: Kind| {
            // `trust` knows jump hosts by the hosts behind them.
            if let Kind::UnknownHostKey { host, .. } = &mut kind {
                host.clone_from(&target.name);
            }
            Kind::Jump(Box::new(ConnectError { host: jump.name.clone(), kind }))
        };
        let fresh = self.dial(jump).await.map_err(nested)?;
        // sshd sets TCP_NODELAY on its side with the first session only; a connection that does
        // nothing but forward costs 40 ms per exchange (openssh-portable PR 551).
        fresh.warm_up().await;
        *slot = Some(fresh.clone());
        Ok(Some(fresh))
    }
}

/// Tells jump hosts apart, with the hosts before them.
fn chain_key(target: &Target) -> String {
    let before = target.jump.as_deref().map(chain_key).unwrap_or_default();
    format!("{before}>{}", target.address())
}

async fn tcp(target: &Target, deadline: &Deadline) -> Result<QuickAck, Kind> {
    let name = target.host.clone();
    let lookup = tokio::net::lookup_host((target.host.as_str(), target.port));
    let addresses: Vec<std::net::SocketAddr> = match deadline.run(lookup).await {
        None => return Err(timed_out(target, Stage::Name, deadline)),
        Some(Ok(found)) => found.collect(),
        Some(Err(e)) => return Err(Kind::NameNotResolved { name, cause: e.to_string() }),
    };
    let mut last = Kind::NameNotResolved { name, cause: "no addresses".to_owned() };
    for (index, address) in addresses.iter().enumerate() {
        // The addresses share the time that is left: a dead IPv6 must not eat IPv4's turn.
        let share = deadline.left() / u32::try_from(addresses.len() - index).unwrap_or(1);
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Err(_) => last = timed_out(target, Stage::Tcp, deadline),
            Ok(Err(e)) => last = tcp_error(&address.to_string(), &e),
            Ok(Ok(stream)) => {
                tune(&stream, target.dead_after());
                return Ok(QuickAck::new(stream));
            }
        }
    }
    Err(last)
}

/// Nagle's algorithm against delayed ACKs costs 40 ms per command; TCP_USER_TIMEOUT bounds how long
/// the kernel retries unacknowledged data. Failures are harmless: keepalives still watch.
fn tune(stream: &TcpStream, dead_after: Duration) {
    let _ = stream.set_nodelay(true);
    #[cfg(target_os = "linux")]
    {
        let millis = u32::try_from(dead_after.as_millis()).unwrap_or(u32::MAX);
        let _ = rustix::net::sockopt::set_tcp_user_timeout(stream, millis);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = dead_after;
}

fn tcp_error(address: &str, error: &std::io::Error) -> Kind {
    use std::io::ErrorKind as E;
    let (address, cause) = (address.to_owned(), error.to_string());
    match error.kind() {
        E::ConnectionRefused => Kind::Refused { address },
        E::HostUnreachable | E::NetworkUnreachable | E::NetworkDown => {
            Kind::NoRoute { address, cause }
        }
        _ => Kind::Tcp { address, cause },
    }
}

async fn handshake<S>(
    target: &Target,
    check: &Arc<HostCheck>,
    stream: S,
    deadline: &Deadline,
) -> Result<(SshHandle, LostCause), Kind>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let config = client::Config {
        client_id: russh::SshId::Standard(
            concat!("SSH-2.0-pgorch_", env!("CARGO_PKG_VERSION")).into(),
        ),
        nodelay: true,
        keepalive_interval: Some(target.timeouts.keepalive),
        keepalive_max: target.timeouts.keepalive_max,
        preferred: check.preferred(),
        ..client::Config::default()
    };
    let lost = LostCause::default();
    let client = Client { check: Arc::clone(check), lost: lost.clone() };
    // The library has no connect timeout: a peer that stays silent would hold it for ever.
    match deadline.run(client::connect_stream(Arc::new(config), stream, client)).await {
        None => Err(timed_out(target, Stage::Handshake, deadline)),
        Some(Ok(handle)) => Ok((handle, lost)),
        Some(Err(e)) => Err(check.take_refusal().unwrap_or_else(|| Kind::Handshake {
            address: target.address(),
            cause: lost.get().unwrap_or_else(|| cause_text(&e)),
        })),
    }
}

fn timed_out(target: &Target, stage: Stage, deadline: &Deadline) -> Kind {
    Kind::TimedOut { address: target.address(), stage, after: deadline.whole }
}

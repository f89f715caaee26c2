//! One SSH connection and its channels.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use russh::client::Msg;
use russh::{Channel, ChannelOpenFailure, Disconnect};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::Clock;

use super::connect::SshHandle;
use super::deadline::Deadline;
use super::error::ChannelError;
use super::host_check::{LostCause, cause_text};
use super::target::Target;

/// Session channels at a time. sshd's MaxSessions is 10, but it frees a slot later than we see the
/// close: with 6 in flight refusals begin. One more is kept free for stopping a command.
const SESSIONS: usize = 4;

/// A live connection to a host. Cheap to clone; all channels share the one TCP connection. It ends
/// when the last clone is dropped or with [`Connection::close`].
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

struct Inner {
    target: Target,
    clock: Clock,
    handle: SshHandle,
    lost: LostCause,
    sessions: Arc<Semaphore>,
    opened: AtomicU64,
    /// Kept alive: our bytes go through it.
    _jump: Option<Connection>,
}

/// An open session channel. While the permit lives it counts against our own limit: give it up
/// only after the channel is closed.
pub(super) struct Session {
    pub(super) channel: Channel<Msg>,
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    pub(super) fn new(
        target: Target,
        clock: Clock,
        handle: SshHandle,
        lost: LostCause,
        jump: Option<Connection>,
    ) -> Self {
        let sessions = Arc::new(Semaphore::new(SESSIONS));
        let opened = AtomicU64::new(0);
        Connection {
            inner: Arc::new(Inner { target, clock, handle, lost, sessions, opened, _jump: jump }),
        }
    }

    #[must_use]
    pub fn target(&self) -> &Target {
        &self.inner.target
    }

    #[must_use]
    pub fn clock(&self) -> Clock {
        self.inner.clock
    }

    /// How many session channels were opened so far; a no-op run needs one.
    #[must_use]
    pub fn sessions_opened(&self) -> u64 {
        self.inner.opened.load(Ordering::Relaxed)
    }

    /// Why the connection is gone, or `None` while nothing is known against it.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        let closed = || self.inner.handle.is_closed().then(|| "it was closed".to_owned());
        self.inner.lost.get().or_else(closed)
    }

    /// Says goodbye. What runs on the host is not stopped by this.
    pub async fn close(&self) {
        let goodbye = self.inner.handle.disconnect(Disconnect::ByApplication, "", "en");
        let _ = self.inner.clock.within(Duration::from_secs(1), goodbye).await;
    }

    pub(super) fn lost_cause(&self) -> String {
        self.lost().unwrap_or_else(|| "connection closed".to_owned())
    }

    /// A session channel within our own limit.
    pub(super) async fn session(&self) -> Result<Session, ChannelError> {
        let deadline = Deadline::new(self.inner.clock, self.inner.target.timeouts.channel);
        let permit = deadline.run(Arc::clone(&self.inner.sessions).acquire_owned()).await;
        let Some(Ok(permit)) = permit else {
            return Err(self.no_session(&deadline, "all of our own are in use"));
        };
        let channel = self.open(&deadline).await?;
        Ok(Session { channel, permit: Some(permit) })
    }

    /// A session channel beyond our own limit, for stopping what runs in another.
    pub(super) async fn extra_session(&self) -> Result<Session, ChannelError> {
        let deadline = Deadline::new(self.inner.clock, self.inner.target.timeouts.channel);
        Ok(Session { channel: self.open(&deadline).await?, permit: None })
    }

    /// sshd refuses a session above MaxSessions with the code that also means "port refused"; it
    /// may only be late in freeing one, so that is tried again.
    async fn open(&self, deadline: &Deadline) -> Result<Channel<Msg>, ChannelError> {
        let mut pause = Duration::from_millis(10);
        loop {
            let cause = match deadline.run(self.inner.handle.channel_open_session()).await {
                Some(Ok(channel)) => {
                    self.inner.opened.fetch_add(1, Ordering::Relaxed);
                    return Ok(channel);
                }
                None => return Err(self.no_session(deadline, "no answer")),
                Some(Err(russh::Error::ChannelOpenFailure(
                    reason @ (ChannelOpenFailure::ConnectFailed
                    | ChannelOpenFailure::ResourceShortage),
                ))) => reason.description().to_owned(),
                Some(Err(e)) => return Err(self.channel_error(&e, "a session", "see sshd_config")),
            };
            if deadline.left() <= pause {
                return Err(self.no_session(deadline, &cause));
            }
            self.inner.clock.sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    /// A TCP connection made by the host, carried in a channel. These do not count as sessions.
    pub(super) async fn forward_tcp(
        &self,
        host: &str,
        port: u16,
    ) -> Result<Channel<Msg>, ChannelError> {
        let open = self.inner.handle.channel_open_direct_tcpip(host, port.into(), "127.0.0.1", 0);
        let what = format!("a connection to {host}:{port}");
        self.forward(open, &what, "is it listening, and AllowTcpForwarding on in sshd?").await
    }

    /// A connection to a Unix socket on the host, carried in a channel.
    pub(super) async fn forward_unix(&self, path: &str) -> Result<Channel<Msg>, ChannelError> {
        let open = self.inner.handle.channel_open_direct_streamlocal(path);
        let what = format!("a connection to the socket {path}");
        let hint = "is the server up, may the login user enter its directory, and is \
                    AllowStreamLocalForwarding on in sshd?";
        self.forward(open, &what, hint).await
    }

    async fn forward(
        &self,
        open: impl Future<Output = Result<Channel<Msg>, russh::Error>>,
        what: &str,
        hint: &'static str,
    ) -> Result<Channel<Msg>, ChannelError> {
        let deadline = Deadline::new(self.inner.clock, self.inner.target.timeouts.channel);
        match deadline.run(open).await {
            Some(Ok(channel)) => Ok(channel),
            Some(Err(e)) => Err(self.channel_error(&e, what, hint)),
            None => Err(self.no_session(&deadline, "no answer")),
        }
    }

    fn channel_error(&self, error: &russh::Error, what: &str, hint: &'static str) -> ChannelError {
        let host = self.inner.target.name.clone();
        match error {
            russh::Error::ChannelOpenFailure(reason) => ChannelError::Refused {
                host,
                what: what.to_owned(),
                cause: reason.description().to_owned(),
                hint,
            },
            other => {
                let cause = self.lost().unwrap_or_else(|| cause_text(other));
                ChannelError::Lost { host, cause }
            }
        }
    }

    fn no_session(&self, deadline: &Deadline, cause: &str) -> ChannelError {
        let host = self.inner.target.name.clone();
        ChannelError::NoSession { host, after: deadline.whole, cause: cause.to_owned() }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({})", self.inner.target.name)
    }
}

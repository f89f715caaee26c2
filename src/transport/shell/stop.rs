//! Stopping what a shell runs. Dropping or closing its channel would leave the processes running
//! on the host and keep the session's slot.

use std::sync::Arc;
use std::time::Duration;

use russh::client::Msg;
use russh::{ChannelWriteHalf, Sig};

use crate::model::Script;

use super::super::connection::Connection;
use super::protocol::stop_script;
use super::state::{Cell, Hello, Start, Stop};
use super::{Rights, Shell};

/// How long to wait for the second session that does the stopping, beyond the grace.
const REACH: Duration = Duration::from_secs(10);

/// Stops the processes of one [`Shell`]. Cheap to clone; outlives the shell harmlessly.
#[derive(Clone)]
pub struct Interrupter {
    pub(super) connection: Connection,
    pub(super) rights: Rights,
    pub(super) cell: Arc<Cell>,
    pub(super) write: Arc<ChannelWriteHalf<Msg>>,
}

impl Interrupter {
    /// Stops what the shell runs, and the shell: SIGTERM to its processes, SIGKILL after
    /// `timeouts.grace`. Requests under way then end with `RunError::Interrupted`. Returns whether
    /// the processes are known to be gone.
    pub async fn interrupt(&self) -> bool {
        self.stop_processes().await
    }

    pub(super) async fn stop_processes(&self) -> bool {
        match self.begin() {
            Stop::No => {}
            Stop::Done { gone } => return gone,
            Stop::Stopping => return self.wait_stopped().await,
        }
        let limit = self.connection.target().timeouts.grace + REACH * 2;
        let told = async {
            let hello = self.known_pid().await?;
            self.by_helper(&hello).await
        };
        // Boxed: the helper is a shell too, whose own timeouts would stop processes.
        let told: std::pin::Pin<Box<dyn Future<Output = _> + Send + '_>> = Box::pin(told);
        let gone = match self.connection.clock().within(limit, told).await.flatten() {
            Some(gone) => gone,
            None => self.by_signal().await,
        };
        let _ = self.write.eof().await;
        self.cell.lock().stop = Stop::Done { gone };
        self.cell.ring();
        gone
    }

    /// The state as it was.
    fn begin(&self) -> Stop {
        let mut state = self.cell.lock();
        let before = state.stop;
        if before == Stop::No {
            state.stop = Stop::Stopping;
        }
        // Never ring with the lock held: a listener's condition takes it inside the bell's own.
        drop(state);
        self.cell.ring();
        before
    }

    /// Whom to stop. A shell that is only starting has its requests already and would still run
    /// them: it is waited for.
    async fn known_pid(&self) -> Option<Hello> {
        let mut bell = self.cell.listen();
        let settled = |cell: &Cell| match &cell.lock().start {
            Start::Pending => None,
            Start::Ready(hello) => Some(Some(hello.clone())),
            Start::Failed(_) => Some(None),
        };
        let wait = bell.wait_for(|_| settled(&self.cell).is_some());
        let _ = self.connection.clock().within(REACH, wait).await;
        settled(&self.cell).flatten()
    }

    async fn wait_stopped(&self) -> bool {
        let mut bell = self.cell.listen();
        let limit = self.connection.target().timeouts.grace + REACH * 3;
        let done = |cell: &Cell| match cell.lock().stop {
            Stop::Done { gone } => Some(gone),
            _ => None,
        };
        let wait = bell.wait_for(|_| done(&self.cell).is_some());
        let _ = self.connection.clock().within(limit, wait).await;
        done(&self.cell).unwrap_or(false)
    }

    /// A second session with the same rights kills the process group and all descendants.
    async fn by_helper(&self, hello: &Hello) -> Option<bool> {
        let session = self.connection.extra_session().await.ok()?;
        let mut helper = Shell::open(&self.connection, session, self.rights).await.ok()?;
        let grace = self.connection.target().timeouts.grace;
        let script = Script::raw(stop_script(hello.pid, hello.group, grace));
        let ticket = helper.send(&script, None).ok()?;
        let end = self.connection.clock().now().after(grace + REACH);
        let output = helper.await_job(&ticket, end, None).await?.ok()?;
        Some(output.text().trim() == "gone")
    }

    /// Without a second session: sshd passes signals to the process group, with the login user's
    /// rights, which do not reach what sudo started; and not at all when root has logged in
    /// ("session signalling requires privilege separation", seen with 9.2). Nothing tells whether
    /// it helped.
    async fn by_signal(&self) -> bool {
        let _ = self.write.signal(Sig::TERM).await;
        let ended = || self.cell.lock().ended.is_some();
        let mut bell = self.cell.listen();
        let grace = self.connection.target().timeouts.grace;
        let _ = self.connection.clock().within(grace, bell.wait_for(|_| ended())).await;
        let _ = self.write.signal(Sig::KILL).await;
        false
    }
}

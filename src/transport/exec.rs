//! A single script on a session of its own, and what commands leave behind.

use std::time::Duration;

use russh::Sig;

use crate::model::Script;

use super::connection::Connection;
use super::shell::{Outcome, Request, Rights, RunError, ShellError};

/// What a finished command left.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Output {
    /// Exit status as a shell gives it: 128 + N for a command that died of signal N.
    pub rc: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// A stream was longer than the limit; its rest was read and thrown away.
    pub truncated: bool,
}

impl Output {
    /// stdout as text; what is no UTF-8 becomes U+FFFD.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// stderr as text.
    #[must_use]
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    #[must_use]
    pub fn ok(&self) -> bool {
        self.rc == 0
    }
}

impl Connection {
    /// Runs one script on a session of its own, like the first request of a new shell. Secrets may
    /// be in the script: it travels on the shell's input and is in no process list.
    ///
    /// # Errors
    /// As `Shell::run`.
    pub async fn exec(&self, script: &Script, rights: Rights, deadline: Duration) -> Outcome {
        let shell = self.shell(rights).await;
        let mut shell = shell.map_err(|e| RunError::Start(ShellError::Channel(e)))?;
        shell.run(Request::new(script, deadline)).await
    }

    /// Makes sshd set TCP_NODELAY on its side, which it does with the first session only.
    pub(super) async fn warm_up(&self) {
        let Ok(session) = self.session().await else { return };
        let (mut read, write) = session.channel.split();
        let whole = async {
            let _ = write.exec(true, "true").await;
            let _ = write.eof().await;
            while read.wait().await.is_some() {}
        };
        let _ = self.clock().within(self.target().timeouts.channel, whole).await;
    }
}

/// Appends up to the limit; says whether something was left out.
pub(super) fn keep(buffer: &mut Vec<u8>, data: &[u8], limit: usize) -> bool {
    let room = limit.saturating_sub(buffer.len());
    buffer.extend_from_slice(&data[..data.len().min(room)]);
    data.len() > room
}

/// Linux's numbers.
pub(super) fn signal_number(signal: &Sig) -> i32 {
    match signal {
        Sig::HUP => 1,
        Sig::INT => 2,
        Sig::QUIT => 3,
        Sig::ILL => 4,
        Sig::ABRT => 6,
        Sig::FPE => 8,
        Sig::KILL => 9,
        Sig::USR1 => 10,
        Sig::SEGV => 11,
        Sig::PIPE => 13,
        Sig::ALRM => 14,
        Sig::TERM => 15,
        Sig::Custom(_) => 127,
    }
}

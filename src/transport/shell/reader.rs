//! The tasks behind a standing shell: one always reads, one writes when it may.

use std::sync::Arc;

use bytes::Bytes;
use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use crate::model::Secret;

use super::super::connection::Connection;
use super::super::exec::signal_number;
use super::error::{ShellError, why_no_shell};
use super::protocol::Words;
use super::scan::{Piece, Scanner};
use super::state::{Cell, Start, State, Stop};

pub(super) struct Reader {
    pub(super) cell: Arc<Cell>,
    pub(super) connection: Connection,
    pub(super) words: Words,
    pub(super) write: Arc<ChannelWriteHalf<Msg>>,
    /// Opened when requests may be sent.
    pub(super) gate: watch::Sender<bool>,
    pub(super) sudo: Option<(String, Option<Secret>)>,
    /// Counts against our own limit until the channel has ended.
    pub(super) _permit: Option<OwnedSemaphorePermit>,
}

impl Reader {
    /// Reads until the channel ends. It never waits for a consumer: one unread channel stops all
    /// others of the connection.
    pub(super) async fn run(self, mut read: ChannelReadHalf) {
        let mut out = Scanner::new(&self.words.marker);
        let mut err = Scanner::new(&self.words.marker);
        let mut prompts_answered = 0;
        while let Some(message) = read.wait().await {
            let starting = self.take(message, &mut out, &mut err);
            self.cell.ring();
            if starting {
                self.answer_sudo(&mut prompts_answered).await;
            }
        }
        self.ended();
        let _ = self.gate.send(true);
        self.cell.ring();
    }

    /// Returns whether the shell has yet to say its first word.
    fn take(&self, message: ChannelMsg, out: &mut Scanner, err: &mut Scanner) -> bool {
        let mut state = self.cell.lock();
        match message {
            ChannelMsg::Data { data } => out.push(&data, |piece| match piece {
                Piece::Data(d) if state.out_ready => state.add_stdout(d),
                Piece::Data(d) => state.add_noise(d),
                Piece::Mark("root") => drop(self.gate.send(true)),
                Piece::Mark(mark) => state.mark_stdout(mark),
            }),
            ChannelMsg::ExtendedData { data, .. } => err.push(&data, |piece| match piece {
                Piece::Data(d) if state.err_ready => state.add_stderr(d),
                Piece::Data(d) => state.add_noise(d),
                Piece::Mark(mark) => state.mark_stderr(mark),
            }),
            ChannelMsg::ExitStatus { exit_status } => {
                state.status = Some(i32::try_from(exit_status).unwrap_or(255));
            }
            ChannelMsg::ExitSignal { signal_name, .. } => {
                state.status = Some(128 + signal_number(&signal_name));
            }
            ChannelMsg::Failure => state.exec_refused = true,
            _ => {}
        }
        matches!(state.start, Start::Pending)
    }

    /// Gives the password to sudo when it asks, once. A second question means that it was wrong;
    /// answering again could lock the account.
    async fn answer_sudo(&self, answered: &mut usize) {
        let Some((_, Some(password))) = &self.sudo else { return };
        let asked = {
            let state = self.cell.lock();
            memchr::memmem::find_iter(&state.noise, self.words.prompt.as_bytes()).count()
        };
        if asked > *answered && *answered == 0 {
            *answered = 1;
            let line = Bytes::from(format!("{}\n", password.expose()));
            let _ = self.write.data_bytes(line).await;
        } else if asked > 1 {
            let target = self.connection.target();
            let (host, user) = (target.name.clone(), target.user.clone());
            self.cell.lock().start = Start::Failed(ShellError::SudoWrongPassword { host, user });
            self.cell.ring();
            // sudo gives up at the end of its input. No close from our side, here and elsewhere: a
            // channel that we close first never ends for its reader (russh 0.65), and sshd keeps
            // the session's slot until the processes are gone anyway.
            let _ = self.write.eof().await;
        }
    }

    fn ended(&self) {
        let mut state = self.cell.lock();
        let cause = match (self.connection.lost(), state.status) {
            (Some(cause), _) => cause,
            (None, Some(status)) => format!("the remote shell ended with status {status}"),
            (None, None) => "the channel was closed".to_owned(),
        };
        if matches!(state.start, Start::Pending) {
            state.start = Start::Failed(self.no_shell(&state, &cause));
        }
        state.ended = Some(cause);
    }

    fn no_shell(&self, state: &State, cause: &str) -> ShellError {
        let target = self.connection.target();
        let host = target.name.clone();
        if state.exec_refused {
            return ShellError::Refused { host };
        }
        if state.status.is_none() {
            return ShellError::Lost { host, cause: cause.to_owned() };
        }
        let sudo = self.sudo.as_ref().map(|(program, pw)| (program.as_str(), pw.is_some()));
        let said = state.noise_text().replace(&self.words.prompt, "");
        why_no_shell(&host, &target.user, sudo, &said, state.status)
    }
}

/// Sends requests once the gate is open, and the end of input when the shell is dropped. A task of
/// its own, because a busy host takes no more than the channel's window (2 MiB).
pub(super) async fn write_requests(
    write: Arc<ChannelWriteHalf<Msg>>,
    mut queue: mpsc::Receiver<Bytes>,
    mut gate: watch::Receiver<bool>,
    cell: Arc<Cell>,
) {
    if gate.wait_for(|open| *open).await.is_err() {
        return;
    }
    let mut bell = cell.listen();
    while let Some(text) = queue.recv().await {
        if cell.lock().stop != Stop::No {
            break;
        }
        // The window of a channel that has ended never opens again.
        let gone = async {
            let _ = bell.wait_for(|_| cell.lock().ended.is_some()).await;
        };
        tokio::select! {
            sent = write.data_bytes(text) => if sent.is_err() { return },
            () = gone => return,
        }
    }
    let _ = write.eof().await;
}

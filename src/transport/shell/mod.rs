//! A standing `sh` on one session channel: a whole run is one exec session per host.
//!
//! Requests are answered in the order in which they were sent. Each is a script of its own: what
//! it sets (variables, directory, `set -e`) is gone afterwards, its standard input is empty, and
//! its two output streams come back exactly, byte by byte, with its exit status. Requests that are
//! sent ahead ([`Shell::send`]) cost no round trip each.
//!
//! When the connection is lost the host ends the shell after the command that runs then, but
//! requests that had reached it already are still worked off: *lost* means *outcome unknown* for
//! all that were sent.

mod error;
mod protocol;
mod reader;
mod scan;
mod state;
mod stop;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use russh::client::Msg;
use russh::{ChannelWriteHalf, Sig};
use tokio::sync::{mpsc, watch};

use crate::clock::{Clock, Instant};
use crate::model::Script;

use super::connection::{Connection, Session};
use super::error::ChannelError;
use super::exec::Output;
use super::target::Become;

pub use error::{RunError, ShellError};
pub use state::Hello;
pub use stop::Interrupter;

use protocol::Words;
use reader::{Reader, write_requests};
use state::{Cell, Job, Start, State, Stop};

/// Bytes of each stream of each request that are kept; the rest is read and thrown away.
pub const OUTPUT_LIMIT: usize = 16 << 20;
/// Requests that may be under way at a time.
const IN_FLIGHT: usize = 256;

/// With whose rights a shell runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// The login user's.
    Login,
    /// Root's: through the target's [`Become`], or directly when the login user is root. Without
    /// a way to become root it is the login user's, and the host's refusals will show.
    Root,
}

/// Which stream a line came on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// Gets each line as it arrives, without its end. Between the streams the order is approximate.
pub type OnLine<'a> = &'a mut (dyn FnMut(Stream, &str) + Send);

/// One script to run.
pub struct Request<'a> {
    pub script: &'a Script,
    /// Run as this OS user instead; needs a shell with root's rights unless it is the same user.
    pub user: Option<&'a str>,
    pub deadline: Duration,
    pub on_line: Option<OnLine<'a>>,
}

impl<'a> Request<'a> {
    #[must_use]
    pub fn new(script: &'a Script, deadline: Duration) -> Self {
        Request { script, user: None, deadline, on_line: None }
    }

    #[must_use]
    pub fn user(mut self, user: &'a str) -> Self {
        self.user = Some(user);
        self
    }

    #[must_use]
    pub fn on_line(mut self, on_line: OnLine<'a>) -> Self {
        self.on_line = Some(on_line);
        self
    }
}

/// The result of a request. A script that fails is an [`Output`] with its status.
pub type Outcome = Result<Output, RunError>;

/// A request that was sent and not yet waited for.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket {
    seq: u64,
    user: Option<String>,
}

/// See the module's text.
pub struct Shell {
    connection: Connection,
    rights: Rights,
    words: Words,
    cell: Arc<Cell>,
    write: Arc<ChannelWriteHalf<Msg>>,
    queue: mpsc::Sender<Bytes>,
    /// Requests travel with the start, so that a start that is late may still run them.
    ahead: bool,
    opened: Instant,
}

impl Connection {
    /// Starts a shell, without waiting for its first word: the requests that follow travel along
    /// with the start, unless sudo may ask for a password. Whether it did start is told by the
    /// first request, or by [`Shell::ready`].
    ///
    /// # Errors
    /// The channel could not be opened.
    pub async fn shell(&self, rights: Rights) -> Result<Shell, ChannelError> {
        let session = self.session().await?;
        Shell::open(self, session, rights).await
    }
}

impl Shell {
    async fn open(
        connection: &Connection,
        session: Session,
        rights: Rights,
    ) -> Result<Shell, ChannelError> {
        let target = connection.target();
        let r#become = match rights {
            Rights::Root if target.user != "root" => target.r#become.clone(),
            _ => Become::None,
        };
        let words = Words::new(&connection.clock().random_id());
        let (read, write) = session.channel.split();
        let write = Arc::new(write);
        // No wait for the reply: a refusal reaches the reader.
        if write.exec(true, words.command(&r#become)).await.is_err() {
            let host = target.name.clone();
            return Err(ChannelError::Lost { host, cause: connection.lost_cause() });
        }
        let cell = Arc::new(Cell::new(OUTPUT_LIMIT));
        let (queue, waiting) = mpsc::channel(IN_FLIGHT + 1);
        let asks = matches!(r#become, Become::Sudo { password: Some(_), .. });
        let (gate, open) = watch::channel(!asks);
        let _ = queue.try_send(Bytes::from(words.hello(&r#become)));
        let sudo = match r#become {
            Become::None => None,
            Become::Sudo { program, password } => Some((program, password)),
        };
        let reader = Reader {
            cell: Arc::clone(&cell),
            connection: connection.clone(),
            words: words.clone(),
            write: Arc::clone(&write),
            gate,
            sudo,
            _permit: session.permit,
        };
        tokio::spawn(reader.run(read));
        tokio::spawn(write_requests(Arc::clone(&write), waiting, open, Arc::clone(&cell)));
        let (connection, opened) = (connection.clone(), connection.clock().now());
        Ok(Shell { connection, rights, words, cell, write, queue, ahead: !asks, opened })
    }

    /// Waits until the shell has started.
    ///
    /// # Errors
    /// [`ShellError`]: why it did not.
    pub async fn ready(&self) -> Result<Hello, ShellError> {
        let mut bell = self.cell.listen();
        loop {
            match &self.cell.lock().start {
                Start::Ready(hello) => return Ok(hello.clone()),
                Start::Failed(e) => return Err(e.clone()),
                Start::Pending => {}
            }
            let left = self.start_left();
            if self.clock().within(left, bell.changed()).await.is_none() {
                return Err(self.fail_start());
            }
        }
    }

    /// Sends a script and waits for its end. When the deadline passes, its processes are stopped
    /// (which ends this shell) before [`RunError::TimedOut`] is returned.
    ///
    /// Dropping the future does not stop the script; see [`Shell::interrupter`] for that.
    ///
    /// # Errors
    /// [`RunError`]; only some of its kinds mean that the script has not run.
    pub async fn run(&mut self, request: Request<'_>) -> Outcome {
        let ticket = self.send(request.script, request.user)?;
        self.wait(ticket, request.deadline, request.on_line).await
    }

    /// Sends a script without waiting. At most 256 may be under way.
    ///
    /// # Errors
    /// It was not sent: the shell has ended, or too many are under way.
    pub fn send(&mut self, script: &Script, user: Option<&str>) -> Result<Ticket, RunError> {
        let host = || self.connection.target().name.clone();
        let mut state = self.cell.lock();
        if let Start::Failed(e) = &state.start {
            return Err(RunError::Start(e.clone()));
        }
        if let Some(why) = &state.ended {
            return Err(RunError::NotRun { host: host(), why: why.clone() });
        }
        if state.stop != Stop::No {
            let why = "the shell was stopped".to_owned();
            return Err(RunError::NotRun { host: host(), why });
        }
        let seq = state.next;
        let text = self.words.request(seq, script.as_str(), user);
        let full = state.jobs.len() >= IN_FLIGHT;
        if full || self.queue.try_send(Bytes::from(text)).is_err() {
            let why = "too many requests are under way".to_owned();
            return Err(RunError::NotRun { host: host(), why });
        }
        state.next += 1;
        state.jobs.push_back(Job::new(seq));
        Ok(Ticket { seq, user: user.map(str::to_owned) })
    }

    /// Waits for a script that was sent; the deadline counts from now.
    ///
    /// # Errors
    /// As [`Shell::run`].
    pub async fn wait(
        &mut self,
        ticket: Ticket,
        deadline: Duration,
        on_line: Option<OnLine<'_>>,
    ) -> Outcome {
        let end = self.clock().now().after(deadline);
        match self.await_job(&ticket, end, on_line).await {
            Some(outcome) => outcome,
            None => {
                let stopped = self.interrupter().stop_processes().await;
                let partial = self.partial(ticket.seq);
                let host = self.connection.target().name.clone();
                Err(RunError::TimedOut { host, after: deadline, stopped, partial })
            }
        }
    }

    /// A handle that stops what runs here, usable from elsewhere (Ctrl-C).
    #[must_use]
    pub fn interrupter(&self) -> Interrupter {
        Interrupter {
            connection: self.connection.clone(),
            rights: self.rights,
            cell: Arc::clone(&self.cell),
            write: Arc::clone(&self.write),
        }
    }

    /// Whether further requests make sense.
    #[must_use]
    pub fn alive(&self) -> bool {
        let state = self.cell.lock();
        state.ended.is_none() && state.stop == Stop::No && !matches!(state.start, Start::Failed(_))
    }

    fn clock(&self) -> Clock {
        self.connection.clock()
    }

    /// The job's end, or `None` at the deadline.
    async fn await_job(
        &self,
        ticket: &Ticket,
        end: Instant,
        mut on_line: Option<OnLine<'_>>,
    ) -> Option<Outcome> {
        let mut bell = self.cell.listen();
        let mut lines = Lines::default();
        loop {
            bell.mark_unchanged();
            let (outcome, pending) = {
                let mut state = self.cell.lock();
                let fresh = state.job(ticket.seq).map(|job| lines.take(job, on_line.is_some()));
                let outcome = self.verdict(&mut state, ticket);
                let pending = matches!(state.start, Start::Pending);
                drop(state);
                if let (Some(on_line), Some(fresh)) = (on_line.as_mut(), fresh) {
                    fresh.iter().for_each(|(stream, line)| on_line(*stream, line));
                }
                (outcome, pending)
            };
            if outcome.is_some() {
                return outcome;
            }
            let left = end.since(self.clock().now());
            let wait = if pending { left.min(self.start_left()) } else { left };
            if self.clock().within(wait, bell.changed()).await.is_none() {
                if pending && self.start_left().is_zero() {
                    self.fail_start();
                    continue;
                }
                if end.since(self.clock().now()).is_zero() {
                    return None;
                }
            }
        }
    }

    /// What is known about a job, if that is final.
    fn verdict(&self, state: &mut State, ticket: &Ticket) -> Option<Outcome> {
        let host = || self.connection.target().name.clone();
        if state.job(ticket.seq).is_some_and(|j| j.done()) {
            let job = state.take(ticket.seq)?;
            return Some(finish(host(), job, ticket));
        }
        if let Stop::Done { gone: stopped } = state.stop {
            let partial = take_partial(state, ticket.seq);
            return Some(Err(RunError::Interrupted { host: host(), stopped, partial }));
        }
        match &state.start {
            Start::Failed(ShellError::Lost { .. }) => {}
            Start::Failed(e @ ShellError::TimedOut { .. }) if self.ahead => {
                let (cause, partial) = (e.to_string(), take_partial(state, ticket.seq));
                return Some(Err(RunError::Lost { host: host(), cause, partial }));
            }
            Start::Failed(e) => return Some(Err(RunError::Start(e.clone()))),
            Start::Pending | Start::Ready(_) => {}
        }
        let stopping = state.stop == Stop::Stopping;
        let cause = state.ended.clone().filter(|_| !stopping)?;
        let partial = take_partial(state, ticket.seq);
        Some(Err(RunError::Lost { host: host(), cause, partial }))
    }

    fn partial(&self, seq: u64) -> Box<Output> {
        take_partial(&mut self.cell.lock(), seq)
    }

    fn start_left(&self) -> Duration {
        let end = self.opened.after(self.connection.target().timeouts.shell_start);
        end.since(self.clock().now())
    }

    /// Gives a start up that takes too long. The login's processes are killed as far as the login
    /// user may: see `Interrupter::by_signal` for what that does not reach.
    fn fail_start(&self) -> ShellError {
        let target = self.connection.target();
        let mut state = self.cell.lock();
        let said = error::last_words(&state.noise_text(), None);
        let after = target.timeouts.shell_start;
        let failed = ShellError::TimedOut {
            host: target.name.clone(),
            user: target.user.clone(),
            after,
            said,
        };
        if matches!(state.start, Start::Pending) {
            state.start = Start::Failed(failed.clone());
            let write = Arc::clone(&self.write);
            tokio::spawn(async move {
                let _ = write.signal(Sig::KILL).await;
                let _ = write.eof().await;
            });
        }
        failed
    }
}

fn take_partial(state: &mut State, seq: u64) -> Box<Output> {
    Box::new(state.take(seq).map(|job| job.output).unwrap_or_default())
}

fn finish(host: String, job: Job, ticket: &Ticket) -> Outcome {
    let rc = job.rc.unwrap_or(protocol::REFUSED);
    let user = ticket.user.clone().unwrap_or_default();
    match job.refused.as_deref() {
        Some("user") if rc == protocol::REFUSED => Err(RunError::NoUser { host, user }),
        Some("root") if rc == protocol::REFUSED => Err(RunError::NeedsRoot { host, user }),
        _ => Ok(Output { rc, ..job.output }),
    }
}

/// How far the lines of a job were told.
#[derive(Default)]
struct Lines {
    stdout: usize,
    stderr: usize,
}

impl Lines {
    fn take(&mut self, job: &Job, wanted: bool) -> Vec<(Stream, String)> {
        let mut fresh = Vec::new();
        if wanted {
            let done = job.rc.is_some();
            cut(&job.output.stdout, &mut self.stdout, done, Stream::Stdout, &mut fresh);
            cut(&job.output.stderr, &mut self.stderr, job.err_done, Stream::Stderr, &mut fresh);
        }
        fresh
    }
}

/// The lines from `from` on; the last one without an end only when no more can come.
fn cut(text: &[u8], from: &mut usize, done: bool, stream: Stream, out: &mut Vec<(Stream, String)>) {
    while let Some(length) = memchr::memchr(b'\n', &text[*from..]) {
        out.push((stream, String::from_utf8_lossy(&text[*from..*from + length]).into_owned()));
        *from += length + 1;
    }
    if done && *from < text.len() {
        out.push((stream, String::from_utf8_lossy(&text[*from..]).into_owned()));
        *from = text.len();
    }
}

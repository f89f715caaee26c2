//! What the shell's reader and its callers share.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::super::exec::{Output, keep};
use super::error::ShellError;

/// Bytes of noise before the shell's first word that are kept for error texts.
const NOISE: usize = 16 * 1024;

/// What the shell told about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Process id of the shell.
    pub pid: u32,
    /// Its process group; 0 if the host has no /proc.
    pub group: u32,
    /// Effective user id.
    pub uid: u32,
    /// `sh` is bash, which reads its input byte by byte.
    pub bash: bool,
    /// `$LANG` of the login, before it was overridden with C.
    pub lang: String,
}

#[derive(Debug, Clone)]
pub(super) enum Start {
    Pending,
    Ready(Hello),
    Failed(ShellError),
}

/// Why and how far a shell is being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    No,
    /// The processes are being told.
    Stopping,
    /// All gone, or not.
    Done {
        gone: bool,
    },
}

pub(super) struct Job {
    pub(super) seq: u64,
    pub(super) output: Output,
    pub(super) rc: Option<i32>,
    pub(super) err_done: bool,
    /// `refuse` words, see the protocol.
    pub(super) refused: Option<String>,
}

pub(super) struct State {
    pub(super) start: Start,
    pub(super) out_ready: bool,
    pub(super) err_ready: bool,
    /// Both streams before the shell's first word.
    pub(super) noise: Vec<u8>,
    pub(super) jobs: VecDeque<Job>,
    pub(super) next: u64,
    /// Set when the channel has ended.
    pub(super) ended: Option<String>,
    pub(super) status: Option<i32>,
    pub(super) exec_refused: bool,
    pub(super) stop: Stop,
    pub(super) limit: usize,
}

/// The state behind its lock, and the bell that rings at each change.
pub(super) struct Cell {
    state: Mutex<State>,
    bell: watch::Sender<u64>,
}

impl Cell {
    pub(super) fn new(limit: usize) -> Self {
        let state = State {
            start: Start::Pending,
            out_ready: false,
            err_ready: false,
            noise: Vec::new(),
            jobs: VecDeque::new(),
            next: 1,
            ended: None,
            status: None,
            exec_refused: false,
            stop: Stop::No,
            limit,
        };
        Cell { state: Mutex::new(state), bell: watch::Sender::new(0) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Call it without the lock: listeners' conditions take the lock inside the bell's own.
    pub(super) fn ring(&self) {
        self.bell.send_modify(|n| *n = n.wrapping_add(1));
    }

    pub(super) fn listen(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }
}

impl State {
    pub(super) fn add_noise(&mut self, data: &[u8]) {
        self.noise.extend_from_slice(data);
        if self.noise.len() > NOISE * 2 {
            self.noise.drain(..self.noise.len() - NOISE);
        }
    }

    pub(super) fn noise_text(&self) -> String {
        String::from_utf8_lossy(&self.noise).into_owned()
    }

    /// Data of stdout belongs to the first job whose marker has not come there. Data when no job
    /// is waiting comes from a process that an earlier one left behind; it is dropped.
    pub(super) fn add_stdout(&mut self, data: &[u8]) {
        let limit = self.limit;
        if let Some(job) = self.jobs.iter_mut().find(|j| j.rc.is_none()) {
            job.output.truncated |= keep(&mut job.output.stdout, data, limit);
        }
    }

    pub(super) fn add_stderr(&mut self, data: &[u8]) {
        let limit = self.limit;
        if let Some(job) = self.jobs.iter_mut().find(|j| !j.err_done) {
            job.output.truncated |= keep(&mut job.output.stderr, data, limit);
        }
    }

    /// A marker on stdout: `ready ...` or `<seq> <status>`.
    pub(super) fn mark_stdout(&mut self, text: &str) {
        if let Some(rest) = text.strip_prefix("ready ") {
            self.out_ready = true;
            if let Some(hello) = Hello::parse(rest) {
                self.start = Start::Ready(hello);
            }
            return;
        }
        let Some((seq, rc)) = numbers(text) else { return };
        if let Some(job) = self.jobs.iter_mut().find(|j| j.seq == seq) {
            job.rc = Some(rc);
        }
    }

    pub(super) fn mark_stderr(&mut self, text: &str) {
        if text == "ready" {
            self.err_ready = true;
        } else if let Some(what) = text.strip_prefix("refuse ") {
            if let Some(job) = self.jobs.iter_mut().find(|j| !j.err_done) {
                job.refused = Some(what.to_owned());
            }
        } else if let Some((seq, _)) = numbers(text)
            && let Some(job) = self.jobs.iter_mut().find(|j| j.seq == seq)
        {
            job.err_done = true;
        }
    }

    pub(super) fn job(&mut self, seq: u64) -> Option<&mut Job> {
        self.jobs.iter_mut().find(|j| j.seq == seq)
    }

    pub(super) fn take(&mut self, seq: u64) -> Option<Job> {
        let at = self.jobs.iter().position(|j| j.seq == seq)?;
        self.jobs.remove(at)
    }
}

impl Job {
    pub(super) fn new(seq: u64) -> Self {
        Job { seq, output: Output::default(), rc: None, err_done: false, refused: None }
    }

    pub(super) fn done(&self) -> bool {
        self.rc.is_some() && self.err_done
    }
}

impl Hello {
    fn parse(text: &str) -> Option<Hello> {
        let mut words = text.splitn(5, ' ');
        let pid = words.next()?.parse().ok()?;
        let group = words.next()?.parse().unwrap_or(0);
        let uid = words.next()?.parse().ok()?;
        let bash = words.next()? == "bash-";
        Some(Hello { pid, group, uid, bash, lang: words.next()?.trim().to_owned() })
    }
}

fn numbers(text: &str) -> Option<(u64, i32)> {
    let (seq, rc) = text.split_once(' ')?;
    Some((seq.parse().ok()?, rc.parse().ok()?))
}

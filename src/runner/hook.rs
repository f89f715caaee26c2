//! Commands of the user's on this machine: steps of an operation, and whoever is told of something.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::sync::watch;

use super::link::{CHANGING, pressed};
use super::lock;
use crate::operation::{Outcome, Report};

/// How long a command may take: everybody waits for it.
const HOOK_DEADLINE: Duration = Duration::from_secs(60);
/// For what a command has written when it ends; something that it left behind may keep its pipes open.
const DRAIN: Duration = Duration::from_millis(200);
/// Output that is kept, bytes.
const SAID_MAX: usize = 64 << 10;

type Said = Arc<Mutex<Vec<u8>>>;

/// A command of the user's.
#[derive(Debug, Clone, Copy)]
pub struct LocalCommand<'a> {
    /// Program and arguments.
    pub argv: &'a [String],
    pub environment: &'a [(&'static str, String)],
    /// For its standard input, which is empty otherwise.
    pub input: Option<&'a [u8]>,
    /// After that it is killed, with everything that it has started.
    pub deadline: Duration,
}

/// A hook of an operation: the first Ctrl-C lets it finish, the second one kills it, as does its
/// deadline.
pub(super) async fn run(
    argv: &[String],
    environment: &[(&'static str, String)],
    interrupt: watch::Receiver<u8>,
) -> Outcome {
    let command = LocalCommand { argv, environment, input: None, deadline: HOOK_DEADLINE };
    match command.run(Some(interrupt)).await {
        Ok(text) => Outcome::Done(Report { changed: true, text, ..Report::default() }),
        Err(why) => Outcome::Failed(why),
    }
}

impl LocalCommand<'_> {
    /// Runs it to its end, in a process group of its own, so that the terminal's Ctrl-C does not reach
    /// it. Gives the last line that it said.
    ///
    /// # Errors
    /// It cannot be run, failed, or was killed: in a few words, with the last line that it said.
    pub async fn run(self, interrupt: Option<watch::Receiver<u8>>) -> Result<String, String> {
        let (program, arguments) = self.argv.split_first().ok_or("the command is empty")?;
        let stdin = if self.input.is_some() { Stdio::piped() } else { Stdio::null() };
        let mut child = Command::new(program)
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot run {program}: {error}"))?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let said = Said::default();
        let mut readers = tokio::task::JoinSet::new();
        if let Some(pipe) = child.stdout.take() {
            readers.spawn(keep(pipe, Arc::clone(&said)));
        }
        if let Some(pipe) = child.stderr.take() {
            readers.spawn(keep(pipe, Arc::clone(&said)));
        }
        let pipe = child.stdin.take();
        let fed = async {
            if let (Some(mut pipe), Some(input)) = (pipe, self.input) {
                // One that does not read its input may still do its work.
                let _ = pipe.write_all(input).await;
            }
        };
        let ended = tokio::select! {
            (status, ()) = async { tokio::join!(child.wait(), fed) } => {
                status.map_err(|e| e.to_string())
            }
            () = tokio::time::sleep(self.deadline) => {
                Err(format!("was not over after {} s, and was killed", self.deadline.as_secs_f64()))
            }
            () = pressed(interrupt, CHANGING) => Err("was killed: interrupted".to_owned()),
        };
        if ended.is_err() {
            // What cannot be killed is gone already.
            let _ = group.map(|group| kill_process_group(group, Signal::KILL));
            let _ = child.wait().await;
        }
        let drained = async { while readers.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(DRAIN, drained).await;
        let text = last_line(&lock(&said));
        match ended {
            Ok(status) if status.success() => Ok(text),
            Ok(status) if text.is_empty() => Err(format!("{program}: {status}")),
            Ok(status) => Err(format!("{program}: {status}: {text}")),
            Err(why) => Err(format!("{program} {why}")),
        }
    }
}

async fn keep(mut pipe: impl AsyncRead + Unpin, said: Said) {
    let mut buffer = [0_u8; 4096];
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        let mut said = lock(&said);
        said.extend_from_slice(&buffer[..count]);
        let excess = said.len().saturating_sub(SAID_MAX);
        said.drain(..excess);
    }
}

fn last_line(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default().to_owned()
}

//! Commands of the user's on this machine, as steps of an operation.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
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

/// Runs a command to its end, in a process group of its own, so that the terminal's Ctrl-C does not
/// reach it: the first one lets it finish, the second one kills it, as does its deadline.
pub(super) async fn run(
    argv: &[String],
    environment: &[(&'static str, String)],
    interrupt: watch::Receiver<u8>,
) -> Outcome {
    let Some((program, arguments)) = argv.split_first() else {
        return Outcome::Failed("the command is empty".to_owned());
    };
    let spawned = Command::new(program)
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return Outcome::Failed(format!("cannot run {program}: {error}")),
    };
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let said = Said::default();
    let mut readers = tokio::task::JoinSet::new();
    if let Some(pipe) = child.stdout.take() {
        readers.spawn(keep(pipe, Arc::clone(&said)));
    }
    if let Some(pipe) = child.stderr.take() {
        readers.spawn(keep(pipe, Arc::clone(&said)));
    }
    let ended = tokio::select! {
        status = child.wait() => status.map_err(|e| e.to_string()),
        () = tokio::time::sleep(HOOK_DEADLINE) => {
            Err(format!("was not over after {} s, and was killed", HOOK_DEADLINE.as_secs()))
        }
        () = pressed(Some(interrupt), CHANGING) => Err("was killed: interrupted".to_owned()),
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
        Ok(status) if status.success() => {
            Outcome::Done(Report { changed: true, text, ..Report::default() })
        }
        Ok(status) if text.is_empty() => Outcome::Failed(format!("{program}: {status}")),
        Ok(status) => Outcome::Failed(format!("{program}: {status}: {text}")),
        Err(why) => Outcome::Failed(format!("{program} {why}")),
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

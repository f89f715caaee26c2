//! A run of the program under way, told by its events.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::Ran;

pub(crate) struct Live {
    child: Ended,
    lines: mpsc::Receiver<String>,
    stderr: JoinHandle<String>,
    stdout: String,
}

/// A process that does not outlive a test that fails.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Live {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut pipe = child.stderr.take().expect("piped");
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = pipe.read_to_string(&mut text);
            text
        });
        Live { child: Ended(child), lines, stderr, stdout: String::new() }
    }

    /// Waits for the start of a task on a host.
    #[track_caller]
    pub(crate) fn until_task(&mut self, host: &str, task: &str) {
        self.until(|e| e["event"] == "task_started" && e["host"] == host && e["task"] == task);
    }

    /// What it has said so far.
    pub(crate) fn said(&mut self) -> Vec<Value> {
        while let Ok(line) = self.lines.try_recv() {
            self.stdout += &line;
            self.stdout.push('\n');
        }
        self.stdout.lines().filter_map(|l| serde_json::from_str(l).ok()).collect()
    }

    #[track_caller]
    pub(crate) fn until(&mut self, hit: impl Fn(&Value) -> bool) {
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("it did not come to that:\n{}", self.stdout);
            };
            self.stdout += &line;
            self.stdout.push('\n');
            if serde_json::from_str::<Value>(&line).is_ok_and(|e| hit(&e)) {
                return;
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.0.id()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("it is there");
    }

    pub(crate) fn running(&mut self) -> bool {
        self.child.0.try_wait().expect("ours").is_none()
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ran {
        let status = self.child.0.wait().expect("it ends");
        let stderr = self.stderr.join().unwrap_or_default();
        for line in self.lines {
            self.stdout += &line;
            self.stdout.push('\n');
        }
        Ran { code: status.code().unwrap_or(-1), stdout: self.stdout, stderr }
    }

    /// `kill -9`, and its end.
    pub(crate) fn kill(self) -> Ran {
        self.signal(Signal::KILL);
        self.end()
    }
}

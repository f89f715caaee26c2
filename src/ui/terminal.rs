//! The sinks that print, and the one printer that they share.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::human::{Verbosity, event_lines};
use super::json::event_json;
use crate::clock;
use crate::event::{Event, Kind, Sink, Status};

/// Writes lines; a reader that went away (`pgorch ... | head`) ends nothing.
#[derive(Debug, Clone, Copy)]
pub struct Printer;

impl Printer {
    /// Data: standard output.
    pub fn out(self, text: &str) {
        let _ = anstream::stdout().write_all(text.as_bytes());
    }

    /// Everything else: standard error.
    pub fn err(self, text: &str) {
        let _ = anstream::stderr().write_all(text.as_bytes());
    }
}

/// Plain lines, and on a terminal a live line per busy host below them.
pub struct HumanSink {
    verbosity: Verbosity,
    all_diffs: bool,
    live: Option<MultiProgress>,
    bars: Mutex<BTreeMap<String, ProgressBar>>,
    /// When a host's progress was last printed where there is no terminal.
    printed: Mutex<BTreeMap<String, clock::Instant>>,
    /// A play's headline, held back until one of its tasks has something to say.
    headline: Mutex<Option<Vec<String>>>,
}

/// Without a terminal, a long task says this often that it lives.
const PLAIN_PROGRESS_EVERY: Duration = Duration::from_secs(15);

impl HumanSink {
    #[must_use]
    pub fn new(verbosity: Verbosity, all_diffs: bool) -> Self {
        let live = std::io::stderr().is_terminal().then(MultiProgress::new);
        HumanSink {
            verbosity,
            all_diffs,
            live,
            bars: Mutex::default(),
            printed: Mutex::default(),
            headline: Mutex::default(),
        }
    }

    fn print(&self, lines: &[String]) {
        for line in lines {
            let line = colour(line);
            match &self.live {
                Some(live) => live.suspend(|| Printer.err(&format!("{line}\n"))),
                None => Printer.err(&format!("{line}\n")),
            }
        }
    }

    fn progress(&self, event: &Event, done_total: Option<(u64, u64)>) {
        let host = event.host.as_ref().map(|h| h.0.clone()).unwrap_or_default();
        let task = event.task.clone().unwrap_or_default();
        let text = match done_total {
            Some((done, total)) => format!("{task}: {}", bytes_done(done, total)),
            None => format!("{task}: {}", event.message),
        };
        match &self.live {
            Some(live) => {
                let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
                let bar = bars.entry(host.clone()).or_insert_with(|| {
                    let bar = live.add(ProgressBar::new_spinner());
                    let style =
                        ProgressStyle::with_template("  {prefix}  {spinner} {elapsed} {wide_msg}");
                    if let Ok(style) = style {
                        bar.set_style(style);
                    }
                    bar.enable_steady_tick(Duration::from_millis(120));
                    bar.set_prefix(host);
                    bar
                });
                bar.set_message(text);
            }
            None if done_total.is_none() && event.message.trim().is_empty() => {}
            None => self.plain_progress(host, &text),
        }
    }

    fn plain_progress(&self, host: String, text: &str) {
        let now = clock::now();
        let mut printed = self.printed.lock().unwrap_or_else(PoisonError::into_inner);
        match printed.get(&host) {
            Some(last) if now.since(*last) < PLAIN_PROGRESS_EVERY => {}
            Some(_) => {
                Printer.err(&format!("  {host}  running  {text}\n"));
                printed.insert(host, now);
            }
            None => {
                printed.insert(host, now);
            }
        }
    }

    fn idle(&self, event: &Event) {
        let Some(host) = &event.host else { return };
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = bars.remove(&host.0) {
            bar.finish_and_clear();
        }
        self.printed.lock().unwrap_or_else(PoisonError::into_inner).remove(&host.0);
    }
}

impl Sink for HumanSink {
    fn emit(&self, event: &Event) {
        match &event.kind {
            Kind::TaskStarted => self.progress(event, None),
            Kind::Progress { done_total } => self.progress(event, *done_total),
            Kind::TaskDone { .. } | Kind::Unreachable { .. } => self.idle(event),
            _ => {}
        }
        let lines = event_lines(event, self.verbosity, self.all_diffs);
        let mut headline = self.headline.lock().unwrap_or_else(PoisonError::into_inner);
        match &event.kind {
            Kind::PlayStarted { .. } => *headline = Some(lines),
            Kind::Recap { .. } => {
                *headline = None;
                self.print(&lines);
            }
            _ if lines.is_empty() => {}
            _ => {
                if let Some(held) = headline.take() {
                    self.print(&held);
                }
                self.print(&lines);
            }
        }
    }
}

/// Colour only repeats what the words say.
fn colour(line: &str) -> String {
    use anstyle::{AnsiColor, Style};
    let word = |status: Status| format!("  {:<8} ", status.word());
    let styles = [
        (word(Status::Changed), AnsiColor::Yellow),
        (word(Status::Pending), AnsiColor::Yellow),
        (word(Status::Deferred), AnsiColor::Cyan),
        (word(Status::Failed), AnsiColor::Red),
        (word(Status::Unknown), AnsiColor::Red),
        ("  unreachable: ".to_owned(), AnsiColor::Red),
    ];
    let hit = styles.iter().find(|(word, _)| line.contains(word.as_str()));
    let style = match hit {
        Some((_, colour)) => Style::new().fg_color(Some((*colour).into())),
        None if line.trim_start().starts_with("+ ") => {
            Style::new().fg_color(Some(AnsiColor::Green.into()))
        }
        None if line.trim_start().starts_with("- ") => {
            Style::new().fg_color(Some(AnsiColor::Red.into()))
        }
        None => return line.to_owned(),
    };
    format!("{style}{line}{style:#}")
}

fn bytes_done(done: u64, total: u64) -> String {
    const MIB: u64 = 1024 * 1024;
    let percent = done.saturating_mul(100).checked_div(total).unwrap_or(0);
    format!("{} of {} MiB ({percent} %)", done / MIB, total / MIB)
}

/// JSON lines on standard output.
pub struct JsonSink {
    pub run: String,
}

impl Sink for JsonSink {
    fn emit(&self, event: &Event) {
        let time = clock::wall().to_string();
        Printer.out(&format!("{}\n", event_json(event, &time, &self.run)));
    }
}

//! The watch's table on a terminal, drawn in a thread of its own: a terminal that takes nothing holds
//! up no round.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use console::Term;

use super::board::board_lines;
use super::human::{Verbosity, event_lines};
use crate::clock;
use crate::event::{Event, Sink};
use crate::watch::Board;

/// Lines of what has happened that are kept.
const EVENTS: usize = 12;

/// The table, and what has happened last.
pub struct LiveTable {
    verbosity: Verbosity,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    shown: Mutex<Shown>,
    changed: Condvar,
}

#[derive(Default)]
struct Shown {
    board: Option<Board>,
    events: VecDeque<String>,
    /// There is something to draw.
    changed: bool,
    /// Somebody else has written to the terminal: the next table stands below it.
    anew: bool,
    over: bool,
}

impl LiveTable {
    /// Whether the process has a terminal for it.
    #[must_use]
    pub fn possible() -> bool {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        !dumb && Term::stdout().is_term() && Term::stderr().is_term()
    }

    /// Begins to draw.
    #[must_use]
    pub fn start(verbosity: Verbosity) -> Self {
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            // A terminal that is gone ends the drawing and nothing else.
            let _ = for_thread.draw_all();
        });
        LiveTable { verbosity, shared, thread: Mutex::new(Some(thread)) }
    }

    fn change(&self, change: impl FnOnce(&mut Shown)) {
        let mut shown = self.shared.shown.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut shown);
        shown.changed = true;
        self.shared.changed.notify_one();
    }

    /// What a round showed.
    pub fn board(&self, board: &Board) {
        self.change(|shown| shown.board = Some(board.clone()));
    }

    /// Somebody else has written lines.
    pub fn anew(&self) {
        self.change(|shown| shown.anew = true);
    }

    /// Draws the last table, which stays.
    pub fn finish(&self) {
        self.change(|shown| shown.over = true);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Sink for LiveTable {
    fn emit(&self, event: &Event) {
        let lines = event_lines(event, self.verbosity, false);
        if lines.is_empty() {
            return;
        }
        let local = clock::wall().to_zoned(jiff::tz::TimeZone::system());
        let mut lead = local.strftime("%H:%M:%S").to_string();
        self.change(|shown| {
            for line in lines {
                shown.events.push_back(format!("{lead:<8}  {line}"));
                lead.clear();
            }
            let excess = shown.events.len().saturating_sub(EVENTS);
            shown.events.drain(..excess);
        });
    }
}

impl Shared {
    fn draw_all(&self) -> std::io::Result<()> {
        let term = Term::buffered_stdout();
        let (mut drawn, mut size) = (0, term.size());
        loop {
            let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
            while !shown.changed {
                shown = self.changed.wait(shown).unwrap_or_else(PoisonError::into_inner);
            }
            shown.changed = false;
            let (board, over) = (shown.board.clone(), shown.over);
            let anew = std::mem::take(&mut shown.anew);
            let events: Vec<String> = shown.events.iter().cloned().collect();
            drop(shown);
            let now = term.size();
            if now != size {
                // Lines may have been wrapped, and where they are is not known any more.
                term.clear_screen()?;
            } else if !anew {
                term.move_cursor_up(drawn)?;
            }
            size = now;
            let (height, width) = (usize::from(size.0), usize::from(size.1));
            let mut lines = match board {
                Some(board) => board_lines(&board, &events, width),
                None => events,
            };
            lines.truncate(height.saturating_sub(1).max(1));
            for line in &lines {
                term.clear_line()?;
                term.write_line(line)?;
            }
            term.clear_to_end_of_screen()?;
            term.flush()?;
            drawn = lines.len();
            if over {
                return Ok(());
            }
        }
    }
}

//! What people and programs see of a run. Data goes to standard output, everything else to
//! standard error; only this module and `cli` print.

mod board;
mod human;
mod json;
mod live;
mod plan;
mod terminal;

pub use board::board_lines;
pub use human::{Verbosity, diff_lines, event_lines};
pub use json::{diff_json, event_json, impact_json, status_word};
pub use live::LiveTable;
pub use plan::plan_text;
pub use terminal::{HumanSink, JsonSink, Printer};

use std::sync::Arc;

use crate::event::{Event, Sink};
use crate::model::Redactor;

/// Tells several sinks, the journal first: what is on screen is then on disk too.
pub struct Tee(pub Vec<Arc<dyn Sink>>);

impl Sink for Tee {
    fn emit(&self, event: &Event) {
        for sink in &self.0 {
            sink.emit(event);
        }
    }
}

/// Removes secrets before anybody is told.
pub struct Masked {
    pub redactor: Redactor,
    pub inner: Arc<dyn Sink>,
}

impl Sink for Masked {
    fn emit(&self, event: &Event) {
        self.inner.emit(&mask(event, &self.redactor));
    }
}

fn mask(event: &Event, redactor: &Redactor) -> Event {
    use crate::event::Kind;
    use crate::step::Diff;
    let text = |t: &String| redactor.mask(t);
    let own = |t: &mut String| *t = redactor.mask(t);
    let maybe = |t: &Option<String>| t.as_ref().map(text);
    let mut event = event.clone();
    event.message = redactor.mask(&event.message);
    event.task = maybe(&event.task);
    event.play = maybe(&event.play);
    match &mut event.kind {
        Kind::Unreachable { hint } | Kind::Refused { hint, .. } => *hint = maybe(hint),
        Kind::RunStarted { command, .. } => own(command),
        Kind::Decided { data } => *data = redactor.mask_value(data),
        _ => {}
    }
    if let Kind::TaskDone { detail, .. } = &mut event.kind {
        detail.command = maybe(&detail.command);
        detail.stdout_tail = redactor.mask(&detail.stdout_tail);
        detail.stderr_tail = redactor.mask(&detail.stderr_tail);
        detail.hint = maybe(&detail.hint);
        if let crate::model::Value::Object(map) =
            redactor.mask_value(&crate::model::Value::Object(std::mem::take(&mut detail.result)))
        {
            detail.result = map;
        }
        for diff in &mut detail.diffs {
            match diff {
                Diff::Text { path, before, after } => {
                    own(path);
                    (*before, *after) = (maybe(before), maybe(after));
                }
                Diff::Value { name, before, after, note } => {
                    own(name);
                    (*before, *after, *note) = (maybe(before), maybe(after), maybe(note));
                }
            }
        }
        detail.impact.role_change = maybe(&detail.impact.role_change);
        detail.impact.destroys = maybe(&detail.impact.destroys);
    }
    event
}

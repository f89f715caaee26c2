//! From wanted and observed state to what must be done, without doing it.
//!
//! [`batch`] puts many questions into one script and takes the answers apart again. [`Scope`] holds
//! the variables of a host. [`judge`] says of one task on one host what is known, what must be asked
//! first, or what has to change. `runner` drives these; nothing here talks to a host.

pub mod batch;
mod choice;
mod judge;
mod scope;
mod variables;

pub use choice::Choice;
pub use judge::{Condition, Judged, Look, expand_loop, judge, questions};
pub use scope::{Live, LoopItem, RunVars, Scope};

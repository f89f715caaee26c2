//! The general task kinds: by captured answers, and for real with `sh` in a temporary directory.

mod captured;
mod catalog;
mod changes;
mod disposable;
mod edits;
mod fetching;
mod harness;

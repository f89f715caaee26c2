//! pgorch: agentless orchestration of PostgreSQL high-availability clusters over plain SSH.
//!
//! The modules stand in layer order, low to high; a module uses only lower ones
//! (`tests/layering.rs` enforces it). Everything down to `event` is pure: no clock, no socket,
//! no file, no terminal. `ARCHITECTURE.md` is the longer page.

// Modules of `tests/` that unit tests use too.
#[cfg(test)]
extern crate self as pgorch;

pub mod model;

pub mod postgres;
pub mod syntax;

pub mod facts;
pub mod inventory;
pub mod template;

pub mod playbook;
pub mod step;
pub mod topology;

pub mod plan;

pub mod operation;

pub mod event;

// ---- the I/O line: what stands below may touch clocks, sockets, files and the terminal ----

pub mod clock;
pub mod transport;

pub mod journal;
pub mod runner;

pub mod lab;
pub mod ui;

pub mod cli;

//! The guard's script, run by this machine's sh: its decisions, with everything that it asks played by
//! small programs, and processes of its own to kill.

mod decisions;
mod records;
mod world;

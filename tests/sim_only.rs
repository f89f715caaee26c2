#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may fail loudly")]
mod nodes;
mod simulation;

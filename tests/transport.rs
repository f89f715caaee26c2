//! The transport against a real sshd on loopback, which each test starts for itself.
//!
//! What needs root or a missing program is skipped with a loud line, or fails when
//! `PGORCH_LAB=required`.

mod channels;
mod connect;
mod known_hosts;
mod resolve;
mod shell;
mod sql;
mod sshd;
mod sudo;
mod user;

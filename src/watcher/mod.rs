//! Where the watch meets clocks and hosts.
//!
//! `eye` is one host's standing connection, `hands` carries out what is decided, `rounds` is the loop
//! between them; what is decided, and why, is `watch`'s. Observation goes on while hands are at work.

mod eye;
mod hands;
mod rounds;
mod state;

pub use hands::{Hands, MakeRunner, Revoked, lease_wait};
pub use rounds::{Settings, Watcher};
pub use state::{State, lock_cluster};

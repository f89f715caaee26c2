//! Where the watch meets clocks and hosts.
//!
//! `eye` is one host's standing connection, `hands` carries out what is decided (`restart` starts a
//! server in its place), `rounds` is the loop between them; what is decided, and why, is `watch`'s.
//! Observation goes on while hands are at work. `told` tells what a round came to: events, the
//! terminal, `notify` (commands, and webhooks by `webhook`), and `supervisor` (systemd).

mod eye;
mod hands;
mod notify;
mod restart;
mod rounds;
mod state;
mod supervisor;
mod told;
mod webhook;

pub use hands::{Hands, MakeRunner, Revoked, lease_wait};
pub use notify::Notifier;
pub use rounds::{Settings, Watcher};
pub use state::{State, lock_cluster};
pub use supervisor::Supervisor;
pub use told::{Audience, Draw};

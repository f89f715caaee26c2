//! SSH: one connection per host, everything multiplexed over it.

mod auth;
pub mod config;
mod connect;
mod connection;
mod deadline;
mod drained;
mod error;
mod exec;
mod host_check;
mod keyring;
pub mod known_hosts;
mod known_store;
mod quick_ack;
mod resolve;
mod shell;
mod sql;
mod target;

pub use connect::Transport;
pub use connection::Connection;
pub use error::{ChannelError, ConnectError, ConnectErrorKind, KeyError, Stage};
pub use exec::Output;
pub use host_check::ScannedKey;
pub use known_store::append as store_known_host;
pub use resolve::{CommandLine, ResolveError, Resolver, Surroundings, Wanted};
pub use shell::{
    Hello, Interrupter, OUTPUT_LIMIT, OnLine, Outcome, Request, Rights, RunError, Shell,
    ShellError, Stream, Ticket,
};
pub use sql::{Sql, SqlEndpoint, SqlError, SqlTarget};
pub use target::{Become, HostKeys, Identity, NoPrompts, Prompts, SharedPrompts, Target, Timeouts};

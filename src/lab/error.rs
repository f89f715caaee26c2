//! What can go wrong with a lab; each text says what failed, where, and what to do.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use super::HostState;

/// A lab operation did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    #[error("{doing} needs root on a Linux machine: run it with sudo")]
    NotRoot { doing: &'static str },
    #[error(
        "this machine cannot run lab hosts: {reason}\nuse hosts that exist (leave `lab:` out of \
         the inventory) or another machine"
    )]
    Unsupported { reason: String },
    #[error(
        "the lab needs {programs}, which this machine lacks, and they could not be installed \
         here{why}\ninstall the packages {packages} and run this again"
    )]
    MissingPrograms { programs: String, packages: String, why: String },
    #[error("{}{doing} failed: `{command}` {ended}{}", on(host.as_ref()), tail(output))]
    Command { doing: String, host: Option<String>, command: String, ended: String, output: String },
    #[error("cannot {doing} {}: {source}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error(
        "{} is not a lab state that this version understands: {source}\n`pgorch lab down` on this \
         lab removes it", path.display()
    )]
    State { path: PathBuf, source: serde_json::Error },
    #[error("{message}")]
    BadSpec { message: String },
    #[error(
        "{host}: address {address} is in use: the lab of {owner} has it\ngive {host} another \
         address, or end that lab with `pgorch lab down {owner}`"
    )]
    AddressTaken { host: String, address: Ipv4Addr, owner: String },
    #[error(
        "{host}: address {address} is in use: this machine's interface {interface} has \
         {network}\ngive {host} an address in another /24 of 198.18.0.0/15"
    )]
    AddressOnMachine { host: String, address: Ipv4Addr, interface: String, network: String },
    #[error(
        "all /24 networks of 198.18.0.0/15 are taken: end a lab (`pgorch lab status` lists them)"
    )]
    NoFreeNetwork,
    #[error("there is no lab of {key} on this machine: `pgorch lab up` makes it")]
    NoLab { key: String },
    #[error(
        "labs of {key} and {other} have the same short name: end the other with \
         `pgorch lab down {other}`"
    )]
    SameShortName { key: String, other: String },
    #[error("the lab has no host \"{host}\": it has {known}")]
    NoHost { host: String, known: String },
    #[error("{host} is {state}: {advice}")]
    WrongState { host: String, state: HostState, advice: &'static str },
    #[error(
        "{host}: not ready {seconds} s after its start ({waiting_for}){}\n`pgorch lab reset \
         {host}` makes it afresh",
        tail(console)
    )]
    NotReady { host: String, seconds: u64, waiting_for: &'static str, console: String },
    #[error("{host}: no process is called \"{process}\" and no unit of that name runs there")]
    NoProcess { host: String, process: String },
    #[error("{doing}: {failures}")]
    Several { doing: &'static str, failures: String },
}

impl LabError {
    /// An I/O error at `path`; `doing` completes "cannot ...".
    pub(super) fn io(
        doing: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(std::io::Error) -> LabError {
        let path = path.as_ref().to_path_buf();
        move |source| LabError::Io { doing, path, source }
    }

    /// The same error, said about a host.
    pub(super) fn on_host(self, name: &str) -> LabError {
        match self {
            LabError::Command { doing, host: None, command, ended, output } => {
                LabError::Command { doing, host: Some(name.to_owned()), command, ended, output }
            }
            other => other,
        }
    }
}

fn on(host: Option<&String>) -> String {
    host.map(|name| format!("{name}: ")).unwrap_or_default()
}

/// The last lines of a program's output, indented, on lines of their own.
fn tail(output: &str) -> String {
    let lines: Vec<&str> = output.lines().filter(|l| !l.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(12);
    lines.iter().skip(from).map(|line| format!("\n    {line}")).collect()
}

//! `init`: a first inventory, from flags or by asking.

use std::io::{BufRead as _, IsTerminal as _};
use std::path::PathBuf;

use super::args::Common;
use super::error::CliError;
use crate::inventory::{self, FirstInventory};
use crate::model::{Exit, HostName};
use crate::syntax::Source;
use crate::ui::Printer;

pub(super) struct Wanted {
    pub(super) file: PathBuf,
    pub(super) cluster: Option<String>,
    pub(super) nodes: Vec<String>,
    pub(super) pg_version: Option<u32>,
    pub(super) force: bool,
}

pub(super) fn init(common: &Common, wanted: &Wanted) -> Result<Exit, CliError> {
    let shown = wanted.file.display();
    if wanted.file.exists() && !wanted.force {
        return Err(CliError::refused(format!("{shown} is there already"))
            .hint("name another file, or replace it with --force"));
    }
    let asks = std::io::stdin().is_terminal();
    let cluster = match &wanted.cluster {
        Some(cluster) => cluster.clone(),
        None if asks => ask("Cluster name", "main")?,
        None => "main".to_owned(),
    };
    let nodes = if !wanted.nodes.is_empty() {
        wanted.nodes.clone()
    } else if asks {
        let text = ask("Addresses of the nodes, the first primary first (a, b, c)", "")?;
        text.split([',', ' ']).filter(|w| !w.is_empty()).map(str::to_owned).collect()
    } else {
        return Err(CliError::usage("init needs the nodes")
            .hint("pgorch init --nodes 192.0.2.11,192.0.2.12,192.0.2.13"));
    };
    if nodes.is_empty() {
        return Err(CliError::usage("a cluster needs at least one node"));
    }
    let version = wanted.pg_version.unwrap_or(15);
    let name =
        |(index, address): (usize, String)| (HostName(format!("node{}", index + 1)), Some(address));
    let text = inventory::write_first(&FirstInventory {
        cluster,
        version,
        user: common.user.clone(),
        nodes: nodes.into_iter().enumerate().map(name).collect(),
    });
    inventory::parse(&Source::new(shown.to_string(), text.clone()))
        .map_err(|all| CliError::diagnostics(&all))?;
    std::fs::write(&wanted.file, text)
        .map_err(|e| CliError::failed(format!("cannot write {shown}: {e}")))?;
    Printer.err(&format!("wrote {shown}; next: pgorch trust -i {shown} && pgorch plan {shown}\n"));
    Ok(Exit::Done)
}

fn ask(question: &str, default: &str) -> Result<String, CliError> {
    let shown = if default.is_empty() { String::new() } else { format!(" [{default}]") };
    Printer.err(&format!("{question}{shown}: "));
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|e| CliError::usage(format!("cannot read the answer: {e}")))?;
    let line = line.trim();
    Ok(if line.is_empty() { default.to_owned() } else { line.to_owned() })
}

//! `pgorch lab`: disposable hosts on this machine.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use super::args::{Common, LabCommand, Output};
use super::error::CliError;
use super::load;
use crate::inventory::Inventory;
use crate::lab::{self, HostSpec, Lab, LabError, LabKey, Spec};
use crate::model::Exit;
use crate::ui::Printer;

/// The inventory of `lab up` without one.
const BUILT_IN: &str = include_str!("../../inventories/lab.yml");

impl From<LabError> for CliError {
    fn from(error: LabError) -> Self {
        CliError::failed(format!("lab: {error}"))
    }
}

pub(super) fn lab(common: &Common, command: LabCommand) -> Result<Exit, CliError> {
    match command {
        LabCommand::Up { file } => up(common, file),
        LabCommand::Down { file, all, images } => down(common, file, all, images),
        LabCommand::Status { file } => status(common, file),
        LabCommand::Ssh { host, argv } => ssh(common, &host, &argv),
        LabCommand::Fault { words } => {
            let fault = lab::parse_fault(&words).map_err(CliError::usage)?;
            let applied = lab::fault(&key(common, None)?, &fault)?;
            Printer.err(&format!("{}\n", applied.summary));
            Ok(Exit::Done)
        }
        LabCommand::Reset { hosts } => {
            lab::reset(&key(common, None)?, &hosts, &mut say)?;
            Ok(Exit::Done)
        }
    }
}

fn say(progress: lab::Progress) {
    let host = progress.host.unwrap_or_else(|| "lab".to_owned());
    Printer.err(&format!("  {host}  {}\n", progress.message));
}

/// The lab meant: of the named inventory, of the default one, the only one that is up, built-in.
fn key(common: &Common, file: Option<PathBuf>) -> Result<LabKey, CliError> {
    let named = file.or_else(|| common.inventory.first().cloned());
    let path = named.or_else(load::default_inventory);
    if let Some(path) = path {
        return Ok(LabKey::of_inventory(&path)
            .unwrap_or_else(|_| LabKey::named(path.to_string_lossy().into_owned())));
    }
    match lab::list()?.as_slice() {
        [only] => Ok(only.key.clone()),
        [] => Err(CliError::usage("no lab is up").hint("`pgorch lab up` makes one")),
        several => {
            let names: Vec<&str> = several.iter().map(|l| l.key.as_str()).collect();
            Err(CliError::usage(format!("several labs are up: {}", names.join(", ")))
                .hint("name one with -i FILE"))
        }
    }
}

/// The lab of an inventory, made where it lacks; says what it does only if it does something.
pub(super) fn up_for(path: &Path, inventory: &Inventory) -> Result<Lab, CliError> {
    let key = LabKey::of_inventory(path)
        .map_err(|e| CliError::usage(format!("{}: {e}", path.display())))?;
    let spec = spec(key, inventory)?;
    Ok(lab::up(&spec, &mut say)?.lab)
}

fn spec(key: LabKey, inventory: &Inventory) -> Result<Spec, CliError> {
    let image = inventory.lab.as_ref().map_or("bookworm", |l| l.image.as_str());
    let host = |(name, host): (&crate::model::HostName, &crate::inventory::Host)| {
        let address = match &host.address {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| {
                CliError::usage(format!("host {name}: a lab address must be IPv4, not \"{text}\""))
            })?),
        };
        Ok(HostSpec { name: name.0.clone(), address })
    };
    let hosts: Result<Vec<HostSpec>, CliError> = inventory.all_hosts().map(host).collect();
    Ok(Spec::new(key, image, hosts?))
}

fn up(common: &Common, file: Option<PathBuf>) -> Result<Exit, CliError> {
    let named = file.or_else(|| common.inventory.first().cloned()).or_else(load::default_inventory);
    let path = match named {
        Some(path) => path,
        None => built_in()?,
    };
    let (inventory, _) = load::inventory_file(&path)?;
    if inventory.lab.is_none() {
        let text = format!("{} has no \"lab:\"; its hosts are real", path.display());
        return Err(CliError::usage(text).hint("add  lab: { image: bookworm }"));
    }
    print(common, &[up_for(&path, &inventory)?]);
    Ok(Exit::Done)
}

/// The inventory of `lab up` without one: the shipped lab, kept in the state directory so that
/// every other command finds it as the lab that is up.
fn built_in() -> Result<PathBuf, CliError> {
    let dir = load::state_dir();
    let path = dir.join("lab.yml");
    if !path.exists() {
        let written = std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(&path, BUILT_IN));
        written.map_err(|e| CliError::failed(format!("cannot write {}: {e}", path.display())))?;
    }
    Ok(path)
}

fn down(common: &Common, file: Option<PathBuf>, all: bool, images: bool) -> Result<Exit, CliError> {
    let done = if all { lab::down_all()? } else { vec![lab::down(&key(common, file)?)?] };
    for one in &done {
        let key = one.key.as_ref().map_or("a lab without its state", LabKey::as_str);
        let word = if one.existed { "removed" } else { "nothing to remove" };
        Printer.err(&format!("{key}: {word}\n"));
    }
    if images {
        lab::purge_images()?;
        Printer.err("images removed\n");
    }
    Ok(Exit::Done)
}

fn status(common: &Common, file: Option<PathBuf>) -> Result<Exit, CliError> {
    let labs = match file.or_else(|| common.inventory.first().cloned()) {
        Some(path) => vec![lab::status(&key(common, Some(path))?)?],
        None => lab::list()?,
    };
    print(common, &labs);
    Ok(Exit::Done)
}

fn print(common: &Common, labs: &[Lab]) {
    if common.output == Output::Json {
        let document = serde_json::json!({ "schema": 1, "labs": labs });
        let text = serde_json::to_string_pretty(&document).unwrap_or_default();
        Printer.out(&format!("{text}\n"));
        return;
    }
    if labs.is_empty() {
        Printer.out("no lab on this machine\n");
    }
    for lab in labs {
        Printer.out(&format!("{} ({}, {})\n", lab.key, lab.image, lab.subnet));
        for host in &lab.hosts {
            Printer.out(&format!("  {:<12} {:<15} {}\n", host.name, host.address, host.state));
        }
    }
}

fn ssh(common: &Common, host: &str, argv: &[String]) -> Result<Exit, CliError> {
    let words = lab::ssh_argv(&key(common, None)?, host, argv)?;
    let Some((program, rest)) = words.split_first() else {
        return Err(CliError::failed("no ssh command"));
    };
    // Replaces this process: the terminal, signals and the exit status are ssh's own.
    let error = std::process::Command::new(program).args(rest).exec();
    Err(CliError::failed(format!("cannot run ssh: {error}")))
}

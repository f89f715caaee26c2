//! Completions, schemas, the manual page and the shipped files.

use std::path::Path;

use clap::CommandFactory as _;

use super::args::{Cli, SchemaOf};
use super::error::CliError;
use crate::model::Exit;
use crate::playbook::SHIPPED;
use crate::ui::Printer;

pub(super) fn completions(shell: clap_complete::Shell) -> Exit {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pgorch", &mut text);
    Printer.out(&String::from_utf8_lossy(&text));
    Exit::Done
}

pub(super) fn schema(of: SchemaOf) -> Exit {
    let schema = match of {
        SchemaOf::Inventory => crate::inventory::schema(),
        SchemaOf::Playbook => crate::playbook::schema(),
    };
    let text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    Printer.out(&format!("{text}\n"));
    Exit::Done
}

/// One page with every subcommand after the other.
pub(super) fn man() -> Result<Exit, CliError> {
    let broken = |e: std::io::Error| CliError::failed(format!("cannot write the page: {e}"));
    let mut text = Vec::new();
    let command = Cli::command();
    clap_mangen::Man::new(command.clone()).render(&mut text).map_err(broken)?;
    for sub in command.get_subcommands().filter(|s| !s.is_hide_set()) {
        clap_mangen::Man::new(sub.clone()).render(&mut text).map_err(broken)?;
    }
    Printer.out(&String::from_utf8_lossy(&text));
    Ok(Exit::Done)
}

/// Writes the shipped playbooks and templates below `dir`; files that are there stay.
pub(super) fn playbooks(dir: Option<&Path>) -> Result<Exit, CliError> {
    for (path, text) in SHIPPED {
        let Some(dir) = dir else {
            Printer.out(&format!("{path}\n"));
            continue;
        };
        let target = dir.join(path);
        if target.exists() {
            Printer.err(&format!("kept    {}\n", target.display()));
            continue;
        }
        let written = target
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| std::fs::write(&target, text));
        written.map_err(|e| CliError::failed(format!("cannot write {}: {e}", target.display())))?;
        Printer.err(&format!("wrote   {}\n", target.display()));
    }
    Ok(Exit::Done)
}

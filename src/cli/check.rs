//! `check`: inventory, playbooks and templates without a host; with `--hosts` the hosts too.

use std::path::PathBuf;

use super::args::Common;
use super::error::CliError;
use super::{load, sources, status};
use crate::inventory::{LiveRoles, match_hosts};
use crate::model::Exit;
use crate::syntax::Diagnostic;
use crate::template::Templates;
use crate::ui::Printer;

pub(super) fn check(
    common: &Common,
    file: Option<PathBuf>,
    playbooks: &[PathBuf],
    hosts: bool,
) -> Result<Exit, CliError> {
    let path = load::find(common, file)?;
    let (inventory, _) = load::inventory_file(&path)?;
    let mut all = vec![PathBuf::from("playbooks/apply.yml")];
    all.extend_from_slice(playbooks);
    let mut complaints: Vec<Diagnostic> = Vec::new();
    for playbook in &all {
        let loaded = sources::playbook(playbook)?.playbook;
        for play in &loaded.plays {
            if let Err(error) = match_hosts(&play.hosts.text, &inventory, &LiveRoles::default()) {
                let complaint = Diagnostic::error(&play.hosts.span, error.to_string());
                complaints.push(complaint.hint(error.hint));
            }
        }
    }
    complaints.extend(templates());
    if !complaints.is_empty() {
        return Err(CliError::diagnostics(&complaints));
    }
    Printer.err(&format!(
        "{}: cluster {}, {} nodes, {} playbooks: good\n",
        path.display(),
        inventory.cluster,
        inventory.nodes.len(),
        all.len()
    ));
    if hosts { check_hosts(common, path) } else { Ok(Exit::Done) }
}

fn templates() -> Vec<Diagnostic> {
    let engine = Templates::new();
    let shipped = crate::playbook::SHIPPED.iter().filter(|(path, _)| path.ends_with(".j2"));
    shipped
        .filter_map(|(path, text)| engine.check(path, text).err().map(|error| error.diagnostic()))
        .collect()
}

/// Every host answers, is a Linux that pgorch knows, and lets us become root.
fn check_hosts(common: &Common, path: PathBuf) -> Result<Exit, CliError> {
    let runner = status::look(common, Some(path))?;
    let mut exit = Exit::Done;
    let checks = super::block_on(async {
        let mut rows = Vec::new();
        for (name, link) in runner.links.iter().filter(|(n, _)| runner.select.hosts.contains(*n)) {
            let held = link.lock().await;
            rows.push((name.clone(), held.facts(), held.unreachable.clone()));
        }
        rows
    })?;
    for (name, facts, unreachable) in checks {
        let verdict = match (facts, unreachable) {
            (_, Some(why)) => {
                exit = exit.worst(Exit::Unreachable);
                format!("unreachable: {why}")
            }
            (Some(facts), None) if facts.host.os_family.is_empty() => {
                exit = exit.worst(Exit::Refused);
                format!("operating system \"{}\" is not known to pgorch", facts.host.os_id)
            }
            (Some(facts), None) if facts.host.systemd_version == 0 => {
                exit = exit.worst(Exit::Refused);
                "no systemd".to_owned()
            }
            (Some(facts), None) => {
                let host = &facts.host;
                format!(
                    "good: {} {}, systemd {}",
                    host.os_id, host.os_version, host.systemd_version
                )
            }
            (None, None) => {
                exit = exit.worst(Exit::Failed);
                "its facts could not be read".to_owned()
            }
        };
        Printer.out(&format!("{name}  {verdict}\n"));
    }
    Ok(exit)
}

//! Secrets of the inventory, resolved once at start into the controller's memory.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::args::Common;
use super::error::CliError;
use crate::inventory::{Inventory, SecretRef, vault};
use crate::model::{Redactor, Secret};
use crate::ui::Printer;

/// Which secrets a command needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needed {
    /// A playbook runs: all but those of notifications.
    Playbook,
    /// All: playbooks run, and people are told.
    Watch,
    /// Those of `ssh`: hosts are looked at. Others are read only where that takes no more than a
    /// look, so that they are masked in what the hosts say.
    Login,
}

/// The inventory of the file `path` with the needed secrets in place; the redactor knows them.
pub(super) fn resolve(
    common: &Common,
    inventory: Inventory,
    path: &Path,
    needed: Needed,
    redactor: &Redactor,
) -> Result<Inventory, CliError> {
    let dir = path.parent().unwrap_or(Path::new(""));
    let mut sources = Sources { common, dir, vault_password: None };
    let (login, notifications) = (inventory.login_secrets(), inventory.notification_secrets());
    let mut values = Vec::new();
    for (index, reference) in inventory.secret_refs().into_iter().enumerate() {
        let must = match needed {
            Needed::Watch => true,
            Needed::Playbook => !notifications.contains(&index),
            Needed::Login => login.contains(&index),
        };
        let value = if must { Some(sources.read(reference)?) } else { sources.at_hand(reference) };
        if let Some(value) = &value {
            redactor.learn(value.expose());
        }
        values.push(value);
    }
    Ok(inventory.with_secrets(&values))
}

/// Where secrets come from.
struct Sources<'a> {
    common: &'a Common,
    /// The inventory's directory: relative paths begin there.
    dir: &'a Path,
    vault_password: Option<Secret>,
}

impl Sources<'_> {
    fn read(&mut self, reference: &SecretRef) -> Result<Secret, CliError> {
        match reference {
            SecretRef::Plain(secret) => Ok(secret.clone()),
            SecretRef::Env(name) => {
                let text = format!("the inventory wants a secret from ${name}, which is not set");
                std::env::var(name).map(Secret::new).map_err(|_| {
                    CliError::usage(text).hint(format!("export {name}=... and run again"))
                })
            }
            SecretRef::File(path) => file(&self.dir.join(expand_home(path))),
            SecretRef::Command(argv) => command(argv),
            SecretRef::Vault(text) => {
                let password = match &self.vault_password {
                    Some(password) => password,
                    None => self.vault_password.insert(ask_vault_password(self.common)?),
                };
                vault::decrypt(text, password)
                    .map_err(|e| CliError::usage(format!("a !vault value: {e}")))
            }
        }
    }

    /// What can be had without asking anybody or running anything.
    fn at_hand(&mut self, reference: &SecretRef) -> Option<Secret> {
        match reference {
            SecretRef::Command(_) | SecretRef::Vault(_) => None,
            other => self.read(other).ok(),
        }
    }
}

fn ask_vault_password(common: &Common) -> Result<Secret, CliError> {
    match &common.vault_password_file {
        Some(path) => file(path),
        None => {
            prompt("Vault password: ").map_err(|e| e.hint("or give --vault-password-file FILE"))
        }
    }
}

fn file(path: &Path) -> Result<Secret, CliError> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|e| CliError::usage(format!("cannot read the secret file {shown}: {e}")))?;
    Ok(Secret::new(text.trim_end_matches(['\n', '\r'])))
}

fn command(argv: &[String]) -> Result<Secret, CliError> {
    let name = argv.first().cloned().unwrap_or_default();
    let failed = |why: String| CliError::usage(format!("the secret command \"{name}\" {why}"));
    let output = std::process::Command::new(&name)
        .args(argv.iter().skip(1))
        .stdin(std::process::Stdio::inherit())
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|e| failed(format!("cannot run: {e}")))?;
    if !output.status.success() {
        return Err(failed(format!("failed with {}", output.status)));
    }
    let text = String::from_utf8(output.stdout).map_err(|_| failed("printed no text".into()))?;
    Ok(Secret::new(text.trim_end_matches(['\n', '\r'])))
}

/// The terminal as it was before a question that is open.
static PROMPTING: Mutex<Option<Termios>> = Mutex::new(None);

/// Turns the terminal's echo on again if a question is open. Returns whether one was: nothing has
/// been done to any host then that would have to be finished.
pub(super) fn give_back_terminal() -> bool {
    let before = PROMPTING.lock().unwrap_or_else(PoisonError::into_inner).take();
    let tty = std::fs::OpenOptions::new().read(true).write(true).open("/dev/tty");
    match (&before, tty) {
        (Some(before), Ok(tty)) => tcsetattr(&tty, OptionalActions::Flush, before).is_ok(),
        _ => false,
    }
}

/// Reads a line without echo from the terminal.
pub(super) fn prompt(text: &str) -> Result<Secret, CliError> {
    use std::io::BufRead as _;
    let no_terminal =
        || CliError::usage(format!("no terminal to ask \"{}\"", text.trim_end_matches(": ")));
    let tty = std::fs::OpenOptions::new().read(true).write(true).open("/dev/tty");
    let tty = tty.map_err(|_| no_terminal())?;
    let before = tcgetattr(&tty).map_err(|_| no_terminal())?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    *PROMPTING.lock().unwrap_or_else(PoisonError::into_inner) = Some(before.clone());
    tcsetattr(&tty, OptionalActions::Flush, &silent).map_err(|_| no_terminal())?;
    Printer.err(text);
    let mut line = String::new();
    let read = std::io::BufReader::new(&tty).read_line(&mut line);
    give_back_terminal();
    Printer.err("\n");
    match read {
        Ok(count) if count > 0 => Ok(Secret::new(line.trim_end_matches(['\n', '\r']))),
        _ => Err(no_terminal()),
    }
}

/// `~/x` as the user's shell would read it.
pub(super) fn expand_home(path: &str) -> String {
    match (path.strip_prefix("~/"), std::env::var("HOME")) {
        (Some(rest), Ok(home)) => Path::new(&home).join(rest).to_string_lossy().into_owned(),
        _ => path.to_owned(),
    }
}

//! `watch --print-unit`: the watch as a systemd service of the controller.

use std::path::Path;

use serde_json::json;

use super::args::Common;
use super::error::CliError;
use super::load;
use crate::model::{Exit, quote, unit_word};
use crate::playbook;
use crate::template::Templates;
use crate::ui::Printer;

/// The watchdog's time, seconds: several of the longest rounds, on a controller with much to do.
const WATCHDOG_SECONDS: u32 = 20;

/// Prints it; nothing is installed.
pub(super) fn print(common: &Common) -> Result<Exit, CliError> {
    let path = load::find(common, None)?;
    let (inventory, _) = load::inventory_file(&path)?;
    if common.ask_pass || common.ask_become_pass {
        return Err(CliError::usage("a service has no terminal to ask for passwords")
            .hint("put them into the inventory: ssh: { password: {secret: {file: PATH}} }"));
    }
    let program = std::env::current_exe()
        .map_err(|e| CliError::failed(format!("where this program is: {e}")))?;
    let program = text(&program)?;
    let mut argv = vec![program, "watch".to_owned()];
    argv.extend(options(common, &path)?);
    let mut environment = Vec::new();
    if let Some(dir) = std::env::var_os("XDG_STATE_HOME") {
        environment.push(format!("XDG_STATE_HOME={}", dir.to_string_lossy()));
    }
    let words: Vec<String> = argv.iter().map(|word| unit_word(word)).collect();
    // A dollar is not special in Environment=.
    let environment: Vec<String> =
        environment.iter().map(|line| unit_word(line).replace("$$", "$")).collect();
    let printing: Vec<String> = argv.iter().map(|word| quote(word)).collect();
    let vars = json!({
        "cluster": inventory.cluster,
        "unit": format!("pgorch-watch-{}.service", inventory.cluster),
        "exec": words.join(" "),
        "print": format!("{} --print-unit", printing.join(" ")),
        "user": user(),
        "environment": environment,
        "watchdog_seconds": WATCHDOG_SECONDS,
    });
    let name = "templates/watch.service.j2";
    let template = playbook::shipped(name).unwrap_or_default();
    let unit = Templates::new().render(name, template, &vars);
    Printer.out(&unit.map_err(|e| CliError::usage(e.to_string()))?);
    Ok(Exit::Done)
}

/// What the watch has to be told besides: paths as they are from everywhere.
fn options(common: &Common, inventory: &Path) -> Result<Vec<String>, CliError> {
    let mut all = vec!["-i".to_owned(), absolute(inventory)?];
    if let Some(user) = &common.user {
        all.extend(["-u".to_owned(), user.clone()]);
    }
    let files = [
        ("--private-key", &common.private_key),
        ("--vault-password-file", &common.vault_password_file),
    ];
    for (option, file) in files {
        if let Some(file) = file {
            all.extend([option.to_owned(), absolute(file)?]);
        }
    }
    if common.r#become {
        all.push("--become".to_owned());
    }
    if let Some(seconds) = common.timeout {
        all.extend(["--timeout".to_owned(), seconds.to_string()]);
    }
    for vars in &common.extra_vars {
        let vars = match vars.strip_prefix('@') {
            Some(file) => format!("@{}", absolute(Path::new(file))?),
            None => vars.clone(),
        };
        all.extend(["-e".to_owned(), vars]);
    }
    Ok(all)
}

fn absolute(path: &Path) -> Result<String, CliError> {
    let path = std::path::absolute(path)
        .map_err(|e| CliError::usage(format!("{}: {e}", path.display())))?;
    text(&path)
}

fn text(path: &Path) -> Result<String, CliError> {
    let bad = || CliError::usage(format!("the path {} is no UTF-8", path.display()));
    path.to_str().map(str::to_owned).ok_or_else(bad)
}

/// As whom the watch runs: who prints the unit has the keys and the state.
fn user() -> String {
    let name = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    name.unwrap_or_else(|_| rustix::process::geteuid().as_raw().to_string())
}

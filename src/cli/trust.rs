//! `trust`: show the keys of hosts, and store them after a yes.
//!
//! Jump hosts come first, because what is behind them can only be asked through them. A key that
//! has changed is never stored: whoever knows that the host was reinstalled removes the old line.

use std::io::IsTerminal as _;

use indexmap::IndexMap;

use super::args::Common;
use super::error::CliError;
use super::{block_on, load};
use crate::model::{Exit, HostName};
use crate::transport::known_hosts::Verdict;
use crate::transport::{ScannedKey, Target, Transport};
use crate::ui::Printer;

pub(super) fn trust(common: &Common, hosts: &[String]) -> Result<Exit, CliError> {
    let limit = if hosts.is_empty() { common.limit.clone() } else { Some(hosts.join(",")) };
    let common = Common { limit, ..common.clone() };
    let prepared = load::prepare_to_look(&common, None)?;
    block_on(async {
        let targets = prepared.targets(&common).await?;
        let transport = load::transport();
        let mut exit = Exit::Done;
        for (name, jump) in jumps(&targets) {
            let scanned = scan(&transport, [(name, jump)]).await;
            // What is known already needs no question.
            let new =
                |(_, _, key): &Scanned| !matches!(key, Ok(key) if key.verdict == Verdict::Known);
            exit = exit.worst(offer(&common, scanned.into_iter().filter(new).collect())?);
        }
        let targets = targets.into_iter().map(|(HostName(name), target)| (name, target));
        Ok(exit.worst(offer(&common, scan(&transport, targets).await)?))
    })?
}

type Scanned = (String, Target, Result<ScannedKey, String>);

/// The jump hosts of all targets, each once, those that are dialled first before those behind them.
fn jumps(targets: &IndexMap<HostName, Target>) -> IndexMap<String, Target> {
    let mut all = IndexMap::new();
    for target in targets.values() {
        let chain = std::iter::successors(target.jump.as_deref(), |jump| jump.jump.as_deref());
        for jump in chain.collect::<Vec<_>>().into_iter().rev() {
            all.entry(jump.name.clone()).or_insert_with(|| jump.clone());
        }
    }
    all
}

async fn scan(
    transport: &Transport,
    targets: impl IntoIterator<Item = (String, Target)>,
) -> Vec<Scanned> {
    let scans = targets.into_iter().map(|(name, target)| async move {
        let key = transport.scan(&target).await.map_err(|e| e.to_string());
        (name, target, key)
    });
    futures_util::future::join_all(scans).await
}

/// Shows the keys, asks, stores.
fn offer(common: &Common, scanned: Vec<Scanned>) -> Result<Exit, CliError> {
    let mut exit = Exit::Done;
    let mut found = Vec::new();
    for (name, target, key) in scanned {
        let key = match key {
            Ok(key) => key,
            Err(error) => {
                exit = exit.worst(Exit::Unreachable);
                Printer.err(&format!("{error}\n"));
                continue;
            }
        };
        Printer.out(&format!("{name}  {}\n", key.describe()));
        match refusal(&name, &key) {
            Some(why) => {
                exit = exit.worst(Exit::Refused);
                Printer.err(&format!("{why}\n"));
            }
            None => found.push((name, target, key)),
        }
    }
    if found.is_empty() {
        return Ok(exit);
    }
    let known = found.iter().all(|(_, _, key)| key.verdict == Verdict::Known);
    if !known && !agreed(common)? {
        return Ok(exit.worst(Exit::Refused));
    }
    for (name, target, key) in found {
        store(&name, &target, &key)?;
    }
    Ok(exit)
}

/// Why a key must not be stored, whatever the user says.
fn refusal(name: &str, key: &ScannedKey) -> Option<String> {
    match &key.verdict {
        Verdict::Known | Verdict::Unknown => None,
        Verdict::Changed(place) => Some(format!(
            "{name}: THE HOST KEY HAS CHANGED: {place} has another one; if the host was \
             reinstalled, remove that line and run this again, else somebody may be listening in"
        )),
        Verdict::Revoked(place) => Some(format!("{name}: this key is marked @revoked in {place}")),
        Verdict::BadCertificate(why) => Some(format!("{name}: bad host certificate: {why}")),
    }
}

fn store(name: &str, target: &Target, key: &ScannedKey) -> Result<(), CliError> {
    let Some(file) = target.known_hosts.first() else {
        return Err(CliError::usage(format!("host {name} has no known_hosts file")));
    };
    let shown = file.display();
    if key.verdict == Verdict::Known {
        Printer.err(&format!("{name}: was known already\n"));
        return Ok(());
    }
    key.store(file).map_err(|e| CliError::failed(format!("cannot write {shown}: {e}")))?;
    Printer.err(&format!("{name}: stored in {shown}\n"));
    Ok(())
}

fn agreed(common: &Common) -> Result<bool, CliError> {
    if common.yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        return Err(CliError::refused("compare the fingerprints above with the hosts' own")
            .hint("then run again with -y"));
    }
    Printer.err("Are these the hosts' own keys? [yes/no] ");
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
    Ok(matches!(line.trim(), "yes" | "y"))
}

//! `pause`, `unpause`, `ack`: what tells the watch to stand by or to go on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::args::{Common, Output};
use super::block_on;
use super::error::CliError;
use super::load;
use crate::clock;
use crate::event::Sink;
use crate::inventory::{Inventory, NodeSettings};
use crate::model::{Exit, HostName, Script};
use crate::operation::{LeaseCommand, LeaseRefusal, Reading, lease_command, read_lease};
use crate::playbook::Playbook;
use crate::runner::Runner;
use crate::ui::{Printer, Tee};
use crate::watch::Pause;
use crate::watcher::State;

/// `user@host` of this process, for people.
pub(super) fn whoami() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{}@{host}", user.unwrap_or_else(|_| "root".to_owned()))
}

/// `pgorch pause [--for TIME] [--reason TEXT]`.
pub(super) fn pause(
    common: &Common,
    time: Option<&str>,
    reason: Option<String>,
) -> Result<Exit, CliError> {
    let span = time.map(span).transpose()?;
    say(common, true, span, reason)
}

/// `pgorch unpause`.
pub(super) fn unpause(common: &Common) -> Result<Exit, CliError> {
    say(common, false, None, None)
}

/// `90s`, `30m` or `30min`, `2h`, `1d`.
fn span(text: &str) -> Result<Duration, CliError> {
    let bad = || CliError::usage(format!("--for {text}: no time")).hint("such as 30min or 2h");
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let seconds = match &text[digits.len()..] {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(bad()),
    };
    let number: u64 = digits.parse().map_err(|_| bad())?;
    // A hundred years, so that nothing overflows.
    match number.checked_mul(seconds).filter(|span| *span <= 100 * 366 * 86_400) {
        None | Some(0) => Err(bad()),
        Some(span) => Ok(Duration::from_secs(span)),
    }
}

/// How long an unpause waits after the pause before it, so that nothing of that is on its way any more.
const APART: Duration = Duration::from_secs(6);
/// The lease that an unpause leaves behind where nobody renews: until standbys acknowledge.
const LEFT: Duration = Duration::from_secs(5);

/// Stores the word on a majority of the voters, below which a watch might not hear of it, and tells the
/// guard of the primary. A pause is stored first and an end of one last: in between, the watch counts
/// the primary as one that is held without an end.
fn say(
    common: &Common,
    paused: bool,
    span: Option<Duration>,
    reason: Option<String>,
) -> Result<Exit, CliError> {
    let prepared = load::prepare_to_look(common, None)?;
    let said = clock::wall().as_millisecond();
    let until = span.map(|s| said + i64::try_from(s.as_millis()).unwrap_or(i64::MAX / 2));
    let word = Pause { said, paused, until, by: whoami(), reason };
    block_on(async move {
        let inventory = Arc::clone(&prepared.inventory);
        let (_stop, interrupt) = tokio::sync::watch::channel(0);
        let sink: Arc<dyn Sink> = Arc::new(Tee(Vec::new()));
        let voters: Vec<HostName> =
            inventory.nodes.keys().chain(inventory.witnesses.keys()).cloned().collect();
        let (playbook, vars) = (Playbook::default(), Vec::new());
        let runner =
            prepared.runner_of(playbook, voters.clone(), vars, sink, interrupt, common).await?;
        let told;
        let stored;
        if paused {
            stored = store_all(&runner, &voters, &word).await?;
            told = guards(&runner, &Saying::Pause(span)).await;
        } else {
            let last = newest(&runner, &voters).await;
            let since = last.map_or(i64::MAX, |last| said.saturating_sub(last));
            let since = Duration::from_millis(u64::try_from(since).unwrap_or(0));
            clock::sleep(APART.saturating_sub(since)).await;
            told = guards(&runner, &Saying::Unpause).await;
            stored = store_all(&runner, &voters, &word).await?;
        }
        Ok(report(common, &inventory, &word, &stored, &told, voters.len()))
    })?
}

fn report(
    common: &Common,
    inventory: &Inventory,
    word: &Pause,
    stored: &BTreeSet<HostName>,
    told: &[(HostName, Result<(), String>)],
    voters: usize,
) -> Exit {
    let failed: Vec<String> = told
        .iter()
        .filter_map(|(node, said)| Some(format!("{node}: {}", said.as_ref().err()?)))
        .collect();
    let guards: Vec<&str> =
        told.iter().filter(|(_, s)| s.is_ok()).map(|(n, _)| n.as_str()).collect();
    if common.output == Output::Json {
        let document = serde_json::json!({ "schema": 1, "paused": word.paused, "until": word.until,
            "by": word.by, "reason": word.reason, "stored": stored, "guards": guards,
            "problems": failed });
        Printer.out(&format!("{document}\n"));
    } else {
        let what = if word.paused { "paused" } else { "no longer paused" };
        let count = format!("stored on {} of {voters} voters", stored.len());
        Printer.out(&format!("the watch of {} is {what} ({count})\n", inventory.cluster));
        for node in guards {
            Printer.out(&match word.paused {
                true => format!("the guard of {node} lets it run without a lease\n"),
                false => format!("the guard of {node} wants a lease again\n"),
            });
        }
    }
    if failed.is_empty() {
        return Exit::Done;
    }
    for line in &failed {
        Printer.err(&format!("warning: the guard of {line}\n"));
    }
    Printer.err(match word.paused {
        true => "hint: such a primary still needs the watch, or its standbys, to stay up\n",
        false => {
            "hint: until its guard confirms, it is replaced only when it is known to be stopped; \
             run this again\n"
        }
    });
    Exit::Failed
}

async fn store_all(
    runner: &Runner,
    voters: &[HostName],
    word: &Pause,
) -> Result<BTreeSet<HostName>, CliError> {
    let json = serde_json::to_string(word).map_err(|e| CliError::failed(e.to_string()))?;
    let script = Script::new()
        .set("home", &runner.vars.inventory.home())
        .set("word", &json)
        .line("umask 077")
        .line("mkdir -p \"$home\" && printf '%s\\n' \"$word\" >\"$home/pause.pgorch-new\" &&")
        .line(
            "  sync \"$home/pause.pgorch-new\" && mv -f \"$home/pause.pgorch-new\" \"$home/pause\" &&",
        )
        .line("  sync \"$home\"");
    let all = join_all(voters.iter().map(|voter| ask(runner, voter, &script))).await;
    let named = voters.iter().zip(all);
    let stored: BTreeSet<HostName> =
        named.filter_map(|(voter, said)| said.map(|_| voter.clone())).collect();
    let needed = voters.len() / 2 + 1;
    if stored.len() < needed {
        let text =
            format!("stored on {} of {} voters, {needed} are needed", stored.len(), voters.len());
        return Err(CliError::unreachable(text).hint("a watch elsewhere may not hear of it"));
    }
    Ok(stored)
}

/// When the newest pause was said that is stored anywhere.
async fn newest(runner: &Runner, voters: &[HostName]) -> Option<i64> {
    let script = Script::new()
        .set("home", &runner.vars.inventory.home())
        .line("cat \"$home/pause\" 2>/dev/null || :");
    let all = join_all(voters.iter().map(|voter| ask(runner, voter, &script))).await;
    let words = all.into_iter().flatten().filter_map(|text| Pause::read(text.trim()));
    words.filter(|word| word.paused).map(|word| word.said).max()
}

async fn ask(runner: &Runner, host: &HostName, script: &Script) -> Option<String> {
    let mut link = runner.links.get(host)?.lock().await;
    let limit = Duration::from_secs(15);
    let (rc, stdout, _) = link.command(script, None, limit, &mut |_| {}).await.ok()?;
    (rc == 0).then_some(stdout)
}

enum Saying {
    Pause(Option<Duration>),
    Unpause,
}

/// Tells the guards of whoever is, or may be, the primary.
async fn guards(runner: &Runner, saying: &Saying) -> Vec<(HostName, Result<(), String>)> {
    let inventory = &runner.vars.inventory;
    if !inventory.failover.automatic {
        return Vec::new();
    }
    let nodes = inventory.nodes.keys().filter_map(|name| inventory.postgres_of(name));
    let all = join_all(nodes.map(|node| async move {
        let said = tell_guard(runner, &node, saying).await;
        (node.name, said)
    }));
    let all = all.await;
    // Where the primary has answered, the other hosts do not matter.
    let answered = all.iter().any(|(_, said)| matches!(said, Said::Done));
    let said = all.into_iter().filter_map(|(name, said)| match said {
        Said::Done => Some((name, Ok(()))),
        Said::Failed(why) => Some((name, Err(why))),
        Said::NotReached(why) if !answered => Some((name, Err(why))),
        Said::NotReached(_) | Said::Nobody => None,
    });
    said.collect()
}

enum Said {
    Done,
    /// No primary runs there, or there is no guard.
    Nobody,
    NotReached(String),
    Failed(String),
}

async fn tell_guard(runner: &Runner, node: &NodeSettings, saying: &Saying) -> Said {
    let reading = match guard(runner, node, 0, LeaseCommand::Read).await {
        Ok(reading) => reading,
        Err(LeaseRefusal::NoGuard) => return Said::Nobody,
        Err(why) => return Said::NotReached(why.to_string()),
    };
    let primary = matches!(reading.guard.as_str(), "lease" | "acknowledged" | "paused");
    let done = match saying {
        _ if !primary && !reading.paused => return Said::Nobody,
        Saying::Unpause if !reading.paused => return Said::Done,
        saying => change(runner, node, &reading, saying).await,
    };
    match done {
        Ok(()) => Said::Done,
        Err(why) => Said::Failed(why),
    }
}

async fn change(
    runner: &Runner,
    node: &NodeSettings,
    reading: &Reading,
    saying: &Saying,
) -> Result<(), String> {
    let text = |refusal: LeaseRefusal| refusal.to_string();
    let script =
        Script::new().set("home", &node.home).line("head -n 1 \"$home/epoch\" 2>/dev/null || :");
    let stored = ask(runner, &node.name, &script).await.ok_or("no answer")?;
    let epoch = stored.trim().parse().unwrap_or(0);
    match saying {
        Saying::Pause(span) => {
            let end = span.map(|span| reading.end(span));
            guard(runner, node, epoch, LeaseCommand::Pause { reading, end }).await.map_err(text)?;
        }
        Saying::Unpause => {
            if reading.lease < LEFT {
                let renew = LeaseCommand::Renew { reading, end: reading.end(LEFT) };
                guard(runner, node, epoch, renew).await.map_err(text)?;
            }
            guard(runner, node, epoch, LeaseCommand::Unpause).await.map_err(text)?;
        }
    }
    Ok(())
}

async fn guard(
    runner: &Runner,
    node: &NodeSettings,
    epoch: u64,
    command: LeaseCommand<'_>,
) -> Result<Reading, LeaseRefusal> {
    let no_answer = || LeaseRefusal::Answer("nothing".to_owned());
    let command = lease_command(node, epoch, command, Duration::from_secs(2))?;
    let mut link = runner.links.get(&node.name).ok_or_else(no_answer)?.lock().await;
    let limit = command.deadline;
    let ran = link.command(&command.script, None, limit, &mut |_| {}).await;
    let (_, stdout, stderr) = ran.map_err(|e| LeaseRefusal::Answer(e.to_string()))?;
    read_lease(&stdout, &stderr)
}

/// `pgorch ack`.
pub(super) fn acknowledge(common: &Common) -> Result<Exit, CliError> {
    let path = load::find(common, None)?;
    let (inventory, _) = load::inventory_file(&path)?;
    let (dir, cluster) = (load::state_dir(), inventory.cluster);
    let unwritable = |e| CliError::failed(format!("the state of the watch: {e}"));
    let mut state = State::read(&dir, &cluster).map_err(unwritable)?;
    let count = state.budget.recoveries.len();
    state.budget.acknowledge();
    state.write(&dir, &cluster).map_err(unwritable)?;
    Printer.out(&match count {
        0 => format!("nothing was to be acknowledged for {cluster}\n"),
        1 => format!("one recovery of {cluster} acknowledged\n"),
        count => format!("{count} recoveries of {cluster} acknowledged\n"),
    });
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn spans_are_read() {
        let seconds = |text: &str| span(text).map(|s| s.as_secs()).map_err(|e| e.text());
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("30m"), Ok(1_800));
        assert_eq!(seconds("30min"), Ok(1_800));
        assert_eq!(seconds("2h"), Ok(7_200));
        for bad in ["", "h", "0m", "1", "-1m", "1.5h", "ten", "ä", "5x", "99999999999d"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }
}

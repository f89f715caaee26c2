//! `watch`, and what tells it to stand by or to go on: `pause`, `unpause`, `ack`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;

use super::args::{Common, Output};
use super::error::CliError;
use super::load::{self, Lab, Prepared};
use super::{block_on, interrupt, sources};
use crate::clock;
use crate::event::{Event, Kind, Sink};
use crate::inventory::{Inventory, ReplicationMode};
use crate::model::{Exit, HostName, Script, Value};
use crate::playbook::Playbook;
use crate::runner::Runner;
use crate::step::Options;
use crate::ui::{HumanSink, JsonSink, Masked, Printer, Tee};
use crate::watch::{Declared, FarProof, Members, Pause, Policy, Watch};
use crate::watcher::{Hands, MakeRunner, Revoked, Settings, State, Watcher, lock_cluster};

/// `pgorch watch`.
pub(super) fn watch(common: &Common, dry_run: bool, take_over: bool) -> Result<Exit, CliError> {
    let prepared = load::prepare(common, None, Lab::Find)?;
    let cluster = prepared.inventory.cluster.clone();
    let state_dir = load::state_dir();
    let unwritable = |e| CliError::failed(format!("the state of the watch: {e}"));
    let state = State::read(&state_dir, &cluster).map_err(unwritable)?;
    // A dry run may look on beside a watch.
    let _lock = match lock_cluster(&state_dir, &cluster).map_err(unwritable)? {
        Some(lock) => Some(lock),
        None if dry_run => None,
        None => {
            let text = format!("another watch of {cluster} runs on this machine");
            return Err(CliError::refused(text).hint("pgorch explain watch_already_running"));
        }
    };
    let playbooks = Playbooks::read()?;
    block_on(go(common, Arc::new(prepared), state, playbooks, (dry_run, take_over)))?
}

/// Everything that the watch may need, read before it begins.
struct Playbooks {
    failover: Playbook,
    switchover: Playbook,
    rejoin: Playbook,
}

impl Playbooks {
    fn read() -> Result<Self, CliError> {
        let read = |name: &str| Ok::<_, CliError>(sources::playbook(Path::new(name))?.playbook);
        Ok(Playbooks {
            failover: read("playbooks/failover.yml")?,
            switchover: read("playbooks/switchover.yml")?,
            rejoin: read("playbooks/rejoin.yml")?,
        })
    }
}

async fn go(
    common: &Common,
    prepared: Arc<Prepared>,
    state: State,
    playbooks: Playbooks,
    (dry_run, take_over): (bool, bool),
) -> Result<Exit, CliError> {
    let inventory = Arc::clone(&prepared.inventory);
    let cluster = inventory.cluster.clone();
    let sink = sink(common, &prepared);
    let interrupt = interrupt::listen();
    let voters: Vec<HostName> =
        inventory.nodes.keys().chain(inventory.witnesses.keys()).cloned().collect();
    let identity = format!("watch {} of {}", &state.id[..state.id.len().min(8)], whoami());
    let policy = policy(&inventory, &voters, &identity);
    let mut watch = Watch::new(policy, state.budget, clock::raw());
    if let Some(kept) = state.kept.filter(|kept| inventory.nodes.contains_key(&kept.primary)) {
        watch.go_on_from(kept, clock::raw());
    }
    let watch = Arc::new(Mutex::new(watch));
    let make: MakeRunner = {
        let (prepared, common, sink) = (Arc::clone(&prepared), common.clone(), Arc::clone(&sink));
        let interrupt = interrupt.clone();
        Arc::new(move |playbook: Playbook, hosts: Vec<HostName>, vars: Vec<(String, Value)>| {
            let (prepared, common, sink, interrupt) =
                (Arc::clone(&prepared), common.clone(), Arc::clone(&sink), interrupt.clone());
            Box::pin(async move {
                let made =
                    prepared.runner_of(playbook, hosts, vars, sink, interrupt, &common).await;
                made.map_err(|e| e.text())
            })
        })
    };
    let revoked = Revoked::default();
    let mut runner = prepared
        .runner_of(
            Playbook::default(),
            voters.clone(),
            Vec::new(),
            Arc::clone(&sink),
            interrupt.clone(),
            common,
        )
        .await?;
    runner.lease_wait = Some(crate::watcher::lease_wait(Arc::clone(&watch), Arc::clone(&revoked)));
    let kind = Kind::RunStarted { command: "watch".to_owned(), hosts: voters.len() };
    sink.emit(&Event::run(kind, inventory.cluster.clone()));
    let hands = Hands {
        runner,
        failover: playbooks.failover,
        switchover: playbooks.switchover,
        rejoin: playbooks.rejoin,
        make,
        identity,
        dry_run,
        revoked,
        since: clock::raw(),
        begun: Mutex::default(),
    };
    // The connections of the hands stand before they are needed.
    hands.runner.first_batch(&Options { check: true, ..Options::default() }).await;
    if !dry_run {
        own(&hands.runner, &inventory, &voters, &hands.identity, take_over).await?;
    }
    // From here on nobody else has the right to give anything.
    if let Ok(mut watch) = watch.lock() {
        watch.leases_mut().begin(clock::raw());
    }
    let hands = Arc::new(hands);
    let targets = prepared.targets_of(common, &voters).await?;
    let settings = Settings {
        home: format!("/var/lib/pgorch/{}", inventory.cluster),
        inventory,
        watch,
        hands: Arc::clone(&hands),
        sink: Arc::clone(&sink),
        interrupt,
        state_dir: load::state_dir(),
    };
    let watcher = Watcher::new(settings, &load::transport(), targets.into_iter().collect());
    let exit = watcher.run().await;
    if !dry_run {
        disown(&hands.runner, &cluster, &voters, &hands.identity).await?;
    }
    sink.emit(&Event::run(Kind::RunDone { exit }, ""));
    Ok(exit)
}

fn sink(common: &Common, prepared: &Prepared) -> Arc<dyn Sink> {
    let mut all: Vec<Arc<dyn Sink>> = Vec::new();
    all.extend(prepared.journal());
    match common.output {
        Output::Json => all.push(Arc::new(JsonSink { run: prepared.run.clone() })),
        _ => all.push(Arc::new(HumanSink::new(load::verbosity(common), false))),
    }
    Arc::new(Masked { redactor: prepared.redactor.clone(), inner: Arc::new(Tee(all)) })
}

fn policy(inventory: &Inventory, voters: &[HostName], identity: &str) -> Policy {
    let failover = &inventory.failover;
    let declared = |name: &HostName| {
        let node = inventory.postgres_of(name)?;
        Some((name.clone(), Declared { address: node.address, port: node.port, slot: node.slot }))
    };
    let quorum = inventory.replication.mode == ReplicationMode::Quorum;
    let unreachable = match (&failover.stonith, failover.automatic) {
        (Some(_), _) => Some(FarProof::Stonith),
        (None, _) if quorum => Some(FarProof::Quorum),
        (None, true) => Some(FarProof::Lease),
        (None, false) => None,
    };
    Policy {
        members: Members {
            nodes: inventory.nodes.keys().filter_map(declared).collect::<BTreeMap<_, _>>(),
            voters: voters.to_vec(),
            identity: identity.to_owned(),
        },
        timing: failover.timing.clone(),
        quorum_replication: quorum,
        unreachable,
        auto_rejoin: failover.auto_rejoin,
        restart_standbys: failover.restart_in_place.is_some(),
    }
}

/// Makes this watch the owner of the cluster, on a majority of the voters.
async fn own(
    runner: &Runner,
    inventory: &Inventory,
    voters: &[HostName],
    identity: &str,
    take_over: bool,
) -> Result<(), CliError> {
    let script = Script::new()
        .set("home", &format!("/var/lib/pgorch/{}", inventory.cluster))
        .set("own", identity)
        .set("take", if take_over { "1" } else { "" })
        .line("umask 077")
        .line("mkdir -p \"$home\" && exec 9>>\"$home/epoch.lock\" && flock -w 5 9 || exit 1")
        .line("is=")
        .line("{ read -r is <\"$home/owner\"; } 2>/dev/null || :")
        .line("if [ -n \"$is\" ] && [ \"$is\" != \"$own\" ] && [ -z \"$take\" ]; then")
        .line("  printf 'other=%s\\n' \"$is\"; exit 0")
        .line("fi")
        .line("[ \"$is\" = \"$own\" ] || {")
        .line("  printf '%s\\n' \"$own\" >\"$home/owner.new\" && sync \"$home/owner.new\" &&")
        .line("  mv -f \"$home/owner.new\" \"$home/owner\" && sync \"$home\"")
        .line("} || exit 1")
        .line("echo own=1");
    let ask = |voter: HostName| {
        let script = &script;
        async move {
            let mut link = runner.links.get(&voter)?.lock().await;
            let limit = Duration::from_secs(15);
            let (rc, stdout, _) = link.command(script, None, limit, &mut |_| {}).await.ok()?;
            (rc == 0).then_some((voter, stdout.trim().to_owned()))
        }
    };
    let answers: Vec<(HostName, String)> =
        join_all(voters.iter().cloned().map(ask)).await.into_iter().flatten().collect();
    if let Some((voter, other)) =
        answers.iter().find_map(|(v, a)| Some((v, a.strip_prefix("other=")?)))
    {
        let text = format!("{other} owns this cluster, as {voter} has stored");
        return Err(CliError::refused(text)
            .hint("if that watch is gone for good: pgorch watch --take-over"));
    }
    let needed = voters.len() / 2 + 1;
    if answers.len() < needed {
        let text =
            format!("{} of {} voters answer, {needed} are needed", answers.len(), voters.len());
        return Err(CliError::unreachable(text).hint("pgorch status"));
    }
    Ok(())
}

/// A watch that was told to stop owns the cluster no more: from here on others may change what it counted
/// on, so what it knew of leases is forgotten first. One that is killed owns it still.
async fn disown(
    runner: &Runner,
    cluster: &str,
    voters: &[HostName],
    identity: &str,
) -> Result<(), CliError> {
    let unwritable = |e| CliError::failed(format!("the state of the watch: {e}"));
    let state_dir = load::state_dir();
    let mut state = State::read(&state_dir, cluster).map_err(unwritable)?;
    if let Some(kept) = &mut state.kept {
        kept.holds = None;
    }
    state.write(&state_dir, cluster).map_err(unwritable)?;
    let script = Script::new()
        .set("home", &format!("/var/lib/pgorch/{cluster}"))
        .set("own", identity)
        .line("exec 9>>\"$home/epoch.lock\" && flock -w 2 9 || exit 1")
        .line("is=")
        .line("{ read -r is <\"$home/owner\"; } 2>/dev/null || :")
        .line("[ \"$is\" != \"$own\" ] || { rm -f \"$home/owner\" && sync \"$home\"; }");
    let tell = |voter: &HostName| {
        let (script, voter) = (&script, voter.clone());
        async move {
            let mut link = runner.links.get(&voter)?.lock().await;
            // Nobody waits long for a host that is down: there it stays the owner.
            let mut quiet = |_: &str| {};
            let told = link.command(script, None, Duration::from_secs(3), &mut quiet);
            tokio::time::timeout(Duration::from_secs(4), told).await.ok()?.ok()
        }
    };
    join_all(voters.iter().map(tell)).await;
    Ok(())
}

/// `user@host` of this process, for people.
fn whoami() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{}@{host}", user.unwrap_or_else(|_| "root".to_owned()))
}

/// `pgorch pause [--for TIME]`.
pub(super) fn pause(common: &Common, time: Option<&str>) -> Result<Exit, CliError> {
    let span = time.map(span).transpose()?;
    say(common, true, span)
}

/// `pgorch unpause`.
pub(super) fn unpause(common: &Common) -> Result<Exit, CliError> {
    say(common, false, None)
}

/// `90s`, `30m`, `2h`, `1d`.
fn span(text: &str) -> Result<Duration, CliError> {
    let bad = || CliError::usage(format!("--for {text}: no time")).hint("such as 30m or 2h");
    let unit = text.chars().last().ok_or_else(bad)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(bad()),
    };
    let number: u64 = text.trim_end_matches(unit).parse().map_err(|_| bad())?;
    match number {
        0 => Err(bad()),
        number => Ok(Duration::from_secs(number.saturating_mul(seconds))),
    }
}

/// Stores the word on a majority of the voters: below that a watch might not hear of it.
fn say(common: &Common, paused: bool, span: Option<Duration>) -> Result<Exit, CliError> {
    let prepared = load::prepare_to_look(common, None)?;
    let inventory = Arc::clone(&prepared.inventory);
    let said = clock::wall().as_millisecond();
    let until = span.map(|s| said + i64::try_from(s.as_millis()).unwrap_or(i64::MAX / 2));
    let word = Pause { said, paused, until, by: whoami(), reason: None };
    let json = serde_json::to_string(&word).map_err(|e| CliError::failed(e.to_string()))?;
    let script = Script::new()
        .set("home", &format!("/var/lib/pgorch/{}", inventory.cluster))
        .set("word", &json)
        .line("umask 077")
        .line("mkdir -p \"$home\" && printf '%s\\n' \"$word\" >\"$home/pause.pgorch-new\" &&")
        .line(
            "  sync \"$home/pause.pgorch-new\" && mv -f \"$home/pause.pgorch-new\" \"$home/pause\"",
        );
    let voters: Vec<HostName> =
        inventory.nodes.keys().chain(inventory.witnesses.keys()).cloned().collect();
    let needed = voters.len() / 2 + 1;
    block_on(async move {
        let (_stop, interrupt) = tokio::sync::watch::channel(0);
        let sink: Arc<dyn Sink> = Arc::new(Tee(Vec::new()));
        let playbook = Playbook::default();
        let vars = Vec::new();
        let runner =
            prepared.runner_of(playbook, voters.clone(), vars, sink, interrupt, common).await?;
        let stored: BTreeSet<HostName> =
            join_all(voters.iter().map(|voter| store(&runner, voter, &script)))
                .await
                .into_iter()
                .flatten()
                .collect();
        let what = if paused { "paused" } else { "no longer paused" };
        let count = format!("stored on {} of {} voters", stored.len(), voters.len());
        if stored.len() < needed {
            return Err(CliError::unreachable(format!("{count}, {needed} are needed"))
                .hint("a watch elsewhere may not hear of it"));
        }
        match common.output {
            Output::Json => {
                let document = serde_json::json!({ "schema": 1, "paused": paused, "until": until,
                    "stored": stored, "voters": voters });
                Printer.out(&format!("{document}\n"));
            }
            _ => Printer.out(&format!("the watch of {} is {what} ({count})\n", inventory.cluster)),
        }
        Ok(Exit::Done)
    })?
}

async fn store(runner: &Runner, voter: &HostName, script: &Script) -> Option<HostName> {
    let mut link = runner.links.get(voter)?.lock().await;
    let limit = Duration::from_secs(15);
    let (rc, ..) = link.command(script, None, limit, &mut |_| {}).await.ok()?;
    (rc == 0).then(|| voter.clone())
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
        assert_eq!(seconds("2h"), Ok(7_200));
        for bad in ["", "h", "0m", "1", "-1m", "1.5h", "ten"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }
}

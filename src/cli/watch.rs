//! `watch`: the loop of `watcher`, with everything that it needs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant as Moment, timeout_at};

use super::args::{Common, Output};
use super::error::CliError;
use super::load::{self, Prepared};
use super::{block_on, interrupt, sources};
use crate::clock;
use crate::event::{Event, Kind, Sink};
use crate::inventory::{Inventory, ReplicationMode};
use crate::model::{Exit, HostName, Script, Timing, Value};
use crate::playbook::Playbook;
use crate::runner::Runner;
use crate::step::Options;
use crate::ui::{HumanSink, JsonSink, LiveTable, Masked, Tee};
use crate::watch::{Declared, FarProof, Members, Notices, Policy, Watch};
use crate::watcher::{
    Audience, Draw, Hands, MakeRunner, Notifier, Revoked, Settings, State, Supervisor, Watcher,
    lock_cluster,
};

/// `pgorch watch`.
pub(super) fn watch(common: &Common, dry_run: bool, take_over: bool) -> Result<Exit, CliError> {
    let prepared = load::prepare_to_watch(common)?;
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
    start: Playbook,
}

impl Playbooks {
    fn read() -> Result<Self, CliError> {
        let read = |name: &str| Ok::<_, CliError>(sources::playbook(Path::new(name))?.playbook);
        Ok(Playbooks {
            failover: read("playbooks/failover.yml")?,
            switchover: read("playbooks/switchover.yml")?,
            rejoin: read("playbooks/rejoin.yml")?,
            start: read("playbooks/start.yml")?,
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
    let table = (common.output == Output::Human && LiveTable::possible())
        .then(|| Arc::new(LiveTable::start(load::verbosity(common))));
    let done = run(common, prepared, state, playbooks, (dry_run, take_over), table.as_ref()).await;
    if let Some(table) = table {
        table.finish();
    }
    done
}

async fn run(
    common: &Common,
    prepared: Arc<Prepared>,
    state: State,
    playbooks: Playbooks,
    (dry_run, take_over): (bool, bool),
    table: Option<&Arc<LiveTable>>,
) -> Result<Exit, CliError> {
    let inventory = Arc::clone(&prepared.inventory);
    let cluster = inventory.cluster.clone();
    let sink = sink(common, &prepared, table);
    let interrupt = interrupt::listen();
    let voters: Vec<HostName> =
        inventory.nodes.keys().chain(inventory.witnesses.keys()).cloned().collect();
    let identity =
        format!("watch {} of {}", &state.id[..state.id.len().min(8)], super::pause::whoami());
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
        start: playbooks.start,
        make,
        identity,
        dry_run,
        revoked,
        since: clock::raw(),
        begun: Mutex::default(),
    };
    let notifier = Notifier::start(&inventory.notifications, &prepared.redactor, &sink);
    let notifier = Some(notifier.map_err(|why| CliError::usage(format!("notifications: {why}")))?);
    if dry_run {
        hands.runner.first_batch(&Options { check: true, ..Options::default() }).await;
    } else {
        // The connections of the hands stand before they are needed.
        own(&hands.runner, &inventory, &voters, &hands.identity, take_over).await?;
    }
    // From here on nobody else has the right to give anything.
    lock(&watch).leases_mut().begin(clock::raw());
    let hands = Arc::new(hands);
    let targets = prepared.targets_of(common, &voters).await?;
    let known = lock(&watch).recorded().map(|r| r.primary.clone());
    let audience = Audience {
        sink: Arc::clone(&sink),
        notifier: notifier.filter(|_| !dry_run),
        notices: Notices::new(known),
        supervisor: Supervisor::of_process(),
        draw: table.map(|table| draw(table, interrupt.clone())),
        cluster: inventory.cluster.clone(),
        controller: hands.identity.clone(),
    };
    let settings = Settings {
        home: format!("/var/lib/pgorch/{}", inventory.cluster),
        inventory,
        watch,
        hands: Arc::clone(&hands),
        sink: Arc::clone(&sink),
        interrupt,
        state_dir: load::state_dir(),
    };
    let watcher =
        Watcher::new(settings, audience, &load::transport(), targets.into_iter().collect());
    let exit = watcher.run().await;
    if !dry_run {
        disown(&hands.runner, &cluster, &voters, &hands.identity).await?;
    }
    sink.emit(&Event::run(Kind::RunDone { exit }, ""));
    Ok(exit)
}

fn lock(watch: &Mutex<Watch>) -> std::sync::MutexGuard<'_, Watch> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Draws the table; what is said about an interrupt stays above it.
fn draw(table: &Arc<LiveTable>, mut interrupt: tokio::sync::watch::Receiver<u8>) -> Draw {
    let beside = Arc::clone(table);
    tokio::spawn(async move {
        while interrupt.changed().await.is_ok() {
            beside.anew();
        }
    });
    let table = Arc::clone(table);
    Box::new(move |board| table.board(board))
}

fn sink(common: &Common, prepared: &Prepared, table: Option<&Arc<LiveTable>>) -> Arc<dyn Sink> {
    let mut all: Vec<Arc<dyn Sink>> = Vec::new();
    all.extend(prepared.journal());
    match (common.output, table) {
        (Output::Json, _) => all.push(Arc::new(JsonSink { run: prepared.run.clone() })),
        (_, Some(table)) => all.push(Arc::clone(table) as Arc<dyn Sink>),
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
        timing: failover.restart_in_place.map_or_else(
            || failover.timing.clone(),
            |limit| Timing { restart_in_place: limit, ..failover.timing.clone() },
        ),
        quorum_replication: quorum,
        guarded: failover.automatic,
        unreachable,
        auto_rejoin: failover.auto_rejoin,
        restart_in_place: failover.restart_in_place,
    }
}

/// How long voters are asked whose the cluster is.
const OWN: Duration = Duration::from_secs(15);
/// The rest of them, once a majority has answered.
const OTHERS: Duration = Duration::from_secs(1);

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
        // What a failover needs on a primary whose disk is full; scripts/prelude.sh uses it up.
        .line("[ -s \"$home/room\" ] || head -c 65536 /dev/zero >\"$home/room\" 2>/dev/null || :")
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
            let (rc, stdout, _) = link.command(script, None, OWN, &mut |_| {}).await.ok()?;
            (rc == 0).then_some((voter, stdout.trim().to_owned()))
        }
    };
    let needed = voters.len() / 2 + 1;
    let mut answers: Vec<(HostName, String)> = Vec::new();
    let mut asked: FuturesUnordered<_> = voters.iter().cloned().map(ask).collect();
    // A majority is enough: who does not answer, in the middle of an outage, holds nobody up.
    let mut until = Moment::now() + OWN;
    while let Ok(Some(answer)) = timeout_at(until, asked.next()).await {
        answers.extend(answer);
        if answers.len() >= needed {
            until = until.min(Moment::now() + OTHERS);
        }
    }
    drop(asked);
    if let Some((voter, other)) =
        answers.iter().find_map(|(v, a)| Some((v, a.strip_prefix("other=")?)))
    {
        let text = format!("{other} owns this cluster, as {voter} has stored");
        return Err(CliError::refused(text)
            .hint("if that watch is gone for good: pgorch watch --take-over"));
    }
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

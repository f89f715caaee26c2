//! `switchover` and `resume`: operations that change who is the primary.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::args::{Common, Output, SwitchoverArgs};
use super::consent;
use super::error::CliError;
use super::load::{self, Prepared};
use super::{block_on, interrupt, sources};
use crate::clock;
use crate::event::{Event, Kind, Sink};
use crate::facts::{Observation, OperationRecord};
use crate::inventory::Inventory;
use crate::model::{Exit, HostName};
use crate::operation::{
    self, Check, Driver, End, Identity, Interrupted, Level, Plan, Proof, Roles, Settlement, lower,
    open_operations, release_in_place,
};
use crate::playbook::Playbook;
use crate::runner::{NoPlan, Operated, Prospect, Runner, Selection, nobody_elects};
use crate::topology;
use crate::ui::{HumanSink, JsonSink, Masked, Printer, Tee};

/// `pgorch switchover --to NODE`.
pub(super) fn switchover(common: &Common, args: &SwitchoverArgs) -> Result<Exit, CliError> {
    let prepared = load::prepare_to_look(common, None)?;
    let candidate = node_named(&prepared.inventory, &args.to)?;
    let file = args.playbook.clone().unwrap_or_else(|| PathBuf::from("playbooks/switchover.yml"));
    let loaded = sources::playbook(&file)?;
    if let Some(at) = &args.at {
        wait_until(at)?;
    }
    block_on(change_over(common, args, prepared, loaded.playbook, candidate))?
}

/// `pgorch resume [ID]`.
pub(super) fn resume(common: &Common, id: Option<&str>) -> Result<Exit, CliError> {
    let prepared = load::prepare_to_look(common, None)?;
    block_on(go_on(common, id, prepared))?
}

pub(super) fn node_named(inventory: &Inventory, name: &str) -> Result<HostName, CliError> {
    let wanted = HostName(name.to_owned());
    if inventory.nodes.contains_key(&wanted) {
        return Ok(wanted);
    }
    let names: Vec<&str> = inventory.nodes.keys().map(HostName::as_str).collect();
    Err(CliError::usage(format!("no node \"{name}\" in the inventory"))
        .hint(format!("its nodes: {}", names.join(", "))))
}

/// Sleeps until a time of today or a timestamp; the checks are made then, not before.
fn wait_until(at: &str) -> Result<(), CliError> {
    let bad = |e: String| {
        CliError::usage(format!("--at {at}: {e}"))
            .hint("a time of this day (22:30) or a timestamp (2026-11-21T22:30:00+01:00)")
    };
    let now = jiff::Zoned::new(clock::wall(), jiff::tz::TimeZone::system());
    let then = match at.parse::<jiff::civil::Time>() {
        Ok(time) => {
            let today = now.date().to_datetime(time).to_zoned(now.time_zone().clone());
            today.map_err(|e| bad(e.to_string()))?.timestamp()
        }
        Err(_) => at.parse::<jiff::Timestamp>().map_err(|e| bad(e.to_string()))?,
    };
    let wait = then.duration_since(clock::wall());
    if wait.is_negative() {
        return Err(bad("that is in the past".to_owned()));
    }
    Printer.err(&format!("waiting until {then}\n"));
    std::thread::sleep(std::time::Duration::try_from(wait).unwrap_or_default());
    Ok(())
}

pub(super) async fn look(
    common: &Common,
    prepared: Prepared,
    command: &str,
) -> Result<(Runner, Arc<Inventory>), CliError> {
    let inventory = Arc::clone(&prepared.inventory);
    let verbosity = load::verbosity(common);
    let mut all: Vec<Arc<dyn Sink>> = Vec::new();
    all.extend(prepared.journal());
    match common.output {
        Output::Json => all.push(Arc::new(JsonSink { run: prepared.run.clone() })),
        _ => all.push(Arc::new(HumanSink::new(verbosity, false))),
    }
    let redactor = prepared.redactor.clone();
    let sink = Arc::new(Masked { redactor, inner: Arc::new(Tee(all)) });
    let hosts = prepared.hosts().to_vec();
    let select = Selection { hosts, forks: common.forks, ..Selection::default() };
    let count = inventory.nodes.len();
    let runner = prepared.looker(select, sink, interrupt::listen(), common).await?;
    let kind = Kind::RunStarted { command: command.to_owned(), hosts: count };
    runner.sink.emit(&Event::run(kind, inventory.cluster.clone()));
    Ok((runner, inventory))
}

async fn change_over(
    common: &Common,
    args: &SwitchoverArgs,
    prepared: Prepared,
    playbook: Playbook,
    candidate: HostName,
) -> Result<Exit, CliError> {
    let started = clock::now();
    let (runner, _) = look(common, prepared, "switchover").await?;
    let looked = runner.look_before(&candidate).await;
    if runner.interrupted() {
        return Ok(ended(&runner, Exit::Interrupted));
    }
    if let Some(play) = playbook.plays.iter().find(|play| !play.common.when.is_empty()) {
        let text = format!("a condition on an operation has no place here ({})", play.span.place());
        return Err(CliError::usage(text).hint("pgorch run heeds it"));
    }
    let seconds = clock::now().since(started).as_secs_f64();
    let prospect = runner.prospect(&playbook.plays, &candidate, &looked);
    let plan = match prospect {
        Ok(Prospect::Planned(plan, checks)) => {
            runner.tell_checks(&checks, seconds);
            *plan
        }
        Ok(Prospect::Already) => {
            notice(&runner, &candidate, "is the primary already: nothing to do");
            return Ok(ended(&runner, Exit::Done));
        }
        Ok(Prospect::Refused(checks)) => {
            runner.tell_checks(&checks, seconds);
            return Ok(ended(&runner, refusal_exit(&runner, &checks).await));
        }
        Err(why @ NoPlan::Unfit(_)) => return Err(CliError::usage(why.to_string())),
        Err(why @ NoPlan::Unsafe(_)) => {
            let error = CliError::refused(why.to_string());
            return Err(error.hint("see playbooks/switchover.yml, as shipped"));
        }
    };
    if args.dry_run {
        show_plan(common, &plan);
        return Ok(ended(&runner, Exit::Done));
    }
    if !common.yes {
        show_plan(common, &plan);
        if let Some(exit) = ask(&runner, &candidate, "").await {
            return Ok(exit);
        }
    }
    let identity = runner.identity("switchover", &plan.roles);
    let operated = runner.operate(Driver::new(plan), identity, &nobody_elects).await;
    Ok(tell_end(common, &runner, &operated, started).await)
}

/// Asks whether this node may become the primary; how the run ends if not.
/// `risks` are told first.
pub(super) async fn ask(runner: &Runner, candidate: &HostName, risks: &str) -> Option<Exit> {
    let question = format!("{risks}Make {candidate} the primary? [yes/no] ");
    let exit = match consent::yes(runner, &question).await {
        consent::Answer::Yes => return None,
        consent::Answer::No => Exit::Refused,
        consent::Answer::Interrupted => Exit::Interrupted,
        consent::Answer::Nobody => {
            let why = format!("this makes {candidate} the primary, which needs a yes");
            let hint = Some("run it with -y, or look at --dry-run first".to_owned());
            let kind = Kind::Refused { code: "consent_needed".to_owned(), hint };
            runner.sink.emit(&Event::run(kind, why));
            Exit::Refused
        }
    };
    Some(ended(runner, exit))
}

async fn go_on(common: &Common, id: Option<&str>, prepared: Prepared) -> Result<Exit, CliError> {
    let started = clock::now();
    let (runner, inventory) = look(common, prepared, "resume").await?;
    let options = crate::step::Options { check: true, ..crate::step::Options::default() };
    runner.first_batch(&options).await;
    let Some(interrupted) = Interrupted::find(&inventory, &runner.snapshot(), id) else {
        let text = "no operation is open on the nodes that can be reached: nothing to do";
        runner.sink.emit(&Event::run(Kind::Notice, text));
        if common.output == Output::Human {
            Printer.err(&format!("{text}\n"));
        }
        return Ok(ended(&runner, Exit::Done));
    };
    let record = &interrupted.record;
    notice(
        &runner,
        &record.candidate,
        &format!(
            "is the candidate of the {} of {} ({}), which was interrupted",
            record.kind, record.controller, record.started
        ),
    );
    // The higher epoch first: after that nothing of the interrupted operation can take effect any more.
    let proof = record.proof;
    let seen = runner.snapshot();
    let roles = Roles::seen(&inventory, &seen, &record.primary, &record.candidate, proof);
    let roles = roles.besides(&record.possible);
    let mut identity = Identity {
        replaces: open_operations(&runner.snapshot()),
        ..runner.identity(&record.kind, &roles)
    };
    identity.record.over = interrupted.over;
    identity.record.lease_ms = record.lease_ms.filter(|_| record.in_place());
    identity.record.earlier.clone_from(&record.earlier);
    let needed = interrupted.needed(&seen);
    let claiming = Driver::claiming(&record.kind, &roles, needed);
    let claimed = runner.operate(claiming, identity.clone(), &nobody_elects).await;
    if claimed.finished.end != End::Done {
        let hint = operation::way_out(&seen, record);
        notice(&runner, &record.candidate, &format!("keeps this operation open: {hint}"));
        return Ok(tell_end(common, &runner, &claimed, started).await);
    }
    if record.in_place() {
        return Ok(close(&runner, record, identity, &roles, &claimed).await);
    }
    runner.gather_again().await;
    let settlement = interrupted.settle(&runner.snapshot());
    let new_primary = match &settlement {
        Settlement::Refuse { why, hint } => {
            let kind =
                Kind::Refused { code: "resume_unknown".to_owned(), hint: Some(hint.clone()) };
            runner.sink.emit(&Event::run(kind, why.clone()));
            return Ok(ended(&runner, Exit::Refused));
        }
        Settlement::Finish { primary } => primary,
        Settlement::Undo | Settlement::TakeBack => &record.candidate,
    };
    let roles = Roles::seen(&inventory, &runner.snapshot(), &record.primary, new_primary, proof);
    let roles = roles.besides(&record.possible);
    let playbook = playbook_of(&record.kind)?;
    let plan = lower(&record.kind, &playbook, &inventory, &roles).map_err(CliError::usage)?;
    let driver = match settlement {
        Settlement::Undo if interrupted.over => Driver::sweeping(plan, &inventory, &claimed.known),
        Settlement::TakeBack => Driver::sweeping(plan, &inventory, &claimed.known),
        Settlement::Undo => Driver::undoing(plan, &inventory, &claimed.known),
        Settlement::Finish { primary } => {
            let astray = operation::astray(&inventory, &runner.snapshot(), &primary);
            Driver::after_promotion(plan, &claimed.known, astray)
        }
        Settlement::Refuse { .. } => return Ok(ended(&runner, Exit::Refused)),
    };
    let operated = runner.operate(driver, identity, &nobody_elects).await;
    let exit = tell_end(common, &runner, &operated, started).await;
    Ok(if operated.finished.end == End::Undone { Exit::Done } else { exit })
}

/// Ends a start or restart that was interrupted: nobody's role has changed, and what it may have given ends
/// when its record says.
async fn close(
    runner: &Runner,
    record: &OperationRecord,
    identity: Identity,
    roles: &Roles,
    claimed: &Operated,
) -> Exit {
    let driver = release_in_place(&record.kind, roles, &claimed.known.claimed);
    let operated = runner.operate(driver, identity, &nobody_elects).await;
    for problem in operated.finished.problems {
        runner.sink.emit(&Event::run(Kind::Notice, problem));
    }
    notice(runner, &record.primary, "its interrupted start is over: pgorch status, pgorch start");
    let done = operated.finished.end == End::Done;
    ended(runner, if done { Exit::Done } else { Exit::Failed })
}

fn playbook_of(kind: &str) -> Result<Playbook, CliError> {
    Ok(sources::playbook(&PathBuf::from(format!("playbooks/{kind}.yml")))?.playbook)
}

/// A host that cannot be reached is said so by the exit code.
pub(super) async fn refusal_exit(runner: &Runner, checks: &[Check]) -> Exit {
    let snapshot = runner.snapshot();
    let mut lost = BTreeSet::new();
    for (name, link) in &runner.links {
        if link.lock().await.unreachable.is_some() {
            lost.insert(name.clone());
        }
    }
    let unknown = |name: &HostName| {
        lost.contains(name) || matches!(snapshot.nodes.get(name), Some(Observation::Unknown { .. }))
    };
    let nobody = snapshot.nodes.keys().all(unknown);
    let cut = checks
        .iter()
        .filter(|c| c.level == Level::Refused)
        .any(|c| c.node.as_ref().is_some_and(unknown));
    if nobody || cut { Exit::Unreachable } else { Exit::Refused }
}

pub(super) fn show_plan(common: &Common, plan: &Plan) {
    if common.output == Output::Json {
        let stages: Vec<_> = plan
            .stages
            .iter()
            .filter(|stage| !stage.steps.is_empty())
            .map(|stage| {
                let steps: Vec<_> = stage
                    .steps
                    .iter()
                    .map(|s| {
                        serde_json::json!({
                "host": s.host, "action": s.action.name(), "what": s.action.describe() })
                    })
                    .collect();
                serde_json::json!({ "name": stage.name, "steps": steps })
            })
            .collect();
        let document = serde_json::json!({ "schema": 1, "operation": plan.kind,
            "primary": plan.roles.primary, "candidate": plan.roles.candidate, "stages": stages });
        Printer.out(&format!("{document}\n"));
        return;
    }
    let mut text = String::new();
    let busy = plan.stages.iter().filter(|s| !s.steps.is_empty());
    for (number, stage) in busy.enumerate() {
        text.push_str(&format!("{:>3}. {}\n", number + 1, stage.name));
        let mut told: Vec<(String, Vec<&str>)> = Vec::new();
        for step in &stage.steps {
            let what = step.action.describe();
            match told.iter_mut().find(|(w, _)| *w == what) {
                Some((_, hosts)) => hosts.push(step.host.as_str()),
                None => told.push((what, vec![step.host.as_str()])),
            }
        }
        for (what, hosts) in told {
            text.push_str(&format!("       {}  {what}\n", hosts.join(", ")));
        }
    }
    let at_risk = plan.roles.suspects().any(|(_, proof)| proof == Proof::RiskAccepted);
    let proof = if at_risk { Proof::RiskAccepted } else { plan.roles.proof };
    text.push_str(match proof {
        Proof::CleanStop => {
            "impact: connections to the primary are closed; writes wait for about the time of a clean stop and a promotion\n"
        }
        Proof::Fenced | Proof::Stonith | Proof::LeaseOver => "impact: what the old primary had not sent is lost; it stays down until pgorch rejoin\n",
        Proof::Quorum => {
            "impact: nothing that was confirmed is lost; until the old primary is stopped or rejoined it may answer reads, and confirms nothing\n"
        }
        Proof::RiskAccepted => {
            "impact: what the old primary had not sent is lost; if it lives, there are TWO PRIMARIES\n"
        }
    });
    Printer.out(&text);
}

/// Tells how an operation ended, and shows people what the cluster is now.
pub(super) async fn tell_end(
    common: &Common,
    runner: &Runner,
    operated: &Operated,
    started: clock::Instant,
) -> Exit {
    let exit = runner.tell_operated(operated, started);
    let changed = matches!(operated.finished.end, End::Done | End::Incomplete);
    if common.output == Output::Human && changed {
        runner.gather_again().await;
        Printer.out(&format!("\n{}", topology::human(&runner.status())));
    }
    ended(runner, exit)
}

fn notice(runner: &Runner, host: &HostName, text: &str) {
    runner.sink.emit(&Event::host(host, Kind::Notice, text));
}

pub(super) fn ended(runner: &Runner, exit: Exit) -> Exit {
    runner.sink.emit(&Event::run(Kind::RunDone { exit }, ""));
    exit
}

//! `failover` and `promote`: a primary that does not hand over is replaced.

use std::sync::Arc;

use super::args::{Common, FailoverArgs};
use super::error::CliError;
use super::load::{self, Prepared};
use super::switchover::{ask, ended, look, node_named, refusal_exit, show_plan, tell_end};
use super::{block_on, sources};
use crate::clock;
use crate::event::{Event, Kind};
use crate::inventory::Inventory;
use crate::model::{Exit, HostName};
use crate::operation::{
    self, Accepted, Assessment, Driver, Known, Plan, Proof, Roles, assess, lower, verify,
};
use crate::playbook::Playbook;
use crate::runner::Runner;
use crate::step::Options;
use crate::topology;

/// `pgorch failover [--to NODE]`, `pgorch promote NODE`.
pub(super) fn failover(common: &Common, args: &FailoverArgs) -> Result<Exit, CliError> {
    let prepared = load::prepare_to_look(common, None)?;
    let wanted =
        args.to.as_deref().map(|name| node_named(&prepared.inventory, name)).transpose()?;
    let file = args.playbook.clone().unwrap_or_else(|| "playbooks/failover.yml".into());
    let loaded = sources::playbook(&file)?;
    block_on(replace(common, args, prepared, loaded.playbook, wanted))?
}

async fn replace(
    common: &Common,
    args: &FailoverArgs,
    prepared: Prepared,
    playbook: Playbook,
    wanted: Option<HostName>,
) -> Result<Exit, CliError> {
    let started = clock::now();
    let (runner, inventory) = look(common, prepared, "failover").await?;
    runner.first_batch(&Options { check: true, ..Options::default() }).await;
    if runner.interrupted() {
        return Ok(ended(&runner, Exit::Interrupted));
    }
    let snapshot = runner.snapshot();
    let topology = topology::analyse(&inventory, &snapshot);
    let accepted = Accepted {
        split_brain_risk: args.accept_split_brain_risk,
        data_loss: args.accept_data_loss,
        ..Accepted::default()
    };
    let assessed = assess(&inventory, &snapshot, &topology, wanted.as_ref(), accepted);
    let (found, checks) = match assessed {
        Ok(found) => found,
        Err(checks) => {
            let seconds = clock::now().since(started).as_secs_f64();
            runner.tell_checks(&checks, seconds);
            return Ok(refusal_exit(&runner, &checks).await).map(|exit| ended(&runner, exit));
        }
    };
    tell(&runner, &found);
    let seconds = clock::now().since(started).as_secs_f64();
    runner.tell_checks(&checks, seconds);
    let first = wanted.clone().or_else(|| found.candidates.first().map(|c| c.name().clone()));
    let Some(first) = first else { return Ok(ended(&runner, Exit::Refused)) };
    let make = |candidate: &HostName| -> Result<Plan, String> {
        let roles = Roles::seen(&inventory, &snapshot, &found.primary, candidate, found.proof)
            .besides(&found.possible);
        let plan = lower("failover", &playbook, &inventory, &roles)?;
        verify(&plan).map(|()| plan)
    };
    let plan = make(&first).map_err(|why| {
        CliError::refused(format!("the playbook makes no safe failover: {why}"))
            .hint("see playbooks/failover.yml, as shipped")
    })?;
    if args.dry_run {
        show_plan(common, &plan);
        return Ok(ended(&runner, Exit::Done));
    }
    if !common.yes {
        show_plan(common, &plan);
        if let Some(exit) = ask(&runner, &first, &risks(&found)).await {
            return Ok(exit);
        }
    }
    let mut identity = runner.identity("failover", &plan.roles);
    identity.replaces = found.superseded.ids.clone();
    identity.record.earlier = found.superseded.earlier.clone();
    let choose = |known: &Known| {
        let chosen = choose(&runner, &inventory, &found, known, wanted.as_ref(), accepted)?;
        make(&chosen)
    };
    let operated = runner.operate(Driver::new(plan), identity, &choose).await;
    let exit = tell_end(common, &runner, &operated, started).await;
    Ok(exit)
}

/// The candidate by the positions that were taken last, with what is lost told.
fn choose(
    runner: &Runner,
    inventory: &Arc<Inventory>,
    found: &Assessment,
    known: &Known,
    wanted: Option<&HostName>,
    accepted: Accepted,
) -> Result<HostName, String> {
    let elected = operation::choose(inventory, found, known, wanted, accepted)?;
    let text = match elected.lost_bytes {
        _ if elected.all_confirmed => {
            format!("{} takes over; nothing that was confirmed is lost", elected.candidate)
        }
        Some(0) => format!("{} takes over; nothing is lost", elected.candidate),
        Some(bytes) => format!("{} takes over; {bytes} bytes of WAL are lost", elected.candidate),
        None => format!(
            "{} takes over; how much {} had beyond it is not known",
            elected.candidate,
            suspects(found)
        ),
    };
    runner.sink.emit(&Event::run(Kind::Notice, text));
    Ok(elected.candidate)
}

/// Everybody who may be a primary.
fn suspects(found: &Assessment) -> String {
    let names = found.possible.iter().map(|p| p.name.as_str());
    std::iter::once(found.primary.as_str()).chain(names).collect::<Vec<_>>().join(" and ")
}

/// Who may be a primary for all that is known, for whoever is asked.
fn risks(found: &Assessment) -> String {
    let suspects = found.possible.iter().map(|p| (&p.name, p.proof));
    let all = std::iter::once((&found.primary, found.proof)).chain(suspects);
    let risked = all.filter(|(_, proof)| *proof == Proof::RiskAccepted);
    risked.map(|(name, _)| format!("{name} cannot be fenced and may be a primary. ")).collect()
}

/// What the decision rests on.
fn tell(runner: &Runner, found: &Assessment) {
    let mut lines = found.evidence.clone();
    lines.extend(found.excluded.iter().map(|(name, why)| format!("{name} is no candidate: {why}")));
    let suspects = found.possible.iter().map(|p| (&p.name, p.proof));
    let all = std::iter::once((&found.primary, found.proof)).chain(suspects);
    lines.extend(all.map(|(name, proof)| match proof {
        Proof::Fenced => format!("{name} will be fenced through its host"),
        Proof::Stonith => format!("{name} will be switched off by failover.stonith"),
        Proof::Quorum => {
            format!("{name} can confirm nothing once its standbys stop to receive from it")
        }
        _ => format!("{name} cannot be fenced"),
    }));
    for line in lines {
        runner.sink.emit(&Event::run(Kind::Notice, line));
    }
}

//! From a playbook to a plan.

use super::action::{Action, HookTime, PoolerVerb};
use super::plan::{Plan, Roles, Stage, Step};
use crate::facts::Proof;
use crate::inventory::{Inventory, LiveRoles, match_hosts, slot_name};
use crate::model::{HostName, split_words};
use crate::playbook::{Common, Play, Playbook, Task, walk};
use crate::postgres::SyncNames;
use crate::step::sync_names;

/// Seconds that a shutdown may take before it is given up (the checkpoint was written before).
const STOP_SECONDS: u64 = 60;
/// Seconds that processes may take to die of SIGKILL.
const FENCE_SECONDS: u64 = 10;
/// Seconds that the last WAL may take to be replayed everywhere.
const RECEIVED_SECONDS: u64 = 30;
/// Seconds that a promotion may take.
const PROMOTE_SECONDS: u64 = 60;
/// Seconds until as many standbys as commits wait for have all of the new primary's WAL.
const WAIT_SYNC_SECONDS: u64 = 15;

/// The operation that a whole playbook is, as a plan with these roles.
///
/// # Errors
/// As [`lower_plays`].
pub fn lower(
    kind: &str,
    playbook: &Playbook,
    inventory: &Inventory,
    roles: &Roles,
) -> Result<Plan, String> {
    lower_plays(kind, &playbook.plays, inventory, roles)
}

/// The operation of these plays as a plan with these roles. Tasks become stages in their order; each
/// runs on the hosts of its play at once. A `when` that all plays share (that of an `import_playbook`) is
/// its caller's to judge.
///
/// # Errors
/// A task that has no place in an operation, with its place in the file; or there are too few standbys
/// for what replication.sync_standbys says.
pub fn lower_plays(
    kind: &str,
    plays: &[Play],
    inventory: &Inventory,
    roles: &Roles,
) -> Result<Plan, String> {
    let mut stages = Vec::new();
    sync_names(inventory, &roles.candidate)?;
    for play in plays {
        if plays.first().is_some_and(|first| first.common.when != play.common.when) {
            return Err(partly(&play.hosts.span));
        }
        let hosts = hosts_of(play, inventory, roles)?;
        for (around, task) in walk(&play.tasks, &[&play.common]) {
            if depends(&around[1..], task) {
                return Err(partly(&task.span));
            }
            if task.kind.name == "hooks" {
                stages.extend(hooks(task, inventory, roles));
                continue;
            }
            if task.kind.name == "fence" {
                let steps = fences(task, &hosts, inventory, roles)
                    .map_err(|why| format!("{why} ({})", task.span.place()))?;
                stages.push(Stage { name: task.name.clone(), steps });
                continue;
            }
            if task.kind.name == "lease_over" {
                // Its host cannot be reached: it is this machine that waits.
                let step = Step { host: roles.primary.clone(), action: Action::LeaseOver };
                let steps = (roles.proof == Proof::LeaseOver).then_some(step);
                stages.push(Stage { name: task.name.clone(), steps: steps.into_iter().collect() });
                continue;
            }
            let mut steps = Vec::new();
            let of_task = hosts.iter().filter(|host| takes_part(task, host, inventory, roles));
            for host in of_task {
                let action = action(task, host, inventory, roles)
                    .map_err(|why| format!("{why} ({})", task.span.place()))?;
                steps.extend(action.map(|action| Step { host: host.clone(), action }));
            }
            stages.push(Stage { name: task.name.clone(), steps });
        }
    }
    Ok(Plan { kind: kind.to_owned(), roles: roles.clone(), stages })
}

/// Whether a task is done or not by what is found on its way.
fn depends(blocks: &[&Common], task: &Task) -> bool {
    let condition = blocks.iter().any(|c| !c.when.is_empty()) || !task.common.when.is_empty();
    condition || task.r#loop.is_some() || !task.until.is_empty()
}

fn partly(span: &crate::syntax::Span) -> String {
    let place = span.place();
    format!("an operation is done as a whole: no \"when\", \"loop\" or \"until\" in it ({place})")
}

/// The hosts of a play.
fn hosts_of(play: &Play, inventory: &Inventory, roles: &Roles) -> Result<Vec<HostName>, String> {
    let mut standbys = vec![roles.candidate.clone()];
    standbys.extend(roles.siblings.iter().cloned());
    let live = LiveRoles {
        primary: Some(roles.primary.clone()),
        standbys,
        candidate: Some(roles.candidate.clone()),
    };
    match_hosts(&play.hosts.text, inventory, &live)
        .map_err(|e| format!("{e} ({})", play.hosts.span.place()))
}

/// Who cannot be reached is left out, and so is a node that is no standby, but for a pooler on it and
/// for what it stores as a voter.
fn takes_part(task: &Task, host: &HostName, inventory: &Inventory, roles: &Roles) -> bool {
    let of_cluster =
        *host == roles.primary || *host == roles.candidate || roles.siblings.contains(host);
    // A voter stores what it is told also while its server is down.
    let of_host = ["pooler", "epoch", "sync_record"].contains(&task.kind.name);
    let other = of_host || !inventory.nodes.contains_key(host);
    (of_cluster || other) && !roles.absent.contains(host)
}

/// An argument as text.
fn argument_of(task: &Task, name: &str) -> Option<String> {
    let (_, node) = task.args.iter().find(|(n, _)| *n == name)?;
    Some(match node.to_value() {
        crate::model::Value::String(text) => text,
        other => other.to_string(),
    })
}

fn seconds_of(task: &Task, default: u64) -> Result<u64, String> {
    match argument_of(task, "timeout") {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| format!("timeout: \"{text}\" is no number")),
    }
}

/// Everybody who may be a primary is fenced, each in its own way: where nothing can be sent to its host
/// it is this machine that acts.
fn fences(
    task: &Task,
    hosts: &[HostName],
    inventory: &Inventory,
    roles: &Roles,
) -> Result<Vec<Step>, String> {
    if !hosts.contains(&roles.primary) {
        return Ok(Vec::new());
    }
    let seconds = seconds_of(task, FENCE_SECONDS)?;
    let step = |(host, proof): (&HostName, Proof)| {
        let action = match proof {
            Proof::Fenced => Action::Fence { seconds },
            Proof::Stonith => {
                Action::Stonith { argv: inventory.failover.stonith.clone().unwrap_or_default() }
            }
            _ => return None,
        };
        Some(Step { host: host.clone(), action })
    };
    Ok(roles.suspects().filter_map(step).collect())
}

/// What a task is on a host; none where it has nothing to do there.
fn action(
    task: &Task,
    host: &HostName,
    inventory: &Inventory,
    roles: &Roles,
) -> Result<Option<Action>, String> {
    let argument = |name: &str| argument_of(task, name);
    let seconds = |default: u64| seconds_of(task, default);
    Ok(match task.kind.name {
        "preconditions" => None,
        "epoch" => match argument("state").as_deref() {
            None | Some("claimed") => Some(Action::Claim),
            _ => Some(Action::Release { undone: false }),
        },
        "slots" => followers(host, inventory, roles),
        "sync_record" => {
            let settled = argument("state").as_deref() == Some("settled");
            let names = roles.names.clone().filter(|names| !settled || covered(names, roles));
            let candidate = roles.candidate.clone();
            names.map(|names| Action::SyncRecord { candidate, names, settled })
        }
        "sync_standbys" if *host == roles.candidate => {
            roles.names.clone().map(|names| Action::SyncNames { names })
        }
        "sync_standbys" => None,
        "wait_sync" => {
            let seconds = seconds(WAIT_SYNC_SECONDS)?;
            let names = roles.names.clone().filter(|names| covered(names, roles));
            names.map(|names| Action::WaitSync { names, seconds })
        }
        // Where all who may be primaries are down for certain there is nobody to receive from.
        "revoke" => roles.suspects().any(|(_, p)| p.needs_revocation()).then_some(Action::Revoke),
        "position" => Some(Action::Position),
        "checkpoint" => Some(Action::Checkpoint),
        "pooler" => {
            if !inventory.routing.poolers.contains_key(host) {
                return Err(format!("{host} is not in routing.poolers: take \"hosts: poolers\""));
            }
            let verb = match argument("state").as_deref() {
                Some("paused") => PoolerVerb::Pause,
                _ => PoolerVerb::Resume,
            };
            let database_host = (verb == PoolerVerb::Resume).then(|| roles.candidate.clone());
            Some(Action::Pooler { verb, database_host })
        }
        "stop" => Some(Action::Stop { seconds: seconds(STOP_SECONDS)? }),
        "wait_replay" => Some(Action::Received { seconds: seconds(RECEIVED_SECONDS)? }),
        "promote" => Some(Action::Promote { seconds: seconds(PROMOTE_SECONDS)? }),
        "follow" if *host == roles.candidate => Some(Action::FollowNobody),
        // One that was not stopped cleanly comes back by a rejoin.
        "follow" if *host == roles.primary && roles.proof != Proof::CleanStop => None,
        "follow" => Some(Action::Follow {
            upstream: upstream(host, inventory, roles),
            start: *host == roles.primary,
        }),
        "vip" => inventory.routing.vip.is_some().then_some(Action::Vip),
        "event" => Some(Action::Record { kind: argument("kind").ok_or("the event has no kind")? }),
        "command" => Some(Action::Hook { argv: argv(task)? }),
        other => return Err(format!("\"{other}\" has no place in an operation")),
    })
}

/// One command after the other, whatever the hosts of the play: all run on the controller.
fn hooks(task: &Task, inventory: &Inventory, roles: &Roles) -> Vec<Stage> {
    let after = task.args.iter().any(|(_, node)| node.as_str() == Some("after_promote"));
    let (time, commands) = match after {
        true => (HookTime::AfterPromote, &inventory.routing.hooks.after_promote),
        false => (HookTime::BeforePromote, &inventory.routing.hooks.before_promote),
    };
    let stage = |argv: &Vec<String>| {
        let action = Action::ControllerHook { time, argv: argv.clone() };
        let steps = vec![Step { host: roles.candidate.clone(), action }];
        Stage { name: task.name.clone(), steps }
    };
    commands.iter().map(stage).collect()
}

/// Whether enough of those who will follow are there. If not, the change of names is not over at the
/// operation's end: the next apply ends it when they are back.
fn covered(names: &SyncNames, roles: &Roles) -> bool {
    let back = (roles.proof == Proof::CleanStop).then_some(&roles.primary);
    let there = roles.siblings.iter().chain(back);
    let there = there.filter(|name| names.members.contains(&slot_name(name))).count();
    usize::try_from(names.k).is_ok_and(|k| there >= k)
}

/// The slots that a node must have for those who will follow it: all other nodes, when it becomes
/// the primary.
fn followers(host: &HostName, inventory: &Inventory, roles: &Roles) -> Option<Action> {
    let direct = |name: &&HostName| *name != host && upstream(name, inventory, roles) == *host;
    let names: Vec<String> = inventory.nodes.keys().filter(direct).map(slot_name).collect();
    let kept = slots_kept(host, inventory);
    (inventory.replication.slots && !names.is_empty()).then_some(Action::Slots { names, kept })
}

/// The slots that a node has as a standby: of those who are declared to follow it.
pub(super) fn slots_kept(host: &HostName, inventory: &Inventory) -> Vec<String> {
    let declared = inventory.nodes.iter().filter(|(_, n)| n.follow.as_ref() == Some(host));
    declared.map(|(name, _)| slot_name(name)).collect()
}

/// Whom a node follows afterwards: its declared upstream, where that is a standby of the new
/// primary's, else the new primary.
fn upstream(host: &HostName, inventory: &Inventory, roles: &Roles) -> HostName {
    let declared = inventory.nodes.get(host).and_then(|n| n.follow.as_ref());
    let fit = |name: &&HostName| {
        roles.siblings.contains(name)
            && inventory.nodes.get(*name).is_some_and(|n| n.follow.is_none())
    };
    declared.filter(fit).cloned().unwrap_or_else(|| roles.candidate.clone())
}

fn argv(task: &Task) -> Result<Vec<String>, String> {
    let given = task.args.iter().find(|(n, _)| *n == "argv" || *n == "cmd");
    let (name, node) = given.ok_or("the command is missing")?;
    if *name == "cmd" {
        return split_words(node.as_str().unwrap_or_default()).map_err(str::to_owned);
    }
    match node.to_value() {
        crate::model::Value::Array(words) => Ok(words
            .iter()
            .map(|w| w.as_str().map_or_else(|| w.to_string(), str::to_owned))
            .collect()),
        _ => Err("argv is a list of words".to_owned()),
    }
}

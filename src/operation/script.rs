//! The steps as scripts, and their answers.
//!
//! Every script begins with `prelude.sh`: it takes the host's lock and compares epochs, and holds
//! the lock to its end, so that the test and what follows are one (failover review, amendment 4).

use std::time::Duration;

use super::action::{Action, Known, Outcome, Promoted, Report, Shutdown};
use super::plan::Step;
use super::pooler::pooler_script;
use crate::facts::{
    History, OperationRecord, OperationState, Recorded, SyncRecord, SyncValue, read_epoch,
};
use crate::inventory::{Inventory, NodeSettings, slot_name};
use crate::model::{HostName, Lsn, Script, Timeline, Timing};
use crate::postgres::{SyncNames, literal, sql};
use crate::step::{
    Command, FOLLOWS_NOBODY, event_sql, psql_line, standby_conf, sync_record_script,
    sync_set_script, sync_settle_script, vip_script,
};

/// Who carries out an operation, and under which epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    pub epoch: u64,
    pub record: OperationRecord,
    /// Ids of open operations that this one takes the place of.
    pub replaces: Vec<String>,
}

impl Identity {
    /// The intent after an election: what is stored from now on names who was chosen.
    pub fn elect(&mut self, candidate: &HostName) {
        self.record.elected |= *candidate != self.record.candidate;
        self.record.candidate = candidate.clone();
    }
}

/// What a command of routing.hooks finds in its environment.
#[must_use]
pub fn hook_environment(inventory: &Inventory, identity: &Identity) -> Vec<(&'static str, String)> {
    let OperationRecord { kind, primary, candidate, .. } = &identity.record;
    let address = |name| inventory.postgres_of(name).map(|n| n.address).unwrap_or_default();
    vec![
        ("PGORCH_CLUSTER", inventory.cluster.clone()),
        ("PGORCH_OPERATION", kind.clone()),
        ("PGORCH_OLD_PRIMARY", primary.to_string()),
        ("PGORCH_NEW_PRIMARY", candidate.to_string()),
        ("PGORCH_OLD_ADDRESS", address(primary)),
        ("PGORCH_NEW_ADDRESS", address(candidate)),
    ]
}

/// Seconds that a step waits for another operation's step on the same host.
const LOCK_WAIT: u64 = 5;
/// The timeline that a primary writes on: the first eight digits of its WAL file's name.
const TIMELINE: &str =
    "SELECT ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int";
/// `t|START` in recovery, else `f|START`: which start of the server says so.
const STATE: &str = "SELECT pg_is_in_recovery(), extract(epoch FROM pg_postmaster_start_time());";

/// The command of a step; its output is for [`read_outcome`].
///
/// # Errors
/// The step lacks something that an earlier one should have found out.
pub fn command(
    step: &Step,
    inventory: &Inventory,
    identity: &Identity,
    known: &Known,
) -> Result<Command, String> {
    let Step { host, action } = step;
    let home = inventory.home();
    let prelude = Script::raw("(\nexec </dev/null\nset -u\numask 077\ncd /")
        .set("epoch", &identity.epoch.to_string())
        .set("home", &home)
        .set("lock_wait", &LOCK_WAIT.to_string())
        .set("id", &identity.record.id)
        .set("replaces", &identity.replaces.join(" "))
        .set("way", way(action))
        .set("open", &record(identity, OperationState::Open))
        .line(include_str!("scripts/prelude.sh"));
    let node = || {
        inventory.postgres_of(host).ok_or_else(|| format!("{host} is not a node of the inventory"))
    };
    let (body, seconds) = match action {
        Action::Claim => (Script::new().line(include_str!("scripts/claim.sh")), 15),
        Action::Release { undone } => {
            let state = if *undone { OperationState::Undone } else { OperationState::Done };
            let guard = inventory.postgres_of(host).and_then(|node| node.guard);
            let script = Script::new()
                .set("record", &record(identity, state))
                .set("guard", guard.as_ref().map_or("", |guard| guard.script.as_str()));
            (script.line(include_str!("scripts/release.sh")), 15)
        }
        Action::Slots { names, .. } => (slots(&node()?, names), 30),
        Action::DropSlots { names } => (drop_slots(&node()?, names), 30),
        // Its last line may be a restartpoint.
        Action::SyncNames { names } => (sync_set_script(&node()?, names).line("say done ''"), 600),
        Action::SyncRecord { candidate, names, settled } => {
            let of = (&identity.record, candidate);
            let record = sync_record(inventory, identity.epoch, known, of, (names, *settled));
            (sync_record_script(&record).line("say done ''"), 15)
        }
        Action::WaitSync { names, seconds } => {
            let script = sync_settle_script(&node()?, names, *seconds);
            (script.line("say done 'they have'"), *seconds + 30)
        }
        Action::Checkpoint => (simple(&node()?, "CHECKPOINT"), 3600),
        Action::Stop { seconds } => (stop(&node()?, identity, *seconds), *seconds + 30),
        Action::Fence { seconds } => {
            (fence(inventory, &node()?, identity, *seconds), *seconds + 60)
        }
        Action::Unfence => (unfence(&node()?), 15),
        Action::Revoke => (of_node(&node()?).line(include_str!("scripts/revoke.sh")), 30),
        Action::Unrevoke => (of_node(&node()?).line(include_str!("scripts/unrevoke.sh")), 30),
        Action::Position => (position(&node()?), 90),
        Action::Received { seconds } => (received(&node()?, known, *seconds)?, *seconds + 15),
        Action::Promote { seconds } => (promote(&node()?, known, *seconds)?, *seconds + 30),
        Action::Settle { seconds } => (settle(&node()?, *seconds), *seconds + 15),
        Action::Follow { upstream, start } => (follow(&node()?, inventory, upstream, *start)?, 360),
        Action::Vip => (vip(inventory, &node()?), 15),
        Action::Record { kind } => (record_event(&node()?, identity, kind), 30),
        Action::FollowNobody => (follow_nobody(&node()?), 30),
        Action::Start { seconds } => (start(&node()?, *seconds), *seconds + 30),
        Action::Hook { argv } => (hook(argv), 300),
        Action::ControllerHook { .. } | Action::Stonith { .. } | Action::LeaseOver => {
            return Err("this runs on no host".to_owned());
        }
        Action::Pooler { verb, database_host } => {
            pooler_script(inventory, host, *verb, &identity.record, database_host.as_ref())?
        }
    };
    let script = prelude.then(&in_time(host, action, known)).then(&body).line(")");
    Ok(Command {
        deadline: Duration::from_secs(seconds),
        ..Command::new(action.describe(), script)
    })
}

/// Until when, by the host's own clock, a step may make the server there writable: whoever gave it up may count
/// on that (failover review, amendment 3).
fn in_time(host: &HostName, action: &Action, known: &Known) -> Script {
    let clock = known.clocks.get(host).filter(|_| action.gives());
    let Some((boot, uptime)) = clock else { return Script::new() };
    let until = (*uptime + Timing::authority()).as_secs();
    Script::new().set("boot", boot).set("until", &until.to_string()).line("in_time")
}

/// Puts the text `$conf` in the place of the configuration file `$file`.
const PUT_CONF: &str = "printf '%s' \"$conf\" >\"$file.pgorch-new\" && \
    chown postgres:postgres \"$file.pgorch-new\" && sync \"$file.pgorch-new\" && \
    mv -f \"$file.pgorch-new\" \"$file\" || fail \"cannot write $file\"";

/// One line of JSON.
fn record(identity: &Identity, state: OperationState) -> String {
    let record = OperationRecord { state, ..identity.record.clone() };
    serde_json::to_string(&record).unwrap_or_default()
}

/// In which direction a step goes: one that goes forward is refused where the operation has turned
/// back already, however late it arrives.
fn way(action: &Action) -> &'static str {
    match action {
        Action::Start { .. } | Action::DropSlots { .. } | Action::Unfence | Action::Unrevoke => {
            "back"
        }
        Action::Release { .. } => "release",
        Action::Claim | Action::Settle { .. } | Action::Follow { .. } | Action::FollowNobody => {
            "any"
        }
        // Its host is no voter: what it keeps of the operation is in its own script.
        Action::Pooler { .. } => "release",
        _ => "forward",
    }
}

/// What the scripts of a node have in common.
fn of_node(node: &NodeSettings) -> Script {
    let psql = format!("runuser -u postgres -- env LC_ALL=C {}", psql_line(node, "postgres"));
    Script::new()
        .set("unit", &format!("{}.service", node.service.trim_end_matches(".service")))
        .set("dir", &node.data_dir)
        .set("bin", &node.bin_dir)
        .set("fence", &format!("{}/{}.fenced", node.home, node.name))
        .set("revoked", &format!("{}/{}.revoked", node.home, node.name))
        .set("asked", &format!("{}/{}.promoted", node.home, node.name))
        .set("guard", node.guard.as_ref().map_or("", |guard| guard.script.as_str()))
        .set("first", &node.guard.as_ref().map_or(0, |guard| guard.first_seconds).to_string())
        .set("psql", &psql)
}

/// One statement whose failure is the step's.
fn simple(node: &NodeSettings, statement: &str) -> Script {
    of_node(node)
        .set("statement", statement)
        .line(
            "answer=$(printf '%s;\\n' \"$statement\" | sql 2>&1) || fail \"${answer##*ERROR:  }\"",
        )
        .line("say done ''")
}

fn slots(node: &NodeSettings, names: &[String]) -> Script {
    let mut script = of_node(node);
    for name in names {
        script = script
            .set("slot", name)
            .set("statement", &format!("{};", sql::create_slot(name)))
            .line("made=$(printf '%s\\n' \"$statement\" | sql 2>&1) || fail \"slot $slot: ${made##*ERROR:  }\"")
            .line("[ -z \"$made\" ] || say made \"$slot\"");
    }
    script.line("say done ''")
}

fn drop_slots(node: &NodeSettings, names: &[String]) -> Script {
    let statements: Vec<String> = names.iter().map(|n| format!("{};", sql::drop_slot(n))).collect();
    simple(node, statements.join("\n").trim_end_matches(';'))
}

/// Whom commits may be waiting for: on the old primary, and on whoever else may be one, for whom they could
/// wait before, and on the candidate nobody, because what was confirmed before may be on none of its standbys, or for its own.
fn sync_record(
    inventory: &Inventory,
    epoch: u64,
    known: &Known,
    (record, candidate): (&OperationRecord, &HostName),
    (names, settled): (&SyncNames, bool),
) -> SyncRecord {
    let of = |primary: &HostName, names| SyncValue { primary: primary.clone(), names };
    let mut values = Vec::new();
    if !settled {
        let recorded = Recorded::of(known.sync.values());
        for suspect in record.suspects() {
            let before = recorded.values_of(suspect);
            values.extend(before.into_iter().map(|names| of(suspect, names)));
        }
        values.push(of(candidate, SyncNames::none()));
    }
    values.push(of(candidate, names.clone()));
    let voters = inventory.nodes.keys().chain(inventory.witnesses.keys()).cloned().collect();
    SyncRecord { epoch, number: if settled { 2 } else { 1 }, voters, values }
}

/// What the fence marker tells whoever finds the server down.
fn marker(node: &NodeSettings, identity: &Identity) -> String {
    let record = &identity.record;
    format!(
        "fenced by the {} to {} (epoch {}, {}): bring it back with pgorch resume, or pgorch rejoin {}",
        record.kind, record.candidate, identity.epoch, record.started, node.name
    )
}

fn fence(inventory: &Inventory, node: &NodeSettings, identity: &Identity, seconds: u64) -> Script {
    let vip = inventory.routing.vip.as_ref().map(|_| vip_script(inventory, node));
    of_node(node)
        .set("vip", &vip.unwrap_or_default())
        .set("marker", &marker(node, identity))
        .set("seconds", &seconds.to_string())
        .line(include_str!("scripts/fence.sh"))
}

fn unfence(node: &NodeSettings) -> Script {
    of_node(node)
        .line("rm -f \"$fence\" && sync \"$home\" || fail \"cannot remove $fence\"")
        .line("say done ''")
}

/// The timeline is the receiver's, else what the control file has seen; the caller knows better what
/// the server received before its receiver was ended.
fn position(node: &NodeSettings) -> Script {
    let query = "SELECT pg_is_in_recovery(), coalesce((SELECT received_tli FROM \
        pg_stat_wal_receiver), greatest(c.timeline_id, r.min_recovery_end_timeline)), \
        greatest(pg_last_wal_receive_lsn(), CASE WHEN pg_last_wal_receive_lsn() IS NOT NULL THEN \
        pg_last_wal_replay_lsn() END), pg_last_wal_replay_lsn() \
        FROM pg_control_checkpoint() c, pg_control_recovery() r;";
    of_node(node).set("position_sql", query).line(include_str!("scripts/position.sh"))
}

fn stop(node: &NodeSettings, identity: &Identity, seconds: u64) -> Script {
    of_node(node)
        .set("marker", &marker(node, identity))
        .set("seconds", &seconds.to_string())
        .line(include_str!("scripts/stop.sh"))
}

fn start(node: &NodeSettings, seconds: u64) -> Script {
    of_node(node).set("seconds", &seconds.to_string()).line(include_str!("scripts/start.sh"))
}

/// Waits until the shutdown checkpoint is replayed. `pg_last_wal_replay_lsn()` is the end of the last
/// replayed record, so a position past the start of a record means that all of it is replayed.
fn received_sql(shutdown: Shutdown, seconds: u64) -> String {
    let lsn = literal(&shutdown.checkpoint.to_string());
    format!(
        "DO $$ DECLARE deadline timestamptz := clock_timestamp() + interval '{seconds} s'; BEGIN \
         WHILE coalesce(pg_last_wal_replay_lsn(), '0/0') <= {lsn}::pg_lsn LOOP \
         IF NOT pg_is_in_recovery() THEN RAISE 'it is not in recovery'; END IF; \
         IF clock_timestamp() > deadline THEN RAISE 'replayed to %, not past the shutdown checkpoint at %', \
         pg_last_wal_replay_lsn(), {lsn}; END IF; \
         PERFORM pg_sleep(0.005); END LOOP; END $$;"
    )
}

/// Refuses unless the WAL on disk reaches `end`; recovery replays all of it before it ends.
fn has_sql(end: Lsn) -> String {
    let lsn = literal(&end.to_string());
    format!(
        "DO $$ BEGIN IF pg_last_wal_receive_lsn() < {lsn}::pg_lsn AND pg_last_wal_replay_lsn() < \
         {lsn}::pg_lsn THEN RAISE 'its WAL ends before %, where it ended a moment ago', {lsn}; END IF; \
         END $$;"
    )
}

fn shutdown(known: &Known) -> Result<Shutdown, String> {
    known.shutdown.ok_or_else(|| "where the old primary's WAL ends is not known".to_owned())
}

fn received(node: &NodeSettings, known: &Known, seconds: u64) -> Result<Script, String> {
    let wait = received_sql(shutdown(known)?, seconds);
    Ok(simple(node, wait.trim_end_matches(';')))
}

fn promote(node: &NodeSettings, known: &Known, seconds: u64) -> Result<Script, String> {
    let all = match (known.shutdown, known.ends.get(&node.name)) {
        (Some(shutdown), _) => received_sql(shutdown, 10),
        (None, Some((_, end))) => has_sql(*end),
        (None, None) => return Err("what it must have replayed is not known".to_owned()),
    };
    // The end of recovery is told by a flag that a session sees at once; pg_promote's own wait looks
    // ten times a second only.
    let promote = format!(
        "DO $$ DECLARE deadline timestamptz := clock_timestamp() + interval '{seconds} s'; BEGIN \
         IF pg_is_in_recovery() THEN PERFORM pg_promote(false); END IF; \
         WHILE pg_is_in_recovery() LOOP \
         IF clock_timestamp() > deadline THEN RAISE 'still in recovery after {seconds} s'; END IF; \
         PERFORM pg_sleep(0.002); END LOOP; END $$;\n{TIMELINE};"
    );
    Ok(of_node(node)
        .set("seconds", &seconds.to_string())
        .set("received", &all)
        .set("state_sql", STATE)
        .set("promote_sql", &promote)
        .line(include_str!("scripts/promote.sh")))
}

fn settle(node: &NodeSettings, seconds: u64) -> Script {
    of_node(node)
        .set("seconds", &seconds.to_string())
        .set("state_sql", STATE)
        .set("timeline_sql", TIMELINE)
        .line(include_str!("scripts/settle.sh"))
}

fn follow(
    node: &NodeSettings,
    inventory: &Inventory,
    upstream: &HostName,
    start: bool,
) -> Result<Script, String> {
    let upstream = inventory
        .postgres_of(upstream)
        .ok_or_else(|| format!("{upstream} is not a node of the inventory"))?;
    let slot = inventory.replication.slots.then_some(node.slot.as_str());
    let streaming = format!(
        "DO $$ BEGIN FOR i IN 1..600 LOOP \
         IF EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming' AND sender_host = {} \
         AND sender_port = {}) THEN RETURN; END IF; PERFORM pg_sleep(0.1); END LOOP; \
         RAISE 'it does not stream from {} within a minute'; END $$;",
        literal(&upstream.address),
        upstream.port,
        upstream.name
    );
    // Slots of members that a former primary, or a candidate that came to nothing, kept for those who
    // follow another node.
    let declared = |follow: &Option<HostName>| follow.as_ref() == Some(&node.name);
    let others = inventory.nodes.iter().filter(|(n, o)| **n != node.name && !declared(&o.follow));
    let members: Vec<String> = others.map(|(n, _)| literal(&slot_name(n))).collect();
    let unused = match members.as_slice() {
        [] => String::new(),
        members => format!(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
             WHERE slot_type = 'physical' AND NOT active AND slot_name IN ({});",
            members.join(", ")
        ),
    };
    Ok(of_node(node)
        .set("conf", &standby_conf(node, &upstream, slot))
        .set("start", if start { "1" } else { "0" })
        .set("streaming", &streaming)
        .set("unused", &unused)
        .line(include_str!("scripts/follow.sh")))
}

fn record_event(node: &NodeSettings, identity: &Identity, kind: &str) -> Script {
    let record = &identity.record;
    let data = serde_json::json!({
        "from": record.primary,
        "to": record.candidate,
        "epoch": identity.epoch,
        "operation": record.id,
        "controller": record.controller,
        "started": record.started,
        "proof": record.proof,
    });
    let insert = event_sql(kind, Some(record.candidate.as_str()), &data.to_string());
    simple(node, insert.trim_end_matches(';'))
}

/// Its own output only where it fails: a missing arping is told by `apply`. Only for a primary that
/// answers: nothing would take the address away from a host whose server is down.
fn vip(inventory: &Inventory, node: &NodeSettings) -> Script {
    of_node(node)
        .set("script", &vip_script(inventory, node))
        .line("recovery=$(echo 'SELECT pg_is_in_recovery()' | sql 2>&1)")
        .line("[ \"$recovery\" = f ] || fail \"it is no primary that answers: $recovery\"")
        .line("answer=$(sh \"$script\" up 2>&1) 9>&- || fail \"$script up: $answer\"")
        .line("say done \"${answer:-the neighbours are told}\"")
}

fn follow_nobody(node: &NodeSettings) -> Script {
    of_node(node)
        .set("conf", FOLLOWS_NOBODY)
        .line("file=$dir/pgorch.standby.conf")
        .line(PUT_CONF)
        .line("answer=$(echo 'SELECT pg_reload_conf()' | sql 2>&1) || fail \"reload: $answer\"")
        .line("shorten")
        .line("(")
        .line(include_str!("scripts/unrevoke.sh"))
        .line(")")
}

/// The user's command, with its own output as its text.
fn hook(argv: &[String]) -> Script {
    let line = Script::argv(argv);
    Script::new()
        .line(&format!(
            "answer=$({} 2>&1) 9>&- || fail \"exit status $?: $answer\"",
            line.as_str().trim_end()
        ))
        .line("say done \"$(printf '%s' \"$answer\" | tail -n 1)\"")
}

/// Whether a step that worked counts as a change.
fn changes(action: &Action) -> bool {
    !matches!(
        action,
        Action::Checkpoint
            | Action::LeaseOver
            | Action::Position
            | Action::Received { .. }
            | Action::Settle { .. }
            | Action::WaitSync { .. }
    )
}

/// The newest timeline history file, as position.sh tells it.
fn history(stdout: &str) -> Option<History> {
    let name = stdout.lines().find_map(|l| l.strip_prefix("history_of="))?;
    let timeline = u32::from_str_radix(name.strip_suffix(".history")?, 16).ok()?;
    let ancestor = |line: &str| -> Option<(Timeline, Lsn)> {
        let (timeline, end) = line.strip_prefix("ancestor=")?.split_once(' ')?;
        Some((Timeline(timeline.parse().ok()?), end.parse().ok()?))
    };
    let ancestors = stdout.lines().filter_map(ancestor).collect();
    Some(History { timeline: Timeline(timeline), ancestors })
}

/// What a step's output says.
#[must_use]
pub fn read_outcome(action: &Action, rc: i32, stdout: &str, stderr: &str) -> Outcome {
    let value = |key: &str| {
        let line = stdout.lines().rev().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
        line.map(str::to_owned)
    };
    if let Some(why) = value("refused") {
        return Outcome::Refused(why);
    }
    if let Some(why) = value("failed") {
        return Outcome::Failed(why);
    }
    let Some(text) = value("done") else {
        let last = stderr.lines().map(str::trim).rfind(|l| !l.is_empty());
        return Outcome::Unknown(match last {
            Some(line) => format!("exit status {rc}: {line}"),
            None => format!("exit status {rc}"),
        });
    };
    let timeline = |key: &str| value(key)?.parse().ok().map(Timeline);
    let shutdown = value("shutdown_lsn")
        .and_then(|lsn| lsn.parse::<Lsn>().ok())
        .zip(timeline("shutdown_timeline"))
        .map(|(checkpoint, timeline)| Shutdown { timeline, checkpoint });
    let end =
        timeline("end_timeline").zip(value("end_lsn").and_then(|lsn| lsn.parse::<Lsn>().ok()));
    let end: Option<(Timeline, Lsn)> = end.map(|(timeline, lsn)| {
        let known = history(stdout).map(|h| h.timeline_at(lsn));
        (known.map_or(timeline, |known| known.max(timeline)), lsn)
    });
    let made = stdout.lines().filter_map(|l| l.strip_prefix("made=")).map(str::to_owned).collect();
    let report = Report {
        changed: changes(action) && value("unchanged").is_none(),
        text,
        shutdown,
        promoted: timeline("timeline").map(|timeline| Promoted { timeline }),
        end,
        made,
        sync: value("sync").map(|text| SyncRecord::read(&text)),
        was_down: value("was_down").is_some(),
        not_promoted: value("not_promoted").is_some(),
        lease_ms: value("lease_ms").and_then(|ms| ms.parse().ok()),
        before: value("before_epoch")
            .map(|epoch| Box::new(read_epoch(Some(&epoch), value("before").as_deref()))),
    };
    match action {
        Action::Stop { .. } if report.shutdown.is_none() => {
            Outcome::Failed("the end of its WAL cannot be read".to_owned())
        }
        Action::Position if report.end.is_none() => {
            Outcome::Failed("the end of its WAL cannot be read".to_owned())
        }
        _ => Outcome::Done(report),
    }
}

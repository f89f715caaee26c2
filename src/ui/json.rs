//! Events as JSON lines: the contract of `-o json` and the form of the journal.

use serde_json::json;

use crate::event::{Event, Kind, Status};
use crate::model::Value;
use crate::step::{Diff, Impact};

/// One event line: `{"schema","time","run","event","host","task","step","status","message","data"}`.
/// `time` is RFC 3339 in UTC, `run` the run's id.
#[must_use]
pub fn event_json(event: &Event, time: &str, run: &str) -> Value {
    json!({
        "schema": 1,
        "time": time,
        "run": run,
        "event": event.name(),
        "host": event.host,
        "task": event.task,
        "step": event.place,
        "status": status_word(event),
        "message": event.message,
        "data": data(event),
    })
}

/// The status of an event that has one.
#[must_use]
pub fn status_word(event: &Event) -> Option<&'static str> {
    match &event.kind {
        Kind::TaskDone { status, .. } => Some(status.word()),
        Kind::Unreachable { .. } => Some("unreachable"),
        Kind::Refused { .. } => Some("refused"),
        _ => None,
    }
}

fn data(event: &Event) -> Value {
    match &event.kind {
        Kind::RunStarted { command, hosts } => json!({ "command": command, "hosts": hosts }),
        Kind::Connected { seconds } => json!({ "seconds": seconds }),
        Kind::Gathered { seconds, questions } => {
            json!({ "seconds": seconds, "questions": questions })
        }
        Kind::Unreachable { hint } => json!({ "hint": hint }),
        Kind::Refused { code, hint } => json!({ "code": code, "hint": hint }),
        Kind::PlayStarted { hosts } => json!({ "play": event.play, "hosts": hosts }),
        Kind::Progress { done_total: Some((done, total)) } => {
            json!({ "done_bytes": done, "total_bytes": total })
        }
        Kind::TaskDone { status, seconds, detail } => {
            let mut data = json!({
                "play": event.play,
                "seconds": seconds,
                "diff": detail.diffs.iter().map(diff_json).collect::<Vec<_>>(),
                "impact": impact_json(&detail.impact),
            });
            if matches!(status, Status::Failed | Status::Ignored | Status::Unknown) {
                data["command"] = json!(detail.command);
                data["rc"] = json!(detail.rc);
                data["stderr"] = json!(detail.stderr_tail);
                data["stdout"] = json!(detail.stdout_tail);
                data["hint"] = json!(detail.hint);
            }
            if !detail.result.is_empty() {
                data["result"] = Value::Object(detail.result.clone());
            }
            data
        }
        Kind::Recap { hosts, seconds } => json!({ "hosts": hosts, "seconds": seconds }),
        Kind::Operation { data } | Kind::Decided { data } => data.clone(),
        Kind::RunDone { exit } => json!({ "exit": exit.code(), "outcome": exit }),
        _ => Value::Null,
    }
}

/// One difference.
#[must_use]
pub fn diff_json(diff: &Diff) -> Value {
    match diff {
        Diff::Text { path, before, after } => {
            json!({ "path": path, "before": before, "after": after })
        }
        Diff::Value { name, before, after, note } => {
            json!({ "name": name, "before": before, "after": after, "note": note })
        }
    }
}

/// What a change means for the cluster.
#[must_use]
pub fn impact_json(impact: &Impact) -> Value {
    json!({
        "restart": impact.restart,
        "reload": impact.reload,
        "role_change": impact.role_change,
        "destroys": impact.destroys,
    })
}

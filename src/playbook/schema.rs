//! JSON Schema of a playbook, from the keywords that the parser reads and the catalog of kinds.

use serde_json::{Map, json};

use super::parse::TASK_KEYWORDS;
use crate::model::Value;
use crate::step;

/// The schema (draft 2020-12) for editors: `pgorch schema playbook`.
#[must_use]
pub fn schema() -> Value {
    let mut task = Map::new();
    for keyword in TASK_KEYWORDS {
        task.insert((*keyword).to_owned(), json!({}));
    }
    for list in ["block", "rescue", "always"] {
        task.insert(list.to_owned(), json!({ "$ref": "#/$defs/tasks" }));
    }
    for include in ["include_tasks", "import_tasks"] {
        task.insert(include.to_owned(), json!({ "type": ["string", "object"] }));
    }
    if let Value::Object(kinds) = step::schema()["properties"].take() {
        task.extend(kinds);
    }
    let tasks = json!({ "$ref": "#/$defs/tasks" });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pgorch playbook",
        "type": "array",
        "items": { "anyOf": [{ "$ref": "#/$defs/play" }, { "$ref": "#/$defs/import" }] },
        "$defs": {
            "import": {
                "type": "object",
                "required": ["import_playbook"],
                "additionalProperties": false,
                "properties": {
                    "name": { "type": "string" }, "import_playbook": { "type": "string" },
                    "tags": {}, "when": {}
                }
            },
            "play": {
                "type": "object",
                "required": ["hosts"],
                "additionalProperties": false,
                "properties": {
                    "name": { "type": "string" }, "hosts": {}, "serial": {},
                    "any_errors_fatal": { "type": "boolean" }, "gather_facts": {},
                    "become": { "type": "boolean" }, "become_user": {}, "become_method": {},
                    "vars": { "type": "object" }, "environment": { "type": "object" },
                    "tags": {}, "when": {}, "ignore_errors": {}, "no_log": {}, "run_once": {},
                    "delegate_to": {}, "pre_tasks": tasks, "tasks": tasks, "post_tasks": tasks,
                    "handlers": tasks
                }
            },
            "tasks": { "type": "array", "items": { "$ref": "#/$defs/task" } },
            "task": { "type": "object", "additionalProperties": false, "properties": task }
        }
    })
}

//! The inventory's JSON Schema (draft 2020-12), for editors and other programs.
//!
//! Written beside the parser as one table per mapping; a test sends a wrong key into every mapping
//! of the schema and compares the keys that the parser then names with those that stand here.

use serde_json::json;

use crate::model::{Map, NoticeKind, Value};

/// The schema as a document.
#[must_use]
pub fn schema() -> Value {
    let mut root = object(
        "A PostgreSQL cluster for pgorch.",
        [
            (
                "cluster",
                json!({"type": "string", "pattern": "^[a-z][a-z0-9_-]{0,39}$",
                "description": "Name of the cluster; part of unit and path names."}),
            ),
            ("ssh", reference("ssh")),
            ("postgres", reference("postgres")),
            ("replication", replication()),
            ("failover", failover()),
            ("witnesses", named(reference("host"), "Voters without PostgreSQL.")),
            ("routing", routing()),
            (
                "notifications",
                list(reference("notification"), "Whom the watch tells of what happens."),
            ),
            ("nodes", named(reference("node"), "Hosts with one PostgreSQL of the cluster each.")),
            ("hosts", named(reference("host"), "Other hosts, for playbooks.")),
            ("groups", named(group(), "Variables and members of groups.")),
            ("vars", vars()),
            ("lab", nullable(lab())),
        ],
    );
    let document = [
        ("$schema", json!("https://json-schema.org/draft/2020-12/schema")),
        ("title", json!("pgorch inventory")),
        ("required", json!(["cluster", "nodes"])),
        (
            "$defs",
            json!({
                "ssh": ssh(), "postgres": postgres(), "node_postgres": node_postgres(),
                "host": host(), "node": node(),
                "password": password(), "secret": secret(), "hba": hba(),
                "database": database(), "role": role(), "extension": extension(),
                "notification": notification(),
            }),
        ),
    ];
    if let Value::Object(root) = &mut root {
        root.extend(document.map(|(key, value)| (key.to_owned(), value)));
    }
    root
}

/// A closed mapping.
fn object<const N: usize>(description: &str, properties: [(&str, Value); N]) -> Value {
    let properties: Map = properties.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    json!({"type": "object", "description": description, "properties": properties,
           "additionalProperties": false})
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/$defs/{name}")})
}

/// A mapping from names of the user's choice.
fn named(item: Value, description: &str) -> Value {
    json!({"type": ["object", "null"], "description": description,
           "propertyNames": {"pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"},
           "additionalProperties": nullable(item)})
}

fn nullable(item: Value) -> Value {
    json!({"anyOf": [item, {"type": "null"}]})
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn flag(description: &str) -> Value {
    json!({"type": "boolean", "description": description})
}

fn port() -> Value {
    json!({"type": "integer", "minimum": 1, "maximum": 65535})
}

fn choice(words: &[&str], description: &str) -> Value {
    json!({"enum": words, "description": description})
}

/// A list, or one item in its place.
fn list(item: Value, description: &str) -> Value {
    json!({"description": description,
           "anyOf": [{"type": "array", "items": item.clone()}, item, {"type": "null"}]})
}

fn vars() -> Value {
    json!({"type": ["object", "null"], "description": "Free variables for playbooks.",
           "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}})
}

fn ssh() -> Value {
    object(
        "How to log in; what is left out comes from ~/.ssh/config.",
        [
            ("user", text("Login name.")),
            ("port", port()),
            ("identity_file", text("Private key.")),
            ("password", reference("password")),
            ("become", flag("Use sudo for what needs root.")),
            ("become_password", reference("password")),
            ("proxy_jump", text("[USER@]HOST[:PORT] to go through.")),
            ("known_hosts", text("Another known_hosts file.")),
            ("ssh_config", flag("Honour ~/.ssh/config; default true.")),
            ("connect_timeout", json!({"type": ["string", "integer"], "description": "Like 10s."})),
            ("become_method", choice(&["sudo"], "How to become root.")),
        ],
    )
}

fn password() -> Value {
    json!({"description": "Text, !vault, or {secret: ...}.",
           "anyOf": [{"type": "string"},
                     {"type": "object", "properties": {"secret": reference("secret")},
                      "required": ["secret"], "additionalProperties": false}]})
}

fn secret() -> Value {
    let mut secret = object(
        "Where a secret comes from; exactly one.",
        [
            ("env", text("An environment variable of the controller.")),
            ("file", text("A file on the controller.")),
            ("command", list(text(""), "A program on the controller with its arguments.")),
        ],
    );
    secret["minProperties"] = json!(1);
    secret["maxProperties"] = json!(1);
    secret
}

fn postgres() -> Value {
    let scalar = json!({"type": ["string", "number", "boolean"]});
    object(
        "The servers; a node may have its own, but for databases, roles and extensions.",
        [
            ("version", json!({"type": "integer", "minimum": 13, "maximum": 18})),
            ("install", choice(&["package", "none"], "Where the binaries come from.")),
            ("port", port()),
            ("data_dir", json!({"type": "string", "pattern": "^/.+"})),
            ("bin_dir", json!({"type": "string", "pattern": "^/"})),
            ("service", text("systemd unit, if not pgorch's own.")),
            (
                "parameters",
                json!({"type": ["object", "null"], "description": "postgresql.conf",
            "additionalProperties":
                {"anyOf": [scalar.clone(), {"type": "array", "items": scalar}]}}),
            ),
            (
                "hba",
                list(
                    json!({"anyOf": [reference("hba"), {"type": "string"}]}),
                    "Extra pg_hba.conf rows, as mappings or lines.",
                ),
            ),
            ("databases", list(json!({"anyOf": [reference("database"), {"type": "string"}]}), "")),
            ("roles", list(json!({"anyOf": [reference("role"), {"type": "string"}]}), "")),
            (
                "extensions",
                list(json!({"anyOf": [reference("extension"), {"type": "string"}]}), ""),
            ),
        ],
    )
}

/// Without what the whole cluster shares.
fn node_postgres() -> Value {
    let mut own = postgres();
    own["description"] =
        json!("What is different on this node; its hba rows come after the others.");
    if let Some(properties) = own["properties"].as_object_mut() {
        for shared in ["databases", "roles", "extensions"] {
            properties.remove(shared);
        }
    }
    own
}

fn hba() -> Value {
    let names = list(json!({"type": "string"}), "Name or list of names; default all.");
    object(
        "One pg_hba.conf row.",
        [
            (
                "type",
                choice(
                    &["local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc"],
                    "Default host with an address, local without.",
                ),
            ),
            ("database", names.clone()),
            ("user", names),
            ("address", text("CIDR, host name, all, samehost, samenet.")),
            ("method", text("Default scram-sha-256.")),
            ("options", text("NAME=VALUE ...")),
        ],
    )
}

fn with_name(mut schema: Value) -> Value {
    schema["required"] = json!(["name"]);
    schema
}

fn database() -> Value {
    with_name(object(
        "A database.",
        [
            ("name", text("")),
            ("owner", text("")),
            ("encoding", text("")),
            ("locale", text("")),
            ("template", text("")),
        ],
    ))
}

fn role() -> Value {
    with_name(object(
        "A role.",
        [
            ("name", text("")),
            ("password", reference("password")),
            ("attributes", list(json!({"type": "string"}), "login, createdb, nosuperuser, ...")),
            ("member_of", list(json!({"type": "string"}), "Roles that it is in.")),
            ("connection_limit", json!({"type": "integer", "minimum": -1})),
        ],
    ))
}

fn extension() -> Value {
    with_name(object(
        "An extension.",
        [
            ("name", text("")),
            ("database", list(json!({"type": "string"}), "Where; default postgres.")),
            ("schema", text("")),
        ],
    ))
}

fn replication() -> Value {
    object(
        "How standbys are fed.",
        [
            (
                "mode",
                choice(&["async", "quorum"], "quorum: a commit waits for sync_standbys standbys."),
            ),
            ("slots", flag("A physical slot per standby; default true; quorum needs them.")),
            (
                "sync_standbys",
                json!({"type": "integer", "minimum": 1,
            "description": "How many standbys must have a commit on disk; default 1."}),
            ),
            ("strict", flag("A quorum is never relaxed automatically; default true.")),
        ],
    )
}

fn failover() -> Value {
    object(
        "Unplanned changes of the primary.",
        [
            ("mode", choice(&["manual", "automatic"], "automatic: guards on the nodes.")),
            ("manager", choice(&["pgorch", "none"], "")),
            (
                "maximum_lag_on_failover",
                json!({"type": ["string", "integer"],
            "description": "A standby further behind is no candidate; default 1MB."}),
            ),
            (
                "restart_in_place",
                json!({"type": ["string", "integer"], "description": "never, or how long a crashed \
                    server may take to come back by itself before a standby takes over, like 2s."}),
            ),
            ("auto_rejoin", flag("A returned primary becomes a standby; default true.")),
            ("cross_location", flag("Candidates in other locations; default false.")),
            ("election", choice(&["local"], "")),
            (
                "stonith",
                object(
                    "How a host that cannot be reached is switched off.",
                    [(
                        "command",
                        json!({"anyOf": [{"type": "string"},
                            {"type": "array", "items": {"type": "string"}}],
                        "description": "Run on the controller, with PGORCH_NODE and PGORCH_ADDRESS; \
                            returns 0 only when the host is off."}),
                    )],
                ),
            ),
            (
                "timing",
                json!({"anyOf": [choice(&["fast", "calm"], ""), timing()],
                    "description": "What leases, guards and waits rest on."}),
            ),
        ],
    )
}

fn timing() -> Value {
    let time = || json!({"type": ["string", "integer"], "description": "Like 500ms."});
    object(
        "Single values over a profile; docs/failover.md says what they mean.",
        [
            ("profile", choice(&["fast", "calm"], "")),
            ("hold", choice(&["watchdog", "timer"], "What ends a lease on a node.")),
            ("round", time()),
            ("deadline", time()),
            ("lease", time()),
            ("reply_timeout", time()),
            ("guard_period", time()),
            ("pass_limit", time()),
            ("stop_bound", time()),
            ("margin", time()),
            (
                "clock_rate",
                json!({"type": "integer", "minimum": 9, "maximum": 100,
                "description": "Percent by which clocks may differ in rate."}),
            ),
        ],
    )
}

fn routing() -> Value {
    let commands = || {
        list(
            json!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
            "",
        )
    };
    object(
        "How clients find the primary.",
        [
            ("vip", vip()),
            ("poolers", named_only(pooler(), "What holds clients while the primary changes.")),
            (
                "hooks",
                object(
                    "Commands that the controller runs when the primary changes.",
                    [("before_promote", commands()), ("after_promote", commands())],
                ),
            ),
        ],
    )
}

fn notification() -> Value {
    let words: Vec<&str> = NoticeKind::TABLE.iter().map(|row| row.1).collect();
    object(
        "A command or a webhook.",
        [
            (
                "command",
                json!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
                "description": "Run on the controller, with the message as JSON on its standard input."}),
            ),
            ("webhook", reference("password")),
            (
                "headers",
                json!({"type": ["object", "null"], "description": "HTTP headers of the webhook.",
                "additionalProperties": reference("password")}),
            ),
            ("ca_file", text("Certificates of authorities besides the system's, PEM.")),
            ("events", list(choice(&words, ""), "What it wants; default all but suspected.")),
            (
                "timeout",
                json!({"type": ["string", "integer"],
                "description": "How long one message may take; default 10s."}),
            ),
        ],
    )
}

fn vip() -> Value {
    let mut vip = object(
        "An address that is always on the primary; clients use it instead of the nodes' own.",
        [
            (
                "address",
                json!({"type": "string", "pattern": "^[0-9.]+/[0-9]+$",
                "description": "IPv4, with the network's prefix: 192.0.2.10/24."}),
            ),
            (
                "interface",
                json!({"type": "string",
                "description": "The network interface that gets it, on every node."}),
            ),
        ],
    );
    vip["required"] = json!(["address", "interface"]);
    vip
}

/// [`named`], whose entries must say something.
fn named_only(item: Value, description: &str) -> Value {
    let mut schema = named(Value::Null, description);
    schema["additionalProperties"] = item;
    schema
}

fn pooler() -> Value {
    let mut pooler = object(
        "A pooler; its key is the host that it runs on.",
        [
            ("kind", choice(&["pgbouncer"], "")),
            ("port", port()),
            (
                "config",
                json!({"type": "string", "pattern": "^/",
                "description": "The file with [databases]; default /etc/pgbouncer/pgbouncer.ini."}),
            ),
            (
                "databases",
                list(
                    json!({"type": "string"}),
                    "Entries of [databases]; default all that point at a node.",
                ),
            ),
            ("user", text("Account that it runs as; default postgres.")),
            (
                "timeout",
                json!({"type": ["string", "integer"],
                "description": "How long transactions may take to end; default 10s."}),
            ),
        ],
    );
    pooler["required"] = json!(["kind"]);
    pooler
}

fn host() -> Value {
    object(
        "A host.",
        [
            ("host", text("Address or name to dial; may be left out with lab.")),
            ("ssh", reference("ssh")),
            ("groups", list(json!({"type": "string"}), "Groups that it is in.")),
            ("vars", vars()),
        ],
    )
}

fn node() -> Value {
    object(
        "A node.",
        [
            ("host", text("Address or name to dial; may be left out with lab.")),
            ("ssh", reference("ssh")),
            ("groups", list(json!({"type": "string"}), "Groups that it is in.")),
            ("vars", vars()),
            ("primary", flag("Where the first apply runs initdb.")),
            (
                "priority",
                json!({"type": "integer", "minimum": 0, "maximum": 1_000_000,
            "description": "Preference at failover, default 100; 0 is never."}),
            ),
            ("location", text("Data centre or the like.")),
            ("follow", text("Wanted upstream; without it the primary.")),
            ("postgres", reference("node_postgres")),
        ],
    )
}

fn group() -> Value {
    object(
        "A group.",
        [
            ("vars", vars()),
            (
                "hosts",
                list(json!({"type": "string"}), "Members, besides those that name the group."),
            ),
        ],
    )
}

fn lab() -> Value {
    object(
        "Disposable hosts on this machine.",
        [
            ("backend", choice(&["auto", "nspawn"], "")),
            ("image", text("A Debian or Ubuntu suite, like bookworm.")),
        ],
    )
}

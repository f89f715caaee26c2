//! Host patterns, shipped and first inventories, the schema.

use super::inventory::{brief, parsed, warnings, with};
use pgorch::inventory::{
    self, FirstInventory, Inventory, LiveRoles, match_hosts, uses_live_roles, write_first,
};
use pgorch::model::Value;
use pgorch::syntax::Source;

fn patterns() -> Inventory {
    parsed(
        "cluster: c
nodes:
  pg1: {host: h1}
  pg4: {host: h4, follow: pg3}
  pg2: {host: h2, groups: [reports]}
  pg3: {host: h3, follow: pg2}
witnesses: {w1: {host: h5}}
hosts: {lb1: {host: h6, groups: [proxies]}, lb2: {host: h7, groups: [proxies]}}
groups: {empty: {}, reports: {vars: {x: 1}}}
",
    )
}

#[track_caller]
fn check_pattern(pattern: &str, expected: &str) {
    let live = LiveRoles {
        primary: Some("pg2".into()),
        standbys: vec!["pg3".into(), "pg1".into()],
        candidate: Some("pg1".into()),
    };
    let shown = match match_hosts(pattern, &patterns(), &live) {
        Ok(hosts) => hosts.iter().map(|h| h.as_str()).collect::<Vec<_>>().join(" "),
        Err(error) => format!("{error}; {}", error.hint),
    };
    assert_eq!(shown, expected, "{pattern}");
}

#[test]
fn host_patterns() {
    check_pattern("all", "pg1 pg4 pg2 pg3 w1 lb1 lb2");
    check_pattern("*", "pg1 pg4 pg2 pg3 w1 lb1 lb2");
    check_pattern("nodes", "pg1 pg4 pg2 pg3");
    check_pattern("pg3,pg1", "pg1 pg3");
    check_pattern("pg3:pg1", "pg1 pg3");
    check_pattern("primary", "pg2");
    check_pattern("standbys", "pg1 pg3");
    check_pattern("standbys:&candidate", "pg1");
    check_pattern("nodes:!primary", "pg1 pg4 pg3");
    check_pattern("!primary:nodes", "pg1 pg4 pg3");
    check_pattern("!nodes", "w1 lb1 lb2");
    check_pattern("cascaded", "pg3 pg4");
    check_pattern("proxies", "lb1 lb2");
    check_pattern("lb*,witnesses", "w1 lb1 lb2");
    check_pattern("pg[1-2]", "pg1 pg2");
    check_pattern("pg[!12]", "pg4 pg3");
    check_pattern("p?3", "pg3");
    check_pattern("prox*", "lb1 lb2");
    check_pattern("empty", "");
    check_pattern("", "");
    check_pattern("all,!proxies,!w1,&reports", "pg2");
    check_pattern(
        "pg5",
        "unknown host or group \"pg5\" in the pattern \"pg5\"; did you mean \"pg1\"?",
    );
    check_pattern(
        "nodes:!standby",
        "unknown host or group \"standby\" in the pattern \"nodes:!standby\"; did you mean \"standbys\"?",
    );
    check_pattern(
        "zz*",
        "unknown host or group \"zz*\" in the pattern \"zz*\"; known: pg1, pg4, pg2, reports, pg3, w1, lb1, proxies, lb2, empty",
    );
    assert!(uses_live_roles("nodes:!primary") && !uses_live_roles("nodes:pg1"));
}

#[test]
fn shipped_inventories_are_valid() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("inventories");
    let mut count = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        assert_eq!(warnings(&text), "");
        count += 1;
    }
    assert_eq!(count, 5);
}

#[test]
fn the_first_inventory_is_valid() {
    let mut first = FirstInventory {
        cluster: "accounts".into(),
        version: 16,
        user: Some("deploy".into()),
        nodes: vec![
            ("n1".into(), Some("10.0.0.1".into())),
            ("1".into(), Some("fe80::1".into())),
            ("true".into(), Some("db.example.org".into())),
        ],
    };
    assert_eq!(brief(&write_first(&first)), "");
    insta::assert_snapshot!(write_first(&first), @r#"
    # A PostgreSQL cluster for pgorch. Check it with: pgorch check
    # See what would be done with: pgorch plan      Do it with: pgorch apply

    cluster: accounts

    # The login on the hosts; ~/.ssh/config and the agent are honoured.
    ssh:
      user: deploy
      # Use sudo for what needs root.
      become: true

    postgres:
      version: 16
      # Anything from postgresql.conf.
      parameters:
        shared_buffers: 256MB
      # Who may connect, besides replication, which is derived from the nodes.
      # hba:
      #   - host all all 10.0.0.0/8 scram-sha-256

    # The first apply makes the database on the node marked primary and clones it to the
    # others. Afterwards pgorch goes by what it sees, and the mark means nothing.
    nodes:
      n1: { host: 10.0.0.1, primary: true }
      "1": { host: "fe80::1" }
      "true": { host: db.example.org }
    "#);
    first.nodes.iter_mut().for_each(|n| n.1 = None);
    first.user = None;
    assert_eq!(brief(&write_first(&first)), "");
    assert!(parsed(&write_first(&first)).lab.is_some());
}

/// Every closed mapping of the schema, and an inventory with a wrong key in it.
const MAPPINGS: &[(&str, &str)] = &[
    ("", "qqqqqqqqqqqq: 1"),
    ("/properties/replication", "replication: {qqqqqqqqqqqq: 1}"),
    ("/properties/failover", "failover: {qqqqqqqqqqqq: 1}"),
    ("/properties/failover/properties/stonith", "failover: {stonith: {qqqqqqqqqqqq: 1}}"),
    ("/properties/failover/properties/timing/anyOf/1", "failover: {timing: {qqqqqqqqqqqq: 1}}"),
    ("/properties/routing", "routing: {qqqqqqqqqqqq: 1}"),
    ("/properties/routing/properties/hooks", "routing: {hooks: {qqqqqqqqqqqq: 1}}"),
    ("/properties/routing/properties/vip", "routing: {vip: {qqqqqqqqqqqq: 1}}"),
    (
        "/properties/routing/properties/poolers/additionalProperties",
        "routing: {poolers: {a: {qqqqqqqqqqqq: 1}}}",
    ),
    ("/properties/groups/additionalProperties/anyOf/0", "groups: {g: {qqqqqqqqqqqq: 1}}"),
    ("/properties/lab/anyOf/0", "lab: {qqqqqqqqqqqq: 1}"),
    ("/$defs/ssh", "ssh: {qqqqqqqqqqqq: 1}"),
    ("/$defs/secret", "ssh: {password: {secret: {qqqqqqqqqqqq: 1}}}"),
    ("/$defs/postgres", "postgres: {qqqqqqqqqqqq: 1}"),
    ("/$defs/node_postgres", "."),
    ("/$defs/hba", "postgres: {hba: [{qqqqqqqqqqqq: 1}]}"),
    ("/$defs/database", "postgres: {databases: [{qqqqqqqqqqqq: 1}]}"),
    ("/$defs/role", "postgres: {roles: [{qqqqqqqqqqqq: 1}]}"),
    ("/$defs/extension", "postgres: {extensions: [{qqqqqqqqqqqq: 1}]}"),
    ("/$defs/notification", "notifications: [{qqqqqqqqqqqq: 1}]"),
    ("/$defs/host", "hosts: {h: {qqqqqqqqqqqq: 1}}"),
    ("/$defs/host", "witnesses: {h: {qqqqqqqqqqqq: 1}}"),
    ("/$defs/node", ""),
];

#[test]
fn the_schema_has_exactly_the_parsers_keys() {
    fn closed(value: &Value, path: String, out: &mut Vec<String>) {
        if value.get("properties").is_some()
            && value.get("additionalProperties") == Some(&Value::Bool(false))
            && value.get("description").is_some()
        {
            out.push(path.clone());
        }
        match value {
            Value::Object(map) => {
                map.iter().for_each(|(k, v)| closed(v, format!("{path}/{k}"), out))
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(i, v)| closed(v, format!("{path}/{i}"), out))
            }
            _ => {}
        }
    }
    let schema = inventory::schema();
    for (pointer, extra) in MAPPINGS {
        let text = match *extra {
            "" => "cluster: c\nnodes: {a: {qqqqqqqqqqqq: 1}}\n".to_owned(),
            "." => "cluster: c\nnodes: {a: {postgres: {qqqqqqqqqqqq: 1}}}\n".to_owned(),
            extra => with(extra),
        };
        let complaints = inventory::parse(&Source::new("i", text)).expect_err("a wrong key");
        let hint = complaints
            .iter()
            .filter(|d| d.message.contains("qqqqqqqqqqqq"))
            .find_map(|d| d.hint.clone());
        let hint = hint.unwrap_or_else(|| panic!("{pointer}: {complaints:?}"));
        let mut parser: Vec<&str> =
            hint.strip_prefix("known keys: ").expect("a list").split(", ").collect();
        let properties = schema.pointer(pointer).unwrap()["properties"].as_object().unwrap();
        let mut ours: Vec<&str> = properties.keys().map(String::as_str).collect();
        parser.sort_unstable();
        ours.sort_unstable();
        assert_eq!(ours, parser, "{pointer}");
    }
    let mut all = Vec::new();
    closed(&schema, String::new(), &mut all);
    for path in all {
        assert!(MAPPINGS.iter().any(|(pointer, _)| *pointer == path), "{path} is not checked");
    }
}

use pgorch::inventory::{self, Inventory};
use pgorch::model::HostName;
use pgorch::syntax::{Source, render};

pub(crate) fn parsed(text: &str) -> Inventory {
    inventory::parse(&Source::new("inventory.yml", text))
        .unwrap_or_else(|e| panic!("{}", render(&e)))
        .0
}

fn complaints(text: &str) -> String {
    render(&inventory::parse(&Source::new("inventory.yml", text)).expect_err("should be refused"))
}

pub(crate) fn warnings(text: &str) -> String {
    render(&inventory::parse(&Source::new("inventory.yml", text)).expect("valid").1)
}

/// Messages and hints only, one a line.
pub(crate) fn brief(text: &str) -> String {
    let all = match inventory::parse(&Source::new("i", text)) {
        Ok((_, warnings)) => warnings,
        Err(complaints) => complaints,
    };
    all.iter().map(|d| format!("{d}\n")).collect()
}

/// A valid inventory of two nodes with something added to it.
pub(crate) fn with(text: &str) -> String {
    format!("cluster: c\nnodes: {{a: {{host: 10.0.0.1}}, b: {{host: 10.0.0.2}}}}\n{text}")
}

const CONTRACT: &str = r"
cluster: accounts
ssh:      { user: root, identity_file: ~/.ssh/id_ed25519, become: false }
postgres:
  version: 15
  install: package
  port: 5432
  data_dir: /var/lib/pgorch/accounts/15/data
  parameters: { shared_buffers: 256MB }
  hba: []
  databases: []
  roles: []
  extensions: []
replication: { mode: async, slots: true }
failover:
  { mode: manual, manager: pgorch, maximum_lag_on_failover: 1MB, restart_in_place: never, auto_rejoin: true, cross_location: false,
    election: local, timing: fast }
witnesses:   { w1: { host: 198.18.0.31 } }
routing:     { vip: {address: 198.18.0.100/24, interface: eth0}, hooks: {before_promote: [], after_promote: []} }
nodes:
  node1: { host: 198.18.0.11, primary: true }
  node2: { host: 198.18.0.12, priority: 100, location: dc1 }
  node3: { host: 198.18.0.13, follow: node2, ssh: {}, postgres: {port: 5433, parameters: {}} }
hosts:   { lb1: { host: 198.18.0.21, groups: [proxies] } }
vars: {}
lab:  { backend: auto, image: bookworm }
";

#[test]
fn the_contract_as_it_stands_in_the_design() {
    let inventory = parsed(CONTRACT);
    assert_eq!(warnings(CONTRACT), "");
    assert_eq!(inventory.cluster, "accounts");
    assert_eq!(inventory.nodes.len(), 3);
    let node3 = inventory.postgres_of(&"node3".into()).unwrap();
    assert_eq!((node3.port, node3.version), (5433, 15));
    assert_eq!(node3.parameters["shared_buffers"], "256MB");
    assert_eq!(node3.follow, Some("node2".into()));
    assert_eq!(inventory.failover.maximum_lag_bytes, Some(1 << 20));
    assert_eq!(inventory.lab.unwrap().image, "bookworm");
    assert_eq!(inventory.hosts[&HostName::from("lb1")].groups, ["proxies"]);
}

#[test]
fn every_complaint_of_a_file_in_one_go() {
    insta::assert_snapshot!(complaints("cluster: Accounts
postgress:
  version: 15
postgres:
  version: 15.2
  port: 70000
  data_dir: /
  parameters: {shared_bufers: 256MB, work_mem: null, port: 5433}
  hba:
    - host all all 10.0.0.0/8 scram
    - {type: local, address: 10.0.0.1/32}
nodes:
  node1: {host: 10.0.0.1, primary: true}
  node2: {host: 10.0.0.1, primary: true, follow: nod1, prioritty: 5}
  node3: {follow: node4, priority: -1}
  node4: {host: 10.0.0.4, follow: node3}
witnesses:
  node1: {host: 10.0.0.5:22}
replication: {sync_standbys: 4}
failover: {mode: automatic, maximum_lag_on_failover: lots}
"), @r#"
error: bad cluster "Accounts"
 --> inventory.yml:1:10
  |
1 | cluster: Accounts
  |          ^^^^^^^^
  |
  = hint: must begin with a lower-case letter

error: unknown key "postgress" in the inventory
 --> inventory.yml:2:1
  |
2 | postgress:
  | ^^^^^^^^^
  |
  = hint: did you mean "postgres"?

error: "version" must be a major version, not a number
 --> inventory.yml:5:12
  |
5 |   version: 15.2
  |            ^^^^
  |
  = hint: write 15; the newest minor release is installed

error: "port" must be from 1 to 65535, not 70000
 --> inventory.yml:6:9
  |
6 |   port: 70000
  |         ^^^^^

error: bad data_dir "/"
 --> inventory.yml:7:13
  |
7 |   data_dir: /
  |             ^
  |
  = hint: must be a directory of its own, not one that the system needs

error: "work_mem" must be a value, not nothing
 --> inventory.yml:8:48
  |
8 |   parameters: {shared_bufers: 256MB, work_mem: null, port: 5433}
  |                                                ^^^^
  |
  = hint: leave the parameter out to have its default

error: the parameter "port" is not set here
 --> inventory.yml:8:54
  |
8 |   parameters: {shared_bufers: 256MB, work_mem: null, port: 5433}
  |                                                      ^^^^
  |
  = hint: set postgres.port

error: unknown authentication method "scram"
  --> inventory.yml:10:7
   |
10 |     - host all all 10.0.0.0/8 scram
   |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
   |
   = hint: did you mean "scram-sha-256"?

error: an hba rule of type "local" takes no address
  --> inventory.yml:11:7
   |
11 |     - {type: local, address: 10.0.0.1/32}
   |       ^

error: the address 10.0.0.1 is taken by "node1"
  --> inventory.yml:14:17
   |
14 |   node2: {host: 10.0.0.1, primary: true, follow: nod1, prioritty: 5}
   |                 ^^^^^^^^

error: "node1" is marked primary already
  --> inventory.yml:14:36
   |
14 |   node2: {host: 10.0.0.1, primary: true, follow: nod1, prioritty: 5}
   |                                    ^^^^
   |
   = hint: mark the node where initdb runs; afterwards pgorch follows what it sees

error: "node2" is marked primary and follows another node
  --> inventory.yml:14:50
   |
14 |   node2: {host: 10.0.0.1, primary: true, follow: nod1, prioritty: 5}
   |                                                  ^^^^

error: "nod1" in "follow" is unknown
  --> inventory.yml:14:50
   |
14 |   node2: {host: 10.0.0.1, primary: true, follow: nod1, prioritty: 5}
   |                                                  ^^^^
   |
   = hint: did you mean "node1"?

error: unknown key "prioritty" in node "node2"
  --> inventory.yml:14:56
   |
14 |   node2: {host: 10.0.0.1, primary: true, follow: nod1, prioritty: 5}
   |                                                        ^^^^^^^^^
   |
   = hint: did you mean "priority"?

error: node "node3" needs a "host"
  --> inventory.yml:15:3
   |
15 |   node3: {follow: node4, priority: -1}
   |   ^^^^^
   |
   = hint: its address or name; only with "lab:" it may be left out

error: "follow" goes in a circle: node3 -> node4 -> node3
  --> inventory.yml:15:19
   |
15 |   node3: {follow: node4, priority: -1}
   |                   ^^^^^

error: "priority" must be from 0 to 1000000, not -1
  --> inventory.yml:15:36
   |
15 |   node3: {follow: node4, priority: -1}
   |                                    ^^

error: the name "node1" is taken by a node
  --> inventory.yml:18:3
   |
18 |   node1: {host: 10.0.0.5:22}
   |   ^^^^^

error: bad host "10.0.0.5:22"
  --> inventory.yml:18:17
   |
18 |   node1: {host: 10.0.0.5:22}
   |                 ^^^^^^^^^^^
   |
   = hint: write the port apart: ssh: {port: 22}

error: "sync_standbys" is 4, but there are 0 standbys that would stream from the primary
  --> inventory.yml:19:30
   |
19 | replication: {sync_standbys: 4}
   |                              ^
   |
   = hint: commits would wait for ever; more nodes, or a smaller number

error: "mode: automatic" needs 2 standbys that stream from the primary itself, and there are 0
  --> inventory.yml:20:18
   |
20 | failover: {mode: automatic, maximum_lag_on_failover: lots}
   |                  ^^^^^^^^^
   |
   = hint: a witness or a cascaded standby cannot acknowledge: add nodes, or take "follow" away

error: "maximum_lag_on_failover" must be a size, not "lots"
  --> inventory.yml:20:54
   |
20 | failover: {mode: automatic, maximum_lag_on_failover: lots}
   |                                                      ^^^^
   |
   = hint: a whole number with B, kB, MB, GB or TB, like 16MB
"#);
}

#[test]
fn stonith_needs_its_command() {
    insta::assert_snapshot!(brief(&with("failover: {stonith: {}}\n")), @r#"i:3:21: error: stonith needs a "command""#);
    insta::assert_snapshot!(brief(&with("failover: {stonith: {command: ['']}}\n")), @r#"i:3:31: error: "command" has an empty command"#);
}

#[test]
fn automatic_failover_needs_a_majority_that_can_acknowledge() {
    let three = "cluster: c\nnodes: {a: {host: a}, b: {host: b}, c: {host: c}}\n";
    let automatic =
        parsed(&format!("{three}failover: {{mode: automatic, restart_in_place: 2s}}\n"));
    assert_eq!(automatic.voters(), (3, 2));
    let guard = automatic.postgres_of(&"b".into()).and_then(|n| n.guard).expect("a guard");
    assert_eq!((guard.slots.join(" "), guard.majority), ("a c".to_owned(), 2));
    assert_eq!(guard.script, "/usr/local/lib/pgorch/pgorch-c.guard");
    assert_eq!(automatic.failover.restart_in_place, Some(std::time::Duration::from_secs(2)));
    let manual = parsed(three);
    assert!(manual.postgres_of(&"b".into()).expect("a node").guard.is_none());
    // Two nodes and a host that votes.
    let two = "cluster: c\nnodes: {a: {host: a}, b: {host: b}}\nfailover: {mode: automatic}\n";
    insta::assert_snapshot!(brief(two), @r#"i:3:18: error: "mode: automatic" needs an odd number of votes, and there are 2 (add a node, or under "witnesses" any host with SSH)"#);
    assert_eq!(parsed(&format!("{two}witnesses: {{w: {{host: w}}}}\n")).voters(), (3, 2));
    let no_slots = format!("{three}failover: {{mode: automatic}}\nreplication: {{slots: false}}\n");
    insta::assert_snapshot!(brief(&no_slots), @r#"i:3:18: error: "mode: automatic" needs replication slots (a slot says which node acknowledges: take "slots: false" away)"#);
}

#[test]
fn constants_of_failover_are_a_profile_or_single_values_that_fit() {
    let timing =
        |text: &str| parsed(&with(&format!("failover: {{timing: {text}}}"))).failover.timing;
    assert_eq!(timing("fast"), pgorch::model::Timing::default());
    assert!(timing("calm").lease > timing("{lease: 4s}").lease);
    assert_eq!(timing("{profile: calm, hold: timer}").wait_lease().as_millis(), 12_600);
    insta::assert_snapshot!(brief(&with("failover: {timing: {lease: 1s}}\n")), @r#"i:3:20: error: lease must be longer than 2000 ms, with this round and deadline: one slow answer would stop the primary"#);
    insta::assert_snapshot!(brief(&with("failover: {restart_in_place: once}\n")), @r#"i:3:30: error: "restart_in_place" must be a duration, not "once" (a whole number with ms, s, min, h or d, like 10s)"#);
}

#[test]
fn a_virtual_address_is_one_that_can_move() {
    insta::assert_snapshot!(brief(&with("routing: {vip: {address: 10.0.0.9/24}}\n")), @r#"i:3:16: error: "vip" needs an address and an interface (vip: {address: 192.0.2.10/24, interface: eth0})"#);
    // Of a mistyped key it is said once what is meant.
    insta::assert_snapshot!(brief(&with("routing: {vip: {adress: 10.0.0.9/24, interface: eth0}}\n")), @r#"i:3:17: error: unknown key "adress" in vip (did you mean "address"?)"#);
    insta::assert_snapshot!(brief(&with("routing: {vip: {address: 10.0.0.9, interface: '-x'}}\n")), @r#"
    i:3:26: error: bad address "10.0.0.9" (an IPv4 address with the network's prefix, like 192.0.2.10/24)
    i:3:47: error: bad interface "-x" (the name of a network interface, like eth0: at most 15 letters, digits, ".", "_", "-")
    "#);
    insta::assert_snapshot!(brief(&with("routing: {vip: {address: 10.0.0.1/24, interface: eth0}}\n")), @r#"i:3:16: error: the virtual address 10.0.0.1 is a's own (take one that no host has)"#);
}

#[test]
fn what_is_not_built_yet_is_refused_at_its_place() {
    insta::assert_snapshot!(brief(&with("
ssh: {become_method: su}
postgres: {install: {source: {url: 'https://example.org/p.tgz'}}}
replication: {mode: async}
failover: {manager: repmgr, election: 'etcd://e1'}
routing: {vip: {address: '2001:db8::9/64', interface: eth0}, poolers: {a: {kind: pgbouncer}}}
lab: {backend: docker}
")), @r#"
i:4:22: error: "become_method: su" is not built yet (use sudo)
i:5:21: error: "install: source" is not built yet (use package or none)
i:7:21: error: "manager: repmgr" is not built yet (use pgorch or none)
i:7:39: error: "election: etcd" is not built yet (use local)
i:8:26: error: an IPv6 address in "vip" is not built yet (give an IPv4 address)
i:9:16: error: "backend: docker" is not built yet (use auto or nspawn)
"#);
}

#[test]
fn a_quorum_needs_slots_and_a_standby_to_spare() {
    let nodes = |count: usize, replication: &str| {
        let mut text = format!("cluster: q\nreplication: {replication}\nnodes:\n");
        for at in 1..=count {
            text.push_str(&format!("  n{at}: {{host: 10.0.0.{at}}}\n"));
        }
        brief(&text)
    };
    insta::assert_snapshot!(nodes(3, "{mode: quorum}"), @"");
    insta::assert_snapshot!(nodes(4, "{mode: quorum, sync_standbys: 2, strict: false}"), @"");
    insta::assert_snapshot!(nodes(3, "{mode: quorum, sync_standbys: 2}"), @r#"i:2:44: error: "sync_standbys" is 2, and there are 2 standbys (one that is down would stop all writes: at most 1)"#);
    insta::assert_snapshot!(nodes(2, "{mode: quorum}"), @r#"i:2:21: warning: "sync_standbys" is 1, and there is 1 standby (writes stop while it is down; a third node would go on)"#);
    insta::assert_snapshot!(nodes(1, "{mode: quorum}"), @r#"i:2:21: error: "sync_standbys" is 1, but there are 0 standbys that would stream from the primary (commits would wait for ever; more nodes, or a smaller number)"#);
    let weak = |value: &str| {
        let nodes = "nodes: {a: {host: 10.0.0.1}, b: {host: 10.0.0.2}, c: {host: 10.0.0.3}}";
        let postgres = format!("postgres: {{parameters: {{synchronous_commit: {value}}}}}");
        brief(&format!("cluster: q\n{nodes}\nreplication: {{mode: quorum}}\n{postgres}\n"))
    };
    insta::assert_snapshot!(weak("remote_write"), @r#"i:3:21: error: with synchronous_commit = remote_write commits wait for no standby's disk ("mode: quorum" needs on or remote_apply in postgres.parameters; a session may lower it)"#);
    insta::assert_snapshot!(weak("remote_apply"), @"");
    insta::assert_snapshot!(nodes(3, "{mode: quorum, slots: false}"), @r#"i:2:36: error: "mode: quorum" needs slots: a standby's acknowledgement is told by its slot (leave "slots" out)"#);
}

#[test]
fn wrong_types_and_values() {
    insta::assert_snapshot!(brief(&with("
ssh: {user: '', port: x, become: maybe, connect_timeout: soon, identity_file: [a]}
postgres: {version: 19, install: apt, service: 'a b', bin_dir: usr/bin, data_dir: /var/lib, databases: [{owner: x}, d, d], roles: [{name: r, attributes: [logn], connection_limit: -5}], extensions: [{name: ''}]}
replication: {mode: asynch, slots: 7}
failover: {manager: pgorc, timing: quick, election: raft}
routing: {hooks: {before_promotion: []}}
vars: {a-b: 1}
lab: {image: 'Bookworm!'}
")), @r#"
i:4:13: error: bad user "" (must not be empty)
i:4:23: error: "port" must be a whole number, not text (found the text "x")
i:4:34: error: "become" must be true or false, not text
i:4:58: error: "connect_timeout" must be a duration, not "soon" (a whole number with ms, s, min, h or d, like 10s)
i:4:79: error: "identity_file" must be text, not a list
i:5:21: error: "version" must be from 13 to 18, not 19
i:5:34: error: "install" must be package or none, not text
i:5:48: error: bad service "a b" (a systemd unit's name, like postgresql@15-main)
i:5:64: error: bad bin_dir "usr/bin" (must be an absolute path)
i:5:83: error: bad data_dir "/var/lib" (must be a directory of its own, not one that the system needs)
i:5:105: error: a database needs a "name"
i:5:120: error: "d" is given twice in databases
i:5:155: error: unknown attribute "logn" (did you mean "login"?)
i:5:180: error: "connection_limit" must be from -1 to 2147483647, not -5
i:5:206: error: bad name "" (1 to 63 bytes, without control characters)
i:6:21: error: "mode" must be async or quorum, not "asynch" (did you mean "async"?)
i:6:36: error: "slots" must be true or false, not a whole number
i:7:21: error: "manager" must be pgorch or none, not "pgorc" (did you mean "pgorch"?)
i:7:36: error: "timing" must be fast or calm, not "quick"
i:7:53: error: "election" must be local, not "raft"
i:8:19: error: unknown key "before_promotion" in hooks (did you mean "before_promote"?)
i:9:8: error: bad variable name "a-b" (letters, digits and "_", not beginning with a digit)
i:10:14: error: bad image "Bookworm!" (a suite's name, like bookworm, trixie or noble)
"#);
    insta::assert_snapshot!(brief("nodes: {}\n"), @r#"
    i:1:1: error: the inventory needs a "cluster" name (for example: cluster: accounts)
    i:1:8: error: "nodes" must name one node at least
    "#);
    insta::assert_snapshot!(brief("- a\n- b\n"), @"i:1:1: error: the inventory must be a mapping, not a list");
    insta::assert_snapshot!(brief("cluster: c\nnodes: [a]\n"), @r#"i:2:8: error: "nodes" must be a mapping, not a list"#);
    insta::assert_snapshot!(brief("cluster: c\nnodes: {all: {host: a}, a b: {host: b}, x-y: {host: c}, x_y: {host: d}}\n"), @r#"
    i:2:9: error: bad node name "all" (is a word with a meaning in host patterns)
    i:2:25: error: bad node name "a b" (takes letters, digits, "-", "_" and "." only)
    i:2:57: error: "x_y" and "x-y" have the same slot name "x_y" (slot names are lower case, with "_" for "-" and ".")
    "#);
    insta::assert_snapshot!(brief("cluster: c\nnodes: {a: {host: root@h}, b: {host: 'h:22'}, c: {host: 300.1.1.1}, d: {host: '[::1]'}, e: {host: -x}, f: {ansible_host: h}}\n"), @r#"
    i:2:19: error: bad host "root@h" (write the user apart: ssh: {user: root})
    i:2:38: error: bad host "h:22" (write the port apart: ssh: {port: 22})
    i:2:57: error: bad host "300.1.1.1" (an IPv4 address has four numbers from 0 to 255)
    i:2:79: error: bad host "[::1]" (write an IPv6 address without brackets)
    i:2:99: error: bad host "-x" (a host name takes letters, digits, "-" and ".")
    i:2:104: error: node "f" needs a "host" (its address or name; only with "lab:" it may be left out)
    i:2:108: error: unknown key "ansible_host" in node "f" (did you mean "host"?)
    "#);
    insta::assert_snapshot!(brief("cluster: c\nnodes: {a: {host: h1, follow: a}, b: {host: h2, follow: w}, c: {host: h3, primary: true, follow: b}}\nwitnesses: {w: {host: h4}}\n"), @r#"
    i:2:31: error: "a" cannot follow itself
    i:2:57: error: "w" in "follow" is not a node (known: a, b, c)
    i:2:98: error: "c" is marked primary and follows another node
    "#);
    insta::assert_snapshot!(brief("cluster: c\nnodes: {a: {host: h1, postgres: {version: 14}}, b: {host: h2}}\n"), @r#"i:2:33: error: all nodes of a cluster need the same version as "a""#);
    insta::assert_snapshot!(brief(&with("groups: {g: {hosts: [a, c]}, a: {}}\n")), @r#"
    i:2:9: error: "a" is both a node and a group
    i:3:25: error: unknown host "c" in group "g" (known: a, b)
    "#);
}

#[test]
fn one_address_may_stand_twice_with_different_ssh_ports() {
    assert_eq!(
        brief(
            "cluster: c\nnodes: {a: {host: h, ssh: {port: 2201}}, b: {host: h, ssh: {port: 2202}}}\n"
        ),
        ""
    );
    insta::assert_snapshot!(brief("cluster: c\nnodes: {a: {host: h}, b: {host: H., ssh: {port: 22}}}\n"), @r#"i:2:33: error: the address H. is taken by "a""#);
    insta::assert_snapshot!(brief("cluster: c\nnodes: {a: {host: 'fd00::1'}, b: {host: 'FD00:0::1'}}\n"), @r#"i:2:41: error: the address FD00:0::1 is taken by "a""#);
    insta::assert_snapshot!(brief("cluster: c\nnodes: {a: {host: h, postgres: {roles: [x], hba: [local all all peer]}}}\n"), @r#"i:2:40: error: "roles" are the whole cluster's, not one node's (write them under postgres.roles of the inventory)"#);
}

#[test]
fn parameters_become_text() {
    let inventory = parsed(&with(
        "postgres:
  parameters:
    fsync: true
    hot_standby: no
    shared_buffers: 256MB
    max_connections: 100
    random_page_cost: 1.10
    log_file_mode: 0640
    search_path: ['\"$user\"', public]
    Work_Mem: '4MB'
    auto_explain.log_analyze: on
",
    ));
    let shown: Vec<String> =
        inventory.postgres.parameters.iter().map(|(k, v)| format!("{k}={v}")).collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    fsync=on
    hot_standby=no
    shared_buffers=256MB
    max_connections=100
    random_page_cost=1.10
    log_file_mode=0640
    search_path="$user", public
    work_mem=4MB
    auto_explain.log_analyze=on
    "#);
}

#[test]
fn hba_rules_as_lines_and_mappings() {
    let inventory = parsed(&with(
        "postgres:
  hba:
    - host all all 10.0.0.0/8 scram-sha-256
    - 'host  \"my db\",other  +staff  10.0.0.0 255.255.0.0  ldap ldapserver=x ldapport=1 # why'
    - local all postgres peer map=p
    - {address: samenet, user: [a, b]}
    - {database: d, method: peer}
    - hostssl replication rep ::1/128 cert clientcert=verify-full
    - host all all .example.org md5
",
    ));
    let shown: Vec<String> = inventory
        .postgres
        .hba
        .iter()
        .map(|r| {
            format!(
                "{} | {} | {} | {} | {} | {}",
                r.r#type,
                r.database,
                r.user,
                r.address.as_deref().unwrap_or("-"),
                r.method,
                r.options.as_deref().unwrap_or("-")
            )
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    host | all | all | 10.0.0.0/8 | scram-sha-256 | -
    host | "my db",other | +staff | 10.0.0.0/16 | ldap | ldapserver=x ldapport=1
    local | all | postgres | - | peer | map=p
    host | all | a,b | samenet | scram-sha-256 | -
    local | d | all | - | peer | -
    hostssl | replication | rep | ::1/128 | cert | clientcert=verify-full
    host | all | all | .example.org | md5 | -
    "#);
    insta::assert_snapshot!(brief(&with("postgres:
  hba:
    - host all all 10.0.0.1 scram-sha-256
    - hots all all all md5
    - host all all 10.0.0.0/64 md5
    - host all
    - local all all scram-sha-265
    - host all all all peer
    - 'host \"open all all md5'
    - 5
    - {adress: all}
    - host all all all trust
")), @r#"
i:5:7: error: bad address "10.0.0.1" in an hba rule (an address needs its prefix: 10.0.0.1/32)
i:6:7: error: unknown hba type "hots" (did you mean "host"?)
i:7:7: error: bad address "10.0.0.0/64" in an hba rule (a network is ADDRESS/BITS)
i:8:7: error: this hba line has no user (the form is: TYPE DATABASE USER [ADDRESS] METHOD [OPTIONS])
i:9:7: error: unknown authentication method "scram-sha-265" (did you mean "scram-sha-256"?)
i:10:7: error: method "peer" works on type "local" only (for TCP connections scram-sha-256 or cert)
i:11:7: error: this hba line has a quote that does not end (the form is: TYPE DATABASE USER [ADDRESS] METHOD [OPTIONS])
i:12:7: error: "hba" must be a list of mappings or pg_hba.conf lines, not a whole number
i:13:8: error: unknown key "adress" in an hba rule (did you mean "address"?)
i:14:7: warning: this hba rule lets anyone in without a password (scram-sha-256 asks for one)
"#);
}

#[test]
fn variables_of_groups_and_hosts_win_in_order() {
    let inventory = parsed(
        "cluster: c
nodes: {a: {host: h1, groups: [g2], vars: {own: a}}, b: {host: h2}}
hosts: {p: {host: h3, groups: [loose]}}
groups:
  g1: {vars: {x: g1, y: g1}, hosts: [a, b]}
  g2: {vars: {x: g2}}
  g3:
vars: {x: all, y: all, z: all, own: all}
",
    );
    let vars = |name: &str| serde_json::to_string(&inventory.vars_of(&name.into())).unwrap();
    assert_eq!(vars("a"), r#"{"x":"g1","y":"g1","z":"all","own":"a"}"#);
    assert_eq!(vars("b"), r#"{"x":"g1","y":"g1","z":"all","own":"all"}"#);
    assert_eq!(vars("p"), r#"{"x":"all","y":"all","z":"all","own":"all"}"#);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "(?s).{0,200}") {
        let source = Source::new("x", text);
        if let Err(complaints) = inventory::parse(&source) {
            proptest::prop_assert!(!render(&complaints).is_empty());
        }
    }

    #[test]
    fn no_yaml_makes_the_parser_panic(
        lines in proptest::collection::vec(
            "( {0,6})(- )?(cluster|nodes|node1|host|postgres|hba|vars|ssh|follow|&a|\\*a|<<|é|\\?)(: | :|:)?(\\{|\\[|\\}|\\]|node1|0644|!vault x|\\{\\{ x \\}\\}|'|\"|15|~|\\|)?",
            0..12,
        )
    ) {
        let source = Source::new("x", lines.join("\n"));
        if let Err(complaints) = inventory::parse(&source) {
            proptest::prop_assert!(!render(&complaints).is_empty());
        }
    }
}

#[test]
fn hooks_are_argument_vectors() {
    let inventory = parsed(&with(
        "routing: {hooks: {before_promote: \"a 'b c' $d\", after_promote: [[x, 1, 'y z'], w]}}\n",
    ));
    let hooks = &inventory.routing.hooks;
    assert_eq!(hooks.before_promote, [["a", "b c", "$d"]]);
    assert_eq!(hooks.after_promote, [vec!["x", "1", "y z"], vec!["w"]]);
    insta::assert_snapshot!(brief(&with("
routing: {hooks: {before_promote: [\"a 'b\", '', [], {a: b}], after_promote: [[x, [y]], ['', y]]}}
")), @r#"
i:4:36: error: bad before_promote (the command has a ' that is never closed)
i:4:44: error: "before_promote" has an empty command
i:4:48: error: "before_promote" has an empty command
i:4:52: error: "before_promote" must be a list of commands, not a mapping
i:4:81: error: "after_promote" must be text, not a list
i:4:87: error: "after_promote" has an empty command
"#);
}

#[test]
fn poolers() {
    let inventory = parsed(&with(
        "hosts: {lb1: {host: 10.0.0.9}}\nrouting: {poolers: {lb1: {kind: pgbouncer}, b: {kind: pgbouncer, port: 6433, config: /etc/p.ini, databases: app, user: pgbouncer, timeout: 1500ms}}}\n",
    ));
    let lb1 = &inventory.routing.poolers[&HostName::from("lb1")];
    assert_eq!((lb1.port, lb1.config.as_str()), (6432, "/etc/pgbouncer/pgbouncer.ini"));
    assert_eq!((lb1.user.as_str(), lb1.timeout_seconds), ("postgres", 10));
    assert!(lb1.databases.is_empty());
    let b = &inventory.routing.poolers[&HostName::from("b")];
    assert_eq!((b.port, b.timeout_seconds, b.databases.len()), (6433, 2, 1));
    let matched =
        inventory::match_hosts("poolers", &inventory, &inventory::LiveRoles::default()).unwrap();
    assert_eq!(matched, ["b".into(), "lb1".into()]);

    insta::assert_snapshot!(brief(&with("
hosts: {lb1: {host: 10.0.0.9}, poolers: {host: 10.0.0.8}}
routing:
  poolers:
    lb2: {kind: pgbouncer}
    lb1: {kind: pgbounce, prot: 6432, config: etc/x.ini, databases: [''], user: 'a b', timeout: soon}
    a: {}
    b: pgbouncer
")), @r#"
i:4:32: error: bad host name "poolers" (is a word with a meaning in host patterns)
i:7:5: error: unknown host "lb2" in "routing.poolers" (did you mean "lb1"?)
i:8:17: error: "kind" must be pgbouncer, not "pgbounce" (did you mean "pgbouncer"?)
i:8:27: error: unknown key "prot" in pooler "lb1" (did you mean "port"?)
i:8:47: error: bad config "etc/x.ini" (must be an absolute path)
i:8:70: error: bad databases "" (must not be empty, nor contain control characters)
i:8:81: error: bad user "a b" (an account of the host, like postgres)
i:8:97: error: "timeout" must be a duration, not "soon" (a whole number with ms, s, min, h or d, like 10s)
i:9:5: error: pooler "a" needs a "kind" (kind: pgbouncer)
i:10:8: error: pooler "b" must be a mapping, not text
"#);
}

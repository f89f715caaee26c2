//! Logins that are not root, hosts that speak German, secrets, a second controller; PostgreSQL 17.

use super::{ALL, edit, notices};
use crate::lab::{Cluster, Ran};

const NODES: &[&str] = ALL.split_at(2).0;
const APP: (&str, &str) = ("PGORCH_TEST_APP", "app-secret-1");
const APP_NEW: (&str, &str) = ("PGORCH_TEST_APP", "app-secret-2");
const SUDO: (&str, &str) = ("PGORCH_TEST_SUDO", "operator-password");
const READER: &str = "reader-secret";

pub(super) fn story() {
    let cluster = Cluster::new("");
    let reader = cluster.write("reader.secret", &format!("{READER}\n"));
    cluster.write_inventory(&format!(
        "
cluster: users
lab: {{ image: trixie }}
postgres:
  version: 17
  parameters: {{ work_mem: 8MB }}
  roles:
    - {{ name: app, attributes: [login], password: {{ secret: {{ env: {} }} }} }}
    - {{ name: reader, attributes: [login], password: {{ secret: {{ file: {} }} }} }}
  databases:
    - {{ name: app, owner: app }}
  extensions:
    - {{ name: pgcrypto, database: app }}
nodes:
  node1: {{ primary: true, ssh: {{ user: admin }} }}
  node2: {{ ssh: {{ user: operator, become_password: {{ secret: {{ env: {} }} }} }} }}
",
        APP.0,
        reader.display(),
        SUDO.0
    ));
    cluster.run(&["lab", "up"]).exits(0);
    NODES.iter().for_each(|node| speak_german(&cluster, node));
    refused_logins(&cluster);
    first_and_second(&cluster);
    passwords(&cluster);
    changed_parameter(&cluster);
    second_controller(&cluster);
}

fn apply(cluster: &Cluster, secrets: &[(&str, &str)]) -> Ran {
    cluster.run_with(&["apply", "-y", "-o", "json"], secrets)
}

#[track_caller]
fn settled(cluster: &Cluster, secrets: &[(&str, &str)]) {
    let ran = apply(cluster, secrets).exits(0);
    assert_eq!(ran.tasks("changed"), []);
    let events = ran.events();
    let recap = events.iter().find(|e| e["event"] == "recap").expect("a recap");
    for host in recap["data"]["hosts"].as_array().expect("hosts") {
        assert_eq!((&host["sessions"], &host["round_trips"]), (&1.into(), &1.into()), "{host}");
    }
}

/// Everything that a login may get its language from. Where the locale cannot be made, its name
/// alone has to do.
fn speak_german(cluster: &Cluster, node: &str) {
    let make = "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
                --no-install-recommends locales && localedef -i de_DE -f UTF-8 de_DE.UTF-8";
    cluster.sh(node, &format!("( {make} ) >/dev/null 2>&1 || echo 'no locale, only its name' >&2"));
    let variables = "printf 'LANG=de_DE.UTF-8\\nLC_ALL=de_DE.UTF-8\\nLANGUAGE=de\\n'";
    cluster.sh(
        node,
        &format!(
            "{variables} | tee /etc/default/locale >>/etc/environment
             for home in /root /home/admin /home/operator; do
             mkdir -p $home/.ssh; {variables} >$home/.ssh/environment
             chown -R --reference=$home $home/.ssh; done
             echo PermitUserEnvironment yes >/etc/ssh/sshd_config.d/90-german.conf
             systemctl reload ssh"
        ),
    );
    assert_eq!(cluster.sh(node, "echo $LC_ALL"), "de_DE.UTF-8");
}

fn refused_logins(cluster: &Cluster) {
    let unset = apply(cluster, &[SUDO]).exits(2);
    assert!(unset.stderr.contains("$PGORCH_TEST_APP, which is not set"), "{}", unset.stderr);
    let wrong = apply(cluster, &[APP, (SUDO.0, "not-it")]).exits(4);
    assert!(wrong.stdout.contains("the sudo password of operator is wrong"), "{}", wrong.stdout);
    assert_eq!(wrong.tasks("changed"), []);
    assert!(!wrong.stdout.contains("not-it"));
}

fn first_and_second(cluster: &Cluster) {
    let first = apply(cluster, &[APP, SUDO]).exits(0);
    settled(cluster, &[APP, SUDO]);
    let human = cluster.run_with(&["apply", "-vv"], &[APP, SUDO]).exits(0);
    let journal = std::fs::read_to_string(cluster.dir().join("state/pgorch/users/journal.jsonl"));
    let told =
        [first.stdout, first.stderr, human.stdout, human.stderr, journal.expect("a journal")];
    for secret in [APP.1, SUDO.1, READER] {
        assert!(told.iter().all(|text| !text.contains(secret)), "{secret} was told");
        for node in NODES {
            let hosts = format!("journalctl -q --no-pager | grep -c -e {secret} || :");
            assert_eq!(cluster.sh(node, &hosts), "0", "{secret} in the journal of {node}");
        }
    }
    assert_eq!(cluster.sql("node2", "SELECT pg_is_in_recovery()"), "t");
    let extension = "cd / && runuser -u postgres -- psql -XAtc \"SELECT 1 FROM pg_extension \
                     WHERE extname = 'pgcrypto'\" app";
    assert_eq!(cluster.sh("node2", extension), "1");
}

/// Each works; a new one changes its verifier and nothing else.
fn passwords(cluster: &Cluster) {
    let login = |role: &str, password: &str| {
        let psql =
            format!("PGPASSWORD={password} psql -h 127.0.0.1 -U {role} -XAtc 'SELECT 1' app");
        cluster.sh("node1", &format!("{psql} 2>/dev/null || :")) == "1"
    };
    assert!(login("app", APP.1) && login("reader", READER) && !login("app", APP_NEW.1));
    let verifiers = || {
        cluster.sql("node1", "SELECT rolname, md5(rolpassword) FROM pg_authid WHERE rolpassword IS NOT NULL ORDER BY 1")
    };
    let before = verifiers();
    let ran = apply(cluster, &[APP_NEW, SUDO]).exits(0);
    assert_eq!(ran.tasks("changed"), [("node1".to_owned(), "Roles".to_owned())]);
    let differing = before.lines().zip(verifiers().lines()).filter(|(a, b)| a != b).count();
    assert_eq!(differing, 1);
    assert!(login("app", APP_NEW.1) && login("reader", READER) && !login("app", APP.1));
    settled(cluster, &[APP_NEW, SUDO]);
}

fn changed_parameter(cluster: &Cluster) {
    edit(cluster, "work_mem: 8MB", "work_mem: 9MB, shared_buffers: 64MB");
    let ran = apply(cluster, &[APP_NEW, SUDO]).exits(0);
    assert_eq!(ran.tasks("changed").len(), 2, "{:?}", ran.tasks("changed"));
    let owed = notices(&ran);
    assert_eq!(owed.len(), 2, "{owed:?}");
    assert!(owed.iter().all(|(_, text)| text == "pending_restart: shared_buffers"), "{owed:?}");
    let restart = ["apply", "-y", "--restart", "-o", "json"];
    let ran = cluster.run_with(&restart, &[APP_NEW, SUDO]).exits(0);
    assert_eq!(ran.tasks("changed").len(), 2, "{:?}", ran.tasks("changed"));
    for node in NODES {
        assert_eq!(cluster.sql(node, "SHOW shared_buffers"), "64MB", "{node}");
    }
    settled(cluster, &[APP_NEW, SUDO]);
}

/// Another machine with a fresh copy of the inventory: it knows no host and no password, and finds
/// nothing to change.
fn second_controller(cluster: &Cluster) {
    let lab = pgorch::lab::status(&cluster.key()).expect("a lab");
    let mut text = std::fs::read_to_string(cluster.inventory()).expect("an inventory");
    text = text.replace(
        "lab: { image: trixie }",
        &format!("ssh: {{ identity_file: {} }}", lab.identity_file.display()),
    );
    for host in &lab.hosts {
        text = text.replace(
            &format!("{}: {{", host.name),
            &format!("{}: {{ host: {},", host.name, host.address),
        );
    }
    let other = Cluster::new(&text);
    let home = other.dir().join("home");
    std::fs::create_dir(&home).expect("a home");
    let home = home.to_string_lossy().into_owned();
    let surroundings = [APP_NEW, SUDO, ("HOME", home.as_str())];
    let passfiles = || {
        NODES
            .iter()
            .map(|node| cluster.sh(node, "md5sum /var/lib/pgorch/users/passfile"))
            .collect::<Vec<_>>()
    };
    let before = passfiles();
    let unknown = other.run_with(&["apply", "-y", "-o", "json"], &surroundings).exits(4);
    assert!(unknown.stdout.contains("pgorch trust"), "{}", unknown.stdout);
    let trusting =
        other.run_with(&["apply", "-y", "-o", "json", "--accept-new"], &surroundings).exits(0);
    assert_eq!(trusting.tasks("changed"), []);
    settled(&other, &surroundings);
    assert_eq!(passfiles(), before);
}

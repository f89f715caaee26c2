//! Kinds that alter the machine, for real, on a Debian host that may be thrown away:
//! `PGORCH_TEST_SH='ssh root@host sh' cargo test disposable -- --ignored --test-threads=1`.

use pgorch::step::Verdict;
use serde_json::{Value, json};

use super::harness::{World, satisfied};

fn error(world: &World, kind: &str, args: Value, wanted: &str) {
    let text = match world.look(kind, args) {
        Err(error) => error.message,
        Ok(Verdict::NotYet(why)) => why,
        Ok(Verdict::Change(change) | Verdict::Wait(change)) => {
            world.run(&change).expect_err("fails")
        }
        Ok(other) => panic!("{kind}: {other:?}"),
    };
    assert!(text.contains(wanted), "{kind}: {text}");
}

#[test]
#[ignore = "needs a disposable host: PGORCH_TEST_SH"]
fn packages_and_their_sources() {
    let world = World::disposable();
    world.change("package", json!({"update_cache": true, "cache_valid_time": 1}));
    let curl = json!({"name": ["curl", "tree"], "install_recommends": false});
    world.converge("package", curl);
    world.converge("package", json!({"name": "at", "start_services": false}));
    satisfied(world.look("package", json!({"name": "tree", "state": "latest"})));
    satisfied(world.look("package", json!({"name": "awk"})));
    world.converge("package", json!({"name": "tree", "state": "absent", "purge": true}));
    error(
        &world,
        "package",
        json!({"name": "pgorch-none"}),
        "Unable to locate package pgorch-none",
    );
    error(&world, "package", json!({"name": "tree=0.0"}), "was not found");
    let source = |state: &str, update: bool| {
        json!({"name": "kinds", "uris": "file:/srv/none", "suites": "./", "state": state,
            "update_cache": update, "signed_by": "/usr/share/keyrings/debian-archive-keyring.gpg"})
    };
    error(&world, "repository", source("present", true), "/srv/none");
    satisfied(world.look("repository", source("present", false)));
    world.converge("repository", source("absent", true));
}

#[test]
#[ignore = "needs a disposable host: PGORCH_TEST_SH"]
fn accounts_keys_and_sudo() {
    let world = World::disposable();
    world.converge("group", json!({"name": "kinds", "gid": 4711}));
    error(&world, "group", json!({"name": "other", "gid": 4711}), "already exists");
    world.converge("user", json!({"name": "kind", "group": "kinds", "groups": "adm", "uid": 4712}));
    let more = json!({"name": "kind", "groups": "sudo", "append": true, "shell": "/bin/sh",
        "comment": "a, b"});
    let comma = world.change("user", more.clone());
    satisfied(world.look("user", more));
    assert!(comma.summary.contains("groups adm -> adm,sudo"), "{}", comma.summary);
    world.converge("user", json!({"name": "kind", "groups": []}));
    world.converge("authorized_key", json!({"user": "kind", "key": "ssh-ed25519 AAAAC3 x"}));
    let rules = json!({"name": "kinds", "rules": ["kind ALL=(root) NOPASSWD: /bin/true"]});
    world.converge("sudoers", rules);
    error(&world, "sudoers", json!({"name": "kinds", "content": "nonsense"}), "syntax error");
    world.converge("sudoers", json!({"name": "kinds", "state": "absent"}));
    world.converge("user", json!({"name": "kind", "state": "absent", "remove": true}));
    world.converge("group", json!({"name": "kinds", "state": "absent"}));
}

#[test]
#[ignore = "needs a disposable host: PGORCH_TEST_SH"]
fn time_zone_and_locales() {
    let world = World::disposable();
    satisfied(world.look("package", json!({"name": "pgorch-none", "state": "absent"})));
    world.look("package", json!({"name": ["locales", "tzdata"]})).expect("judged");
    if !matches!(
        world.look("package", json!({"name": ["locales", "tzdata"]})),
        Ok(Verdict::Satisfied(_))
    ) {
        world.converge("package", json!({"name": ["locales", "tzdata"], "update_cache": true}));
    }
    world.converge("timezone", json!({"name": "Europe/Vienna"}));
    error(&world, "timezone", json!({"name": "Mars/Olympus"}), "knows no time zone");
    world.converge("locale_gen", json!({"name": ["de_AT.UTF-8"]}));
    error(&world, "locale_gen", json!({"name": "xx_XX.UTF-8"}), "no locale xx_XX.UTF-8");
    world.converge("locale_gen", json!({"name": ["de_AT.UTF-8"], "state": "absent"}));
}

#[test]
#[ignore = "needs a disposable host with systemd: PGORCH_TEST_SH"]
fn units_and_kernel() {
    let world = World::disposable();
    let unit = |text: &str| json!({"name": "kinds.service", "content": text});
    let good = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n";
    world.converge("systemd_unit", unit(good));
    error(&world, "systemd_unit", unit("[Service]\nExecStart=relative\n"), "verify refuses");
    world.converge("service", json!({"name": "kinds", "state": "started", "enabled": true}));
    let drop_in = json!({"name": "kinds.service.d/n.conf", "content": "[Service]\nNice=5\n"});
    world.converge("systemd_unit", drop_in);
    world.change("service", json!({"name": "kinds", "state": "restarted"}));
    world.converge("service", json!({"name": "kinds", "state": "stopped", "enabled": false}));
    // A debt that another left: the file is newer than what systemd has read.
    let newer =
        json!({"dest": "/etc/systemd/system/kinds.service", "content": format!("#x\n{good}")});
    world.converge("copy", newer);
    world.converge("service", json!({"name": "kinds", "state": "started"}));
    world.converge("service", json!({"name": "kinds", "state": "stopped", "masked": false}));
    let fails = "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo this is why; exit 3'\n";
    world.converge("systemd_unit", unit(fails));
    error(&world, "service", json!({"name": "kinds", "state": "started"}), "this is why");
    error(&world, "service", json!({"name": "none", "state": "started"}), "no unit none.service");
    world.converge("systemd_unit", json!({"name": "kinds.service", "state": "absent"}));
    world.converge("sysctl", json!({"name": "net.ipv4.tcp_keepalive_time", "value": 601}));
    error(&world, "sysctl", json!({"name": "net.none", "value": 1}), "no parameter net.none");
    world.converge("hostname", json!({"name": "kinds"}));
}

#[test]
#[ignore = "needs a disposable host with systemd: PGORCH_TEST_SH"]
fn packages_start_no_service_if_told_so() {
    let world = World::disposable();
    let is = |wanted: &str| {
        let script = pgorch::model::Script::raw("systemctl is-active atd");
        assert_eq!(world.sh(&script).stdout.trim(), wanted);
    };
    world.converge("package", json!({"name": "at", "start_services": false}));
    is("inactive");
    // Only this one call was told so: nothing stands in the way of a later start.
    satisfied(world.look("service", json!({"name": "atd", "state": "stopped", "enabled": true})));
    world.converge("package", json!({"name": "at", "state": "absent", "purge": true}));
    world.converge("package", json!({"name": "at"}));
    is("active");
    world.converge("package", json!({"name": "at", "state": "absent", "purge": true}));
    // A package that an interrupted run left unpacked is repaired on the way.
    let cut = "cd /tmp && apt-get -q download tree && dpkg --unpack tree_*.deb && rm tree_*.deb";
    assert_eq!(world.sh(&pgorch::model::Script::raw(cut)).rc, 0);
    world.converge("package", json!({"name": "tree"}));
    // What was told to survive the loss of its connection does.
    let change = world.look("package", json!({"name": "at"}));
    let change = super::harness::expect_change(change);
    let program = change.commands[0].script.as_str().replace("sh -c '", "sh -c 'sleep 2; ");
    let cut = format!("timeout -s HUP 1 sh -c {}", pgorch::model::quote(&program));
    assert_ne!(world.sh(&pgorch::model::Script::raw(cut)).rc, 0);
    let wait = json!({"path": "/usr/sbin/atd", "timeout": 60});
    let wait = super::harness::expect_change(world.look("wait_for", wait));
    world.run(&wait).expect("installed without us");
    let rest = world.look("package", json!({"name": "at"}));
    if let Ok(Verdict::Change(change)) = rest {
        world.run(&change).expect("waits for the other dpkg");
    }
    satisfied(world.look("package", json!({"name": "at"})));
}

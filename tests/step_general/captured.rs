//! Kinds that would alter this machine: judged by captured answers, their programs only parsed.

use pgorch::step::{Change, Diff, Verdict};
use serde_json::{Value, json};

use super::harness::{World, expect_change, program, readable, satisfied};

fn change(kind: &str, args: Value, answers: &[(i32, &str)]) -> Change {
    let change = expect_change(World::new().judge(kind, args, answers));
    readable(&change);
    change
}

fn good(kind: &str, args: Value, answers: &[(i32, &str)]) {
    satisfied(World::new().judge(kind, args, answers));
}

fn error(kind: &str, args: Value, answers: &[(i32, &str)]) -> String {
    World::new().judge(kind, args, answers).expect_err("refused").message
}

fn not_yet(kind: &str, args: Value, answers: &[(i32, &str)]) -> String {
    match World::new().judge(kind, args, answers) {
        Ok(Verdict::NotYet(why)) => why,
        other => panic!("{other:?}"),
    }
}

const APT: &str = "manager=apt\npkg=jq amd64 installed 1.6-2.1\npkg=vim amd64 config-files 2:9.0\n";

#[test]
fn packages() {
    let one = [(0, APT)];
    good("package", json!({"name": "jq"}), &one);
    good("apt", json!({"name": "jq=1.6*", "state": "present"}), &one);
    good("apt", json!({"name": ["vim", "nano"], "state": "absent"}), &one);
    good("apt", json!({"name": "awk"}), &[(0, "manager=apt\nprovided=awk\n")]);
    let install = change("apt", json!({"name": ["jq", "vim"], "start_services": false}), &one);
    assert_eq!(install.summary, "install vim");
    assert!(program(&install).contains("SYSTEMD_OFFLINE=1"));
    let pinned = change("apt", json!({"name": "jq=1.7", "install_recommends": false}), &one);
    assert_eq!(pinned.commands[0].label, "apt-get install jq=1.7");
    assert!(program(&pinned).contains("--no-install-recommends"));
    let purge = json!({"name": "vim", "state": "absent", "purge": true});
    assert_eq!(change("apt", purge, &one).summary, "remove vim");
    let latest = json!({"name": "jq", "state": "latest", "update_cache": true});
    let newer = format!("{APT}candidate=jq 1.7\n");
    assert_eq!(change("apt", latest.clone(), &[(0, &newer)]).summary, "upgrade jq");
    let same = format!("{APT}candidate=jq 1.6-2.1\n");
    good("apt", latest.clone(), &[(0, &same)]);
    let old = format!("{same}lists=old\n");
    assert_eq!(change("apt", latest, &[(0, &old)]).commands[0].label, "apt-get update");
    good("apt", json!({"name": "jq", "update_cache": true}), &[(0, &old)]);
    change("apt", json!({"update_cache": true}), &[(0, &old)]);
    assert!(error("dnf", json!({"name": "jq"}), &[(0, "manager=dnf\n")]).contains("no apt"));
    assert!(error("apt", json!({"name": "jq"}), &[(2, "")]).contains("status 2"));
    assert!(error("apt", json!({"name": "-o x"}), &one).contains("no package name"));
}

const UP: &str = "Id=x.service\nLoadState=loaded\nActiveState=active\nSubState=running\n\
    UnitFileState=enabled\nNeedDaemonReload=no\n";
const DOWN: &str = "Id=x.service\nLoadState=loaded\nActiveState=failed\nSubState=failed\n\
    UnitFileState=disabled\nNeedDaemonReload=yes\n";
const NONE: &str = "Id=x.service\nLoadState=not-found\nActiveState=inactive\nSubState=dead\n\
    UnitFileState=\nNeedDaemonReload=no\n";

#[test]
fn services() {
    let (up, down, none) = ([(0, UP)], [(0, DOWN)], [(0, NONE)]);
    let started = json!({"name": "x", "state": "started", "enabled": true});
    good("service", started.clone(), &up);
    let labels = |c: &Change| c.commands.iter().map(|c| c.label.clone()).collect::<Vec<_>>();
    let start = change("systemd", started.clone(), &down);
    let all =
        ["systemctl daemon-reload", "systemctl enable -- x.service", "systemctl start x.service"];
    assert_eq!(labels(&start), all);
    assert!(!start.impact.restart);
    assert!(not_yet("service", started, &none).contains("no unit x.service"));
    good("service", json!({"name": "x", "state": "stopped", "enabled": false}), &none);
    let restart = change("service", json!({"name": "x.timer", "state": "restarted"}), &up);
    assert!(!restart.impact.restart, "only servers of the cluster need a yes");
    let reload = change("service", json!({"name": "x", "state": "reloaded"}), &up);
    assert!(reload.impact.reload);
    let stop = json!({"name": "x", "state": "stopped", "masked": true});
    assert_eq!(
        labels(&change("service", stop, &up)),
        ["systemctl stop x.service", "systemctl mask -- x.service"]
    );
    change("systemd", json!({"daemon_reload": true}), &[]);
    assert!(
        error("service", json!({"name": "x", "state": "running"}), &up).contains("one of started")
    );
    assert!(error("service", json!({}), &[]).contains("required"));
}

const ABSENT: &str = "parent=yes\n";

fn file(text: &str, mode: &str) -> String {
    use base64::Engine as _;
    let content = base64::engine::general_purpose::STANDARD.encode(text);
    format!(
        "parent=yes\nstat={mode} 0 0 root root {} regular file\ncontent={content}\n",
        text.len()
    )
}

#[test]
fn unit_files() {
    let args = json!({"name": "x.service", "content": "[Service]\nExecStart=/bin/true\n"});
    let text = file("[Service]\nExecStart=/bin/true\n", "644");
    let made = change("systemd_unit", args.clone(), &[(0, ABSENT), (0, NONE)]);
    assert!(program(&made).contains("systemd-analyze verify"));
    assert_eq!(made.commands[1].label, "systemctl daemon-reload");
    good("systemd_unit", args.clone(), &[(0, &text), (0, UP)]);
    let debt = change("systemd_unit", args, &[(0, &text), (0, DOWN)]);
    assert_eq!(debt.commands.len(), 1);
    let drop_in = json!({"name": "x.service.d/10.conf", "content": "[Unit]\n"});
    assert!(!program(&change("systemd_unit", drop_in, &[(0, ""), (0, UP)])).contains("verify"));
    let gone = json!({"name": "x.service", "state": "absent"});
    good("systemd_unit", gone.clone(), &[(0, ABSENT), (0, NONE)]);
    change("systemd_unit", gone, &[(0, &text), (0, UP)]);
    let bad = json!({"name": "x", "content": ""});
    assert!(error("systemd_unit", bad, &[(0, ABSENT)]).contains("not the name of a unit"));
}

#[test]
fn users_and_groups() {
    let app = "passwd=app:x:1001:1001:App:/home/app:/bin/sh\ngroups=app adm\nprimary=app\nsame=app:x:1001:\n";
    let none = "passwd=\ngroups=\nprimary=\nsame=\n";
    let args = json!({"name": "app", "shell": "/bin/sh", "groups": "adm", "home": "/home/app/"});
    good("user", args.clone(), &[(0, app)]);
    let made = change("user", args, &[(0, none)]);
    assert_eq!(made.commands[0].label, "useradd -d /home/app/ -s /bin/sh -G adm -m -- app");
    let both = json!({"name": "app", "groups": ["sudo"], "append": true, "shell": "/bin/bash"});
    let changed = change("user", both, &[(0, app)]);
    assert_eq!(changed.commands[0].label, "usermod -s /bin/bash -a -G sudo -- app");
    let exact = change("user", json!({"name": "app", "groups": []}), &[(0, app)]);
    assert_eq!(exact.commands[0].label, "usermod -G '' -- app");
    let none_yet = format!("{none}nogroup=dba\n");
    assert!(
        not_yet("user", json!({"name": "app", "group": "dba"}), &[(0, &none_yet)]).contains("dba")
    );
    good("user", json!({"name": "app", "state": "absent"}), &[(0, none)]);
    let gone =
        change("user", json!({"name": "app", "state": "absent", "remove": true}), &[(0, app)]);
    assert!(gone.impact.destroys.is_some());
    assert!(error("user", json!({"name": "a b"}), &[(0, none)]).contains("not a good name"));
    good("group", json!({"name": "app", "gid": 1001}), &[(0, "group=app:x:1001:\n")]);
    let changed = change("group", json!({"name": "app", "gid": 7}), &[(0, "group=app:x:1001:\n")]);
    assert_eq!(changed.summary, "gid 1001 -> 7");
    let made = change("group", json!({"name": "app", "system": true}), &[(0, "group=\n")]);
    assert_eq!(made.commands[0].label, "groupadd -r -- app");
    assert!(error("group", json!({"name": "-x"}), &[(0, "group=\n")]).contains("not a good name"));
}

#[test]
fn sudoers_files() {
    let args = json!({"name": "app", "rules": ["app ALL=(root) NOPASSWD: /bin/true"]});
    let made = change("sudoers", args.clone(), &[(0, ABSENT)]);
    assert!(program(&made).contains("visudo -cf \"$t\""));
    assert!(program(&made).contains("chmod -- 0440"));
    good("sudoers", args.clone(), &[(0, &file("app ALL=(root) NOPASSWD: /bin/true\n", "440"))]);
    let loose = change(
        "sudoers",
        args.clone(),
        &[(0, &file("app ALL=(root) NOPASSWD: /bin/true\n", "644"))],
    );
    assert_eq!(loose.summary, "mode 0644 -> 0440");
    assert!(not_yet("sudoers", args, &[(0, "")]).contains("/etc/sudoers.d"));
    let dotted = json!({"name": "a.conf", "content": "x"});
    assert!(error("sudoers", dotted, &[(0, ABSENT)]).contains("not a name"));
}

#[test]
fn kernel_parameters() {
    let args = json!({"name": "vm.overcommit_memory", "value": 2});
    let both = change("sysctl", args.clone(), &[(0, "value=0\n"), (0, ABSENT)]);
    assert_eq!(both.summary, "vm.overcommit_memory 0 -> 2");
    assert_eq!(both.commands.len(), 2);
    let kept = file("vm.overcommit_memory = 2\n", "644");
    good("sysctl", args.clone(), &[(0, "value=2\n"), (0, &kept)]);
    assert_eq!(change("sysctl", args.clone(), &[(0, "value=0\n"), (0, &kept)]).commands.len(), 1);
    assert!(not_yet("sysctl", args, &[(0, ""), (0, &kept)]).contains("no parameter"));
    let gone = json!({"name": "vm.overcommit_memory", "state": "absent"});
    change("sysctl", gone, &[(0, "value=2\n"), (0, &kept)]);
    let blanks = json!({"name": "net.ipv4.ip_local_port_range", "value": "1024 65000"});
    let kept = file("net.ipv4.ip_local_port_range=1024  65000\n", "644");
    good("sysctl", blanks, &[(0, "value=1024\t65000\n"), (0, &kept)]);
    assert!(
        error("sysctl", json!({"name": "../x", "value": 1}), &[]).contains("no kernel parameter")
    );
}

#[test]
fn names_zones_and_locales() {
    good("hostname", json!({"name": "n1"}), &[(0, "now=n1\nkept=n1\n")]);
    let renamed = change("hostname", json!({"name": "n1"}), &[(0, "now=n1\nkept=old\n")]);
    assert_eq!(renamed.summary, "/etc/hostname old -> n1");
    assert!(error("hostname", json!({"name": "a b"}), &[(0, "now=x\n")]).contains("no host name"));
    let zone = json!({"name": "Europe/Vienna"});
    let link = "known=yes\nlink=/usr/share/zoneinfo/Europe/Vienna\nfile=Europe/Vienna\n";
    good("timezone", zone.clone(), &[(0, link)]);
    let moved =
        change("timezone", zone.clone(), &[(0, "known=yes\nlink=/usr/share/zoneinfo/UTC\n")]);
    assert_eq!(moved.summary, "timezone UTC -> Europe/Vienna");
    assert!(not_yet("timezone", zone, &[(0, "link=x\n")]).contains("tzdata"));
    let locale = json!({"name": "en_US.UTF-8"});
    good("locale_gen", locale.clone(), &[(0, "has=C.utf8\nhas=en_US.utf8\n"), (0, "")]);
    let known = "has=C.utf8\nknown=en_US.UTF-8 UTF-8\n";
    let gen_file = file("# de_AT.UTF-8 UTF-8\n# en_US.UTF-8 UTF-8\n", "644");
    let made = change("locale_gen", locale.clone(), &[(0, known), (0, &gen_file)]);
    assert!(
        matches!(&made.diffs[0], Diff::Text { after: Some(a), .. } if a == "# de_AT.UTF-8 UTF-8\nen_US.UTF-8 UTF-8\n")
    );
    assert!(
        not_yet("locale_gen", locale.clone(), &[(0, known), (0, "")]).contains("package locales")
    );
    assert!(error("locale_gen", locale, &[(0, ""), (0, &gen_file)]).contains("no locale"));
}

#[test]
fn package_sources() {
    let key = "-----BEGIN PGP PUBLIC KEY BLOCK-----\nx\n-----END PGP PUBLIC KEY BLOCK-----";
    let args = json!({"name": "pgdg", "uris": "https://apt.example.org/pub", "suites": ["bookworm-pgdg"],
        "components": "main", "signed_by": key});
    let stanza = "Types: deb\nURIs: https://apt.example.org/pub\nSuites: bookworm-pgdg\nComponents: main\n\
        Signed-By: /etc/apt/keyrings/pgdg.asc\n";
    let made = change("repository", args.clone(), &[(0, ABSENT), (0, "")]);
    assert_eq!(made.commands.len(), 3);
    let texts: Vec<&str> = made
        .diffs
        .iter()
        .filter_map(|d| match d {
            Diff::Text { after, .. } => after.as_deref(),
            Diff::Value { .. } => None,
        })
        .collect();
    assert_eq!(texts[1], stanza);
    let kept = [(0, file(stanza, "644")), (0, file(&format!("{key}\n"), "644"))];
    let kept: Vec<(i32, &str)> = kept.iter().map(|(rc, t)| (*rc, t.as_str())).collect();
    good("repository", args, &kept);
    let gone = json!({"name": "pgdg", "state": "absent", "signed_by": key});
    assert_eq!(change("repository", gone, &kept).commands.len(), 3);
    let url = json!({"name": "p", "uris": "u", "suites": "s", "signed_by": "https://x/k.asc"});
    assert!(error("repository", url, &[(0, ABSENT), (0, "")]).contains("key_checksum"));
    assert!(error("repository", json!({"name": "p"}), &[(0, ABSENT)]).contains("uris"));
}

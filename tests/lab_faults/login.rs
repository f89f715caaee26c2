//! Host keys, sudo, jump hosts: the same cluster through an inventory that knows of no lab.

use std::fs;

use super::{Lab, said};
use crate::lab::Ran;

/// The lab's hosts as anybody's hosts, with a home directory of its own.
pub(super) struct Strangers<'l> {
    lab: &'l Lab,
    home: std::path::PathBuf,
}

impl<'l> Strangers<'l> {
    pub(super) fn new(lab: &'l Lab) -> Self {
        let home = lab.cluster.dir().join("home");
        fs::create_dir_all(home.join(".ssh")).expect("a home");
        let this = Strangers { lab, home };
        this.inventory("user: root", "");
        this
    }

    fn lab(&self) -> pgorch::lab::Lab {
        pgorch::lab::status(&self.lab.cluster.key()).expect("a lab")
    }

    fn address(&self, name: &str) -> String {
        let lab = self.lab();
        let host = lab.hosts.iter().find(|h| h.name == name).expect("the host");
        host.address.to_string()
    }

    /// With these settings of `ssh:`, and further ones of node2.
    fn inventory(&self, ssh: &str, node2: &str) {
        let lab = self.lab();
        let text = fs::read_to_string(self.lab.cluster.inventory()).expect("an inventory");
        let mut text = text.replace("lab: { image: bookworm }\n", "");
        text += &format!("ssh: {{ identity_file: {}, {ssh} }}\n", lab.identity_file.display());
        for name in ["node1", "node2", "node3"] {
            let more = if name == "node2" { node2 } else { "" };
            let with = format!("  {name}: {{ host: {},{more} ", self.address(name));
            text = text.replace(&format!("  {name}: {{"), &with);
        }
        self.lab.cluster.write("strangers.yml", &text);
    }

    /// `apply`, which starts no hosts here, after the keys are trusted.
    pub(super) fn apply(&self) -> Ran {
        self.run(&["apply", "-y", "-o", "json", "--accept-new"])
    }

    fn run(&self, args: &[&str]) -> Ran {
        let mut command = self.lab.command(args);
        command.env("PGORCH_INVENTORY", self.lab.cluster.dir().join("strangers.yml"));
        let output = command.env("HOME", &self.home).output().expect("the program runs");
        Ran::of(&output)
    }

    fn exec(&self, more: &[&str]) -> Ran {
        self.run(&[&["exec"], more, &["--", "id", "-un"]].concat())
    }

    fn known(&self) -> std::path::PathBuf {
        self.home.join(".ssh/known_hosts")
    }
}

pub(super) fn keys_of_hosts(lab: &Lab) {
    let strangers = Strangers::new(lab);
    let unknown = strangers.run(&["apply", "-y", "-o", "json"]).exits(4);
    let text = said(&unknown);
    assert!(text.contains("pgorch trust") && unknown.tasks("changed").is_empty(), "{text}");
    assert!(!strangers.known().exists(), "strict stores nothing");
    strangers.run(&["trust"]).exits(5);
    let trusted = strangers.run(&["trust", "-y"]).exits(0);
    assert_eq!(trusted.stdout.matches("SHA256:").count(), 3, "{}", trusted.stdout);
    strangers.exec(&[]).exits(0);

    // node2 answers with a key that is not the one it had.
    let file = fs::read_to_string(strangers.known()).expect("stored");
    let (one, two) = (strangers.address("node1"), strangers.address("node2"));
    let key = |address: &str| {
        let line = file.lines().find(|l| l.starts_with(address)).expect("a line");
        line[address.len()..].to_owned()
    };
    let wrong = file.replace(&format!("{two}{}", key(&two)), &format!("{two}{}", key(&one)));
    assert_ne!(wrong, file);
    fs::write(strangers.known(), &wrong).expect("written");
    for more in [&[][..], &["--accept-new"]] {
        let args = [&["apply", "-y", "-o", "json"], more].concat();
        let changed = strangers.run(&args).exits(4);
        let text = said(&changed);
        assert!(text.contains("node2") && text.contains("HAS CHANGED"), "{text}");
        assert!(changed.tasks("changed").iter().all(|(host, _)| host != "node2"), "{text}");
        assert_eq!(fs::read_to_string(strangers.known()).expect("there"), wrong);
    }
    fs::remove_file(strangers.known()).expect("removed");
    strangers.exec(&["--accept-new"]).exits(0);
    strangers.exec(&[]).exits(0);
}

pub(super) fn sudo(lab: &Lab) {
    let strangers = Strangers::new(lab);
    // The lab's key opens every account.
    let make = "id nosudo >/dev/null 2>&1 || useradd -m nosudo";
    lab.cluster.sh("node1", make);
    let refused = |ssh: &str, wanted: &str| {
        strangers.inventory(ssh, "");
        let ran = strangers.run(&["apply", "-y", "-l", "node1", "-o", "json"]).exits(4);
        let text = said(&ran);
        assert!(text.contains(wanted), "{ssh}: {text}");
        assert!(ran.tasks("changed").is_empty(), "{text}");
        assert!(!text.contains("wrong-password"), "{text}");
    };
    refused("user: operator", "sudo wants a password for operator");
    let wrong = "user: operator, become_password: { secret: { command: [echo, wrong-password] } }";
    refused(wrong, "the sudo password of operator is wrong");
    refused("user: nosudo", "sudo");
    let right =
        "user: operator, become_password: { secret: { command: [echo, operator-password] } }";
    strangers.inventory(right, "");
    let ran = strangers.run(&["apply", "-y", "-o", "json"]).exits(0);
    // The only difference is who logs in.
    assert!(ran.tasks("changed").iter().all(|(_, task)| task == "Which OS users may be pgorch"));
    lab.apply().exits(0);
}

/// node2 cannot be reached from here, but from node1.
pub(super) fn through_another_host(lab: &Lab) {
    let strangers = Strangers::new(lab);
    lab.fault("cut controller node2");
    strangers.exec(&["-l", "node2", "--timeout", "3"]).exits(4);
    let jump = format!(" ssh: {{ proxy_jump: 'root@{}' }},", strangers.address("node1"));
    strangers.inventory("user: root", &jump);
    let ran = strangers.run(&["apply", "-y", "-o", "json"]).exits(0);
    assert_eq!(ran.tasks("changed"), []);
    lab.fault("heal controller node2");
}

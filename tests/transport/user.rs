//! Throw-away users of this machine, for tests that run as root.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use pgorch::transport::Target;

use super::sshd::{Sshd, can, command, is_root};

/// A user with a home, a password and perhaps a sudoers file; dropped, all of it is removed.
pub(super) struct User {
    pub(super) name: String,
    pub(super) home: tempfile::TempDir,
    sudoers: PathBuf,
}

pub(super) const PASSWORD: &str = "correct horse %'\"$x";

impl User {
    /// `rule` is what stands behind the user's name in sudoers (`ALL=(ALL) NOPASSWD: ALL`), with
    /// `@` for the name in further lines. `None` when this machine cannot do it.
    pub(super) fn new(shell: &str, rule: &str) -> Option<User> {
        let present = |file: &str| std::path::Path::new(file).exists();
        if !can("root", is_root()) || !can(shell, present(shell)) {
            return None;
        }
        if !rule.is_empty() && !can("sudo", present("/usr/bin/sudo")) {
            return None;
        }
        let random = pgorch::clock::Clock::default().random_id();
        let name = format!("pgot{}", &random[..8]);
        let home = tempfile::Builder::new().prefix("pgorch-home-").tempdir().expect("a home");
        let user = User { sudoers: PathBuf::from(format!("/etc/sudoers.d/{name}")), name, home };
        let home = user.home.path().to_str().expect("UTF-8");
        user.patiently("useradd", &["-M", "-d", home, "-s", shell, &user.name]);
        command("chown", &[&user.name, home]);
        let pair = format!("{}:{PASSWORD}", user.name);
        command("sh", &["-c", &format!("chpasswd <<'E'\n{pair}\nE")]);
        if !rule.is_empty() {
            let text = format!("{} {}\n", user.name, rule.replace('@', &user.name));
            std::fs::write(&user.sudoers, text).expect("sudoers");
            command("chmod", &["0440", user.sudoers.to_str().expect("UTF-8")]);
        }
        Some(user)
    }

    pub(super) fn target(&self, sshd: &Sshd) -> Target {
        let mut target = sshd.target();
        target.user = self.name.clone();
        target
    }

    /// The password file has one lock for the whole machine.
    fn patiently(&self, program: &str, args: &[&str]) {
        for _ in 0..100 {
            let status = Command::new(program).args(args).stderr(Stdio::null()).status();
            if status.is_ok_and(|s| s.success()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(std::thread::panicking(), "{program} {args:?} keeps failing");
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.sudoers);
        self.patiently("userdel", &["-f", &self.name]);
    }
}

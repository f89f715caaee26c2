//! Becoming root and other users. The sudoers file of Debian 12 has `Defaults use_pty`.

use std::time::Duration;

use pgorch::model::{Script, Secret};
use pgorch::transport::{Become, Connection, Request, Rights, RunError, Shell, ShellError};

use super::sshd::{Sshd, can_optional, run, running, sh, transport, wait_for};
use super::user::{PASSWORD, User};

const LONG: Duration = Duration::from_secs(20);
const NOPASSWD: &str = "ALL=(ALL:ALL) NOPASSWD: ALL";

async fn root_shell(sshd: &Sshd, user: &User, password: Option<&str>) -> (Connection, Shell) {
    with_become(sshd, user, Become::sudo(password.map(Secret::new))).await
}

async fn with_become(sshd: &Sshd, user: &User, r#become: Become) -> (Connection, Shell) {
    let mut target = user.target(sshd);
    target.r#become = r#become;
    let connection = transport().connect(&target).await;
    let connection = connection.unwrap_or_else(|e| panic!("{e}\n{}", sshd.log()));
    let shell = connection.shell(Rights::Root).await.expect("a shell");
    (connection, shell)
}

/// How a first request fails.
async fn refused(mut shell: Shell) -> ShellError {
    let result = shell.run(Request::new(&Script::raw("echo ran"), LONG)).await;
    let Err(RunError::Start(why)) = result else { panic!("{result:?}") };
    why
}

#[test]
fn without_a_password_it_is_one_session() {
    run(async {
        let Some(user) = User::new("/bin/bash", NOPASSWD) else { return };
        let sshd = Sshd::start();
        let (connection, mut shell) = root_shell(&sshd, &user, None).await;
        let out = sh(&mut shell, "id -u; echo oops >&2; echo $HOME; tty; cat; exit 7").await;
        assert_eq!(out.text(), "0\n/root\nnot a tty\n");
        assert_eq!((out.errors().as_str(), out.rc), ("oops\n", 7));
        let out = sh(&mut shell, "printf 'a\\r\\n\\003\\004b'; printf '\\000x' >&2").await;
        assert_eq!(
            (out.stdout.as_slice(), out.stderr.as_slice()),
            (&b"a\r\n\x03\x04b"[..], &b"\0x"[..])
        );
        assert_eq!(connection.sessions_opened(), 1);
    });
}

#[test]
fn roots_processes_are_stopped_too() {
    run(async {
        let Some(user) = User::new("/bin/bash", NOPASSWD) else { return };
        let sshd = Sshd::start();
        let (_connection, mut shell) = root_shell(&sshd, &user, None).await;
        let script = Script::raw("sleep 303.25 & setsid sleep 303.25 & sleep 303.25");
        let error = shell.run(Request::new(&script, Duration::from_millis(800))).await;
        assert!(matches!(error, Err(RunError::TimedOut { stopped: true, .. })), "{error:?}");
        assert!(running("sleep 303.25").is_empty());
    });
}

#[test]
fn a_password_is_sent_only_when_asked_for() {
    run(async {
        let Some(user) = User::new("/bin/bash", "ALL=(ALL:ALL) ALL") else { return };
        let sshd = Sshd::start();
        let (connection, mut shell) = root_shell(&sshd, &user, Some(PASSWORD)).await;
        // This shell and all that started it: sudo, the login's shell, sshd. Other processes of the
        // machine may be such that even looking at them waits (frozen hosts of a lab).
        let chain = "id -u; echo $HOME; p=$$; while [ \"$p\" -gt 1 ]; do \
            tr '\\0' ' ' </proc/$p/cmdline; p=$(sed -n 's/^PPid:[[:space:]]*//p' /proc/$p/status); done";
        let out = sh(&mut shell, chain).await;
        let text = out.text();
        assert!(text.starts_with("0\n/root\n"), "{text}");
        assert!(text.contains("pgorch-asks-"), "sudo is in the chain: {text}");
        assert!(!text.contains("correct horse"), "the password is in a command line");
        assert_eq!(connection.sessions_opened(), 1);
        // The same with a password that nobody wants.
        let Some(free) = User::new("/bin/bash", NOPASSWD) else { return };
        let (_connection, mut shell) = root_shell(&sshd, &free, Some(PASSWORD)).await;
        assert_eq!(sh(&mut shell, "id -u; cat").await.text(), "0\n");
    });
}

#[test]
fn timeouts_reach_root_with_a_password_too() {
    run(async {
        let Some(user) = User::new("/bin/bash", "ALL=(ALL:ALL) ALL") else { return };
        let sshd = Sshd::start();
        let (_connection, mut shell) = root_shell(&sshd, &user, Some(PASSWORD)).await;
        let error = shell
            .run(Request::new(&Script::raw("sleep 304.25"), Duration::from_millis(1500)))
            .await;
        assert!(matches!(error, Err(RunError::TimedOut { stopped: true, .. })), "{error:?}");
        assert!(running("sleep 304.25").is_empty());
    });
}

#[test]
fn every_refusal_of_sudo_has_a_name() {
    run(async {
        let Some(user) = User::new("/bin/bash", "ALL=(ALL:ALL) ALL") else { return };
        let sshd = Sshd::start();
        let why = refused(root_shell(&sshd, &user, None).await.1).await;
        assert!(matches!(why, ShellError::SudoWantsPassword { .. }), "{why}");
        let why = refused(root_shell(&sshd, &user, Some("wrong")).await.1).await;
        assert!(matches!(why, ShellError::SudoWrongPassword { .. }), "{why}");
        // Others on this machine have their own that ask; this login's has the user in its environment.
        let own = |pid: &i32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            memchr::memmem::find(&environment, user.name.as_bytes()).is_some()
        };
        wait_for("sudo ends", || !running("pgorch-asks-").iter().any(own)).await;
        let absent = Become::Sudo { program: "sudo-absent".into(), password: None };
        let why = refused(with_become(&sshd, &user, absent).await.1).await;
        assert!(matches!(why, ShellError::SudoMissing { .. }), "{why}");
    });
}

#[test]
fn not_allowed_and_no_terminal() {
    run(async {
        let Some(user) = User::new("/bin/bash", "ALL=(ALL:ALL) ALL\nDefaults:@ requiretty") else {
            return;
        };
        let sshd = Sshd::start();
        for password in [None, Some(PASSWORD)] {
            let why = refused(root_shell(&sshd, &user, password).await.1).await;
            assert!(matches!(why, ShellError::SudoNeedsTerminal { .. }), "{why}");
        }
        let Some(nobody) = User::new("/bin/bash", "") else { return };
        let why = refused(root_shell(&sshd, &nobody, Some(PASSWORD)).await.1).await;
        assert!(matches!(why, ShellError::SudoNotAllowed { .. }), "{why}");
    });
}

#[test]
fn another_user_by_root() {
    run(async {
        let Some(user) = User::new("/bin/bash", NOPASSWD) else { return };
        let sshd = Sshd::start();
        let (_connection, mut shell) = root_shell(&sshd, &user, None).await;
        let script = Script::raw("id -un; pwd; echo \"$HOME $USER it's\"; cat; echo e >&2; exit 4");
        let out = shell.run(Request::new(&script, LONG).user("nobody")).await.expect("a result");
        let home = "/nonexistent";
        assert_eq!(out.text(), format!("nobody\n/\n{home} nobody it's\n"));
        assert_eq!((out.rc, out.errors().as_str()), (4, "e\n"));
        let broken = Script::raw("echo 'if");
        let out = shell.run(Request::new(&broken, LONG).user("nobody")).await.expect("a result");
        assert!(out.rc != 0 && out.stdout.is_empty());
        let bytes = vec![0xa5_u8; 1 << 20];
        let large = Script::new().feed(&bytes, "cat");
        let out = shell.run(Request::new(&large, LONG).user("nobody")).await.expect("a result");
        assert_eq!(out.stdout.len(), bytes.len());
        let none = shell.run(Request::new(&script, LONG).user("no-such-user")).await;
        assert!(matches!(none, Err(RunError::NoUser { .. })), "{none:?}");
        let same = shell.run(Request::new(&Script::raw("id -un"), LONG).user("root")).await;
        assert_eq!(same.expect("a result").text(), "root\n");
    });
}

#[test]
fn another_user_needs_root() {
    run(async {
        let Some(user) = User::new("/bin/bash", "") else { return };
        let sshd = Sshd::start();
        let connection = transport().connect(&user.target(&sshd)).await.expect("connected");
        let mut shell = connection.shell(Rights::Root).await.expect("a shell");
        let script = Script::raw("id -un");
        let denied = shell.run(Request::new(&script, LONG).user("nobody")).await;
        assert!(matches!(denied, Err(RunError::NeedsRoot { .. })), "{denied:?}");
        let own = shell.run(Request::new(&script, LONG).user(&user.name)).await.expect("a result");
        assert_eq!(own.text(), format!("{}\n", user.name));
    });
}

#[test]
fn any_login_shell_and_its_noise() {
    run(async {
        let sshd = Sshd::with_profiles();
        let noise = [
            ("/bin/bash", ".bashrc", "echo noise; echo no >&2; printf half\n"),
            ("/bin/zsh", ".zshenv", "echo noise; printf half\n"),
            ("/usr/bin/fish", ".config/fish/config.fish", "echo noise; printf half\n"),
            ("/bin/tcsh", ".tcshrc", "echo noise\n"),
            ("/bin/dash", ".profile", ""),
        ];
        for (shell, file, text) in noise {
            let Some(user) = User::new(shell, NOPASSWD) else { continue };
            let file = user.home.path().join(file);
            std::fs::create_dir_all(file.parent().expect("a directory")).expect("directory");
            std::fs::write(&file, text).expect("profile");
            for password in [None, Some(PASSWORD)] {
                let (_connection, mut root) = root_shell(&sshd, &user, password).await;
                let out = sh(&mut root, "id -u; echo \"it's\" >&2").await;
                assert_eq!(
                    (out.text().as_str(), out.errors().as_str()),
                    ("0\n", "it's\n"),
                    "{shell}"
                );
            }
            let connection = transport().connect(&user.target(&sshd)).await.expect("connected");
            let mut own = connection.shell(Rights::Login).await.expect("a shell");
            assert_eq!(sh(&mut own, "id -un").await.text(), format!("{}\n", user.name), "{shell}");
        }
    });
}

#[test]
fn an_account_without_a_shell() {
    run(async {
        let Some(user) = User::new("/usr/sbin/nologin", "") else { return };
        let sshd = Sshd::start();
        let connection = transport().connect(&user.target(&sshd)).await.expect("connected");
        let why = refused(connection.shell(Rights::Login).await.expect("a shell")).await;
        assert!(why.to_string().contains("not available"), "{why}");
    });
}

/// Another program with sudo's command line, which wraps the prompt and has words of its own.
#[test]
fn sudo_rs_is_understood() {
    run(async {
        let installed = ["/usr/bin/sudo-rs", "/usr/local/bin/sudo-rs"];
        if !can_optional("sudo-rs", installed.iter().any(|p| std::path::Path::new(p).exists())) {
            return;
        }
        let become_with = |password: Option<&str>| Become::Sudo {
            program: "sudo-rs".into(),
            password: password.map(Secret::new),
        };
        let sshd = Sshd::start();
        let Some(free) = User::new("/bin/bash", NOPASSWD) else { return };
        for password in [None, Some(PASSWORD)] {
            let (_connection, mut shell) = with_become(&sshd, &free, become_with(password)).await;
            let out = sh(&mut shell, "id -u; echo oops >&2; echo $HOME; cat").await;
            assert_eq!((out.text().as_str(), out.errors().as_str()), ("0\n/root\n", "oops\n"));
            let script = Script::raw("sleep 308.25");
            let late = shell.run(Request::new(&script, Duration::from_millis(700))).await;
            assert!(matches!(late, Err(RunError::TimedOut { stopped: true, .. })), "{late:?}");
            assert!(running("sleep 308.25").is_empty());
        }
        let Some(user) = User::new("/bin/bash", "ALL=(ALL:ALL) ALL") else { return };
        let (_connection, mut shell) = with_become(&sshd, &user, become_with(Some(PASSWORD))).await;
        assert_eq!(sh(&mut shell, "id -u").await.text(), "0\n");
        let why = refused(with_become(&sshd, &user, become_with(None)).await.1).await;
        assert!(matches!(why, ShellError::SudoWantsPassword { .. }), "{why}");
        let why = refused(with_become(&sshd, &user, become_with(Some("wrong"))).await.1).await;
        assert!(matches!(why, ShellError::SudoWrongPassword { .. }), "{why}");
        let Some(nobody) = User::new("/bin/bash", "") else { return };
        let why = refused(with_become(&sshd, &nobody, become_with(Some(PASSWORD))).await.1).await;
        assert!(matches!(why, ShellError::SudoNotAllowed { .. }), "{why}");
    });
}

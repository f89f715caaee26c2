//! The standing shell.

use std::time::{Duration, Instant};

use pgorch::model::Script;
use pgorch::transport::{Become, Connection, Request, Rights, RunError, Shell, Stream};

use super::sshd::{Sshd, login_shell, run, running, sh, transport};
use super::user::User;

const LONG: Duration = Duration::from_secs(20);

#[test]
fn scripts_cannot_hurt_each_other() {
    run(async {
        let sshd = Sshd::start();
        let (connection, mut shell) = login_shell(&sshd).await;
        let hello = shell.ready().await.expect("ready");
        assert!(hello.pid > 1 && hello.group > 1, "{hello:?}");

        let out = sh(&mut shell, "printf 'no newline'; printf err >&2; exit 3").await;
        assert_eq!(
            (out.rc, out.stdout.as_slice(), out.stderr.as_slice()),
            (3, &b"no newline"[..], &b"err"[..])
        );
        let out = sh(&mut shell, "if then 'unfinished").await;
        assert_ne!(out.rc, 0);
        assert!(out.stdout.is_empty() && !out.stderr.is_empty());
        let out = sh(&mut shell, "set -e; false; echo never").await;
        assert_eq!((out.rc, out.text().as_str()), (1, ""));
        let out = sh(&mut shell, "X=1; cd /usr; exec 2>&1; exec sh -c 'exit 9'").await;
        assert_eq!(out.rc, 9);
        let out = sh(&mut shell, "echo \"${X:-unset}\"; cat; read -r y || echo eof").await;
        assert_eq!(out.text(), "unset\neof\n");
        let out = sh(&mut shell, "printf '\\000\\001\\377\\n\\r@pgorch-x '").await;
        assert_eq!(out.stdout, b"\0\x01\xff\n\r@pgorch-x ");
        let out = sh(&mut shell, "").await;
        assert_eq!((out.rc, out.stdout.len()), (0, 0));
        let out = sh(&mut shell, "echo $LC_ALL; umask; command -v sshd").await;
        assert_eq!(out.text(), "C\n0022\n/usr/sbin/sshd\n");
        assert_eq!(connection.sessions_opened(), 1, "all of it is one session");
    });
}

#[test]
fn fifty_requests_travel_together() {
    run(async {
        let sshd = Sshd::start();
        let (_connection, mut shell) = login_shell(&sshd).await;
        let tickets: Vec<_> = (0..50)
            .map(|n| shell.send(&Script::raw(format!("echo {n}; exit {n}")), None).expect("sent"))
            .collect();
        for (n, ticket) in tickets.into_iter().enumerate() {
            let out = shell.wait(ticket, LONG, None).await.expect("a result");
            assert_eq!((out.rc, out.text()), (i32::try_from(n).expect("small"), format!("{n}\n")));
        }
    });
}

#[test]
fn lines_arrive_live() {
    run(async {
        let sshd = Sshd::start();
        let (_connection, mut shell) = login_shell(&sshd).await;
        let start = Instant::now();
        let mut lines = Vec::new();
        let mut note = |stream: Stream, line: &str| {
            lines.push((stream, line.to_owned(), start.elapsed()));
        };
        let script = Script::raw("echo first; echo oops >&2; sleep 1; printf last");
        let out =
            shell.run(Request::new(&script, LONG).on_line(&mut note)).await.expect("a result");
        assert_eq!(out.text(), "first\nlast");
        let text = |stream| -> Vec<&str> {
            lines.iter().filter(|l| l.0 == stream).map(|l| l.1.as_str()).collect()
        };
        assert_eq!(text(Stream::Stdout), ["first", "last"]);
        assert_eq!(text(Stream::Stderr), ["oops"]);
        let last = lines.iter().map(|l| l.2).max().expect("lines");
        assert!(last - lines[0].2 > Duration::from_millis(700), "{lines:?}");
    });
}

#[test]
fn a_large_payload_comes_through_whole() {
    run(async {
        let sshd = Sshd::start();
        let (_connection, mut shell) = login_shell(&sshd).await;
        let bytes: Vec<u8> =
            (0..5 << 20).map(|n: u32| n.wrapping_mul(2_654_435_761) as u8).collect();
        let script = Script::new().feed(&bytes, "cat");
        let out = shell.run(Request::new(&script, LONG)).await.expect("a result");
        assert!(out.rc == 0 && out.stdout == bytes, "{} bytes came back", out.stdout.len());
    });
}

#[test]
fn what_runs_too_long_is_stopped() {
    run(async {
        let sshd = Sshd::start();
        let (connection, mut shell) = login_shell(&sshd).await;
        // One child in a session of its own, as `su -c` makes, and one that ignores SIGTERM.
        let script = Script::raw(
            "echo begun; setsid sleep 301.25 & sh -c 'trap \"\" TERM; sleep 301.25; :' & sleep 301.25",
        );
        let error = shell.run(Request::new(&script, Duration::from_millis(700))).await;
        let Err(RunError::TimedOut { stopped, partial, .. }) = error else { panic!("{error:?}") };
        assert_eq!(partial.text(), "begun\n");
        assert!(stopped && running("sleep 301.25").is_empty());
        let next = shell.run(Request::new(&Script::raw("true"), LONG)).await;
        assert!(matches!(next, Err(RunError::NotRun { .. })), "{next:?}");
        let mut fresh = connection.shell(Rights::Login).await.expect("a shell");
        assert_eq!(sh(&mut fresh, "echo again").await.text(), "again\n");
    });
}

#[test]
fn an_interrupt_from_outside() {
    run(async {
        let sshd = Sshd::start();
        let (_connection, mut shell) = login_shell(&sshd).await;
        let interrupter = shell.interrupter();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(400)).await;
            assert!(interrupter.interrupt().await);
        });
        let script = Script::raw("sleep 302.25");
        let error = shell.run(Request::new(&script, LONG)).await;
        assert!(matches!(error, Err(RunError::Interrupted { stopped: true, .. })), "{error:?}");
        assert!(running("sleep 302.25").is_empty() && !shell.alive());
    });
}

/// A login whose `sh` is another shell, as on distributions where it is bash.
async fn shell_with(sshd: &Sshd, sh: &str) -> Option<(User, Connection, Shell)> {
    let user = User::new("/bin/bash", "")?;
    let bin = user.home.path().join("bin");
    std::fs::create_dir(&bin).expect("created");
    std::os::unix::fs::symlink(sh, bin.join("sh")).expect("linked");
    let profile = format!("PATH={}:$PATH\n", bin.display());
    std::fs::write(user.home.path().join(".bashrc"), profile).expect("written");
    let connection = transport().connect(&user.target(sshd)).await.expect("connected");
    let shell = connection.shell(Rights::Login).await.expect("a shell");
    Some((user, connection, shell))
}

#[test]
fn bash_as_sh() {
    run(async {
        let sshd = Sshd::with_profiles();
        let Some((_user, _connection, mut shell)) = shell_with(&sshd, "/bin/bash").await else {
            return;
        };
        assert!(shell.ready().await.expect("ready").bash);
        let out = sh(&mut shell, "if then 'unfinished").await;
        assert!(out.rc != 0 && out.stdout.is_empty());
        let out = sh(&mut shell, "set -e; cat; false; echo never").await;
        assert_eq!((out.rc, out.text().as_str()), (1, ""));
        assert_eq!(sh(&mut shell, "echo $((6 * 7)); exit 5").await.rc, 5);
        let bytes: Vec<u8> =
            (0..5 << 20).map(|n: u32| n.wrapping_mul(2_654_435_761) as u8).collect();
        let start = Instant::now();
        let script = Script::new().feed(&bytes, "cat");
        let out = shell.run(Request::new(&script, LONG)).await.expect("a result");
        assert!(out.rc == 0 && out.stdout == bytes, "{} bytes came back", out.stdout.len());
        eprintln!("5 MiB through bash: {:?}", start.elapsed());
    });
}

#[test]
#[ignore = "prints figures"]
fn figures() {
    run(async {
        let sshd = Sshd::start();
        // root's own profile may do anything.
        let Some(user) = User::new("/bin/bash", "ALL=(ALL) NOPASSWD: ALL") else { return };
        for rights in [Rights::Login, Rights::Login, Rights::Login, Rights::Root, Rights::Root] {
            let mut target = user.target(&sshd);
            target.r#become = Become::sudo(None);
            let start = Instant::now();
            let connection = transport().connect(&target).await.expect("connected");
            let connected = start.elapsed();
            let mut shell = connection.shell(rights).await.expect("shell");
            sh(&mut shell, "true").await;
            let first = start.elapsed();
            let start = Instant::now();
            for _ in 0..200 {
                sh(&mut shell, "true").await;
            }
            eprintln!(
                "{rights:?}: connect {connected:?}, first result {first:?}, then {:?} each",
                start.elapsed() / 200
            );
        }
    });
}

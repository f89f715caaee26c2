//! Channels of one connection, and what happens when it breaks.

use std::time::{Duration, Instant};

use pgorch::model::Script;
use pgorch::transport::{Request, Rights, RunError, ShellError};
use rustix::process::Signal;

use super::sshd::{Sshd, login_shell, run, running, sh, signal, transport};

const LONG: Duration = Duration::from_secs(20);

#[test]
fn many_small_requests_are_fast() {
    run(async {
        let sshd = Sshd::start();
        let (_connection, mut shell) = login_shell(&sshd).await;
        sh(&mut shell, "true").await;
        let start = Instant::now();
        for _ in 0..600 {
            sh(&mut shell, "true").await;
        }
        // About 0.6 s; with Nagle's algorithm against delayed ACK it is 24 s.
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    });
}

#[test]
fn the_fast_cipher_comes_first() {
    run(async {
        let sshd = Sshd::with("LogLevel DEBUG1");
        let _connection = sshd.connect().await;
        let log = sshd.log();
        assert!(log.contains("cipher: aes256-gcm@openssh.com"), "{log}");
    });
}

#[test]
fn what_stays_behind_holds_nobody_up() {
    run(async {
        let sshd = Sshd::start();
        let (_connection, mut shell) = login_shell(&sshd).await;
        let start = Instant::now();
        let out = sh(&mut shell, "(sleep 4; echo late) & echo now").await;
        assert_eq!(out.text(), "now\n");
        assert!(start.elapsed() < Duration::from_secs(10));
    });
}

#[test]
fn shells_work_from_other_tasks() {
    run(async {
        let sshd = Sshd::start();
        let connection = sshd.connect().await;
        let tasks: Vec<_> = (0..6)
            .map(|n| {
                let connection = connection.clone();
                tokio::spawn(async move {
                    let mut shell = connection.shell(Rights::Login).await.expect("a shell");
                    let mut lines = 0;
                    let mut count = |_: pgorch::transport::Stream, _: &str| lines += 1;
                    let script = Script::raw(format!("seq {n}"));
                    let request = Request::new(&script, LONG).on_line(&mut count);
                    shell.run(request).await.expect("a result");
                    lines
                })
            })
            .collect();
        for (n, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.expect("joined"), n);
        }
        // Dropped shells give their sessions back; six are more than fit at a time.
        assert_eq!(connection.sessions_opened(), 6);
    });
}

#[test]
fn more_commands_than_sessions() {
    run(async {
        for limit in [4, 10] {
            let sshd = Sshd::with(&format!("MaxSessions {limit}"));
            let connection = sshd.connect().await;
            let all = (0..20).map(|n| {
                let connection = connection.clone();
                async move {
                    let script = Script::raw(format!("echo {n}"));
                    connection.exec(&script, Rights::Login, LONG).await
                }
            });
            let all = futures_util::future::join_all(all).await;
            for (n, result) in all.into_iter().enumerate() {
                let output = result.unwrap_or_else(|e| panic!("MaxSessions {limit}: {e}"));
                assert_eq!(output.text(), format!("{n}\n"));
            }
        }
    });
}

#[test]
fn a_flood_on_one_channel_does_not_stop_another() {
    run(async {
        let sshd = Sshd::start();
        let (connection, mut shell) = login_shell(&sshd).await;
        let mut flood = connection.shell(Rights::Login).await.expect("a shell");
        // Nobody waits for this one: its output must be taken all the same.
        let flooding = Script::raw("head -c 200000000 /dev/zero; echo done >&2; exit 5");
        let ticket = flood.send(&flooding, None).expect("sent");
        for _ in 0..5 {
            let start = Instant::now();
            sh(&mut shell, "echo alive").await;
            assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
        }
        let out = flood.wait(ticket, LONG, None).await.expect("a result");
        assert_eq!((out.rc, out.truncated, out.errors().as_str()), (5, true, "done\n"));
        assert_eq!(out.stdout.len(), pgorch::transport::OUTPUT_LIMIT);
        assert_eq!(sh(&mut flood, "echo next").await.text(), "next\n");
    });
}

#[test]
fn slots_come_back_after_timeouts() {
    run(async {
        // One for the command and one for stopping it.
        let sshd = Sshd::with("MaxSessions 2");
        let connection = sshd.connect().await;
        let long = Script::raw("exec sleep 305.25");
        for _ in 0..4 {
            let late = connection.exec(&long, Rights::Login, Duration::from_millis(500)).await;
            assert!(matches!(late, Err(RunError::TimedOut { stopped: true, .. })), "{late:?}");
        }
        assert!(running("sleep 305.25").is_empty());
        let fine = connection.exec(&Script::raw("echo fine"), Rights::Login, LONG).await;
        assert_eq!(fine.expect("a result").text(), "fine\n");
    });
}

#[test]
fn a_killed_connection_leaves_no_verdict() {
    run(async {
        let sshd = Sshd::start();
        let (connection, mut shell) = login_shell(&sshd).await;
        sh(&mut shell, "true").await;
        let pids = sshd.session_pids();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(400)).await;
            // Only the sshd processes: what they started lives on.
            for pid in pids {
                let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                if name.starts_with("sshd") {
                    signal(pid, Signal::KILL);
                }
            }
        });
        let script = Script::raw("echo begun; sleep 3.25; touch /dev/null");
        let lost = shell.run(Request::new(&script, LONG)).await;
        let Err(RunError::Lost { partial, .. }) = lost else { panic!("{lost:?}") };
        assert_eq!(partial.text(), "begun\n");
        assert!(connection.lost().is_some() && !shell.alive());
        let after = shell.run(Request::new(&script, LONG)).await;
        assert!(matches!(after, Err(RunError::NotRun { .. })), "{after:?}");
        assert!(connection.shell(Rights::Login).await.is_err());
        for pid in running("sleep 3.25") {
            signal(pid, Signal::KILL);
        }
    });
}

#[test]
fn a_frozen_host_is_noticed() {
    run(async {
        let sshd = Sshd::start();
        let mut target = sshd.target();
        target.timeouts.keepalive = Duration::from_millis(500);
        target.timeouts.keepalive_max = 2;
        let connection = transport().connect(&target).await.expect("connected");
        let mut shell = connection.shell(Rights::Login).await.expect("a shell");
        sh(&mut shell, "true").await;
        let pids = sshd.session_pids();
        pids.iter().for_each(|pid| signal(*pid, Signal::STOP));
        let start = Instant::now();
        let lost = shell.run(Request::new(&Script::raw("true"), LONG)).await;
        let took = start.elapsed();
        pids.iter().for_each(|pid| signal(*pid, Signal::CONT));
        let Err(RunError::Lost { cause, .. }) = lost else { panic!("{lost:?}") };
        assert!(cause.contains("keepalive"), "{cause}");
        // Interval x (max + 1) is 1.5 s.
        assert!(took < Duration::from_secs(4), "{took:?}");
    });
}

#[test]
fn a_shell_that_ends_under_a_request() {
    run(async {
        let sshd = Sshd::start();
        let (_connection, mut shell) = login_shell(&sshd).await;
        let lost = shell.run(Request::new(&Script::raw("kill -9 $$"), LONG)).await;
        let Err(RunError::Lost { cause, .. }) = lost else { panic!("{lost:?}") };
        assert!(cause.contains("137"), "{cause}");
    });
}

#[test]
fn a_forced_command_is_no_shell() {
    run(async {
        let sshd = Sshd::with("ForceCommand echo go away; exit 1");
        let (_connection, mut shell) = login_shell(&sshd).await;
        let result = shell.run(Request::new(&Script::raw("echo ran"), LONG)).await;
        let Err(RunError::Start(ShellError::NoShell { said, .. })) = result else {
            panic!("{result:?}")
        };
        assert_eq!(said, "go away");
    });
}

#[test]
fn a_login_that_hangs() {
    run(async {
        let sshd = Sshd::with("ForceCommand echo thinking; sleep 306.25");
        let mut target = sshd.target();
        target.timeouts.shell_start = Duration::from_millis(700);
        let connection = transport().connect(&target).await.expect("connected");
        let mut shell = connection.shell(Rights::Login).await.expect("a shell");
        // It was sent along with the start, and a slow login might run it yet.
        let result = shell.run(Request::new(&Script::raw("echo ran"), LONG)).await;
        assert!(matches!(result, Err(RunError::Lost { .. })), "{result:?}");
        assert!(matches!(shell.ready().await, Err(ShellError::TimedOut { .. })));
        for pid in running("sleep 306.25") {
            signal(pid, Signal::KILL);
        }
    });
}

#[test]
fn a_deadline_that_passes_while_the_login_is_slow() {
    run(async {
        let sshd = Sshd::with("ForceCommand sleep 1.5; eval \"$SSH_ORIGINAL_COMMAND\"");
        let (_connection, mut shell) = login_shell(&sshd).await;
        let script = Script::raw("sleep 307.25");
        let late = shell.run(Request::new(&script, Duration::from_millis(300))).await;
        assert!(matches!(late, Err(RunError::TimedOut { stopped: true, .. })), "{late:?}");
        assert!(running("sleep 307.25").is_empty());
    });
}

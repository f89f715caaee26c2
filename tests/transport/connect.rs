//! Dialling: host keys, keys of users, agents, jump hosts, peers that do not answer.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pgorch::clock::Clock;
use pgorch::model::Secret;
use pgorch::transport::{
    ConnectError, ConnectErrorKind as Kind, HostKeys, Identity, KeyError, Prompts, Rights, Stage,
    Target, Transport,
};

use super::sshd::{Sshd, command, free_port, keygen, run, sh, transport, wait_for};
use super::user::{PASSWORD, User};

async fn fail(target: &Target) -> ConnectError {
    transport().connect(target).await.expect_err("it must not connect")
}

#[test]
fn host_keys_are_checked() {
    run(async {
        let sshd = Sshd::build("", &["ed25519", "ecdsa", "rsa"]);
        let target = sshd.target();
        let write = |text: String| std::fs::write(sshd.at("known_hosts"), text).expect("written");
        // Only one type is known: the server must be asked for that one.
        for kind in ["ecdsa", "rsa", "ed25519"] {
            write(sshd.known_line(kind) + "\n");
            transport().connect(&target).await.unwrap_or_else(|e| panic!("{kind}: {e}"));
        }
        write(format!("{}\n@revoked * {}\n", sshd.known_line("ed25519"), sshd.host_key("ed25519")));
        let error = fail(&target).await;
        assert!(matches!(error.kind, Kind::RevokedHostKey { .. }), "{error}");
        // The right type with the key of another host.
        let other = keygen(&sshd.at("other"), "ed25519", "");
        write(format!("[127.0.0.1]:{} {other}\n", sshd.port));
        let error = fail(&target).await;
        let text = error.to_string();
        assert!(matches!(error.kind, Kind::ChangedHostKey { .. }), "{text}");
        assert!(text.starts_with("n1: ") && text.contains("known_hosts:1"), "{text}");
        write(String::new());
        let text = fail(&target).await.to_string();
        assert!(text.contains("SHA256:") && text.contains("pgorch trust n1"), "{text}");
        std::fs::remove_file(sshd.at("known_hosts")).expect("removed");
        std::fs::create_dir(sshd.at("known_hosts")).expect("created");
        let error = fail(&target).await;
        assert!(matches!(error.kind, Kind::KnownHostsUnreadable { .. }), "{error}");
    });
}

#[test]
fn a_server_with_another_key_type_only_has_changed() {
    run(async {
        let sshd = Sshd::build("", &["ecdsa"]);
        let other = keygen(&sshd.at("other"), "ed25519", "");
        let known = format!("[127.0.0.1]:{} {other}\n", sshd.port);
        std::fs::write(sshd.at("known_hosts"), known).expect("written");
        let mut target = sshd.target();
        target.host_keys = HostKeys::AcceptNew;
        let error = fail(&target).await;
        assert!(matches!(error.kind, Kind::ChangedHostKey { .. }), "{error}");
    });
}

#[test]
fn accept_new_and_scan() {
    run(async {
        let sshd = Sshd::start();
        let mut target = sshd.target();
        let file = sshd.at("new/known_hosts");
        target.known_hosts = vec![file.clone()];
        let scanned = transport().scan(&target).await.expect("scanned");
        assert_eq!(scanned.line(), sshd.known_line("ed25519"));
        assert!(scanned.describe().starts_with("ssh-ed25519 SHA256:") && !file.exists());
        fail(&target).await;
        target.host_keys = HostKeys::AcceptNew;
        transport().connect(&target).await.expect("accepted");
        target.host_keys = HostKeys::Strict;
        transport().connect(&target).await.expect("known now");
        assert!(!scanned.store(&file).expect("stored"), "it is there already");
    });
}

#[test]
fn host_certificates() {
    run(async {
        let sshd = Sshd::build("HostCertificate none\n", &["ed25519"]);
        drop(sshd);
        let authority = tempfile::tempdir().expect("a directory");
        let ca = authority.path().join("ca");
        let ca_public = keygen(&ca, "ed25519", "");
        let ca_text = ca.to_str().expect("UTF-8").to_owned();
        let host = authority.path().join("host");
        keygen(&host, "ed25519", "");
        let host_text = host.to_str().expect("UTF-8").to_owned();
        let sign = |principals: &str, validity: &str, more: &[&str]| {
            let mut args = vec!["-q", "-s", &ca_text, "-I", "n1", "-n", principals, "-V", validity];
            args.extend(more);
            let public = format!("{host_text}.pub");
            args.push(&public);
            command("ssh-keygen", &args);
        };
        let cases = [
            ("127.0.0.1", "-1h:+1h", true, ""),
            ("other.example", "-1h:+1h", true, "not for 127.0.0.1"),
            ("127.0.0.1", "-2h:-1h", true, "expired"),
            ("127.0.0.1", "+1h:+2h", true, "not valid yet"),
            ("127.0.0.1", "-1h:+1h", false, "user certificate"),
        ];
        for (principals, validity, is_host, expected) in cases {
            sign(principals, validity, if is_host { &["-h"] } else { &[] });
            let config = format!("HostKey {host_text}\nHostCertificate {host_text}-cert.pub");
            let sshd = Sshd::build(&config, &[]);
            let known = format!("@cert-authority 127.* {ca_public}\n");
            std::fs::write(sshd.at("known_hosts"), &known).expect("written");
            let result = transport().connect(&sshd.target()).await;
            match result {
                Ok(_) => assert_eq!(expected, "", "{principals} {validity}"),
                Err(e) => assert!(e.to_string().contains(expected) && !expected.is_empty(), "{e}"),
            }
            if expected.is_empty() {
                let revoked = format!("{known}@revoked * {ca_public}\n");
                std::fs::write(sshd.at("known_hosts"), revoked).expect("written");
                let error = fail(&sshd.target()).await;
                assert!(matches!(error.kind, Kind::RevokedHostKey { .. }), "{error}");
            }
        }
    });
}

#[test]
fn peers_that_do_not_answer() {
    run(async {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut target = Target::new("n1", "127.0.0.1", "root");
        target.port = silent.local_addr().expect("an address").port();
        target.timeouts.connect = Duration::from_millis(600);
        let start = Instant::now();
        let error = fail(&target).await;
        assert!(matches!(error.kind, Kind::TimedOut { stage: Stage::Handshake, .. }), "{error}");
        assert!(start.elapsed() < Duration::from_secs(15));
        target.port = free_port();
        assert!(matches!(fail(&target).await.kind, Kind::Refused { .. }));
        target.host = "no-such-host.invalid".to_owned();
        let error = fail(&target).await;
        assert!(matches!(error.kind, Kind::NameNotResolved { .. }), "{error}");
        // Something that speaks, but not SSH.
        let chatty = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        target.host = "127.0.0.1".to_owned();
        target.port = chatty.local_addr().expect("an address").port();
        tokio::spawn(async move {
            use tokio::io::AsyncWriteExt as _;
            let (mut stream, _) = chatty.accept().await.expect("accepted");
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        });
        let error = fail(&target).await;
        assert!(matches!(error.kind, Kind::Handshake { .. } | Kind::TimedOut { .. }), "{error}");
    });
}

struct Asked(&'static [&'static str], AtomicU32);

impl Prompts for Asked {
    fn passphrase(&self, _key: &std::path::Path, attempt: u32) -> Option<Secret> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.get(attempt as usize - 1).map(|p| Secret::new(*p))
    }
}

#[test]
fn encrypted_keys() {
    run(async {
        let sshd = Sshd::start();
        let public = keygen(&sshd.at("locked"), "ed25519", "open sesame");
        let rsa = keygen(&sshd.at("rsa"), "rsa", "");
        std::fs::write(sshd.at("authorized_keys"), format!("{public}\n{rsa}\n")).expect("written");
        let mut target = sshd.target();
        target.identities = vec![Identity::explicit(sshd.at("locked"))];
        let asked = |answers| Arc::new(Asked(answers, AtomicU32::new(0)));
        let with = |prompts: &Arc<Asked>| {
            let prompts: Arc<dyn Prompts> = prompts.clone();
            Transport::new(Clock::default(), prompts)
        };
        let good = asked(&["wrong", "open sesame"]);
        let shared = with(&good);
        for _ in 0..3 {
            shared.connect(&target).await.expect("connected");
        }
        assert_eq!(good.1.load(Ordering::Relaxed), 2, "asked once per process, and once more");
        let error = with(&asked(&["a", "b", "c"])).connect(&target).await.expect_err("wrong");
        assert!(matches!(error.kind, Kind::Key(KeyError::WrongPassphrase { .. })), "{error}");
        let error = fail(&target).await;
        assert!(matches!(error.kind, Kind::Key(KeyError::Encrypted { .. })), "{error}");
        target.identities = vec![Identity::explicit(sshd.at("absent"))];
        let error = fail(&target).await;
        assert!(matches!(error.kind, Kind::Key(KeyError::Unreadable { .. })), "{error}");
        target.identities = vec![Identity::explicit(sshd.at("rsa"))];
        transport().connect(&target).await.expect("RSA with SHA-2");
        target.identities = vec![Identity::explicit(sshd.at("id")), Identity::usual(sshd.at("no"))];
        let text = fail(&target).await.to_string();
        assert!(text.contains("/id") && text.contains("publickey"), "{text}");
    });
}

/// An ssh-agent on a socket of its own; killed by its pid.
struct Agent(Child, std::path::PathBuf);

impl Agent {
    async fn start(sshd: &Sshd) -> Agent {
        let socket = sshd.at("agent.sock");
        let mut command = Command::new("ssh-agent");
        command.arg("-D").arg("-a").arg(&socket).stdout(Stdio::null());
        let child = command.spawn().expect("ssh-agent");
        wait_for("the agent's socket", || socket.exists()).await;
        Agent(child, socket)
    }

    fn add(&self, key: &std::path::Path) {
        let added =
            Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &self.1).status();
        assert!(added.expect("ssh-add").success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn agents_with_many_keys() {
    run(async {
        let sshd = Sshd::with("MaxAuthTries 3");
        let agent = Agent::start(&sshd).await;
        for n in 0..8 {
            keygen(&sshd.at(&format!("k{n}")), "ed25519", "");
            agent.add(&sshd.at(&format!("k{n}")));
        }
        let mut target = sshd.target();
        target.agent = Some(agent.1.clone());
        target.identities = Vec::new();
        let error = fail(&target).await;
        assert!(matches!(error.kind, Kind::TooManyKeys { .. }), "{error}");
        assert!(error.to_string().contains("identity_file"), "{error}");
        // The named key is tried first, from its file or, when the agent has it, by the agent.
        target.identities = vec![Identity::explicit(sshd.at("id"))];
        transport().connect(&target).await.expect("the named key");
        agent.add(&sshd.at("id"));
        std::fs::write(sshd.at("id"), "gone").expect("written");
        transport().connect(&target).await.expect("the agent's copy of the named key");
        target.identities_only = true;
        transport().connect(&target).await.expect("only the named key");
        // A dead agent is passed over while a key works, and named when nothing does.
        target.agent = Some(sshd.at("no-agent"));
        target.identities = Vec::new();
        let error = fail(&target).await;
        assert!(matches!(error.kind, Kind::Agent { .. }), "{error}");
    });
}

#[test]
fn user_certificates() {
    run(async {
        let dir = tempfile::tempdir().expect("a directory");
        let ca = dir.path().join("ca");
        keygen(&ca, "ed25519", "");
        let ca = ca.to_str().expect("UTF-8");
        let sshd = Sshd::with(&format!("TrustedUserCAKeys {ca}.pub"));
        keygen(&sshd.at("u"), "ed25519", "");
        let public = sshd.at("u.pub");
        let public = public.to_str().expect("UTF-8");
        command(
            "ssh-keygen",
            &["-q", "-s", ca, "-I", "u", "-n", &sshd.user, "-V", "-1h:+1h", public],
        );
        let mut target = sshd.target();
        target.identities = vec![Identity::explicit(sshd.at("u"))];
        transport().connect(&target).await.unwrap_or_else(|e| panic!("{e}\n{}", sshd.log()));
    });
}

#[test]
fn passwords_come_last() {
    run(async {
        let Some(user) = User::new("/bin/bash", "") else { return };
        let sshd = Sshd::with("PasswordAuthentication yes\nPubkeyAuthentication no");
        let mut target = user.target(&sshd);
        target.password = Some(Secret::new(PASSWORD));
        transport().connect(&target).await.unwrap_or_else(|e| panic!("{e}\n{}", sshd.log()));
        target.password = Some(Secret::new("wrong password"));
        let text = fail(&target).await.to_string();
        assert!(text.contains("tried") && text.contains("password"), "{text}");
        assert!(!text.contains("wrong password"), "{text}");
        let pam =
            Sshd::with("UsePAM yes\nKbdInteractiveAuthentication yes\nPubkeyAuthentication no");
        let mut target = user.target(&pam);
        target.password = Some(Secret::new(PASSWORD));
        transport().connect(&target).await.unwrap_or_else(|e| panic!("{e}\n{}", pam.log()));
    });
}

#[test]
fn through_jump_hosts() {
    run(async {
        let (bastion, inner) = (Sshd::start(), Sshd::start());
        let shared = transport();
        let mut jump = bastion.target();
        jump.name = "bastion".to_owned();
        let mut target = inner.target();
        target.jump = Some(Box::new(jump));
        let both = tokio::join!(shared.connect(&target), shared.connect(&target));
        let (one, _two) = (both.0.expect("first"), both.1.expect("second"));
        let accepted = bastion.log().matches("Accepted publickey").count();
        assert_eq!(accepted, 1, "one connection to the jump host serves all");
        let mut shell = one.shell(Rights::Login).await.expect("a shell");
        assert_eq!(sh(&mut shell, "echo inside").await.text(), "inside\n");
        // Warmed up: no 40 ms per exchange. 400 of them took 0.4 s here, cold ones 16 s.
        let start = Instant::now();
        for _ in 0..400 {
            sh(&mut shell, "true").await;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        // Failures say which of the two it was.
        target.port = free_port();
        let error = shared.connect(&target).await.expect_err("nobody there");
        assert!(matches!(error.kind, Kind::JumpRefused { .. }), "{error}");
        let mut dead = target.clone();
        if let Some(jump) = dead.jump.as_mut() {
            jump.port = free_port();
        }
        let error = shared.connect(&dead).await.expect_err("no bastion");
        assert!(
            matches!(&error.kind, Kind::Jump(e) if matches!(e.kind, Kind::Refused { .. })),
            "{error}"
        );
        assert!(error.to_string().starts_with("n1: the jump host failed: bastion: "), "{error}");
        let mut unknown = target.clone();
        if let Some(jump) = unknown.jump.as_mut() {
            jump.known_hosts.clear();
        }
        let error = transport().connect(&unknown).await.expect_err("an unknown bastion");
        assert!(error.to_string().contains("run `pgorch trust n1`"), "{error}");
    });
}

//! SQL through the connection, against a real PostgreSQL in a temporary directory.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pgorch::transport::{Sql, SqlEndpoint, SqlError, SqlTarget};
use rustix::process::Signal;

use super::sshd::{Sshd, can, command, free_port, is_root, run, signal, transport};
use super::user::User;

const LONG: Duration = Duration::from_secs(20);

/// A server of its own, run as `postgres`; stopped when dropped.
struct Server {
    dir: tempfile::TempDir,
    port: u16,
    bin: PathBuf,
}

impl Server {
    /// `ident` lines map an OS user to the role `pgorch`.
    fn start(ident: &str) -> Option<Server> {
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok();
        let mut bins = versions.into_iter().flatten().flatten().map(|e| e.path().join("bin"));
        let bin = bins.find(|b| b.join("initdb").exists());
        if !can("root and PostgreSQL's packages", is_root() && bin.is_some()) {
            return None;
        }
        let server = Server {
            dir: tempfile::Builder::new().prefix("pgorch-pg-").tempdir().expect("a directory"),
            port: free_port(),
            bin: bin?,
        };
        let dir = server.dir.path().to_str().expect("UTF-8");
        command("chown", &["postgres", dir]);
        command("chmod", &["0755", dir]);
        server.run("initdb", &["-D", &format!("{dir}/data"), "-A", "peer", "--no-sync"]);
        let hba =
            "local all pgorch peer map=ops\nlocal all all peer\nhost all all 127.0.0.1/32 trust\n";
        std::fs::write(server.dir.path().join("data/pg_hba.conf"), hba).expect("written");
        std::fs::write(server.dir.path().join("data/pg_ident.conf"), ident).expect("written");
        let options = format!(
            "-c port={} -c unix_socket_directories={dir} -c listen_addresses=127.0.0.1 -c fsync=off",
            server.port
        );
        let data = format!("{dir}/data");
        let log = format!("{dir}/log");
        server.run("pg_ctl", &["-D", &data, "-w", "-l", &log, "-o", &options, "start"]);
        let port = server.port.to_string();
        server.run("psql", &["-h", dir, "-p", &port, "-c", "CREATE ROLE pgorch LOGIN", "postgres"]);
        Some(server)
    }

    fn run(&self, program: &str, args: &[&str]) -> String {
        let program = self.bin.join(program);
        let mut all = vec!["-u", "postgres", "--", program.to_str().expect("UTF-8")];
        all.extend(args);
        command("runuser", &all)
    }

    fn socket(&self) -> SqlTarget {
        SqlTarget {
            endpoint: SqlEndpoint::Socket {
                dir: self.dir.path().to_str().expect("UTF-8").to_owned(),
                port: self.port,
            },
            database: "postgres".to_owned(),
            user: "pgorch".to_owned(),
            password: None,
            connect: LONG,
            statement_timeout: Duration::from_secs(2),
            lock_timeout: Duration::from_secs(1),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = self.dir.path().join("data");
        if Path::new(&data).join("postmaster.pid").exists() {
            let data = data.to_str().expect("UTF-8");
            self.run("pg_ctl", &["-D", data, "-w", "-m", "immediate", "stop"]);
        }
    }
}

async fn one(sql: &Sql, text: &str) -> String {
    let rows = sql.query(text, &[], LONG).await.unwrap_or_else(|e| panic!("{e}"));
    rows[0].get(0)
}

#[test]
fn peer_authentication_sees_the_login_user() {
    run(async {
        let Some(user) = User::new("/bin/bash", "") else { return };
        let Some(server) = Server::start(&format!("ops {} pgorch\n", user.name)) else { return };
        let sshd = Sshd::start();
        let connection = transport().connect(&user.target(&sshd)).await.expect("connected");
        let sql = connection.postgres(&server.socket()).await.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(one(&sql, "SELECT current_user::text").await, "pgorch");
        assert_eq!(one(&sql, "SELECT current_setting('statement_timeout')").await, "2s");
        assert_eq!(one(&sql, "SELECT current_setting('lock_timeout')").await, "1s");
        // A long result, more than the channel's window.
        let rows = "SELECT repeat('x', 1000) FROM generate_series(1, 20000)";
        assert_eq!(sql.query(rows, &[], LONG).await.expect("rows").len(), 20_000);
        let error = sql.query("SELECT pg_sleep(5)", &[], LONG).await.expect_err("too long");
        assert_eq!(error.code(), Some("57014"), "{error}");
        let error = sql.query("SELEC 1", &[], LONG).await.expect_err("a syntax error");
        assert!(error.to_string().contains("syntax error") && sql.alive(), "{error}");
        let as_postgres = SqlTarget { user: "postgres".to_owned(), ..server.socket() };
        let error = connection.postgres(&as_postgres).await.err().expect("refused");
        assert!(error.to_string().contains("Peer authentication failed"), "{error}");
        let nowhere = SqlTarget {
            endpoint: SqlEndpoint::Socket { dir: "/nowhere".to_owned(), port: 1 },
            ..server.socket()
        };
        let error = connection.postgres(&nowhere).await.err().expect("nobody there");
        assert!(matches!(error, SqlError::Channel(_)), "{error}");
        assert_eq!(connection.sessions_opened(), 0, "forwards are no sessions");
    });
}

#[test]
fn a_frozen_server_ends_the_session() {
    run(async {
        let Some(server) = Server::start("ops root pgorch\n") else { return };
        let sshd = Sshd::start();
        let connection = sshd.connect().await;
        let tcp = SqlTarget {
            endpoint: SqlEndpoint::Tcp { host: "127.0.0.1".to_owned(), port: server.port },
            ..server.socket()
        };
        let sql = connection.postgres(&tcp).await.unwrap_or_else(|e| panic!("{e}"));
        let pid: i32 =
            sql.query("SELECT pg_backend_pid()", &[], LONG).await.expect("a pid")[0].get(0);
        signal(pid, Signal::STOP);
        let start = Instant::now();
        let error =
            sql.query("SELECT 1", &[], Duration::from_millis(400)).await.expect_err("frozen");
        assert!(matches!(error, SqlError::TimedOut { .. }) && !sql.alive(), "{error}");
        assert!(start.elapsed() < Duration::from_secs(10));
        let again = sql.query("SELECT 1", &[], LONG).await;
        assert!(matches!(again, Err(SqlError::GivenUp { .. })));
        let other = connection.postgres(&tcp).await.expect("others go on");
        assert_eq!(one(&other, "SELECT 'fine'").await, "fine");
        signal(pid, Signal::CONT);
        // Given-up and dropped sessions leave no backend behind.
        drop(other);
        drop(sql);
        let watching = connection.postgres(&server.socket()).await.expect("connected");
        let count =
            "SELECT count(*)::text FROM pg_stat_activity WHERE backend_type = 'client backend'";
        let end = Instant::now() + Duration::from_secs(5);
        while one(&watching, count).await != "1" {
            assert!(Instant::now() < end, "backends are left");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
}

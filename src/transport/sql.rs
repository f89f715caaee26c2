//! SQL through the SSH connection: to the server's Unix socket or TCP port on the host.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row, SimpleQueryMessage};

use crate::model::Secret;

use super::connection::Connection;
use super::drained::Drained;
use super::error::ChannelError;

/// Which server, and as whom.
#[derive(Debug, Clone)]
pub struct SqlTarget {
    pub endpoint: SqlEndpoint,
    pub database: String,
    /// The role. Peer authentication compares it with the SSH login user, not with root or
    /// `postgres`; a pg_ident map joins the two.
    pub user: String,
    pub password: Option<Secret>,
    /// From opening the channel to a session that is ready.
    pub connect: Duration,
    /// Set in the session; 0 is none. The server's own limit, below the caller's deadlines.
    pub statement_timeout: Duration,
    pub lock_timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqlEndpoint {
    /// `<dir>/.s.PGSQL.<port>` on the host.
    Socket { dir: String, port: u16 },
    /// An address as the host sees it, such as 127.0.0.1.
    Tcp { host: String, port: u16 },
}

impl std::fmt::Display for SqlEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SqlEndpoint::Socket { dir, port } => write!(f, "{dir}/.s.PGSQL.{port}"),
            SqlEndpoint::Tcp { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// SQL that did not work.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error("{host}: PostgreSQL at {endpoint} refuses {user} ({cause})")]
    Connect {
        host: String,
        endpoint: SqlEndpoint,
        user: String,
        cause: String,
        /// The SQLSTATE, if it is the server that refuses.
        code: Option<String>,
    },
    /// The session is given up; whether the statement took effect is unknown.
    #[error("{host}: PostgreSQL gave no answer within {} s", after.as_secs_f32())]
    TimedOut { host: String, after: Duration },
    /// An earlier statement timed out: open a new session.
    #[error("{host}: this PostgreSQL session was given up")]
    GivenUp { host: String },
    /// The server's answer, or the loss of the session (`source.is_closed()`).
    #[error("{host}: {}", server_text(source))]
    Server { host: String, source: tokio_postgres::Error },
}

impl SqlError {
    /// The SQLSTATE, if it is the server's answer.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            SqlError::Server { source, .. } => source.code().map(|c| c.code()),
            SqlError::Connect { code, .. } => code.as_deref(),
            _ => None,
        }
    }
}

/// The library prints only "db error" for what the server says.
fn server_text(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => {
            let detail = db.detail().map(|d| format!(" ({d})")).unwrap_or_default();
            format!("{}: {} [{}]{detail}", db.severity(), db.message(), db.code().code())
        }
        None => {
            let source = std::error::Error::source(error);
            source.map_or_else(|| error.to_string(), |s| format!("{error}: {s}"))
        }
    }
}

/// A session with a PostgreSQL server. Every call has a deadline, and the first one that passes
/// ends the session: nothing else notices a server that stands still.
pub struct Sql {
    client: Client,
    host: String,
    clock: crate::clock::Clock,
    given_up: AtomicBool,
    task: tokio::task::AbortHandle,
    ended: tokio::sync::watch::Receiver<bool>,
}

impl Connection {
    /// Opens a PostgreSQL session on the host.
    ///
    /// # Errors
    /// [`SqlError`], within `to.connect`.
    pub async fn postgres(&self, to: &SqlTarget) -> Result<Sql, SqlError> {
        let host = self.target().name.clone();
        let opening = async {
            let channel = match &to.endpoint {
                SqlEndpoint::Socket { .. } => self.forward_unix(&to.endpoint.to_string()).await?,
                SqlEndpoint::Tcp { host, port } => self.forward_tcp(host, *port).await?,
            };
            let mut config = Config::new();
            config.user(&to.user).dbname(&to.database).application_name("pgorch").options(format!(
                "-c statement_timeout={} -c lock_timeout={}",
                to.statement_timeout.as_millis(),
                to.lock_timeout.as_millis()
            ));
            if let Some(password) = &to.password {
                config.password(password.expose());
            }
            let connected = config.connect_raw(Drained::new(channel), NoTls).await;
            connected.map_err(|e| SqlError::Connect {
                host: host.clone(),
                endpoint: to.endpoint.clone(),
                user: to.user.clone(),
                cause: server_text(&e),
                code: e.code().map(|c| c.code().to_owned()),
            })
        };
        let Some(opened) = self.clock().within(to.connect, opening).await else {
            return Err(SqlError::TimedOut { host, after: to.connect });
        };
        let (client, session) = opened?;
        let (end, ended) = tokio::sync::watch::channel(false);
        let task = tokio::spawn(async move {
            let _ = session.await;
            let _ = end.send(true);
        });
        let (clock, task) = (self.clock(), task.abort_handle());
        Ok(Sql { client, host, clock, given_up: AtomicBool::new(false), task, ended })
    }
}

impl Sql {
    /// Rows of one statement with parameters.
    ///
    /// # Errors
    /// [`SqlError`].
    pub async fn query(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
        deadline: Duration,
    ) -> Result<Vec<Row>, SqlError> {
        self.within(deadline, self.client.query(sql, parameters)).await
    }

    /// Several statements without parameters, values as text.
    ///
    /// # Errors
    /// [`SqlError`].
    pub async fn simple(
        &self,
        sql: &str,
        deadline: Duration,
    ) -> Result<Vec<SimpleQueryMessage>, SqlError> {
        self.within(deadline, self.client.simple_query(sql)).await
    }

    /// The session's client, for what the helpers do not cover. Give every call a deadline.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whether further calls make sense.
    #[must_use]
    pub fn alive(&self) -> bool {
        !self.given_up.load(Ordering::Relaxed) && !self.client.is_closed()
    }

    /// Waits for the end of the session, whoever ends it.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut ended = self.ended.clone();
        async move {
            // An error is a task that was stopped: an end as well.
            let _ = ended.wait_for(|ended| *ended).await;
        }
    }

    async fn within<T>(
        &self,
        deadline: Duration,
        call: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, SqlError> {
        let host = || self.host.clone();
        if self.given_up.load(Ordering::Relaxed) {
            return Err(SqlError::GivenUp { host: host() });
        }
        match self.clock.within(deadline, call).await {
            Some(result) => result.map_err(|source| SqlError::Server { host: host(), source }),
            None => {
                self.given_up.store(true, Ordering::Relaxed);
                self.task.abort();
                Err(SqlError::TimedOut { host: host(), after: deadline })
            }
        }
    }
}

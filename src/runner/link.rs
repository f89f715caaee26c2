//! One host: its connection, its standing shell, and the answers it has given so far.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::event::Status;
use crate::facts::{self, EpochFacts, NodeFacts, Observation};
use crate::inventory::NodeSettings;
use crate::model::{Answer, Exit, Fragment, HostName, Resource, Script};
use crate::plan::batch::{self, Psql};
use crate::transport::{
    ChannelError, ConnectError, Connection, Request, Rights, RunError, Shell, Sql, SqlEndpoint,
    SqlError, SqlTarget, Target, Transport,
};

/// Where the server's socket is (`unix_socket_directories` of pgorch.conf).
const SOCKET_DIR: &str = "/run/postgresql";
/// For opening a SQL session, and for each statement in it.
const SESSION_DEADLINE: Duration = Duration::from_secs(10);

/// Deadline of one batch of questions.
const ASK_DEADLINE: Duration = Duration::from_secs(60);

/// A host of the run. Only this module knows that there is a network.
pub struct Link {
    pub host: HostName,
    /// Why the host takes no further part.
    pub unreachable: Option<String>,
    transport: Transport,
    target: Target,
    node: Option<NodeSettings>,
    /// Of a witness: the directory in which it stores epochs.
    witness_home: Option<String>,
    connection: Option<Connection>,
    shell: Option<Shell>,
    cache: HashMap<Fragment, Answer>,
    facts: Option<Arc<NodeFacts>>,
    round_trips: usize,
    interrupt: Option<watch::Receiver<u8>>,
}

/// How often the user must have asked to stop before this is given up: looking is given up at
/// once, a command that changes something is let finish.
const LOOKING: u8 = 1;
pub(super) const CHANGING: u8 = 2;

/// Why a host did not answer.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("{0}")]
    Connect(Box<ConnectError>),
    #[error("{0}")]
    Channel(Box<ChannelError>),
    #[error("{0}")]
    Run(Box<RunError>),
    #[error("{0}")]
    Sql(Box<SqlError>),
    #[error("the answer of {host} was cut short")]
    CutShort { host: HostName },
    #[error("interrupted before anything was asked of {host}")]
    Interrupted { host: HostName },
    #[error("no host \"{host}\" in this run")]
    NoSuchHost { host: HostName },
}

impl LinkError {
    pub(crate) fn no_such_host(host: &HostName) -> Self {
        LinkError::NoSuchHost { host: host.clone() }
    }

    /// What the user can do, where the text does not say it already.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            LinkError::Run(error) if matches!(**error, RunError::Lost { .. }) => {
                Some("run again: whether the step took effect is looked at first".to_owned())
            }
            _ => None,
        }
    }

    /// The exit code that this means for the run.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            LinkError::Run(error) => match **error {
                RunError::Interrupted { .. } => Exit::Interrupted,
                RunError::TimedOut { .. }
                | RunError::NoUser { .. }
                | RunError::NeedsRoot { .. } => Exit::Failed,
                RunError::Start(_) | RunError::NotRun { .. } | RunError::Lost { .. } => {
                    Exit::Unreachable
                }
            },
            LinkError::Interrupted { .. } => Exit::Interrupted,
            LinkError::NoSuchHost { .. } | LinkError::Sql(_) => Exit::Failed,
            LinkError::Connect(_) | LinkError::Channel(_) | LinkError::CutShort { .. } => {
                Exit::Unreachable
            }
        }
    }

    /// Whether it is certain that nothing of the command was run.
    #[must_use]
    pub fn never_ran(&self) -> bool {
        match self {
            LinkError::Run(error) => matches!(
                **error,
                RunError::Start(_)
                    | RunError::NotRun { .. }
                    | RunError::NoUser { .. }
                    | RunError::NeedsRoot { .. }
            ),
            LinkError::Connect(_)
            | LinkError::Channel(_)
            | LinkError::Interrupted { .. }
            | LinkError::NoSuchHost { .. } => true,
            LinkError::CutShort { .. } | LinkError::Sql(_) => false,
        }
    }

    /// Whether the command may have taken effect.
    #[must_use]
    pub fn outcome_unknown(&self) -> bool {
        self.status() == Status::Unknown
    }

    /// A command without a verdict may have taken effect.
    pub(crate) fn status(&self) -> Status {
        match self {
            LinkError::Run(error)
                if matches!(**error, RunError::Lost { .. } | RunError::Interrupted { .. }) =>
            {
                Status::Unknown
            }
            _ => Status::Failed,
        }
    }
}

impl Link {
    #[must_use]
    pub fn new(
        host: HostName,
        transport: Transport,
        target: Target,
        node: Option<NodeSettings>,
    ) -> Self {
        Link {
            host,
            unreachable: None,
            transport,
            target,
            node,
            witness_home: None,
            connection: None,
            shell: None,
            cache: HashMap::new(),
            facts: None,
            round_trips: 0,
            interrupt: None,
        }
    }

    /// The host is a witness, which stores epochs in this directory.
    #[must_use]
    pub fn of_witness(self, home: String) -> Self {
        Link { witness_home: Some(home), ..self }
    }

    /// Heeds Ctrl-C from now on: this counts how often it was pressed.
    pub fn heed(&mut self, interrupt: watch::Receiver<u8>) {
        self.interrupt = Some(interrupt);
    }

    /// Whether the user has asked to stop.
    fn interrupted(&self) -> bool {
        self.interrupt.as_ref().is_some_and(|i| *i.borrow() >= LOOKING)
    }

    /// Dials and starts the standing shell, if that is not done yet.
    ///
    /// # Errors
    /// The stage that failed; the link is marked unreachable.
    pub async fn connect(&mut self) -> Result<(), LinkError> {
        if self.shell.is_some() {
            return Ok(());
        }
        let stop = pressed(self.interrupt.clone(), LOOKING);
        let done = tokio::select! {
            done = self.dial() => done,
            () = stop => return Err(LinkError::Interrupted { host: self.host.clone() }),
        };
        if let Err(error) = &done {
            self.unreachable = Some(error.to_string());
        }
        done
    }

    /// The connection, dialled if there is none that lives.
    async fn dialled(&mut self) -> Result<Connection, LinkError> {
        if let Some(connection) = self.connection.as_ref().filter(|c| c.lost().is_none()) {
            return Ok(connection.clone());
        }
        let dialled = self.transport.connect(&self.target).await;
        let connection = dialled.map_err(|e| LinkError::Connect(Box::new(e)))?;
        self.connection = Some(connection.clone());
        Ok(connection)
    }

    async fn dial(&mut self) -> Result<(), LinkError> {
        let connection = self.dialled().await?;
        let shell = connection.shell(Rights::Root).await;
        self.shell = Some(shell.map_err(|e| LinkError::Channel(Box::new(e)))?);
        Ok(())
    }

    /// A PostgreSQL session on this node through the SSH connection: as role `pgorch` on the
    /// server's socket, where pg_ident.conf maps the SSH login to it, so that no password is needed.
    ///
    /// # Errors
    /// The host cannot be reached, or the server does not take the session.
    pub async fn session(&mut self, database: &str) -> Result<Sql, LinkError> {
        let Some(node) = self.node.clone() else {
            return Err(LinkError::NoSuchHost { host: self.host.clone() });
        };
        let connection = self.dialled().await?;
        let target = SqlTarget {
            endpoint: SqlEndpoint::Socket { dir: SOCKET_DIR.to_owned(), port: node.port },
            database: database.to_owned(),
            user: "pgorch".to_owned(),
            password: None,
            connect: SESSION_DEADLINE,
            statement_timeout: SESSION_DEADLINE,
            lock_timeout: SESSION_DEADLINE,
        };
        connection.postgres(&target).await.map_err(|e| LinkError::Sql(Box::new(e)))
    }

    /// The login user, as whom tasks without `become` run.
    #[must_use]
    pub fn login(&self) -> &str {
        &self.target.user
    }

    /// The connection, for SQL sessions beside the shell.
    #[must_use]
    pub fn connection(&self) -> Option<&Connection> {
        self.connection.as_ref()
    }

    /// Exec sessions opened and round trips made.
    #[must_use]
    pub fn usage(&self) -> (usize, usize) {
        let opened = self.connection.as_ref().map_or(0, Connection::sessions_opened);
        (usize::try_from(opened).unwrap_or(usize::MAX), self.round_trips)
    }

    /// All answers that hold, facts left out: those differ with every look.
    pub fn answers(&self) -> impl Iterator<Item = (&Fragment, &Answer)> {
        let facts = self.fact_fragments();
        self.cache.iter().filter(move |(fragment, _)| !facts.contains(fragment))
    }

    #[must_use]
    pub fn lookup(&self, fragment: &Fragment) -> Option<Answer> {
        self.cache.get(fragment).cloned()
    }

    /// The facts as last gathered; perhaps stale.
    #[must_use]
    pub fn facts(&self) -> Option<Arc<NodeFacts>> {
        self.facts.clone()
    }

    #[must_use]
    pub fn facts_fresh(&self) -> bool {
        self.facts.is_some() && self.stale_facts().is_empty()
    }

    /// The fact questions without a valid answer.
    #[must_use]
    pub fn stale_facts(&self) -> Vec<Fragment> {
        let mut fragments = self.fact_fragments();
        fragments.retain(|f| !self.cache.contains_key(f));
        fragments
    }

    fn fact_fragments(&self) -> Vec<Fragment> {
        match &self.node {
            Some(node) => facts::node_fragments(node),
            None => {
                let own = self.witness_home.as_deref().map(facts::witness_fragment);
                facts::host_fragments().into_iter().chain(own).collect()
            }
        }
    }

    /// What a witness has stored, as last looked at.
    #[must_use]
    pub fn witness_epoch(&self) -> Option<EpochFacts> {
        let answer = self.lookup(&facts::witness_fragment(self.witness_home.as_deref()?))?;
        Some(facts::witness_epoch(&answer))
    }

    /// Drops the answers that a change of `writes` may have made stale.
    pub fn invalidate(&mut self, writes: &[Resource]) {
        self.cache.retain(|fragment, _| {
            !writes.iter().any(|write| fragment.reads.iter().any(|read| write.touches(read)))
        });
    }

    /// Drops these answers, to ask again.
    pub fn forget(&mut self, fragments: &[Fragment]) {
        fragments.iter().for_each(|fragment| drop(self.cache.remove(fragment)));
    }

    /// Asks in one round trip; the answers are in the cache afterwards.
    ///
    /// # Errors
    /// The connection is gone, or the answer was cut short.
    pub async fn ask(&mut self, fragments: &[Fragment]) -> Result<(), LinkError> {
        let mut asked: Vec<Fragment> = Vec::new();
        for fragment in fragments {
            if !self.cache.contains_key(fragment) && !asked.contains(fragment) {
                asked.push(fragment.clone());
            }
        }
        if asked.is_empty() {
            return Ok(());
        }
        let psql = self.node.as_ref().map(|node| Psql {
            bin_dir: node.bin_dir.clone(),
            socket_dir: SOCKET_DIR.to_owned(),
            port: node.port,
        });
        let mark = format!("pgorch-{}", crate::clock::random_id());
        let script = batch::compose(&asked, psql.as_ref(), &mark);
        if self.interrupted() {
            return Err(LinkError::Interrupted { host: self.host.clone() });
        }
        let asked_of = self.send(&script, None, ASK_DEADLINE, &mut |_| {}, LOOKING).await;
        let (_, stdout, stderr) = asked_of?;
        let answers = batch::split(&stdout, &stderr, asked.len(), &mark);
        for (fragment, answer) in asked.into_iter().zip(answers) {
            let answer = answer.ok_or_else(|| LinkError::CutShort { host: self.host.clone() })?;
            self.cache.insert(fragment, answer);
        }
        self.read_facts();
        Ok(())
    }

    fn read_facts(&mut self) {
        let fragments = self.fact_fragments();
        let answers: Option<Vec<Answer>> = fragments.iter().map(|f| self.lookup(f)).collect();
        let Some(answers) = answers else { return };
        let facts = match &self.node {
            Some(node) => match facts::observe(node, &answers) {
                Observation::Seen(facts) | Observation::HostOnly(facts) => *facts,
                Observation::Unknown { .. } => return,
            },
            None => NodeFacts { host: facts::host_facts(&answers), instance: None },
        };
        self.facts = Some(Arc::new(facts));
    }

    /// Runs a script in the standing shell; a lost shell is made anew first. A second Ctrl-C stops
    /// its processes on the host.
    ///
    /// # Errors
    /// No verdict: the connection ended, or the deadline passed and the command was killed.
    pub async fn command(
        &mut self,
        script: &Script,
        user: Option<&str>,
        deadline: Duration,
        on_line: &mut (dyn FnMut(&str) + Send),
    ) -> Result<(i32, String, String), LinkError> {
        self.send(script, user, deadline, on_line, CHANGING).await
    }

    async fn send(
        &mut self,
        script: &Script,
        user: Option<&str>,
        deadline: Duration,
        on_line: &mut (dyn FnMut(&str) + Send),
        patience: u8,
    ) -> Result<(i32, String, String), LinkError> {
        self.connect().await?;
        let Some(shell) = &mut self.shell else {
            return Err(LinkError::CutShort { host: self.host.clone() });
        };
        self.round_trips += 1;
        let mut on_line = |_: crate::transport::Stream, line: &str| on_line(line);
        let request = Request { script, user, deadline, on_line: Some(&mut on_line) };
        let (stop, interrupter) = (pressed(self.interrupt.clone(), patience), shell.interrupter());
        let result = {
            let mut run = std::pin::pin!(shell.run(request));
            tokio::select! {
                biased;
                result = &mut run => result,
                () = stop => tokio::join!(interrupter.interrupt(), run).1,
            }
        };
        match result {
            Ok(output) => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                Ok((output.rc, text(&output.stdout), text(&output.stderr)))
            }
            // These say something about the request, not about the shell.
            Err(error @ (RunError::NoUser { .. } | RunError::NeedsRoot { .. })) => {
                Err(LinkError::Run(Box::new(error)))
            }
            Err(error) => {
                self.shell = None;
                if matches!(error, RunError::Lost { .. }) {
                    self.connection = None;
                }
                if error_ends_host(&error) {
                    self.unreachable = Some(error.to_string());
                }
                Err(LinkError::Run(Box::new(error)))
            }
        }
    }
}

/// Waits until the user has asked to stop this often; for ever where nobody listens.
pub(super) async fn pressed(interrupt: Option<watch::Receiver<u8>>, times: u8) {
    if let Some(mut interrupt) = interrupt
        && interrupt.wait_for(|count| *count >= times).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// After these the host takes no further part in the run.
fn error_ends_host(error: &RunError) -> bool {
    matches!(error, RunError::Start(_) | RunError::Lost { .. } | RunError::NotRun { .. })
}

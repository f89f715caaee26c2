//! One host's standing connection, as a task of its own: asked once a round, it answers by the
//! deadline, whatever the host does. Dialling goes on beside the rounds.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant as Moment, timeout_at};

use crate::clock;
use crate::inventory::NodeSettings;
use crate::model::{HostName, Instant};
use crate::operation::{LeaseCommand, Reading, lease_command, read_lease};
use crate::transport::{
    ConnectError, Connection, Request, Rights, Shell, Sql, SqlEndpoint, SqlError, SqlTarget,
    Target, Transport,
};
use crate::watch::{
    Holds, HostSeen, Look, PROBE_SQL, Reach, Renewal, Seen, ServerSeen, knock_script, probe_script,
    read_host, read_knock, read_server, sql_refusal,
};

/// Where the server's socket is (`unix_socket_directories` of pgorch.conf).
const SOCKET_DIR: &str = "/run/postgresql";
/// A dial that takes longer is begun anew, so that a host that returns is found soon.
const DIAL: Duration = Duration::from_secs(3);
/// A script that was given up is not waited for on its host.
const SCRIPT: Duration = Duration::from_secs(30);
/// For a renewal; the next round asks the host again soon.
const RENEW: Duration = Duration::from_millis(400);
/// For a knock at the primary's port.
const KNOCK: Duration = Duration::from_secs(3);
/// A knock that began longer ago says nothing about now.
const KNOCKED: Duration = Duration::from_millis(2_500);
/// What is left of a look when a knock is not waited for any more.
const HAND_OVER: Duration = Duration::from_millis(30);
/// So many rounds without an answer, and the connection is made anew.
const MISSES: u32 = 2;

/// A round's question.
#[derive(Debug, Clone, Default)]
pub(super) struct Ask {
    pub(super) round: u64,
    pub(super) deadline: Duration,
    /// The primary, at whose port the others are to knock.
    pub(super) knock: Option<(HostName, String, u16)>,
    /// Whose guard is to be asked what holds it up, besides those whose was never asked.
    pub(super) read: Option<HostName>,
}

/// What an eye says.
pub(super) enum Told {
    Look(Look),
    /// What a guard said to a renewal that was sent to it.
    Held(HostName, Result<Holds, String>, Instant),
    /// Something ended just now: a round should begin at once.
    Ended,
}

pub(super) struct Eye {
    node: HostName,
    settings: Option<NodeSettings>,
    home: String,
    transport: Transport,
    target: Target,
    connection: Option<Connection>,
    dialling: Option<JoinHandle<Result<Connection, ConnectError>>>,
    shell: Option<Shell>,
    sql: Option<Sql>,
    misses: u32,
    /// What the guard said last.
    guard: Option<Reading>,
    knocking: Option<JoinHandle<Option<(Reach, Instant)>>>,
    /// What the last knock at the primary gave, and when it began.
    knocked: Option<(Reach, Instant)>,
}

impl Eye {
    pub(super) fn new(
        node: HostName,
        settings: Option<NodeSettings>,
        home: String,
        transport: Transport,
        mut target: Target,
    ) -> Self {
        target.timeouts.connect = target.timeouts.connect.min(DIAL);
        target.timeouts.keepalive = Duration::from_secs(2);
        Eye {
            node,
            settings,
            home,
            transport,
            target,
            connection: None,
            dialling: None,
            shell: None,
            sql: None,
            misses: 0,
            guard: None,
            knocking: None,
            knocked: None,
        }
    }

    /// Answers until nobody asks any more.
    pub(super) async fn run(
        mut self,
        mut asks: watch::Receiver<Ask>,
        mut renewals: mpsc::Receiver<Renewal>,
        told: mpsc::Sender<Told>,
    ) {
        loop {
            let session = self.sql.as_ref().map(Sql::ended);
            let ended = async {
                match session {
                    Some(ended) => ended.await,
                    None => std::future::pending().await,
                }
            };
            let news = tokio::select! {
                asked = asks.changed() => {
                    if asked.is_err() {
                        return;
                    }
                    let ask = asks.borrow_and_update().clone();
                    Told::Look(self.look(&ask).await)
                }
                Some(renewal) = renewals.recv() => {
                    let (said, received) = self.renew(&renewal).await;
                    Told::Held(self.node.clone(), said, received)
                }
                () = ended => {
                    self.sql = None;
                    Told::Ended
                }
            };
            if told.send(news).await.is_err() {
                return;
            }
        }
    }

    async fn look(&mut self, ask: &Ask) -> Look {
        let asked = clock::raw();
        let until = Moment::now() + ask.deadline;
        let seen = match self.ask(ask, until).await {
            Ok(host) => {
                self.misses = 0;
                Seen::Host(Box::new(host))
            }
            Err(why) => {
                self.misses += 1;
                if self.misses >= MISSES {
                    self.drop_connection();
                }
                Seen::Silent { why }
            }
        };
        let (node, arrived): (_, Instant) = (self.node.clone(), clock::raw());
        Look { node, round: ask.round, asked, arrived, seen }
    }

    fn drop_connection(&mut self) {
        (self.shell, self.sql) = (None, None);
        if let Some(connection) = self.connection.take() {
            tokio::spawn(async move {
                let _ = tokio::time::timeout(DIAL, connection.close()).await;
            });
        }
        // Begun now, so that it is there for the next round if the host is.
        self.dial();
    }

    fn dial(&mut self) -> &mut JoinHandle<Result<Connection, ConnectError>> {
        let (transport, target) = (self.transport.clone(), self.target.clone());
        self.dialling
            .get_or_insert_with(|| tokio::spawn(async move { transport.connect(&target).await }))
    }

    async fn connected(&mut self, until: Moment) -> Result<Connection, String> {
        if let Some(connection) = self.connection.as_ref().filter(|c| c.lost().is_none()) {
            return Ok(connection.clone());
        }
        (self.connection, self.shell, self.sql) = (None, None, None);
        // Who was not there in the last round does not hold up this one.
        let until = if self.misses > 0 {
            until.min(Moment::now() + (until - Moment::now()) / 4)
        } else {
            until
        };
        let dialled = match timeout_at(until, self.dial()).await {
            Err(_) => return Err("no connection".to_owned()),
            Ok(Err(_)) => Err("the dial was given up".to_owned()),
            Ok(Ok(dialled)) => dialled.map_err(|e| e.to_string()),
        };
        self.dialling = None;
        let connection = dialled?;
        self.connection = Some(connection.clone());
        Ok(connection)
    }

    async fn ask(&mut self, ask: &Ask, until: Moment) -> Result<HostSeen, String> {
        let connection = self.connected(until).await?;
        self.knock(ask, &connection).await;
        let suspect = ask.knock.as_ref().is_some_and(|(node, ..)| *node == self.node);
        let script = probe_script(&self.home, self.settings.as_ref(), suspect);
        let host = ask_host(&mut self.shell, &connection, &script, until);
        let server = ask_server(&mut self.sql, &connection, self.settings.as_ref(), until);
        let (host, server) = tokio::join!(host, server);
        let mut host = host?;
        self.take_knock(ask, until).await;
        let fresh = |(_, asked): &(Reach, Instant)| clock::raw().since(*asked) < KNOCKED;
        host.reaches_primary = self.knocked.filter(fresh).map(|(reach, _)| reach);
        if let Some(reading) = &mut host.reading {
            let known = self.guard.as_ref().filter(|g| g.boot == reading.boot_id);
            if known.is_none() || ask.read.as_ref() == Some(&self.node) {
                // A guard that does not answer holds up nobody's look.
                let said = self.say(0, LeaseCommand::Read, until).await.ok();
                reading.holds = said.as_ref().map(holds);
            }
            let agrees = |guard: &Reading, node: &NodeSettings| guard.agrees(node);
            reading.agrees = match (&self.guard, &self.settings) {
                (Some(guard), Some(node)) => agrees(guard, node),
                _ => false,
            };
        }
        host.server = match host.postmaster {
            None if !matches!(server, ServerSeen::Answers(_)) => ServerSeen::NotAsked,
            _ => server,
        };
        Ok(host)
    }
}

impl Eye {
    /// Begins a knock at the primary, unless one is under way, and takes the result of the last.
    async fn knock(&mut self, ask: &Ask, connection: &Connection) {
        if self.knocking.as_ref().is_some_and(JoinHandle::is_finished) {
            self.take_knock(ask, Moment::now()).await;
        }
        let Some((node, address, port)) = &ask.knock else {
            self.knocked = None;
            return;
        };
        if *node == self.node || self.knocking.is_some() {
            return;
        }
        let Some(settings) = &self.settings else { return };
        let (script, asked) = (knock_script(settings, address, *port), clock::raw());
        let connection = connection.clone();
        self.knocking = Some(tokio::spawn(async move {
            let output = connection.exec(&script, Rights::Login, KNOCK).await.ok()?;
            Some((read_knock(&output.text())?, asked))
        }));
    }

    /// Takes what a knock that is under way gives, if it gives it in time for this look. The round waits for
    /// the primary for as long anyway.
    async fn take_knock(&mut self, ask: &Ask, until: Moment) {
        let Some(knocking) =
            self.knocking.as_mut().filter(|k| ask.knock.is_some() || k.is_finished())
        else {
            return;
        };
        let until = until.checked_sub(HAND_OVER).unwrap_or(until);
        if let Ok(knocked) = timeout_at(until, knocking).await {
            self.knocking = None;
            self.knocked = knocked.ok().flatten();
        }
    }

    /// Renews the lease; what the guard says then, and when it was said.
    async fn renew(&mut self, renewal: &Renewal) -> (Result<Holds, String>, Instant) {
        let until = Moment::now() + RENEW;
        let said = match self.guard.clone().filter(|g| g.boot == renewal.boot_id) {
            None => Err("its guard was not read since it booted".to_owned()),
            Some(reading) => {
                let command = LeaseCommand::Renew { reading: &reading, end: renewal.end };
                self.say(renewal.epoch, command, until).await
            }
        };
        (said.as_ref().map(holds).map_err(Clone::clone), clock::raw())
    }

    /// Says something to the guard, and keeps what it says.
    async fn say(
        &mut self,
        epoch: u64,
        command: LeaseCommand<'_>,
        until: Moment,
    ) -> Result<Reading, String> {
        let Some(node) = &self.settings else { return Err("no node".to_owned()) };
        let wait = Duration::from_millis(200);
        let command = lease_command(node, epoch, command, wait).map_err(|e| e.to_string())?;
        let Some(shell) = self.shell.as_mut().filter(|s| s.alive()) else {
            return Err("no connection".to_owned());
        };
        let run = timeout_at(until, shell.run(Request::new(&command.script, SCRIPT))).await;
        let output = match run {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => {
                self.shell = None;
                return Err(error.to_string());
            }
            Err(_) => {
                self.shell = None;
                return Err("no answer in time".to_owned());
            }
        };
        let reading = read_lease(&output.text(), &output.errors()).map_err(|e| e.to_string())?;
        self.guard = Some(reading.clone());
        Ok(reading)
    }
}

fn holds(reading: &Reading) -> Holds {
    if reading.paused { Holds::WithoutEnd } else { Holds::For(reading.lease) }
}

async fn ask_host(
    slot: &mut Option<Shell>,
    connection: &Connection,
    script: &crate::model::Script,
    until: Moment,
) -> Result<HostSeen, String> {
    let late = |_| "no answer in time".to_owned();
    if !slot.as_ref().is_some_and(Shell::alive) {
        let opened = timeout_at(until, connection.shell(Rights::Root)).await.map_err(late)?;
        *slot = Some(opened.map_err(|e| e.to_string())?);
    }
    let Some(shell) = slot else { return Err("no shell".to_owned()) };
    let run = timeout_at(until, shell.run(Request::new(script, SCRIPT))).await;
    let output = match run {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => {
            *slot = None;
            return Err(error.to_string());
        }
        // What comes late belongs to a round that is over: the next one has a channel of its own.
        Err(elapsed) => {
            *slot = None;
            return Err(late(elapsed));
        }
    };
    read_host(&output.text()).ok_or_else(|| {
        let errors = output.errors();
        format!("its answer is not understood: {}", errors.lines().last().unwrap_or("empty"))
    })
}

async fn ask_server(
    slot: &mut Option<Sql>,
    connection: &Connection,
    settings: Option<&NodeSettings>,
    until: Moment,
) -> ServerSeen {
    let Some(settings) = settings else { return ServerSeen::NotAsked };
    let left = || until.saturating_duration_since(Moment::now());
    if !slot.as_ref().is_some_and(Sql::alive) {
        let target = SqlTarget {
            endpoint: SqlEndpoint::Socket { dir: SOCKET_DIR.to_owned(), port: settings.port },
            database: "postgres".to_owned(),
            user: "pgorch".to_owned(),
            password: None,
            connect: left(),
            statement_timeout: Duration::from_secs(5),
            lock_timeout: Duration::from_secs(5),
        };
        match connection.postgres(&target).await {
            Ok(session) => *slot = Some(session),
            Err(error) => return refusal(&error),
        }
    }
    let Some(session) = slot else { return ServerSeen::NotAsked };
    match session.simple(PROBE_SQL, left()).await {
        Ok(rows) => {
            let text = rows.iter().find_map(|row| match row {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            });
            read_server(text.unwrap_or_default())
        }
        Err(error) => {
            *slot = None;
            refusal(&error)
        }
    }
}

fn refusal(error: &SqlError) -> ServerSeen {
    sql_refusal(error.code(), &error.to_string())
}

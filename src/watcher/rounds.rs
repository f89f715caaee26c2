//! The loop: a round is asked, its answers come in, the watch decides, hands act beside it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant as Moment;

use super::eye::{Ask, Eye, Told};
use super::hands::Hands;
use super::state::State;
use super::told::{Audience, Teller};
use crate::clock;
use crate::event::{Event, Kind, Sink};
use crate::inventory::Inventory;
use crate::model::{Exit, HostName, Instant};
use crate::transport::{Target, Transport};
use crate::watch::{Act, ActEnd, Decision, Holds, Kept, Renewal, Seen, ServerSeen, Verdict, Watch};

/// The first round waits for all connections to be made.
const FIRST: Duration = Duration::from_secs(3);
/// Answers that are under way when a round's deadline passes.
const SLACK: Duration = Duration::from_millis(50);
/// Rounds that begin because something ended are at least this far apart.
const APART: Duration = Duration::from_millis(20);

/// What a watcher is made of.
pub struct Settings {
    pub inventory: Arc<Inventory>,
    pub home: String,
    pub watch: Arc<Mutex<Watch>>,
    pub hands: Arc<Hands>,
    pub sink: Arc<dyn Sink>,
    /// 0: go on; more: stop when the act in hand is over.
    pub interrupt: watch::Receiver<u8>,
    pub state_dir: PathBuf,
}

type Acting = LocalBoxFuture<'static, (Act, ActEnd)>;

/// One cluster under watch.
pub struct Watcher {
    of: Settings,
    ask: watch::Sender<Ask>,
    renew: BTreeMap<HostName, mpsc::Sender<Renewal>>,
    told: mpsc::Receiver<Told>,
    /// What hands are at, carried on while rounds go on: an operation, and beside it one node's return.
    acting: Option<Acting>,
    returning: Option<Acting>,
    teller: Teller,
    knock: bool,
    kept: Option<Kept>,
    /// Why the lease was not renewed, as it was told last.
    unrenewed: Option<String>,
}

impl Watcher {
    /// Begins to connect to all voters.
    #[must_use]
    pub fn new(
        of: Settings,
        audience: Audience,
        transport: &Transport,
        targets: Vec<(HostName, Target)>,
    ) -> Self {
        let (ask, asks) = watch::channel(Ask::default());
        let (tell, told) = mpsc::channel(64);
        let mut renew = BTreeMap::new();
        for (node, target) in targets {
            let settings = of.inventory.postgres_of(&node);
            let eye = Eye::new(node.clone(), settings, of.home.clone(), transport.clone(), target);
            let (sender, renewals) = mpsc::channel(1);
            renew.insert(node, sender);
            tokio::spawn(eye.run(asks.clone(), renewals, tell.clone()));
        }
        Watcher {
            of,
            ask,
            renew,
            told,
            acting: None,
            returning: None,
            teller: Teller::new(audience),
            knock: false,
            kept: None,
            unrenewed: None,
        }
    }

    fn watch(&self) -> std::sync::MutexGuard<'_, Watch> {
        self.of.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches until it is told to stop.
    pub async fn run(mut self) -> Exit {
        self.teller.begin();
        let exit = self.rounds().await;
        self.teller.end().await;
        exit
    }

    async fn rounds(&mut self) -> Exit {
        let mut first = true;
        loop {
            let began = Moment::now();
            self.round(if first { Some(FIRST) } else { None }).await;
            first = false;
            self.read_budget();
            let wall = clock::wall().as_millisecond();
            let verdict = self.watch().decide(clock::raw(), wall);
            self.knock = verdict.knock;
            self.keep();
            for renewal in &verdict.renewals {
                // One that cannot be taken at once is of no use: the next round makes another.
                let to = self.renew.get(&renewal.node);
                let _ = to.map(|to| to.try_send(renewal.clone()));
            }
            let board = self.watch().board(&verdict, &self.of.inventory.cluster, clock::raw());
            self.teller.round(&verdict, &board);
            if let Decision::Act(act) = &verdict.decision {
                self.begin(act.clone());
            }
            if self.stop() {
                return Exit::Done;
            }
            self.rest(&verdict, began).await;
            if self.stop() {
                return Exit::Done;
            }
        }
    }

    fn stop(&self) -> bool {
        *self.of.interrupt.borrow() > 0 && self.rests()
    }

    fn rests(&self) -> bool {
        self.acting.is_none() && self.returning.is_none()
    }

    /// Asks everybody, and waits until all have answered or the deadline has passed.
    async fn round(&mut self, deadline: Option<Duration>) {
        let round = self.watch().begin_round();
        let deadline = deadline.unwrap_or_else(|| self.watch().deadline());
        let knock = self.knock.then(|| self.primary_port()).flatten();
        let read = self.watch().unread().cloned();
        let _ = self.ask.send(Ask { round, deadline, knock, read });
        let until = Moment::now() + deadline + SLACK;
        loop {
            tokio::select! {
                told = self.told.recv() => match told {
                    Some(Told::Look(look)) => {
                        self.watch().take(look);
                        if self.watch().complete() {
                            return;
                        }
                    }
                    Some(Told::Held(node, said, received)) => self.held(&node, said, received),
                    Some(Told::Ended) => {}
                    None => return,
                },
                (act, end) = carried_on(&mut self.acting) => {
                    self.acting = None;
                    self.over(&act, &end);
                }
                (act, end) = carried_on(&mut self.returning) => {
                    self.returning = None;
                    self.over(&act, &end);
                }
                () = tokio::time::sleep_until(until) => return,
            }
        }
    }

    fn held(&mut self, node: &HostName, said: Result<Holds, String>, received: Instant) {
        match said {
            Ok(holds) => self.watch().leases_mut().read(node, holds, received),
            Err(why) => {
                let text = format!("the lease is not renewed: {why}");
                if self.unrenewed.as_ref() != Some(&text) {
                    self.of.sink.emit(&Event::host(node, Kind::Notice, text.clone()));
                }
                self.unrenewed = Some(text);
                return;
            }
        }
        self.unrenewed = None;
    }

    fn primary_port(&self) -> Option<(HostName, String, u16)> {
        let watch = self.watch();
        let primary = watch.recorded()?.primary.clone();
        let declared = watch.policy().members.nodes.get(&primary)?;
        Some((primary, declared.address.clone(), declared.port))
    }

    /// Until the next round is due, or something ends.
    async fn rest(&mut self, verdict: &Verdict, began: Moment) {
        // A round begins so long after the one before began, not after it ended.
        let spent =
            if verdict.decision == Decision::Nothing { began.elapsed() } else { Duration::ZERO };
        let left = verdict.next.since(clock::raw()).saturating_sub(spent);
        let until = Moment::now() + left.max(APART);
        let rests = self.rests();
        loop {
            tokio::select! {
                told = self.told.recv() => match told {
                    // An answer to a round that is over.
                    Some(Told::Look(look)) => self.watch().take(look),
                    Some(Told::Held(node, said, received)) => self.held(&node, said, received),
                    Some(Told::Ended) => {
                        tokio::time::sleep(APART).await;
                        return;
                    }
                    None => return,
                },
                (act, end) = carried_on(&mut self.acting) => {
                    self.acting = None;
                    self.over(&act, &end);
                    return;
                }
                (act, end) = carried_on(&mut self.returning) => {
                    self.returning = None;
                    self.over(&act, &end);
                    return;
                }
                () = tokio::time::sleep_until(until) => return,
                () = interrupted(self.of.interrupt.clone()), if rests => return,
            }
        }
    }

    /// Hands go to work; the rounds go on.
    fn begin(&mut self, act: Act) {
        let seen = self.seen();
        let (hands, watch) = (Arc::clone(&self.of.hands), Arc::clone(&self.of.watch));
        let slot = match act {
            Act::Rejoin { .. } => &mut self.returning,
            Act::Failover { .. } | Act::Restart { .. } | Act::Resume => &mut self.acting,
        };
        *slot = Some(Box::pin(async move {
            let end = hands.act(&act, &seen, &watch).await;
            (act, end)
        }));
    }

    /// The hosts that answered in this round, and whether their servers did.
    fn seen(&self) -> BTreeMap<HostName, bool> {
        let watch = self.watch();
        let voters = watch.policy().members.voters.iter();
        voters
            .filter_map(|voter| match &watch.sight().fresh(voter)?.seen {
                Seen::Host(host) => {
                    let answers = matches!(host.server, ServerSeen::Answers(_));
                    Some((voter.clone(), answers))
                }
                Seen::Silent { .. } => None,
            })
            .collect()
    }

    fn over(&mut self, act: &Act, end: &ActEnd) {
        let wall = clock::wall().as_millisecond();
        self.watch().acted(act, end, clock::raw(), wall);
        if matches!((act, end), (Act::Failover { .. }, ActEnd::Done)) {
            self.keep_budget();
        }
        self.teller.over(act, end);
    }

    /// Writes down whom it watches before anything can come of it, for the watch that begins anew.
    fn keep(&mut self) {
        let kept = self.watch().kept();
        if kept == self.kept {
            return;
        }
        let cluster = &self.of.inventory.cluster;
        let written = State::read(&self.of.state_dir, cluster).and_then(|state| {
            State { kept: kept.clone(), ..state }.write(&self.of.state_dir, cluster)
        });
        match written {
            Ok(()) => self.kept = kept,
            Err(error) => {
                let text = format!("whom it watches cannot be written down: {error}");
                self.of.sink.emit(&Event::run(Kind::Notice, text));
            }
        }
    }

    /// `pgorch ack` writes the budget from another process.
    fn read_budget(&mut self) {
        let cluster = &self.of.inventory.cluster;
        if let Ok(state) = State::read(&self.of.state_dir, cluster) {
            self.watch().set_budget(state.budget);
        }
    }

    fn keep_budget(&self) {
        let cluster = &self.of.inventory.cluster;
        let budget = self.watch().budget().clone();
        let kept = State::read(&self.of.state_dir, cluster)
            .and_then(|state| State { budget, ..state }.write(&self.of.state_dir, cluster));
        if let Err(error) = kept {
            let text = format!("the budget of recoveries cannot be kept: {error}");
            self.of.sink.emit(&Event::run(Kind::Notice, text));
        }
    }
}

/// The end of what hands are at; never, where they rest.
async fn carried_on(acting: &mut Option<Acting>) -> (Act, ActEnd) {
    match acting {
        Some(acting) => acting.await,
        None => std::future::pending().await,
    }
}

async fn interrupted(mut interrupt: watch::Receiver<u8>) {
    if interrupt.wait_for(|count| *count > 0).await.is_err() {
        std::future::pending().await
    }
}

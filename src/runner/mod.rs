//! Runs a playbook: asks, judges, applies. All hosts in parallel, each at its own pace between
//! the barriers of plays.
//!
//! `link` is one host's connection with its answers; `task` takes one task through judgement,
//! `perform` runs its commands or `foresee` says what they would do, `tell` keeps and tells the
//! result; `in_place` claims the restart of a primary; `play` walks plays, blocks and handlers; `gather` sends the first batch and works out
//! who is the primary. Decisions are `plan`'s and the kinds'; this module only carries them out.

mod change_over;
mod foresee;
mod gather;
mod hook;
mod in_place;
mod link;
mod operate;
mod outcome;
mod perform;
mod play;
mod segment;
mod task;
mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use indexmap::IndexMap;
use tokio::sync::watch;

use crate::event::{Event, HostRecap, Kind, Sink};
use crate::facts::{NodeFacts, Snapshot};
use crate::model::{Exit, Fragment, HostName, Resource};
use crate::plan::{Choice, Live, RunVars, Scope};
use crate::playbook::Playbook;
use crate::step::{Impact, Options};
use crate::topology;

pub use change_over::{NoPlan, Prospect, nobody_elects};
pub use gather::{LiveRoles, PrimaryRule};
pub use hook::LocalCommand;
pub use link::{Link, LinkError};
pub use operate::{LeaseWait, Operated};
pub use outcome::Outcome;

/// What the command line narrows a run to.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    pub hosts: Vec<HostName>,
    pub choice: Choice,
    /// Hosts at work at the same time.
    pub forks: usize,
}

/// One run of a playbook over an inventory's hosts.
pub struct Runner {
    pub vars: RunVars,
    pub playbook: Playbook,
    pub select: Selection,
    pub links: IndexMap<HostName, Arc<tokio::sync::Mutex<Link>>>,
    pub sink: Arc<dyn Sink>,
    /// 0: go on; 1: stop after the step in hand; 2: stop at once.
    pub interrupt: watch::Receiver<u8>,
    /// Whether somebody said yes to restarts, role changes and the destruction of data. What a plan
    /// could not foresee is refused when it comes to it.
    pub consented: AtomicBool,
    /// Where relative `src:` paths are looked for, first hit wins.
    pub file_roots: Vec<PathBuf>,
    pub live: RwLock<Arc<Live>>,
    pub snapshot: RwLock<Arc<Snapshot>>,
    /// How far each host's wall clock is ahead of ours, seconds.
    pub clocks: Mutex<topology::ClockOffsets>,
    /// The facts of each host as last gathered.
    facts: Mutex<BTreeMap<HostName, Arc<NodeFacts>>>,
    files: RwLock<Arc<BTreeMap<String, Vec<u8>>>>,
    /// Hosts on which a change is being made, with the task's name.
    in_hand: Mutex<BTreeMap<HostName, String>>,
    /// The epoch that each node had stored when the run began: a later one is somebody else's.
    epochs: Mutex<BTreeMap<HostName, u64>>,
    /// When a step that makes a server writable was sent to a host last and may have arrived there, by the
    /// clock of the leases.
    given: Mutex<BTreeMap<HostName, crate::clock::Instant>>,
    /// How this controller waits until an old primary's lease is over; none where it keeps no leases.
    pub lease_wait: Option<LeaseWait>,
    /// Questions that belong to no task: what an operation's preconditions ask.
    extra_questions: Mutex<BTreeMap<HostName, Vec<Fragment>>>,
    /// Where an interrupted run stopped: the task that each host did not come to.
    stopped: Mutex<BTreeMap<HostName, String>>,
}

/// What a pass over the playbook did, or in a read-only pass would do.
#[derive(Debug, Default)]
pub struct Report {
    pub exit: Option<Exit>,
    pub recaps: Vec<HostRecap>,
    pub planned: Vec<Planned>,
    /// What a read-only pass found that would fail.
    pub problems: Vec<Problem>,
    pub notices: Vec<(HostName, String)>,
}

/// A task that would fail or refuse, as a read-only pass sees it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Problem {
    pub host: HostName,
    pub task: String,
    pub refused: bool,
    pub message: String,
    pub hint: Option<String>,
}

/// A change that a read-only pass found, or a task that it could not know yet.
#[derive(Debug, Clone)]
pub struct Planned {
    pub host: HostName,
    pub task: String,
    pub task_id: usize,
    pub kind: &'static str,
    pub summary: String,
    /// "known after <task>"; empty for a change that is known.
    pub deferred: Option<String>,
    pub impact: Impact,
    pub diffs: Vec<crate::step::Diff>,
}

type SharedOutcome = Arc<tokio::sync::OnceCell<Outcome>>;

/// The shared state of one pass.
pub(crate) struct Pass {
    pub(crate) options: Options,
    pub(crate) hosts: Mutex<BTreeMap<HostName, HostState>>,
    /// `run_once` in this batch: the shared outcome by task and the indexes of the loops around it.
    pub(crate) once: Mutex<BTreeMap<(usize, Vec<usize>), SharedOutcome>>,
    pub(crate) planned: Mutex<Vec<Planned>>,
    pub(crate) problems: Mutex<Vec<Problem>>,
    pub(crate) notices: Mutex<Vec<(HostName, String)>>,
    /// Read-only pass: what pending changes would touch on each host, with the task's name.
    pub(crate) pending: Mutex<BTreeMap<HostName, Vec<(Resource, String)>>>,
    /// A host failed in a play with `any_errors_fatal`: nobody begins another task.
    pub(crate) fatal: Mutex<bool>,
    /// An operation of the playbook that did not come to its good end.
    pub(crate) ended: Mutex<Option<Exit>>,
}

/// One host in one pass.
#[derive(Debug, Default)]
pub(crate) struct HostState {
    pub(crate) scope: Scope,
    pub(crate) counts: Counts,
    /// Out of the pass: failed or unreachable.
    pub(crate) out: Option<Exit>,
    pub(crate) done: BTreeSet<usize>,
    pub(crate) notified: BTreeSet<usize>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) ok: usize,
    pub(crate) changed: usize,
    pub(crate) skipped: usize,
    pub(crate) failed: usize,
    pub(crate) ignored: usize,
    pub(crate) deferred: usize,
}

/// A poisoned lock only means that another task panicked; the data is still whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Runner {
    #[must_use]
    pub fn new(
        vars: RunVars,
        playbook: Playbook,
        select: Selection,
        links: IndexMap<HostName, Link>,
        sink: Arc<dyn Sink>,
        interrupt: watch::Receiver<u8>,
        file_roots: Vec<PathBuf>,
    ) -> Self {
        let links = links
            .into_iter()
            .map(|(name, mut link)| {
                link.heed(interrupt.clone());
                (name, Arc::new(tokio::sync::Mutex::new(link)))
            })
            .collect();
        Runner {
            vars,
            playbook,
            select,
            links,
            sink,
            interrupt,
            consented: AtomicBool::new(false),
            file_roots,
            live: RwLock::default(),
            snapshot: RwLock::default(),
            clocks: Mutex::default(),
            facts: Mutex::default(),
            files: RwLock::default(),
            in_hand: Mutex::default(),
            epochs: Mutex::default(),
            given: Mutex::default(),
            lease_wait: None,
            extra_questions: Mutex::default(),
            stopped: Mutex::default(),
        }
    }

    #[must_use]
    pub fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live.read().unwrap_or_else(PoisonError::into_inner))
    }

    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn facts_of(&self, host: &HostName) -> Option<Arc<NodeFacts>> {
        lock(&self.facts).get(host).cloned()
    }

    /// The nodes that the command line leaves out of this run.
    #[must_use]
    pub fn left_out(&self) -> Vec<HostName> {
        let nodes = self.vars.inventory.nodes.keys();
        nodes.filter(|name| !self.select.hosts.contains(name)).cloned().collect()
    }

    /// The status document of what was seen.
    #[must_use]
    pub fn status(&self) -> topology::Status {
        topology::Status::new(&self.vars.inventory, &self.snapshot(), &lock(&self.clocks))
    }

    /// An operation that has begun on a node and is not over.
    #[must_use]
    pub fn open_operation(&self) -> Option<(HostName, crate::facts::OperationRecord)> {
        let snapshot = self.snapshot();
        snapshot.epochs().find_map(|(name, stored)| Some((name.clone(), stored.open()?.clone())))
    }

    /// When a step that makes a server writable may have arrived at this host last, if ever, of those that
    /// this runner has sent.
    #[must_use]
    pub fn given_to(&self, host: &HostName) -> Option<crate::clock::Instant> {
        lock(&self.given).get(host).copied()
    }

    /// How far each host's clock is ahead of ours, seconds.
    #[must_use]
    pub fn clock_offsets(&self) -> topology::ClockOffsets {
        lock(&self.clocks).clone()
    }

    pub(crate) fn emit(&self, event: Event) {
        self.sink.emit(&event);
    }

    /// Whether the user has asked to stop.
    #[must_use]
    pub fn interrupted(&self) -> bool {
        *self.interrupt.borrow() > 0
    }

    /// Where an interrupted run stopped, a line per host that was at work.
    #[must_use]
    pub fn stopped_at(&self) -> Vec<(HostName, String)> {
        let mut lines: BTreeMap<HostName, String> = lock(&self.stopped)
            .iter()
            .map(|(host, task)| (host.clone(), format!("stopped before \"{task}\"")))
            .collect();
        for (host, task) in lock(&self.in_hand).iter() {
            let text = format!("stopped in the middle of \"{task}\"");
            lines.insert(host.clone(), text);
        }
        lines.into_iter().collect()
    }

    /// Controller files that tasks have asked for so far, by their name in the playbook.
    #[must_use]
    pub fn files(&self) -> Arc<BTreeMap<String, Vec<u8>>> {
        Arc::clone(&self.files.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads controller files that a kind asked for, once each.
    pub(crate) async fn load_files(&self, names: &[String]) -> Result<(), String> {
        for name in names {
            let bytes = self.read_file(name).await?;
            let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
            Arc::make_mut(&mut files).insert(name.clone(), bytes);
        }
        Ok(())
    }

    async fn read_file(&self, name: &str) -> Result<Vec<u8>, String> {
        let mut tried = Vec::new();
        for root in &self.file_roots {
            let path = root.join(name);
            match tokio::fs::read(&path).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    tried.push(path.display().to_string());
                }
                Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
            }
        }
        let shipped = crate::playbook::shipped(name).map(|text| text.as_bytes().to_vec());
        shipped.ok_or_else(|| format!("no file \"{name}\" (looked at {})", tried.join(", ")))
    }

    /// One pass over the playbook. `first_batch` must have been called before.
    pub async fn pass(&self, options: &Options) -> Report {
        let started = crate::clock::now();
        let pass = Pass {
            options: options.clone(),
            hosts: Mutex::default(),
            once: Mutex::default(),
            planned: Mutex::default(),
            problems: Mutex::default(),
            notices: Mutex::default(),
            pending: Mutex::default(),
            fatal: Mutex::default(),
            ended: Mutex::default(),
        };
        self.enter_hosts(&pass).await;
        self.plays(&pass).await;
        let recaps = self.recaps(&pass).await;
        let seconds = crate::clock::now().since(started).as_secs_f64();
        self.emit(Event::run(Kind::Recap { hosts: recaps.clone(), seconds }, ""));
        let exit = self.exit_of(&pass, &recaps);
        let mut planned = std::mem::take(&mut *lock(&pass.planned));
        // Hosts go at their own pace; a plan reads the same every time.
        let place = |host: &HostName| self.select.hosts.iter().position(|h| h == host);
        planned.sort_by_key(|p| (p.task_id, place(&p.host)));
        Report {
            exit: Some(exit),
            recaps,
            planned,
            problems: std::mem::take(&mut *lock(&pass.problems)),
            notices: std::mem::take(&mut *lock(&pass.notices)),
        }
    }

    async fn enter_hosts(&self, pass: &Pass) {
        for name in &self.select.hosts {
            let Some(link) = self.links.get(name) else { continue };
            let unreachable = link.lock().await.unreachable.is_some();
            let state = HostState {
                scope: Scope::new(name),
                out: unreachable.then_some(Exit::Unreachable),
                ..HostState::default()
            };
            lock(&pass.hosts).insert(name.clone(), state);
        }
    }

    async fn recaps(&self, pass: &Pass) -> Vec<HostRecap> {
        let mut recaps = Vec::new();
        for name in &self.select.hosts {
            let Some(link) = self.links.get(name) else { continue };
            let (sessions, round_trips) = link.lock().await.usage();
            let hosts = lock(&pass.hosts);
            let Some(state) = hosts.get(name) else { continue };
            let counts = state.counts;
            recaps.push(HostRecap {
                host: name.clone(),
                ok: counts.ok,
                changed: counts.changed,
                skipped: counts.skipped,
                failed: counts.failed,
                ignored: counts.ignored,
                deferred: counts.deferred,
                unreachable: state.out == Some(Exit::Unreachable),
                sessions,
                round_trips,
            });
        }
        recaps
    }

    fn exit_of(&self, pass: &Pass, recaps: &[HostRecap]) -> Exit {
        let mut exit = Exit::Done;
        for state in lock(&pass.hosts).values() {
            exit = state.out.map_or(exit, |out| exit.worst(out));
        }
        exit = lock(&pass.ended).map_or(exit, |ended| exit.worst(ended));
        let pending = recaps.iter().any(|r| r.changed > 0 || r.deferred > 0);
        if pass.options.check && pending {
            exit = exit.worst(Exit::ChangesPending);
        }
        if self.interrupted() { exit.worst(Exit::Interrupted) } else { exit }
    }
}

//! Tells commands and webhooks what the watch sees and does. Each has a task and a short queue of its
//! own: nobody waits for it, least of all a failover. What does not fit into the queue is dropped and
//! counted, and the next message says how many.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::webhook::Post;
use crate::event::{Event, Kind, Sink};
use crate::inventory::{Notification, Recipient};
use crate::model::{NoticeKind, Redactor, Value};
use crate::runner::LocalCommand;

/// Messages that wait for one recipient.
const QUEUE: usize = 64;
/// A message that was not taken is sent again after these.
const AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// All recipients.
pub struct Notifier {
    lanes: Vec<Lane>,
    redactor: Redactor,
}

/// One recipient.
struct Lane {
    events: BTreeSet<NoticeKind>,
    queue: mpsc::Sender<(NoticeKind, Value)>,
    dropped: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

/// How one recipient is reached.
enum Way {
    Command(Vec<String>),
    Webhook(Post),
}

impl Notifier {
    /// Begins a task for each recipient; `sink` hears of messages that could not be delivered.
    ///
    /// # Errors
    /// What is wrong with a webhook: its address, or its file of certificates.
    pub fn start(
        wanted: &[Notification],
        redactor: &Redactor,
        sink: &Arc<dyn Sink>,
    ) -> Result<Notifier, String> {
        let mut lanes = Vec::new();
        for one in wanted {
            let way = match &one.to {
                Recipient::Command(argv) => Way::Command(argv.clone()),
                Recipient::Webhook(webhook) => Way::Webhook(Post::new(webhook, one.timeout)?),
            };
            let (queue, messages) = mpsc::channel(QUEUE);
            let dropped = Arc::new(AtomicU64::new(0));
            let courier = Courier {
                way,
                timeout: one.timeout,
                dropped: Arc::clone(&dropped),
                sink: Arc::clone(sink),
                failing: false,
            };
            let task = tokio::spawn(courier.run(messages));
            lanes.push(Lane { events: one.events.iter().copied().collect(), queue, dropped, task });
        }
        Ok(Notifier { lanes, redactor: redactor.clone() })
    }

    /// Hands a message to whoever wants its kind. Never waits.
    pub fn tell(&self, kind: NoticeKind, document: &Value) {
        let document = self.redactor.mask_value(document);
        for lane in self.lanes.iter().filter(|lane| lane.events.contains(&kind)) {
            if lane.queue.try_send((kind, document.clone())).is_err() {
                lane.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Messages that did not fit into a queue and of which no recipient knows yet.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.dropped.load(Ordering::Relaxed)).sum()
    }

    /// Delivers what waits, for so long at most.
    pub async fn finish(self, limit: Duration) {
        let until = tokio::time::Instant::now() + limit;
        for lane in self.lanes {
            drop(lane.queue);
            let mut task = lane.task;
            if tokio::time::timeout_at(until, &mut task).await.is_err() {
                task.abort();
            }
        }
    }
}

/// Carries messages to one recipient, in their order.
struct Courier {
    way: Way,
    timeout: Duration,
    dropped: Arc<AtomicU64>,
    sink: Arc<dyn Sink>,
    /// The last message could not be delivered, and that was said.
    failing: bool,
}

impl Courier {
    async fn run(mut self, mut messages: mpsc::Receiver<(NoticeKind, Value)>) {
        while let Some((kind, mut document)) = messages.recv().await {
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            document["dropped"] = Value::from(dropped);
            let what = || format!("{} to {}", kind.word(), self.way.name());
            if dropped > 0 {
                self.say(format!("{dropped} messages before {} were dropped", what()));
            }
            let mut sent = self.way.deliver(&document, self.timeout).await;
            for pause in AGAIN {
                if sent.is_ok() || !self.way.again() {
                    break;
                }
                tokio::time::sleep(pause).await;
                sent = self.way.deliver(&document, self.timeout).await;
            }
            match sent {
                Ok(()) if self.failing => {
                    self.say(format!("{} is delivered again", what()));
                    self.failing = false;
                }
                Ok(()) => {}
                // Each one that is lost is said.
                Err(why) => {
                    self.say(format!("{} could not be delivered: {why}", what()));
                    self.failing = true;
                }
            }
        }
    }

    fn say(&self, text: String) {
        self.sink.emit(&Event::run(Kind::Notice, format!("notification: {text}")));
    }
}

impl Way {
    /// For people; without what may be secret.
    fn name(&self) -> String {
        match self {
            Way::Command(argv) => argv.first().cloned().unwrap_or_default(),
            Way::Webhook(post) => post.name().to_owned(),
        }
    }

    /// Whether one that failed may be tried again: a command may have done half of its work.
    fn again(&self) -> bool {
        matches!(self, Way::Webhook(_))
    }

    async fn deliver(&self, document: &Value, timeout: Duration) -> Result<(), String> {
        let text = format!("{document}\n");
        match self {
            Way::Command(argv) => {
                let environment = environment(document);
                let command = LocalCommand {
                    argv,
                    environment: &environment,
                    input: Some(text.as_bytes()),
                    deadline: timeout,
                };
                command.run(None).await.map(drop)
            }
            Way::Webhook(post) => post.send(text).await,
        }
    }
}

/// What a command that reads no JSON needs.
fn environment(document: &Value) -> Vec<(&'static str, String)> {
    const NAMES: [(&str, &str); 7] = [
        ("PGORCH_CLUSTER", "cluster"),
        ("PGORCH_EVENT", "event"),
        ("PGORCH_SEVERITY", "severity"),
        ("PGORCH_MESSAGE", "message"),
        ("PGORCH_NODE", "node"),
        ("PGORCH_PRIMARY", "primary"),
        ("PGORCH_CODE", "code"),
    ];
    let text = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
    NAMES.iter().map(|(name, key)| (*name, text(key))).collect()
}

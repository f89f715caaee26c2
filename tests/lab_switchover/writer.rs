//! A client that commits a row every ten milliseconds, wherever it can, and keeps a ledger.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls};

const EVERY: Duration = Duration::from_millis(10);
/// After this a statement or an attempt to connect is given up.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Writer {
    ledger: Arc<Mutex<Vec<(i64, Instant)>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Writer {
    pub(super) fn start(addresses: &[String]) -> Self {
        let mut config = Config::new();
        config.user("app").dbname("app").connect_timeout(Duration::from_millis(300));
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        for address in addresses {
            config.host(address);
        }
        let ledger = Arc::default();
        let over = Arc::default();
        let (l, o) = (Arc::clone(&ledger), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(write(&config, &l, &o));
        });
        let writer = Writer { ledger, over, thread: Some(thread) };
        writer.goes_on();
        writer
    }

    pub(super) fn confirmed(&self) -> usize {
        self.ledger.lock().expect("no panic").len()
    }

    pub(super) fn rows(&self) -> Vec<i64> {
        self.ledger.lock().expect("no panic").iter().map(|(id, _)| *id).collect()
    }

    /// The longest time between two confirmed rows since the ledger had so many.
    pub(super) fn longest_pause(&self, since: usize) -> Duration {
        let ledger = self.ledger.lock().expect("no panic");
        let from = since.saturating_sub(1).min(ledger.len());
        let pauses = ledger[from..].windows(2).map(|w| w[1].1.duration_since(w[0].1));
        pauses.max().unwrap_or_default()
    }

    /// Waits until more rows are confirmed.
    #[track_caller]
    pub(super) fn goes_on(&self) {
        let before = self.confirmed();
        let end = Instant::now() + Duration::from_secs(20);
        while self.confirmed() < before + 5 {
            assert!(Instant::now() < end, "the writer gets nothing confirmed any more");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

async fn connect(config: &Config) -> Option<Client> {
    let connected = tokio::time::timeout(PATIENCE, config.connect(NoTls)).await;
    let (client, connection) = connected.ok()?.ok()?;
    tokio::spawn(connection);
    let table = "CREATE TABLE IF NOT EXISTS ledger (id bigint PRIMARY KEY)";
    let made = tokio::time::timeout(PATIENCE, client.batch_execute(table)).await;
    made.ok()?.ok()?;
    Some(client)
}

async fn write(config: &Config, ledger: &Mutex<Vec<(i64, Instant)>>, over: &AtomicBool) {
    let mut client = None;
    let mut id = 0_i64;
    while !over.load(Ordering::Relaxed) {
        tokio::time::sleep(EVERY).await;
        if client.is_none() {
            client = connect(config).await;
        }
        let Some(session) = &client else { continue };
        // An id is used once: a row without a verdict may be there or not.
        id += 1;
        let row: [&(dyn ToSql + Sync); 1] = [&id];
        let insert = session.execute("INSERT INTO ledger VALUES ($1)", &row);
        match tokio::time::timeout(PATIENCE, insert).await {
            Ok(Ok(_)) => ledger.lock().expect("no panic").push((id, Instant::now())),
            _ => client = None,
        }
    }
}

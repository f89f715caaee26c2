//! A client that writes about a hundred rows a second to whoever takes writes, and keeps a ledger of
//! the rows that were acknowledged.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pgorch::lab;
use tokio_postgres::NoTls;

use super::Cluster;

/// What the inventory must have for the writer: its role, its database, and the way in.
pub(crate) const FOR_WRITER: &str = "
  hba: [ 'host app app 198.18.0.0/15 trust' ]
  roles: [ { name: app, attributes: [login] } ]
  databases: [ { name: app, owner: app } ]
";

const PAUSE: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) struct Writer {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Ledger>,
}

/// Rows that were acknowledged, in order, each with its moment.
#[derive(Default)]
pub(crate) struct Ledger {
    acknowledged: Vec<(i64, Instant)>,
}

impl Writer {
    /// Makes the table and begins to write, to the named nodes only.
    pub(crate) fn start(cluster: &Cluster, nodes: &[&str], first: i64) -> Self {
        let lab = lab::status(&cluster.key()).expect("a lab");
        let address = |name: &&str| {
            let host = lab.hosts.iter().find(|h| h.name == **name).expect("a host");
            host.address.to_string()
        };
        let hosts: Vec<String> = nodes.iter().map(address).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(write(&hosts.join(","), first, &stopped))
        });
        Writer { stop, thread }
    }

    pub(crate) fn end(self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it ends")
    }
}

async fn write(hosts: &str, first: i64, stop: &AtomicBool) -> Ledger {
    let mut ledger = Ledger::default();
    let mut id = first;
    let config = format!(
        "host={hosts} user=app dbname=app target_session_attrs=read-write connect_timeout=1"
    );
    while !stop.load(Ordering::Relaxed) {
        let connected = tokio::time::timeout(PATIENCE, tokio_postgres::connect(&config, NoTls));
        let Ok(Ok((client, connection))) = connected.await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let connection = tokio::spawn(connection);
        let _ = client.batch_execute("CREATE TABLE IF NOT EXISTS ledger (id bigint)").await;
        while !stop.load(Ordering::Relaxed) {
            // A row without an answer may be there or not: its number is not used again.
            id += 1;
            let insert = format!("INSERT INTO ledger VALUES ({id})");
            let sent = tokio::time::timeout(PATIENCE, client.batch_execute(&insert)).await;
            let Ok(Ok(())) = sent else { break };
            ledger.acknowledged.push((id, Instant::now()));
            tokio::time::sleep(PAUSE).await;
        }
        connection.abort();
    }
    ledger
}

impl Ledger {
    pub(crate) fn len(&self) -> usize {
        self.acknowledged.len()
    }

    /// When the first and the last row were acknowledged.
    pub(crate) fn span(&self) -> Option<(Instant, Instant)> {
        Some((self.acknowledged.first()?.1, self.acknowledged.last()?.1))
    }

    /// The longest time between two acknowledged rows.
    pub(crate) fn outage(&self) -> Duration {
        let gaps = self.acknowledged.windows(2).map(|w| w[1].1 - w[0].1);
        gaps.max().unwrap_or_default()
    }

    /// Acknowledged rows that a node does not have.
    pub(crate) fn lost_on(&self, cluster: &Cluster, node: &str) -> Vec<i64> {
        let query = "cd / && runuser -u postgres -- psql -XAtd app -c 'SELECT id FROM ledger'";
        let there: BTreeSet<i64> =
            cluster.sh(node, query).lines().map(|l| l.parse().expect("a number")).collect();
        self.acknowledged.iter().map(|(id, _)| *id).filter(|id| !there.contains(id)).collect()
    }
}

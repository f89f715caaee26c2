//! A client that writes about a hundred rows a second to whoever takes writes, and keeps a ledger of
//! the rows that were acknowledged.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pgorch::lab;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
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
        Writer::start_in(cluster, nodes, first, None)
    }

    /// The same in the network of a lab host.
    pub(crate) fn start_in(
        cluster: &Cluster,
        nodes: &[&str],
        first: i64,
        network: Option<&Network>,
    ) -> Self {
        let network = network.map(Network::open);
        let lab = lab::status(&cluster.key()).expect("a lab");
        let address = |name: &&str| {
            let host = lab.hosts.iter().find(|h| h.name == **name).expect("a host");
            host.address.to_string()
        };
        let hosts: Vec<String> = nodes.iter().map(address).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            if let Some(network) = network {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(network.as_fd(), kind).expect("a network");
            }
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

/// The network of a lab host, for clients on this machine that are to be where that host is.
pub(crate) struct Network {
    file: File,
}

impl Network {
    /// The host must be up. A process whose network it is may end at any time: the open file keeps it.
    pub(crate) fn of(cluster: &Cluster, host: &str) -> Self {
        let wanted = cluster.sh(host, "readlink /proc/1/ns/net");
        let processes = std::fs::read_dir("/proc").expect("processes");
        let mut files = processes.filter_map(|entry| {
            let path = entry.ok()?.path().join("ns/net");
            let link = std::fs::read_link(&path).ok()?;
            if link.to_string_lossy() == wanted { File::open(path).ok() } else { None }
        });
        Network { file: files.next().expect("a process of the host") }
    }

    /// Where other programs find it.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    fn open(&self) -> File {
        self.file.try_clone().expect("a network")
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

    /// How many rows were acknowledged after this moment.
    pub(crate) fn since(&self, moment: Instant) -> usize {
        self.acknowledged.iter().filter(|(_, at)| *at > moment).count()
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

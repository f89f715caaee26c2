//! The virtual address on real hosts: it is where the primary is, and nowhere else.

use std::time::{Duration, Instant};

use crate::lab::{Cluster, Ran, available};

const ALL: [&str; 3] = ["node1", "node2", "node3"];
const VIP: &str = "198.18.251.100";

fn inventory(routing: &str) -> String {
    format!(
        "
cluster: moving
lab: {{ image: bookworm }}
postgres:
  version: 15
  hba:
    - host app app 198.18.0.0/15 trust
  roles:
    - {{ name: app, attributes: [login] }}
  databases:
    - {{ name: app, owner: app }}
{routing}
nodes:
  node1: {{ host: 198.18.251.11, primary: true }}
  node2: {{ host: 198.18.251.12 }}
  node3: {{ host: 198.18.251.13 }}
"
    )
}

const WITH: &str = "routing: { vip: { address: 198.18.251.100/24, interface: eth0 } }";

struct Lab {
    cluster: Cluster,
}

#[test]
fn the_virtual_address_is_on_the_primary() {
    if !available() {
        return;
    }
    let lab = Lab { cluster: Cluster::new(&inventory("")) };
    lab.cluster.apply(&[]).exits(0);
    lab.cluster.write_inventory(&inventory(WITH));
    // Into a running cluster, without a restart of anything.
    lab.cluster.apply(&[]).exits(0);
    lab.is_on("node1");
    assert_eq!(lab.cluster.apply(&[]).exits(0).tasks("changed"), []);
    lab.taken_away_by_hand();
    lab.moves_with_a_switchover();
    lab.returns_when_a_switchover_is_undone();
    lab.moves_with_a_failover();
    lab.an_interface_that_is_not_there();
    lab.given_up_with_the_inventory();
}

impl Lab {
    fn holders(&self) -> Vec<&'static str> {
        let has = |host: &&&str| {
            let line = format!("ip -o -4 addr show dev eth0 | grep -cF ' {VIP}/24 ' || :");
            self.cluster.sh(host, &line) != "0"
        };
        ALL.iter().filter(has).copied().collect()
    }

    /// One host has it, and whoever connects to it from outside meets that host's server.
    fn is_on(&self, node: &str) {
        assert_eq!(self.holders(), [node]);
        let start = Instant::now();
        let wanted = self.cluster.sql(node, "SELECT pg_postmaster_start_time()");
        loop {
            let answer = self.asks();
            if answer.as_deref() == Ok(wanted.as_str()) {
                break;
            }
            // This machine's ARP cache must have been told; by itself it would look again much later.
            assert!(start.elapsed() < Duration::from_secs(4), "{answer:?}, not {wanted}");
            std::thread::sleep(Duration::from_millis(100));
        }
        eprintln!("reached {node} after {:.1} s", start.elapsed().as_secs_f64());
    }

    /// The start time of the server that answers at the address, which accepts writes.
    fn asks(&self) -> Result<String, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let text = format!("host={VIP} user=app dbname=app connect_timeout=2");
            let (client, connection) = tokio_postgres::connect(&text, tokio_postgres::NoTls)
                .await
                .map_err(|e| e.to_string())?;
            tokio::spawn(connection);
            let query = "SELECT pg_postmaster_start_time()::text WHERE NOT pg_is_in_recovery()";
            let row = client.query_one(query, &[]).await.map_err(|e| e.to_string())?;
            Ok(row.get(0))
        })
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.cluster.run(args)
    }

    fn taken_away_by_hand(&self) {
        self.cluster.sh("node1", &format!("ip addr del {VIP}/24 dev eth0"));
        let ran = self.cluster.apply(&[]).exits(0);
        assert_eq!(ran.tasks("changed"), [("node1".to_owned(), "Virtual address".to_owned())]);
        self.is_on("node1");
    }

    fn moves_with_a_switchover(&self) {
        let planned = self.run(&["switchover", "--to", "node2", "--dry-run"]).exits(0);
        assert!(planned.stdout.contains("take the virtual address"), "{}", planned.stdout);
        self.run(&["switchover", "--to", "node2", "-y"]).exits(0);
        self.is_on("node2");
        assert_eq!(self.cluster.apply(&[]).exits(0).tasks("changed"), []);
    }

    /// The candidate is not told to promote: its WAL is not all there, because node3 holds the wait up.
    fn returns_when_a_switchover_is_undone(&self) {
        self.cluster.sql("node3", "SELECT pg_wal_replay_pause()");
        self.cluster
            .sh("node2", "runuser -u postgres -- psql -Xqc 'CREATE TABLE t AS SELECT 1' app");
        let ran = self.run(&["switchover", "--to", "node3", "-y"]);
        assert_ne!(ran.code, 0, "{}", ran.stdout);
        self.cluster.sql("node3", "SELECT pg_wal_replay_resume()");
        self.is_on("node2");
    }

    fn moves_with_a_failover(&self) {
        self.cluster.sh("node2", "systemctl kill -s KILL --kill-who=all pgorch-moving");
        // A step that came when the server was dead already: nothing but the fence takes that away.
        self.cluster.sh("node2", "sh /usr/local/lib/pgorch/moving-node2.vip up");
        assert_eq!(self.holders(), ["node2"]);
        self.run(&["failover", "--to", "node1", "-y"]).exits(0);
        self.is_on("node1");
        // Who is fenced does not get it.
        self.cluster.sh("node2", "sh /usr/local/lib/pgorch/moving-node2.vip up");
        self.is_on("node1");
        self.run(&["rejoin", "node2", "-y"]).exits(0);
        self.is_on("node1");
        // The unit alone, without pgorch: a stop gives it up, a start takes it again.
        self.cluster.sh("node1", "systemctl stop pgorch-moving");
        assert!(self.holders().is_empty());
        self.cluster.sh("node1", "systemctl start pgorch-moving");
        self.is_on("node1");
    }

    fn an_interface_that_is_not_there(&self) {
        self.cluster.write_inventory(&inventory(&WITH.replace("eth0", "eth7")));
        let ran = self.cluster.apply(&[]);
        assert_ne!(ran.code, 0);
        assert!(ran.stdout.contains("has no network interface eth7"), "{}", ran.stdout);
    }

    fn given_up_with_the_inventory(&self) {
        self.cluster.write_inventory(&inventory(""));
        self.cluster.apply(&[]).exits(0);
        assert!(self.holders().is_empty());
        self.cluster.sh("node1", "! ls /usr/local/lib/pgorch/*.vip /run/pgorch-*.vip 2>/dev/null");
        assert_eq!(self.cluster.apply(&[]).exits(0).tasks("changed"), []);
    }
}

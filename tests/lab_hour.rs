//! An hour of bad weather on real hosts in which nothing is replaced: there is no need.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::lab::writer::{FOR_WRITER, Writer};
use crate::lab::{Cluster, Live};

const NODES: [&str; 3] = ["node1", "node2", "node3"];

/// Only with PGORCH_LAB=full; PGORCH_MINUTES makes it longer or shorter.
#[test]
fn an_hour_of_pauses_load_and_loss_without_a_failover() {
    if !std::env::var("PGORCH_LAB").is_ok_and(|v| v == "full") {
        return;
    }
    let minutes = std::env::var("PGORCH_MINUTES").map_or(60, |m| m.parse().expect("minutes"));
    let cluster = Cluster::new(&format!(
        "cluster: hour\npostgres:\n  version: 15\n{}failover: {{ mode: automatic }}\n\
         lab: {{ image: bookworm }}\nnodes: {{ node1: {{ primary: true }}, node2: {{}}, node3: {{}} }}\n",
        FOR_WRITER.trim_start_matches('\n')
    ));
    cluster.apply(&[]).exits(0);
    for node in NODES {
        let burn = "systemd-run --unit=burn sh -c 'while :; do :; done'";
        cluster.sh(node, burn);
    }
    let writer = Writer::start(&cluster, &NODES, 0);
    let mut watch = Live::start(cluster.command(&["watch", "-o", "json"]));
    watch.until(|e| e["event"] == "decided" && e["data"]["finding"] == "primary_healthy");
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    // Knuth's linear congruential generator (MMIX): the same weather each time.
    let mut state: u64 = minutes;
    let mut from = |least: u64, most: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        least + (state >> 33) % (most - least + 1)
    };
    while Instant::now() < end {
        let node = NODES[usize::try_from(from(0, 2)).expect("small")];
        if from(0, 1) == 0 {
            // As a hypervisor does it when it moves or saves a machine.
            cluster.fault(&format!("freeze {node}"));
            std::thread::sleep(Duration::from_secs(2));
            cluster.fault(&format!("thaw {node}"));
        } else {
            cluster.fault(&format!("slow {node} {} {}", from(0, 40), from(1, 8)));
            std::thread::sleep(Duration::from_secs(from(2, 20)));
            cluster.fault(&format!("slow {node} 0"));
        }
        std::thread::sleep(Duration::from_secs(from(1, 10)));
        assert!(watch.running(), "the watch has ended");
    }
    watch.signal(Signal::INT);
    let events = watch.end().exits(0).events();
    let operations: Vec<_> = events.iter().filter(|e| e["event"] == "operation").collect();
    assert!(operations.is_empty(), "{operations:#?}");
    let ledger = writer.end();
    let status = cluster.run(&["status", "-o", "json"]).json();
    assert_eq!(status["primary"], "node1", "{status:#}");
    assert_eq!(status["nodes"][0]["timeline"], 1, "{status:#}");
    assert_eq!(ledger.lost_on(&cluster, "node1"), [] as [i64; 0]);
    eprintln!(
        "{minutes} minutes: {} rows, longest wait {:.1} s",
        ledger.len(),
        ledger.outage().as_secs_f64()
    );
}

//! No secret is where it does not belong: not while `apply` runs, not afterwards.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Lab;

/// Reads the command lines and environments of all processes of this machine again and again; those
/// of the lab's hosts are among them.
struct Sampler {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<(HashSet<Vec<u8>>, u32)>,
}

impl Sampler {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut seen = HashSet::new();
            let mut rounds = 0;
            while !stopped.load(Ordering::Relaxed) {
                let start = Instant::now();
                look(&mut seen);
                rounds += 1;
                std::thread::sleep(Duration::from_millis(20).saturating_sub(start.elapsed()));
            }
            (seen, rounds)
        });
        Sampler { stop, thread }
    }

    fn end(self) -> (HashSet<Vec<u8>>, u32) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it ends")
    }
}

fn look(seen: &mut HashSet<Vec<u8>>) {
    for entry in fs::read_dir("/proc").expect("proc").flatten() {
        if !entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
        let (command, environment, again) = (read("cmdline"), read("environ"), read("cmdline"));
        // The program itself is given a secret in its environment, by the user. A process without a
        // command line is about to become it, or is ending.
        let own = env!("CARGO_BIN_EXE_pgorch").as_bytes();
        let whole = !command.is_empty() && command == again;
        if whole && !command.starts_with(own) {
            seen.insert([command.as_slice(), b" ENVIRONMENT ", &environment].concat());
        }
        seen.extend([command, again]);
    }
}

fn has(text: &[u8], needle: &str) -> bool {
    memchr::memmem::find(text, needle.as_bytes()).is_some()
}

/// A cluster in the making, from nothing to the end: roles, passwords, base backups, everything; one
/// connection is cut on the way.
pub(super) fn stay_secret(lab: &Lab) {
    let plan = lab.cluster.dir().join("plan");
    let plan_name = plan.to_string_lossy().into_owned();
    let planned = lab.run(&["plan", "-D", "-vv", "--out", &plan_name]).exits(3);
    let sampler = Sampler::start();
    super::during::cut_off(lab);
    let applied = lab.run(&["apply", "-y", "-vv", "-D"]).exits(0);
    let (seen, rounds) = sampler.end();
    eprintln!("{rounds} looks at all processes, {} texts", seen.len());
    // It did look, and inside the hosts too.
    assert!(rounds > 50, "{rounds} rounds");
    for there in ["bin/initdb", "pg_basebackup", "PGPASSFILE="] {
        assert!(seen.iter().any(|text| has(text, there)), "{there} was never seen");
    }
    let replication = replication_password(lab);
    let journal = lab.cluster.dir().join("state/pgorch/faulty/journal.jsonl");
    let more = lab.run(&["apply", "-y", "-vv", "-D", "-o", "json"]).exits(0);
    let here = [
        ("plan", planned.stdout + &planned.stderr),
        ("plan file", fs::read_to_string(plan).expect("saved")),
        ("apply", applied.stdout + &applied.stderr),
        ("apply -o json", more.stdout + &more.stderr),
        ("journal", fs::read_to_string(journal).expect("a journal")),
    ];
    let needles = [lab.password.as_str(), &replication, "SCRAM-SHA-256$"];
    for needle in needles {
        for (name, text) in &here {
            assert!(!text.is_empty() && !text.contains(needle), "{needle} in {name}:\n{text}");
        }
        for text in &seen {
            let text_shown = String::from_utf8_lossy(text);
            assert!(!has(text, needle), "{needle} in a process: {text_shown}");
        }
    }
    for node in ["node1", "node2", "node3"] {
        on_host(lab, node, &needles);
    }
}

fn on_host(lab: &Lab, node: &str, needles: &[&str]) {
    let words = needles.iter().map(|needle| format!("-e {}", pgorch::model::quote(needle)));
    let words = words.collect::<Vec<_>>().join(" ");
    // The log holds nothing of it, not even the verifier.
    let log = format!("journalctl --no-pager -o cat | grep -cF {words} || :");
    assert_eq!(lab.cluster.sh(node, &log), "0", "{node}: journal");
    // Data and the password file of the nodes are where it belongs.
    let files = format!(
        "grep -rslaF {words} /etc /root /home /tmp /var/tmp /run /dev/shm /var/log \
         /var/lib/pgorch --exclude-dir=base --exclude-dir=global --exclude-dir=pg_wal \
         --exclude-dir=journal --exclude=passfile --exclude=.pgpass || :"
    );
    assert_eq!(lab.cluster.sh(node, &files), "", "{node}: files");
}

fn replication_password(lab: &Lab) -> String {
    let line = lab.cluster.sh(
        "node1",
        "cat /var/lib/pgorch/faulty/.pgpass /var/lib/pgorch/faulty/passfile 2>/dev/null || :",
    );
    let password = line.lines().last().and_then(|l| l.rsplit(':').next()).unwrap_or_default();
    assert!(password.len() > 10, "no replication password on node1: {line}");
    password.to_owned()
}

//! The lab's own hosts: made, disturbed, removed without a trace. One lab of two hosts for all.
//!
//! `PGORCH_LAB=required` makes a missing lab a failure; otherwise it is skipped, loudly.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use pgorch::lab::{
    Fault, HostSpec, HostState, LabError, LabKey, Spec, down, fault, list, parse_fault, reset,
    ssh_argv, status, up,
};

/// The lab of a test; removed however the test ends.
struct Guard(LabKey);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = down(&self.0);
    }
}

impl Guard {
    fn new(name: &str) -> Self {
        let guard =
            Guard(LabKey::named(format!("/tests/lab_backend/{name}/{}", std::process::id())));
        down(&guard.0).expect("nothing is left of an earlier run");
        guard
    }

    fn spec(&self, hosts: &[(&str, Option<Ipv4Addr>)]) -> Spec {
        let host = |(name, address): &(&str, Option<Ipv4Addr>)| HostSpec {
            name: (*name).to_owned(),
            address: *address,
        };
        Spec::new(self.0.clone(), "bookworm", hosts.iter().map(host).collect())
    }

    fn fault(&self, words: &str) -> bool {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let parsed = parse_fault(&words).expect("a fault");
        fault(&self.0, &parsed).unwrap_or_else(|e| panic!("{words:?}: {e}")).changed
    }

    fn ssh(&self, host: &str, line: &str) -> Output {
        let mut argv = ssh_argv(&self.0, host, &[line.to_owned()]).expect("a host");
        argv.splice(1..1, ["-o", "BatchMode=yes", "-o", "ConnectTimeout=3"].map(Into::into));
        Command::new(&argv[0]).args(&argv[1..]).output().expect("ssh runs")
    }

    fn says(&self, host: &str, line: &str) -> String {
        let output = self.ssh(host, line);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{host}: {line}: {error}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn state(&self, host: &str) -> HostState {
        let lab = status(&self.0).expect("a lab");
        lab.hosts.iter().find(|h| h.name == host).expect("the host").state
    }

    /// Whether `from` can open a connection to the sshd of `to`.
    fn reaches(&self, from: &str, to: &str) -> bool {
        let line = format!("timeout 1 bash -c 'exec 3<>/dev/tcp/{to}/22; head -c 4 <&3'");
        self.ssh(from, &line).status.success()
    }

    /// Whether a packet of `from` arrives at `to`, by the count of those that found no listener.
    fn is_heard(&self, from: &str, to: &str) -> bool {
        let count = "awk '/^Udp: [0-9]/ {print $3}' /proc/net/snmp";
        let before = self.says(to, count);
        self.says(from, &format!("echo x | timeout 5 bash -c 'cat > /dev/udp/{to}/9'"));
        self.says(to, count) != before
    }
}

fn wanted() -> bool {
    let required = std::env::var("PGORCH_LAB").is_ok_and(|v| v == "required" || v == "full");
    let root = Path::new("/proc/self").exists() && rustix::process::geteuid().is_root();
    if !root && !required {
        // Not eprintln: the test harness would keep it to itself.
        let text = "*** SKIPPED: the lab needs root on Linux; PGORCH_LAB=required insists ***";
        let _ = writeln!(
            std::io::stderr(),
            "
{text}
"
        );
    }
    root || required
}

/// What a lab must not leave behind, one fact a line. What belongs to another lab of this machine,
/// which may come and go meanwhile, is left out by its id.
fn traces() -> Vec<String> {
    let others: Vec<String> = list()
        .expect("labs")
        .iter()
        .filter(|lab| !lab.key.as_str().starts_with("/tests/lab_backend/"))
        .map(|lab| lab.dir.file_name().expect("a name").to_string_lossy().into_owned())
        .collect();
    let ours = |line: &&str| {
        (line.contains("pgorch-lab") || line.contains("pgl") || line.contains("vb-p"))
            && !others.iter().any(|id| line.contains(id.as_str()))
    };
    let mut found = Vec::new();
    let mut look = |what: &str, text: String| {
        found.extend(text.lines().filter(ours).map(|line| format!("{what}: {line}")));
    };
    let run = |argv: &[&str]| {
        let output = Command::new(argv[0]).args(&argv[1..]).output().expect("runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    look("mount", fs::read_to_string("/proc/self/mountinfo").expect("readable"));
    look("link", run(&["ip", "-o", "link"]));
    look("rule", run(&["iptables-save"]));
    look("cut", run(&["nft", "list", "tables"]));
    look("loop", run(&["losetup", "-a"]));
    look("cgroup", run(&["find", "/sys/fs/cgroup", "-maxdepth", "2", "-name", "pgorch-lab-*"]));
    look(
        "lab",
        run(&["find", "/var/lib/pgorch-lab/labs", "/var/lib/pgorch-lab/locks", "-mindepth", "1"]),
    );
    look("process", processes());
    look(
        "nspawn",
        run(&["find", "/run/systemd/nspawn/propagate", "-name", "p*-*"]).replace("/p", "/vb-p"),
    );
    if others.is_empty() {
        let locks =
            fs::read_dir("/run/systemd/nspawn/locks").map_or(0, |locks| locks.flatten().count());
        found.push(format!("locks of nspawn: {locks}"));
        let forwarding = run(&["cat", "/proc/sys/net/ipv4/ip_forward"]);
        found.push(format!("forwarding: {}", forwarding.trim()));
    }
    found.sort();
    found
}

/// The command lines of all nspawns that are alive.
fn processes() -> String {
    let mut text = String::new();
    for entry in fs::read_dir("/proc").expect("proc").flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains("systemd-nspawn") {
            text += &format!("{line}\n");
        }
    }
    text
}

#[test]
fn lab_hosts_live_break_heal_and_leave_nothing() {
    if !wanted() {
        return;
    }
    let before = traces();
    {
        let lab = Guard::new("all");
        comes_up_and_is_left_alone(&lab);
        accounts_and_names_are_those_of_a_real_host(&lab);
        links_are_cut_in_one_direction_and_in_both(&lab);
        freezing_keeps_connections(&lab);
        a_full_disk_stays_full_until_it_is_freed(&lab);
        power_loss_keeps_disks_and_says_no_goodbye(&lab);
        killing_and_stopping(&lab);
        reset_is_pristine_and_fast(&lab);
        another_lab_is_kept_apart(&lab);
    }
    assert_eq!(traces(), before, "something is left behind");
}

fn comes_up_and_is_left_alone(lab: &Guard) {
    // Its write end would stay open in a host that inherited it, and the read end never see the end.
    let (mut read, write) = std::io::pipe().expect("a pipe");
    let inherited = rustix::io::dup(&write).expect("a descriptor that programs inherit");
    drop(write);
    let hosts = [("node1", None), ("node2", None)];
    let first = up(&lab.spec(&hosts), &mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((first.made.len(), first.changed), (2, true));
    let start = Instant::now();
    let again = up(&lab.spec(&hosts), &mut |_| {}).expect("up again");
    assert!(!again.changed && again.made.is_empty() && again.started.is_empty());
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    drop(inherited);
    assert_eq!(read.read(&mut [0]).expect("the end"), 0);
    assert!(list().expect("labs").iter().any(|known| known.key == lab.0));
}

fn accounts_and_names_are_those_of_a_real_host(lab: &Guard) {
    assert_eq!(lab.says("node1", "hostname; systemctl is-system-running"), "node1\nrunning");
    assert_eq!(lab.says("admin@node1", "sudo -n id -un"), "root");
    let asked = "sudo -n true 2>/dev/null && exit 1; echo operator-password | sudo -S -p '' id -un";
    assert_eq!(lab.says("operator@node1", asked), "root");
    assert!(lab.reaches("node1", "node2") && lab.reaches("node2", "node1"));
    let ids = ["node1", "node2"]
        .map(|host| lab.says(host, "cat /etc/machine-id; journalctl -n1 >/dev/null"));
    assert_ne!(ids[0], ids[1]);
    assert!(
        lab.says("node1", "apt-get install --simulate postgresql-15")
            .contains("Inst postgresql-15")
    );
}

fn links_are_cut_in_one_direction_and_in_both(lab: &Guard) {
    assert!(lab.fault("cut node1 to node2"));
    assert!(!lab.fault("cut node1 to node2"), "it is cut already");
    assert!(!lab.reaches("node1", "node2") && !lab.reaches("node2", "node1"));
    // One direction only: what node2 sends still arrives at node1, and what node1 sends does not.
    assert!(lab.is_heard("node2", "node1") && !lab.is_heard("node1", "node2"));
    assert!(lab.fault("cut node1 node2"));
    assert!(!lab.reaches("node2", "node1"));
    assert!(lab.fault("heal node2 node1"));
    assert!(lab.reaches("node1", "node2") && lab.reaches("node2", "node1"));

    let address = status(&lab.0).expect("lab").hosts[0].address;
    let mut open = connect(address).expect("sshd answers");
    assert!(lab.fault("cut controller node1"));
    assert!(connect(address).is_none());
    // A connection that was there is silent too: no end of file, no reset.
    let _ = open.write_all(b"SSH-2.0-test\r\n");
    assert!(is_silent(&mut open));
    assert!(lab.fault("heal") && connect(address).is_some());
}

fn freezing_keeps_connections(lab: &Guard) {
    let address = status(&lab.0).expect("lab").hosts[0].address;
    assert!(lab.fault("freeze node1"));
    assert_eq!(lab.state("node1"), HostState::Frozen);
    // The kernel still accepts, and nobody behind it speaks.
    let socket = SocketAddr::from((address, 22));
    let mut stream = TcpStream::connect_timeout(&socket, Duration::from_secs(1)).expect("accepts");
    assert!(is_silent(&mut stream));
    assert!(lab.fault("thaw node1") && connect(address).is_some());
}

fn a_full_disk_stays_full_until_it_is_freed(lab: &Guard) {
    lab.says("node1", "echo kept > /var/lib/pgorch/file; sync");
    assert!(lab.fault("fill-disk node1"));
    let write = "dd if=/dev/zero of=/var/lib/pgorch/more bs=1M count=1 2>&1";
    let full = lab.ssh("node1", write);
    let text = String::from_utf8_lossy(&full.stdout).into_owned();
    assert!(!full.status.success() && text.contains("No space left"), "{text}");
    assert!(lab.fault("power-off node1") && lab.fault("start node1"));
    assert!(!lab.ssh("node1", write).status.success(), "full after a power-off too");
    assert!(lab.fault("free-disk node1"));
    lab.says("node1", write);
}

fn power_loss_keeps_disks_and_says_no_goodbye(lab: &Guard) {
    let address = status(&lab.0).expect("lab").hosts[0].address;
    let boot = "cat /proc/sys/kernel/random/boot_id";
    let before = lab.says("node1", boot);
    lab.says("node1", "echo kept > /etc/kept; sync");
    let mut open = connect(address).expect("sshd answers");
    assert!(lab.fault("power-off node1"));
    assert_eq!(lab.state("node1"), HostState::Stopped);
    assert!(is_silent(&mut open), "dying sockets must not be heard");
    assert!(lab.fault("start node1"));
    assert_ne!(lab.says("node1", boot), before);
    assert_eq!(lab.says("node1", "cat /etc/kept /var/lib/pgorch/file"), "kept\nkept");
}

fn killing_and_stopping(lab: &Guard) {
    lab.says("node1", "systemd-run --unit=victim sleep 1000");
    assert!(lab.fault("kill node1 victim"));
    let result = "for i in 1 2 3 4 5 6 7 8 9; do systemctl show victim -p Result; sleep 0.1; done";
    assert!(lab.says("node1", result).contains("Result=signal"));
    lab.says("node1", "systemd-run --unit=victim2 sleep 1000");
    assert!(lab.fault("kill node1 sleep"));
    let nobody = fault(&lab.0, &Fault::Kill { host: "node1".into(), process: "postmaster".into() });
    assert!(matches!(nobody, Err(LabError::NoProcess { .. })));
    // A reboot from inside keeps the network.
    let boot = "cat /proc/sys/kernel/random/boot_id";
    let before = lab.says("node2", boot);
    let _ = lab.ssh("node2", "systemctl reboot");
    let start = Instant::now();
    let rebooted = || {
        let output = lab.ssh("node2", boot);
        output.status.success() && String::from_utf8_lossy(&output.stdout).trim() != before
    };
    while !rebooted() {
        assert!(start.elapsed() < Duration::from_secs(60), "no return from a reboot");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(lab.fault("stop node2"));
    assert_eq!(lab.state("node2"), HostState::Stopped);
    let hosts = [("node1", None), ("node2", None)];
    let again = up(&lab.spec(&hosts), &mut |_| {}).expect("up");
    assert_eq!(again.started, ["node2"]);
}

fn reset_is_pristine_and_fast(lab: &Guard) {
    assert!(lab.fault("cut node1 node2"));
    let start = Instant::now();
    reset(&lab.0, &[], &mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    assert_eq!(
        lab.says("node1", "ls /etc/kept /var/lib/pgorch 2>/dev/null; true"),
        "/var/lib/pgorch:"
    );
    assert!(lab.reaches("node1", "node2"));
}

fn another_lab_is_kept_apart(lab: &Guard) {
    let other = Guard::new("other");
    let taken = status(&lab.0).expect("lab").hosts[0].address;
    let error = up(&other.spec(&[("x", Some(taken))]), &mut |_| {}).expect_err("taken");
    assert!(error.to_string().contains(lab.0.as_str()), "{error}");
    up(&other.spec(&[("node1", None)]), &mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
    assert_ne!(status(&other.0).expect("lab").hosts[0].address, taken);
    assert_eq!(other.says("node1", "hostname"), "node1");
    assert!(down(&other.0).expect("down").existed);
    assert!(!down(&other.0).expect("down").existed);
    assert_eq!(lab.says("node1", "hostname"), "node1");
}

/// An open connection to the host's sshd that has sent its banner.
fn connect(address: Ipv4Addr) -> Option<TcpStream> {
    let socket = SocketAddr::from((address, 22));
    let mut stream = TcpStream::connect_timeout(&socket, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    let mut banner = [0; 256];
    let read = stream.read(&mut banner).ok()?;
    banner.get(..read)?.starts_with(b"SSH-").then_some(stream)
}

/// Whether nothing at all comes for a second: no data, no end, no reset.
fn is_silent(stream: &mut TcpStream) -> bool {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let timed_out =
        |kind| matches!(kind, std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
    stream.read(&mut [0; 16]).is_err_and(|error| timed_out(error.kind()))
}

#!/usr/bin/env python3
"""What a failure of the primary costs: pgorch's watch, repmgrd, Patroni and pg_auto_failover.

Each tool has lab hosts of its own (`pgorch lab`, so: Linux, root) with PostgreSQL 15 from Debian's packages.
A client of each server (prober.py) writes 100 rows a second wherever it may and keeps a ledger. The primary is
broken, the fault is healed, and the cluster is looked at until it is whole. Nothing is asserted but that there was a
primary; lost rows and two primaries are figures. README.md says what is compared and how.
"""

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from clusters import (
    BIN, DEBIAN_DATA, LABS, LEDGER, PINS, POSTGRES, VERSION, Cluster, Patroni, Pgorch, Repmgr, venv_python,
)
from common import HERE, ROOT, Failed, cache_dir, in_parallel, load, run, say

RATE = 100
# Seconds: writes before the fault; how long writes may stay away; how long a fault lasts at least, and after
# writes are back; how long a cluster may take to become whole afterwards.
BEFORE, WITHIN, LASTS, LASTS_AFTER, WHOLE = 3.0, 120.0, 10.0, 10.0, 60.0


# ---- the tools, each at its default and at its fastest documented settings --------------------------


class Watched(Pgorch):
    """`pgorch watch` on the controller."""

    failover, more = "failover: { mode: automatic }\n", ""

    def make(self):
        self.write_inventory(self.dir / "pgorch.yml", POSTGRES + self.more + self.failover)
        run([self.pgorch, "apply", self.dir / "pgorch.yml", "-y"], env=self.env, cwd=self.dir)
        self.psql("node1", LEDGER)
        self.watch = None

    def pgorch_run(self, *argv):
        return run([self.pgorch, *argv, "-i", str(self.dir / "pgorch.yml"), "-y"], env=self.env, cwd=self.dir)

    def start(self):
        if not self.state(self.primary):
            self.pgorch_run("start", "--all")
        self.wait_whole()
        log = (self.dir / "watch.log").open("ab")
        self.watch = subprocess.Popen(
            [self.pgorch, "watch", "-i", str(self.dir / "pgorch.yml"), "-o", "json"], stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, env=self.env, cwd=self.dir)
        time.sleep(3)

    def stop(self):
        self.end_watch()
        self.pgorch_run("stop", "--primary", *self.names)

    def end_watch(self):
        if self.watch and self.watch.poll() is None:
            self.watch.send_signal(signal.SIGINT)
            self.watch.wait(timeout=60)

    def restore(self):
        """It heals itself; only its brake is let go."""
        self.wait_whole()
        self.pgorch_run("ack")

    def down(self):
        self.end_watch()
        super().down()


class WatchedQuorum(Watched):
    more = "replication: { mode: quorum, sync_standbys: 1 }\n"


class Restored(Cluster):
    """A tool that may leave its cluster in pieces: what is on the disks is put back after each fault."""

    # Of the whole tool, in the order of a start.
    services = ()
    kept = ("/var/lib/postgresql",)

    def keep(self):
        self.stop()
        script = "set -e; rm -rf /root/kept\n" + "".join(
            f"mkdir -p $(dirname /root/kept{d}); cp -a {d} /root/kept{d}\n" for d in self.kept)
        in_parallel(lambda name: self.ssh(name, script), self.names)

    def restore(self):
        self.stop()
        self.put_back()
        self.primary = "node1"
        self.start()

    def put_back(self):
        script = "set -e\n" + "".join(f"rm -rf {d}; cp -a /root/kept{d} {d}\n" for d in self.kept)
        in_parallel(lambda name: self.ssh(name, script), self.names)

    def stop(self):
        for service in reversed(self.services):
            in_parallel(lambda n: self.ssh(n, f"systemctl stop {service}; systemctl reset-failed"), self.names)
        # A server that nobody's unit knows any more.
        script = "pids=$(pgrep -u postgres -x postgres) && kill -9 $pids; rm -f /run/postgresql/.s.*; true"
        in_parallel(lambda name: self.ssh(name, script), self.names)


class Repmgrd(Restored, Repmgr):
    packages = Repmgr.packages + " repmgr"
    services = (Repmgr.service, "repmgrd")
    settings = "shared_preload_libraries = 'repmgr'"
    repmgr_conf = """failover=automatic
promote_command='/usr/bin/repmgr -f /etc/repmgr.conf standby promote'
follow_command='/usr/bin/repmgr -f /etc/repmgr.conf standby follow --upstream-node-id=%n'
log_file='/var/log/postgresql/repmgrd.log'"""

    def make(self):
        super().make()
        script = """printf 'REPMGRD_ENABLED=yes\\nREPMGRD_CONF=/etc/repmgr.conf\\n' >/etc/default/repmgrd
            systemctl daemon-reload; systemctl enable -q repmgrd 2>/dev/null; true"""
        in_parallel(lambda name: self.ssh(name, script), self.names)
        self.keep()

    def start(self):
        self.systemctl("start", ["node1"], self.service)
        self.systemctl("start", self.names[1:], self.service)
        self.wait_whole("node1")
        self.systemctl("start", self.names, "repmgrd")
        time.sleep(5)


class RepmgrdFast(Repmgrd):
    """Each interval at its least, one attempt."""

    repmgr_conf = Repmgrd.repmgr_conf + "\nmonitor_interval_secs=1\nreconnect_attempts=1\nreconnect_interval=1"


class PatroniEtcd(Restored, Patroni):
    services = ("etcd", "patroni")
    kept = ("/var/lib/postgresql", "/var/lib/etcd")

    def make(self):
        super().make()
        # So that the sample's default waits do not hide in the first seconds after a start.
        self.ready()
        self.keep()

    def start(self):
        Patroni.start(self)

    def stop(self):
        Restored.stop(self)


class PatroniFast(PatroniEtcd):
    """The least `ttl` that it takes, with loop and retry as short as its rule about the three allows; no restart in place."""

    ttl, loop_wait, retry_timeout = 20, 1, 3
    dynamic = "primary_start_timeout: 0"


class AutoFailover(Restored):
    """pg_auto_failover with its monitor on a fourth host, as in its tutorial."""

    packages = f"postgresql-{VERSION}-auto-failover pg-auto-failover-cli"
    service = "pgautofailover"
    services = ("pgautofailover",)
    monitor_settings, keeper_timeouts = "", ""

    def __init__(self, pgorch, tool, bench):
        super().__init__(pgorch, tool, bench, 4)
        self.monitor = self.names[3]

    def up(self):
        super().up()
        self.everyone, self.names, self.count = self.names, self.names[:3], 3

    def install(self):
        servers, self.names = self.names, self.everyone
        super().install()
        self.names = servers

    def unit(self, data):
        return f"""cat >/etc/systemd/system/pgautofailover.service <<'END'
[Unit]
After=network-online.target
[Service]
User=postgres
WorkingDirectory=/var/lib/postgresql
Environment=PGDATA={data}
ExecStart=/usr/bin/pg_autoctl run
Restart=always
StartLimitBurst=0
RuntimeDirectory=postgresql
RuntimeDirectoryPreserve=yes
[Install]
WantedBy=multi-user.target
END
systemctl daemon-reload
systemctl enable -q pgautofailover
install -d -o postgres -g postgres /run/postgresql
"""

    def create(self, name, data, what):
        command = (f"cd /var/lib/postgresql && runuser -u postgres -- env PATH={BIN}:/usr/bin:/bin pg_autoctl create {what} "
                   f"--pgdata {data} --pgctl {BIN}/pg_ctl --pgport 5432 --hostname {self.address[name]} --auth trust --no-ssl")
        self.ssh(name, f"set -e\n{self.unit(data)}{command}")

    def make(self):
        self.install()
        monitor = "/var/lib/postgresql/monitor"
        self.create(self.monitor, monitor, "monitor")
        self.ssh(self.monitor, f"""set -e
            cat >>{monitor}/pg_hba.conf <<'END'
host all all {LABS} trust
END
            cat >>{monitor}/postgresql.conf <<'END'
{self.monitor_settings}
END
            systemctl start pgautofailover""")
        uri = f"postgres://autoctl_node@{self.address[self.monitor]}:5432/pg_auto_failover"
        for name in self.names:
            self.create(name, DEBIAN_DATA, f"postgres --name {name} --monitor '{uri}'")
            self.ssh(name, f"""set -e
                echo 'host app app {LABS} trust' >>{DEBIAN_DATA}/pg_hba.conf
                printf "shared_buffers = 64MB\\n" >>{DEBIAN_DATA}/postgresql.conf
                {self.keeper_timeouts}
                systemctl start pgautofailover""")
            until = time.monotonic() + 60
            while self.state(name) is None:
                if time.monotonic() > until:
                    raise Failed(f"{name} does not start")
                time.sleep(0.5)
        self.wait_whole("node1")
        self.psql("node1", f"CREATE ROLE app LOGIN;\nCREATE DATABASE app OWNER app;\n{LEDGER}")
        self.ready()
        self.keep()

    def in_everyone(self, work):
        servers, self.names = self.names, self.everyone
        work()
        self.names = servers

    def keep(self):
        self.in_everyone(super().keep)

    def stop(self):
        self.in_everyone(super().stop)

    def put_back(self):
        self.in_everyone(super().put_back)

    def start(self):
        self.systemctl("start", [self.monitor], "pgautofailover")
        self.systemctl("start", self.names, "pgautofailover")
        self.wait_whole()
        self.ready()

    def ready(self):
        """Until the monitor has assigned what it sees: nothing is under way."""
        until = time.monotonic() + 120
        sql = "SELECT string_agg(reportedstate || '/' || goalstate, ' ') FROM pgautofailover.node"
        while True:
            out = run(self.ssh_argv(self.monitor, "cd / && runuser -u postgres -- psql -XAtq -h /run/postgresql "
                                    "-d pg_auto_failover"), input=sql).strip()
            if sorted(out.split()) == ["primary/primary", "secondary/secondary", "secondary/secondary"]:
                return
            if time.monotonic() > until:
                raise Failed(f"pg_auto_failover: not ready: {out}")
            time.sleep(0.5)


class AutoFailoverFast(AutoFailover):
    """The timeouts that its manual names for the monitor, at about a second each; the keeper's likewise."""

    monitor_settings = """pgautofailover.health_check_period = 1000
pgautofailover.health_check_timeout = 1000
pgautofailover.health_check_retry_delay = 500
pgautofailover.health_check_max_retries = 1
pgautofailover.node_considered_unhealthy_timeout = 5000
pgautofailover.primary_demote_timeout = 5000"""
    keeper_timeouts = (f"runuser -u postgres -- pg_autoctl config set --pgdata {DEBIAN_DATA} "
                       "timeout.network_partition_timeout 5")


TOOLS = {
    "pgorch": Watched, "pgorch-quorum": WatchedQuorum,
    "repmgrd": Repmgrd, "repmgrd-fast": RepmgrdFast,
    "patroni": PatroniEtcd, "patroni-fast": PatroniFast,
    "pg_auto_failover": AutoFailover, "pg_auto_failover-fast": AutoFailoverFast,
}


# ---- the faults ---------------------------------------------------------------------------------


class Fault:
    """Breaks the primary `name`, and heals it again."""

    # Do clients of the primary's own network stay with it?
    pinned = False

    def __init__(self, cluster, name):
        self.cluster, self.name = cluster, name

    def lab(self, *words):
        run([self.cluster.pgorch, "lab", "fault", "-i", self.cluster.file, *words], env=self.cluster.env)

    def heal(self):
        pass


class Killed(Fault):
    """kill -9 of the postmaster; the host lives."""

    def strike(self):
        self.cluster.ssh(self.name, "kill -9 $(pgrep -u postgres -o -x postgres)")


class Stopped(Fault):
    """The unit that runs the server is stopped by hand."""

    def strike(self):
        self.cluster.ssh(self.name, f"systemctl stop {self.cluster.service}")

    def heal(self):
        if not isinstance(self.cluster, Watched):
            self.cluster.ssh(self.name, f"systemctl start {self.cluster.service}; true")


class Lost(Fault):
    """The host loses its power, and has it again."""

    def strike(self):
        self.lab("power-off", self.name)

    def heal(self):
        self.lab("start", self.name)


class Cut(Fault):
    """The primary's host reaches no other host, and none reaches it; clients on its side stay with it."""

    pinned = True

    def parties(self):
        # The controller is where pgorch decides; the others keep SSH from it, through which the bench looks.
        others = [n for n in getattr(self.cluster, "everyone", self.cluster.names) if n != self.name]
        return [*others, "controller"] if isinstance(self.cluster, Watched) else others

    def strike(self):
        for party in self.parties():
            self.lab("cut", self.name, party)

    def heal(self):
        for party in self.parties():
            self.lab("heal", self.name, party)


class Frozen(Fault):
    """All PostgreSQL processes stand still (SIGSTOP), and go on later."""

    def strike(self):
        self.cluster.ssh(self.name, "kill -STOP $(pgrep -u postgres -x postgres)")

    def heal(self):
        self.cluster.ssh(self.name, "pids=$(pgrep -u postgres -x postgres) && kill -CONT $pids; true")


FAULTS = {"killed": Killed, "stopped": Stopped, "lost": Lost, "cut": Cut, "frozen": Frozen}


# ---- one measurement ----------------------------------------------------------------------------


def inside(address):
    """How a command is run in the network of the lab host with that address."""
    seen = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            network = os.readlink(entry / "ns/net")
        except OSError:
            continue
        if network in seen:
            continue
        seen.add(network)
        argv = ["nsenter", f"--net=/proc/{entry.name}/ns/net"]
        shown = subprocess.run([*argv, "ip", "-o", "-4", "addr"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                               text=True)
        if f" {address}/" in shown.stdout:
            return argv
    raise Failed(f"no network of a lab host has {address}")


class Prober:
    """A client of one server; `on` has the moments at which it began to get rows acknowledged."""

    def __init__(self, cluster, name, pinned):
        base = (cluster.names.index(name) + 1) * 10**17 + int(time.time() * 1000) * 10**4
        argv = [venv_python(), HERE / "prober.py", str(RATE), cluster.address[name], str(base)]
        self.child = subprocess.Popen(
            [*(inside(cluster.address[name]) if pinned else []), *argv], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, env=cluster.env,
        )
        self.on, self.ledger = [], None
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.child.stdout:
            if line.startswith("on "):
                self.on.append(float(line.split()[1]))
            else:
                self.ledger = json.loads(line)

    def end(self):
        self.child.stdin.close()
        self.reader.join(30)
        if self.ledger is None:
            raise Failed("a client has ended without its ledger")
        return self.ledger

    def kill(self):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()


def until(condition, seconds, step=0.05):
    """Whether the condition has come true in time."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            return None
        time.sleep(step)
    return found


def become_whole(cluster):
    """(seconds until one primary has all standbys, or None; who is primary then; were there ever two?)"""
    began, two = time.monotonic(), False
    while time.monotonic() - began < WHOLE:
        states = dict(zip(cluster.names, in_parallel(cluster.state, cluster.names)))
        primaries = [n for n, s in states.items() if s and s[0]]
        two = two or len(primaries) > 1
        if len(primaries) == 1 and states[primaries[0]][1] == cluster.count - 1:
            return time.monotonic() - began, primaries[0], two
        time.sleep(0.2)
    return None, None, two


def measure(cluster, fault_name):
    old = cluster.wait_whole()
    fault = FAULTS[fault_name](cluster, old)
    row = {"fault": fault_name, "old": old, "load": load()}
    probers = {n: Prober(cluster, n, fault.pinned and n == old) for n in cluster.names}
    try:
        if not until(lambda: probers[old].on, 10):
            raise Failed(f"{cluster.tool}: nobody can write to {old}")
        time.sleep(BEFORE)
        struck = time.monotonic()
        fault.strike()

        def back():
            # On the side of a cut that has the majority, rows of the old primary do not count.
            counting = [n for n in cluster.names if not (fault.pinned and n == old)]
            return any(t > struck for n in counting for t in probers[n].on)

        found = until(back, WITHIN)
        time.sleep(max(LASTS_AFTER if fault.pinned else 1.0, struck + LASTS - time.monotonic()))
        fault.heal()
        whole, primary, two = become_whole(cluster)
        time.sleep(1)
        ledgers = {n: p.end() for n, p in probers.items()}
    finally:
        for prober in probers.values():
            prober.kill()
    counting = sorted(t for n, rows in ledgers.items() for t, _ in rows if not (fault.pinned and n == old and t > struck))
    gaps = [b - a for a, b in zip(counting, counting[1:]) if b > struck]
    # Whoever took the place is the one that counts; what it has not is lost.
    successors = [(rows[-1][0], n) for n, rows in ledgers.items() if n != old and rows]
    keeper = primary or (max(successors)[1] if successors else old)
    present = {int(line) for line in cluster.psql(keeper, "\\connect app\nSELECT id FROM ledger").split()}
    acknowledged = {i for rows in ledgers.values() for _, i in rows}
    mine = [t for t, _ in ledgers[old]]
    others = [t for n, rows in ledgers.items() if n != old for t, _ in rows]
    overlap = max(0.0, max(mine) - min(others)) if mine and others else 0.0
    row |= {
        "outage_seconds": max(gaps) if found and gaps else None, "whole_seconds": whole, "new": keeper,
        "two_primaries": two, "overlap_seconds": overlap, "rows": len(acknowledged),
        "lost": len(acknowledged - present), "restarted_in_place": not others,
        "confirmed_late_seconds": max((t - struck for t in mine), default=0.0) if others else 0.0,
    }
    cluster.primary = keeper
    return row


# ---- the report ---------------------------------------------------------------------------------


def spread(values):
    if not values:
        return "never"
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def cell(rows):
    there = [r["outage_seconds"] for r in rows if r["outage_seconds"] is not None]
    text = spread(there)
    if there and len(there) < len(rows):
        text += f", {len(rows) - len(there)} of {len(rows)} never"
    text += f"; lost {max(r['lost'] for r in rows)}"
    overlap = max(r["overlap_seconds"] for r in rows)
    if overlap > 0:
        text += f"; two confirm for {overlap:.2f} s"
    elif any(r["two_primaries"] for r in rows):
        text += "; two primaries"
    whole = [r["whole_seconds"] for r in rows if r["whole_seconds"] is not None]
    return text + (f"; whole {statistics.median(whole):.1f}" if len(whole) == len(rows) else "; not whole")


def table(runs, faults):
    lines = ["| | " + " | ".join(faults) + " |", "|---" * (len(faults) + 1) + "|"]
    for tool, rows in runs.items():
        cells = [cell(of) if (of := [r for r in rows if r["fault"] == f]) else "-" for f in faults]
        lines.append(f"| {tool} | " + " | ".join(cells) + " |")
    loads = [r["load"] for rows in runs.values() for r in rows]
    lines += ["", "Write outage in seconds, median (least-most); rows lost at worst; how long old and new primary both "
              "confirmed; seconds from the end of the fault until one primary had all standbys. "
              f"Load average {min(loads):.1f}-{max(loads):.1f} on {os.cpu_count()} processors."]
    return "\n".join(lines) + "\n"


# ---- all of it ----------------------------------------------------------------------------------


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--rounds", type=int, default=10, help="of pgorch (default 10)")
    options.add_argument("--peer-rounds", type=int, default=3, help="of each of the others (default 3)")
    options.add_argument("--only", choices=list(TOOLS), action="append", help="may be repeated; default: all")
    options.add_argument("--fault", choices=list(FAULTS), action="append", help="may be repeated; default: all")
    options.add_argument("--pgorch", default=ROOT / "target/release/pgorch", type=Path, metavar="PATH")
    options.add_argument("--json", type=Path, metavar="FILE", help="default: in the cache directory")
    options.add_argument("--keep", action="store_true", help="leave the labs up")
    args = options.parse_args()
    chosen = [t for t in TOOLS if t in (args.only or TOOLS)]
    faults = [f for f in FAULTS if f in (args.fault or FAULTS)]
    args.json = args.json or cache_dir() / "failover.json"
    args.json.parent.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        sys.exit("making lab hosts needs root")
    pgorch = str(args.pgorch.resolve())
    report = {
        "schema": 1, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "processors": os.cpu_count(),
        "kernel": platform.release(), "pgorch": run([pgorch, "--version"]).strip(), "pins": PINS, "rate": RATE,
        "runs": {tool: [] for tool in chosen},
    }
    venv_python()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    clusters = {}
    try:
        for tool in chosen:
            began = time.monotonic()
            cluster = clusters[tool] = TOOLS[tool](pgorch, tool, "failover")
            cluster.up()
            cluster.make()
            if isinstance(cluster, Watched):
                cluster.pgorch_run("stop", "--primary", *cluster.names)
            say(f"{tool}: hosts and a cluster, in {time.monotonic() - began:.0f} s")
        for number in range(max(args.rounds, args.peer_rounds)):
            for tool, cluster in clusters.items():
                if number >= (args.rounds if isinstance(cluster, Watched) else args.peer_rounds):
                    continue
                cluster.start()
                for fault in faults:
                    row = measure(cluster, fault)
                    report["runs"][tool].append({"round": number + 1, **row})
                    say(f"  {number + 1} {tool} {fault}: {cell([row])} (load {row['load']:.1f})")
                    report["table"] = table({k: v for k, v in report["runs"].items() if v}, faults)
                    args.json.write_text(json.dumps(report, indent=1) + "\n")
                    cluster.restore()
                cluster.stop()
        say("\n" + report["table"])
    except Failed as failure:
        sys.exit(f"{failure}\nwhat each tool wrote: {cache_dir()}/failover-*")
    finally:
        if not args.keep:
            for cluster in clusters.values():
                cluster.down()
    say(f"as JSON: {args.json}")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""How long writes stop in a planned switchover: pgorch, repmgr and Patroni, under load.

Each tool has three lab hosts of its own (`pgorch lab`, so: Linux, root) with PostgreSQL 15 from
Debian's packages; only the servers of the one that is measured run. A writer on this machine
(writer.py) inserts 100 rows a second and keeps a ledger of what was acknowledged. In every round each
tool switches there and back. Figures are told as ratios to pgorch; nothing is asserted but that no
acknowledged row is lost and that there is one primary. README.md says what is compared and how.
"""

import argparse
import json
import os
import platform
import re
import shlex
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from common import (
    HERE, ROOT, Failed, Hosts, cache_dir, clean_env, ensure_venv, in_parallel, load, run, say, timed,
)

PINS = ["psycopg2-binary==2.9.10"]
VERSION = 15
RATE = 100
TITLES = {"pgorch": "pgorch switchover", "repmgr": "repmgr standby switchover",
          "patroni": "patronictl switchover"}
# How long writes are watched before the command, and after all standbys stream again.
BEFORE, AFTER = 3.0, 1.0
WHOLE_WITHIN = 120.0
# The labs' networks; the writer's role comes in without a password everywhere.
LABS = "198.18.0.0/15"
BIN = f"/usr/lib/postgresql/{VERSION}/bin"
DEBIAN_DATA = f"/var/lib/postgresql/{VERSION}/main"
# The password of the labs' replication roles.
SECRET = "bench"

POSTGRES = f"""\
postgres:
  version: {VERSION}
  parameters: {{ shared_buffers: 64MB }}
  hba:
    - host app app {LABS} trust
  roles:
    - {{ name: app, attributes: [login] }}
  databases:
    - {{ name: app, owner: app }}
"""
LEDGER = "\\connect app\nSET ROLE app;\nCREATE TABLE ledger (id bigint PRIMARY KEY);\n"


def venv_dir():
    return cache_dir() / ("venv-switchover-" + re.sub(r"[^0-9.]", "", PINS[0].split("==")[1]))


# ---- the clusters -------------------------------------------------------------------------------


class Cluster(Hosts):
    """Three hosts and what makes, starts, stops and switches the tool's cluster on them."""

    # Of the tool, besides PostgreSQL's.
    packages = ""
    # The unit that runs the server.
    service = ""

    def __init__(self, pgorch, tool):
        super().__init__(pgorch, f"switchover-{tool}", f"bench-{tool}", 3)
        self.tool = tool
        self.env = clean_env(self.dir / "state")
        self.primary = "node1"

    def install(self):
        """The packages; no server of theirs is made or started."""
        packages = f"postgresql-{VERSION} postgresql-client-{VERSION} {self.packages}"
        script = f"""set -e
            export DEBIAN_FRONTEND=noninteractive
            mkdir -p /etc/postgresql-common/createcluster.d
            echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/bench.conf
            printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d
            chmod 755 /usr/sbin/policy-rc.d
            get() {{ apt-get -qq -y install --no-install-recommends {packages} >/root/apt.log 2>&1; }}
            get || {{ apt-get -qq update; get; }} || {{ tail /root/apt.log; exit 1; }}
            rm /usr/sbin/policy-rc.d
            sync"""
        in_parallel(lambda name: self.ssh(name, script), self.names)

    def state(self, name):
        """(is primary, standbys that stream from it), or None where no server answers."""
        try:
            out = self.psql(name, "SELECT NOT pg_is_in_recovery(), "
                            "(SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming')")
        except Failed:
            return None
        primary, streaming = out.split("|")
        return primary == "t", int(streaming)

    def wait_whole(self, primary=None):
        """Until exactly one node is primary (that one) and all others stream from it; who it is."""
        until = time.monotonic() + WHOLE_WITHIN
        while True:
            states = dict(zip(self.names, in_parallel(self.state, self.names)))
            primaries = [n for n, s in states.items() if s and s[0]]
            if len(primaries) == 1 and all(states.values()) and primary in (None, primaries[0]):
                if states[primaries[0]][1] == self.count - 1:
                    return primaries[0]
            if time.monotonic() > until:
                raise Failed(f"{self.tool}: not whole within {WHOLE_WITHIN:.0f} s: {states}")
            time.sleep(0.2)

    def ready(self):
        """Until the tool itself is ready too, where that takes longer than the servers."""

    def systemctl(self, verb, names, service):
        in_parallel(lambda n: self.ssh(n, f"systemctl {verb} {service}"), names)

    def others(self):
        return [n for n in self.names if n != self.primary]

    def start(self):
        self.systemctl("start", [self.primary], self.service)
        self.systemctl("start", self.others(), self.service)
        self.wait_whole(self.primary)
        self.ready()

    def stop(self):
        # The primary first: the standbys get all of its WAL.
        self.systemctl("stop", [self.primary], self.service)
        self.systemctl("stop", self.others(), self.service)

    def conninfo(self):
        hosts = ",".join(self.address.values())
        return (f"host={hosts} user=app dbname=app target_session_attrs=read-write "
                "connect_timeout=2 sslmode=disable")


class Pgorch(Cluster):
    service = "pgorch-bench-pgorch"

    def make(self):
        self.write_inventory(self.dir / "pgorch.yml", POSTGRES)
        # From there, so that no playbook or template of the source tree is used instead of the binary's.
        run([self.pgorch, "apply", self.dir / "pgorch.yml", "-y"], env=self.env, cwd=self.dir)
        self.psql("node1", LEDGER)

    def command(self, to):
        return [self.pgorch, "switchover", "-i", str(self.dir / "pgorch.yml"), "--to", to, "-y"]

    def checks(self, to):
        return [*self.command(to), "--dry-run", "-v"]


class Repmgr(Cluster):
    """As in repmgr's quick start, with what its manual's chapter on switchover asks for besides."""

    packages = f"postgresql-{VERSION}-repmgr openssh-client sudo"
    service = f"postgresql@{VERSION}-main"

    def make(self):
        self.install()
        key = self.dir / "postgres_key"
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "postgres", "-f", key])
        in_parallel(lambda name: self.ssh(name, self.prepare_script(name, key)), self.names)
        self.systemctl("start", ["node1"], self.service)
        self.psql("node1", f"CREATE ROLE repmgr SUPERUSER LOGIN PASSWORD '{SECRET}';\n"
                  "CREATE DATABASE repmgr OWNER repmgr;\n"
                  f"CREATE ROLE app LOGIN;\nCREATE DATABASE app OWNER app;\n{LEDGER}")
        run(self.as_postgres("node1", "repmgr primary register"))
        for name in self.names[1:]:
            run(self.as_postgres(name, f"repmgr -h {self.address['node1']} -U repmgr -d repmgr "
                                 "standby clone --fast-checkpoint"))
            self.systemctl("start", [name], self.service)
            run(self.as_postgres(name, "repmgr standby register"))
        # Each must reach each, which repmgr's manual says to try by hand.
        for name in self.names:
            for address in self.address.values():
                run(self.as_postgres(name, f"ssh -o BatchMode=yes {address} true"))

    def prepare_script(self, name, key):
        commands = {verb: f"/usr/bin/systemctl {verb} {self.service}"
                    for verb in ["start", "stop", "restart", "reload"]}
        services = "\n".join(f"service_{verb}_command='sudo {c}'" for verb, c in commands.items())
        etc = f"/etc/postgresql/{VERSION}/main"
        return f"""set -e
pg_createcluster {VERSION} main -- --data-checksums --encoding=UTF8 --locale=C.UTF-8 >/root/cluster.log
[ {name} = node1 ] || rm -r {DEBIAN_DATA}
cat >{etc}/conf.d/bench.conf <<'END'
listen_addresses = '*'
shared_buffers = 64MB
wal_log_hints = on
END
cat >>{etc}/pg_hba.conf <<'END'
host app app {LABS} trust
host repmgr,replication repmgr {LABS} scram-sha-256
END
cat >/etc/repmgr.conf <<'END'
node_id={self.names.index(name) + 1}
node_name='{name}'
conninfo='host={self.address[name]} user=repmgr dbname=repmgr connect_timeout=2'
data_directory='{DEBIAN_DATA}'
config_directory='{etc}'
pg_bindir='{BIN}'
use_replication_slots=yes
{services}
service_promote_command='/usr/bin/pg_ctlcluster {VERSION} main promote'
END
echo 'postgres ALL = NOPASSWD: {", ".join(commands.values())}' >/etc/sudoers.d/repmgr
cd ~postgres
mkdir -p .ssh
echo '*:*:*:repmgr:{SECRET}' >.pgpass
cat >.ssh/id_ed25519 <<'END'
{key.read_text().strip()}
END
cat >.ssh/authorized_keys <<'END'
{key.with_suffix(".pub").read_text().strip()}
END
cat >.ssh/known_hosts <<'END'
{self.known_hosts.read_text().strip()}
END
chmod 700 .ssh
chmod 600 .pgpass .ssh/*
chown -R postgres: .pgpass .ssh
"""

    def as_postgres(self, name, command):
        return self.ssh_argv(name, f"cd / && runuser -u postgres -- {command}")

    def command(self, to):
        return self.as_postgres(to, "repmgr standby switchover --siblings-follow")

    def checks(self, to):
        return self.as_postgres(to, "repmgr standby switchover --siblings-follow --dry-run")


class Patroni(Cluster):
    """With etcd on the same three hosts and the timing of Patroni's (and Debian's) sample file."""

    packages = "patroni python3-etcd etcd-server"
    service = "patroni"

    def make(self):
        self.install()
        in_parallel(lambda name: self.ssh(name, self.prepare_script(name)), self.names)
        self.start()
        self.psql("node1", f"CREATE ROLE app LOGIN;\nCREATE DATABASE app OWNER app;\n{LEDGER}")

    def prepare_script(self, name):
        address = self.address[name]
        peers = ",".join(f"{n}=http://{a}:2380" for n, a in self.address.items())
        clients = ", ".join(f"'{a}:2379'" for a in self.address.values())
        return f"""set -e
cat >/etc/default/etcd <<'END'
ETCD_NAME={name}
ETCD_LISTEN_PEER_URLS=http://{address}:2380
ETCD_LISTEN_CLIENT_URLS=http://{address}:2379,http://127.0.0.1:2379
ETCD_INITIAL_ADVERTISE_PEER_URLS=http://{address}:2380
ETCD_ADVERTISE_CLIENT_URLS=http://{address}:2379
ETCD_INITIAL_CLUSTER={peers}
ETCD_INITIAL_CLUSTER_STATE=new
ETCD_INITIAL_CLUSTER_TOKEN=bench
END
cat >/etc/patroni/config.yml <<'END'
scope: bench
name: {name}
etcd3: {{ hosts: [{clients}] }}
restapi: {{ listen: '{address}:8008', connect_address: '{address}:8008' }}
bootstrap:
  dcs:
    ttl: 30
    loop_wait: 10
    retry_timeout: 10
    maximum_lag_on_failover: 1048576
    postgresql:
      use_pg_rewind: true
      use_slots: true
      parameters: {{ shared_buffers: 64MB }}
  initdb:
    - data-checksums
    - encoding: UTF8
    - locale: C.UTF-8
postgresql:
  listen: '*:5432'
  connect_address: '{address}:5432'
  data_dir: {DEBIAN_DATA}
  bin_dir: {BIN}
  pgpass: /var/lib/postgresql/patroni.pgpass
  use_unix_socket: true
  parameters: {{ unix_socket_directories: /run/postgresql }}
  pg_hba:
    - local all all peer
    - host app app {LABS} trust
    - host all postgres {LABS} scram-sha-256
    - host replication replicator {LABS} scram-sha-256
  authentication:
    superuser: {{ username: postgres, password: {SECRET} }}
    replication: {{ username: replicator, password: {SECRET} }}
END
chown postgres: /etc/patroni/config.yml
chmod 600 /etc/patroni/config.yml
install -d -o postgres -g postgres -m 755 /var/lib/postgresql/{VERSION}
"""

    def start(self):
        self.systemctl("start", self.names, "etcd")
        # The last leader first, or another may be quicker.
        self.systemctl("start", [self.primary], self.service)
        until = time.monotonic() + WHOLE_WITHIN
        while (self.state(self.primary) or (False, 0))[0] is not True:
            if time.monotonic() > until:
                raise Failed(f"patroni: {self.primary} does not become the leader")
            time.sleep(0.5)
        self.systemctl("start", self.others(), self.service)
        self.wait_whole(self.primary)
        self.ready()

    def stop(self):
        # The leader last: with nobody else at work it stays the leader.
        self.systemctl("stop", self.others(), self.service)
        self.systemctl("stop", [self.primary], self.service)
        self.systemctl("stop", self.names, "etcd")

    def ready(self):
        """Members tell their state to etcd once a loop (10 s), and patronictl goes by that."""
        until = time.monotonic() + WHOLE_WITHIN
        while True:
            members = json.loads(run(self.patronictl("node1", "list bench -f json")))
            healthy = [m for m in members if m["State"] in ("running", "streaming")]
            leader = [m["Member"] for m in members if m["Role"] == "Leader"]
            same = len({m.get("TL") for m in members}) == 1
            if len(healthy) == self.count and leader == [self.primary] and same:
                return
            if time.monotonic() > until:
                raise Failed(f"patroni: not ready: {members}")
            time.sleep(0.5)

    def patronictl(self, name, command):
        return self.ssh_argv(name, f"patronictl -c /etc/patroni/config.yml {command}")

    def command(self, to):
        return self.patronictl(to, f"switchover bench --leader {self.primary} --candidate {to} --force")

    def checks(self, to):
        # patronictl has no such thing.
        return None


CLUSTERS = {"pgorch": Pgorch, "repmgr": Repmgr, "patroni": Patroni}


# ---- one measurement ----------------------------------------------------------------------------


class Writer:
    def __init__(self, cluster):
        self.child = subprocess.Popen(
            [venv_dir() / "bin/python", HERE / "writer.py", str(RATE), cluster.conninfo()],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=cluster.env,
        )
        if self.child.stdout.readline().strip() != "writing":
            raise Failed(f"{cluster.tool}: the writer has ended with {self.child.wait()}")

    def end(self):
        out, _ = self.child.communicate()
        if self.child.returncode != 0:
            raise Failed(f"the writer has ended with {self.child.returncode}")
        return json.loads(out)

    def kill(self):
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()


def longest_gap(times, since, until):
    """The longest time between two neighbours that ends after `since` and begins before `until`."""
    gaps = [b - a for a, b in zip(times, times[1:]) if b >= since and a <= until]
    return max(gaps, default=0.0)


def command_once(cluster, what, argv):
    wall, _, status, text = timed(argv, env=cluster.env, cwd=cluster.dir, timeout=300)
    (cluster.dir / f"last-{what}.log").write_text(f"$ {shlex.join(map(str, argv))}\n{text}")
    return wall, status, text


def checks_alone(cluster, to):
    """What the tool's own dry run takes, where it has one."""
    argv = cluster.checks(to)
    if argv is None:
        return {}
    wall, status, text = command_once(cluster, "checks", argv)
    if status != 0:
        raise Failed(f"{cluster.tool}: dry run: exit {status}\n{text[-3000:]}")
    found = re.search(r"preconditions hold on \d+ nodes? \(([\d.]+) s\)", text)
    return {"checks_seconds": wall, "preconditions_seconds": float(found[1]) if found else None}


def sessions_of_checks(cluster):
    """Per host: exec sessions, sftp sessions and connections that its sshd sees in the dry run."""
    if cluster.checks("node2") is None:
        return None
    cluster.log_sessions()
    time.sleep(1)
    began = time.time()
    checks_alone(cluster, "node2")
    ended = time.time()
    time.sleep(1)
    return cluster.sessions(began, ended)


def measure(cluster, to):
    row = {"from": cluster.primary, "to": to, "load": load(), **checks_alone(cluster, to)}
    writer = Writer(cluster)
    try:
        time.sleep(BEFORE)
        began = time.monotonic()
        wall, status, text = command_once(cluster, "switchover", cluster.command(to))
        now = cluster.wait_whole(to if status == 0 else None)
        whole = time.monotonic()
        time.sleep(AFTER)
        ledger = writer.end()
    finally:
        writer.kill()
    times = ledger["times"]
    told = re.search(r"write outage ([\d.]+) s", text)
    row |= {
        "status": status, "command_seconds": wall, "whole_seconds": whole - began,
        "outage_seconds": longest_gap(times, began, whole),
        "usual_gap_seconds": longest_gap([t for t in times if t < began], 0.0, began),
        "outage_told_seconds": float(told[1]) if told else None,
        "rows": len(times), "rows_per_second_before": sum(t < began for t in times) / (began - times[0]),
        "lost": len(ledger["lost"]), "not_acknowledged": ledger["not_acknowledged"],
        "errors": ledger["errors"], "first_errors": ledger["first_errors"],
    }
    cluster.primary = now
    if row["lost"]:
        raise Failed(f"{cluster.tool}: {row['lost']} acknowledged rows are lost: {ledger['lost'][:10]}")
    if ledger["read_back_from"] != cluster.address[now]:
        raise Failed(f"{cluster.tool}: rows were read back from {ledger['read_back_from']}, not {now}")
    if status != 0:
        row["output"] = text[-2000:]
        say(f"  {cluster.tool} has failed (exit {status}); the primary is {now}\n{text[-800:]}")
    return row


def there_and_back(cluster, label):
    rows = []
    for to in ["node2", "node1"]:
        # After a failure: the other direction is not asked for, so that the rounds stay alike.
        if cluster.primary == to:
            continue
        row = measure(cluster, to)
        rows.append(row)
        cluster.ready()
        checks = f"checks alone {row['checks_seconds']:.2f} s, " if "checks_seconds" in row else ""
        say(f"  {label} to {to}: outage {row['outage_seconds']:.2f} s, command "
            f"{row['command_seconds']:.2f} s, {checks}all stream after {row['whole_seconds']:.2f} s, "
            f"lost {row['lost']} of {row['rows']} rows (load {row['load']:.1f})")
    return rows


# ---- the report ---------------------------------------------------------------------------------


def spread(values, digits=2):
    if not values:
        return "-"
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def good(rows):
    return [r for r in rows if r["status"] == 0]


def column(rows, field):
    return [r[field] for r in good(rows) if r.get(field) is not None]


def ratios(rows, base, field):
    """To pgorch's run of the same round and direction."""
    of = {(r["round"], r["to"]): r[field] for r in good(base)}
    pairs = [(r[field], of.get((r["round"], r["to"]))) for r in good(rows)]
    return [a / b for a, b in pairs if b]


def table(runs, sessions):
    base = runs.get("pgorch", [])
    lines = ["| | write outage, s | times pgorch | whole command, s | times pgorch "
             "| until all standbys stream, s | checks alone, s | rows lost | failed |",
             "|---|---|---|---|---|---|---|---|---|"]
    for key, rows in runs.items():
        lines.append(
            f"| {TITLES[key]} | {spread(column(rows, 'outage_seconds'))} "
            f"| {spread(ratios(rows, base, 'outage_seconds'), 1)} "
            f"| {spread(column(rows, 'command_seconds'))} "
            f"| {spread(ratios(rows, base, 'command_seconds'), 1)} "
            f"| {spread(column(rows, 'whole_seconds'))} | {spread(column(rows, 'checks_seconds'))} "
            f"| {sum(r['lost'] for r in rows)} of {sum(r['rows'] for r in rows)} "
            f"| {len(rows) - len(good(rows))} of {len(rows)} |")
    every = [r for rows in runs.values() for r in rows]
    loads = [r["load"] for r in every]
    lines += ["", f"Median (least-most), interleaved; load average {min(loads):.1f}-{max(loads):.1f} on "
              f"{os.cpu_count()} processors. The longest gap between two rows in the {BEFORE:.0f} s before: "
              f"{spread([r['usual_gap_seconds'] for r in every])} s."]
    told = [f"{key} {'+'.join(str(s[0]) for s in counts)}" for key, counts in sessions.items() if counts]
    if told:
        lines.append(f"SSH sessions of the checks alone, at the three hosts: {', '.join(told)}.")
    if column(base, "preconditions_seconds"):
        lines.append("pgorch's preconditions by its own clock: "
                     f"{spread(column(base, 'preconditions_seconds'))} s.")
    return "\n".join(lines) + "\n"


# ---- all of it ----------------------------------------------------------------------------------


def make(cluster):
    began = time.monotonic()
    cluster.up()
    cluster.make()
    cluster.wait_whole("node1")
    versions = cluster.ssh("node1", "dpkg-query -W -f '${Package} ${Version}\\n' | grep -E "
                           f"'^(postgresql-{VERSION}(-repmgr)?|patroni|etcd-server) '").split("\n")
    sessions = sessions_of_checks(cluster)
    cluster.stop()
    say(f"{cluster.tool}: three hosts and a cluster, in {time.monotonic() - began:.0f} s; "
        f"exec sessions/sftp/connections of its checks alone, per host: {sessions}")
    return [v for v in versions if v], sessions


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--rounds", type=int, default=5, help="there and back in each (default 5)")
    options.add_argument("--only", choices=list(CLUSTERS), action="append", help="may be repeated; default: all")
    options.add_argument("--pgorch", default=ROOT / "target/release/pgorch", type=Path, metavar="PATH")
    options.add_argument("--json", type=Path, metavar="FILE", help="default: in the cache directory")
    options.add_argument("--keep", action="store_true", help="leave the labs up")
    args = options.parse_args()
    chosen = [t for t in CLUSTERS if t in (args.only or CLUSTERS)]
    args.json = args.json or cache_dir() / "switchover.json"
    args.json.parent.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        sys.exit("making lab hosts needs root")
    pgorch = str(args.pgorch.resolve())
    report = {
        "schema": 1, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "processors": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version(),
        "pgorch": run([pgorch, "--version"]).strip(), "pins": PINS, "load_at_start": os.getloadavg(),
        "rate": RATE, "versions": {}, "sessions": {}, "runs": {key: [] for key in chosen},
    }
    ensure_venv(venv_dir(), PINS)
    clusters = {key: CLUSTERS[key](pgorch, key) for key in chosen}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        for key, cluster in clusters.items():
            report["versions"][key], report["sessions"][key] = make(cluster)
        for number in range(1, args.rounds + 1):
            for key, cluster in clusters.items():
                cluster.start()
                rows = there_and_back(cluster, f"{number}/{args.rounds} {key}")
                report["runs"][key] += [{"round": number, **row} for row in rows]
                report["table"] = table(
                    {k: v for k, v in report["runs"].items() if v}, report["sessions"])
                args.json.write_text(json.dumps(report, indent=1) + "\n")
                cluster.stop()
        say("\n" + report["table"])
    except Failed as failure:
        sys.exit(f"{failure}\nlogs: {cache_dir()}/switchover-*/last-*.log")
    finally:
        if not args.keep:
            for cluster in clusters.values():
                cluster.down()
    say(f"as JSON: {args.json}")


if __name__ == "__main__":
    main()

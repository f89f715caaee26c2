"""PostgreSQL clusters of three hosts as each tool makes them, for the benchmarks that break and switch them."""

import json
import re
import time

from common import Failed, Hosts, cache_dir, clean_env, ensure_venv, in_parallel, run

PINS = ["psycopg2-binary==2.9.10"]
VERSION = 15
# How long a cluster may take to become whole.
WHOLE_WITHIN = 120.0
# The labs' networks; the writers' role comes in without a password everywhere.
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


def venv_python():
    """The Python that has the writers' driver."""
    where = cache_dir() / ("venv-switchover-" + re.sub(r"[^0-9.]", "", PINS[0].split("==")[1]))
    ensure_venv(where, PINS)
    return where / "bin/python"


class Cluster(Hosts):
    """Three hosts and what makes, starts, stops and switches the tool's cluster on them."""

    # Of the tool, besides PostgreSQL's.
    packages = ""
    # The unit that runs the server.
    service = ""

    def __init__(self, pgorch, tool, bench="switchover", count=3):
        super().__init__(pgorch, f"{bench}-{tool}", f"bench-{tool}", count)
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
    # More lines for postgresql.conf and repmgr.conf.
    settings = repmgr_conf = ""

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
{self.settings}
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
{self.repmgr_conf}
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
    ttl, loop_wait, retry_timeout = 30, 10, 10
    # More lines for the dynamic configuration.
    dynamic = ""

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
    ttl: {self.ttl}
    loop_wait: {self.loop_wait}
    retry_timeout: {self.retry_timeout}
    {self.dynamic}
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

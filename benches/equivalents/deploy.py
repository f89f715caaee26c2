"""What `pgorch apply` does, for pyinfra: the same steps as site.yml, from nothing to a cluster.

In pyinfra's favour: no sudo; the server's user is reached with runuser inside a command; a script of
statements is one fact to check and one command to run; one fact asks for all slots.
"""

import re
from pathlib import Path

from pyinfra import host
from pyinfra.facts.files import File
from pyinfra.facts.server import Command
from pyinfra.operations import apt, files, server, systemd

node = host.data.node
captured = Path(host.data.files)
PSQL = "cd / && runuser -u postgres -- psql -XAt -v ON_ERROR_STOP=1 -h /run/postgresql -d postgres"
AS_POSTGRES = {"user": "postgres", "group": "postgres"}


def psql(sql, otherwise=""):
    return f"{PSQL} <<'SQL'{otherwise}\n{sql}\nSQL"


def query(sql):
    """The lines that the server answers, or "no answer"."""
    return host.get_fact(Command, psql(sql, " || echo no answer")) or ""


def converge(name, script):
    """Runs a script whose statements say what lacks, if anything lacks."""
    sql = (captured / script).read_text()
    if query(re.sub(r" \\gexec", ";", sql)).strip():
        server.shell(name=name, commands=[psql(sql)])


files.directory(
    name="Directory for settings of pg_createcluster",
    path="/etc/postgresql-common/createcluster.d",
    mode="755",
)
files.put(
    name="No automatic cluster",
    src=str(captured / "createcluster.conf"),
    dest="/etc/postgresql-common/createcluster.d/pgorch.conf",
    mode="644",
)
apt.packages(
    name="Packages",
    packages=[f"postgresql-{node['version']}", f"postgresql-client-{node['version']}"],
    update=True,
    cache_time=86400,
)
files.directory(name="Directory of the cluster", path=node["home"], mode="700", **AS_POSTGRES)
files.put(
    name="Boot check",
    src=str(captured / f"{node['name']}.boot"),
    dest=f"{node['home']}/{node['name']}.boot",
    mode="500",
    **AS_POSTGRES,
)
unit = files.template(
    name="Unit",
    src=host.data.templates + "/postgresql.service.j2",
    dest=f"/etc/systemd/system/{node['service']}.service",
    mode="644",
    node=node,
    cluster=host.data.cluster,
    vip=host.data.vip,
)
systemd.daemon_reload(name="Unit read again", _if=unit.did_change)
files.put(
    name="Password file",
    src=str(captured / "passfile"),
    dest=node["home"] + "/passfile",
    mode="600",
    **AS_POSTGRES,
)

has_data = host.get_fact(File, node["data_dir"] + "/PG_VERSION")


def configure():
    changed = [
        files.put(
            name=name,
            src=str(captured / (file if file != "pgorch.standby.conf" else f"{host.name}.standby.conf")),
            dest=f"{node['data_dir']}/{file}",
            mode="600",
            **AS_POSTGRES,
        ).did_change
        for name, file in [
            ("Configuration file", "postgresql.conf"),
            ("Server parameters", "pgorch.conf"),
            ("Who may connect", "pg_hba.conf"),
            ("Which OS users may be pgorch", "pg_ident.conf"),
        ]
        + ([] if host.data.primary else [
            ("Be a standby", "standby.signal"),
            ("Follow the primary", "pgorch.standby.conf"),
        ])
    ]
    if host.data.primary:
        files.file(
            name="A primary follows nobody",
            path=node["data_dir"] + "/pgorch.standby.conf",
            present=False,
        )
    service = systemd.service(
        name="Server running and enabled", service=node["service"], running=True, enabled=True
    )
    systemd.service(
        name="Reload",
        service=node["service"],
        reloaded=True,
        _if=lambda: has_data and not service.did_change() and any(c() for c in changed),
    )


if host.data.primary:
    if not has_data:
        server.shell(name="Data directory", commands=[
            f"cd / && runuser -u postgres -- {node['bin_dir']}/initdb -D {node['data_dir']} --username=postgres"
            " --auth-local=peer --auth-host=scram-sha-256 --data-checksums --encoding=UTF8 --locale=C.UTF-8",
        ])
    configure()
    converge("Roles", "roles.sql")
    converge("Databases", "databases.sql")
    converge("Replication slots", "slots.sql")
# pyinfra runs the operations of hosts that have none in common side by side; this one they have in
# common, so standbys go on when the primary is ready.
server.shell(name="The primary is ready", commands=["true"], _if=lambda: False)
if not host.data.primary:
    if not has_data:
        server.shell(name="Copy of the primary", commands=[
            f"cd / && runuser -u postgres -- env PGPASSFILE={node['home']}/passfile {node['bin_dir']}/pg_basebackup"
            f" -d 'host={host.data.primary_address} port=5432 user=replicator' -D {node['data_dir']}"
            f" --checkpoint=fast --wal-method=stream --no-password --slot={node['slot']}",
        ])
    configure()
    receiver = "SELECT status FROM pg_stat_wal_receiver"
    if query(receiver).strip() != "streaming":
        server.shell(name="Streaming", commands=[
            f"for i in $(seq 600); do [ \"$({PSQL} -c '{receiver}')\" = streaming ] && exit 0; sleep 0.1; done; exit 1",
        ])

settings = (
    "SELECT current_setting('synchronous_standby_names') || count(*) FROM pg_settings WHERE pending_restart"
)
if has_data and query(settings).strip() != "0":
    raise SystemExit(f"{host.name}: a restart is owed, or commits wait for somebody")
if host.data.primary:
    converge("Members of the cluster", "members.sql")

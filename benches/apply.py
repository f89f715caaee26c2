#!/usr/bin/env python3
"""How long `pgorch apply` takes, next to ansible-core, Mitogen, pyinfra and a shell script.

All tools work on the same disposable hosts (`pgorch lab`, so: Linux, root), towards the same end
state, one after the other in every round, so that whatever else the machine does hits them alike.
Figures are told as ratios to pgorch; nothing is asserted. README.md says what is compared and how.

Standard library only. The other tools are installed, pinned, into a virtual environment in
${XDG_CACHE_HOME:-~/.cache}/pgorch-bench.
"""

import argparse
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from common import (
    HERE, ROOT, Failed, Hosts, cache_dir, clean_env, ensure_venv, in_parallel, load, run, say, timed,
)

PINS = ["ansible-core==2.19.14", "mitogen==0.3.54", "pyinfra==3.10.0"]
VERSION = 15
CLUSTER = "bench"
HOME = f"/var/lib/pgorch/{CLUSTER}"
DATA = f"{HOME}/{VERSION}/data"
DELAYED_PORT = 2222
ONE_WAY = 0.025
PARTS = ["size", "noop", "latency", "first"]

POSTGRES = f"""\
postgres:
  version: {VERSION}
  parameters: {{ shared_buffers: 64MB }}
  hba:
    - host app app 198.18.0.0/15 scram-sha-256
  roles:
    - {{ name: app, attributes: [login] }}
  databases:
    - {{ name: app, owner: app }}
"""


# ---- the lab ------------------------------------------------------------------------------------


class Lab(Hosts):
    """Fresh hosts, and the files with which each tool reaches them."""

    def __init__(self, pgorch, count):
        super().__init__(pgorch, f"lab-{count}", CLUSTER, count)
        (self.dir / "files").mkdir()

    def up(self):
        super().up()
        known = self.known_hosts.read_text()
        far = ""
        for name, address in self.address.items():
            for line in known.splitlines():
                names, kind, key = line.split()[:3]
                if address in names.split(","):
                    far += f"[{address}]:{DELAYED_PORT} {kind} {key}\n"
        self.known_hosts.write_text(known + far)
        self.write_files()
        self.prepare()

    def reset(self):
        super().reset()
        self.prepare()

    def prepare(self):
        """What all hosts have before anything is measured: Python, and an sshd that tells sessions."""
        script = """set -e
            export DEBIAN_FRONTEND=noninteractive
            apt-get -qq -y install python3 python3-apt ||
                { apt-get -qq update; apt-get -qq -y install python3 python3-apt; }
            sync"""
        in_parallel(lambda name: self.ssh(name, script), self.names)
        self.log_sessions()

    def start_delay(self):
        code = (HERE / "delay.py").read_text()
        script = f"""set -e
            cat >/root/delay.py <<'EOF'\n{code}\nEOF
            systemctl stop bench-delay 2>/dev/null || :
            systemd-run -q --unit bench-delay python3 /root/delay.py {DELAYED_PORT} 22 {ONE_WAY}
            for i in $(seq 100); do
                ss -ltn | grep -q ':{DELAYED_PORT} ' && exit 0
                sleep 0.1
            done
            systemctl --no-pager status bench-delay; exit 1"""
        in_parallel(lambda name: self.ssh(name, script), self.names)

    def node_vars(self, name):
        return {
            "name": name, "version": VERSION, "home": HOME, "data_dir": DATA, "slot": name,
            "service": f"pgorch-{CLUSTER}", "bin_dir": f"/usr/lib/postgresql/{VERSION}/bin",
            # None: pgorch's own templates ask for it.
            "guard": None,
        }

    def write_files(self):
        d = self.dir
        (d / "hosts").write_text("".join(f"{n} {a}\n" for n, a in self.address.items()))
        for port, tag in [(22, "near"), (DELAYED_PORT, "far")]:
            self.write_inventory(d / f"pgorch-{tag}.yml", POSTGRES, port=port)
            shared = {
                "cluster": CLUSTER, "files": str(d / "files"), "templates": str(ROOT / "templates"),
                "primary_address": self.address["node1"],
                # None: pgorch's own templates ask for it.
                "vip": None,
            }
            ansible = {
                "ansible_user": "root", "ansible_port": port, "ansible_ssh_private_key_file": self.key,
                "ansible_python_interpreter": "/usr/bin/python3",
            }
            host_vars = {
                n: {"ansible_host": a, "node": self.node_vars(n)} for n, a in self.address.items()
            }
            group = {"nodes": {"vars": {**shared, **ansible}, "hosts": host_vars},
                     "primary": {"hosts": {"node1": {}}},
                     "standbys": {"hosts": {n: {} for n in self.names[1:]}}}
            (d / f"ansible-{tag}.json").write_text(json.dumps({"all": {"children": group}}, indent=1))
            pyinfra = {
                "ssh_user": "root", "ssh_port": port, "ssh_key": self.key, "ssh_allow_agent": False,
                "ssh_look_for_keys": False, "ssh_known_hosts_file": str(self.known_hosts),
                "ssh_strict_host_key_checking": "yes", **shared,
            }
            (d / f"pyinfra_{tag}.py").write_text("nodes = " + repr([
                (n, {**pyinfra, "ssh_hostname": a, "primary": n == "node1", "node": self.node_vars(n)})
                for n, a in self.address.items()
            ]) + "\n")
        plugins = venv_dir() / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
        for tool, strategy in [
            ("ansible", "linear"),
            ("mitogen", "mitogen_linear\nstrategy_plugins = "
                        f"{plugins}/site-packages/ansible_mitogen/plugins/strategy"),
        ]:
            (d / f"{tool}.cfg").write_text(f"""\
[defaults]
forks = 50
gathering = explicit
nocows = true
nocolor = true
deprecation_warnings = false
strategy = {strategy}
[ssh_connection]
pipelining = true
ssh_args = -F {d}/ssh_config.plain -o ControlMaster=auto -o ControlPersist=60s
control_path_dir = {self.sockets}
""")

    def capture(self):
        """The content that pgorch gave to its files, for the other tools to want."""
        files = self.dir / "files"
        get = lambda name, path: self.ssh(name, f"cat {path}")
        for file in ["postgresql.conf", "pgorch.conf", "pg_hba.conf", "pg_ident.conf"]:
            (files / file).write_text(get("node1", f"{DATA}/{file}"))
        passfile = get("node1", f"{HOME}/passfile")
        (files / "passfile").write_text(passfile)
        (files / "standby.signal").write_text("")
        (files / "createcluster.conf").write_text(
            get("node1", "/etc/postgresql-common/createcluster.d/pgorch.conf"))
        for name in self.names:
            (files / f"{name}.service").write_text(
                get(name, f"/etc/systemd/system/pgorch-{CLUSTER}.service"))
            (files / f"{name}.boot").write_text(get(name, f"{HOME}/{name}.boot"))
            if name != "node1":
                (files / f"{name}.standby.conf").write_text(get(name, f"{DATA}/pgorch.standby.conf"))
        password = passfile.strip().rsplit(":", 1)[1]
        values = {
            "PASSWORD": password,
            "MEMBERS": ", ".join(f"('{n}', '{a}')" for n, a in self.address.items()),
            "SLOTS": ", ".join(f"'{n}'" for n in self.names[1:]),
        }
        for sql in (HERE / "equivalents").glob("*.sql"):
            text = sql.read_text()
            for name, value in values.items():
                text = text.replace(f"@{name}@", value)
            (files / sql.name).write_text(text)

    def look(self):
        out = self.psql("node1", "SELECT (SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'), "
                        "(SELECT count(*) FROM pgorch.nodes), "
                        "(SELECT count(*) FROM pg_database WHERE datname = 'app'), "
                        "(SELECT count(*) FROM pg_replication_slots WHERE active)")
        return out, f"{self.count - 1}|{self.count}|1|{self.count - 1}"

    def wait_whole(self):
        """A tool may end a moment before its last standby has caught up."""
        until = time.monotonic() + 10
        while True:
            out, wanted = self.look()
            if out == wanted:
                return
            if time.monotonic() > until:
                raise Failed(f"the cluster is not what it should be: {out} instead of {wanted}")
            time.sleep(0.2)


# ---- the tools ----------------------------------------------------------------------------------


def venv_dir():
    pins = "-".join(re.sub(r"[^0-9.]", "", pin.split("==")[1]) for pin in PINS)
    return cache_dir() / f"venv-{pins}"


def tools(lab):
    """Each tool as key -> (title, argv for a tag, environment, changes of an output)."""
    d, binaries = lab.dir, venv_dir() / "bin"
    env = clean_env(d / "state")

    def recap(text):
        found = re.findall(r"ok=\d+\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", text)
        return sum(int(n) for row in found for n in row) if len(found) == lab.count else None

    def pgorch_changes(text):
        found = re.search(r"^\d+ hosts?.*?(\d+) changed", text, re.M)
        return int(found[1]) if found else None

    def pyinfra_changes(text):
        # The table's columns: hosts, success, error, no change.
        found = re.search(r"^\s*Grand total((?:\s+(?:\d+|-)){4})\s*$", text, re.M)
        return sum(int(cell) for cell in found[1].replace("-", "0").split()[1:3]) if found else None

    def ansible(tag):
        return [binaries / "ansible-playbook", "-i", d / f"ansible-{tag}.json",
                HERE / "equivalents/site.yml"]

    return {
        "pgorch": ("pgorch", lambda tag: [lab.pgorch, "apply", d / f"pgorch-{tag}.yml", "-y"], env,
                   pgorch_changes),
        "ansible": ("ansible-core", ansible, env | {"ANSIBLE_CONFIG": str(d / "ansible.cfg")}, recap),
        "mitogen": ("Mitogen", ansible, env | {"ANSIBLE_CONFIG": str(d / "mitogen.cfg")}, recap),
        "pyinfra": ("pyinfra", lambda tag: [binaries / "pyinfra", "-y", d / f"pyinfra_{tag}.py",
                                            HERE / "equivalents/deploy.py"], env, pyinfra_changes),
        "by_hand": ("shell script", lambda tag: [HERE / "by_hand.sh", d], env, lambda text: None),
    }


def once(lab, tool, tag, verbose=False):
    title, argv, env, changes = tool
    words = list(map(str, argv(tag))) + (["-v"] if verbose else [])
    wall, cpu, status, text = timed(words, env=env, cwd=lab.dir)
    (lab.dir / f"last-{title.replace(' ', '-')}.log").write_text(text)
    if status != 0:
        raise Failed(f"{title}: exit {status}\n{text[-4000:]}")
    return wall, cpu, changes(text), text


# ---- the measurements ---------------------------------------------------------------------------


def rounds_of(lab, chosen, tag, rounds, before=None, after=None):
    """Interleaved: every tool once in every round."""
    runs = {key: [] for key in chosen}
    for number in range(rounds):
        for key, tool in chosen.items():
            if before:
                before()
            busy = load()
            wall, cpu, changed, _ = once(lab, tool, tag)
            if after:
                after(key)
            runs[key].append({"seconds": wall, "cpu": cpu, "changed": changed, "load": busy})
            say(f"  round {number + 1}/{rounds}: {tool[0]} {wall:.2f} s (load before {busy:.1f})")
    return runs


def noop(lab, tag, rounds):
    chosen = {k: v for k, v in tools(lab).items() if k != "by_hand"}
    # The end state is pgorch's; the others must find nothing to do, and pgorch nothing afterwards.
    sessions, changed = {}, {}
    for key, tool in list(chosen.items()):
        once(lab, tool, tag)
        time.sleep(1)
        began = time.time()
        _, _, changed[key], text = once(lab, tool, tag, verbose=key == "pgorch")
        ended = time.time()
        time.sleep(1)
        sessions[key] = lab.sessions(began, ended)
        if key == "pgorch":
            told = re.findall(r"ssh-sessions=(\d+) round-trips=(\d+)", text)
        say(f"  {tool[0]}: changed {changed[key]}, exec sessions/sftp/connections per host: "
            + ", ".join("/".join(map(str, s)) for s in sessions[key]))
    say("  pgorch -v says ssh-sessions, round-trips: " + ", ".join("/".join(t) for t in told))
    runs = rounds_of(lab, chosen, tag, rounds)
    return {"runs": runs, "sessions": sessions, "changed": changed,
            "pgorch_says": [[int(n) for n in t] for t in told]}


def first(lab, rounds, which):
    chosen = {k: v for k, v in tools(lab).items() if k in which}
    runs = rounds_of(lab, chosen, "near", rounds, before=lab.reset, after=lambda _: lab.wait_whole())
    return {"runs": runs}


def size(pgorch):
    times = []
    for _ in range(5):
        timed([pgorch, "--help"])
    for _ in range(50):
        began = time.perf_counter()
        subprocess.run([pgorch, "--help"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - began)
    return {"bytes": os.stat(pgorch).st_size, "help_seconds": times, "load": load()}


# ---- the report ---------------------------------------------------------------------------------


def table(title, result):
    runs = result["runs"]
    base = [r["seconds"] for r in runs["pgorch"]]
    lines = [f"### {title}", "",
             "| tool | median s | min-max s | times pgorch (median; min-max of rounds) | CPU s | changed |"
             " exec/sftp sessions a host |", "|---|---|---|---|---|---|---|"]
    titles = {"pgorch": "pgorch", "ansible": "ansible-core, pipelining, ControlPersist, forks=50",
              "mitogen": "Mitogen (mitogen_linear), forks=50", "pyinfra": "pyinfra -y",
              "by_hand": "shell script by hand"}
    for key, rows in runs.items():
        seconds = [r["seconds"] for r in rows]
        ratios = [s / b for s, b in zip(seconds, base)]
        result.setdefault("ratios", {})[key] = statistics.median(ratios)
        changed = {r["changed"] for r in rows} - {None}
        counts = result.get("sessions", {}).get(key)
        shown = " ".join(sorted({f"{c[0]}/{c[1]}" for c in counts})) if counts else ""
        lines.append(
            f"| {titles[key]} | {statistics.median(seconds):.2f} | {min(seconds):.2f}-{max(seconds):.2f} "
            f"| {statistics.median(ratios):.1f} ({min(ratios):.1f}-{max(ratios):.1f}) "
            f"| {statistics.median(r['cpu'] for r in rows):.2f} "
            f"| {' '.join(map(str, sorted(changed)))} | {shown} |")
    loads = [r["load"] for rows in runs.values() for r in rows]
    lines += ["", f"{len(base)} rounds, interleaved; load average {min(loads):.1f}-{max(loads):.1f} "
              f"on {os.cpu_count()} processors."]
    if result.get("pgorch_says"):
        told = sorted({f"{s} session, {t} round trip" for s, t in result["pgorch_says"]})
        lines.append(f"`pgorch apply -v` itself says, for each host: {'; '.join(told)}.")
    return "\n".join(lines) + "\n"


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--hosts", type=int, default=3, help="lab hosts (default 3; 12 is the other size)")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--only", choices=PARTS, action="append", help="may be repeated; default: all")
    options.add_argument("--first-of", default="pgorch,by_hand,ansible,mitogen,pyinfra",
                         help="tools of the first apply (default: %(default)s)")
    options.add_argument("--pgorch", default=ROOT / "target/release/pgorch", type=Path, metavar="PATH")
    options.add_argument("--json", type=Path, metavar="FILE", help="default: in the cache directory")
    options.add_argument("--keep", action="store_true", help="leave the lab up")
    args = options.parse_args()
    parts = args.only or PARTS
    args.json = args.json or cache_dir() / f"bench-{args.hosts}.json"
    args.json.parent.mkdir(parents=True, exist_ok=True)
    pgorch = str(args.pgorch.resolve())
    report = {
        "schema": 1, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "hosts": args.hosts,
        "processors": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version(),
        "pgorch": run([pgorch, "--version"]).strip(), "pins": PINS, "load_at_start": os.getloadavg(),
    }
    texts = []

    def done(name, result, title=None):
        report[name] = result
        texts.append(table(title, result) if title else result["text"])
        say("\n" + texts[-1])
        args.json.write_text(json.dumps(report, indent=1) + "\n")

    if "size" in parts:
        found = size(pgorch)
        median = statistics.median(found["help_seconds"]) * 1000
        worst = max(found["help_seconds"]) * 1000
        found["text"] = (f"### Binary\n\n{found['bytes'] / 1e6:.1f} MB ({found['bytes']} bytes); "
                         f"`pgorch --help` {median:.1f} ms (median of 50; at most {worst:.1f} ms)\n")
        done("size", found)
    if set(parts) == {"size"}:
        return
    if os.geteuid() != 0:
        sys.exit("making lab hosts needs root")
    ensure_venv(venv_dir(), PINS)
    lab = Lab(pgorch, args.hosts)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        say(f"{args.hosts} lab hosts")
        lab.up()
        wall, _, _, _ = once(lab, tools(lab)["pgorch"], "near")
        say(f"a cluster made by pgorch in {wall:.1f} s; its files are what the other tools will want")
        lab.capture()
        n = args.hosts
        if "noop" in parts:
            say("no-op apply")
            done("noop", noop(lab, "near", args.rounds), f"No-op apply, {n} hosts, loopback")
        if "latency" in parts:
            say("no-op apply, 50 ms away")
            lab.start_delay()
            done("latency", noop(lab, "far", args.rounds), f"No-op apply, {n} hosts, 50 ms of round trip")
        if "first" in parts:
            say("first apply")
            which = args.first_of.split(",")
            done("first", first(lab, args.rounds, which), f"First apply, {n} hosts, loopback")
    except Failed as failure:
        sys.exit(f"{failure}\nlogs: {lab.dir}/last-*.log")
    finally:
        if not args.keep:
            lab.down()
    say(f"\nas JSON: {args.json}")


if __name__ == "__main__":
    main()

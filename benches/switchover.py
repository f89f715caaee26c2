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

from clusters import PINS, VERSION, Patroni, Pgorch, Repmgr, venv_python
from common import HERE, ROOT, Failed, cache_dir, load, run, say, timed

RATE = 100
TITLES = {"pgorch": "pgorch switchover", "repmgr": "repmgr standby switchover",
          "patroni": "patronictl switchover"}
# How long writes are watched before the command, and after all standbys stream again.
BEFORE, AFTER = 3.0, 1.0
CLUSTERS = {"pgorch": Pgorch, "repmgr": Repmgr, "patroni": Patroni}


# ---- one measurement ----------------------------------------------------------------------------


class Writer:
    def __init__(self, cluster):
        self.child = subprocess.Popen(
            [venv_python(), HERE / "writer.py", str(RATE), cluster.conninfo()],
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
    venv_python()
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

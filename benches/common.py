"""What the benchmarks share: running things, disposable hosts, pinned packages. Standard library only."""

import concurrent.futures
import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


def say(text=""):
    print(text, flush=True)


def cache_dir():
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "pgorch-bench"


def load():
    return os.getloadavg()[0]


# ---- running things -----------------------------------------------------------------------------


class Failed(Exception):
    pass


def timed(argv, env=None, cwd=None, timeout=1800):
    """Runs a command: (wall seconds, CPU seconds of it and what it waited for, exit status, output)."""
    with tempfile.TemporaryFile() as out:
        began = time.monotonic()
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=env, cwd=cwd,
            start_new_session=True,
        )
        # wait4 instead of wait: it tells the CPU time of this child alone.
        alarm = signal.signal(signal.SIGALRM, lambda *_: os.killpg(child.pid, signal.SIGKILL))
        signal.alarm(timeout)
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)
            raise
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, alarm)
        wall = time.monotonic() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read().decode(errors="replace")
    return wall, usage.ru_utime + usage.ru_stime, child.returncode, text


def run(argv, **more):
    done = subprocess.run(
        argv, stdin=more.pop("stdin", subprocess.DEVNULL) if "input" not in more else None,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more,
    )
    if done.returncode != 0:
        raise Failed(f"{shlex.join(map(str, argv))}: exit {done.returncode}\n{done.stdout[-3000:]}")
    return done.stdout


def in_parallel(work, items):
    with concurrent.futures.ThreadPoolExecutor(max_workers=16) as pool:
        return list(pool.map(work, items))


def clean_env(state):
    """The environment for the tools: nobody's own settings; pgorch's journal goes below `state`."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "PGORCH_", "PG"))}
    return env | {"LC_ALL": "C.UTF-8", "XDG_STATE_HOME": str(state)}


def ensure_venv(where, pins):
    if not (where / "complete").exists():
        say(f"installing {', '.join(pins)} into {where}")
        venv.create(where, with_pip=True, clear=True)
        run([where / "bin/pip", "install", "-q", *pins])
        (where / "complete").touch()


# ---- disposable hosts ---------------------------------------------------------------------------


class Hosts:
    """Fresh lab hosts named node1..., and what OpenSSH needs to reach them."""

    def __init__(self, pgorch, directory, cluster, count):
        self.pgorch, self.cluster, self.count = pgorch, cluster, count
        self.dir = cache_dir() / directory
        shutil.rmtree(self.dir, ignore_errors=True)
        self.dir.mkdir(parents=True)
        # Short: the path of a socket has 107 bytes at most.
        self.sockets = Path(tempfile.mkdtemp(prefix="pgb"))
        self.names = [f"node{i + 1}" for i in range(count)]
        self.file = self.dir / "lab.yml"
        nodes = "".join(
            f"  {name}: {{ {'primary: true' if name == 'node1' else ''} }}\n" for name in self.names
        )
        self.file.write_text(f"cluster: {cluster}\nlab: {{ image: bookworm }}\nnodes:\n{nodes}")

    def up(self):
        # Hosts that an earlier run left with --keep, or died with.
        run([self.pgorch, "lab", "down", self.file])
        out = subprocess.run(
            [self.pgorch, "lab", "up", self.file, "-o", "json"], stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, check=True, text=True,
        ).stdout
        lab = json.loads(out)["labs"][0]
        self.address = {h["name"]: h["address"] for h in lab["hosts"]}
        self.key = lab["identity_file"]
        self.known_hosts = self.dir / "known_hosts"
        self.known_hosts.write_text(Path(lab["known_hosts"]).read_text())
        hosts = "".join(f"Host {n}\n  HostName {a}\n" for n, a in self.address.items())
        common = (
            f"  User root\n  IdentityFile {self.key}\n  IdentitiesOnly yes\n  LogLevel ERROR\n"
            f"  UserKnownHostsFile {self.known_hosts}\n  StrictHostKeyChecking yes\n"
        )
        mux = f"  ControlMaster auto\n  ControlPath {self.sockets}/%C\n  ControlPersist 60\n"
        (self.dir / "ssh_config").write_text(f"{hosts}Host *\n{common}{mux}")
        (self.dir / "ssh_config.plain").write_text(f"Host *\n{common}")

    def end_masters(self):
        """The masters of ControlPersist would end by themselves, later."""
        for name in self.names:
            subprocess.run(["ssh", "-F", self.dir / "ssh_config", "-O", "exit", name],
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def down(self):
        self.end_masters()
        subprocess.run([self.pgorch, "lab", "down", self.file], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        shutil.rmtree(self.sockets, ignore_errors=True)

    def reset(self):
        self.end_masters()
        run([self.pgorch, "-i", self.file, "lab", "reset"])

    def ssh_argv(self, name, command):
        return ["ssh", "-F", str(self.dir / "ssh_config"), name, command]

    def ssh(self, name, script):
        return run(self.ssh_argv(name, "sh -s"), input=script)

    def psql(self, name, sql):
        """What the server on that host answers to its superuser; fields are parted by a bar."""
        command = "cd / && runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -h /run/postgresql -d postgres"
        return run(self.ssh_argv(name, command), input=sql).strip()

    def log_sessions(self):
        """From now on `sessions` can tell."""
        script = """set -e
            echo LogLevel VERBOSE >/etc/ssh/sshd_config.d/20-bench.conf
            systemctl reload ssh"""
        in_parallel(lambda name: self.ssh(name, script), self.names)
        # The sshd of a connection that is up goes on as it is.
        self.end_masters()

    def sessions(self, began, ended):
        """Per host: exec sessions, sftp sessions, connections that its sshd saw in between."""
        def of(name):
            out = self.ssh(name, "journalctl -u ssh -o short-unix --no-pager -n 5000")
            counts = [0, 0, 0]
            for line in out.splitlines():
                stamp, _, text = line.partition(" ")
                try:
                    when = float(stamp)
                except ValueError:
                    continue
                if not began <= when <= ended:
                    continue
                if "Starting session: subsystem" in text:
                    counts[1] += 1
                elif "Starting session:" in text:
                    counts[0] += 1
                elif "Accepted publickey" in text:
                    counts[2] += 1
            return counts
        return in_parallel(of, self.names)

    def write_inventory(self, path, postgres, port=22):
        """A plain inventory of the hosts (without `lab:`, so looking after the lab costs nothing)."""
        nodes = "".join(
            f"  {n}: {{ host: {a}{', primary: true' if n == 'node1' else ''} }}\n"
            for n, a in self.address.items()
        )
        path.write_text(
            f"cluster: {self.cluster}\n"
            f"ssh: {{ user: root, port: {port}, identity_file: {self.key}, "
            f"known_hosts: {self.known_hosts}, ssh_config: false }}\n{postgres}nodes:\n{nodes}"
        )

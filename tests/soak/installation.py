"""What the soak runs: replicas of weir behind HAProxy, two MariaDB servers and Redis, with the settings
that are shipped, in one folder and on loopback ports. Each is a process that can be killed, frozen and
started again in its place."""

import errno
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
REPLICAS = 3
SHARDS = 8
# The replica whose clock jumps runs under libfaketime from its start.
JUMPING = 2
DATABASE = "weir"
SETTINGS = {
    "WEIR__STORAGE__SHARDS": str(SHARDS),
    "WEIR__HTTP__TRUSTED_PROXIES": "127.0.0.1",
    "WEIR__LOG__LEVEL": "warn",
    # Full early in the run, so that what still grows later is not a cache.
    "WEIR__CACHE__COLUMNS_BYTES_MAX": str(32 << 20),
}


class Failed(Exception):
    """The soak cannot go on; the text says why."""


def until(what, seconds, probe):
    """Asks again and again until there is something."""
    deadline = time.monotonic() + seconds
    while not (found := probe()):
        if time.monotonic() > deadline:
            raise Failed(f"after {seconds} s still waiting for {what}")
        time.sleep(0.05)
    return found


def free_port():
    """Below those that outgoing connections use, since a server must find its own again after a kill; and
    from anywhere there, since that of another soak may be free for a moment for the same reason."""
    for _ in range(100):
        port = random.SystemRandom().randrange(10_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass
    raise Failed("no port is free")


class Process:
    # Held by who starts one, so that none comes to life behind the one who ends them all.
    gate = threading.Lock()
    is_over = False

    def __init__(self, name, command, folder, environment=None):
        self.name, self.command, self.folder = name, [str(word) for word in command], folder
        self.environment = {**os.environ, "TMPDIR": str(folder), **(environment or {})}
        self.log = folder / "log"
        self.child = None
        # Between a kill and the next start nobody shall wonder where it is.
        self.is_wanted = False
        folder.mkdir(parents=True, exist_ok=True)

    def start(self):
        with Process.gate, open(self.log, "ab") as log:
            if Process.is_over:
                raise Failed("the soak is over")
            self.child = subprocess.Popen(
                self.command, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.is_wanted = True

    def is_running(self):
        return self.child is not None and self.child.poll() is None

    def kill(self):
        self.is_wanted = False
        if self.child is not None:
            self.child.kill()
            self.child.wait(30)

    def freeze(self, seconds, stop):
        """Stops the process that runs now, and lets it go on unless it was killed meanwhile."""
        child = self.child
        child.send_signal(signal.SIGSTOP)
        try:
            stop.wait(seconds)
        finally:
            child.send_signal(signal.SIGCONT)

    def said(self, text):
        """How often its log has it."""
        return self.log.read_text(errors="replace").count(text)

    def tail(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])


class MariaDb(Process):
    def __init__(self, name, folder, port, options=()):
        self.port, self.data, self.options = port, folder / "data", options
        self.as_user = ["--user=root"] if os.geteuid() == 0 else []
        self.defaults = f"--defaults-file={ROOT}/config/mariadb.cnf"
        command = ["mariadbd", self.defaults, f"--datadir={self.data}", "--bind-address=127.0.0.1"]
        command += [f"--port={port}", f"--socket={folder}/socket", f"--pid-file={folder}/pid"]
        command += [f"--init-file={ROOT}/config/test/mariadb-users.sql", *options, *self.as_user]
        super().__init__(name, command, folder)
        self.url = f"mysql://weir:weir@127.0.0.1:{port}/{DATABASE}"

    def install(self):
        words = ["mariadb-install-db", self.defaults, f"--datadir={self.data}", *self.options, *self.as_user]
        words += ["--auth-root-authentication-method=normal", "--skip-test-db"]
        made = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=120)
        if made.returncode != 0:
            raise Failed(f"mariadb-install-db: {made.stdout}{made.stderr}")
        self.start()
        self.query(f"CREATE DATABASE {DATABASE}", database="mysql")

    def start(self):
        super().start()
        until(f"{self.name} to answer", 120, self.answers)

    def answers(self):
        if not self.is_running():
            raise Failed(f"{self.name} ended:\n{self.tail()}")
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                greeting = connection.recv(5)
        except OSError:
            return False
        # The version of the protocol; an error would begin with 255.
        return len(greeting) == 5 and greeting[4] == 10

    def query(self, sql, database=DATABASE):
        """Rows of texts."""
        words = ["mariadb", "--host=127.0.0.1", f"--port={self.port}", "--user=weir", "--password=weir"]
        words += ["--batch", "--skip-column-names", f"--execute={sql}", database]
        asked = subprocess.run(words, capture_output=True, text=True, timeout=60)
        if asked.returncode != 0:
            raise Failed(f"{self.name}: {asked.stderr}")
        return [line.split("\t") for line in asked.stdout.splitlines()]


class Weir(Process):
    def __init__(self, name, folder, binary, environment):
        self.bind, self.ops = (f"127.0.0.1:{free_port()}" for _ in range(2))
        environment = {**environment, "WEIR__HTTP__BIND": self.bind, "WEIR__HTTP__OPS_BIND": self.ops}
        super().__init__(name, [binary, "serve"], folder, environment)
        self.was_ready = False
        self.started_at = 0.0
        self.refused_starts = 0
        # The one that starts it after a kill, and the one that finds it dead.
        self.starting = threading.Lock()

    def start(self):
        """Until it gets requests. While the control database is away it ends at its start, and whoever
        runs it starts it again."""
        with self.starting:
            self.was_ready = False
            deadline = time.monotonic() + 180
            while not self.was_ready:
                if time.monotonic() > deadline:
                    raise Failed(f"{self.name} does not become ready:\n{self.tail()}")
                if not self.is_running():
                    if self.is_wanted:
                        self.refused_starts += 1
                        time.sleep(1)
                    super().start()
                    self.started_at = time.monotonic()
                time.sleep(0.1)
                self.was_ready = self.get("/healthz/ready") is not None and self.is_running()
        return self

    def kill(self):
        super().kill()
        self.was_ready = False

    def get(self, path):
        """From the operator's address; `None` when it does not answer well."""
        try:
            with urllib.request.urlopen(f"http://{self.ops}{path}", timeout=5) as answer:
                return answer.read().decode()
        except (urllib.error.URLError, OSError):
            return None


class Installation:
    """`with` it, everything runs; afterwards nothing does."""

    def __init__(self, folder, binary, faketime, events):
        self.folder, self.binary = folder, binary
        # 130 MiB without an event, and below 500 bytes for each were seen, old versions included. A redo
        # log as it is shipped would be most of a small disk.
        self.disk_mib = 384 + events // 2_000
        small_log = ["--innodb-log-file-size=96M"]
        self.servers = [MariaDb(f"MariaDB {n}", folder / f"mariadb-{n}", free_port(), small_log) for n in (1, 2)]
        self.redis_port = free_port()
        words = ["redis-server", ROOT / "config/redis.conf", "--bind", "127.0.0.1", "--port", self.redis_port]
        self.redis = Process("Redis", words, folder / "redis")
        self.clock = folder / "clock"
        self.set_clock(0)
        self.environment = {
            **SETTINGS,
            "WEIR__STORAGE__CONTROL": self.servers[0].url,
            "WEIR__STORAGE__SERVERS": ",".join(server.url for server in self.servers),
            "WEIR__CACHE__REDIS": f"redis://127.0.0.1:{self.redis_port}",
        }
        jumps = {
            "LD_PRELOAD": faketime,
            "FAKETIME_TIMESTAMP_FILE": str(self.clock),
            "FAKETIME_CACHE_DURATION": "1",
            # A clock that is set moves no timers.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.replicas = []
        for n in range(REPLICAS):
            environment = {**self.environment, **(jumps if n == JUMPING else {})}
            self.replicas.append(Weir(f"weir-{n + 1}", folder / f"weir-{n + 1}", binary, environment))
        self.address = f"127.0.0.1:{free_port()}"
        balanced = {f"WEIR_{n}": weir.bind for n, weir in enumerate(self.replicas, 1)}
        balanced |= {"WEIR_BIND": self.address, "WEIR_STATS": f"127.0.0.1:{free_port()}"}
        words = ["haproxy", "-db", "-f", ROOT / "config/haproxy.cfg"]
        self.haproxy = Process("HAProxy", words, folder / "haproxy", balanced)

    def __enter__(self):
        try:
            disk = self.servers[1].data
            disk.mkdir()
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={self.disk_mib}m", "weir-soak", disk], check=True, timeout=10
            )
            for server in self.servers:
                server.install()
            self.redis.start()
            until("Redis to answer", 20, lambda: self.redis_says("PING"))
            self.haproxy.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        with Process.gate:
            Process.is_over = True
        for process in [self.haproxy, *self.replicas, self.redis, *self.servers]:
            process.kill()
        subprocess.run(["umount", self.servers[1].data], stderr=subprocess.DEVNULL, timeout=30)

    def create_project(self, name):
        words = [self.binary, "project", "create", name, "--json"]
        environment = {**os.environ, **self.environment}
        made = subprocess.run(words, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=60)
        if made.returncode != 0:
            raise Failed(f"weir project create: {made.stderr}")
        return json.loads(made.stdout)

    def redis_says(self, *words):
        try:
            with socket.create_connection(("127.0.0.1", self.redis_port), 2) as connection:
                connection.sendall((" ".join(words) + "\r\n").encode())
                return connection.recv(100).startswith(b"+")
        except OSError:
            return False

    def set_clock(self, seconds):
        """Of the replica whose clock jumps: how far it is off."""
        # Renamed over the old one, since it may be read at any moment.
        new = self.clock.with_suffix(".new")
        new.write_text(f"{seconds:+d}s\n")
        new.replace(self.clock)

    def fill_disk(self):
        """Takes all that is left of the second server's disk; returns what gives it back."""
        ballast = self.servers[1].data / "ballast"
        with open(ballast, "wb", buffering=0) as file:
            for chunk in (bytes(1 << 20), bytes(4 << 10)):
                try:
                    while file.write(chunk):
                        pass
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
        return ballast.unlink

    def left_to_do(self):
        """Batches in journals and open moves, in words; empty when there are none."""
        left = []
        for server in self.servers:
            for what, sql in [
                ("batches of shard", "SELECT shard_no, COUNT(*) FROM journal GROUP BY shard_no"),
                ("moves of shard", "SELECT shard_no, COUNT(*) FROM moves GROUP BY shard_no"),
            ]:
                left += [f"{server.name}: {count} {what} {shard}" for shard, count in server.query(sql)]
        return left

    def rejected_events(self):
        """Kept as samples by collection, or put aside by the sealer."""
        return sum(int(server.query("SELECT COUNT(*) FROM failed_events")[0][0]) for server in self.servers)

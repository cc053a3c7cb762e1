"""A process of weir that is measured, and the MariaDB that it works on."""

import argparse
import http.client
import json
import os
import random
import socket
import statistics
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

PROJECT = "bench"
# Filling the demo happens before it is ready.
READY_SECS_MAX = 300
# Nothing was sealed or compacted for so long: there is nothing left to do, `sealing.compact_quiet_secs` included.
REST_SECS = 45
RESIZED_SECS_MAX = 60


class Failed(SystemExit):
    """Nothing can be measured after it; ends the program with its text."""


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--weir", required=True, help="the program")
    parser.add_argument("--mysql", required=True, help="mysql://user:password@host:port of who may create databases")
    parser.add_argument("--folder", required=True, help="an empty one, for whatever is needed meanwhile")
    parser.add_argument("--json", help="the figures as a file too")
    return parser


def free_port():
    """A port below those that the system hands out by itself, so that nobody else is given it."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def cpu_secs(pid):
    """What a process has used so far, in user and in kernel mode."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        # The name, in parentheses, may hold anything.
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class MariaDb:
    def __init__(self, url):
        self.url = url
        parts = urllib.parse.urlsplit(url)
        self.command = ["mariadb", f"--host={parts.hostname}", f"--port={parts.port}", f"--user={parts.username}"]
        self.command += [f"--password={parts.password}", "--batch", "--skip-column-names", "--execute"]

    def rows(self, sql):
        found = subprocess.check_output([*self.command, sql], text=True)
        return [line.split("\t") for line in found.splitlines()]

    def empty_database(self, name):
        """Its address for weir; what was in it is gone."""
        self.rows(f"DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name}")
        return f"{self.url}/{name}"

    def buffer_pool(self):
        return int(self.rows("SELECT @@innodb_buffer_pool_size")[0][0])

    def set_buffer_pool(self, size):
        """Some versions grow and shrink it behind the statement's back, and say so."""
        self.rows(f"SET GLOBAL innodb_buffer_pool_size = {size}")
        status = "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'innodb_buffer_pool_resize_status'"
        until = time.monotonic() + RESIZED_SECS_MAX
        while self.buffer_pool() != size or "Resizing" in str(self.rows(status)):
            if time.monotonic() > until:
                raise Failed(f"the buffer pool has not become {size} bytes after {RESIZED_SECS_MAX} s")
            time.sleep(0.2)

    def cpu_secs(self):
        with open(self.rows("SELECT @@pid_file")[0][0], encoding="utf-8") as file:
            return cpu_secs(int(file.read()))


class Client:
    """One connection that is kept, one request at a time."""

    def __init__(self, address, key):
        self.connection = http.client.HTTPConnection(address, timeout=60)
        self.headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def request(self, method, path, body=None, **headers):
        self.connection.request(method, path, body, {**self.headers, **headers})
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status not in (200, 202):
            raise Failed(f"{method} {path}: weir answered {answer.status}: {text.decode()}")
        return text

    def get(self, path):
        return self.request("GET", path)

    def ask(self, question):
        """The result of a whole answer."""
        body = json.dumps({"question": question})
        ticket = json.loads(self.request("POST", "/api/v1/tickets", body, Prefer="wait=25"))
        while ticket["state"] in ("queued", "running"):
            ticket = json.loads(self.get(f"/api/v1/tickets/{ticket['id']}?wait=25"))
        if ticket["state"] != "succeeded" or ticket["partial"]:
            raise Failed(f"weir did not answer: {ticket}")
        return ticket["result"]


class Weir:
    """One process at a time, ended and started anew at will; embedded unless `control` names a database."""

    def __init__(self, binary, folder, control=None, **settings):
        """Settings as in `storage__shards=4`."""
        self.binary, self.folder = binary, folder
        os.makedirs(folder, exist_ok=True)
        self.address, self.ops = (f"127.0.0.1:{free_port()}" for _ in range(2))
        settings = {
            "http__bind": self.address,
            "http__ops_bind": self.ops,
            "http__drain_wait_secs": 0,
            "log__level": "warn",
            "storage__control": control,
            **settings,
        }
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("WEIR__")}
        for name, value in settings.items():
            if value is not None:
                self.environment[f"WEIR__{name.upper()}"] = str(value)
        self.process = self.key = self.client = None

    def run(self, *words):
        """A command, away from any configuration file that may lie here."""
        return subprocess.check_output([self.binary, *words], cwd=self.folder, env=self.environment)

    def create_project(self):
        self.key = json.loads(self.run("project", "create", PROJECT, "--json"))["secret_key"]

    def start(self, *words):
        """`serve`, or what the words say; how long it took until it was ready."""
        began = time.perf_counter()
        command = [self.binary, *(words or ["serve"])]
        with open(os.path.join(self.folder, "weir.log"), "ab") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=log, stderr=log)
        while not self.is_ready():
            if self.process.poll() is not None:
                raise Failed(f"weir did not start: {self.log()}")
            if time.perf_counter() - began > READY_SECS_MAX:
                self.stop()
                raise Failed(f"weir did not become ready: {self.log()}")
            time.sleep(0.005)
        self.client = Client(self.address, self.key)
        return time.perf_counter() - began

    def is_ready(self):
        try:
            with urllib.request.urlopen(f"http://{self.address}/healthz/ready", timeout=5):
                return True
        except (urllib.error.URLError, OSError, http.client.HTTPException):
            return False

    def log(self):
        with open(os.path.join(self.folder, "weir.log"), encoding="utf-8", errors="replace") as log:
            return log.read()[-2000:]

    def stop(self):
        if self.process:
            # It waits for connections that are open.
            if self.client:
                self.client.connection.close()
            self.process.terminate()
            self.process.wait(timeout=60)
            self.process = self.client = None

    def fill(self, export, events):
        """Imports a file while it serves, which it still does afterwards, and waits for compaction."""
        self.start()
        began = time.monotonic()
        self.run("import", export, "--project", PROJECT, "--strict")
        took = time.monotonic() - began
        self.rest()
        print(f"imported in {took:.0f} s, {events / took:,.0f} events/s", flush=True)

    def rest(self):
        """Waits until sealing and compaction have nothing left to do."""
        quiet_since, rows = time.monotonic(), None
        while time.monotonic() - quiet_since < REST_SECS:
            metrics = self.metrics()
            now = (metrics.get("weir_compact_rows_total"), metrics.get("weir_seal_batches_total"))
            if now != rows:
                quiet_since, rows = time.monotonic(), now
            time.sleep(0.5)

    def timed(self, question, runs):
        """Of a new process: cold, the median of further runs, the answer, and the memory it came to."""
        self.start()
        times = []
        for _ in range(1 + runs):
            began = time.perf_counter()
            answer = self.client.ask(question)
            times.append(time.perf_counter() - began)
        memory = self.memory_mb("VmHWM")
        self.stop()
        warm = statistics.median(times[1:]) if runs else None
        return {"cold": times[0], "warm": warm, "answer": answer, "memory": memory}

    def metrics(self):
        with urllib.request.urlopen(f"http://{self.ops}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return dict(line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))

    def cpu_secs(self):
        return cpu_secs(self.process.pid)

    def memory_mb(self, field):
        """`VmRSS` is now, `VmHWM` the most there ever was; in millions of bytes."""
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as status:
            line = next(line for line in status if line.startswith(field))
        return int(line.split()[1]) * 1024 / 1e6

    def stored_bytes(self):
        """Of all runs and segments that are live, filters included, as `weir shards` counts them."""
        listed = json.loads(self.run("shards", "--json"))
        return sum(shard[kind]["bytes"] for shard in listed["shards"] for kind in ("runs", "segments"))

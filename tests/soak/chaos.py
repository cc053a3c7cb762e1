"""What is done to the installation, drawn from the seed.

Each lane does one thing at a time: MariaDB servers are never away together, while a replica may die or
freeze and Redis be gone whenever. In the second half nobody touches the first replica, so that its memory
can be judged."""

import collections
import random
import threading
import time

from installation import JUMPING, REPLICAS
from traffic import Client

SPARED = 0
CLOCKS = [7_200, -7_200, 420, -420]
# How long a disk that is full may take until a commit fails.
FULL_SECS_MAX = 120


class Chaos:
    def __init__(self, installation, senders, seed, seconds, counts):
        self.installation, self.senders = installation, senders
        self.seed, self.seconds = seed, seconds
        self.began = time.monotonic()
        self.stop = threading.Event()
        self.done = collections.Counter()
        self.errors = []
        self.log_lock = threading.Lock()
        self.log = open(installation.folder / "chaos.log", "w", buffering=1, encoding="utf-8")
        self.lanes = [
            self.lane("servers", {
                self.kill_server: counts["server_kills"],
                self.freeze_server: self.one_in(5),
                self.fill_disk: self.one_in(12),
            }),
            self.lane("replicas", {self.kill_replica: counts["replica_kills"]}),
            self.lane("freezes", {self.freeze_replica: self.one_in(6)}),
            self.lane("clock", {self.jump_clock: max(len(CLOCKS), self.one_in(4))}),
            self.lane("redis", {self.kill_redis: self.one_in(10), self.wipe_redis: self.one_in(10)}),
        ]

    def one_in(self, minutes):
        return max(1, round(self.seconds / 60 / minutes))

    def lane(self, name, kinds):
        """Its actions in random order, spread evenly over the run but for a little."""
        draw = random.Random(f"{self.seed} {name}")
        actions = [(action, n) for action, count in kinds.items() for n in range(count)]
        draw.shuffle(actions)
        step = 0.92 * self.seconds / max(1, len(actions))
        times = [0.03 * self.seconds + (n + draw.random()) * step for n in range(len(actions))]
        return threading.Thread(target=self.run, args=(draw, list(zip(times, actions))), daemon=True)

    def start(self):
        for lane in self.lanes:
            lane.start()

    def are_busy(self):
        return any(lane.is_alive() for lane in self.lanes)

    def run(self, draw, schedule):
        try:
            for at, (action, n) in schedule:
                if self.stop.wait(max(0, self.began + at - time.monotonic())):
                    return
                action(draw, n)
        except Exception as error:  # Whatever it is ends the soak, in the thread that waits for it.
            self.errors.append(error)

    def note(self, what, detail):
        self.done[what] += 1
        with self.log_lock:
            self.log.write(f"{time.monotonic() - self.began:8.1f} s  {what}: {detail}\n")

    def is_first_half(self):
        return time.monotonic() - self.began < self.seconds / 2

    def a_replica(self, draw):
        """Drawn in any case, so that how late an action is changes none that follow."""
        any_of, of_others = draw.randrange(REPLICAS), draw.choice([n for n in range(REPLICAS) if n != SPARED])
        return self.installation.replicas[any_of if self.is_first_half() else of_others]

    def kill_replica(self, draw, _):
        weir = self.a_replica(draw)
        weir.kill()
        self.note("replica killed", weir.name)
        self.stop.wait(draw.uniform(0, 3))
        weir.start()

    def freeze_replica(self, draw, _):
        weir, seconds = self.a_replica(draw), draw.uniform(10, 30)
        self.note("replica frozen", f"{weir.name} for {seconds:.0f} s")
        weir.freeze(seconds, self.stop)

    def jump_clock(self, draw, n):
        seconds = CLOCKS[n % len(CLOCKS)]
        self.note("clock jumped", f"of {self.installation.replicas[JUMPING].name} to {seconds:+d} s")
        self.installation.set_clock(seconds)

    def kill_server(self, draw, n):
        server = self.installation.servers[n % 2]
        server.kill()
        self.note("server killed", server.name)
        self.stop.wait(draw.uniform(1, 8))
        server.start()

    def freeze_server(self, draw, n):
        server, seconds = self.installation.servers[n % 2], draw.uniform(5, 40)
        self.note("server frozen", f"{server.name} for {seconds:.0f} s")
        server.freeze(seconds, self.stop)

    def fill_disk(self, draw, _):
        """Full until a commit fails, and then for some time."""
        server, seconds = self.installation.servers[1], draw.uniform(20, 60)
        client, before = Client(self.senders.address), server.said("The table 'journal' is full")
        give_back = self.installation.fill_disk()
        try:
            deadline = time.monotonic() + FULL_SECS_MAX
            while server.is_running() and server.said("The table 'journal' is full") == before:
                if time.monotonic() > deadline:
                    return self.note("disk full in vain", "no commit failed")
                # Pages that were used before take the usual events for long.
                for _ in range(20):
                    self.senders.send_heavy(client, draw)
            self.note("disk full", f"for {seconds:.0f} s more")
            self.stop.wait(seconds)
        finally:
            give_back()
        if not server.is_running():
            self.note("server ended by a full disk", server.name)
            server.start()

    def kill_redis(self, draw, _):
        redis = self.installation.redis
        redis.kill()
        self.note("Redis killed", "empty when it is back")
        self.stop.wait(draw.uniform(1, 10))
        redis.start()

    def wipe_redis(self, draw, _):
        if self.installation.redis_says("FLUSHALL"):
            self.note("Redis wiped", "while it runs")

"""Who sends and who asks. Every event follows from the seed and the number of its batch, so a batch can be
made again at any time, and what must be stored can be counted exactly."""

import base64
import collections
import datetime
import http.client
import json
import random
import threading
import time

SENDERS = 12
BATCH_MAX = 100
WAVE = 150
NAMES = ["viewed", "searched", "added", "checked_out", "paid", "shared", "rated", "left"]
IDENTIFY = "$identify"
# Long past: whatever a replica's clock says, these times are not in its future.
FIRST_DAY = datetime.date(2025, 1, 1)
DAYS = 90
# Beside the projects of the usual events, one whose events are large: they fill a disk.
PROJECTS = 3
HEAVY = PROJECTS
HEAVY_FROM = 10**8
# More than weir takes to refuse a commit.
ANSWER_SECS_MAX = 15
ASKERS = 2
UNENDED = "no end"
# More than a long poll takes.
QUESTION_SECS_MAX = 30
AGAIN_SHARE = 0.02

Row = collections.namedtuple("Row", "name day n person alias")
Batch = collections.namedtuple("Batch", "number project rows body")


class World:
    def __init__(self, seed, events):
        self.seed = seed
        self.people = max(500, events // 100)

    def batch(self, number):
        draw = random.Random(self.seed * 1_000_000_007 + number)
        first = number * BATCH_MAX
        if number >= HEAVY_FROM:
            row = Row("heavy", draw.randrange(DAYS), first, draw.randrange(500), 0)
            return self.packed(draw, number, HEAVY, [row])
        project = draw.randrange(PROJECTS)
        size = 1 if draw.random() < 0.3 else draw.randint(2, BATCH_MAX)
        # Links come in waves: between them nobody is on the move, and answers can be whole.
        links = 0.1 if number // WAVE % 3 == 0 else 0
        return self.packed(draw, number, project, [self.row(draw, n, links) for n in range(first, first + size)])

    def row(self, draw, n, links):
        # Few people send much. A third of them come with one of two anonymous ids too.
        person = int(self.people * draw.random() ** 2)
        alias = draw.randrange(3) if person % 3 == 0 else 0
        name = IDENTIFY if alias and draw.random() < links else draw.choice(NAMES)
        return Row(name, draw.randrange(DAYS), n, person, alias)

    def packed(self, draw, number, project, rows):
        events = [self.event(draw, row, project == HEAVY) for row in rows]
        body = events[0] if len(events) == 1 else {"batch": events}
        return Batch(number, project, rows, json.dumps(body).encode())

    def event(self, draw, row, is_heavy):
        user, anonymous = f"u{row.person}", f"a{row.person}.{row.alias}"
        at = datetime.datetime.combine(FIRST_DAY, datetime.time()) + datetime.timedelta(
            days=row.day, milliseconds=draw.randrange(86_400_000)
        )
        properties = {"n": row.n, "path": f"/p/{draw.randrange(2_000)}", "amount": draw.randrange(10_000) / 100}
        if is_heavy:
            # Cannot be compressed, and still fits into a page: InnoDB of MariaDB 10.11 ends itself when it
            # has to roll back what lies outside of one and the disk is full.
            properties["ballast"] = base64.b64encode(draw.randbytes(5_000)).decode()
        event = {
            # UUIDs and other ids are kept differently.
            "id": f"soak-{row.n}" if row.n % 10 == 0 else f"{self.seed:08x}-0000-4000-8000-{row.n:012x}",
            "event": row.name,
            "distinct_id": anonymous if row.alias and row.name != IDENTIFY else user,
            "timestamp": at.isoformat(timespec="milliseconds") + "Z",
            "properties": properties,
        }
        if row.name == IDENTIFY:
            event["anonymous_id"] = anonymous
        return event


class Ledger:
    """What was sent and acknowledged, and so what must come out."""

    def __init__(self):
        self.lock = threading.Lock()
        # Per project, events that are part of "every event".
        self.sent = [0] * (PROJECTS + 1)
        self.acknowledged = [0] * (PROJECTS + 1)
        self.events = 0
        self.counts = collections.Counter()
        self.sums = collections.Counter()
        self.seen = [set() for _ in range(PROJECTS + 1)]
        self.linked = [set() for _ in range(PROJECTS + 1)]
        self.open = set()
        self.done = []
        self.answers = collections.Counter()
        self.again = 0
        self.rejected = []

    def sends(self, batch):
        with self.lock:
            self.open.add(batch.number)
            self.sent[batch.project] += sum(row.name != IDENTIFY for row in batch.rows)

    def acknowledges(self, batch):
        with self.lock:
            self.open.discard(batch.number)
            self.done.append(batch.number)
            self.events += len(batch.rows)
            for row in batch.rows:
                self.counts[batch.project, row.name, row.day] += 1
                if row.name == IDENTIFY:
                    self.linked[batch.project].add((row.person, row.alias))
                else:
                    self.acknowledged[batch.project] += 1
                    self.sums[batch.project, row.day] += row.n
                    self.seen[batch.project].add((row.person, row.alias))

    def persons(self, project):
        linked = self.linked[project]
        return len({(person, 0 if (person, alias) in linked else alias) for person, alias in self.seen[project]})


class Client:
    """One connection, opened again after any failure."""

    def __init__(self, address, timeout=ANSWER_SECS_MAX):
        self.address, self.timeout, self.connection = address, timeout, None

    def request(self, method, path, key, body=None, headers=()):
        """The status and the body, or why there is none."""
        try:
            if self.connection is None:
                self.connection = http.client.HTTPConnection(self.address, timeout=self.timeout)
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", **dict(headers)}
            self.connection.request(method, path, body, headers)
            answer = self.connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            self.connection = None
            return type(error).__name__, b""


class Senders:
    """Send at a steady rate, make up for what held them up, and give no batch up before the deadline."""

    def __init__(self, world, ledger, address, projects, events, seconds, seconds_max):
        self.world, self.ledger, self.address, self.projects = world, ledger, address, projects
        self.events, self.rate = events, events / seconds
        self.began = time.monotonic()
        self.deadline = self.began + seconds_max
        self.taken = self.next_number = 0
        self.next_heavy = HEAVY_FROM
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=(n,), daemon=True) for n in range(SENDERS)]

    def start(self):
        for thread in self.threads:
            thread.start()

    def are_busy(self):
        return any(thread.is_alive() for thread in self.threads)

    def take(self):
        while time.monotonic() < self.deadline:
            with self.lock:
                if self.taken >= self.events:
                    return None
                if self.taken <= self.rate * (time.monotonic() - self.began):
                    batch = self.world.batch(self.next_number)
                    self.next_number += 1
                    self.taken += len(batch.rows)
                    return batch
            time.sleep(0.02)
        return None

    def run(self, sender_no):
        draw, client = random.Random(f"{self.world.seed} {sender_no}"), Client(self.address)
        while batch := self.take():
            self.deliver(client, draw, batch)
            if draw.random() < AGAIN_SHARE:
                # As a client does that has not heard of the answer, however late.
                with self.ledger.lock:
                    number = draw.choice(self.ledger.done) if self.ledger.done else None
                    self.ledger.again += 1
                if number is not None:
                    self.deliver(client, draw, self.world.batch(number), is_new=False)

    def deliver(self, client, draw, batch, is_new=True):
        if is_new:
            self.ledger.sends(batch)
        pause = 0.1
        while time.monotonic() < self.deadline:
            key = self.projects[batch.project]["write_key"]
            status, body = client.request("POST", "/api/v1/events", key, batch.body)
            with self.ledger.lock:
                self.ledger.answers[status] += 1
            if status == 200:
                answer = json.loads(body)
                if answer["accepted"] != len(batch.rows):
                    self.ledger.rejected.append(answer)
                if is_new:
                    self.ledger.acknowledges(batch)
                return
            time.sleep(pause * draw.uniform(0.5, 1))
            pause = min(pause * 2, 5)

    def send_heavy(self, client, draw):
        """Called by one thread only."""
        batch = self.world.batch(self.next_heavy)
        self.next_heavy += 1
        self.deliver(client, draw, batch)


def question(series, granularity=None, **fields):
    end = FIRST_DAY + datetime.timedelta(days=DAYS)
    asked = {"kind": "trends", "from": str(FIRST_DAY), "to": str(end), "time_zone": "UTC", "series": series, **fields}
    return asked | ({"granularity": granularity} if granularity else {})


def ask(client, project, body, seconds=120):
    """The ticket in its final state; a text when there is none."""
    deadline, key = time.monotonic() + seconds, project["secret_key"]
    asked = json.dumps({"question": body})
    status, answer = client.request("POST", "/api/v1/tickets", key, asked, {"Prefer": "wait=20"})
    if status not in (200, 201, 202):
        return f"submitting: {status}"
    ticket = json.loads(answer)
    # A replica that dies while it waits takes the answer with it, not the ticket.
    while ticket["state"] in ("queued", "running", "cancelling"):
        if time.monotonic() > deadline:
            return f"{UNENDED} after {seconds} s: {ticket['id']} is {ticket['state']}"
        status, answer = client.request("GET", f"/api/v1/tickets/{ticket['id']}?wait=20", key)
        if status == 200:
            ticket = json.loads(answer)
        else:
            time.sleep(0.5)
    return ticket if ticket["state"] == "succeeded" else f"{ticket['state']}: {ticket['error']}"


def is_whole(ticket):
    """Whether the answer has everything that was acknowledged when it was asked for."""
    if isinstance(ticket, str) or ticket["partial"]:
        return False
    return ticket["result"].get("fresh", False) and "moving" not in ticket["result"]


class Askers:
    """Ask for counts all the while. No answer may have more than was sent; one that is whole and fresh
    must have all that was acknowledged when it was asked for."""

    def __init__(self, ledger, address, projects, seed, stop):
        self.ledger, self.address, self.projects, self.stop = ledger, address, projects, stop
        self.lock = threading.Lock()
        self.tally = collections.Counter()
        self.failures = collections.Counter()
        self.wrong = []
        draws = [random.Random(f"{seed} asker {n}") for n in range(ASKERS)]
        self.threads = [threading.Thread(target=self.run, args=(draw,), daemon=True) for draw in draws]

    def start(self):
        for thread in self.threads:
            thread.start()

    def run(self, draw):
        client = Client(self.address, timeout=QUESTION_SECS_MAX)
        while not self.stop.wait(draw.uniform(1, 5)):
            project = draw.randrange(PROJECTS)
            series = [{"measure": "count"}, {"measure": "persons"}]
            asked = question(series, draw.choice([None, "day"]), fresh=draw.random() < 0.5)
            acknowledged = self.ledger.acknowledged[project]
            ticket = ask(client, self.projects[project], asked)
            with self.lock:
                self.judge(project, acknowledged, ticket, self.ledger.sent[project])

    def judge(self, project, acknowledged, ticket, sent):
        self.tally["asked"] += 1
        if isinstance(ticket, str):
            self.tally["without an end" if ticket.startswith(UNENDED) else "failed"] += 1
            self.failures[ticket] += 1
            return
        count = ticket["result"]["series"][0]["total"]
        self.tally["partial"] += ticket["partial"]
        self.tally["moving"] += "moving" in ticket["result"]
        self.tally["whole and fresh"] += is_whole(ticket)
        if count > sent or is_whole(ticket) and count < acknowledged:
            wrong = {"project": project, "count": count, "sent": sent, "acknowledged": acknowledged}
            self.wrong.append(wrong | {"ticket": ticket})

"""The long run behind promises 1, 2, 4 and 6; `scripts/soak` starts it.

Clients send events through HAProxy and send again whatever was not answered with 200, and some of what was.
Meanwhile replicas, MariaDB and Redis are killed and frozen, a disk is full and a clock jumps. At the end
every event must have been acknowledged, and every count must be what was acknowledged: by project, event
and day, and the persons of each project.

Memory and file handles are flat when, for the replica that is left alone in the second half, the straight
line through the samples of the run's last third rises by no more than GROWTH_MIB_MAX and
GROWTH_HANDLES_MAX, and when no replica ever has more than MEMORY_MIB_MAX and HANDLES_MAX. A process that is
younger than GROWTH_AGE_SECS_MIN when that third begins still fills its caches: a short run says nothing
about growth."""

import argparse
import datetime
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import threading
import time

from chaos import SPARED, Chaos
from installation import Failed, Installation, until
from traffic import (
    DAYS, FIRST_DAY, HEAVY, HEAVY_FROM, IDENTIFY, NAMES, PROJECTS, QUESTION_SECS_MAX,
    Askers, Client, Ledger, Senders, World, ask, is_whole, question,
)
from watch import Watch, growth

GROWTH_MIB_MAX = 24
GROWTH_HANDLES_MAX = 16
GROWTH_AGE_SECS_MIN = 300
MEMORY_MIB_MAX = 400
HANDLES_MAX = 300
# What is still in hand when the time is over has so long to be acknowledged.
LATE_SECS_MAX = 600
DRAIN_SECS_MAX = 300
SHOWN_MAX = 20


def main():
    arguments = read_arguments()
    seed = arguments.seed
    print(f"seed {seed}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="weir-soak."))
    is_kept = True
    try:
        binary, faketime = os.environ["WEIR_SOAK_BINARY"], os.environ["WEIR_SOAK_FAKETIME"]
        with Installation(folder, binary, faketime, arguments.events) as installation:
            soak = Soak(arguments, installation)
            soak.run()
            is_kept = not soak.report()
            if is_kept:
                soak.keep()
    except Failed as failed:
        print(f"scripts/soak: {failed}", file=sys.stderr)
    except (KeyboardInterrupt, SystemExit):
        is_kept = False
        raise
    finally:
        if is_kept:
            print(f"kept for a look: {folder}, seed {seed}", flush=True)
        else:
            shutil.rmtree(folder)
    sys.exit(1 if is_kept else 0)


def read_arguments():
    parser = argparse.ArgumentParser(prog="scripts/soak")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--replica-kills", type=int, default=100)
    parser.add_argument("--server-kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    parser.add_argument("--json", help="the figures as a file too")
    return parser.parse_args()


class Soak:
    def __init__(self, arguments, installation):
        self.arguments, self.installation = arguments, installation
        self.seconds = arguments.minutes * 60
        self.stop = threading.Event()
        self.world = World(arguments.seed, arguments.events)
        self.ledger = Ledger()
        self.projects = [installation.create_project(f"soak-{n}") for n in range(PROJECTS + 1)]
        self.watch = Watch(installation.replicas, self.stop)
        self.askers = Askers(self.ledger, installation.address, self.projects, arguments.seed, self.stop)
        self.rows = []
        self.details = []

    def run(self):
        for replica in self.installation.replicas:
            replica.start()
        client = Client(self.installation.address)
        until("HAProxy to find a replica", 30, lambda: client.request("GET", "/healthz/ready", "")[0] == 200)
        self.began = time.monotonic()
        late = self.seconds + LATE_SECS_MAX
        senders = Senders(
            self.world, self.ledger, self.installation.address, self.projects, self.arguments.events, self.seconds, late
        )
        counts = {"replica_kills": self.arguments.replica_kills, "server_kills": self.arguments.server_kills}
        self.chaos = chaos = Chaos(self.installation, senders, self.arguments.seed, self.seconds, counts)
        self.senders = senders
        parts = [self.watch, self.askers, senders, chaos]
        try:
            for part in parts:
                part.start()
            said = 0
            while senders.are_busy() or chaos.are_busy():
                if chaos.errors:
                    raise Failed(f"chaos could not go on: {chaos.errors[0]}")
                if time.monotonic() - self.began > late + LATE_SECS_MAX:
                    raise Failed("senders or chaos do not end")
                time.sleep(0.5)
                if (minute := int((time.monotonic() - self.began) / 60)) > said:
                    said = minute
                    done = ", ".join(f"{what} {count}" for what, count in sorted(chaos.done.items()))
                    print(f"{minute:>3} min: {self.ledger.events:,} events acknowledged; {done}", flush=True)
            self.ended = time.monotonic()
            self.drain()
        finally:
            chaos.stop.set()
            self.stop.set()
        for thread in self.askers.threads:
            thread.join(150)
        self.compare()

    def drain(self):
        """Until nothing waits in a journal and no person is on the move."""
        quiet = 0
        # Both servers are not read in one instant, and a batch may go from one to the other.
        while quiet < 2:
            left = self.installation.left_to_do()
            quiet = 0 if left else quiet + 1
            if time.monotonic() > self.ended + DRAIN_SECS_MAX:
                raise Failed(f"left after {DRAIN_SECS_MAX} s: {', '.join(left)}")
            time.sleep(1)
        self.drained = time.monotonic()

    def final_answer(self, project):
        names = ["heavy"] if project == HEAVY else [*NAMES, IDENTIFY]
        series = [{"event": name, "measure": "count"} for name in names]
        series += [{"measure": "count"}, {"measure": "sum", "property": "n"}, {"measure": "persons"}]
        client = Client(self.installation.address, timeout=QUESTION_SECS_MAX)

        def whole():
            ticket = ask(client, self.projects[project], question(series, "day", fresh=True))
            return (names, ticket["result"]["series"]) if is_whole(ticket) else None

        return until(f"a whole answer of project {project}", 120, whole)

    def compare(self):
        """Every number that came out beside the one that must."""
        ledger = self.ledger
        self.missing = self.doubled = self.persons_off = self.sums_off = 0
        for project in range(PROJECTS + 1):
            names, series = self.final_answer(project)
            for name, found in zip(names, series):
                for day in range(DAYS):
                    self.compare_cell(project, name, day, found["values"][day])
            everything, sums, persons = series[len(names) :]
            if everything["total"] != (acknowledged := ledger.acknowledged[project]):
                self.sums_off += 1
                self.details.append(f"project {project}: {everything['total']} of {acknowledged} events")
            for day in range(DAYS):
                if (sums["values"][day] or 0) != ledger.sums[project, day]:
                    self.sums_off += 1
                    self.details.append(f"project {project}, day {day}: other events than those acknowledged")
            if persons["total"] != ledger.persons(project):
                self.persons_off += abs(persons["total"] - ledger.persons(project))
                self.details.append(f"project {project}: {persons['total']} persons of {ledger.persons(project)}")

    def compare_cell(self, project, name, day, found):
        expected = self.ledger.counts[project, name, day]
        if found == expected:
            return
        self.missing += max(0, expected - found)
        self.doubled += max(0, found - expected)
        detail = f"project {project}, {name}, day {day}: {found} of {expected}"
        if len(self.details) < SHOWN_MAX:
            detail += self.which(project, name, day)
        self.details.append(detail)

    def which(self, project, name, day):
        """The numbers of the events of a cell that are there too often or not at all."""
        numbers = [*range(self.senders.next_number), *range(HEAVY_FROM, self.senders.next_heavy)]
        sent = {
            row.n: row
            for batch in map(self.world.batch, numbers)
            if batch.project == project
            for row in batch.rows
            if (row.name, row.day) == (name, day)
        }
        begin, end = (str(FIRST_DAY + datetime.timedelta(days=day + more)) for more in (0, 1))
        series, breakdown = [{"event": name, "measure": "count"}], {"property": "n", "limit": 1_000}
        asked = question(series, breakdown=breakdown, fresh=True) | {"from": begin, "to": end}
        ticket = ask(Client(self.installation.address, timeout=QUESTION_SECS_MAX), self.projects[project], asked)
        if isinstance(ticket, str):
            return f" ({ticket})"
        found = {series["breakdown"]: series["total"] for series in ticket["result"]["series"]}
        odd = [f"{found.get(n, 0)} × {row}" for n, row in sent.items() if found.get(n, 0) != 1]
        odd += [f"{count} × {n}, never sent" for n, count in found.items() if n not in sent]
        return "".join(f"\n    {line}" for line in odd[:SHOWN_MAX])

    def row(self, name, value, unit, goal=None, holds=None):
        self.rows.append(
            {"name": name, "value": value, "unit": unit, "ratio": None, "goal": goal, "holds": holds}
        )

    def at_least(self, name, value, unit, goal):
        self.row(name, value, unit, goal, value >= goal)

    def at_most(self, name, value, unit, goal):
        self.row(name, value, unit, goal, value is not None and value <= goal)

    def report(self):
        ledger, done = self.ledger, self.chaos.done
        self.at_least("events acknowledged", ledger.events, "events", self.arguments.events)
        self.at_most("events missing", self.missing, "events", 0)
        self.at_most("events doubled", self.doubled, "events", 0)
        self.at_most("days with other events than acknowledged", self.sums_off, "days", 0)
        self.at_most("persons too many or too few", self.persons_off, "persons", 0)
        self.at_most("batches never acknowledged", len(ledger.open), "batches", 0)
        self.at_most("batches with rejected events", len(ledger.rejected), "batches", 0)
        self.at_most("rejected or broken events kept", self.installation.rejected_events(), "events", 0)
        self.at_most("answers with too many or too few events", len(self.askers.wrong), "answers", 0)
        self.report_chaos(done)
        self.report_flatness()
        self.row("time to send everything", (self.ended - self.began) / 60, "min")
        self.at_most("then until all journals were empty", self.drained - self.ended, "s", DRAIN_SECS_MAX)
        self.row("batches sent again though acknowledged", ledger.again, "batches")
        for answer, count in sorted(ledger.answers.items(), key=str):
            self.row(f"sends that ended with {answer}", count, "requests")
        self.at_least("questions whole and fresh", self.askers.tally["whole and fresh"], "questions", 1)
        # Promise 5: whatever dies, a ticket ends.
        self.at_most("questions without an end", self.askers.tally["without an end"], "questions", 0)
        for what in ("asked", "partial", "moving", "failed"):
            self.row(f"questions {what}", self.askers.tally[what], "questions")
        self.print()
        return all(row["holds"] is not False for row in self.rows)

    def report_chaos(self, done):
        self.at_least("replicas killed", done.pop("replica killed", 0), "kills", self.arguments.replica_kills)
        self.at_least("MariaDB killed", done.pop("server killed", 0), "kills", self.arguments.server_kills)
        for what in ("server frozen", "replica frozen", "clock jumped", "Redis killed", "Redis wiped", "disk full"):
            self.at_least(what, done.pop(what, 0), "times", 1)
        for what, count in done.items():
            self.row(what, count, "times")
        replicas = self.installation.replicas
        self.row("starts refused while databases were away", sum(weir.refused_starts for weir in replicas), "times")
        self.at_most("replicas that ended by themselves", len(self.watch.deaths), "times", 0)
        self.at_most("panics", self.watch.panics(), "times", 0)

    def report_flatness(self):
        samples = self.watch.samples
        self.at_most("resident memory, at most", max(sample.resident_mib for sample in samples), "MiB", MEMORY_MIB_MAX)
        self.at_most("file handles, at most", max(sample.handles for sample in samples), "handles", HANDLES_MAX)
        pid = self.installation.replicas[SPARED].child.pid
        late = [s for s in samples if s.pid == pid and self.began + self.seconds * 2 / 3 <= s.at <= self.ended]
        for name, of, unit, goal in [
            ("memory, growth in the last third", lambda sample: sample.resident_mib, "MiB", GROWTH_MIB_MAX),
            ("file handles, growth in the last third", lambda sample: sample.handles, "handles", GROWTH_HANDLES_MAX),
        ]:
            if late and late[0].age >= GROWTH_AGE_SECS_MIN:
                self.at_most(name, growth(late, of), unit, goal)
            else:
                self.row(name, growth(late, of), unit)
        path = self.installation.folder / "samples.csv"
        lines = (",".join(str(round(value, 1)) for value in sample) for sample in samples)
        path.write_text("\n".join([",".join(samples[0]._fields), *lines]) + "\n")

    def print(self):
        print(f"\n{'':<48} {'value':>12}  {'unit':<10} {'goal':>10}  holds")
        for row in self.rows:
            value = "-" if row["value"] is None else f"{row['value']:,.1f}".removesuffix(".0")
            goal = "-" if row["goal"] is None else f"{row['goal']:,}"
            holds = {True: "yes", False: "NO", None: "-"}[row["holds"]]
            print(f"{row['name']:<48} {value:>12}  {row['unit']:<10} {goal:>10}  {holds}")
        for line in [*self.details[:SHOWN_MAX], *self.watch.deaths[:3], *map(str, self.ledger.rejected[:3])]:
            print(line)
        for wrong in self.askers.wrong[:3]:
            print(json.dumps(wrong))
        for failure, count in self.askers.failures.most_common(10):
            print(f"{count} questions failed: {failure}")
        if self.arguments.json:
            pathlib.Path(self.arguments.json).write_text(json.dumps(self.rows, indent=2) + "\n")

    def keep(self):
        """The data of the second server would go with its disk."""
        second = self.installation.servers[1]
        second.kill()
        shutil.copytree(second.data, second.folder / "kept")


if __name__ == "__main__":
    main()

"""What grows with the data, and what must not. `scripts/bench growth` calls this.

* The ten questions of `questions.py` over more and more events: the time grows at most as the events do,
  and memory stays bounded.
* The same events on 1, 4 and 16 shards: equal answers, for hardly more CPU time.
* A question over one day, when there are 90 days and when there are 900, each with as many events.

Every answer is compared with ClickHouse's, which makes the events.
"""

import datetime
import os
import statistics
import time

from clickhouse import ClickHouse
from figures import figure, geometric_mean, publish
from ten_questions import END_DAY, QUESTIONS, same, totals, trends
from weir import Failed, MariaDb, Weir, arguments

MEMORY_MB_GOAL = 1_000
SHARDS = [1, 4, 16]
SHARDS_CPU_GOAL = 1.2
DAYS = [90, 900]
DAYS_GOAL = 1.2
# One in the middle of what is compacted.
DAY = END_DAY - datetime.timedelta(45)
DAY_QUESTION = {
    **trends([{"measure": "count"}, {"measure": "persons"}], breakdown={"event": True}),
    "from": str(DAY),
    "to": str(DAY + datetime.timedelta(1)),
}
DAY_SQL = f"SELECT event, count(), uniqExact(user_no) FROM {{table}} WHERE day = '{DAY}' GROUP BY event"
DAY_PERSONS = 50_000
COLD_RUNS = 5
DAY_RUNS = 200
TABLE = "by_user"


def read_arguments():
    parser = arguments()
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000_000, 10_000_000, 40_000_000])
    parser.add_argument("--shards-events", type=int, nargs="+", default=[2_000_000, 10_000_000])
    parser.add_argument("--day-events", type=int, default=20_000, help="of each of the 90 and of the 900 days")
    parser.add_argument("--runs", type=int, default=5)
    return parser.parse_args()


def main():
    given = read_arguments()
    ground = Ground(given)
    try:
        rows = measure_sizes(ground, sorted(given.sizes), given.runs)
        for events in sorted(given.shards_events):
            rows += measure_shards(ground, events, given.runs)
        rows += measure_days(ground, given.day_events)
    finally:
        ground.weir.stop()
    publish(rows, given.json)


class Ground:
    """One set of events at a time, in ClickHouse and in a weir of its own."""

    def __init__(self, given):
        self.given = given
        self.mariadb = MariaDb(given.mysql)
        self.clickhouse = ClickHouse(os.path.join(given.folder, "clickhouse"), os.cpu_count())
        self.export = os.path.join(given.folder, "events.ndjson.zst")
        self.events = 0
        self.weir = self.new_weir()

    def new_weir(self, shards=4):
        database = self.mariadb.empty_database("weir")
        return Weir(self.given.weir, self.given.folder, database, storage__shards=shards)

    def make(self, events, persons=None, **how):
        self.events = events
        # As many for each as in questions.py.
        self.clickhouse.fill(events, persons or max(1, events * 3 // 100), self.export, orders=[TABLE], **how)

    def fill(self, shards=4):
        """What was made, into a weir that has nothing else; the most memory that it had meanwhile."""
        self.weir = self.new_weir(shards)
        self.weir.create_project()
        self.weir.fill(self.export, self.events)
        memory = self.weir.memory_mb("VmHWM")
        self.weir.stop()
        return memory

    def rows(self, sql):
        return self.clickhouse.rows(sql.format(table=TABLE))


def measure_sizes(ground, sizes, runs):
    rows, found = [], {}
    for size in sizes:
        ground.make(size)
        memory_filling = ground.fill()
        found[size] = {}
        for name, body, ours, sql, theirs in QUESTIONS:
            timed = found[size][name] = ground.weir.timed(body, runs)
            differs = same(ours(timed["answer"]), theirs(ground.rows(sql)))
            if differs:
                raise Failed(f"{name}, {size:,} events: the answers differ: {differs}")
            print(f"{size:>12,}  {name:<42} cold {timed['cold']:.3f} s, warm {timed['warm']:.3f} s", flush=True)
    for smaller, larger in zip(sizes, sizes[1:]):
        for which in ("cold", "warm"):
            ratios = []
            for name, times in found[larger].items():
                ratios.append(times[which] / found[smaller][name][which])
                rows.append(linear(f"{name}, {which}", smaller, larger, times[which], ratios[-1]))
            mean = geometric_mean([times[which] for times in found[larger].values()])
            rows.append(linear(f"geometric mean, {which}", smaller, larger, mean, geometric_mean(ratios)))
    largest = f"{short(sizes[-1])} events"
    _, _, memory = ask_warm(ground.weir, 1)
    rows.append(figure(f"memory at most, {largest}, all ten questions", memory, "MB", goal=MEMORY_MB_GOAL))
    rows.append(figure(f"memory at most, {largest} imported", memory_filling, "MB", goal=MEMORY_MB_GOAL))
    return rows


def linear(name, smaller, larger, value, ratio):
    name = f"{short(smaller)} to {short(larger)}: {name}"
    return figure(name, value, "s", ratio=ratio, goal=larger / smaller)


def short(events):
    return f"{events / 1e6:g}M"


def ask_warm(weir, rounds):
    """All ten questions in one process: the answers, the CPU time of asking them again, and the most memory."""
    weir.start()
    answers = {name: weir.client.ask(body) for name, body, *_ in QUESTIONS}
    used = weir.cpu_secs()
    for _ in range(rounds):
        for _, body, *_ in QUESTIONS:
            weir.client.ask(body)
    used = weir.cpu_secs() - used
    memory = weir.memory_mb("VmHWM")
    weir.stop()
    return answers, used, memory


def measure_shards(ground, events, runs):
    ground.make(events)
    expected = {name: theirs(ground.rows(sql)) for name, _, _, sql, theirs in QUESTIONS}
    rows, equal, used = [], 0, {}
    for shards in SHARDS:
        ground.fill(shards)
        # Twice as often as elsewhere: the clock of CPU time is a coarse one.
        answers, used[shards], _ = ask_warm(ground.weir, 2 * runs)
        for name, _, ours, _, _ in QUESTIONS:
            differs = same(ours(answers[name]), expected[name])
            equal += not differs
            if differs:
                print(f"{name}, {shards} shards: the answers differ: {differs}", flush=True)
        ratio = used[shards] / used[SHARDS[0]]
        print(f"{short(events)} events, {shards:>2} shards: {used[shards]:.2f} s of CPU time, {ratio:.2f} of {SHARDS[0]}", flush=True)
        if shards != SHARDS[0]:
            goal = SHARDS_CPU_GOAL if shards == SHARDS[-1] else None
            name = f"{short(events)} events, {shards} shards: CPU time of ten warm questions, of {SHARDS[0]}"
            rows.append(figure(name, used[shards] / (2 * runs), "s", ratio=ratio, goal=goal))
    asked = len(QUESTIONS) * len(SHARDS)
    name = f"{short(events)} events: equal answers on " + ", ".join(map(str, SHARDS)) + " shards"
    rows.append(figure(name, equal, f"of {asked}", goal=asked, at_least=True))
    return rows


def measure_days(ground, day_events):
    found = {}
    for days in DAYS:
        # The same persons, so that one day is like another.
        ground.make(day_events * days, DAY_PERSONS, days=days)
        ground.fill()
        found[days] = ask_day(ground.weir)
        expected = {
            (event, measure): value
            for event, *values in ground.rows(DAY_SQL)
            for measure, value in zip(("count", "persons"), values)
        }
        differs = same(totals(found[days].pop("answer")), expected)
        if differs:
            raise Failed(f"one day of {days}: the answers differ: {differs}")
        print(f"one day of {days}: " + ", ".join(f"{which} {secs * 1e3:.2f} ms" for which, secs in found[days].items()))
    few, many = DAYS
    return [
        figure(
            f"one day of {many} instead of {few}: {which}",
            1e3 * found[many][which],
            "ms",
            ratio=found[many][which] / found[few][which],
            goal=DAYS_GOAL,
        )
        for which in found[few]
    ]


def ask_day(weir):
    """Cold and warm, medians, and the CPU time of a warm one."""
    cold, warm = [], []
    for _ in range(COLD_RUNS):
        weir.stop()
        weir.start()
        began = time.perf_counter()
        weir.client.ask(DAY_QUESTION)
        cold.append(time.perf_counter() - began)
    used = weir.cpu_secs()
    for _ in range(DAY_RUNS):
        began = time.perf_counter()
        answer = weir.client.ask(DAY_QUESTION)
        warm.append(time.perf_counter() - began)
    used = weir.cpu_secs() - used
    weir.stop()
    return {
        "answer": answer,
        "cold": statistics.median(cold),
        "warm": statistics.median(warm),
        "CPU time": used / DAY_RUNS,
    }


if __name__ == "__main__":
    main()

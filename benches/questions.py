"""Ten questions over generated events, asked of weir and of ClickHouse on the same machine; then persons by
their ids, of weir alone.

`scripts/bench questions` starts MariaDB, installs chdb (ClickHouse embedded) and calls this. The events
are made by ClickHouse, kept there in two sort orders, and exported once for `weir import`, so both have
the same. Every answer is compared before any time counts.

cold: a process of weir that has just started; ClickHouse's mark and uncompressed caches dropped. MariaDB has
the shipped settings; once more each question is asked cold with the buffer pool that MariaDB has by default,
which does not hold the events, and with a large one.
warm: the median of further runs of the same question in the same process. Both are asked by turns, several
rounds of a question, and the medians of these count: a machine that is slow for some seconds would else be
so for one of the two. weir is asked with
`"fresh": true`, which keeps it from handing out an answer that is there already; ClickHouse's query
cache is off unless asked for. For each question the better of ClickHouse's two sort orders counts.
"""

import json
import os
import statistics
import time

from clickhouse import ClickHouse
from figures import figure, geometric_mean, latencies, publish
from ten_questions import QUESTIONS, same
from weir import Failed, MariaDb, Weir, arguments

COLD_GOAL, WARM_GOAL = 0.5, 0.15
PERSON_P99_GOAL_MS = 20
# As many events as the page of a person shows, and as there are in one answer at most.
PERSON_EVENTS = 500
SHARDS = 4
# MariaDB's default, and one that holds everything.
BUFFER_POOLS_MB = [128, 2_048]


def read_arguments():
    parser = arguments()
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--persons", type=int, default=300_000)
    parser.add_argument("--runs", type=int, default=5, help="warm ones, of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lookups", type=int, default=2_000, help="persons that are asked for by their ids")
    return parser.parse_args()


def main():
    given = read_arguments()
    clickhouse = ClickHouse(os.path.join(given.folder, "clickhouse"), os.cpu_count())
    export = os.path.join(given.folder, "events.ndjson.zst")
    clickhouse.fill(given.events, given.persons, export)
    mariadb = MariaDb(given.mysql)
    weir = Weir(given.weir, given.folder, mariadb.empty_database("weir"), storage__shards=SHARDS)
    try:
        weir.create_project()
        weir.fill(export, given.events)
        weir.stop()
        rows = [stored(weir, clickhouse, given.events)]
        rows += ask_questions(weir, clickhouse, given.rounds, given.runs)
        rows += ask_cold(weir, clickhouse, mariadb)
        rows += look_up_persons(weir, clickhouse, given.lookups)
    finally:
        weir.stop()
    publish(rows, given.json)


def stored(weir, clickhouse, events):
    stored = weir.stored_bytes()
    ratio = stored / clickhouse.bytes()
    print(f"stored: {stored / events:.1f} bytes an event, {ratio:.2f} of ClickHouse's columns", flush=True)
    return figure("runs, segments and filters", stored / events, "bytes/event", ratio=ratio, goal=1.0)


def ask_questions(weir, clickhouse, rounds, runs):
    rows = []
    print(f"\n{'':<42} {'weir cold':>10} {'warm':>8} {'CH cold':>9} {'warm':>8}  {'cold':>6} {'warm':>6}")
    for name, body, ours, sql, theirs in QUESTIONS:
        yardsticks, of_weir = [], []
        for _ in range(rounds):
            yardsticks.append(clickhouse.timed(sql, runs))
            of_weir.append(weir.timed(body, runs))
            differs = same(ours(of_weir[-1]["answer"]), theirs(yardsticks[-1]["rows"]))
            if differs:
                raise Failed(f"{name}: the answers differ: {differs}")
        found, yardstick = middle(of_weir, "memory"), middle(yardsticks)
        ratios = {which: found[which] / yardstick[which] for which in ("cold", "warm")}
        for which, ratio in ratios.items():
            rows.append(figure(f"{name}, {which}", found[which], "s", ratio=ratio, goal=1.0))
        print(
            f"{name:<42} {found['cold']:>9.3f}s {found['warm']:>7.3f}s {yardstick['cold']:>8.3f}s"
            f" {yardstick['warm']:>7.3f}s  {ratios['cold']:>6.2f} {ratios['warm']:>6.2f}"
            f"  {found['memory']:.0f} MB, {yardsticks[-1]['order']}",
            flush=True,
        )
    for which, goal in [("cold", COLD_GOAL), ("warm", WARM_GOAL)]:
        ratio = geometric_mean([row["ratio"] for row in rows if row["name"].endswith(f", {which}")])
        rows.append(figure(f"geometric mean, {which}", ratio, "of ClickHouse", ratio=ratio, goal=goal))
        print(f"geometric mean, {which}: {ratio:.2f} of ClickHouse's time, goal {goal}")
    return rows


def middle(rounds, *others):
    return {which: statistics.median(found[which] for found in rounds) for which in ("cold", "warm", *others)}


def ask_cold(weir, clickhouse, mariadb):
    """With other buffer pools of MariaDB, which hold what they can before it counts."""
    rows, shipped = [], mariadb.buffer_pool()
    try:
        for megabytes in BUFFER_POOLS_MB:
            mariadb.set_buffer_pool(megabytes << 20)
            for _, body, *_ in QUESTIONS:
                weir.timed(body, 0)
            ratios = []
            for name, body, ours, sql, theirs in QUESTIONS:
                found, yardstick = weir.timed(body, 0), clickhouse.timed(sql, 0)
                differs = same(ours(found["answer"]), theirs(yardstick["rows"]))
                if differs:
                    raise Failed(f"{name}: the answers differ: {differs}")
                ratios.append(found["cold"] / yardstick["cold"])
                title = f"{name}, cold, pool of {megabytes} MB"
                rows.append(figure(title, found["cold"], "s", ratio=ratios[-1], goal=1.0))
            ratio = geometric_mean(ratios)
            title = f"geometric mean, cold, pool of {megabytes} MB"
            rows.append(figure(title, ratio, "of ClickHouse", ratio=ratio, goal=COLD_GOAL))
            print(f"{title}: {ratio:.2f} of ClickHouse's time, goal {COLD_GOAL}", flush=True)
    finally:
        mariadb.set_buffer_pool(shipped)
    return rows


def look_up_persons(weir, clickhouse, lookups):
    """Random ones by distinct id, one after the other over one connection, all of them twice: the first
    time they are compared, the second time measured."""
    counts = clickhouse.rows(
        f"SELECT user_no, count() FROM by_user GROUP BY user_no ORDER BY cityHash64(user_no, 99) LIMIT {lookups}"
    )
    person, events = "/api/v1/persons/user-{}", f"/events?limit={PERSON_EVENTS}"
    rows = []
    weir.start()
    for what, path, shown in [
        ("profile", person, lambda answer: answer["events"]),
        ("latest events", person + events, lambda answer: len(answer["events"])),
    ]:
        for user_no, count in counts:
            answer = json.loads(weir.client.get(path.format(user_no)))
            if shown(answer) != min(count, PERSON_EVENTS):
                raise Failed(f"{what} of user-{user_no}: {shown(answer)} events, and there are {count}")
        times = []
        for user_no, _ in counts:
            began = time.perf_counter()
            weir.client.get(path.format(user_no))
            times.append(time.perf_counter() - began)
        rows += latencies(f"person by id, {what}", times, p99=PERSON_P99_GOAL_MS)
    weir.stop()
    return rows


if __name__ == "__main__":
    main()

"""What weir takes while nobody asks it anything: bytes on disk beside ClickHouse's, memory, the processor,
and the time until it is ready. `scripts/bench storage` calls this.

On disk are the events of `questions.py`, compacted, in MariaDB. Idle and start are of `weir serve` on the
demo's embedded store.
"""

import os
import statistics
import time

from clickhouse import ClickHouse
from figures import figure, publish
from questions import SHARDS, stored
from weir import Failed, MariaDb, Weir, arguments

IDLE_MB_GOAL = 60
# In percent of one core: ten ticks in ten seconds.
IDLE_CPU_GOAL = 1.0
IDLE_LOOK_SECS = 10
START_SECS_GOAL = 0.5
STARTS = 9
# Until the readers of what was merged away must be done (sealing.retired_grace_secs), and some more.
RETIRED_SECS_MAX = 600
# Smaller tables are counted and not shown: an empty one has up to 130,000.
SHOWN_BYTES_MIN = 200_000


def read_arguments():
    parser = arguments()
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--persons", type=int, default=300_000)
    parser.add_argument("--demo-events", type=int, default=200_000)
    parser.add_argument("--idle-secs", type=int, default=60, help="after the start, before it is looked at")
    return parser.parse_args()


def main():
    given = read_arguments()
    rows = measure_bytes(given) + measure_demo(given)
    publish(rows, given.json)


def measure_bytes(given):
    clickhouse = ClickHouse(os.path.join(given.folder, "clickhouse"), os.cpu_count())
    export = os.path.join(given.folder, "events.ndjson.zst")
    clickhouse.fill(given.events, given.persons, export)
    mariadb = MariaDb(given.mysql)
    weir = Weir(given.weir, given.folder, mariadb.empty_database("weir"), storage__shards=SHARDS)
    try:
        weir.create_project()
        weir.fill(export, given.events)
        wait_for_retired(mariadb)
    finally:
        weir.stop()
    tables = list_tables(mariadb)
    show_tables(tables)

    def per_event(name, parts, of=None):
        chosen = [table for table in tables if of is None or table["name"] in of]
        size = sum(table[part] for table in chosen for part in parts)
        return figure(name, size / given.events, "bytes/event")

    return [
        stored(weir, clickhouse, given.events),
        per_event("tables of persons and their ids", ["data", "indexes"], {"persons", "distinct_ids"}),
        per_event("all tables of MariaDB", ["data", "indexes"]),
        per_event("free space in these tables", ["free"]),
    ]


def wait_for_retired(mariadb):
    """What was merged away stays a while for those who read it, and would count as stored."""
    until = time.monotonic() + RETIRED_SECS_MAX
    count = "SELECT COUNT(*) FROM weir.{} WHERE retired_at IS NOT NULL"
    while any(int(mariadb.rows(count.format(table))[0][0]) for table in ("runs", "segments")):
        if time.monotonic() > until:
            raise Failed(f"runs or segments are retired and still there after {RETIRED_SECS_MAX} s")
        time.sleep(1)


def list_tables(mariadb):
    named = mariadb.rows("SELECT table_name FROM information_schema.tables WHERE table_schema = 'weir'")
    # Sizes are estimates that are brought up to date by this.
    mariadb.rows("ANALYZE TABLE " + ", ".join(f"weir.{name}" for (name,) in named))
    found = mariadb.rows(
        "SELECT table_name, table_rows, data_length, index_length, data_free FROM information_schema.tables "
        "WHERE table_schema = 'weir' ORDER BY data_length + index_length + data_free DESC"
    )
    return [
        {"name": name, "rows": int(count), "data": int(data), "indexes": int(indexes), "free": int(free)}
        for name, count, data, indexes, free in found
    ]


def show_tables(tables):
    parts = ("data", "indexes", "free")
    print(f"\n{'table':<24} {'rows, about':>12} {'data':>12} {'indexes':>12} {'free':>12}  in millions of bytes")
    for table in tables:
        if sum(table[part] for part in parts) >= SHOWN_BYTES_MIN:
            sizes = " ".join(f"{table[part] / 1e6:>12.2f}" for part in parts)
            print(f"{table['name']:<24} {table['rows']:>12,} {sizes}")
    print()


def measure_demo(given):
    weir = Weir(given.weir, os.path.join(given.folder, "demo"))
    try:
        weir.start("demo", "--events", str(given.demo_events))
        weir.rest()
        weir.stop()
        starts = []
        for _ in range(STARTS):
            starts.append(weir.start())
            weir.stop()
        weir.start()
        time.sleep(given.idle_secs)
        memory, used = weir.memory_mb("VmRSS"), weir.cpu_secs()
        time.sleep(IDLE_LOOK_SECS)
        used = weir.cpu_secs() - used
    finally:
        weir.stop()
    return [
        figure("idle on the demo, resident memory", memory, "MB", goal=IDLE_MB_GOAL),
        figure(
            f"idle on the demo, CPU time of {IDLE_LOOK_SECS} s",
            100 * used / IDLE_LOOK_SECS,
            "% of a core",
            goal=IDLE_CPU_GOAL,
        ),
        figure(f"start until ready, median of {STARTS}", statistics.median(starts), "s", goal=START_SECS_GOAL),
        figure("start until ready, worst", max(starts), "s"),
    ]


if __name__ == "__main__":
    main()

"""Ten questions over generated events, asked of weir and of ClickHouse on the same machine.

`scripts/bench questions` starts MariaDB, installs chdb (ClickHouse embedded) and calls this. The events
are made by ClickHouse, kept there in two sort orders, and exported once for `weir import`, so both have
the same. Every answer is compared before any time counts.

cold: a process of weir that has just started; ClickHouse's mark and uncompressed caches dropped.
warm: the median of further runs of the same question in the same process. weir is asked with
`"fresh": true`, which keeps it from handing out an answer that is there already; ClickHouse's query
cache is off unless asked for. For each question the better of ClickHouse's two sort orders counts.
"""

import os

from clickhouse import ClickHouse
from figures import figure, geometric_mean, publish
from ten_questions import QUESTIONS, same
from weir import Failed, MariaDb, Weir, arguments

COLD_GOAL, WARM_GOAL = 0.5, 0.15
SHARDS = 4


def read_arguments():
    parser = arguments()
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--persons", type=int, default=300_000)
    parser.add_argument("--runs", type=int, default=5)
    return parser.parse_args()


def main():
    given = read_arguments()
    clickhouse = ClickHouse(os.path.join(given.folder, "clickhouse"), os.cpu_count())
    export = os.path.join(given.folder, "events.ndjson.zst")
    clickhouse.fill(given.events, given.persons, export)
    weir = Weir(given.weir, given.folder, MariaDb(given.mysql).empty_database("weir"), storage__shards=SHARDS)
    try:
        weir.create_project()
        weir.fill(export, given.events)
        weir.stop()
        rows = [stored(weir, clickhouse, given.events)]
        rows += ask_questions(weir, clickhouse, given.runs)
    finally:
        weir.stop()
    publish(rows, given.json)


def stored(weir, clickhouse, events):
    stored = weir.stored_bytes()
    ratio = stored / clickhouse.bytes()
    print(f"stored: {stored / events:.1f} bytes an event, {ratio:.2f} of ClickHouse's columns", flush=True)
    return figure("runs, segments and filters", stored / events, "bytes/event", ratio=ratio, goal=1.0)


def ask_questions(weir, clickhouse, runs):
    rows = []
    print(f"\n{'':<42} {'weir cold':>10} {'warm':>8} {'CH cold':>9} {'warm':>8}  {'cold':>6} {'warm':>6}")
    for name, body, ours, sql, theirs in QUESTIONS:
        yardstick = clickhouse.timed(sql, runs)
        found = weir.timed(body, runs)
        differs = same(ours(found["answer"]), theirs(yardstick["rows"]))
        if differs:
            raise Failed(f"{name}: the answers differ: {differs}")
        ratios = {which: found[which] / yardstick[which] for which in ("cold", "warm")}
        for which, ratio in ratios.items():
            rows.append(figure(f"{name}, {which}", found[which], "s", ratio=ratio, goal=1.0))
        print(
            f"{name:<42} {found['cold']:>9.3f}s {found['warm']:>7.3f}s {yardstick['cold']:>8.3f}s"
            f" {yardstick['warm']:>7.3f}s  {ratios['cold']:>6.2f} {ratios['warm']:>6.2f}"
            f"  {found['memory']:.0f} MB, {yardstick['order']}",
            flush=True,
        )
    for which, goal in [("cold", COLD_GOAL), ("warm", WARM_GOAL)]:
        ratio = geometric_mean([row["ratio"] for row in rows if row["name"].endswith(f", {which}")])
        rows.append(figure(f"geometric mean, {which}", ratio, "of ClickHouse", ratio=ratio, goal=goal))
        print(f"geometric mean, {which}: {ratio:.2f} of ClickHouse's time, goal {goal}")
    return rows


if __name__ == "__main__":
    main()

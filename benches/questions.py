"""Ten questions over generated events, asked of weir and of ClickHouse on the same machine.

`scripts/bench questions` starts MariaDB, installs chdb (ClickHouse embedded) and calls this. The events
are made by ClickHouse, kept there in two sort orders, and exported once for `weir import`, so both have
the same. Every answer is compared before any time counts.

cold: a process of weir that has just started; ClickHouse's mark and uncompressed caches dropped.
warm: the median of further runs of the same question in the same process. weir is asked with
`"fresh": true`, which keeps it from handing out an answer that is there already; ClickHouse's query
cache is off unless asked for. For each question the better of ClickHouse's two sort orders counts.
"""

import argparse
import datetime
import json
import math
import os
import statistics
import subprocess
import time
import urllib.error
import urllib.request

from chdb import session

FIRST_DAY = datetime.date(2026, 1, 1)
DAYS = 90
START, END = "2026-01-01", "2026-04-01"
COLD_GOAL, WARM_GOAL = 0.5, 0.15

COLUMNS = "id, user_no, ts, event, country, plan, source, version, path, mobile, amount, quantity"

# Visits are in order within a person only by their random times, as with real clients. Activity is
# skewed: few persons send much. Path has 5,000 values, country 40, version 60, source 12, plan 3.
GENERATE = """
SELECT
  toUUID(concat(substring(h, 1, 8), '-', substring(h, 9, 4), '-4', substring(h, 14, 3), '-8',
                substring(h, 18, 3), '-', substring(h, 21, 12))) AS id,
  toUInt32(floor({persons} * pow(r1, 1.7))) AS user_no,
  toDateTime64('2026-01-01 00:00:00', 3, 'UTC') + toIntervalMillisecond(
    toInt64(floor(90 * r2)) * 86400000 + toInt64(floor(86400000 * r3))) AS ts,
  multiIf(e < 46, 'page_viewed', e < 66, 'product_viewed', e < 76, 'searched', e < 84, 'cart_added',
          e < 88, 'checkout_started', e < 91, 'purchased', e < 94, 'signed_up', e < 96, 'shared',
          e < 98, 'reviewed', 'left') AS event,
  concat('C', toString(toUInt32(floor(40 * pow(toFloat64(cityHash64(user_no, 11) % 10000) / 10000, 2))))) AS country,
  ['free', 'pro', 'team'][1 + (cityHash64(user_no, 12) % 10 > 5) + (cityHash64(user_no, 12) % 10 > 8)] AS plan,
  concat('source-', toString(cityHash64(number, 13) % 12)) AS source,
  concat('4.', toString(cityHash64(number, 14) % 60)) AS version,
  concat('/products/', toString(toUInt32(floor(5000 * pow(toFloat64(cityHash64(number, 15) % 1000000) / 1000000, 3))))) AS path,
  cityHash64(user_no, 16) % 3 = 0 AS mobile,
  if(event = 'purchased', toNullable(toFloat64(100 + cityHash64(number, 17) % 20000) / 100), NULL) AS amount,
  if(event IN ('purchased', 'cart_added'), toNullable(toInt64(1 + cityHash64(number, 18) % 9)), NULL) AS quantity
FROM (
  SELECT number, hex(sipHash128(number, 7)) AS h, cityHash64(number, 5) % 100 AS e,
    toFloat64(cityHash64(number, 1) % 1000000007) / 1000000007 AS r1,
    toFloat64(cityHash64(number, 2) % 1000000007) / 1000000007 AS r2,
    toFloat64(cityHash64(number, 3) % 1000000007) / 1000000007 AS r3
  FROM numbers({events})
)
"""

TABLE = """
CREATE TABLE {name} (
  id UUID, user_no UInt32, ts DateTime64(3, 'UTC'), ts_ms UInt64, day Date, event LowCardinality(String),
  country LowCardinality(String), plan LowCardinality(String), source LowCardinality(String),
  version LowCardinality(String), path LowCardinality(String), mobile Bool,
  amount Nullable(Float64), quantity Nullable(Int64)
) ENGINE = MergeTree ORDER BY {order}
"""

ORDERS = {"by_user": "(user_no, ts)", "by_day": "(day, event, user_no)"}


def question(**fields):
    return {"from": START, "to": END, "time_zone": "UTC", "fresh": True, **fields}


def trends(series, **fields):
    return question(kind="trends", series=series, **fields)


def series_rows(answer, key=lambda series: ()):
    """Every bucket of every series that has something, as ClickHouse would list it."""
    rows = {}
    for series in answer["series"]:
        for bucket, value in zip(answer["buckets"], series["values"]):
            if value:
                rows[(*key(series), bucket[:10])] = value
    return rows


def totals(answer):
    rows = {}
    for series in answer["series"]:
        if series.get("breakdown") != "$other" and series["total"]:
            rows[(series.get("breakdown"), series["measure"])] = series["total"]
    return rows


def listed(rows, *keys):
    """Rows of ClickHouse: all columns but the last are the key."""
    return {tuple(str(part) for part in row[:-1]): row[-1] for row in rows}


def funnel(answer):
    return {("step", n): step["persons"] for n, step in enumerate(answer["steps"])}


STEPS5 = ["page_viewed", "product_viewed", "cart_added", "checkout_started", "purchased"]
LEVELS = "SELECT level, count() FROM (SELECT windowFunnel({window})({ts}, {steps}) AS level FROM {{table}} WHERE {where} GROUP BY user_no) GROUP BY level"


def levels(steps):
    def rows(found):
        reached = {int(level): int(count) for level, count in found}
        return {("step", n): sum(c for level, c in reached.items() if level > n) for n in range(steps)}

    return rows


# Per question: what weir is asked, its answer as rows, ClickHouse's SQL, its answer as the same rows.
QUESTIONS = [
    (
        "daily count of one event",
        trends([{"event": "product_viewed", "measure": "count"}], granularity="day"),
        series_rows,
        "SELECT day, count() FROM {table} WHERE event = 'product_viewed' GROUP BY day",
        listed,
    ),
    (
        "daily persons over everything",
        trends([{"measure": "persons"}], granularity="day"),
        series_rows,
        "SELECT day, uniqExact(user_no) FROM {table} GROUP BY day",
        listed,
    ),
    (
        "count by event and day",
        trends([{"measure": "count"}], granularity="day", breakdown={"event": True}),
        lambda answer: series_rows(answer, lambda series: (series["breakdown"],)),
        "SELECT event, day, count() FROM {table} GROUP BY event, day",
        listed,
    ),
    (
        "filtered breakdown: count, persons, sum",
        trends(
            [
                {"event": "purchased", "measure": "count"},
                {"event": "purchased", "measure": "persons"},
                {"event": "purchased", "measure": "sum", "property": "amount"},
            ],
            filters=[{"property": "plan", "op": "in", "value": ["pro", "team"]}],
            breakdown={"property": "country", "limit": 50},
        ),
        totals,
        "SELECT country, count(), uniqExact(user_no), sum(amount) FROM {table} WHERE event = 'purchased' "
        "AND plan IN ('pro', 'team') GROUP BY country",
        lambda rows: {
            (row[0], measure): row[n]
            for row in rows
            for n, measure in enumerate(["count", "persons", "sum"], start=1)
        },
    ),
    (
        "top 10 of a 5,000-value property",
        trends([{"event": "product_viewed", "measure": "count"}], breakdown={"property": "path", "limit": 10}),
        totals,
        "SELECT path, count() AS n FROM {table} WHERE event = 'product_viewed' GROUP BY path ORDER BY n DESC, path LIMIT 10",
        lambda rows: {(row[0], "count"): row[1] for row in rows},
    ),
    (
        "median and p95 of a number by day",
        trends(
            [
                {"event": "purchased", "measure": "median", "property": "amount"},
                {"event": "purchased", "measure": "p95", "property": "amount"},
            ],
            granularity="day",
        ),
        lambda answer: series_rows(answer, lambda series: (series["measure"],)),
        "SELECT day, quantilesExactInclusive(0.5, 0.95)(amount) FROM {table} WHERE event = 'purchased' GROUP BY day",
        lambda rows: {
            (measure, str(row[0])): row[1][n] for row in rows for n, measure in enumerate(["median", "p95"])
        },
    ),
    (
        "3-step funnel, 1 day",
        question(
            kind="funnel", window="1d", steps=[{"event": e} for e in ["product_viewed", "cart_added", "purchased"]]
        ),
        funnel,
        LEVELS.format(
            window=86_400_000,
            ts="ts_ms",
            steps="event = 'product_viewed', event = 'cart_added', event = 'purchased'",
            where="event IN ('product_viewed', 'cart_added', 'purchased')",
        ),
        levels(3),
    ),
    (
        "5-step funnel with filters, 7 days",
        question(
            kind="funnel",
            window="7d",
            steps=[
                {"event": e, "filters": [{"property": "mobile", "op": "eq", "value": True}]}
                if e == "product_viewed"
                else {"event": e}
                for e in STEPS5
            ],
            filters=[{"property": "plan", "op": "in", "value": ["pro", "team"]}],
        ),
        funnel,
        LEVELS.format(
            window=7 * 86_400_000,
            ts="ts_ms",
            steps=", ".join(
                f"event = '{e}'" + (" AND mobile" if e == "product_viewed" else "") for e in STEPS5
            ),
            where="plan IN ('pro', 'team') AND event IN (" + ", ".join(f"'{e}'" for e in STEPS5) + ")",
        ),
        levels(5),
    ),
    (
        "weekly persons, two filters",
        trends(
            [{"measure": "persons"}],
            granularity="week",
            filters=[
                {"property": "country", "op": "in", "value": ["C1", "C2", "C3"]},
                {"property": "version", "op": "ne", "value": "4.7"},
            ],
        ),
        series_rows,
        "SELECT toMonday(day) AS week, uniqExact(user_no) FROM {table} WHERE country IN ('C1', 'C2', 'C3') "
        "AND version != '4.7' GROUP BY week",
        listed,
    ),
    (
        "persons over 30 days by country",
        {
            **trends([{"measure": "persons"}], breakdown={"property": "country", "limit": 50}),
            "from": "2026-02-01",
            "to": "2026-03-03",
        },
        totals,
        "SELECT country, uniqExact(user_no) FROM {table} WHERE day >= '2026-02-01' AND day < '2026-03-03' GROUP BY country",
        lambda rows: {(row[0], "persons"): row[1] for row in rows},
    ),
]


def same(ours, theirs):
    """Integers and persons equal, floats within what another order of adding may change."""
    if ours.keys() != theirs.keys():
        odd = set(ours.keys()) ^ set(theirs.keys())
        return f"{len(ours)} rows against {len(theirs)}, for example {sorted(map(str, odd))[:3]}"
    for key, value in ours.items():
        if not math.isclose(float(value), float(theirs[key]), rel_tol=1e-9):
            return f"{key}: {value} against {theirs[key]}"
    return None


class ClickHouse:
    def __init__(self, folder, threads):
        self.session = session.Session(folder)
        self.threads = threads

    def run(self, sql):
        return self.session.query(f"{sql} SETTINGS max_threads = {self.threads}", "JSONCompact")

    def rows(self, sql):
        found = json.loads(str(self.run(sql)))
        # 64-bit integers are quoted.
        return [[int(v) if isinstance(v, str) and v.isdigit() else v for v in row] for row in found["data"]]

    def fill(self, events, persons, export):
        generated = GENERATE.format(events=events, persons=persons)
        for name, order in ORDERS.items():
            self.session.query(TABLE.format(name=name, order=order))
        rest = COLUMNS.removeprefix("id, user_no, ts, ")
        self.session.query(
            f"INSERT INTO by_user SELECT id, user_no, ts, toUnixTimestamp64Milli(ts), toDate(ts), {rest} FROM ({generated})"
        )
        self.session.query("INSERT INTO by_day SELECT * FROM by_user")
        for name in ORDERS:
            self.session.query(f"OPTIMIZE TABLE {name} FINAL")
        properties = [c for c in rest.split(", ") if c != "event"]
        types = {"mobile": "Bool", "amount": "Nullable(Float64)", "quantity": "Nullable(Int64)"}
        shape = ", ".join(f"{c} {types.get(c, 'String')}" for c in properties)
        self.session.query(
            f"INSERT INTO FUNCTION file('{export}', 'JSONEachRow', 'id String, distinct_id String, timestamp String, "
            f"event String, properties Tuple({shape})') SELECT toString(id), concat('user-', toString(user_no)), "
            f"concat(replace(toString(ts), ' ', 'T'), 'Z'), event, tuple({', '.join(properties)}) FROM by_user ORDER BY ts "
            "SETTINGS output_format_json_skip_null_value_in_named_tuples = 1, output_format_json_quote_64bit_integers = 0"
        )

    def drop_caches(self):
        for cache in ["MARK", "UNCOMPRESSED", "QUERY"]:
            try:
                self.session.query(f"SYSTEM DROP {cache} CACHE")
            except RuntimeError:
                # Not every build has every cache.
                pass

    def timed(self, sql, runs):
        """The better order: its cold time, its warm one and its rows."""
        best = None
        for table in ORDERS:
            text = sql.format(table=table)
            self.drop_caches()
            times = []
            for _ in range(1 + runs):
                began = time.perf_counter()
                self.run(text)
                times.append(time.perf_counter() - began)
            found = {"cold": times[0], "warm": statistics.median(times[1:]), "order": table}
            found["rows"] = self.rows(text)
            best = best or dict(found)
            for which in ("cold", "warm"):
                if found[which] < best[which]:
                    best[which], best["order"] = found[which], table
        return best

    def bytes(self):
        """Of the smaller of the two tables, without the columns that only make its questions faster."""
        sql = (
            "SELECT table, sum(data_compressed_bytes) FROM system.columns WHERE database = currentDatabase() "
            "AND name NOT IN ('ts_ms', 'day') GROUP BY table"
        )
        return min(int(row[1]) for row in self.rows(sql))


class Weir:
    """A process of weir; ended and started anew for every cold question."""

    def __init__(self, binary, address, ops, folder):
        self.binary, self.address, self.ops, self.folder = binary, address, ops, folder
        self.process = None
        self.key = json.loads(self.run("project", "create", "bench", "--json"))["secret_key"]

    def run(self, *words):
        """A command, away from any configuration file that may lie here."""
        return subprocess.check_output([self.binary, *words], cwd=self.folder)

    def start(self):
        with open(os.path.join(self.folder, "weir.log"), "ab") as log:
            self.process = subprocess.Popen([self.binary, "serve"], cwd=self.folder, stdout=log, stderr=log)
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"http://{self.address}/healthz/ready", timeout=5):
                    return
            except (urllib.error.URLError, ConnectionError):
                if self.process.poll() is not None:
                    raise SystemExit("weir did not start")
                time.sleep(0.02)
        raise SystemExit("weir did not become ready")

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(timeout=30)
            self.process = None

    def ask(self, body):
        request = urllib.request.Request(
            f"http://{self.address}/api/v1/tickets",
            data=json.dumps({"question": body}).encode(),
            headers={
                "Authorization": f"Bearer {self.key}",
                "Content-Type": "application/json",
                "Prefer": "wait=25",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                ticket = json.load(answer)
            while ticket["state"] in ("queued", "running"):
                follow = urllib.request.Request(
                    f"http://{self.address}/api/v1/tickets/{ticket['id']}?wait=25",
                    headers={"Authorization": f"Bearer {self.key}"},
                )
                with urllib.request.urlopen(follow, timeout=60) as answer:
                    ticket = json.load(answer)
        except urllib.error.HTTPError as error:
            raise SystemExit(f"weir answered {error.code}: {error.read().decode()}") from error
        if ticket["state"] != "succeeded" or ticket["partial"]:
            raise SystemExit(f"weir did not answer: {ticket}")
        return ticket["result"]

    def metrics(self):
        with urllib.request.urlopen(f"http://{self.ops}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return dict(line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))

    def resident_mb(self):
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as status:
            line = next(line for line in status if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024

    def stored_bytes(self):
        """Of all runs and segments that are live, filters included, as `weir shards` counts them."""
        listed = json.loads(self.run("shards", "--json"))
        return sum(shard[kind]["bytes"] for shard in listed["shards"] for kind in ("runs", "segments"))

    def rest(self):
        """Waits until sealing and compaction have nothing left to do."""
        quiet_since, rows = time.monotonic(), None
        while time.monotonic() - quiet_since < 12:
            metrics = self.metrics()
            now = (metrics.get("weir_compact_rows_total"), metrics.get("weir_seal_batches_total"))
            if now != rows:
                quiet_since, rows = time.monotonic(), now
            time.sleep(0.5)


def geometric_mean(values):
    return math.exp(statistics.fmean(math.log(value) for value in values))


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--weir", required=True)
    arguments.add_argument("--address", required=True)
    arguments.add_argument("--ops", required=True)
    arguments.add_argument("--folder", required=True)
    arguments.add_argument("--events", type=int, default=10_000_000)
    arguments.add_argument("--persons", type=int, default=300_000)
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--json")
    arguments = arguments.parse_args()

    clickhouse = ClickHouse(os.path.join(arguments.folder, "clickhouse"), os.cpu_count())
    export = os.path.join(arguments.folder, "events.ndjson.zst")
    began = time.monotonic()
    clickhouse.fill(arguments.events, arguments.persons, export)
    print(f"made {arguments.events:,} events in {time.monotonic() - began:.0f} s", flush=True)

    weir = Weir(arguments.weir, arguments.address, arguments.ops, arguments.folder)
    began = time.monotonic()
    weir.start()
    weir.run("import", export, "--project", "bench", "--strict")
    imported = time.monotonic() - began
    weir.rest()
    print(f"imported in {imported:.0f} s, {arguments.events / imported:,.0f} events/s", flush=True)
    weir.stop()

    per_event = weir.stored_bytes() / arguments.events
    ratio = weir.stored_bytes() / clickhouse.bytes()
    print(f"stored: {per_event:.1f} bytes an event, {ratio:.2f} of ClickHouse's columns", flush=True)
    rows = [
        {
            "name": "runs, segments and filters",
            "value": round(per_event, 2),
            "unit": "bytes/event",
            "ratio": round(ratio, 3),
            "goal": 1.0,
            "holds": ratio <= 1.0,
        }
    ]
    head = f"{'':<42} {'weir cold':>10} {'warm':>8} {'CH cold':>9} {'warm':>8}  {'cold':>6} {'warm':>6}"
    print("\n" + head)
    for name, body, ours, sql, theirs in QUESTIONS:
        found = clickhouse.timed(sql, arguments.runs)
        weir.start()
        times = []
        for _ in range(1 + arguments.runs):
            began = time.perf_counter()
            answer = weir.ask(body)
            times.append(time.perf_counter() - began)
        memory = weir.resident_mb()
        weir.stop()
        differs = same(ours(answer), theirs(found["rows"]))
        if differs:
            raise SystemExit(f"{name}: the answers differ: {differs}")
        cold, warm = times[0], statistics.median(times[1:])
        for which, value, goal in [("cold", cold, 1.0), ("warm", warm, 1.0)]:
            rows.append(
                {
                    "name": f"{name}, {which}",
                    "value": round(value, 4),
                    "unit": "s",
                    "ratio": round(value / found[which], 3),
                    "goal": goal,
                    "holds": value / found[which] <= goal,
                }
            )
        print(
            f"{name:<42} {cold:>9.3f}s {warm:>7.3f}s {found['cold']:>8.3f}s {found['warm']:>7.3f}s"
            f"  {cold / found['cold']:>6.2f} {warm / found['warm']:>6.2f}  {memory:.0f} MB, {found['order']}",
            flush=True,
        )
    for which, goal in [("cold", COLD_GOAL), ("warm", WARM_GOAL)]:
        ratio = geometric_mean([row["ratio"] for row in rows if row["name"].endswith(f", {which}")])
        rows.append(
            {
                "name": f"geometric mean, {which}",
                "value": round(ratio, 3),
                "unit": "of ClickHouse",
                "ratio": round(ratio, 3),
                "goal": goal,
                "holds": ratio <= goal,
            }
        )
        print(f"geometric mean, {which}: {ratio:.2f} of ClickHouse's time, goal {goal}")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main()

"""ClickHouse (chdb): makes the events, exports them for `weir import`, and is the yardstick."""

import datetime
import json
import pathlib
import statistics
import time

from chdb import session

from ten_questions import DAYS, END_DAY

COLUMNS = "id, user_no, ts, event, country, plan, source, version, path, mobile, amount, quantity"

# ClickHouse keeps when events arrived too, as weir does: as if they came in the order of their times, so many a
# request and a request every so many milliseconds, like those of `weir import`. With the codec that all columns have.
ARRIVED_TOGETHER, ARRIVALS_APART_MS = 1_000, 9

# Visits are in order within a person only by their random times, as with real clients. Activity is
# skewed: few persons send much. Path has 5,000 values, country 40, version 60, source 12, plan 3.
GENERATE = """
SELECT
  toUUID(concat(substring(h, 1, 8), '-', substring(h, 9, 4), '-4', substring(h, 14, 3), '-',
                substring('89ab', 1 + cityHash64(number, 19) % 4, 1), substring(h, 18, 3), '-', substring(h, 21, 12))) AS id,
  toUInt32(floor({persons} * pow(r1, 1.7))) AS user_no,
  toDateTime64('{first} 00:00:00', 3, 'UTC') + toIntervalMillisecond(
    toInt64(floor({days} * r2)) * 86400000 + toInt64(floor(86400000 * r3))) AS ts,
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

# Of columns that share a file, as in small tables, ClickHouse does not tell the bytes.
TABLE = """
CREATE TABLE {name} (
  id UUID, user_no UInt32, ts DateTime64(3, 'UTC'), received_at DateTime64(3, 'UTC'), ts_ms UInt64, day Date, event LowCardinality(String),
  country LowCardinality(String), plan LowCardinality(String), source LowCardinality(String),
  version LowCardinality(String), path LowCardinality(String), mobile Bool,
  amount Nullable(Float64), quantity Nullable(Int64)
) ENGINE = MergeTree ORDER BY {order} SETTINGS min_bytes_for_wide_part = 0
"""

ORDERS = {"by_user": "(user_no, ts)", "by_day": "(day, event, user_no)"}


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

    def fill(self, events, persons, export, days=DAYS, orders=tuple(ORDERS)):
        """Makes the events of the `days` before END_DAY, instead of those that are there."""
        began = time.monotonic()
        pathlib.Path(export).unlink(missing_ok=True)
        first = END_DAY - datetime.timedelta(days)
        generated = GENERATE.format(events=events, persons=persons, first=first, days=days)
        for name in ORDERS:
            self.session.query(f"DROP TABLE IF EXISTS {name} SYNC")
        for name in orders:
            self.session.query(TABLE.format(name=name, order=ORDERS[name]))
        rest = COLUMNS.removeprefix("id, user_no, ts, ")
        made_as, *others = orders
        day_ms = 86_400_000
        request = f"intDiv((ts_ms - toUnixTimestamp64Milli(toDateTime64('{first} 00:00:00', 3, 'UTC'))) * {max(1, events // ARRIVED_TOGETHER)}, {days * day_ms})"
        arrived = f"fromUnixTimestamp64Milli(toInt64(toUnixTimestamp(toDateTime('{END_DAY} 00:00:00', 'UTC'))) * 1000 + {request} * {ARRIVALS_APART_MS}, 'UTC')"
        self.session.query(
            f"INSERT INTO {made_as} SELECT id, user_no, ts, {arrived}, toUnixTimestamp64Milli(ts) AS ts_ms, toDate(ts), {rest} "
            f"FROM ({generated})"
        )
        for name in others:
            self.session.query(f"INSERT INTO {name} SELECT * FROM {made_as}")
        for name in orders:
            self.session.query(f"OPTIMIZE TABLE {name} FINAL")
        properties = [c for c in rest.split(", ") if c != "event"]
        types = {"mobile": "Bool", "amount": "Nullable(Float64)", "quantity": "Nullable(Int64)"}
        shape = ", ".join(f"{c} {types.get(c, 'String')}" for c in properties)
        self.session.query(
            f"INSERT INTO FUNCTION file('{export}', 'JSONEachRow', 'id String, distinct_id String, timestamp String, "
            f"event String, properties Tuple({shape})') SELECT toString(id), concat('user-', toString(user_no)), "
            f"concat(replace(toString(ts), ' ', 'T'), 'Z'), event, tuple({', '.join(properties)}) FROM {made_as} ORDER BY ts "
            "SETTINGS output_format_json_skip_null_value_in_named_tuples = 1, output_format_json_quote_64bit_integers = 0"
        )
        print(f"made {events:,} events of {days} days in {time.monotonic() - began:.0f} s", flush=True)

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
            found = {"cold": times[0], "order": table, "rows": self.rows(text)}
            if runs:
                found["warm"] = statistics.median(times[1:])
            best = best or dict(found)
            for which in ("cold", "warm") if runs else ("cold",):
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

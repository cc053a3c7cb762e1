"""Ten questions: what weir is asked, its answer as rows, ClickHouse's SQL, and its answer as the same rows."""

import datetime
import math

END_DAY = datetime.date(2026, 4, 1)
DAYS = 90
START, END = str(END_DAY - datetime.timedelta(DAYS)), str(END_DAY)


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

"""What was measured: one table, and one list of JSON.

    python3 benches/figures.py FILE… [--json FILE]    joins lists
"""

import argparse
import json
import math
import statistics


def figure(name, value, unit, *, ratio=None, goal=None, at_least=False):
    """The goal is of the ratio when there is one, else of the value."""
    measured = value if ratio is None else ratio
    holds = None
    if goal is not None:
        holds = measured >= goal if at_least else measured <= goal
    return {
        "name": name,
        "value": round(value, 4),
        "unit": unit,
        "ratio": None if ratio is None else round(ratio, 3),
        "goal": goal,
        "holds": holds,
    }


def latencies(name, seconds, *, p50=None, p99=None):
    """p50, p99 and the worst, in milliseconds, with the goals of the first two."""
    ordered = sorted(second * 1e3 for second in seconds)
    return [
        figure(f"{name}, p50", percentile(ordered, 0.5), "ms", goal=p50),
        figure(f"{name}, p99", percentile(ordered, 0.99), "ms", goal=p99),
        figure(f"{name}, worst", ordered[-1], "ms"),
    ]


def percentile(ordered, part):
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def geometric_mean(values):
    return math.exp(statistics.fmean(math.log(value) for value in values))


def show(rows):
    """What has a ratio comes first: values of two runs cannot be compared."""
    print(f"\n{'':<64} {'ratio':>8} {'goal':>8}  holds {'value':>14}")
    for row in sorted(rows, key=lambda row: row["ratio"] is None):
        ratio, goal = ("-" if row[part] is None else f"{row[part]:g}" for part in ("ratio", "goal"))
        holds = {True: "yes", False: "NO", None: "-"}[row["holds"]]
        value = f"{row['value']:,.0f}" if row["value"] >= 1000 else f"{row['value']:.4g}"
        print(f"{row['name']:<64} {ratio:>8} {goal:>8}  {holds:<5} {value:>14} {row['unit']}")


def publish(rows, file):
    """Shows them and writes them, if there is a file to write to."""
    show(rows)
    if file:
        with open(file, "w", encoding="utf-8") as out:
            json.dump(rows, out, indent=2)
            out.write("\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="+")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.files:
        with open(name, encoding="utf-8") as file:
            rows += json.load(file)
    publish(rows, arguments.json)


if __name__ == "__main__":
    main()

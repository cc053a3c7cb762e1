"""What a ticket costs by itself, and how many a second go through three replicas. `scripts/bench tickets`
calls this.

The question is a small one, how many events a small project has on one day, and never the same twice, so that
no answer serves two tickets. A client waits for each result before it asks for the next.

The clients are several processes of Python on the same machine. The CPU time of everybody is printed: when
all cores are busy and the clients have a good part of them, less than weir could do was measured.
"""

import datetime
import json
import multiprocessing
import os
import threading
import time

from figures import figure, latencies, publish
from weir import Client, Failed, MariaDb, Weir, arguments

P50_GOAL_MS, P99_GOAL_MS = 20, 100
RATE_GOAL = 500
REPLICAS = 3
WARM_UP = 50
EVENTS, DAYS, UNTIL = 20_000, 30, "2026-01-31"
DAY = datetime.datetime(2026, 1, 10)
ONE_DAY = datetime.timedelta(1)
# Between the beginnings of two questions: a million of them are within seventeen minutes.
APART = datetime.timedelta(milliseconds=1)
SHOWN_MAX = 3
FAILED_REST_SECS = 0.1


def read_arguments():
    parser = arguments()
    parser.add_argument("--sequential", type=int, default=1_000, help="tickets one after the other")
    parser.add_argument("--secs", type=float, default=20, help="how long many are asked for at the same time")
    parser.add_argument("--connections", type=int, default=48)
    parser.add_argument("--processes", type=int, default=4, help="of clients, which share the connections")
    parser.add_argument("--redis", help="redis://host:port: replicas wake each other up through it")
    return parser.parse_args()


def main():
    given = read_arguments()
    mariadb = MariaDb(given.mysql)
    first = new_weir(given, mariadb.empty_database("weir"), 1)
    first.create_project()
    fill(first, given.folder)
    rows, asked = measure_one_by_one(first, given.sequential)
    for redis in [None, given.redis] if given.redis else [None]:
        found, asked = measure_replicas(given, mariadb, first.key, redis, asked)
        rows += found
    publish(rows, given.json)


def new_weir(given, database, number, **settings):
    return Weir(given.weir, os.path.join(given.folder, f"weir-{number}"), database, **settings)


def fill(weir, folder):
    file = os.path.join(folder, "events.ndjson")
    weir.run("generate", "--events", str(EVENTS), "--days", str(DAYS), "--until", UNTIL, "--out", file)
    try:
        weir.fill(file, EVENTS)
    finally:
        weir.stop()


def question(n, **series):
    begin = DAY + n * APART
    moments = (f"{moment.isoformat(timespec='milliseconds')}Z" for moment in (begin, begin + ONE_DAY))
    return {"kind": "trends", **dict(zip(("from", "to"), moments)), "series": [{"measure": "count", **series}]}


def ask(client, n):
    result = client.ask(question(n))
    if not result["series"][0]["total"]:
        raise Failed(f"question {n} counted nothing: {result}")


def measure_one_by_one(weir, tickets):
    """Figures, and the number of the first question that was not asked."""
    rest = range(WARM_UP + tickets, WARM_UP + 2 * tickets)
    weir.start()
    try:
        for n in range(WARM_UP):
            ask(weir.client, n)
        times = [timed(ask, weir.client, n) for n in range(WARM_UP, WARM_UP + tickets)]
        # Of an event that never occurred: what is left is the ticket alone.
        nothing = [timed(weir.client.ask, question(n, event="nothing")) for n in rest]
    finally:
        weir.stop()
    rows = latencies("a ticket for a count over one day", times, p50=P50_GOAL_MS, p99=P99_GOAL_MS)
    return rows + latencies("a ticket for which nothing is read", nothing), rest.stop


def timed(call, *arguments):
    began = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - began


def measure_replicas(given, mariadb, key, redis, first):
    """Figures, and the number of the first question that was not asked."""
    title = f"{REPLICAS} replicas" + (" and Redis" if redis else "")
    database = f"{mariadb.url}/weir"
    replicas = [new_weir(given, database, n, cache__redis=redis) for n in range(1, REPLICAS + 1)]
    try:
        for replica in replicas:
            replica.key = key
            replica.start()
        addresses = [replica.address for replica in replicas]
        until = time.monotonic() + 1 + given.secs
        shares = [
            (addresses, key, range(first + n, first + 10_000_000, given.processes), share, until - given.secs, until)
            for n, share in enumerate(shared(given.connections, given.processes))
        ]
        used = [mariadb.cpu_secs(), sum(replica.cpu_secs() for replica in replicas)]
        with multiprocessing.Pool(given.processes) as pool:
            clients = pool.starmap(be_client, shares)
        used = [mariadb.cpu_secs() - used[0], sum(replica.cpu_secs() for replica in replicas) - used[1]]
    finally:
        for replica in replicas:
            replica.stop()
    times = [took for client in clients for took in client["times"]]
    failures = [failure for client in clients for failure in client["failures"]]
    for failure in failures[:SHOWN_MAX]:
        print(f"failed: {failure}", flush=True)
    if not times:
        raise Failed("no ticket succeeded")
    rate = len(times) / given.secs
    who = zip(("clients", "weir", "MariaDB"), (sum(client["cpu"] for client in clients), used[1], used[0]))
    cores = {name: secs / given.secs for name, secs in who}
    busy = ", ".join(f"{name} {value:.2f}" for name, value in cores.items())
    print(f"{title}: {rate:,.0f} tickets/s; of {os.cpu_count()} cores used {busy}", flush=True)
    rows = [
        figure(f"tickets through {title}", rate, "tickets/s", goal=RATE_GOAL, at_least=True),
        figure(f"failed tickets through {title}", len(failures), "tickets", goal=0),
        *latencies(f"tickets through {title}", times),
        *(figure(f"tickets through {title}, CPU of {name}", value, "cores") for name, value in cores.items()),
    ]
    return rows, max(client["next"] for client in clients)


def shared(total, among):
    return [total // among + (n < total % among) for n in range(among)]


def be_client(addresses, key, numbers, connections, begin, until):
    """Several connections, spread over the replicas, each with a thread that asks until the time is over.
    What ends later is not counted, but may not fail."""
    times, failures = [], []
    numbers = iter(numbers)
    next_number = threading.Lock()

    def draw():
        with next_number:
            return next(numbers)

    def loop(address):
        client = Client(address, key)
        while (began := time.monotonic()) < until:
            try:
                ask(client, draw())
            except (Failed, Exception) as failure:
                failures.append(f"{type(failure).__name__}: {failure}")
                client.connection.close()
                client = Client(address, key)
                time.sleep(FAILED_REST_SECS)
                continue
            ended = time.monotonic()
            if ended <= until:
                times.append(ended - began)
        client.connection.close()

    threads = [threading.Thread(target=loop, args=[addresses[n % len(addresses)]]) for n in range(connections)]
    time.sleep(max(0, begin - time.monotonic()))
    used = time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"times": times, "failures": failures, "cpu": time.process_time() - used, "next": next(numbers)}


if __name__ == "__main__":
    main()

"""``python -m benchmarks.job_memory [--jobs 1000000] [--failed 0.05] [--queries 200]``: measure the memory of jobs.

It is filled with jobs of several types, hops and failures. Then each kind of query is made again and again, while 2,000
records per second arrive. The report gives milliseconds per query, and what the writing costs.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater, react

from txmicro.monitoring import records
from txmicro.monitoring.records import Record
from txmicro.page.memory.memory import JobMemory
from txmicro.page.memory.queries import FailureQuery, JobQuery
from txmicro.protocol import outcomes

TYPES = ("Invoices", "Mails", "Movies", "Payments", "Stock", "Reports", "Images", "Search")
ERRORS = ("OutOfStock", "KeyError", "JobTimeout", "ConnectionRefusedError", "BadRequest")
TARGET = 200
"""Milliseconds that 95 % of the queries of each kind may take."""
RATE = 2_000
"""Records per second while the queries are made."""


class Jobs:
    """Makes the records of jobs.

    :param failed: the share of the jobs that fail.
    :ivar last: the id of the last job. :ivar now: when it ended, in Unix seconds.
    """

    def __init__(self, failed: float) -> None:
        self._random = random.Random(11)
        self._failed = failed
        self._senders = [f"{self._random.getrandbits(64):016x}" for _ in range(20)]
        self._made = 0
        self.last = ""
        self.now = 0.0

    def make(self, now: float) -> list[Record]:
        """Return the records of a job that ends at *now*."""
        chance, self._made = self._random, self._made + 1
        self.now = now
        job = self.last = f"{chance.choice(self._senders)}-{self._made:x}"
        kind = chance.choice(TYPES)
        durable = chance.random() < 0.2
        lane = records.DURABLE if durable else records.INTERACTIVE
        sender, worker = (
            f"REST:1795449588399-{self._made % 7:04x}",
            f"{kind}:1795449588400-{self._made % 50:04x}",
        )
        outcome, error, message = outcomes.SUCCEEDED, "", ""
        if chance.random() < self._failed:
            outcome, error = outcomes.FAILED, chance.choice(ERRORS)
            message = (
                f"the {kind.lower()} of customer 'c{self._made}' have no article {chance.randrange(10**6)}"
            )
        trace = f"00-{chance.getrandbits(128):032x}-{chance.getrandbits(64):016x}-01"
        target = f"{kind}:*"
        made = [
            Record(records.SENT, now - 0.02, job, 0, target, sender, lane, 1, trace=trace),
            Record(
                records.RAN,
                now - 0.005,
                job,
                0,
                target,
                worker,
                lane,
                1,
                0.003,
                0.012,
                outcome,
                error,
                message,
            ),
        ]
        if error and durable:
            made.append(
                Record(
                    records.DEAD, now - 0.004, job, 0, target, worker, lane, 5, None, None, "", error, message
                )
            )
        made.append(
            Record(records.ENDED, now, job, 0, target, sender, lane, 0, None, 0.02, outcome, error, message)
        )
        return made


async def fill(memory: JobMemory, jobs: Jobs, count: int, began: float) -> None:
    """Add *count* jobs, as fast as they are written."""
    for start in range(0, count, 5_000):
        for number in range(start, min(start + 5_000, count)):
            memory.add(jobs.make(began + number / 1_000))
        await memory.flush()


def queries(
    memory: JobMemory, jobs: Jobs, began: float, count: int, groups: list[str]
) -> dict[str, Callable[[], Any]]:
    """Return the queries, by name."""
    chance = random.Random(12)

    def middle() -> float:
        return began + chance.random() * count / 1_000

    def page(**conditions: Any) -> Callable[[], Any]:
        return lambda: memory.jobs(JobQuery(**conditions))

    return {
        "the newest": page(),
        "of a time": lambda: memory.jobs(JobQuery(until=middle())),
        "500 of a time": lambda: memory.jobs(JobQuery(until=middle(), limit=500)),
        "of a type": page(type="Mails"),
        "pending": page(outcome="pending"),
        "failed, type": page(type="Mails", outcome="failed"),
        "dead, type, error": page(type="Stock", outcome="dead", error="KeyError"),
        "failed, of a time": lambda: memory.jobs(JobQuery(outcome="failed", until=middle())),
        "type, other type's address": page(type="Mails", search="invoices"),
        "word i": page(search="i"),
        "word 1": page(search="1"),
        "word invo": page(search="invo"),
        "word of half of an id": lambda: memory.jobs(JobQuery(search=jobs.last[:9])),
        "id": lambda: memory.jobs(JobQuery(search=jobs.last)),
        "word customer": page(search="customer"),
        "word c12": page(search="c12"),
        "words article, mail, 7": page(search="article mail 7"),
        "words that nothing has": page(search="mails invoices"),
        "word that nothing has": page(search="xyzzy"),
        "jobs of a group": lambda: memory.jobs(JobQuery(group=chance.choice(groups))),
        "groups": lambda: memory.failures(FailureQuery()),
        "groups of a time": lambda: memory.failures(FailureQuery(since=began)),
        "groups, word": lambda: memory.failures(FailureQuery(search="customer stock")),
        "a job": lambda: memory.job(jobs.last),
        "dead letters of a group": lambda: memory.dead_letters(chance.choice(groups)),
    }


async def measure(reactor: Any, ask: Callable[[], Any], count: int) -> list[float]:
    """Return the milliseconds of *count* queries, in order of size."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        await ask()
        times.append((time.perf_counter() - began) * 1_000)
        await deferLater(reactor, 0, lambda: None)
    return sorted(times)


def sizes(file: Path) -> int:
    """Return the bytes of the memory's files."""
    return sum(each.stat().st_size for each in file.parent.glob(f"{file.name}*"))


def arriving(memory: JobMemory, jobs: Jobs) -> Iterator[None]:
    """Add records, a twentieth of a second's at each turn."""
    while True:
        made = 0
        while made < RATE / 20:
            some = jobs.make(time.time())
            made += len(some)
            memory.add(some)
        yield


async def run(reactor: Any, options: argparse.Namespace, file: Path) -> int:
    """Measure, print the report, and return the exit status."""
    jobs, began = Jobs(options.failed), time.time() - options.jobs / 1_000
    memory = JobMemory(reactor, str(file), options.jobs, unix_time=lambda: jobs.now)
    await memory.flush()
    if missing := options.jobs - len(memory):
        wall, cpu = time.perf_counter(), time.process_time()
        await fill(memory, jobs, missing, began)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(f"{missing} jobs in {wall:.0f} s, {cpu / missing * 1e6:.0f} µs of CPU per job")
    print(f"{sizes(file) / len(memory):.0f} bytes per job on disk, {sizes(file) / 1e6:.0f} MB", flush=True)
    groups = [group["id"] for group in (await memory.failures(FailureQuery()))["groups"]]
    lags: list[float] = []
    due = [time.perf_counter()]

    def watch() -> None:
        now = time.perf_counter()
        lags.append(now - due[0] - 0.01)
        due[0] = now

    watching, adding = LoopingCall(watch), LoopingCall(arriving(memory, jobs).__next__)
    for looping, seconds in ((watching, 0.01), (adding, 0.05)):
        looping.start(seconds)
    worst = 0.0
    cpu, wall = time.process_time(), time.perf_counter()
    await deferLater(reactor, 10, lambda: None)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(
        f"{RATE} records/s, no query: {cpu / wall:.0%} of a core, with making them; "
        f"reactor late by {sorted(lags)[int(len(lags) * 0.99)] * 1e3:.1f} ms (p99), {max(lags) * 1e3:.0f} ms (max)"
    )
    lags.clear()
    for name, ask in queries(memory, jobs, began, options.jobs, groups).items():
        times = await measure(reactor, ask, options.queries)
        p95 = times[int(len(times) * 0.95)]
        worst = max(worst, p95)
        print(
            f"{name:28} median {statistics.median(times):7.1f} ms  p95 {p95:7.1f} ms  max {times[-1]:7.1f} ms",
            flush=True,
        )
    watching.stop()
    adding.stop()
    print(
        f"reactor late by {sorted(lags)[int(len(lags) * 0.99)] * 1e3:.1f} ms (p99), {max(lags) * 1e3:.0f} ms (max)"
    )
    print(f"dropped {memory.dropped} records, {len(memory)} jobs, {sizes(file) / 1e6:.0f} MB")
    began = time.perf_counter()
    await memory.close()
    again = JobMemory(reactor, str(file), options.jobs)
    await again.jobs(JobQuery())
    print(f"closed and opened again in {time.perf_counter() - began:.2f} s")
    await again.close()
    print(f"the slowest p95 is {worst:.0f} ms; at most {TARGET} ms is the target")
    return 0 if worst <= TARGET else 1


async def main(reactor: Any, *arguments: str) -> None:
    """Parse the command line, and measure in a temporary directory unless there is a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--failed", type=float, default=0.05, help="the share of the jobs that fail")
    parser.add_argument("--queries", type=int, default=200, help="how many of each kind")
    parser.add_argument("--directory", help="keep the file there, and do not fill it again")
    options = parser.parse_args(arguments)
    if options.directory:
        status = await run(reactor, options, Path(options.directory) / "jobs.db")
    else:
        with tempfile.TemporaryDirectory(prefix="txmicro-memory-") as directory:
            status = await run(reactor, options, Path(directory) / "jobs.db")
    if status:
        raise SystemExit(status)


if __name__ == "__main__":
    react(lambda reactor, *arguments: Deferred.fromCoroutine(main(reactor, *arguments)), sys.argv[1:])

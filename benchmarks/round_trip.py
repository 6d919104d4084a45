"""How many job round trips a second: one sender process, one worker process, a small dict in MessagePack.

python -m benchmarks.round_trip amqp://localhost [--in-flight 100] [--jobs 20000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from typing import Any

from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.task import react

from txmicro import Job, Worker
from txmicro.address import Ids
from txmicro.bus import Bus
from txmicro.config import Config
from txmicro.metrics import Metrics
from txmicro.targets import target

DATA = {"method": "GET", "text": "x" * 64}


async def echo(job: Job) -> Any:
    """What the worker does."""
    return job.data


def make_bus(reactor: Any, url: str, worker: Worker) -> Bus:
    """A process's bus with one worker, everything on."""
    bus = Bus(
        reactor,
        [target(reactor, url)],
        config=Config(data_transfer_protocol="MessagePack"),
        metrics=Metrics(CollectorRegistry()),
        ids=Ids(),
        random=random.random,
    )
    worker.setServiceParent(bus)
    bus.startService()
    return bus


async def measure(sender: Worker, jobs: int, in_flight: int) -> str:
    """One round; gives a line of the table."""
    took: list[float] = []

    async def one_after_the_other(count: int) -> None:
        for _ in range(count):
            began = time.perf_counter()
            await sender.send("Echo:*", DATA)
            took.append(time.perf_counter() - began)

    began = time.perf_counter()
    each = max(1, jobs // in_flight)
    await gatherResults([ensureDeferred(one_after_the_other(each)) for _ in range(in_flight)])
    rate = len(took) / (time.perf_counter() - began)
    took.sort()
    middle, late = (took[len(took) * percent // 100] * 1000 for percent in (50, 99))
    return f"{in_flight:4} in flight: {rate:7.0f} jobs/s, p50 {middle:6.2f} ms, p99 {late:6.2f} ms"


async def send(reactor: Any, options: argparse.Namespace) -> None:
    """The sender's process, which starts the worker's."""
    command = [sys.executable, "-m", "benchmarks.round_trip", options.url, "--work"]
    worker = subprocess.Popen(command)
    sender = Worker("Bench")
    bus = make_bus(reactor, options.url, sender)
    try:
        await sender.when_ready()
        await sender.send("Echo:*", DATA)
        for _ in range(options.rounds):
            print(await measure(sender, options.jobs, options.in_flight), flush=True)
    finally:
        worker.terminate()
        await bus.stopService()
        worker.wait()


async def main(reactor: Any, *arguments: str) -> None:
    """Read the command line, and be the one or the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--in-flight", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", action="store_true", help="be the worker")
    options = parser.parse_args(arguments)
    if options.work:
        make_bus(reactor, options.url, Worker("Echo", do_job=echo))
        await Deferred()
    else:
        await send(reactor, options)


if __name__ == "__main__":
    react(main, sys.argv[1:])

"""``python -m benchmarks.monitor [--workers N] [--types N] [--seconds S]``: the processor time of a monitor.

A SystemManager and its monitor run in memory. Each second, every worker reports: its numbers, and its part of the
2,000 records per second that a manager hears at most. Measured is the time from the message's bytes to the answer of
``/api/overview``, per second that is reported, and the memory that the process takes more. The network, and asking
about queues, are not measured.
"""

from __future__ import annotations

import argparse
import json
from resource import RUSAGE_SELF, getrusage
from time import process_time
from typing import Any

from prometheus_client import CollectorRegistry
from twisted.internet.task import Clock

from txmicro.broker.factory import BrokerFactory
from txmicro.broker.memory_transport import MemoryEndpoint
from txmicro.config import Config
from txmicro.manager import SystemManager
from txmicro.metrics import Metrics
from txmicro.monitoring.records import RAN, Record
from txmicro.monitoring.report import Numbers, Report, report_topic
from txmicro.monitoring.sampling import RECORDS
from txmicro.page.monitor import Monitor
from txmicro.protocol.codec.json import JSON
from txmicro.protocol.notifications import Announcement
from txmicro.testing import memory_bus


def report(worker: str, process: str, second: int, records: int, numbers: Numbers, now: float) -> bytes:
    """Return the bytes of a worker's report, whose numbers go on from the one before."""
    kind = worker.partition(":")[0]
    rows = [
        Record(
            RAN,
            now,
            f"{process}-{second * 1000 + number:x}",
            0,
            f"{kind}:*",
            worker,
            "interactive",
            1,
            0.001,
            0.002,
            "succeeded",
        )
        for number in range(records)
    ]
    made = Report(worker, kind, process, 1, 0, 3, numbers, 40, {"T1": 10}, {}, {}, {}, rows)
    return JSON.encode(made.body())


def numbers_of(second: int) -> Numbers:
    """Return the numbers of a service that runs 40 jobs per second, as its metrics have them."""
    service = Metrics(CollectorRegistry()).service("T0")
    lane = service.lanes["interactive"]
    for _ in range(40 * second):
        lane.outcomes["succeeded"].value += 1
        lane.ran(0.002, 0.001)
        service.trips["T1"].observe(0.004)
    return Numbers.of(service.snapshot())


def measure(workers: int, types: int, seconds: int) -> tuple[float, float, int]:
    """Return the processor seconds per second: for the reports, and for the overview; and the KiB of memory."""
    clock = Clock()
    manager = SystemManager()
    monitor = Monitor(manager)
    bus = memory_bus(clock, MemoryEndpoint(BrokerFactory(clock), clock), Config())
    manager.setServiceParent(bus)
    monitor.setServiceParent(bus)  # type: ignore[no-untyped-call]
    bus.startService()
    for _ in range(10):
        clock.advance(0.01)
    ids = [f"T{number % types}:{number}" for number in range(workers)]
    for id in ids:
        manager.notified("worker.new", Announcement(id, id.partition(":")[0], "host", 1, "1.0", 10).body())
    before = getrusage(RUSAGE_SELF).ru_maxrss
    heard = overview = 0.0
    for second in range(seconds):
        numbers, each = numbers_of(second), max(1, round(RECORDS / workers))
        bodies = [report(id, f"{n:016x}", second, each, numbers, bus.ids.time()) for n, id in enumerate(ids)]
        began = process_time()
        for id, body in zip(ids, bodies, strict=True):
            manager.notified(report_topic(id.partition(":")[0]), JSON.decode(body))
        monitor.fleet.tick(bus.ids.time() + second)
        answered = process_time()
        json.dumps(monitor.overview())
        heard, overview = heard + answered - began, overview + process_time() - answered
    return heard / seconds, overview / seconds, getrusage(RUSAGE_SELF).ru_maxrss - before


def main(arguments: Any = None) -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.monitor")
    parser.add_argument("--workers", type=int, default=1000, help="how many workers report (1000)")
    parser.add_argument("--types", type=int, default=50, help="of how many types (50)")
    parser.add_argument("--seconds", type=int, default=10, help="for how many seconds (10)")
    options = parser.parse_args(arguments)
    heard, overview, memory = measure(options.workers, options.types, options.seconds)
    print(f"{options.workers} workers of {options.types} types, one report per second each:")
    print(f"reports   {heard * 100:5.1f} % of a processor, {heard / options.workers * 1e6:.0f} µs per report")
    print(f"overview  {overview * 100:5.1f} % of a processor")
    print(f"memory    {memory / 1024:5.1f} MiB more")


if __name__ == "__main__":
    main()

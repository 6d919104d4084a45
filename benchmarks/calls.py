"""``python -m benchmarks.calls [--jobs N] [--share S] [--top N]``: count the Python calls of one interactive job.

A sender and a worker share this process, the embedded broker and a clock that this script moves. In
production, each of them is a process of its own. Thus the counts are exact, and the same on every machine.
The hook of cProfile counts the calls of Python functions. Calls of the broker, of the clock and of this
script are left out.

- ``send``: from ``Worker.send`` until the transport is given the message.
- ``take``: from ``dataReceived`` until the handler starts.
- ``answer``: from the handler's end until the transport is given the result.
- ``result``: from ``dataReceived`` at the sender until the job's future fires.
- ``settle``: the part of the delivery's acknowledgement that runs later.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, Final

from twisted.internet.task import Clock

from txmicro import Job, Worker
from txmicro.amqp.properties import Properties
from txmicro.broker.factory import BrokerFactory
from txmicro.broker.memory_transport import MemoryEndpoint
from txmicro.bus.connections import Bus
from txmicro.config import Config
from txmicro.monitoring.report import WATCH, Watch
from txmicro.protocol import topology
from txmicro.testing import memory_bus

PHASES: Final = ("send", "take", "answer", "result", "settle")
IN_FLIGHT: Final = 100
"""Jobs that are sent in one turn of the reactor. They share the cost of that turn."""

OUTSIDE: Final = (
    "/txmicro/broker/",
    "/twisted/internet/task.py",
    "/twisted/internet/base.py",
    "/benchmarks/",
)
"""Files whose functions are not counted."""


class Counts:
    """Counts the calls of each phase.

    :ivar phase: the current phase, to which calls are counted; empty: none.
    """

    def __init__(self) -> None:
        self.phase = ""
        self.calls: dict[str, Counter[CodeType]] = {phase: Counter() for phase in PHASES}

    def count(self, frame: FrameType, event: str, _argument: Any) -> None:
        """Count a call (``sys.setprofile``)."""
        if event == "call" and self.phase:
            self.calls[self.phase][frame.f_code] += 1

    def during(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that calls *function* and counts its calls in *phase*."""

        def counted(*args: Any) -> Any:
            before, self.phase = self.phase, phase
            try:
                return function(*args)
            finally:
                self.phase = before

        return counted

    def of(self, phase: str) -> Counter[str]:
        """Return the calls of *phase*, by function."""
        return Counter(
            {
                f"{code.co_filename.rpartition('/')[2]}:{code.co_firstlineno} {code.co_qualname}": calls
                for code, calls in self.calls[phase].items()
                if not any(outside in code.co_filename for outside in OUTSIDE)
            }
        )


def measure(jobs: int, share: float | None = None) -> Counts:
    """Run *jobs* jobs, after as many that warm the caches, and return the counts of the calls.

    :param share: a SystemManager watches, and has this share of the jobs recorded; None: none watches.
    """
    clock, counts = Clock(), Counts()
    endpoint = MemoryEndpoint(BrokerFactory(clock), clock)

    async def echo(job: Job) -> Any:
        counts.phase = "answer"
        return job.data

    sender, worker = Worker("Sender"), Worker("Echo", do_job=echo)
    for member in (worker, sender):
        bus = memory_bus(clock, endpoint, Config())
        member.setServiceParent(bus)
        bus.startService()
        _advance(clock, 0.2)
    if share is not None:
        _publish_watch(sender, share)
        _advance(clock, 0.2)
    done = _run(clock, counts, sender, jobs)
    _watch(counts, worker.bus, sender.bus)
    for phase in counts.calls.values():
        phase.clear()
    sys.setprofile(counts.count)
    try:
        done = _run(clock, counts, sender, jobs)
    finally:
        sys.setprofile(None)
    if done != jobs:
        raise RuntimeError(f"{done} of {jobs} jobs were done: the counts mean nothing")
    return counts


def _publish_watch(worker: Worker, share: float) -> None:
    """Publish what a SystemManager publishes that watches. The next reports come after the measurement."""
    session: Any = worker.bus.session
    body = worker.bus.codec.encode(Watch("SystemManager:1", interval=60.0, share=share).body())
    frame = session.frame(topology.NOTIFICATIONS, WATCH, mandatory=False)
    session.publish(frame, Properties(content_type=worker.bus.codec.content_type).encode(), body)


def _watch(counts: Counts, worker: Bus, sender: Bus) -> None:
    """Set the phase where bytes are received and written."""
    for bus, reads, writes in ((worker, "take", "answer"), (sender, "result", "send")):
        session: Any = bus.session
        session.consuming.dataReceived = counts.during(reads, session.consuming.dataReceived)
        session.publishing.writer._flush = counts.during(writes, session.publishing.writer._flush)
        session.consuming.writer._flush = counts.during("settle", session.consuming.writer._flush)
        for client in (session.publishing, session.consuming):
            client.transport.write = counts.during("", client.transport.write)
    deliveries: Any = worker.session.consuming._reader  # type: ignore[union-attr]
    next_delivery = deliveries._read_delivery

    def take(*args: Any) -> Any:
        counts.phase = "take"  # the phase of the job before was "answer" when its handler ended
        return next_delivery(*args)

    deliveries._read_delivery = take


def _run(clock: Clock, counts: Counts, sender: Worker, jobs: int) -> int:
    done = 0

    def fired(_result: Any) -> None:
        nonlocal done
        done += 1

    for _ in range(jobs // IN_FLIGHT):
        for number in range(IN_FLIGHT):
            counts.phase = "send"
            future = sender.send("Echo:*", {"number": number})
            counts.phase = ""
            future.when_done().addCallback(fired)
        _advance(clock, 0)
        counts.phase = "settle"
        _advance(clock, 0.05)
        counts.phase = ""
    return done


def _advance(clock: Clock, seconds: float) -> None:
    for _ in range(10):
        clock.advance(0)
    clock.advance(seconds)
    for _ in range(10):
        clock.advance(0)


def main(arguments: list[str]) -> None:
    """Measure, and print the calls per job of each phase."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calls")
    parser.add_argument("--jobs", type=int, default=1000, help="how many jobs (1000)")
    parser.add_argument(
        "--share", type=float, help="a manager watches, and has this share recorded (none watches)"
    )
    parser.add_argument("--top", type=int, default=0, help="how many functions of each phase to print (none)")
    options = parser.parse_args(arguments)
    counts = measure(max(IN_FLIGHT, options.jobs), options.share)
    jobs = max(IN_FLIGHT, options.jobs) // IN_FLIGHT * IN_FLIGHT
    for phase in PHASES:
        calls = counts.of(phase)
        print(f"{phase:<7}{calls.total() / jobs:6.1f} calls per job")
        for name, number in calls.most_common(options.top):
            print(f"{number / jobs:13.2f}  {name}")


if __name__ == "__main__":
    main(sys.argv[1:])

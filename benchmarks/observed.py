"""``python -m benchmarks.observed [--slices N] [--seconds S]``: what it costs to observe a fleet.

Two fleets of one worker, one sender and one SystemManager run on two virtual hosts of one RabbitMQ. The one is
observed. It counts and times jobs, and its metrics are scraped. It logs JSON lines and publishes them. Its workers
report to the manager, which serves its page to a client that reads the events. In the other one, all of that is off.

They take turns with slices, in the order ABBA, while the other one's processes are suspended. Thus both see the same
noise of the machine. Each keeps 100 jobs in flight. The beginning of a slice is not measured: the manager needs some
seconds until it has found out of how many jobs it wants records. Printed are the jobs per second and the processor time
per job: of the worker, of the sender, of the manager, and of these and the broker together. The ratio of the last one
is less noisy than that of the jobs per second. The exit status is 1 if observation costs more than 10 % of the jobs per
second.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from statistics import median
from threading import Event, Thread
from time import sleep
from typing import Any, Final
from urllib.request import urlopen

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from tests.support.rabbitmq import free_port

from . import jobs
from .bench import Broker
from .observed_workers import COUNTING
from .programs import Program, ProgramError, cpu, twistd
from .systems import BUILD

IN_FLIGHT: Final = 100
MOST: Final = 0.10
"""The part of the jobs per second that observation may cost."""

SETTLE: Final = 12.0
"""Seconds of each slice that are not measured. A SystemManager adapts the share of recorded jobs every 5 s."""

SCRAPE_EVERY: Final = 5.0
"""Seconds between two scrapes: three times as often as in etc/prometheus/prometheus.yml."""

COMMON: Final = {
    "TXMICRO_DATA_TRANSFER_PROTOCOL": "MessagePack",
    "TXMICRO_HEARTBEAT": "300",  # a suspended process sends none
}
ON: Final = {"TXMICRO_LOG_FORMAT": "json", "TXMICRO_PAGE": "true"}
OFF: Final = {
    COUNTING: "false",
    "TXMICRO_LOG_LEVEL": "critical",
    "TXMICRO_WORKER_LOG": "false",
    "TXMICRO_SYSTEMMANAGER_LOG": "false",
    "TXMICRO_PAGE": "false",
}


_TIMES: Final = ("p50_ms", "p99_ms", "worker_us", "sender_us", "manager_us", "all_us")
_COLUMNS: Final = (
    "jobs/s",
    "min",
    "max",
    "p50 ms",
    "p99 ms",
    "worker µs",
    "sender µs",
    "manager µs",
    "all µs",
)

Sample = Mapping[str, float]
"""The values of :func:`benchmarks.jobs.ask`."""


class Fleet:
    """A worker, a sender and a SystemManager on a virtual host of their own.

    :ivar samples: the measured values of each slice.
    """

    def __init__(self, name: str, node: Broker, settings: dict[str, str], stack: ExitStack) -> None:
        self.name = name
        self.samples: list[Sample] = []
        self.ports: list[int] = []
        self._directory = BUILD / "observed" / name
        self._settings = {**COMMON, **settings, "TXMICRO_BROKER_URL": f"{node.url}{name}"}
        self._broker = node.pid
        self._settings["TXMICRO_PAGE_DATA"] = str(self._directory / "page.db")
        self._stack = stack
        self.manager = self._start("manager", "txmicro-manager")
        self.worker = self._start("worker", "txmicro-worker --class benchmarks.observed_workers:Echo")
        self.sender = self._start("sender", "txmicro-worker --class benchmarks.observed_workers:Bench")
        self.sender.says("ready")

    def _start(self, name: str, line: str) -> Program:
        port = free_port()
        self.ports.append(port)
        ports = {"TXMICRO_METRICS_PORT": str(port), "TXMICRO_WORKER_METRICS_PORT": str(port)}
        self._directory.mkdir(parents=True, exist_ok=True)
        files = f"--pidfile= --logfile={self._directory / name}.log"
        program = Program(
            twistd(f"{files} {line}"), self._directory / f"{name}.err", {**self._settings, **ports}
        )
        return self._stack.enter_context(program)

    def signal(self, number: int) -> None:
        """Send a signal to all processes."""
        for program in (self.manager, self.worker, self.sender):
            os.killpg(program.pid, number)

    def measure(self, seconds: float) -> None:
        """Add a sample."""
        jobs.ask(self.worker, self.sender, IN_FLIGHT, SETTLE, jobs.SIZE)
        manager, broker = self.manager.cpu(), cpu(self._broker)
        sample = jobs.ask(self.worker, self.sender, IN_FLIGHT, seconds, jobs.SIZE)
        per_job = 1e6 / (sample["per_second"] * seconds)
        sample["manager_us"] = (self.manager.cpu() - manager) * per_job
        broker_us = (cpu(self._broker) - broker) * per_job
        sample["all_us"] = sample["worker_us"] + sample["sender_us"] + sample["manager_us"] + broker_us
        self.samples.append(sample)


class Client:
    """Reads the manager's events and scrapes all metrics, as a browser and Prometheus do, while *active* is set.

    :ivar events: how many events it has read. :ivar scraped: the last text of each metrics page.
    """

    def __init__(self, fleet: Fleet) -> None:
        self.active = Event()
        self.events = 0
        self.scraped: dict[int, str] = {}
        self._fleet = fleet
        for function in (self._read, self._scrape):
            Thread(target=function, daemon=True).start()

    def get(self, path: str, port: int | None = None) -> Any:
        """Return the open answer of the manager, or of the process with *port*."""
        return urlopen(f"http://127.0.0.1:{port or self._fleet.ports[0]}{path}", timeout=30)

    def _read(self) -> None:
        while True:
            with suppress(OSError), self.get("/api/events") as stream:
                for line in stream:
                    self.events += line.startswith(b"event:")
            sleep(0.5)

    def _scrape(self) -> None:
        while self.active.wait():
            for port in self._fleet.ports:
                with suppress(OSError), self.get("/metrics", port) as answer:
                    self.scraped[port] = answer.read().decode()
            sleep(SCRAPE_EVERY)


def check(client: Client, fleet: Fleet) -> None:
    """Raise :class:`ProgramError` unless *fleet* was really observed: otherwise its figures mean nothing."""
    with client.get("/api/overview") as answer:
        overview = json.load(answer)
    echo: dict[str, Any] = next((each for each in overview["types"] if each["type"] == "Echo"), {})
    logged = (BUILD / "observed" / fleet.name / "worker.log").read_text()
    print(
        f"records: {overview['records_per_second']:,.0f}/s of {overview['share']:.1%} of the jobs", flush=True
    )
    for what, seen in (
        ("the page has no jobs per second", echo.get("jobs_per_second")),
        ("the page remembers no job", overview["remembered_jobs"]),
        ("the page sent no events", client.events),
        ("the worker's metrics have no jobs", "microservices_jobs_total{" in client.scraped[fleet.ports[1]]),
        ("the worker has logged nothing", logged),
    ):
        if not seen:
            raise ProgramError(what)


@contextmanager
def resumed(fleet: Fleet) -> Iterator[None]:
    """Let the processes of *fleet* run meanwhile."""
    fleet.signal(signal.SIGCONT)
    try:
        yield
    finally:
        fleet.signal(signal.SIGSTOP)


def measure(node: Broker, slices: int, seconds: float) -> float:
    """Measure, print, and return the part of the jobs per second that observation costs."""
    with ExitStack() as stack:
        fleets = off, on = [
            Fleet(name, node, settings, stack) for name, settings in (("off", OFF), ("on", ON))
        ]
        client = Client(on)
        for fleet in fleets:
            fleet.signal(signal.SIGSTOP)
        for number in range(slices):
            for fleet in fleets if number % 2 else reversed(fleets):
                (client.active.set if fleet is on else client.active.clear)()
                with resumed(fleet):
                    fleet.measure(seconds)
                    if fleet is on:
                        check(client, on)
    return report(off.samples, on.samples)


def report(off: Sequence[Sample], on: Sequence[Sample]) -> float:
    """Print the figures of both fleets' slices, and return the part of the jobs per second that observation costs."""
    print(f"{'':6}" + "".join(f"{head:>11}" for head in _COLUMNS))
    for name, samples in (("off", off), ("on", on)):
        rates = [sample["per_second"] for sample in samples]
        times = [median(sample[value] for sample in samples) for value in _TIMES]
        print(f"{name:6}{median(rates):11,.0f}{min(rates):11,.0f}{max(rates):11,.0f}", end="")
        print("".join(f"{time:11.1f}" for time in times))
    pairs = [one["per_second"] / two["per_second"] for one, two in zip(on, off, strict=True)]
    used = median(one["all_us"] / two["all_us"] for one, two in zip(on, off, strict=True))
    print(f"processor time of all processes per job, observed / not observed: {used:.3f}")
    ratio = median(pairs)
    print(
        f"observed / not observed: {ratio:.3f} (median of {len(pairs)} pairs, {min(pairs):.3f} to {max(pairs):.3f}); "
        f"the cost is {1 - ratio:.1%}, and may be {MOST:.0%}"
    )
    return 1 - ratio


async def run(options: argparse.Namespace) -> None:
    """Start RabbitMQ, and measure."""
    directory: Path = BUILD / "observed"
    rmtree(directory, ignore_errors=True)
    node = Broker(directory / "rabbitmq")
    await node.start()
    try:
        for name in ("off", "on"):
            await node.ctl("add_vhost", name)
            await node.ctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
        cost = measure(node, options.slices, options.seconds)
    finally:
        node.kill()
    if cost > MOST:
        raise SystemExit(1)


def main(arguments: list[str]) -> None:
    """Parse the command line, and run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.observed")
    parser.add_argument("--slices", type=int, default=6, help="how many slices each fleet has (6)")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each slice is measured (8)")
    options = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    react(lambda _: Deferred.fromCoroutine(run(options)))


if __name__ == "__main__":
    main(sys.argv[1:])

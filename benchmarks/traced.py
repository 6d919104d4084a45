"""``python -m benchmarks.traced [--slices N] [--seconds S]``: what it costs to record spans.

Three pairs of a worker and a sender run on virtual hosts of one RabbitMQ. One has no tracer. The second records the
spans of all jobs with OpenTelemetry's SDK, and an exporter drops them. The third records one job of a hundred, and the
others carry the decision. They take turns with short slices, while the processes of the others are suspended. Each
keeps 100 jobs in flight. Printed are the jobs per second, the processor time per job of worker and sender, and the
ratios.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import ExitStack
from shutil import rmtree
from statistics import median
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from tests.support.rabbitmq import Node

from . import jobs
from .observed import IN_FLIGHT, Sample
from .programs import Program, twistd
from .systems import BUILD
from .traced_workers import SAMPLE

PAIRS: Final = {"off": None, "all": "1.0", "1 of 100": "0.01"}
"""The part of the jobs whose spans are recorded, by name; None: there is no tracer."""


class Pair:
    """A worker and a sender on a virtual host of their own."""

    def __init__(self, host: str, sample: str | None, url: str, stack: ExitStack) -> None:
        self.samples: list[Sample] = []
        settings = {
            "TXMICRO_DATA_TRANSFER_PROTOCOL": "MessagePack",
            "TXMICRO_BROKER_URL": f"{url}{host}",
            "TXMICRO_WORKER_METRICS_PORT": "0",
        }
        if sample is not None:
            settings[f"TXMICRO_SETTINGS_{SAMPLE.upper()}"] = sample
        self._programs = self.worker, self.sender = [
            stack.enter_context(
                Program(
                    twistd(
                        f"--pidfile= --logfile={BUILD / 'traced' / host}-{name}.log txmicro-worker "
                        f"--class benchmarks.traced_workers:{name}"
                    ),
                    BUILD / "traced" / f"{host}-{name}.err",
                    settings,
                )
            )
            for name in ("Echo", "Bench")
        ]
        self.sender.says("ready")

    def signal(self, number: int) -> None:
        """Send a signal to both processes."""
        for program in self._programs:
            os.killpg(program.pid, number)

    def measure(self, seconds: float) -> None:
        """Add a sample, while the processes of this pair run."""
        self.signal(signal.SIGCONT)
        jobs.ask(self.worker, self.sender, IN_FLIGHT, seconds / 4, jobs.SIZE)
        self.samples.append(jobs.ask(self.worker, self.sender, IN_FLIGHT, seconds, jobs.SIZE))
        self.signal(signal.SIGSTOP)


def measure(url: str, slices: int, seconds: float) -> dict[str, list[Sample]]:
    """Return the samples of each pair, by its name."""
    with ExitStack() as stack:
        pairs = {}
        for number, (name, sample) in enumerate(PAIRS.items()):
            pair = pairs[name] = Pair(f"pair{number}", sample, url, stack)
            jobs.ask(pair.worker, pair.sender, IN_FLIGHT, seconds, jobs.SIZE)  # until caches are warm
            pair.signal(signal.SIGSTOP)
        for number in range(slices):
            order = list(pairs.values())
            for pair in order if number % 2 else reversed(order):
                pair.measure(seconds)
        return {name: pair.samples for name, pair in pairs.items()}


def report(samples: dict[str, list[Sample]]) -> None:
    """Print the medians of each pair, and its ratios to the pair without a tracer."""
    print(f"{'spans':10}{'jobs/s':>8}{'ratio':>8}{'worker µs':>11}{'sender µs':>11}")
    for name, values in samples.items():
        ratio = median(
            one["per_second"] / two["per_second"] for one, two in zip(values, samples["off"], strict=True)
        )
        rate, worker, sender = (
            median(sample[each] for sample in values) for each in ("per_second", "worker_us", "sender_us")
        )
        print(f"{name:10}{rate:8,.0f}{ratio:8.2f}{worker:11.1f}{sender:11.1f}")


async def run(options: argparse.Namespace) -> None:
    """Start RabbitMQ, and measure."""
    directory = BUILD / "traced"
    rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    node = Node(directory / "rabbitmq")
    await node.start()
    try:
        for number in range(len(PAIRS)):
            await node.ctl("add_vhost", f"pair{number}")
            await node.ctl("set_permissions", "-p", f"pair{number}", "guest", ".*", ".*", ".*")
        report(measure(node.url, options.slices, options.seconds))
    finally:
        node.kill()


def main(arguments: list[str]) -> None:
    """Parse the command line, and run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.traced")
    parser.add_argument("--slices", type=int, default=10, help="how many slices each pair has (10)")
    parser.add_argument("--seconds", type=float, default=1.5, help="how long each slice is measured (1.5)")
    options = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    react(lambda _: Deferred.fromCoroutine(run(options)))


if __name__ == "__main__":
    main(sys.argv[1:])

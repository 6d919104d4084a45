"""``python -m benchmarks.stores [--seconds 3] [--rounds 3]``: measure how many inserts and finds a store does.

The report gives the rates per second. Each variant runs in a process of its own, with 100 calls under way at
any time. The variants run one after the other on the same servers:

==============  =================================================================================================
bare            pymongo's client in the best of 4, 8 or 16 threads, one call after the other in each
threads         the store without changes: that client in threads, concurrent inserts written together
single          the same, each insert written alone
asyncio         the store on pymongo's asynchronous client and Twisted's asyncio reactor
sqlite          the store on SQLite, in a file
chain, …        jobs through RabbitMQ, one process that sends and one DB worker with such a store
==============  =================================================================================================
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from tests.support import mongo
from tests.support.rabbitmq import Node, installed

from .programs import Program, twistd

TARGET = 0.8
"""The least share of bare pymongo's rate that the store shall reach."""


CHAINS = (
    ("mongodb", "", "txmicro.workers.db:DBWorker"),
    ("mongodb asyncio", "--reactor=asyncio", "benchmarks.store_run:AsyncDBWorker"),
    ("sqlite", "", "txmicro.workers.db:DBWorker"),
)
"""Name, options of twistd, class of the DB worker."""


class Bench:
    """Runs each variant for *seconds*, in *directory*."""

    def __init__(self, directory: Path, seconds: float) -> None:
        self.directory = directory
        self.seconds = seconds
        self.server = mongo.Server(directory / "mongo")
        self.node = Node(directory / "rabbitmq") if installed() else None
        self.figures: dict[str, list[dict[str, float]]] = {}

    async def start(self) -> None:
        """Start the servers."""
        await self.server.start()
        if self.node is not None:
            await self.node.start()

    def stop(self) -> None:
        """Kill the servers."""
        self.server.kill()
        if self.node is not None:
            self.node.kill()

    def round(self, number: int) -> None:
        """Measure everything once."""
        urls = {
            "mongodb": self.server.url(f"chain{number}"),
            "sqlite": f"sqlite:///{self.directory}/{number}.db",
        }
        for variant in ("bare", "threads", "single", "asyncio"):
            self.measure(variant, variant, self.server.url(f"{variant}{number}"))
        self.measure("sqlite", "sqlite", urls["sqlite"])
        if self.node is not None:
            for name, options, kind in CHAINS:
                with self.worker(options, urls[name.split()[0]], kind):
                    self.measure(f"chain, {name}", "chain", self.node.url)

    def measure(self, name: str, variant: str, url: str) -> None:
        """Measure one variant, and print the result."""
        command = [sys.executable, "-m", "benchmarks.store_run", variant, url, str(self.seconds)]
        with Program(command, self.directory / "log") as program:
            figures = json.loads(program.says("{", 60 + 4 * self.seconds))
        self.figures.setdefault(name, []).append(figures)
        print(line(name, figures), flush=True)

    @contextmanager
    def worker(self, options: str, store_url: str, kind: str) -> Iterator[None]:
        """Run a process with a DB worker."""
        broker = self.node.url if self.node else ""
        environ = {"TXMICRO_BROKER_URL": broker, "TXMICRO_STORE_URL": store_url}
        command = twistd(f"{options} --pidfile= txmicro-worker --class {kind}")
        with Program(command, self.directory / "log", environ) as program:
            program.says("is ready")
            yield


def line(name: str, figures: dict[str, Any]) -> str:
    """Return a line of the table."""
    return f"{name:23} {figures['insert']:8.0f} inserts/s {figures['find']:8.0f} finds/s"


def middle(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure."""
    return {name: statistics.median(figures[name] for figures in rounds) for name in rounds[0]}


async def main(reactor: Any, *arguments: str) -> None:
    """Measure, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="txmicro-stores-") as directory, ExitStack() as ended:
        bench = Bench(Path(directory), options.seconds)
        ended.callback(bench.stop)
        await bench.start()
        for number in range(options.rounds):
            bench.round(number)
    print(f"\nmedians of {options.rounds}, on {'mongod' if mongo.mongod() else 'mongo-java-server'}")
    figures = {name: middle(rounds) for name, rounds in bench.figures.items()}
    for name, each in figures.items():
        print(line(name, each))
    for name, rate in figures["threads"].items():
        share = rate / figures["bare"][name]
        print(f"{name}: the store reaches {share:.2f} of bare pymongo; {TARGET} is the target")


if __name__ == "__main__":
    react(lambda reactor, *arguments: Deferred.fromCoroutine(main(reactor, *arguments)), sys.argv[1:])

"""A SystemManager that starts late, and prints when it knows all workers.

``python -m benchmarks.late_manager URL WORKERS KEEPALIVE`` (in ms) prints a line of JSON. ``known_s`` is the
time from its first request for announcements to the last worker's answer. Then it continues with its
keepalive.
"""

from __future__ import annotations

import json
import random
import sys
import time
from typing import Any

from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from txmicro.bus.connections import Bus
from txmicro.bus.targets import target
from txmicro.config import Config
from txmicro.manager import SystemManager
from txmicro.metrics import Metrics
from txmicro.protocol.address import Ids


class Observed(SystemManager):
    """Prints a line as soon as it knows the expected number of workers."""

    def __init__(self, workers: int) -> None:
        super().__init__()
        self._workers = workers
        self._question = 0.0

    def connected(self) -> None:
        """Store the time at which it requests the announcements."""
        self._question = time.monotonic()
        super().connected()

    def notified(self, topic: str, body: Any) -> None:
        """Print the line if all workers have answered."""
        super().notified(topic, body)
        if len(self.registry) == self._workers:
            print(json.dumps({"known_s": time.monotonic() - self._question}), flush=True)
            self._workers = -1


async def main(reactor: Any, url: str, workers: str, keepalive: str) -> None:
    """Run the manager."""
    reactor.seconds = time.monotonic
    bus = Bus(
        reactor,
        [target(reactor, url)],
        config=Config(data_transfer_protocol="MessagePack", keepalive=int(keepalive)),
        metrics=Metrics(CollectorRegistry()),
        ids=Ids(),
        random=random.random,
    )
    Observed(int(workers)).setServiceParent(bus)
    bus.startService()
    await Deferred()


if __name__ == "__main__":
    react(main, sys.argv[1:])

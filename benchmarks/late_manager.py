"""A SystemManager that starts late, and says when it knows everybody.

``python -m benchmarks.late_manager URL WORKERS KEEPALIVE`` (in ms); prints a line of JSON: ``known_s`` is the
time from its first question to the last worker's answer. Then it goes on with its keepalive.
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
    """Says when it knows as many workers as there are."""

    def __init__(self, workers: int) -> None:
        super().__init__()
        self._workers = workers
        self._question = 0.0

    def up(self) -> None:
        """It asks who is there."""
        self._question = time.monotonic()
        super().up()

    def notified(self, topic: str, body: Any) -> None:
        """Somebody answers."""
        super().notified(topic, body)
        if len(self.registry) == self._workers:
            print(json.dumps({"known_s": time.monotonic() - self._question}), flush=True)
            self._workers = -1


async def main(reactor: Any, url: str, workers: str, keepalive: str) -> None:
    """Be the manager."""
    reactor.seconds = time.monotonic
    bus = Bus(
        reactor,
        [target(reactor, url)],
        config=Config(data_transfer_protocol="MessagePack", keepalive=int(keepalive)),
        metrics=Metrics(CollectorRegistry()),
        ids=Ids(),
        random=random.random,
    )
    Observed(int(workers)).setServiceParent(bus)  # type: ignore[no-untyped-call]
    bus.startService()
    await Deferred()


if __name__ == "__main__":
    react(main, sys.argv[1:])

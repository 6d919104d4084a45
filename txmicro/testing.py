"""Run workers in memory: for people's own tests, without a server, a port or a file.

The broker is the embedded one, and every byte goes the way it goes in production, but through a pipe in
memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client import CollectorRegistry

from .amqp import uri
from .broker.factory import BrokerFactory
from .broker.memory_transport import MemoryEndpoint
from .bus.connections import Bus, Target
from .config import Config
from .manager import SystemManager
from .metrics import Metrics
from .protocol.address import Ids
from .worker import Worker


@asynccontextmanager
async def running(
    *workers: Worker, config: Config | None = None, manager: bool = True, reactor: Any = None
) -> AsyncIterator[Worker]:
    """Run *workers* on a bus of their own.

    ::

        async with running(DBWorker()) as bus:
            assert await bus.send("DB:*", {"method": "GET"}) == []

    :param config: what the workers find in ``self.config``; None: the defaults, but documents are kept in memory.
    :param manager: whether a SystemManager runs too.
    :param reactor: where it all runs; None: Twisted's own.
    :return: on entry, once all are announced: a worker of type ``TEST`` to send, publish and subscribe with.
    """
    if reactor is None:
        from twisted.internet import reactor
    tester = Worker("TEST")
    members: list[Worker | SystemManager] = [*([SystemManager()] if manager else []), *workers, tester]
    broker = BrokerFactory(reactor)
    bus = memory_bus(reactor, MemoryEndpoint(broker, reactor), config or Config(store_url="sqlite://"))
    for member in members:
        member.setServiceParent(bus)  # type: ignore[no-untyped-call]
    bus.startService()
    try:
        for member in members:
            await member.when_ready()
        yield tester
    finally:
        await bus.stopService()
        await broker.shut_down()
        broker.model.close()


def memory_bus(clock: Any, endpoint: Any, config: Config) -> Bus:
    """A bus that reaches its broker through *endpoint*, and never draws lots."""
    target = Target(endpoint, uri.parse("amqp://memory"))
    return Bus(
        clock, [target], config=config, metrics=Metrics(CollectorRegistry()), ids=Ids(), random=lambda: 0.5
    )

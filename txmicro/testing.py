"""Runs workers in memory, for tests: without a server, a port or a file.

The broker is the embedded one. Every byte takes the same path as in production, but through memory instead of a socket.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client import CollectorRegistry

from .amqp import uri
from .broker.factory import BrokerFactory
from .broker.memory_transport import MemoryEndpoint
from .bus.connections import Bus
from .bus.targets import Target
from .config import Config
from .manager import SystemManager
from .metrics import Metrics
from .protocol.address import Ids
from .protocol.tracer import Tracer
from .worker import Worker


@asynccontextmanager
async def running(
    *workers: Worker,
    config: Config | None = None,
    manager: bool = True,
    reactor: Any = None,
    tracer: Tracer | None = None,
) -> AsyncIterator[Worker]:
    """Run *workers* on a bus of their own, and give a client to test them with.

    ::

        async with running(DBWorker()) as client:
            assert await client.send("DB:*", {"method": "GET"}) == []

    On exit all are stopped.

    :param config: what the workers find in ``self.config``; None: the defaults, with documents in memory.
    :param manager: whether a SystemManager runs, too.
    :param reactor: the reactor to run in; None: Twisted's own.
    :param tracer: records spans; None: there are none.
    :return: the client, once all workers are announced: a worker of type ``CLIENT`` without a handler, which sends,
        publishes and subscribes.
    """
    if reactor is None:
        from twisted.internet import reactor
    client = Worker("CLIENT")
    members: list[Worker | SystemManager] = [*([SystemManager()] if manager else []), *workers, client]
    broker = BrokerFactory(reactor)
    bus = memory_bus(
        reactor, MemoryEndpoint(broker, reactor), config or Config(store_url="sqlite://"), tracer
    )
    for member in members:
        member.setServiceParent(bus)
    bus.startService()
    try:
        for member in members:
            await member.when_ready()
        yield client
    finally:
        await bus.stopService()
        await broker.shut_down()
        broker.model.close()


def memory_bus(clock: Any, endpoint: Any, config: Config, tracer: Tracer | None = None) -> Bus:
    """Return a bus that reaches its broker through *endpoint*, and whose delays are not random."""
    target = Target(endpoint, uri.parse("amqp://memory"))
    return Bus(
        clock,
        [target],
        config=config,
        metrics=Metrics(CollectorRegistry()),
        ids=Ids(),
        random=lambda: 0.5,
        tracer=tracer,
    )

"""Puts a command on the bus, as a worker that runs no jobs."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from prometheus_client import CollectorRegistry

from txmicro.bus.connections import Bus
from txmicro.config import Config
from txmicro.errors import TxmicroError
from txmicro.metrics import Metrics
from txmicro.operations.connecting import connect
from txmicro.protocol.address import Ids
from txmicro.worker import Worker

from .task import Context

TYPE: Final = "CLI"
"""The worker type of a command on the bus."""

START_TIMEOUT: Final = 15.0
"""Seconds in which the command has to be on the bus; it takes some milliseconds, unless the broker refuses a right."""


class NotOnBus(TxmicroError):
    """The broker accepts the connection, but the command could not declare its queues in time.

    Grant the broker's user the rights of a worker of type ``CLI``; see :mod:`txmicro.operations.permissions`.
    """


@asynccontextmanager
async def on_bus(context: Context, config: Config, worker: Worker | None = None) -> AsyncIterator[Worker]:
    """Give a worker that is on the bus of *config*, and take it off the bus on exit.

    :param worker: the worker; None: one of type ``CLI`` that runs no jobs.
    :raise NoBrokerReachable: no broker accepts the connection. :raise NotOnBus: it takes too long.
    """
    reactor = context.reactor
    brokers = context.targets(reactor, config)
    # A bus tries its brokers until one accepts the connection; a command tries each of them once.
    await (await connect(brokers, reactor, config.heartbeat)).shutdown()
    worker = worker or Worker(TYPE)
    bus = Bus(
        reactor,
        brokers,
        config=config,
        metrics=Metrics(CollectorRegistry()),
        ids=Ids(),
        random=random.random,
    )
    worker.setServiceParent(bus)
    bus.startService()

    def late(_result: Any, timeout: float) -> Any:
        raise NotOnBus(
            f"connected, but not on the bus after {timeout:g} s; grant the broker's user the rights of a worker of "
            f"type {worker.type}, see docs/howto/security.rst"
        )

    try:
        yield await worker.when_ready().addTimeout(START_TIMEOUT, reactor, late)
    finally:
        await bus.stopService()

"""Row: the connection between a worker and its broker freezes, is slow, and breaks."""

from __future__ import annotations

import random
import time

from tests.faults.context import Load, RowContext, pause, until, url_of
from tests.faults.proxy import Proxy
from tests.faults.row import row

HEARTBEAT = 2


@row(
    6,
    "a proxy freezes (no FIN), delays, drops, resets mid-frame",
    "The connection to a silent broker is closed within two heartbeats.",
)
async def proxied(context: RowContext) -> None:
    """Run two workers, one of them through a proxy that causes each of these faults repeatedly."""
    rounds = 1 if context.quick else 6
    context.timeout = 40
    proxy = Proxy(context.node.port)
    context.at_end(proxy.close)
    await context.manager()
    context.settings["TXMICRO_HEARTBEAT"] = str(HEARTBEAT)
    await context.workers(1)
    await context.workers(1, TXMICRO_BROKER_URL=url_of(context.node, proxy.port))
    load = Load(50, lambda n: context.send(durable=n % 3 == 0, ms=30))
    for _ in range(rounds):
        await pause(1)
        await _freeze(context, proxy)
        await context.consumers_back(2)
        proxy.delay = 0.3
        await pause(3)
        proxy.delay = 0.0
        proxy.reset()
        await context.consumers_back(2)
        proxy.tear_after = random.randrange(1000, 20_000)
        await pause(4)
        proxy.tear_after = None
        proxy.refuse = True
        proxy.reset()
        await pause(1)
        proxy.refuse = False
        await context.consumers_back(2)
    load.stop()
    slowest = max(context.result.recovery)
    context.require_within(2 * HEARTBEAT, slowest, "to notice a frozen connection")


async def _freeze(context: RowContext, proxy: Proxy) -> None:
    """Freeze until the worker has closed both its connections; record how long that took."""
    open_now = len(proxy.connections)
    proxy.lost.clear()
    proxy.freeze()
    began = time.monotonic()
    await until(
        lambda: len(proxy.lost) >= open_now, 30, "the worker closes the connection to its silent broker"
    )
    context.recovered(max(proxy.lost) - began)
    proxy.thaw()

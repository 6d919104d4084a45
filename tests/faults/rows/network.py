"""What is between a worker and its broker freezes, is slow, and breaks."""

from __future__ import annotations

import random
import time

from tests.faults.proxy import Proxy
from tests.faults.row import row
from tests.faults.stage import Load, Stage, pause, until, url_of

HEARTBEAT = 2


@row(
    6,
    "a proxy freezes (no FIN), delays, drops, resets mid-frame",
    "The connection to a silent broker is given up within two heartbeats.",
)
async def proxied(stage: Stage) -> None:
    """Two workers, one of them behind a proxy, which does each of these, again and again."""
    rounds = 1 if stage.quick else 6
    stage.timeout = 40
    proxy = Proxy(stage.node.port)
    stage.at_end(proxy.close)
    await stage.manager()
    stage.settings["TXMICRO_HEARTBEAT"] = str(HEARTBEAT)
    await stage.workers(1)
    await stage.workers(1, TXMICRO_BROKER_URL=url_of(stage.node, proxy.port))
    load = Load(50, lambda n: stage.send(durable=n % 3 == 0, ms=30))
    for _ in range(rounds):
        await pause(1)
        await _freeze(stage, proxy)
        await stage.consumers_back(2)
        proxy.delay = 0.3
        await pause(3)
        proxy.delay = 0.0
        proxy.reset()
        await stage.consumers_back(2)
        proxy.tear_after = random.randrange(1000, 20_000)
        await pause(4)
        proxy.tear_after = None
        proxy.refuse = True
        proxy.reset()
        await pause(1)
        proxy.refuse = False
        await stage.consumers_back(2)
    load.stop()
    slowest = max(stage.result.recovery)
    stage.require_within(2 * HEARTBEAT, slowest, "to notice a frozen connection")


async def _freeze(stage: Stage, proxy: Proxy) -> None:
    """Freeze, until the worker has given up both its connections; note how long that took."""
    open_now = len(proxy.pairs)
    proxy.lost.clear()
    proxy.freeze()
    began = time.monotonic()
    await until(lambda: len(proxy.lost) >= open_now, 30, "the worker notices that its broker is silent")
    stage.recovered(max(proxy.lost) - began)
    proxy.thaw()

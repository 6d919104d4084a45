"""Row: the SystemManager is killed."""

from __future__ import annotations

import time

from tests.faults.context import Load, RowContext, pause, until
from tests.faults.row import row

KEEPALIVE = 2.0


@row(
    13,
    "SystemManager killed under load",
    "Jobs need no manager, and a new one knows all workers within one keepalive.",
)
async def kill_manager(context: RowContext) -> None:
    """Kill the manager. Jobs go on without it, and a new one knows all workers within one keepalive."""
    kills = 3 if context.quick else 15
    manager = await context.manager()
    workers = await context.workers(5)
    load = Load(60, lambda n: context.send(durable=n % 3 == 0, ms=20))
    all_ids = {child.id for child in workers} | {context.sender.id}
    for _ in range(kills):
        await pause(1)
        await manager.kill()
        alone = [context.send(ms=1) for _ in range(20)]
        await until(lambda: all(job.ended for job in alone), 15, "jobs go on without a manager")  # noqa: B023
        manager = await context.manager()
        began = time.monotonic()
        while not all_ids <= {about["id"] for about in await context.sender.list_workers()}:
            context.require(time.monotonic() - began < 30, "the registry is not complete after 30 s")
            await pause(0.02)
        context.recovered(time.monotonic() - began)
    load.stop()
    slowest = max(context.result.recovery)
    context.require_within(KEEPALIVE, slowest, "the registry")

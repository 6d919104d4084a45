"""The SystemManager dies."""

from __future__ import annotations

import time

from tests.faults.row import row
from tests.faults.stage import Load, Stage, pause, until

KEEPALIVE = 2.0


@row(
    13,
    "SystemManager killed under load",
    "Jobs need no manager, and a new one knows all workers within one keepalive.",
)
async def kill_manager(stage: Stage) -> None:
    """Traffic goes on without it, and a new one knows everybody within one keepalive."""
    kills = 3 if stage.quick else 15
    manager = await stage.manager()
    team = await stage.workers(5)
    load = Load(60, lambda n: stage.send(durable=n % 3 == 0, ms=20))
    everybody = {child.id for child in team} | {stage.sender.id}
    for _ in range(kills):
        await pause(1)
        await manager.kill()
        alone = [stage.send(ms=1) for _ in range(20)]
        await until(lambda: all(job.ended for job in alone), 15, "jobs go on without a manager")  # noqa: B023
        manager = await stage.manager()
        began = time.monotonic()
        while not everybody <= {about["id"] for about in await stage.sender.list_workers()}:
            stage.require(time.monotonic() - began < 30, "the registry is not complete after 30 s")
            await pause(0.02)
        stage.recovered(time.monotonic() - began)
    load.stop()
    slowest = max(stage.result.recovery)
    stage.require_within(KEEPALIVE, slowest, "the registry")

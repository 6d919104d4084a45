"""Processes that stand still, and wall clocks that jump."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from tests.faults.processes import PATH, Child
from tests.faults.row import row
from tests.faults.stage import Load, Stage, pause, until

CLOCK = "FAULTS_CLOCK"
SITE = f'''
import os, time
_time = time.time
def jumping():
    try:
        with open(os.environ["{CLOCK}"]) as offset:
            return _time() + float(offset.read())
    except (OSError, ValueError):
        return _time()
time.time = jumping
time.time_ns = lambda: int(jumping() * 1e9)
'''
"""What Python runs at its start (``sitecustomize``), so that everything reads a wall clock that we can set."""


@row(12, "SIGSTOP of worker, manager, sender; wall clock ± 1 h")
async def stops(stage: Stage) -> None:
    """Each stands still for a while, amid load; then everybody's wall clock jumps."""
    seconds = 8 if stage.quick else 60
    stage.timeout = 240
    clock = _settable_clock(stage)
    manager = await stage.manager()
    team = await stage.workers(3)
    source = await stage.spawn_source().ready()
    load = Load(40, lambda n: stage.send(durable=n % 3 == 0, ms=30))
    for victim in (team[0], manager, source):
        await pause(2)
        victim.signal(signal.SIGSTOP)
        await pause(seconds)
        victim.signal(signal.SIGCONT)
        stage.recovered(await _works(stage))
    await _everybody_known(stage, [*team, source])
    before = _deaths(manager)
    for offset in (3600, -3600, 0):
        clock.write_text(str(offset))
        await pause(8)
        stage.recovered(await _works(stage))
        stage.require(
            _deaths(manager) == before, f"somebody was declared gone when the clock went to {offset} s"
        )
    load.stop()
    await stage.stop_source(source)


def _settable_clock(stage: Stage) -> Path:
    site = stage.directory / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE)
    clock = stage.directory / "clock"
    clock.write_text("0")
    stage.settings |= {CLOCK: str(clock), PATH: str(site)}
    return clock


async def _works(stage: Stage) -> float:
    """Seconds until jobs that are sent now are done."""
    began = time.monotonic()
    jobs = [stage.send(ms=1), stage.send(ms=1, durable=True)]
    await until(lambda: all(job.ended for job in jobs), 120, "jobs are done")
    return time.monotonic() - began


async def _everybody_known(stage: Stage, children: list[Child]) -> None:
    """Wait until the manager knows them all again."""
    ids = {child.id for child in children}
    deadline = time.monotonic() + 60
    while not ids <= {about["id"] for about in await stage.sender.list_workers()}:
        if time.monotonic() > deadline:
            stage.require(False, "the manager does not know everybody after 60 s")
            return
        await pause(0.5)


def _deaths(manager: Child) -> int:
    """How many workers the manager has declared gone."""
    return manager.log.read_text().count("is declared gone")

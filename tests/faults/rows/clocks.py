"""Processes that stand still, and wall clocks that jump."""

from __future__ import annotations

import signal
import time
from glob import glob
from pathlib import Path

from tests.faults.processes import Child
from tests.faults.row import Unavailable, row
from tests.faults.stage import Load, Stage, pause, until
from txmicro.protocol.job import Job
from txmicro.worker import Worker

LIBRARIES = "/usr/lib/*/faketime/libfaketimeMT.so.1"
"""Where Debian's package libfaketime has what sets the wall clock of a process."""
SETTLED = 7.0
"""Seconds after which a manager, whose keepalive is 2 s, has removed a worker that does not answer."""


class Teller(Worker):
    """Says what its wall clock says."""

    type = "CLOCK"

    def do_job(self, job: Job) -> float:
        return time.time()


@row(
    12,
    "SIGSTOP 60 s of worker, manager, sender; wall clock ± 1 h",
    "Time is monotonic: no clock change declares a worker gone, and a process that was stopped goes on.",
)
async def stops(stage: Stage) -> None:
    """Each stands still for a while, amid load; then everybody's wall clock jumps."""
    seconds, offsets = (5, (3600, -3600)) if stage.quick else (60, (3600, -3600, 0))
    stage.timeout = 240
    clock = _settable_clock(stage)
    teller = await stage.spawn("CLOCK", "tests.faults.rows.clocks:Teller").ready()
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
    for offset in offsets:
        clock.write_text(f"{offset:+}")
        off = await stage.sender.send(teller.id, timeout=30) - time.time()
        stage.require(abs(off - offset) < 60, f"the clock is off by {off:.0f} s, not {offset}")
        await pause(SETTLED)
        stage.recovered(await _works(stage))
        stage.require(
            _deaths(manager) == before,
            f"a worker was removed from the list when the clock went to {offset} s",
        )
    load.stop()
    await stage.stop_source(source)


def _settable_clock(stage: Stage) -> Path:
    """Give all processes that are started from now on the wall clock that the file says: seconds off the right one."""
    library = next(iter(sorted(glob(LIBRARIES))), None)
    if library is None:
        raise Unavailable("the package libfaketime is missing")
    clock = stage.directory / "clock"
    clock.write_text("+0")
    stage.settings |= {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
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
    """How many workers the manager has removed from its list."""
    return manager.log.read_text().count("is removed from the list of workers")

"""Rows: processes are stopped, and wall clocks jump."""

from __future__ import annotations

import signal
import time
from glob import glob
from pathlib import Path

from tests.faults.context import Load, RowContext, pause, until
from tests.faults.processes import Child
from tests.faults.row import Unavailable, row
from txmicro.protocol.job import Job
from txmicro.worker import Worker

LIBRARIES = "/usr/lib/*/faketime/libfaketimeMT.so.1"
"""The directory of Debian's package libfaketime, with the library that sets the wall clock of a process."""
SETTLED = 7.0
"""Seconds after which a manager with a keepalive of 2 s has removed a worker that does not answer."""


class ClockReporter(Worker):
    """Returns the time of its wall clock."""

    type = "CLOCK"

    def do_job(self, job: Job) -> float:
        return time.time()


@row(
    12,
    "SIGSTOP 60 s of worker, manager, sender; wall clock ± 1 h",
    "Time is monotonic: no clock change makes a manager remove a worker, and a stopped process continues.",
)
async def stops(context: RowContext) -> None:
    """Stop each process for a while, under load; then change the wall clock of all of them."""
    seconds, offsets = (5, (3600, -3600)) if context.quick else (60, (3600, -3600, 0))
    context.timeout = 240
    clock = _settable_clock(context)
    reporter = await context.spawn("CLOCK", "tests.faults.rows.clocks:ClockReporter").ready()
    manager = await context.manager()
    workers = await context.workers(3)
    source = await context.spawn_source().ready()
    load = Load(40, lambda n: context.send(durable=n % 3 == 0, ms=30))
    for victim in (workers[0], manager, source):
        await pause(2)
        victim.signal(signal.SIGSTOP)
        await pause(seconds)
        victim.signal(signal.SIGCONT)
        context.recovered(await _works(context))
    await _all_known(context, [*workers, source])
    before = _deaths(manager)
    for offset in offsets:
        clock.write_text(f"{offset:+}")
        off = await context.sender.send(reporter.id, timeout=30) - time.time()
        context.require(abs(off - offset) < 60, f"the clock is off by {off:.0f} s, not {offset}")
        await pause(SETTLED)
        context.recovered(await _works(context))
        context.require(
            _deaths(manager) == before, f"a worker was removed when the clock changed by {offset} s"
        )
    load.stop()
    await context.stop_source(source)


def _settable_clock(context: RowContext) -> Path:
    """Set the wall clock of all processes that are started from now on: the file contains its offset in seconds."""
    library = next(iter(sorted(glob(LIBRARIES))), None)
    if library is None:
        raise Unavailable("the package libfaketime is missing")
    clock = context.directory / "clock"
    clock.write_text("+0")
    context.settings |= {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    return clock


async def _works(context: RowContext) -> float:
    """Return the seconds until jobs that are sent now are done."""
    began = time.monotonic()
    jobs = [context.send(ms=1), context.send(ms=1, durable=True)]
    await until(lambda: all(job.ended for job in jobs), 120, "jobs are done")
    return time.monotonic() - began


async def _all_known(context: RowContext, children: list[Child]) -> None:
    """Wait until the manager knows all of them again."""
    ids = {child.id for child in children}
    deadline = time.monotonic() + 60
    while not ids <= {about["id"] for about in await context.sender.list_workers()}:
        if time.monotonic() > deadline:
            context.require(False, "the manager does not know all workers after 60 s")
            return
        await pause(0.5)


def _deaths(manager: Child) -> int:
    """Return how many workers the manager has removed because they did not answer."""
    return manager.log.read_text().count("is removed from the list of workers")

"""Many jobs, and many reconnects."""

from __future__ import annotations

import gc
import json
import time
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from tests.faults.ledger import Entry
from tests.faults.processes import Child
from tests.faults.proxy import Proxy
from tests.faults.report import percentile
from tests.faults.row import row
from tests.faults.stage import Sender, Stage, pause, until, url_of

MIB = 1 << 20
WARM = 12_000
"""Jobs after which a worker remembers as many as it ever does."""
AHEAD = 2000
"""Jobs that may be on their way to the broker at once."""


@row(
    8,
    "a slow consumer and a backlog of 200,000 durable jobs",
    "A backlog costs a worker no memory, and interactive jobs do not wait behind it.",
)
async def backlog(stage: Stage) -> None:
    """Store them while nobody consumes; then one worker works them off, while interactive jobs come too."""
    count = 10_000 if stage.quick else 200_000
    stage.timeout = 3600
    await stage.manager()
    (first,) = await stage.workers(1)
    await first.stop()
    sender = await _roomy_sender(stage, count)
    entries: list[Entry] = []
    while len(entries) < count:
        entries += [stage.send(durable=True, ms=10, by=sender) for _ in range(200)]
        late = entries[-AHEAD] if len(entries) >= AHEAD else None
        await until(lambda: late is None or late.stored, 120, "the broker stores the backlog")  # noqa: B023
        await pause(0)
    await until(lambda: entries[-1].stored and all(entry.stored for entry in entries), 120, "all is stored")
    gc.freeze()  # the ledger's entries: to look through them takes as long as a job may
    stage.at_end(gc.unfreeze)
    (worker,) = await stage.workers(1, TXMICRO_CAPACITY="12")
    memory: list[int] = []
    asked: list[Entry] = []
    while not all(entry.ended for entry in entries[-AHEAD:]):
        asked.append(stage.send(ms=10))
        await pause(0.05)
        memory.append(worker.memory())
    await until(lambda: all(entry.ended for entry in asked), 60, "the interactive jobs are done")
    waits = [(entry.ended or 0) - entry.sent for entry in asked]
    stage.result.recovery += waits
    slowest, grown = percentile(waits, 0.99), memory[-1] - memory[len(memory) // 2]
    stage.measured("backlog", count)
    stage.measured(
        "the worker's memory, half-way and at the end (MiB)",
        [m // MIB for m in (memory[len(memory) // 2], memory[-1])],
    )
    stage.require(grown < 8 * MIB, f"the worker grew by {grown / MIB:.1f} MiB")
    stage.require_within(0.11, slowest, "the interactive jobs' p99")


async def _roomy_sender(stage: Stage, count: int) -> Sender:
    sender = Sender()
    await stage.join(sender, outbox_jobs=2 * count)
    return sender


@row(
    17,
    "1,000 reconnects, then 1,000,000 jobs",
    "Nothing leaks: memory, descriptors, queues, channels and connections stay bounded.",
)
async def endurance(stage: Stage) -> None:
    """Connections are reset again and again; then jobs, many. What the processes hold must not grow."""
    count, waves, rounds, jobs = (4, 1, 4, 30_000) if stage.quick else (16, 7, 9, 1_000_000)
    proxies = [Proxy(stage.node.port) for _ in range(count)]
    for proxy in proxies:
        stage.at_end(proxy.close)
    await stage.manager()
    team = [stage.spawn(TXMICRO_BROKER_URL=url_of(stage.node, proxy.port)) for proxy in proxies]
    await gatherResults([child.ready() for child in team], consumeErrors=True)
    await _jobs(stage, WARM * count)
    await _wave(stage, proxies, 1)
    before = await _holdings(stage, team)
    for _ in range(waves):
        await _wave(stage, proxies, rounds)
    await _jobs(stage, 5000)
    between = await _holdings(stage, team)
    began = time.monotonic()
    await _jobs(stage, jobs)
    stage.measured("jobs per second", round(jobs / (time.monotonic() - began)))
    after = await _holdings(stage, team)
    stage.measured("reconnects", count * waves * rounds)
    for name, limit in GROWTH.items():
        figures = [holdings[name] for holdings in (before, between, after)]
        stage.measured(name, figures)
        stage.require(max(figures[1:]) <= figures[0] + limit, f"{name} grew: {figures}")


GROWTH = {"memory (MiB)": 12, "descriptors": 2, "queues": 0, "channels": 0, "connections": 0}
"""What may be held more at the end."""
CONNECTIONS = 3
"""Of a process that has a durable lane."""


async def _wave(stage: Stage, proxies: list[Proxy], rounds: int) -> None:
    """Reset each worker's connections so many times, the last time all together."""
    flapping = [Deferred.fromCoroutine(_flap(proxy, rounds - 1)) for proxy in proxies]
    await gatherResults(flapping, consumeErrors=True)
    began = time.monotonic()
    await gatherResults([Deferred.fromCoroutine(_flap(proxy, 1)) for proxy in proxies], consumeErrors=True)
    await stage.consumers_back(len(proxies))
    stage.recovered(time.monotonic() - began)


async def _flap(proxy: Proxy, rounds: int) -> None:
    for _ in range(rounds):
        proxy.reset()
        await until(lambda: len(proxy.pairs) == CONNECTIONS, 30, "a worker connects again")


async def _jobs(stage: Stage, count: int) -> None:
    """Send so many, with a bounded number under way."""
    for _ in range(count):
        stage.send(ms=0)
        if stage.ledger.open >= AHEAD:
            await until(lambda: stage.ledger.open < AHEAD // 2, 60, "jobs are done", every=0.005)
    await stage.settled()


async def _holdings(stage: Stage, team: list[Child]) -> dict[str, int]:
    """What the workers' processes and the broker hold, when all is quiet."""
    await pause(3)
    about: dict[str, Any] = {
        "memory (MiB)": max(child.memory() for child in team) // MIB,
        "descriptors": max(child.descriptors() for child in team),
    }
    for what in ("queues", "channels", "connections"):
        listed = await stage.node.ctl(f"list_{what}", "--formatter", "json", "name")
        about[what] = len(json.loads(listed))
    return about

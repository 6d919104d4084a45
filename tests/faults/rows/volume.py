"""Rows: many jobs, and many reconnects."""

from __future__ import annotations

import gc
import json
import time
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from tests.faults.context import RowContext, Sender, pause, until, url_of
from tests.faults.processes import Child
from tests.faults.proxy import Proxy
from tests.faults.records import SentJob
from tests.faults.report import percentile
from tests.faults.row import row

MIB = 1 << 20
WARM = 12_000
"""Jobs after which a worker's memory of jobs is full."""
AHEAD = 2000
"""The most jobs that may be under way to the broker at the same time."""


@row(
    8,
    "a slow consumer and a backlog of 200,000 durable jobs",
    "A backlog costs a worker no memory, and interactive jobs do not wait behind it.",
)
async def backlog(context: RowContext) -> None:
    """Store the jobs without a consumer. Then one worker runs them, with interactive jobs in between."""
    count = 10_000 if context.quick else 200_000
    context.timeout = 3600
    await context.manager()
    (first,) = await context.workers(1)
    await first.stop()
    sender = await _roomy_sender(context, count)
    entries: list[SentJob] = []
    while len(entries) < count:
        entries += [context.send(durable=True, ms=10, by=sender) for _ in range(200)]
        late = entries[-AHEAD] if len(entries) >= AHEAD else None
        await until(lambda: late is None or late.stored, 120, "the broker stores the backlog")  # noqa: B023
        await pause(0)
    await until(lambda: entries[-1].stored and all(entry.stored for entry in entries), 120, "all is stored")
    gc.freeze()  # looking through the recorded jobs takes as long as a job may
    context.at_end(gc.unfreeze)
    (worker,) = await context.workers(1, TXMICRO_CAPACITY="12")
    memory: list[int] = []
    asked: list[SentJob] = []
    while not all(entry.ended for entry in entries[-AHEAD:]):
        asked.append(context.send(ms=10))
        await pause(0.05)
        memory.append(worker.memory())
    await until(lambda: all(entry.ended for entry in asked), 60, "the interactive jobs are done")
    waits = [(entry.ended or 0) - entry.sent for entry in asked]
    context.result.recovery += waits
    slowest, grown = percentile(waits, 0.99), memory[-1] - memory[len(memory) // 2]
    context.measured("backlog", count)
    context.measured(
        "the worker's memory, half-way and at the end (MiB)",
        [m // MIB for m in (memory[len(memory) // 2], memory[-1])],
    )
    context.require(grown < 8 * MIB, f"the worker grew by {grown / MIB:.1f} MiB")
    context.require_within(0.11, slowest, "the interactive jobs' p99")


async def _roomy_sender(context: RowContext, count: int) -> Sender:
    sender = Sender()
    await context.join(sender, outbox_jobs=2 * count)
    return sender


@row(
    17,
    "1,000 reconnects, then 1,000,000 jobs",
    "Nothing leaks: memory, descriptors, queues, channels and connections stay bounded.",
)
async def endurance(context: RowContext) -> None:
    """Reset connections many times, then send many jobs. The resources of the processes must not grow."""
    count, waves, rounds, jobs = (4, 1, 4, 30_000) if context.quick else (16, 7, 9, 1_000_000)
    proxies = [Proxy(context.node.port) for _ in range(count)]
    for proxy in proxies:
        context.at_end(proxy.close)
    await context.manager()
    workers = [context.spawn(TXMICRO_BROKER_URL=url_of(context.node, proxy.port)) for proxy in proxies]
    await gatherResults([child.ready() for child in workers], consumeErrors=True)
    await _jobs(context, WARM * count)
    await _wave(context, proxies, 1)
    before = await _holdings(context, workers)
    for _ in range(waves):
        await _wave(context, proxies, rounds)
    await _jobs(context, 5000)
    between = await _holdings(context, workers)
    began = time.monotonic()
    await _jobs(context, jobs)
    context.measured("jobs per second", round(jobs / (time.monotonic() - began)))
    after = await _holdings(context, workers)
    context.measured("reconnects", count * waves * rounds)
    for name, limit in GROWTH.items():
        figures = [holdings[name] for holdings in (before, between, after)]
        context.measured(name, figures)
        context.require(max(figures[1:]) <= figures[0] + limit, f"{name} grew: {figures}")


GROWTH = {"memory (MiB)": 12, "descriptors": 2, "queues": 0, "channels": 0, "connections": 0}
"""The allowed growth of each resource."""
CONNECTIONS = 3
"""The connections of a process that has a durable lane."""


async def _wave(context: RowContext, proxies: list[Proxy], rounds: int) -> None:
    """Reset each worker's connections that many times, the last time all at once."""
    flapping = [Deferred.fromCoroutine(_flap(proxy, rounds - 1)) for proxy in proxies]
    await gatherResults(flapping, consumeErrors=True)
    began = time.monotonic()
    await gatherResults([Deferred.fromCoroutine(_flap(proxy, 1)) for proxy in proxies], consumeErrors=True)
    await context.consumers_back(len(proxies))
    context.recovered(time.monotonic() - began)


async def _flap(proxy: Proxy, rounds: int) -> None:
    for _ in range(rounds):
        proxy.reset()
        await until(lambda: len(proxy.connections) == CONNECTIONS, 30, "a worker connects again")


async def _jobs(context: RowContext, count: int) -> None:
    """Send so many jobs, with a bounded number under way."""
    for _ in range(count):
        context.send(ms=0)
        if context.sent_jobs.open >= AHEAD:
            await until(lambda: context.sent_jobs.open < AHEAD // 2, 60, "jobs are done", every=0.005)
    await context.settled()


async def _holdings(context: RowContext, workers: list[Child]) -> dict[str, int]:
    """Return the resources of the workers' processes and of the broker when nothing happens."""
    await pause(3)
    about: dict[str, Any] = {
        "memory (MiB)": max(child.memory() for child in workers) // MIB,
        "descriptors": max(child.descriptors() for child in workers),
    }
    for what in ("queues", "channels", "connections"):
        listed = await context.node.ctl(f"list_{what}", "--formatter", "json", "name")
        about[what] = len(json.loads(listed))
    return about

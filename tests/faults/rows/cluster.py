"""Rows: nodes of a cluster are killed."""

from __future__ import annotations

import random
import time

from twisted.internet.defer import gatherResults

from tests.faults.cluster import leader, online
from tests.faults.context import Load, RowContext, pause, until
from tests.faults.records import SentJob
from tests.faults.row import TimedOut, row
from txmicro.errors import JobError

QUEUE = "txmicro.jobs.WB.durable"


@row(
    3,
    "3 nodes, kill the durable queue's leader, repeatedly",
    "The next broker of the list takes over, and durable jobs are interrupted for less than 10 s.",
    nodes=3,
)
async def kill_leader(context: RowContext) -> None:
    """Kill the leader, measure how long jobs are interrupted, start it and let it catch up; repeat.

    Each time, the queue must have members on all three nodes before, or it would lose its majority.
    """
    kills = 2 if context.quick else 12
    context.timeout = 120
    await context.node.ctl("await_online_nodes", "3")  # a queue gets members on the nodes that are online
    await context.manager()
    await context.workers(3)
    load = Load(40, lambda n: context.send(durable=n % 2 == 0, ms=30))
    for _ in range(kills):
        await pause(3)
        await _whole(context)
        name = await _leader(context)
        victim = next(node for node in context.nodes if node.name == name)
        victim.kill()
        context.recovered(await _stall(context))
        await victim.start()
        await pause(5)
    load.stop()
    await context.settled()
    stalls = context.result.summary()
    context.require_within(10, stalls["p99"], "the stalls' p99")


async def _whole(context: RowContext) -> None:
    """Wait until the durable queue has members on all nodes."""
    deadline = time.monotonic() + 60
    while (there := await online(context.node, QUEUE)) < len(context.nodes):
        if time.monotonic() > deadline:
            raise TimedOut(f"{QUEUE} is on {there} of {len(context.nodes)} nodes")
        await pause(0.5)


async def _leader(context: RowContext) -> str:
    """Return the node that leads the durable queue."""
    deadline = time.monotonic() + 30
    while True:
        name = await leader(random.choice(context.nodes), QUEUE)
        if name or time.monotonic() > deadline:
            return name
        await pause(0.5)


async def _stall(context: RowContext) -> float:
    """Return the seconds until a durable and an interactive job, sent now, are done."""
    began = time.monotonic()
    jobs = [context.send(ms=1), context.send(ms=1, durable=True)]
    await until(lambda: all(job.ended for job in jobs), 100, "jobs are done after a node was killed")
    return time.monotonic() - began


@row(
    4,
    "2 of 3 nodes down, then up again",
    "Every send ends in time, if need be with a typed error, and everything works afterwards.",
    nodes=3,
    may_fail=(JobError,),
)
async def majority_lost(context: RowContext) -> None:
    """Kill two nodes. Nothing can be stored then: jobs must fail in time, and work again afterwards."""
    rounds, seconds = (1, 10) if context.quick else (3, 30)
    await context.manager()
    await context.workers(3)
    load = Load(30, lambda n: context.send(durable=n % 2 == 0, ms=30))
    for _ in range(rounds):
        await pause(3)
        victims = random.sample(context.nodes, 2)
        for victim in victims:
            victim.kill()
        await pause(1)
        context.timeout, usual = 8.0, context.timeout
        hopeless = [context.send(durable=lane) for lane in (False, True) for _ in range(20)]
        context.timeout = usual
        await pause(seconds)
        _check_bounded(context, hopeless)
        await gatherResults([victim.start() for victim in victims], consumeErrors=True)
        context.recovered(await _stall(context))
        await pause(5)
    load.stop()


def _check_bounded(context: RowContext, jobs: list[SentJob]) -> None:
    """Check that the jobs have ended in time, with typed errors."""
    for job in jobs:
        context.require(job.ended is not None, "a job did not end while there was no majority")
        late = (job.ended or 0) - job.sent
        context.require_within(9.5, late, "a job with a timeout of 8 s")
        context.require(job.error is None or isinstance(job.error, JobError), f"ended with {job.error!r}")

"""Nodes of a cluster die."""

from __future__ import annotations

import random
import time

from twisted.internet.defer import gatherResults

from tests.faults.cluster import leader, online
from tests.faults.ledger import Entry
from tests.faults.row import Unmet, row
from tests.faults.stage import Load, Stage, pause, until
from txmicro.errors import JobError

QUEUE = "txmicro.jobs.WB.durable"


@row(
    3,
    "3 nodes, kill the durable queue's leader, repeatedly",
    "The next broker of the list takes over, and durable jobs are interrupted for less than 10 s.",
    nodes=3,
)
async def kill_leader(stage: Stage) -> None:
    """Kill it, see how long jobs stand still, let it come back and catch up; again and again.

    The queue has to be on all three nodes each time, or it would lose its majority.
    """
    kills = 2 if stage.quick else 12
    stage.timeout = 120
    await stage.node.ctl("await_online_nodes", "3")  # a queue is declared on those that are
    await stage.manager()
    await stage.workers(3)
    load = Load(40, lambda n: stage.send(durable=n % 2 == 0, ms=30))
    for _ in range(kills):
        await pause(3)
        await _whole(stage)
        name = await _leader(stage)
        victim = next(node for node in stage.nodes if node.name == name)
        victim.kill()
        stage.recovered(await _stall(stage))
        await victim.start()
        await pause(5)
    load.stop()
    await stage.settled()
    stalls = stage.result.summary()
    stage.require_within(10, stalls["p99"], "the stalls' p99")


async def _whole(stage: Stage) -> None:
    """Wait until the durable queue is on all nodes."""
    deadline = time.monotonic() + 60
    while (there := await online(stage.node, QUEUE)) < len(stage.nodes):
        if time.monotonic() > deadline:
            raise Unmet(f"{QUEUE} is on {there} of {len(stage.nodes)} nodes")
        await pause(0.5)


async def _leader(stage: Stage) -> str:
    """The node that leads the durable queue."""
    deadline = time.monotonic() + 30
    while True:
        name = await leader(random.choice(stage.nodes), QUEUE)
        if name or time.monotonic() > deadline:
            return name
        await pause(0.5)


async def _stall(stage: Stage) -> float:
    """Seconds until a durable and an interactive job, sent now, are done."""
    began = time.monotonic()
    jobs = [stage.send(ms=1), stage.send(ms=1, durable=True)]
    await until(lambda: all(job.ended for job in jobs), 100, "jobs are done after a node's death")
    return time.monotonic() - began


@row(
    4,
    "2 of 3 nodes gone, then back",
    "Every send ends in time, if need be with a typed error, and everything works afterwards.",
    nodes=3,
    may_fail=(JobError,),
)
async def majority_lost(stage: Stage) -> None:
    """While they are gone nothing can be stored; senders hear of it in time, and all goes on afterwards."""
    rounds, seconds = (1, 10) if stage.quick else (3, 30)
    await stage.manager()
    await stage.workers(3)
    load = Load(30, lambda n: stage.send(durable=n % 2 == 0, ms=30))
    for _ in range(rounds):
        await pause(3)
        victims = random.sample(stage.nodes, 2)
        for victim in victims:
            victim.kill()
        await pause(1)
        stage.timeout, usual = 8.0, stage.timeout
        hopeless = [stage.send(durable=lane) for lane in (False, True) for _ in range(20)]
        stage.timeout = usual
        await pause(seconds)
        _check_bounded(stage, hopeless)
        await gatherResults([victim.start() for victim in victims], consumeErrors=True)
        stage.recovered(await _stall(stage))
        await pause(5)
    load.stop()


def _check_bounded(stage: Stage, jobs: list[Entry]) -> None:
    """They have ended by now, in time, and with typed errors."""
    for job in jobs:
        stage.require(job.ended is not None, "a job's sender heard nothing while a majority was gone")
        late = (job.ended or 0) - job.sent
        stage.require_within(9.5, late, "a job with a timeout of 8 s")
        stage.require(job.error is None or isinstance(job.error, JobError), f"ended with {job.error!r}")

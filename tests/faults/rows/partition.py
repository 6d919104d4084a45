"""The network between the nodes of a cluster parts."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.partitions import HERE, Network, make
from tests.faults.row import row
from tests.faults.stage import Load, Stage, pause, until
from tests.support.rabbitmq import free_port
from txmicro.errors import JobError

# Each gives two ends of which the first does not reach the second any more.


def minority(network: Network) -> tuple[int, int]:
    """One node loses the other two, and keeps its clients."""
    network.cut(3, 1)
    network.cut(3, 2)
    return 3, 1


def halves(network: Network) -> tuple[int, int]:
    """One node loses the other two and all clients."""
    minority(network)
    network.cut(3, HERE)
    return 3, 2


def bridge(network: Network) -> tuple[int, int]:
    """Two nodes lose each other, and keep the third."""
    network.cut(1, 2)
    return 1, 2


def one_way(network: Network) -> tuple[int, int]:
    """What one node says does not reach another, but the other way round."""
    network.cut(1, 3, both=False)
    return 1, 3


PARTITIONS: tuple[Callable[[Network], tuple[int, int]], ...] = (minority, halves, bridge, one_way)


@row(
    5,
    "partition (minority, halves, bridge, one-way) 10 s and 30 s",
    "However the nodes are divided, no job is lost.",
    nodes=0,
    may_fail=(JobError,),
)
async def partitions(stage: Stage) -> None:
    """Each of them for 10 s and for 30 s."""
    network = Network(3)
    stage.at_end(network.close)
    network.open()
    folders = [Path(tempfile.mkdtemp(prefix="txmicro-faults-")) for _ in range(3)]
    stage.settings["TXMICRO_HEARTBEAT"] = "5"
    stage.timeout = 180
    await stage.open(list(make(folders, network, free_port())))
    await stage.manager()
    await stage.workers(3)
    load = Load(30, lambda n: stage.send(durable=n % 2 == 0, ms=30))
    for seconds in (10,) if stage.quick else (10, 30):
        for part in PARTITIONS[:: 3 if stage.quick else 1]:
            await pause(3)
            one, other = part(network)
            reached = network.reaches(one, other, stage.nodes[other - 1].port)
            stage.require(not reached, f"{part.__name__}: {one} reaches {other}, so nothing was cut")
            await pause(seconds)
            network.heal()
            stage.recovered(await _works(stage))
    load.stop()


async def _works(stage: Stage) -> float:
    """Seconds until a durable and an interactive job, sent now, are done."""
    began = time.monotonic()
    jobs = [stage.send(ms=1), stage.send(ms=1, durable=True)]
    await until(lambda: all(job.ended for job in jobs), 170, "jobs are done after the partition")
    return time.monotonic() - began

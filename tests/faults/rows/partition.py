"""Row: the network between the nodes of a cluster is partitioned."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.context import Load, RowContext, pause, until
from tests.faults.partitions import HERE, Network, make
from tests.faults.row import row
from tests.support.rabbitmq import free_port
from txmicro.errors import JobError

# Each function returns two nodes. The link from the first to the second is cut.


def minority(network: Network) -> tuple[int, int]:
    """Separate one node from the other two; it keeps its clients."""
    network.cut(3, 1)
    network.cut(3, 2)
    return 3, 1


def halves(network: Network) -> tuple[int, int]:
    """Separate one node from the other two and from all clients."""
    minority(network)
    network.cut(3, HERE)
    return 3, 2


def bridge(network: Network) -> tuple[int, int]:
    """Separate two nodes, which both still reach the third."""
    network.cut(1, 2)
    return 1, 2


def one_way(network: Network) -> tuple[int, int]:
    """Cut the link between two nodes in one direction only."""
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
async def partitions(context: RowContext) -> None:
    """Cause each partition for 10 s and for 30 s."""
    network = Network(3)
    context.at_end(network.close)
    network.open()
    folders = [Path(tempfile.mkdtemp(prefix="txmicro-faults-")) for _ in range(3)]
    context.settings["TXMICRO_HEARTBEAT"] = "5"
    context.timeout = 180
    await context.open(list(make(folders, network, free_port())))
    await context.manager()
    await context.workers(3)
    load = Load(30, lambda n: context.send(durable=n % 2 == 0, ms=30))
    for seconds in (10,) if context.quick else (10, 30):
        for part in PARTITIONS[:: 3 if context.quick else 1]:
            await pause(3)
            one, other = part(network)
            reached = network.reaches(one, other, context.nodes[other - 1].port)
            context.require(not reached, f"{part.__name__}: {one} reaches {other}, so nothing was cut")
            await pause(seconds)
            network.heal()
            context.recovered(await _works(context))
    load.stop()


async def _works(context: RowContext) -> float:
    """Return the seconds until a durable and an interactive job, sent now, are done."""
    began = time.monotonic()
    jobs = [context.send(ms=1), context.send(ms=1, durable=True)]
    await until(lambda: all(job.ended for job in jobs), 170, "jobs are done after the partition")
    return time.monotonic() - began

"""txmicro with everything on: acks, TTL copies, duplicate memory, metrics. ``--durable`` selects the durable
lane.
"""

from __future__ import annotations

import argparse
import random
import sys
from typing import Any

from prometheus_client import CollectorRegistry
from protocol import ready, serve
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from txmicro import Job, Worker
from txmicro.bus.connections import Bus
from txmicro.bus.targets import target
from txmicro.config import Config
from txmicro.metrics import Metrics
from txmicro.protocol.address import Ids


async def echo(job: Job) -> Any:
    """Return the job's data."""
    return job.data


async def join(reactor: Any, options: argparse.Namespace, worker: Worker) -> None:
    """Connect *worker* to the broker, and wait until it is announced."""
    bus = Bus(
        reactor,
        [target(reactor, options.url)],
        config=Config(data_transfer_protocol=options.format),
        metrics=Metrics(CollectorRegistry()),
        ids=Ids(),
        random=random.random,
    )
    worker.setServiceParent(bus)
    bus.startService()
    await worker.when_ready()


async def send(reactor: Any, options: argparse.Namespace) -> None:
    """Run the sender."""
    sender = Worker("Bench")
    await join(reactor, options, sender)
    await serve(
        lambda data: sender.send("Echo:*", data, durable=options.durable),
        lambda coroutines: gatherResults([ensureDeferred(each) for each in coroutines]),
        deferToThread,
    )


async def work(reactor: Any, options: argparse.Namespace) -> None:
    """Run the worker."""
    await join(reactor, options, Worker("Echo", do_job=echo))
    ready()
    await Deferred()


async def main(reactor: Any, *arguments: str) -> None:
    """Parse the command line, and run the role."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=["work", "send"])
    parser.add_argument("url")
    parser.add_argument("--durable", action="store_true")
    parser.add_argument("--format", default="MessagePack")
    options = parser.parse_args(arguments)
    await (work if options.role == "work" else send)(reactor, options)


if __name__ == "__main__":
    react(main, sys.argv[1:])

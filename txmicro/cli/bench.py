"""``txmicro bench``: a quick check of how fast a live bus is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import click
from twisted.internet.defer import CancelledError, Deferred, gatherResults

from txmicro.config import Config
from txmicro.errors import TxmicroError
from txmicro.operations.connecting import connect
from txmicro.operations.unused_queues import remove_unused
from txmicro.protocol.job import Job
from txmicro.receiving.retry import STEPS
from txmicro.worker import Worker

from .client import on_bus
from .options import CONFIG, JSON, command, seconds, whole_number
from .outcomes import Outcomes
from .output import write, write_json, write_table
from .task import Context, Task

TYPE: Final = "BENCH"
"""The worker type of the worker that answers the jobs."""

MOST_AT_ONCE: Final = 10_000
LARGEST: Final = 1 << 20

_HEADER: Final = ("LANE", "AT ONCE", "JOBS", "JOBS/S", "P50 MS", "P90 MS", "P99 MS", "MAX MS")


class BenchFailed(TxmicroError):
    """Jobs of ``txmicro bench`` have failed; the message has a line for each type of failure.

    Look up the type in :doc:`/howto/troubleshooting`.
    """


class Echo(Worker):
    """Answers each job with its data."""

    type = TYPE
    durable = False

    async def do_job(self, job: Job) -> Any:
        """Return the data of *job*."""
        return job.data


@dataclass(kw_only=True)
class Bench(Task):
    """``txmicro bench``.

    :ivar seconds: how long each measurement takes. :ivar concurrency: how many jobs are under way in the second one.
    :ivar size: bytes of data in each job. :ivar durable: whether durable jobs are measured, too.
    """

    seconds: float
    concurrency: int
    size: int
    durable: bool = False
    as_json: bool = False
    config: str | None = None
    _interrupted: bool = field(default=False, init=False)

    async def run(self, context: Context) -> None:
        """Put a worker and a sender on the bus, measure, remove the worker's queues, and write the figures."""
        config = context.load(self.config)
        echo = Echo()
        echo.durable = self.durable
        began = context.reactor.seconds()
        try:
            async with on_bus(context, config, echo), on_bus(context, config) as client:
                connected = context.reactor.seconds() - began
                figures = [
                    await self._measure(client, durable, at_once)
                    for durable in ((False, True) if self.durable else (False,))
                    for at_once in dict.fromkeys((1, self.concurrency))
                ]
        finally:
            if self.durable:
                await self._remove_queues(config, context)
        self._write(connected, figures, context)
        if self._interrupted:
            raise CancelledError

    def interrupt(self) -> bool:
        """Send no more jobs, and return True: the measurements end when the jobs that are under way have ended."""
        self._interrupted = True
        return True

    async def _remove_queues(self, config: Config, context: Context) -> None:
        client = await connect(context.targets(context.reactor, config), context.reactor, config.heartbeat)
        try:
            await remove_unused(client, TYPE, STEPS, context.reactor)
        finally:
            await client.shutdown()

    async def _measure(self, client: Worker, durable: bool, at_once: int) -> dict[str, Any]:
        outcomes = Outcomes()
        began = client.reactor.seconds()
        end = began + self.seconds
        lanes = [
            Deferred.fromCoroutine(self._send_until(end, client, durable, outcomes)) for _ in range(at_once)
        ]
        await gatherResults(lanes)
        summary = outcomes.summary(client.reactor.seconds() - began)
        return {"lane": "durable" if durable else "interactive", "at_once": at_once, **summary}

    async def _send_until(self, end: float, client: Worker, durable: bool, outcomes: Outcomes) -> None:
        data = "x" * self.size
        clock = client.reactor
        while not self._interrupted and (started := clock.seconds()) < end:
            try:
                await client.send(f"{TYPE}:*", data, durable=durable)
            except TxmicroError as error:
                outcomes.add_failure(error)
                return
            outcomes.add(clock.seconds() - started)

    def _write(self, connected: float, figures: Sequence[dict[str, Any]], context: Context) -> None:
        if self.as_json:
            write_json({"connected_seconds": round(connected, 6), "measured": figures}, context.out)
        else:
            write(
                f"connected in {connected * 1000:,.0f} ms; {self.size:,} bytes of data in each job",
                context.out,
            )
            write_table(_HEADER, map(_row, figures), context.out)
        failures = {each["type"]: each["first"] for figure in figures for each in figure["failures"]}
        if failures:
            raise BenchFailed("\n".join(f"{kind}: {text:.500}" for kind, text in failures.items()))


def _row(figure: dict[str, Any]) -> list[str]:
    latency = figure["latency_ms"]
    rate = figure["jobs_per_second"]
    return [
        figure["lane"],
        f"{figure['at_once']:,}",
        f"{figure['done']:,}",
        "-" if rate is None else f"{rate:,.0f}",
        *(f"{latency[name]:,.2f}" if latency else "-" for name in ("p50", "p90", "p99", "max")),
    ]


BENCH: Final = command(
    "bench",
    Bench,
    "Measure how many jobs per second the bus carries, and how long a job takes: one at a time, and many at once. The "
    "command runs the sender and a worker of type BENCH in one process, so several processes are faster. Its "
    "jobs return at once. While it runs, the bus and this machine are busy. If a job fails, the status is 1.",
    click.Option(["--seconds"], type=seconds(3600), default="2", help="Seconds of each measurement."),
    click.Option(
        ["--concurrency"],
        type=whole_number(1, MOST_AT_ONCE),
        default="100",
        help="How many jobs are under way at once in the second measurement.",
    ),
    click.Option(
        ["--size"],
        type=whole_number(0, LARGEST),
        default="100",
        help="Bytes of data in each job, and in each result.",
    ),
    click.Option(
        ["--durable"],
        is_flag=True,
        help="Measure durable jobs, too. Their queues are removed at the end.",
        show_default=False,
    ),
    JSON,
    CONFIG,
    short="Measure how fast the bus is.",
)

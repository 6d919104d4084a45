"""``txmicro send``: sends jobs, and waits for their results."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import Any, Final

import click
from twisted.internet.defer import CancelledError, Deferred, gatherResults

from txmicro.errors import JobCancelled, TxmicroError
from txmicro.protocol.address import parse
from txmicro.protocol.job import LONGEST_TIMEOUT
from txmicro.sending.future import JobFuture
from txmicro.worker import Worker

from .client import on_bus
from .options import CONFIG, JSON, Value, argument, command, seconds, whole_number
from .outcomes import Outcomes
from .output import show_json, write, write_json
from .progress import progress_bar
from .task import Context, Task

MOST_JOBS: Final = 100_000_000
MOST_AT_ONCE: Final = 10_000


class JobsFailed(TxmicroError):
    """Jobs that ``txmicro send`` sent have failed; the message has a line for each type of failure."""


@dataclass(kw_only=True)
class Send(Task):
    """``txmicro send``.

    :ivar data: what the handler gets. :ivar timeout: of each job, in seconds; None: the configuration's.
    :ivar count: how many jobs to send. :ivar concurrency: how many of them are under way at once.
    """

    address: str
    data: Any = None
    durable: bool = False
    timeout: float | None = None
    count: int = 1
    concurrency: int = 1
    as_json: bool = False
    config: str | None = None
    outcomes: Outcomes = field(default_factory=Outcomes)
    _jobs: set[JobFuture] = field(default_factory=set)
    _left: int = 0
    _interrupted: bool = False
    _result: Any = None

    async def run(self, context: Context) -> None:
        """Send the jobs, and write the result of the one job, or a summary of all."""
        async with on_bus(context, context.load(self.config)) as client:
            started = context.reactor.seconds()
            await self._send_all(client, context)
            took = context.reactor.seconds() - started
        if self.count == 1:
            self._write_result(context)
        else:
            self._write_summary(took, context)
        if self._interrupted:
            raise CancelledError
        if self.outcomes.failures:
            raise JobsFailed(
                "\n".join(
                    f"{f'{count:,} jobs failed: ' if self.count > 1 else ''}{kind}: {text:.500}"
                    for kind, (count, text) in self.outcomes.failures.items()
                )
            )

    def interrupt(self) -> bool:
        """Cancel the jobs that have not ended, and return True; return False if none was sent."""
        if not self._jobs:
            return False
        self._interrupted = True
        self._left = 0
        for job in list(self._jobs):
            job.cancel()
        return True

    # Sending

    async def _send_all(self, client: Worker, context: Context) -> None:
        self._left = self.count
        with progress_bar(self.count, lambda: self.outcomes.ended, context.err, context.reactor):
            lanes = range(min(self.concurrency, self.count))
            await gatherResults([Deferred.fromCoroutine(self._send_in_turn(client)) for _ in lanes])

    async def _send_in_turn(self, client: Worker) -> None:
        """Send one job after the other, each when the one before has ended, until none is left."""
        while self._left:
            self._left -= 1
            try:
                await self._send_one(client)
            except TxmicroError as error:
                if not (self._interrupted and isinstance(error, JobCancelled)):
                    self.outcomes.add_failure(error)

    async def _send_one(self, client: Worker) -> None:
        started = client.reactor.seconds()
        job = client.send(self.address, self.data, timeout=self.timeout, durable=self.durable)
        self._jobs.add(job)
        try:
            self._result = await job
        finally:
            self._jobs.discard(job)
        self.outcomes.add(client.reactor.seconds() - started)

    # The answer

    def _write_result(self, context: Context) -> None:
        if self.outcomes.latencies:
            shown = show_json(self._result)
            if self.as_json:
                latency = self.outcomes.percentiles()["max"]
                write_json({"result": json.loads(shown), "latency_ms": latency}, context.out)
            else:
                write(shown, context.out)

    def _write_summary(self, took: float, context: Context) -> None:
        summary = self.outcomes.summary(took)
        if self.as_json:
            write_json(summary, context.out)
            return
        rate = summary["jobs_per_second"]
        write(
            f"{summary['done']:,} done, {summary['failed']:,} failed in {took:.2f} s"
            + (f"; {rate:,.0f} jobs/s" if rate else ""),
            context.out,
        )
        if latencies := summary["latency_ms"]:
            shown = ", ".join(f"{name} {value:,.1f} ms" for name, value in latencies.items())
            write(f"latency: {shown}", context.out)


def _read_data(text: str) -> Any:
    return json.loads(sys.stdin.read() if text == "-" else text)


def _address(text: str) -> str:
    return str(parse(text))


SEND: Final = command(
    "send",
    Send,
    "Send a job, wait for its result, and write it as JSON. ADDRESS is TYPE:* or a worker id. DATA is what the handler "
    "gets, as JSON; - reads it from stdin; without it, the handler gets null. With --count, the answer is a summary: "
    "how many jobs were done, jobs per second, and latencies. If a job fails, the status is 1.",
    argument(
        Value("ADDRESS", _address, "an address"), "address", "give TYPE:* or a worker id, such as Invoices:*"
    ),
    click.Argument(
        ["data"],
        type=Value("DATA", _read_data, 'JSON, such as {"name": "Ada"}'),
        required=False,
        metavar="[DATA]",
    ),
    click.Option(
        ["--durable"],
        is_flag=True,
        help="Have the broker keep the jobs until they are done, even if this command ends.",
        show_default=False,
    ),
    click.Option(
        ["--timeout"],
        type=seconds(LONGEST_TIMEOUT),
        help="Seconds until a job fails, if it has not ended. Default: the configuration's timeout.",
    ),
    click.Option(
        ["--count"],
        type=whole_number(1, MOST_JOBS),
        default="1",
        help="How many jobs to send, all with the same data.",
    ),
    click.Option(
        ["--concurrency"],
        type=whole_number(1, MOST_AT_ONCE),
        default="1",
        help="How many jobs are under way at once; each that ends is followed by the next one.",
    ),
    JSON,
    CONFIG,
    short="Send jobs, and wait for their results.",
)

"""The workers of the suite's processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.task import deferLater

from txmicro.messages import Forward, Job
from txmicro.retry import RetryPolicy
from txmicro.worker import Worker

from .ledger import Book

BOOK = "FAULTS_BOOK"
"""The environment's variable that says where the :class:`Book` is."""

reactor: Any = _reactor


class Effect(Worker):
    """Notes the attempt, takes the milliseconds that the job says, and notes the effect.

    A job's data: ``token``, ``ms``, ``kill`` (die, instead), ``to`` (forward it, through these addresses).
    """

    type = "WB"
    retry = RetryPolicy(steps=(0.5, 1.0, 2.0, 4.0))

    def opened(self) -> None:
        self.book = Book(Path(os.environ[BOOK]))

    async def do_job(self, job: Job) -> Any:
        self.book.attempt(job, self.id, time.monotonic())
        if job.data.get("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        await deferLater(reactor, job.data["ms"] / 1000)
        self.book.effect(job)
        if job.data.get("to"):
            first, *rest = job.data["to"]
            return Forward(first, {**job.data, "to": rest})
        return job.data if not job.last else job.data["token"]


class Relay(Worker):
    """A sender in a process of its own: sends what it gets on to WB, and returns the answer."""

    type = "RELAY"

    async def do_job(self, job: Job) -> Any:
        return await self.send("WB:*", job.data, timeout=120)

"""The workers of the suite's processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.task import LoopingCall, deferLater

from txmicro.errors import JobError
from txmicro.protocol.job import Forward, Job
from txmicro.receiving.retry import RetryPolicy
from txmicro.worker import Worker

from . import sabotage
from .ledger import Book

BOOK = "FAULTS_BOOK"
"""The environment's variable that says where the :class:`Book` is."""

reactor: Any = _reactor
sabotage.take_out()


class Effect(Worker):
    """Notes the attempt, takes the milliseconds that the job says, and notes the effect.

    A job's data: ``token``, ``ms``, ``kill`` (die, instead), ``to`` (forward it, through these addresses), ``fails``
    (that many attempts, of which nothing is noted).
    """

    type = "WB"
    retry = RetryPolicy(steps=(0.5, 1.0, 2.0, 4.0))

    def opened(self) -> None:
        self.book = Book(Path(os.environ[BOOK]))

    async def do_job(self, job: Job) -> Any:
        if job.tries < job.data.get("fails", 0):
            raise JobError("not yet", retryable=True)
        self.book.attempt(job, self.id, time.monotonic())
        if job.data.get("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        await deferLater(reactor, job.data["ms"] / 1000)
        self.book.effect(job)
        if job.data.get("to"):
            first, *rest = job.data["to"]
            return Forward(first, {**job.data, "to": rest})
        return job.data if not job.last else job.data["token"]


class Source(Worker):
    """A sender in a process of its own: sends jobs in a steady stream, until it is stopped; the book hears of them."""

    type = "SOURCE"
    every = 0.05

    def opened(self) -> None:
        self.book = Book(Path(os.environ[BOOK]))
        self.count = 0
        self.stream = LoopingCall(self.send_one)
        self.stream.start(self.every, now=False)

    def send_one(self) -> None:
        self.count += 1
        token = f"{self.id}/{self.count}"
        self.book.sends(token, time.monotonic())
        job = self.send("WB:*", {"token": token, "ms": 10}, timeout=180).when_done()
        job.addCallbacks(lambda _: None, lambda failure: repr(failure.value))
        job.addCallback(lambda error: self.book.ends(token, time.monotonic(), error))

    def do_job(self, job: Job) -> None:
        """Asked to: send no more."""
        if self.stream.running:
            self.stream.stop()

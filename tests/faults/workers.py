"""The workers of the suite's child processes."""

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

from . import mechanisms
from .records import ExecutionLog

EXECUTION_LOG = "FAULTS_EXECUTION_LOG"
"""The environment variable with the path of the :class:`ExecutionLog`."""

reactor: Any = _reactor
mechanisms.disable()


class Effect(Worker):
    """Records the attempt, works for the milliseconds in the job, and records the effect.

    A job's data: ``token``; ``ms``; ``kill``: kill the process instead; ``to``: forward the job through these
    addresses; ``fails``: fail that many attempts, which have no effect.
    """

    type = "WB"
    retry = RetryPolicy(steps=(0.5, 1.0, 2.0, 4.0))

    def opened(self) -> None:
        self.executions = ExecutionLog(Path(os.environ[EXECUTION_LOG]))

    async def do_job(self, job: Job) -> Any:
        if job.tries < job.data.get("fails", 0):
            raise JobError("not yet", retryable=True)
        self.executions.attempt(job, self.id, time.monotonic())
        if job.data.get("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        await deferLater(reactor, job.data["ms"] / 1000)
        self.executions.effect(job)
        if job.data.get("to"):
            first, *rest = job.data["to"]
            return Forward(first, {**job.data, "to": rest})
        return job.data if not job.last else job.data["token"]


class Source(Worker):
    """Sends jobs in a steady stream until it is stopped, and records them in the execution log."""

    type = "SOURCE"
    every = 0.05

    def opened(self) -> None:
        self.executions = ExecutionLog(Path(os.environ[EXECUTION_LOG]))
        self.count = 0
        self.stream = LoopingCall(self.send_one)
        self.stream.start(self.every, now=False)

    def send_one(self) -> None:
        self.count += 1
        token = f"{self.id}/{self.count}"
        self.executions.sends(token, time.monotonic())
        job = self.send("WB:*", {"token": token, "ms": 10}, timeout=180).when_done()
        job.addCallbacks(lambda _: None, lambda failure: repr(failure.value))
        job.addCallback(lambda error: self.executions.ends(token, time.monotonic(), error))

    def do_job(self, job: Job) -> None:
        """Stop sending."""
        if self.stream.running:
            self.stream.stop()

"""Workers whose jobs succeed, fail, are tried again and die, so that every metric has a number."""

from __future__ import annotations

from twisted.internet.task import LoopingCall, deferLater

from txmicro import Job, JobError, RetryPolicy, Worker

PAUSE = 0.1
"""Seconds between two rounds of jobs."""


class Desk(Worker):
    """A worker that fails in a fifth of its jobs, with one of two errors. Durable ones become dead letters."""

    type = "Desk"
    retry = RetryPolicy(attempts=2, steps=(0.1,))

    async def do_job(self, job: Job) -> int:
        number: int = job.data
        if number % 10 == 3:
            raise JobError("the form is empty", retryable=True)
        if number % 10 == 6:
            raise ValueError(f"form {number} has no date")
        return number


class Slow(Worker):
    """A worker that takes its time, so that a kill finds it at work."""

    type = "Slow"
    capacity = 4

    async def do_job(self, job: Job) -> None:
        await deferLater(self.reactor, 0.5)


class Night(Worker):
    """A worker whose jobs are left when its process is killed."""

    type = "Night"

    async def do_job(self, job: Job) -> None:
        """Do nothing."""


class Office(Worker):
    """A worker that sends jobs to the others, ten rounds a second."""

    type = "Office"

    def opened(self) -> None:
        self.number = 0
        self.rounds = LoopingCall(self.send_round)
        self.rounds.clock = self.reactor
        self.rounds.start(PAUSE, now=False)

    def closed(self) -> None:
        self.rounds.stop()

    def send_round(self) -> None:
        self.number += 1
        for address in ("Desk:*", "Slow:*", "Night:*"):
            self.send(address, self.number, durable=self.number % 2 == 0, timeout=20)

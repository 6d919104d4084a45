"""An outbox on a clock, and an owner that records its calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txmicro.errors import (
    JobError,
)
from txmicro.sending.deadlines import Deadlines
from txmicro.sending.outbox import Outbox
from txmicro.sending.pending import PendingJob
from txmicro.sending.probing import Probing
from txmicro.util.expiring import ExpiringKeys

TICK = 0.125  # a power of two: sums of it are exact


def leftovers(outbox: Outbox) -> dict[str, Any]:
    """Return the attributes of *outbox* that are not empty."""
    kept = (dict, list, ExpiringKeys, Probing, Deadlines)
    attributes = {**vars(outbox), **vars(outbox._resending)}
    return {name: value for name, value in attributes.items() if isinstance(value, kept) and value}


class RecordingOwner:
    """An owner that records its calls."""

    def __init__(self, events: list[tuple[Any, ...]], key: str) -> None:
        self.events = events
        self.key = key
        self.error: JobError | None = None

    def accepted(self, worker: str) -> None:
        self.events.append(("taken", self.key, worker))

    def resent(self, copies: int) -> None:
        """Record nothing: the copies are recorded as they are published."""

    def succeeded(self, worker: str, result: Any) -> None:
        self.events.append(("done", self.key, worker, result))

    def failed(self, error: JobError) -> None:
        self.error = error
        self.events.append(("failed", self.key, type(error)))


class RaisingOwner(RecordingOwner):
    """An owner whose every method raises."""

    def accepted(self, worker: str) -> None:
        raise ZeroDivisionError

    def succeeded(self, worker: str, result: Any) -> None:
        raise ZeroDivisionError

    def failed(self, error: JobError) -> None:
        raise ZeroDivisionError


class OutboxCase(SynchronousTestCase):
    window = 2
    max_jobs = 200_000
    max_bytes = 1 << 28

    def setUp(self) -> None:
        self.clock = Clock()
        self.events: list[tuple[Any, ...]] = []
        self.given_up: list[str] = []
        self.during_publish: Callable[[PendingJob], object] = lambda sent: None
        self.outbox = Outbox(
            self.clock,
            self,
            self,
            window=self.window,
            max_jobs=self.max_jobs,
            max_bytes=self.max_bytes,
            tick=TICK,
        )

    # Called by the outbox (JobPublisher, RequestSender)

    def send_job(self, job: PendingJob) -> None:
        self.events.append(("publish", job.key, job.tries))
        self.during_publish(job)

    def inquire(self, address: str) -> None:
        self.events.append(("inquire", address))

    def probe(self, worker: str, keys: list[str]) -> None:
        self.events.append(("probe", worker, keys))

    def cancel(self, worker: str, key: str) -> None:
        self.events.append(("cancel", worker, key))

    def record_failure(self, error: JobError) -> None:
        self.given_up.append(error.type)

    # Used by the tests

    def pending(
        self,
        key: str,
        address: str = "WB:*",
        deadline: float = 30.0,
        owner: type[RecordingOwner] = RecordingOwner,
    ) -> PendingJob:
        at = self.clock.seconds() + deadline
        return PendingJob(key, key.partition("/")[0], address, b"body", at, owner(self.events, key))

    def add(self, *keys: str, address: str = "WB:*", deadline: float = 30.0) -> list[PendingJob]:
        jobs = [self.pending(key, address, deadline) for key in keys]
        for sent in jobs:
            self.outbox.add(sent)
        return jobs

    def wait(self, seconds: float) -> None:
        self.clock.pump([TICK] * int(seconds / TICK))

    def happened(self) -> list[tuple[Any, ...]]:
        """Return what happened since the last call."""
        events, self.events[:] = list(self.events), []
        return events

    def check_empty(self) -> None:
        """Check that nothing is left, once jobs that were given up untaken are forgotten."""
        self.wait(4.5)
        self.assertEqual(len(self.outbox), 0)
        self.assertEqual(leftovers(self.outbox), {})
        self.assertEqual(self.clock.getDelayedCalls(), [])

"""Batches operations that arrive while one is running."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from twisted.internet.defer import Deferred

from txmicro.errors import JobError
from txmicro.util.clock import Clock

from .errors import StoreTimeout

MAX_BATCH: Final = 500
"""The most operations in one batch: the first of them gets its outcome when the last one has."""


class Operation:
    """An operation with a deadline.

    :ivar deadline: the clock's seconds from which on it is not started any more.
    :ivar done: fires with the operation's outcome, or fails with it if it is a :class:`~txmicro.errors.JobError`.
    """

    __slots__ = ("deadline", "done")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.done: Deferred[Any] = Deferred()

    def finish(self, outcome: Any) -> None:
        """Fire ``done`` with *outcome*, or fail it with an error; do nothing if it was canceled."""
        if self.done.called:
            return
        if isinstance(outcome, JobError):
            self.done.errback(outcome)
        else:
            self.done.callback(outcome)


AnyOperation = TypeVar("AnyOperation", bound=Operation)


class Batcher(Generic[AnyOperation]):
    """Runs operations in batches, up to *concurrency* batches at a time.

    :param run: starts a batch. Its Deferred fires with one outcome per operation, in their order, or fails.
    :param to_error: converts a failure of *run* to the error that each of its operations fails with.
    """

    def __init__(
        self,
        clock: Clock,
        run: Callable[[Sequence[AnyOperation]], Deferred[list[Any]]],
        to_error: Callable[[Exception], JobError],
        concurrency: int = 1,
    ) -> None:
        self._clock = clock
        self._run = run
        self._to_error = to_error
        self._concurrency = concurrency
        self._waiting: list[AnyOperation] = []
        self._running: set[Deferred[None]] = set()

    def add(self, operation: AnyOperation) -> None:
        """Run *operation*: at once, or in a batch as soon as one of those that are running has ended."""
        self._waiting.append(operation)
        if len(self._running) < self._concurrency:
            running = Deferred.fromCoroutine(self._run_batches())
            self._running.add(running)
            running.addCallback(lambda _: self._running.discard(running))

    async def when_idle(self) -> None:
        """Return when no operation waits or runs."""
        while self._running:
            await next(iter(self._running))

    async def _run_batches(self) -> None:
        while batch := self._next_batch():
            try:
                outcomes = await self._run(batch)
            except Exception as error:  # of any type: otherwise the operations would never get an outcome
                outcomes = [self._to_error(error) for _ in batch]
            for operation, outcome in zip(batch, outcomes, strict=True):
                operation.finish(outcome)

    def _next_batch(self) -> list[AnyOperation]:
        """Return the next operations. Those whose deadline has passed fail with :class:`StoreTimeout` instead."""
        now = self._clock.seconds()
        while self._waiting:
            batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            for operation in batch:
                if operation.deadline <= now:
                    operation.finish(StoreTimeout("the deadline passed before the store could begin"))
            if batch := [operation for operation in batch if operation.deadline > now]:
                return batch
        return []

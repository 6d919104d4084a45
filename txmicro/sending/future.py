"""What :meth:`Worker.send` gives back: a job's future, as Deferreds."""

from __future__ import annotations

from asyncio import get_running_loop
from collections.abc import Callable, Generator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from txmicro.errors import JobError, JobTimeout

_PENDING: Any = object()


def _whoever_cancelled_knows(_error: JobError) -> None:
    """A job that is cancelled here fails unheard, and that is no news."""


class JobFuture:
    """A job that was sent. ``await`` it for the last hop's return value, or its failure raised.

    :ivar id: the job's id.
    :ivar address: where its first hop goes.
    :ivar stored: whether the broker has confirmed that it has the (durable) job, or it is done.
    """

    __slots__ = (
        "_cancel",
        "_error",
        "_result",
        "_storing",
        "_taken",
        "_taker",
        "_unheard",
        "_waiting",
        "address",
        "id",
        "stored",
    )

    def __init__(
        self, id: str, address: str, cancel: Callable[[], None], unheard: Callable[[JobError], None]
    ) -> None:
        self.id = id
        self.address = address
        self._cancel = cancel
        self._unheard = unheard
        self._waiting: list[Deferred[Any]] = []
        self._taken: list[Deferred[str]] = []
        self._storing: list[Deferred[None]] = []
        self.stored = False
        self._taker: str | None = None
        self._result: Any = _PENDING
        self._error: JobError | None = None

    def __await__(self) -> Generator[Any, Any, Any]:
        done = self.when_done()
        try:
            return (yield from done.__await__())
        except RuntimeError as error:
            known: BaseException | None = self._error
            if error is known:
                raise
        # An asyncio task awaits: it has raised this at a Deferred, which it does not know how to wait for.
        return (yield from done.asFuture(get_running_loop()).__await__())

    def when_done(self) -> Deferred[Any]:
        """Wait for the end. Each call gives a fresh Deferred.

        Fires with the last hop's return value; fails with the :class:`JobError` that ended the job. Cancelling
        it stops this wait and nothing else: :meth:`cancel` cancels the job.
        """
        waiter: Deferred[Any] = Deferred(self._forget)
        if self._error is not None:
            waiter.errback(self._error)
        elif self._result is not _PENDING:
            waiter.callback(self._result)
        else:
            self._waiting.append(waiter)
        return waiter

    def when_taken(self) -> Deferred[str]:
        """Wait until a worker has the job. Each call gives a fresh Deferred.

        Fires with the worker's id, also when the job is done already; fails with the :class:`JobError` when it
        fails before anyone took it. Cancelling it stops this wait and nothing else.
        """
        waiter: Deferred[str] = Deferred(self._forget)
        if self._taker is not None:
            waiter.callback(self._taker)
        elif self._error is not None:
            waiter.errback(self._error)
        else:
            self._taken.append(waiter)
        return waiter

    def when_stored(self) -> Deferred[None]:
        """Wait until the broker has the durable job, so that it will be done. Each call gives a fresh Deferred.

        Fires with None, also when the job is done already; fails with :class:`~txmicro.errors.NotStored` or
        what else ended the job before. An interactive job is not stored before it is done. Cancelling it stops
        this wait and nothing else.
        """
        waiter: Deferred[None] = Deferred(self._forget)
        if self.stored:
            waiter.callback(None)
        elif self._error is not None:
            waiter.errback(self._error)
        else:
            self._storing.append(waiter)
        return waiter

    def cancel(self) -> None:
        """Give the job up: here (it fails with :class:`JobCancelled`) and at its taker. Nothing if it ended."""
        if not self.ended:
            self._unheard = _whoever_cancelled_knows
            self._cancel()

    @property
    def ended(self) -> bool:
        """Whether the job is done or has failed."""
        return self._error is not None or self._result is not _PENDING

    def _forget(self, waiter: Deferred[Any]) -> None:
        for waiting in (self._waiting, self._taken, self._storing):
            if waiter in waiting:
                waiting.remove(waiter)

    # What the outbox tells (sent.Owner). Each first notes what happened, then calls back those who wait, one
    # by one: a callback may look, cancel the job, or cancel another wait.

    def taken(self, worker: str) -> None:
        """*worker* has the job."""
        self._taker = worker
        while self._taken:
            self._taken.pop(0).callback(worker)

    def keep(self, _: None = None) -> None:
        """The broker has it."""
        self.stored = True
        while self._storing:
            self._storing.pop(0).callback(None)

    def done(self, worker: str, result: Any) -> None:
        """The last hop, at *worker*, returned *result*."""
        self._result = result
        self.keep()  # its confirm may be on the way
        if self._taker is None:
            self.taken(worker)
        while self._waiting:
            self._waiting.pop(0).callback(result)

    def failed(self, error: JobError) -> None:
        """The job ended with *error*."""
        self._error = error
        if isinstance(error, JobTimeout):
            error.still_queued = self.stored
        unheard = not (self._waiting or self._taken or self._storing or getattr(error, "still_queued", False))
        for waiting in (self._waiting, self._taken, self._storing):
            while waiting:
                waiting.pop(0).errback(Failure(error))
        if unheard:
            self._unheard(error)

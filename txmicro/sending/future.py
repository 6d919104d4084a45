"""The two sides of a job that was sent: :class:`JobFuture`, which its sender holds, and what resolves it."""

from __future__ import annotations

from asyncio import get_running_loop
from collections.abc import Callable, Generator
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from txmicro.errors import JobCancelled, JobError, JobNotDone, JobTimeout

_PENDING: Any = object()


def _ignore(_error: JobError, _job: JobFuture) -> None:
    """Stand in for the report of a failure that the caller of :meth:`JobFuture.cancel` expects."""


class JobFuture:
    """The future of a job, which :meth:`txmicro.Worker.send` returns.

    Await it for the last hop's return value; it raises the :class:`~txmicro.errors.JobError` that ended the job. That
    works in Twisted's coroutines and, when Twisted runs on asyncio's event loop, in asyncio's tasks.

    :ivar id: the job's id.
    :ivar address: the address of its first hop.
    :ivar durable: whether the broker keeps the job until it is done; otherwise its sender does.
    :ivar traceparent: its W3C trace context; None: there is none.
    """

    __slots__ = (
        "_cancel",
        "_error",
        "_is_stored",
        "_result",
        "_unawaited",
        "_waiting_for_accepted",
        "_waiting_for_done",
        "_waiting_for_stored",
        "_worker",
        "address",
        "durable",
        "id",
        "traceparent",
    )

    def __init__(
        self,
        id: str,
        address: str,
        cancel: Callable[[], None],
        unawaited: Callable[[JobError, JobFuture], None],
        *,
        durable: bool = False,
        traceparent: str | None = None,
    ) -> None:
        self.id = id
        self.traceparent = traceparent
        self.address = address
        self.durable = durable
        self._cancel = cancel
        self._unawaited = unawaited
        self._waiting_for_done: list[Deferred[Any]] = []
        self._waiting_for_accepted: list[Deferred[str]] = []
        self._waiting_for_stored: list[Deferred[None]] = []
        self._is_stored = False
        self._worker: str | None = None
        self._result: Any = _PENDING
        self._error: JobError | None = None

    def __repr__(self) -> str:
        ended = "done" if self._error is None else f"failed with {self._error.type}"
        return f"<JobFuture {self.id} to {self.address}: {ended if self.done() else 'pending'}>"

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

    def done(self) -> bool:
        """Return whether the job has ended: with a result, with an error, or because it was canceled."""
        return self._error is not None or self._result is not _PENDING

    def cancelled(self) -> bool:
        """Return whether the job has ended with :class:`~txmicro.errors.JobCancelled`."""
        return isinstance(self._error, JobCancelled)

    def stored(self) -> bool:
        """Return whether the broker has confirmed that it has the durable job, or the job has a result."""
        return self._is_stored

    def result(self) -> Any:
        """Return the last hop's return value.

        Raises the :class:`~txmicro.errors.JobError` that ended the job, or :class:`~txmicro.errors.JobNotDone` while
        the job has not ended.
        """
        error = self.exception()
        if error is not None:
            raise error
        return self._result

    def exception(self) -> JobError | None:
        """Return the error that ended the job, or None if the job has a result.

        Raises :class:`~txmicro.errors.JobNotDone` while the job has not ended.
        """
        if not self.done():
            raise JobNotDone(f"job {self.id} to {self.address} has not ended: wait for when_done() first")
        return self._error

    def when_done(self) -> Deferred[Any]:
        """Wait for the end of the job. Each call returns a new Deferred.

        Fires with the last hop's return value. Fails with the :class:`~txmicro.errors.JobError` that ended the job.
        Canceling it stops this wait only: :meth:`cancel` cancels the job.
        """
        waiter: Deferred[Any] = Deferred(self._stop_waiting)
        if self._error is not None:
            waiter.errback(self._error)
        elif self._result is not _PENDING:
            waiter.callback(self._result)
        else:
            self._waiting_for_done.append(waiter)
        return waiter

    def when_accepted(self) -> Deferred[str]:
        """Wait until a worker has the job. Each call returns a new Deferred.

        Fires with the worker's id, also when the job has a result already. Fails with the
        :class:`~txmicro.errors.JobError` that ended the job before a worker had it. Canceling it stops this wait only.
        """
        waiter: Deferred[str] = Deferred(self._stop_waiting)
        if self._worker is not None:
            waiter.callback(self._worker)
        elif self._error is not None:
            waiter.errback(self._error)
        else:
            self._waiting_for_accepted.append(waiter)
        return waiter

    def when_stored(self) -> Deferred[None]:
        """Wait until the broker has the durable job. Each call returns a new Deferred.

        Fires with None, also when the job has a result already. Fails with :class:`~txmicro.errors.NotStored`, or with
        the other error that ended the job before. For a job that is not durable it fires with the result, or fails.
        Canceling it stops this wait only.
        """
        waiter: Deferred[None] = Deferred(self._stop_waiting)
        if self._is_stored:
            waiter.callback(None)
        elif self._error is not None:
            waiter.errback(self._error)
        else:
            self._waiting_for_stored.append(waiter)
        return waiter

    def cancel(self) -> bool:
        """Cancel the job, here and at the worker that has it. Does nothing if the job has ended.

        The job fails with :class:`~txmicro.errors.JobCancelled`. A durable job that is stored still runs.

        :return: whether this canceled the job.
        """
        if self.done():
            return False
        self._unawaited = _ignore
        self._cancel()
        return True

    def _stop_waiting(self, waiter: Deferred[Any]) -> None:
        for waiting in (self._waiting_for_done, self._waiting_for_accepted, self._waiting_for_stored):
            if waiter in waiting:
                waiting.remove(waiter)


class TripObserver(Protocol):
    """Is told how the jobs of one worker have ended: the :class:`~txmicro.runtime.engine.Engine`."""

    def trip_ended(self, job: JobFuture, began: float, error: JobError | None) -> None:
        """Note that *job* has ended, with *error* unless that is None. It must not raise.

        :param began: when the job was sent, in the clock's seconds.
        """


class JobPromise:
    """Resolves a :class:`JobFuture`: the owner (:class:`~txmicro.sending.pending.Owner`) of a job that a program sent.

    :param observer: is told when the job has ended, before its waiters are.
    :param began: when the job was sent, in the clock's seconds.

    Only the sending side holds it, so that a program cannot resolve its futures. Each method first notes what happened,
    then fires the Deferreds one by one: a callback may use the future, cancel the job, or cancel another wait.
    """

    __slots__ = ("_began", "_future", "_observer")

    def __init__(self, future: JobFuture, observer: TripObserver, began: float) -> None:
        self._future = future
        self._observer = observer
        self._began = began

    def accepted(self, worker: str) -> None:
        """Note that *worker* has the job."""
        self._future._worker = worker
        _fire(self._future._waiting_for_accepted, worker)

    def resent(self, copies: int) -> None:
        """Do nothing: the job goes on."""

    def stored(self) -> None:
        """Note that the broker has the job."""
        self._future._is_stored = True
        _fire(self._future._waiting_for_stored, None)

    def succeeded(self, worker: str, result: Any) -> None:
        """End the job with *result*, which its last hop returned at *worker*."""
        future = self._future
        future._result = result
        future._is_stored = True  # the broker's confirm may still be under way
        if future._worker is None:
            future._worker = worker
        self._observer.trip_ended(future, self._began, None)
        if future._waiting_for_stored:
            _fire(future._waiting_for_stored, None)
        if future._waiting_for_accepted:
            _fire(future._waiting_for_accepted, future._worker)
        waiting = future._waiting_for_done
        while waiting:  # not by _fire, as every job comes here
            waiting.pop(0).callback(result)

    def failed(self, error: JobError) -> None:
        """End the job with *error*."""
        future = self._future
        future._error = error
        if isinstance(error, JobTimeout):
            error.still_queued = future._is_stored
        self._observer.trip_ended(future, self._began, error)
        waits = (future._waiting_for_done, future._waiting_for_accepted, future._waiting_for_stored)
        unawaited = not (any(waits) or getattr(error, "still_queued", False))
        for waiting in waits:
            while waiting:
                waiting.pop(0).errback(Failure(error))
        if unawaited:
            future._unawaited(error, future)


def _fire(waiting: list[Deferred[Any]], value: Any) -> None:
    while waiting:
        waiting.pop(0).callback(value)

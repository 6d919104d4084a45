"""Runs a worker's handler: coroutines at once, plain functions after the acks, or in threads."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from txmicro.errors import JobError, RuntimeExceeded
from txmicro.protocol.handlers import JobHandler
from txmicro.protocol.job import Job
from txmicro.protocol.tracer import Tracer
from txmicro.util.clock import Clock, Timer

from . import running_job
from .naming import name_function, name_jobs

SLICE: Final = 0.01
"""Seconds that plain functions may run in one turn of the reactor; at least one runs. Heartbeats are sent between."""

CLEANUP: Final = 2.0
"""Seconds that a handler may take to end after it is canceled for good; then its job ends without it."""


class Supervisor(Protocol):
    """Is told how jobs ended: the :class:`~txmicro.runtime.engine.Engine`."""

    def job_ended(self, job: Job, result: Any, error: BaseException | None, seconds: float) -> None:
        """Note that *job* has ended, with *error* unless that is None, and after how many seconds. Called once."""


class AckFlusher(Protocol):
    """Publishes acks that wait."""

    def flush(self) -> Deferred[Any]:
        """Publish them; fires when they are given to the transport, and does not fail."""


def is_coroutine_function(handler: Any) -> bool:
    """Return whether calling *handler*, a function or another callable, creates a coroutine."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)


class Runner:
    """Runs the handler of one worker.

    A plain function may block the reactor, so its job's sender must have the ack before. The acks are flushed, and the
    function starts in the next turn of the reactor, when they are sent.

    :param handler: ``do_job``.
    :param worker: the worker's id, for the log.
    :param in_thread: runs ``f(*args)`` in a thread, for a handler that is to run there.
    :param max_runtime: seconds until a handler is canceled; plain functions cannot be.
    :param tracer: starts the span of each run, which the supervisor ends; None: there are no spans.
    """

    log = Logger()

    def __init__(
        self,
        clock: Clock,
        handler: JobHandler,
        supervisor: Supervisor,
        acks: AckFlusher,
        *,
        worker: str,
        in_thread: Callable[..., Deferred[Any]] | None,
        max_runtime: float,
        tracer: Tracer | None = None,
    ) -> None:
        self._clock = clock
        self._worker = worker
        self._handler = handler
        self._supervisor = supervisor
        self._acks = acks
        self._in_thread = in_thread
        self._max_runtime = max_runtime
        self._tracer = tracer
        self._plain = in_thread is None and not is_coroutine_function(handler)
        self._queue: deque[Job] = deque()
        self._running: dict[str, tuple[Job, Deferred[Any], float]] = {}  # in the order of their starts
        self._reasons: dict[str, JobError] = {}
        self._turn: Timer | None = None
        self._flushing: Deferred[Any] | None = None
        self._watch: Timer | None = None
        self._cleanups: list[Timer] = []

    def start(self, job: Job) -> None:
        """Run *job*, now or (a plain function, or a job that was sent before) in a later turn of the reactor.

        A job that was sent before may have ended the process that ran it, so its sender must know who runs it now.
        """
        if not (self._plain or job.tries):
            self._run(job)
            return
        self._queue.append(job)
        if self._turn is None and self._flushing is None:
            self._turn = self._clock.callLater(0, self._flush_acks)

    def cancel(self, key: str, reason: JobError) -> None:
        """Cancel the handler of the job *key*. The job ends with *reason*, unless the handler raises another error."""
        for job in self._queue:
            if job.key == key:
                self._queue.remove(job)
                self._tell(job, None, reason, self._clock.seconds())
                return
        if key in self._running:
            job, running, _ = self._running[key]
            self._reasons[key] = reason
            try:
                running.cancel()
            except (
                Exception
            ):  # raised by the canceller of the handler's Deferred; other jobs must be canceled, too
                self.log.failure(
                    "{worker}: canceling {handler} failed",
                    level=LogLevel.error,
                    worker=self._worker,
                    job=job.id,
                    hop=job.hop,
                    traceparent=job.traceparent,
                    handler=self._name,
                    recurring=True,
                )

    def cancel_all(self, reason: JobError) -> None:
        """Cancel all jobs for good: in ``CLEANUP`` seconds at most all have ended, with *reason*."""
        self._end_all([*self._queue, *(job for job, _, _ in self._running.values())], reason)

    def stop(self) -> None:
        """Cancel the timers; nothing starts any more."""
        if self._flushing is not None:
            self._flushing.cancel()
        for call in (self._turn, self._watch, *self._cleanups):
            if call is not None and call.active():
                call.cancel()
        self._turn = self._watch = None

    # How

    def _flush_acks(self) -> None:
        self._turn = None
        self._flushing = flushing = self._acks.flush()
        flushing.addBoth(self._acks_flushed)

    def _acks_flushed(self, _: object) -> None:
        self._flushing = None
        self._turn = self._clock.callLater(0, self._slice)

    def _slice(self) -> None:
        self._turn = None
        until = self._clock.seconds() + SLICE
        while self._queue:
            self._run(self._queue.popleft())
            if self._clock.seconds() >= until:
                break
        if self._queue:
            self._turn = self._clock.callLater(0, self._flush_acks)

    def _run(self, job: Job) -> None:
        began = self._clock.seconds()
        call = self._in_thread or maybeDeferred
        span = job.span = None if self._tracer is None else self._tracer.process(job, self._worker)
        token = running_job.enter(self._worker, job)
        try:
            running = call(self._handler, job) if span is None else span.run(call, self._handler, job)
        finally:
            running_job.leave(token)
        self._running[job.key] = job, running, began
        if self._watch is None:
            self._watch = self._clock.callLater(self._max_runtime, self._overdue)
        running.addCallbacks(self._end, self._fail, (job, began), {}, (job, began))

    def _fail(self, failure: Failure, job: Job, began: float) -> None:
        error = failure.value
        if failure.check(CancelledError) and self._runs(job):
            error = self._reasons.get(job.key, error)
        self._end(None, job, began, error)

    def _end(self, result: Any, job: Job, began: float, error: BaseException | None = None) -> None:
        running = self._running.get(job.key)
        if running is None or running[0] is not job:  # left behind before; another copy may run
            self._log_late(job, began)
            return
        del self._running[job.key]
        self._tell(job, result, error, began)

    def _runs(self, job: Job) -> bool:
        """Return whether the handler runs for this very *job*, and not for another copy of it that came later."""
        return job.key in self._running and self._running[job.key][0] is job

    def _tell(self, job: Job, result: Any, error: BaseException | None, began: float) -> None:
        self._reasons.pop(job.key, None)
        self._supervisor.job_ended(job, result, error, self._clock.seconds() - began)

    def _overdue(self) -> None:
        self._watch = None
        now = self._clock.seconds()
        overdue: list[Job] = []
        for job, _, began in self._running.values():
            due = began + self._max_runtime
            if due > now:
                self._watch = self._clock.callLater(due - now, self._overdue)
                break
            if not isinstance(self._reasons.get(job.key), RuntimeExceeded):  # else it is canceled already
                overdue.append(job)
        self._end_all(overdue, RuntimeExceeded(f"ran for more than max_runtime, {self._max_runtime:g} s"))

    def _end_all(self, jobs: list[Job], reason: JobError) -> None:
        """Cancel *jobs*, and end those whose handlers ignore that, as ``except Exception`` does."""
        for job in jobs:
            self.cancel(job.key, reason)
        if any(map(self._runs, jobs)):
            self._cleanups = [timer for timer in self._cleanups if timer.active()]
            self._cleanups.append(self._clock.callLater(CLEANUP, self._leave_behind, jobs, reason))

    def _leave_behind(self, jobs: list[Job], reason: JobError) -> None:
        jobs = [job for job in jobs if self._runs(job)]
        if not jobs:
            return
        self.log.error(
            "{worker}: {handler} has not ended {seconds:g} s after it was canceled ({reason}), for {jobs}: it may "
            "catch CancelledError, as 'except Exception' does. It is left behind: the job ends without it, another "
            "one may run, and what it does from now on is ignored",
            worker=self._worker,
            handler=self._name,
            seconds=CLEANUP,
            reason=reason,
            jobs=name_jobs(jobs),
            recurring=True,
        )
        for job in jobs:
            _, _, began = self._running.pop(job.key)
            self._tell(job, None, reason, began)

    def _log_late(self, job: Job, began: float) -> None:
        self.log.info(
            "{worker}: {handler}, left behind before, has ended after {seconds:.1f} s (job {job})",
            worker=self._worker,
            handler=self._name,
            seconds=self._clock.seconds() - began,
            job=job.id,
            hop=job.hop,
            traceparent=job.traceparent,
            recurring=True,
        )

    @property
    def _name(self) -> str:
        return name_function(self._handler)

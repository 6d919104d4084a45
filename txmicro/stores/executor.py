"""Runs many short calls in threads, with few switches between threads.

Twisted's ``deferToThread`` wakes a thread for each call and the reactor for each result. That costs as much as a query
of a database on the same machine. Here a thread makes call after call, and one wake-up of the reactor delivers all
results that are there.

Very short calls are done sooner than a second thread wakes up, and Python runs one thread at a time. For these,
*grow_after* keeps the calls in one thread, which delivers the results when no call is left. Every *grow_after* seconds
the results so far are delivered. If calls still wait that waited at the beginning of that time, a thread is added.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from txmicro.util.clock import Timer
from txmicro.util.once import Once

Result = TypeVar("Result")


class ThreadExecutor:
    """Makes calls in up to *max_threads* threads of *pool*, in the order in which they were requested.

    :param reactor: the reactor in whose thread the results are delivered.
    :param grow_after: seconds until another thread is added while calls wait; 0: at once.
    """

    def __init__(self, reactor: Any, pool: ThreadPool, max_threads: int, grow_after: float = 0.0) -> None:
        self._reactor = reactor
        self._pool = pool
        self._max_threads = max_threads
        self._grow_after = grow_after
        self._timer: Timer | None = None  # runs while a thread is busy, if there is a grow_after
        self._requested = 0
        self._requested_before = 0  # how many calls had been requested when the timer was started
        self._busy = 0  # threads; changed in the reactor's thread only
        self._calls: deque[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]] = deque()
        self._results: deque[tuple[Deferred[Any] | None, Any]] = deque()
        self._reactor_woken = False
        self._idle: Once[None] = Once()

    def call(self, function: Callable[..., Result], *arguments: Any) -> Deferred[Result]:
        """Call ``function(*arguments)`` in a thread.

        Fires with its result; fails with the exception that it raised. Canceling it ends the wait, and prevents the
        call if it has not begun.
        """
        called: Deferred[Result] = Deferred()
        self._calls.append((called, function, arguments))
        self._requested += 1
        if self._busy < self._max_threads and not (self._busy and self._grow_after):
            self._add_thread()
        return called

    def when_idle(self) -> Deferred[None]:
        """Fire with None when all calls have ended. Canceling it ends the wait."""
        return self._idle.wait() if self._busy else succeed(None)

    def _add_thread(self) -> None:
        self._busy += 1
        self._pool.callInThread(self._work)
        if self._grow_after and self._timer is None:
            self._start_timer()

    def _start_timer(self) -> None:
        self._requested_before = self._requested
        self._timer = self._reactor.callLater(self._grow_after, self._grow)

    def _grow(self) -> None:
        self._timer = None
        self._deliver()
        begun = self._requested - len(self._calls)
        if begun < self._requested_before and self._busy < self._max_threads:
            self._add_thread()
        if self._busy and self._timer is None:
            self._start_timer()

    def _work(self) -> None:
        """Make calls until none is left. Runs in a thread, as does :meth:`_put`."""
        with suppress(IndexError):  # no call is left
            while True:
                called, function, arguments = self._calls.popleft()
                if not called.called:
                    self._put(called, _call(function, arguments))
        self._put(None, None)

    def _put(self, called: Deferred[Any] | None, result: Any) -> None:
        self._results.append((called, result))
        if self._grow_after and called is not None:
            return
        if not self._reactor_woken:  # otherwise the delivery that is to come takes this result, too
            self._reactor_woken = True
            self._reactor.callFromThread(self._deliver)

    def _deliver(self) -> None:
        self._reactor_woken = False
        while self._results:
            called, result = self._results.popleft()
            if called is None:
                self._thread_ended()
            elif not called.called:
                called.callback(result)  # a Failure starts the errbacks

    def _thread_ended(self) -> None:
        """Start a thread for the calls that were requested after the ended one found none."""
        self._busy -= 1
        if self._calls:
            self._add_thread()
        elif not self._busy:
            self._stop_timer()
            idle, self._idle = self._idle, Once()
            idle.happen(None)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    try:
        return function(*arguments)
    except BaseException:
        return Failure()

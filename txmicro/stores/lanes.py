"""Calls in threads, for many short ones: a thread takes call after call, and their results come back together.

Twisted's ``deferToThread`` wakes a thread for each call and the reactor for each result, which costs as much as
asking a database on the same machine. Here both happen only where somebody sleeps.

Calls that are over sooner than a thread wakes gain nothing from others beside them, as Python runs one thread at a
time, and lose what it takes to hand over. With *patience*, one thread does what comes, and tells of it when nothing is
left; each time that the patience is over, results are fetched, and another thread helps if calls wait that waited then.
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


class Lanes:
    """Up to *most* threads of *pool* at once, whose calls begin in the order in which they came.

    :param reactor: where results arrive.
    :param patience: in seconds; 0: none.
    """

    def __init__(self, reactor: Any, pool: ThreadPool, most: int, patience: float = 0.0) -> None:
        self._reactor = reactor
        self._pool = pool
        self._most = most
        self._patience = patience
        self._look: Timer | None = None  # while a thread is busy, if there is patience
        self._count = 0  # of all calls
        self._seen = 0  # of those, when the patience began
        self._busy = 0  # changed in the reactor's thread only
        self._calls: deque[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]] = deque()
        self._results: deque[tuple[Deferred[Any] | None, Any]] = deque()
        self._woken = False
        self._idle: Once[None] = Once()

    def call(self, function: Callable[..., Result], *arguments: Any) -> Deferred[Result]:
        """Call ``function(*arguments)`` in a thread. Fires with its result, or fails with what it raised.

        Cancelling it stops the wait, and the call if it has not begun.
        """
        called: Deferred[Result] = Deferred()
        self._calls.append((called, function, arguments))
        self._count += 1
        if self._busy < self._most and not (self._busy and self._patience):
            self._begin()
        return called

    def idle(self) -> Deferred[None]:
        """Fires with None when all calls have ended."""
        return self._idle.wait() if self._busy else succeed(None)

    def _begin(self) -> None:
        self._busy += 1
        self._pool.callInThread(self._work)
        if self._patience and self._look is None:
            self._be_patient()

    def _be_patient(self) -> None:
        self._seen = self._count
        self._look = self._reactor.callLater(self._patience, self._patience_over)

    def _patience_over(self) -> None:
        self._look = None
        self._fetch()
        begun = self._count - len(self._calls)
        if begun < self._seen and self._busy < self._most:
            self._begin()
        if self._busy and self._look is None:
            self._be_patient()

    def _work(self) -> None:
        """Call until nothing is left: in a thread, as :meth:`_put`."""
        with suppress(IndexError):  # nothing is left
            while True:
                called, function, arguments = self._calls.popleft()
                if not called.called:
                    self._put(called, _call(function, arguments))
        self._put(None, None)

    def _put(self, called: Deferred[Any] | None, result: Any) -> None:
        self._results.append((called, result))
        if self._patience and called is not None:
            return
        if not self._woken:  # by a thread whose result is not fetched yet, and so neither is this one
            self._woken = True
            self._reactor.callFromThread(self._fetch)

    def _fetch(self) -> None:
        self._woken = False
        while self._results:
            called, result = self._results.popleft()
            if called is None:
                self._end()
            elif not called.called:
                called.callback(result)  # a Failure starts the errbacks

    def _end(self) -> None:
        """A thread found nothing more to do; what came since then waits for one."""
        self._busy -= 1
        if self._calls:
            self._begin()
        elif not self._busy:
            self._stop_looking()
            idle, self._idle = self._idle, Once()
            idle.happen(None)

    def _stop_looking(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    try:
        return function(*arguments)
    except BaseException:
        return Failure()

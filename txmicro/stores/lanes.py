"""Calls in threads, for many short ones: a thread takes call after call, and their results come back together.

Twisted's ``deferToThread`` wakes a thread for each call and the reactor for each result, which costs as much as
asking a database on the same machine. Here both happen only where somebody sleeps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from txmicro.once import Once

Result = TypeVar("Result")


class Lanes:
    """Up to *most* threads of *pool* at once, whose calls begin in the order in which they came.

    :param reactor: where results arrive.
    """

    def __init__(self, reactor: Any, pool: ThreadPool, most: int) -> None:
        self._reactor = reactor
        self._pool = pool
        self._most = most
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
        if self._busy < self._most:
            self._begin()
        return called

    def idle(self) -> Deferred[None]:
        """Fires with None when all calls have ended."""
        return self._idle.wait() if self._busy else succeed(None)

    def _begin(self) -> None:
        self._busy += 1
        self._pool.callInThread(self._work)

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
            idle, self._idle = self._idle, Once()
            idle.happen(None)


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    try:
        return function(*arguments)
    except BaseException:
        return Failure()

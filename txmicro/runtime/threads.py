"""The threads in which a worker's handlers run.

Twisted's own pool has ten threads for the whole process, and name resolution needs one of them: ten handlers that wait
would keep the process from connecting. So each worker has threads of its own. They are daemon threads, because Python
waits for all other threads before a process ends, and a thread that waits cannot be ended.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from queue import SimpleQueue
from types import CoroutineType
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from txmicro.errors import WorkerStopped
from txmicro.receiving.naming import name_call


class FromThreads(Protocol):
    """The part of a reactor that is needed here."""

    def callFromThread(self, callable: Callable[..., Any], *args: Any) -> Any:
        """Call ``callable(*args)`` in the reactor's thread."""


class _Call:
    """A call of a function. *done* fires when it has ended."""

    __slots__ = ("args", "context", "done", "function", "left", "started")

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], done: Deferred[Any]) -> None:
        self.context = copy_context()  # of the handler that makes the call
        self.function = function
        self.args = args
        self.done = done
        self.started = self.left = False


_Calls = SimpleQueue[_Call | None]  # the calls for one thread; None ends it


class Threads:
    """Runs functions in threads of its own: *size* at once, and the rest in order after them.

    A thread cannot be ended. When a running call is canceled, another thread may start, up to *size* more. Beyond
    that, calls wait until one ends. Threads are started when they are needed, and then kept. Everything but the
    functions runs in the reactor's thread.

    :param size: how many calls run at once, at least 1.
    :param worker: the worker's id, for the log.
    """

    log = Logger()

    def __init__(self, reactor: FromThreads, size: int, worker: str) -> None:
        self._reactor = reactor
        self._size = size
        self._worker = worker
        self._waiting: deque[_Call] = deque()
        self._idle: list[_Calls] = []
        self._awaited = self._left = self._started = (
            0  # running calls that are awaited, and that are not; threads
        )
        self._closed = False

    def run(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """Call ``function(*args)`` in a thread.

        Fires with its result. Fails with what it raised, with WorkerStopped after :meth:`close`, or with TypeError
        when the result is a coroutine or another awaitable. Canceling it drops a call that has not begun; later it
        stops only the wait.
        """
        if self._closed:
            return fail(WorkerStopped("its threads take no more calls", worker=self._worker))
        call = _Call(function, args, Deferred(lambda _: self._cancel(call)))
        self._waiting.append(call)
        self._start_waiting()
        return call.done

    def close(self) -> None:
        """End idle threads now, and each other thread after its call; do not wait for them."""
        self._closed = True
        idle, self._idle = self._idle, []
        for calls in idle:
            calls.put(None)

    def _start_waiting(self) -> None:
        while self._waiting and self._awaited < self._size and self._awaited + self._left < 2 * self._size:
            call = self._waiting.popleft()
            call.started = True
            self._awaited += 1
            (self._idle.pop() if self._idle else self._new()).put(call)

    def _new(self) -> _Calls:
        calls: _Calls = SimpleQueue()
        self._started += 1
        name = f"{self._worker} thread {self._started}"
        threading.Thread(target=self._work, args=(calls,), name=name, daemon=True).start()
        return calls

    def _work(self, calls: _Calls) -> None:
        """Make calls. This is the only method that runs in a thread."""
        while (call := calls.get()) is not None:
            try:
                outcome = _value(call.context.run(call.function, *call.args))
            except BaseException:
                outcome = Failure()
            self._reactor.callFromThread(self._ended, call, outcome, calls)
            del call, outcome  # they may be large, and the next call may come much later

    def _ended(self, call: _Call, outcome: Any, calls: _Calls) -> None:
        if self._closed:
            calls.put(None)
        else:
            self._idle.append(calls)
        if call.left:
            self._left -= 1
        else:
            self._awaited -= 1
        self._start_waiting()
        if not call.left:
            call.done.callback(outcome)

    def _cancel(self, call: _Call) -> None:
        if not call.started:
            self._waiting.remove(call)
            return
        call.left = True
        self._awaited -= 1
        self._left += 1
        self.log.warn(
            "{worker}: {call} was canceled, but its thread goes on, and its result is dropped "
            "({left} such threads; above {most}, each takes the place of another call)",
            worker=self._worker,
            call=name_call(call.function, call.args),
            left=self._left,
            most=self._size,
            recurring=True,
        )
        self._start_waiting()


def _value(result: Any) -> Any:
    """Return *result*; raise TypeError if it is an awaitable."""
    if isinstance(result, Awaitable):
        if isinstance(result, CoroutineType):
            result.close()
        raise TypeError(
            f"a function that runs in a thread returned a {type(result).__name__}: it must return the result itself"
        )
    return result

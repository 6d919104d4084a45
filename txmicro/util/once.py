"""An event that happens once, and that any number of callers may wait for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

Value = TypeVar("Value")

_NOT_YET: Any = object()


class Once(Generic[Value]):
    """A one-shot event with a value: it fires all Deferreds of :meth:`wait`, also later ones, with that value."""

    __slots__ = ("_result", "_waiting")

    def __init__(self) -> None:
        self._result: Any = _NOT_YET
        self._waiting: list[Deferred[Value]] = []

    @property
    def happened(self) -> bool:
        """True if :meth:`happen` has been called."""
        return self._result is not _NOT_YET

    def happen(self, value: Value | Failure) -> None:
        """Fire the Deferreds with *value*, or fail them with it if it is a Failure.

        Only the first call has an effect.
        """
        if self.happened:
            return
        self._result = value
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.called:  # another waiter's callback may have canceled it
                waiter.callback(value)  # a Failure starts the errbacks

    def wait(self, cancelled: Callable[[], None] = lambda: None) -> Deferred[Value]:
        """Return a new Deferred, which fires with the value, or fails if it is a Failure.

        Canceling it ends this wait only, and calls *cancelled*.
        """

        def forget(waiter: Deferred[Value]) -> None:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
                cancelled()

        waiter: Deferred[Value] = Deferred(forget)
        if self.happened:
            waiter.callback(self._result)
        else:
            self._waiting.append(waiter)
        return waiter

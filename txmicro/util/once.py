"""Something that happens once, and that many may wait for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

Value = TypeVar("Value")

_NOT_YET: Any = object()


class Once(Generic[Value]):
    """Fires every Deferred it gave, and those it gives later, with the first value it hears of."""

    __slots__ = ("_result", "_waiting")

    def __init__(self) -> None:
        self._result: Any = _NOT_YET
        self._waiting: list[Deferred[Value]] = []

    @property
    def happened(self) -> bool:
        """Whether :meth:`happen` was called."""
        return self._result is not _NOT_YET

    def happen(self, value: Value | Failure) -> None:
        """Fire with *value*, or (a Failure) fail with it. What comes after the first call changes nothing."""
        if self.happened:
            return
        self._result = value
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.called:  # by another waiter, who cancelled it
                waiter.callback(value)  # a Failure starts the errbacks

    def wait(self, cancelled: Callable[[], None] = lambda: None) -> Deferred[Value]:
        """A fresh Deferred. Cancelling it stops this wait, and calls *cancelled*."""

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

"""Deferreds that wait for the same event."""

from __future__ import annotations

from twisted.internet.defer import Deferred


class Waiters:
    """The Deferreds of those who wait for an event, which may happen several times."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[Deferred[None]] = []

    def wait(self) -> Deferred[None]:
        """Return a new Deferred, which fires with None at the next :meth:`fire`.

        It does not fail. Canceling it stops this wait and nothing else.
        """
        waiter: Deferred[None] = Deferred(self._forget)
        self._waiting.append(waiter)
        return waiter

    def fire(self) -> None:
        """Fire all Deferreds that wait now."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.called:  # the callback of another one may have canceled it
                waiter.callback(None)

    def _forget(self, waiter: Deferred[None]) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)

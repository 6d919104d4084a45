"""Timeouts of many Deferreds, with one timer."""

from __future__ import annotations

from typing import Any, Final, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from txmicro.util.clock import Clock, Timer

from .errors import StoreTimeout

TICK: Final = 0.05
"""Seconds by which a timeout may be late."""

Value = TypeVar("Value")


class TimeoutWheel:
    """Cancels Deferreds that have not fired by their deadlines.

    Deadlines of one tick share a bucket. Adding and removing a Deferred costs one dict entry, however many there are.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[int, dict[Deferred[Any], None]] = {}
        self._timer: Timer | None = None

    def add(self, waiting: Deferred[Value], deadline: float) -> Deferred[Value]:
        """Cancel *waiting* at *deadline*, in the clock's seconds.

        Return *waiting*. It fails with :class:`StoreTimeout` if the deadline passes first.
        """
        tick = int(deadline / TICK) + 1
        self._buckets.setdefault(tick, {})[waiting] = None
        if self._timer is None:
            self._timer = self._clock.callLater(TICK, self._expire)
        return waiting.addBoth(self._fired, tick, waiting)

    def stop(self) -> None:
        """Cancel the timer. Deferreds that still wait have no timeout any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fired(self, outcome: Value | Failure, tick: int, waiting: Deferred[Value]) -> Value | Failure:
        bucket = self._buckets.get(tick, {})
        if waiting in bucket:
            del bucket[waiting]
            if not bucket:
                del self._buckets[tick]
        elif isinstance(outcome, Failure) and outcome.check(CancelledError):
            raise StoreTimeout("the store did not answer before the deadline")
        return outcome

    def _expire(self) -> None:
        self._timer = None
        now = self._clock.seconds() / TICK
        for tick in [tick for tick in self._buckets if tick <= now]:
            for waiting in self._buckets.pop(tick):
                waiting.cancel()
        if self._buckets:
            self._timer = self._clock.callLater(TICK, self._expire)

"""Waits that end in time, many of them with one timer."""

from __future__ import annotations

from typing import Any, Final, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from txmicro.util.clock import Clock, Timer

from .errors import StoreTimeout

TICK: Final = 0.05
"""How late a wait may end, in seconds."""

Value = TypeVar("Value")


class Deadlines:
    """Cancels what is not done in time.

    Waits of one tick are kept together, so one that begins and one that ends cost a dict's entry, whatever their
    number.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ticks: dict[int, dict[Deferred[Any], None]] = {}
        self._timer: Timer | None = None

    def keep(self, waiting: Deferred[Value], deadline: float) -> Deferred[Value]:
        """Cancel *waiting* at *deadline*, in the clock's seconds; gives it back, to fail with :class:`StoreTimeout`."""
        tick = int(deadline / TICK) + 1
        self._ticks.setdefault(tick, {})[waiting] = None
        if self._timer is None:
            self._timer = self._clock.callLater(TICK, self._look)
        return waiting.addBoth(self._ended, tick, waiting)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ended(self, outcome: Value | Failure, tick: int, waiting: Deferred[Value]) -> Value | Failure:
        together = self._ticks.get(tick, {})
        if waiting in together:
            del together[waiting]
            if not together:
                del self._ticks[tick]
        elif isinstance(outcome, Failure) and outcome.check(CancelledError):
            raise StoreTimeout("the store did not answer in time")
        return outcome

    def _look(self) -> None:
        self._timer = None
        now = self._clock.seconds() / TICK
        for tick in [tick for tick in self._ticks if tick <= now]:
            for waiting in self._ticks.pop(tick):
                waiting.cancel()
        if self._ticks:
            self._timer = self._clock.callLater(TICK, self._look)

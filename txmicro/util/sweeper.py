"""A timer that runs while there is something to watch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from txmicro.util.clock import Clock, Timer

LATE: Final = 0.5
"""Seconds that a sweep may come late. If it is later, the process was blocked."""


class Sweeper:
    """Calls *sweep* again and again.

    A call that comes late is skipped, once: messages may wait to be read that change what is due.

    :param tick: seconds between two calls.
    :param sweep: does what is due; returns whether it must be called again.
    :ivar runs: whether a call is to come.
    """

    def __init__(self, clock: Clock, tick: float, sweep: Callable[[], bool]) -> None:
        self._clock = clock
        self._tick = tick
        self._sweep = sweep
        self._timer: Timer | None = None
        self.runs = False
        self._expected = 0.0
        self._skipped = False

    def start(self) -> None:
        """Call *sweep* after a tick; does nothing if a call is to come."""
        if not self.runs:
            self.runs = True
            self._expected = self._clock.seconds() + self._tick
            self._timer = self._clock.callLater(self._tick, self._due)

    def stop(self) -> None:
        """Do not call *sweep* any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.runs = False

    def _due(self) -> None:
        self._timer = None
        self.runs = False
        late = self._clock.seconds() - self._expected > LATE
        self._skipped = late and not self._skipped
        if self._skipped or self._sweep():
            self.start()

"""A clock that can be paused."""

from __future__ import annotations

from .clock import Clock


class PausableClock:
    """Tells the time of *clock* without the pauses.

    :ivar paused: whether the time does not advance.
    """

    __slots__ = ("_clock", "_paused_at", "_paused_for", "paused")

    def __init__(self, clock: Clock, *, paused: bool = False) -> None:
        self._clock = clock
        self._paused_for = 0.0
        self._paused_at = clock.seconds()
        self.paused = paused

    def seconds(self) -> float:
        """Return the time, in seconds; only differences mean anything."""
        return (self._paused_at if self.paused else self._clock.seconds()) - self._paused_for

    def at(self, now: float) -> float:
        """Return what :meth:`seconds` returns when the clock shows *now*."""
        return (self._paused_at if self.paused else now) - self._paused_for

    def pause(self) -> None:
        """Stop the time; does nothing if it is stopped."""
        if not self.paused:
            self._paused_at = self._clock.seconds()
            self.paused = True

    def resume(self) -> None:
        """Let the time go on; does nothing if it goes on."""
        if self.paused:
            self._paused_for += self._clock.seconds() - self._paused_at
            self.paused = False

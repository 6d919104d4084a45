"""How many bytes the broker holds, and the alarm when they are too many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

CALM: Final = 0.8
"""The alarm ends below this part of the limit, so that it does not flutter."""


class MemoryGauge:
    """Counts bytes in and out.

    :ivar alarm: more than *limit* bytes are held, or were until lately.
    :ivar on_alarm: called with the new value whenever ``alarm`` changes.
    """

    __slots__ = ("alarm", "limit", "on_alarm", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.alarm = False
        self.on_alarm: Callable[[bool], None] = lambda alarm: None

    def take(self, size: int) -> None:
        """*size* bytes more."""
        self.used += size
        if self.used > self.limit and not self.alarm:
            self.alarm = True
            self.on_alarm(True)

    def give(self, size: int) -> None:
        """*size* bytes less."""
        self.used -= size
        if self.alarm and self.used < self.limit * CALM:
            self.alarm = False
            self.on_alarm(False)

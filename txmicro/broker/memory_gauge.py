"""Counts the bytes that the broker holds, and raises the memory alarm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

ALARM_END: Final = 0.8
"""The alarm ends below this part of the limit, so that it does not go on and off all the time."""


class MemoryGauge:
    """Counts the bytes that messages take.

    :ivar used: the bytes that are held.
    :ivar alarm: whether more than *limit* bytes are held; it ends below :data:`ALARM_END` of the limit.
    :ivar on_alarm: called with the new value when ``alarm`` changes.
    """

    __slots__ = ("alarm", "limit", "on_alarm", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.alarm = False
        self.on_alarm: Callable[[bool], None] = lambda alarm: None

    def allocate(self, size: int) -> None:
        """Count *size* bytes more."""
        self.used += size
        if self.used > self.limit and not self.alarm:
            self.alarm = True
            self.on_alarm(True)

    def free(self, size: int) -> None:
        """Count *size* bytes less."""
        self.used -= size
        if self.alarm and self.used < self.limit * ALARM_END:
            self.alarm = False
            self.on_alarm(False)

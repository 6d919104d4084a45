"""The numbers of the last minutes, one value per second: bounded, and 8 bytes per value."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from math import isnan, nan
from typing import Final

LENGTH: Final = 600
"""Seconds that are kept."""


class Series:
    """Values of several names, second by second, for the last ``LENGTH`` seconds.

    :param names: the names.
    """

    __slots__ = ("_last", "_values")

    def __init__(self, *names: str) -> None:
        self._values = {name: array("d", [nan]) * LENGTH for name in names}
        self._last = 0

    def put(self, second: int, values: Mapping[str, float | None]) -> None:
        """Set the values of *second*, in Unix seconds. A second before the last one is ignored."""
        if second < self._last:
            return
        for skipped in range(max(self._last + 1, second - LENGTH + 1), second + 1):
            for row in self._values.values():
                row[skipped % LENGTH] = nan
        self._last = second
        for name, value in values.items():
            self._values[name][second % LENGTH] = nan if value is None else value

    def last(self, name: str, seconds: int) -> list[float | None]:
        """Return the last *seconds* values of *name*, the oldest first; None where there is no value."""
        row, first = self._values[name], self._last - min(seconds, LENGTH) + 1
        values = (row[second % LENGTH] for second in range(first, self._last + 1))
        return [None if isnan(value) else value for value in values]

    def mean(self, name: str, seconds: int) -> float | None:
        """Return the mean of the known values among the last *seconds* ones; None: none is known."""
        known = [value for value in self.last(name, seconds) if value is not None]
        return sum(known) / len(known) if known else None

    @property
    def end(self) -> int:
        """The last second that has values, in Unix seconds; 0: none has."""
        return self._last

"""How commands show times, durations and rates."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

NOTHING: Final = "-"
"""For a value that is not known."""


def show_count(count: float | None) -> str:
    """Return a number of things."""
    return NOTHING if count is None else f"{count:,.0f}"


def show_rate(rate: float | None) -> str:
    """Return a number per second."""
    if rate is None:
        return NOTHING
    return f"{rate:,.1f}" if 0 < rate < 10 else f"{rate:,.0f}"


def show_seconds(seconds: float | None) -> str:
    """Return a duration with a unit that fits: ``0.52 ms``, ``14 ms``, ``2.50 s``, ``3 min``, ``2 h``, ``4 d``."""
    if seconds is None:
        return NOTHING
    if seconds < 0.01:
        return f"{seconds * 1000:.2f} ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.2f} s"


def show_time(time: float | None) -> str:
    """Return a time, given in Unix seconds, in UTC and to the millisecond."""
    if time is None:
        return NOTHING
    try:
        moment = datetime.fromtimestamp(time, UTC)
    except (OverflowError, ValueError, OSError):  # from a program that says anything
        return str(time)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"

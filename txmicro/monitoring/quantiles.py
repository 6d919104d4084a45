"""Quantiles of durations, from histograms that are counts per bucket."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from txmicro.util.prometheus import BUCKETS

COUNTS: Final = len(BUCKETS) + 1
"""How many counts a histogram has: one per bucket, and one for durations beyond the last bucket."""


def quantile(counts: Sequence[int], share: float) -> float | None:
    """Return the duration that *share* of the counted durations do not exceed, in seconds; None: nothing is counted.

    Durations are taken as evenly spread within their bucket, as Prometheus' ``histogram_quantile`` does. One beyond the
    last bucket counts as that bucket's bound.
    """
    total = sum(counts)
    if not total:
        return None
    rank, below, lower = share * total, 0, 0.0
    for count, bound in zip(counts, BUCKETS, strict=False):
        if count and below + count >= rank:
            return lower + (bound - lower) * (rank - below) / count
        below += count
        lower = bound
    return lower


class RecentDurations:
    """A histogram of the last *seconds* seconds.

    :ivar counts: the counts of all these seconds. :ivar current: those of the second that has not ended.
    """

    __slots__ = ("_past", "_seconds", "counts", "current")

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self._past: deque[list[int] | None] = deque()
        self.counts = [0] * COUNTS
        self.current: list[int] | None = None

    def add(self, counts: Sequence[int]) -> None:
        """Add *counts* to the current second."""
        if self.current is None:
            self.current = [0] * COUNTS
        for index, count in enumerate(counts):
            if count:
                self.current[index] += count
                self.counts[index] += count

    def tick(self) -> None:
        """End the current second, and forget the oldest one."""
        self._past.append(self.current)
        self.current = None
        if len(self._past) > self._seconds:
            for index, count in enumerate(self._past.popleft() or ()):
                self.counts[index] -= count

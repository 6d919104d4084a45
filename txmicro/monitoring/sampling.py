"""The share of jobs that a SystemManager has recorded: all of them, or fewer while it would hear too much."""

from __future__ import annotations

from typing import Final

from .recorder import is_sampled, limit_of
from .report import Report

RECORDS: Final = 600.0
"""Records per second that a manager wants to hear at most, besides failures. Each costs it some 30 microseconds."""

FAILURES: Final = 1_000.0
"""Records per second of failed jobs that are not sampled, at most."""

LEAST_SHARE: Final = 1e-5

MOST_FAILURES: Final = 200
"""Failures of jobs that are not sampled, in one report, at most."""

_LOW: Final = 0.5
"""The part of a limit below which more is asked for again: at most twice as much, and less than the limit."""
_RAISED: Final = 0.75


class Sampling:
    """Adapts the share to what is heard.

    :ivar share: the share of jobs that are recorded now, from 0 to 1.
    :ivar failures: how many failures of other jobs a report contains at most.
    :ivar rate: how many records per second were heard last.
    """

    def __init__(self) -> None:
        self.share = 1.0
        self.failures = MOST_FAILURES
        self.rate = 0.0
        self._sampled = self._others = 0

    def heard(self, report: Report) -> None:
        """Count the records of *report*."""
        limit = limit_of(self.share)
        sampled = sum(is_sampled(record.job, limit) for record in report.records)
        self._sampled += sampled
        self._others += len(report.records) - sampled

    def adapt(self, seconds: float) -> None:
        """Adapt the share to what was heard in the last *seconds* seconds."""
        sampled, others = self._sampled / seconds, self._others / seconds
        self._sampled = self._others = 0
        self.rate = sampled + others
        self.share = min(1.0, max(LEAST_SHARE, self.share * _factor(sampled, RECORDS)))
        failures = self.failures * _factor(others, FAILURES)
        self.failures = min(MOST_FAILURES, max(1, round(failures)))


def _factor(rate: float, limit: float) -> float:
    if rate > limit:
        return limit / rate
    if rate < _LOW * limit:
        return min(2.0, _RAISED * limit / max(rate, 1.0))
    return 1.0

"""The age of a queue's oldest job, without taking the job: an upper bound, as long as jobs are taken in order."""

from __future__ import annotations


class QueueAge:
    """Estimates the age of the oldest job of one queue.

    The broker tells how many jobs wait, and not since when. But a job that waits came after the moment when the queue
    was seen empty. If jobs are taken in order, it also was sent after every job that has started already.
    """

    __slots__ = ("_empty_at",)

    def __init__(self) -> None:
        self._empty_at: float | None = None

    def oldest(self, jobs: int, now: float, youngest_started: float | None) -> float | None:
        """Return the age of the oldest job in seconds, at most; 0: no job waits; None: unknown.

        :param jobs: how many jobs wait at *now*, in Unix seconds.
        :param youngest_started: when the job was sent that was sent last of those that have started, in Unix seconds;
            None: unknown.
        """
        if not jobs:
            self._empty_at = now
            return 0.0
        known = [moment for moment in (self._empty_at, youngest_started) if moment is not None]
        return max(0.0, now - max(known)) if known else None

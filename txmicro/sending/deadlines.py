"""When pending jobs fail for being late."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heapify, heappop, heappush

from .pending import PendingJob


class Deadlines:
    """The deadlines of the jobs of one outbox.

    A job that ends early leaves its entry behind. So entries are compared with the jobs, and are dropped when most are
    of jobs that have ended.

    :param jobs: the jobs that have not ended, by key. The outbox changes it.
    """

    def __init__(self, jobs: Mapping[str, PendingJob]) -> None:
        self._jobs = jobs
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        """Return how many entries there are, of ended jobs too."""
        return len(self._heap)

    def add(self, job: PendingJob) -> None:
        """Watch the deadline of *job*."""
        heappush(self._heap, (job.deadline, job.key))

    def take_due(self, now: float) -> list[PendingJob]:
        """Return the jobs whose deadline has passed at *now*, and watch them no more."""
        due: dict[str, PendingJob] = {}
        while self._heap and self._heap[0][0] <= now:
            deadline, key = heappop(self._heap)
            job = self._jobs.get(key)
            if job is not None and job.deadline == deadline:
                due[key] = job
        return list(due.values())

    def compact(self) -> None:
        """Drop the entries of jobs that have ended, if they are most of all entries."""
        if len(self._heap) > 2 * len(self._jobs):
            self._heap = [(job.deadline, key) for key, job in self._jobs.items()]
            heapify(self._heap)

    def clear(self) -> None:
        """Watch no deadline any more."""
        self._heap.clear()

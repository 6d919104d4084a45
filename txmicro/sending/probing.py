"""Which worker has which jobs, when to probe each worker, and which workers are missing.

Part of :mod:`txmicro.sending.outbox`, which sends the probes. Times are sending time, in seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from .pending import TAKEN, PendingJob

LOST_AFTER: Final = 2
"""Probes that a worker may miss before its jobs that must not run again are given up: it may be reconnecting."""


class Missing(NamedTuple):
    """A worker that a probe did not reach.

    :ivar jobs: what it has, in the order of its acknowledgements.
    :ivar suspect: the job that it had taken last when it was found missing, which may have ended it.
    :ivar too_long: whether it has been missing for longer than a reconnection takes.
    """

    jobs: list[PendingJob]
    suspect: PendingJob | None
    too_long: bool


class _Taker:
    """One worker.

    :ivar due: when to probe it next.
    :ivar jobs: what it has, by key, in the order of its acknowledgements.
    :ivar missing_since: when it was found missing; None: it is not missing.
    :ivar missed: what it had when it was found missing, and what was sent to others since.
    :ivar suspect: the job that it had taken last when it was found missing.
    """

    __slots__ = ("due", "jobs", "missed", "missing_since", "suspect")

    def __init__(self, due: float) -> None:
        self.due = due
        self.jobs: dict[str, PendingJob] = {}
        self.missing_since: float | None = None
        self.missed: dict[str, PendingJob] = {}
        self.suspect: PendingJob | None = None


class Probing:
    """The workers that have taken jobs of one outbox.

    :param every: seconds between two probes of a worker, and before the first one.
    """

    def __init__(self, every: float) -> None:
        self._every = every
        # All wait equally long for their next probe, so the one that is probed last is due last: no heap is needed.
        self._takers: OrderedDict[str, _Taker] = OrderedDict()

    def __len__(self) -> int:
        """Return how many workers are probed."""
        return len(self._takers)

    def take(self, job: PendingJob, worker: str, now: float) -> None:
        """Note that *worker* has acknowledged *job*."""
        job.state = TAKEN
        job.taker = job.last_taker = worker
        job.taken_at = now
        job.forwarded = False
        taker = self._takers.get(worker)
        if taker is None:
            taker = self._takers[worker] = _Taker(now + self._every)
        taker.jobs[job.key] = job

    def leave(self, job: PendingJob, worker: str) -> None:
        """Note that *worker*, which has *job*, does not have it any more."""
        taker = self._takers[worker]
        del taker.jobs[job.key]
        self._drop_idle(worker, taker)

    def miss(self, job: PendingJob, worker: str) -> None:
        """Note that *worker*, which has *job*, is missing, and that the job will be sent to others.

        The job that the worker took last is blamed: it may have ended the worker. The worker is still probed for its
        jobs. If it answers, it was only disconnected, and :meth:`seen` takes the blame back.
        """
        taker = self._takers[worker]
        del taker.jobs[job.key]
        taker.missed[job.key] = job
        job.missing_takers = (*job.missing_takers, worker)
        if job is taker.suspect:
            job.blamed_takers = (*job.blamed_takers, worker)

    def forget(self, job: PendingJob) -> None:
        """Probe no missing worker for *job* any more, as it has ended."""
        for worker in job.missing_takers:
            taker = self._takers.get(worker)
            if taker is not None:
                taker.missed.pop(job.key, None)
                self._drop_idle(worker, taker)

    def seen(self, worker: str) -> None:
        """Note that *worker* has sent a message, so that it is not missing."""
        taker = self._takers.get(worker)
        if taker is None:
            return
        taker.missing_since = taker.suspect = None
        for job in taker.missed.values():
            job.missing_takers = tuple(missing for missing in job.missing_takers if missing != worker)
            job.blamed_takers = tuple(blamed for blamed in job.blamed_takers if blamed != worker)
        taker.missed.clear()
        self._drop_idle(worker, taker)

    def gone(self, worker: str, now: float) -> Missing:
        """Note that a probe did not reach *worker*; return what it has."""
        taker = self._takers.get(worker)
        if taker is None:
            return Missing([], None, False)
        if taker.missing_since is None:
            taker.missing_since = now
            taker.suspect = next(reversed(taker.jobs.values()), None)
        too_long = now - taker.missing_since >= LOST_AFTER * self._every
        return Missing(list(taker.jobs.values()), taker.suspect, too_long)

    def next_due(self, now: float) -> tuple[str, list[str]] | None:
        """Return a worker whose probe is due, with the keys of all jobs that it has or had; None: none is due.

        The probe counts as sent. It asks also for what the worker has just taken: otherwise a job would be missed only
        at the second probe after its worker's death.
        """
        for worker, taker in self._takers.items():
            if taker.due > now:
                break
            taker.due = now + self._every
            self._takers.move_to_end(worker)
            return worker, [*taker.jobs, *taker.missed]
        return None

    def _drop_idle(self, worker: str, taker: _Taker) -> None:
        if not taker.jobs and not taker.missed:
            del self._takers[worker]

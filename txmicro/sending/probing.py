"""Who has taken which jobs, when to ask each about all it has, and who is missing.

Part of :mod:`txmicro.sending.outbox`, which says when. Times are the copies' time, in seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from .pending import TAKEN, PendingJob

LOST_AFTER: Final = 2
"""Probes that a taker may miss before what must not run once more is given up: it may be reconnecting."""


class _Taker:
    """One worker: what it has, in the order of its acks; when to probe it next; since when it is missing.

    :ivar missed: what it had when it was found missing, and what was sent to others since.
    :ivar suspect: which job it had taken last when it was found missing.
    """

    __slots__ = ("due", "jobs", "missed", "missing", "suspect")

    def __init__(self, due: float) -> None:
        self.due = due
        self.missing: float | None = None
        self.jobs: dict[str, PendingJob] = {}
        self.missed: dict[str, PendingJob] = {}
        self.suspect: PendingJob | None = None


class Probing:
    """See the module.

    :param every: seconds between two probes of a worker, and before the first one.
    """

    def __init__(self, every: float) -> None:
        self._every = every
        # All wait equally long for their next probe: who is probed last is due last, and no heap is needed.
        self._takers: OrderedDict[str, _Taker] = OrderedDict()

    def __len__(self) -> int:
        """How many workers are watched."""
        return len(self._takers)

    def take(self, sent: PendingJob, worker: str, now: float) -> None:
        """*worker* has it."""
        sent.state, sent.taker, sent.heard, sent.since, sent.forwarded = TAKEN, worker, worker, now, False
        taker = self._takers.get(worker)
        if taker is None:
            taker = self._takers[worker] = _Taker(now + self._every)
        taker.jobs[sent.key] = sent

    def leave(self, sent: PendingJob, worker: str) -> None:
        """*worker* has it no more."""
        taker = self._takers[worker]
        del taker.jobs[sent.key]
        self._drop_idle(worker, taker)

    def miss(self, sent: PendingJob, worker: str) -> None:
        """*worker*, which has it, is missing, and others shall do it.

        It is counted against the job that the worker took last: that one may have ended it. The worker is asked about
        its jobs nevertheless: if it answers, it was only away, and they are cleared of that.
        """
        taker = self._takers[worker]
        del taker.jobs[sent.key]
        taker.missed[sent.key] = sent
        sent.lost = (*sent.lost, worker)
        if sent is taker.suspect:
            sent.blamed = (*sent.blamed, worker)

    def forget(self, sent: PendingJob) -> None:
        """The job has ended: nobody that was missing need be asked about it any more."""
        for worker in sent.lost:
            taker = self._takers.get(worker)
            if taker is not None:
                taker.missed.pop(sent.key, None)
                self._drop_idle(worker, taker)

    def heard(self, worker: str) -> None:
        """There is a word of *worker*: it is not missing."""
        taker = self._takers.get(worker)
        if taker is None:
            return
        taker.missing = taker.suspect = None
        for sent in taker.missed.values():
            sent.lost = tuple(lost for lost in sent.lost if lost != worker)
            sent.blamed = tuple(lost for lost in sent.blamed if lost != worker)
        taker.missed.clear()
        self._drop_idle(worker, taker)

    def gone(self, worker: str, now: float) -> tuple[list[PendingJob], PendingJob | None, bool]:
        """What *worker*, whom a probe did not find, has.

        Gives its jobs, the one that it had taken last when it was found missing, and whether that is too long ago.
        """
        taker = self._takers.get(worker)
        if taker is None:
            return [], None, False
        if taker.missing is None:
            taker.missing = now
            taker.suspect = next(reversed(taker.jobs.values()), None)
        return list(taker.jobs.values()), taker.suspect, now - taker.missing >= LOST_AFTER * self._every

    def next_due(self, now: float) -> tuple[str, list[str]] | None:
        """A worker whose probe is due, with the keys of all it has or had when it was missed; None: no one's is.

        It is due again a while later. Also what it has just taken is asked about: else a job would not be missed
        before the second probe after its worker's death.
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

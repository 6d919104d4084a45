"""Records what a worker does with jobs, while a SystemManager wants to know. A state machine without I/O."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from typing import Final
from zlib import crc32

from txmicro.errors import JobCancelled, JobError
from txmicro.protocol.address import ANY
from txmicro.protocol.failures import text_of, type_name
from txmicro.protocol.job import Job
from txmicro.protocol.outcomes import CANCELED, DEAD, FAILED, RETRIED, SUCCEEDED
from txmicro.util.passwords import mask

from . import records
from .records import DURABLE, INTERACTIVE, Record
from .report import Report
from .rows import SHORT_MAX, TEXT_MAX

RECORDS: Final = 2_000
"""How many records of sampled jobs one report contains at most."""

_EVERYTHING: Final = 2**32
_ANY: Final = f":{ANY}"
_KEY: Final = re.compile(r"([!-~]{1,128})/([0-9]{1,6})")
_ERRORS: Final = frozenset((FAILED, RETRIED, DEAD))


def limit_of(share: float) -> int:
    """Return the limit of :func:`is_sampled` for *share*, from 0 to 1."""
    return int(share * _EVERYTHING)


def is_sampled(job: str, limit: int) -> bool:
    """Return whether the job of this id is among the share of all jobs that *limit* stands for.

    All workers and SystemManagers come to the same result.
    """
    return crc32(job.encode()) < limit


class Recorder:
    """The records of one worker since its last report, and its counts.

    Of each job the records are kept if the job :func:`is_sampled`. Failures are always kept, up to a limit.

    :param worker: its id.
    :param time: returns the Unix time, in seconds.
    """

    def __init__(self, worker: str, time: Callable[[], float]) -> None:
        self._worker = worker
        self._time = time
        self._limit = _EVERYTHING
        self._most_failures = 0
        self._begin()

    def _begin(self) -> None:
        self._ran = self._failures = self._left_out = 0
        self._sent: dict[str, int] = defaultdict(int)  # by address
        self._failed: dict[str, int] = defaultdict(int)  # by sender
        self._lost: dict[str, int] = defaultdict(int)  # by address
        self._youngest = {INTERACTIVE: 0.0, DURABLE: 0.0}  # in milliseconds
        self._records: list[Record] = []

    def sample(self, share: float, failures: int) -> None:
        """Record *share* of all jobs, and *failures* records of other jobs that fail per report, from now on."""
        self._limit, self._most_failures = limit_of(share), failures

    def complete(self, report: Report) -> None:
        """Fill in what happened since the last report, and begin anew."""
        report.ran, report.left_out = self._ran, self._left_out
        report.sent, report.failed, report.lost = map(_by_type, (self._sent, self._failed, self._lost))
        report.youngest = {lane: sent / 1000 for lane, sent in self._youngest.items() if sent}
        report.records = self._records
        self._begin()

    # Events

    def sent(self, hop: Job) -> None:
        """Note that *hop* was sent."""
        self._sent[hop.address] += 1
        if crc32(hop.id.encode()) < self._limit:  # is_sampled, without the call: most jobs end here
            self._keep(
                Record(
                    records.SENT,
                    hop.sent / 1000,
                    hop.id,
                    hop.hop,
                    hop.address,
                    self._worker,
                    _lane(hop.durable),
                    1,
                    trace=_trace(hop.traceparent),
                )
            )

    def resent(
        self, key: str, address: str, *, durable: bool, copies: int, traceparent: str | None, reason: str
    ) -> None:
        """Note that the hop of this key was published again.

        :param copies: how many copies were published by now. :param reason: why, in words.
        """
        job, hop = _split(key)
        if job and is_sampled(job, self._limit):
            self._keep(
                Record(
                    records.RESENT,
                    self._time(),
                    job,
                    hop,
                    address,
                    self._worker,
                    _lane(durable),
                    copies,
                    trace=_trace(traceparent),
                    text=reason[:TEXT_MAX],
                )
            )

    def ran(
        self, job: Job, outcome: str, error: BaseException | None, seconds: float, waited: float | None
    ) -> None:
        """Note that the handler of *job* has ended after *seconds*.

        :param waited: seconds from the send to the start; None: unknown. It is below 0 if clocks differ.
        """
        self._ran += 1
        lane = DURABLE if job.durable else INTERACTIVE
        if job.sent > self._youngest[lane] and job.address[-2:] == _ANY:  # others are in another queue
            self._youngest[lane] = job.sent
        if outcome in _ERRORS:
            self._failed[job.sender] += 1
            if not self._wanted(job.id, True):
                return
        elif crc32(job.id.encode()) >= self._limit:
            return
        self._keep(
            Record(
                records.RAN,
                self._time(),
                job.id,
                job.hop,
                job.address,
                self._worker,
                lane,
                job.tries + 1,
                None if waited is None else max(0.0, waited),
                max(0.0, seconds),
                outcome,
                *_describe(error),
                trace=_trace(job.traceparent),
            )
        )

    def ended(self, job: str, address: str, *, durable: bool, seconds: float, error: JobError | None) -> None:
        """Note that a job which this worker has sent has ended after *seconds*.

        Of a job that fails and was not recorded, it is also recorded when it was sent.
        """
        if error is None:
            if crc32(job.encode()) >= self._limit:
                return
            outcome = SUCCEEDED
        else:
            outcome = CANCELED if isinstance(error, JobCancelled) else FAILED
            waits = getattr(error, "still_queued", False)  # a durable job whose sender waits no longer
            if outcome is FAILED and error.worker is None and not waits:
                self._lost[address] += 1
            if not self._wanted(job, outcome is FAILED):
                return
        now, lane, seconds = self._time(), _lane(durable), max(0.0, seconds)  # differences of floats
        if outcome is FAILED and not is_sampled(job, self._limit):
            self._keep(Record(records.SENT, now - seconds, job, 0, address, self._worker, lane, 1))
        self._keep(
            Record(
                records.ENDED,
                now,
                job,
                0,
                address,
                self._worker,
                lane,
                0,
                None,
                seconds,
                outcome,
                *_describe(error),
            )
        )

    def dead(self, key: str, address: str, *, attempt: int, reason: str, error: JobError | None) -> None:
        """Note that the durable hop of this key has become a dead letter, for *reason*.

        It is not recorded if it was not readable, so that its key is not valid.
        """
        job, hop = _split(key)
        if job and self._wanted(job, True):
            self._keep(
                Record(
                    records.DEAD,
                    self._time(),
                    job,
                    hop,
                    address,
                    self._worker,
                    DURABLE,
                    attempt,
                    None,
                    None,
                    "",
                    *_describe(error),
                    text=reason[:TEXT_MAX],
                )
            )

    # How

    def _wanted(self, job: str, failed: bool) -> bool:
        """Return whether the next record of *job* is kept, and count a failure of a job that is not sampled."""
        if is_sampled(job, self._limit):
            return True
        if not failed:
            return False
        if self._failures >= self._most_failures:
            self._left_out += 1
            return False
        self._failures += 1
        return True

    def _keep(self, record: Record) -> None:
        if len(self._records) < RECORDS + 2 * self._most_failures:
            self._records.append(record)
        else:
            self._left_out += 1


def _split(key: str) -> tuple[str, int]:
    """Return the job's id and the number of the hop of a hop's key; the id is empty if the key is not valid."""
    found = _KEY.fullmatch(key)
    return (found[1], int(found[2])) if found else ("", 0)


def _lane(durable: bool) -> str:
    return DURABLE if durable else INTERACTIVE


def _by_type(counts: dict[str, int]) -> dict[str, int]:
    """Return *counts*, which are by address or worker, by type."""
    types: dict[str, int] = {}
    for address, count in counts.items():
        kind = address.partition(":")[0]
        types[kind] = types.get(kind, 0) + count
    return types


def _trace(traceparent: str | None) -> str:
    return (traceparent or "")[:SHORT_MAX]


def _describe(error: BaseException | None) -> tuple[str, str]:
    return ("", "") if error is None else (type_name(error)[:SHORT_MAX], mask(text_of(error)[:TEXT_MAX]))

"""Records what a worker does with jobs, while a SystemManager wants to know. A state machine without I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final
from zlib import crc32

from txmicro.protocol.job import Job
from txmicro.protocol.outcomes import DEAD, FAILED, RETRIED
from txmicro.util.text import encodable

from . import records
from .records import DURABLE, INTERACTIVE, Record
from .rows import SHORT_MAX, TEXT_MAX

RECORDS: Final = 2_000
"""How many records of the sampled jobs one report contains at most."""

_EVERYTHING: Final = 2**32
_ERRORS: Final = frozenset((FAILED, RETRIED, DEAD))
_NO_ERROR: Final = ("", "")


def is_sampled(job: str, limit: int) -> bool:
    """Return whether the job of this id is among the share ``limit / 2**32`` of all jobs: the same at every worker."""
    return crc32(job.encode()) < limit


def limit_of(share: float) -> int:
    """Return the limit of :func:`is_sampled` for *share*, from 0 to 1."""
    return int(share * _EVERYTHING)


class Recorder:
    """The records of one worker since its last report, and its counts.

    :param worker: its id.
    :param time: returns the Unix time, in seconds.
    """

    def __init__(self, worker: str, time: Callable[[], float]) -> None:
        self._worker = worker
        self._time = time
        self._limit = _EVERYTHING
        self._most_failures = 0
        self._start()

    def _start(self) -> None:
        self.ran_jobs = self.left_out = 0
        self.sent_to: dict[str, int] = defaultdict(int)
        self.failed_from: dict[str, int] = defaultdict(int)
        self.lost_to: dict[str, int] = defaultdict(int)
        self.youngest: dict[str, float] = {}
        self.records: list[Record] = []
        self._failures = 0

    def sample(self, share: float, failures: int) -> None:
        """Record *share* of all jobs, and *failures* failures of others per report, from now on."""
        self._limit, self._most_failures = limit_of(share), failures

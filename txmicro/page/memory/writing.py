"""Writes records to the memory's file: one transaction per batch, and in it the deletion of what is too much.

All of it runs in one thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from txmicro.monitoring.grouping import group_id, normalize
from txmicro.monitoring.records import Record

from .life import Failing, Summary, arrange, decode, encode, summarize
from .schema import OTHERS, TICK
from .terms import terms_of

FAILED_SHARE: Final = 0.5
"""The share of the remembered jobs that may be failed ones. The others are those that were heard of last."""
MAX_GROUPS: Final = 1_000
"""How many groups of failures are told apart. Further ones are in one group per type and error, :data:`OTHERS`."""
STEP: Final = 2_000
"""The most jobs that are deleted in one transaction: about 50 ms."""

_SEPARATE: Final = 60.0  # seconds after which a job that fails is listed by that time
_COLUMNS: Final = (
    "number, id, failed, grp, dead, address, types, lane, outcome, error, message, sent, ended, seconds, hops, worker, "
    "sender, trace, steps"
)
_KNOWN: Final = f"SELECT {_COLUMNS} FROM jobs WHERE id IN (%s)"  # noqa: S608
_INSERT: Final = f"INSERT INTO jobs ({_COLUMNS}) VALUES ({', '.join('?' * (_COLUMNS.count(',') + 1))})"  # noqa: S608
_REPLACE: Final = f"REPLACE{_INSERT.removeprefix('INSERT')}"
_INDEX: Final = "INSERT INTO terms (rowid, words) VALUES (?, ?)"
_FORGET: Final = "INSERT INTO terms (terms, rowid, words) VALUES ('delete', ?, ?)"
_COUNT: Final = """UPDATE failures SET count = count + ?, dead = dead + ?, first = min(first, ?), last = max(last, ?),
    sample = CASE WHEN ? >= last THEN ? ELSE sample END WHERE id = ?"""
_OLDEST: Final = f"SELECT {_COLUMNS} FROM jobs WHERE failed = ? ORDER BY number LIMIT ?"  # noqa: S608


class JobRow(NamedTuple):
    """A row of ``jobs``."""

    number: int
    id: str
    failed: bool
    grp: str | None
    dead: int | None
    address: str
    types: str
    lane: str
    outcome: str
    error: str
    message: str
    sent: float
    ended: float | None
    seconds: float | None
    hops: int
    worker: str
    sender: str
    trace: str
    steps: str

    def terms(self) -> str:
        """Return the row's terms in the full-text index."""
        return terms_of(
            self.id, self.address, self.types.split(), self.outcome, self.error, self.message, self.grp
        )


class Counts(NamedTuple):
    """How many jobs are remembered, and how many of them have failed."""

    total: int
    failed: int


class Writer:
    """Writes to the file of *connection*.

    :param limit: how many jobs are remembered.
    :ivar counts: how many are, by the last transaction.
    :ivar failure_changes: a number that grows with each change of the groups of failures.
    """

    def __init__(self, connection: sqlite3.Connection, limit: int) -> None:
        self._connection = connection
        self._limit = limit
        by_failed = dict(connection.execute("SELECT failed, count(*) FROM jobs GROUP BY failed"))
        self.counts = self._counts = Counts(sum(by_failed.values()), by_failed.get(1, 0))
        (newest,) = connection.execute("SELECT max(number) FROM jobs").fetchone()
        self._newest: int = newest or 0
        self.failure_changes = 0

    @property
    def excess(self) -> bool:
        """True if more jobs are stored than shall be remembered: :meth:`write` deletes some."""
        return self.counts.total > self._limit

    def write(self, records: Sequence[Record], now: float) -> None:
        """Add cleaned *records*, then delete up to :data:`STEP` jobs of those that are too many.

        :param now: Unix seconds. :raise sqlite3.Error: nothing was written.
        """
        newest = self._newest
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._add(records, now)
            self._prune()
            self._connection.execute("COMMIT")
        except BaseException:
            self._newest, self._counts = newest, self.counts
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        self.counts = self._counts

    def _add(self, records: Iterable[Record], now: float) -> None:
        by_job: dict[str, list[Record]] = {}
        for record in records:
            by_job.setdefault(record.job, []).append(record)
        known = self._known(list(by_job))
        for job, steps in by_job.items():
            old = known.get(job)
            before = decode(job, old.steps) if old else []
            after = arrange([*before, *steps])
            if after != before:
                self._put(old, after, now)

    def _known(self, jobs: Sequence[str]) -> dict[str, JobRow]:
        known: dict[str, JobRow] = {}
        for start in range(0, len(jobs), 500):
            some = jobs[start : start + 500]
            found = self._connection.execute(_KNOWN % ", ".join("?" * len(some)), some)
            known.update((row.id, row) for row in map(JobRow._make, found))
        return known

    def _put(self, old: JobRow | None, steps: Sequence[Record], now: float) -> None:
        summary = summarize(steps)
        group = self._group(summary.failing) if summary.failing else None
        row = self._row(summary, group, encode(steps), self._number(old, group, now))
        if old is None:
            self._connection.execute(_INSERT, row)
            self._connection.execute(_INDEX, (row.number, row.terms()))
        else:
            self._replace(old, row)
        self._count(old, row, summary)

    def _number(self, old: JobRow | None, group: str | None, now: float) -> int:
        present = int(now / TICK)
        if old and (group is None or old.failed or old.number > present - _SEPARATE / TICK):
            return old.number
        self._newest = max(self._newest + 1, present)
        return self._newest

    def _row(self, summary: Summary, group: str | None, steps: str, number: int) -> JobRow:
        kind, error, message = summary.failing or ("", "", "")
        return JobRow(
            number,
            summary.id,
            group is not None,
            group,
            summary.dead,
            summary.address,
            " ".join(dict.fromkeys([*summary.types, kind] if kind else summary.types)),
            summary.lane,
            summary.outcome,
            error,
            message,
            summary.sent,
            summary.ended,
            summary.seconds,
            summary.hops,
            summary.worker,
            summary.sender,
            summary.trace,
            steps,
        )

    def _replace(self, old: JobRow, row: JobRow) -> None:
        self._connection.execute(_REPLACE, row)  # its id is unique: a row of another number is replaced, too
        before, after = old.terms(), row.terms()
        if before != after or old.number != row.number:
            self._connection.execute(_FORGET, (old.number, before))
            self._connection.execute(_INDEX, (row.number, after))

    # Groups of failures

    def _group(self, failing: Failing) -> str:
        """Return the id of the group that a failure belongs to. Create it if there is none."""
        message = normalize(failing.message)
        id = group_id(failing.type, failing.error, message)
        if self._has_group(id):
            return id
        (count,) = self._connection.execute("SELECT count(*) FROM failures").fetchone()
        kind, error = (failing.type, failing.error) if count < 2 * MAX_GROUPS else ("", "")
        if count >= MAX_GROUPS:
            message = OTHERS
            id = group_id(kind, error, message)
            if self._has_group(id):
                return id
        self._connection.execute(
            "INSERT INTO failures VALUES (?, ?, ?, ?, 0, 0, 9e999, 0, '')", (id, kind, error, message)
        )
        return id

    def _has_group(self, id: str) -> bool:
        return bool(self._connection.execute("SELECT 1 FROM failures WHERE id = ?", (id,)).fetchone())

    def _count(self, old: JobRow | None, row: JobRow, summary: Summary) -> None:
        was, had_died = (old.grp, old.dead is not None) if old else (None, False)
        total, failed = self._counts
        self._counts = Counts(total + (old is None), failed + row.failed - (old is not None and old.failed))
        self.failure_changes += row.grp is not None or was is not None
        if row.grp is not None:
            time = row.sent if summary.ended is None else summary.ended
            died = row.dead is not None
            change = (1, died) if row.grp != was else (0, died - had_died)
            self._connection.execute(_COUNT, (*change, time, time, time, row.id, row.grp))
        if was is not None and was != row.grp:
            self._leave(was, 1, had_died)

    def _leave(self, group: str, count: int, dead: int) -> None:
        self._connection.execute(
            "UPDATE failures SET count = count - ?, dead = dead - ? WHERE id = ?", (count, dead, group)
        )
        self._connection.execute("DELETE FROM failures WHERE id = ? AND count <= 0", (group,))

    # Deletion

    def _prune(self) -> None:
        """Delete the oldest jobs that are too many: failed ones only if they are more than their share."""
        excess = min(self._counts.total - self._limit, STEP)
        if excess <= 0:
            return
        lasting = int(self._limit * FAILED_SHARE)
        failed = min(excess, max(self._counts.failed - lasting, 0))
        failed = max(failed, excess - (self._counts.total - self._counts.failed))
        self._delete(False, excess - failed)
        self._delete(True, failed)

    def _delete(self, failed: bool, count: int) -> None:
        rows = list(map(JobRow._make, self._connection.execute(_OLDEST, (failed, count))))
        self._connection.executemany(_FORGET, [(row.number, row.terms()) for row in rows])
        self._connection.executemany("DELETE FROM jobs WHERE number = ?", [(row.number,) for row in rows])
        left: dict[str, list[int]] = {}
        for row in rows:
            if row.grp is not None:
                counts = left.setdefault(row.grp, [0, 0])
                counts[0] += 1
                counts[1] += row.dead is not None
        for group, (number, dead) in left.items():
            self._leave(group, number, dead)
        self.failure_changes += len(left)
        total, all_failed = self._counts
        self._counts = Counts(total - len(rows), all_failed - len(rows) * failed)

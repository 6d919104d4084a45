"""Records the jobs that are sent, their attempts and their effects, and compares them.

Every job has a token. Its sender records it in :class:`SentJobs`. The workers record each attempt and each effect in
the :class:`ExecutionLog`, a file that they share and that outlives them. :func:`evaluate` compares the two.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from txmicro.errors import JobError, TxmicroError
from txmicro.protocol.job import Job
from txmicro.sending.future import JobFuture

Step = tuple[str, int]
"""A token, and the number of a hop."""


class Attempt(NamedTuple):
    """One call of a handler. ``at`` is the machine's monotonic clock, the same in all processes."""

    token: str
    hop: int
    worker: str
    at: float


class ExecutionLog:
    """Records attempts and effects in a SQLite file.

    An effect is keyed by ``job.key``, as a store's should be: running the same hop twice has one effect. A job that
    was received under two keys has two effects.
    """

    def __init__(self, path: Path) -> None:
        self._file = sqlite3.connect(path, isolation_level=None, timeout=30)
        # The writes are not synchronous: processes are killed here, never the machine.
        self._file.executescript(
            """
            PRAGMA journal_mode = WAL;
            PRAGMA synchronous = OFF;
            CREATE TABLE IF NOT EXISTS attempts (token TEXT, hop INTEGER, worker TEXT, at REAL);
            CREATE TABLE IF NOT EXISTS effects (key TEXT PRIMARY KEY, token TEXT, hop INTEGER);
            CREATE TABLE IF NOT EXISTS sent (token TEXT PRIMARY KEY, at REAL, ended REAL, error TEXT);
            """
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def attempt(self, job: Job, worker: str, now: float) -> None:
        """Record that *worker* starts *job*."""
        row = job.data["token"], job.hop, worker, now
        self._file.execute("INSERT INTO attempts VALUES (?, ?, ?, ?)", row)

    def effect(self, job: Job) -> None:
        """Record the effect of *job*, unless it is recorded already."""
        row = job.key, job.data["token"], job.hop
        self._file.execute("INSERT OR IGNORE INTO effects VALUES (?, ?, ?)", row)

    def sends(self, token: str, now: float) -> None:
        """Record that a process other than the suite's sends a job."""
        self._file.execute("INSERT INTO sent VALUES (?, ?, NULL, NULL)", (token, now))

    def ends(self, token: str, now: float, error: str | None) -> None:
        """Record that such a job has ended."""
        self._file.execute("UPDATE sent SET ended = ?, error = ? WHERE token = ?", (now, error, token))

    def sent(self) -> list[SentJob]:
        """Return the jobs that other processes have sent."""
        rows = self._file.execute("SELECT * FROM sent")
        return [
            SentJob(token, False, 1, at, ended=ended, error=None if error is None else JobError(error))
            for token, at, ended, error in rows
        ]

    def attempts(self) -> list[Attempt]:
        """Return all attempts in the order of their times."""
        return [Attempt(*row) for row in self._file.execute("SELECT * FROM attempts ORDER BY at")]

    def effects(self) -> list[Step]:
        """Return a step for each effect. A step with two effects is in the list twice."""
        return list(self._file.execute("SELECT token, hop FROM effects"))

    def repeated(self) -> int:
        """Return how many hops a worker has started more than once."""
        twice = "SELECT 1 FROM attempts GROUP BY token, hop, worker HAVING count(*) > 1"
        return int(self._file.execute(f"SELECT count(*) FROM ({twice})").fetchone()[0])


@dataclass(slots=True, eq=False)
class SentJob:
    """A job, as its sender sees it.

    :ivar hops: the number of effects that it must have.
    :ivar sent: seconds of the monotonic clock.
    :ivar ended: likewise; None before its end.
    :ivar stored: whether the broker has confirmed it.
    :ivar kills_worker: whether its handler kills its worker, so that it has no effect.
    :ivar deleted: whether it may have been in a queue that the row deleted.
    """

    token: str
    durable: bool
    hops: int
    sent: float
    kills_worker: bool = False
    deleted: bool = False
    stored: bool = False
    ended: float | None = None
    error: TxmicroError | None = None
    wrong: bool = False

    @property
    def has_failed(self) -> bool:
        """Return whether it failed at its sender, and the broker had not stored it."""
        return self.error is not None and not self.stored and not self.kills_worker


class SentJobs:
    """Records the jobs that a row sends from the suite's process."""

    def __init__(self) -> None:
        self.entries: dict[str, SentJob] = {}
        self.open = 0

    def enter(self, entry: SentJob, future: JobFuture) -> None:
        """Add a job that was sent, and record its end."""
        self.entries[entry.token] = entry
        self.open += 1
        future.when_done().addCallbacks(self._done, self._failed, (entry,), {}, (entry,))
        if entry.durable:
            future.when_stored().addCallbacks(self._stored, lambda _: None, (entry,))

    def deleted(self) -> None:
        """Mark the durable jobs that have not ended: a queue that may have contained them was deleted."""
        for entry in self.entries.values():
            entry.deleted |= entry.durable and entry.ended is None

    def _stored(self, _: None, entry: SentJob) -> None:
        entry.stored = True

    def _done(self, result: object, entry: SentJob) -> None:
        self.open -= 1
        entry.ended = time.monotonic()
        entry.wrong = result != entry.token

    def _failed(self, failure: object, entry: SentJob) -> None:
        self.open -= 1
        entry.ended = time.monotonic()
        error = getattr(failure, "value", None)
        entry.error = error if isinstance(error, TxmicroError) else TxmicroError(repr(error))
        entry.wrong = not isinstance(error, JobError)


@dataclass
class Evaluation:
    """The result of :func:`evaluate`; the counts are of jobs.

    :ivar lost: accepted, and neither done nor failed at its sender; or stored, and not done.
    :ivar failed: failed at their senders.
    :ivar deleted: stored, and not done, because the row deleted their queue.
    :ivar unreported: durable and done, but the sender stopped waiting before the result arrived.
    :ivar duplicate_deliveries: attempts beyond the first of each hop.
    :ivar duplicate_effects: effects beyond the first of each hop.
    :ivar problems: descriptions of all other violations.
    """

    jobs: int = 0
    lost: int = 0
    failed: int = 0
    deleted: int = 0
    unreported: int = 0
    duplicate_deliveries: int = 0
    duplicate_effects: int = 0
    problems: list[str] = field(default_factory=list)


def evaluate(entries: Iterable[SentJob], attempts: Iterable[Step], effects: Iterable[Step]) -> Evaluation:
    """Compare the jobs that were sent with their attempts and effects."""
    known = {entry.token: entry for entry in entries}
    tried, had = Counter(attempts), Counter(effects)
    evaluation = Evaluation(jobs=len(known))
    for entry in known.values():
        _evaluate_one(entry, all(had[entry.token, hop] for hop in range(entry.hops)), evaluation)
    kills_worker = {token for token, entry in known.items() if entry.kills_worker}
    evaluation.duplicate_deliveries = sum(
        n - 1 for (token, _), n in tried.items() if token not in kills_worker
    )
    evaluation.duplicate_effects = sum(n - 1 for n in had.values())
    unknown = {token for token, _ in [*tried, *had]} - known.keys()
    if unknown:
        evaluation.problems.append(f"{len(unknown)} jobs ran that were never sent")
    return evaluation


def _evaluate_one(entry: SentJob, has_effect: bool, evaluation: Evaluation) -> None:
    if entry.wrong:
        evaluation.problems.append(f"{entry.token} ended with a wrong answer: {entry.error!r}")
    if entry.ended is None:
        evaluation.problems.append(f"the send of {entry.token} did not end")
    if entry.kills_worker:
        return
    if has_effect and entry.durable and entry.error is not None:
        evaluation.unreported += 1
    elif entry.has_failed:
        evaluation.failed += 1
    elif not has_effect and entry.deleted and entry.ended is not None:
        evaluation.deleted += 1
    elif not has_effect or entry.ended is None:
        evaluation.lost += 1

"""Who was promised what, and what came of it.

Every job has a token. Its sender notes it in the :class:`Ledger`; the workers note each attempt and each
effect in the :class:`Book`, a file that they share and that outlives them. :func:`judge` compares the two.
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
"""A token and a hop."""


class Attempt(NamedTuple):
    """A handler was called; ``at`` is the machine's monotonic clock, the same in all processes."""

    token: str
    hop: int
    worker: str
    at: float


class Book:
    """Attempts and effects, in a SQLite file.

    An effect is keyed by ``job.key``, as a store's should be: the same hop twice is one effect. A job that came
    under two keys leaves two.
    """

    def __init__(self, path: Path) -> None:
        self._file = sqlite3.connect(path, isolation_level=None, timeout=30)
        # Not synchronous: processes are killed here, never the machine.
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
        """*worker* begins with *job*."""
        row = job.data["token"], job.hop, worker, now
        self._file.execute("INSERT INTO attempts VALUES (?, ?, ?, ?)", row)

    def effect(self, job: Job) -> None:
        """*job* has its effect, unless it had it already."""
        row = job.key, job.data["token"], job.hop
        self._file.execute("INSERT OR IGNORE INTO effects VALUES (?, ?, ?)", row)

    def sends(self, token: str, now: float) -> None:
        """A process other than the suite's sends a job."""
        self._file.execute("INSERT INTO sent VALUES (?, ?, NULL, NULL)", (token, now))

    def ends(self, token: str, now: float, error: str | None) -> None:
        """Its job has ended."""
        self._file.execute("UPDATE sent SET ended = ?, error = ? WHERE token = ?", (now, error, token))

    def sent(self) -> list[Entry]:
        """The jobs that other processes have sent."""
        rows = self._file.execute("SELECT * FROM sent")
        return [
            Entry(token, False, 1, at, ended=ended, error=None if error is None else JobError(error))
            for token, at, ended, error in rows
        ]

    def attempts(self) -> list[Attempt]:
        """All attempts, in the order of their times."""
        return [Attempt(*row) for row in self._file.execute("SELECT * FROM attempts ORDER BY at")]

    def effects(self) -> list[Step]:
        """The steps that had their effect; twice where one had two."""
        return list(self._file.execute("SELECT token, hop FROM effects"))

    def repeated(self) -> int:
        """How many hops a worker began with although it had begun with them before."""
        twice = "SELECT 1 FROM attempts GROUP BY token, hop, worker HAVING count(*) > 1"
        return int(self._file.execute(f"SELECT count(*) FROM ({twice})").fetchone()[0])


@dataclass(slots=True, eq=False)
class Entry:
    """What the sender knows of a job.

    :ivar hops: how many effects it shall have.
    :ivar sent: when, in the monotonic clock's seconds; :ivar ended: likewise, None before.
    :ivar stored: the broker has confirmed it. :ivar doomed: its handler kills its worker, so it has no effect.
    :ivar deleted: it may have been in a queue that the row deleted.
    """

    token: str
    durable: bool
    hops: int
    sent: float
    doomed: bool = False
    deleted: bool = False
    stored: bool = False
    ended: float | None = None
    error: TxmicroError | None = None
    wrong: bool = False

    @property
    def has_failed(self) -> bool:
        """Whether its sender was told that it failed, and the broker did not have it."""
        return self.error is not None and not self.stored and not self.doomed


class Ledger:
    """The jobs of a row of the suite."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.open = 0

    def enter(self, entry: Entry, future: JobFuture) -> None:
        """A job was sent; write down what becomes of it."""
        self.entries[entry.token] = entry
        self.open += 1
        future.when_done().addCallbacks(self._done, self._failed, (entry,), {}, (entry,))
        if entry.durable:
            future.when_stored().addCallbacks(self._stored, lambda _: None, (entry,))

    def deleted(self) -> None:
        """A queue of durable jobs was deleted: those that are not done by now may have been in it."""
        for entry in self.entries.values():
            entry.deleted |= entry.durable and entry.ended is None

    def _stored(self, _: None, entry: Entry) -> None:
        entry.stored = True

    def _done(self, result: object, entry: Entry) -> None:
        self.open -= 1
        entry.ended = time.monotonic()
        entry.wrong = result != entry.token

    def _failed(self, failure: object, entry: Entry) -> None:
        self.open -= 1
        entry.ended = time.monotonic()
        error = getattr(failure, "value", None)
        entry.error = error if isinstance(error, TxmicroError) else TxmicroError(repr(error))
        entry.wrong = not isinstance(error, JobError)


@dataclass
class Verdict:
    """What :func:`judge` found; the counts are of jobs.

    :ivar lost: accepted, and neither done nor failed at its sender; or stored, and not done.
    :ivar failed: their senders were told that they failed.
    :ivar deleted: stored, and not done, as the row deleted the queue that they were in.
    :ivar unheard: durable, done, but the sender's wait had ended before it heard.
    :ivar duplicate_deliveries: attempts beyond the first of each hop.
    :ivar duplicate_effects: effects beyond the first of each hop.
    :ivar problems: what must not be at all, in words.
    """

    jobs: int = 0
    lost: int = 0
    failed: int = 0
    deleted: int = 0
    unheard: int = 0
    duplicate_deliveries: int = 0
    duplicate_effects: int = 0
    problems: list[str] = field(default_factory=list)


def judge(entries: Iterable[Entry], attempts: Iterable[Step], effects: Iterable[Step]) -> Verdict:
    """Compare what was promised with what was done."""
    known = {entry.token: entry for entry in entries}
    tried, had = Counter(attempts), Counter(effects)
    verdict = Verdict(jobs=len(known))
    for entry in known.values():
        _judge_one(entry, all(had[entry.token, hop] for hop in range(entry.hops)), verdict)
    doomed = {token for token, entry in known.items() if entry.doomed}
    verdict.duplicate_deliveries = sum(n - 1 for (token, _), n in tried.items() if token not in doomed)
    verdict.duplicate_effects = sum(n - 1 for n in had.values())
    strangers = {token for token, _ in [*tried, *had]} - known.keys()
    if strangers:
        verdict.problems.append(f"{len(strangers)} jobs ran that nobody sent")
    return verdict


def _judge_one(entry: Entry, has_effect: bool, verdict: Verdict) -> None:
    if entry.wrong:
        verdict.problems.append(f"{entry.token} ended with a wrong answer: {entry.error!r}")
    if entry.ended is None:
        verdict.problems.append(f"the send of {entry.token} did not end")
    if entry.doomed:
        return
    if has_effect and entry.durable and entry.error is not None:
        verdict.unheard += 1
    elif entry.has_failed:
        verdict.failed += 1
    elif not has_effect and entry.deleted and entry.ended is not None:
        verdict.deleted += 1
    elif not has_effect or entry.ended is None:
        verdict.lost += 1

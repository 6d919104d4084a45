"""The memory of jobs, for the thread of the reactor: a bounded queue of records, and queries.

One thread writes, in batches. Queries run in other threads, on connections of their own, and do not wait for it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from threading import Thread
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from txmicro.monitoring.records import Record
from txmicro.stores.errors import StoreError
from txmicro.stores.executor import ThreadExecutor
from txmicro.util.clock import Clock
from txmicro.util.once import Once
from txmicro.util.sweeper import Sweeper

from . import reading
from .cleaning import clean
from .files import MemoryFile, open_file
from .queries import DeadGroup, FailureQuery, JobQuery
from .schema import is_broken
from .writing import Writer

INTERVAL: Final = 2.0
"""Seconds between two transactions: most jobs are written once, although several processes report each of them."""
BATCH: Final = 5_000
"""The most records in a transaction."""
MAX_UNWRITTEN: Final = 50_000
"""How many records wait to be written. Further ones are dropped, and counted."""
RETRY: Final = 5.0
"""Seconds until a batch is written again that could not be written."""
MAX_IN_MEMORY: Final = 50_000
"""How many jobs are remembered without a file at most: about 40 MB."""
READERS: Final = 2
"""The most queries that run at once."""

Query = TypeVar("Query")
Answer = TypeVar("Answer")


class _DaemonThread(Thread):
    """A thread that does not keep a process from ending whose memory was not closed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "daemon": True})


class JobMemory:
    """The memory of jobs. It opens its file in a thread; queries wait for that.

    :param reactor: the reactor in whose thread it is used.
    :param path: its file; empty: it is in memory, and lost when the process ends.
    :param limit: how many jobs are remembered; in memory, at most :data:`MAX_IN_MEMORY`.
    :param clock: times the transactions; None: the reactor. :param unix_time: returns the Unix time, in seconds.
    :ivar dropped: how many records were dropped because too many waited, or could not be written.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        path: str,
        limit: int,
        *,
        clock: Clock | None = None,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        self.dropped = 0
        self._clock: Clock = clock or reactor
        self._path = path
        self._limit = limit
        self._time = unix_time
        self._pool = ThreadPool(0, 1 + READERS, "job memory")
        self._pool.threadFactory = _DaemonThread
        self._pool.start()
        self._writing = ThreadExecutor(reactor, self._pool, 1)
        self._reading = ThreadExecutor(reactor, self._pool, READERS)
        self._sweeper = Sweeper(self._clock, INTERVAL, self._sweep)
        self._unwritten: list[Record] = []
        self._turn = DeferredLock()
        self._blocked_until = 0.0
        self._damaged: list[str] = []
        self._failing = self._dropping = self._closed = False
        self._accepting = True
        self._file: MemoryFile
        self._writer: Writer | None = None
        self._ready: Once[None] = Once()
        self._writing.call(self._open).addCallbacks(self._opened, self._not_opened)

    def __len__(self) -> int:
        """Return how many jobs are remembered; 0 until the file is open."""
        return self._writer.counts.total if self._writer else 0

    @property
    def failure_changes(self) -> int:
        """A number that is another one when the groups of failures have changed."""
        return self._writer.failure_changes if self._writer else 0

    def add(self, records: Iterable[Record]) -> None:
        """Remember *records*: within about two seconds, queries find them. Never fails."""
        if not self._accepting:
            return
        self._unwritten.extend(records)
        excess = len(self._unwritten) - MAX_UNWRITTEN
        if excess > 0:
            del self._unwritten[MAX_UNWRITTEN:]
            self._drop(excess)
        self._sweeper.start()

    def jobs(self, query: JobQuery) -> Deferred[dict[str, Any]]:
        """Fire with ``{"next", "jobs"}``, a page of jobs, the newest first.

        Fails with :class:`~txmicro.errors.BadRequest` if ``after`` is not valid, or with
        :class:`~txmicro.stores.errors.StoreError`. Canceling it ends the wait.
        """
        return self._ask(reading.jobs, query)

    def job(self, id: str) -> Deferred[dict[str, Any] | None]:
        """Fire with the job and its ``steps`` in order; None: it is not known.

        Fails with :class:`~txmicro.stores.errors.StoreError`. Canceling it ends the wait.
        """
        return self._ask(reading.job, id)

    def failures(self, query: FailureQuery) -> Deferred[dict[str, Any]]:
        """Fire with ``{"groups"}``, groups of failures, the one that failed last first.

        Fails with :class:`~txmicro.stores.errors.StoreError`. Canceling it ends the wait.
        """
        return self._ask(reading.failures, query)

    def dead_letters(self, group: str) -> Deferred[DeadGroup | None]:
        """Fire with the dead letters of a group of failures, as far as known; None: the group is not known.

        Letters that were requeued or discarded without the manager's knowledge are among them.

        Fails with :class:`~txmicro.stores.errors.StoreError`. Canceling it ends the wait.
        """
        return self._ask(reading.dead_letters, group)

    def flush(self) -> Deferred[None]:
        """Write the records that wait. Fires with None when that was tried. Canceling it ends the wait."""
        return Deferred.fromCoroutine(self._flush())

    def close(self) -> Deferred[None]:
        """Write the records that wait, and close the file. Fires with None. Canceling it does not stop the closing."""
        if self._closed:
            return succeed(None)
        self._closed, self._accepting = True, False
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        self._sweeper.stop()
        with suppress(StoreError):  # it could not be opened
            await self._flush()
            await self._reading.when_idle()
            await self._writing.call(self._file.close)
        await self._writing.when_idle()
        self._pool.stop()

    def _drop(self, count: int) -> None:
        self.dropped += count
        if not self._dropping:
            self._dropping = True
            self.log.warn(
                "records of jobs are dropped: {count} wait to be written, and no more may wait; the page shows less "
                "until they are written (logged once)",
                count=MAX_UNWRITTEN,
            )

    # Writing

    def _sweep(self) -> bool:
        """Start to write; return whether to call again after :data:`INTERVAL`."""
        if self._writer is None:
            return True
        waiting = bool(self._unwritten) or self._writer.excess
        if waiting and not self._turn.locked and self._clock.seconds() >= self._blocked_until:
            self._turn.run(_started, self._write_all)
        return waiting

    async def _flush(self) -> None:
        await self._ready.wait()
        await self._turn.run(_started, self._write_all)

    async def _write_all(self) -> None:
        """Write what waits, and at least once, as a transaction deletes jobs that are too many."""
        while await self._write() and self._unwritten:
            pass

    async def _write(self) -> bool:
        """Write a batch. Return False if it could not be written, and has to be written later."""
        batch, self._unwritten = self._unwritten[:BATCH], self._unwritten[BATCH:]
        try:
            await self._writing.call(self._write_batch, batch)
        except sqlite3.Error as error:
            self._unwritten[:0] = batch
            return await self._cannot_write(error)
        except Exception:
            self.dropped += len(batch)
            self.log.failure("cannot remember {count} records of jobs; they are dropped", count=len(batch))
        if self._failing:
            self._failing = False
            self.log.info("{path}: the memory of jobs is written again", path=self._file.path)
        if not self._unwritten:
            self._dropping = False
        return True

    def _write_batch(self, batch: list[Record]) -> None:
        """Runs in the thread that writes, as :meth:`_open`."""
        now = self._time()
        assert self._writer  # noqa: S101
        self._writer.write(clean(batch, now), now)

    async def _cannot_write(self, error: sqlite3.Error) -> bool:
        """Use another file if this one is damaged. Return whether to write at once; else it is tried again later."""
        path, reason = self._file.path, str(error)
        if is_broken(error):
            self._damaged.append(path)
            old = self._file
            await self._writing.call(self._open)
            self.log.error(
                "{path}: the memory of jobs is damaged ({reason}); it is left as it is, and {used} is used instead",
                path=path,
                reason=reason,
                used=self._used,
            )
            await self._reading.when_idle()
            await self._writing.call(old.close)
            return True
        self._blocked_until = self._clock.seconds() + RETRY
        if not self._failing:
            self._failing = True
            self.log.error(
                "{path}: cannot write the memory of jobs ({reason}); trying again every {seconds:.0f} seconds "
                "(logged once)",
                path=path,
                reason=reason,
                seconds=RETRY,
            )
        return False

    # Opening

    def _open(self) -> None:
        file = open_file(self._path, self._damaged)
        limit = min(self._limit, MAX_IN_MEMORY) if file.in_memory else self._limit
        self._file, self._writer = file, Writer(file.connection, limit)

    def _opened(self, _: None) -> None:
        if self._file.problems:
            path, reason = self._file.problems[0]
            self.log.error(
                "{path}: cannot be the memory of jobs: {reason}; it is left as it is, and {used} is used instead; "
                "check page_data",
                path=path,
                reason=reason,
                used=self._used,
            )
        self._ready.happen(None)

    def _not_opened(self, failure: Failure) -> None:
        """Answer all queries with an error: not even a database in memory can be opened."""
        self.log.critical(
            "jobs are not remembered: {reason}; use a Python whose SQLite has FTS5", reason=str(failure.value)
        )
        self._accepting = False
        self._unwritten.clear()
        self._sweeper.stop()
        self._ready.happen(Failure(StoreError(f"the memory of jobs cannot be opened: {failure.value}")))

    @property
    def _used(self) -> str:
        if not self._file.in_memory:
            return self._file.path
        return f"the memory of this process, for up to {MAX_IN_MEMORY} jobs,"

    # Reading

    def _ask(self, function: Callable[[sqlite3.Connection, Query], Answer], query: Query) -> Deferred[Answer]:
        return Deferred.fromCoroutine(self._answer(function, query))

    async def _answer(self, function: Callable[[sqlite3.Connection, Query], Answer], query: Query) -> Answer:
        await self._ready.wait()
        if self._closed:
            raise StoreError("the memory of jobs is closed", retryable=True)
        executor = (
            self._writing if self._file.in_memory else self._reading
        )  # in memory there is one connection
        try:
            return await executor.call(_read, self._file, function, query)
        except sqlite3.Error as error:
            raise StoreError(
                f"{self._file.path}: cannot read the memory of jobs: {error}", retryable=True
            ) from error


def _started(function: Callable[[], Coroutine[Deferred[Any], Any, None]]) -> Deferred[None]:
    return Deferred.fromCoroutine(function())


def _read(file: MemoryFile, function: Callable[[sqlite3.Connection, Query], Answer], query: Query) -> Answer:
    if file.in_memory:
        return function(file.connection, query)
    connection = file.take_reader()
    try:
        return function(connection, query)
    finally:
        file.return_reader(connection)

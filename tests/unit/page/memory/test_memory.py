from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from tests.support.logs import listen, texts
from txmicro.errors import BadRequest
from txmicro.monitoring.records import RAN, SENT, Record
from txmicro.page.memory import files, memory, writing
from txmicro.page.memory.memory import INTERVAL, RETRY, JobMemory
from txmicro.page.memory.queries import DeadGroup, FailureQuery, JobQuery
from txmicro.protocol.outcomes import FAILED
from txmicro.stores import StoreError

reactor: Any = _reactor
NOW = 1795449588.0


def sent(number: int) -> Record:
    return Record(SENT, NOW, f"a-{number}", address="Invoices:*")


class MemoryTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        folder = Path(self.mktemp())
        folder.mkdir()
        self.path = str(folder / "jobs.db")
        self.events = listen(self)

    def make(self, path: str | None = None, limit: int = 1_000) -> JobMemory:
        made = JobMemory(
            reactor, self.path if path is None else path, limit, clock=self.clock, unix_time=lambda: NOW
        )
        self.addCleanup(made.close)
        return made

    async def ids(self, of: JobMemory, **conditions: Any) -> list[str]:
        page = await of.jobs(JobQuery(**conditions))
        return [job["id"] for job in page["jobs"]]

    def tick(self, of: JobMemory, seconds: float = INTERVAL) -> Deferred[None]:
        """Let *seconds* pass; fire when what is written then is written."""
        self.clock.advance(seconds)
        return of._turn.run(lambda: None)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the database, so that nobody else can write."""
        other = sqlite3.connect(self.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.close()

    async def test_records_are_written_after_a_second_in_one_transaction(self) -> None:
        made = self.make()
        await made.flush()
        changes = made._file.connection.total_changes
        made.add([sent(1)])
        made.add([sent(2)])
        await self.tick(made, INTERVAL / 2)
        self.assertEqual(made._file.connection.total_changes, changes)
        await self.tick(made, INTERVAL / 2)
        self.assertEqual(await self.ids(made), ["a-2", "a-1"])
        self.assertEqual(len(made), 2)
        await self.tick(made)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_records_that_come_before_the_file_is_open_are_written_later(self) -> None:
        made = self.make()
        made.add([sent(1)])
        self.clock.advance(INTERVAL)
        self.assertEqual(await self.ids(made), [])
        await self.tick(made)
        self.assertEqual(await self.ids(made), ["a-1"])

    async def test_what_it_answers(self) -> None:
        for path in (self.path, ""):
            made = self.make(path)
            made.add([Record(RAN, NOW, "a-1", outcome=FAILED, error="E", message="m", address="Invoices:*")])
            await made.flush()
            self.assertEqual(await self.ids(made, search="m"), ["a-1"])
            job = await made.job("a-1")
            self.assertEqual(job and [step["kind"] for step in job["steps"]], ["ran"])
            self.assertIsNone(await made.job("a-2"))
            [group] = (await made.failures(FailureQuery()))["groups"]
            self.assertEqual((group["count"], group["sample"], made.failure_changes), (1, "a-1", 1))
            self.assertEqual(await made.dead_letters(group["id"]), DeadGroup("Invoices", "E", "m", []))
            with self.assertRaises(BadRequest):
                await made.jobs(JobQuery(after="x"))

    async def test_jobs_are_remembered_over_a_restart(self) -> None:
        first = self.make()
        first.add([sent(1)])
        await first.close()
        second = self.make()
        self.assertEqual(await self.ids(second), ["a-1"])
        self.assertEqual(len(second), 1)

    async def test_a_query_does_not_wait_for_the_writer(self) -> None:
        made = self.make()
        made.add([sent(1)])
        await made.flush()
        made._file.connection.execute("BEGIN IMMEDIATE")
        self.assertEqual(await self.ids(made), ["a-1"])
        made._file.connection.execute("ROLLBACK")

    async def test_records_that_are_too_many_are_dropped_and_counted(self) -> None:
        self.patch(memory, "MAX_UNWRITTEN", 5)
        made = self.make()
        made.add(map(sent, range(4)))
        made.add(map(sent, range(4, 8)))
        made.add([sent(8)])
        self.assertEqual(made.dropped, 4)
        self.assertEqual(len(texts(self.events, "records of jobs are dropped")), 1)
        await made.flush()
        self.assertEqual(await self.ids(made), ["a-4", "a-3", "a-2", "a-1", "a-0"])
        made.add(map(sent, range(20, 27)))
        self.assertEqual(made.dropped, 6)
        self.assertEqual(len(texts(self.events, "records of jobs are dropped")), 2)

    async def test_large_numbers_of_records_are_written_in_several_transactions(self) -> None:
        self.patch(memory, "BATCH", 3)
        made = self.make()
        made.add(map(sent, range(8)))
        await made.flush()
        self.assertEqual(len(await self.ids(made)), 8)

    async def test_jobs_that_are_too_many_are_deleted_step_by_step(self) -> None:
        self.patch(writing, "STEP", 3)
        made = self.make(limit=5)
        made.add(map(sent, range(14)))
        lengths = []
        await made.flush()
        for _ in range(4):
            lengths.append(len(made))
            await self.tick(made)
        self.assertEqual(lengths, [11, 8, 5, 5])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_a_locked_file_is_tried_again(self) -> None:
        self.patch(files, "BUSY_TIMEOUT", 0.0)
        made = self.make()
        await made.flush()
        with self.locked():
            made.add([sent(1)])
            await self.tick(made)
            await self.tick(made)
            await self.tick(made, RETRY)
            await self.tick(made)
            self.assertEqual(await self.ids(made), [])
        made.add([sent(2)])
        await self.tick(made, RETRY)
        await self.tick(made)
        self.assertEqual(await self.ids(made), ["a-2", "a-1"])
        self.assertEqual(len(texts(self.events, "cannot write the memory of jobs (database is locked)")), 1)
        self.assertEqual(len(texts(self.events, "the memory of jobs is written again")), 1)
        self.assertEqual(made.dropped, 0)

    async def test_a_full_disk_is_tried_again(self) -> None:
        made = self.make()
        await made.flush()
        (pages,) = made._file.connection.execute("PRAGMA page_count").fetchone()
        made._file.connection.execute(f"PRAGMA max_page_count = {pages}")
        made.add(Record(SENT, NOW, f"a-{number}", text="x" * 2_000) for number in range(50))
        await self.tick(made)
        self.assertEqual(await self.ids(made), [])
        self.assertEqual(len(texts(self.events, "(database or disk is full)")), 1)
        made._file.connection.execute("PRAGMA max_page_count = 100000")
        await self.tick(made, RETRY)
        await self.tick(made)
        self.assertEqual(len(made), 50)

    async def test_a_file_that_is_damaged_while_it_is_used(self) -> None:
        made = self.make()
        made.add(map(sent, range(100)))
        await made.flush()
        made._file.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        made._file.connection.execute("PRAGMA cache_size = 0")
        with open(self.path, "r+b") as file:
            size = file.seek(0, 2)
            file.seek(4_096)
            file.write(b"\xff" * (size - 4_096))
        made.add([sent(200)])
        await self.tick(made)
        self.assertEqual(await self.ids(made), ["a-200"])
        self.assertEqual(made._file.path, f"{self.path}.1")
        self.assertEqual(len(texts(self.events, "the memory of jobs is damaged")), 1)

    async def test_a_file_that_cannot_be_used_is_named(self) -> None:
        Path(self.path).write_text("a letter\n" * 1_000)
        made = self.make()
        made.add([sent(1)])
        await made.flush()
        self.assertEqual(await self.ids(made), ["a-1"])
        [line] = texts(self.events, "cannot be the memory of jobs")
        self.assertIn(f"{self.path}.1 is used instead", line)

    async def test_without_a_usable_file_it_is_in_memory_and_small(self) -> None:
        self.patch(memory, "MAX_IN_MEMORY", 3)
        made = self.make(f"{self.path}/missing/jobs.db")
        made.add(map(sent, range(9)))
        await made.flush()
        self.assertEqual(await self.ids(made), ["a-8", "a-7", "a-6"])
        [line] = texts(self.events, "cannot be the memory of jobs")
        self.assertIn("the memory of this process, for up to 3 jobs, is used instead", line)

    async def test_records_that_cannot_be_stored_are_dropped(self) -> None:
        self.patch(memory, "clean", lambda records, now: records)
        made = self.make()
        made.add([sent(1)._replace(hop=2**70)])
        await made.flush()
        self.assertEqual(made.dropped, 1)
        self.assertEqual(len(self.flushLoggedErrors(OverflowError)), 1)
        made.add([sent(2)])
        await made.flush()
        self.assertEqual(await self.ids(made), ["a-2"])

    async def test_an_sqlite_that_lacks_the_index(self) -> None:
        def lacking(*_: Any) -> None:
            raise sqlite3.OperationalError("no such module: fts5")

        self.patch(memory, "open_file", lacking)
        made = self.make()
        made.add([sent(1)])
        with self.assertRaisesRegex(StoreError, "no such module: fts5"):
            await made.jobs(JobQuery())
        self.assertEqual(len(texts(self.events, "jobs are not remembered")), 1)
        made.add([sent(2)])
        self.assertEqual(len(made), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        await made.close()

    async def test_after_the_close_queries_fail_and_records_are_ignored(self) -> None:
        made = self.make()
        await made.close()
        await made.close()
        made.add([sent(1)])
        with self.assertRaisesRegex(StoreError, "is closed"):
            await made.jobs(JobQuery())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_an_error_of_sqlite_is_one_of_the_store(self) -> None:
        made = self.make()
        await made.flush()
        made._file.connection.execute("DROP TABLE jobs")
        with self.assertRaisesRegex(StoreError, "cannot read the memory of jobs: no such table"):
            await made.jobs(JobQuery())

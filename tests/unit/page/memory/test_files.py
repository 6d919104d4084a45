from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from txmicro.monitoring.records import SENT, Record
from txmicro.page.memory.files import IN_MEMORY, MAX_FILES, MemoryFile, open_file
from txmicro.page.memory.schema import VERSION
from txmicro.page.memory.writing import Writer


class OpenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.path = str(self.folder / "jobs #1?.db")

    def open(self, path: str | None = None) -> MemoryFile:
        file = open_file(self.path if path is None else path)
        self.addCleanup(file.close)
        return file

    def assert_beside(self, reason: str) -> None:
        """Check that the file is left as it is, and that another one is used, also the next time."""
        before = Path(self.path).read_bytes()
        for jobs in (0, 1):
            file = open_file(self.path)
            self.assertEqual(file.path, f"{self.path}.1")
            self.assertEqual([problem.path for problem in file.problems], [self.path])
            self.assertIn(reason, file.problems[0].reason)
            writer = Writer(file.connection, 10)
            self.assertEqual(writer.counts.total, jobs)
            writer.write([Record(SENT, 1.0, "a-1")], 1.0)
            file.close()
        self.assertEqual(Path(self.path).read_bytes(), before)

    def test_a_new_file_is_for_its_owner_alone(self) -> None:
        file = self.open()
        self.assertEqual((file.path, file.in_memory, file.problems), (self.path, False, []))
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)

    def test_what_was_written_is_there_again(self) -> None:
        file = open_file(self.path)
        Writer(file.connection, 10).write([Record(SENT, 1.0, "a-1")], 1.0)
        file.close()
        self.assertEqual(Writer(self.open().connection, 10).counts.total, 1)

    def test_readers_see_what_is_written_and_cannot_write(self) -> None:
        file = self.open()
        reader = file.take_reader()
        Writer(file.connection, 10).write([Record(SENT, 1.0, "a-1")], 1.0)
        self.assertEqual(reader.execute("SELECT id FROM jobs").fetchall(), [("a-1",)])
        with self.assertRaisesRegex(sqlite3.OperationalError, "readonly"):
            reader.execute("DELETE FROM jobs")
        file.return_reader(reader)
        self.assertIs(file.take_reader(), reader)
        file.return_reader(reader)

    def test_without_a_path_it_is_in_memory(self) -> None:
        file = self.open("")
        self.assertEqual((file.path, file.in_memory, file.problems), (IN_MEMORY, True, []))

    def test_a_file_that_is_not_of_sqlite(self) -> None:
        Path(self.path).write_text("a letter\n" * 1_000)
        self.assert_beside("it is damaged, or not a SQLite file")

    def test_a_file_whose_tables_are_damaged(self) -> None:
        file = open_file(self.path)
        file.close()
        content = bytearray(Path(self.path).read_bytes())
        content[100:4_000] = b"\xff" * 3_900
        Path(self.path).write_bytes(content)
        self.assert_beside("it is damaged")

    def test_a_file_of_another_program(self) -> None:
        with sqlite3.connect(self.path) as connection:
            connection.execute("CREATE TABLE jobs (id)")
        connection.close()
        self.assert_beside("it is a SQLite file of another program")

    def test_a_file_of_a_newer_version(self) -> None:
        file = open_file(self.path)
        file.connection.execute(f"PRAGMA user_version = {VERSION + 1}")
        file.close()
        self.assert_beside(f"it has version {VERSION + 1}, and this txmicro reads version {VERSION}")

    def test_a_file_that_another_process_uses(self) -> None:
        self.open()
        second = self.open()
        self.assertEqual(second.path, f"{self.path}.1")
        self.assertEqual([problem.reason for problem in second.problems], ["another process uses it"])

    def test_a_directory_that_does_not_exist(self) -> None:
        file = self.open(str(self.folder / "missing" / "jobs.db"))
        self.assertTrue(file.in_memory)
        self.assertEqual(len(file.problems), MAX_FILES)
        self.assertIn("No such file or directory", file.problems[0].reason)

    def test_no_descriptor_stays_open(self) -> None:
        Path(self.path).write_text("a letter\n" * 1_000)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            open_file(self.path).close()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

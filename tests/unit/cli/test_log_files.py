"""Log files that are read: rotated, compressed, damaged, unreadable."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from txmicro.cli.log_files import LogFileUnreadable, read_files


def line(second: int, text: str) -> str:
    return f'{{"time":"2026-11-24T16:00:{second:02}.000Z","level":"info","message":"{text}"}}\n'


class ReadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.path = str(self.folder / "my.log")
        self.warnings: list[str] = []

    def write(self, name: str, *lines: str) -> str:
        path = self.folder / name
        data = "".join(lines).encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return str(path)

    def read(self, *paths: str, since: float = 0.0) -> list[str]:
        return [entry.line.message for entry in read_files(paths, since, self.warnings.append)]

    def test_rotated_and_compressed_files_come_first(self) -> None:
        self.write("my.log", line(4, "last"))
        self.write("my.log.1", line(3, "third"))
        self.write("my.log.2.gz", line(2, "second"))
        self.write("my.log.10.gz", line(1, "first"))
        self.assertEqual(self.read(self.path), ["first", "second", "third", "last"])
        self.assertEqual(self.warnings, [])

    def test_several_logs_are_merged_by_time(self) -> None:
        one, two = (
            self.write("one", line(1, "a"), line(3, "c")),
            self.write("two", line(2, "b"), line(4, "d")),
        )
        self.assertEqual(self.read(one, two), ["a", "b", "c", "d"])

    def test_files_that_are_too_old_are_not_read(self) -> None:
        self.write("my.log", line(4, "last"))
        os.utime(self.write("my.log.1.gz", line(3, "third")), (1000, 1000))
        self.assertEqual(self.read(self.path, since=2000.0), ["last"])

    def test_a_file_that_does_not_exist(self) -> None:
        error = self.assertRaises(LogFileUnreadable, self.read, self.path)
        self.assertIn("my.log: cannot be read: No such file or directory; give the path", str(error))

    def test_a_folder(self) -> None:
        error = self.assertRaises(LogFileUnreadable, self.read, str(self.folder))
        self.assertIn("Is a directory", str(error))

    def test_the_rest_of_a_damaged_file_is_left_out(self) -> None:
        whole = gzip.compress("".join(line(1, f"a{n}") for n in range(1000)).encode())
        (self.folder / "my.log.1.gz").write_bytes(whole[: len(whole) // 2])
        (self.folder / "my.log.2.gz").write_bytes(b"no gzip at all")
        self.write("my.log", line(4, "last"))
        read = self.read(self.path)
        self.assertEqual(read[-1], "last")
        self.assertGreater(len(read), 1)
        self.assertEqual(len(self.warnings), 2)
        for warning in self.warnings:
            self.assertIn("its end cannot be read", warning)

    def test_lines_of_other_programs_are_counted(self) -> None:
        self.write("my.log", line(1, "a"), "nonsense\n", line(2, "b"))
        self.assertEqual(self.read(self.path), ["a", "b"])
        self.assertEqual(self.warnings, [f"{self.path}: 1 line is not a log line, and left out"])

    def test_bytes_that_are_not_utf_8(self) -> None:
        Path(self.path).write_bytes(line(1, "a").encode() + b"\xff\xfe\n" + line(2, "b").encode())
        self.assertEqual(self.read(self.path), ["a", "b"])

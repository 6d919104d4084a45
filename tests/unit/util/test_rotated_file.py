"""The rotation of files of lines: by size and day, limits, compression, and folders that cannot be written to."""

from __future__ import annotations

import gzip
import os
import shutil
import threading
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.logs import listen, texts
from txmicro.util.rotated_file import DAY, RETRY, RotatedFile, Rotation, rotated_files

LINE = b"0123456789\n"


class RotatedFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.path = self.folder / "my.log"
        self.now = 20_000.0 * DAY + 5

    def open(self, size: int = 1000, files: int = 3, **rotation: Any) -> RotatedFile:
        file = RotatedFile(str(self.path), Rotation(size, files, **rotation), lambda: self.now)
        self.addCleanup(file.close)
        file.start()
        return file

    def names(self) -> list[str]:
        return sorted(each.name for each in self.folder.iterdir())

    def compressed(self) -> None:
        """Wait until no thread compresses any more."""
        for thread in threading.enumerate():
            if thread.name == "txmicro log compression":
                thread.join()

    def test_a_file_never_exceeds_its_size_and_old_ones_are_deleted(self) -> None:
        file = self.open(size=25)
        for number in range(10):
            file.write([b"%09d\n" % number])
        self.assertEqual(self.names(), ["my.log", "my.log.1", "my.log.2", "my.log.3"])
        self.assertEqual((self.folder / "my.log").read_bytes(), b"000000008\n000000009\n")
        self.assertEqual((self.folder / "my.log.3").read_bytes(), b"000000002\n000000003\n")

    def test_many_lines_at_once_are_rotated_between_lines(self) -> None:
        self.open(size=25, files=9).write([LINE] * 7)
        sizes = [os.stat(each.path).st_size for each in rotated_files(str(self.path))]
        self.assertEqual((sizes, self.path.stat().st_size), ([22, 22, 22], 11))

    def test_a_line_that_is_larger_than_the_size_has_a_file_of_its_own(self) -> None:
        file = self.open(size=5)
        for _ in range(2):
            file.write([LINE])
        self.assertEqual(self.names(), ["my.log", "my.log.1"])

    def test_an_existing_file_is_appended_to_and_counted(self) -> None:
        self.path.write_bytes(LINE)
        self.open(size=25).write([LINE, LINE])
        self.assertEqual((self.folder / "my.log.1").read_bytes(), LINE * 2)

    def test_a_day_is_rotated_when_the_first_line_of_the_next_one_is_written(self) -> None:
        file = self.open(size=1, daily=True)
        file.write([LINE])
        file.write([LINE])
        self.now += DAY
        file.write([LINE])
        self.assertEqual(self.names(), ["my.log", "my.log.1"])
        self.assertEqual((self.folder / "my.log.1").read_bytes(), LINE * 2)

    def test_a_file_of_yesterday_is_rotated_after_a_restart(self) -> None:
        self.path.write_bytes(LINE)
        os.utime(self.path, (self.now - DAY, self.now - DAY))
        self.open(daily=True).write([b"new\n"])
        self.assertEqual(self.path.read_bytes(), b"new\n")

    def test_an_empty_day_makes_no_file(self) -> None:
        file = self.open(daily=True)
        self.now += 3 * DAY
        file.write([LINE])
        file.write([LINE])
        self.assertEqual(len(self.names()), 2)

    def test_the_total_size_is_limited_and_the_newest_files_stay(self) -> None:
        file = self.open(size=25, files=100, total=80)
        for number in range(20):
            file.write([b"%09d\n" % number])
        total = sum(each.stat().st_size for each in self.folder.iterdir())
        self.assertLessEqual(total, 80)
        self.assertEqual(self.names(), ["my.log", "my.log.1", "my.log.2", "my.log.3"][: len(self.names())])
        self.assertGreater(len(self.names()), 2)
        self.assertTrue(self.path.read_bytes().endswith(b"000000019\n"))

    def test_a_day_that_exceeds_the_total_size_is_rotated(self) -> None:
        file = self.open(daily=True, total=30)
        for _ in range(10):
            file.write([LINE])
        self.assertLessEqual(sum(each.stat().st_size for each in self.folder.iterdir()), 30)

    def test_it_is_rotated_on_request(self) -> None:
        file = self.open()
        file.write([LINE])
        file.rotate_soon()
        file.write([b""])
        self.assertEqual(self.names(), ["my.log", "my.log.1"])
        self.assertEqual(self.path.read_bytes(), b"")

    def test_a_file_that_another_program_has_moved_is_opened_again(self) -> None:
        file = self.open()
        file.write([LINE])
        self.path.rename(self.folder / "moved")
        file.rotate_soon()
        file.write([b"new\n"])
        self.assertEqual((self.path.read_bytes(), self.names()), (b"new\n", ["moved", "my.log"]))

    def test_rotated_files_are_compressed(self) -> None:
        file = self.open(size=25, compress=True)
        for number in range(6):
            file.write([b"%09d\n" % number])
            self.compressed()
        self.assertEqual(self.names(), ["my.log", "my.log.1.gz", "my.log.2.gz"])
        with gzip.open(self.folder / "my.log.2.gz") as oldest:
            self.assertEqual(oldest.read(), b"000000000\n000000001\n")

    def test_a_file_that_is_renamed_while_it_is_compressed_keeps_its_number(self) -> None:
        file = self.open(size=25, compress=True)
        copy = shutil.copyfileobj

        def slow(*args: Any) -> None:
            self.patch(shutil, "copyfileobj", copy)
            file._rename()  # as a rotation does
            copy(*args)

        file.write([LINE])
        self.patch(shutil, "copyfileobj", slow)
        file.rotate_soon()
        file.write([b"next\n"])
        self.compressed()
        self.assertEqual(self.names(), ["my.log.1.gz", "my.log.2.gz"])
        with gzip.open(self.folder / "my.log.2.gz") as oldest:
            self.assertEqual(oldest.read(), LINE)

    def test_what_a_killed_process_has_not_compressed_is_compressed_by_the_next_one(self) -> None:
        (self.folder / "my.log.1").write_bytes(LINE)
        (self.folder / "my.log.gz.part").write_bytes(b"half")
        self.open(compress=True)
        self.compressed()
        self.assertEqual(self.names(), ["my.log", "my.log.1.gz"])

    def test_other_files_are_left_alone(self) -> None:
        others = [
            "my.log.0",
            "my.log.01",
            "my.log.1.bz2",
            "my.log.1.gz.x",
            "my.log.old",
            "amy.log.1",
            "my.log1",
        ]
        for name in others:
            (self.folder / name).write_bytes(LINE)
        file = self.open(size=5, files=1)
        for _ in range(5):
            file.write([LINE])
        self.assertEqual(self.names(), sorted([*others, "my.log", "my.log.1"]))

    def test_a_rotation_that_fails_is_logged_once_and_tried_again_later(self) -> None:
        events = listen(self)
        file = self.open(size=15)
        blocking = self.folder / "my.log.1"
        blocking.mkdir()  # a file cannot be renamed to a folder that is not empty
        (blocking / "x").touch()
        self.patch(file, "_rotation", Rotation(15, 1))
        for _ in range(4):
            file.write([LINE])
        self.assertEqual(self.path.read_bytes(), LINE * 4)
        self.assertEqual(len(texts(events, "cannot rotate")), 1)
        (blocking / "x").unlink()
        blocking.rmdir()
        file.write([LINE])
        self.assertEqual(self.names(), ["my.log"])
        self.now += RETRY
        file.write([LINE])
        self.assertEqual(self.names(), ["my.log", "my.log.1"])

    def test_a_compression_that_fails_is_logged_and_the_file_stays(self) -> None:
        events = listen(self)
        file = self.open(size=15, compress=True)
        (self.folder / "my.log.gz.part").mkdir()
        file.write([LINE])
        file.write([LINE])
        self.compressed()
        self.assertEqual(len(texts(events, "cannot compress a rotated file")), 1)
        self.assertEqual((self.folder / "my.log.1").read_bytes(), LINE)

    def test_a_device_is_written_to_and_not_rotated(self) -> None:
        file = RotatedFile("/dev/null", Rotation(1, 1))
        self.addCleanup(file.close)
        for _ in range(3):
            file.write([LINE])

    def test_a_full_disk_raises(self) -> None:
        file = RotatedFile("/dev/full", Rotation(1, 1))
        self.addCleanup(file.close)
        self.assertRaises(OSError, file.write, [LINE])

    def test_a_line_that_was_written_in_part_is_ended_before_the_next_one(self) -> None:
        file = self.open()
        write, room = os.write, [4, 0]

        def short(number: int, data: Any) -> int:
            if not room:
                return write(number, data)
            left = room.pop(0)
            if not left:
                raise OSError(28, "No space left on device")
            return write(number, data[:left])

        self.patch(os, "write", short)
        self.assertRaises(OSError, file.write, [LINE])
        file.write([b"next\n"])
        self.assertEqual(self.path.read_bytes(), b"0123\nnext\n")

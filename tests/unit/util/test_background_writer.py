"""The thread that writes: order, losses, and outputs that fail or block."""

from __future__ import annotations

import errno
import threading
from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from txmicro.util import background_writer
from txmicro.util.background_writer import BLOCKED, LARGEST, BackgroundWriter


class BackgroundWriterTests(SynchronousTestCase):
    timeout = 30

    def setUp(self) -> None:
        self.written: list[str] = []
        self.lost: list[tuple[int, str]] = []
        self.problem: Exception | None = None
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.writer = BackgroundWriter(self.write, self.note, lambda *lost: self.lost.append(lost))

    def write(self, items: Sequence[str]) -> None:
        self.entered.set()
        self.open.wait()
        if self.problem is not None:
            raise self.problem
        self.written += items

    def note(self, number: int, reason: str) -> str:
        return f"{number} lost: {reason}"

    def block(self) -> None:
        """Have the thread write, and not return from that."""
        self.addCleanup(self.open.set)
        self.open.clear()
        self.entered.clear()
        self.writer.put("first", 5)
        self.entered.wait()

    def test_items_are_written_at_once_without_a_thread(self) -> None:
        self.writer.put("one", 3)
        self.assertEqual(self.written, ["one"])
        self.writer.stop()

    def test_all_items_are_written_in_their_order(self) -> None:
        self.writer.start()
        for number in range(5000):
            self.writer.put(str(number), 4)
        self.writer.stop()
        self.writer.put("last", 4)
        self.assertEqual(self.written, [*map(str, range(5000)), "last"])

    def test_several_threads_may_write(self) -> None:
        self.writer.start()

        def put() -> None:
            for _ in range(1000):
                self.writer.put("x", 1)

        threads = [threading.Thread(target=put) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.writer.stop()
        self.assertEqual(len(self.written), 4000)

    def test_the_caller_never_waits_for_the_output(self) -> None:
        self.writer.start()
        self.block()
        self.writer.put("second", 6)
        self.assertEqual(self.written, [])
        self.open.set()
        self.writer.stop()
        self.assertEqual(self.written, ["first", "second"])

    def test_what_waits_is_bounded_and_the_rest_is_counted(self) -> None:
        self.writer.start()
        self.block()
        self.writer.put("large", LARGEST)
        for _ in range(3):
            self.writer.put("more", 4)
        self.assertEqual(self.lost, [(1, BLOCKED)] * 3)
        self.open.set()
        self.writer.stop()
        self.assertEqual(self.written, ["first", f"3 lost: {BLOCKED}", "large"])

    def test_items_that_cannot_be_written_are_counted(self) -> None:
        self.problem = OSError(errno.ENOSPC, "No space left on device")
        self.writer.put("one", 3)
        self.writer.put("two", 3)
        self.problem = None
        self.writer.put("three", 5)
        self.writer.put("four", 4)
        self.assertEqual(self.written, ["2 lost: No space left on device", "three", "four"])
        self.assertEqual(self.lost, [(1, "No space left on device")] * 2)

    def test_a_closed_output_loses_only_lines(self) -> None:
        self.problem = ValueError("I/O operation on closed file.")
        self.writer.put("one", 3)
        self.assertEqual(self.lost, [(1, "I/O operation on closed file.")])

    def test_the_note_is_written_again_when_it_is_lost(self) -> None:
        self.problem = OSError(errno.EIO, "bad")
        for _ in range(3):
            self.writer.put("x", 1)
        self.problem = None
        self.writer.put("y", 1)
        self.assertEqual(self.written, ["3 lost: bad", "y"])

    def test_the_stop_does_not_wait_long_for_a_blocked_output(self) -> None:
        self.patch(background_writer, "PATIENCE", 0.01)
        self.writer.start()
        self.block()
        self.writer.put("second", 6)
        self.writer.stop()
        self.writer.put("third", 5)
        self.assertEqual(self.lost, [(1, BLOCKED)])

    def test_logging_that_a_line_is_lost_does_not_deadlock(self) -> None:
        def lost(number: int, reason: str) -> None:
            if not self.lost:
                self.lost.append((number, reason))
                writer.put("cannot write", 12)

        writer = BackgroundWriter(self.write, self.note, lost)
        self.problem = OSError(errno.ENOSPC, "full")
        writer.put("one", 3)
        self.problem = None
        writer.put("two", 3)
        self.assertEqual(self.written, ["2 lost: full", "two"])

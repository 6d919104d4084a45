"""Entries of systemd's journal, through a real datagram socket."""

from __future__ import annotations

import os
import socket
import struct
from typing import Any

from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from tests.support.logs import WORKER, event, failure, listen, texts
from txmicro.daemons import log_journal
from txmicro.daemons.log_journal import STREAM, TRACEBACK_MAX, is_journal, journal_sink


def parse(entry: bytes) -> dict[str, str]:
    """Return the fields of a datagram, by the native protocol."""
    fields = {}
    while entry:
        name, _, rest = entry.partition(b"\n")
        if b"=" in name:
            name, _, value = name.partition(b"=")
            entry = rest
        else:
            (size,) = struct.unpack("<Q", rest[:8])
            value, entry = rest[8 : 8 + size], rest[8 + size + 1 :]
            assert rest[8 + size : 8 + size + 1] == b"\n"
        fields[name.decode()] = value.decode()
    return fields


class JournalTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = os.path.relpath(self.mktemp() + ".s")
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        self.journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.journal.close)
        self.journal.bind(self.path)
        self.journal.setblocking(False)
        self.sink = journal_sink("a-daemon", self.path)

    def logged(self, message: str = "hello", **fields: Any) -> dict[str, str]:
        self.sink(event(message, **fields))
        return parse(self.journal.recv(1 << 20))

    def test_the_fields_of_a_line(self) -> None:
        trace = "4bf92f3577b34da6a3ce929d0e0e4736"
        fields: dict[str, Any] = {
            "job": "7c3e-1",
            "hop": 0,
            "traceparent": f"00-{trace}-00f067aa0ba902b7-01",
            "more": 3,
        }
        self.assertEqual(
            self.logged(worker=WORKER, log_level=LogLevel.warn, **fields),
            {
                "MESSAGE": "hello",
                "PRIORITY": "4",
                "SYSLOG_IDENTIFIER": "a-daemon",
                "TXMICRO_WORKER": WORKER,
                "TXMICRO_JOB": "7c3e-1",
                "TXMICRO_HOP": "0",
                "TXMICRO_TRACE": trace,
                "TXMICRO_COMPONENT": "bus",
                "TXMICRO_REPEATED": "3",
            },
        )

    def test_fields_without_a_value_are_left_out(self) -> None:
        self.assertEqual(
            sorted(self.logged()), ["MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "TXMICRO_COMPONENT"]
        )

    def test_each_level_is_a_priority(self) -> None:
        for level, priority in (("debug", 7), ("info", 6), ("warn", 4), ("error", 3), ("critical", 2)):
            self.assertEqual(
                self.logged(log_level=LogLevel.lookupByName(level))["PRIORITY"], str(priority), level
            )

    def test_a_message_cannot_forge_a_field(self) -> None:
        fields = self.logged("a\nPRIORITY=0\nTXMICRO_JOB=forged")
        self.assertEqual((fields["PRIORITY"], "TXMICRO_JOB" in fields), ("6", False))

    def test_a_traceback_is_part_of_the_message(self) -> None:
        fields = self.logged(log_failure=failure(ValueError("no\nPRIORITY=0\n☃")), log_level=LogLevel.error)
        first, *_, last = fields["MESSAGE"].split("\n")
        self.assertEqual((first, last), ("hello", "☃"))
        self.assertEqual((fields["PRIORITY"], fields["TXMICRO_ERROR"]), ("3", "ValueError"))

    def test_a_large_traceback_fits_into_a_datagram(self) -> None:
        error = failure(ValueError("\n".join("x" * 8000 for _ in range(100))))
        fields = self.logged("y" * 8000, log_failure=error)
        self.assertLessEqual(len(fields["MESSAGE"]), TRACEBACK_MAX + 8000)

    def test_without_a_journal_only_lines_are_lost(self) -> None:
        events = listen(self)
        os.unlink(self.path)
        self.sink(event())
        (said,) = texts(events, "cannot write the log to the journal")
        self.assertIn("its lines are dropped until that is possible", said)

    def test_a_stream_is_the_journal_if_systemd_says_so(self) -> None:
        self.patch(log_journal, "SOCKET", self.path)
        with open(os.devnull) as stream:
            status = os.fstat(stream.fileno())
            self.assertTrue(is_journal(stream, {STREAM: f"{status.st_dev}:{status.st_ino}"}))
            self.assertFalse(is_journal(stream, {STREAM: f"{status.st_dev}:1"}))
            self.assertFalse(is_journal(stream, {}))
            os.unlink(self.path)
            self.assertFalse(is_journal(stream, {STREAM: f"{status.st_dev}:{status.st_ino}"}))
        self.assertFalse(is_journal(stream, {STREAM: f"{status.st_dev}:{status.st_ino}"}))

"""Lines of logs: all forms in which they are written can be read again, and anything else is left out."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.logs import TIME, WORKER, event, failure
from txmicro.cli.log_entries import LogEntry, Selection, Unread, entries, from_fields, from_line
from txmicro.log import read
from txmicro.log_format import json_format, text_format
from txmicro.workers.logger import format_json, format_line

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def parse(text: str) -> tuple[list[LogEntry], int]:
    unread = Unread()
    return list(entries(text.splitlines(keepends=True), unread)), unread.lines


class FormTests(SynchronousTestCase):
    """Lines of the daemons and of the logger worker are read again as they were written."""

    def both(self, **fields: Any) -> tuple[LogEntry, LogEntry]:
        line = read(event(**fields))
        (text,), _ = parse(text_format(False)(line))
        (of_json,), _ = parse(json_format()(line))
        return text, of_json

    def test_a_line_of_a_job(self) -> None:
        for entry in self.both(worker=WORKER, job="7c3e-1", hop=2, traceparent=TRACEPARENT):
            line = entry.line
            self.assertEqual((line.time, line.level, line.worker), (TIME, "info", WORKER))
            self.assertEqual((line.job, line.hop, line.trace, line.message), ("7c3e-1", 2, TRACE, "hello"))

    def test_a_line_without_a_worker_or_a_job(self) -> None:
        text, of_json = self.both()
        for entry in (text, of_json):
            self.assertEqual((entry.line.worker, entry.line.job, entry.line.hop), ("", "", None))
        self.assertEqual(text.line.service, "Bus")
        self.assertEqual(
            (of_json.line.component, of_json.line.logger), ("bus", "txmicro.bus.connections.Bus")
        )
        self.assertGreater(of_json.pid, 0)

    def test_a_traceback(self) -> None:
        for entry in self.both(log_failure=failure(ValueError("no"))):
            self.assertEqual(entry.line.traceback[0], "Traceback (most recent call last):")
            self.assertEqual(entry.line.traceback[-1], "builtins.ValueError: no")

    def test_the_number_of_repeated_lines(self) -> None:
        _, of_json = self.both(more=7)
        self.assertEqual(of_json.line.repeated, 7)
        self.assertEqual(json.loads(of_json.json())["repeated"], 7)

    def test_lines_of_the_logger_worker(self) -> None:
        body = {
            "time": TIME,
            "level": "warn",
            "service": "WB",
            "worker": WORKER,
            "job": "7c3e-1",
            "message": "a b",
        }
        for form in (format_line, format_json):
            for job in ("7c3e-1", None):
                entry = from_line(form(body | {"job": job}).decode().rstrip("\n"))
                assert entry is not None
                line = entry.line
                self.assertEqual((line.time, line.level, line.worker), (TIME, "warn", WORKER))
                self.assertEqual((line.job, line.message), (job or "", "a b"))
        entry = from_line(format_line(body | {"worker": "", "service": "Bus"}).decode().rstrip("\n"))
        assert entry is not None
        self.assertEqual((entry.line.worker, entry.line.service), ("", "Bus"))

    def test_json_is_written_as_it_was_read(self) -> None:
        line = read(event(worker=WORKER, job="7c3e-1", hop=0, log_failure=failure(ValueError("no"))))
        text = json_format()(line).rstrip("\n")
        entry = from_line(text)
        assert entry is not None
        self.assertEqual(json.loads(entry.json()), json.loads(text))


class GarbageTests(SynchronousTestCase):
    def test_other_lines_are_counted(self) -> None:
        found, unread = parse('    not indented below a line\nnonsense\n\n{"time": 1}\n{]\n[1]\nnull\n')
        self.assertEqual((found, unread), ([], 6))

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        for entry in parse(text)[0]:
            json.loads(entry.json())

    @given(
        st.dictionaries(
            st.sampled_from(
                ("time", "level", "message", "worker", "job", "hop", "traceback", "pid", "repeated")
            ),
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()),
        )
    )
    def test_any_event(self, fields: dict[str, Any]) -> None:
        entry = from_fields(fields | {"level": "info"})
        if entry is not None:
            json.loads(entry.json())
            text_format(False)(entry.line)

    def test_control_characters_are_escaped(self) -> None:
        entry = from_fields(
            {"time": 1, "level": "info", "message": "\x1b[2K", "worker": "a\nb", "traceback": "x\x07"}
        )
        assert entry is not None
        self.assertEqual(
            (entry.line.message, entry.line.worker, entry.line.traceback), ("\\x1b[2K", "a\\nb", ["x\\x07"])
        )


class SelectionTests(SynchronousTestCase):
    entry = LogEntry(read(event("of 9f-2, too", worker=WORKER, job="7c3e-1")))

    def wants(self, **wanted: Any) -> bool:
        return Selection(**wanted).wants(self.entry)

    def test_everything(self) -> None:
        self.assertTrue(self.wants())

    def test_a_job_of_the_line_or_in_its_message(self) -> None:
        self.assertTrue(self.wants(job="7c3e-1"))
        self.assertTrue(self.wants(job="9f-2"))
        self.assertFalse(self.wants(job="7c3e"))

    def test_a_job_with_its_hop(self) -> None:
        entry = LogEntry(self.entry.line._replace(job="7c3e-1/0"))
        self.assertTrue(Selection(job="7c3e-1").wants(entry))

    def test_worker_and_type(self) -> None:
        self.assertTrue(self.wants(worker=WORKER, kind="WB"))
        self.assertFalse(self.wants(worker="WB:1"))
        self.assertFalse(self.wants(kind="W"))

    def test_level_and_time(self) -> None:
        self.assertTrue(self.wants(level="info", since=TIME))
        self.assertFalse(self.wants(level="warn"))
        self.assertFalse(self.wants(since=TIME + 0.001))

    def test_topics(self) -> None:
        self.assertEqual(Selection(level="error").topics, ["log.error.#", "log.critical.#"])
        self.assertEqual(Selection(level="critical", kind="WB").topics, ["log.critical.#"])

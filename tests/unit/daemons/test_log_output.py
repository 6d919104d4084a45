"""The observers that write log events."""

from __future__ import annotations

import json
import syslog
from datetime import datetime
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any, cast

from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, jsonFileLogObserver, textFileLogObserver
from twisted.python.log import textFromEventDict
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import provider

from tests.support.logs import TIME, WORKER, Named, Reactor, event, failure
from txmicro.config import Config
from txmicro.daemons.log_output import (
    ConfiguredObserver,
    console_sink,
    file_sink,
    sanitized,
    syslog_sink,
    use_color,
)
from txmicro.log import filtered
from txmicro.log_format import text_format
from txmicro.util.log_levels import LogLevels
from txmicro.util.rotated_file import RotatedFile

MOMENT = datetime.fromtimestamp(TIME).astimezone().isoformat(timespec="milliseconds")
SECRET = "amqp://me:secret@host"


class TimeTests(SynchronousTestCase):
    def test_the_time_has_milliseconds_and_an_offset(self) -> None:
        self.assertRegex(MOMENT, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.250[+-]\d\d:\d\d$")


class ConsoleTests(SynchronousTestCase):
    def written(self, *events: LogEvent, color: bool = False) -> str:
        stream = StringIO()
        observer = console_sink(stream, text_format(color))
        for each in events:
            observer(each)
        return stream.getvalue()

    def test_a_line_has_time_level_service_and_message(self) -> None:
        time = MOMENT
        self.assertEqual(
            self.written(event(worker=WORKER), event(log_level=LogLevel.critical)),
            f"{time} info     {WORKER} hello\n{time} critical Bus hello\n",
        )

    def test_color(self) -> None:
        for level, code in (
            ("debug", "2"),
            ("info", "32"),
            ("warn", "33"),
            ("error", "31"),
            ("critical", "1;31"),
        ):
            text = self.written(event("message\x1b[0m", log_level=LogLevel.levelWithName(level)), color=True)
            self.assertEqual(
                text,
                f"\x1b[2m{MOMENT}\x1b[0m \x1b[{code}m{level:8}\x1b[0m \x1b[36mBus\x1b[0m message\\x1b[0m\n",
            )

    def test_a_traceback_is_indented_below(self) -> None:
        lines = self.written(event(log_failure=failure(ValueError("no\nforged")))).splitlines()
        self.assertTrue(lines[0].endswith("Bus hello"))
        self.assertEqual(lines[1], "    Traceback (most recent call last):")
        self.assertEqual(lines[-1], "    forged")

    def test_characters_that_the_stream_cannot_encode_are_escaped(self) -> None:
        raw = BytesIO()
        stream = TextIOWrapper(raw, encoding="ascii")
        console_sink(stream, text_format(False))(event("☃"))
        self.assertTrue(raw.getvalue().endswith(b"Bus \\u2603\n"))

    def test_colors_are_used_on_terminals(self) -> None:
        class Terminal(StringIO):
            def isatty(self) -> bool:
                return True

        self.assertTrue(use_color(Terminal(), {}))
        self.assertTrue(use_color(Terminal(), {"NO_COLOR": ""}))
        self.assertFalse(use_color(Terminal(), {"NO_COLOR": "1"}))
        self.assertFalse(use_color(StringIO(), {}))

    def test_through_a_real_logger(self) -> None:
        stream = StringIO()
        Logger("txmicro.x.Thing", observer=cast(Any, console_sink(stream, text_format(False)))).warn(
            "{a} is {b}", a=1, b="two"
        )
        self.assertTrue(stream.getvalue().endswith(" warn     Thing 1 is two\n"))


class FilterTests(SynchronousTestCase):
    def levels(self, config: Config) -> list[str]:
        events: list[Any] = []
        levels = LogLevels(config.log_level, config.log_levels)
        observe = filtered(events.append, levels, manager_log=True, worker_log=True)
        for namespace in ("twisted.internet", "log_legacy", "someone.else"):
            for level in (LogLevel.debug, LogLevel.info, LogLevel.warn):
                observe({"log_namespace": namespace, "log_level": level})
        return [f"{event['log_namespace']} {event['log_level'].name}" for event in events]

    def test_twisteds_info_is_logged_at_level_debug_only(self) -> None:
        self.assertEqual(
            self.levels(Config()),
            ["twisted.internet warn", "log_legacy warn", "someone.else info", "someone.else warn"],
        )
        self.assertEqual(len(self.levels(Config(log_level="Debug"))), 9)

    def test_events_below_the_level_are_not_counted(self) -> None:
        events: list[LogEvent] = []
        reactor = Reactor()
        observe = ConfiguredObserver(Config(), LogLevels("error"), events.append, reactor)
        for _ in range(100):
            observe(event(log_level=LogLevel.warn, recurring=True))
        self.assertEqual(reactor.getDelayedCalls(), [])
        observe.close()
        self.assertEqual(events, [])


class FileTests(SynchronousTestCase):
    def test_files_are_rotated_and_old_ones_deleted(self) -> None:
        path = Path(self.mktemp())
        file = RotatedFile(str(path), Config(log_file_size=500, log_files=2).rotation)
        observe = file_sink(file, text_format(False))
        for number in range(100):
            observe(event(f"number {number} ☃"))
        file.close()
        names = sorted(each.name for each in path.parent.glob(f"{path.name}*"))
        self.assertEqual(names, [path.name, f"{path.name}.1", f"{path.name}.2"])
        self.assertLess(sum(each.stat().st_size for each in path.parent.glob(f"{path.name}*")), 2000)
        self.assertIn(
            "number 99 ☃\n", path.read_text("utf-8") + (path.parent / f"{path.name}.1").read_text("utf-8")
        )


class SyslogTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.said: list[tuple[int, str]] = []
        self.opened: list[str] = []
        self.patch(syslog, "openlog", self.opened.append)
        self.patch(syslog, "syslog", lambda *said: self.said.append(cast(Any, said)))
        self.observe = syslog_sink("a-daemon")

    def test_a_line_has_its_level_as_priority_and_no_time(self) -> None:
        self.observe(event(worker=WORKER))
        self.observe(event("bad\nforged", log_level=LogLevel.error))
        self.assertEqual(
            self.said, [(syslog.LOG_INFO, f"info {WORKER} hello"), (syslog.LOG_ERR, "error Bus bad\\nforged")]
        )
        self.assertEqual(self.opened, ["a-daemon"])

    def test_a_traceback_is_a_record_for_each_line(self) -> None:
        self.observe(event(log_failure=failure(ValueError(SECRET)), log_level=LogLevel.critical))
        self.assertEqual({priority for priority, _ in self.said}, {syslog.LOG_CRIT})
        self.assertEqual(self.said[1][1], "    Traceback (most recent call last):")
        self.assertEqual(self.said[-1][1], "    builtins.ValueError: amqp://me:***@host")


class SanitizedTests(SynchronousTestCase):
    """Observers that --logger names, which format events themselves."""

    def test_text_is_safe(self) -> None:
        stream = StringIO()
        error = failure(ValueError(SECRET))
        sanitized(textFileLogObserver(stream))(
            event(f"{SECRET}\n{{forged}}", worker=WORKER, log_failure=error, log_level=LogLevel.error)
        )
        first, *rest = stream.getvalue().splitlines()
        self.assertTrue(first.endswith(f"] {WORKER} amqp://me:***@host\\n{{forged}}"), first)
        self.assertEqual(rest[0], "\tTraceback (most recent call last):")
        self.assertNotIn("secret", stream.getvalue())

    def test_fields_stay(self) -> None:
        stream = StringIO()
        sanitized(jsonFileLogObserver(stream))(
            event(worker=WORKER, job="7c3e", url=SECRET, number=5, log_source=Named(WORKER))
        )
        written = json.loads(stream.getvalue().strip("\x1e\n"))
        self.assertEqual(
            [written[name] for name in ("worker", "job", "url", "number", "message")],
            [WORKER, "7c3e", "amqp://me:***@host", 5, "hello"],
        )

    def test_legacy_observers(self) -> None:
        texts: list[Any] = []
        sanitized(lambda event: texts.append(textFromEventDict(event)))(
            event(SECRET, log_failure=failure(ValueError(SECRET)))
        )
        (text,) = texts
        self.assertIn("ValueError", text)
        self.assertNotIn("secret", text)

    def test_modern_observers_get_the_failure(self) -> None:
        events: list[LogEvent] = []
        observer = provider(ILogObserver)(cast(Any, lambda event: events.append(event)))
        error = ValueError(SECRET)
        sanitized(observer)(event(log_failure=failure(error)))
        told = events[0]["log_failure"]
        self.assertIs(told.value, error)
        self.assertEqual(told.getErrorMessage(), "amqp://me:***@host")

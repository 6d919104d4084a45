"""The log of twistd, with the configuration applied."""

from __future__ import annotations

import sys
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.application.service import Application
from twisted.application.twist._options import TwistOptions
from twisted.logger import ILogObserver, LogEvent, LogLevel
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from tests.support.logs import Reactor, event
from tests.unit.daemons.test_tap import parse
from txmicro.config import Config
from txmicro.daemons import tap
from txmicro.util.log_levels import LogLevels

SECRET = "amqp://me:secret@host\nforged"
MASKED = "amqp://me:***@host\\nforged"

kept: list[LogEvent] = []


def keeping() -> Any:
    """Return a legacy observer, as --logger names one, that keeps its events."""
    return kept.append


class TwistdLogTests(SynchronousTestCase):
    """twistd logs to where its command line says, and only what the configuration says."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.stdout = StringIO()
        self.patch(sys, "stdout", self.stdout)
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        kept.clear()

    def log_to(self, *words: str) -> None:
        """Log an info and a warning with a password, as a daemon with the command line *words*."""
        options = parse(*words, "txmicro-broker")
        application: Any = Application("an-application")
        process = tap.broker.build(options.subOptions, self.reactor, {"TXMICRO_LOG_LEVEL": "warn"})
        process.setServiceParent(application)
        self.assertIsNone(options["logger"])
        observer = application.getComponent(ILogObserver)
        self.assertTrue(ILogObserver.providedBy(observer))
        for fields in ({"log_level": LogLevel.info}, {"log_level": LogLevel.warn}):
            observer(event(SECRET, **fields))

    def check(self, text: str) -> None:
        (line,) = text.splitlines()
        self.assertTrue(line.endswith(MASKED), line)

    def test_a_terminal(self) -> None:
        for words in ([], ["--logfile", "-"]):
            self.stdout.truncate(0)
            self.log_to("-n", *words)
            self.check(self.stdout.getvalue().lstrip("\0"))

    def test_it_knows_whether_stderr_is_on_its_terminal(self) -> None:
        for stdout, stderr in ((False, False), (True, False), (False, True), (True, True)):
            self.patch(self.stdout, "isatty", lambda answer=stdout: answer)
            self.patch(sys, "stderr", StringIO())
            self.patch(sys.stderr, "isatty", lambda answer=stderr: answer)
            log = parse("-n", "txmicro-broker").subOptions.log
            log.begin(Config(), LogLevels(), {}, self.reactor)
            self.assertEqual(log.on_terminal, stdout and stderr)

    def test_a_file_in_the_foreground_and_in_the_background(self) -> None:
        for number, words in enumerate((["-n"], [])):
            path = self.directory / f"log.{number}.txt"
            self.log_to(*words, "--logfile", str(path))
            self.check(path.read_text("utf-8"))
        self.assertEqual(self.stdout.getvalue(), "")

    def test_an_observer_of_the_users_own(self) -> None:
        self.log_to("-n", "--logger", "tests.unit.daemons.test_log_twistd.keeping")
        (only,) = kept
        self.assertEqual(only["log_text"], MASKED)

    def test_invalid_options(self) -> None:
        for words, reason in (
            (["--logger", "no.such.module"], "no.such.module cannot be imported: "),
            (["--logfile", "-"], "is stdout"),
        ):
            error = self.assertRaises(UsageError, parse, *words, "txmicro-broker")
            self.assertIn(reason, str(error))
        error = self.assertRaises(SystemExit, self.log_to, "--logfile", str(self.directory / "no" / "log"))
        self.assertIn("txmicro-broker: cannot write the log ", str(error))
        self.assertIn("No such file or directory; name another file as --logfile", str(error))

    def test_left_out_events_are_reported_when_the_reactor_stops(self) -> None:
        options = parse(
            "-n", "--logger", "tests.unit.daemons.test_log_twistd.keeping", "txmicro-broker"
        ).subOptions
        observer = options.log.begin(Config(), LogLevels(), {}, self.reactor)
        for _ in range(100):
            observer(event(recurring=True))
        for stop, *_ in self.reactor.triggers["after"]["shutdown"]:
            stop()
        self.assertIn("95 more like this", kept[-1]["log_text"])

    def test_twist(self) -> None:
        for form in ("text", "json"):
            options = TwistOptions()
            stream = StringIO()
            options["logFile"] = stream
            options.parseOptions(["--log-format", form, "txmicro-broker"])
            tap.broker.build(options.subOptions, self.reactor, {"TXMICRO_LOG_LEVEL": "warn"})
            observer = options["fileLogObserverFactory"](stream)
            observer(event(SECRET, log_level=LogLevel.info))
            self.assertEqual(stream.getvalue(), "")
            observer(event(SECRET, log_level=LogLevel.warn))
            self.assertIn("me:***@host", stream.getvalue())
            self.assertNotIn("secret", stream.getvalue())


class SyslogNameTests(SynchronousTestCase):
    def test_the_default_name_is_the_daemons(self) -> None:
        self.assertEqual(parse("--syslog", "txmicro-worker", "-t", "WA")["prefix"], "txmicro-worker-WA")
        self.assertEqual(parse("--syslog", "--prefix", "mine", "txmicro-manager")["prefix"], "mine")

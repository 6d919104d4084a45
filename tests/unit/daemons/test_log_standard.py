"""Lines of Python's logging in the log of the process."""

from __future__ import annotations

import logging
from typing import Any, cast

from twisted.logger import LogEvent, STDLibLogObserver, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.support.logs import WORKER, listen
from txmicro.daemons.log_standard import log_standard
from txmicro.log import read, with_running_job
from txmicro.protocol.job import Job
from txmicro.receiving import running_job
from txmicro.util.log_levels import LogLevels


class StandardLogTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = logging.getLogger()
        self.addCleanup(self.root.setLevel, self.root.level)
        self.levels = LogLevels()
        self.addCleanup(self.root.removeHandler, log_standard(self.levels))
        self.events = listen(self)
        self.log = logging.getLogger("shop.stock")

    def test_a_line_has_its_level_logger_and_text(self) -> None:
        self.log.warning("%s of %d", "row", 5)
        (line,) = map(read, self.events)
        self.assertEqual((line.level, line.component, line.logger), ("warn", "shop", "shop.stock"))
        self.assertEqual(line.message, "row of 5")

    def test_braces_in_a_text_are_kept(self) -> None:
        self.log.error('{"a": {forged}}')
        self.assertEqual(read(self.events[0]).message, '{"a": {forged}}')

    def test_all_levels(self) -> None:
        self.levels.set("*", "debug")
        for level in (5, 10, 20, 25, 30, 40, 50):
            self.log.log(level, "text")
        self.assertEqual(
            [read(event).level for event in self.events],
            ["debug", "info", "info", "warn", "error", "critical"],
        )

    def test_levels_that_nobody_wants_cost_no_event(self) -> None:
        self.log.debug("unwanted")
        self.assertEqual(self.events, [])
        self.levels.set("shop", "debug")
        self.log.debug("wanted")
        self.levels.set("shop", "")
        self.log.debug("unwanted again")
        self.assertEqual(len(self.events), 1)

    def test_an_exception_is_a_traceback(self) -> None:
        try:
            raise ValueError("no")
        except ValueError:
            self.log.exception("failed")
        line = read(self.events[0])
        self.assertEqual((line.error, line.traceback[-1]), ("ValueError", "builtins.ValueError: no"))
        self.assertIn("test_an_exception_is_a_traceback", "".join(line.traceback))
        self.flushLoggedErrors(ValueError)

    def test_a_line_of_a_handler_has_its_job(self) -> None:
        job = Job("7c3e-1", None, ["WB:*"], 0, "WA:1", "WA:1", 1.0)
        seen: list[LogEvent] = []
        observer: Any = lambda event: seen.append(with_running_job(event))  # noqa: E731
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        token = running_job.enter(WORKER, job)
        self.log.warning("within")
        running_job.leave(token)
        line = read(seen[0])
        self.assertEqual((line.worker, line.job, line.hop), (WORKER, "7c3e-1", 0))

    def test_its_own_worker_and_job(self) -> None:
        self.log.warning("text", extra={"worker": WORKER, "job": "7c3e-1"})
        line = read(self.events[0])
        self.assertEqual((line.worker, line.job), (WORKER, "7c3e-1"))

    def test_an_observer_that_logs_to_it_does_not_make_a_circle(self) -> None:
        observer = cast(Any, STDLibLogObserver())
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.log.warning("once")
        self.assertEqual(len(self.events), 1)

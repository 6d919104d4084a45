"""A handler that blocks the event loop is named in the log while it does."""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.support.programs import ProgramTestCase, reactor
from txmicro.daemons.blocked_reactor import ReactorMonitor, find_blocking
from txmicro.protocol.job import Job
from txmicro.testing import running
from txmicro.worker import Worker

MODULE = """
import time
from txmicro.worker import Worker

class Blocks(Worker):
    type = "WT"

    def opened(self):
        self.reactor.callLater(0.3, self.send, "WT:*")

    async def do_job(self, job):
        time.sleep(2)
"""


def job() -> Job:
    return Job("7c3e-1", None, ["WB:*"], 0, "WA:1", "WA:1", 100.0)


class Handler(Worker):
    """A worker whose handler returns what its own thread is doing."""

    type = "WB"
    wait: Deferred[None]

    async def do_job(self, job: Job) -> Any:
        await self.wait
        return await self.look()

    async def look(self) -> Any:
        """Be awaited, so that the handler is on the stack."""
        return find_blocking(sys._getframe())


def function(job: Job) -> Any:
    return find_blocking(sys._getframe())


class FindBlockingTests(SynchronousTestCase):
    def test_a_method_has_its_class_and_a_job(self) -> None:
        handler = Handler(id="WB:1")
        handler.wait = Deferred()
        waiting = Deferred.fromCoroutine(handler.do_job(job()))
        handler.wait.callback(None)  # the caller is on the stack, too
        found = self.successResultOf(waiting)
        self.assertEqual(
            (found.name, found.worker),
            ("tests.programs.test_blocked_reactor.Handler.do_job (job 7c3e-1)", "WB:1"),
        )
        self.assertRegex(found.place, r"test_blocked_reactor\.py:\d+$")

    def test_a_function_has_its_module(self) -> None:
        self.assertEqual(function(job()).name, "tests.programs.test_blocked_reactor.function (job 7c3e-1)")

    def test_without_a_job_it_is_the_innermost_function(self) -> None:
        found = find_blocking(sys._getframe())
        self.assertIn("FindBlockingTests.test_without_a_job_it_is_the_innermost_function", found.name)


class ReactorMonitorTests(TestCase):
    timeout = 60.0

    async def test_a_blocked_reactor_is_logged_repeatedly_until_it_ends(self) -> None:
        said: list[str] = []
        twice, over = threading.Event(), Deferred[str]()

        def hear(event: LogEvent) -> None:  # in the monitor's thread
            text = formatEvent(event) or ""
            if "Blocks.do_job (job" in text:
                said.append(text)
            if len(said) == 2:
                twice.set()
            if "running again" in text and said:
                reactor.callFromThread(end, text)

        def end(text: str) -> None:
            if not over.called:
                over.callback(text)

        observer: Any = hear

        class Blocks(Worker):
            type = "WB"

            def do_job(self, job: Job) -> bool:
                return twice.wait(50)

        lags: list[float] = []
        monitor = ReactorMonitor(reactor, lags.append, every=0.01, blocked=0.02, again=0.02)
        globalLogPublisher.addObserver(observer)
        try:
            async with running(Blocks()) as bus:
                monitor.start()
                self.assertTrue(await bus.send("WB:*", timeout=60))
                self.assertIn("it was blocked for", await over)
                self.assertIn("has been blocked for", said[0])
                self.assertGreater(max(lags), 0.02)
        finally:
            monitor.stop()
            globalLogPublisher.removeObserver(observer)


class DaemonTests(ProgramTestCase):
    async def test_a_daemon_names_the_handler(self) -> None:
        (self.directory / "slow.py").write_text(MODULE)
        config = {
            "services": ["broker", "WT"],
            "worker_types": {"WT": "slow:Blocks"},
            "broker_listen_port": 0,
        }
        (self.directory / "slow.json").write_text(json.dumps(config))
        daemon = self.twistd("txmicro --config slow.json")
        await daemon.says(
            r"warn +WT:\S+ the event loop has been blocked for 1\.\d s by slow\.Blocks\.do_job \(job "
        )
        self.assertNotIn("running again", daemon.output)
        await daemon.says("the event loop is running again; it was blocked for")
        await daemon.kill()

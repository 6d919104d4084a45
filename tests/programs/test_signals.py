"""The second signal to stop ends the process."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.support.logs import Reactor, listen, texts
from tests.support.programs import Program, ProgramTestCase, reactor
from txmicro.daemons.signals import ONE_REQUEST, SIGNALS, DebugSignal, SecondSignal
from txmicro.util.log_levels import LogLevels

MODULE = """
from twisted.internet.defer import Deferred
from txmicro.worker import Worker

class Slow(Worker):
    type = "WT"

    def opened(self):
        self.reactor.callLater(0.3, self.send, "WT:*")

    def do_job(self, job):
        self.log.warn("the job runs")
        return Deferred()
"""


class Stopping(Reactor):
    """A reactor that counts the calls of ``crash``."""

    crashes = 0

    def crash(self) -> None:
        """Count the call."""
        self.crashes += 1


class DebugSignalTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.addCleanup(signal.signal, signal.SIGUSR2, signal.getsignal(signal.SIGUSR2))
        self.levels = LogLevels("error")

    def test_all_lines_are_logged_from_one_signal_to_the_next(self) -> None:
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)
        DebugSignal(Reactor(), self.levels)
        events, wanted = listen(self), list[bool]()
        watch: Any = lambda event: wanted.append(  # noqa: E731
            self.levels.wants(event["log_level"].name, event["log_namespace"], "")
        )
        globalLogPublisher.addObserver(watch)
        self.addCleanup(globalLogPublisher.removeObserver, watch)
        for debug in (True, False):
            os.kill(os.getpid(), signal.SIGUSR2)
            self.assertIs(self.levels.debug, debug)
        first, second = texts(events, "SIGUSR2")
        self.assertIn("until the next SIGUSR2", first)
        self.assertIn("by their levels again", second)
        self.assertEqual(wanted, [True, True])

    def test_a_handler_of_the_programs_own_is_left_alone(self) -> None:
        own: Any = lambda *_: None  # noqa: E731
        signal.signal(signal.SIGUSR2, own)
        DebugSignal(Reactor(), self.levels)
        self.assertIs(signal.getsignal(signal.SIGUSR2), own)


class SecondSignalTests(SynchronousTestCase):
    def setUp(self) -> None:
        for number in SIGNALS:
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        self.reactor = Stopping()
        SecondSignal(self.reactor)
        self.before = [signal.getsignal(number) for number in SIGNALS]

    def stop(self) -> None:
        """Do what the reactor does at the first signal."""
        self.reactor.triggers["before"]["shutdown"][0][0]()

    def test_handlers_are_unchanged_before_the_first_signal(self) -> None:
        self.assertEqual([signal.getsignal(number) for number in SIGNALS], self.before)

    def test_the_second_signal_ends_the_reactor_and_the_third_has_the_default_handler(self) -> None:
        for number in SIGNALS:
            self.stop()
            self.reactor.advance(ONE_REQUEST)
            os.kill(os.getpid(), number)
            self.assertEqual([signal.getsignal(each) for each in SIGNALS], [signal.SIG_DFL, signal.SIG_DFL])
        self.assertEqual(self.reactor.crashes, 2)

    def test_two_signals_at_once_count_as_one(self) -> None:
        self.stop()
        for number in SIGNALS:
            os.kill(os.getpid(), number)
        self.assertEqual(self.reactor.crashes, 0)

    def test_ignored_signals_stay_ignored(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.stop()
        self.assertIs(signal.getsignal(signal.SIGINT), signal.SIG_IGN)


class DaemonTests(ProgramTestCase):
    async def start(self, **settings: str) -> Program:
        (self.directory / "slow.py").write_text(MODULE)
        config = {"services": ["broker", "WT"], "worker_types": {"WT": "slow:Slow"}, "broker_listen_port": 0}
        (self.directory / "slow.json").write_text(json.dumps(config))
        daemon = self.twistd("txmicro --config slow.json", **settings)
        await daemon.says("the job runs")
        return daemon

    async def test_the_first_signal_waits_for_jobs_and_the_second_ends_the_process(self) -> None:
        daemon = await self.start()
        ending: Any = daemon.signal(signal.SIGTERM)
        await daemon.says(r"stopping: waiting at most 30 s \(grace\) for 1 running job; a second signal")
        while not ending.called:  # signals in the first second count as the first one
            transport: Any = daemon.transport
            if transport.pid is not None:  # the process may have ended before its output
                os.kill(transport.pid, signal.SIGTERM)
            await deferLater(reactor, 0.1)
        self.assertEqual(await ending, -signal.SIGTERM)
        self.assertIn("ending the process at the second signal (SIGTERM)", daemon.output)
        self.assertNotIn("Traceback", daemon.output)

    async def test_the_end_of_grace_is_logged(self) -> None:
        daemon = await self.start(TXMICRO_GRACE="0.2")
        self.assertEqual(await daemon.signal(signal.SIGTERM), -signal.SIGTERM)
        self.assertIn("grace is over; jobs that still run are canceled: 1", daemon.output)
        self.assertNotIn("Traceback", daemon.output)

"""A process ends in time, whatever its handlers do."""

from __future__ import annotations

import json
import os
import signal
import threading

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tests.support.logs import Reactor
from tests.support.programs import Program, ProgramTestCase, reactor
from txmicro.daemons.signals import SIGNALS
from txmicro.daemons.stop_timeout import STATUS, StopTimeout

MODULE = """
import threading, time
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from txmicro.worker import Worker

class Slow(Worker):
    type = "WT"

    def opened(self):
        self.reactor.callLater(0.3, self.send, "WT:*")

class Deaf(Slow):
    async def do_job(self, job):
        self.log.warn("the job runs")
        while True:
            try:
                await Deferred()
            except Exception:
                pass

class Sleeps(Slow):
    threads = True

    def do_job(self, job):
        self.log.warn("the job runs")
        time.sleep(100)

class Blocks(Slow):
    def do_job(self, job):
        self.log.warn("the job runs")
        time.sleep(100)

class Others(Slow):
    def do_job(self, job):
        self.log.warn("the job runs")
        threading.Thread(target=time.sleep, args=(100,), name="somebody's own").start()
        return deferToThread(time.sleep, 100)
"""


class DaemonTests(ProgramTestCase):
    async def start(self, handler: str, **settings: str) -> Program:
        (self.directory / "slow.py").write_text(MODULE)
        config = {
            "services": ["broker", "WT"],
            "worker_types": {"WT": f"slow:{handler}"},
            "broker_listen_port": 0,
            "grace": 0.2,
        }
        (self.directory / "slow.json").write_text(json.dumps(config))
        daemon = self.twistd("txmicro --config slow.json", **settings)
        await daemon.says("the job runs")
        return daemon

    async def test_a_handler_that_ignores_its_cancellation(self) -> None:
        daemon = await self.start("Deaf")
        self.assertEqual(await daemon.signal(signal.SIGTERM), -signal.SIGTERM)
        self.assertRegex(daemon.output, r"slow\.Deaf\.do_job has not ended 2 s after it was canceled")
        self.assertRegex(daemon.output, r"has stopped")

    async def test_a_thread_that_sleeps(self) -> None:
        daemon = await self.start("Sleeps")
        self.assertEqual(await daemon.signal(signal.SIGTERM), -signal.SIGTERM)
        self.assertRegex(
            daemon.output, r"slow\.Sleeps\.do_job \(job \S+\) was canceled, but its thread goes on"
        )
        self.assertNotIn("ending the process", daemon.output)

    async def test_threads_of_other_code(self) -> None:
        """Twisted waits for the threads of its pool, and Python for all others."""
        daemon = await self.start("Others")
        self.assertEqual(await daemon.signal(signal.SIGTERM), STATUS)
        self.assertRegex(daemon.output, r"ending the process: it has not stopped within 10\.2 s")
        self.assertIn("somebody's own", daemon.output)

    async def test_a_function_that_blocks_the_reactor(self) -> None:
        daemon = await self.start("Blocks")
        self.assertEqual(await daemon.signal(signal.SIGTERM), STATUS)
        self.assertRegex(
            daemon.output,
            r"ending the process: .* the main thread is in slow\.Blocks\.do_job \(job \S+\), at",
        )


class StopTimeoutTests(TestCase):
    timeout = 30.0

    async def test_it_ends_the_process_after_the_shutdown_began(self) -> None:
        memory = Reactor()
        ended: Deferred[int] = Deferred()
        before = threading.enumerate()  # other tests may have left threads
        StopTimeout(memory, 0.0, lambda status: reactor.callFromThread(ended.callback, status))
        self.assertEqual([thread for thread in threading.enumerate() if thread not in before], [])
        for _ in range(2):
            memory.triggers["before"]["shutdown"][0][0]()
        self.assertEqual(await ended, STATUS)

    async def test_signals_are_handled_before_twisted_handles_them(self) -> None:
        memory = Reactor()
        heard: list[int] = []
        ended: Deferred[int] = Deferred()
        for number in SIGNALS:
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        StopTimeout(memory, 0.0, lambda status: reactor.callFromThread(ended.callback, status))
        memory.run()
        for _ in range(2):  # as timeout(1) does: to the process, and to its group
            os.kill(os.getpid(), signal.SIGTERM)
        self.assertEqual(await ended, STATUS)
        self.assertEqual(heard, [signal.SIGTERM])
        self.assertIs(signal.getsignal(signal.SIGINT), signal.SIG_IGN)

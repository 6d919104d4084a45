"""The services of a daemon's process: start, stop, exit status."""

from __future__ import annotations

import atexit
import os
import socket
import sys
from io import StringIO
from typing import Any

from twisted.application.service import Service
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.logger import Logger, LogLevel, capturedLogs, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import directlyProvides, providedBy

from txmicro.config import Config
from txmicro.daemons import process
from txmicro.daemons.exit import exit_with
from txmicro.daemons.process import Process
from txmicro.errors import ConfigError
from txmicro.manager import SystemManager
from txmicro.protocol.job import Forward, Job
from txmicro.util.sequential_services import SequentialServices
from txmicro.worker import Worker

FREE_PORTS: dict[str, Any] = {"broker_listen_port": 0, "metrics_port": 0}


class Reactor:
    """The reactor, whose ``stop`` only counts its calls."""

    def __init__(self) -> None:
        self.stops = 0
        directlyProvides(self, providedBy(_reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(_reactor, name)

    def stop(self) -> None:
        self.stops += 1


class Stopping(Service):
    """A service that records when it is to stop, and stops when the test fires ``stopped``."""

    def __init__(self, name: str, said: list[str]) -> None:
        self.called = name
        self.said = said
        self.stopped: Deferred[None] = Deferred()

    def stopService(self) -> Deferred[None]:
        self.said.append(self.called)
        return self.stopped


class SequentialServicesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.said: list[str] = []
        self.first, self.last = Stopping("first", self.said), Stopping("last", self.said)
        self.services = SequentialServices()
        self.first.setServiceParent(self.services)
        self.last.setServiceParent(self.services)
        self.services.startService()

    def test_services_stop_one_after_another_in_reverse_order(self) -> None:
        stopping = self.services.stopService()
        self.assertEqual(self.said, ["last"])
        self.last.stopped.callback(None)
        self.assertEqual(self.said, ["last", "first"])
        self.assertNoResult(stopping)
        self.first.stopped.callback(None)
        self.successResultOf(stopping)

    def test_others_stop_after_one_that_fails(self) -> None:
        stopping = self.services.stopService()
        self.last.stopped.errback(RuntimeError("stuck"))
        self.first.stopped.callback(None)
        self.successResultOf(stopping)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class ProcessTestCase(TestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.statuses: list[int] = []
        self.stderr = StringIO()
        self.patch(process, "exit_with", self.statuses.append)
        self.patch(sys, "__stderr__", self.stderr)

    def process(self, *members: Any, broker: bool = True, **keys: Any) -> Process:
        config = Config(**(FREE_PORTS | keys))
        return Process("a-process", self.reactor, config, members, broker=broker)


class RunningTests(ProcessTestCase):
    async def test_everything_runs_and_stops(self) -> None:
        manager, echo = SystemManager(), Worker("WE", do_job=lambda job: job.data)
        running = self.process(manager, echo)
        running.startService()
        try:
            await manager.when_ready()
            await echo.when_ready()
            self.assertEqual(await echo.send("WE:*", "hello"), "hello")
            self.assertEqual(running.bus.metrics_address, running.page.address)
            self.assertEqual(echo.announcement().metrics, running.page.address)
        finally:
            await running.stopService()
        self.assertEqual((self.reactor.stops, self.statuses, self.stderr.getvalue()), (0, [], ""))

    async def test_log_lines_are_published_by_a_worker_of_the_process(self) -> None:
        heard: Deferred[Any] = Deferred()
        talking, listening = Worker("WT"), Worker("WL")
        listening.subscribe("log.warn.process", lambda topic, body: heard.callback(body))
        running = self.process(SystemManager(), talking, listening)
        running.startService()
        try:
            await talking.when_ready()
            await listening.when_ready()
            Logger("a.part").warn("mind the gap")
            self.assertEqual((await heard)["message"], "mind the gap")
        finally:
            await running.stopService()
        Logger("a.part").warn("nobody publishes this")

    async def test_log_lines_of_a_process_without_workers_are_published_by_its_manager(self) -> None:
        heard: Deferred[Any] = Deferred()
        manager, listening = SystemManager(), Worker("WL")
        listening.subscribe("log.warn.process", lambda topic, body: heard.callback(body))
        running = self.process(manager)
        running.startService()
        assert running.broker is not None
        url = f"amqp://127.0.0.1:{running.broker.port}"
        other = self.process(listening, broker=False, broker_url=url, worker_metrics_port=0)
        await manager.when_ready()  # before the other process publishes lines, too
        other.startService()
        try:
            await listening.when_ready()
            other._publisher, publisher = None, other._publisher
            globalLogPublisher.removeObserver(publisher)
            Logger("a.part").warn("mind the gap")
            self.assertEqual((await heard)["message"], "mind the gap")
        finally:
            await other.stopService()
            await running.stopService()

    async def test_log_lines_of_threads_are_published(self) -> None:
        heard: Deferred[Any] = Deferred()
        talking, listening = Worker("WT"), Worker("WL")
        listening.subscribe("log.warn.process", lambda topic, body: heard.callback(body))
        running = self.process(SystemManager(), talking, listening)
        running.startService()
        try:
            await talking.when_ready()
            await listening.when_ready()
            await talking.in_thread(Logger("a.part").warn, "from a thread")
            self.assertEqual((await heard)["message"], "from a thread")
        finally:
            await running.stopService()

    async def test_only_a_broker(self) -> None:
        running = self.process()
        running.startService()
        assert running.broker is not None
        port = running.broker.port
        await running.stopService()
        with socket.socket() as probe:
            self.assertNotEqual(probe.connect_ex(("127.0.0.1", port)), 0)

    async def test_the_tls_files_are_those_of_the_configuration(self) -> None:
        for key in ("tls_ca_file", "tls_cert_file"):
            with self.assertRaises(ConfigError) as caught:
                self.process(Worker("WW"), broker=False, broker_url="amqps://a.host", **{key: "/missing.pem"})
            (problem,) = caught.exception.problems
            self.assertEqual(problem, "broker_url: cannot read /missing.pem: No such file or directory")

    async def test_stopping_before_the_start_has_finished_is_not_an_error(self) -> None:
        waiting = self.process(Worker("WW"), SystemManager(), broker=False, broker_url="amqp://127.0.0.1:1")
        waiting.startService()
        await waiting.stopService()
        self.assertEqual((self.reactor.stops, self.statuses, self.stderr.getvalue()), (0, [], ""))


class Unwilling(Worker):
    type = "WU"

    def opened(self) -> None:
        raise ConfigError(["rest_port: taken", "and more"])


class Puzzled(Worker):
    type = "WU"

    def opened(self) -> None:
        raise KeyError("dsn")


class CannotStartTests(ProcessTestCase):
    async def test_a_worker_that_cannot_start_ends_the_process(self) -> None:
        unwilling = Unwilling(id="WU:1")
        running = self.process(unwilling)
        running.startService()
        await unwilling.when_ready().addErrback(lambda failure: failure.trap(ConfigError))
        self.assertEqual((self.reactor.stops, self.statuses), (1, [1]))
        self.assertEqual(self.stderr.getvalue(), "a-process: WU:1 cannot start: rest_port: taken; and more\n")
        await running.stopService()

    async def test_an_unexpected_exception_has_its_type_and_is_logged_with_its_traceback(self) -> None:
        running = self.process(Puzzled(id="WU:1"))
        running.startService()
        await running.members[0].when_ready().addErrback(lambda failure: failure.trap(KeyError))
        self.assertEqual(self.stderr.getvalue(), "a-process: WU:1 cannot start: KeyError: 'dsn'\n")
        (failure,) = self.flushLoggedErrors(KeyError)
        self.assertIn("in opened", failure.getTraceback())
        await running.stopService()

    async def test_several_that_cannot_start_end_it_once(self) -> None:
        running = self.process(Unwilling(id="WU:1"), Unwilling(id="WU:2"))
        running.startService()
        for member in running.members:
            await member.when_ready().addErrback(lambda failure: failure.trap(ConfigError))
        self.assertEqual((self.reactor.stops, self.statuses), (1, [1]))
        self.assertEqual(len(self.stderr.getvalue().splitlines()), 2)
        await running.stopService()


class PortInUseTests(ProcessTestCase):
    def setUp(self) -> None:
        super().setUp()
        taken = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(taken.close)
        self.port = taken.getsockname()[1]

    def test_a_port_in_use_ends_the_process_at_once(self) -> None:
        running = self.process(SystemManager(), broker_listen_port=self.port)
        self.assertEqual(self.assertRaises(SystemExit, running.startService).code, 1)
        (line,) = self.stderr.getvalue().splitlines()
        self.assertIn(
            f"127.0.0.1:{self.port} (Address already in use); set another port as broker_listen_port", line
        )

    def test_a_port_in_use_is_logged(self) -> None:
        events: list[Any] = []
        publisher: Any = globalLogPublisher
        publisher.addObserver(events.append)
        self.addCleanup(publisher.removeObserver, events.append)
        config = Config(broker_listen_port=self.port)
        running = Process("a-process", self.reactor, config, [], broker=True)
        self.assertRaises(SystemExit, running.startService)
        critical = [event for event in events if event["log_level"] is LogLevel.critical]
        self.assertEqual(len(critical), 1)

    def test_the_reason_is_not_printed_again_to_the_terminal_of_the_log(self) -> None:
        config = Config(broker_listen_port=self.port)
        for on_terminal, lines in ((False, 1), (True, 0)):
            stderr = StringIO()
            self.patch(sys, "__stderr__", stderr)
            running = Process("a-process", self.reactor, config, [], broker=True, on_terminal=on_terminal)
            self.assertRaises(SystemExit, running.startService)
            self.assertEqual(len(stderr.getvalue().splitlines()), lines)


class ExitTests(SynchronousTestCase):
    def leave(self, stream: Any) -> list[Any]:
        """Run the exit handler, with *stream* as the process's output."""
        handlers: list[Any] = []
        left: list[Any] = []
        self.patch(atexit, "register", lambda *handler: handlers.append(handler))
        self.patch(os, "_exit", left.append)
        self.patch(sys, "__stdout__", stream)
        exit_with(1)
        self.assertEqual(left, [])
        for handler, *arguments in handlers:
            handler(*arguments)
        return left

    def test_the_status_is_replaced_at_the_very_end(self) -> None:
        self.assertEqual(self.leave(StringIO()), [1])

    def test_unread_output_does_not_change_the_status(self) -> None:
        closed = StringIO()
        closed.close()
        self.assertEqual(self.leave(closed), [1])
        self.assertEqual(self.leave(None), [1])


class StoppingTests(ProcessTestCase):
    async def test_the_log_says_which_jobs_it_waits_for(self) -> None:
        both_run: Deferred[None] = Deferred()
        jobs: list[Deferred[None]] = []

        def wait(_job: Job) -> Deferred[None]:
            jobs.append(Deferred())
            if len(jobs) == 2:
                both_run.callback(None)
            return jobs[-1]

        passing = Worker("WP", do_job=lambda job: Forward("WE:*"))
        ending = Worker("WE", do_job=wait)
        running = self.process(ending, passing, SystemManager())
        running.startService()
        await passing.when_ready()
        await ending.when_ready()
        for address in ("WE:*", "WP:*"):
            passing.send(address)
        await both_run
        with capturedLogs() as events:
            stopping = running.stopService()
        (said,) = [formatEvent(event) for event in events if "stopping" in formatEvent(event)]
        self.assertEqual(
            said,
            "stopping: waiting at most 30 s (grace) for 2 running jobs and 1 forwarded job; "
            "a second signal ends the process at once",
        )
        for job in jobs:
            job.callback(None)
        await stopping

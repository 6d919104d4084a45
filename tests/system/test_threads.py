"""Tests the threads of handlers: their number, and the end of calls that nobody waits for."""

from __future__ import annotations

import threading
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.threads import blockingCallFromThread
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from tests.support.programs import reactor
from txmicro.config import Config
from txmicro.errors import BusClosed, WorkerStopped, WrongThread
from txmicro.protocol.job import Job
from txmicro.runtime.threads import Threads
from txmicro.testing import running
from txmicro.worker import Worker


class Blocking:
    """A function that blocks until the test releases it. It counts its calls."""

    def __init__(self, case: TestCase) -> None:
        self.began: list[Any] = []
        self._go = threading.Event()
        self._waiting: list[tuple[int, Deferred[None]]] = []
        case.addCleanup(self.let_go)

    def __call__(self, value: Any) -> Any:
        reactor.callFromThread(self._begin, value)
        self._go.wait()
        return value

    def _begin(self, value: Any) -> None:
        self.began.append(value)
        for number, waiting in self._waiting:
            if len(self.began) == number:
                waiting.callback(None)

    def has_begun(self, number: int) -> Deferred[None]:
        """Fire when it was called *number* times."""
        waiting: Deferred[None] = Deferred()
        self._waiting.append((number, waiting))
        if len(self.began) >= number:
            waiting.callback(None)
        return waiting

    def let_go(self) -> None:
        """Let all calls return."""
        self._go.set()


class ThreadsTests(TestCase):
    timeout = 30.0

    def setUp(self) -> None:
        self.threads = Threads(reactor, 2, "WB:1")
        self.addCleanup(self.threads.close)
        self.block = Blocking(self)
        self.said: list[str] = []

        def observe(event: LogEvent) -> None:
            self.said.append(formatEvent(event) or "")

        hear: Any = observe
        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)

    async def test_it_fires_with_the_result_or_the_error_of_the_function(self) -> None:
        self.assertEqual(await self.threads.run(divmod, 7, 2), (3, 1))
        with self.assertRaises(ZeroDivisionError):
            await self.threads.run(divmod, 7, 0)

    async def test_a_function_that_returns_an_awaitable_fails(self) -> None:
        async def coroutine() -> None:
            """Never runs."""

        functions: list[Any] = [coroutine, Deferred]
        for function in functions:
            with self.assertRaisesRegex(
                TypeError, "returned a (coroutine|Deferred): it must return the result"
            ):
                await self.threads.run(function)

    async def test_the_threads_are_daemons_and_few(self) -> None:
        seen = [await self.threads.run(threading.current_thread) for _ in range(5)]
        self.assertEqual({(thread.name, thread.daemon) for thread in seen}, {("WB:1 thread 1", True)})

    async def test_as_many_calls_as_threads_run_and_the_others_follow_in_order(self) -> None:
        calls = [self.threads.run(self.block, number) for number in range(4)]
        await self.block.has_begun(2)
        await self.turn()
        self.assertEqual(sorted(self.block.began), [0, 1])
        self.block.let_go()
        self.assertEqual(await gatherResults(calls), [0, 1, 2, 3])

    async def test_twisteds_own_pool_is_not_used(self) -> None:
        calls = [self.threads.run(self.block, number) for number in range(2)]
        await self.block.has_begun(2)
        self.assertEqual(await reactor.resolve("localhost"), "127.0.0.1")
        self.block.let_go()
        await gatherResults(calls)

    async def test_another_thread_replaces_one_whose_call_was_canceled(self) -> None:
        calls = [self.threads.run(self.block, number) for number in range(2)]
        await self.block.has_begun(2)
        for call in calls:
            call.cancel()
            self.failureResultOf(call, CancelledError)
        calls = [self.threads.run(self.block, number) for number in (2, 3, 4)]
        await self.block.has_begun(4)
        self.assertIn(
            "tests.system.test_threads.Blocking was canceled, but its thread goes on", self.said[-1]
        )
        self.assertIn("(2 such threads; above 2", self.said[-1])
        self.block.let_go()
        self.assertEqual(await gatherResults(calls), [2, 3, 4])

    async def test_the_number_of_replacements_is_bounded(self) -> None:
        for number in range(4):
            call = self.threads.run(self.block, number)
            await self.block.has_begun(number + 1)
            call.cancel()
            self.failureResultOf(call, CancelledError)
        waits = self.threads.run(self.block, "waits")
        await self.turn()
        self.assertEqual(self.block.began, [0, 1, 2, 3])
        self.block.let_go()
        self.assertEqual(await waits, "waits")

    async def test_a_canceled_call_that_waits_never_runs(self) -> None:
        calls = [self.threads.run(self.block, number) for number in range(3)]
        calls[2].cancel()
        self.failureResultOf(calls[2], CancelledError)
        self.block.let_go()
        await gatherResults(calls[:2])
        await self.turn()
        self.assertEqual(sorted(self.block.began), [0, 1])
        self.assertEqual(self.said, [])

    async def test_closing_ends_each_thread_after_its_call(self) -> None:
        await self.threads.run(threading.current_thread)
        call = self.threads.run(self.block, 1)
        thread = await self.threads.run(threading.current_thread)
        await self.block.has_begun(1)
        self.threads.close()
        self.failureResultOf(self.threads.run(self.block, 2), WorkerStopped)
        thread.join(10)
        self.assertFalse(thread.is_alive())
        self.block.let_go()
        self.assertEqual(await call, 1)

    async def turn(self) -> None:
        """Run the calls that are scheduled in the reactor."""
        for _ in range(3):
            done: Deferred[None] = Deferred()
            reactor.callFromThread(done.callback, None)
            await done


class WorkerTests(TestCase):
    timeout = 30.0

    async def test_handlers_block_as_many_threads_as_the_capacity_and_no_others(self) -> None:
        """Twisted's own pool has ten threads, which also resolve host names."""
        block = Blocking(self)

        class Blocked(Worker):
            type = "WB"
            threads = True
            capacity = 12

            def do_job(self, job: Job) -> Any:
                return block(job.data)

        async with running(Blocked(), config=Config()) as bus:
            jobs = [bus.send("WB:*", number).when_done() for number in range(12)]
            await block.has_begun(12)
            self.assertEqual(await reactor.resolve("localhost"), "127.0.0.1")
            block.let_go()
            self.assertEqual(await gatherResults(jobs), list(range(12)))

    async def test_methods_that_are_not_thread_safe_say_what_to_call_instead(self) -> None:
        class Careless(Worker):
            type = "WB"
            threads = True

            def do_job(self, job: Job) -> Any:
                if job.data == "right":
                    return blockingCallFromThread(reactor, lambda: self.send("WC:*", 1).when_done())
                calls: dict[str, Any] = {
                    "send": lambda: self.send("WC:*"),
                    "publish": lambda: self.publish("a.topic"),
                    "subscribe": lambda: self.subscribe("a.topic", print),
                    "list_workers": self.list_workers,
                    "in_thread": lambda: self.in_thread(len, ()),
                }
                return {name: str(self.wrong(call)) for name, call in calls.items()}

            def wrong(self, call: Any) -> WrongThread | None:
                """Return the error that *call* raises."""
                try:
                    call()
                except WrongThread as error:
                    return error
                return None

        async with running(Careless(), Worker("WC", do_job=lambda job: job.data + 1)) as bus:
            for name, error in (await bus.send("WB:*")).items():
                self.assertRegex(error, f"^{name} was called from a thread.*blockingCallFromThread")
            self.assertEqual(await bus.send("WB:*", "right"), 2)

    def test_there_are_no_threads_before_the_start(self) -> None:
        with self.assertRaisesRegex(BusClosed, "WB is not running"):
            Worker("WB").in_thread(len, ())

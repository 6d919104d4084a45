from __future__ import annotations

import threading
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import TestCase

from txmicro.stores.executor import ThreadExecutor

reactor: Any = _reactor


class ThreadExecutorTests(TestCase):
    def setUp(self) -> None:
        self.pool = ThreadPool(0, 4)
        self.pool.start()
        self.addCleanup(self.pool.stop)

    def executor(self, max_threads: int, grow_after: float = 0.0) -> ThreadExecutor:
        return ThreadExecutor(reactor, self.pool, max_threads, grow_after)

    async def test_a_call_fires_with_the_outcome_of_its_function(self) -> None:
        executor = self.executor(2)
        self.assertEqual(
            await gatherResults([executor.call(divmod, n, 7) for n in range(50)]),
            [divmod(n, 7) for n in range(50)],
        )
        with self.assertRaises(ZeroDivisionError):
            await executor.call(divmod, 1, 0)
        with self.assertRaises(SystemExit):
            await executor.call(exit)

    async def test_results_are_delivered_in_the_reactors_thread(self) -> None:
        here = threading.get_ident()
        there = await self.executor(1).call(threading.get_ident)
        self.assertNotEqual(there, here)
        self.assertEqual(threading.get_ident(), here)

    async def test_no_more_threads_are_busy_than_allowed(self) -> None:
        executor, free, met = self.executor(2), threading.Semaphore(2), threading.Barrier(2, timeout=10)
        failed: list[int] = []

        def call(number: int) -> None:
            if not free.acquire(blocking=False):
                failed.append(number)
            if number < 2:
                met.wait()  # two are busy at once
            free.release()

        await gatherResults([executor.call(call, number) for number in range(100)])
        self.assertEqual(failed, [])

    async def test_a_call_that_is_canceled_before_it_begins_does_not_begin(self) -> None:
        executor, door = self.executor(1), threading.Event()
        begun: list[str] = []
        first = executor.call(door.wait, 10)
        second = executor.call(begun.append, "second")
        second.cancel()
        door.set()
        await first
        await executor.when_idle()
        self.failureResultOf(second, CancelledError)
        self.assertEqual(begun, [])

    async def test_a_call_that_is_canceled_while_it_runs_runs_to_its_end(self) -> None:
        executor, door = self.executor(1), threading.Event()
        first = executor.call(door.wait, 10)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        idle = executor.when_idle()
        self.assertNoResult(idle)
        door.set()
        await idle

    async def test_it_is_idle_when_all_calls_have_ended(self) -> None:
        executor = self.executor(2)
        await executor.when_idle()
        ended: list[int] = []
        executor.call(ended.append, 1)
        executor.call(ended.append, 2)
        await executor.when_idle()
        self.assertEqual(sorted(ended), [1, 2])

    async def test_short_calls_stay_in_one_thread(self) -> None:
        executor = self.executor(4, grow_after=60.0)
        threads = await gatherResults([executor.call(threading.get_ident) for _ in range(100)])
        self.assertEqual(len(set(threads)), 1)
        await executor.when_idle()

    async def test_a_thread_is_added_when_calls_wait_too_long(self) -> None:
        executor, door = self.executor(2, grow_after=0.001), threading.Event()
        slow = executor.call(door.wait, 10)
        await executor.call(door.set)
        self.assertTrue(await slow)
        await executor.when_idle()

    async def test_results_are_delivered_while_the_thread_makes_the_next_call(self) -> None:
        executor, door = self.executor(1, grow_after=0.001), threading.Event()
        first, second = executor.call(threading.get_ident), executor.call(door.wait, 10)
        await first
        door.set()
        self.assertTrue(await second)
        await executor.when_idle()

    async def test_many_calls_are_all_made_once(self) -> None:
        executor = self.executor(4)
        made: list[tuple[int, int]] = []

        async def client(number: int) -> None:
            for turn in range(100):
                await executor.call(made.append, (number, turn))

        await gatherResults([Deferred.fromCoroutine(client(number)) for number in range(20)])
        self.assertEqual(len(made), 2000)
        self.assertEqual(len(set(made)), 2000)

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SynchronousTestCase, TestCase

from txmicro.errors import JobError
from txmicro.stores import StoreError, StoreTimeout
from txmicro.stores.deadlines import TICK, Deadlines
from txmicro.stores.lanes import Lanes
from txmicro.stores.together import MOST, Together, Waiting
from txmicro.stores.words import MAX_LENGTH, entries, words_of

reactor: Any = _reactor


class DeadlinesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock)

    def keep(self, seconds: float) -> Deferred[Any]:
        return self.deadlines.keep(Deferred(), self.clock.seconds() + seconds)

    def test_what_is_not_done_in_time_fails_then_and_not_before(self) -> None:
        soon, later = self.keep(1), self.keep(2)
        self.clock.pump([TICK] * int(1 / TICK))
        self.assertNoResult(soon)
        self.clock.pump([TICK] * 2)
        self.failureResultOf(soon, StoreTimeout)
        self.assertNoResult(later)
        self.clock.pump([TICK] * int(1 / TICK))
        self.failureResultOf(later, StoreTimeout)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_is_done_in_time_keeps_its_outcome(self) -> None:
        good, bad, cancelled = self.keep(1), self.keep(1), self.keep(1)
        good.callback("done")
        bad.errback(StoreError("no"))
        cancelled.cancel()
        self.clock.advance(2)
        self.assertEqual(self.successResultOf(good), "done")
        self.assertNotIsInstance(self.failureResultOf(bad, StoreError).value, StoreTimeout)
        self.failureResultOf(cancelled, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.deadlines._ticks, {})

    def test_what_is_done_at_once_is_not_kept(self) -> None:
        done: Deferred[str] = Deferred()
        done.callback("done")
        self.assertEqual(self.successResultOf(self.deadlines.keep(done, 1)), "done")
        self.assertEqual(self.deadlines._ticks, {})
        self.clock.advance(TICK)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_many_have_one_timer(self) -> None:
        waits = [self.keep(number / 100) for number in range(100)]
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(2)
        for wait in waits:
            self.failureResultOf(wait, StoreTimeout)

    def test_one_that_ends_another_ends_it(self) -> None:
        first, second = self.keep(1), self.keep(1)
        first.addErrback(lambda _: second.callback("done"))
        self.clock.advance(2)
        self.assertEqual(self.successResultOf(second), "done")
        self.successResultOf(first)

    def test_nothing_is_looked_at_after_the_stop(self) -> None:
        self.deadlines.stop()
        wait = self.keep(1)
        self.deadlines.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        wait.callback(None)

    def test_it_may_be_stopped_by_one_that_ends(self) -> None:
        wait = self.keep(1).addErrback(lambda _: self.deadlines.stop())
        self.clock.advance(2)
        self.successResultOf(wait)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class TogetherTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.batches: list[tuple[Sequence[Waiting], Deferred[list[Any]]]] = []
        self.together = self.make(1)

    def make(self, batches: int) -> Together[Waiting]:
        return Together(self.clock, self.do, lambda error: StoreError(str(error)), batches)

    def do(self, things: Sequence[Waiting]) -> Deferred[list[Any]]:
        self.batches.append((things, Deferred()))
        return self.batches[-1][1]

    def add(self, number: int, deadline: float = 10) -> list[Waiting]:
        things = [Waiting(deadline) for _ in range(number)]
        for thing in things:
            self.together.add(thing)
        return things

    def test_what_comes_in_the_meantime_is_done_together(self) -> None:
        things = self.add(3)
        self.assertEqual([batch for batch, _ in self.batches], [things[:1]])
        self.batches[0][1].callback(["first"])
        self.assertEqual([batch for batch, _ in self.batches], [things[:1], things[1:]])
        self.batches[1][1].callback(["second", StoreError("third")])
        self.assertEqual([self.successResultOf(thing.done) for thing in things[:2]], ["first", "second"])
        self.failureResultOf(things[2].done, StoreError)

    def test_no_batch_is_too_large(self) -> None:
        self.add(MOST + 2)
        self.batches[0][1].callback([None])
        self.batches[1][1].callback([None] * MOST)
        self.assertEqual([len(batch) for batch, _ in self.batches], [1, MOST, 1])

    def test_some_batches_are_done_at_once(self) -> None:
        self.together = self.make(2)
        self.add(5)
        self.batches[1][1].callback([None])
        self.assertEqual([len(batch) for batch, _ in self.batches], [1, 1, 3])

    def test_a_batch_that_fails_fails_each(self) -> None:
        things = self.add(1)
        self.batches[0][1].errback(ZeroDivisionError("odd"))
        self.assertEqual(str(self.failureResultOf(things[0].done, StoreError).value), "odd")

    def test_what_is_late_is_not_done(self) -> None:
        self.add(1)
        late, good = self.add(1, deadline=1) + self.add(1)
        self.clock.advance(1)
        self.batches[0][1].callback([None])
        self.failureResultOf(late.done, StoreTimeout)
        self.assertEqual(self.batches[1][0], [good])

    def test_where_all_is_late_nothing_is_done(self) -> None:
        self.add(1)
        late = self.add(2, deadline=1)
        self.clock.advance(1)
        self.batches[0][1].callback([None])
        for thing in late:
            self.failureResultOf(thing.done, StoreTimeout)
        self.assertEqual(len(self.batches), 1)

    def test_what_nobody_waits_for_any_more_is_done_all_the_same(self) -> None:
        (thing,) = self.add(1)
        thing.done.cancel()
        self.batches[0][1].callback(["done"])
        self.failureResultOf(thing.done, CancelledError)

    def test_idle_is_when_all_is_done(self) -> None:
        self.add(2)
        idle = Deferred.fromCoroutine(self.together.idle())
        self.batches[0][1].callback([None])
        self.assertNoResult(idle)
        self.batches[1][1].callback([None])
        self.successResultOf(idle)
        self.successResultOf(Deferred.fromCoroutine(self.together.idle()))


class LanesTests(TestCase):
    def setUp(self) -> None:
        self.pool = ThreadPool(0, 4)
        self.pool.start()
        self.addCleanup(self.pool.stop)

    def lanes(self, most: int, patience: float = 0.0) -> Lanes:
        return Lanes(reactor, self.pool, most, patience)

    async def test_calls_give_what_their_functions_give(self) -> None:
        lanes = self.lanes(2)
        self.assertEqual(
            await gatherResults([lanes.call(divmod, n, 7) for n in range(50)]),
            [divmod(n, 7) for n in range(50)],
        )
        with self.assertRaises(ZeroDivisionError):
            await lanes.call(divmod, 1, 0)
        with self.assertRaises(SystemExit):
            await lanes.call(exit)

    async def test_results_come_in_the_reactors_thread(self) -> None:
        here = threading.get_ident()
        there = await self.lanes(1).call(threading.get_ident)
        self.assertNotEqual(there, here)
        self.assertEqual(threading.get_ident(), here)

    async def test_no_more_threads_than_lanes_are_busy(self) -> None:
        lanes, free, met = self.lanes(2), threading.Semaphore(2), threading.Barrier(2, timeout=10)
        failed: list[int] = []

        def call(number: int) -> None:
            if not free.acquire(blocking=False):
                failed.append(number)
            if number < 2:
                met.wait()  # two are busy at once
            free.release()

        await gatherResults([lanes.call(call, number) for number in range(100)])
        self.assertEqual(failed, [])

    async def test_a_call_that_is_cancelled_before_it_begins_does_not_begin(self) -> None:
        lanes, door = self.lanes(1), threading.Event()
        begun: list[str] = []
        first = lanes.call(door.wait, 10)
        second = lanes.call(begun.append, "second")
        second.cancel()
        door.set()
        await first
        await lanes.idle()
        self.failureResultOf(second, CancelledError)
        self.assertEqual(begun, [])

    async def test_a_call_that_is_cancelled_while_it_runs_runs_to_its_end(self) -> None:
        lanes, door = self.lanes(1), threading.Event()
        first = lanes.call(door.wait, 10)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        idle = lanes.idle()
        self.assertNoResult(idle)
        door.set()
        await idle

    async def test_idle_is_when_all_calls_have_ended(self) -> None:
        lanes = self.lanes(2)
        await lanes.idle()
        ended: list[int] = []
        lanes.call(ended.append, 1)
        lanes.call(ended.append, 2)
        await lanes.idle()
        self.assertEqual(sorted(ended), [1, 2])

    async def test_with_patience_one_thread_does_what_comes(self) -> None:
        lanes = self.lanes(4, patience=60.0)
        threads = await gatherResults([lanes.call(threading.get_ident) for _ in range(100)])
        self.assertEqual(len(set(threads)), 1)
        await lanes.idle()

    async def test_another_thread_helps_when_the_patience_is_over(self) -> None:
        lanes, door = self.lanes(2, patience=0.001), threading.Event()
        slow = lanes.call(door.wait, 10)
        await lanes.call(door.set)
        self.assertTrue(await slow)
        await lanes.idle()

    async def test_then_results_come_that_wait_for_a_thread_which_is_busy_with_the_next_call(self) -> None:
        lanes, door = self.lanes(1, patience=0.001), threading.Event()
        first, second = lanes.call(threading.get_ident), lanes.call(door.wait, 10)
        await first
        door.set()
        self.assertTrue(await second)
        await lanes.idle()

    async def test_many_calls_are_all_made_once(self) -> None:
        lanes = self.lanes(4)
        made: list[tuple[int, int]] = []

        async def client(number: int) -> None:
            for turn in range(100):
                await lanes.call(made.append, (number, turn))

        await gatherResults([Deferred.fromCoroutine(client(number)) for number in range(20)])
        self.assertEqual(len(made), 2000)
        self.assertEqual(len(set(made)), 2000)


class WordsTests(SynchronousTestCase):
    def test_words_have_no_case_accents_and_signs(self) -> None:
        self.assertEqual(
            words_of("Amélie, l'été: ÉTÉ-42 STRASSE straße ﬁlm"),
            {"amelie", "l", "ete", "42", "strasse", "film"},
        )
        self.assertEqual(words_of(" ...!"), set())

    def test_a_long_word_counts_by_its_beginning(self) -> None:
        self.assertEqual(words_of("x" * 1000), {"x" * MAX_LENGTH})

    def test_entries_name_the_field(self) -> None:
        document = {"a": "One two", "b": ["two", 3, "three"], "c": "four", "d": None}
        self.assertEqual(entries(document, ["a", "b", "d", "e"]), {"a:one", "a:two", "b:two", "b:three"})


class OutcomeTests(SynchronousTestCase):
    def test_an_error_of_any_job_is_one(self) -> None:
        waiting = Waiting(1)
        waiting.end(JobError("no"))
        self.failureResultOf(waiting.done, JobError)

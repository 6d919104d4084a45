"""The runner of handlers: coroutines, functions after their ack, threads, cancellations, time limits, failures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from txmicro.errors import JobCancelled, JobError, RuntimeExceeded, WorkerStopped
from txmicro.protocol.job import Job
from txmicro.receiving.runner import CLEANUP, SLICE, Runner


class Turns(Clock):
    """A clock that, like a reactor, runs in a turn only the calls that were due at its beginning."""

    def turn(self) -> None:
        due = [call for call in self.calls if call.time <= self.seconds()]
        for call in due:
            self.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)


def job(name: str) -> Job:
    return Job(name, None, ["WB:*"], 0, "WA:1", "WA:1", 100.0)


async def swallow(job: Job) -> None:
    while True:
        try:
            await Deferred()
        except Exception:  # CancelledError is one
            continue


class RunnerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Turns()
        self.events: list[Any] = []
        self.leaving: Deferred[None] = succeed(None)

    def runner(
        self, handler: Callable[[Job], Any], in_thread: Callable[..., Deferred[Any]] | None = None
    ) -> Runner:
        return Runner(
            self.clock,
            handler,
            self,
            self,
            worker="WB:1",
            in_thread=in_thread,
            max_runtime=10.0,
        )

    # Called by the runner (Supervisor, AckFlusher)

    def job_ended(self, job: Job, result: Any, error: BaseException | None, seconds: float) -> None:
        self.events.append((job.id, result, error, seconds))

    def flush(self) -> Deferred[None]:
        self.events.append("flush")
        return self.leaving

    def errors(self) -> list[str]:
        return [f"{event[0]}: {type(event[2]).__name__}" for event in self.events if event != "flush"]

    def test_a_coroutine_runs_at_once(self) -> None:
        async def handle(job: Job) -> str:
            return job.id * 2

        self.runner(handle).start(job("a"))
        self.assertEqual(self.events, [("a", "aa", None, 0.0)])

    def test_a_coroutine_that_waits_ends_later_and_is_timed(self) -> None:
        waiting: Deferred[str] = Deferred()

        async def handle(job: Job) -> str:
            return await waiting

        self.runner(handle).start(job("a"))
        self.clock.advance(1.5)
        self.assertEqual(self.events, [])
        waiting.callback("done")
        self.assertEqual(self.events, [("a", "done", None, 1.5)])

    def test_a_plain_function_starts_a_turn_after_its_ack_was_flushed(self) -> None:
        def handle(job: Job) -> None:
            self.events.append("ran")

        self.runner(handle).start(job("a"))
        self.assertEqual(self.events, [])
        self.clock.turn()
        self.assertEqual(self.events, ["flush"])
        self.clock.turn()
        self.assertEqual(self.events, ["flush", "ran", ("a", None, None, 0.0)])
        self.assertEqual([call.time for call in self.clock.calls], [10.0])

    def test_it_waits_for_an_ack_that_cannot_be_sent_yet(self) -> None:
        self.leaving = Deferred()
        runner = self.runner(lambda job: None)
        for name in ("a", "b"):
            runner.start(job(name))
            self.clock.advance(0)
        self.assertEqual(self.events, ["flush"])
        self.leaving.callback(None)
        self.clock.advance(0)
        self.assertEqual(self.events[1][0], "a")

    def test_a_stop_while_an_ack_cannot_be_sent(self) -> None:
        self.leaving = Deferred()
        runner = self.runner(lambda job: None)
        runner.start(job("a"))
        self.clock.advance(0)
        runner.stop()
        self.assertEqual((self.events, self.clock.getDelayedCalls()), (["flush"], []))

    def test_the_reactor_runs_between_functions_that_block(self) -> None:
        def handle(job: Job) -> None:
            self.clock.rightNow += SLICE  # it blocks

        runner = self.runner(handle)
        for name in "ab":
            runner.start(job(name))
        self.clock.turn()
        self.clock.turn()
        self.assertEqual(self.errors(), ["a: NoneType"])
        self.clock.turn()
        self.clock.turn()
        self.assertEqual(self.errors(), ["a: NoneType", "b: NoneType"])

    def test_quick_functions_share_a_turn(self) -> None:
        runner = self.runner(lambda job: None)
        for name in "abc":
            runner.start(job(name))
        self.clock.pump([0, 0])
        self.assertEqual(len(self.errors()), 3)

    def test_a_function_may_return_a_deferred(self) -> None:
        waiting: Deferred[int] = Deferred()
        self.runner(lambda job: waiting).start(job("a"))
        self.clock.pump([0, 0])
        waiting.callback(3)
        self.assertEqual(self.events[1:], [("a", 3, None, 0.0)])

    def test_threads_run_at_once(self) -> None:
        ran: list[Any] = []

        def in_thread(handler: Any, job: Job) -> Deferred[Any]:
            ran.append((handler, job.id))
            return Deferred()

        def handle(job: Job) -> None:
            self.fail("not here")

        self.runner(handle, in_thread).start(job("a"))
        self.assertEqual(ran, [(handle, "a")])

    def test_an_exception_of_a_handler_is_its_outcome(self) -> None:
        async def handle(job: Job) -> None:
            raise ValueError("no")

        self.runner(handle).start(job("a"))
        self.assertEqual(self.errors(), ["a: ValueError"])

    def test_canceling_ends_it_with_the_given_reason(self) -> None:
        async def handle(job: Job) -> None:
            await Deferred()

        runner = self.runner(handle)
        runner.start(job("a"))
        runner.cancel("a/0", JobCancelled())
        runner.cancel("unknown/0", JobCancelled())
        self.assertEqual(self.errors(), ["a: JobCancelled"])

    def test_a_handler_may_return_a_result_when_canceled(self) -> None:
        async def handle(job: Job) -> str:
            try:
                await Deferred()
            except CancelledError:
                return "saved what I had"
            return ""

        runner = self.runner(handle)
        runner.start(job("a"))
        runner.cancel("a/0", JobCancelled())
        self.assertEqual(self.events, [("a", "saved what I had", None, 0.0)])

    def test_a_handler_that_cancels_itself_has_failed(self) -> None:
        async def handle(job: Job) -> None:
            raise CancelledError

        self.runner(handle).start(job("a"))
        self.assertEqual(self.errors(), ["a: CancelledError"])

    def test_a_canceled_function_that_has_not_started_never_starts(self) -> None:
        ran: list[str] = []
        runner = self.runner(lambda job: ran.append(job.id))
        for name in "ab":
            runner.start(job(name))
        runner.cancel("b/0", JobCancelled())
        self.clock.pump([0, 0])
        self.assertEqual(ran, ["a"])
        self.assertEqual(self.errors(), ["b: JobCancelled", "a: NoneType"])

    def test_cancel_all_ends_running_and_waiting_jobs(self) -> None:
        runner = self.runner(lambda job: Deferred())
        runner.start(job("a"))
        self.clock.pump([0, 0])
        runner.start(job("b"))
        runner.cancel_all(JobError())
        self.assertEqual(sorted(self.errors()), ["a: JobError", "b: JobError"])

    def test_a_handler_that_runs_for_too_long_is_canceled_and_the_next_one_is_timed(self) -> None:
        runner = self.runner(lambda job: Deferred())
        runner.start(job("a"))
        self.clock.pump([0, 4])
        runner.start(job("b"))
        self.clock.pump([0, 0, 5.5])
        self.assertEqual(self.errors(), [])
        self.clock.advance(1)
        self.assertEqual(self.errors(), ["a: RuntimeExceeded"])
        self.clock.advance(4)
        self.assertEqual(self.errors(), ["a: RuntimeExceeded", "b: RuntimeExceeded"])
        self.assertIsInstance(self.events[-1][2], RuntimeExceeded)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_handler_that_ignores_its_cancellation_frees_its_slot(self) -> None:
        said = self.listen()
        runner = self.runner(swallow)
        runner.start(job("a"))
        self.clock.advance(10 + CLEANUP / 2)
        self.assertEqual(self.errors(), [])
        self.clock.advance(CLEANUP)
        self.assertEqual(self.errors(), ["a: RuntimeExceeded"])
        self.assertIn("WB:1: tests.unit.receiving.test_runner.swallow has not ended 2 s after", said[0])
        self.assertIn("max_runtime, 10 s), for job a:", said[0])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_late_end_of_an_abandoned_handler_is_ignored(self) -> None:
        said = self.listen()
        late: Deferred[str] = Deferred()

        async def handle(job: Job) -> str:
            if job.tries:
                return "second"
            try:
                await Deferred()
            except CancelledError:
                return await late
            return ""

        runner = self.runner(handle)
        runner.start(job("a"))
        runner.cancel_all(WorkerStopped("stops"))
        self.clock.advance(CLEANUP)
        self.assertEqual(self.errors(), ["a: WorkerStopped"])
        again = job("a")
        again.tries = 1
        runner.start(again)  # the same job, delivered again
        late.callback("late")
        self.clock.pump([0, 0])
        self.assertEqual(
            [event for event in self.events if event != "flush"][1:], [("a", "second", None, 0.0)]
        )
        self.assertIn("left behind before, has ended after 2.0 s (job a)", said[-1])

    def test_a_handler_that_ends_in_time_after_its_cancellation_gives_the_outcome(self) -> None:
        cleaning: Deferred[str] = Deferred()

        async def handle(job: Job) -> str:
            try:
                await Deferred()
            except CancelledError:
                return await cleaning
            return ""

        runner = self.runner(handle)
        runner.start(job("a"))
        self.clock.advance(10)
        runner.start(job("b"))
        self.clock.advance(CLEANUP / 2)
        cleaning.callback("clean")
        self.clock.advance(CLEANUP)
        self.assertEqual(self.events, [("a", "clean", None, 10 + CLEANUP / 2)])
        runner.stop()

    def test_an_error_in_a_canceller_does_not_prevent_other_cancellations(self) -> None:
        def refuse(_: object) -> None:
            raise ZeroDivisionError

        runner = self.runner(lambda job: Deferred(refuse if job.id == "a" else None))
        for name in "ab":
            runner.start(job(name))
        self.clock.pump([0, 0])
        runner.cancel_all(JobCancelled())
        self.assertEqual(self.errors(), ["b: JobCancelled"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.clock.advance(CLEANUP)
        self.assertEqual(self.errors(), ["b: JobCancelled", "a: JobCancelled"])

    def listen(self) -> list[str]:
        """Return a list to which later log events are added."""
        said: list[str] = []

        def observe(event: LogEvent) -> None:
            said.append(formatEvent(event) or "")

        hear: Any = observe
        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)
        return said

    def test_stop_leaves_no_timer(self) -> None:
        runner = self.runner(swallow)
        runner.start(job("c"))
        runner.cancel_all(JobError())
        runner.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        runner = self.runner(lambda job: Deferred())
        runner.stop()
        runner.start(job("a"))
        self.clock.pump([0, 0])
        runner.start(job("b"))
        runner.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from txmicro.errors import JobCancelled, JobError, JobNotDone, JobTimeout, NotStored
from txmicro.sending.future import JobFuture, JobPromise

WORKER = "WB:1795449588399-3fa9"


class FutureCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.cancelled = 0
        self.unawaited: list[JobError] = []
        self.job = JobFuture("7c3e-1", "WB:*", self.cancel, lambda error, job: self.unawaited.append(error))
        self.trips: list[tuple[JobFuture, float, JobError | None]] = []
        self.promise = JobPromise(self.job, self, 100.0)

    def trip_ended(self, job: JobFuture, began: float, error: JobError | None) -> None:
        self.trips.append((job, began, error))

    def cancel(self) -> None:
        self.cancelled += 1
        self.promise.failed(JobCancelled("given up"))


class Ends(FutureCase):
    def test_its_representation(self) -> None:
        self.assertEqual((self.job.id, self.job.address, self.job.done()), ("7c3e-1", "WB:*", False))
        self.assertEqual(repr(self.job), "<JobFuture 7c3e-1 to WB:*: pending>")
        self.promise.succeeded(WORKER, 5)
        self.assertEqual(repr(self.job), "<JobFuture 7c3e-1 to WB:*: done>")

    def test_the_representation_of_a_failed_job_has_the_error(self) -> None:
        self.promise.failed(JobTimeout("late"))
        self.assertEqual(repr(self.job), "<JobFuture 7c3e-1 to WB:*: failed with JobTimeout>")

    def test_its_origin_is_told_once_how_it_ended(self) -> None:
        self.promise.accepted(WORKER)
        self.assertEqual(self.trips, [])
        told = self.job.when_done().addCallback(lambda _: len(self.trips))
        self.promise.succeeded(WORKER, 5)
        self.assertEqual(self.trips, [(self.job, 100.0, None)])
        self.assertEqual(self.successResultOf(told), 1)

    def test_its_origin_is_told_its_error(self) -> None:
        self.job.cancel()
        self.assertEqual([(began, type(error)) for _, began, error in self.trips], [(100.0, JobCancelled)])

    def test_awaiting_gives_the_result(self) -> None:
        async def wait() -> object:
            return await self.job

        waiting = Deferred.fromCoroutine(wait())
        self.assertNoResult(waiting)
        self.promise.succeeded(WORKER, {"a": 1})
        self.assertEqual(self.successResultOf(waiting), {"a": 1})
        self.assertTrue(self.job.done())

    def test_awaiting_raises_the_failure(self) -> None:
        async def wait() -> object:
            return await self.job

        waiting = Deferred.fromCoroutine(wait())
        self.promise.failed(JobTimeout("late"))
        self.failureResultOf(waiting, JobTimeout)
        self.assertTrue(self.job.done())
        self.assertEqual(self.unawaited, [])

    def test_each_wait_is_independent(self) -> None:
        one, two = self.job.when_done(), self.job.when_done()
        one.addCallback(lambda result: None)
        self.promise.succeeded(WORKER, 5)
        self.assertIsNone(self.successResultOf(one))
        self.assertEqual(self.successResultOf(two), 5)

    def test_waiting_after_the_end(self) -> None:
        self.promise.succeeded(WORKER, None)
        self.assertIsNone(self.successResultOf(self.job.when_done()))
        self.assertEqual(self.successResultOf(self.job.when_accepted()), WORKER)

    def test_waiting_after_the_failure(self) -> None:
        error = JobTimeout("late")
        self.promise.failed(error)
        self.assertIs(self.failureResultOf(self.job.when_done()).value, error)
        self.assertIs(self.failureResultOf(self.job.when_accepted()).value, error)


class State(FutureCase):
    """The methods that do not wait, which are those of the standard library's futures."""

    def test_of_a_pending_job(self) -> None:
        self.assertEqual((self.job.done(), self.job.cancelled(), self.job.stored()), (False, False, False))
        error = self.assertRaises(JobNotDone, self.job.result)
        self.assertIn("job 7c3e-1 to WB:* has not ended", str(error))
        self.assertRaises(JobNotDone, self.job.exception)

    def test_of_an_accepted_job(self) -> None:
        self.promise.accepted(WORKER)
        self.assertFalse(self.job.done())
        self.assertRaises(JobNotDone, self.job.result)

    def test_of_a_job_with_a_result(self) -> None:
        for result in (5, None):
            self.promise.succeeded(WORKER, result)
            self.assertEqual((self.job.done(), self.job.cancelled()), (True, False))
            self.assertEqual((self.job.result(), self.job.exception()), (result, None))
            self.setUp()

    def test_of_a_failed_job(self) -> None:
        error = JobTimeout("late")
        self.promise.failed(error)
        self.assertEqual((self.job.done(), self.job.cancelled()), (True, False))
        self.assertIs(self.assertRaises(JobTimeout, self.job.result), error)
        self.assertIs(self.job.exception(), error)

    def test_of_a_canceled_job(self) -> None:
        self.assertTrue(self.job.cancel())
        self.assertEqual((self.job.done(), self.job.cancelled()), (True, True))
        self.assertRaises(JobCancelled, self.job.result)
        self.assertFalse(self.job.cancel())

    def test_a_program_cannot_resolve_it(self) -> None:
        public = {name for name in dir(self.job) if not name.startswith("_")}
        self.assertEqual(
            public,
            {
                *(
                    "address",
                    "cancel",
                    "cancelled",
                    "done",
                    "durable",
                    "traceparent",
                    "exception",
                    "id",
                    "result",
                    "stored",
                ),
                *("when_accepted", "when_done", "when_stored"),
            },
        )


class Accepted(FutureCase):
    def test_when_accepted(self) -> None:
        waiting = self.job.when_accepted()
        done = self.job.when_done()
        self.promise.accepted(WORKER)
        self.assertEqual(self.successResultOf(waiting), WORKER)
        self.assertEqual(self.successResultOf(self.job.when_accepted()), WORKER)
        self.assertNoResult(done)
        self.assertFalse(self.job.done())

    def test_the_latest_worker_counts(self) -> None:
        self.promise.accepted(WORKER)
        self.promise.accepted("WB:2-b")
        self.assertEqual(self.successResultOf(self.job.when_accepted()), "WB:2-b")

    def test_a_result_without_an_ack_names_the_worker(self) -> None:
        waiting = self.job.when_accepted()
        self.promise.succeeded(WORKER, None)
        self.assertEqual(self.successResultOf(waiting), WORKER)

    def test_the_known_worker_is_kept(self) -> None:
        self.promise.accepted(WORKER)
        self.promise.succeeded("WB:2-b", None)
        self.assertEqual(self.successResultOf(self.job.when_accepted()), WORKER)

    def test_when_accepted_fails_if_no_worker_took_the_job(self) -> None:
        waiting = self.job.when_accepted()
        self.promise.failed(JobTimeout("late"))
        self.failureResultOf(waiting, JobTimeout)

    def test_when_accepted_does_not_change_after_the_ack(self) -> None:
        self.promise.accepted(WORKER)
        self.promise.failed(JobTimeout("late"))
        self.assertEqual(self.successResultOf(self.job.when_accepted()), WORKER)


class Stored(FutureCase):
    def test_when_stored(self) -> None:
        waiting, done = self.job.when_stored(), self.job.when_done()
        self.assertFalse(self.job.stored())
        self.promise.stored()
        self.assertIsNone(self.successResultOf(waiting))
        self.assertIsNone(self.successResultOf(self.job.when_stored()))
        self.assertTrue(self.job.stored())
        self.assertNoResult(done)
        self.assertFalse(self.job.done())

    def test_a_job_with_a_result_was_stored(self) -> None:
        """The result may arrive before the confirm."""
        waiting = self.job.when_stored()
        self.promise.succeeded(WORKER, 5)
        self.assertIsNone(self.successResultOf(waiting))
        self.promise.stored()

    def test_when_stored_fails_if_it_was_not_stored(self) -> None:
        waiting = self.job.when_stored()
        self.promise.failed(NotStored("no queue"))
        self.failureResultOf(waiting, NotStored)
        self.failureResultOf(self.job.when_stored(), NotStored)
        self.assertEqual(self.unawaited, [])

    def test_when_stored_does_not_change_after_the_confirm(self) -> None:
        self.promise.stored()
        self.promise.failed(JobCancelled("given up"))
        self.assertIsNone(self.successResultOf(self.job.when_stored()))

    def test_a_timeout_says_whether_the_job_is_stored(self) -> None:
        for stored in (True, False):
            if stored:
                self.promise.stored()
            error = JobTimeout("late")
            self.promise.failed(error)
            self.assertEqual(error.still_queued, stored)
            self.assertEqual(self.unawaited, [] if stored else [error])
            self.setUp()


class Unawaited(FutureCase):
    def test_a_failure_that_is_not_awaited(self) -> None:
        error = JobTimeout("late")
        self.promise.failed(error)
        self.assertEqual(self.unawaited, [error])

    def test_a_failure_is_handled_if_the_ack_was_awaited(self) -> None:
        waiting = self.job.when_accepted()
        self.promise.failed(JobTimeout("late"))
        self.failureResultOf(waiting, JobTimeout)
        self.assertEqual(self.unawaited, [])

    def test_a_failure_after_an_awaited_ack_is_not_handled(self) -> None:
        waiting = self.job.when_accepted()
        self.promise.accepted(WORKER)
        self.assertEqual(self.successResultOf(waiting), WORKER)
        self.promise.failed(JobTimeout("late"))
        self.assertEqual(len(self.unawaited), 1)

    def test_a_failure_after_a_canceled_wait_is_not_handled(self) -> None:
        waiting = self.job.when_done()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.promise.failed(JobTimeout("late"))
        self.assertEqual(len(self.unawaited), 1)


class Cancelling(FutureCase):
    def test_canceling_a_wait_does_not_cancel_the_job(self) -> None:
        for waiting in (self.job.when_done(), self.job.when_accepted(), self.job.when_stored()):
            waiting.cancel()
            self.failureResultOf(waiting, CancelledError)
        other = self.job.when_done()
        self.assertEqual((self.cancelled, self.job.done()), (0, False))
        self.promise.succeeded(WORKER, 5)
        self.assertEqual(self.successResultOf(other), 5)

    def test_cancel_cancels_the_job(self) -> None:
        waiting = self.job.when_done()
        self.job.cancel()
        self.failureResultOf(waiting, JobCancelled)
        self.assertTrue(self.job.done())

    def test_a_second_cancel_does_nothing(self) -> None:
        self.job.cancel()
        self.job.cancel()
        self.assertEqual(self.cancelled, 1)

    def test_a_cancel_after_the_end_does_nothing(self) -> None:
        self.promise.succeeded(WORKER, 5)
        self.job.cancel()
        self.assertEqual(self.cancelled, 0)

    def test_a_cancel_in_a_callback_of_the_end_does_nothing(self) -> None:
        self.job.when_accepted().addCallback(lambda _: self.job.cancel())
        done = self.job.when_done().addCallback(self.cancel_and_pass)
        self.promise.succeeded(WORKER, 5)
        self.assertEqual(self.successResultOf(done), 5)
        self.assertEqual(self.cancelled, 0)

    def cancel_and_pass(self, result: object) -> object:
        self.job.cancel()
        return result

    def test_a_wait_may_be_canceled_in_the_callback_of_another(self) -> None:
        for name in ("when_stored", "when_accepted", "when_done"):
            first, second, third = (getattr(self.job, name)() for _ in range(3))
            first.addCallback(partial(self.cancel_other, second))
            self.promise.succeeded(WORKER, "result")
            self.failureResultOf(second, CancelledError)
            self.assertIn(self.successResultOf(third), (None, WORKER, "result"))
            self.setUp()

    def test_a_wait_may_be_canceled_in_the_errback_of_another(self) -> None:
        for name in ("when_stored", "when_accepted", "when_done"):
            first, second, third = (getattr(self.job, name)() for _ in range(3))
            first.addErrback(partial(self.cancel_other, second))
            self.promise.failed(JobTimeout("late"))
            self.failureResultOf(second, CancelledError)
            self.failureResultOf(third, JobTimeout)
            self.setUp()

    def cancel_other(self, other: Deferred[Any], _: object) -> None:
        other.cancel()


class InAsyncio(FutureCase):
    """``await job`` in an asyncio task, when Twisted runs on asyncio's event loop."""

    def run_with(self, end: Callable[[], None], awaits: Callable[[], Any]) -> Any:
        async def main() -> Any:
            asyncio.get_running_loop().call_soon(end)
            return await awaits()

        return asyncio.run(main())

    async def wait(self) -> Any:
        return await self.job

    def test_awaiting_gives_the_result(self) -> None:
        self.assertEqual(self.run_with(lambda: self.promise.succeeded(WORKER, 5), self.wait), 5)
        self.assertEqual(self.run_with(lambda: None, self.wait), 5)

    def test_awaiting_raises_the_failure(self) -> None:
        end = partial(self.promise.failed, JobTimeout("late"))
        self.assertRaises(JobTimeout, self.run_with, end, self.wait)
        self.assertEqual(self.unawaited, [])

    def test_a_coroutine_of_twisted_in_a_task(self) -> None:
        def awaits() -> Any:
            return Deferred.fromCoroutine(self.wait()).asFuture(asyncio.get_running_loop())

        self.assertEqual(self.run_with(lambda: self.promise.succeeded(WORKER, 5), awaits), 5)

    def test_a_timeout_of_a_wait_does_not_cancel_the_job(self) -> None:
        def awaits() -> Any:
            return asyncio.wait_for(self.wait(), 0)

        self.assertRaises(asyncio.TimeoutError, self.run_with, lambda: None, awaits)
        self.assertEqual((self.cancelled, self.job.done()), (0, False))

    def test_a_runtime_error_of_a_handler_is_raised(self) -> None:
        class Broken(JobError, RuntimeError):
            pass

        waiting = Deferred.fromCoroutine(self.wait())
        self.promise.failed(Broken("no"))
        self.failureResultOf(waiting, Broken)

"""The ends of jobs, and the limits of the outbox."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from tests.support.outbox import TICK, OutboxCase, RaisingOwner, RecordingOwner, leftovers
from txmicro.errors import (
    BusOverloaded,
    JobCancelled,
    JobError,
    JobTimeout,
    NoWorkerAvailable,
    RemoteError,
    WorkerStopped,
)
from txmicro.sending.pending import DURABLE, ENDED, PendingJob


class EndTests(OutboxCase):
    def test_the_first_result_wins(self) -> None:
        (job,) = self.add("a/0")
        self.outbox.acked("WB:1", ["a/0"])
        self.happened()
        self.outbox.succeeded("a/0", "WB:2", {"n": 1})
        self.outbox.succeeded("a/0", "WB:1", {"n": 2})
        self.outbox.failed("a/0", RemoteError("late"))
        self.outbox.acked("WB:1", ["a/0"])
        self.outbox.status("WB:1", ["a/0"], [], ["a/0"])
        self.assertEqual(self.happened(), [("done", "a/0", "WB:2", {"n": 1})])
        self.assertEqual(job.state, ENDED)
        self.check_empty()

    def test_a_result_is_an_ack(self) -> None:
        self.add("a/0")
        self.happened()
        self.outbox.succeeded("a/0", "WB:1", None)
        self.assertEqual(self.happened(), [("done", "a/0", "WB:1", None)])
        self.check_empty()

    def test_a_hop_ends_when_the_next_one_is_done(self) -> None:
        self.add("a/1", "b/1")
        self.outbox.acked("WB:1", ["a/1"])
        self.happened()
        self.outbox.done("WB:1", ["a/1", "b/1", "never/1"])
        self.assertEqual(self.happened(), [("done", "a/1", "WB:1", None), ("done", "b/1", "WB:1", None)])
        self.check_empty()

    def test_a_failure(self) -> None:
        self.add("a/0")
        self.happened()
        self.outbox.failed("a/0", RemoteError("no"))
        self.assertEqual(self.happened(), [("failed", "a/0", RemoteError)])
        self.check_empty()

    def test_the_deadline_of_a_taken_job(self) -> None:
        (job,) = self.add("a/0", deadline=3)
        self.wait(2)
        self.outbox.acked("WB:1", ["a/0"])
        self.happened()
        self.wait(1)
        self.assertEqual(self.happened(), [("cancel", "WB:1", "a/0"), ("failed", "a/0", JobTimeout)])
        self.assertEqual(
            str(self.error(job)),
            "WB:* gave no result within 3.0 s: sent 2 times, first after 0.0 s, taken by WB:1 after 2.0 s",
        )
        self.check_empty()

    def test_the_deadline_of_a_job_without_an_ack(self) -> None:
        (job,) = self.add("a/0", deadline=1)
        self.happened()
        self.wait(1)
        self.assertEqual(self.happened(), [("failed", "a/0", JobTimeout)])
        self.assertEqual(
            str(self.error(job)),
            "WB:* gave no result within 1.0 s: sent once, first after 0.0 s; no worker has acknowledged it: "
            "all are busy, or the one that has it cannot answer",
        )
        self.check_empty()

    def test_waiting_jobs_that_expire_together_with_earlier_ones_are_not_sent(self) -> None:
        *_, job = self.add("a/0", "b/0", "c/0", deadline=1)
        self.happened()
        self.wait(1)
        self.assertEqual(self.happened(), [("failed", key, JobTimeout) for key in ("a/0", "b/0", "c/0")])
        self.assertEqual(
            str(self.error(job)),
            "WB:* gave no result within 1.0 s: not sent; 2 jobs for the address were sent and not taken, 1 waited",
        )
        self.check_empty()

    def test_a_deadline_without_a_queue_or_a_connection(self) -> None:
        first, second = self.add("a/0", "b/0", deadline=3)
        self.outbox.returned("a/0")
        self.wait(1)
        self.outbox.pause("the broker blocks publishers")
        self.outbox.returned("b/0")
        self.wait(2)
        self.assertIn("taken by no worker, as there was no queue for it", str(self.error(first)))
        self.assertIn("for 2.0 s nothing could be published: the broker blocks pub", str(self.error(second)))
        self.check_empty()

    def test_the_deadline_of_a_wait_for_a_durable_job(self) -> None:
        stored, taken, on_its_way = (self.pending(key, deadline=1) for key in ("a/0", "b/0", "c/0"))
        for sent in (stored, taken, on_its_way):
            self.outbox.watch(sent)
        self.outbox.stored("a/0")
        self.outbox.stored("b/0")
        self.outbox.acked("WB:1", ["b/0"])
        self.wait(1)
        self.assertIn(
            "the broker has the job, which may still be done; no worker has taken it", str(self.error(stored))
        )
        self.assertIn("the broker has the job, which may still be done; WB:1 took", str(self.error(taken)))
        self.assertIn("has not confirmed that it has the job", str(self.error(on_its_way)))
        self.check_empty()

    def test_deadlines_pass_in_their_own_order(self) -> None:
        self.add("a/0", deadline=1.5)
        self.add("b/0", deadline=0.5)
        self.happened()
        self.wait(0.5)
        self.assertEqual(self.happened(), [("failed", "b/0", JobTimeout)])
        self.wait(1)
        self.assertEqual(self.happened(), [("failed", "a/0", JobTimeout)])

    def test_a_key_that_is_used_again_has_its_new_deadline(self) -> None:
        self.add("a/0", deadline=1)
        self.outbox.succeeded("a/0", "WB:1", None)
        self.add("a/0", deadline=1.5)
        self.happened()
        self.wait(1)
        self.assertEqual(self.happened(), [])
        self.wait(0.5)
        self.assertEqual(self.happened(), [("failed", "a/0", JobTimeout)])

    def test_a_canceled_job(self) -> None:
        self.add("a/0", "b/0", "c/0")
        self.outbox.acked("WB:1", ["a/0"])
        self.happened()
        for key in ("a/0", "b/0", "c/0", "never/0"):
            self.outbox.cancel(key)
        self.assertEqual(
            self.happened(),
            [
                ("cancel", "WB:1", "a/0"),
                ("failed", "a/0", JobCancelled),
                ("failed", "b/0", JobCancelled),
                ("failed", "c/0", JobCancelled),
            ],
        )
        self.check_empty()

    def test_without_a_worker_jobs_without_an_ack_fail(self) -> None:
        self.add("taken/0")
        self.outbox.acked("WB:1", ["taken/0"])
        self.add("other/0", address="WC:*")
        _, _, job = self.add("a/0", "b/0", "c/0")
        for key in ("a/0", "b/0"):
            self.outbox.returned(key)
        self.happened()
        self.outbox.no_worker("WB:*")
        self.assertEqual(
            self.happened(), [("failed", key, NoWorkerAvailable) for key in ("a/0", "b/0", "c/0")]
        )
        self.assertEqual(str(self.error(job)), "No worker available for this job: WB:*")
        self.outbox.no_worker("WB:*")
        self.assertEqual(self.happened(), [])
        self.outbox.done("WB:1", ["taken/0", "other/0"])
        self.check_empty()

    def test_without_a_worker_jobs_that_may_be_running_do_not_fail(self) -> None:
        self.add("out/0", "missing/0")
        self.outbox.acked("WB:1", ["missing/0"])
        self.outbox.taker_gone("WB:1")
        self.wait(8)
        for key in ("out/0", "missing/0"):  # copies of each reached a worker
            self.outbox.returned(key)
        self.outbox.no_worker("WB:*")
        self.assertEqual([event for event in self.happened() if event[0] == "failed"], [])
        self.outbox.status("WB:1", ["missing/0"], [], [])
        self.outbox.succeeded("out/0", "WB:1", 1)
        self.outbox.succeeded("missing/0", "WB:1", 2)
        self.check_empty()

    def test_a_few_copies_may_lie_in_a_queue_without_workers(self) -> None:
        self.add("a/0")
        self.wait(4)
        self.outbox.no_worker("WB:*")
        self.assertEqual(self.happened()[-1], ("failed", "a/0", NoWorkerAvailable))
        self.check_empty()

    def test_a_copy_deleted_with_its_queue_is_reported(self) -> None:
        (job,) = self.add("a/0")
        self.wait(2)
        self.outbox.returned("a/0")
        self.outbox.no_worker("WB:*")
        self.assertEqual(self.happened()[-1], ("failed", "a/0", NoWorkerAvailable))
        self.assertIn(
            "a copy of the job reached a queue, and no worker has acknowledged it", str(self.error(job))
        )
        self.check_empty()

    def test_a_job_sent_in_the_errback_of_another_does_not_fail_with_it(self) -> None:
        (job,) = self.add("a/0")
        self.outbox.returned("a/0")
        self.patch(job.owner, "failed", lambda error: self.add("again/0"))
        self.happened()
        self.outbox.no_worker("WB:*")
        self.assertEqual(self.happened(), [("publish", "again/0", 0)])

    def test_closing_fails_all_jobs_in_order_and_later_ones(self) -> None:
        self.add("a/0", "b/0", "c/0")
        self.outbox.acked("WB:1", ["b/0"])
        self.outbox.returned("a/0")
        self.happened()
        self.outbox.close(WorkerStopped("bye"))
        self.assertEqual(self.happened(), [("failed", key, WorkerStopped) for key in ("a/0", "b/0", "c/0")])
        self.assertEqual((leftovers(self.outbox), self.clock.getDelayedCalls()), ({}, []))
        self.add("d/0")
        self.outbox.watch(self.pending("e/0"))
        self.assertEqual(
            self.happened(), [("failed", "d/0", WorkerStopped), ("failed", "e/0", WorkerStopped)]
        )
        self.assertEqual((len(self.outbox), self.clock.getDelayedCalls()), (0, []))

    def test_closing_an_idle_outbox(self) -> None:
        self.outbox.close(WorkerStopped("bye"))
        self.assertEqual(self.happened(), [])

    def test_closing_in_the_callback_of_an_end(self) -> None:
        (job, _) = self.add("a/0", "b/0", deadline=1)
        self.patch(job.owner, "failed", lambda error: self.outbox.close(WorkerStopped("bye")))
        self.happened()
        self.wait(1)
        self.assertEqual(self.happened(), [("failed", "b/0", JobTimeout)])
        self.assertEqual((leftovers(self.outbox), self.clock.getDelayedCalls()), ({}, []))

    def test_closing_while_publishing(self) -> None:
        self.during_publish = lambda sent: self.outbox.close(WorkerStopped("bye"))
        self.outbox.pause()
        self.add("a/0", "b/0")
        self.outbox.resume()
        self.assertEqual(
            self.happened(),
            [("publish", "a/0", 0), ("failed", "a/0", WorkerStopped), ("failed", "b/0", WorkerStopped)],
        )
        self.assertEqual((leftovers(self.outbox), self.clock.getDelayedCalls()), ({}, []))

    def error(self, job: PendingJob) -> JobError | None:
        assert isinstance(job.owner, RecordingOwner)
        return job.owner.error


class BoundTests(OutboxCase):
    max_jobs = 3
    max_bytes = 100

    def put(self, key: str, size: int) -> None:
        sent = self.pending(key)
        sent.size = size
        self.outbox.add(sent)

    def test_more_jobs_than_may_be_kept_are_refused(self) -> None:
        self.add("a/0", "b/0")
        self.outbox.watch(self.pending("c/0"))
        self.happened()
        error = self.assertRaises(BusOverloaded, self.add, "d/0")
        self.assertTrue(error.retryable)
        self.assertRaises(BusOverloaded, self.outbox.watch, self.pending("e/0"))
        self.assertFalse(self.outbox.add(self.pending("a/0")))
        self.assertEqual(self.happened(), [])
        self.outbox.cancel("c/0")
        self.add("d/0")
        self.outbox.done("WB:1", ["a/0", "b/0", "d/0"])
        self.check_empty()

    def test_more_bytes_than_may_be_kept_are_refused(self) -> None:
        self.put("a/0", 60)
        self.assertRaises(BusOverloaded, self.put, "b/0", 41)
        self.put("c/0", 40)
        self.outbox.done("WB:1", ["a/0"])
        self.put("b/0", 60)
        self.outbox.done("WB:1", ["b/0", "c/0"])
        self.assertEqual(self.outbox._bytes, 0)
        self.check_empty()


class DurableTests(OutboxCase):
    """Durable jobs: the outbox only waits for their results."""

    max_bytes = 100

    def watch(self, key: str, deadline: float = 30.0, size: int = 0) -> PendingJob:
        sent = self.pending(key, deadline=deadline)
        sent.size = size
        self.outbox.watch(sent)
        return sent

    def test_nothing_is_sent_for_a_durable_job(self) -> None:
        job = self.watch("a/0")
        self.outbox.acked("WB:1", ["a/0"])
        self.outbox.returned("a/0")
        self.outbox.taker_gone("WB:1")
        self.outbox.no_worker("WB:*")
        self.outbox.status("WB:1", [], [], ["a/0"])
        self.wait(20)
        self.assertEqual((self.happened(), job.state), ([("taken", "a/0", "WB:1")], DURABLE))
        self.outbox.succeeded("a/0", "WB:1", 5)
        self.assertEqual(self.happened(), [("done", "a/0", "WB:1", 5)])
        self.check_empty()

    def test_each_worker_of_a_durable_job_is_reported(self) -> None:
        self.watch("a/0")
        self.outbox.acked("WB:1", ["a/0"])
        self.outbox.acked("WB:2", ["a/0"])
        self.outbox.failed("a/0", RemoteError("no"))
        self.assertEqual(
            self.happened(),
            [("taken", "a/0", "WB:1"), ("taken", "a/0", "WB:2"), ("failed", "a/0", RemoteError)],
        )
        self.check_empty()

    def test_a_wait_for_a_durable_job_has_a_deadline_and_can_be_canceled(self) -> None:
        self.watch("a/0", deadline=1.0)
        self.watch("b/0")
        self.outbox.acked("WB:1", ["a/0", "b/0"])
        self.happened()
        self.wait(1)
        self.outbox.cancel("b/0")
        self.assertEqual(self.happened(), [("failed", "a/0", JobTimeout), ("failed", "b/0", JobCancelled)])
        self.check_empty()

    def test_a_stored_job_does_not_count_its_bytes(self) -> None:
        self.watch("a/0", size=60)
        self.assertRaises(BusOverloaded, self.watch, "b/0", size=41)
        for _ in range(2):
            self.outbox.stored("a/0")
        self.outbox.stored("of another time/0")
        self.watch("b/0", size=100)
        self.outbox.done("WB:1", ["a/0", "b/0"])
        self.assertEqual(self.outbox._bytes, 0)
        self.check_empty()


class MistakesTests(OutboxCase):
    """Errors of callbacks, which do not affect other jobs."""

    def test_an_error_in_a_callback(self) -> None:
        for key in ("a/0", "b/0"):
            self.outbox.add(self.pending(key, owner=RaisingOwner))
        self.add("c/0")
        self.outbox.acked("WB:1", ["a/0", "b/0"])
        self.happened()
        self.outbox.succeeded("a/0", "WB:1", None)
        self.outbox.close(WorkerStopped("bye"))
        self.assertEqual(self.happened(), [("failed", "c/0", WorkerStopped)])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 4)

    def test_a_copy_whose_publishing_raises_is_lost(self) -> None:
        def fail(sent: PendingJob) -> None:
            raise ZeroDivisionError

        self.during_publish = fail
        self.add("a/0", "b/0")
        self.during_publish = lambda sent: None
        self.happened()
        self.wait(2)
        self.assertEqual(self.happened(), [("inquire", "WB:*"), ("publish", "a/0", 1), ("publish", "b/0", 1)])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_the_sweep_continues_after_an_error(self) -> None:
        def fail(*_: object) -> None:
            raise ZeroDivisionError

        self.patch(self, "inquire", fail)
        self.patch(self, "probe", fail)
        self.patch(self, "cancel", fail)
        self.add("a/0", "b/0", deadline=3)
        self.outbox.acked("WB:1", ["b/0"])
        self.happened()
        self.wait(3)
        self.assertEqual(
            self.happened(),
            [("publish", "a/0", 1), ("failed", "a/0", JobTimeout), ("failed", "b/0", JobTimeout)],
        )
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)


class MemoryTests(OutboxCase):
    window = 100

    def test_the_memory_of_failed_jobs_without_an_ack_is_bounded(self) -> None:
        with_limit = 10_000
        for number in range(with_limit + 10):
            [sent] = self.add(f"job{number}", address=f"WB:{number}")
            self.outbox.cancel(sent.key)
        self.assertEqual(len(self.outbox._abandoned), with_limit)
        self.check_empty()

    def test_ended_jobs_leave_nothing_behind(self) -> None:
        ends: list[Callable[[str], None]] = [
            lambda key: self.outbox.succeeded(key, "WB:1", None),
            lambda key: self.outbox.failed(key, RemoteError("no")),
            lambda key: self.outbox.done("WB:1", [key]),
            lambda key: self.outbox.cancel(key),
            lambda key: self.outbox.acked("WB:1", [key]),
            lambda key: self.outbox.returned(key),
            lambda key: None,
        ]
        keys = [f"job{n}/0" for n in range(10_000)]
        self.add(*keys, deadline=5)
        for n, key in enumerate(keys):
            ends[n % len(ends)](key)
        self.outbox.no_worker("WB:*")
        self.outbox.taker_gone("WB:1")
        self.wait(5)
        self.check_empty()
        ended = Counter(event[1] for event in self.happened() if event[0] in ("done", "failed"))
        self.assertEqual(ended, dict.fromkeys(keys, 1))

    def test_deadlines_of_ended_jobs_are_not_kept_until_they_pass(self) -> None:
        self.add("long/0")
        for n in range(1000):
            self.add(f"short{n}/0")
            self.outbox.succeeded(f"short{n}/0", "WB:1", None)
        self.wait(TICK)
        self.assertEqual(len(self.outbox._deadlines), 1)
        self.happened()
        self.wait(30)
        self.assertIn(("failed", "long/0", JobTimeout), self.happened())

    def test_the_timer_stops_with_the_last_job(self) -> None:
        self.add("a/0")
        self.outbox.succeeded("a/0", "WB:1", None)
        self.wait(TICK)
        self.assertEqual(self.clock.getDelayedCalls(), [])

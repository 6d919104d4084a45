"""Jobs that are lost with their workers, and jobs that must not run twice."""

from __future__ import annotations

from typing import Any

from tests.support.outbox import OutboxCase, RecordingOwner
from txmicro.errors import (
    JobTimeout,
    NoWorkerAvailable,
    WorkerLost,
)
from txmicro.sending.pending import OUT, TAKEN, PendingJob


class OnceTests(OutboxCase):
    """Jobs that must not run twice."""

    def once(self, *keys: str, deadline: float = 30.0) -> list[PendingJob]:
        jobs = [self.pending(key, deadline=deadline) for key in keys]
        for sent in jobs:
            sent.redeliver = False
            self.outbox.add(sent)
        return jobs

    def take(self, *keys: str) -> None:
        self.once(*keys)
        self.outbox.acked("WB:1", keys)
        self.happened()

    def test_one_copy_is_sent_and_an_inquiry(self) -> None:
        self.once("a/0", deadline=5)
        self.wait(4)
        self.assertEqual(self.happened(), [("publish", "a/0", 0), ("inquire", "WB:*"), ("inquire", "WB:*")])
        self.wait(1)
        self.assertEqual(self.happened(), [("failed", "a/0", JobTimeout)])
        self.check_empty()

    def test_there_is_no_worker(self) -> None:
        self.once("a/0")
        self.outbox.returned("a/0")
        self.outbox.no_worker("WB:*")
        self.assertEqual(
            self.happened(),
            [("publish", "a/0", 0), ("inquire", "WB:*"), ("failed", "a/0", NoWorkerAvailable)],
        )
        self.check_empty()

    def test_a_returned_copy_was_not_run_and_is_replaced_in_its_time(self) -> None:
        self.once("a/0", "b/0")
        self.outbox.returned("a/0")
        self.outbox.refused("WB:1", ["b/0"], unrun=True)
        self.happened()
        self.wait(2)
        self.assertEqual(self.happened(), [("inquire", "WB:*"), ("publish", "a/0", 1), ("publish", "b/0", 1)])
        self.wait(3)
        self.assertEqual(self.happened(), [("inquire", "WB:*")])
        self.outbox.done("WB:1", ["a/0", "b/0"])
        self.check_empty()

    def test_a_copy_that_was_delivered_before_may_have_run(self) -> None:
        (job,) = self.once("a/0")
        self.add("b/0")
        self.happened()
        self.outbox.refused("WB:1", ["a/0", "b/0", "never/0"], unrun=False)
        self.assertEqual(
            self.happened(), [("failed", "a/0", WorkerLost), ("inquire", "WB:*"), ("publish", "b/0", 1)]
        )
        assert isinstance(job.owner, RecordingOwner)
        self.assertIn("has not acknowledged it", str(job.owner.error))
        self.outbox.done("WB:1", ["b/0"])
        self.check_empty()

    def test_a_redelivered_copy_does_not_affect_the_worker_that_has_the_job(self) -> None:
        self.take("a/0")
        for unrun in (False, True):
            self.outbox.refused("WB:2", ["a/0"], unrun=unrun)
        self.assertEqual(self.happened(), [])
        self.outbox.succeeded("a/0", "WB:1", 1)
        self.check_empty()

    def test_a_worker_that_forgot_it(self) -> None:
        self.take("a/0")
        self.outbox.status("WB:1", [], [], ["a/0"])
        self.assertEqual(self.happened(), [("failed", "a/0", WorkerLost)])
        self.check_empty()

    def test_a_worker_that_does_not_answer_two_more_probes(self) -> None:
        self.take("a/0")
        self.add("b/0")
        self.outbox.acked("WB:1", ["b/0"])
        self.outbox.taker_gone("WB:1")
        self.outbox.taker_gone("WB:1")
        self.assertEqual(self.happened()[-2:], [("inquire", "WB:*"), ("publish", "b/0", 1)])
        self.outbox.done("WB:2", ["b/0"])
        self.wait(2)
        self.outbox.taker_gone("WB:1")
        self.wait(2)
        self.assertEqual(self.happened()[1:], [("probe", "WB:1", ["a/0"])] * 2)
        self.outbox.taker_gone("WB:1")
        self.assertEqual(self.happened(), [("failed", "a/0", WorkerLost)])
        self.check_empty()

    def test_a_worker_that_has_reconnected_was_not_lost(self) -> None:
        self.take("a/0")
        for _ in range(3):
            self.wait(2)
            self.outbox.taker_gone("WB:1")
            self.outbox.status("WB:1", ["a/0"], [], [])
        self.assertEqual(self.happened(), [("probe", "WB:1", ["a/0"])] * 3)


class DeathTests(OutboxCase):
    """Jobs that may have killed the workers that took them."""

    def die(self, worker: str, *keys: str) -> None:
        self.outbox.acked(worker, keys)
        self.outbox.taker_gone(worker)

    def test_after_three_lost_workers_it_fails(self) -> None:
        (job,) = self.add("a/0")
        for worker in ("WB:1", "WB:2", "WB:3"):
            self.die(worker, "a/0")
        self.assertEqual(job.state, TAKEN)  # the third may only be reconnecting
        self.wait(4)
        self.outbox.taker_gone("WB:3")
        self.assertEqual(self.happened()[-1], ("failed", "a/0", WorkerLost))
        self.assertEqual(
            str(job.owner.error),  # type: ignore[attr-defined]
            "WB:1, WB:2, WB:3 took it, and none has it any more: it may be what ends them",
        )
        self.check_empty()

    def test_only_the_last_jobs_that_a_lost_worker_took_are_counted(self) -> None:
        (early,) = self.add("early/0", deadline=600)
        for number in range(19):
            (late,) = self.add(f"late{number}/0")
            worker = f"WB:{number}"
            self.outbox.acked(worker, ["early/0", late.key])
            self.outbox.taker_gone(worker)
            self.assertEqual((late.blamed_takers, late.state), ((worker,), OUT))
            self.outbox.succeeded(late.key, "WB:99", None)
        self.assertEqual((early.blamed_takers, len(early.missing_takers), early.state), ((), 19, OUT))
        (late,) = self.add("late/0")
        self.outbox.acked("WB:20", ["early/0", "late/0"])
        for _ in range(2):  # it kills them after a while, and that must be limited, too
            self.outbox.taker_gone("WB:20")
            self.wait(4)
        self.outbox.succeeded("late/0", "WB:99", None)
        self.assertIsInstance(self.error_of(early), WorkerLost)
        self.check_empty()

    def error_of(self, job: PendingJob) -> Any:
        assert isinstance(job.owner, RecordingOwner)
        return job.owner.error

    def test_a_worker_that_reconnects_is_not_counted(self) -> None:
        (job,) = self.add("a/0", deadline=60)
        for _ in range(5):
            for worker in ("WB:1", "WB:2"):
                self.die(worker, "a/0")
            self.outbox.status("WB:1", [], [], ["a/0"])
            self.assertEqual((job.state, job.missing_takers), (OUT, ("WB:2",)))
            self.outbox.status("WB:2", [], [], ["a/0"])
        self.outbox.succeeded("a/0", "WB:1", 1)
        self.check_empty()

    def test_a_missing_worker_is_probed_and_may_still_have_it(self) -> None:
        (job,) = self.add("a/0")
        self.die("WB:1", "a/0")
        self.happened()
        self.wait(2)
        self.assertIn(("probe", "WB:1", ["a/0"]), self.happened())
        self.outbox.status("WB:1", ["a/0"], [], [])
        self.assertEqual((job.state, job.taker, job.missing_takers), (TAKEN, "WB:1", ()))
        self.outbox.succeeded("a/0", "WB:1", 1)
        self.check_empty()

    def test_a_worker_that_is_restarted_with_its_id_is_counted_each_time(self) -> None:
        (job,) = self.add("a/0")
        for _ in range(3):
            self.assertEqual(job.state, OUT)
            self.outbox.acked("WB:1", ["a/0"])
            self.outbox.status("WB:1", [], [], ["a/0"])
        self.assertEqual(self.happened()[-1], ("failed", "a/0", WorkerLost))
        self.check_empty()

    def test_a_worker_lost_before_it_took_the_job_is_not_counted(self) -> None:
        (job,) = self.add("a/0")
        for copies in range(2, 6):  # requeued, so that the next worker is told that it was delivered before
            self.outbox.refused("WB:2", ["a/0"], unrun=False)
            self.assertEqual((job.state, job.missing_takers, job.copies), (OUT, (), copies))
        self.outbox.succeeded("a/0", "WC:1", 1)
        self.check_empty()

    def test_a_worker_that_forwarded_it_is_not_counted(self) -> None:
        (job,) = self.add("a/0")
        for worker in ("WB:1", "WB:2", "WB:3"):
            self.outbox.acked(worker, ["a/0"])
            self.outbox.status(worker, [], ["a/0"], [])
            self.outbox.taker_gone(worker)
        self.assertEqual((job.state, job.missing_takers), (OUT, ()))
        self.outbox.succeeded("a/0", "WC:1", 1)
        self.check_empty()

    def test_the_error_at_the_deadline_names_the_missing_worker(self) -> None:
        (job,) = self.add("a/0", deadline=1)
        self.die("WB:1", "a/0")
        self.wait(1)
        self.assertIn("taken before by WB:1, missing since", str(job.owner.error))  # type: ignore[attr-defined]
        self.check_empty()

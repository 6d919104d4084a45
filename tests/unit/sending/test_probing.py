"""The jobs of each worker, and the times of its probes."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.outbox import OutboxCase
from txmicro.sending.pending import OUT, TAKEN, PendingJob
from txmicro.sending.probing import LOST_AFTER, Probing


def pending(key: str) -> PendingJob:
    owner: Any = None
    return PendingJob(key, key, "WB:*", b"", 30.0, owner)


class ProbingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.probing = Probing(2.0)
        self.jobs = [pending(key) for key in "abc"]

    def test_a_worker_is_probed_for_all_its_jobs(self) -> None:
        first, second, _ = self.jobs
        self.probing.take(first, "WB:1", 0.0)
        self.probing.take(second, "WB:1", 1.0)
        self.assertEqual((first.state, first.taker), (TAKEN, "WB:1"))
        self.assertIsNone(self.probing.next_due(1.9))
        self.assertEqual(self.probing.next_due(2.0), ("WB:1", ["a", "b"]))
        self.assertIsNone(self.probing.next_due(3.9))
        self.assertEqual(self.probing.next_due(4.0), ("WB:1", ["a", "b"]))

    def test_each_worker_is_due_in_its_turn(self) -> None:
        for number, job in enumerate(self.jobs):
            self.probing.take(job, f"WB:{number}", number / 4)
        due = [self.probing.next_due(2.25) for _ in range(3)]
        self.assertEqual(due, [("WB:0", ["a"]), ("WB:1", ["b"]), None])
        self.assertEqual(self.probing.next_due(4.25), ("WB:2", ["c"]))

    def test_a_worker_is_missing_until_it_answers(self) -> None:
        self.probing.take(self.jobs[0], "WB:1", 0.0)
        patience = LOST_AFTER * 2.0
        (job,) = self.jobs[:1]
        self.assertEqual(self.probing.gone("WB:1", 2.0), ([job], job, False))
        self.assertEqual(self.probing.gone("WB:1", 1.9 + patience), ([job], job, False))
        self.probing.seen("WB:1")
        self.probing.seen("WB:2")
        self.assertEqual(self.probing.gone("WB:1", 10.0), ([job], job, False))
        self.assertEqual(self.probing.gone("WB:1", 10.0 + patience), ([job], job, True))
        self.assertEqual(self.probing.gone("WB:2", 10.0), ([], None, False))

    def test_a_missing_worker_is_probed_until_it_answers_or_the_job_has_ended(self) -> None:
        first, second, _ = self.jobs
        for job in (first, second):
            self.probing.take(job, "WB:1", 0.0)
            self.probing.miss(job, "WB:1")
        self.assertEqual(
            (first.missing_takers, self.probing.next_due(2.0)), (("WB:1",), ("WB:1", ["a", "b"]))
        )
        self.probing.forget(first)
        self.assertEqual(self.probing.next_due(4.0), ("WB:1", ["b"]))
        self.assertEqual(self.probing.gone("WB:1", 4.0), ([], None, False))
        self.probing.seen("WB:1")
        self.assertEqual((second.missing_takers, len(self.probing)), ((), 0))

    def test_a_worker_without_jobs_is_forgotten(self) -> None:
        for job in self.jobs:
            self.probing.take(job, "WB:1", 0.0)
        for job in self.jobs:
            self.assertEqual(len(self.probing), 1)
            self.probing.leave(job, "WB:1")
        self.assertEqual(len(self.probing), 0)
        self.assertIsNone(self.probing.next_due(9.0))


class ProbeTests(OutboxCase):
    def test_a_worker_is_probed_for_all_that_it_has(self) -> None:
        self.add("a/0", "b/0")
        self.outbox.acked("WB:1", ["a/0", "b/0"])
        self.wait(1)
        self.add("c/0")
        self.outbox.acked("WB:1", ["c/0"])
        self.happened()
        self.wait(1)
        self.assertEqual(self.happened(), [("probe", "WB:1", ["a/0", "b/0", "c/0"])])
        self.outbox.status("WB:1", ["a/0", "c/0"], ["b/0"], [])
        self.wait(2)
        self.assertEqual(self.happened(), [("probe", "WB:1", ["a/0", "b/0", "c/0"])])

    def test_each_worker_is_probed(self) -> None:
        self.add("a/0", "b/0")
        self.outbox.acked("WB:1", ["a/0"])
        self.outbox.acked("WB:2", ["b/0"])
        self.happened()
        self.wait(2)
        self.assertEqual(self.happened(), [("probe", "WB:1", ["a/0"]), ("probe", "WB:2", ["b/0"])])

    def test_the_loss_of_a_worker_is_detected_within_two_seconds(self) -> None:
        self.add("a/0")
        self.outbox.acked("WB:1", ["a/0"])
        self.wait(0.1)
        self.add("b/0")
        self.outbox.acked("WB:1", ["b/0"])
        self.outbox.succeeded("a/0", "WB:1", 1)
        self.happened()
        self.wait(2)
        self.assertEqual(self.happened(), [("probe", "WB:1", ["b/0"])])

    def test_a_worker_without_jobs_is_not_probed(self) -> None:
        self.add("a/0")
        self.outbox.acked("WB:1", ["a/0"])
        self.outbox.succeeded("a/0", "WB:1", 1)
        self.happened()
        self.wait(3)
        self.assertEqual(self.happened(), [])

    def test_the_latest_worker_of_a_job_is_probed(self) -> None:
        self.add("a/0")
        for worker in ("WB:1", "WB:2", "WB:2"):
            self.outbox.acked(worker, ["a/0"])
        self.assertEqual(self.happened()[1:], [("taken", "a/0", "WB:1"), ("taken", "a/0", "WB:2")])
        self.wait(2)
        self.assertEqual(self.happened(), [("probe", "WB:2", ["a/0"])])

    def test_jobs_that_the_worker_does_not_know_are_sent_again_at_once(self) -> None:
        (job, _) = self.add("a/0", "b/0")
        self.outbox.acked("WB:1", ["a/0", "b/0"])
        self.happened()
        self.outbox.status("WB:1", [], [], ["a/0", "a/0", "never/0"])
        self.assertEqual(self.happened(), [("inquire", "WB:*"), ("publish", "a/0", 1)])
        self.assertEqual((job.state, job.taker), (OUT, None))

    def test_a_job_that_another_worker_has_taken_is_left_with_it(self) -> None:
        (job,) = self.add("a/0")
        self.outbox.acked("WB:1", ["a/0"])
        self.outbox.acked("WB:2", ["a/0"])
        self.happened()
        self.outbox.status("WB:1", [], [], ["a/0"])
        self.outbox.taker_gone("WB:1")
        self.assertEqual(self.happened(), [])
        self.assertEqual((job.state, job.taker), (TAKEN, "WB:2"))

    def test_jobs_of_a_lost_worker_are_sent_again_before_waiting_ones(self) -> None:
        self.add("a/0", "b/0")
        self.outbox.acked("WB:1", ["a/0", "b/0"])
        self.add("c/0")
        self.add("d/0", "e/0")
        self.happened()
        self.outbox.taker_gone("WB:1")
        self.assertEqual(self.happened(), [])
        for key in ("c/0", "d/0", "a/0"):
            self.outbox.succeeded(key, "WB:2", None)
        published = [event for event in self.happened() if event[0] == "publish"]
        self.assertEqual(published, [("publish", "a/0", 1), ("publish", "b/0", 1), ("publish", "e/0", 0)])

    def test_a_late_ack_of_a_job_that_waits_to_be_sent_again(self) -> None:
        self.add("a/0")
        self.outbox.acked("WB:1", ["a/0"])
        self.add("b/0", "c/0")
        self.outbox.taker_gone("WB:1")
        self.happened()
        self.outbox.acked("WB:2", ["a/0"])
        self.assertEqual(self.happened(), [("taken", "a/0", "WB:2")])
        self.outbox.done("WB:2", ["a/0", "b/0", "c/0"])
        self.check_empty()

    def test_a_status_is_an_ack(self) -> None:
        self.add("a/0", "b/0")
        self.happened()
        self.outbox.status("WB:1", ["a/0"], ["b/0"], [])
        self.assertEqual(self.happened(), [("taken", "a/0", "WB:1"), ("taken", "b/0", "WB:1")])

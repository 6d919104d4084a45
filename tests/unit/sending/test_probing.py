"""Which worker has which jobs, and which worker is to be probed."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txmicro.sending.pending import TAKEN, PendingJob
from txmicro.sending.probing import LOST_AFTER, Probing


def pending(key: str) -> PendingJob:
    owner: Any = None
    return PendingJob(key, key, "WB:*", b"", 30.0, owner)


class ProbingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.probing = Probing(2.0)
        self.jobs = [pending(key) for key in "abc"]

    def test_a_worker_is_asked_about_all_it_has_also_what_it_has_just_taken(self) -> None:
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

    def test_a_worker_is_missing_until_it_is_heard_of(self) -> None:
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

    def test_a_worker_that_is_missed_is_asked_until_it_is_heard_of_or_the_job_has_ended(self) -> None:
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

    def test_a_worker_that_has_nothing_is_forgotten(self) -> None:
        for job in self.jobs:
            self.probing.take(job, "WB:1", 0.0)
        for job in self.jobs:
            self.assertEqual(len(self.probing), 1)
            self.probing.leave(job, "WB:1")
        self.assertEqual(len(self.probing), 0)
        self.assertIsNone(self.probing.next_due(9.0))

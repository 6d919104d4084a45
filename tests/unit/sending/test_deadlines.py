from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txmicro.sending.deadlines import Deadlines
from txmicro.sending.pending import PendingJob


class DeadlinesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.jobs: dict[str, PendingJob] = {}
        self.deadlines = Deadlines(self.jobs)

    def add(self, key: str, deadline: float) -> PendingJob:
        owner: Any = None
        job = self.jobs[key] = PendingJob(key, key, "WB:*", b"", deadline, owner)
        self.deadlines.add(job)
        return job

    def test_jobs_are_due_in_the_order_of_their_deadlines(self) -> None:
        late, early, _ = self.add("a", 3.0), self.add("b", 2.0), self.add("c", 4.0)
        self.assertEqual(self.deadlines.take_due(1.9), [])
        self.assertEqual(self.deadlines.take_due(3.0), [early, late])
        self.assertEqual(self.deadlines.take_due(3.0), [])
        self.assertEqual(len(self.deadlines), 1)

    def test_a_job_that_has_ended_is_not_due(self) -> None:
        self.add("a", 1.0)
        del self.jobs["a"]
        self.assertEqual(self.deadlines.take_due(1.0), [])

    def test_a_job_of_the_same_key_is_due_at_its_own_deadline(self) -> None:
        self.add("a", 1.0)
        again = self.add("a", 2.0)
        self.assertEqual(self.deadlines.take_due(1.0), [])
        self.assertEqual(self.deadlines.take_due(2.0), [again])

    def test_a_job_is_due_once(self) -> None:
        self.add("a", 1.0)
        again = self.add("a", 1.0)
        self.assertEqual(self.deadlines.take_due(1.0), [again])

    def test_entries_of_ended_jobs_are_dropped_when_they_are_the_majority(self) -> None:
        for number in range(5):
            self.add(str(number), 1.0)
        self.deadlines.compact()
        self.assertEqual(len(self.deadlines), 5)
        for number in range(3):
            del self.jobs[str(number)]
        self.deadlines.compact()
        self.assertEqual(len(self.deadlines), 2)
        self.assertEqual(len(self.deadlines.take_due(1.0)), 2)

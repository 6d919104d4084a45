"""Who has which jobs, and whose probe is due; and keys that are remembered for a while."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txmicro.sending.pending import TAKEN, PendingJob
from txmicro.sending.probing import LOST_AFTER, Probing
from txmicro.util.expiring import ExpiringKeys


def sent(key: str) -> PendingJob:
    owner: Any = None
    return PendingJob(key, key, "WB:*", b"", 30.0, owner)


class TakersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.takers = Probing(2.0)
        self.jobs = [sent(key) for key in "abc"]

    def test_a_worker_is_asked_about_all_it_has_also_what_it_has_just_taken(self) -> None:
        first, second, _ = self.jobs
        self.takers.take(first, "WB:1", 0.0)
        self.takers.take(second, "WB:1", 1.0)
        self.assertEqual((first.state, first.taker), (TAKEN, "WB:1"))
        self.assertIsNone(self.takers.next_due(1.9))
        self.assertEqual(self.takers.next_due(2.0), ("WB:1", ["a", "b"]))
        self.assertIsNone(self.takers.next_due(3.9))
        self.assertEqual(self.takers.next_due(4.0), ("WB:1", ["a", "b"]))

    def test_each_worker_is_due_in_its_turn(self) -> None:
        for number, job in enumerate(self.jobs):
            self.takers.take(job, f"WB:{number}", number / 4)
        due = [self.takers.next_due(2.25) for _ in range(3)]
        self.assertEqual(due, [("WB:0", ["a"]), ("WB:1", ["b"]), None])
        self.assertEqual(self.takers.next_due(4.25), ("WB:2", ["c"]))

    def test_a_worker_is_missing_until_it_is_heard_of(self) -> None:
        self.takers.take(self.jobs[0], "WB:1", 0.0)
        patience = LOST_AFTER * 2.0
        (job,) = self.jobs[:1]
        self.assertEqual(self.takers.gone("WB:1", 2.0), ([job], job, False))
        self.assertEqual(self.takers.gone("WB:1", 1.9 + patience), ([job], job, False))
        self.takers.heard("WB:1")
        self.takers.heard("WB:2")
        self.assertEqual(self.takers.gone("WB:1", 10.0), ([job], job, False))
        self.assertEqual(self.takers.gone("WB:1", 10.0 + patience), ([job], job, True))
        self.assertEqual(self.takers.gone("WB:2", 10.0), ([], None, False))

    def test_a_worker_that_is_missed_is_asked_until_it_is_heard_of_or_the_job_has_ended(self) -> None:
        first, second, _ = self.jobs
        for job in (first, second):
            self.takers.take(job, "WB:1", 0.0)
            self.takers.miss(job, "WB:1")
        self.assertEqual((first.lost, self.takers.next_due(2.0)), (("WB:1",), ("WB:1", ["a", "b"])))
        self.takers.forget(first)
        self.assertEqual(self.takers.next_due(4.0), ("WB:1", ["b"]))
        self.assertEqual(self.takers.gone("WB:1", 4.0), ([], None, False))
        self.takers.heard("WB:1")
        self.assertEqual((second.lost, len(self.takers)), ((), 0))

    def test_a_worker_that_has_nothing_is_forgotten(self) -> None:
        for job in self.jobs:
            self.takers.take(job, "WB:1", 0.0)
        for job in self.jobs:
            self.assertEqual(len(self.takers), 1)
            self.takers.leave(job, "WB:1")
        self.assertEqual(len(self.takers), 0)
        self.assertIsNone(self.takers.next_due(9.0))


class LatelyTests(SynchronousTestCase):
    def test_each_is_forgotten_in_its_time(self) -> None:
        lately = ExpiringKeys(2.0, 9)
        lately.add("a", 0.0)
        lately.add("b", 1.0)
        lately.add("a", 1.5)  # anew
        for now, known in ((2.9, "ab"), (3.0, "a"), (3.5, "")):
            lately.forget(now)
            self.assertEqual([key for key in "ab" if key in lately], list(known))

    def test_the_oldest_make_room(self) -> None:
        lately = ExpiringKeys(2.0, 2)
        for key in "abc":
            lately.add(key, 0.0)
        self.assertEqual(len(lately), 2)
        self.assertEqual([lately.pop(key) for key in "abcc"], [False, True, True, False])
        lately.add("d", 0.0)
        lately.clear()
        self.assertEqual(len(lately), 0)

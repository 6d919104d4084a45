"""The age of a queue's oldest job."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txmicro.monitoring.queue_ages import QueueAge


class QueueAgeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.age = QueueAge()

    def test_an_empty_queue_has_no_age(self) -> None:
        self.assertEqual(self.age.oldest(0, 100.0, None), 0.0)
        self.assertEqual(self.age.oldest(0, 100.0, 50.0), 0.0)

    def test_it_is_unknown_at_first(self) -> None:
        self.assertIsNone(self.age.oldest(3, 100.0, None))

    def test_a_job_came_after_the_queue_was_empty(self) -> None:
        self.age.oldest(0, 100.0, None)
        self.assertEqual(self.age.oldest(3, 105.0, None), 5.0)
        self.assertEqual(self.age.oldest(3, 110.0, None), 10.0)

    def test_a_job_was_sent_after_those_that_have_started(self) -> None:
        self.assertEqual(self.age.oldest(3, 110.0, 107.0), 3.0)

    def test_the_smaller_one_counts(self) -> None:
        self.age.oldest(0, 100.0, None)
        self.assertEqual(self.age.oldest(3, 110.0, 95.0), 10.0)
        self.assertEqual(self.age.oldest(3, 110.0, 107.0), 3.0)

    def test_a_sender_whose_clock_is_ahead_makes_no_age_below_0(self) -> None:
        self.assertEqual(self.age.oldest(3, 110.0, 200.0), 0.0)

"""Values per second: gaps, the oldest values, and the mean."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txmicro.monitoring.series import LENGTH, Series

NOW = 1_795_449_588


class SeriesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.series = Series("jobs", "errors")

    def test_the_last_value_is_the_latest(self) -> None:
        for second in range(3):
            self.series.put(NOW + second, {"jobs": second})
        self.assertEqual(self.series.last("jobs", 4), [None, 0, 1, 2])
        self.assertEqual(self.series.last("errors", 2), [None, None])
        self.assertEqual(self.series.end, NOW + 2)

    def test_a_second_that_was_skipped_has_no_value(self) -> None:
        self.series.put(NOW, {"jobs": 1})
        self.series.put(NOW + 3, {"jobs": 2})
        self.assertEqual(self.series.last("jobs", 4), [1, None, None, 2])

    def test_a_second_can_be_set_again_and_an_earlier_one_cannot(self) -> None:
        self.series.put(NOW, {"jobs": 1})
        self.series.put(NOW, {"jobs": 2})
        self.series.put(NOW - 1, {"jobs": 3})
        self.assertEqual(self.series.last("jobs", 2), [None, 2])

    def test_old_values_are_forgotten(self) -> None:
        self.series.put(NOW, {"jobs": 1})
        self.series.put(NOW + LENGTH - 1, {"jobs": 2})
        self.assertEqual(self.series.last("jobs", 10 * LENGTH), [1, *[None] * (LENGTH - 2), 2])
        self.series.put(NOW + LENGTH, {"jobs": 3})
        self.assertEqual(self.series.last("jobs", LENGTH)[0], None)
        self.series.put(NOW + 100 * LENGTH, {})
        self.assertEqual(set(self.series.last("jobs", LENGTH)), {None})

    def test_the_mean_is_of_the_known_values(self) -> None:
        self.assertIsNone(self.series.mean("jobs", 10))
        self.series.put(NOW, {"jobs": 1})
        self.series.put(NOW + 2, {"jobs": 4})
        self.assertEqual(self.series.mean("jobs", 10), 2.5)
        self.assertEqual(self.series.mean("jobs", 2), 4)

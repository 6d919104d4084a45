"""Quantiles of histograms, and the histogram of the last seconds."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txmicro.monitoring.quantiles import COUNTS, RecentDurations, quantile
from txmicro.util.prometheus import BUCKETS, Durations


def histogram(*seconds: float) -> list[int]:
    """Return the counts of these durations, as a worker's metrics have them."""
    durations = Durations("")
    for each in seconds:
        durations.observe(each)
    return durations.counts


class QuantileTests(SynchronousTestCase):
    def test_of_nothing(self) -> None:
        self.assertIsNone(quantile([0] * COUNTS, 0.5))

    def test_durations_are_evenly_spread_in_their_bucket(self) -> None:
        counts = histogram(*[0.03] * 100)  # from 25 to 50 ms
        self.assertAlmostEqual(quantile(counts, 0.5) or 0, 0.0375)
        self.assertAlmostEqual(quantile(counts, 0.99) or 0, 0.04975)
        self.assertAlmostEqual(quantile(counts, 1.0) or 0, 0.05)

    def test_the_first_bucket_begins_at_0(self) -> None:
        self.assertAlmostEqual(quantile(histogram(0.0001, 0.0001), 0.5) or 0, BUCKETS[0] / 2)

    def test_buckets_without_durations_are_skipped(self) -> None:
        counts = histogram(*[0.0001] * 98, 40.0, 40.0)
        self.assertLess(quantile(counts, 0.5) or 0, BUCKETS[0])
        self.assertAlmostEqual(quantile(counts, 0.99) or 0, 45.0)

    def test_a_duration_beyond_the_last_bucket_counts_as_its_bound(self) -> None:
        self.assertEqual(quantile(histogram(1000.0), 0.5), BUCKETS[-1])


class RecentDurationsTests(SynchronousTestCase):
    def test_durations_are_forgotten_after_its_seconds(self) -> None:
        recent = RecentDurations(2)
        recent.add(histogram(0.03))
        self.assertEqual(recent.current, histogram(0.03))
        recent.tick()
        self.assertIsNone(recent.current)
        recent.add(histogram(4.0))
        recent.tick()
        self.assertEqual(recent.counts, histogram(0.03, 4.0))
        recent.tick()
        self.assertEqual(recent.counts, histogram(4.0))
        recent.tick()
        self.assertEqual(recent.counts, [0] * COUNTS)

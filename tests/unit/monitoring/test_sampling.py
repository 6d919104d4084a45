"""The share of jobs that are recorded, and how it follows what is heard."""

from __future__ import annotations

from itertools import count

from twisted.trial.unittest import SynchronousTestCase

from txmicro.monitoring.recorder import is_sampled, limit_of
from txmicro.monitoring.records import Record
from txmicro.monitoring.report import Report
from txmicro.monitoring.sampling import FAILURES, LEAST_SHARE, MOST_FAILURES, RECORDS, Sampling


class SamplingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.sampling = Sampling()
        self.ids = count()

    def records(self, number: int, *, sampled: bool = True) -> list[Record]:
        limit = limit_of(self.sampling.share)
        ids = (f"00ff-{each:x}" for each in self.ids)
        return [
            Record("ran", 0.0, next(id for id in ids if is_sampled(id, limit) is sampled))
            for _ in range(number)
        ]

    def hear(self, records: list[Record], seconds: float = 1.0) -> None:
        self.sampling.heard(Report("WB:1", "WB", "", records=records))
        self.sampling.adapt(seconds)

    def test_at_first_all_jobs_are_recorded(self) -> None:
        self.hear(self.records(int(RECORDS)))
        self.assertEqual((self.sampling.share, self.sampling.rate), (1.0, RECORDS))

    def test_it_falls_to_what_can_be_heard(self) -> None:
        self.hear(self.records(int(4 * RECORDS)))
        self.assertEqual(self.sampling.share, 0.25)

    def test_it_rises_again_step_by_step(self) -> None:
        self.sampling.share = 0.1
        for expected in (0.2, 0.4, 0.8, 1.0):
            self.hear(self.records(10))
            self.assertAlmostEqual(self.sampling.share, expected)

    def test_it_rises_to_less_than_what_can_be_heard(self) -> None:
        self.sampling.share = 0.5
        self.hear(self.records(int(0.45 * RECORDS)))
        self.assertLess(self.sampling.share * 2 * 0.45, 1.0)
        self.assertGreater(self.sampling.share, 0.5)

    def test_it_stays_between_its_limits(self) -> None:
        self.sampling.share = 2 * LEAST_SHARE
        self.hear(self.records(10), seconds=1e-6)
        self.assertEqual(self.sampling.share, LEAST_SHARE)

    def test_failures_of_other_jobs_count_for_themselves(self) -> None:
        self.sampling.share = 0.5
        self.hear(self.records(int(3 * FAILURES), sampled=False) + self.records(int(0.7 * RECORDS)))
        self.assertEqual(self.sampling.share, 0.5)
        self.assertEqual(self.sampling.failures, round(MOST_FAILURES / 3))
        for _ in range(10):
            self.hear(self.records(int(0.7 * RECORDS)))
        self.assertEqual(self.sampling.failures, MOST_FAILURES)

"""The summary of jobs that were sent from the command line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txmicro.cli.tally import Tally
from txmicro.errors import BusClosed, JobTimeout, NoWorkerAvailable, RemoteError


class TallyTests(SynchronousTestCase):
    def tally(self, *latencies: float) -> Tally:
        tally = Tally()
        for latency in latencies:
            tally.add(latency)
        return tally

    def test_percentiles_are_latencies_of_jobs(self) -> None:
        tally = self.tally(*(number / 1000 for number in reversed(range(1, 201))))
        self.assertEqual(tally.percentiles(), {"p50": 100.0, "p90": 180.0, "p99": 198.0, "max": 200.0})

    def test_one_job_is_every_percentile(self) -> None:
        self.assertEqual(set(self.tally(0.0015).percentiles().values()), {1.5})

    def test_without_jobs_there_are_no_percentiles_and_no_rate(self) -> None:
        summary = self.tally().summary(0.0)
        self.assertEqual((summary["latency_ms"], summary["jobs_per_second"]), ({}, None))

    @given(st.lists(st.floats(0, 100), min_size=1))
    def test_percentiles_rise(self, latencies: list[float]) -> None:
        found = list(self.tally(*latencies).percentiles().values())
        self.assertEqual(found, sorted(found))

    def test_failures_are_counted_by_type_with_the_first_text(self) -> None:
        tally = self.tally(0.25, 0.75)
        for error in (
            JobTimeout("one"),
            NoWorkerAvailable("nobody"),
            JobTimeout("two"),
            RemoteError("'a'", type="KeyError"),
            BusClosed("stopped"),
        ):
            tally.add_failure(error)
        summary = tally.summary(0.5)
        self.assertEqual((tally.ended, summary["done"], summary["failed"]), (7, 2, 5))
        self.assertEqual(summary["jobs_per_second"], 4.0)
        self.assertEqual(
            summary["failures"],
            [
                {"type": "JobTimeout", "count": 2, "first": "one"},
                {"type": "NoWorkerAvailable", "count": 1, "first": "nobody"},
                {"type": "KeyError", "count": 1, "first": "'a'"},
                {"type": "BusClosed", "count": 1, "first": "stopped"},
            ],
        )

"""The summary of jobs that were sent from the command line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txmicro.cli.outcomes import Outcomes
from txmicro.errors import BusClosed, JobTimeout, NoWorkerAvailable, RemoteError


class OutcomesTests(SynchronousTestCase):
    def outcomes(self, *latencies: float) -> Outcomes:
        outcomes = Outcomes()
        for latency in latencies:
            outcomes.add(latency)
        return outcomes

    def test_percentiles_are_latencies_of_jobs(self) -> None:
        outcomes = self.outcomes(*(number / 1000 for number in reversed(range(1, 201))))
        self.assertEqual(outcomes.percentiles(), {"p50": 100.0, "p90": 180.0, "p99": 198.0, "max": 200.0})

    def test_one_job_is_every_percentile(self) -> None:
        self.assertEqual(set(self.outcomes(0.0015).percentiles().values()), {1.5})

    def test_without_jobs_there_are_no_percentiles_and_no_rate(self) -> None:
        summary = self.outcomes().summary(0.0)
        self.assertEqual((summary["latency_ms"], summary["jobs_per_second"]), ({}, None))

    @given(st.lists(st.floats(0, 100), min_size=1))
    def test_percentiles_rise(self, latencies: list[float]) -> None:
        found = list(self.outcomes(*latencies).percentiles().values())
        self.assertEqual(found, sorted(found))

    def test_failures_are_counted_by_type_with_the_first_text(self) -> None:
        outcomes = self.outcomes(0.25, 0.75)
        for error in (
            JobTimeout("one"),
            NoWorkerAvailable("nobody"),
            JobTimeout("two"),
            RemoteError("'a'", type="KeyError"),
            BusClosed("stopped"),
        ):
            outcomes.add_failure(error)
        summary = outcomes.summary(0.5)
        self.assertEqual((outcomes.ended, summary["done"], summary["failed"]), (7, 2, 5))
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

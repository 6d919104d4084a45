"""The number of calls that a job takes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.calls import PHASES, measure

JOBS = 100

MOST = {"send": 40.0, "take": 48.0, "answer": 45.0, "result": 32.0, "settle": 3.0}
"""The most calls per job. Other versions of Python and Twisted may need a few more than now."""


class CallsTests(SynchronousTestCase):
    def test_a_job_takes_no_more_calls_than_it_should(self) -> None:
        counts = measure(JOBS)
        self.assertEqual(tuple(MOST), PHASES)
        for phase, most in MOST.items():
            calls = counts.of(phase).total() / JOBS
            self.assertGreater(calls, 0, phase)
            self.assertLessEqual(calls, most, f"{phase}: {counts.of(phase).most_common(40)}")

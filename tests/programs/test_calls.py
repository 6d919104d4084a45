"""The number of calls that a job takes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.calls import PHASES, measure

JOBS = 100

MOST = {"send": 39.0, "take": 45.0, "answer": 42.0, "result": 32.0, "settle": 3.0}
"""The most calls per job. Other versions of Python and Twisted may need a few more than now."""


RECORDED = ("send", "answer", "result")
"""The phases in which a worker counts and records jobs for a SystemManager that watches."""


class CallsTests(SynchronousTestCase):
    def test_a_job_takes_no_more_calls_than_it_should(self) -> None:
        counts = measure(JOBS)
        self.assertEqual(tuple(MOST), PHASES)
        for phase, most in MOST.items():
            calls = counts.of(phase).total() / JOBS
            self.assertGreater(calls, 0, phase)
            self.assertLessEqual(calls, most, f"{phase}: {counts.of(phase).most_common(40)}")

    def test_a_manager_that_watches_costs_one_call_where_something_is_counted(self) -> None:
        unwatched, counted, recorded = measure(JOBS), measure(JOBS, share=0.0), measure(JOBS, share=1.0)
        for phase in PHASES:
            calls = unwatched.of(phase).total() / JOBS
            most = calls + 1.0 * (phase in RECORDED)
            self.assertLessEqual(counted.of(phase).total() / JOBS, most, phase)
            self.assertLessEqual(recorded.of(phase).total() / JOBS, calls + 6.0 * (phase in RECORDED), phase)
        self.assertGreater(recorded.of("send").total(), unwatched.of("send").total())

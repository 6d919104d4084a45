"""The numbers of the fleet: rates and times from what workers report, restarts, and limits."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.unit.monitoring.test_quantiles import histogram
from txmicro.monitoring import fleet as fleet_module
from txmicro.monitoring.fleet import FORGET, QUANTILE_SECONDS, Fleet, Quantiles, TypeNumbers
from txmicro.monitoring.report import Numbers, Report
from txmicro.monitoring.series import LENGTH

START = 1_795_449_580.0


def numbers(succeeded: int = 0, failed: int = 0, *, run: float = 0.03, wait: float = 0.3) -> Numbers:
    """Return the numbers of a process that has run so many jobs, each for *run* seconds."""
    ended = succeeded + failed
    return Numbers(
        {"interactive": {"succeeded": succeeded, "failed": failed}},
        {"interactive": histogram(*[wait] * ended)},
        {"interactive": histogram(*[run] * ended)},
        {"WC": histogram(*[4.0] * ended)},
    )


def report(
    worker: str = "WB:1", total: Numbers | None = None, *, process: str = "p1", **fields: Any
) -> Report:
    return Report(worker, worker.partition(":")[0], process, numbers=total or Numbers(), **fields)


class FleetCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.fleet = Fleet()
        self.now = START

    def second(self, *reports: Report) -> None:
        """Hear *reports*, and end the second."""
        for each in reports:
            self.fleet.heard(each, self.now)
        self.fleet.tick(self.now)
        self.now += 1

    @property
    def kind(self) -> TypeNumbers:
        return self.fleet.types["WB"]


class NumbersTests(FleetCase):
    def test_the_first_report_of_a_process_is_only_compared_with(self) -> None:
        self.second(report(total=numbers(1000)))
        self.assertEqual(self.kind.jobs_per_second, 0)
        self.assertEqual(self.kind.run, Quantiles(None, None))

    def test_rates_are_differences(self) -> None:
        self.second(report(total=numbers(1000, 5)))
        for step in range(1, 11):
            self.second(report(total=numbers(1000 + 20 * step, 5 + 2 * step)))
        self.assertEqual(self.kind.jobs_per_second, 22)
        self.assertEqual(self.kind.errors_per_second, 2)
        self.assertEqual(self.kind.series.last("jobs", 3), [22, 22, 22])
        self.assertEqual(self.kind.series.last("errors", 1), [2])

    def test_times_are_those_of_the_last_minute(self) -> None:
        self.second(report(total=numbers(1000, run=50.0)))
        total = numbers(1000, run=50.0)
        total.run["interactive"] = [
            a + b for a, b in zip(total.run["interactive"], histogram(0.03), strict=True)
        ]
        self.second(report(total=total))
        self.assertAlmostEqual(self.kind.run.p50 or 0, 0.0375)
        self.assertEqual(self.kind.series.last("run_p50", 2)[0], None)
        self.assertAlmostEqual(self.kind.series.last("run_p50", 1)[0] or 0, 0.0375)
        for _ in range(QUANTILE_SECONDS):
            self.second(report(total=total))
        self.assertEqual(self.kind.run, Quantiles(None, None))

    def test_a_trip_counts_for_the_type_that_the_job_was_sent_to(self) -> None:
        self.second(report(total=numbers(1)))
        self.second(report(total=numbers(2)))
        self.assertGreater(self.fleet.types["WC"].trip.p50 or 0, 2.5)
        self.assertEqual(self.kind.trip, Quantiles(None, None))

    def test_workers_of_one_process_report_the_same_numbers_which_count_once(self) -> None:
        self.second(report("WB:1", numbers(10)), report("WB:2", numbers(10)))
        self.second(report("WB:1", numbers(15)), report("WB:2", numbers(17)))
        self.assertEqual(self.kind.series.last("jobs", 1), [7])

    def test_processes_and_types_are_added_and_not_mixed(self) -> None:
        self.second(
            report(total=numbers(10)), report("WB:2", numbers(500), process="p2"), report("WC:1", numbers(7))
        )
        self.second(
            report(total=numbers(11)), report("WB:2", numbers(502), process="p2"), report("WC:1", numbers(7))
        )
        self.assertEqual(self.kind.series.last("jobs", 1), [3])
        self.assertEqual(self.fleet.types["WC"].series.last("jobs", 1), [0])

    def test_a_process_that_was_started_again_begins_at_0(self) -> None:
        self.second(report(total=numbers(1000)))
        self.second(report(total=numbers(3)))
        self.assertEqual(self.kind.series.last("jobs", 1), [3])
        self.assertEqual(sum(self.kind._run.counts), 3)
        self.second(report(total=numbers(5)))
        self.assertEqual(self.kind.series.last("jobs", 1), [2])

    def test_a_type_that_is_not_heard_of_has_no_values(self) -> None:
        self.second(report())
        for _ in range(int(FORGET) + 1):
            self.second()
        self.assertEqual(self.kind.series.last("jobs", 2), [0, None])


class WorkersTests(FleetCase):
    def test_a_worker_has_the_numbers_of_its_last_report(self) -> None:
        self.second(report(running=1, held=2, pending=3))
        self.second(report(running=4, held=5, pending=6, ran=7))
        worker = self.fleet.workers["WB:1"]
        self.assertEqual((worker.running, worker.held, worker.pending, worker.rate), (4, 5, 6, 7))
        self.assertEqual(worker.heard, self.now - 1)

    def test_its_rate_is_since_the_last_report(self) -> None:
        self.second(report(ran=1))
        self.assertEqual(self.fleet.workers["WB:1"].rate, 0)
        self.now += 3
        self.second(report(ran=2))
        self.assertEqual(self.fleet.workers["WB:1"].rate, 0.5)

    def test_a_worker_that_is_not_heard_of_is_forgotten(self) -> None:
        self.second(report())
        for _ in range(int(FORGET) + 20):
            self.second(report("WC:1"))
        self.assertEqual(list(self.fleet.workers), ["WC:1"])
        self.assertEqual(len(self.fleet._processes), 1)

    def test_the_youngest_job_that_has_started(self) -> None:
        self.second(
            report(youngest={"durable": 5.0}), report("WB:2", youngest={"durable": 4.0, "interactive": 1.0})
        )
        self.assertEqual(self.kind.youngest, {"durable": 5.0, "interactive": 1.0})


class LimitTests(FleetCase):
    def test_too_many_workers(self) -> None:
        self.patch(fleet_module, "WORKERS_MAX", 2)
        self.second(*(report(f"WB:{number}", process=f"p{number}") for number in range(5)))
        self.assertEqual(list(self.fleet.workers), ["WB:0", "WB:1"])
        self.assertEqual(len(self.fleet._processes), 2)

    def test_too_many_types(self) -> None:
        self.patch(fleet_module, "TYPES_MAX", 2)
        self.second(*(report(f"T{number}:1") for number in range(5)))
        self.assertEqual(list(self.fleet.types), ["T0", "T1"])

    def test_a_worker_that_reports_for_very_many_processes(self) -> None:
        self.patch(fleet_module, "WORKERS_MAX", 10)
        for number in range(100):
            self.fleet.heard(report(total=numbers(1), process=f"p{number}"), self.now)
        self.assertEqual(len(self.fleet._processes), 10)

    def test_a_type_that_nobody_hears_of_is_forgotten(self) -> None:
        self.second(report())
        for _ in range(LENGTH + int(FORGET) + 20):
            self.second(report("WC:1"))
        self.assertEqual(list(self.fleet.types), ["WC"])

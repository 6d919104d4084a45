"""The reporter of a worker: when it records and reports, and when it does nothing."""

from __future__ import annotations

from typing import Any, cast

from prometheus_client import CollectorRegistry
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txmicro.errors import DecodeError, MessageTooLarge
from txmicro.metrics import Metrics
from txmicro.monitoring.recorder import Recorder
from txmicro.monitoring.report import Watch
from txmicro.protocol.address import Ids
from txmicro.protocol.job import Job
from txmicro.protocol.notifications import Announcement
from txmicro.runtime.reporter import IDLE, WATCHED, Reporter

ME = Announcement("WB:1", "WB")
MANAGER, OTHER = "SystemManager:1", "SystemManager:2"


class Publishing:
    """A publisher whose session is itself, and which keeps what it is given."""

    def __init__(self) -> None:
        self.session: Any = self
        self.writable = True
        self.error: Exception | None = None
        self.reports: list[dict[str, Any]] = []

    def notify(self, topic: str, body: dict[str, Any]) -> None:
        assert topic == "monitor.report.WB", topic
        if self.error is not None:
            raise self.error
        self.reports.append(body)


class ReporterTests(SynchronousTestCase):
    running_jobs = held_jobs = pending_jobs = 0

    def setUp(self) -> None:
        self.clock = Clock()
        self.publisher = publisher = Publishing()
        self.recorder: Recorder | None = None
        self.reporter = Reporter(
            self.clock,
            lambda: ME,
            cast("Any", publisher),
            ids=Ids(self.clock.seconds, lambda bits: 0xABC),
            metrics=Metrics(CollectorRegistry()).service("WB"),
            counts=self,
            record=self.record,
            jitter=lambda: 0.5,
        )
        self.addCleanup(self.check_timers)

    def check_timers(self) -> None:
        self.reporter.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def record(self, recorder: Recorder | None) -> None:
        self.recorder = recorder

    def watch(self, manager: str = MANAGER, **fields: Any) -> None:
        self.reporter.watched(Watch(manager, **fields).body())

    def work(self, jobs: int = 1) -> None:
        """Send *jobs* jobs, as far as that is recorded."""
        for number in range(jobs):
            if self.recorder is not None:
                self.recorder.sent(Job(f"00ff-{number:x}", None, ["WB:*"], 0, "WB:1", "WB:1", 0.0))

    def reports(self) -> list[dict[str, Any]]:
        reports, self.publisher.reports = self.publisher.reports, []
        return list(reports)

    def wait(self, seconds: float) -> None:
        self.clock.pump([0.25] * round(seconds / 0.25))

    def test_without_a_watch_nothing_is_recorded_and_no_timer_runs(self) -> None:
        self.assertIsNone(self.recorder)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_first_report_comes_within_the_first_interval(self) -> None:
        self.watch()
        self.wait(0.25)
        self.assertEqual(self.reports(), [])
        self.wait(0.25)
        (report,) = self.reports()
        self.assertEqual((report["worker"], report["process"]), ("WB:1", f"{0xABC:016x}"))

    def test_it_reports_once_per_interval_as_long_as_it_does_something(self) -> None:
        self.watch()
        for _ in range(5):
            self.work()
            self.wait(1)
        self.assertEqual([len(each["records"]) for each in self.reports()], [1] * 5)

    def test_a_worker_that_does_nothing_reports_rarely(self) -> None:
        for _ in range(6):
            self.watch()
            self.wait(5)
        self.assertEqual(len(self.reports()), 30 / IDLE)

    def test_a_load_that_changes_is_reported(self) -> None:
        self.watch()
        self.wait(3)
        self.reports()
        self.running_jobs = 2
        self.wait(1)
        self.assertEqual([each["running"] for each in self.reports()], [2])

    def test_it_ends_when_no_manager_watches_any_more(self) -> None:
        self.watch()
        self.wait(WATCHED - 1)
        self.assertIsNotNone(self.recorder)
        self.wait(2)
        self.assertIsNone(self.recorder)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.watch()
        self.assertIsNotNone(self.recorder)

    def test_of_several_managers_the_one_that_wants_least_decides(self) -> None:
        self.watch(share=0.0, interval=2.0)
        self.watch(OTHER, share=1.0, interval=1.0, failures=10)
        self.work()
        self.wait(4)
        reports = self.reports()
        self.assertEqual(len(reports), 2)
        self.assertEqual([each["records"] for each in reports], [[], []])
        for _ in range(4):  # the first watch has ended
            self.watch(OTHER)
            self.wait(4)
        self.work()
        self.wait(1)
        self.assertEqual([len(each["records"]) for each in self.reports()][-1], 1)

    def test_managers_that_do_not_exist_cannot_fill_the_memory(self) -> None:
        for number in range(1000):
            self.watch(f"SystemManager:{number}")
        self.assertEqual(len(self.reporter._watches), 100)

    def test_a_bad_watch_changes_nothing(self) -> None:
        self.assertRaises(DecodeError, self.reporter.watched, {"share": 1})
        self.assertIsNone(self.recorder)

    def test_while_nothing_can_be_published_records_wait(self) -> None:
        self.watch()
        self.work(3)
        self.publisher.writable = False
        self.wait(3)
        self.publisher.writable, self.publisher.session = True, None
        self.wait(3)
        self.assertEqual(self.reports(), [])
        self.publisher.session = self.publisher
        self.wait(1)
        self.assertEqual([len(each["records"]) for each in self.reports()], [3])

    def test_a_report_that_is_too_large_is_left_out(self) -> None:
        self.watch()
        self.publisher.error = MessageTooLarge("too large")
        self.wait(2)
        self.publisher.error = None
        self.work()
        self.wait(1)
        self.assertEqual([len(each["records"]) for each in self.reports()], [1])

    def test_at_the_end_it_reports_what_is_left(self) -> None:
        self.watch()
        self.work()
        self.reporter.close()
        self.assertEqual([len(each["records"]) for each in self.reports()], [1])
        self.assertIsNone(self.recorder)
        self.assertEqual(self.clock.getDelayedCalls(), [])

from __future__ import annotations

from prometheus_client import CollectorRegistry
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from txmicro.daemons.log_counter import LogCounter


class LogCounterTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.registry = CollectorRegistry()
        self.observer = LogCounter(self.registry)

    def count(self, level: str) -> float | None:
        return self.registry.get_sample_value("microservices_log_lines_total", {"level": level})

    def test_it_counts_events_by_level(self) -> None:
        for level in (LogLevel.warn, LogLevel.warn, LogLevel.critical):
            self.observer({"log_level": level})
        self.observer({"log_format": "an event of another program"})
        self.assertEqual([self.count(level.name) for level in LogLevel.iterconstants()], [0, 1, 2, 0, 1])

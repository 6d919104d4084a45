"""The memory alarm of the embedded broker."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txmicro.broker.memory_gauge import MemoryGauge


class MemoryGaugeTests(SynchronousTestCase):
    def test_the_alarm_rises_above_the_limit_and_ends_below_four_fifths(self) -> None:
        seen: list[bool] = []
        gauge = MemoryGauge(100)
        gauge.on_alarm = seen.append
        gauge.allocate(100)
        self.assertEqual(seen, [])
        gauge.allocate(1)
        gauge.allocate(1)
        gauge.free(22)
        self.assertEqual(seen, [True])
        gauge.free(1)
        gauge.free(1)
        self.assertEqual(seen, [True, False])

    def test_a_listener_is_optional(self) -> None:
        gauge = MemoryGauge(1)
        gauge.allocate(2)
        self.assertTrue(gauge.alarm)

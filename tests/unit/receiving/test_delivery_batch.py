"""Deliveries that are done wait a moment for others."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txmicro.receiving.delivery_batch import MOMENT, DeliveryBatch


class SettlingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.settled: list[tuple[str, bool]] = []
        self.settling = DeliveryBatch(self.clock, 3)

    def add(self, *names: str) -> None:
        for name in names:
            self.settling.add(lambda done, name=name: self.settled.append((name, done)))  # type: ignore[misc]

    def test_what_is_done_in_one_moment_is_settled_together(self) -> None:
        self.add("a")
        self.clock.advance(MOMENT / 2)
        self.add("b")
        self.assertEqual(self.settled, [])
        self.clock.advance(MOMENT / 2)
        self.assertEqual(self.settled, [("a", True), ("b", True)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_more_than_a_few_wait(self) -> None:
        self.add("a", "b", "c", "d")
        self.assertEqual(self.settled, [("a", True), ("b", True), ("c", True)])
        self.clock.advance(MOMENT)
        self.assertEqual(self.settled[3:], [("d", True)])

    def test_none_waits_where_none_may(self) -> None:
        self.settling = DeliveryBatch(self.clock, 0)
        self.add("a")
        self.assertEqual(self.settled, [("a", True)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_lost_channel_has_nothing_to_settle_and_the_next_one_has(self) -> None:
        self.add("a")
        self.settling.clear()
        self.add("b")
        self.clock.advance(MOMENT)
        self.assertEqual(self.settled, [("b", True)])

    def test_stopping_settles_what_waits(self) -> None:
        self.add("a")
        self.settling.stop()
        self.settling.stop()
        self.assertEqual(self.settled, [("a", True)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

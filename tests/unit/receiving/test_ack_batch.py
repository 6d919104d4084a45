"""Acks that wait for company."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txmicro.receiving.ack_batch import MOMENT, AckBatch


class AckBatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.told: list[tuple[str, list[str]]] = []
        self.acks = AckBatch(self.clock, lambda sender, keys: self.told.append((sender, keys)))

    def test_acks_of_one_moment_travel_together_by_sender(self) -> None:
        self.acks.add("a/0", "WA:1")
        self.acks.add("b/0", "WC:1")
        self.acks.add("c/0", "WA:1")
        self.assertEqual(self.told, [])
        self.clock.advance(MOMENT)
        self.assertEqual(self.told, [("WA:1", ["a/0", "c/0"]), ("WC:1", ["b/0"])])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_an_answer_that_left_before_makes_the_ack_unnecessary(self) -> None:
        self.acks.add("a/0", "WA:1")
        self.acks.forget("a/0")
        self.acks.forget("never/0")
        self.clock.advance(MOMENT)
        self.assertEqual(self.told, [])

    def test_flush_sends_now_and_only_once(self) -> None:
        self.acks.add("a/0", "WA:1")
        self.acks.flush()
        self.clock.advance(MOMENT)
        self.assertEqual(self.told, [("WA:1", ["a/0"])])

    def test_a_lost_connection_drops_them_and_later_ones_travel(self) -> None:
        self.acks.add("a/0", "WA:1")
        self.acks.clear()
        self.acks.add("b/0", "WA:1")
        self.clock.advance(MOMENT)
        self.assertEqual(self.told, [("WA:1", ["b/0"])])

    def test_stop_leaves_no_timer(self) -> None:
        self.acks.stop()
        self.acks.add("a/0", "WA:1")
        self.acks.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

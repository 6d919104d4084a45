"""The batches of acknowledgements."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.deliveries import NotingChannel
from txmicro.protocol.messages import ACK
from txmicro.receiving.batching import DELIVERIES_WAIT, KEYS_WAIT, DeliveryBatch, KeyBatch


class KeyBatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.told: list[tuple[str, list[str]]] = []
        self.acks = KeyBatch(self.clock, ACK, self)

    def send_keys(self, kind: str, worker: str, keys: list[str]) -> None:
        self.assertEqual(kind, ACK)
        self.told.append((worker, keys))

    def test_acks_of_one_moment_are_sent_together_per_sender(self) -> None:
        self.acks.add("a/0", "WA:1")
        self.acks.add("b/0", "WC:1")
        self.acks.add("c/0", "WA:1")
        self.assertEqual(self.told, [])
        self.clock.advance(KEYS_WAIT)
        self.assertEqual(self.told, [("WA:1", ["a/0", "c/0"]), ("WC:1", ["b/0"])])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_an_answer_that_was_sent_before_replaces_the_ack(self) -> None:
        self.acks.add("a/0", "WA:1")
        self.acks.forget("a/0")
        self.acks.forget("never/0")
        self.clock.advance(KEYS_WAIT)
        self.assertEqual(self.told, [])

    def test_flush_sends_now_and_only_once(self) -> None:
        self.acks.add("a/0", "WA:1")
        self.acks.flush()
        self.clock.advance(KEYS_WAIT)
        self.assertEqual(self.told, [("WA:1", ["a/0"])])

    def test_a_lost_connection_drops_them_and_later_ones_are_sent(self) -> None:
        self.acks.add("a/0", "WA:1")
        self.acks.clear()
        self.acks.add("b/0", "WA:1")
        self.clock.advance(KEYS_WAIT)
        self.assertEqual(self.told, [("WA:1", ["b/0"])])

    def test_stop_leaves_no_timer(self) -> None:
        self.acks.stop()
        self.acks.add("a/0", "WA:1")
        self.acks.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class DeliveryBatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.settled: list[tuple[Any, ...]] = []
        self.channel = NotingChannel(self.settled)
        self.batch = DeliveryBatch(self.clock, 3)

    def add(self, *names: str) -> None:
        for name in names:
            self.batch.add(self.channel.deliver(name))

    def test_deliveries_of_one_moment_are_settled_together(self) -> None:
        self.add("a")
        self.clock.advance(DELIVERIES_WAIT / 2)
        self.add("b")
        self.assertEqual(self.settled, [])
        self.clock.advance(DELIVERIES_WAIT / 2)
        self.assertEqual(self.settled, [("ack", "a"), ("ack", "b")])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_number_that_waits_is_bounded(self) -> None:
        self.add("a", "b", "c", "d")
        self.assertEqual(self.settled, [("ack", "a"), ("ack", "b"), ("ack", "c")])
        self.clock.advance(DELIVERIES_WAIT)
        self.assertEqual(self.settled[3:], [("ack", "d")])

    def test_with_a_limit_of_zero_each_delivery_is_settled_at_once(self) -> None:
        self.batch = DeliveryBatch(self.clock, 0)
        self.add("a")
        self.assertEqual(self.settled, [("ack", "a")])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_lost_channel_settles_nothing_and_the_next_one_does(self) -> None:
        self.add("a")
        self.batch.clear()
        self.add("b")
        self.clock.advance(DELIVERIES_WAIT)
        self.assertEqual(self.settled, [("ack", "b")])

    def test_stopping_settles_the_deliveries_that_wait(self) -> None:
        self.add("a")
        self.batch.stop()
        self.batch.stop()
        self.assertEqual(self.settled, [("ack", "a")])
        self.assertEqual(self.clock.getDelayedCalls(), [])

"""Heartbeats of the AMQP client, against a scripted broker."""

from __future__ import annotations

from tests.support.amqp_client import ConnectionTestCase
from txmicro.amqp.errors import (
    HeartbeatLost,
)

HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"


class HeartbeatTests(ConnectionTestCase):
    def beats(self, seconds: float) -> int:
        """Return how many heartbeats the client sends while time advances in steps of a second."""
        for _ in range(round(seconds)):
            self.broker.clock.advance(1)
        return self.broker.heard().count("heartbeat")

    def hear(self) -> None:
        self.broker.client.dataReceived(HEARTBEAT)

    def test_an_idle_client_sends_heartbeats(self) -> None:
        self.opened(heartbeat=10)
        self.hear()
        self.assertEqual(self.beats(5), 0)  # the handshake was half an interval ago
        self.assertEqual(self.beats(5), 1)
        self.hear()
        self.assertEqual(self.beats(10), 2)

    def test_other_frames_replace_a_heartbeat(self) -> None:
        channel = self.opened(heartbeat=10).channel()
        for number in range(6):
            channel.ack(number)
            self.hear()
            self.assertEqual(self.beats(5), 0)

    def test_a_connection_without_input_for_two_intervals_is_closed(self) -> None:
        broker = self.opened(heartbeat=10)
        channel = broker.channel()
        lost, calling = broker.client.lost(), channel.basic_qos()
        self.beats(19)
        self.assertFalse(broker.transport.disconnected)
        self.beats(1)
        self.assertTrue(broker.transport.disconnected)
        self.assertIsInstance(self.reason(calling), HeartbeatLost)
        broker.hang_up()
        self.assertIsInstance(self.successResultOf(lost), HeartbeatLost)

    def test_any_input_counts_as_a_heartbeat(self) -> None:
        broker = self.opened(heartbeat=10)
        for _ in range(5):
            self.beats(15)
            self.hear()
        self.assertFalse(broker.transport.disconnected)

    def test_a_client_that_was_blocked_reads_before_it_checks(self) -> None:
        broker = self.opened(heartbeat=10)
        broker.clock.advance(3600)
        self.assertFalse(broker.transport.disconnected)

    def test_a_connection_that_ends_at_a_heartbeat_has_no_next_one(self) -> None:
        broker = self.opened(heartbeat=10)
        self.hear()
        broker.client.on_writable = lambda _: broker.client.abort()
        broker.transport.write = lambda data: broker.client.pauseProducing()  # type: ignore[method-assign]
        broker.clock.advance(5)
        broker.clock.advance(5)
        self.assertTrue(broker.transport.disconnected)
        broker.hang_up()
        self.assertEqual(broker.clock.getDelayedCalls(), [])

    def test_there_are_no_heartbeats_if_either_side_wants_none(self) -> None:
        self.opened(heartbeat=0)
        self.assertEqual(self.broker.clock.getDelayedCalls(), [])

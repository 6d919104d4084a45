"""Connections of the embedded broker, frame by frame, on a Clock."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pamqp.commands import Basic, Channel, Connection, Queue
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from tests.support.broker_client import BrokerTestCase, Client
from txmicro.amqp.frames import (
    HEARTBEAT,
    ack_frame,
    content_frames,
    deliver_frame,
    method_frame,
    publish_prefix,
)
from txmicro.amqp.methods import Deliver
from txmicro.amqp.properties import Properties
from txmicro.broker.factory import BrokerFactory
from txmicro.broker.output_buffer import UNREAD
from txmicro.broker.server_connection import PATIENCE


class ConnectionTests(BrokerTestCase):
    def test_a_client_may_close(self) -> None:
        client = self.opened()
        self.assertIsInstance(client.send(Connection.Close(200, "bye", 0, 0), 0), Connection.CloseOk)
        self.assertTrue(client.transport.disconnecting)

    def test_a_close_by_the_server_waits_for_its_confirmation(self) -> None:
        client = self.opened()
        self.refused(client, Channel.Flow(False), 540, "active=false")
        self.assertFalse(client.transport.disconnecting)
        client.send(Queue.Declare(queue="ignored"))
        client.publish("ignored")
        self.assertEqual(self.factory.model.queues, {})
        client.send(Connection.CloseOk(), 0)
        self.assertTrue(client.transport.disconnecting)

    def test_a_close_that_is_not_confirmed_ends_in_an_abort(self) -> None:
        client = self.opened()
        client.send(Channel.Flow(False))
        self.clock.advance(PATIENCE)
        self.assertTrue(client.transport.aborted)

    def test_the_close_names_the_method(self) -> None:
        client = self.opened()
        client.send(Queue.Declare(queue="missing", passive=True))
        close = client.methods[-1][1]
        self.assertEqual((close.class_id, close.method_id), (50, 10))

    def test_invalid_frames_close_the_connection_with_a_reason(self) -> None:
        client = self.opened()
        client.write(b"\x09garbage!")
        self.assert_closed(client, 501, "FRAME_ERROR - unknown frame type 9")
        self.assertTrue(client.transport.disconnecting)

    def test_invalid_frames_while_closing_abort_the_connection(self) -> None:
        client = self.opened()
        client.send(Channel.Flow(False))
        client.write(b"\x09garbage!")
        self.assert_closed(client, 540, "active=false")
        self.assertTrue(client.transport.disconnecting)

    @given(st.binary(max_size=200), st.booleans())
    def test_no_input_raises_an_exception(self, data: bytes, late: bool) -> None:
        clock = Clock()
        client = Client(BrokerFactory(clock), clock)
        if late:
            client.open()
        client.server.dataReceived(data)
        clock.advance(0)
        client.lose()
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_methods_that_only_servers_send_are_refused(self) -> None:
        client = self.opened()
        delivery = deliver_frame(1, Deliver("tag", 1, False, "", "key"))
        client.write(content_frames(1, delivery, Properties().encode(), b"x", 131_072))
        self.assert_closed(client, 503, "basic.deliver from a client")
        other = self.opened()
        self.refused(other, Connection.Tune(1, 1, 1), 503, "unexpected method Connection.Tune", 0)
        third = self.opened()
        third.write(ack_frame(0, 1))
        self.assert_closed(third, 503, "unexpected method basic.ack on channel 0")

    def test_the_output_of_a_turn_is_one_write(self) -> None:
        client = self.opened()
        writes: list[bytes] = []
        client.transport.write = writes.append  # type: ignore[method-assign]
        client.server.dataReceived(
            method_frame(1, Queue.Declare(queue="queue")) + method_frame(1, Basic.Qos())
        )
        self.assertEqual(writes, [])
        self.clock.advance(0)
        self.assertEqual(len(writes), 1)

    def test_large_output_does_not_wait_for_the_end_of_the_turn(self) -> None:
        client = self.opened()
        client.send(Queue.Declare(queue="queue"))
        for _ in range(3):
            client.publish("queue", b"x" * 100_000)
        client.server.dataReceived(method_frame(1, Basic.Consume(queue="queue", no_ack=True)))
        client.read()
        self.assertEqual(len(client.messages), 2)
        self.clock.advance(0)
        client.read()
        self.assertEqual(len(client.messages), 3)

    def test_a_full_transport_stops_deliveries(self) -> None:
        client = self.opened()
        client.send(Queue.Declare(queue="queue"))
        client.send(Basic.Consume(queue="queue"))
        client.transport.producer.pauseProducing()  # type: ignore[union-attr]
        client.publish("queue", b"x")
        self.assertEqual(client.messages, [])
        client.transport.producer.resumeProducing()  # type: ignore[union-attr]
        self.clock.advance(0)
        client.read()
        self.assertEqual(len(client.messages), 1)

    def test_one_message_may_be_larger_than_the_output_limit(self) -> None:
        client = self.opened()
        client.send(Queue.Declare(queue="queue"))
        client.send(Basic.Consume(queue="queue", no_ack=True))
        write = client.transport.write

        def fill(data: bytes) -> None:
            write(data)
            client.transport.producer.pauseProducing()  # type: ignore[union-attr]

        client.transport.write = fill  # type: ignore[method-assign]
        client.publish("queue", b"x" * (UNREAD + 1))
        self.assertFalse(client.transport.aborted)
        self.assertEqual(len(client.messages), 1)

    def test_a_client_that_does_not_read_replies_is_disconnected(self) -> None:
        client = self.opened()
        client.transport.producer.pauseProducing()  # type: ignore[union-attr]
        message = content_frames(
            1, publish_prefix(1, "", "nowhere", True), Properties().encode(), b"x" * 120_000, 131_072
        )
        for _ in range(UNREAD // 120_000 + 2):
            self.assertFalse(client.transport.aborted)
            client.server.dataReceived(message)
            self.clock.advance(0)
            client.transport.clear()
        self.assertTrue(client.transport.aborted)
        client.server.stopProducing()

    def test_a_shutdown_closes_connections_and_waits_for_their_end(self) -> None:
        self.assertIsNone(self.successResultOf(self.factory.shut_down()))
        opened, early = self.opened(), self.client()
        gone = self.factory.shut_down()
        opened.read()
        self.assert_closed(opened, 320, "CONNECTION_FORCED - broker forced connection closure")
        self.assertTrue(opened.transport.disconnecting and early.transport.disconnecting)
        opened.lose()
        self.assertNoResult(gone)
        early.lose()
        self.successResultOf(gone)

    def test_errors_are_logged_and_a_stop_is_not(self) -> None:
        client, other = self.opened(), self.opened()
        with capturedLogs() as events:
            client.send(Channel.Flow(False))
            other.server.shut_down()
        said = [event["why"] for event in events if "why" in event]
        self.assertEqual(said, ["NOT_IMPLEMENTED - active=false"])

    def test_close_breaks_connections(self) -> None:
        client = self.opened()
        self.factory.close()
        self.assertTrue(client.transport.aborted)


class HeartbeatTests(BrokerTestCase):
    def test_an_idle_connection_gets_heartbeats(self) -> None:
        client = self.opened(heartbeat=10)
        self.clock.advance(5)
        client.read()
        self.assertEqual(client.heartbeats, 0)  # something else was sent
        self.clock.advance(5)
        client.read()
        self.assertEqual(client.heartbeats, 1)

    def test_a_silent_client_is_disconnected_after_two_intervals(self) -> None:
        client = self.opened(heartbeat=10)
        self.clock.pump([5] * 4)
        client.write(HEARTBEAT)
        self.clock.pump([5] * 4)
        self.assertFalse(client.transport.aborted)
        self.clock.advance(5)
        self.assertTrue(client.transport.aborted)

    def test_heartbeats_may_be_off(self) -> None:
        self.opened(heartbeat=0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_blocked_client_may_be_silent(self) -> None:
        client = self.opened(heartbeat=10)
        client.send(Queue.Declare(queue="queue"))
        client.publish("queue")
        self.factory.model.memory.allocate(self.factory.model.memory.limit)
        self.clock.pump([5] * 9)
        self.assertFalse(client.transport.aborted)
        self.factory.model.memory.free(self.factory.model.memory.limit)


class MemoryTests(BrokerTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.memory = self.factory.model.memory

    def publisher(self, **options: Any) -> Client:
        client = self.opened(**options)
        client.send(Queue.Declare(queue="queue"))
        client.publish("queue", b"x")
        return client

    def drained(self, client: Client) -> list[type]:
        client.methods.clear()
        self.clock.advance(0)
        client.read()
        return [type(method) for _channel, method in client.methods]

    def test_publishers_are_not_read_while_memory_is_short(self) -> None:
        publisher, consumer = self.publisher(), self.opened()
        self.memory.allocate(self.memory.limit)
        self.assertEqual(self.drained(publisher), [Connection.Blocked])
        self.assertFalse(publisher.transport.reading)
        self.assertEqual((self.drained(consumer), consumer.transport.reading), ([], True))
        self.memory.free(self.memory.limit)
        self.assertEqual(self.drained(publisher), [Connection.Unblocked])
        self.assertTrue(publisher.transport.reading)

    def test_the_broker_sends_blocked_and_unblocked(self) -> None:
        with capturedLogs() as events:
            self.memory.allocate(self.memory.limit + 1)
            self.memory.allocate(1)
            self.memory.free(self.memory.limit + 2)
        held, over = (formatEvent(event) for event in events)
        self.assertIn(f"more than {self.memory.limit} bytes (broker_memory)", held)
        self.assertIn("publishers are unblocked", over)

    def test_a_client_that_publishes_later_is_blocked_too(self) -> None:
        client = self.opened()
        client.send(Queue.Declare(queue="queue"))
        self.memory.allocate(self.memory.limit + 1)
        client.publish("queue", b"x")
        client.publish("queue", b"y")  # it was read before
        self.assertFalse(client.transport.reading)
        self.assertEqual([type(method) for _channel, method in client.methods][-1:], [Connection.Blocked])
        self.assertEqual(len(self.factory.model.queues["queue"].ready), 2)
        self.memory.free(self.memory.limit + 1)

    def test_a_client_without_the_capability_is_blocked_silently(self) -> None:
        client = self.publisher(properties={"product": "old"})
        self.memory.allocate(self.memory.limit)
        self.assertEqual((self.drained(client), client.transport.reading), ([], False))
        self.memory.free(self.memory.limit)
        self.assertEqual((self.drained(client), client.transport.reading), ([], True))

    def test_a_closing_connection_is_not_blocked(self) -> None:
        client = self.publisher()
        client.send(Channel.Flow(False))
        self.memory.allocate(self.memory.limit)
        self.assertTrue(client.transport.reading)
        self.memory.free(self.memory.limit)

"""The embedded broker's server, byte for byte, on a Clock."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import base
from pamqp.commands import Basic, Channel, Confirm, Connection, Exchange, Queue, Tx
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from txmicro.amqp.fields import encode_table
from txmicro.amqp.frame_reader import FrameReader
from txmicro.amqp.frames import (
    BODY_MAX,
    HEARTBEAT,
    PROTOCOL_HEADER,
    ack_frame,
    content_frames,
    deliver_frame,
    method_frame,
    publish_prefix,
)
from txmicro.amqp.methods import Ack, Deliver
from txmicro.amqp.properties import Properties
from txmicro.broker.factory import BrokerFactory
from txmicro.broker.output_buffer import UNREAD
from txmicro.broker.server_connection import PATIENCE, ServerConnection

CAPABLE: dict[str, Any] = {"capabilities": {"consumer_cancel_notify": True, "connection.blocked": True}}


class _Transport(StringTransport):
    """Notes that it was aborted, and that reading was paused, apart from what the producer does."""

    aborted = False
    reading = True

    def abortConnection(self) -> None:
        self.aborted = True

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True


class Client:
    """What a client sends, and what it got: methods as (channel, method), messages as (method, properties, body)."""

    def __init__(self, factory: BrokerFactory, clock: Clock) -> None:
        self.clock = clock
        server: Any = factory.buildProtocol(None)
        self.server = server
        self.transport = _Transport()
        self.methods: list[tuple[int, Any]] = []
        self.messages: list[tuple[Any, Properties, bytes]] = []
        self.heartbeats = 0
        self._reader = FrameReader(
            lambda channel, method: self.methods.append((channel, method)),
            lambda channel, method, properties, body: self.messages.append((method, properties, body)),
            self._heartbeat,
        )
        self.server.makeConnection(self.transport)

    def _heartbeat(self) -> None:
        self.heartbeats += 1

    def write(self, data: bytes) -> None:
        self.server.dataReceived(data)
        self.clock.advance(0)
        self.read()

    def read(self) -> None:
        data = self.transport.value()
        self.transport.clear()
        self._reader.feed(data)

    def send(self, method: base.Frame, channel: int = 1) -> Any:
        """Send *method*; gives the last method that came back."""
        self.methods.clear()
        self.write(method_frame(channel, method))
        return self.methods[-1][1] if self.methods else None

    def publish(
        self,
        key: str,
        body: bytes = b"",
        exchange: str = "",
        *,
        mandatory: bool = False,
        channel: int = 1,
        **properties: Any,
    ) -> None:
        prefix = publish_prefix(channel, exchange, key, mandatory)
        self.write(content_frames(channel, prefix, Properties(**properties).encode(), body, 131_072))

    def greet(self) -> None:
        self.write(PROTOCOL_HEADER)

    def log_in(self, properties: Any = None, response: str = "\x00guest\x00guest", heartbeat: int = 0) -> Any:
        self.greet()
        self.send(
            Connection.StartOk(CAPABLE if properties is None else properties, "PLAIN", response, "en_US"), 0
        )
        if self.methods and type(self.methods[-1][1]) is Connection.Tune:
            self.send(Connection.TuneOk(2047, 131_072, heartbeat), 0)
            self.send(Connection.Open("/"), 0)
        return self

    def open(self, **options: Any) -> Client:
        self.log_in(**options)
        self.send(Channel.Open())
        return self

    def lose(self) -> None:
        self.server.connectionLost(None)


class ServerTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.factory = BrokerFactory(self.clock)
        self.clients: list[Client] = []

    def tearDown(self) -> None:
        for client in self.clients:
            if client.server in self.factory.connections:
                client.lose()
        self.factory.close()
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def client(self) -> Client:
        self.clients.append(Client(self.factory, self.clock))
        return self.clients[-1]

    def opened(self, **options: Any) -> Client:
        return self.client().open(**options)

    def assert_closed(self, client: Client, code: int, words: str) -> None:
        """The server closes the connection, with these words."""
        _channel, close = client.methods[-1]
        self.assertIsInstance(close, Connection.Close)
        self.assertEqual(close.reply_code, code)
        self.assertIn(words, close.reply_text)

    def refused(self, client: Client, method: base.Frame, code: int, words: str, channel: int = 1) -> None:
        client.send(method, channel)
        self.assert_closed(client, code, words)


class HandshakeTests(ServerTestCase):
    def test_a_header_may_come_in_pieces(self) -> None:
        client = self.client()
        client.write(PROTOCOL_HEADER[:3])
        self.assertEqual(client.methods, [])
        client.write(PROTOCOL_HEADER[3:])
        (_channel, start) = client.methods[0]
        self.assertEqual(start.server_properties["product"], "txmicro")
        self.assertEqual((start.mechanisms, start.locales), ("PLAIN AMQPLAIN", "en_US"))

    def test_a_wrong_header_is_answered_with_the_right_one(self) -> None:
        client = self.client()
        client.server.dataReceived(b"AMQP\x01")
        self.assertEqual(client.transport.value(), PROTOCOL_HEADER)
        self.assertTrue(client.transport.disconnecting)

    def test_who_takes_too_long_is_cut_off(self) -> None:
        client = self.client()
        client.greet()
        self.clock.advance(PATIENCE)
        self.assertTrue(client.transport.aborted)

    def test_limits_are_proposed(self) -> None:
        client = self.client()
        client.greet()
        tune = client.send(Connection.StartOk({}, "PLAIN", "\x00guest\x00guest", "en_US"), 0)
        self.assertEqual((tune.channel_max, tune.frame_max, tune.heartbeat), (2047, 131_072, 60))

    def test_wrong_credentials_are_said_to_those_who_understand(self) -> None:
        capable = {"capabilities": {"authentication_failure_close": True}}
        for response in ("\x00guest\x00wrong", "\x00nobody\x00", "guest", "\x00guest\x00"):
            client = self.client()
            client.log_in(capable, response)
            self.assert_closed(client, 403, "ACCESS_REFUSED - Login was refused")

    def test_wrong_credentials_end_the_connection_of_others(self) -> None:
        client = self.client()
        client.log_in({"capabilities": "none"}, "\x00guest\x00wrong")
        self.assertTrue(client.transport.disconnecting)
        self.assertIsInstance(client.methods[-1:], list)

    def test_users_are_configured(self) -> None:
        self.factory = BrokerFactory(self.clock, users={"ü": "pässword"})
        client = self.client()
        client.log_in(response="\x00ü\x00pässword")
        self.assertIsInstance(client.methods[-1][1], Connection.OpenOk)
        other = self.client()
        other.log_in()
        self.assertTrue(other.transport.disconnecting)

    def test_amqplain_is_a_table(self) -> None:
        for response, known in (
            ({"LOGIN": "guest", "PASSWORD": "guest"}, True),
            ({"LOGIN": "guest", "PASSWORD": "wrong"}, False),
            ({"LOGIN": "guest", "PASSWORD": 1}, False),
            ({"LOGIN": "guest"}, False),
        ):
            client = self.client()
            client.greet()
            text = encode_table(response)[4:].decode()
            client.send(Connection.StartOk({}, "AMQPLAIN", text, "en_US"), 0)
            self.assertEqual(client.transport.disconnecting, not known, response)
        client = self.client()
        client.greet()
        client.send(Connection.StartOk({}, "AMQPLAIN", "no table", "en_US"), 0)
        self.assertTrue(client.transport.disconnecting)

    def test_a_new_secret_is_taken(self) -> None:
        client = self.opened()
        self.assertIsInstance(client.send(Connection.UpdateSecret("new", ""), 0), Connection.UpdateSecretOk)
        early = self.client()
        early.greet()
        self.refused(early, Connection.UpdateSecret("new", ""), 503, "unexpected method", 0)

    def test_other_mechanisms_are_unknown(self) -> None:
        client = self.client()
        client.greet()
        self.refused(client, Connection.StartOk({}, "MAGIC", "", "en_US"), 503, "mechanism 'MAGIC'", 0)

    def test_there_is_one_vhost(self) -> None:
        client = self.client()
        client.greet()
        client.send(Connection.StartOk({}, "PLAIN", "\x00guest\x00guest", "en_US"), 0)
        client.send(Connection.TuneOk(0, 131_072, 0), 0)
        self.refused(client, Connection.Open("other"), 530, "vhost other not found", 0)

    def test_frames_have_bounds(self) -> None:
        for size in (0, 4095, 131_073):
            client = self.client()
            client.greet()
            client.send(Connection.StartOk({}, "PLAIN", "\x00guest\x00guest", "en_US"), 0)
            self.refused(client, Connection.TuneOk(0, size, 0), 530, f"frame_max = {size}", 0)

    def test_frames_keep_to_what_was_agreed(self) -> None:
        client = self.client()
        client.greet()
        client.send(Connection.StartOk({}, "PLAIN", "\x00guest\x00guest", "en_US"), 0)
        client.send(Connection.TuneOk(0, 4096, 0), 0)
        client.send(Connection.Open("/"), 0)
        client.send(Channel.Open())
        client.send(Queue.Declare(queue="queue"))
        for half in (b"x" * 4000, b"y" * 4000):
            client.publish("queue", half)
        client.write(method_frame(1, Basic.Get(queue="queue", no_ack=True)))
        self.assertEqual(client.messages[-1][2], b"x" * 4000)
        client.server.dataReceived(b"\x01\x00\x01\x00\x00\x20\x00\x00")
        self.assertTrue(client.transport.disconnecting)

    def test_steps_keep_their_order(self) -> None:
        client = self.client()
        client.greet()
        self.refused(client, Connection.Open("/"), 503, "unexpected method Connection.Open", 0)
        early = self.client()
        early.greet()
        self.refused(early, Channel.Open(), 504, "channel 1 cannot be opened")
        other = self.client()
        other.greet()
        self.refused(other, Queue.Declare(), 504, "expected 'channel.open'")

    def test_messages_before_the_login_are_not_kept(self) -> None:
        client = self.client()
        client.greet()
        client.publish("queue", b"x")
        self.assert_closed(client, 503, "COMMAND_INVALID")
        self.assertTrue(client.transport.disconnecting)

    def test_there_is_a_limit_of_connections(self) -> None:
        factory = BrokerFactory(self.clock, max_connections=1)
        first: Any = factory.buildProtocol(None)
        self.assertIsInstance(first, ServerConnection)
        with capturedLogs() as events:
            self.assertIsNone(factory.buildProtocol(None))
        [event] = events
        self.assertIn("1 are open, the most that are allowed", formatEvent(event) or "")
        self.assertTrue(event["recurring"])


class ConnectionTests(ServerTestCase):
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

    def test_a_close_that_is_not_confirmed_is_cut_off(self) -> None:
        client = self.opened()
        client.send(Channel.Flow(False))
        self.clock.advance(PATIENCE)
        self.assertTrue(client.transport.aborted)

    def test_the_close_names_the_method(self) -> None:
        client = self.opened()
        client.send(Queue.Declare(queue="missing", passive=True))
        close = client.methods[-1][1]
        self.assertEqual((close.class_id, close.method_id), (50, 10))

    def test_garbage_ends_the_connection_with_a_reason(self) -> None:
        client = self.opened()
        client.write(b"\x09garbage!")
        self.assert_closed(client, 501, "FRAME_ERROR - unknown frame type 9")
        self.assertTrue(client.transport.disconnecting)

    def test_garbage_while_closing_ends_it_at_once(self) -> None:
        client = self.opened()
        client.send(Channel.Flow(False))
        client.write(b"\x09garbage!")
        self.assert_closed(client, 540, "active=false")
        self.assertTrue(client.transport.disconnecting)

    @settings(deadline=None)
    @given(st.binary(max_size=200), st.booleans())
    def test_no_bytes_raise(self, data: bytes, late: bool) -> None:
        clock = Clock()
        client = Client(BrokerFactory(clock), clock)
        if late:
            client.open()
        client.server.dataReceived(data)
        clock.advance(0)
        client.lose()
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_only_servers_send_some_methods(self) -> None:
        client = self.opened()
        delivery = deliver_frame(1, Deliver("tag", 1, False, "", "key"))
        client.write(content_frames(1, delivery, Properties().encode(), b"x", 131_072))
        self.assert_closed(client, 503, "basic.deliver from a client")
        other = self.opened()
        self.refused(other, Connection.Tune(1, 1, 1), 503, "unexpected method Connection.Tune", 0)
        third = self.opened()
        third.write(ack_frame(0, 1))
        self.assert_closed(third, 503, "unexpected method basic.ack on channel 0")

    def test_all_of_a_turn_leaves_in_one_piece(self) -> None:
        client = self.opened()
        writes: list[bytes] = []
        client.transport.write = writes.append  # type: ignore[method-assign]
        client.server.dataReceived(
            method_frame(1, Queue.Declare(queue="queue")) + method_frame(1, Basic.Qos())
        )
        self.assertEqual(writes, [])
        self.clock.advance(0)
        self.assertEqual(len(writes), 1)

    def test_much_output_does_not_wait_for_the_end_of_the_turn(self) -> None:
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

    def test_a_full_transport_holds_deliveries_back(self) -> None:
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

    def test_one_message_may_be_larger_than_what_may_pile_up(self) -> None:
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

    def test_who_never_reads_replies_is_cut_off(self) -> None:
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

    def test_shutdown_says_so_and_waits_until_all_are_gone(self) -> None:
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

    def test_mistakes_are_logged_and_stopping_is_not(self) -> None:
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


class HeartbeatTests(ServerTestCase):
    def test_a_quiet_connection_hears_heartbeats(self) -> None:
        client = self.opened(heartbeat=10)
        self.clock.advance(5)
        client.read()
        self.assertEqual(client.heartbeats, 0)  # there was something else
        self.clock.advance(5)
        client.read()
        self.assertEqual(client.heartbeats, 1)

    def test_a_silent_client_is_cut_off_after_two_intervals(self) -> None:
        client = self.opened(heartbeat=10)
        self.clock.pump([5] * 4)
        client.write(HEARTBEAT)
        self.clock.pump([5] * 4)
        self.assertFalse(client.transport.aborted)
        self.clock.advance(5)
        self.assertTrue(client.transport.aborted)

    def test_there_may_be_none(self) -> None:
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


class MemoryTests(ServerTestCase):
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

    def test_the_broker_says_so_and_that_it_is_over(self) -> None:
        with capturedLogs() as events:
            self.memory.allocate(self.memory.limit + 1)
            self.memory.allocate(1)
            self.memory.free(self.memory.limit + 2)
        held, over = (formatEvent(event) for event in events)
        self.assertIn(f"more than {self.memory.limit} bytes (broker_memory)", held)
        self.assertIn("publishers are unblocked", over)

    def test_who_starts_to_publish_then_is_blocked_too(self) -> None:
        client = self.opened()
        client.send(Queue.Declare(queue="queue"))
        self.memory.allocate(self.memory.limit + 1)
        client.publish("queue", b"x")
        client.publish("queue", b"y")  # what had been read already
        self.assertFalse(client.transport.reading)
        self.assertEqual([type(method) for _channel, method in client.methods][-1:], [Connection.Blocked])
        self.assertEqual(len(self.factory.model.queues["queue"].ready), 2)
        self.memory.free(self.memory.limit + 1)

    def test_who_does_not_know_the_notice_is_held_up_silently(self) -> None:
        client = self.publisher(properties={"product": "old"})
        self.memory.allocate(self.memory.limit)
        self.assertEqual((self.drained(client), client.transport.reading), ([], False))
        self.memory.free(self.memory.limit)
        self.assertEqual((self.drained(client), client.transport.reading), ([], True))

    def test_who_is_being_closed_is_not_blocked(self) -> None:
        client = self.publisher()
        client.send(Channel.Flow(False))
        self.memory.allocate(self.memory.limit)
        self.assertTrue(client.transport.reading)
        self.memory.free(self.memory.limit)


class ChannelTests(ServerTestCase):
    def test_channels_open_and_close(self) -> None:
        client = self.client().log_in()
        self.assertIsInstance(client.send(Channel.Open(), 2047), Channel.OpenOk)
        self.assertIsInstance(client.send(Channel.Close(200, "bye", 0, 0), 2047), Channel.CloseOk)
        self.refused(client, Queue.Declare(), 504, "expected 'channel.open'", 2047)

    def test_channels_are_counted_whatever_their_numbers(self) -> None:
        client = self.client()
        client.greet()
        client.send(Connection.StartOk({}, "PLAIN", "\x00guest\x00guest", "en_US"), 0)
        client.send(Connection.TuneOk(2, 131_072, 0), 0)
        client.send(Connection.Open("/"), 0)
        for number in (65_535, 3000):
            self.assertIsInstance(client.send(Channel.Open(), number), Channel.OpenOk)
        client.publish("nowhere", b"x", channel=65_535, mandatory=True)
        self.assertEqual(len(client.messages), 1)
        self.refused(
            client, Channel.Open(), 530, "channels opened (2) has reached the negotiated channel_max"
        )

    def test_more_channels_than_proposed_are_refused(self) -> None:
        client = self.client()
        client.greet()
        client.send(Connection.StartOk({}, "PLAIN", "\x00guest\x00guest", "en_US"), 0)
        self.refused(client, Connection.TuneOk(2048, 131_072, 0), 530, "channel_max = 2048", 0)

    def test_a_channel_opens_once(self) -> None:
        self.refused(self.opened(), Channel.Open(), 504, "second 'channel.open' seen")

    def test_a_refused_channel_is_deaf_until_its_close_is_confirmed(self) -> None:
        client = self.opened()
        client.send(Queue.Declare(queue="queue"))
        close = client.send(Basic.Consume(queue="missing"))
        self.assertIsInstance(close, Channel.Close)
        client.publish("queue", b"ignored")
        self.assertIsNone(client.send(Queue.Purge(queue="queue")))
        client.send(Channel.CloseOk())
        self.assertIsInstance(client.send(Channel.Open()), Channel.OpenOk)
        self.assertEqual(len(self.factory.model.queues["queue"].ready), 0)

    def test_both_may_close_at_once(self) -> None:
        client = self.opened()
        client.send(Basic.Consume(queue="missing"))
        self.assertIsInstance(client.send(Channel.Close(200, "bye", 0, 0)), Channel.CloseOk)
        self.assertIsNone(client.send(Channel.CloseOk()))
        self.assertIsInstance(client.send(Channel.Open()), Channel.OpenOk)

    def test_a_refused_channel_is_taken_until_its_close_is_confirmed(self) -> None:
        client = self.opened()
        client.send(Basic.Consume(queue="missing"))
        client.send(Channel.Close(200, "bye", 0, 0))
        self.refused(client, Channel.Open(), 504, "second 'channel.open' seen")

    def test_long_reasons_are_cut(self) -> None:
        close = self.opened().send(Queue.Purge(queue="q" * 255))
        self.assertEqual((close.reply_code, len(close.reply_text)), (404, 255))

    def test_what_nobody_has_ends_the_connection(self) -> None:
        for method, code, words in (
            (Channel.Flow(False), 540, "active=false"),
            (Basic.Qos(prefetch_size=1), 540, "prefetch_size!=0 (1)"),
            (Basic.Recover(False), 540, "requeue=false"),
            (Basic.RecoverAsync(False), 540, "requeue=false"),
            (Queue.DeclareOk("queue", 0, 0), 503, "method Queue.DeclareOk from a client"),
        ):
            self.refused(self.opened(), method, code, words)

    def test_who_asks_for_what_this_broker_lacks_keeps_the_connection(self) -> None:
        client = self.opened()
        for method, words in (
            (Basic.Qos(prefetch_count=1, global_=True), "global=true"),
            (Exchange.Bind(destination="a", source="b"), "Exchange.Bind"),
            (Exchange.Declare(exchange="e", arguments={"alternate-exchange": "f"}), "alternate-exchange"),
            (Queue.Declare(queue="queue", arguments={"x-max-priority": 5}), "x-max-priority"),
            (Tx.Select(), "Tx.Select"),
        ):
            close = client.send(method)
            self.assertIsInstance(close, Channel.Close)
            self.assertEqual((close.reply_code, words in close.reply_text), (540, True), close.reply_text)
            client.send(Channel.CloseOk())
            client.send(Channel.Open())

    def test_immediate_is_refused(self) -> None:
        client = self.opened()
        prefix = method_frame(1, Basic.Publish(exchange="", routing_key="key", immediate=True))
        client.write(content_frames(1, prefix, Properties().encode(), b"", 131_072))
        self.assert_closed(client, 540, "immediate=true")

    def test_nobody_publishes_in_another_users_name(self) -> None:
        self.factory = BrokerFactory(self.clock, users={"me": "p"})
        client = self.opened(response="\x00me\x00p")
        client.publish("nowhere", mandatory=True, user_id="me")
        self.assertEqual(len(client.messages), 1)
        client.publish("nowhere", user_id="you")
        close = client.methods[-1][1]
        self.assertIsInstance(close, Channel.Close)
        self.assertIn("user_id property set to 'you' but authenticated user was 'me'", close.reply_text)

    def test_a_key_that_is_no_text_is_refused(self) -> None:
        client = self.opened()
        prefix = publish_prefix(1, "", "k", False).replace(b"\x01k", b"\x01\xff")
        client.write(content_frames(1, prefix, Properties().encode(), b"", 131_072))
        self.assertEqual(client.methods[-1][1].reply_code, 406)

    def announce(self, size: int, channel: int = 1) -> bytes:
        """A publish and the header of a body of *size* bytes."""
        frames = content_frames(channel, publish_prefix(channel, "", "queue", False), b"\0\0", b"", 131_072)
        return frames[:-11] + size.to_bytes(8, "big") + frames[-3:]

    def body(self, data: bytes, channel: int = 1) -> bytes:
        return b"\3" + channel.to_bytes(2, "big") + len(data).to_bytes(4, "big") + data + b"\xce"

    def test_a_message_that_is_too_large_costs_its_channel(self) -> None:
        client = self.opened()
        client.send(Queue.Declare(queue="queue"))
        client.write(self.announce(BODY_MAX + 1) + self.body(b"x" * 100_000))
        close = client.methods[-1][1]
        self.assertIsInstance(close, Channel.Close)
        self.assertEqual((close.reply_code, close.class_id, close.method_id), (406, 60, 40))
        self.assertIn("larger than configured max size 134217728", close.reply_text)
        client.write(self.body(b"x" * 100_000))
        client.send(Channel.CloseOk())
        self.assertIsInstance(client.send(Channel.Open()), Channel.OpenOk)
        client.publish("queue", b"small")
        self.assertEqual([message.body for message in self.factory.model.queues["queue"].ready], [b"small"])

    def test_a_message_that_is_too_large_may_come_to_its_end(self) -> None:
        client = self.opened()
        client.send(Queue.Declare(queue="queue"))
        client.server._reader.body_max = 10
        client.write(self.announce(20) + self.body(b"x" * 10) + self.body(b"x" * 10))
        self.assertIsInstance(client.methods[-1][1], Channel.Close)
        client.write(self.announce(20) + self.body(b"x" * 20))  # ignored: the channel is closing
        client.send(Channel.CloseOk())
        self.assertIsInstance(client.send(Channel.Open()), Channel.OpenOk)

    def test_two_channels_may_send_large_messages_at_once(self) -> None:
        client = self.opened()
        for channel in (2, 3):
            client.send(Channel.Open(), channel)
        client.methods.clear()
        client.write(self.announce(BODY_MAX) + self.announce(BODY_MAX, 2))
        self.assertEqual(client.methods, [])
        client.write(self.announce(1000, 3))
        channel, close = client.methods[-1]
        self.assertEqual((type(close), channel, close.reply_code), (Channel.Close, 3, 311))

    def test_a_large_message_on_no_channel_ends_the_connection(self) -> None:
        client = self.opened()
        client.write(self.announce(BODY_MAX + 1, 7))
        self.assert_closed(client, 504, "expected 'channel.open'")

    def test_flow_is_always_on(self) -> None:
        self.assertTrue(self.opened().send(Channel.Flow(True)).active)

    def test_nowait_gets_no_answer(self) -> None:
        client = self.opened()
        for method in (
            Exchange.Declare(exchange="e", exchange_type="topic", nowait=True),
            Queue.Declare(queue="queue", nowait=True),
            Queue.Bind(queue="queue", exchange="e", routing_key="#", nowait=True),
            Basic.Consume(queue="queue", consumer_tag="tag", nowait=True),
            Basic.Cancel("tag", nowait=True),
            Queue.Purge(queue="queue", nowait=True),
            Confirm.Select(nowait=True),
            Exchange.Delete(exchange="e", nowait=True),
            Queue.Delete(queue="queue", nowait=True),
        ):
            self.assertIsNone(client.send(method), method.name)
        self.assertEqual(self.factory.model.queues, {})

    def test_no_name_means_the_queue_declared_last(self) -> None:
        client = self.opened()
        for method in (Queue.Purge(), Queue.Declare(passive=True)):
            other = self.opened()
            self.assertIn("no previously declared queue", other.send(method).reply_text)
        name = client.send(Queue.Declare(exclusive=True)).queue
        client.send(Exchange.Declare(exchange="e", exchange_type="direct"))
        client.send(Queue.Bind(exchange="e"))
        client.publish(name, b"x", "e")
        self.assertEqual(client.send(Queue.Purge()).message_count, 1)
        self.assertEqual(client.send(Queue.Unbind(exchange="e", routing_key=name)).name, "Queue.UnbindOk")

    def test_consume_is_answered_before_the_first_delivery(self) -> None:
        client = self.opened()
        client.send(Queue.Declare(queue="queue"))
        client.publish("queue", b"x")
        order: list[Any] = []
        reader = FrameReader(
            lambda _channel, method: order.append(type(method)),
            lambda _channel, method, _properties, _body: order.append(type(method)),
            lambda: None,
        )
        client.server.dataReceived(method_frame(1, Basic.Consume(queue="queue")))
        self.clock.advance(0)
        reader.feed(client.transport.value())
        self.assertEqual(order, [Basic.ConsumeOk, Deliver])

    def test_properties_pass_byte_for_byte(self) -> None:
        client = self.opened()
        client.send(Queue.Declare(queue="queue"))
        raw = b"\xa0\x00" + b"\x01\xff" + b"\x00\x00\x00\x05" + b"\x01ks\x00\x01"
        client.server.dataReceived(
            content_frames(1, publish_prefix(1, "", "queue", False), raw, b"x", 131_072)
        )
        client.server.dataReceived(method_frame(1, Basic.Get(queue="queue")))
        self.clock.advance(0)
        self.assertIn(raw, client.transport.value())

    def test_stray_cancel_oks_do_no_harm(self) -> None:
        client = self.opened()
        self.assertIsNone(client.send(Basic.CancelOk("tag")))
        self.assertEqual(client.send(Basic.Cancel("nobody")).consumer_tag, "nobody")

    def test_cancels_are_sent_to_those_who_understand(self) -> None:
        for properties, notices in ((CAPABLE, 1), ({"product": "old"}, 0)):
            client = self.opened(properties=properties)
            client.send(Queue.Declare(queue="queue"))
            client.send(Basic.Consume(queue="queue", consumer_tag="tag"))
            client.send(Queue.Delete(queue="queue"))
            sent = [method for _channel, method in client.methods if type(method) is Basic.Cancel]
            self.assertEqual(len(sent), notices)


class ConfirmTests(ServerTestCase):
    def confirmed(self, client: Client) -> list[Any]:
        return [
            (type(method), method.delivery_tag, method.multiple)
            for _channel, method in client.methods
            if type(method) in (Ack, Basic.Nack)
        ]

    def selected(self) -> Client:
        client = self.opened()
        client.send(
            Queue.Declare(queue="queue", arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
        )
        client.send(Confirm.Select())
        client.methods.clear()
        return client

    def batch(self, *keys: str) -> bytes:
        properties = Properties().encode()
        return b"".join(
            content_frames(1, publish_prefix(1, "", key, True), properties, b"", 131_072) for key in keys
        )

    def test_one_confirm_serves_a_turn(self) -> None:
        client = self.selected()
        client.write(self.batch("queue", "queue"))
        self.assertEqual(self.confirmed(client), [(Ack, 2, True)])

    def test_a_return_is_followed_by_its_own_confirm(self) -> None:
        client = self.selected()
        client.write(self.batch("queue", "nowhere", "queue"))
        self.assertEqual(self.confirmed(client), [(Ack, 1, True), (Ack, 2, True), (Ack, 3, True)])
        self.assertEqual([method.reply_code for method, _properties, _body in client.messages], [312])

    def test_a_refusal_is_not_confirmed_by_what_follows(self) -> None:
        client = self.selected()
        client.write(self.batch("queue", "queue", "queue", "queue"))
        self.assertEqual(
            self.confirmed(client), [(Ack, 2, True), (Basic.Nack, 3, False), (Basic.Nack, 4, False)]
        )

    def test_nothing_follows_a_close(self) -> None:
        for refused in (method_frame(1, Basic.Get(queue="missing")), method_frame(1, Channel.Flow(False))):
            client = self.selected()
            client.write(self.batch("queue") + refused)
            self.assertEqual([type(method) for _channel, method in client.methods][:-1], [Ack])
            client.send(Queue.Delete(queue="queue"), 1)

    def test_without_confirms_a_return_comes_alone(self) -> None:
        client = self.opened()
        client.publish("nowhere", b"x", mandatory=True)
        self.assertEqual((len(client.messages), self.confirmed(client)), (1, []))
        client.publish("nowhere", b"x")
        self.assertEqual(len(client.messages), 1)


class QuorumTests(ServerTestCase):
    def test_redeliveries_are_counted_in_a_header(self) -> None:
        client = self.opened()
        client.send(Queue.Declare(queue="queue", durable=True, arguments={"x-queue-type": "quorum"}))
        client.publish("queue", b"x")
        for tag in (1, 2):
            client.send(Basic.Get(queue="queue"))
            client.send(Basic.Nack(tag, requeue=True))
        client.send(Basic.Get(queue="queue"))
        counts = [
            (properties.headers or {}).get("x-delivery-count")
            for _method, properties, _body in client.messages
        ]
        self.assertEqual(counts, [None, 1, 2])
        self.assertIsInstance(client.send(Basic.Get(queue="queue")), Basic.GetEmpty)

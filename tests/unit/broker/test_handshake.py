"""The embedded broker's handshake, frame by frame, on a Clock."""

from __future__ import annotations

from typing import Any

from pamqp.commands import Basic, Channel, Connection, Queue
from twisted.logger import capturedLogs, formatEvent

from tests.support.broker_client import BrokerTestCase
from txmicro.amqp.fields import encode_table
from txmicro.amqp.frames import (
    PROTOCOL_HEADER,
    method_frame,
)
from txmicro.broker.factory import BrokerFactory
from txmicro.broker.server_connection import PATIENCE, ServerConnection


class HandshakeTests(BrokerTestCase):
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

    def test_a_client_that_takes_too_long_is_disconnected(self) -> None:
        client = self.client()
        client.greet()
        self.clock.advance(PATIENCE)
        self.assertTrue(client.transport.aborted)

    def test_limits_are_proposed(self) -> None:
        client = self.client()
        client.greet()
        tune = client.send(Connection.StartOk({}, "PLAIN", "\x00guest\x00guest", "en_US"), 0)
        self.assertEqual((tune.channel_max, tune.frame_max, tune.heartbeat), (2047, 131_072, 60))

    def test_wrong_credentials_are_reported_to_clients_with_the_capability(self) -> None:
        capable = {"capabilities": {"authentication_failure_close": True}}
        for response in ("\x00guest\x00wrong", "\x00nobody\x00", "guest", "\x00guest\x00"):
            client = self.client()
            client.log_in(capable, response)
            self.assert_closed(client, 403, "ACCESS_REFUSED - Login was refused")

    def test_wrong_credentials_close_the_connection_of_other_clients(self) -> None:
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

    def test_frames_keep_to_the_negotiated_size(self) -> None:
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

    def test_the_methods_must_be_in_order(self) -> None:
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

"""Connections of the AMQP client, against a scripted broker: flow control, closing, protocol errors."""

from __future__ import annotations

from typing import Any

from pamqp.base import Frame
from pamqp.commands import Basic, Exchange
from pamqp.commands import Channel as ChannelMethods
from pamqp.commands import Connection as ConnectionMethods
from twisted.internet.defer import CancelledError

from tests.support.amqp_client import ConnectionTestCase
from txmicro.amqp.errors import (
    AuthenticationFailed,
    ChannelClosed,
    ConnectionClosed,
    ConnectionLost,
    FrameError,
    InvalidArgument,
    NackError,
    Returned,
)
from txmicro.amqp.methods import Deliver
from txmicro.errors import TxmicroError


class FlowControlTests(ConnectionTestCase):
    def setUp(self) -> None:
        self.flips: list[bool] = []
        self.opened().client.on_writable = self.flips.append

    def test_a_full_transport_stops_publishing(self) -> None:
        transport, client = self.broker.transport, self.broker.client
        self.assertIs(transport.producer, client)
        self.assertTrue(transport.streaming)
        client.pauseProducing()
        self.assertTrue(client.paused)
        client.resumeProducing()
        self.assertFalse(client.paused)
        client.stopProducing()
        self.assertEqual(self.flips, [False, True])

    def test_a_blocked_connection_stops_publishing(self) -> None:
        self.broker.say(ConnectionMethods.Blocked("low on memory"), channel=0)
        self.assertTrue(self.broker.client.blocked)
        self.broker.say(ConnectionMethods.Unblocked(), channel=0)
        self.assertFalse(self.broker.client.blocked)
        self.assertEqual(self.flips, [False, True])

    def test_publishing_needs_both(self) -> None:
        client = self.broker.client
        self.broker.say(ConnectionMethods.Blocked("low on memory"), channel=0)
        client.pauseProducing()
        self.broker.say(ConnectionMethods.Unblocked(), channel=0)
        self.assertEqual(self.flips, [False])
        client.resumeProducing()
        self.assertEqual(self.flips, [False, True])

    def test_a_listener_is_optional(self) -> None:
        self.broker.client.on_writable = None
        self.broker.client.pauseProducing()
        self.assertTrue(self.broker.client.paused)

    def test_an_error_of_the_listener_is_logged(self) -> None:
        def fails(_: bool) -> None:
            raise ZeroDivisionError

        self.broker.client.on_writable = fails
        self.broker.say(ConnectionMethods.Blocked(""), channel=0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertFalse(self.broker.transport.disconnecting)


class CloseTests(ConnectionTestCase):
    def test_the_broker_closes_the_connection(self) -> None:
        broker = self.opened()
        channel = broker.channel()
        lost, calling = broker.client.lost(), channel.basic_qos()
        broker.heard()
        broker.say(ConnectionMethods.Close(320, "CONNECTION_FORCED - shutdown", 0, 0), channel=0)
        self.assertIsInstance(broker.heard_one(), ConnectionMethods.CloseOk)
        self.assertTrue(broker.transport.disconnecting)
        self.assertIsNone(broker.transport.producer)
        reason = self.reason(calling)
        self.assertIs(type(reason), ConnectionClosed)
        self.assertEqual((reason.reply_code, reason.reply_text), (320, "CONNECTION_FORCED - shutdown"))
        self.assertNoResult(lost)
        broker.hang_up()
        self.assertIs(self.successResultOf(lost), reason)
        self.assertIs(self.successResultOf(channel.lost()), reason)

    def test_a_connection_that_breaks(self) -> None:
        broker = self.opened()
        channel = broker.channel()
        channel.ack(1)
        calling = channel.basic_qos()
        broker.hang_up()
        self.assertIs(type(self.reason(calling)), ConnectionLost)
        self.assertIs(type(self.reason(broker.client.channel_open())), ConnectionLost)
        self.assertIs(type(self.reason(broker.client.ready())), ConnectionLost)

    def test_a_shutdown_sends_close(self) -> None:
        broker = self.opened()
        channel = broker.channel()
        calling, closed = channel.basic_qos(), broker.client.shutdown()
        self.assertIsInstance(broker.heard()[-1][1], ConnectionMethods.Close)
        self.assertRaises(ConnectionLost, channel.publish, b"", b"", b"")
        self.assertFalse(broker.transport.disconnecting)
        broker.say(ConnectionMethods.CloseOk(), channel=0)
        self.assertTrue(broker.transport.disconnecting)
        self.assertNoResult(closed)
        broker.hang_up()
        self.assertIsNone(self.successResultOf(closed))
        self.assertIsInstance(self.reason(calling), ConnectionLost)
        self.assertIsNone(self.successResultOf(broker.client.shutdown()))

    def test_a_shutdown_has_a_timeout(self) -> None:
        broker = self.opened()
        closed, again = broker.client.shutdown(timeout=2), broker.client.shutdown()
        broker.clock.advance(1.9)
        self.assertFalse(broker.transport.disconnected)
        broker.clock.advance(0.1)
        self.assertTrue(broker.transport.disconnected)
        broker.hang_up()
        self.successResultOf(closed)
        self.successResultOf(again)

    def test_frames_after_close_are_ignored(self) -> None:
        broker = self.opened()
        channel = broker.channel()
        got: list[Any] = []
        channel.consume("q", lambda *message: got.append(message))
        broker.say(Basic.ConsumeOk("c1"))
        calling = channel.basic_qos()
        broker.client.shutdown()
        broker.say(Basic.QosOk())
        broker.content(Deliver("c1", 1, False, "", ""))
        broker.say(ConnectionMethods.Close(320, "CONNECTION_FORCED", 0, 0), channel=0)
        self.assertEqual(got, [])
        self.assertEqual(str(self.reason(calling)), "closed by this side")
        self.assertTrue(broker.transport.disconnecting)

    def test_a_shutdown_during_the_handshake(self) -> None:
        broker = self.begin()
        ready = broker.client.ready()
        broker.connect()
        closed = broker.client.shutdown()
        self.assertTrue(broker.transport.disconnecting)
        broker.hang_up()
        self.successResultOf(closed)
        self.assertIs(type(self.reason(ready)), ConnectionLost)

    def test_a_transport_that_does_not_close_is_aborted(self) -> None:
        broker = self.opened()
        broker.say(ConnectionMethods.Close(320, "CONNECTION_FORCED", 0, 0), channel=0)
        broker.clock.advance(5)
        self.assertTrue(broker.transport.disconnected)

    def test_an_abort_closes_at_once_in_every_state(self) -> None:
        broker = self.opened()
        broker.say(ConnectionMethods.Close(320, "CONNECTION_FORCED", 0, 0), channel=0)
        broker.client.abort()
        self.assertTrue(broker.transport.disconnected)

    def test_canceling_a_wait_for_the_end_stops_only_that_wait(self) -> None:
        broker = self.opened()
        lost, other = broker.client.lost(), broker.client.lost()
        lost.cancel()
        self.assertIsInstance(self.reason(lost), CancelledError)
        broker.hang_up()
        self.assertIsInstance(self.successResultOf(other), ConnectionLost)

    def test_a_callback_of_the_end_may_cancel_another_wait(self) -> None:
        broker = self.opened()
        first, second = broker.client.lost(), broker.client.lost()
        first.addCallback(lambda _: second.cancel())
        broker.hang_up()
        self.successResultOf(first)
        self.assertIsInstance(self.reason(second), CancelledError)

    def test_a_callback_of_the_end_may_write(self) -> None:
        broker = self.opened()
        first, second = broker.channel(1), broker.channel(2)
        first.lost().addCallback(lambda _: second.ack(1))
        broker.hang_up()
        self.assertEqual(broker.clock.getDelayedCalls(), [])


class ProtocolErrorTests(ConnectionTestCase):
    def broken(self, code: int, *methods: Frame, channel: int = 1, data: bytes = b"") -> None:
        broker = self.opened()
        broker.channel()
        lost = broker.client.lost()
        if methods:
            broker.say(*methods, channel=channel)
        else:
            broker.client.dataReceived(data)
        close = broker.heard_one()
        self.assertEqual(close.reply_code, code)
        self.assertTrue(broker.transport.disconnecting)
        broker.client.dataReceived(b"and more")
        broker.hang_up()
        error = self.successResultOf(lost)
        if not isinstance(error, FrameError):
            self.fail(f"{error!r}")
        self.assertIn(error.message, close.reply_text)

    def test_malformed_frames_close_the_connection_with_their_code(self) -> None:
        self.broken(501, data=b"\x09\0\0\0\0\0\0\xce")
        self.broken(502, data=b"\x01\0\x01\0\0\0\x04\0\x3c\0\x3c\xce")

    def test_a_channel_that_is_not_open(self) -> None:
        self.broken(504, Basic.QosOk(), channel=9)

    def test_a_message_on_a_channel_that_is_not_open(self) -> None:
        message = b"\x01\0\x09\0\0\0\x10\0\x3c\0\x3c" + bytes(12) + b"\xce" + b"\x02\0\x09\0\0\0\x0e\0\x3c"
        self.broken(504, data=message + bytes(12) + b"\xce")

    def test_an_unexpected_reply(self) -> None:
        self.broken(503, Basic.QosOk())
        self.broken(503, ConnectionMethods.OpenOk(), channel=0)

    def test_methods_that_only_a_client_sends(self) -> None:
        self.broken(503, Exchange.Declare(0, "x"))
        publish = b"\x01\0\x01\0\0\0\x09\0\x3c\0\x28" + bytes(5) + b"\xce" + b"\x02\0\x01\0\0\0\x0e\0\x3c"
        self.broken(503, data=publish + bytes(12) + b"\xce")

    def test_methods_on_the_wrong_channel(self) -> None:
        self.broken(503, ConnectionMethods.Blocked("x"))
        self.broken(503, ChannelMethods.Close(404, "x", 0, 0), channel=0)

    def test_a_reply_to_another_call(self) -> None:
        broker = self.opened()
        calling = broker.channel().queue_declare(queue="q")
        broker.say(Basic.QosOk())
        self.assertIsInstance(self.reason(calling), FrameError)

    def test_every_error_has_the_same_base_class(self) -> None:
        for error in (AuthenticationFailed, ChannelClosed, FrameError, InvalidArgument, NackError, Returned):
            self.assertTrue(issubclass(error, TxmicroError))

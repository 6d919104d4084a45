"""The AMQP client's handshake, against a scripted broker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pamqp.commands import Connection as ConnectionMethods
from twisted.internet.defer import CancelledError

from tests.support.amqp_client import ConnectionTestCase
from tests.support.scripted_broker import ScriptedBroker
from txmicro.amqp.errors import (
    AuthenticationFailed,
    ConnectionClosed,
    ConnectionLost,
    FrameError,
    LimitReached,
    VhostError,
)
from txmicro.amqp.frames import PROTOCOL_HEADER
from txmicro.amqp.handshake import CAPABILITIES


class HandshakeTests(ConnectionTestCase):
    def test_the_client_introduces_itself_and_opens_its_vhost(self) -> None:
        broker = self.begin(vhost="movies", connection_name="WB publishes")
        ready = broker.client.ready()
        self.assertEqual(broker.connect(), PROTOCOL_HEADER)
        broker.start(product="RabbitMQ", version="3.10.8", capabilities={"basic.nack": True})
        start_ok = broker.heard_one()
        self.assertEqual((start_ok.mechanism, start_ok.response), ("PLAIN", "\0ann\0s3cret"))
        self.assertEqual(start_ok.client_properties["capabilities"], CAPABILITIES)
        self.assertEqual(start_ok.client_properties["product"], "txmicro")
        self.assertEqual(start_ok.client_properties["connection_name"], "WB publishes")
        broker.tune()
        (_, tune_ok), (_, opening) = broker.heard()
        self.assertEqual((tune_ok.channel_max, tune_ok.frame_max, tune_ok.heartbeat), (2047, 131072, 10))
        self.assertEqual(opening.virtual_host, "movies")
        self.assertNoResult(ready)
        broker.say(ConnectionMethods.OpenOk(), channel=0)
        self.assertIs(self.successResultOf(ready), broker.client)
        self.assertIs(self.successResultOf(broker.client.ready()), broker.client)
        self.assertEqual(broker.client.server_properties["product"], "RabbitMQ")

    def test_a_connection_without_a_name_sends_none(self) -> None:
        broker = self.begin()
        broker.connect()
        broker.start()
        self.assertNotIn("connection_name", broker.heard_one().client_properties)

    def test_the_smaller_limits_apply_and_no_heartbeat_if_either_side_wants_none(self) -> None:
        for wish, options, agreed in (
            ((0, 0, 0), {}, (2047, 131072, 0)),
            ((10, 4096, 5), {}, (10, 4096, 5)),
            ((65535, 2**31, 600), {"frame_max": 8192}, (2047, 8192, 10)),
            ((1, 131072, 60), {"heartbeat": 0}, (1, 131072, 0)),
        ):
            broker = ScriptedBroker(**options)
            broker.connect()
            broker.start()
            broker.heard()
            broker.tune(*wish)
            tune_ok = broker.heard()[0][1]
            self.assertEqual((tune_ok.channel_max, tune_ok.frame_max, tune_ok.heartbeat), agreed)
            broker.hang_up()
            self.assertEqual(broker.clock.getDelayedCalls(), [])

    def refused(self, *steps: Callable[[ScriptedBroker], None], **options: Any) -> Any:
        broker = self.begin(**options)
        ready = broker.client.ready()
        broker.connect()
        for step in steps:
            step(broker)
        broker.hang_up()
        reason = self.reason(ready)
        self.assertIs(self.successResultOf(broker.client.lost()), reason)
        self.assertNotIn("s3cret", str(reason) + repr(reason) + repr(broker.client))
        self.assertNotIn("s3cret", repr(broker.client.__dict__))
        return reason

    @staticmethod
    def close(code: int, text: str) -> Callable[[ScriptedBroker], None]:
        return lambda broker: broker.say(ConnectionMethods.Close(code, text, 0, 0), channel=0)

    def test_with_a_certificate_no_user_and_no_password_are_sent(self) -> None:
        broker = self.begin(external=True)
        broker.connect()
        broker.say(ConnectionMethods.Start(0, 9, {}, "PLAIN EXTERNAL", "en_US"), channel=0)
        start_ok = broker.heard_one()
        self.assertEqual((start_ok.mechanism, start_ok.response), ("EXTERNAL", ""))

    def test_a_password_is_not_sent_for_an_unknown_mechanism(self) -> None:
        for external, offered in (
            (False, "EXTERNAL"),
            (False, "NOT-PLAIN PLAINER"),
            (True, "AMQPLAIN PLAIN"),
        ):
            broker = self.begin(external=external)
            ready = broker.client.ready()
            broker.connect()
            broker.say(ConnectionMethods.Start(0, 9, {}, offered, "en_US"), channel=0)
            self.assertEqual(broker.heard(), [])
            self.assertTrue(broker.transport.disconnecting)
            broker.hang_up()
            reason = self.reason(ready)
            self.assertIsInstance(reason, AuthenticationFailed)
            self.assertIn(f"the broker offers {offered}, not ", str(reason))
            self.assertEqual(broker.clock.getDelayedCalls(), [])

    def test_a_wrong_password_is_reported_with_close(self) -> None:
        reason = self.refused(ScriptedBroker.start, self.close(403, "ACCESS_REFUSED - login refused"))
        self.assertIsInstance(reason, AuthenticationFailed)
        self.assertEqual((reason.reply_code, reason.reply_text), (403, "ACCESS_REFUSED - login refused"))

    def test_a_wrong_password_is_reported_by_closing_the_connection(self) -> None:
        self.assertIsInstance(self.refused(ScriptedBroker.start), AuthenticationFailed)

    def test_a_vhost_that_is_not_permitted(self) -> None:
        reason = self.refused(ScriptedBroker.start, ScriptedBroker.tune, self.close(530, "vhost not found"))
        self.assertIsInstance(reason, VhostError)

    def test_a_limit_of_connections_is_not_an_error_of_the_vhost(self) -> None:
        for text in (
            "access to vhost '/' refused for user 'guest': connection limit (2) is reached",
            "connection refused for user 'guest': user connection limit (2) is reached",
            "connection refused: node connection limit (2) is reached",
        ):
            reason = self.refused(ScriptedBroker.start, ScriptedBroker.tune, self.close(530, text))
            self.assertIsInstance(reason, LimitReached)
            self.assertIn(text, str(reason))
            self.assertIn("a process needs 3 connections", str(reason))

    def test_any_other_refusal(self) -> None:
        reason = self.refused(ScriptedBroker.start, ScriptedBroker.tune, self.close(541, "INTERNAL_ERROR"))
        self.assertIs(type(reason), ConnectionClosed)
        self.assertIs(type(self.refused()), ConnectionLost)
        self.assertIs(type(self.refused(ScriptedBroker.start, ScriptedBroker.tune)), ConnectionLost)

    def test_a_handshake_in_the_wrong_order(self) -> None:
        self.assertIsInstance(self.refused(ScriptedBroker.tune), FrameError)
        self.assertIsInstance(self.refused(ScriptedBroker.start, ScriptedBroker.start), FrameError)
        self.assertIsInstance(
            self.refused(ScriptedBroker.start, ScriptedBroker.tune, ScriptedBroker.tune), FrameError
        )

    def test_frames_smaller_than_amqp_allows(self) -> None:
        reason = self.refused(ScriptedBroker.start, lambda broker: broker.tune(frame_max=4095))
        self.assertIsInstance(reason, FrameError)

    def test_a_server_of_another_protocol(self) -> None:
        reason = self.refused(lambda broker: broker.client.dataReceived(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
        self.assertIn("HTTP/1.1", str(reason))

    def test_canceling_aborts_the_connection(self) -> None:
        broker = self.begin()
        ready = broker.client.ready()
        broker.connect()
        ready.cancel()
        self.assertIsInstance(self.reason(ready), CancelledError)
        self.assertTrue(broker.transport.disconnected)

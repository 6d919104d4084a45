"""The AMQP client, against a broker that is scripted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pamqp.base import Frame
from pamqp.commands import Basic, Confirm, Exchange, Queue
from pamqp.commands import Channel as ChannelMethods
from pamqp.commands import Connection as ConnectionMethods
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.support.scripted_broker import ScriptedBroker
from txmicro.amqp.errors import (
    AccessRefused,
    AuthenticationFailed,
    ChannelClosed,
    ConnectionClosed,
    ConnectionLost,
    FrameError,
    HeartbeatLost,
    InvalidArgument,
    LimitReached,
    NackError,
    NoChannelLeft,
    Returned,
    ReturnUnclear,
    VhostError,
)
from txmicro.amqp.frames import PROTOCOL_HEADER
from txmicro.amqp.handshake import CAPABILITIES
from txmicro.amqp.methods import Ack, Deliver, Publish
from txmicro.amqp.properties import Properties
from txmicro.errors import TxmicroError

HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"


class ClientCase(SynchronousTestCase):
    broker: ScriptedBroker

    def begin(self, **options: Any) -> ScriptedBroker:
        """A connection before its handshake; whatever happened to it, no timer outlives it."""
        self.broker = ScriptedBroker(**options)
        self.addCleanup(self.end)
        return self.broker

    def end(self) -> None:
        if self.broker.client.transport is not None:
            self.broker.hang_up()
        self.assertEqual(self.broker.clock.getDelayedCalls(), [])

    def opened(self, **options: Any) -> ScriptedBroker:
        self.begin(**options).open()
        return self.broker

    def reason(self, deferred: Deferred[Any]) -> Any:
        """The exception that *deferred* failed with."""
        return self.failureResultOf(deferred).value


class Handshake(ClientCase):
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

    def test_the_smaller_wish_counts_and_no_heartbeat_wins(self) -> None:
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

    def test_with_a_certificate_no_user_and_no_password_are_told(self) -> None:
        broker = self.begin(external=True)
        broker.connect()
        broker.say(ConnectionMethods.Start(0, 9, {}, "PLAIN EXTERNAL", "en_US"), channel=0)
        start_ok = broker.heard_one()
        self.assertEqual((start_ok.mechanism, start_ok.response), ("EXTERNAL", ""))

    def test_a_password_is_not_told_to_a_broker_that_does_not_ask_for_it_in_our_way(self) -> None:
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

    def test_a_wrong_password_is_told_by_close(self) -> None:
        reason = self.refused(ScriptedBroker.start, self.close(403, "ACCESS_REFUSED - login refused"))
        self.assertIsInstance(reason, AuthenticationFailed)
        self.assertEqual((reason.reply_code, reason.reply_text), (403, "ACCESS_REFUSED - login refused"))

    def test_a_wrong_password_is_told_by_hanging_up(self) -> None:
        self.assertIsInstance(self.refused(ScriptedBroker.start), AuthenticationFailed)

    def test_a_vhost_that_is_not_ours(self) -> None:
        reason = self.refused(ScriptedBroker.start, ScriptedBroker.tune, self.close(530, "vhost not found"))
        self.assertIsInstance(reason, VhostError)

    def test_a_limit_of_connections_is_no_fault_of_the_vhost(self) -> None:
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

    def test_cancelling_aborts_the_connection(self) -> None:
        broker = self.begin()
        ready = broker.client.ready()
        broker.connect()
        ready.cancel()
        self.assertIsInstance(self.reason(ready), CancelledError)
        self.assertTrue(broker.transport.disconnected)


class Calls(ClientCase):
    def test_the_reply_has_the_fields_as_attributes(self) -> None:
        channel = self.opened().channel()
        declared = channel.queue_declare(queue="q", durable=True, arguments={"x-expires": 60000})
        said = self.broker.heard_one()
        self.assertEqual((said.queue, said.durable, said.passive), ("q", True, False))
        self.assertEqual(said.arguments, {"x-expires": 60000})
        self.broker.say(Queue.DeclareOk("q", 3, 2))
        reply = self.successResultOf(declared)
        self.assertEqual((reply.queue, reply.message_count, reply.consumer_count), ("q", 3, 2))

    def test_replies_go_to_the_calls_in_their_order(self) -> None:
        channel = self.opened().channel()
        calls = [channel.queue_declare(queue="a"), channel.basic_qos(prefetch_count=5), channel.queue_purge()]
        self.broker.say(Queue.DeclareOk("a", 0, 0), Basic.QosOk(), Queue.PurgeOk(7))
        replies = [self.successResultOf(call) for call in calls]
        self.assertEqual([replies[0].queue, replies[2].message_count], ["a", 7])

    def test_what_is_not_answered_fires_at_once(self) -> None:
        channel = self.opened().channel()
        self.assertIsNone(self.successResultOf(channel.queue_declare(queue="q", nowait=True)))
        self.assertIsNone(self.successResultOf(channel.basic_nack(delivery_tag=1, multiple=True)))
        self.assertEqual(len(self.broker.heard()), 2)

    def test_a_cancelled_call_leaves_the_others_their_replies(self) -> None:
        channel = self.opened().channel()
        first, second = channel.basic_qos(prefetch_count=1), channel.queue_purge(queue="q")
        first.cancel()
        self.assertIsInstance(self.reason(first), CancelledError)
        self.broker.say(Basic.QosOk(), Queue.PurgeOk(1))
        self.assertEqual(self.successResultOf(second).message_count, 1)

    def test_arguments_that_cannot_be_sent_fail_the_call(self) -> None:
        channel = self.opened().channel()
        self.assertIsInstance(self.reason(channel.queue_declare(queue="q" * 300)), InvalidArgument)
        self.assertIsInstance(self.reason(channel.queue_declare(arguments={"x": object()})), InvalidArgument)
        self.assertIsInstance(
            self.reason(channel.queue_declare(arguments={"x": "y" * 131072})), InvalidArgument
        )
        self.assertIsInstance(self.reason(channel.basic_publish(exchange="x")), InvalidArgument)
        self.assertEqual(self.broker.heard(), [])

    def test_get_gives_the_message_or_says_that_there_is_none(self) -> None:
        channel = self.opened().channel()
        empty, full = channel.basic_get(queue="q"), channel.basic_get(queue="q")
        self.broker.say(Basic.GetEmpty())
        self.broker.content(Basic.GetOk(9, False, "x", "k", 1), b"body", Properties(message_id="m"))
        self.assertEqual(self.successResultOf(empty).method.name, "get-empty")
        reply = self.successResultOf(full)
        self.assertEqual((reply.delivery_tag, reply.message_count), (9, 1))
        self.assertEqual((reply.content.body, reply.content.properties.message_id), (b"body", "m"))

    def test_flow_is_answered(self) -> None:
        self.opened().channel()
        self.broker.say(ChannelMethods.Flow(True))
        self.assertTrue(self.broker.heard_one().active)


class Channels(ClientCase):
    def test_numbers_go_round_and_are_reused_only_when_free(self) -> None:
        broker = self.begin()
        broker.open(channel_max=3)
        first, second = broker.channel(1), broker.channel(2)
        first.channel_close()
        broker.say(ChannelMethods.CloseOk())
        self.assertEqual((broker.channel(3).id, broker.channel(1).id, second.id), (3, 1, 2))
        reason = self.reason(broker.client.channel_open())
        self.assertIsInstance(reason, NoChannelLeft)
        self.assertIn("channel_max is reached: all 3 channels", str(reason))

    def test_a_channel_closed_by_the_broker_fails_its_calls_and_nothing_else(self) -> None:
        broker = self.opened()
        channel, other = broker.channel(1), broker.channel(2)
        lost, declaring = channel.lost(), channel.exchange_declare(exchange="x", passive=True)
        qos = other.basic_qos(prefetch_count=1)
        broker.heard()
        broker.say(ChannelMethods.Close(404, "NOT_FOUND - no exchange 'x'", 40, 10))
        self.assertIsInstance(broker.heard_one(), ChannelMethods.CloseOk)
        reason = self.reason(declaring)
        self.assertIsInstance(reason, ChannelClosed)
        self.assertEqual((reason.reply_code, reason.reply_text), (404, "NOT_FOUND - no exchange 'x'"))
        self.assertIs(self.successResultOf(lost), reason)
        self.assertIs(self.successResultOf(channel.lost()), reason)
        broker.say(Basic.QosOk(), channel=2)
        self.successResultOf(qos)

    def test_a_right_that_is_missing_is_named(self) -> None:
        cases: tuple[tuple[type[Frame], str, str], ...] = (
            (Exchange.Declare, "exchange 'x'", "configure"),
            (Queue.Declare, "queue 'q'", "configure"),
            (Queue.Declare, "exchange 'dead'", "write"),
            (Queue.Bind, "queue 'q'", "write"),
            (Queue.Bind, "exchange 'x'", "read"),
            (Queue.Bind, "topic 'a.b' in exchange 'x'", "read"),
            (Basic.Consume, "queue 'q'", "read"),
            (Basic.Publish, "topic 'a.b' in exchange 'x'", "write"),
        )
        for method, what, right in cases:
            broker = self.opened()
            channel = broker.channel()
            text = f"ACCESS_REFUSED - access to {what} in vhost '/' refused for user 'ann'"
            broker.say(ChannelMethods.Close(403, text, method.index >> 16, method.frame_id))
            reason = self.successResultOf(channel.lost())
            self.assertIsInstance(reason, AccessRefused)
            self.assertEqual(str(reason), f"403 {text} (the user lacks the {right} permission for it)")

    def test_a_queue_in_exclusive_use_is_not_a_right_that_is_missing(self) -> None:
        broker = self.opened()
        channel = broker.channel()
        text = "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use"
        broker.say(ChannelMethods.Close(403, text, 60, 20))
        self.assertIs(type(self.successResultOf(channel.lost())), ChannelClosed)

    def test_nothing_is_sent_on_a_closed_channel(self) -> None:
        broker = self.opened()
        channel = broker.channel()
        broker.say(ChannelMethods.Close(406, "PRECONDITION_FAILED", 0, 0))
        broker.heard()
        prefix = channel.publisher("x", "k")
        self.assertRaises(ChannelClosed, channel.publish, prefix, b"\0\0", b"")
        self.assertIsInstance(self.reason(channel.publish_confirmed(prefix, b"\0\0", b"", "")), ChannelClosed)
        self.assertIsInstance(self.reason(channel.queue_declare(queue="q")), ChannelClosed)
        channel.ack(1)
        channel.reject(1, requeue=True)
        self.successResultOf(channel.basic_nack(delivery_tag=1))
        self.assertEqual(broker.heard(), [])

    def test_closing_fires_when_the_broker_knows_and_its_number_is_free(self) -> None:
        broker = self.opened()
        channel = broker.channel()
        lost, closed = channel.lost(), channel.channel_close()
        self.assertRaises(ChannelClosed, channel.publish, b"", b"\0\0", b"")
        self.assertIsInstance(self.reason(channel.channel_close()), ChannelClosed)
        self.assertNoResult(closed)
        self.assertEqual(broker.heard_one().reply_code, 200)
        broker.say(ChannelMethods.CloseOk())
        self.assertIsNone(self.successResultOf(closed))
        self.assertIsInstance(self.successResultOf(lost), ChannelClosed)
        self.assertNotIn(1, broker.client.channels)

    def test_messages_for_a_channel_that_is_closing_are_dropped(self) -> None:
        broker = self.opened()
        channel = broker.channel()
        got: list[Any] = []
        channel.consume("q", lambda *message: got.append(message))
        broker.say(Basic.ConsumeOk("c1"))
        closed = channel.channel_close()
        broker.content(Deliver("c1", 1, False, "x", "k"), b"late")
        broker.say(ChannelMethods.CloseOk())
        self.successResultOf(closed)
        self.assertEqual(got, [])

    def test_both_sides_may_close_a_channel_at_once(self) -> None:
        broker = self.opened()
        channel = broker.channel()
        closed = channel.channel_close()
        broker.heard()
        broker.say(ChannelMethods.Close(404, "NOT_FOUND", 0, 0), ChannelMethods.CloseOk())
        self.assertIsInstance(broker.heard_one(), ChannelMethods.CloseOk)
        self.assertEqual(self.reason(closed).reply_code, 404)
        self.assertFalse(broker.transport.disconnecting)

    def test_cancelling_the_opening_closes_the_channel(self) -> None:
        broker = self.opened()
        opening = broker.client.channel_open()
        opening.cancel()
        self.assertIsInstance(self.reason(opening), CancelledError)
        self.assertEqual(
            [type(thing) for _, thing in broker.heard()], [ChannelMethods.Open, ChannelMethods.Close]
        )
        broker.say(ChannelMethods.OpenOk(), ChannelMethods.CloseOk())
        self.assertEqual(list(broker.client.channels), [0])

    def test_an_opening_that_the_broker_refuses(self) -> None:
        broker = self.opened()
        opening = broker.client.channel_open()
        broker.say(ChannelMethods.Close(504, "CHANNEL_ERROR", 0, 0))
        self.assertIsInstance(self.reason(opening), ChannelClosed)


class Consuming(ClientCase):
    def setUp(self) -> None:
        self.channel = self.opened().channel()
        self.got: list[Any] = []
        self.cancelled: list[str] = []

    def message(self, deliver: Deliver, properties: Properties, body: bytes) -> None:
        self.got.append((deliver.delivery_tag, properties.content_type, body))

    def consume(self, callback: Callable[[Deliver, Properties, bytes], None] | None = None) -> str:
        consuming = self.channel.consume(
            "q", callback or self.message, no_ack=True, on_cancel=lambda: self.cancelled.append("q")
        )
        asked = self.broker.heard_one()
        self.assertEqual(
            (asked.queue, asked.no_ack, asked.exclusive, asked.arguments), ("q", True, False, {})
        )
        self.broker.say(Basic.ConsumeOk(asked.consumer_tag))
        tag: str = self.successResultOf(consuming)
        return tag

    def test_messages_come_whole_binary_empty_and_of_many_frames(self) -> None:
        tag = self.consume()
        bodies = [b"", b"\xff\xfe", "é".encode() * 10, bytes(range(256)) * 100]
        for number, body in enumerate(bodies):
            deliver = Deliver(tag, number, False, "x", "k")
            self.broker.content(deliver, body, Properties(content_type="application/json"))
        expected = [(number, "application/json", body) for number, body in enumerate(bodies)]
        self.assertEqual(self.got, expected)

    def test_acks_and_rejects(self) -> None:
        self.channel.ack(5)
        self.channel.reject(6, requeue=True)
        (_, ack), (_, reject) = self.broker.heard()
        self.assertIsInstance(ack, Ack)
        self.assertEqual((ack.delivery_tag, ack.multiple), (5, False))
        self.assertEqual((reject.delivery_tag, reject.requeue), (6, True))

    def test_acks_of_one_turn_share_a_frame_that_covers_nothing_that_is_open(self) -> None:
        tag = self.consume()
        self.assertEqual(self.acks_of(tag, 1, 2), [(2, True)])
        self.channel.basic_get(queue="q")
        self.broker.heard()
        self.broker.content(Basic.GetOk(3, False, "x", "k", 1), b"")
        self.assertEqual(self.acks_of(tag, 4, 5), [(4, False), (5, False)])
        self.channel.ack(3)
        self.broker.heard()
        self.broker.content(Deliver("nobody", 6, False, "x", "k"), b"")
        self.assertEqual(self.acks_of(tag, 7, 8), [(7, False), (8, False)])

    def acks_of(self, tag: str, *deliveries: int) -> list[tuple[int, bool]]:
        """What the broker hears when these arrive and are done in one turn."""
        for number in deliveries:
            self.broker.content(Deliver(tag, number, False, "x", "k"), b"")
            self.channel.ack(number)
        return [(ack.delivery_tag, ack.multiple) for _, ack in self.broker.heard()]

    def test_what_a_callback_raises_is_logged_and_the_next_message_comes(self) -> None:
        def fails_at_first(deliver: Deliver, properties: Properties, body: bytes) -> None:
            self.message(deliver, properties, body)
            if deliver.delivery_tag == 1:
                raise ZeroDivisionError

        tag = self.consume(fails_at_first)
        for number in (1, 2):
            self.broker.content(Deliver(tag, number, False, "", ""))
        self.assertEqual([number for number, _, _ in self.got], [1, 2])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_message_for_nobody_is_dropped(self) -> None:
        self.broker.content(Deliver("who?", 1, False, "", ""))
        self.assertFalse(self.broker.transport.disconnecting)

    def test_each_consumer_has_a_tag_of_its_own(self) -> None:
        self.assertNotEqual(self.consume(), self.consume())

    def test_messages_come_until_the_broker_has_cancelled_and_said_all(self) -> None:
        tag = self.consume()
        cancelling = self.channel.cancel(tag)
        self.assertEqual(self.broker.heard_one().consumer_tag, tag)
        self.broker.content(Deliver(tag, 1, False, "", ""))
        self.broker.say(Basic.CancelOk(tag))
        self.assertTrue(self.broker.heard_one().active)
        self.assertNoResult(cancelling)
        self.broker.content(Deliver(tag, 2, False, "", ""))  # it was on its way
        self.broker.say(ChannelMethods.FlowOk(True))
        self.assertIsNone(self.successResultOf(cancelling))
        self.broker.content(Deliver(tag, 3, False, "", ""))
        self.assertEqual([number for number, _, _ in self.got], [1, 2])
        self.assertEqual(self.cancelled, [])

    def test_a_consumer_that_the_broker_cancels_hears_of_it_once(self) -> None:
        tag = self.consume()
        self.broker.say(Basic.Cancel(tag, True), Basic.Cancel(tag, True))
        self.assertEqual(self.cancelled, ["q"])

    def test_a_refused_consumer_is_forgotten(self) -> None:
        consuming = self.channel.consume("q", self.message)
        consuming.cancel()
        self.assertIsInstance(self.reason(consuming), CancelledError)
        self.broker.content(Deliver("c1", 1, False, "", ""))
        self.assertEqual(self.got, [])

    def test_a_consumer_may_do_without_hearing_that_it_was_cancelled(self) -> None:
        consuming = self.channel.consume("q", self.message)
        self.broker.say(Basic.ConsumeOk("c1"), Basic.Cancel("c1", True))
        self.assertEqual(self.successResultOf(consuming), "c1")


class Publishing(ClientCase):
    def setUp(self) -> None:
        self.channel = self.opened().channel()

    def test_a_message_is_sent_as_it_is(self) -> None:
        properties = Properties(message_id="m", headers={"é": [1.5, None]})
        self.channel.publish(self.channel.publisher("x", "ké", True), properties.encode(), b"\xff")
        content = self.broker.heard_one()
        self.assertIsInstance(content.method, Publish)
        self.assertEqual((content.method.exchange, content.method.routing_key), ("x", "ké"))
        self.assertEqual((content.method.mandatory, content.method.immediate), (True, False))
        self.assertEqual((content.properties, content.body), (properties, b"\xff"))

    def test_properties_may_fill_a_frame(self) -> None:
        headers = {"x": "y" * (131072 - 20 - 2 - 4 - 2 - 5)}
        properties = Properties(headers=headers).encode()
        self.assertEqual(len(properties), 131072 - 20)
        self.channel.publish(self.channel.publisher("x", "k"), properties, b"")
        self.assertEqual(self.broker.heard_one().properties.headers, headers)

    def test_a_long_body_is_split_as_agreed(self) -> None:
        self.broker.hang_up()
        broker = self.begin(frame_max=4096)
        broker.open()
        channel = broker.channel()
        body = bytes(range(256)) * 50
        channel.publish(channel.publisher("x", "k"), b"\0\0", body)
        broker.clock.advance(0)
        self.assertEqual(broker.transport.value().count(b"\x03\x00\x01\x00\x00\x0f\xf8"), 3)
        self.assertEqual(broker.heard_one().body, body)

    def test_what_one_turn_writes_goes_out_in_one_piece(self) -> None:
        prefix, transport = self.channel.publisher("x", "k"), self.broker.transport
        transport.writes = 0
        for _ in range(3):
            self.channel.publish(prefix, b"\0\0", b"body")
        self.channel.ack(1)
        self.assertEqual(transport.writes, 0)
        self.broker.clock.advance(0)
        self.assertEqual(transport.writes, 1)
        self.assertEqual(len(self.broker.heard()), 4)

    def test_what_is_written_while_reading_goes_out_at_its_end(self) -> None:
        self.channel.consume("q", lambda deliver, *_: self.channel.ack(deliver.delivery_tag))
        self.broker.say(Basic.ConsumeOk("c1"))
        self.broker.heard()
        transport = self.broker.transport
        transport.writes = 0
        self.broker.content(Deliver("c1", 1, False, "", ""))
        self.assertEqual(transport.writes, 1)
        self.assertEqual(self.broker.heard_one().delivery_tag, 1)

    def test_flush_sends_now_and_only_once(self) -> None:
        self.channel.ack(1)
        self.broker.client.flush()
        self.broker.client.flush()
        self.assertNotEqual(self.broker.transport.value(), b"")
        self.assertEqual(len(self.broker.heard()), 1)

    def test_a_returned_message_is_told(self) -> None:
        got: list[Any] = []
        returned = Basic.Return(312, "NO_ROUTE", "x", "k")
        self.broker.content(returned, b"nobody listens")
        self.channel.on_return = lambda method, properties, body: got.append(
            (method.reply_code, method.routing_key, properties.message_id, body)
        )
        self.broker.content(returned, b"body", Properties(message_id="m"))
        self.assertEqual(got, [(312, "k", "m", b"body")])

    def test_what_on_return_raises_is_logged(self) -> None:
        def fails(*_: object) -> None:
            raise ZeroDivisionError

        self.channel.on_return = fails
        self.broker.content(Basic.Return(312, "NO_ROUTE", "x", "k"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_confirms_nobody_asked_for_change_nothing(self) -> None:
        self.broker.say(Basic.Ack(1, True), Basic.Nack(1, True))
        self.assertFalse(self.broker.transport.disconnecting)


class Confirming(ClientCase):
    def setUp(self) -> None:
        self.channel = self.opened().channel()
        self.channel.publish(self.channel.publisher("x", "before"), b"\0\0", b"")
        selected = self.channel.confirm_select()
        self.broker.say(Confirm.SelectOk())
        self.successResultOf(selected)
        self.prefix = self.channel.publisher("x", "k", True)

    def publish(self, id: str) -> Deferred[None]:
        stored: Deferred[None] = self.channel.publish_confirmed(
            self.prefix, Properties(message_id=id).encode(), b"body", id
        )
        return stored

    def give_back(self, id: str, key: str = "k", **more: Any) -> None:
        method = Basic.Return(312, "NO_ROUTE", "x", key)
        self.broker.content(method, b"body", Properties(message_id=id, **more))

    def test_each_message_is_confirmed_by_its_number(self) -> None:
        first, second = self.publish("1"), self.publish("2")
        self.broker.say(Basic.Ack(2, False))
        self.assertIsNone(self.successResultOf(second))
        self.assertNoResult(first)
        self.broker.say(Basic.Ack(1, False), Basic.Ack(1, False))
        self.assertIsNone(self.successResultOf(first))

    def test_one_confirm_may_mean_many(self) -> None:
        messages = [self.publish(str(number)) for number in range(4)]
        self.broker.say(Basic.Ack(3, True))
        for stored in messages[:3]:
            self.successResultOf(stored)
        self.assertNoResult(messages[3])
        self.broker.say(Basic.Nack(4, True))
        self.assertIsInstance(self.reason(messages[3]), NackError)

    def test_messages_nobody_waits_for_are_numbered_too(self) -> None:
        self.channel.publish(self.prefix, b"\0\0", b"")
        stored = self.publish("2")
        self.broker.say(Basic.Ack(1, False))
        self.assertNoResult(stored)
        self.broker.say(Basic.Ack(2, False))
        self.successResultOf(stored)

    def test_a_message_that_cannot_be_sent_has_no_number(self) -> None:
        largest = 131072 - 20
        self.assertRaises(InvalidArgument, self.channel.publish, self.prefix, bytes(largest + 1), b"")
        refused = self.channel.publish_confirmed(self.prefix, bytes(largest + 1), b"", "")
        self.assertIsInstance(self.reason(refused), InvalidArgument)
        stored = self.publish("1")
        self.broker.say(Basic.Ack(1, False))
        self.successResultOf(stored)

    def test_a_refused_message(self) -> None:
        stored, other = self.publish("1"), self.publish("2")
        self.broker.say(Basic.Nack(1, False))
        self.assertIsInstance(self.reason(stored), NackError)
        self.broker.say(Basic.Ack(2, False))
        self.successResultOf(other)

    def test_a_returned_message_is_not_stored_whatever_follows(self) -> None:
        heard: list[Any] = []
        self.channel.on_return = lambda *message: heard.append(message)
        first, second = self.publish("1"), self.publish("2")
        self.give_back("2")
        reason = self.reason(second)
        self.assertIsInstance(reason, Returned)
        self.assertEqual((reason.reply_code, reason.exchange, reason.routing_key), (312, "x", "k"))
        self.broker.say(Basic.Ack(2, True))
        self.successResultOf(first)
        self.assertEqual(heard, [])

    def test_a_broker_may_sort_the_headers_and_add_to_them(self) -> None:
        properties = Properties(message_id="1", headers={"b": 1, "a": 2}).encode()
        stored = self.channel.publish_confirmed(self.prefix, properties, b"body", "1")
        self.give_back("1", headers={"a": 2, "b": 1, "x-routed-by": "node"}, timestamp=1)
        self.broker.say(Basic.Ack(1, False))
        self.assertIsInstance(self.reason(stored), Returned)

    def test_of_the_same_message_twice_none_counts_as_stored_when_one_is_returned(self) -> None:
        twice, other = [self.publish("1"), self.publish("1")], self.publish("2")
        self.give_back("1")
        for stored in twice:
            self.assertIsInstance(self.reason(stored), ReturnUnclear)
        self.give_back("1")
        self.broker.say(Basic.Ack(3, True))
        self.assertIsNone(self.successResultOf(other))

    def test_the_same_message_again_is_returned_again(self) -> None:
        for number in (1, 2):
            stored = self.publish("1")
            self.give_back("1")
            self.assertIsInstance(self.reason(stored), Returned)
            self.broker.say(Basic.Ack(number, False))
        again, once_more = self.publish("1"), self.publish("2")
        self.broker.say(Basic.Ack(4, True))
        self.assertIsNone(self.successResultOf(again))
        self.assertIsNone(self.successResultOf(once_more))

    def test_the_same_message_again_before_the_broker_has_confirmed_the_one_that_was_returned(self) -> None:
        for _ in range(2):
            stored = self.publish("1")
            self.give_back("1")
            self.assertIsInstance(self.reason(stored), Returned)
        self.broker.say(Basic.Ack(2, True))

    def test_a_return_of_another_id_means_one_that_went_the_same_way(self) -> None:
        stored = self.publish("1")
        elsewhere = self.channel.publish_confirmed(
            self.channel.publisher("x", "other", True), b"\0\0", b"", ""
        )
        self.give_back("as the broker likes it")
        self.assertIsInstance(self.reason(stored), Returned)
        self.broker.say(Basic.Ack(2, True))
        self.assertIsNone(self.successResultOf(elsewhere))

    def test_where_any_may_be_returned_none_counts_as_stored(self) -> None:
        stored = [self.publish("1"), self.publish("2")]
        self.give_back("3", key="somewhere")
        self.broker.say(Basic.Ack(2, True))
        for each in stored:
            self.assertIsInstance(self.reason(each), ReturnUnclear)

    def test_a_returned_message_nobody_waits_for_is_told(self) -> None:
        heard: list[Any] = []
        self.channel.on_return = lambda *message: heard.append(message)
        self.give_back("7")
        self.assertEqual(len(heard), 1)

    def test_nobody_knows_when_the_channel_is_gone(self) -> None:
        stored = self.publish("1")
        self.broker.say(ChannelMethods.Close(404, "NOT_FOUND", 0, 0))
        self.assertIsInstance(self.reason(stored), ChannelClosed)

    def test_cancelling_stops_the_wait(self) -> None:
        stored, other = self.publish("1"), self.publish("2")
        stored.cancel()
        self.assertIsInstance(self.reason(stored), CancelledError)
        self.broker.say(Basic.Ack(2, True))
        self.successResultOf(other)

    def test_selecting_twice_keeps_the_count(self) -> None:
        stored = self.publish("1")
        self.channel.confirm_select()
        self.broker.say(Confirm.SelectOk(), Basic.Ack(1, False))
        self.successResultOf(stored)

    def test_a_channel_must_be_in_confirm_mode(self) -> None:
        channel = self.broker.channel(2)
        self.assertIsInstance(self.reason(channel.publish_confirmed(b"", b"", b"", "")), InvalidArgument)


class Heartbeats(ClientCase):
    def beats(self, seconds: float) -> int:
        """How many heartbeats the client sends in that time, which it gets in steps of a second."""
        for _ in range(round(seconds)):
            self.broker.clock.advance(1)
        return self.broker.heard().count("heartbeat")

    def hear(self) -> None:
        self.broker.client.dataReceived(HEARTBEAT)

    def test_a_silent_client_says_that_it_lives(self) -> None:
        self.opened(heartbeat=10)
        self.hear()
        self.assertEqual(self.beats(5), 0)  # the handshake was half an interval ago
        self.assertEqual(self.beats(5), 1)
        self.hear()
        self.assertEqual(self.beats(10), 2)

    def test_what_else_is_sent_is_a_sign_of_life(self) -> None:
        channel = self.opened(heartbeat=10).channel()
        for number in range(6):
            channel.ack(number)
            self.hear()
            self.assertEqual(self.beats(5), 0)

    def test_a_broker_that_is_silent_for_two_intervals_is_gone(self) -> None:
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

    def test_anything_it_says_is_a_sign_of_life(self) -> None:
        broker = self.opened(heartbeat=10)
        for _ in range(5):
            self.beats(15)
            self.hear()
        self.assertFalse(broker.transport.disconnected)

    def test_a_client_that_was_stuck_reads_before_it_judges(self) -> None:
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

    def test_none_when_either_side_wants_none(self) -> None:
        self.opened(heartbeat=0)
        self.assertEqual(self.broker.clock.getDelayedCalls(), [])


class Backpressure(ClientCase):
    def setUp(self) -> None:
        self.flips: list[bool] = []
        self.opened().client.on_writable = self.flips.append

    def test_the_transport_is_listened_to(self) -> None:
        transport, client = self.broker.transport, self.broker.client
        self.assertIs(transport.producer, client)
        self.assertTrue(transport.streaming)
        client.pauseProducing()
        self.assertTrue(client.paused)
        client.resumeProducing()
        self.assertFalse(client.paused)
        client.stopProducing()
        self.assertEqual(self.flips, [False, True])

    def test_the_broker_is_listened_to(self) -> None:
        self.broker.say(ConnectionMethods.Blocked("low on memory"), channel=0)
        self.assertTrue(self.broker.client.blocked)
        self.broker.say(ConnectionMethods.Unblocked(), channel=0)
        self.assertFalse(self.broker.client.blocked)
        self.assertEqual(self.flips, [False, True])

    def test_both_must_be_willing(self) -> None:
        client = self.broker.client
        self.broker.say(ConnectionMethods.Blocked("low on memory"), channel=0)
        client.pauseProducing()
        self.broker.say(ConnectionMethods.Unblocked(), channel=0)
        self.assertEqual(self.flips, [False])
        client.resumeProducing()
        self.assertEqual(self.flips, [False, True])

    def test_nobody_needs_to_listen(self) -> None:
        self.broker.client.on_writable = None
        self.broker.client.pauseProducing()
        self.assertTrue(self.broker.client.paused)

    def test_what_the_listener_raises_is_logged(self) -> None:
        def fails(_: bool) -> None:
            raise ZeroDivisionError

        self.broker.client.on_writable = fails
        self.broker.say(ConnectionMethods.Blocked(""), channel=0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertFalse(self.broker.transport.disconnecting)


class Endings(ClientCase):
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

    def test_shutting_down_says_good_bye(self) -> None:
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

    def test_shutting_down_does_not_wait_for_ever(self) -> None:
        broker = self.opened()
        closed, again = broker.client.shutdown(timeout=2), broker.client.shutdown()
        broker.clock.advance(1.9)
        self.assertFalse(broker.transport.disconnected)
        broker.clock.advance(0.1)
        self.assertTrue(broker.transport.disconnected)
        broker.hang_up()
        self.successResultOf(closed)
        self.successResultOf(again)

    def test_what_comes_after_good_bye_is_not_heard(self) -> None:
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

    def test_shutting_down_amid_the_handshake(self) -> None:
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

    def test_aborting_ends_it_at_once_whatever_goes_on(self) -> None:
        broker = self.opened()
        broker.say(ConnectionMethods.Close(320, "CONNECTION_FORCED", 0, 0), channel=0)
        broker.client.abort()
        self.assertTrue(broker.transport.disconnected)

    def test_cancelling_a_wait_for_the_end_stops_only_that(self) -> None:
        broker = self.opened()
        lost, other = broker.client.lost(), broker.client.lost()
        lost.cancel()
        self.assertIsInstance(self.reason(lost), CancelledError)
        broker.hang_up()
        self.assertIsInstance(self.successResultOf(other), ConnectionLost)

    def test_who_hears_of_the_end_may_cancel_who_has_not(self) -> None:
        broker = self.opened()
        first, second = broker.client.lost(), broker.client.lost()
        first.addCallback(lambda _: second.cancel())
        broker.hang_up()
        self.successResultOf(first)
        self.assertIsInstance(self.reason(second), CancelledError)

    def test_what_is_called_back_at_the_end_may_write(self) -> None:
        broker = self.opened()
        first, second = broker.channel(1), broker.channel(2)
        first.lost().addCallback(lambda _: second.ack(1))
        broker.hang_up()
        self.assertEqual(broker.clock.getDelayedCalls(), [])


class BrokenProtocol(ClientCase):
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

    def test_a_reply_nobody_asked_for(self) -> None:
        self.broken(503, Basic.QosOk())
        self.broken(503, ConnectionMethods.OpenOk(), channel=0)

    def test_what_only_a_client_says(self) -> None:
        self.broken(503, Exchange.Declare(0, "x"))
        publish = b"\x01\0\x01\0\0\0\x09\0\x3c\0\x28" + bytes(5) + b"\xce" + b"\x02\0\x01\0\0\0\x0e\0\x3c"
        self.broken(503, data=publish + bytes(12) + b"\xce")

    def test_what_belongs_to_the_connection_or_to_a_channel(self) -> None:
        self.broken(503, ConnectionMethods.Blocked("x"))
        self.broken(503, ChannelMethods.Close(404, "x", 0, 0), channel=0)

    def test_a_reply_to_another_call(self) -> None:
        broker = self.opened()
        calling = broker.channel().queue_declare(queue="q")
        broker.say(Basic.QosOk())
        self.assertIsInstance(self.reason(calling), FrameError)

    def test_every_error_is_of_one_family(self) -> None:
        for error in (AuthenticationFailed, ChannelClosed, FrameError, InvalidArgument, NackError, Returned):
            self.assertTrue(issubclass(error, TxmicroError))

"""Channels of the AMQP client, against a scripted broker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pamqp.base import Frame
from pamqp.commands import Basic, Exchange, Queue
from pamqp.commands import Channel as ChannelMethods
from twisted.internet.defer import CancelledError

from tests.support.amqp_client import ConnectionTestCase
from txmicro.amqp.errors import (
    AccessRefused,
    ChannelClosed,
    FrameError,
    InvalidArgument,
    NoChannelLeft,
)
from txmicro.amqp.methods import Ack, Deliver, Publish
from txmicro.amqp.properties import Properties


class MethodTests(ConnectionTestCase):
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

    def test_replies_may_overtake_the_one_to_a_cancel_and_no_other(self) -> None:
        client = self.opened()
        channel = client.channel()
        cancel, bind = channel.basic_cancel(consumer_tag="c1"), channel.queue_bind(queue="q")
        self.broker.say(Queue.BindOk())
        self.successResultOf(bind)
        self.assertNoResult(cancel)
        self.broker.say(Basic.CancelOk("c1"))
        self.assertEqual(self.successResultOf(cancel).consumer_tag, "c1")
        calls = [channel.queue_bind(queue="q"), channel.queue_purge(queue="q")]
        self.broker.say(Queue.PurgeOk(1))
        for call in calls:
            self.assertIsInstance(self.reason(call), FrameError)

    def test_a_method_without_a_reply_fires_at_once(self) -> None:
        channel = self.opened().channel()
        self.assertIsNone(self.successResultOf(channel.queue_declare(queue="q", nowait=True)))
        self.assertIsNone(self.successResultOf(channel.basic_nack(delivery_tag=1, multiple=True)))
        self.assertEqual(len(self.broker.heard()), 2)

    def test_a_canceled_call_does_not_affect_the_replies_of_others(self) -> None:
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

    def test_get_fires_with_the_message_or_none(self) -> None:
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


class ChannelTests(ConnectionTestCase):
    def test_numbers_are_reused_only_when_they_are_free(self) -> None:
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

    def test_a_missing_right_is_named(self) -> None:
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

    def test_a_queue_in_exclusive_use_is_not_a_missing_right(self) -> None:
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

    def test_closing_fires_when_the_broker_has_confirmed_and_the_number_is_free(self) -> None:
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

    def test_canceling_the_opening_closes_the_channel(self) -> None:
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


class ConsumerTests(ConnectionTestCase):
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

    def test_messages_may_be_binary_empty_and_of_many_frames(self) -> None:
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

    def test_acks_of_one_turn_share_a_frame_that_covers_no_other_delivery(self) -> None:
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
        """Return the acknowledgements of *deliveries* that arrive and are acknowledged in one turn."""
        for number in deliveries:
            self.broker.content(Deliver(tag, number, False, "x", "k"), b"")
            self.channel.ack(number)
        return [(ack.delivery_tag, ack.multiple) for _, ack in self.broker.heard()]

    def test_an_error_of_a_callback_is_logged_and_the_next_message_arrives(self) -> None:
        def fails_at_first(deliver: Deliver, properties: Properties, body: bytes) -> None:
            self.message(deliver, properties, body)
            if deliver.delivery_tag == 1:
                raise ZeroDivisionError

        tag = self.consume(fails_at_first)
        for number in (1, 2):
            self.broker.content(Deliver(tag, number, False, "", ""))
        self.assertEqual([number for number, _, _ in self.got], [1, 2])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_message_for_an_unknown_consumer_is_dropped(self) -> None:
        self.broker.content(Deliver("who?", 1, False, "", ""))
        self.assertFalse(self.broker.transport.disconnecting)

    def test_each_consumer_has_a_tag_of_its_own(self) -> None:
        self.assertNotEqual(self.consume(), self.consume())

    def test_messages_arrive_until_the_broker_has_confirmed_the_cancellation(self) -> None:
        tag = self.consume()
        cancelling = self.channel.cancel(tag)
        self.assertEqual(self.broker.heard_one().consumer_tag, tag)
        self.broker.content(Deliver(tag, 1, False, "", ""))
        self.broker.say(Basic.CancelOk(tag))
        self.assertTrue(self.broker.heard_one().active)
        self.assertNoResult(cancelling)
        self.broker.content(Deliver(tag, 2, False, "", ""))  # it was in transit
        self.broker.say(ChannelMethods.FlowOk(True))
        self.assertIsNone(self.successResultOf(cancelling))
        self.broker.content(Deliver(tag, 3, False, "", ""))
        self.assertEqual([number for number, _, _ in self.got], [1, 2])
        self.assertEqual(self.cancelled, [])

    def test_a_consumer_that_the_broker_cancels_is_told_once(self) -> None:
        tag = self.consume()
        self.broker.say(Basic.Cancel(tag, True), Basic.Cancel(tag, True))
        self.assertEqual(self.cancelled, ["q"])

    def test_a_refused_consumer_is_forgotten(self) -> None:
        consuming = self.channel.consume("q", self.message)
        consuming.cancel()
        self.assertIsInstance(self.reason(consuming), CancelledError)
        self.broker.content(Deliver("c1", 1, False, "", ""))
        self.assertEqual(self.got, [])

    def test_a_consumer_need_not_be_told_that_it_was_canceled(self) -> None:
        consuming = self.channel.consume("q", self.message)
        self.broker.say(Basic.ConsumeOk("c1"), Basic.Cancel("c1", True))
        self.assertEqual(self.successResultOf(consuming), "c1")


class PublishTests(ConnectionTestCase):
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

    def test_a_long_body_is_split_at_the_negotiated_size(self) -> None:
        self.broker.hang_up()
        broker = self.begin(frame_max=4096)
        broker.open()
        channel = broker.channel()
        body = bytes(range(256)) * 50
        channel.publish(channel.publisher("x", "k"), b"\0\0", body)
        broker.clock.advance(0)
        self.assertEqual(broker.transport.value().count(b"\x03\x00\x01\x00\x00\x0f\xf8"), 3)
        self.assertEqual(broker.heard_one().body, body)

    def test_the_frames_of_a_turn_are_written_together(self) -> None:
        prefix, transport = self.channel.publisher("x", "k"), self.broker.transport
        transport.writes = 0
        for _ in range(3):
            self.channel.publish(prefix, b"\0\0", b"body")
        self.channel.ack(1)
        self.assertEqual(transport.writes, 0)
        self.broker.clock.advance(0)
        self.assertEqual(transport.writes, 1)
        self.assertEqual(len(self.broker.heard()), 4)

    def test_frames_written_while_reading_are_sent_after_it(self) -> None:
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

    def test_a_returned_message_is_reported(self) -> None:
        got: list[Any] = []
        returned = Basic.Return(312, "NO_ROUTE", "x", "k")
        self.broker.content(returned, b"nobody listens")
        self.channel.on_return = lambda method, properties, body: got.append(
            (method.reply_code, method.routing_key, properties.message_id, body)
        )
        self.broker.content(returned, b"body", Properties(message_id="m"))
        self.assertEqual(got, [(312, "k", "m", b"body")])

    def test_an_error_of_on_return_is_logged(self) -> None:
        def fails(*_: object) -> None:
            raise ZeroDivisionError

        self.channel.on_return = fails
        self.broker.content(Basic.Return(312, "NO_ROUTE", "x", "k"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_unexpected_confirms_change_nothing(self) -> None:
        self.broker.say(Basic.Ack(1, True), Basic.Nack(1, True))
        self.assertFalse(self.broker.transport.disconnecting)

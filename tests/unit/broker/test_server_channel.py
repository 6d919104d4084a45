"""Channels of the embedded broker, frame by frame, on a Clock."""

from __future__ import annotations

from typing import Any

from pamqp.commands import Basic, Channel, Confirm, Connection, Exchange, Queue, Tx

from tests.support.broker_client import CAPABLE, BrokerTestCase, Client
from txmicro.amqp.frame_reader import FrameReader
from txmicro.amqp.frames import (
    BODY_MAX,
    content_frames,
    method_frame,
    publish_prefix,
)
from txmicro.amqp.methods import Ack, Deliver
from txmicro.amqp.properties import Properties
from txmicro.broker.factory import BrokerFactory


class ChannelTests(BrokerTestCase):
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

    def test_a_refused_channel_ignores_all_until_its_close_is_confirmed(self) -> None:
        client = self.opened()
        client.send(Queue.Declare(queue="queue"))
        close = client.send(Basic.Consume(queue="missing"))
        self.assertIsInstance(close, Channel.Close)
        client.publish("queue", b"ignored")
        self.assertIsNone(client.send(Queue.Purge(queue="queue")))
        client.send(Channel.CloseOk())
        self.assertIsInstance(client.send(Channel.Open()), Channel.OpenOk)
        self.assertEqual(len(self.factory.model.queues["queue"].ready), 0)

    def test_both_sides_may_close_at_once(self) -> None:
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

    def test_methods_that_rabbitmq_refuses_close_the_connection(self) -> None:
        for method, code, words in (
            (Channel.Flow(False), 540, "active=false"),
            (Basic.Qos(prefetch_size=1), 540, "prefetch_size!=0 (1)"),
            (Basic.Recover(False), 540, "requeue=false"),
            (Basic.RecoverAsync(False), 540, "requeue=false"),
            (Queue.DeclareOk("queue", 0, 0), 503, "method Queue.DeclareOk from a client"),
        ):
            self.refused(self.opened(), method, code, words)

    def test_methods_that_are_not_supported_close_only_the_channel(self) -> None:
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

    def test_the_user_id_must_be_that_of_the_connection(self) -> None:
        self.factory = BrokerFactory(self.clock, users={"me": "p"})
        client = self.opened(response="\x00me\x00p")
        client.publish("nowhere", mandatory=True, user_id="me")
        self.assertEqual(len(client.messages), 1)
        client.publish("nowhere", user_id="you")
        close = client.methods[-1][1]
        self.assertIsInstance(close, Channel.Close)
        self.assertIn("user_id property set to 'you' but authenticated user was 'me'", close.reply_text)

    def test_a_routing_key_that_is_not_text_is_refused(self) -> None:
        client = self.opened()
        prefix = publish_prefix(1, "", "k", False).replace(b"\x01k", b"\x01\xff")
        client.write(content_frames(1, prefix, Properties().encode(), b"", 131_072))
        self.assertEqual(client.methods[-1][1].reply_code, 406)

    def announce(self, size: int, channel: int = 1) -> bytes:
        """Return a publish, and the header of a body of *size* bytes."""
        frames = content_frames(channel, publish_prefix(channel, "", "queue", False), b"\0\0", b"", 131_072)
        return frames[:-11] + size.to_bytes(8, "big") + frames[-3:]

    def body(self, data: bytes, channel: int = 1) -> bytes:
        return b"\3" + channel.to_bytes(2, "big") + len(data).to_bytes(4, "big") + data + b"\xce"

    def test_a_message_that_is_too_large_closes_its_channel(self) -> None:
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

    def test_the_rest_of_a_message_that_is_too_large_is_ignored(self) -> None:
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

    def test_a_large_message_on_a_channel_that_is_not_open_closes_the_connection(self) -> None:
        client = self.opened()
        client.write(self.announce(BODY_MAX + 1, 7))
        self.assert_closed(client, 504, "expected 'channel.open'")

    def test_flow_is_always_on(self) -> None:
        self.assertTrue(self.opened().send(Channel.Flow(True)).active)

    def test_nowait_has_no_reply(self) -> None:
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

    def test_consume_is_confirmed_before_the_first_delivery(self) -> None:
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

    def test_properties_are_passed_on_byte_for_byte(self) -> None:
        client = self.opened()
        client.send(Queue.Declare(queue="queue"))
        raw = b"\xa0\x00" + b"\x01\xff" + b"\x00\x00\x00\x05" + b"\x01ks\x00\x01"
        client.server.dataReceived(
            content_frames(1, publish_prefix(1, "", "queue", False), raw, b"x", 131_072)
        )
        client.server.dataReceived(method_frame(1, Basic.Get(queue="queue")))
        self.clock.advance(0)
        self.assertIn(raw, client.transport.value())

    def test_unexpected_cancel_oks_are_ignored(self) -> None:
        client = self.opened()
        self.assertIsNone(client.send(Basic.CancelOk("tag")))
        self.assertEqual(client.send(Basic.Cancel("nobody")).consumer_tag, "nobody")

    def test_cancels_are_sent_to_clients_with_the_capability(self) -> None:
        for properties, notices in ((CAPABLE, 1), ({"product": "old"}, 0)):
            client = self.opened(properties=properties)
            client.send(Queue.Declare(queue="queue"))
            client.send(Basic.Consume(queue="queue", consumer_tag="tag"))
            client.send(Queue.Delete(queue="queue"))
            sent = [method for _channel, method in client.methods if type(method) is Basic.Cancel]
            self.assertEqual(len(sent), notices)


class ConfirmTests(BrokerTestCase):
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

    def test_one_confirm_covers_a_turn(self) -> None:
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

    def test_without_confirms_a_return_is_sent_alone(self) -> None:
        client = self.opened()
        client.publish("nowhere", b"x", mandatory=True)
        self.assertEqual((len(client.messages), self.confirmed(client)), (1, []))
        client.publish("nowhere", b"x")
        self.assertEqual(len(client.messages), 1)


class QuorumTests(BrokerTestCase):
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

"""Publisher confirms of the AMQP client, against a scripted broker."""

from __future__ import annotations

from typing import Any

from pamqp.commands import Basic, Confirm
from pamqp.commands import Channel as ChannelMethods
from twisted.internet.defer import CancelledError, Deferred

from tests.support.amqp_client import ConnectionTestCase
from txmicro.amqp.errors import (
    ChannelClosed,
    InvalidArgument,
    NackError,
    Returned,
    ReturnUnclear,
)
from txmicro.amqp.properties import Properties


class ConfirmsTests(ConnectionTestCase):
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

    def test_one_confirm_may_cover_many_messages(self) -> None:
        messages = [self.publish(str(number)) for number in range(4)]
        self.broker.say(Basic.Ack(3, True))
        for stored in messages[:3]:
            self.successResultOf(stored)
        self.assertNoResult(messages[3])
        self.broker.say(Basic.Nack(4, True))
        self.assertIsInstance(self.reason(messages[3]), NackError)

    def test_messages_without_a_wait_are_numbered_too(self) -> None:
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

    def test_a_returned_message_is_not_stored_even_if_it_is_confirmed(self) -> None:
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

    def test_a_broker_may_sort_the_headers_and_add_some(self) -> None:
        properties = Properties(message_id="1", headers={"b": 1, "a": 2}).encode()
        stored = self.channel.publish_confirmed(self.prefix, properties, b"body", "1")
        self.give_back("1", headers={"a": 2, "b": 1, "x-routed-by": "node"}, timestamp=1)
        self.broker.say(Basic.Ack(1, False))
        self.assertIsInstance(self.reason(stored), Returned)

    def test_of_two_equal_messages_none_is_stored_if_one_is_returned(self) -> None:
        twice, other = [self.publish("1"), self.publish("1")], self.publish("2")
        self.give_back("1")
        for stored in twice:
            self.assertIsInstance(self.reason(stored), ReturnUnclear)
        self.give_back("1")
        self.broker.say(Basic.Ack(3, True))
        self.assertIsNone(self.successResultOf(other))

    def test_an_equal_message_is_returned_again(self) -> None:
        for number in (1, 2):
            stored = self.publish("1")
            self.give_back("1")
            self.assertIsInstance(self.reason(stored), Returned)
            self.broker.say(Basic.Ack(number, False))
        again, once_more = self.publish("1"), self.publish("2")
        self.broker.say(Basic.Ack(4, True))
        self.assertIsNone(self.successResultOf(again))
        self.assertIsNone(self.successResultOf(once_more))

    def test_an_equal_message_before_the_returned_one_is_confirmed(self) -> None:
        for _ in range(2):
            stored = self.publish("1")
            self.give_back("1")
            self.assertIsInstance(self.reason(stored), Returned)
        self.broker.say(Basic.Ack(2, True))

    def test_a_return_with_another_id_counts_for_a_message_with_the_same_route(self) -> None:
        stored = self.publish("1")
        elsewhere = self.channel.publish_confirmed(
            self.channel.publisher("x", "other", True), b"\0\0", b"", ""
        )
        self.give_back("as the broker likes it")
        self.assertIsInstance(self.reason(stored), Returned)
        self.broker.say(Basic.Ack(2, True))
        self.assertIsNone(self.successResultOf(elsewhere))

    def test_none_is_stored_if_any_may_be_the_returned_one(self) -> None:
        stored = [self.publish("1"), self.publish("2")]
        self.give_back("3", key="somewhere")
        self.broker.say(Basic.Ack(2, True))
        for each in stored:
            self.assertIsInstance(self.reason(each), ReturnUnclear)

    def test_a_returned_message_without_a_wait_is_reported(self) -> None:
        heard: list[Any] = []
        self.channel.on_return = lambda *message: heard.append(message)
        self.give_back("7")
        self.assertEqual(len(heard), 1)

    def test_the_result_is_unknown_after_the_channel_is_closed(self) -> None:
        stored = self.publish("1")
        self.broker.say(ChannelMethods.Close(404, "NOT_FOUND", 0, 0))
        self.assertIsInstance(self.reason(stored), ChannelClosed)

    def test_canceling_stops_the_wait(self) -> None:
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

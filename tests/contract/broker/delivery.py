"""The contract: publishing, consuming, acknowledgements and confirms."""

from __future__ import annotations

from typing import Any

from pika.exceptions import (
    NackError,
    UnroutableError,
)

from .case import ContractCase


class DeliveryContract(ContractCase):
    """Publishing, consuming, acknowledgements and confirms."""

    async def test_a_message_arrives_as_it_was_sent(self: Any) -> None:
        exchange, queue = await self.declare_exchange(), await self.declare()
        await self.channel.queue_bind(queue, exchange, "clé")
        sent = {
            "content_type": "application/json",
            "content_encoding": "utf-8",
            "headers": {"text": "ü", "int": 2**40, "flag": True, "nothing": None, "list": [1, {"a": "b"}]},
            "delivery_mode": 2,
            "priority": 3,
            "correlation_id": "c",
            "reply_to": "r",
            "expiration": "60000",
            "message_id": "m",
            "timestamp": 1_795_449_588,
            "type": "t",
            "user_id": "guest",
            "app_id": "a",
        }
        await self.publish("clé", b"\x00\xff\xce", exchange, **sent)
        message = await (await self.consume(queue)).get()
        self.assertEqual(message.body, b"\x00\xff\xce")
        self.assertEqual({name: getattr(message.properties, name) for name in sent}, sent)
        self.assertEqual(
            (message.method.exchange, message.method.routing_key, message.method.redelivered),
            (exchange, "clé", False),
        )

    async def test_empty_and_large_bodies(self: Any) -> None:
        queue = await self.declare()
        bodies = [b"", b"x" * 131_064, b"y" * 131_065, b"z" * 1_000_000]
        for body in bodies:
            await self.publish(queue, body)
        self.assertEqual(await self.bodies(queue), bodies)

    async def test_messages_keep_their_order(self: Any) -> None:
        queue = await self.declare()
        deliveries = await self.consume(queue, auto_ack=True)
        for number in range(50):
            await self.publish(queue, b"%d" % number)
        received = [(await deliveries.get()).body for _ in range(50)]
        self.assertEqual(received, [b"%d" % number for number in range(50)])

    async def test_consumers_take_turns(self: Any) -> None:
        queue = await self.declare()
        first, second = await self.consume(queue), await self.consume(queue)
        for number in range(4):
            await self.publish(queue, b"%d" % number)
        self.assertEqual([(await first.get()).body for _ in range(2)], [b"0", b"2"])
        self.assertEqual([(await second.get()).body for _ in range(2)], [b"1", b"3"])

    async def test_get_takes_one_message(self: Any) -> None:
        queue = await self.declare()
        self.assertIsNone(await self.channel.basic_get(queue))
        await self.publish(queue, b"one")
        await self.publish(queue, b"two")
        message = await self.channel.basic_get(queue)
        self.assertEqual((message.body, message.method.message_count), (b"one", 1))

    async def test_a_canceled_consumer_gets_no_more_messages_and_keeps_its_unacknowledged_ones(
        self: Any,
    ) -> None:
        queue = await self.declare()
        deliveries, tag = await self.channel.basic_consume(queue)
        await self.publish(queue, b"one")
        message = await deliveries.get()
        await self.channel.basic_cancel(tag)
        await self.publish(queue, b"two")
        self.assertEqual(await self.count(queue), 1)
        self.channel.basic_ack(message.method.delivery_tag)
        self.assertEqual(await self.bodies(queue), [b"two"])

    async def test_purge_drops_ready_messages(self: Any) -> None:
        queue = await self.declare()
        for _ in range(3):
            await self.publish(queue)
        reply = await self.channel.queue_purge(queue)
        self.assertEqual((reply.method.message_count, await self.count(queue)), (3, 0))

    # Prefetch and acknowledgements

    async def test_prefetch_bounds_unacknowledged_messages(self: Any) -> None:
        queue = await self.declare()
        for number in range(4):
            await self.publish(queue, b"%d" % number)
        await self.channel.basic_qos(prefetch_count=2)
        deliveries = await self.consume(queue)
        await deliveries.get()
        second = await deliveries.get()
        self.assertEqual(await self.count(queue), 2)
        self.channel.basic_ack(second.method.delivery_tag, multiple=True)
        self.assertEqual([(await deliveries.get()).body for _ in range(2)], [b"2", b"3"])

    async def test_reject_drops(self: Any) -> None:
        queue = await self.declare()
        await self.publish(queue, b"one")
        message = await self.channel.basic_get(queue)
        self.channel.basic_reject(message.method.delivery_tag, requeue=False)
        self.assertEqual(await self.bodies(queue), [])

    async def test_requeued_messages_return_to_their_places(self: Any) -> None:
        queue = await self.declare()
        for number in range(4):
            await self.publish(queue, b"%d" % number)
        messages = [await self.channel.basic_get(queue) for _ in range(3)]
        self.channel.basic_reject(messages[1].method.delivery_tag, requeue=True)
        self.channel.basic_nack(messages[0].method.delivery_tag, requeue=True)
        self.channel.basic_nack(messages[2].method.delivery_tag, multiple=True, requeue=True)
        again = await self.channel.basic_get(queue, auto_ack=True)
        self.assertEqual((again.body, again.method.redelivered), (b"0", True))
        self.assertEqual(await self.bodies(queue), [b"1", b"2", b"3"])

    async def test_recover_requeues_all(self: Any) -> None:
        queue = await self.declare()
        await self.publish(queue, b"one")
        await self.channel.basic_get(queue)
        await self.channel.basic_recover(requeue=True)
        again = await self.channel.basic_get(queue)
        self.assertEqual((again.body, again.method.redelivered), (b"one", True))

    async def test_a_closed_channel_requeues_its_messages(self: Any) -> None:
        queue = await self.declare()
        await self.publish(queue, b"one")
        other = await self.open_channel()
        deliveries = await self.consume(queue, other)
        await deliveries.get()
        other.close()
        again = await (await self.consume(queue)).get()
        self.assertEqual((again.body, again.method.redelivered), (b"one", True))

    async def test_a_broken_connection_requeues_its_messages(self: Any) -> None:
        queue = await self.declare(exclusive=False, auto_delete=True)
        other = await self.connect()
        deliveries = await self.consume(queue, await self.open_channel(other))
        ours = await self.consume(queue)
        for body in (b"one", b"two"):
            await self.publish(queue, body)
        await deliveries.get()
        await ours.get()
        other.transport.abortConnection()
        again = await ours.get()
        self.assertEqual((again.body, again.method.redelivered), (b"one", True))

    async def test_an_unknown_delivery_tag_closes_the_channel(self: Any) -> None:
        queue = await self.declare()
        self.channel.basic_ack(7)
        code, text = await self.refusal(self.channel.queue_purge(queue))
        self.assertEqual((code, text), (406, "PRECONDITION_FAILED - unknown delivery tag 7"))

    # Confirms and returns

    async def test_an_unroutable_message_is_returned_and_confirmed(self: Any) -> None:
        exchange = await self.declare_exchange()
        error = await self.failure(
            self.publish("nowhere", b"body", exchange, message_id="m"), UnroutableError
        )
        (returned,) = error.messages
        self.assertEqual((returned.method.reply_code, returned.method.reply_text), (312, "NO_ROUTE"))
        self.assertEqual((returned.method.exchange, returned.method.routing_key), (exchange, "nowhere"))
        self.assertEqual((returned.body, returned.properties.message_id), (b"body", "m"))

    async def test_a_returned_message_has_its_headers_in_any_order(self: Any) -> None:
        exchange = await self.declare_exchange()
        headers = {"txmicro-stored": 1, "b": "x", "a": 2**40, "traceparent": "t"}
        for id in ("m1", "m2"):
            returning = self.publish("nowhere", b"", exchange, message_id=id, headers=headers)
            (returned,) = (await self.failure(returning, UnroutableError)).messages
            self.assertEqual((returned.properties.message_id, returned.properties.headers), (id, headers))

    async def test_an_unroutable_message_without_the_mandatory_flag_is_confirmed(self: Any) -> None:
        exchange = await self.declare_exchange()
        await self.channel.basic_publish(exchange, "nowhere", b"")

    async def test_a_full_queue_refuses(self: Any) -> None:
        queue = await self.declare(arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        await self.publish(queue, b"one")
        await self.failure(self.publish(queue, b"two"), NackError)
        self.assertEqual(await self.bodies(queue), [b"one"])

    async def test_publishing_to_a_missing_exchange_closes_the_channel(self: Any) -> None:
        other = await self.open_channel()
        await other.basic_publish("missing", "key", b"")
        code, text = await self.refusal(other.queue_declare("", exclusive=True))
        self.assertEqual((code, text), (404, "NOT_FOUND - no exchange 'missing' in vhost '/'"))

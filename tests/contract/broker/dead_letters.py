"""The contract: time to live and dead letters."""

from __future__ import annotations

from typing import Any

from .case import ContractCase


class DeadLetterContract(ContractCase):
    """Time to live and dead letters."""

    async def dying(self, key: str | None = None, **arguments: Any) -> tuple[str, Any]:
        """Declare a queue with *arguments*; return it with the consumer of its dead letters."""
        dead = await self.declare()
        exchange = await self.declare_exchange("topic")
        await self.channel.queue_bind(dead, exchange, "#")
        arguments = {name.replace("_", "-"): value for name, value in arguments.items()}
        if key is not None:
            arguments["x-dead-letter-routing-key"] = key
        queue = await self.declare(arguments={"x-dead-letter-exchange": exchange, **arguments})
        return queue, await self.consume(dead)

    async def test_expired_messages_become_dead_letters(self: Any) -> None:
        queue, dead = await self.dying()
        await self.publish(queue, b"body", expiration="1", headers={"mine": "kept"})
        letter = await dead.get()
        self.assertEqual((letter.body, letter.properties.expiration), (b"body", None))
        self.assertEqual(letter.method.routing_key, queue)
        headers = letter.properties.headers
        (death,) = headers.pop("x-death")
        self.assertIsNotNone(death.pop("time"))
        self.assertEqual(
            death,
            {
                "count": 1,
                "reason": "expired",
                "queue": queue,
                "exchange": "",
                "routing-keys": [queue],
                "original-expiration": "1",
            },
        )
        which = ["first"] if self.version < (4,) else ["first", "last"]
        said = {"exchange": "", "queue": queue, "reason": "expired"}
        expected = {f"x-{when}-death-{what}": value for when in which for what, value in said.items()}
        self.assertEqual(headers, {"mine": "kept", **expected})

    async def test_a_queue_can_set_the_time_to_live(self: Any) -> None:
        queue, dead = await self.dying(x_message_ttl=1)
        await self.publish(queue, b"body", expiration="60000")
        self.assertEqual((await dead.get()).body, b"body")

    async def test_a_consumer_gets_a_message_with_a_time_to_live_of_zero(self: Any) -> None:
        queue, _dead = await self.dying(x_message_ttl=0)
        deliveries = await self.consume(queue)
        await self.publish(queue, b"body")
        self.assertEqual((await deliveries.get()).body, b"body")

    async def test_rejected_messages_become_dead_letters(self: Any) -> None:
        queue, dead = await self.dying("another key")
        await self.publish(queue, b"body")
        message = await self.channel.basic_get(queue)
        self.channel.basic_nack(message.method.delivery_tag, requeue=False)
        letter = await dead.get()
        self.assertEqual((letter.body, letter.method.routing_key), (b"body", "another key"))
        self.assertEqual(letter.properties.headers["x-death"][0]["reason"], "rejected")

    async def test_a_full_queue_drops_its_head_to_the_dead_letters(self: Any) -> None:
        queue, dead = await self.dying(x_max_length=1)
        await self.publish(queue, b"one")
        await self.publish(queue, b"two")
        letter = await dead.get()
        self.assertEqual(letter.body, b"one")
        self.assertEqual(letter.properties.headers["x-death"][0]["reason"], "maxlen")
        self.assertEqual(await self.bodies(queue), [b"two"])

    async def test_a_queue_can_be_bounded_in_bytes(self: Any) -> None:
        queue = await self.declare(arguments={"x-max-length-bytes": 10})
        for body in (b"123456", b"1234", b"12345"):
            await self.publish(queue, body)
        self.assertEqual(await self.bodies(queue), [b"1234", b"12345"])

    async def test_a_second_dead_lettering_is_counted(self: Any) -> None:
        queue, dead = await self.dying()
        await self.publish(queue, b"body")
        for _ in range(2):
            message = await self.channel.basic_get(queue)
            self.channel.basic_reject(message.method.delivery_tag, requeue=False)
            letter = await dead.get()
            await self.channel.basic_publish("", queue, letter.body, letter.properties)
        (death,) = letter.properties.headers["x-death"]
        # RabbitMQ 4 ignores an x-death header that a client publishes.
        self.assertEqual(death["count"], 1 if self.rabbitmq4 else 2)

    async def test_a_message_that_expires_in_a_cycle_is_dropped(self: Any) -> None:
        exchange, last = await self.declare_exchange("fanout"), await self.declare()
        await self.channel.queue_bind(last, exchange, "")
        arguments = {"x-message-ttl": 1, "x-dead-letter-exchange": exchange}
        round_trip = await self.declare(arguments=arguments)
        await self.channel.queue_bind(round_trip, exchange, "")
        await self.publish(round_trip, b"body")
        await (await self.consume(last)).get()
        self.assertEqual(await self.count(round_trip), 0)

    async def test_a_retry_queue_returns_messages_after_its_time(self: Any) -> None:
        work = await self.declare()
        retry = await self.declare(
            arguments={"x-message-ttl": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": work}
        )
        deliveries = await self.consume(work)
        await self.publish(retry, b"again")
        self.assertEqual((await deliveries.get()).body, b"again")

    async def test_a_quorum_queue_counts_and_limits_deliveries(self: Any) -> None:
        dead, queue = await self.declare(), self.name()
        arguments = {
            "x-queue-type": "quorum",
            "x-delivery-limit": 1,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": dead,
        }
        await self.channel.queue_declare(queue, durable=True, arguments=arguments)
        self.addCleanup(self.channel.queue_delete, queue)
        letters = await self.consume(dead)
        deliveries = await self.consume(queue)
        await self.publish(queue, b"body")
        seen = []
        for _ in range(2):
            message = await deliveries.get()
            seen.append((message.properties.headers or {}).get("x-delivery-count"))
            if self.version < (4, 3):
                self.channel.basic_nack(message.method.delivery_tag, requeue=True)
            else:
                self.channel.basic_reject(message.method.delivery_tag, requeue=True)
        letter = await letters.get()
        self.assertEqual(seen, [None, 1])
        self.assertEqual(letter.properties.headers["x-death"][0]["reason"], "delivery_limit")

    async def test_a_nack_counts_as_a_delivery_until_4_3(self: Any) -> None:
        queue = self.name()
        arguments = {"x-queue-type": "quorum", "x-delivery-limit": 5}
        await self.channel.queue_declare(queue, durable=True, arguments=arguments)
        self.addCleanup(self.channel.queue_delete, queue)
        deliveries = await self.consume(queue)
        await self.publish(queue, b"body")
        message = await deliveries.get()
        self.channel.basic_nack(message.method.delivery_tag, requeue=True)
        message = await deliveries.get()
        headers = message.properties.headers or {}
        self.assertEqual(headers.get("x-delivery-count"), 1 if self.version < (4, 3) else None)
        self.assertTrue(message.method.redelivered)

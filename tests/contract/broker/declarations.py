"""The contract: the end of queues and exchanges, and requests that are refused."""

from __future__ import annotations

from typing import Any

from pika import BasicProperties
from pika.exceptions import (
    ConsumerCancelled,
    NackError,
    UnroutableError,
)

from .case import ContractCase


class DeclarationContract(ContractCase):
    """The end of queues and exchanges, and requests that are refused."""

    async def test_an_auto_delete_queue_is_deleted_with_its_last_consumer(self: Any) -> None:
        queue = await self.declare(exclusive=False, auto_delete=True)
        _deliveries, tag = await self.channel.basic_consume(queue)
        await self.channel.basic_cancel(tag)
        code, text = await self.refusal(self.channel.queue_declare(queue, passive=True))
        self.assertEqual((code, text), (404, f"NOT_FOUND - no queue '{queue}' in vhost '/'"))

    async def test_an_auto_delete_exchange_is_deleted_with_its_last_binding(self: Any) -> None:
        exchange, queue = await self.declare_exchange(), await self.declare()
        await self.channel.queue_bind(queue, exchange, "a")
        await self.channel.queue_delete(queue)
        code, _text = await self.refusal(self.channel.exchange_declare(exchange, passive=True))
        self.assertEqual(code, 404)

    async def test_an_unused_queue_expires(self: Any) -> None:
        queue = await self.declare(arguments={"x-expires": 20})
        try:
            while True:
                await self.publish(queue)
        except (UnroutableError, NackError):  # RabbitMQ 4.3 may lose the queue while it publishes
            pass

    async def test_an_exclusive_queue_belongs_to_its_connection(self: Any) -> None:
        owner = await self.connect()
        channel = await self.open_channel(owner)
        queue = (await channel.queue_declare("", exclusive=True)).method.queue
        code, text = await self.refusal((await self.open_channel()).basic_get(queue))
        self.assertEqual(code, 405)
        self.assertIn(f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}'", text)
        await owner.close()
        code, _text = await self.refusal((await self.open_channel()).queue_declare(queue, passive=True))
        self.assertEqual(code, 404)

    async def test_consumers_are_told_that_their_queue_is_deleted(self: Any) -> None:
        queue = await self.declare()
        deliveries = await self.consume(queue)
        waiting = deliveries.get()
        await (await self.open_channel()).queue_delete(queue)
        await self.failure(waiting, ConsumerCancelled)

    async def test_delete_can_keep_queues_and_exchanges_in_use(self: Any) -> None:
        queue, exchange = await self.declare(), await self.declare_exchange()
        await self.publish(queue)
        asked = (await self.open_channel()).queue_delete(queue, if_empty=True)
        words = f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' not empty"
        self.assertEqual(await self.refusal(asked), (406, words))
        await self.consume(queue)
        asked = (await self.open_channel()).queue_delete(queue, if_unused=True)
        words = f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' in use"
        self.assertEqual(await self.refusal(asked), (406, words))
        await self.channel.queue_bind(queue, exchange, "a")
        asked = (await self.open_channel()).exchange_delete(exchange, if_unused=True)
        words = f"PRECONDITION_FAILED - exchange '{exchange}' in vhost '/' in use"
        self.assertEqual(await self.refusal(asked), (406, words))

    async def test_a_missing_queue_or_exchange_can_be_deleted(self: Any) -> None:
        await self.channel.queue_delete(self.name())
        await self.channel.exchange_delete(self.name())

    # Refused requests

    async def test_a_queue_cannot_change(self: Any) -> None:
        queue = await self.declare(exclusive=False, arguments={"x-message-ttl": 1000})
        self.addCleanup(self.channel.queue_delete, queue)
        await self.channel.queue_declare(queue, arguments={"x-message-ttl": 1000})
        for field, changed in (
            ("durable", {"durable": True, "arguments": {"x-message-ttl": 1000}}),
            ("auto_delete", {"auto_delete": True, "arguments": {"x-message-ttl": 1000}}),
            ("x-message-ttl", {"arguments": {"x-message-ttl": 1}}),
            ("x-message-ttl", {}),
        ):
            code, text = await self.refusal((await self.open_channel()).queue_declare(queue, **changed))
            self.assertEqual(code, 406)
            self.assertIn(f"inequivalent arg '{field}' for queue '{queue}' in vhost '/': received", text)

    async def test_an_exchange_cannot_change(self: Any) -> None:
        exchange = await self.declare_exchange("topic")
        await self.channel.exchange_declare(exchange, "topic", auto_delete=True)
        code, text = await self.refusal((await self.open_channel()).exchange_declare(exchange, "direct"))
        self.assertEqual(
            (code, text),
            (
                406,
                f"PRECONDITION_FAILED - inequivalent arg 'type' for exchange '{exchange}' in vhost '/': "
                "received 'direct' but current is 'topic'",
            ),
        )

    async def test_a_missing_queue_or_exchange_is_not_found(self: Any) -> None:
        queue = await self.declare()
        for ask in (
            lambda channel: channel.queue_declare("missing", passive=True),
            lambda channel: channel.exchange_declare("missing", passive=True),
            lambda channel: channel.basic_consume("missing"),
            lambda channel: channel.basic_get("missing"),
            lambda channel: channel.queue_purge("missing"),
            lambda channel: channel.queue_bind("missing", "missing", "a"),
            lambda channel: channel.queue_bind(queue, "missing", "a"),
        ):
            code, text = await self.refusal(ask(await self.open_channel()))
            self.assertEqual((code, "'missing' in vhost '/'" in text), (404, True), text)

    async def test_requests_for_missing_things_may_do_nothing(self: Any) -> None:
        queue, exchange = await self.declare(), await self.declare_exchange("topic", auto_delete=False)
        self.addCleanup(self.channel.exchange_delete, exchange)
        for names in ((queue, exchange), ("missing", exchange), (queue, "missing")):
            await self.channel.queue_unbind(*names, "not.bound")
        await self.channel.basic_recover(requeue=True)
        await self.channel.queue_purge(queue)

    async def test_requests_for_missing_things_may_be_refused(self: Any) -> None:
        queue, exchange = await self.declare(), await self.declare_exchange("topic", auto_delete=False)
        self.addCleanup(self.channel.exchange_delete, exchange)
        for code, ask in (
            (403, lambda channel: channel.exchange_delete("")),
            (403, lambda channel: channel.exchange_delete("amq.direct")),
            (403, lambda channel: channel.exchange_declare("", "direct")),
            (405, lambda channel: channel.queue_declare(queue, exclusive=False)),
            (406, lambda channel: channel.exchange_declare(exchange, "topic", durable=True)),
            (406, lambda channel: channel.exchange_declare(exchange, "topic", auto_delete=True)),
            (406, lambda channel: channel.exchange_declare(exchange, "topic", internal=True)),
        ):
            self.assertEqual((await self.refusal(ask(await self.open_channel())))[0], code)

    async def test_a_multiple_ack_names_an_unacknowledged_message(self: Any) -> None:
        queue = await self.declare()
        for _ in range(3):
            await self.publish(queue)
        for _ in range(3):
            await self.channel.basic_get(queue)
        self.channel.basic_ack(2)
        self.channel.basic_ack(2, multiple=True)
        self.assertEqual((await self.refusal(self.channel.queue_purge(queue)))[0], 406)
        self.assertEqual(await self.count_elsewhere(queue), 2)

    async def test_an_ack_of_all_messages_without_any_is_accepted(self: Any) -> None:
        queue = await self.declare()
        self.channel.basic_ack(0, multiple=True)
        self.assertEqual(await self.count(queue), 0)

    async def test_a_missing_key_of_the_dead_letters_keeps_the_old_one(self: Any) -> None:
        queue, dead = await self.dying(x_max_length=0)
        await self.publish(queue, b"body")
        self.assertEqual((await dead.get()).method.routing_key, queue)

    async def test_reserved_names_are_refused(self: Any) -> None:
        queue = await self.declare()
        for ask, words in (
            (lambda channel: channel.queue_declare("amq.mine"), "queue name 'amq.mine' contains reserved"),
            (
                lambda channel: channel.exchange_declare("amq.mine"),
                "exchange name 'amq.mine' contains reserved",
            ),
            (
                lambda channel: channel.queue_bind(queue, "", "a"),
                "operation not permitted on the default exchange",
            ),
        ):
            code, text = await self.refusal(ask(await self.open_channel()))
            self.assertEqual((code, words in text), (403, True), text)

    async def test_an_exclusive_consumer_is_alone(self: Any) -> None:
        queue = await self.declare()
        await self.consume(queue, exclusive=True)
        code, text = await self.refusal(self.consume(queue, await self.open_channel()))
        self.assertEqual(
            (code, text), (403, f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use")
        )

    async def test_invalid_arguments_are_refused(self: Any) -> None:
        for arguments in (
            {"x-message-ttl": -1},
            {"x-message-ttl": "1"},
            {"x-expires": 0},
            {"x-max-length": -1},
            {"x-overflow": "burst"},
            {"x-dead-letter-exchange": 1},
            {"x-dead-letter-routing-key": "a"},
        ):
            asked = (await self.open_channel()).queue_declare("", exclusive=True, arguments=arguments)
            self.assertEqual((await self.refusal(asked))[0], 406, arguments)
        asked = (await self.open_channel()).queue_declare(self.name(), arguments={"x-queue-type": "quorum"})
        self.assertEqual((await self.refusal(asked))[0], 406)

    async def test_an_invalid_expiration_is_refused(self: Any) -> None:
        queue, other = await self.declare(), await self.open_channel()
        await other.basic_publish("", queue, b"", BasicProperties(expiration="soon"))
        self.assertEqual((await self.refusal(other.queue_purge(queue)))[0], 406)

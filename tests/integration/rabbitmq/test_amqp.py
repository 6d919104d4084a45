"""Tests the AMQP client with a real RabbitMQ."""

from __future__ import annotations

import datetime
from collections.abc import Coroutine
from decimal import Decimal
from typing import Any

from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.trial.unittest import TestCase

from tests.support.rabbitmq import HOST, Node, reactor, require_rabbitmq
from txmicro.amqp.channel import Channel
from txmicro.amqp.connection import Connection
from txmicro.amqp.errors import (
    AuthenticationFailed,
    ChannelClosed,
    ConnectionClosed,
    LimitReached,
    Returned,
    VhostError,
)
from txmicro.amqp.methods import Deliver
from txmicro.amqp.properties import Properties

EVERYTHING = Properties(
    content_type="application/json",
    content_encoding="utf-8",
    headers={
        "str": "Amélie",
        "bytes": b"\xff\x00",
        "true": True,
        "ints": [0, -1, 127, 128, -32768, 65535, 2**31, -(2**31), 2**32, 2**63 - 1, -(2**63)],
        "float": 0.1,
        "decimal": Decimal("3.14"),
        "time": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
        "none": None,
        "table": {"é": {"empty": {}, "list": []}},
    },
    delivery_mode=2,
    priority=9,
    correlation_id="correlation",
    reply_to="WA:1795449588399-3fa9",
    expiration="60000",
    message_id="ü" * 100,
    timestamp=1795449588,
    message_type="job",
    user_id="guest",
    app_id="txmicro",
)


class RabbitMQ(TestCase):
    timeout = 120
    node: Node

    async def setUp(self) -> None:  # type: ignore[override]
        self.node = await require_rabbitmq()
        self.client = await self.connected()
        self.channel: Channel = await self.client.channel_open()
        self.queue: str = (await self.channel.queue_declare(exclusive=True)).queue
        self.messages: DeferredQueue[tuple[Deliver, Properties, bytes]] = DeferredQueue()

    def connected(self, **options: Any) -> Deferred[Connection]:
        return Deferred.fromCoroutine(self.connect(**options))

    async def connect(self, **options: Any) -> Connection:
        arguments = {"vhost": "/", "username": "guest", "password": "guest", "clock": reactor, **options}
        client = Connection(**arguments)
        self.addCleanup(client.shutdown)
        await connectProtocol(TCP4ClientEndpoint(reactor, HOST, self.node.port), client)
        return await client.ready()

    def consume(self, **options: Any) -> Deferred[str]:
        consuming: Deferred[str] = self.channel.consume(
            self.queue, lambda *message: self.messages.put(message), **options
        )
        return consuming

    def publish(self, properties: Properties, body: bytes, key: str | None = None) -> None:
        prefix = self.channel.publisher("", self.queue if key is None else key, mandatory=True)
        self.channel.publish(prefix, properties.encode(), body)

    async def failed(self, waiting: Coroutine[Any, Any, Any] | Deferred[Any], kind: type[Exception]) -> Any:
        """Return the error of *kind* that *waiting* fails with."""
        try:
            await waiting
        except kind as error:
            return error
        return self.fail(f"no {kind.__name__}")

    async def test_the_broker_names_its_product_and_version(self) -> None:
        self.assertEqual(self.client.server_properties["product"], "RabbitMQ")
        self.assertTrue(self.client.server_properties["capabilities"]["publisher_confirms"])
        self.assertIn("txmicro", await self.node.ctl("list_connections", "client_properties"))

    async def test_bodies_of_every_size_and_byte_are_returned_unchanged(self) -> None:
        bodies = [
            b"",
            b"\xff\xfe\xfd",
            "Amélie".encode(),
            bytes(range(256)) * 20480,
            b"x" * 131064,
            b"x" * 131065,
        ]
        await self.consume(no_ack=True)
        for body in bodies:
            self.publish(Properties(), body)
        for body in bodies:
            self.assertEqual((await self.messages.get())[2], body)

    async def test_all_properties_and_header_types_are_returned_unchanged(self) -> None:
        await self.consume(no_ack=True)
        self.publish(EVERYTHING, b"")
        self.assertEqual((await self.messages.get())[1], EVERYTHING)

    async def test_a_rejected_message_is_delivered_again_and_an_acknowledged_one_is_not(self) -> None:
        await self.consume()
        self.publish(Properties(), b"job")
        first, _, _ = await self.messages.get()
        self.channel.reject(first.delivery_tag, requeue=True)
        second, _, _ = await self.messages.get()
        self.assertEqual((first.redelivered, second.redelivered), (False, True))
        self.channel.ack(second.delivery_tag)
        await self.channel.basic_recover(requeue=True)
        self.assertEqual((await self.channel.basic_get(queue=self.queue)).method.name, "get-empty")

    async def test_confirms_and_returns(self) -> None:
        await self.channel.confirm_select()
        await self.channel.exchange_declare(exchange="confirming", exchange_type="direct", auto_delete=True)
        await self.channel.queue_bind(queue=self.queue, exchange="confirming", routing_key="stored")
        stored = self.channel.publisher("confirming", "stored", True)
        lost = self.channel.publisher("confirming", "lost", True)
        properties = EVERYTHING.encode()
        id = EVERYTHING.message_id or ""
        waiting = [self.channel.publish_confirmed(stored, properties, bytes(1000), id) for _ in range(100)]
        returned = self.channel.publish_confirmed(lost, properties, b"nobody", id)
        error = await self.failed(returned, Returned)
        self.assertEqual((error.reply_code, error.exchange, error.routing_key), (312, "confirming", "lost"))
        for message in waiting:
            await message

    async def test_a_return_without_a_wait(self) -> None:
        returned: Deferred[tuple[Any, Properties, bytes]] = Deferred()
        self.channel.on_return = lambda *message: returned.callback(message)
        self.publish(EVERYTHING, b"body", "no such queue")
        method, properties, body = await returned
        self.assertEqual((method.reply_code, method.routing_key), (312, "no such queue"))
        self.assertEqual((properties, body), (EVERYTHING, b"body"))

    async def test_the_broker_reports_that_the_queue_of_a_consumer_is_deleted(self) -> None:
        cancelled: Deferred[None] = Deferred()
        await self.consume(on_cancel=lambda: cancelled.callback(None))
        await self.node.delete_queue(self.queue)
        await cancelled

    async def test_a_canceled_consumer_gets_no_more_messages(self) -> None:
        tag = await self.consume(no_ack=True)
        await self.channel.cancel(tag)
        self.publish(Properties(), b"")
        self.assertEqual((await self.channel.basic_get(queue=self.queue, no_ack=True)).content.body, b"")
        self.assertEqual((await self.channel.basic_get(queue=self.queue)).method.name, "get-empty")

    async def test_a_channel_error_does_not_close_the_connection(self) -> None:
        error = await self.failed(self.channel.queue_declare(queue="missing", passive=True), ChannelClosed)
        self.assertEqual(error.reply_code, 404)
        self.assertIs(await self.channel.lost(), error)
        other = await self.client.channel_open()
        await other.basic_qos(prefetch_count=1)
        await other.channel_close()

    async def test_a_wrong_password(self) -> None:
        error = await self.failed(self.connected(password="wrong"), AuthenticationFailed)
        self.assertIn("ACCESS_REFUSED", error.reply_text)

    async def test_a_vhost_that_does_not_exist(self) -> None:
        error = await self.failed(self.connected(vhost="missing"), VhostError)
        self.assertIn("missing", error.reply_text)

    async def test_a_limit_of_connections(self) -> None:
        await self.node.ctl("add_vhost", "limited")
        await self.node.ctl("set_permissions", "-p", "limited", "guest", ".*", ".*", ".*")
        self.addCleanup(self.node.ctl, "delete_vhost", "limited")
        await self.node.ctl("set_vhost_limits", "-p", "limited", '{"max-connections": 0}')
        error = await self.failed(self.connected(vhost="limited"), LimitReached)
        self.assertIn("limit", error.reply_text)

    async def test_a_limit_of_a_users_connections(self) -> None:
        await self.node.add_user("limited")
        await self.node.ctl("set_user_limits", "limited", '{"max-connections": 0}')
        self.addCleanup(self.node.ctl, "clear_user_limits", "limited", "all")
        error = await self.failed(self.connected(username="limited", password="limited"), LimitReached)
        self.assertIn("limit", error.reply_text)

    async def test_the_broker_closes_the_connection(self) -> None:
        declaring = self.channel.lost()
        await self.node.close_connections("maintenance")
        error = await self.client.lost()
        self.assertIsInstance(error, ConnectionClosed)
        self.assertIn("maintenance", str(error))
        self.assertIs(await declaring, error)

    async def test_a_malformed_frame_ends_the_connection_on_both_sides(self) -> None:
        self.client.writer.write(b"\x01\0\x01\0\0\0\0\xcf")
        error = await self.client.lost()
        self.assertIsInstance(error, ConnectionClosed)
        self.assertEqual(getattr(error, "reply_code", None), 501)

    async def test_frames_are_at_most_as_large_as_negotiated(self) -> None:
        small = await self.connected(
            frame_max=8192
        )  # RabbitMQ 4.1 and later close the connection if it is lower
        channel = await small.channel_open()
        queue = (await channel.queue_declare(exclusive=True)).queue
        channel.publish(channel.publisher("", queue), b"\0\0", bytes(20_000))
        self.assertEqual((await channel.basic_get(queue=queue)).content.body, bytes(20_000))

"""The contract: login, capabilities, alarms, and clients that send raw bytes."""

from __future__ import annotations

from typing import Any

from pamqp.commands import Channel, Connection, Exchange
from pika import PlainCredentials
from pika.exceptions import (
    AMQPConnectionError,
)
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import connectProtocol

from txmicro.amqp.frames import HEARTBEAT, PROTOCOL_HEADER, content_frames, method_frame, publish_prefix

from .case import ContractCase
from .raw import Raw

reactor: Any = _reactor

BYE = Connection.Close(200, "bye", 0, 0)


class ConnectionContract(ContractCase):
    """Login, capabilities, alarms, and clients that send raw bytes."""

    async def test_a_wrong_password_is_refused(self: Any) -> None:
        await self.failure(self.connect(credentials=PlainCredentials("guest", "wrong")), AMQPConnectionError)

    async def test_an_unknown_vhost_is_refused(self: Any) -> None:
        await self.failure(self.connect(virtual_host="elsewhere"), AMQPConnectionError)

    async def test_the_broker_announces_its_capabilities(self: Any) -> None:
        capabilities = self.connection._impl.server_capabilities
        for name in (
            "publisher_confirms",
            "consumer_cancel_notify",
            "basic.nack",
            "connection.blocked",
            "per_consumer_qos",
            "authentication_failure_close",
        ):
            self.assertIs(capabilities[name], True, name)

    async def test_publishers_are_blocked_while_memory_is_short(self: Any) -> None:
        queue = await self.declare()
        blocked: Deferred[None] = Deferred()
        unblocked: Deferred[None] = Deferred()
        self.connection._impl.add_on_connection_blocked_callback(lambda *_: blocked.callback(None))
        self.connection._impl.add_on_connection_unblocked_callback(lambda *_: unblocked.callback(None))
        await self.publish(queue)
        await self.alarm(True)
        publishing = self.publish(queue)
        waiting = Deferred.fromCoroutine(publishing)
        await blocked
        await self.alarm(False)
        await unblocked
        await waiting

    async def raw(self, *methods: Any) -> Any:
        """Return a client that sends the protocol header and *methods*, and nothing else."""
        client = await connectProtocol(self.endpoint(), Raw())
        client.transport.write(PROTOCOL_HEADER + b"".join(methods))
        return client

    def hello(self, heartbeat: int) -> list[bytes]:
        """Return the frames with which a client logs in."""
        return [
            method_frame(0, method)
            for method in (
                Connection.StartOk({}, "PLAIN", "\x00guest\x00guest", "en_US"),
                Connection.TuneOk(2047, 131_072, heartbeat),
                Connection.Open("/"),
            )
        ]

    async def test_an_unknown_kind_of_exchange_is_refused(self: Any) -> None:
        declare = method_frame(1, Exchange.Declare(exchange="contract.magic", exchange_type="magic"))
        client = await self.raw(*self.hello(60), method_frame(1, Channel.Open()), declare)
        old = self.version < (4,)
        code = "COMMAND_INVALID" if old else "PRECONDITION_FAILED"
        await client.hear(f"{code} - unknown exchange type 'magic'".encode())
        answer = method_frame(0, Connection.CloseOk()) if old else method_frame(1, Channel.CloseOk())
        client.transport.write(answer)
        if not old:  # the connection stays open
            client.transport.write(method_frame(0, BYE))
            await client.hear(method_frame(0, Connection.CloseOk()))
            client.transport.abortConnection()
        await client.gone

    async def test_both_sides_may_close_a_channel_at_once(self: Any) -> None:
        publish = content_frames(1, publish_prefix(1, "missing", "key", False), b"\0\0", b"", 131_072)
        close = method_frame(1, Channel.Close(200, "bye", 0, 0))
        client = await self.raw(*self.hello(60), method_frame(1, Channel.Open()), publish, close)
        await client.hear(b"NOT_FOUND - no exchange 'missing'")
        await client.hear(method_frame(1, Channel.CloseOk()))
        client.transport.write(method_frame(1, Channel.CloseOk()))
        client.transport.write(method_frame(1, Channel.Open()) + method_frame(0, BYE))
        await client.hear(method_frame(0, Connection.CloseOk()))
        self.assertNotIn(b"CHANNEL_ERROR", client.received)
        client.transport.abortConnection()
        await client.gone

    async def test_garbage_closes_the_connection(self: Any) -> None:
        client = await self.raw(*self.hello(60), b"\x00garbage", bytes(100))
        await client.gone

    async def test_a_client_with_another_protocol_gets_the_protocol_header(self: Any) -> None:
        for greeting in (b"GET / HT", b"AMQP\x00\x00\x08\x00"):
            client = await connectProtocol(self.endpoint(), Raw())
            client.transport.write(greeting)
            await client.gone
            # RabbitMQ 4 proposes AMQP 1.0 with SASL.
            self.assertEqual(client.received, b"AMQP\3\1\0\0" if self.rabbitmq4 else PROTOCOL_HEADER)

    async def test_a_silent_client_gets_heartbeats_and_is_disconnected(self: Any) -> None:
        client = await self.raw(*self.hello(1))
        await client.gone
        self.assertIn(HEARTBEAT, client.received)

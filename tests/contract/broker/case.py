"""The base of the tests of the broker's contract."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from pika import BasicProperties, URLParameters
from pika.adapters.twisted_connection import TwistedProtocolConnection
from pika.exceptions import (
    ChannelClosedByBroker,
)
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

reactor: Any = _reactor


class ContractCase:
    """Connects to a broker before each test. :meth:`start_broker` sets ``url``."""

    url: str
    timeout = 60

    @property
    def rabbitmq4(self) -> bool:
        """Return whether the broker is RabbitMQ 4."""
        properties = self.connection._impl.server_properties
        return properties["product"] == "RabbitMQ" and self.version >= (4,)

    async def start_broker(self) -> None:
        """Start a broker, and set ``url``."""
        raise NotImplementedError

    async def alarm(self, on: bool) -> None:
        """Raise the broker's memory alarm, or end it."""
        raise NotImplementedError

    def setUp(self) -> Any:
        return Deferred.fromCoroutine(self._set_up())

    def tearDown(self) -> Any:
        return Deferred.fromCoroutine(self._tear_down())

    async def _set_up(self) -> None:
        self.connections: list[TwistedProtocolConnection] = []
        await self.start_broker()
        self.connection = await self.connect()
        self.channel = await self.open_channel()
        await self.channel.confirm_delivery()

    async def _tear_down(self) -> None:
        for connection in self.connections:
            if connection.closed is not None:
                await connection.close()

    def endpoint(self) -> TCP4ClientEndpoint:
        parameters = URLParameters(self.url)
        return TCP4ClientEndpoint(reactor, parameters.host, parameters.port)

    async def connect(self, **changes: Any) -> Any:
        parameters = URLParameters(self.url)
        for name, value in changes.items():
            setattr(parameters, name, value)
        connection = await connectProtocol(self.endpoint(), TwistedProtocolConnection(parameters))
        await connection.ready
        self.connections.append(connection)
        return connection

    async def open_channel(self, connection: Any = None) -> Any:
        return await (connection or self.connection).channel()

    @property
    def version(self) -> tuple[int, ...]:
        """Return the version of RabbitMQ. The embedded broker behaves like 4.0 where versions differ."""
        properties = self.connection._impl.server_properties
        if properties["product"] != "RabbitMQ":
            return (4, 0)
        return tuple(int(number) for number in properties["version"].split(".")[:2])

    def name(self) -> str:
        return f"contract.{uuid4().hex}"

    async def declare(self, **declared: Any) -> str:
        """Declare a new queue, which is deleted with the connection by default; return its name."""
        declared.setdefault("exclusive", True)
        reply = await self.channel.queue_declare(self.name(), **declared)
        return str(reply.method.queue)

    async def declare_exchange(self, kind: str = "direct", **declared: Any) -> str:
        name = self.name()
        declared.setdefault("auto_delete", True)
        await self.channel.exchange_declare(name, kind, **declared)
        return name

    async def publish(self, key: str, body: bytes = b"", exchange: str = "", **properties: Any) -> None:
        """Publish with the mandatory flag, and wait for the confirm."""
        await self.channel.basic_publish(exchange, key, body, BasicProperties(**properties), mandatory=True)

    async def consume(self, queue: str, channel: Any = None, **options: Any) -> Any:
        deliveries, _tag = await (channel or self.channel).basic_consume(queue, **options)
        return deliveries

    async def count(self, queue: str) -> int:
        """Return how many messages are ready."""
        reply = await self.channel.queue_declare(queue, passive=True)
        return int(reply.method.message_count)

    async def count_elsewhere(self, queue: str) -> int:
        """Return how many messages are ready, on a new channel."""
        self.channel = await self.open_channel()
        return await self.count(queue)

    async def bodies(self, queue: str) -> list[bytes]:
        """Take all ready messages from *queue*; return their bodies."""
        bodies = []
        while (message := await self.channel.basic_get(queue, auto_ack=True)) is not None:
            bodies.append(message.body)
        return bodies

    async def refusal(self, asked: Any) -> tuple[int, str]:
        """Return the code and text with which the broker closes the channel because of the request *asked*."""
        error = await self.failure(asked, ChannelClosedByBroker)
        return error.reply_code, error.reply_text

    async def failure(self, asked: Any, kind: type[Exception]) -> Any:
        try:
            await asked
        except kind as error:
            return error
        raise self.failureException(f"no {kind.__name__}")  # type: ignore[attr-defined]

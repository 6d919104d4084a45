"""Reads the state of a broker through a connection of its own."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

from tests.support.rabbitmq import HOST, reactor
from txmicro.amqp.channel import Channel
from txmicro.amqp.connection import Connection
from txmicro.amqp.errors import ChannelClosed


class Watcher:
    """Reads the state of queues. It connects when it is first used, and again after a loss."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._client: Connection | None = None
        self._channel: Channel | None = None

    async def consumers(self, queue: str) -> int:
        """Return how many consumers *queue* has; -1: the queue does not exist, or the broker cannot be reached."""
        reply = await self._passive(queue)
        return -1 if reply is None else int(reply.consumer_count)

    async def messages(self, queue: str) -> int:
        """Return how many messages are ready in *queue*; -1: the queue does not exist, or the broker cannot be
        reached.
        """
        reply = await self._passive(queue)
        return -1 if reply is None else int(reply.message_count)

    async def channel(self) -> Channel:
        """Return a new channel."""
        return await self._connect()

    async def _passive(self, queue: str) -> Any:
        try:
            channel = self._channel or await self._connect()
            return await channel.queue_declare(queue=queue, passive=True)
        except ChannelClosed:
            self._channel = None
        except Exception:  # the queue does not exist, or the connection is lost: -1 says so
            self.close()
        return None

    async def _connect(self) -> Channel:
        if self._client is None:
            client = Connection(vhost="/", username="guest", password="guest", clock=reactor)
            await connectProtocol(TCP4ClientEndpoint(reactor, HOST, self._port, timeout=2), client)
            self._client = await client.ready().addTimeout(5, reactor)
        self._channel = await self._client.channel_open()
        return self._channel

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.abort()
        self._client = self._channel = None

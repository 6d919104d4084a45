"""FastStream: ``broker.request``, explicit MessagePack as in its documentation, 500 messages prefetched."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import msgpack
from faststream import AckPolicy
from faststream.rabbit import Channel, RabbitBroker, RabbitMessage, RabbitQueue, RabbitResponse
from protocol import TIMEOUT, ready, serve


async def decode(message: RabbitMessage) -> Any:
    """Decode a body."""
    return msgpack.unpackb(message.body)


broker = RabbitBroker(
    sys.argv[2],
    decoder=decode,
    logger=None,
    default_channel=Channel(prefetch_count=500, publisher_confirms=False),
)


async def work() -> None:
    """Run the worker."""

    @broker.subscriber(RabbitQueue("faststream", auto_delete=True), ack_policy=AckPolicy.ACK_FIRST)
    async def echo(data: Any) -> RabbitResponse:
        # RabbitMQ 3.10 delivers a mandatory answer to a direct reply-to, and returns it as well.
        return RabbitResponse(msgpack.packb(data), mandatory=False)

    await broker.start()
    ready()
    await asyncio.Future()


async def send() -> None:
    """Run the sender."""
    await broker.connect()

    async def call(data: Any) -> Any:
        answer = await broker.request(msgpack.packb(data), "faststream", timeout=TIMEOUT)
        return await answer.decode()

    await serve(call, lambda coroutines: asyncio.gather(*coroutines), asyncio.to_thread)


if __name__ == "__main__":
    asyncio.run({"work": work, "send": send}[sys.argv[1]]())

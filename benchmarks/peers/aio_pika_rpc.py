"""aio-pika, raw RPC: the default exchange, an exclusive queue for answers, no acks on either side."""

from __future__ import annotations

import asyncio
import sys
from itertools import count
from typing import Any

import aio_pika
import msgpack
from protocol import ready, serve


async def work(url: str) -> None:
    """Run the worker."""
    connection = await aio_pika.connect(url)
    channel = await connection.channel(publisher_confirms=False)
    queue = await channel.declare_queue("aio-pika", auto_delete=True)

    async def echo(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        answer = aio_pika.Message(
            msgpack.packb(msgpack.unpackb(message.body)), correlation_id=message.correlation_id
        )
        await channel.default_exchange.publish(answer, message.reply_to)

    await queue.consume(echo, no_ack=True)
    ready()
    await asyncio.Future()


async def send(url: str) -> None:
    """Run the sender."""
    connection = await aio_pika.connect(url)
    channel = await connection.channel(publisher_confirms=False)
    answers = await channel.declare_queue(exclusive=True)
    pending: dict[str, asyncio.Future[Any]] = {}
    numbers = count()

    def answered(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        pending.pop(message.correlation_id).set_result(msgpack.unpackb(message.body))

    async def call(data: Any) -> Any:
        number = str(next(numbers))
        pending[number] = answer = asyncio.get_running_loop().create_future()
        message = aio_pika.Message(msgpack.packb(data), correlation_id=number, reply_to=answers.name)
        await channel.default_exchange.publish(message, "aio-pika")
        return await answer

    await answers.consume(answered, no_ack=True)
    await serve(call, lambda coroutines: asyncio.gather(*coroutines), asyncio.to_thread)


if __name__ == "__main__":
    asyncio.run({"work": work, "send": send}[sys.argv[1]](sys.argv[2]))

"""Dramatiq: the answer is an ``on_success`` callback on the sender's queue. There are no results over
RabbitMQ.
"""

from __future__ import annotations

import logging
import sys
import threading
from concurrent.futures import Future
from itertools import count
from typing import Any

import dramatiq
import msgpack
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.middleware import Callbacks
from protocol import TIMEOUT, ready, serve_blocking


class MessagePack(dramatiq.Encoder):
    """Encodes messages as MessagePack."""

    def encode(self, data: Any) -> bytes:
        """Encode a message (:class:`dramatiq.Encoder`)."""
        return msgpack.packb(data)

    def decode(self, data: bytes) -> Any:
        """Decode a message (:class:`dramatiq.Encoder`)."""
        return msgpack.unpackb(data)


logging.getLogger("dramatiq").setLevel(logging.ERROR)  # it warns of each result that is not stored
dramatiq.set_encoder(MessagePack())
dramatiq.set_broker(RabbitmqBroker(url=sys.argv[2], middleware=[Callbacks()]))
pending: dict[int, Future[Any]] = {}


@dramatiq.actor(queue_name="echo")
def echo(number: int, data: Any) -> list[Any]:
    """Return the request's number and its data."""
    return [number, data]


@dramatiq.actor(queue_name="answers")
def answered(_message: Any, result: list[Any]) -> None:
    """Resolve the request that *result* answers."""
    pending.pop(result[0]).set_result(result[1])


def work(queue: str) -> None:
    """Consume *queue* with eight threads, the default."""
    dramatiq.Worker(dramatiq.get_broker(), queues={queue}, worker_threads=8).start()


def send() -> None:
    """Run the sender."""
    numbers = count()

    def call(data: Any) -> Future[Any]:
        number = next(numbers)
        pending[number] = answer = Future()
        echo.send_with_options(args=(number, data), on_success=answered)
        return answer

    work("answers")
    serve_blocking(call, lambda answer: answer.result(TIMEOUT))


if __name__ == "__main__":
    if sys.argv[1] == "send":
        send()
    else:
        work("echo")
        ready()
        threading.Event().wait()

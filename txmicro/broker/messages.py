"""A message in a queue of the broker."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from typing import Final, Protocol

from txmicro.amqp.properties import Properties

from .queue_options import QueueOptions

OVERHEAD: Final = 1024
"""Bytes that a message counts for besides its body and properties, so that many small ones are limited, too."""


class MessageQueue(Protocol):
    """The queue that a message is in.

    :ivar name: the queue's name.
    :ivar options: what the queue was declared with.
    """

    name: str
    options: QueueOptions

    @property
    def ready(self) -> Sized:
        """The messages that wait for a consumer."""

    def settle(self, message: Message) -> None:
        """Free the memory of *message*, which has left the queue for good."""

    def requeue(self, messages: Iterable[Message]) -> None:
        """Put *messages*, sorted by position, back to their places."""

    def reject(self, message: Message) -> None:
        """Move *message* to the dead letters: a consumer rejected it."""

    def dead_lettered(self, message: Message, reason: str, taken: bool) -> None:
        """Note whether the dead letter exchange has *taken* the dropped *message*."""


class MessageConsumer(Protocol):
    """The consumer that has a message unacknowledged."""

    def released(self) -> None:
        """Note that one of the consumer's messages is settled."""


class Message:
    """A message in one queue.

    :ivar position: its place in the order of its queue; it returns there when it is requeued.
    :ivar expires: when it is dropped, in seconds of the clock; infinite: never.
    :ivar deliveries: how often it was delivered and requeued.
    :ivar size: bytes of memory that it counts for.
    :ivar consumer: the consumer that has it; None: it is in the queue, or was fetched by ``basic.get``.
    """

    __slots__ = (
        "body",
        "consumer",
        "deliveries",
        "exchange",
        "expires",
        "position",
        "properties",
        "queue",
        "redelivered",
        "routing_key",
        "size",
    )

    def __init__(
        self,
        queue: MessageQueue,
        position: int,
        expires: float,
        exchange: str,
        routing_key: str,
        properties: Properties,
        body: bytes,
    ) -> None:
        self.queue = queue
        self.position = position
        self.expires = expires
        self.exchange = exchange
        self.routing_key = routing_key
        self.properties = properties
        self.body = body
        self.size = len(body) + len(properties.encode()) + OVERHEAD
        self.deliveries = 0
        self.redelivered = False
        self.consumer: MessageConsumer | None = None

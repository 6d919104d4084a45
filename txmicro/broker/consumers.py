"""Consumers of a queue of the broker."""

from __future__ import annotations

from typing import Protocol

from .messages import Message


class ConsumerSession(Protocol):
    """The session of a consumer's channel.

    :ivar writable: whether its connection can take deliveries now.
    """

    writable: bool


class ConsumerChannel(Protocol):
    """The channel that a consumer is on."""

    @property
    def session(self) -> ConsumerSession:
        """Return the channel's session."""

    def deliver(self, consumer: Consumer, message: Message) -> None:
        """Send *message* to *consumer*."""

    def consumer_ended(self, consumer: Consumer) -> None:
        """End *consumer*, because its queue was deleted."""


class ConsumerQueue(Protocol):
    """The queue that a consumer takes messages from."""

    def subscribe(self, consumer: Consumer) -> None:
        """Deliver messages to *consumer* from now on."""

    def unsubscribe(self, consumer: Consumer) -> None:
        """Deliver nothing more to *consumer*."""

    def activate(self, consumer: Consumer) -> None:
        """Deliver again to *consumer*, which was inactive and may be able to take messages again."""


class Consumer:
    """A consumer of a queue.

    :ivar priority: a consumer gets no messages while one of a higher priority can take them.
    :ivar prefetch: how many messages it may have unacknowledged.
    :ivar unacked: how many messages it has unacknowledged.
    :ivar inactive: whether it could not take a message when there was one. Its queue delivers nothing to it until
        :meth:`ConsumerQueue.activate`.
    """

    __slots__ = (
        "channel",
        "exclusive",
        "inactive",
        "no_ack",
        "prefetch",
        "priority",
        "queue",
        "tag",
        "unacked",
    )

    def __init__(
        self,
        tag: str,
        queue: ConsumerQueue,
        channel: ConsumerChannel,
        *,
        no_ack: bool,
        exclusive: bool,
        prefetch: float,
        priority: int,
    ) -> None:
        self.tag = tag
        self.queue = queue
        self.channel = channel
        self.no_ack = no_ack
        self.exclusive = exclusive
        self.prefetch = prefetch
        self.priority = priority
        self.unacked = 0
        self.inactive = False

    def released(self) -> None:
        """Note that one of its messages is settled."""
        self.unacked -= 1
        if self.inactive:
            self.queue.activate(self)

"""A delivered message, as far as its acknowledgement goes."""

from __future__ import annotations

from typing import Protocol


class DeliveringChannel(Protocol):
    """A channel that delivers. It ignores both calls once it is closed: the broker delivers such messages again."""

    def ack(self, delivery_tag: int) -> None:
        """Acknowledge a delivery."""

    def reject(self, delivery_tag: int, requeue: bool) -> None:
        """Return a delivery to its queue, or (not *requeue*) dead-letter it."""


class Delivery:
    """One delivery of one channel. It is acknowledged or requeued once, and on that channel only.

    :param tag: the delivery tag, which counts per channel.
    """

    __slots__ = ("_channel", "_tag")

    def __init__(self, channel: DeliveringChannel, tag: int) -> None:
        self._channel = channel
        self._tag = tag

    def ack(self) -> None:
        """Tell the broker that the message is done. Does nothing when the channel is closed."""
        self._channel.ack(self._tag)

    def requeue(self) -> None:
        """Return the message to its queue. Does nothing when the channel is closed."""
        self._channel.reject(self._tag, True)

"""A channel that records the acknowledgements of its deliveries."""

from __future__ import annotations

from typing import Any

from txmicro.protocol.delivery import Delivery


class NotingChannel:
    """Records acknowledgements in *events*, with the names of their deliveries, until it is closed.

    :param ack: the prefix of the name for an acknowledgement.
    :param requeue: the prefix for a requeue.
    :ivar closed: whether the channel ignores all calls, like a real one that is closed.
    """

    def __init__(self, events: list[tuple[Any, ...]], ack: str = "ack", requeue: str = "requeue") -> None:
        self.closed = False
        self._events = events
        self._ack = ack
        self._requeue = requeue
        self._names: list[str] = []

    def deliver(self, name: str) -> Delivery:
        """Return a delivery of this channel."""
        self._names.append(name)
        return Delivery(self, len(self._names))

    def ack(self, delivery_tag: int) -> None:
        """Record an acknowledgement."""
        if not self.closed:
            self._events.append((self._ack, self._names[delivery_tag - 1]))

    def reject(self, delivery_tag: int, requeue: bool) -> None:
        """Record a requeue."""
        assert requeue
        if not self.closed:
            self._events.append((self._requeue, self._names[delivery_tag - 1]))

"""A channel that notes which of its deliveries are acknowledged and requeued."""

from __future__ import annotations

from typing import Any

from txmicro.protocol.delivery import Delivery


class NotingChannel:
    """Notes acknowledgements in *events*, under the names of their deliveries, until it is closed.

    :param ack: what is noted before the name for an acknowledgement. :param requeue: for what is requeued.
    :ivar closed: whether the channel ignores everything, as a real one does then.
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
        """Note it."""
        if not self.closed:
            self._events.append((self._ack, self._names[delivery_tag - 1]))

    def reject(self, delivery_tag: int, requeue: bool) -> None:
        """Note it."""
        assert requeue
        if not self.closed:
            self._events.append((self._requeue, self._names[delivery_tag - 1]))

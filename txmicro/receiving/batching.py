"""Small waits, so that what happens at nearly the same time travels together."""

from __future__ import annotations

from typing import Final, Protocol

from txmicro.protocol.delivery import Delivery
from txmicro.util.clock import Clock, Timer

KEYS_WAIT: Final = 0.02
"""Seconds that an ack waits for others, or for the result that replaces it."""

DELIVERIES_WAIT: Final = 0.01
"""Seconds that the delivery of a job that has ended waits for others."""


class KeySender(Protocol):
    """Sends a control message that names jobs by their keys."""

    def send_keys(self, kind: str, worker: str, keys: list[str]) -> None:
        """Send *worker* a message of *kind* with *keys*."""


class KeyBatch:
    """Job keys that wait to be sent to workers, in one control message per worker.

    :param kind: the type of the control message: an ack, for instance.
    """

    def __init__(self, clock: Clock, kind: str, sender: KeySender) -> None:
        self._clock = clock
        self._kind = kind
        self._sender = sender
        self._waiting: dict[str, str] = {}  # workers by keys
        self._timer: Timer | None = None

    def add(self, key: str, worker: str) -> None:
        """Send *worker* the key of a job, within ``KEYS_WAIT`` seconds."""
        self._waiting[key] = worker
        if self._timer is None:
            self._timer = self._clock.callLater(KEYS_WAIT, self._due)

    def forget(self, key: str) -> None:
        """Do not send *key*: the job's answer, which says the same, has been published."""
        self._waiting.pop(key, None)

    def clear(self) -> None:
        """Send nothing of what waits: the connection is lost, and the workers ask again."""
        self._waiting.clear()

    def flush(self) -> None:
        """Send now what waits."""
        waiting, self._waiting = self._waiting, {}
        workers: dict[str, list[str]] = {}
        for key, worker in waiting.items():
            workers.setdefault(worker, []).append(key)
        for worker, keys in workers.items():
            self._sender.send_keys(self._kind, worker, keys)

    def stop(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        self.flush()


class DeliveryBatch:
    """The deliveries of jobs that have ended, which wait to be acknowledged in one frame.

    Until then they count as delivered: the broker sends the worker as many fewer jobs, and delivers them again to
    another worker when this one dies.

    :param most: how many may wait; 0 or 1: none.
    """

    def __init__(self, clock: Clock, most: int) -> None:
        self._clock = clock
        self._most = most
        self._waiting: list[Delivery] = []
        self._timer: Timer | None = None

    def add(self, delivery: Delivery) -> None:
        """Acknowledge *delivery*, now or within ``DELIVERIES_WAIT`` seconds."""
        self._waiting.append(delivery)
        if len(self._waiting) >= self._most:
            self.flush()
        elif self._timer is None:
            self._timer = self._clock.callLater(DELIVERIES_WAIT, self._due)

    def flush(self) -> None:
        """Acknowledge now what waits."""
        waiting, self._waiting = self._waiting, []
        for delivery in waiting:
            delivery.ack()

    def clear(self) -> None:
        """Acknowledge nothing of what waits: its channel is closed, and the broker delivers it again."""
        self._waiting.clear()

    def stop(self) -> None:
        """Acknowledge now what waits, and cancel the timer."""
        self.flush()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        self.flush()

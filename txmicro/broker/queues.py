"""Queues: they hold messages and deliver them to consumers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from heapq import merge
from operator import attrgetter
from typing import Final

from txmicro.amqp.properties import Properties
from txmicro.util.clock import Clock, Timer

from .consumers import Consumer
from .memory_gauge import MemoryGauge
from .messages import Message
from .queue_options import QueueOptions
from .round_robin import RoundRobin

RETRY: Final = 1.0
"""Seconds until dead letters that no queue took are published again (at-least-once)."""

_NEVER: Final = float("inf")
_position = attrgetter("position")


class Queue:
    """A queue.

    Invariant: no message is ready, or no consumer can take one. Every method that may break it calls :meth:`drain`.
    Messages that expire are dropped at the head of the queue. One timer serves for that, for dead letters that are
    published again, and for the expiry of the queue.

    :param memory: counts the messages' memory.
    :param drop: called with a dropped message and the reason; it calls :meth:`dead_lettered`.
    :param delete: called with the queue when it is to be deleted.
    :ivar ready: the messages that wait for a consumer, in order.
    :ivar owner: the session that an exclusive queue belongs to; None: the queue is not exclusive.
    :ivar consumers: its consumers.
    :ivar deleted: whether :meth:`close` was called.
    """

    def __init__(
        self,
        name: str,
        options: QueueOptions,
        owner: object,
        clock: Clock,
        memory: MemoryGauge,
        drop: Callable[[Message, str], None],
        delete: Callable[[Queue], object],
    ) -> None:
        self.name = name
        self.options = options
        self.owner = owner
        self.ready: deque[Message] = deque()
        self.consumers: dict[Consumer, None] = {}
        self.deleted = False
        self._active = RoundRobin()
        self._bytes = 0
        self._position = 0
        self._undelivered: deque[tuple[Message, str]] = deque()
        self._clock = clock
        self._memory = memory
        self._drop = drop
        self._delete = delete
        self._timer: Timer | None = None
        self._timer_at = _NEVER
        self._retry_at = _NEVER
        self._unused_at = _NEVER
        self.touch()

    # Messages in:

    def push(self, exchange: str, key: str, properties: Properties, body: bytes, ttl: float | None) -> bool:
        """Add a message, or deliver it at once. Return False when the queue is full and refuses messages.

        :param ttl: seconds until it expires, unless the queue's own limit is shorter; None: only the queue's limit.
        """
        options = self.options
        if options.reject_publish and self._is_full(len(body)):
            return False
        if options.ttl is not None:
            ttl = options.ttl if ttl is None else min(ttl, options.ttl)
        expires = _NEVER if ttl is None else self._clock.seconds() + ttl
        self._position += 1
        message = Message(self, self._position, expires, exchange, key, properties, body)
        self._memory.allocate(message.size)
        consumer = None if self.ready else self._active.next()
        if consumer is not None:
            consumer.channel.deliver(consumer, message)
            return True
        self.ready.append(message)
        self._bytes += len(body)
        self._trim()
        self._set_timer()
        return True

    def requeue(self, messages: Iterable[Message]) -> None:
        """Put *messages*, which are sorted by position, back to their places."""
        back = []
        for message in messages:
            message.consumer = None
            message.redelivered = True
            message.deliveries += 1
            if self.deleted:
                self.settle(message)
            elif self._is_over_delivery_limit(message):
                self._drop(message, "delivery_limit")
            else:
                self._bytes += len(message.body)
                back.append(message)
        if back:
            self._insert(back)
            self._trim()
            self.drain()

    def _insert(self, messages: list[Message]) -> None:
        """Merge *messages* into the head of the queue, where their places are."""
        ready, ahead = self.ready, []
        while ready and ready[0].position < messages[-1].position:
            ahead.append(ready.popleft())
        ready.extendleft(reversed(list(merge(ahead, messages, key=_position))))

    def _is_over_delivery_limit(self, message: Message) -> bool:
        limit = self.options.delivery_limit
        return limit is not None and message.deliveries > limit

    # Messages out:

    def drain(self) -> None:
        """Deliver messages until none is ready or no consumer can take one."""
        while self.ready and (consumer := self._active.next()) is not None:
            message = self.ready.popleft()
            self._bytes -= len(message.body)
            if message.expires <= self._clock.seconds():
                self._drop(message, "expired")
            else:
                consumer.channel.deliver(consumer, message)
        self._set_timer()

    def get(self) -> Message | None:
        """Remove and return the message at the head; None: there is none."""
        self.touch()
        self._expire()
        if not self.ready:
            return None
        message = self.ready.popleft()
        self._bytes -= len(message.body)
        return message

    def settle(self, message: Message) -> None:
        """Free the memory of *message*, which has left the queue for good."""
        self._memory.free(message.size)

    def reject(self, message: Message) -> None:
        """Drop *message*, which a consumer rejected."""
        if self.deleted:
            self.settle(message)
        else:
            self._drop(message, "rejected")

    def purge(self) -> int:
        """Drop all messages that are ready. Return how many there were."""
        purged = len(self.ready)
        self._bytes = 0
        for message in self.ready:
            self.settle(message)
        self.ready.clear()
        return purged

    # Limits:

    def _is_full(self, size: int) -> bool:
        options = self.options
        return (options.max_length is not None and len(self.ready) >= options.max_length) or (
            options.max_bytes is not None and self._bytes + size > options.max_bytes
        )

    def _is_over(self) -> bool:
        options = self.options
        return (options.max_length is not None and len(self.ready) > options.max_length) or (
            options.max_bytes is not None and self._bytes > options.max_bytes
        )

    def _trim(self) -> None:
        if self.options.reject_publish:
            return
        while self.ready and self._is_over():
            self._drop_head("maxlen")

    def _drop_head(self, reason: str) -> None:
        message = self.ready.popleft()
        self._bytes -= len(message.body)
        self._drop(message, reason)

    def dead_lettered(self, message: Message, reason: str, taken: bool) -> None:
        """Note whether the dead letter exchange has *taken* the dropped *message*."""
        if taken or self.deleted or not self.options.at_least_once:
            self.settle(message)
            return
        self._undelivered.append((message, reason))
        self._retry_at = self._clock.seconds() + RETRY
        self._set_timer()

    # Consumers:

    def subscribe(self, consumer: Consumer) -> None:
        """Deliver messages to *consumer* from now on."""
        self.consumers[consumer] = None
        self._active.add(consumer)
        self._unused_at = _NEVER
        self.drain()

    def unsubscribe(self, consumer: Consumer) -> None:
        """Deliver nothing more to *consumer*. An auto-delete queue is deleted with its last consumer."""
        del self.consumers[consumer]
        if consumer.inactive:
            consumer.inactive = False
        else:
            self._active.remove(consumer)
        if self.consumers:
            return
        self.touch()
        if self.options.auto_delete:
            self._delete(self)

    def activate(self, consumer: Consumer) -> None:
        """Deliver again to *consumer*, which was inactive and may be able to take messages again."""
        consumer.inactive = False
        self._active.add(consumer)
        self.drain()

    # Time:

    def touch(self) -> None:
        """Restart the time after which an unused queue expires."""
        if self.options.expires is not None and not self.consumers:
            self._unused_at = self._clock.seconds() + self.options.expires
            self._set_timer()

    def _set_timer(self) -> None:
        """Set the timer to what is due next. It may fire too early, but never too late."""
        due = min(self._unused_at, self._retry_at)
        if self.ready:
            due = min(due, self.ready[0].expires)
        if due < self._timer_at and not self.deleted:
            self._stop_timer()
            self._timer_at = due
            self._timer = self._clock.callLater(max(0, due - self._clock.seconds()), self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer, self._timer_at = None, _NEVER
        now = self._clock.seconds()
        if self._unused_at <= now:
            self._delete(self)
            return
        if self._retry_at <= now:
            self._retry()
        self._expire()

    def _expire(self) -> None:
        now = self._clock.seconds()
        while self.ready and self.ready[0].expires <= now:
            self._drop_head("expired")
        self._set_timer()

    def _retry(self) -> None:
        """Publish the dead letters that no queue took once more."""
        waiting, self._undelivered, self._retry_at = self._undelivered, deque(), _NEVER
        for message, reason in waiting:
            self._drop(message, reason)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._timer_at = None, _NEVER

    def close(self) -> list[Consumer]:
        """End the queue. Return the consumers that it had."""
        self.deleted = True
        self._stop_timer()
        self.purge()
        for message, _reason in self._undelivered:
            self.settle(message)
        self._undelivered.clear()
        consumers = list(self.consumers)
        self.consumers.clear()
        self._active.clear()
        for consumer in consumers:
            consumer.inactive = False
        return consumers

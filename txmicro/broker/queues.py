"""Queues, the messages in them, and the consumers at their ends."""

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
"""Seconds until dead letters that must not get lost are offered to their exchange again."""

_NEVER: Final = float("inf")
_position = attrgetter("position")


class Queue:
    """One queue. Either nothing is ready or no consumer can take it: whoever changes that, drains it.

    Expired messages are dropped at the head, by one timer, which also ends the queue when it is unused for
    too long.

    :ivar ready: messages waiting for a consumer, in order.
    :ivar owner: the session an exclusive queue belongs to.
    """

    def __init__(
        self,
        name: str,
        options: QueueOptions,
        owner: object,
        clock: Clock,
        memory: MemoryGauge,
        bury: Callable[[Message, str], None],
        delete: Callable[[Queue], object],
    ) -> None:
        self.name = name
        self.options = options
        self.owner = owner
        self.ready: deque[Message] = deque()
        self.consumers: dict[Consumer, None] = {}
        self.deleted = False
        self._turns = RoundRobin()
        self._bytes = 0
        self._position = 0
        self._undelivered: deque[tuple[Message, str]] = deque()
        self._clock = clock
        self._memory = memory
        self._bury = bury
        self._delete = delete
        self._timer: Timer | None = None
        self._timer_at = _NEVER
        self._retry_at = _NEVER
        self._unused_at = _NEVER
        self.used()

    # Messages in:

    def push(self, exchange: str, key: str, properties: Properties, body: bytes, ttl: float | None) -> bool:
        """Take a message, which lives for *ttl* seconds (None: as long as the queue says).

        False: the queue is full and declared to refuse then.
        """
        options = self.options
        if options.reject_publish and self._is_full(len(body)):
            return False
        if options.ttl is not None:
            ttl = options.ttl if ttl is None else min(ttl, options.ttl)
        expires = _NEVER if ttl is None else self._clock.seconds() + ttl
        self._position += 1
        message = Message(self, self._position, expires, exchange, key, properties, body)
        self._memory.take(message.size)
        consumer = None if self.ready else self._turns.next()
        if consumer is not None:
            consumer.channel.deliver(consumer, message)
            return True
        self.ready.append(message)
        self._bytes += len(body)
        self._trim()
        self._watch()
        return True

    def requeue(self, messages: Iterable[Message]) -> None:
        """Take *messages*, which stand in the queue's order, back to their places."""
        back = []
        for message in messages:
            message.consumer = None
            message.redelivered = True
            message.deliveries += 1
            if self.deleted:
                self.settle(message)
            elif self._is_worn(message):
                self._bury(message, "delivery_limit")
            else:
                self._bytes += len(message.body)
                back.append(message)
        if back:
            self._insert(back)
            self._trim()
            self.drain()

    def _insert(self, messages: list[Message]) -> None:
        """Merge *messages* into the head of the queue, which is where their places are."""
        ready, ahead = self.ready, []
        while ready and ready[0].position < messages[-1].position:
            ahead.append(ready.popleft())
        ready.extendleft(reversed(list(merge(ahead, messages, key=_position))))

    def _is_worn(self, message: Message) -> bool:
        limit = self.options.delivery_limit
        return limit is not None and message.deliveries > limit

    # Messages out:

    def drain(self) -> None:
        """Give consumers what they can take."""
        while self.ready and (consumer := self._turns.next()) is not None:
            message = self.ready.popleft()
            self._bytes -= len(message.body)
            if message.expires <= self._clock.seconds():
                self._bury(message, "expired")
            else:
                consumer.channel.deliver(consumer, message)
        self._watch()

    def get(self) -> Message | None:
        """Take the message at the head out; None: there is none."""
        self.used()
        self._expire()
        if not self.ready:
            return None
        message = self.ready.popleft()
        self._bytes -= len(message.body)
        return message

    def settle(self, message: Message) -> None:
        """*message* has left the queue for good."""
        self._memory.give(message.size)

    def reject(self, message: Message) -> None:
        """A consumer did not want *message*, and does not want it again."""
        if self.deleted:
            self.settle(message)
        else:
            self._bury(message, "rejected")

    def purge(self) -> int:
        """Drop all messages that are ready; gives their number."""
        purged = len(self.ready)
        self._bytes = 0
        for message in self.ready:
            self.settle(message)
        self.ready.clear()
        return purged

    # Bounds:

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
        self._bury(message, reason)

    def buried(self, message: Message, reason: str, taken: bool) -> None:
        """*message* was offered to the dead letters."""
        if taken or self.deleted or not self.options.at_least_once:
            self.settle(message)
            return
        self._undelivered.append((message, reason))
        self._retry_at = self._clock.seconds() + RETRY
        self._watch()

    # Consumers:

    def subscribe(self, consumer: Consumer) -> None:
        """Let *consumer* have messages."""
        self.consumers[consumer] = None
        self._turns.add(consumer)
        self._unused_at = _NEVER
        self.drain()

    def unsubscribe(self, consumer: Consumer) -> None:
        """*consumer* gets nothing more; the last one to leave ends an auto-delete queue."""
        del self.consumers[consumer]
        if consumer.parked:
            consumer.parked = False
        else:
            self._turns.remove(consumer)
        if self.consumers:
            return
        self.used()
        if self.options.auto_delete:
            self._delete(self)

    def unpark(self, consumer: Consumer) -> None:
        """*consumer*, which is parked, may be able to take messages again."""
        consumer.parked = False
        self._turns.add(consumer)
        self.drain()

    # Time:

    def used(self) -> None:
        """Somebody asked for the queue, or the last consumer left: from now on it is unused."""
        if self.options.expires is not None and not self.consumers:
            self._unused_at = self._clock.seconds() + self.options.expires
            self._watch()

    def _watch(self) -> None:
        """See that the timer runs when the next thing is due. It may run too early, never too late."""
        due = min(self._unused_at, self._retry_at)
        if self.ready:
            due = min(due, self.ready[0].expires)
        if due < self._timer_at and not self.deleted:
            self._stop_timer()
            self._timer_at = due
            self._timer = self._clock.callLater(max(0, due - self._clock.seconds()), self._wake)

    def _wake(self) -> None:
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
        self._watch()

    def _retry(self) -> None:
        """Offer the dead letters that nobody took once more."""
        waiting, self._undelivered, self._retry_at = self._undelivered, deque(), _NEVER
        for message, reason in waiting:
            self._bury(message, reason)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._timer_at = None, _NEVER

    def close(self) -> list[Consumer]:
        """End the queue; gives those who consumed from it."""
        self.deleted = True
        self._stop_timer()
        self.purge()
        for message, _reason in self._undelivered:
            self.settle(message)
        self._undelivered.clear()
        consumers = list(self.consumers)
        self.consumers.clear()
        self._turns.clear()
        for consumer in consumers:
            consumer.parked = False
        return consumers

"""A model of a broker, without a network: exchanges, queues, bindings and dead letters.

It keeps everything in memory, and does no I/O. It behaves as RabbitMQ does, in what it implements: one contract suite
(``tests/contract/broker``) tests both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Final
from uuid import uuid4

from txmicro.amqp.properties import Properties
from txmicro.util.clock import Clock

from .dead_letters import DeadLetters
from .errors import Refused, Unsupported
from .exchanges import KINDS, Default, Exchange, routed
from .memory_gauge import MemoryGauge
from .names import check_name, check_not_default, check_not_reserved, locked
from .queue_options import check_equivalent, check_same, parse_options
from .queues import Queue

MEMORY_LIMIT: Final = 256 * 1024 * 1024  # bytes


class Outcome(Enum):
    """The result of publishing a message: it is in all its queues; no queue is bound; a full queue refused it."""

    STORED = "stored"
    UNROUTED = "unrouted"
    REFUSED = "refused"


class Model:
    """The exchanges and queues of one broker.

    A session is any object; the model compares sessions by identity, to tell who owns exclusive queues.

    :param clock: for the expiry of messages and queues.
    :param memory_limit: bytes of messages above which :attr:`memory` raises its alarm.
    :param now: returns Unix time in seconds, for the history of dead letters.
    :param new_id: returns a unique text.
    :ivar memory: the memory that messages take.
    :ivar queues: by name.
    :ivar exchanges: by name.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        memory_limit: int = MEMORY_LIMIT,
        now: Callable[[], float] = time.time,
        new_id: Callable[[], str] = lambda: uuid4().hex,
    ) -> None:
        self.memory = MemoryGauge(memory_limit)
        self.queues: dict[str, Queue] = {}
        self.exchanges: dict[str, Exchange] = {"": Default(self.queues)}
        for name, kind in (*((f"amq.{kind}", kind) for kind in KINDS), ("amq.match", "headers")):
            self.exchanges[name] = KINDS[kind](
                name, durable=True, auto_delete=False, internal=False, arguments={}
            )
        self._bindings: dict[str, set[tuple[str, Exchange]]] = {}  # by queue
        self._clock = clock
        self._new_id = new_id
        self._dead_letters = DeadLetters(self.exchanges, now)

    def new_name(self, prefix: str) -> str:
        """Return a new unique name that begins with *prefix*."""
        return f"{prefix}{self._new_id()}"

    # Exchanges:

    def exchange(self, name: str) -> Exchange:
        """Return the exchange with the name *name*. Raises :class:`Refused` (404)."""
        found = self.exchanges.get(name)
        if found is None:
            raise Refused(404, f"no exchange '{name}' in vhost '/'")
        return found

    def declare_exchange(
        self,
        name: str,
        kind: str,
        *,
        durable: bool = False,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: dict[str, Any] | None = None,
    ) -> None:
        """Declare an exchange. Do nothing if it exists with these properties.

        Raises :class:`Refused` if it exists with others, or is not valid.
        """
        check_not_default(name)
        if kind not in KINDS:
            raise Refused(406, f"unknown exchange type '{kind}'")
        if arguments and "alternate-exchange" in arguments:
            raise Unsupported("exchange argument 'alternate-exchange'")
        found = self.exchanges.get(name)
        if found is None:
            check_name("exchange", name)
            self.exchanges[name] = KINDS[kind](
                name, durable=durable, auto_delete=auto_delete, internal=internal, arguments=arguments or {}
            )
            return
        for field, received in (
            ("kind", kind),
            ("durable", durable),
            ("auto_delete", auto_delete),
            ("internal", internal),
        ):
            check_same(
                "exchange", name, "type" if field == "kind" else field, getattr(found, field), received
            )

    def delete_exchange(self, name: str, *, if_unused: bool = False) -> None:
        """Delete an exchange. Do nothing if there is none.

        Raises :class:`Refused` if it is reserved, or in use and *if_unused*.
        """
        check_not_default(name)
        check_not_reserved("exchange", name)
        found = self.exchanges.get(name)
        if found is None:
            return
        if if_unused and found.bindings:
            raise Refused(406, f"exchange '{name}' in vhost '/' in use")
        for key, queue in list(found.bindings):
            found.unbind(key, queue)
            self._bindings[queue.name].discard((key, found))
        del self.exchanges[name]

    # Queues:

    def queue(self, name: str, session: object) -> Queue:
        """Return the queue *name*. Raises :class:`Refused` (404; 405: it belongs to another session)."""
        found = self.queues.get(name)
        if found is None:
            raise Refused(404, f"no queue '{name}' in vhost '/'")
        if found.owner is not None and found.owner is not session:
            raise locked(name)
        return found

    def declare_queue(
        self,
        session: object,
        name: str = "",
        *,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: dict[str, Any] | None = None,
    ) -> Queue:
        """Declare a queue, and return it. An existing queue of these properties is returned.

        :param name: empty: the broker chooses a name.

        Raises :class:`Refused` if the queue exists with other properties or belongs to another session, or if the
        declaration is not valid.
        """
        wanted = parse_options(
            name, durable=durable, exclusive=exclusive, auto_delete=auto_delete, arguments=arguments or {}
        )
        if name in self.queues:
            found = self.queue(name, session)
            check_equivalent(name, found.options, wanted)
            if found.options.exclusive != exclusive:
                raise locked(name)
            found.touch()
            return found
        check_name("queue", name)
        name = name or self.new_name("amq.gen-")
        owner = session if exclusive else None
        made = Queue(
            name, wanted, owner, self._clock, self.memory, self._dead_letters.drop, self._delete_queue
        )
        self.queues[name] = made
        return made

    def delete_queue(
        self, session: object, name: str, *, if_unused: bool = False, if_empty: bool = False
    ) -> int:
        """Delete a queue. Return how many messages were in it; 0 if there is no such queue.

        Raises :class:`Refused` if it belongs to another session, or (406) is in use or not empty.
        """
        if name not in self.queues:
            return 0
        found = self.queue(name, session)
        if if_unused and found.consumers:
            raise Refused(406, f"queue '{name}' in vhost '/' in use")
        if if_empty and found.ready:
            raise Refused(406, f"queue '{name}' in vhost '/' not empty")
        return self._delete_queue(found)

    def _delete_queue(self, queue: Queue) -> int:
        del self.queues[queue.name]
        for key, exchange in self._bindings.pop(queue.name, ()):
            self._unbind(exchange, key, queue)
        lost = len(queue.ready)
        for consumer in queue.close():
            consumer.channel.consumer_ended(consumer)
        return lost

    # Bindings:

    def bind(
        self,
        session: object,
        queue: str,
        exchange: str,
        key: str,
        arguments: dict[str, Any] | None = None,
    ) -> None:
        """Route messages of *exchange* with the key *key* to *queue*. Raises :class:`Refused`."""
        check_not_default(exchange)
        target = self.queue(queue, session)
        source = self.exchange(exchange)
        binding = source.binding_key(key, arguments or {})
        source.bind(binding, target)
        self._bindings.setdefault(queue, set()).add((binding, source))

    def unbind(
        self,
        session: object,
        queue: str,
        exchange: str,
        key: str,
        arguments: dict[str, Any] | None = None,
    ) -> None:
        """Undo :meth:`bind`. Do nothing if there is no such binding. Raises :class:`Refused`."""
        check_not_default(exchange)
        source = self.exchanges.get(exchange)
        if source is not None and queue in self.queues:
            binding = source.binding_key(key, arguments or {})
            self._unbind(source, binding, self.queue(queue, session))
            self._bindings.get(queue, set()).discard((binding, source))

    def _unbind(self, exchange: Exchange, key: str, queue: Queue) -> None:
        exchange.unbind(key, queue)
        if exchange.auto_delete and not exchange.bindings:
            self.exchanges.pop(exchange.name, None)

    # Messages:

    def publish(
        self, exchange: str, key: str, properties: Properties, body: bytes, others: Sequence[str] = ()
    ) -> Outcome:
        """Put a message into the queues that *exchange* routes it to.

        :param others: further routing keys. A queue gets the message once.

        Raises :class:`Refused`.
        """
        target = self.exchanges.get(exchange) or self.exchange(exchange)
        if target.internal:
            raise Refused(403, f"cannot publish to internal exchange '{exchange}' in vhost '/'")
        ttl = None if properties.expiration is None else _ttl(properties.expiration)
        outcome = Outcome.UNROUTED
        headers = properties.headers or {}
        queues = routed(target, (key, *others), headers) if others else target.route(key, headers)
        for queue in queues:
            if not queue.push(exchange, key, properties, body, ttl):
                outcome = Outcome.REFUSED
            elif outcome is Outcome.UNROUTED:
                outcome = Outcome.STORED
        return outcome

    def end_session(self, session: object) -> None:
        """Delete the exclusive queues of *session*."""
        for queue in [queue for queue in self.queues.values() if queue.owner is session]:
            self._delete_queue(queue)

    def close(self) -> None:
        """Delete all queues, so that no timer remains."""
        for queue in list(self.queues.values()):
            self._delete_queue(queue)


def _ttl(expiration: str) -> float:
    """Return a message's ``expiration`` in seconds. Raises :class:`Refused` (406)."""
    if not (expiration.isascii() and expiration.isdecimal()):
        raise Refused(406, f"invalid expiration '{expiration:.100}': expected milliseconds")
    return int(expiration) / 1000

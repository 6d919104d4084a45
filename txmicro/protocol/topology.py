"""The exchanges and queues: their names, and their declarations as data.

Pure functions of a worker and of the broker's features. Nothing is declared that a RabbitMQ denies whose server
properties tell its version. :doc:`/reference/wire` lists all names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

NOTIFICATIONS: Final = "txmicro.notifications"
EVENTS: Final = "txmicro.events"

DURABLE_KEY: Final = "durable"
"""The routing key of durable jobs, on a type's exchange. On :func:`durable_exchange`: of jobs to be tried again."""

QUARANTINE: Final = "quarantine"
DEAD: Final = "dead"

DELIVERY_LIMIT: Final = 5
"""How often a job may come back to the quarantine, from workers that died with it, before it is given up."""

UNLIMITED: Final = 1_000_000
"""The delivery limit of queues from which the broker must not drop jobs.

RabbitMQ 4 has a limit of 20 by default, and older versions have no value for "no limit".
"""

UNUSED: Final = 10_000
"""Milliseconds that a shared quorum queue exists without consumers. Jobs that reach it then are not returned."""

COPY_TTL: Final = 1.8
"""Seconds until a copy of an interactive job expires at the broker: less than the sender's retry interval."""


def durable_queue(kind: str) -> str:
    """Return the name of the queue of durable jobs for any worker of type *kind*."""
    return f"txmicro.jobs.{kind}.durable"


def quarantine_queue(kind: str) -> str:
    """Return the name of the queue of durable jobs that were delivered before. They are consumed one at a time."""
    return f"txmicro.quarantine.{kind}"


def dead_queue(kind: str) -> str:
    """Return the name of the queue of dead letters: durable jobs that were given up."""
    return f"txmicro.dead.{kind}"


def operator_queue(kind: str) -> str:
    """Return the name of a queue that is always empty: it is a lock, held by the operator who has declared it."""
    return f"txmicro.dead.{kind}.operator"


def retry_key(step: float) -> str:
    """Return the routing key of jobs that wait *step* seconds for their next attempt."""
    return f"retry.{round(step * 1000)}"


def retry_step(key: str) -> float | None:
    """Return the seconds that jobs of this routing key wait for their next attempt; None: it is not such a key."""
    name, _, milliseconds = key.partition(".")
    return int(milliseconds) / 1000 if name == "retry" and milliseconds.isdigit() and key.isascii() else None


def retry_queue(kind: str, step: float) -> str:
    """Return the name of the queue of durable jobs that wait *step* seconds for their next attempt."""
    return f"txmicro.retry.{kind}.{round(step * 1000)}"


def durable_exchange(kind: str) -> str:
    """Return the exchange through which durable jobs move between a type's queues. Only its workers publish to it."""
    return f"txmicro.durable.{kind}"


def to_exchange(kind: str) -> str:
    """Return the exchange that jobs for type *kind* are published to."""
    return f"txmicro.to.{kind}"


def address_of(exchange: str) -> str:
    """Return the address of the jobs that are published to *exchange*, which belongs to one worker type."""
    return f"{exchange.rpartition('.')[2]}:*"


def replies_exchange(kind: str) -> str:
    """Return the exchange that control messages for workers of type *kind* are published to."""
    return f"txmicro.replies.{kind}"


def jobs_queue(kind: str) -> str:
    """Return the name of the queue of interactive jobs for any worker of type *kind*."""
    return f"txmicro.jobs.{kind}"


def direct_queue(worker: str) -> str:
    """Return the name of the queue of interactive jobs for one worker."""
    return f"txmicro.direct.{worker}"


def inbox_queue(worker: str) -> str:
    """Return the name of the queue of one worker's control messages."""
    return f"txmicro.inbox.{worker}"


def events_queue(subscriber: str, pattern: str) -> str:
    """Return the name of the queue of a subscription, of a worker or of a type. It has a hash of the pattern."""
    return f"txmicro.events.{subscriber}.{hashlib.sha256(pattern.encode()).hexdigest()[:12]}"


TRANSIENT_DENIED: Final = "transient_nonexcl_queues"
"""The name of a feature that RabbitMQ deprecates: transient queues that are not exclusive.

It is in the broker's text when it closes the connection because such a queue was declared
(https://www.rabbitmq.com/docs/deprecated-features).
"""


@dataclass(frozen=True)
class Features:
    """The features of a broker that the declarations depend on.

    :ivar transient_queues: whether it has queues that several connections use and that the last of them deletes.
    :ivar safe_dead_letters: whether its quorum queues dead-letter at least once, and let messages expire.
    """

    product: str = ""
    version: tuple[int, ...] = ()
    transient_queues: bool = True
    safe_dead_letters: bool = True

    @classmethod
    def of(cls, properties: Mapping[str, Any]) -> Features:
        """Return the features of a broker with these server properties (of AMQP's ``connection.start``).

        In a cluster of RabbitMQ 4.3 a transient queue cannot be declared again after the death of its node: the
        declaration hangs (seen with 4.3.6, for more than 15 s). Older versions and the embedded broker declare it on
        another node at once. No property says whether transient queues are denied (:data:`TRANSIENT_DENIED`).
        Dead-lettering at least once, and message TTL in quorum queues, came with 3.10
        (https://www.rabbitmq.com/docs/quorum-queues).
        """
        product = str(properties.get("product", ""))
        version = tuple(
            int(part)
            for part in str(properties.get("version", "")).split("-")[0].split(".")
            if part.isdecimal()
        )
        rabbit = product == "RabbitMQ"
        return cls(product, version, not (rabbit and version >= (4, 3)), not (rabbit and version < (3, 10)))


@dataclass(frozen=True)
class ExchangeDeclaration:
    """An exchange. All exchanges of txmicro are durable."""

    name: str
    kind: str = "direct"


@dataclass(frozen=True)
class QueueDeclaration:
    """A queue.

    :ivar bindings: pairs of an exchange and a routing key.
    """

    name: str
    bindings: tuple[tuple[str, str], ...]
    exclusive: bool = False
    auto_delete: bool = False
    durable: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)


SHARED: Final = (ExchangeDeclaration(NOTIFICATIONS, "topic"), ExchangeDeclaration(EVENTS, "topic"))
"""The exchanges that all types use. A worker that does not find them declares them."""


def exchanges(kind: str) -> tuple[ExchangeDeclaration, ...]:
    """Return the exchanges that a worker of type *kind* declares before its queues."""
    return ExchangeDeclaration(to_exchange(kind)), ExchangeDeclaration(replies_exchange(kind))


def inbox(worker: str, kind: str, topics: tuple[str, ...]) -> QueueDeclaration:
    """Return the queue of control messages for *worker*, and of the notifications on *topics*."""
    notifications = tuple((NOTIFICATIONS, topic) for topic in topics)
    return QueueDeclaration(
        inbox_queue(worker), ((replies_exchange(kind), worker), *notifications), exclusive=True
    )


def direct(worker: str, kind: str) -> QueueDeclaration:
    """Return the queue of interactive jobs for *worker*."""
    return QueueDeclaration(direct_queue(worker), ((to_exchange(kind), worker),), exclusive=True)


def _shared(name: str, bindings: tuple[tuple[str, str], ...], features: Features) -> QueueDeclaration:
    """Return a queue that several workers consume, and that is deleted when the last of them stops."""
    if features.transient_queues:
        return QueueDeclaration(name, bindings, auto_delete=True)
    return QueueDeclaration(
        name, bindings, durable=True, arguments={"x-queue-type": "quorum", "x-expires": UNUSED}
    )


def jobs(kind: str, features: Features) -> QueueDeclaration:
    """Return the queue of interactive jobs for any worker of type *kind*.

    It is transient and auto-delete, so that workers declare it on another node at once when its node dies. On a broker
    without such queues it is a quorum queue that expires.
    """
    return _shared(jobs_queue(kind), ((to_exchange(kind), "*"),), features)


def events(worker: str, kind: str, pattern: str, group: bool, features: Features) -> QueueDeclaration:
    """Return the queue of a subscription: of the worker, or (*group*) of its type."""
    bindings = ((EVENTS, pattern),)
    if group:
        return _shared(events_queue(kind, pattern), bindings, features)
    return QueueDeclaration(events_queue(worker, pattern), bindings, exclusive=True)


# The durable lane


def durable_queues(kind: str, features: Features) -> tuple[QueueDeclaration, ...]:
    """Return the queues of durable jobs of type *kind* that always exist, in the order of their declaration.

    They must exist before they are needed: a job is stored, and may expire, while no worker is connected. All workers
    consume the quarantine, as the one that declares it may die next. The :func:`retry` queues are declared when a
    worker first needs them.

    No queue is shared between types. A user who may publish to an exchange that a message passes through can choose
    where the message goes from there: with ``CC``, or with a queue that dead-letters.
    """
    own = durable_exchange(kind)
    to_dead = _dead_letters(own, DEAD, features)
    return (
        _quorum(dead_queue(kind), ((own, DEAD),)),
        _quorum(
            quarantine_queue(kind),
            ((own, QUARANTINE),),
            **{"x-delivery-limit": DELIVERY_LIMIT},
            **to_dead,
        ),
        _quorum(durable_queue(kind), ((to_exchange(kind), DURABLE_KEY), (own, DURABLE_KEY)), **to_dead),
    )


def _quorum(name: str, bindings: tuple[tuple[str, str], ...], **arguments: Any) -> QueueDeclaration:
    always = {"x-queue-type": "quorum", "x-delivery-limit": UNLIMITED}
    return QueueDeclaration(name, bindings, durable=True, arguments={**always, **arguments})


def retry(kind: str, step: float, features: Features) -> QueueDeclaration:
    """Return the queue in which jobs of type *kind* wait *step* seconds for their next attempt."""
    own = durable_exchange(kind)
    arguments = {"x-message-ttl": round(step * 1000), **_dead_letters(own, DURABLE_KEY, features)}
    name, bindings = retry_queue(kind, step), ((own, retry_key(step)),)
    if features.safe_dead_letters:
        return _quorum(name, bindings, **arguments)
    return QueueDeclaration(
        name, bindings, durable=True, arguments=arguments
    )  # its quorum queues let nothing expire


def _dead_letters(exchange: str, key: str, features: Features) -> dict[str, Any]:
    arguments = {
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-routing-key": key,
        "x-overflow": "reject-publish",
    }
    if features.safe_dead_letters:
        arguments["x-dead-letter-strategy"] = "at-least-once"
    return arguments

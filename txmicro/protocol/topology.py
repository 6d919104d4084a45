"""What stands on the broker: the names, and what is declared, as data.

Pure functions of a worker and of what the broker says it is. Nothing that a RabbitMQ 4 denies is in here
when its server properties say that it is one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

NOTIFICATIONS: Final = "txmicro.notifications"
EVENTS: Final = "txmicro.events"

DURABLE_KEY: Final = "durable"
"""The durable lane's key on a type's exchange. On :func:`durable_exchange` also: to be tried again."""

QUARANTINE: Final = "quarantine"
DEAD: Final = "dead"

DELIVERY_LIMIT: Final = 5
"""How often a job may come back from a worker that died over it, one at a time, before it is given up."""

UNLIMITED: Final = 1_000_000
"""Returns that a queue of ours bears where it is not for the broker to give a job up: RabbitMQ 4 allows 20 unless
told otherwise, and a word for "no limit" that older ones understand there is not.
"""

UNUSED: Final = 10_000
"""Milliseconds that a shared quorum queue without consumers stays: jobs that find it are not told that nobody is there.
"""

COPY_TTL: Final = 1.8
"""Seconds that an interactive copy lives at the broker: less than the sender's retry, which replaces it."""


def durable_queue(kind: str) -> str:
    """Durable jobs for any worker of the type."""
    return f"txmicro.jobs.{kind}.durable"


def quarantine_queue(kind: str) -> str:
    """Durable jobs that were delivered before, taken one at a time."""
    return f"txmicro.quarantine.{kind}"


def dead_queue(kind: str) -> str:
    """Durable jobs that were given up."""
    return f"txmicro.dead.{kind}"


def operator_queue(kind: str) -> str:
    """Who has declared it, exclusively, is the one operator at work on the type's dead letters; it stays empty."""
    return f"txmicro.dead.{kind}.operator"


def retry_key(step: float) -> str:
    """The key of jobs that wait *step* seconds for their next attempt."""
    return f"retry.{round(step * 1000)}"


def retry_step(key: str) -> float | None:
    """The seconds that jobs of this key wait for their next attempt; None: it is the key of something else."""
    name, _, milliseconds = key.partition(".")
    return int(milliseconds) / 1000 if name == "retry" and milliseconds.isdigit() and key.isascii() else None


def retry_queue(kind: str, step: float) -> str:
    """Durable jobs that wait *step* seconds for their next attempt."""
    return f"txmicro.retry.{kind}.{round(step * 1000)}"


def durable_exchange(kind: str) -> str:
    """Where a type's durable jobs move from one of its queues to another: only its workers and operators publish."""
    return f"txmicro.durable.{kind}"


def to_exchange(kind: str) -> str:
    """Where jobs for type *kind* are published."""
    return f"txmicro.to.{kind}"


def replies_exchange(kind: str) -> str:
    """Where acks and results for workers of type *kind* are published."""
    return f"txmicro.replies.{kind}"


def jobs_queue(kind: str) -> str:
    """Interactive copies for any worker of the type."""
    return f"txmicro.jobs.{kind}"


def direct_queue(worker: str) -> str:
    """Interactive copies for one worker."""
    return f"txmicro.direct.{worker}"


def inbox_queue(worker: str) -> str:
    """One worker's control messages."""
    return f"txmicro.inbox.{worker}"


def events_queue(subscriber: str, pattern: str) -> str:
    """One subscription of a worker, or (a type) of a group. The pattern stands as its hash: names are plain words."""
    return f"txmicro.events.{subscriber}.{hashlib.sha256(pattern.encode()).hexdigest()[:12]}"


TRANSIENT_DENIED: Final = "transient_nonexcl_queues"
"""What the broker's words have in them when it closes the connection because a transient queue was declared that is
not exclusive: the name of the feature, which it deprecates (https://www.rabbitmq.com/docs/deprecated-features)."""


@dataclass(frozen=True)
class Features:
    """What a broker can do, by its server properties.

    :ivar transient_queues: queues that several connections use and that go with the last of them.
    :ivar safe_dead_letters: quorum queues that dead-letter at least once, and whose messages expire.
    """

    product: str = ""
    version: tuple[int, ...] = ()
    transient_queues: bool = True
    safe_dead_letters: bool = True

    @classmethod
    def of(cls, properties: Mapping[str, Any]) -> Features:
        """Read connection.start's server-properties.

        In a cluster of RabbitMQ 4.3 a transient queue cannot be declared again after its node's death: that
        hangs (seen on 4.3.6, for more than 15 s), while older ones and the embedded broker declare it on another
        node at once. Where they are forbidden (:data:`TRANSIENT_DENIED`), no property says so. At
        least once dead-lettering and message TTL in quorum queues came with 3.10
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
    """An exchange; all of ours are durable."""

    name: str
    kind: str = "direct"


@dataclass(frozen=True)
class QueueDeclaration:
    """A queue and what binds it: (exchange, routing key)."""

    name: str
    bindings: tuple[tuple[str, str], ...]
    exclusive: bool = False
    auto_delete: bool = False
    durable: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)


SHARED: Final = (ExchangeDeclaration(NOTIFICATIONS, "topic"), ExchangeDeclaration(EVENTS, "topic"))
"""What all types use; declared by whoever does not find them."""


def exchanges(kind: str) -> tuple[ExchangeDeclaration, ...]:
    """What a worker of type *kind* declares before its queues."""
    return ExchangeDeclaration(to_exchange(kind)), ExchangeDeclaration(replies_exchange(kind))


def inbox(worker: str, kind: str, topics: tuple[str, ...]) -> QueueDeclaration:
    """The inbox of *worker*, which also hears the notifications on *topics*."""
    heard = tuple((NOTIFICATIONS, topic) for topic in topics)
    return QueueDeclaration(inbox_queue(worker), ((replies_exchange(kind), worker), *heard), exclusive=True)


def direct(worker: str, kind: str) -> QueueDeclaration:
    """The queue of interactive copies for *worker* alone."""
    return QueueDeclaration(direct_queue(worker), ((to_exchange(kind), worker),), exclusive=True)


def _shared(name: str, bindings: tuple[tuple[str, str], ...], features: Features) -> QueueDeclaration:
    """A queue that several workers consume and that goes when the last has gone."""
    if features.transient_queues:
        return QueueDeclaration(name, bindings, auto_delete=True)
    return QueueDeclaration(
        name, bindings, durable=True, arguments={"x-queue-type": "quorum", "x-expires": UNUSED}
    )


def jobs(kind: str, features: Features) -> QueueDeclaration:
    """The queue of interactive copies for any worker of type *kind*.

    Transient and auto-delete, so that it comes back at once on another node when its home node dies; a broker
    that denies those gets a quorum queue that expires.
    """
    return _shared(jobs_queue(kind), ((to_exchange(kind), "*"),), features)


def events(worker: str, kind: str, pattern: str, group: bool, features: Features) -> QueueDeclaration:
    """The queue of one subscription: the worker's own, or (*group*) its type's."""
    bindings = ((EVENTS, pattern),)
    if group:
        return _shared(events_queue(kind, pattern), bindings, features)
    return QueueDeclaration(events_queue(worker, pattern), bindings, exclusive=True)


# The durable lane


def durable_queues(kind: str, features: Features) -> tuple[QueueDeclaration, ...]:
    """The queues of the durable lane of type *kind* that always are there, those first that others lead to.

    A job is stored, and may expire, while no worker is there to declare anything; and all workers must consume the
    quarantine, as the one that declares it may die next. Only a worker puts jobs into the :func:`retry` queues.

    No type shares any with another, because whoever may write where a message is only passing can choose where
    it goes from there (``CC``, or a queue of his own that dead-letters).
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
    """The queue in which jobs of type *kind* wait *step* seconds for their next attempt."""
    own = durable_exchange(kind)
    arguments = {"x-message-ttl": round(step * 1000), **_dead_letters(own, DURABLE_KEY, features)}
    name, bindings = retry_queue(kind, step), ((own, retry_key(step)),)
    if features.safe_dead_letters:
        return _quorum(name, bindings, **arguments)
    return QueueDeclaration(
        name, bindings, durable=True, arguments=arguments
    )  # in quorum queues nothing expires there


def _dead_letters(exchange: str, key: str, features: Features) -> dict[str, Any]:
    arguments = {
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-routing-key": key,
        "x-overflow": "reject-publish",
    }
    if features.safe_dead_letters:
        arguments["x-dead-letter-strategy"] = "at-least-once"
    return arguments

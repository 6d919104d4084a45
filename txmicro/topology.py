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

DURABLE: Final = "txmicro.durable"
QUARANTINE: Final = "txmicro.quarantine"
DEAD: Final = "txmicro.dead"

DURABLE_KEY: Final = "durable"
"""The durable lane's key on a type's exchange."""

DELIVERY_LIMIT: Final = 5
"""How often a job may come back from a worker that died over it, one at a time, before it is given up."""

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


def retry_exchange(step: float) -> str:
    """Where a job waits *step* seconds for its next attempt; also the name of its queue. For all types."""
    return f"txmicro.retry.{round(step * 1000)}"


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

        RabbitMQ 4.3 refuses transient queues that are not exclusive, a feature it deprecated in 4.0
        (https://www.rabbitmq.com/docs/deprecated-features); the embedded broker and older ones have them. At
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
class Exchange:
    """An exchange; all of ours are durable."""

    name: str
    kind: str = "direct"


@dataclass(frozen=True)
class Queue:
    """A queue and what binds it: (exchange, routing key)."""

    name: str
    bindings: tuple[tuple[str, str], ...]
    exclusive: bool = False
    auto_delete: bool = False
    durable: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)


SHARED: Final = (Exchange(NOTIFICATIONS, "topic"), Exchange(EVENTS, "topic"))


def exchanges(kind: str) -> tuple[Exchange, ...]:
    """What a worker of type *kind* declares before its queues."""
    return (*SHARED, Exchange(to_exchange(kind)), Exchange(replies_exchange(kind)))


def inbox(worker: str, kind: str, topics: tuple[str, ...]) -> Queue:
    """The inbox of *worker*, which also hears the notifications on *topics*."""
    heard = tuple((NOTIFICATIONS, topic) for topic in topics)
    return Queue(inbox_queue(worker), ((replies_exchange(kind), worker), *heard), exclusive=True)


def direct(worker: str, kind: str) -> Queue:
    """The queue of interactive copies for *worker* alone."""
    return Queue(direct_queue(worker), ((to_exchange(kind), worker),), exclusive=True)


def _shared(name: str, bindings: tuple[tuple[str, str], ...], features: Features) -> Queue:
    """A queue that several workers consume and that goes when the last has gone."""
    if features.transient_queues:
        return Queue(name, bindings, auto_delete=True)
    return Queue(name, bindings, durable=True, arguments={"x-queue-type": "quorum", "x-expires": 60_000})


def jobs(kind: str, features: Features) -> Queue:
    """The queue of interactive copies for any worker of type *kind*.

    Transient and auto-delete, so that it comes back at once on another node when its home node dies; a broker
    that denies those gets a quorum queue that expires.
    """
    return _shared(jobs_queue(kind), ((to_exchange(kind), "*"),), features)


def events(worker: str, kind: str, pattern: str, group: bool, features: Features) -> Queue:
    """The queue of one subscription: the worker's own, or (*group*) its type's."""
    bindings = ((EVENTS, pattern),)
    if group:
        return _shared(events_queue(kind, pattern), bindings, features)
    return Queue(events_queue(worker, pattern), bindings, exclusive=True)


# The durable lane


def durable_exchanges(steps: tuple[float, ...]) -> tuple[Exchange, ...]:
    """What a worker that takes durable jobs declares besides; *steps* are the seconds between attempts."""
    lane = (Exchange(DURABLE), Exchange(QUARANTINE), Exchange(DEAD))
    # A fanout of its own for each step: the routing key stays the type, to find the way back.
    return (*lane, *(Exchange(retry_exchange(step), "fanout") for step in steps))


def durable_queues(kind: str, steps: tuple[float, ...], features: Features) -> tuple[Queue, ...]:
    """The queues of the durable lane of type *kind*, those first that others lead to."""
    return (
        _quorum(dead_queue(kind), ((DEAD, kind),)),
        *(_retry(step, features) for step in steps),
        _quorum(
            quarantine_queue(kind),
            ((QUARANTINE, kind),),
            **{"x-delivery-limit": DELIVERY_LIMIT},
            **_dead_letters(DEAD, features, kind),
        ),
        _quorum(
            durable_queue(kind),
            ((to_exchange(kind), DURABLE_KEY), (DURABLE, kind)),
            **_dead_letters(DEAD, features, kind),
        ),
    )


def _quorum(name: str, bindings: tuple[tuple[str, str], ...], **arguments: Any) -> Queue:
    return Queue(name, bindings, durable=True, arguments={"x-queue-type": "quorum", **arguments})


def _retry(step: float, features: Features) -> Queue:
    name, wait = retry_exchange(step), round(step * 1000)
    return _quorum(name, ((name, ""),), **{"x-message-ttl": wait}, **_dead_letters(DURABLE, features))


def _dead_letters(exchange: str, features: Features, key: str | None = None) -> dict[str, Any]:
    arguments: dict[str, Any] = {"x-dead-letter-exchange": exchange, "x-overflow": "reject-publish"}
    if key is not None:
        arguments["x-dead-letter-routing-key"] = key
    if features.safe_dead_letters:
        arguments["x-dead-letter-strategy"] = "at-least-once"
    return arguments

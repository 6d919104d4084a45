"""The history of dead letters: the ``x-death`` header, as RabbitMQ writes it.

https://www.rabbitmq.com/docs/dlx#effects
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from txmicro.amqp.properties import Properties

from .messages import Message
from .properties import cc_keys, with_headers

REJECTED = "rejected"


def with_death(message: Message, reason: str, now: float) -> Properties:
    """Return the properties of *message* as a dead letter of its queue.

    The expiration is removed, so that the message does not expire again at once. The history keeps it.

    :param reason: why it was dropped, such as ``expired``.
    :param now: Unix time in seconds.
    """
    headers: dict[str, Any] = {
        "x-death": [_death(message, reason, now), *_others(message, reason)],
        "x-last-death-exchange": message.exchange,
        "x-last-death-queue": message.queue.name,
        "x-last-death-reason": reason,
    }
    if "x-first-death-reason" not in (message.properties.headers or {}):
        headers["x-first-death-exchange"] = message.exchange
        headers["x-first-death-queue"] = message.queue.name
        headers["x-first-death-reason"] = reason
    return with_headers(message.properties, headers, expiration=None)


def is_cycle(properties: Properties, queue: str) -> bool:
    """Return whether a message was in *queue* before, and no consumer has rejected it since."""
    for death in _history(properties):
        if death.get("reason") == REJECTED:
            return False
        if death.get("queue") == queue:
            return True
    return False


def _history(properties: Properties) -> list[dict[str, Any]]:
    """Return the deaths so far, the latest first. A publisher may have sent anything under that name."""
    deaths = (properties.headers or {}).get("x-death")
    return [death for death in deaths if isinstance(death, dict)] if isinstance(deaths, list) else []


def _is_same(death: dict[str, Any], message: Message, reason: str) -> bool:
    return death.get("queue") == message.queue.name and death.get("reason") == reason


def _others(message: Message, reason: str) -> list[dict[str, Any]]:
    return [death for death in _history(message.properties) if not _is_same(death, message, reason)]


def _death(message: Message, reason: str, now: float) -> dict[str, Any]:
    before = next((death for death in _history(message.properties) if _is_same(death, message, reason)), None)
    if before is not None:
        count = before.get("count")
        return {**before, "count": count + 1 if type(count) is int else 1}
    death = {
        "count": 1,
        "reason": reason,
        "queue": message.queue.name,
        "time": datetime.fromtimestamp(int(now), UTC),
        "exchange": message.exchange,
        "routing-keys": [message.routing_key, *cc_keys(message.properties)],
    }
    if message.properties.expiration is not None:
        death["original-expiration"] = message.properties.expiration
    return death

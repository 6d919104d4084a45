"""Dead letters' history: the ``x-death`` header, as RabbitMQ writes it.

https://www.rabbitmq.com/docs/dlx#effects
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from txmicro.amqp.properties import Properties

from .messages import Message
from .properties import copies, with_headers

REJECTED = "rejected"


def with_death(message: Message, reason: str, now: float) -> Properties:
    """The properties of *message* after its death in its queue; *now* is Unix time in seconds.

    Its expiration is gone, lest it die again at once; the history keeps it.
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


def goes_round(properties: Properties, queue: str) -> bool:
    """Whether a message was in *queue* before and comes back without anybody having rejected it meanwhile."""
    for death in _history(properties):
        if death.get("reason") == REJECTED:
            return False
        if death.get("queue") == queue:
            return True
    return False


def _history(properties: Properties) -> list[dict[str, Any]]:
    """The deaths so far, the latest first. A publisher may have sent anything under that name."""
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
        "routing-keys": [message.routing_key, *copies(message.properties)],
    }
    if message.properties.expiration is not None:
        death["original-expiration"] = message.properties.expiration
    return death

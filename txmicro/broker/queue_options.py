"""What a queue was declared with, checked and read: RabbitMQ's ``x-`` arguments that this broker knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from .errors import Refused, Unsupported

_NUMBERS: Final = {
    "x-expires": 1,
    "x-message-ttl": 0,
    "x-max-length": 0,
    "x-max-length-bytes": 0,
    "x-delivery-limit": 0,
}
_WORDS: Final = {
    "x-queue-type": ("classic", "quorum"),
    "x-overflow": ("drop-head", "reject-publish"),
    "x-dead-letter-strategy": ("at-most-once", "at-least-once"),
}
_TEXTS: Final = ("x-dead-letter-exchange", "x-dead-letter-routing-key")
_LACKING: Final = ("x-single-active-consumer", "x-max-priority")


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """A queue's properties; build it with :func:`declared`.

    :ivar ttl: how long a message may wait, in seconds; None: for ever.
    :ivar expires: how long the queue may be unused, in seconds; None: for ever.
    :ivar at_least_once: dead letters that nobody takes stay until somebody does.
    """

    durable: bool
    exclusive: bool
    auto_delete: bool
    arguments: dict[str, Any]
    quorum: bool
    ttl: float | None
    expires: float | None
    max_length: int | None
    max_bytes: int | None
    reject_publish: bool
    dead_letter_exchange: str | None
    dead_letter_key: str | None
    delivery_limit: int | None
    at_least_once: bool


def parse_options(
    name: str, *, durable: bool, exclusive: bool, auto_delete: bool, arguments: dict[str, Any]
) -> QueueOptions:
    """Read a declaration of queue *name*.

    Arguments of other names have no effect, as on RabbitMQ. Raises :class:`Refused`: 406 for what makes no
    sense, 540 for features of RabbitMQ whose absence would be noticed.
    """
    known = {key: _checked(name, key, value) for key, value in arguments.items() if key in _CHECKED}
    quorum = known.get("x-queue-type") == "quorum"
    if quorum:
        _check_quorum(name, durable=durable, exclusive=exclusive, auto_delete=auto_delete)
    if "x-dead-letter-routing-key" in known and "x-dead-letter-exchange" not in known:
        raise _invalid(name, "x-dead-letter-routing-key", "there is no x-dead-letter-exchange")
    return QueueOptions(
        durable and not exclusive,  # what goes with its connection outlives nothing
        exclusive,
        auto_delete,
        known,
        quorum,
        _seconds(known.get("x-message-ttl")),
        _seconds(known.get("x-expires")),
        known.get("x-max-length"),
        known.get("x-max-length-bytes"),
        known.get("x-overflow") == "reject-publish",
        known.get("x-dead-letter-exchange"),
        known.get("x-dead-letter-routing-key"),
        known.get("x-delivery-limit") if quorum else None,
        quorum and known.get("x-dead-letter-strategy") == "at-least-once",
    )


def check_equivalent(name: str, current: QueueOptions, received: QueueOptions) -> None:
    """Raise :class:`Refused` (406) unless *received* declares the queue that there is, whoever may use it."""
    for field in ("durable", "auto_delete"):
        check_same("queue", name, field, getattr(current, field), getattr(received, field))
    for key in _CHECKED:
        default = "classic" if key == "x-queue-type" else None
        ours, theirs = current.arguments.get(key, default), received.arguments.get(key, default)
        if ours != theirs:
            raise inequivalent("queue", name, key, _value(theirs), _value(ours))


def check_same(thing: str, name: str, field: str, current: bool | str, received: bool | str) -> None:
    """Raise :class:`Refused` (406) unless a property of a declaration is as it was at first."""
    if current != received:
        raise inequivalent(thing, name, field, f"'{received}'".lower(), f"'{current}'".lower())


def inequivalent(thing: str, name: str, field: str, received: str, current: str) -> Refused:
    """The refusal of a second declaration that differs from the first."""
    return Refused(
        406,
        f"inequivalent arg '{field}' for {thing} '{name}' in vhost '/': "
        f"received {received} but current is {current}",
    )


def _value(value: Any) -> str:
    return "none" if value is None else f"the value '{value}'"


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _check_quorum(name: str, *, durable: bool, exclusive: bool, auto_delete: bool) -> None:
    for field, wrong in (("durable", not durable), ("exclusive", exclusive), ("auto-delete", auto_delete)):
        if wrong:
            raise Refused(406, f"invalid property '{field}' for queue '{name}' in vhost '/'")


def _invalid(name: str, key: str, why: str) -> Refused:
    return Refused(406, f"invalid arg '{key}' for queue '{name}' in vhost '/': {why}")


def _checked(name: str, key: str, value: Any) -> Any:
    if key in _LACKING or (key == "x-queue-type" and value == "stream"):
        raise Unsupported(f"queue argument '{key}' with the value '{value!s:.100}'")
    if key in _NUMBERS and (type(value) is not int or value < _NUMBERS[key]):
        raise _invalid(name, key, f"expected a whole number from {_NUMBERS[key]} on, got '{value!s:.100}'")
    if key in _TEXTS and not isinstance(value, str):
        raise _invalid(name, key, f"expected a text, got '{value!s:.100}'")
    if key in _WORDS and value not in _WORDS[key]:
        raise _invalid(name, key, f"expected one of {', '.join(_WORDS[key])}, got '{value!s:.100}'")
    return value


_CHECKED: Final = (*_NUMBERS, *_WORDS, *_TEXTS, *_LACKING)

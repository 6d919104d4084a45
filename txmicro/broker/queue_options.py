"""The options of a queue: its declaration with RabbitMQ's ``x-`` arguments, checked and parsed."""

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
_CHOICES: Final = {
    "x-queue-type": ("classic", "quorum"),
    "x-overflow": ("drop-head", "reject-publish"),
    "x-dead-letter-strategy": ("at-most-once", "at-least-once"),
}
_TEXTS: Final = ("x-dead-letter-exchange", "x-dead-letter-routing-key")
_UNSUPPORTED: Final = ("x-single-active-consumer", "x-max-priority")


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """The options of a queue; :func:`parse_options` makes them.

    :ivar arguments: the ``x-`` arguments that this broker knows.
    :ivar ttl: how long a message may wait, in seconds; None: forever.
    :ivar expires: how long the queue may be unused, in seconds; None: forever.
    :ivar max_length: how many messages may wait; None: any number.
    :ivar max_bytes: how many bytes of bodies may wait; None: any number.
    :ivar reject_publish: whether a full queue refuses messages; otherwise it drops the oldest one.
    :ivar dead_letter_exchange: where dropped messages are published; None: nowhere.
    :ivar dead_letter_key: the routing key of dead letters; None: that of the message.
    :ivar delivery_limit: how often a message may be requeued; None: any number of times.
    :ivar at_least_once: whether dead letters are kept until a queue takes them.
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
    """Return the options of a declaration of queue *name*.

    Unknown arguments have no effect, as on RabbitMQ. Raises :class:`Refused` (406) for invalid arguments, and
    :class:`Unsupported` (540) for features of RabbitMQ that this broker does not have.
    """
    known = {key: _checked(name, key, value) for key, value in arguments.items() if key in _CHECKED}
    quorum = known.get("x-queue-type") == "quorum"
    if quorum:
        _check_quorum(name, durable=durable, exclusive=exclusive, auto_delete=auto_delete)
    if "x-dead-letter-routing-key" in known and "x-dead-letter-exchange" not in known:
        raise _invalid(name, "x-dead-letter-routing-key", "there is no x-dead-letter-exchange")
    return QueueOptions(
        durable and not exclusive,  # an exclusive queue ends with its connection
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
    """Raise :class:`Refused` (406) unless *received* has the options of the existing queue *name*."""
    for field in ("durable", "auto_delete"):
        check_same("queue", name, field, getattr(current, field), getattr(received, field))
    for key in _CHECKED:
        default = "classic" if key == "x-queue-type" else None
        ours, theirs = current.arguments.get(key, default), received.arguments.get(key, default)
        if ours != theirs:
            raise inequivalent("queue", name, key, _value(theirs), _value(ours))


def check_same(thing: str, name: str, field: str, current: bool | str, received: bool | str) -> None:
    """Raise :class:`Refused` (406) unless a property is the same as in the first declaration."""
    if current != received:
        raise inequivalent(thing, name, field, f"'{received}'".lower(), f"'{current}'".lower())


def inequivalent(thing: str, name: str, field: str, received: str, current: str) -> Refused:
    """Return the error for a declaration that differs from the first one."""
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
    if key in _UNSUPPORTED or (key == "x-queue-type" and value == "stream"):
        raise Unsupported(f"queue argument '{key}' with the value '{value!s:.100}'")
    if key in _NUMBERS and (type(value) is not int or value < _NUMBERS[key]):
        raise _invalid(
            name, key, f"expected a whole number of at least {_NUMBERS[key]}, got '{value!s:.100}'"
        )
    if key in _TEXTS and not isinstance(value, str):
        raise _invalid(name, key, f"expected a text, got '{value!s:.100}'")
    if key in _CHOICES and value not in _CHOICES[key]:
        raise _invalid(name, key, f"expected one of {', '.join(_CHOICES[key])}, got '{value!s:.100}'")
    return value


_CHECKED: Final = (*_NUMBERS, *_CHOICES, *_TEXTS, *_UNSUPPORTED)

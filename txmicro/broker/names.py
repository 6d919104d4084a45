"""The names of exchanges and queues: which ones are valid, reserved or locked."""

from __future__ import annotations

from typing import Final

from pamqp.constants import DOMAIN_REGEX

from .errors import Refused

_LONGEST: Final = {"queue": 255, "exchange": 127}  # characters
_NAME: Final = DOMAIN_REGEX["queue-name"]  # pamqp sends no other names


def check_not_default(exchange: str) -> None:
    """Raise :class:`Refused` (403) if *exchange* is the default exchange, whose name is empty."""
    if not exchange:
        raise Refused(403, "operation not permitted on the default exchange")


def check_name(thing: str, name: str) -> None:
    """Raise :class:`Refused` if *name* is not valid for a new *thing*: a ``queue`` or an ``exchange``."""
    if len(name) > _LONGEST[thing] or not _NAME.fullmatch(name):
        raise Refused(
            406, f"{thing} name '{name}' is longer than {_LONGEST[thing]} or not of a-z A-Z 0-9 -_.:@#,/+ "
        )
    check_not_reserved(thing, name)


def check_not_reserved(thing: str, name: str) -> None:
    """Raise :class:`Refused` (403) if *name* has the reserved prefix ``amq.``."""
    if name.startswith("amq."):
        raise Refused(403, f"{thing} name '{name}' contains reserved prefix 'amq.*'")


def locked(queue: str) -> Refused:
    """Return the error for a queue that belongs to another session."""
    return Refused(
        405,
        f"cannot obtain exclusive access to locked queue '{queue}' in vhost '/'. It could be originally "
        "declared on another connection or the exclusive property value does not match that of the "
        "original declaration.",
    )

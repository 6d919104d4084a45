"""The types of messages, and the fields that their bodies have.

A body is what a codec decoded, so it may be anything. Each function here raises
:class:`~txmicro.errors.DecodeError` unless the field is there and valid. :doc:`/reference/wire` lists all messages.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from txmicro.errors import AddressError, DecodeError, show

from .address import parse, parse_id

JOB: Final = "job"
ACK: Final = "ack"
RESULT: Final = "result"
FAILURE: Final = "failure"
DONE: Final = "done"
CANCEL: Final = "cancel"
PROBE: Final = "probe"
STATUS: Final = "status"
HEARD: Final = "heard"
REFUSED: Final = "refused"
ERROR: Final = "error"
PEERS: Final = "peers"
LIST: Final = "list"
EVENT: Final = "event"

NO_WORKER_TEXT: Final = "No worker available for this job"

_MISSING: Final = object()
_JOB_ID: Final = re.compile(r"[!-~]{1,128}")

LARGEST: Final = 2**53
"""The largest number that is accepted: up to it, a 64-bit float holds every integer."""

_LONGEST: Final = 255
"""Characters of the longest text that is kept for as long as a worker is on the bus."""


def get(body: Any, name: str, kind: type | tuple[type, ...], default: Any = _MISSING) -> Any:
    """Return the field *name* of *body*, which must be a *kind*; *default* if it is missing."""
    if type(body) is dict and type(value := body.get(name)) is kind:  # as it nearly always is
        return value
    if not isinstance(body, dict):
        raise DecodeError(f"expected an object, got {type(body).__name__}")
    value = body.get(name, default)
    if value is _MISSING:
        raise DecodeError(f"{name!r} is missing")
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise DecodeError(f"{name!r} is {show(value)}, of the wrong type {type(value).__name__}")
    return value


def get_job_id(body: Any) -> str:
    """Return the id of the job that *body* is about. It is short, as it becomes a ``message_id`` and part of keys."""
    text: str = get(body, "id", str)
    if not _JOB_ID.fullmatch(text):
        raise DecodeError(f"{show(text)} is not a valid job id: expected 1 to 128 visible ASCII characters")
    return text


def get_keys(body: Any, name: str = "keys") -> list[str]:
    """Return the list of hop keys that *body* has under *name*."""
    keys: list[Any] = get(body, name, list)
    if not all(isinstance(key, str) for key in keys):
        raise DecodeError(f"{name!r} has an item that is not a text")
    return keys


def get_worker(body: Any) -> str:
    """Return the id of the worker that sent a control message."""
    return check_worker_id(get(body, "worker", str))


def get_number(body: dict[str, Any], name: str, default: int) -> float:
    """Return a number that is safe to calculate with: not NaN, and not too large."""
    value: float = body.get(name, default)
    if type(value) is not int:
        value = get(body, name, (int, float))
    if not 0 <= value <= LARGEST:
        raise DecodeError(f"{name!r} is {show(value)}: expected a number from 0 to {LARGEST}")
    return value


def get_short_text(body: Any, name: str) -> str:
    """Return a text that is kept for as long as a worker is on the bus; empty if it is missing."""
    text: str = get(body, name, str, "")
    if len(text) > _LONGEST:
        raise DecodeError(f"{name!r} has {len(text)} characters: expected at most {_LONGEST}")
    return text


@lru_cache(10_000)  # the same few ids come with every message
def check_worker_id(text: str) -> str:
    """Return *text* if it is a worker id."""
    try:
        return str(parse_id(text))
    except AddressError as error:
        raise DecodeError(str(error)) from None


def check_address(text: Any) -> str:
    """Return *text* if it is an address."""
    try:
        parse(text)
    except AddressError as error:
        raise DecodeError(str(error)) from None
    return str(text)

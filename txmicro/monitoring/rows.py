"""Records as reports have them: lists of values, which are checked one by one. Any program may have sent them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from txmicro.errors import DecodeError, show
from txmicro.protocol import outcomes
from txmicro.protocol.messages import check_address
from txmicro.util.text import encodable

from .records import DEAD, DURABLE, ENDED, INTERACTIVE, RAN, RESENT, SENT, Record

TEXT_MAX: Final = 500
"""Characters of a record's message, and of its text; longer ones are cut."""

SHORT_MAX: Final = 100
"""Characters of an error's type, and of a trace context."""

_COUNT_MAX: Final = 2**31
_TIME_MAX: Final = 2.0**33
"""Seconds of the largest time and duration: until the year 2242."""

_JOB: Final = re.compile(r"[!-~]{1,128}")


def to_row(record: Record) -> list[Any]:
    """Return *record* as a report has it: a list without the worker, which is the one that reports it."""
    return [*record[:5], *record[6:]]


def from_row(row: Any, worker: str) -> Record:
    """Return the record that *row* describes, which *worker* has reported.

    Raises :class:`~txmicro.errors.DecodeError`.
    """
    if not isinstance(row, list) or len(row) != len(_FIELDS):
        raise DecodeError(f"{show(row)} is not a valid record: expected a list of {len(_FIELDS)} values")
    for (name, is_valid), value in zip(_FIELDS, row, strict=True):
        if not is_valid(value):
            raise DecodeError(f"{show(value)} is not a valid {name} of a record")
    *before, wait, seconds, outcome, error, message, trace, text = row
    kind, time, job, hop, address, lane, attempt = before
    address = check_address(address)
    error, message, text = encodable(error), encodable(message[:TEXT_MAX]), encodable(text[:TEXT_MAX])
    ended = (wait, seconds, outcome, error, message, trace, text)
    return Record(kind, time, job, hop, address, worker, lane, attempt, *ended)


def _is_one_of(*texts: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in texts


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _COUNT_MAX


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= _TIME_MAX


def _may_be_time(value: Any) -> bool:
    return value is None or _is_time(value)


def _is_job(value: Any) -> bool:
    return isinstance(value, str) and _JOB.fullmatch(value) is not None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_short(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= SHORT_MAX


def _is_trace(value: Any) -> bool:
    return _is_short(value) and value.isascii()


_FIELDS: Final[tuple[tuple[str, Callable[[Any], bool]], ...]] = (
    ("kind", _is_one_of(SENT, RESENT, RAN, ENDED, DEAD)),
    ("time", _is_time),
    ("job", _is_job),
    ("hop", _is_count),
    ("address", _is_text),
    ("lane", _is_one_of(INTERACTIVE, DURABLE)),
    ("attempt", _is_count),
    ("wait", _may_be_time),
    ("seconds", _may_be_time),
    (
        "outcome",
        _is_one_of(
            "",
            outcomes.SUCCEEDED,
            outcomes.FAILED,
            outcomes.FORWARDED,
            outcomes.RETRIED,
            outcomes.DEAD,
            outcomes.CANCELED,
            outcomes.RETURNED,
        ),
    ),
    ("error", _is_short),
    ("message", _is_text),
    ("trace", _is_trace),
    ("text", _is_text),
)

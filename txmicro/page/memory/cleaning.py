"""Bounds the records that are remembered: any program on the bus may have made them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from txmicro.monitoring.records import KINDS, Record
from txmicro.util.text import printable

LONGEST_MESSAGE: Final = 2_000
"""Characters of an error's message, or of a line, that are remembered."""

_NAME: Final = 200  # characters of an id, an address or an error type
_MARK: Final = 64  # characters of an outcome, a lane or a traceparent
_LATEST: Final = 2**36  # Unix seconds; the year 4147
_LONGEST: Final = 10.0**9  # seconds
_GREATEST: Final = 1e300
_MOST: Final = 10**6  # hops and attempts
_LINE: Final = re.compile(r"[^\t\r\n]+")
_KINDS: Final = frozenset(KINDS)


def clean(records: Iterable[Record], now: float) -> list[Record]:
    """Return *records* with bounded values, without those of no job or of an unknown kind.

    A text is cut, and control characters are escaped; a message may have several lines. A time that is not a time
    becomes *now*, in Unix seconds.
    """
    return [_clean(record, now) for record in records if record.kind in _KINDS and record.job]


def _clean(record: Record, now: float) -> Record:
    kind, time, job, hop, address, worker, lane, attempt, wait, seconds, *texts = record
    outcome, error, message, trace, text = texts
    return Record(
        kind,
        _time(time, now),
        _text(job, _NAME),
        _count(hop),
        _text(address, _NAME),
        _text(worker, _NAME),
        _text(lane, _MARK),
        _count(attempt),
        _seconds(wait),
        _seconds(seconds),
        _text(outcome, _MARK),
        _text(error, _NAME),
        _lines(message),
        _text(trace, _MARK),
        _lines(text),
    )


def _text(value: Any, longest: int) -> str:
    if not value or not isinstance(value, str):
        return ""
    cut = value[:longest]
    return cut if cut.isascii() and cut.isprintable() else printable(cut)[:longest]


def _lines(value: Any) -> str:
    if not value or not isinstance(value, str):
        return ""
    return _LINE.sub(lambda found: printable(found[0]), value[:LONGEST_MESSAGE])[:LONGEST_MESSAGE]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) <= _GREATEST  # NaN and infinity are not


def _time(value: Any, now: float) -> float:
    return float(value) if _is_number(value) and 0 <= value <= _LATEST else now


def _seconds(value: Any) -> float | None:
    return round(min(max(value, 0.0), _LONGEST), 6) if _is_number(value) else None


def _count(value: Any) -> int:
    return min(max(value, 0), _MOST) if isinstance(value, int) else 0

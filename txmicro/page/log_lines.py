"""Warnings and errors of all processes, as they arrive: events whose bodies other programs may have made."""

from __future__ import annotations

from typing import Any, Final

from txmicro.monitoring.records import LOG, Record
from txmicro.util.text import printable

LEVELS: Final = ("warn", "error", "critical")
"""The levels of the lines that are kept."""

MESSAGE_MAX: Final = 2_000
"""Characters of a message that are kept."""

_NAME_MAX: Final = 200
_TIME_MAX: Final = 2.0**33
_HOP_MAX: Final = 2**31


def read_line(topic: str, data: Any, now: float) -> dict[str, Any] | None:
    """Return the line in *data*, the body of an event on *topic*; None: it is not a line.

    The line is ``{time, level, worker, job, service, message}``. The level is the topic's, as the broker's permissions
    are about topics. A time that is missing is *now*, in Unix seconds.
    """
    level = topic.split(".")[1] if topic.count(".") else ""
    if level not in LEVELS or not isinstance(data, dict) or not isinstance(data.get("message"), str):
        return None
    time = data.get("time")
    known = type(time) in (int, float) and 0 <= time <= _TIME_MAX  # type: ignore[operator]
    return {
        "time": time if known else now,
        "level": level,
        "worker": _text(data.get("worker"), _NAME_MAX),
        "job": _text(data.get("job"), _NAME_MAX),
        "service": _text(data.get("service"), _NAME_MAX),
        "message": _text(data["message"], MESSAGE_MAX),
    }


def record_of(line: dict[str, Any], data: dict[str, Any]) -> Record:
    """Return the record of *line*, which names a job, and was read from *data*."""
    hop = data.get("hop")
    return Record(
        LOG,
        line["time"],
        line["job"],
        hop if type(hop) is int and 0 <= hop <= _HOP_MAX else 0,
        worker=line["worker"],
        outcome=line["level"],
        trace=_text(data.get("trace"), _NAME_MAX),
        text=line["message"],
    )


def _text(value: Any, most: int) -> str:
    return printable(value[:most]) if isinstance(value, str) else ""
